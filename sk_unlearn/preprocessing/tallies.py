"""What is counted of the columns of a table: everything here can be added and taken away again.

Counts and sums are functions of the rows they were made of and of nothing else: those of all rows less those of some
equal those of the others to the last bit. Of extremes a few are kept, each with its count. So nothing of a row is left
once it has been taken out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils._mask import _get_mask

from sk_unlearn.preprocessing.exact_sums import UNIT, column_dots, column_sums, gram, two_products

__all__ = ["Anchor", "Extremes", "Moments", "Needs", "NotKnownError", "Tally", "key_of", "marked", "tally"]


class _Missing(Enum):
    """What stands for all NaN as a key: a NaN would not be found in a dictionary again once that came out of a file."""

    NAN = "nan"


N_EXTREMES = 64
"""How many of the smallest and of the largest values of a column are kept."""


def key_of(value: Any) -> Any:
    """Return a value as it is counted: all NaN are one."""
    return _Missing.NAN if isinstance(value, float) and value != value else value


class NotKnownError(Exception):
    """What is counted does not say what a step would be without the rows."""


@dataclass(frozen=True)
class Needs:
    """What the steps on a table ask of its tally; ``marks`` are those at missing values, in the products."""

    moments: bool = False
    gram: bool = False
    marks: bool = False
    extremes: bool = False
    values: bool = False
    weights: tuple[str, ...] = ()
    """Names of the steps that were fitted with sample weights."""

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.moments or other.moments,
            self.gram or other.gram,
            self.marks or other.marks,
            self.extremes or other.extremes,
            self.values or other.values,
            self.weights + other.weights,
        )


@dataclass
class Anchor:
    """A table as the first of some steps reads it, with a mark at what is missing.

    Attributes
    ----------
    columns : list of ndarray, ndarray or sparse matrix
        The columns with their data types of their own, or a table of numbers.
    missing : ndarray of bool, or None
        The same shape, or that of the stored entries of a sparse table; None for lists of columns.
    """

    columns: Any
    missing: Any = None

    @property
    def n_rows(self) -> int:
        """How many rows the table has."""
        return len(self.columns[0]) if isinstance(self.columns, list) else self.columns.shape[0]

    @property
    def n_columns(self) -> int:
        """How many columns the table has."""
        return len(self.columns) if isinstance(self.columns, list) else self.columns.shape[1]

    def n_missing(self) -> list[int]:
        """Return how many values are missing in each column."""
        if sparse.issparse(self.columns):
            counts = np.add.reduceat(np.append(self.missing, False), self.columns.indptr[:-1], dtype=np.intp)
            return np.where(np.diff(self.columns.indptr) > 0, counts, 0).tolist()
        return self.missing.sum(axis=0).tolist()

    def column(self, j: int) -> tuple[np.ndarray, int, int]:
        """Return the values of a column that are not missing, the number of further zeros, and of missing ones."""
        if isinstance(self.columns, list):
            return self.columns[j], 0, 0
        if not sparse.issparse(self.columns):
            missing = self.missing[:, j]
            return self.columns[~missing, j], 0, int(missing.sum())
        here = slice(self.columns.indptr[j], self.columns.indptr[j + 1])
        missing = self.missing[here]
        return self.columns.data[here][~missing], self.n_rows - len(missing), int(missing.sum())


def marked(X: Any, missing_values: Any = np.nan) -> Anchor:
    """Return a table with its missing values marked."""
    if sparse.issparse(X):
        X = X.tocsc()
        return Anchor(X, _get_mask(X.data, missing_values))
    return Anchor(X, _get_mask(X, missing_values))


def _combined(a: Sequence[int], b: Sequence[int], sign: int) -> list[int]:
    return [x + sign * y for x, y in zip(a, b, strict=True)]


@dataclass
class Moments:
    """Exact sums of each column: weights of the values there are and of those missing, values, and their squares."""

    present: list[int]
    missing: list[int]
    sums: list[int]
    squares: list[int]

    def combined(self, other: Moments, sign: int) -> Moments:
        """Return the moments with those of other rows added (sign 1) or taken away (-1)."""
        return Moments(*(_combined(a, b, sign) for a, b in zip(self._lists(), other._lists(), strict=True)))

    def take(self, columns: Iterable[int]) -> Moments:
        """Return the moments of some of the columns."""
        columns = list(columns)
        return Moments(*([values[j] for j in columns] for values in self._lists()))

    def _lists(self) -> tuple[list[int], ...]:
        return self.present, self.missing, self.sums, self.squares


def _moments(anchor: Anchor, weight: np.ndarray | None) -> Moments:
    X, missing, d = anchor.columns, anchor.missing, anchor.n_columns
    w = np.ones(anchor.n_rows) if weight is None else weight
    if sparse.issparse(X):
        columns = np.repeat(np.arange(d), np.diff(X.indptr))
        values, of_entry = np.where(missing, 0.0, X.data), w[X.indices]
    else:
        columns, values, of_entry = None, np.where(missing, 0.0, X), w[:, None]
    if weight is None:
        n_missing = np.bincount(columns[missing], minlength=d) if columns is not None else missing.sum(axis=0)
        lost = [int(n) << UNIT for n in n_missing]
        sums, squares = column_sums(values, columns, d), column_dots(values, values, columns, d)
    else:
        lost = column_dots(of_entry, missing.astype(float), columns, d)
        sums = column_dots(of_entry, values, columns, d)
        rounded, error = two_products(values, values)
        squares = _combined(column_dots(of_entry, rounded, columns, d), column_dots(of_entry, error, columns, d), 1)
    everything = column_sums(w[:, None])[0]
    return Moments([everything - m for m in lost], lost, sums, squares)


@dataclass
class Extremes:
    """The smallest values of a column with their counts, as many as are kept; the largest are kept as ``-x``.

    Attributes
    ----------
    counts : dict
        From value to count.
    last : float or None
        Values above this one are not kept, if they exist; None where the whole column is kept.
    """

    counts: dict[float, int]
    last: float | None = None

    @classmethod
    def of(cls, values: np.ndarray, n_zeros: int = 0) -> Extremes:
        """Count the smallest values, of these and so many zeros."""
        if len(values) < N_EXTREMES:
            few = Counter(values.tolist())
            if n_zeros:
                few[0.0] += n_zeros
            return cls(dict(few))
        distinct, counts = np.unique(np.append(values, np.zeros(min(n_zeros, 1))), return_counts=True)
        if n_zeros:
            counts[np.searchsorted(distinct, 0.0)] += n_zeros - 1
        kept = dict(zip(distinct[:N_EXTREMES].tolist(), counts[:N_EXTREMES].tolist(), strict=True))
        return cls(kept, None if len(distinct) <= N_EXTREMES else max(kept))

    @property
    def smallest(self) -> float | None:
        """The smallest value; None where it is no longer known or there is none."""
        return min(self.counts, default=None)

    def combined(self, other: Extremes, sign: int) -> Extremes:
        """Return the extremes with those of a few other rows, of which all are known, added or taken away.

        Where rows are added the result keeps what it can vouch for.
        """
        if self.last is not None and other.last is None and min(other.counts, default=math.inf) > self.last:
            return self
        counts = Counter(self.counts)
        for value, count in other.counts.items():
            if self.last is None or value <= self.last:
                counts[value] += sign * count
                if counts[value] < 0:
                    raise NotKnownError
        if other.last is not None and (self.last is None or other.last < self.last):
            last: float | None = other.last
        else:
            last = self.last
        kept = {value: count for value, count in counts.items() if count > 0 and (last is None or value <= last)}
        if last is not None:
            last = max(kept, default=-math.inf)  # a value that no row has any more must not stand here
        return Extremes(kept, last)


@dataclass
class Tally:
    """What is known of the columns of a table; a part is None where no step needs it.

    Attributes
    ----------
    n_rows : int
    moments : dict of Moments
        By the name of the step whose weights they have; "" has none.
    gram : list of list of int, or None
        Exact ``A.T @ A`` of ``A = [1, values with zeros for missing ones]``, with marks at missing ones behind if a
        step fills them.
    low, high : list of Extremes, or None
    values : list of dict, or None
        For each column from value to count, without the missing ones.
    missing : list of int
        How many values are missing in each column.
    """

    n_rows: int
    moments: dict[str, Moments] = field(default_factory=dict)
    gram: list[list[int]] | None = None
    low: list[Extremes] | None = None
    high: list[Extremes] | None = None
    values: list[dict[Any, int]] | None = None
    missing: list[int] | None = None

    def combined(self, other: Tally, sign: int) -> Tally:
        """Return the tally with other rows added (sign 1) or taken away (-1)."""
        return Tally(
            self.n_rows + sign * other.n_rows,
            {name: moments.combined(other.moments[name], sign) for name, moments in self.moments.items()},
            self.gram and [_combined(a, b, sign) for a, b in zip(self.gram, other.gram or [], strict=True)],
            self.low and [a.combined(b, sign) for a, b in zip(self.low, other.low or [], strict=True)],
            self.high and [a.combined(b, sign) for a, b in zip(self.high, other.high or [], strict=True)],
            self.values and [_counted(a, b, sign) for a, b in zip(self.values, other.values or [], strict=True)],
            self.missing and _combined(self.missing, other.missing or [], sign),
        )

    def take(self, columns: np.ndarray) -> Tally:
        """Return the tally of some of the columns."""

        def of(values: list[Any] | None) -> list[Any] | None:
            return values and [values[j] for j in columns]

        table = self.gram
        if table is not None:
            starts = range(1, len(table), len(self.missing or []))
            rows = [0, *(start + j for start in starts for j in columns)]
            table = [[table[a][b] for b in rows] for a in rows]
        moments = {name: moments.take(columns) for name, moments in self.moments.items()}
        return Tally(self.n_rows, moments, table, of(self.low), of(self.high), of(self.values), of(self.missing))


def _counted(a: dict[Any, int], b: dict[Any, int], sign: int) -> dict[Any, int]:
    counts = dict(a)
    for value, count in b.items():
        counts[value] = counts.get(value, 0) + sign * count
        if counts[value] < 0:
            raise NotKnownError
    return {value: count for value, count in counts.items() if count > 0}


def _values(anchor: Anchor, j: int) -> dict[Any, int]:
    values, n_zeros, _ = anchor.column(j)
    if values.dtype.kind == "f":
        distinct, counts = np.unique(values, return_counts=True)
        counted = Counter(dict(zip(map(key_of, distinct.tolist()), counts.tolist(), strict=True)))
    else:
        counted = Counter(values.tolist())
        for value in [v for v in counted if v is not key_of(v)]:
            counted[key_of(value)] += counted.pop(value)
    if n_zeros:
        counted[0.0] += n_zeros
    return dict(counted)


def tally(anchor: Anchor, needs: Needs, weights: dict[str, np.ndarray]) -> Tally:
    """Count what is needed of some rows; ``weights`` are those of the rows by the name of the step."""
    result = Tally(anchor.n_rows)
    columns = range(anchor.n_columns)
    if needs.moments:
        result.moments[""] = _moments(anchor, None)
        for name in needs.weights:
            result.moments[name] = _moments(anchor, weights[name])
    if needs.gram:
        values = np.where(anchor.missing, 0.0, anchor.columns)
        marks = [anchor.missing] if needs.marks else []
        result.gram = gram(np.hstack([np.ones((len(values), 1)), values, *marks]))
    if needs.extremes:
        result.low, result.high = [], []
        for j in columns:
            values, n_zeros, _ = anchor.column(j)
            result.low.append(Extremes.of(values, n_zeros))
            result.high.append(Extremes.of(-values, n_zeros))
    if needs.values:
        result.values = [_values(anchor, j) for j in columns]
    if anchor.missing is not None:
        result.missing = anchor.n_missing()
    return result
