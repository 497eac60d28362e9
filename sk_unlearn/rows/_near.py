"""Rows that are stored but for rounding: what a request finds that went through float32 or a text file on its way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows._index import Array, Mask, Positions, chunks, row_size

# Text with six digits, as "%.6g" writes it, is off by 5e-6 of a value at most, float32 by 6e-8.
_TOLERANCE = 1e-5
# Of those near on the line, how many are compared in full: a bound on time where very many are.
_MOST_CANDIDATES = 1000


def near_misses(queries: Sequence[Array], stored: Sequence[Array], slots: Positions) -> Mask:
    """Tell which rows equal a stored one but for rounding.

    Parameters
    ----------
    queries : sequence of (m, ...) arrays
        Features, and targets if they count, in the stored data types.
    stored : sequence of (n, ...) arrays
        The same of the stored rows.
    slots : (n_live,) int64
        Those to compare with.

    Returns
    -------
    near : (m,) bool
    """
    near = np.zeros(len(queries[0]), dtype=bool)
    near[near_pairs(queries, stored, slots)[0]] = True
    return near


def near_pairs(
    queries: Sequence[Array], stored: Sequence[Array], slots: Positions, tolerance: float = _TOLERANCE
) -> tuple[Positions, Positions]:
    """Find the stored rows that each row equals but for rounding.

    Two rows do where each number differs by at most `tolerance` of itself and of the mean absolute value of its column,
    and whole numbers not at all. All rows are projected on one line, on which near ones are near; only these are
    compared in full, so that neither time nor memory grows with the product of both numbers.

    Parameters
    ----------
    queries, stored, slots
        As in `near_misses`.
    tolerance : float
        Relative.

    Returns
    -------
    query_index, slot : (k,) int64
        Pairs that are near each other, by query.
    """
    none = np.empty(0, dtype=np.int64)
    kinds = {column.dtype.kind for column in stored}
    if "f" not in kinds or "c" in kinds or len(slots) == 0:
        return none, none
    relative = np.concatenate([np.full(row_size(a), tolerance if a.dtype.kind == "f" else 0.0) for a in stored])
    row_bytes = 8 * len(relative)
    parts = [slots[part] for part in chunks(len(slots), row_bytes)]
    scale = _column_scale(stored, parts, len(relative))
    direction = np.random.default_rng(0).uniform(0.5, 1.5, len(relative)) / scale
    owner, found = [none], [none]
    with np.errstate(over="ignore", invalid="ignore"):
        line = np.concatenate([_content(stored, part) @ direction for part in parts])
        order = np.argsort(line)
        line = line[order]
        for i, row in enumerate(_content(queries, np.arange(len(queries[0])))):
            allowed = relative * (np.abs(row) + scale)
            # The sum that makes a place on the line is itself rounded.
            place, reach = row @ direction, allowed @ direction + 1e-12 * (np.abs(row) @ direction)
            first, middle, last = np.searchsorted(line, [place - reach, place, place + reach])
            half = _MOST_CANDIDATES // 2
            close = slots[order[max(first, middle - half) : min(last, middle + half)]]
            for part in chunks(len(close), row_bytes):
                same = close[part][(np.abs(_content(stored, close[part]) - row) <= allowed).all(axis=1)]
                owner.append(np.full(len(same), i))
                found.append(same)
    return np.concatenate(owner), np.concatenate(found)


def _content(arrays: Sequence[Array], slots: Positions) -> NDArray[np.float64]:
    """Return features, and targets, of some rows side by side."""
    return np.column_stack([a[slots].reshape(len(slots), row_size(a)).astype(np.float64) for a in arrays])


def _column_scale(stored: Sequence[Array], parts: list[Positions], n_columns: int) -> NDArray[np.float64]:
    """Mean absolute value of each column, one where that is zero or not finite."""
    total, n = np.zeros(n_columns), 0
    for part in parts:
        total += np.abs(_content(stored, part)).sum(axis=0)
        n += len(part)
    scale: NDArray[np.float64] = total / n
    scale[~(np.isfinite(scale) & (scale > 0))] = 1.0
    return scale
