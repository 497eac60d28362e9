"""Rows whatever they are stored as: some of them, some after others, and some in place of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import _safe_indexing
from torch.utils.data import Dataset, IterableDataset, Subset

from sk_unlearn.rows.items import DatasetItems
from sk_unlearn.rows.mapped import mapped_file, npy_file
from sk_unlearn.rows.outside import OutsideRows
from sk_unlearn.rows.parts import as_records, has_parts, parts_in
from sk_unlearn.rows.sparse_rows import SparseRows
from sk_unlearn.rows.storage import RowStorage, dense
from sk_unlearn.utils._journal import Assignment

__all__ = [
    "as_rows",
    "emptied",
    "joined",
    "open_rows",
    "outside_rows",
    "overwritten",
    "replaced",
    "rows_given",
    "rows_kept",
    "taken",
]


def as_rows(values: Any) -> Any:
    """Return rows as they can be stored: sparse ones in canonical form, those kept outside as they are, or an array."""
    if issparse(values) or isinstance(values, SparseRows):
        return SparseRows(values)
    return values if isinstance(values, RowStorage) else np.asarray(values)


def open_rows(source: Any, *, name: str | None = None) -> OutsideRows:
    """Return rows that stay where they are, to be given to ``fit``, ``predict`` and requests, and are read in parts.

    Parameters
    ----------
    source : str, path-like, or torch.utils.data.Dataset
        The path of a ``.npy`` file of real numbers, with one row along its first axis for each sample. Where the
        address space has no room for the whole file, as under ``RLIMIT_AS``, rows are read from it by themselves; else
        they are what ``numpy.load(path, mmap_mode="r")`` gives. Or a data set with a length, whose items are (x, y) or
        x, with x a tensor or array of numbers, and the same whenever they are asked for; the targets are given to
        ``fit`` as y.
    name : str, optional
        What receipts call it. Default: the path, or the class of the data set.

    Returns
    -------
    rows : OutsideRows
        ``shape`` and ``dtype`` are those of the file, or of the first item.

    Raises
    ------
    ValueError
        If it holds anything else, or items change.

    TypeError
        For a data set without a length.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from sk_unlearn.rows import open_rows
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name) / "rows.npy"
    >>> np.save(path, np.arange(6.0).reshape(3, 2))
    >>> rows = open_rows(path)
    >>> rows
    OutsideRows(3 rows of 2 float64)
    >>> rows[1:].toarray()
    array([[2., 3.],
           [4., 5.]])
    >>> folder.cleanup()
    """
    if not isinstance(source, Dataset):
        return OutsideRows(npy_file(source, name))
    if isinstance(source, IterableDataset) or not hasattr(source, "__len__"):
        raise TypeError(
            f"source is a {type(source).__name__}, which has no length: rows that stay in it must have numbers; pass a "
            "data set with __len__ and __getitem__."
        )
    return OutsideRows(DatasetItems(source, name or f"data set {type(source).__name__}"))


def outside_rows(values: Any) -> OutsideRows | None:
    """Return rows that stay where they are, such as an array that is mapped from a file; None for all others."""
    if isinstance(values, OutsideRows):
        return values
    file = mapped_file(values)
    return None if file is None else OutsideRows(file)


def rows_given(values: Any) -> Any:
    """Return rows as an array, sparse rows, or records where they have parts, so that numbers pick some of them."""
    parts = parts_in(values)
    return as_rows(values) if parts is None else as_records({name: np.asarray(part) for name, part in parts.items()})


def rows_kept(values: Any) -> Any:
    """Return rows so that `taken` picks some: data frames as they are, whose columns have names; others as an array."""
    return values if hasattr(values, "columns") and hasattr(values, "dtypes") else rows_given(values)


def taken(values: Any, numbers: Any) -> Any:
    """Return some rows, in the form in which they were given: an array, a table, a sparse matrix, parts, or a list."""
    if issparse(values):
        return values.tocsr()[numbers]
    if isinstance(values, Mapping):
        return {name: taken(part, numbers) for name, part in values.items()}
    if isinstance(values, tuple):
        return tuple(taken(part, numbers) for part in values)
    if isinstance(values, RowStorage) or has_parts(values):
        return values[numbers]
    if isinstance(values, Dataset):
        return Subset(values, np.arange(len(values))[numbers].tolist())  # type: ignore[arg-type]
    return _safe_indexing(values, numbers)


def joined(first: Any, second: Any) -> Any:
    """Return rows and, after them, others, which come to the kind and data type of the first."""
    if isinstance(first, RowStorage):
        return first.followed_by(second)
    return np.concatenate([first, dense(second)])


def replaced(rows: Any, at: Any, values: Any) -> Any:
    """Return a copy of rows in which some are others, of the same data type."""
    if isinstance(rows, RowStorage):
        return rows.with_rows(at, values)
    copy = rows.copy()
    copy[at] = dense(values)
    return copy


def emptied(column: Any, slots: Any) -> Assignment:
    """Return the assignment that leaves zeros in some slots of a column, whoever holds the column."""
    if isinstance(column, RowStorage):
        return column.change(slots)
    return column, slots, np.zeros((), column.dtype)[()]


def overwritten(column: Any, slots: Any, values: Any) -> Assignment:
    """Return the assignment that puts other rows, of the column's kind and data type, into some slots of it."""
    if isinstance(column, RowStorage):
        return column.change(slots, values)
    return column, slots, values
