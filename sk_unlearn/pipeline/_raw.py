"""Rows as they came to a pipeline, kept for steps that can only forget by being fitted anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import _safe_indexing

__all__ = ["RawRows", "owned_rows", "taken"]

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class RawRows:
    """Rows as they came, in the order in which the last step stores what became of them.

    Attributes
    ----------
    X : table of n rows
        A data frame, an array, a sparse matrix or a list.

    y : ndarray of shape (n,) or (n, n_targets)
        Targets as they came.

    params : dict of str to ndarray
        Parameters of ``fit`` with one value for each row.
    """

    X: Any
    y: Any
    params: dict[str, Any]

    def __len__(self) -> int:
        return len(self.y)

    def rows(self, numbers: Numbers) -> RawRows:
        """Return some of the rows."""
        params = {name: taken(value, numbers) for name, value in self.params.items()}
        return RawRows(taken(self.X, numbers), taken(self.y, numbers), params)

    def without(self, numbers: Numbers) -> RawRows:
        """Return the others."""
        return self.rows(np.delete(np.arange(len(self)), numbers))

    def followed_by(self, later: RawRows) -> RawRows:
        """Return these rows and others after them."""
        params = {name: _joined(value, later.params[name]) for name, value in self.params.items()}
        return RawRows(_joined(self.X, later.X), _joined(self.y, later.y), params)

    def replaced(self, numbers: Numbers, X: Any, y: Any) -> RawRows:
        """Return the rows with new content in some places; None leaves rows or targets as they are."""
        order = np.arange(len(self))
        order[numbers] = len(self) + np.arange(len(numbers))
        new_X = self.X if X is None else taken(_joined(self.X, X), order)
        new_y = self.y if y is None else taken(_joined(self.y, y), order)
        return RawRows(new_X, new_y, self.params)


def taken(table: Any, numbers: Numbers) -> Any:
    """Return some rows of a table, as a table of its own kind that shares nothing with it."""
    if isinstance(table, list | tuple):
        return [table[number] for number in numbers]
    if isinstance(table, pd.DataFrame | pd.Series):
        return table.take(numbers)
    return _safe_indexing(table, numbers)


def owned_rows(table: Any) -> Any:
    """Return a table that does not change with the one that was given; lists of rows become arrays where they can."""
    if isinstance(table, pd.DataFrame | pd.Series):
        return table.copy()
    if sparse.issparse(table):
        return table.tocsr(copy=True)
    if isinstance(table, list | tuple):
        return list(table)
    if hasattr(table, "clone"):  # polars; never changed in place
        return table.clone()
    return np.array(table)


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, list | tuple):
        return [*first, *second]
    if isinstance(first, pd.DataFrame):
        return pd.concat([first, pd.DataFrame(second, columns=None if hasattr(second, "columns") else first.columns)])
    if isinstance(first, pd.Series):
        return pd.concat([first, pd.Series(second)])
    if sparse.issparse(first):
        return sparse.vstack([first, second], format="csr")
    if hasattr(first, "vstack"):
        return first.vstack(second)
    return np.concatenate([first, np.asarray(second)])
