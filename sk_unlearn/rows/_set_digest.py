"""A keyed digest of the rows that are held, kept up to date as rows come and go."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn import distributed
from sk_unlearn.rows.content import Array, Words, as_words, chunks, row_bytes
from sk_unlearn.rows.digests import digest_each, digest_ids, digest_rows
from sk_unlearn.rows.outside import OutsideRows
from sk_unlearn.rows.spread import SpreadRows
from sk_unlearn.rows.training_set import TrainingSet

__all__ = ["SetDigest"]

_BYTES = 32
_MODULUS = 1 << (8 * _BYTES)


@dataclass(frozen=True)
class SetDigest:
    """The sum of keyed digests of all rows, and their number: MSet-Add-Hash, of which :attr:`hex` may be shown.

    Equal sets of rows have equal digests, in whatever order they came and whatever came and went between: taking rows
    out of the sum costs what these rows cost. A row is its content, target, weight and identifier.

    Attributes
    ----------
    total : int
        Modulo 2^256. Not to be shown: the difference of two is that of the rows between them.

    count : int
        Number of rows.

    References
    ----------
    Clarke, Devadas, van Dijk, Gassend, Suh: "Incremental Multiset Hash Functions and Their Application to Memory
    Integrity Checking", ASIACRYPT 2003.
    """

    total: int = field(repr=False)
    count: int

    @classmethod
    def of_rows(cls, key: bytes, rows: TrainingSet) -> SetDigest:
        """Return that of all live rows.

        Parameters
        ----------
        key : bytes
        rows : TrainingSet
        """
        whole = cls(0, 0)
        for part in chunks(rows.n_slots, row_bytes(rows.raw_X)):
            whole = whole.plus(cls.of_slots(key, rows, part.start + np.flatnonzero(rows.live_mask[part])))
        return whole

    @classmethod
    def of_slots(cls, key: bytes, rows: TrainingSet, slots: NDArray[np.int64]) -> SetDigest:
        """Return that of some rows.

        Parameters
        ----------
        key : bytes
        rows : TrainingSet
        slots : (m,) int64
        """
        X, total = rows.raw_X, cls(0, 0)
        if isinstance(X, SpreadRows):
            slots = slots[X.counted_here(slots)]
        for part in chunks(len(slots), row_bytes(X)):  # so that memory does not grow with the rows held
            total = total.plus(cls._of_few(key, rows, slots[part]))
        if not isinstance(X, SpreadRows):
            return total
        return reduce(cls.plus, distributed.gather(total))

    @classmethod
    def _of_few(cls, key: bytes, rows: TrainingSet, slots: NDArray[np.int64]) -> SetDigest:
        weight = None if rows.raw_weight is None else rows.raw_weight[slots]
        ids = None if rows.raw_id is None else rows.raw_id[slots]
        if rows.raw_source is not None:
            return cls.of_content(key, None, rows.raw_y[slots], weight, ids, rows.raw_source[slots])
        X = rows.raw_X
        content = X.read_here(slots) if isinstance(X, SpreadRows) else X[slots]
        return cls.of_content(key, content, rows.raw_y[slots], weight, ids)

    @classmethod
    def of_content(
        cls,
        key: bytes,
        X: Any,
        y: Array,
        weight: NDArray[np.float64] | None = None,
        ids: Array | None = None,
        source: NDArray[np.uint8] | None = None,
    ) -> SetDigest:
        """Return that of rows that are given.

        Parameters
        ----------
        key : bytes
        X : rows as they are stored
        y : (m, ...) array
        weight : (m,) float64, optional
            Default: all one.
        ids : (m,) array, optional
        source : (m, 16) uint8 array, optional
            Digests of what the rows were made of: they count in place of X, which may move.
        """
        n = len(y)
        content = _row_words(key, X) if source is None else np.ascontiguousarray(source).view(np.uint64)
        columns = [content, as_words(y), as_words(np.ones(n) if weight is None else weight)]
        if ids is not None:
            columns.append(digest_ids(key, ids).view(np.uint64))
        message = memoryview(np.concatenate(columns, axis=1).astype("<u8").tobytes())
        size = len(message) // n if n else 0
        begins = range(0, n * size, size or 1)
        keyed = blake2b(key=key, digest_size=_BYTES, person=b"sk_unlearn kept")
        digests = digest_each(keyed, message, begins, [begin + size for begin in begins])
        # Summed column by column, 32 bits at a time: so many rows as fit into memory cannot make a column overflow.
        parts = np.frombuffer(digests, dtype="<u4").reshape(n, _BYTES // 4).sum(axis=0, dtype=np.uint64)
        return cls(sum(int(part) << (32 * i) for i, part in enumerate(parts)) % _MODULUS, n)

    def plus(self, other: SetDigest) -> SetDigest:
        """Return that of both sets together."""
        return SetDigest((self.total + other.total) % _MODULUS, self.count + other.count)

    def minus(self, other: SetDigest) -> SetDigest:
        """Return that of the rows that are left when others go."""
        return SetDigest((self.total - other.total) % _MODULUS, self.count - other.count)

    def hex(self, key: bytes) -> str:
        """Return what may be shown, in hexadecimal: a keyed digest of sum and number.

        Parameters
        ----------
        key : bytes
        """
        told = self.total.to_bytes(_BYTES, "little") + self.count.to_bytes(8, "little")
        return blake2b(told, key=key, digest_size=_BYTES, person=b"sk_unlearn set").hexdigest()


def _row_words(key: bytes, X: Any) -> Words:
    """Return rows as words: numbers as they are, rows that are stored in another way by their digests."""
    if isinstance(X, OutsideRows) or (isinstance(X, np.ndarray) and X.dtype != object):
        return as_words(X)
    return digest_rows(key, X).view(np.uint64)
