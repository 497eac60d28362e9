"""Raw tables of any kind as named blocks of cells: data frames, arrays, sparse matrices, mappings of arrays, lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from sk_unlearn.rows._canonical import encoded
from sk_unlearn.rows._cells import Cells, array_cells, series_cells
from sk_unlearn.rows._index import Array

__all__ = ["Block", "blocks_of", "cast_table"]


class Block(NamedTuple):
    """A column, or an array with several values a row.

    Attributes
    ----------
    name : bytes
        As in the canonical writing; empty where columns have no names.
    shape : tuple of int
        Of one row.
    n_rows : int
    entries : callable
        From a key and a slice of rows to the places of values, how many each row has, and their cells. Values may be
        left out where they are zero.
    """

    name: bytes
    shape: tuple[int, ...]
    n_rows: int
    entries: Callable[[bytes, slice], tuple[Array, Array, Cells]]


def cast_table(X: Any, dtype: Any) -> Any:
    """Return rows in another data type; of a mapping, each column.

    Raises
    ------
    ValueError
        Where that is not possible.
    """
    if isinstance(X, Mapping):
        dtypes = dtype if isinstance(dtype, Mapping) else dict.fromkeys(X, dtype)
        return {name: cast_table(part, dtypes[name]) for name, part in X.items()}
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            if sparse.issparse(X):
                return X.astype(dtype)
            return np.asarray(X.detach().cpu() if hasattr(X, "detach") else X).astype(dtype)
    except (TypeError, ValueError):  # which would quote a value
        raise ValueError(f"X holds values that cannot be cast to {dtype}; give the rows as they are stored") from None


def blocks_of(X: Any) -> list[Block]:
    """Return the blocks of a table, in an order that does not depend on that of its columns.

    Parameters
    ----------
    X : object
        See :func:`~sk_unlearn.rows.digests.digest_rows`. A list is not taken here.

    Raises
    ------
    ValueError
        If columns are not of one length.
    """
    if isinstance(X, Mapping):
        named = [(encoded(name), part) for name, part in X.items()]
    elif isinstance(X, tuple):
        named = [(encoded(i), part) for i, part in enumerate(X)]
    elif hasattr(X, "columns") and hasattr(X, "iloc"):
        named = [(encoded(name), X.iloc[:, i]) for i, name in enumerate(X.columns)]
    elif hasattr(X, "get_columns"):
        named = [(encoded(column.name), column) for column in X.get_columns()]
    elif getattr(getattr(X, "dtype", None), "names", None):
        named = [(encoded(name), X[name]) for name in X.dtype.names]
    else:
        named = [(b"", X)]
    blocks = [_block(name, part) for name, part in sorted(named, key=lambda one: one[0])]
    if len({block.n_rows for block in blocks}) > 1:
        raise ValueError("the columns of X are not of one length")
    return blocks


def _block(name: bytes, part: Any) -> Block:
    if sparse.issparse(part):
        return _sparse_block(name, part)
    if hasattr(part, "detach"):
        part = part.detach().cpu()
    if hasattr(part, "to_numpy") and hasattr(part, "dtype"):  # a column of pandas or polars
        return Block(name, (), len(part), lambda key, rows: _dense(series_cells(key, part[rows]), 1))
    values = np.asarray(part)
    if values.dtype.kind not in "biufc" and not isinstance(part, np.ndarray):
        values = np.array(part, dtype=object)  # mixed values would all become texts
    if values.ndim == 0:
        raise ValueError(f"X must have rows along its first axis, got {type(part).__name__}")
    size = int(np.prod(values.shape[1:], dtype=np.int64))
    return Block(
        name,
        values.shape[1:],
        len(values),
        lambda key, rows: _dense(array_cells(key, values[rows].reshape(-1)), size),
    )


def _dense(cells: Cells, size: int) -> tuple[Array, Array, Cells]:
    n = len(cells.word) // max(size, 1)
    return np.tile(np.arange(size, dtype=np.uint64), n), np.full(n, size), cells


def _sparse_block(name: bytes, part: Any) -> Block:
    rows_first = sparse.csr_array(part, copy=True)
    rows_first.sum_duplicates()

    def entries(key: bytes, rows: slice) -> tuple[Array, Array, Cells]:
        some = rows_first[rows]
        return some.indices.astype(np.uint64), np.diff(some.indptr), array_cells(key, some.data)

    return Block(name, (part.shape[1],), part.shape[0], entries)
