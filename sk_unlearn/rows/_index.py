"""Find rows by content: content as words, a hash of it, and slots grouped by the hash."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Positions = NDArray[np.int64]
Mask = NDArray[np.bool_]
Words = NDArray[np.uint64]

# Content is hashed and compared piece by piece, so that neither needs memory that grows with the rows held.
_CHUNK_BYTES = 1 << 20


def as_words(rows: Array) -> Words:
    """Rows as uint64 words that are equal where, and only where, the rows are: (n, ...) to (n, n_words).

    -0.0 becomes 0.0 and every NaN the same NaN: the sign of a zero and the payload of a NaN are no content.
    """
    flat = rows.reshape(len(rows), row_size(rows))
    if flat.dtype.kind == "c":
        flat = np.ascontiguousarray(flat).view(flat.real.dtype)
    words = np.zeros((len(flat), -(-flat.shape[1] * flat.itemsize // 8)), dtype=np.uint64)
    content = words.view(flat.dtype)[:, : flat.shape[1]]
    if flat.dtype.kind == "f":
        np.add(flat, 0.0, out=content)
        missing = np.isnan(content)
        if missing.any():
            content[missing] = np.nan
    else:
        content[...] = flat
    return words


@lru_cache(maxsize=32)
def _multipliers(n: int) -> Words:
    return np.random.default_rng(20240229).integers(1 << 64, size=n, dtype=np.uint64)


def row_hash(words: Words) -> Words:
    """Hash (n, n_words) words to (n,) uint64.

    The sum, modulo 2^64, of the 32-bit halves times random 64-bit numbers. Halves, because with whole words two sign
    flips (the highest bit times any odd number is itself) would cancel wherever they are; so the highest 33 bits, from
    which the bucket is taken, agree for *any* two rows by chance only (Multilinear in Kaser and Lemire 2014, "Strongly
    universal string hashing is fast"). Every match is verified on content: a collision costs time and is never a wrong
    answer.
    """
    halves = words.view(np.uint32).astype(np.uint64)
    return halves @ _multipliers(halves.shape[1])


def id_hash(ids: Iterable[Any], n: int) -> Words:
    # Python's own hash, since 1, 1.0 and np.int64(1) must be one id whatever dtype they come in.
    return row_hash(np.fromiter(map(hash, ids), dtype=np.int64, count=n).view(np.uint64)[:, None])


def group_rows(words: Words) -> tuple[Positions, Positions]:
    """Group equal rows: the first row of each group, and the group of each row."""
    _, first, group = np.unique(row_hash(words), return_index=True, return_inverse=True)
    if not np.array_equal(words, words[first[group]]):  # two contents share a hash: group by content itself
        as_bytes = np.ascontiguousarray(words).view(np.dtype((np.void, words.shape[1] * 8)))[:, 0]
        _, first, group = np.unique(as_bytes, return_index=True, return_inverse=True)
    return first, group


def count_distinct(rows: Array) -> int:
    """Count the rows that differ from all before them.

    Parameters
    ----------
    rows : (n, ...) array
        Boolean, integer, float or complex.

    Returns
    -------
    n_distinct : int
        The sign of a zero and the payload of a NaN do not count.
    """
    return len(group_rows(as_words(rows))[0])


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


def row_size(rows: Array) -> int:
    return int(np.prod(rows.shape[1:], dtype=np.int64))


def chunks(n: int, row_bytes: int) -> Iterator[slice]:
    step = max(1, _CHUNK_BYTES // row_bytes)
    return (slice(start, start + step) for start in range(0, n, step))
