"""Retrained models as a yardstick: many of them trained at once."""

from sk_unlearn.references.many import fit_many
from sk_unlearn.references.retrained import changes_training

__all__ = ["changes_training", "fit_many"]
