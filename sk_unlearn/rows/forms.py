"""Rows whatever they are stored as: some of them, some after others, and some in place of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import _safe_indexing
from torch.utils.data import Dataset, Subset

from sk_unlearn.rows.parts import as_records, has_parts, parts_in
from sk_unlearn.rows.sparse_rows import SparseRows
from sk_unlearn.utils._journal import Assignment

__all__ = ["as_rows", "emptied", "joined", "overwritten", "replaced", "rows_given", "rows_kept", "taken"]


def as_rows(values: Any) -> Any:
    """Return rows as they can be stored: sparse ones in canonical form, all others as an array."""
    return SparseRows(values) if issparse(values) or isinstance(values, SparseRows) else np.asarray(values)


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
    if isinstance(values, SparseRows) or has_parts(values):
        return values[numbers]
    if isinstance(values, Dataset):
        return Subset(values, np.arange(len(values))[numbers].tolist())  # type: ignore[arg-type]
    return _safe_indexing(values, numbers)


def joined(first: Any, second: Any) -> Any:
    """Return rows and, after them, others, which come to the kind and data type of the first."""
    if isinstance(first, SparseRows):
        return first.followed_by(SparseRows(second, first.dtype))
    return np.concatenate([first, second.toarray() if isinstance(second, SparseRows) else second])


def replaced(rows: Any, at: Any, values: Any) -> Any:
    """Return a copy of rows in which some are others, of the same data type."""
    if isinstance(rows, SparseRows):
        return rows.with_rows(at, SparseRows(values, rows.dtype))
    copy = rows.copy()
    copy[at] = values.toarray() if isinstance(values, SparseRows) else values
    return copy


def emptied(column: Any, slots: Any) -> Assignment:
    """Return the assignment that leaves zeros in some slots of a column, whoever holds the column."""
    if isinstance(column, SparseRows):
        return vars(column), "csr", column.with_rows(slots).csr
    return column, slots, np.zeros((), column.dtype)[()]


def overwritten(column: Any, slots: Any, values: Any) -> Assignment:
    """Return the assignment that puts other rows, of the column's kind and data type, into some slots of it."""
    if isinstance(column, SparseRows):
        # A row may have another number of entries than before: all are built aside.
        return vars(column), "csr", column.with_rows(slots, values).csr
    return column, slots, values
