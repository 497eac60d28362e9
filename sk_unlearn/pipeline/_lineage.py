"""Where the rows that a sampler gave come from, among those that it was given."""

from __future__ import annotations

import secrets
from collections import defaultdict
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sk_unlearn.pipeline._raw import taken
from sk_unlearn.pipeline._segments import on_segments
from sk_unlearn.rows.digests import digest_rows

__all__ = ["Lineage", "ids_of_nobody", "traced"]

Mask = NDArray[np.bool_]
# Sparse rows are written out to look for what synthetic ones lie between, up to so many values.
_MOST_VALUES = 20_000_000


@dataclass(frozen=True)
class Lineage:
    """Which rows other rows were made of.

    Attributes
    ----------
    shares : CSR array of shape (n_rows, n_before)
        How much of each row before is in a row: 1 of the one that it is a copy of, u and 1 - u of the two that it lies
        between, nothing where that is not known.

    is_sum : bool ndarray of shape (n_rows,)
        Whether a row is the sum of the shares, and not that and noise.

    is_unknown : bool ndarray of shape (n_rows,)
        Whether it is not known what a row was made of.
    """

    shares: Any
    is_sum: Mask
    is_unknown: Mask

    def __len__(self) -> int:
        return len(self.is_sum)

    @property
    def is_copy(self) -> Mask:
        """Which rows stand for one row each."""
        return (np.diff(self.shares.indptr) == 1) & ~self.is_unknown

    def one_each(self) -> NDArray[np.int64]:
        """Return the row before that each copy is one of; -1 for others."""
        result = np.full(len(self), -1, dtype=np.int64)
        result[self.is_copy] = self.shares.indices[self.shares.indptr[:-1][self.is_copy]]
        return result

    def touched_by(self, before: Mask) -> Mask:
        """Tell which rows have a share of some of the rows before."""
        return np.asarray((self.shares != 0).astype(np.int64) @ before.astype(np.int64) > 0)

    def after(self, earlier: Lineage) -> Lineage:
        """Return what the rows are made of, of the rows before those of an earlier sampler."""
        unknown = self.is_unknown | self.touched_by(earlier.is_unknown)
        shares = sparse.csr_array(self.shares @ earlier.shares)
        shares.eliminate_zeros()
        return Lineage(shares, self.is_sum & ~self.touched_by(~earlier.is_sum), unknown)

    def taken(self, rows: NDArray[np.int64], before: NDArray[np.int64]) -> Lineage:
        """Return that of some rows, of some of the rows before."""
        return Lineage(sparse.csr_array(self.shares[rows][:, before]), self.is_sum[rows], self.is_unknown[rows])

    def of_each(self, values: Any, kind_before: Any, kind: Any) -> NDArray[np.float64]:
        """Return a number for each row, from one for each row before: a mean, of its kind where it is not known whose.

        Parameters
        ----------
        values : array-like of shape (n_before,)

        kind_before, kind : array-like of shape (n_before,), (n_rows,)
            Such as labels.
        """
        given, before, now = np.asarray(values, dtype=np.float64), _table(kind_before), _table(kind)
        result = np.asarray(self.shares @ given)
        for row in np.flatnonzero(self.is_unknown):
            same = (before == now[row]).all(axis=1)
            result[row] = given[same].mean() if same.any() else given.mean()
        return result


