"""Cubic-regularised Newton unlearning."""

from sk_unlearn.unlearners.cubic._policy import Policy
from sk_unlearn.unlearners.cubic.curenu import CuReNU, StoCuReNU

__all__ = ["CuReNU", "Policy", "StoCuReNU"]
