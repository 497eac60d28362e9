"""Algorithms that forget; all answer the same call."""

from sk_unlearn.unlearners.base import Unlearner, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.cubic import CuReNU, StoCuReNU
from sk_unlearn.unlearners.finetune import FineTune
from sk_unlearn.unlearners.natural_gradient import MinMaxNaturalGradient, NaturalGradient, natural_gradient_sigma
from sk_unlearn.unlearners.newton import DampedNewton, GaussNewton, PseudoInverseNewton
from sk_unlearn.unlearners.retrain import Retrain

__all__ = [
    "CuReNU",
    "DampedNewton",
    "FineTune",
    "GaussNewton",
    "MinMaxNaturalGradient",
    "NaturalGradient",
    "PseudoInverseNewton",
    "Retrain",
    "StoCuReNU",
    "Unlearner",
    "UnlearningProblem",
    "UnlearningResult",
    "natural_gradient_sigma",
]
