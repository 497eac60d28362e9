"""The empirical risk of a net; its home is :mod:`sk_unlearn.risks`."""

from sk_unlearn.risks import EmpiricalRisk, Linearisation, flat_parameters

__all__ = ["EmpiricalRisk", "Linearisation", "flat_parameters"]
