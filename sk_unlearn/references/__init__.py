"""Retrained models as a yardstick: many of them trained at once."""

from sk_unlearn.references._fit_many import fit_many

__all__ = ["fit_many"]
