"""Keyed digests of raw rows and of identifiers, and finding rows by them.

A digest stands for a row, or for whose row it is, where neither must be kept: in a receipt, in an index beside a
pipeline. Without the key nobody can tell which row it is of. A plain hash would not do: whoever guesses a row can hash
the guess.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_unlearn.rows._blocks import Block, blocks_of, cast_table, shape_of, stacked
from sk_unlearn.rows._canonical import Tag, encoded
from sk_unlearn.rows._cells import array_cells
from sk_unlearn.rows._identifiers import as_column, listed_ids
from sk_unlearn.rows.content import Array, Mask, Positions

__all__ = ["DigestIndex", "DigestMatch", "digest_each", "digest_ids", "digest_rows", "new_key"]

Digests = NDArray[np.uint8]

_KEY_BYTES, _DIGEST_BYTES = 32, 16
# Rows are digested a batch at a time, so that memory does not grow with their number.
_BATCH_VALUES = 1 << 19
_BATCH_DIGESTS = 1 << 12


def new_key() -> bytes:
    """Return a fresh secret key of 32 bytes, from the random source of the operating system."""
    return secrets.token_bytes(_KEY_BYTES)


def digest_ids(key: bytes, ids: Iterable[Any]) -> Digests:
    """Return a keyed digest of each identifier.

    Parameters
    ----------
    key : bytes
        At most 64 of them; see :func:`new_key`.
    ids : one-dimensional array or iterable of hashable objects
        Equality is Python's: 1, 1.0 and True have one digest, 1 and "1" have two.

    Returns
    -------
    digests : (n, 16) uint8

    Raises
    ------
    ValueError
        If they are not in a one-dimensional container, or one is missing or cannot be hashed.
    """
    column = as_column(listed_ids(ids))
    cells = array_cells(key, column, dates_apart=True)
    ones = Block(b"", (), len(column), lambda _, rows: _flat(cells.at(np.arange(len(column))[rows])))
    return _digest(key, [ones], b"sk_unlearn id")


def _flat(cells: Any) -> Any:
    return np.zeros(len(cells.word), np.uint64), np.ones(len(cells.word), np.int64), cells


def digest_rows(key: bytes, X: Any, dtype: Any = None) -> Digests:
    """Return a keyed digest of each row of a table: the same for equal content, whatever holds it.

    Parameters
    ----------
    key : bytes
        At most 64 of them; see :func:`new_key`.
    X : table of n rows
        A data frame of pandas or polars, whose columns may come in any order; an array of any shape and data type,
        structured ones as data frames; a sparse matrix; a mapping, or tuple, of arrays; a list of rows, of texts or of
        other values; a column of texts.
    dtype : data type, or mapping from columns to data types, optional
        What numbers are cast to first. Columns of data frames lose their names.

    Returns
    -------
    digests : (n, 16) uint8
        BLAKE2b with the key.

    Raises
    ------
    ValueError
        If columns are not of one length, or values cannot be cast.
    TypeError
        If a value cannot be told by its content.

    Notes
    -----
    Numbers are equal as in Python: the column of integers that became floats because of a missing value elsewhere has
    the digests it had, and so have a category and its text. All kinds of missing (None, NaN, NaT, NA) are one, and a
    date is its midnight. Names of columns count, and the shape of a row.
    """
    if dtype is not None:
        X = cast_table(X, dtype)
    if isinstance(X, list):
        return _digest_list(key, X)
    if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1:
        return _digest_list(key, X.tolist())
    return _digest(key, blocks_of(X), b"sk_unlearn row")


def _digest_list(key: bytes, rows: list[Any]) -> Digests:
    """Digest a list row by row: how long a row is must not depend on the other rows."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for i, row in enumerate(rows):
        shapes.setdefault(shape_of(row), []).append(i)
    digests = np.empty((len(rows), _DIGEST_BYTES), dtype=np.uint8)
    for shape, at in shapes.items():
        values = stacked([rows[i] for i in at], shape)
        digests[at] = _digest(key, blocks_of(values), b"sk_unlearn row")
    return digests


