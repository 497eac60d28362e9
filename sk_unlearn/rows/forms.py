"""Rows whatever they are stored as: some of them, some after others, and some in place of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import _safe_indexing
from torch.utils.data import Dataset, Subset

from sk_unlearn.rows.mapped import mapped_file
from sk_unlearn.rows.outside import OutsideRows
from sk_unlearn.rows.parts import as_records, has_parts, parts_in
from sk_unlearn.rows.sparse_rows import SparseRows
from sk_unlearn.rows.storage import RowStorage, dense
from sk_unlearn.utils._journal import Assignment

__all__ = [
    "as_rows",
    "emptied",
    "joined",
    "outside_rows",
    "overwriting_outside",
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


def overwriting_outside(column: Any, slots: Any, values: Any = None) -> list[Assignment]:
    """Return the assignments that leave zeros outside, where rows that are emptied or overwritten were."""
    return column.overwriting(column.freed(slots, values)) if isinstance(column, OutsideRows) else []
