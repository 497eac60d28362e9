"""Rows that are stored but for rounding: what a request finds that went through float32 or a text file on its way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows.content import Mask, Positions, chunks, row_bytes, row_size
from sk_unlearn.rows.parts import fields
from sk_unlearn.rows.sparse_rows import SparseRows
from sk_unlearn.rows.storage import dense

# Text with six digits, as "%.6g" writes it, is off by 5e-6 of a value at most, float32 by 6e-8.
_TOLERANCE = 1e-5
# Of those near on the line, how many are compared in full: a bound on time where very many are.
_MOST_CANDIDATES = 1000


def near_misses(queries: Sequence[Any], stored: Sequence[Any], slots: Positions) -> Mask:
    """Tell which rows equal a stored one but for rounding.

    Parameters
    ----------
    queries : sequence of (m, ...) arrays or SparseRows
        Features, and targets if they count, in the stored data types.
    stored : sequence of (n, ...) arrays or SparseRows
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
    queries: Sequence[Any], stored: Sequence[Any], slots: Positions, tolerance: float = _TOLERANCE
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
    # Parts of rows count as columns of their own.
    queries, stored = ([part for column in columns for part in fields(column)] for columns in (queries, stored))
    none = np.empty(0, dtype=np.int64)
    kinds = {column.dtype.kind for column in stored}
    if "f" not in kinds or "c" in kinds or len(slots) == 0:
        return none, none
    rng = np.random.default_rng(0)
    pairs = zip(queries, stored, strict=True)
    columns = [_Column(asked, held, slots, rng, tolerance) for asked, held in pairs]
    owner, found = [none], [none]
    with np.errstate(over="ignore", invalid="ignore"):
        line = np.sum([column.line() for column in columns], axis=0)
        order = np.argsort(line)
        line = line[order]
        for i in range(len(queries[0])):
            rows = [column.row(i) for column in columns]
            place, reach = np.sum([column.place(row) for column, row in zip(columns, rows, strict=True)], axis=0)
            first, middle, last = np.searchsorted(line, [place - reach, place, place + reach])
            half = _MOST_CANDIDATES // 2
            close = slots[order[max(first, middle - half) : min(last, middle + half)]]
            for column, row in zip(columns, rows, strict=True):
                close = close[column.is_near(close, row)]
            owner.append(np.full(len(close), i))
            found.append(close)
    return np.concatenate(owner), np.concatenate(found)


class _Column:
    """Features, or targets: those asked for, those stored, and their part in the line."""

    def __init__(self, asked: Any, held: Any, slots: Positions, rng: np.random.Generator, tolerance: float) -> None:
        self.asked, self.held = asked, held
        # Of sparse rows many are gone through at once: nothing is made dense.
        self.row_bytes = row_bytes(held) if isinstance(held, SparseRows) else 8 * row_size(held)
        self.parts = [slots[part] for part in chunks(len(slots), self.row_bytes)]
        self.relative = tolerance if held.dtype.kind == "f" else 0.0
        self.scale = self._scale(len(slots))
        self.direction = rng.uniform(0.5, 1.5, len(self.scale)) / self.scale

    def _content(self, slots: Positions) -> Any:
        """Return stored rows in float64, dense or as a sparse matrix."""
        if isinstance(self.held, SparseRows):
            return self.held[slots].csr.astype(np.float64)
        return dense(self.held[slots]).reshape(len(slots), row_size(self.held)).astype(np.float64)

    def _scale(self, n: int) -> NDArray[np.float64]:
        """Mean absolute value of each number of a row, one where that is zero or not finite."""
        scale: NDArray[np.float64] = np.sum([abs(self._content(part)).sum(axis=0) for part in self.parts], axis=0) / n
        scale[~(np.isfinite(scale) & (scale > 0))] = 1.0
        return scale

    def line(self) -> NDArray[np.float64]:
        """Return where the stored rows are on the line."""
        return np.concatenate([self._content(part) @ self.direction for part in self.parts])

    def row(self, i: int) -> NDArray[np.float64]:
        """Return one of the rows that are asked for."""
        values: NDArray[np.float64] = np.asarray(dense(self.asked[i : i + 1]), dtype=np.float64).reshape(-1)
        return values

    def _tolerance(self, row: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.relative * (np.abs(row) + self.scale)

    def place(self, row: NDArray[np.float64]) -> tuple[float, float]:
        """Return where a row is on the line, and how far from there those near it are."""
        # The sum that makes a place on the line is itself rounded.
        reach = self._tolerance(row) @ self.direction + 1e-12 * (np.abs(row) @ self.direction)
        return float(row @ self.direction), float(reach)

    def is_near(self, slots: Positions, row: NDArray[np.float64]) -> Mask:
        """Tell which stored rows are near a row in every number."""
        tolerance = self._tolerance(row)
        near = np.zeros(len(slots), dtype=bool)
        for part in chunks(len(slots), self.row_bytes):
            content = self._content(slots[part])
            if isinstance(self.held, SparseRows):
                near[part] = _sparse_near(content, row, tolerance)
            else:
                near[part] = (np.abs(content - row) <= tolerance).all(axis=1)
        return near


def _sparse_near(content: Any, row: NDArray[np.float64], tolerance: NDArray[np.float64]) -> Mask:
    """Tell the same of sparse rows: their entries must be near, and what is not near zero must have an entry."""
    needed = np.abs(row) > tolerance
    entry_near = np.abs(content.data - row[content.indices]) <= tolerance[content.indices]
    owner = np.repeat(np.arange(content.shape[0]), np.diff(content.indptr))
    n_far = np.bincount(owner[~entry_near], minlength=content.shape[0])
    n_needed = np.bincount(owner[needed[content.indices]], minlength=content.shape[0])
    near: Mask = (n_far == 0) & (n_needed == np.count_nonzero(needed))
    return near
