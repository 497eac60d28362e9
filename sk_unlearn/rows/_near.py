"""Rows that are stored but for rounding: what a request finds that went through float32 or a text file on its way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows._index import Array, Mask, Positions, chunks, row_size

# Text with six digits, as "%.6g" writes it, is off by 5e-6 of a value at most, float32 by 6e-8.
_TOLERANCE = 1e-5
# Enough to tell what went wrong, and a bound on the time it takes to say so.
MOST_QUERIES = 1000
_MOST_CANDIDATES = 1000


def near_misses(query: Array, stored: Array, slots: Positions) -> Mask:
    """Tell which rows equal a stored one but for rounding.

    Two rows do where each value differs by at most 1e-5 of itself and of the mean absolute value of its column. All
    rows are projected on one line, on which near ones are near; only these are compared in full, so that neither time
    nor memory grows with the product of both numbers.

    Parameters
    ----------
    query : (m, ...) float array
        Rows that equal no stored one exactly. Only the first thousand are looked at.
    stored : (n, ...) float array
    slots : (n_live,) int64
        Those to compare with.

    Returns
    -------
    near : (m,) bool
    """
    near = np.zeros(len(query), dtype=bool)
    if stored.dtype.kind != "f" or len(slots) == 0:
        return near
    flat = stored.reshape(len(stored), row_size(stored))
    asked = query[:MOST_QUERIES].reshape(-1, flat.shape[1])
    parts = [slots[part] for part in chunks(len(slots), 8 * flat.shape[1])]
    scale = _column_scale(flat, parts)
    direction = np.random.default_rng(0).uniform(0.5, 1.5, flat.shape[1]) / scale
    with np.errstate(over="ignore", invalid="ignore"):
        line = np.concatenate([flat[part].astype(np.float64) @ direction for part in parts])
        order = np.argsort(line)
        line = line[order]
        for i, row in enumerate(asked.astype(np.float64)):
            tolerance = _TOLERANCE * (np.abs(row) + scale)
            place, reach = row @ direction, tolerance @ direction
            first, middle, last = np.searchsorted(line, [place - reach, place, place + reach])
            half = _MOST_CANDIDATES // 2
            close = slots[order[max(first, middle - half) : min(last, middle + half)]]
            for part in chunks(len(close), 8 * flat.shape[1]):
                candidates = flat[close[part]].astype(np.float64)
                near[i] |= (np.abs(candidates - row) <= tolerance).all(axis=1).any()
    return near


def _column_scale(flat: Array, parts: list[Positions]) -> NDArray[np.float64]:
    """Mean absolute value of each column, one where that is zero or not finite."""
    total, n = np.zeros(flat.shape[1]), 0
    for part in parts:
        total += np.abs(flat[part].astype(np.float64)).sum(axis=0)
        n += len(part)
    scale: NDArray[np.float64] = total / n
    scale[~(np.isfinite(scale) & (scale > 0))] = 1.0
    return scale
