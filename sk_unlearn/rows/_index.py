"""Look up by hash: slots grouped by the highest bits of a hash."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from sk_unlearn.rows.content import Array, Positions, Words, row_hash

# So many bits of a hash tell the buckets of a block apart: what one row that goes makes a copy of stays small.
_BUCKET_BITS = 14
# The remainder by it is Python's hash of a whole number.
_MODULUS = np.uint64(sys.hash_info.modulus)


def id_hash(ids: Iterable[Any], n: int) -> Words:
    """Hash n identifiers, (n,) uint64: equal ones have equal hashes, whatever type and container they come in."""
    # Python's own hash, since 1, 1.0 and np.int64(1) must be one id whatever dtype they come in.
    if isinstance(ids, np.ndarray) and ids.dtype == np.int64:
        own = _hash_of_integers(ids)
    else:
        listed = ids.tolist() if isinstance(ids, np.ndarray) else ids
        own = np.fromiter(map(hash, listed), dtype=np.int64, count=n)
    return row_hash(own.view(np.uint64)[:, None])


def _hash_of_integers(ids: Array) -> Array:
    """Return what Python's ``hash`` gives for each: the remainder of its size, with its sign; -2 in place of -1."""
    # The smallest integer is its own negative, and as a number without sign it is its size.
    remainder = (np.abs(ids).view(np.uint64) % _MODULUS).astype(np.int64)
    signed = np.where(ids < 0, -remainder, remainder)
    return np.where(signed == -1, np.int64(-2), signed)


class _Block(NamedTuple):
    """Slots of one stretch of hashes, grouped by bucket: those of bucket b are ``slots[start[b] : start[b + 1]]``."""

    start: Array
    slots: Array

    @classmethod
    def of(cls, slots: Array, bucket: Array, n_buckets: int) -> _Block:
        start = np.zeros(n_buckets + 1, dtype=np.int32)
        np.cumsum(np.bincount(bucket, minlength=n_buckets), out=start[1:])
        return cls(start, slots[np.argsort(bucket, kind="stable")])

    def entries(self, bucket: Array) -> tuple[Positions, Positions]:
        """Every entry of each given bucket, and which of the given buckets it is for."""
        start = self.start[bucket].astype(np.int64)
        count = self.start[bucket + 1] - start
        owner = np.repeat(np.arange(len(bucket)), count)
        rank_in_bucket = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        return start[owner] + rank_in_bucket, owner

    def without(self, slots: Array, bucket: Array) -> _Block:
        bucket = np.unique(bucket)
        entries, owner = self.entries(bucket)
        gone = np.isin(self.slots[entries], slots)
        if not gone.any():
            return self
        # Each bucket starts earlier by as many entries as are gone from those before it.
        lost = np.bincount(bucket[owner[gone]] + 1, minlength=len(self.start))
        start = self.start - np.cumsum(lost, dtype=np.int32)
        return _Block(start, np.delete(self.slots, entries[gone]))


class Segment:
    """Slots grouped by the highest bits of a hash; about one slot a bucket. It never changes: `without` makes another.

    No hash is stored, and nothing tells where a slot stood that has been taken out: a gap in a bucket would give away
    as many bits of the hash of an erased row as the segment has buckets, enough to confirm a guess of its content.

    Buckets lie together in blocks of 16,384, and another segment shares the blocks in which nothing is to change. So
    taking out a row copies some 130 kB however many rows there are. A slot takes 4 bytes (8 beyond 2^31 slots), and its
    bucket 4 to 8.

    Parameters
    ----------
    slots : (n,) int64
    hashes : (n,) uint64
    """

    def __init__(self, slots: Positions, hashes: Words) -> None:
        n_bits = max(1, (len(slots) - 1).bit_length())
        self._shift = np.uint64(64 - n_bits)
        self._n_buckets = 1 << min(n_bits, _BUCKET_BITS)
        wide = slots.max(initial=0) > np.iinfo(np.int32).max
        narrow = slots if wide else slots.astype(np.int32)
        self._blocks: tuple[_Block, ...] = (_Block(np.zeros(self._n_buckets + 1, np.int32), narrow[:0]),)
        self._blocks *= max(1, (1 << n_bits) >> _BUCKET_BITS)
        self._replace(
            (number, _Block.of(narrow[at], bucket, self._n_buckets)) for number, at, bucket in self._parts(hashes)
        )

    def _parts(self, hashes: Words) -> Iterator[tuple[int, Positions, Array]]:
        """Yield the blocks that hashes belong to: the number, which of the hashes, and their buckets in the block."""
        bucket = hashes >> self._shift
        # NumPy sorts numbers of 16 bits without comparing them.
        inner = (bucket & np.uint64(self._n_buckets - 1)).astype(np.uint16)
        number = (bucket >> np.uint64(_BUCKET_BITS)).astype(np.uint16 if len(self._blocks) <= 1 << 16 else np.int64)
        order = np.argsort(number, kind="stable")
        ends = np.cumsum(np.bincount(number, minlength=len(self._blocks)))
        for block in np.flatnonzero(np.diff(ends, prepend=0)).tolist():
            at = order[ends[block - 1] if block else 0 : ends[block]]
            yield block, at, inner[at]

    def _replace(self, blocks: Iterable[tuple[int, _Block]]) -> None:
        changed = list(self._blocks)
        for number, block in blocks:
            changed[number] = block
        self._blocks = tuple(changed)

    def candidates(self, hashes: Words) -> tuple[Positions, Positions]:
        """Slots that may have one of the hashes, and the index of that hash."""
        slots, owners = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for number, at, bucket in self._parts(hashes):
            block = self._blocks[number]
            entries, owner = block.entries(bucket.astype(np.int64))
            slots.append(block.slots[entries].astype(np.int64))
            owners.append(at[owner])
        return np.concatenate(slots), np.concatenate(owners)

    def without(self, slots: Positions, hashes: Words) -> Segment:
        """Return the segment of the others; slots that are not in here, whatever their hashes, do not matter."""
        rest = copy.copy(self)
        rest._replace(
            (number, self._blocks[number].without(slots[at], bucket.astype(np.int64)))
            for number, at, bucket in self._parts(hashes)
        )
        return rest

    def __len__(self) -> int:
        return sum(len(block.slots) for block in self._blocks)

    @property
    def slots(self) -> Positions:
        """All slots, in no order that says anything, int64."""
        return np.concatenate([block.slots for block in self._blocks]).astype(np.int64)


Segments = tuple[Segment, ...]


def with_segment(
    segments: Segments, slots: Positions, hashes: Words, hash_of: Callable[[Positions], Words]
) -> Segments:
    """Return segments and another one of further slots.

    A look-up visits all of them, so one that is no longer than what comes after it is made one with that: there are no
    more than doublings between the first and the last, and a slot is moved as often at the most.

    Parameters
    ----------
    segments : tuple of Segment
    slots : (n,) int64
        In none of them.
    hashes : (n,) uint64
    hash_of : callable
        From slots in the segments to their hashes, which these do not keep.
    """
    while segments and len(segments[-1]) <= len(slots):
        before = segments[-1].slots
        slots, hashes = np.concatenate([before, slots]), np.concatenate([hash_of(before), hashes])
        segments = segments[:-1]
    return (*segments, Segment(slots, hashes))


def source_hash(source: Array) -> Words:
    """Return a hash of each keyed digest, of shape (n, 16): a part of it is as good as random."""
    return np.ascontiguousarray(source).view(np.uint64)[:, 0]
