"""What a stored row was used for."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["RowRole"]


class RowRole(IntEnum):
    """What a stored row was used for."""

    TRAINED = 0
    """It entered a gradient."""
    VALIDATED = 1
    """It was only used for validation (early stopping, model choice)."""
    UNSEEN = 2
    """It was never used."""
