"""Functions of one flat parameter vector: empirical risks, their parts and pictures of their curvature."""

from sk_unlearn.risks.combined import CombinedRisk
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.risks.linearisation import Linearisation
from sk_unlearn.risks.protocol import Linearised, Risk
from sk_unlearn.risks.quadratic import CurvatureSketch, QuadraticRisk

__all__ = [
    "CombinedRisk",
    "CurvatureSketch",
    "EmpiricalRisk",
    "Linearisation",
    "Linearised",
    "QuadraticRisk",
    "Risk",
    "flat_parameters",
]
