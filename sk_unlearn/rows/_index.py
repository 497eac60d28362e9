"""Look up by hash: slots grouped by the highest bits of a hash."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from sk_unlearn.rows.content import Array, Positions, Words, row_hash


def id_hash(ids: Iterable[Any], n: int) -> Words:
    # Python's own hash, since 1, 1.0 and np.int64(1) must be one id whatever dtype they come in.
    return row_hash(np.fromiter(map(hash, ids), dtype=np.int64, count=n).view(np.uint64)[:, None])


class Segment:
    """Slots grouped by the highest bits of a hash; about one slot a bucket. It never changes: `without` makes another.

    No hash is stored, and nothing tells where a slot stood that has been taken out: a gap in a bucket would give away
    as many bits of the hash of an erased row as the segment has buckets, enough to confirm a guess of its content.

    Parameters
    ----------
    slots : (n,) int64
    hashes : (n,) uint64
    """

    def __init__(self, slots: Positions, hashes: Words) -> None:
        n_bits = max(1, (len(slots) - 1).bit_length())
        self._shift = np.uint64(64 - n_bits)
        bucket = self._bucket(hashes)
        # Taking rows out copies both arrays, so they are kept narrow.
        narrow: type[np.signedinteger[Any]] = np.int32 if slots.max(initial=0) <= np.iinfo(np.int32).max else np.int64
        self._slots = slots[np.argsort(bucket, kind="stable")].astype(narrow)
        self._start: Array = np.zeros((1 << n_bits) + 1, dtype=narrow)
        np.cumsum(np.bincount(bucket, minlength=1 << n_bits), out=self._start[1:])

    def _bucket(self, hashes: Words) -> Positions:
        return (hashes >> self._shift).astype(np.int64)

    def _entries(self, bucket: Positions) -> tuple[Positions, Positions]:
        """Every entry of each given bucket, and which of the given buckets it is for."""
        start = self._start[bucket].astype(np.int64)
        count = self._start[bucket + 1] - start
        owner = np.repeat(np.arange(len(bucket)), count)
        rank_in_bucket = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        return start[owner] + rank_in_bucket, owner

    def candidates(self, hashes: Words) -> tuple[Positions, Positions]:
        """Slots that may have one of the hashes, and the index of that hash."""
        entries, owner = self._entries(self._bucket(hashes))
        return self._slots[entries].astype(np.int64), owner

    def without(self, slots: Positions, hashes: Words) -> Segment:
        """Return the segment of the others; slots that are not in here, whatever their hashes, do not matter."""
        bucket = np.unique(self._bucket(hashes))
        entries, owner = self._entries(bucket)
        gone = np.isin(self._slots[entries], slots)
        if not gone.any():
            return self
        rest = copy.copy(self)
        rest._slots = np.delete(self._slots, entries[gone])
        # Each bucket starts earlier by as many entries as are gone from those before it.
        after = np.concatenate([[0], bucket[owner[gone]] + 1, [len(self._start)]])
        rest._start = self._start - np.repeat(np.arange(len(after) - 1, dtype=self._start.dtype), np.diff(after))
        return rest


Segments = tuple[Segment, ...]


def source_hash(source: Array) -> Words:
    """Return a hash of each keyed digest, of shape (n, 16): a part of it is as good as random."""
    return np.ascontiguousarray(source).view(np.uint64)[:, 0]
