"""Rows that stay where they are, such as in a file: they are read a few at a time and never written to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows.storage import RowStorage, dense
from sk_unlearn.utils._journal import Assignment

__all__ = ["OutsideRows", "RowSource", "merged"]


class RowSource(ABC):
    """Where rows stay. Copies and pickles of it refer to the same place."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the user calls it, such as the path of a file."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and shape of one."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Data type in which they are kept."""

    @abstractmethod
    def read(self, numbers: NDArray[Any] | slice) -> NDArray[Any]:
        """Return some rows as an array, which is not to be written to."""

    @property
    def is_overwritten(self) -> bool:
        """Whether erased rows become zeros in what is the user's own."""
        return False

    def overwriting(self, numbers: NDArray[np.int64]) -> list[Assignment]:
        """Return the assignments that leave zeros in place of some rows, where that is for this object to do."""
        return []

    def flush(self) -> None:  # noqa: B027  most have nothing to do
        """Return when what was overwritten is on the disk."""

    def is_same(self, other: RowSource) -> bool:
        """Tell whether another object stands for the same rows; the first that came then decides on the erased ones."""
        return self is other

    def reading(self) -> RowSource:
        """Return an object that reads the same rows and overwrites none."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> RowSource:
        # Whoever tries a request on a copy does not mean what the rows stay in.
        return self.reading()


class _Held(NamedTuple):
    """Where each row is, and those that no source has."""

    at: NDArray[np.signedinteger[Any]]
    """(n,) its number in the sources, one after another; -1 for zeros; -2 - k for the k-th of `own`."""
    own: NDArray[Any]
    """(m, ...) rows that were added or corrected, in memory."""
    left: NDArray[np.int64]
    """(k,) numbers in the sources of rows that were erased or corrected, ascending; some may be in use still."""


_ZEROS = -1


def _own(k: Any) -> Any:
    """Return what stands for a row of our own, from its number, and the other way round."""
    return -2 - k


class OutsideRows(RowStorage):
    """Rows of sources that stay where they are, but for those that were erased, corrected or added since.

    A number a row, of 4 bytes or 8, says where it is. Rows that were erased are masked: they are zeros from then on,
    and what the source says of them is not read again. A source that can be written to is told which of its rows stand
    for nothing any more. Rows that were corrected or added are in memory, unless they were added from a source.

    Parameters
    ----------
    *sources : RowSource
        Their rows one after another; all of one shape.
    dtype : dtype, optional
        In which rows are read. Default: that of the first source.
    """

    def __init__(self, *sources: RowSource, dtype: Any = None) -> None:
        wanted = np.dtype(sources[0].dtype if dtype is None else dtype).newbyteorder("=")
        n = sum(source.shape[0] for source in sources)
        own, left = np.empty((0, *sources[0].shape[1:]), wanted), np.empty(0, np.int64)
        self._fill(sources, wanted, _Held(_narrow(np.arange(n)), own, left))

    def _fill(self, sources: Sequence[RowSource], dtype: np.dtype[Any], held: _Held) -> OutsideRows:
        self._sources, self._dtype, self._held = tuple(sources), dtype, held
        return self

    def _with(self, held: _Held) -> OutsideRows:
        return object.__new__(type(self))._fill(self._sources, self._dtype, held)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and shape of one."""
        return len(self._held.at), *self._sources[0].shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type in which rows are read."""
        return self._dtype

    def __getitem__(self, key: Any) -> Any:
        at = self._held.at
        if not isinstance(key, int | np.integer):
            return self._with(self._held._replace(at=at[key]))
        place = range(len(self))[key]
        return self._read(at[place : place + 1])[0]

    def toarray(self) -> NDArray[Any]:
        """Return all of the rows as a dense array of their data type, which is the caller's own."""
        return self._read(self._held.at)

    def _read(self, at: NDArray[Any]) -> NDArray[Any]:
        if len(self._sources) == 1 and len(at) and at.min() >= 0:  # as nearly always: no detour
            return np.array(self._sources[0].read(_run(at)), dtype=self.dtype, order="C")
        rows = np.zeros((len(at), *self.shape[1:]), dtype=self.dtype)
        start = 0
        for source in self._sources:
            stop = start + source.shape[0]
            here = np.flatnonzero((start <= at) & (at < stop))
            if len(here):
                rows[here] = source.read(_run(at[here] - start))
            start = stop
        here = np.flatnonzero(at < _ZEROS)
        rows[here] = self._held.own[_own(at[here])]
        return rows

    def astype(self, dtype: Any) -> OutsideRows:
        """Return the rows in another data type, to which they are cast as they are read."""
        wanted = np.dtype(dtype).newbyteorder("=")
        return object.__new__(type(self))._fill(
            self._sources, wanted, self._held._replace(own=self._held.own.astype(wanted))
        )

    def copy(self) -> OutsideRows:
        """Return rows that no change of these reaches; the sources are the same."""
        return self._with(_Held(*(each.copy() for each in self._held)))

    def with_rows(self, at: NDArray[np.int64], values: Any = None) -> OutsideRows:
        """Return rows of which some are others, or are zeros.

        Parameters
        ----------
        at : (m,) int64
            Which rows.
        values : m rows of any kind, optional
            What they become; None: zeros.
        """
        where = self._held.at.copy()
        where[at] = _ZEROS
        # Own rows that are no longer referred to go for good.
        kept = np.flatnonzero(where < _ZEROS)
        own = self._held.own[_own(where[kept])]
        where[kept] = _own(np.arange(len(kept)))
        if type(values) is OutsideRows and values._sources == self._sources and values.dtype == self.dtype:
            # They stay where they are, as when a target alone is corrected.
            new = values._held.at.astype(where.dtype)
            added = np.flatnonzero(new < _ZEROS)
            brought = values._held.own[_own(new[added])]
            new[added] = _own(len(own) + np.arange(len(added)))
            where[at] = new
            own = np.concatenate([own, brought])
        elif values is not None:
            where[at] = _own(len(kept) + np.arange(len(at)))
            own = np.concatenate([own, np.asarray(dense(values), dtype=self.dtype)])
        replaced = self._held.at[at]
        left = np.union1d(self._held.left, replaced[replaced >= 0])
        return self._with(_Held(where, own, left))

    def followed_by(self, other: Any) -> OutsideRows:
        """Return these rows and, after them, others of any kind, which come to this data type."""
        at, own, left = self._held
        if not isinstance(other, OutsideRows):
            new = np.asarray(dense(other), dtype=self.dtype)
            added = _own(len(own) + np.arange(len(new)))
            return self._with(_Held(_narrow(np.concatenate([at, added])), np.concatenate([own, new]), left))
        theirs, sources = other.astype(self.dtype)._held, merged(self._sources, other._sources)
        # Where each of their sources begins among theirs, and among all.
        of_theirs, of_all = _starts(other._sources), _starts(sources)
        place = np.array([next(k for k, known in enumerate(sources) if known.is_same(each)) for each in other._sources])
        shift = of_all[place] - of_theirs[:-1]

        def renumbered(numbers: NDArray[Any]) -> NDArray[np.int64]:
            return numbers + shift[np.searchsorted(of_theirs, numbers, side="right") - 1]

        added, outside = theirs.at.astype(np.int64), theirs.at >= 0
        added[outside] = renumbered(added[outside])
        added[theirs.at < _ZEROS] -= len(own)
        held = _Held(
            _narrow(np.concatenate([at, added])),
            np.concatenate([own, theirs.own]),
            np.union1d(left, renumbered(theirs.left)),
        )
        return object.__new__(type(self))._fill(sources, self.dtype, held)

    def change(self, at: NDArray[np.int64], values: Any = None) -> Assignment:
        """Return the assignment that makes this object what :meth:`with_rows` returns."""
        return vars(self), "_held", self.with_rows(at, values)._held

    @property
    def sources(self) -> tuple[RowSource, ...]:
        """Where the rows stay."""
        return self._sources

    @property
    def is_overwritten(self) -> bool:
        """Whether erased rows become zeros in a file of the user's."""
        return any(source.is_overwritten for source in self.sources)

    def reading(self) -> OutsideRows:
        """Return the same rows, to be read: whoever erases some of them overwrites nothing outside."""
        return self.read_from([source.reading() for source in self.sources])

    def read_from(self, sources: Sequence[RowSource]) -> OutsideRows:
        """Return the same rows, read by other objects that stand for the same places."""
        return object.__new__(type(self))._fill(sources, self.dtype, self._held)

    def used(self) -> list[NDArray[np.int64]]:
        """Return of each source the numbers of its rows that stand for some of these, ascending."""
        return self._by_source(self._held.at)

    def erased(self) -> list[NDArray[np.int64]]:
        """Return of each source the numbers of its rows that stood for some of these and stand for none, ascending."""
        numbers = self._by_source(self._held.left)
        return [each[~used] for each, used in zip(numbers, self.in_use(numbers), strict=True)]

    def freed(self, at: NDArray[np.int64], values: Any = None) -> list[NDArray[np.int64]]:
        """Return of each source the numbers of its rows that stand for none of these after :meth:`with_rows`."""
        numbers = self[at].used()
        kept = self.with_rows(at, values).in_use(numbers)
        return [each[~mask] for each, mask in zip(numbers, kept, strict=True)]

    def in_use(self, numbers: Sequence[NDArray[np.int64]]) -> list[NDArray[np.bool_]]:
        """Tell of some rows of each source whether they stand for any of these."""
        lengths = [source.shape[0] for source in self._sources]
        known = np.zeros(sum(lengths), dtype=bool)
        known[self._held.at[self._held.at >= 0]] = True
        parts = np.split(known, np.cumsum(lengths)[:-1])
        return [part[each] for part, each in zip(parts, numbers, strict=True)]

    def _by_source(self, at: NDArray[Any]) -> list[NDArray[np.int64]]:
        numbers, found, start = np.unique(at).astype(np.int64), [], 0
        for source in self._sources:
            first, last = np.searchsorted(numbers, [start, start + source.shape[0]])
            found.append(numbers[first:last] - start)
            start += source.shape[0]
        return found

    def overwriting(self, freed: Sequence[NDArray[np.int64]]) -> list[Assignment]:
        """Return the assignments that leave zeros in place of some rows of each source, where it can be written to."""
        pairs = zip(self.sources, freed, strict=True)
        return [each for source, numbers in pairs if len(numbers) for each in source.overwriting(numbers)]

    def __repr__(self) -> str:
        return f"OutsideRows({len(self)} rows of {'x'.join(map(str, self.shape[1:])) or 'scalar'} {self.dtype})"


def merged(sources: Sequence[RowSource], others: Sequence[RowSource]) -> tuple[RowSource, ...]:
    """Return sources and, after them, those of others that stand for other rows."""
    found = list(sources)
    for each in others:
        if not any(each.is_same(known) for known in found):
            found.append(each)
    return tuple(found)


def _starts(sources: Sequence[RowSource]) -> NDArray[np.int64]:
    """Return at which number the rows of each source begin, and how many there are."""
    return np.cumsum([0, *(source.shape[0] for source in sources)], dtype=np.int64)


def _narrow(at: NDArray[np.signedinteger[Any]]) -> NDArray[np.signedinteger[Any]]:
    """Return numbers in as few bytes as hold them: there is one for each row."""
    most = max(at.max(initial=0), -at.min(initial=0))
    return at.astype(np.int32 if most <= np.iinfo(np.int32).max else np.int64, copy=False)


def _run(numbers: NDArray[Any]) -> NDArray[Any] | slice:
    """Return numbers as a slice where they follow one another, which sources read at once."""
    first, n = int(numbers[0]), len(numbers)
    if numbers[-1] - first == n - 1 and (n < 3 or (np.diff(numbers) == 1).all()):
        return slice(first, first + n)
    return numbers
