"""Algorithms that forget; all answer the same call."""

from sk_unlearn.exceptions import CertificateRefused, DominatingNoiseWarning, RetrainRequired, VacuousBoundWarning
from sk_unlearn.training.recorder import TrainingRecorder
from sk_unlearn.unlearners.ascent import GradientAscent, NegGradPlus, RandomLabels
from sk_unlearn.unlearners.base import Unlearner, UnlearnerTags, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.certified_newton import CertifiedNewton
from sk_unlearn.unlearners.certified_removal import CertifiedRemoval
from sk_unlearn.unlearners.cubic.curenu import CuReNU, StoCuReNU
from sk_unlearn.unlearners.dampening import SSD, FisherForgetting
from sk_unlearn.unlearners.distillation import DELETE, SCRUB
from sk_unlearn.unlearners.finetune import FineTune, L1Sparse, RewindToDelete
from sk_unlearn.unlearners.lbfgs import LBFGSWarmStart
from sk_unlearn.unlearners.natural_gradient import MinMaxNaturalGradient, NaturalGradient, natural_gradient_sigma
from sk_unlearn.unlearners.neighbourhood import AMUN, RURK
from sk_unlearn.unlearners.newton import DampedNewton, GaussNewton, PseudoInverseNewton
from sk_unlearn.unlearners.noisy_finetune import NoisyFineTune
from sk_unlearn.unlearners.recording import HessianFreeRecording
from sk_unlearn.unlearners.retrain import Retrain
from sk_unlearn.unlearners.saliency import SalUn
from sk_unlearn.unlearners.status import Status

__all__ = [
    "AMUN",
    "DELETE",
    "RURK",
    "SCRUB",
    "SSD",
    "CertificateRefused",
    "CertifiedNewton",
    "CertifiedRemoval",
    "CuReNU",
    "DampedNewton",
    "DominatingNoiseWarning",
    "FineTune",
    "FisherForgetting",
    "GaussNewton",
    "GradientAscent",
    "HessianFreeRecording",
    "L1Sparse",
    "LBFGSWarmStart",
    "MinMaxNaturalGradient",
    "NaturalGradient",
    "NegGradPlus",
    "NoisyFineTune",
    "PseudoInverseNewton",
    "RandomLabels",
    "Retrain",
    "RetrainRequired",
    "RewindToDelete",
    "SalUn",
    "Status",
    "StoCuReNU",
    "TrainingRecorder",
    "Unlearner",
    "UnlearnerTags",
    "UnlearningProblem",
    "UnlearningResult",
    "VacuousBoundWarning",
    "natural_gradient_sigma",
]
