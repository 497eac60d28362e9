"""The content of rows, whatever they are stored as: a hash of it, and whether two rows have the same."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows.outside import OutsideRows
from sk_unlearn.rows.parts import fields, has_parts
from sk_unlearn.rows.sparse_rows import SparseRows
from sk_unlearn.rows.spread import SpreadRows
from sk_unlearn.rows.storage import dense

__all__ = [
    "as_words",
    "chunks",
    "content_hash",
    "count_distinct",
    "group_content",
    "group_rows",
    "numbered",
    "row_bytes",
    "row_hash",
    "row_size",
    "same_content",
]

Array = NDArray[Any]
Positions = NDArray[np.int64]
Mask = NDArray[np.bool_]
Words = NDArray[np.uint64]

# Content is hashed and compared piece by piece, so that neither needs memory that grows with the rows held.
_CHUNK_BYTES = 1 << 20


def as_words(rows: Any) -> Words:
    """Rows as uint64 words that are equal where, and only where, the rows are: (n, ...) to (n, n_words).

    Parts stand side by side, and sparse rows become dense. -0.0 becomes 0.0 and every NaN the same NaN: the sign of a
    zero and the payload of a NaN are no content.
    """
    if has_parts(rows):
        return np.concatenate([as_words(part) for part in fields(rows)], axis=1)
    rows = dense(rows)
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


def content_hash(rows: Any) -> Words:
    """Hash rows, (n,) uint64: equal rows have equal hashes; of sparse ones only the numbers that are not zero cost."""
    if isinstance(rows, SpreadRows):
        return rows.each_by_its_holder(content_hash)
    if isinstance(rows, OutsideRows):
        parts = [row_hash(as_words(rows[part])) for part in chunks(len(rows), row_bytes(rows))]
        return np.concatenate([np.empty(0, np.uint64), *parts])
    if not isinstance(rows, SparseRows):
        return row_hash(as_words(rows))
    values = rows.csr.data
    wide = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    if wide.dtype.kind == "f":
        wide[np.isnan(wide)] = np.nan
    halves = wide.view(np.uint32).astype(np.uint64).reshape(-1, 2)
    products = (halves * _multipliers(2 * rows.shape[1]).reshape(-1, 2)[rows.csr.indices]).sum(axis=1)
    # Differences of sums, modulo 2^64 too.
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(products, dtype=np.uint64)])
    hashes: Words = sums[rows.csr.indptr[1:]] - sums[rows.csr.indptr[:-1]]
    return hashes


def same_content(a: Any, b: Any) -> Mask:
    """Tell row by row whether two sets of rows of one kind and data type are equal, (n,) bool."""
    if isinstance(a, SparseRows):
        return a.equals(b)
    same: Mask = (as_words(a) == as_words(b)).all(axis=1)
    return same


def group_content(rows: Any) -> tuple[Positions, Positions]:
    """Group equal rows: the first row of each group, and the group of each row."""
    if isinstance(rows, OutsideRows):
        return _group_outside(rows)
    if not isinstance(rows, SparseRows):
        return group_rows(as_words(rows))
    _, first, group = np.unique(content_hash(rows), return_index=True, return_inverse=True)
    if same_content(rows, rows[first[group]]).all():
        return first, group
    csr = rows.csr  # two contents share a hash: group by content itself
    bounds = zip(csr.indptr[:-1], csr.indptr[1:], strict=True)
    as_bytes = [csr.indices[start:stop].tobytes() + csr.data[start:stop].tobytes() for start, stop in bounds]
    _, first, group = np.unique(np.array(as_bytes, dtype=object), return_index=True, return_inverse=True)
    return first, group


def _group_outside(rows: OutsideRows) -> tuple[Positions, Positions]:
    """Do the same a few rows at a time."""
    _, first, group = np.unique(content_hash(rows), return_index=True, return_inverse=True)
    parts = chunks(len(rows), row_bytes(rows))
    if all(same_content(rows[part], rows[first[group[part]]]).all() for part in parts):
        return first, group
    return group_rows(as_words(rows))  # two contents share a hash, which happens to hardly anybody


def group_rows(words: Words) -> tuple[Positions, Positions]:
    """Group equal rows: the first row of each group, and the group of each row."""
    _, first, group = np.unique(row_hash(words), return_index=True, return_inverse=True)
    if not np.array_equal(words, words[first[group]]):  # two contents share a hash: group by content itself
        as_bytes = np.ascontiguousarray(words).view(np.dtype((np.void, words.shape[1] * 8)))[:, 0]
        _, first, group = np.unique(as_bytes, return_index=True, return_inverse=True)
    return first, group


def numbered(*columns: Any) -> Positions:
    """Return a number for each row that is the same for rows which are equal in all columns, and for no others."""
    numbers = [group_content(column)[1].reshape(-1) for column in columns]
    if len(numbers) == 1:
        return numbers[0]
    return np.unique(np.column_stack(numbers), axis=0, return_inverse=True)[1].reshape(-1)


def count_distinct(*columns: Any) -> int:
    """Count the rows that differ from all before them.

    Parameters
    ----------
    *columns : (n, ...) array or SparseRows
        Boolean, integer, float or complex; of equal rows all columns are equal.

    Returns
    -------
    n_distinct : int
        The sign of a zero and the payload of a NaN do not count.
    """
    return len(np.unique(numbered(*columns)))


def row_size(rows: Any) -> int:
    """Return how many numbers a row has, zeros included; one of several parts counts as one."""
    return int(np.prod(rows.shape[1:], dtype=np.int64))


def chunks(n: int, row_bytes: int) -> Iterator[slice]:
    """Give slices of so many rows as take about a megabyte."""
    step = max(1, _CHUNK_BYTES // row_bytes)
    return (slice(start, start + step) for start in range(0, n, step))


def row_bytes(rows: Any) -> int:
    """Return the bytes that a row takes, on average."""
    if isinstance(rows, SparseRows):
        return 1 + rows.csr.nnz * (rows.dtype.itemsize + rows.csr.indices.itemsize) // max(1, len(rows))
    return row_size(rows) * int(rows.dtype.itemsize)
