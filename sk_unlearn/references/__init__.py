"""Retrained models as a yardstick: many of them trained at once."""

from sk_unlearn.references._fit_many import fit_many
from sk_unlearn.references._references import changes_training

__all__ = ["changes_training", "fit_many"]
