"""Raw tables of any kind as named blocks of cells: data frames, arrays, sparse matrices, mappings of arrays, lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from sk_unlearn.rows._canonical import encoded
from sk_unlearn.rows._cells import Cells, array_cells, series_cells
from sk_unlearn.rows.content import Array
from sk_unlearn.rows.sparse_rows import SparseRows
from sk_unlearn.rows.storage import dense

__all__ = ["Block", "blocks_of", "cast_table", "shape_of", "stacked"]


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
    X = X.csr if isinstance(X, SparseRows) else dense(X)
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
    X = X.csr if isinstance(X, SparseRows) else dense(X)
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
        at = getattr(part, "iloc", part)
        return Block(name, (), len(part), lambda key, rows: _dense(series_cells(key, at[rows]), 1))
    if isinstance(part, list | tuple):
        shapes = {shape_of(row) for row in part}
        values = stacked(list(part), shapes.pop() if len(shapes) == 1 else ())
    elif isinstance(part, np.ma.MaskedArray):
        values = np.array(part.data, dtype=object)
        values[np.ma.getmaskarray(part)] = None
    else:
        values = np.asarray(part)
    if values.ndim == 0:
        raise ValueError(
            f"Rows must come in a table, and a single value was given, of type {type(part).__name__}: put a single "
            "row into a table, such as pandas.DataFrame([row]) or, where rows are texts, [text]."
        )
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


def shape_of(row: Any) -> tuple[int, ...]:
    """Return the shape of a row of a list; () for a single value."""
    if hasattr(row, "shape"):
        return tuple(row.shape)
    if not isinstance(row, list | tuple):
        return ()
    inner = {shape_of(part) for part in row}
    return (len(row), *(inner.pop() if len(inner) == 1 else ()))


def stacked(rows: list[Any], shape: tuple[int, ...]) -> Array:
    """Return rows of one shape as an array: of numbers where that loses nothing, else of Python objects."""
    numbers = _as_numbers(rows) if shape else None
    if numbers is not None and numbers.shape == (len(rows), *shape):
        return numbers
    values = np.empty((len(rows), *shape), dtype=object)
    for at in np.ndindex(values.shape):
        one = rows
        for i in at:
            one = one[i]
        values[at] = one
    return values


def _as_numbers(rows: list[Any]) -> Array | None:
    try:
        values = np.array(rows)
    except ValueError:  # a value is a list itself
        return None
    # Beyond the integers that a double holds, NumPy would round those that stand among floats.
    whole = values.dtype.kind in "biu" or (values.dtype.kind == "f" and not (np.abs(values) >= 2.0**53).any())
    return values if whole else None
