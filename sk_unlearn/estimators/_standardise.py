"""Shift and scale of columns, so coarse that they say next to nothing about one row, and that no row can stretch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows import SparseRows

__all__ = ["REACH", "coarse_standardisation"]

# How many typical deviations from the median a value counts at most: five standard deviations of a normal distribution.
REACH = 8.0


def coarse_standardisation(A: Any, weight: NDArray[np.float64] | None) -> tuple[list[float], list[float]]:
    """Shift and scale of the columns of A, rounded to powers of two.

    They are mean and standard deviation of the column after what lies farther from its median than `REACH` typical
    deviations has been drawn in to there. The typical deviation is the median of those that are not zero: in a column
    that is nearly always 0, such as that of a rare category, it is the size of what is not, and nothing is drawn in.

    Rounding is for privacy and for unlearning: the constants say almost nothing about one row, and a network
    retrained on fewer rows nearly always gets the same ones.

    Parameters
    ----------
    A : ndarray of shape (n_rows, n_columns), or SparseRows
        Of sparse rows only the numbers that are not zero are gone through; all zeros of a column count as one, of their
        weight together.

    weight : ndarray of shape (n_rows,) or None
        A weight counts as so many rows.

    Returns
    -------
    shift, scale : list of float
        One of each a column.
    """
    if isinstance(A, SparseRows):
        pairs = [_column(*column) for column in _sparse_columns(A, weight)]
    else:
        pairs = [_column(column.astype(np.float64), weight) for column in A.T]
    return [shift for shift, _ in pairs], [scale for _, scale in pairs]


def _sparse_columns(
    A: SparseRows, weight: NDArray[np.float64] | None
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Give the numbers of each column and their weights, and behind them a zero with the weight of all zeros."""
    weight = np.ones(len(A)) if weight is None else weight
    csc, total = A.csr.tocsc(), weight.sum()
    for start, stop in pairwise(csc.indptr.tolist()):
        of_entries = weight[csc.indices[start:stop]]
        # Weights of one add up without rounding, so that nothing is left where there are no zeros.
        of_zeros = total - of_entries.sum() if len(of_entries) < len(A) else 0.0
        yield np.append(csc.data[start:stop].astype(np.float64), 0.0), np.append(of_entries, of_zeros)


def _column(values: NDArray[np.float64], weight: NDArray[np.float64] | None) -> tuple[float, float]:
    if weight is not None:
        values, weight = values[weight > 0], weight[weight > 0]
    centre = _median(values, weight)
    from_centre = values - centre
    varies = np.abs(from_centre) > 1e-12 * max(abs(centre), 1.0)
    if not varies.any():  # such a column is shifted only
        return float(np.round(centre)), 1.0
    typical = _median(np.abs(from_centre[varies]), None if weight is None else weight[varies])
    np.clip(from_centre, -REACH * typical, REACH * typical, out=from_centre)
    mean = np.average(from_centre, weights=weight)
    deviation = np.sqrt(np.average(np.square(from_centre - mean), weights=weight))
    scale = np.exp2(np.round(np.log2(deviation)))
    return float(np.round((centre + mean) / scale) * scale), float(scale)


def _median(values: NDArray[np.float64], weight: NDArray[np.float64] | None) -> float:
    """Return the value below which half of the rows lie, or half of their weight; of two in the middle the lower."""
    if weight is None:
        middle = (len(values) - 1) // 2
        return float(np.partition(values, middle)[middle])
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    return float(values[order[np.searchsorted(reached, reached[-1] / 2)]])
