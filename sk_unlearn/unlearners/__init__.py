"""Algorithms that forget; all answer the same call."""

from sk_unlearn.unlearners.base import TrainingRecorder, Unlearner, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.certified import (
    CertificateRefused,
    CertifiedNewton,
    CertifiedRemoval,
    DominatingNoiseWarning,
    RetrainRequired,
    VacuousBoundWarning,
)
from sk_unlearn.unlearners.cubic import CuReNU, StoCuReNU
from sk_unlearn.unlearners.finetune import FineTune
from sk_unlearn.unlearners.natural_gradient import MinMaxNaturalGradient, NaturalGradient, natural_gradient_sigma
from sk_unlearn.unlearners.newton import DampedNewton, GaussNewton, PseudoInverseNewton
from sk_unlearn.unlearners.retrain import Retrain

__all__ = [
    "CertificateRefused",
    "CertifiedNewton",
    "CertifiedRemoval",
    "CuReNU",
    "DampedNewton",
    "DominatingNoiseWarning",
    "FineTune",
    "GaussNewton",
    "MinMaxNaturalGradient",
    "NaturalGradient",
    "PseudoInverseNewton",
    "Retrain",
    "RetrainRequired",
    "StoCuReNU",
    "TrainingRecorder",
    "Unlearner",
    "UnlearningProblem",
    "UnlearningResult",
    "VacuousBoundWarning",
    "natural_gradient_sigma",
]
