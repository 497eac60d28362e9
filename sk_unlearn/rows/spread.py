"""Rows that several processes hold, each a part of them: a number a row says who does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn import distributed
from sk_unlearn.rows.outside import OutsideRows, RowSource
from sk_unlearn.rows.sparse_rows import SparseRows
from sk_unlearn.rows.storage import RowStorage, dense
from sk_unlearn.utils._journal import Assignment

__all__ = ["SpreadRows", "of_all", "spread"]

# Where a row is, in one number: its holder, times this, plus its place there. Or zeros, or a row that all have.
_PLACES = 2**40
_ZEROS = -1


class SpreadRows(OutsideRows):
    """Rows of which each process holds a part, and that all of them number alike.

    To pick rows reads nothing. To read them is a collective call: all processes do it at the same time and get the same
    rows. Rows are erased and corrected in place, by the process that holds them.

    Made by :func:`spread`.

    Parameters
    ----------
    local : (m, ...) array or storage
        What this process holds; changed in place.
    counts : sequence of int
        How many rows each process holds.
    at : (n,) int64
        Where each row is.
    own : (k, ...) array
        Rows that all processes have.
    """

    def __init__(self, local: Any, counts: Sequence[int], at: NDArray[np.int64], own: NDArray[Any]) -> None:
        self._local, self._counts, self._at, self._own = local, tuple(counts), at, own

    def _like(self, at: NDArray[np.int64], own: NDArray[Any] | None = None) -> SpreadRows:
        return SpreadRows(self._local, self._counts, at, self._own if own is None else own)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows in all processes together, and shape of one."""
        return len(self._at), *self._local.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the numbers."""
        dtype: np.dtype[Any] = self._local.dtype
        return dtype

    @property
    def is_sparse(self) -> bool:
        """Whether this process holds its rows in sparse form."""
        return isinstance(self._local, SparseRows)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int | np.integer):
            place = range(len(self))[key]
            return self._like(self._at[place : place + 1]).toarray()[0]
        return self._like(self._at[key])

    def toarray(self) -> NDArray[Any]:
        """Return all of the rows as a dense array; all processes call it."""
        rows = np.zeros(self.shape, dtype=self.dtype)
        held = self._at >= 0
        if held.any():
            holder = self._at[held] // _PLACES
            rows[held] = distributed.gather_rows(self._read_here(self._at[held]), holder)
        rows[self._at < _ZEROS] = self._own[-2 - self._at[self._at < _ZEROS]]
        return rows

    def _read_here(self, at: NDArray[np.int64]) -> NDArray[Any]:
        """Return those of some rows that this process holds, in their order."""
        mine = at[at // _PLACES == distributed.rank()] % _PLACES
        return np.asarray(dense(self._local[mine]))

    def counted_here(self, rows: Any = slice(None)) -> NDArray[np.bool_]:
        """Tell which of some rows this process computes with, (m,) bool; each is counted by one process alone.

        Parameters
        ----------
        rows : slice or (m,) int64
            Numbers of them.
        """
        at = self._at[rows]
        mine: NDArray[np.bool_] = at // _PLACES == distributed.rank()
        return mine if distributed.rank() else mine | (at < 0)

    def read_here(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows that this process computes with as a dense array; no other takes part."""
        at = self._at[rows]
        values = np.zeros((len(at), *self.shape[1:]), dtype=self.dtype)
        values[at >= 0] = dense(self._local[at[at >= 0] % _PLACES])
        values[at < _ZEROS] = self._own[-2 - at[at < _ZEROS]]
        return values

    def each_by_its_holder(self, function: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
        """Return what a function makes of each row; every process computes it for rows that it holds.

        Parameters
        ----------
        function : callable
            Takes m dense rows and returns m numbers or vectors; deterministic.
        """
        held = self._at >= 0
        here = np.flatnonzero(self.counted_here())
        holder = np.where(held, self._at // _PLACES, 0)
        return distributed.gather_rows(np.asarray(function(self.read_here(here))), holder)

    def astype(self, dtype: Any) -> SpreadRows:
        """Return the rows in another data type."""
        local = SparseRows(self._local, dtype) if self.is_sparse else self._local.astype(dtype)
        return SpreadRows(local, self._counts, self._at, self._own.astype(dtype))

    def copy(self) -> SpreadRows:
        """Return rows that no change of these reaches."""
        return SpreadRows(self._local.copy(), self._counts, self._at.copy(), self._own.copy())

    def without_gaps(self) -> SpreadRows:
        """Return the same rows, of which each process holds no others any more."""
        at, counts = self._at.copy(), []
        kept: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        for k in range(len(self._counts)):
            theirs = np.flatnonzero(at // _PLACES == k)
            places, at_new = np.unique(at[theirs] % _PLACES, return_inverse=True)
            at[theirs] = k * _PLACES + at_new.reshape(-1)
            counts.append(len(places))
            kept = places if k == distributed.rank() else kept
        return SpreadRows(self._local[kept], counts, at, self._own)

    def __deepcopy__(self, memo: dict[int, Any]) -> SpreadRows:
        return self.copy()

    def with_rows(self, at: NDArray[np.int64], values: Any = None) -> SpreadRows:
        """Return rows of which some are others, which all processes are given, or are zeros."""
        where = self._at.copy()
        where[at] = _ZEROS
        if values is None:
            return self._like(where)
        where[at] = -2 - (len(self._own) + np.arange(len(at)))
        return self._like(where, np.concatenate([self._own, np.asarray(dense(values), dtype=self.dtype)]))

    def followed_by(self, other: Any) -> SpreadRows:
        """Return these rows and, after them, others: those that all processes have, or that each holds a part of."""
        if not isinstance(other, SpreadRows):
            new = np.asarray(dense(other), dtype=self.dtype)
            added = -2 - (len(self._own) + np.arange(len(new)))
            return self._like(np.concatenate([self._at, added]), np.concatenate([self._own, new]))
        theirs = other.astype(self.dtype)
        at = theirs._at.copy()
        shift = np.array(self._counts, dtype=np.int64)
        at[at >= 0] += shift[at[at >= 0] // _PLACES]
        at[at < _ZEROS] -= len(self._own)
        if isinstance(self._local, RowStorage):
            local: Any = self._local.followed_by(theirs._local)
        else:
            local = np.concatenate([self._local, dense(theirs._local)])
        counts = [a + b for a, b in zip(self._counts, theirs._counts, strict=True)]
        own = np.concatenate([self._own, theirs._own])
        return SpreadRows(local, counts, np.concatenate([self._at, at]), own)

    def change(self, at: NDArray[np.int64], values: Any = None) -> Assignment:
        """Return the assignment by which this process overwrites, in place, those of some rows that it holds."""
        numbers, new = self._here(at, values)
        if isinstance(self._local, RowStorage):
            return self._local.change(numbers, new)
        return self._local, numbers, np.zeros((), self.dtype)[()] if new is None else new

    # What follows is of this process alone: its files and data sets, and what its own rows stand for there.

    @property
    def _outside(self) -> OutsideRows | None:
        return self._local if isinstance(self._local, OutsideRows) else None

    @property
    def sources(self) -> tuple[RowSource, ...]:
        """Where rows of this process stay outside."""
        return () if self._outside is None else self._outside.sources

    @property
    def is_overwritten(self) -> bool:
        """Whether erased rows become zeros in a file of the user's."""
        return self._outside is not None and self._outside.is_overwritten

    def read_from(self, sources: Sequence[RowSource]) -> SpreadRows:
        """Return the same rows, read by other objects that stand for the same places."""
        if self._outside is None:
            return self
        return SpreadRows(self._outside.read_from(sources), self._counts, self._at, self._own)

    def reading(self) -> SpreadRows:
        """Return the same rows, to be read: whoever erases some of them overwrites nothing outside."""
        return self.read_from([source.reading() for source in self.sources])

    def used(self) -> list[NDArray[np.int64]]:
        """Return of each source the numbers of its rows that stand for some of these, ascending."""
        places = np.unique(self._at[self._at // _PLACES == distributed.rank()] % _PLACES)
        return [] if self._outside is None else self._outside[places].used()

    def erased(self) -> list[NDArray[np.int64]]:
        """Return of each source the numbers of its rows that stood for some of these and stand for none, ascending."""
        return [] if self._outside is None else self._outside.erased()

    def freed(self, at: NDArray[np.int64], values: Any = None) -> list[NDArray[np.int64]]:
        """Return of each source the numbers of its rows that stand for none of these after a change."""
        numbers, new = self._here(at, values)
        return [] if self._outside is None else self._outside.freed(numbers, new)

    def overwriting(self, freed: Sequence[NDArray[np.int64]]) -> list[Assignment]:
        """Return the assignments that leave zeros in place of some rows of each source, where it can be written to."""
        return [] if self._outside is None else self._outside.overwriting(freed)

    def _here(self, at: NDArray[np.int64], values: Any) -> tuple[NDArray[np.int64], Any]:
        """Return where this process holds some of the rows, and what these become."""
        places = self._at[at]
        mine = places // _PLACES == distributed.rank()
        # Read by all before each takes its own: the new rows may be spread, too.
        return places[mine] % _PLACES, None if values is None else dense(values)[mine]

    def __reduce__(self) -> Any:
        raise TypeError(
            "Rows that several processes hold cannot be pickled or saved: a file would hold those of one process. Fit "
            "in one process, or with keep_training_set=False, where the estimator is to be saved."
        )

    def __repr__(self) -> str:
        width = "x".join(map(str, self.shape[1:])) or "scalar"
        return f"SpreadRows({len(self)} rows of {width} {self.dtype} in {len(self._counts)} processes)"


def of_all(rows: Any, found: list[Any]) -> list[Any]:
    """Return what is found out about rows, by all processes that hold some of them."""
    if not isinstance(rows, SpreadRows):
        return found
    return [each for theirs in distributed.gather(found) for each in theirs]


def spread(local: Any) -> SpreadRows:
    """Return the rows of all processes, those of process 0 first, from those that this one holds.

    Parameters
    ----------
    local : (m, ...) array or storage
        An array of its own, which requests will overwrite.

    Raises
    ------
    ValueError
        Where rows of different shapes, or none at all, came to some processes.
    """
    kinds = distributed.gather((len(local), tuple(local.shape[1:]), str(local.dtype)))
    counts = [n for n, _, _ in kinds]
    if any(shape != kinds[0][1] for _, shape, _ in kinds):
        raise ValueError(f"X must have rows of one shape in all processes, got {[shape for _, shape, _ in kinds]}.")
    if local.dtype.names is not None:
        raise ValueError("X has rows of several parts, which data_parallel() does not spread: pass one array.")
    dtype = np.result_type(*(np.dtype(kind) for _, _, kind in kinds))
    at = np.concatenate([k * _PLACES + np.arange(n, dtype=np.int64) for k, n in enumerate(counts)])
    rows = SpreadRows(local, counts, at, np.empty((0, *local.shape[1:]), local.dtype))
    return rows if local.dtype == dtype else rows.astype(dtype)
