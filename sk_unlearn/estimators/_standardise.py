"""Shift and scale of columns, so coarse that they say next to nothing about one row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["coarse_standardisation"]


def coarse_standardisation(
    A: NDArray[np.floating[Any]], weight: NDArray[np.float64] | None
) -> tuple[list[float], list[float]]:
    """Shift and scale of the columns of A, rounded to powers of two.

    Rounding is for privacy and for unlearning: the constants say almost nothing about one row, and a network
    retrained on fewer rows nearly always gets the same ones.
    """
    mean = np.average(A, axis=0, weights=weight).astype(np.float64)
    variance = np.average((A - mean) ** 2, axis=0, weights=weight).astype(np.float64)
    # A column that does not vary is shifted only.
    deviation = np.sqrt(variance)
    constant = deviation <= 1e-12 * np.maximum(np.abs(mean), 1.0)
    scale = np.exp2(np.round(np.log2(np.where(constant, 1.0, deviation))))
    return (np.round(mean / scale) * scale).tolist(), scale.tolist()