def _digest(key: bytes, blocks: list[Block], domain: bytes) -> Digests:
    """Digest the rows that blocks make up.

    The message of a row are its values in the order of their places, each as its place and what it is (a word) and its
    content (a word, or two). Zeros are left out, so that sparse rows cost what they hold.
    """
    layout = b"".join(encoded((block.name, block.shape)) for block in blocks)
    keyed = blake2b(key=key, digest_size=_DIGEST_BYTES, person=domain)
    keyed.update(blake2b(layout, digest_size=_DIGEST_BYTES).digest())
    n = blocks[0].n_rows if blocks else 0
    n_values = sum(int(np.prod(block.shape, dtype=np.int64)) for block in blocks)
    step = max(1, _BATCH_VALUES // max(1, n_values))
    digests = [_digest_batch(key, keyed, blocks, slice(at, min(at + step, n))) for at in range(0, n, step)]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(n, _DIGEST_BYTES).copy()


def _digest_batch(key: bytes, keyed: Any, blocks: list[Block], rows: slice) -> bytes:
    n = rows.stop - rows.start
    parts, first = [], 0
    for block in blocks:
        place, counts, cells = block.entries(key, rows)
        row = np.repeat(np.arange(n), counts)
        head = ((place + np.uint64(first)) << np.uint64(8)) | cells.tag
        told = (cells.tag != Tag.NUMBER) | (cells.word != 0)
        parts.append((row[told], head[told], cells.word[told]))
        if cells.rest is not None:
            long = cells.tag == Tag.HASHED
            parts.append((row[long], head[long] + np.uint64(1), cells.rest[long]))
        first += int(np.prod(block.shape, dtype=np.int64))
    per_row = [np.bincount(row, minlength=n) for row, _, _ in parts]
    total = np.sum(per_row, axis=0, dtype=np.int64)
    ends = np.cumsum(total)
    message = np.empty((int(ends[-1]), 2), dtype="<u8")
    begins = ends - total
    free = begins.copy()  # where the next value of each row goes
    for (row, head, word), count in zip(parts, per_row, strict=True):
        at = np.arange(len(row)) + np.repeat(free - (np.cumsum(count) - count), count)
        message[at, 0], message[at, 1] = head, word
        free += count
    return digest_each(keyed, memoryview(message.tobytes()), (begins * 16).tolist(), (ends * 16).tolist())


def digest_each(keyed: Any, content: memoryview, begins: Sequence[int], ends: Sequence[int]) -> bytes:
    """Return, one after the other, the digests of many pieces of one content.

    A digest takes a call each: a loop of Python's own around them would take as long again.

    Parameters
    ----------
    keyed : object of hashlib
        That knows the key, and what all pieces have before them.
    content : memoryview of bytes
    begins, ends : (n,) sequences of int
        Where each piece begins and ends.
    """
    kind, found = type(keyed), []
    for at in range(0, len(begins), _BATCH_DIGESTS):
        some = slice(at, at + _BATCH_DIGESTS)
        each = [keyed.copy() for _ in begins[some]]
        deque(map(kind.update, each, map(content.__getitem__, map(slice, begins[some], ends[some]))), maxlen=0)
        found.append(b"".join(map(kind.digest, each)))
    return b"".join(found)


# --------------------------------------------------------------------------------------------------------- finding rows


class DigestMatch(NamedTuple):
    """Which rows have which of the digests asked for; what `DigestIndex.find` returns."""

    positions: Positions
    """All copies, ascending, each once, int64."""
    query_index: Positions
    """For each of them the first digest asked for that it has, int64."""
    found: Mask
    """(n_query,) whether any row has it."""


class DigestIndex:
    """Rows by their digests. It never changes: `without` and `append` make another.

    Parameters
    ----------
    digests : (n, 16) uint8
        Of the rows, in their order; see :func:`digest_rows`.
    positions : (n,) int64, optional
        What the rows are called; default: 0 to n - 1.

    Notes
    -----
    The digests are kept sorted, 16 bytes a row and 8 for its position; nothing else. Of a row that was taken out
    nothing is left.
    """

    def __init__(self, digests: Digests, positions: ArrayLike | None = None) -> None:
        words = _as_words(digests)
        numbers = np.arange(len(words)) if positions is None else np.asarray(positions, dtype=np.int64)
        if len(numbers) != len(words):
            raise ValueError(f"positions must have {len(words)} entries, one for each digest, got {len(numbers)}")
        order = np.lexsort((numbers, words[:, 1], words[:, 0]))
        self._words, self._positions = words[order], numbers[order]

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def positions(self) -> Positions:
        """What the rows are called, ascending."""
        return np.sort(self._positions)

    @property
    def digests(self) -> Digests:
        """The digests in the order of positions, (n, 16) uint8."""
        return self._words[np.argsort(self._positions)].astype("<u8").view(np.uint8)

    def find(self, digests: Digests) -> DigestMatch:
        """Find every row that has one of the digests; unknown ones raise nothing.

        Parameters
        ----------
        digests : (n_query, 16) uint8

        Returns
        -------
        match : DigestMatch
        """
        asked = _as_words(digests)
        begin = np.searchsorted(self._words[:, 0], asked[:, 0], side="left")
        count = np.searchsorted(self._words[:, 0], asked[:, 0], side="right") - begin
        owner = np.repeat(np.arange(len(asked)), count)
        entries = np.arange(len(owner)) + np.repeat(begin - (np.cumsum(count) - count), count)
        same = self._words[entries, 1] == asked[owner, 1]
        entries, owner = entries[same], owner[same]
        found = np.zeros(len(asked), dtype=bool)
        found[owner] = True
        positions, first = np.unique(self._positions[entries], return_index=True)
        return DigestMatch(positions, owner[first], found)

    def without(self, positions: ArrayLike, *, renumber: bool = False) -> DigestIndex:
        """Return the index of the other rows.

        Parameters
        ----------
        positions : (m,) int64
            Of rows to take out; those that are not in here do not matter.
        renumber : bool, default=False
            Whether the others close up, as the rows of an array do that others are deleted from; else they keep their
            positions.

        Returns
        -------
        index : DigestIndex
        """
        gone = np.unique(np.asarray(positions, dtype=np.int64))
        kept = ~np.isin(self._positions, gone)
        rest = self._positions[kept]
        return self._of(self._words[kept], rest - np.searchsorted(gone, rest) if renumber else rest)

    def append(self, digests: Digests, positions: ArrayLike | None = None) -> DigestIndex:
        """Return the index with further rows.

        Parameters
        ----------
        digests : (m, 16) uint8
        positions : (m,) int64, optional
            What they are called; default: the numbers after the highest so far.

        Returns
        -------
        index : DigestIndex
        """
        first = int(self._positions.max(initial=-1)) + 1
        new = DigestIndex(digests, np.arange(len(digests)) + first if positions is None else positions)
        at = np.searchsorted(self._words[:, 0], new._words[:, 0], side="right")
        # Two rows of one first word and another second one may come in any order: both are looked at.
        return self._of(np.insert(self._words, at, new._words, axis=0), np.insert(self._positions, at, new._positions))

    @classmethod
    def _of(cls, words: Array, positions: Positions) -> DigestIndex:
        index = object.__new__(cls)
        index._words, index._positions = words, positions
        return index

    def __repr__(self) -> str:
        return f"DigestIndex({len(self)} rows)"


def _as_words(digests: Digests) -> NDArray[np.uint64]:
    given = np.ascontiguousarray(digests)
    if given.dtype != np.uint8 or given.ndim != 2 or given.shape[1] != _DIGEST_BYTES:
        raise ValueError(f"digests must be a uint8 array of shape (n, 16), got {given.dtype} of shape {given.shape}")
    return given.view("<u8").astype(np.uint64)
