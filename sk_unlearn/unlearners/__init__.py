"""Algorithms that forget; all answer the same call."""

from sk_unlearn.unlearners.ascent import GradientAscent, NegGradPlus, RandomLabels
from sk_unlearn.unlearners.base import TrainingRecorder, Unlearner, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.cubic import CuReNU, StoCuReNU
from sk_unlearn.unlearners.dampening import SSD, FisherForgetting
from sk_unlearn.unlearners.distillation import DELETE, SCRUB
from sk_unlearn.unlearners.finetune import FineTune, RewindToDelete
from sk_unlearn.unlearners.lbfgs import LBFGSWarmStart
from sk_unlearn.unlearners.recording import HessianFreeRecording
from sk_unlearn.unlearners.retrain import Retrain

__all__ = [
    "DELETE",
    "SCRUB",
    "SSD",
    "CuReNU",
    "FineTune",
    "FisherForgetting",
    "GradientAscent",
    "HessianFreeRecording",
    "LBFGSWarmStart",
    "NegGradPlus",
    "RandomLabels",
    "Retrain",
    "RewindToDelete",
    "StoCuReNU",
    "TrainingRecorder",
    "Unlearner",
    "UnlearningProblem",
    "UnlearningResult",
]