def traced(sampler: Any, X: Any, y: Any, X_out: Any, y_out: Any) -> Lineage:
    """Return where the rows that a fitted sampler gave come from.

    What the sampler tells (``sample_indices_``) holds. Else rows are copies of those with the same content and target,
    and the others lie between two of their class, as those of SMOTE do, or come from nobody knows where.

    Parameters
    ----------
    sampler : object

    X, y : table of n rows, array-like of n targets
        What it was given.

    X_out, y_out : table of m rows, array-like of m targets
        What it gave.
    """
    key = secrets.token_bytes(16)
    before, after = digest_rows(key, X), digest_rows(key, X_out)
    n_before, n = len(before), len(after)
    told = getattr(sampler, "sample_indices_", None)
    if told is not None and len(told) == n:
        numbers = np.asarray(told, dtype=np.int64)
        shares = sparse.csr_array((np.ones(n), numbers, np.arange(n + 1)), shape=(n, n_before))
        return Lineage(shares, (before[numbers] == after).all(axis=1), np.zeros(n, dtype=bool))
    origin = _by_content(before, y, after, y_out)
    parts: list[tuple[Any, Any] | None] = [
        None if number < 0 else (np.array([number]), np.ones(1)) for number in origin.tolist()
    ]
    synthetic = np.flatnonzero(origin < 0)
    for row, ends in zip(synthetic, _between(X, y, taken(X_out, synthetic), taken(y_out, synthetic)), strict=True):
        parts[row] = ends
    known = [(np.empty(0, dtype=np.int64), np.empty(0)) if part is None else part for part in parts]
    starts = np.cumsum([0, *(len(numbers) for numbers, _ in known)])
    entries = [np.concatenate([np.empty(0), *(part[k] for part in known)]) for k in (1, 0)]
    shares = sparse.csr_array((entries[0], entries[1].astype(np.int64), starts), shape=(n, n_before))
    unknown = np.array([part is None for part in parts], dtype=bool)
    return Lineage(shares, ~unknown, unknown)


def _by_content(before: Any, y: Any, after: Any, y_out: Any) -> NDArray[np.int64]:
    """Return the row that each is a copy of, -1 for none; of equal ones one after the other, in their order."""
    places: dict[Any, list[int]] = defaultdict(list)
    for number, content in enumerate(_contents(before, y)):
        places[content].append(number)
    n_used: dict[Any, int] = defaultdict(int)
    result = []
    for content in _contents(after, y_out):
        equal = places.get(content)
        result.append(-1 if equal is None else equal[min(n_used[content], len(equal) - 1)])
        n_used[content] += 1
    return np.array(result, dtype=np.int64)


def _contents(digests: Any, y: Any) -> list[tuple[bytes, bytes]]:
    targets = digest_rows(b"targets", _table(y))
    return [(row.tobytes(), target.tobytes()) for row, target in zip(digests, targets, strict=True)]


def _table(y: Any) -> Any:
    values = np.asarray(y)
    return values.reshape(len(values), -1)


def _between(X: Any, y: Any, S: Any, y_S: Any) -> list[tuple[NDArray[np.int64], NDArray[np.float64]] | None]:
    """Return for each synthetic row the two of its class that it lies between, and their shares."""
    ends: list[Any] = [None] * len(y_S)
    rows, points = _numbers(X), _numbers(S)
    if not ends or rows is None or points is None:
        return ends
    eps = max(float(np.finfo(rows.dtype).eps), float(np.finfo(points.dtype).eps))
    targets, of_points = _table(y), _table(y_S)
    for target in np.unique(of_points, axis=0):
        own, mine = (np.flatnonzero((each == target).all(axis=1)) for each in (targets, of_points))
        found = on_segments(points[mine].astype(np.float64), rows[own].astype(np.float64), eps)
        for number, pair in zip(mine, found, strict=True):
            ends[number] = None if pair is None else (own[pair[0]], pair[1])
    return ends


def _numbers(X: Any) -> NDArray[Any] | None:
    """Return a table as floats, in their precision; None where it holds other things."""
    if sparse.issparse(X):
        if np.prod(X.shape, dtype=np.float64) > _MOST_VALUES:
            return None
        X = X.toarray()
    try:
        table = np.asarray(X)
        table = table if table.dtype.kind == "f" else table.astype(np.float64)
    except (ValueError, TypeError):
        return None
    return table if table.ndim == 2 and bool(np.isfinite(table).all()) else None


def ids_of_nobody(ids: Any, n: int) -> list[Any]:
    """Return identifiers for rows that are nobody's, of the kind of the others where these are whole numbers."""
    if all(isinstance(each, int | np.integer) and not isinstance(each, bool) for each in ids):
        return [secrets.randbits(62) for _ in range(n)]
    return [uuid4().hex for _ in range(n)]
