"""Shift and scale of columns, so coarse that they say next to nothing about one row, and that no row can stretch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows import SparseRows
from sk_unlearn.rows.storage import RowStorage, in_blocks

__all__ = ["REACH", "coarse_standardisation"]

# How many typical deviations from the median a value counts at most: five standard deviations of a normal distribution.
REACH = 8.0
# A value that differs from the median by no more than this share of it does not differ.
_ROUNDING = 1e-12
# Numbers of rows outside that are in memory at a time.
_AT_A_TIME = 2**24


def coarse_standardisation(A: Any, weight: NDArray[np.float64] | None) -> tuple[list[float], list[float]]:
    """Shift and scale of the columns of A, rounded to powers of two.

    They are mean and standard deviation of the column after what lies farther from its median than `REACH` typical
    deviations has been drawn in to there. The typical deviation is the median of those that are not zero: in a column
    that is nearly always 0, such as that of a rare category, it is the size of what is not, and nothing is drawn in.

    Rounding is for privacy and for unlearning: the constants say almost nothing about one row, and a network
    retrained on fewer rows nearly always gets the same ones.

    Parameters
    ----------
    A : ndarray of shape (n_rows, n_columns), SparseRows or OutsideRows
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
        return _of_sparse(A, np.ones(len(A)) if weight is None else weight)
    columns = (column for block in _column_blocks(A) for column in block.T)
    pairs = [_column(column.astype(np.float64), weight) for column in columns]
    return [shift for shift, _ in pairs], [scale for _, scale in pairs]


def _column_blocks(A: Any) -> Iterator[NDArray[Any]]:
    """Give columns side by side: those of an array together, of rows outside so many at a time as memory should hold.

    For each block all rows are read: a median needs them all.
    """
    if not isinstance(A, RowStorage):
        yield A
        return
    width = max(1, _AT_A_TIME // max(1, len(A)))
    for start in range(0, A.shape[1], width):
        columns = np.empty((len(A), min(width, A.shape[1] - start)), dtype=A.dtype)
        for part, rows in in_blocks(A):
            columns[part] = rows[:, start : start + width]
        yield columns


def _of_sparse(A: SparseRows, weight: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Do the same for sparse columns: all at once where most rows have a zero, one by one where not."""
    csc, total = A.csr.tocsc(), weight.sum()
    n_columns = A.shape[1]
    column = np.repeat(np.arange(n_columns), np.diff(csc.indptr))
    values, weights = csc.data.astype(np.float64), weight[csc.indices]
    of_entries = np.bincount(column, weights, n_columns)
    mostly_zero = of_entries < total / 2  # so that the median is zero
    # The median of what varies, as of one column alone; see _column.
    size = np.abs(values)
    at = np.flatnonzero((size > _ROUNDING) & (weights > 0) & mostly_zero[column])
    at = at[np.lexsort((size[at], column[at]))]
    reached = np.cumsum(weights[at])
    of_varying = np.bincount(column[at], weights[at], n_columns)
    before = np.cumsum(of_varying) - of_varying
    upper = np.flatnonzero(reached - before[column[at]] >= of_varying[column[at]] / 2)
    varying, first = np.unique(column[at[upper]], return_index=True)
    typical = np.zeros(n_columns)
    typical[varying] = size[at[upper[first]]]
    drawn_in = np.clip(values, -REACH * typical[column], REACH * typical[column])
    mean = np.bincount(column, weights * drawn_in, n_columns) / total
    squares = np.bincount(column, weights * np.square(drawn_in - mean[column]), n_columns)
    deviation = np.sqrt((squares + (total - of_entries) * np.square(mean)) / total)
    shift, scale = np.zeros(n_columns), np.ones(n_columns)
    scale[varying] = np.exp2(np.round(np.log2(deviation[varying])))
    shift[varying] = np.round(mean[varying] / scale[varying]) * scale[varying]
    for k in np.flatnonzero(~mostly_zero):
        part = slice(csc.indptr[k], csc.indptr[k + 1])
        # All zeros as one, of their weight together; weights of one add up without rounding.
        of_zeros = total - of_entries[k] if part.stop - part.start < len(A) else 0.0
        shift[k], scale[k] = _column(np.append(values[part], 0.0), np.append(weights[part], of_zeros))
    return shift.tolist(), scale.tolist()


def _column(values: NDArray[np.float64], weight: NDArray[np.float64] | None) -> tuple[float, float]:
    if weight is not None:
        values, weight = values[weight > 0], weight[weight > 0]
    centre = _median(values, weight)
    from_centre = values - centre
    size = np.abs(from_centre)
    varies = size > _ROUNDING * max(abs(centre), 1.0)
    if not varies.any():  # such a column is shifted only
        return float(np.round(centre)), 1.0
    typical = _median(size[varies], None if weight is None else weight[varies])
    np.clip(from_centre, -REACH * typical, REACH * typical, out=from_centre)
    mean = np.average(from_centre, weights=weight)
    deviation = np.sqrt(np.average(np.square(from_centre - mean), weights=weight))
    scale = np.exp2(np.round(np.log2(deviation)))
    return float(np.round((centre + mean) / scale) * scale), float(scale)


def _median(values: NDArray[np.float64], weight: NDArray[np.float64] | None) -> float:
    """Return the value below which half of the rows lie, or half of their weight; of two in the middle the lower."""
    if weight is None:
        middle = (len(values) - 1) // 2
        # Selection is slow where many values are the same, such as in columns of a category.
        below, same = np.count_nonzero(values < values[0]), np.count_nonzero(values == values[0])
        if below <= middle < below + same:
            return float(values[0])
        return float(np.partition(values, middle)[middle])
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    return float(values[order[np.searchsorted(reached, reached[-1] / 2)]])
