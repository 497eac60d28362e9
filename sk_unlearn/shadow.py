"""Many models at once; their home is :mod:`sk_unlearn.references`."""

from sk_unlearn.references import fit_many

__all__ = ["fit_many"]
