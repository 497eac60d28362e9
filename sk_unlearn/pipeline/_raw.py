"""Rows as they came to a pipeline, kept for steps that can only forget by being fitted anew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import _safe_indexing

from sk_unlearn.pipeline._leftovers import of_same_categories, without_leftovers
from sk_unlearn.rows import OutsideRows

__all__ = ["RawRows", "check_columns", "check_in_memory", "in_order", "owned_rows", "taken"]

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
        """Return the others, and nothing of these."""
        others = self.rows(np.delete(np.arange(len(self)), numbers))
        return replace(others, X=without_leftovers(others.X, taken(self.X, numbers)))

    def followed_by(self, later: RawRows) -> RawRows:
        """Return these rows and others after them."""
        params = {name: _joined(value, later.params[name]) for name, value in self.params.items()}
        return RawRows(_joined(self.X, later.X), _joined(self.y, later.y), params)

    def replaced(self, numbers: Numbers, X: Any, y: Any) -> RawRows:
        """Return the rows with new content in some places; None leaves rows or targets as they are."""
        order = np.arange(len(self))
        order[numbers] = len(self) + np.arange(len(numbers))
        new_X = self.X
        if X is not None:
            new_X = without_leftovers(taken(_joined(self.X, X), order), taken(self.X, numbers))
        new_y = self.y if y is None else taken(_joined(self.y, y), order)
        return RawRows(new_X, new_y, self.params)


def taken(table: Any, numbers: Numbers) -> Any:
    """Return some rows of a table, as a table of its own kind that shares nothing with it."""
    if isinstance(table, list | tuple):
        return [table[number] for number in numbers]
    if isinstance(table, pd.DataFrame | pd.Series):
        return table.take(numbers)
    return _safe_indexing(table, numbers)


def check_in_memory(X: Any) -> None:
    """Refuse rows that stay outside memory.

    Raises
    ------
    TypeError
    """
    if isinstance(X, OutsideRows):
        raise TypeError(
            "X stays outside memory, and steps of a pipeline are fitted on rows in memory: pass X.toarray(), or fit "
            "the last step by itself on rows that are as it takes them."
        )


def check_columns(X: Any, fitted: Any, name: str) -> None:
    """Refuse rows that cannot be any of those that ``fit`` was given, or be added to them.

    Parameters
    ----------
    X : table
        Texts and others that have no columns pass.

    fitted : object
        Knows what ``fit`` was given by ``feature_names_in_`` and ``n_features_in_``, if it had columns.

    name : str
        Of the argument.

    Raises
    ------
    ValueError
    """
    n, wanted = getattr(fitted, "n_features_in_", None), getattr(fitted, "feature_names_in_", None)
    shape = getattr(X, "shape", None)
    if n is None:
        return
    if _is_flat(X) if shape is None else len(shape) < 2:
        by_id = " Identifiers are passed as sample_id=[...]." if name == "X_del" else ""
        raise ValueError(
            f"{name} is no table, as the rows of fit were; pass one row as X.iloc[[i]] or X[i : i + 1].{by_id}"
        )
    if shape is None:
        return
    given, known = _names(X), None if wanted is None else set(wanted)
    if given is not None and known is not None and given != known:
        raise ValueError(
            f"{name} has other columns than the rows of fit: {len(known - given)} of those are absent"
            f"{_some(known - given)}, and {len(given - known)} are new{_some(given - known)}. Pass all columns "
            "that fit was given, and neither the target nor identifiers."
        )
    if shape[1] != n:
        raise ValueError(
            f"{name} has {shape[1]} features, but {type(fitted).__name__} is expecting {n} features as input."
        )
    if (given is None) != (known is None):
        has, had = ("none", "some") if given is None else ("some", "none")
        raise ValueError(f"Columns of {name} have names: {has}; those of fit had: {had}. Pass rows as they came.")


def _is_flat(X: Any) -> bool:
    """Whether what has no shape is a single value, or a list of such, rather than a list of rows."""
    if isinstance(X, list | tuple):
        return bool(X) and all(np.ndim(each) == 0 and not isinstance(each, dict) for each in X[:10])
    return not hasattr(X, "__len__") or isinstance(X, str | bytes)


def _some(names: set[str]) -> str:
    """Return the first names in parentheses, or nothing where there are none."""
    return f" ({', '.join(sorted(names)[:5])})" if names else ""


def in_order(X: Any, fitted: Any) -> Any:
    """Return a data frame with its columns in the order that ``fit`` was given them in; others as they are."""
    wanted, given = getattr(fitted, "feature_names_in_", None), getattr(X, "columns", None)
    if wanted is None or given is None or list(given) == list(wanted) or sorted(map(str, given)) != sorted(wanted):
        return X
    return X[list(wanted)]


def _names(X: Any) -> set[str] | None:
    names = set(getattr(X, "columns", ()))
    return names if names and all(isinstance(name, str) for name in names) else None


def owned_rows(table: Any) -> Any:
    """Return a table that does not change with the one that was given; lists of rows become arrays where they can."""
    if isinstance(table, pd.DataFrame | pd.Series):
        table = table.copy()
        table.attrs = {}  # of these nobody knows what they say of rows
        return table
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
    first, second = of_same_categories(first, second)
    if isinstance(first, pd.DataFrame):
        return pd.concat([first, pd.DataFrame(second, columns=None if hasattr(second, "columns") else first.columns)])
    if isinstance(first, pd.Series):
        return pd.concat([first, pd.Series(second)])
    if sparse.issparse(first):
        return sparse.vstack([first, second], format="csr")
    if hasattr(first, "vstack"):
        return first.vstack(second.select(first.columns))
    return np.concatenate([first, np.asarray(second)])
