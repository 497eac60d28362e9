"""The rows that are kept; their home is :mod:`sk_unlearn.rows`."""

from sk_unlearn.rows import RowMatch, RowRole, TrainingSet

__all__ = ["RowMatch", "RowRole", "TrainingSet"]
