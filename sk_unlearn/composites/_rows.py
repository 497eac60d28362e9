"""Rows on their way through a composite: as they look at one place in it, and which of the rows asked for they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils.validation import _num_samples

from sk_unlearn.estimators.lookup import codes_of
from sk_unlearn.rows import SparseRows
from sk_unlearn.rows.storage import dense

__all__ = ["Change", "Rows", "array_of", "encoded", "in_memory", "once", "same"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows, or nothing where a request names identifiers only.

    Attributes
    ----------
    X, y : array-like or None
        As the part at this place is given them.

    index : ndarray of int64 or None
        Their numbers among the rows asked for; None where these are all and in order.

    weight : array-like or None
        Sample weights, of retained rows.

    rounded : bool
        Whether a step has computed them, which may round a few rows otherwise than it rounded all of them.

    lost : str
        Why the rows cannot be told at this place; empty where they can.
    """

    X: Any = None
    y: Any = None
    index: NDArray[np.int64] | None = None
    weight: Any = None
    rounded: bool = False
    lost: str = ""

    def __len__(self) -> int:
        return 0 if self.X is None else int(_num_samples(self.X))

    def numbers(self) -> NDArray[np.int64]:
        """Return the numbers of these rows among the rows asked for."""
        return np.arange(len(self)) if self.index is None else self.index

    def take(self, mask: NDArray[np.bool_]) -> Rows:
        """Return the rows of a mask."""
        if mask.all():
            return self
        at = np.flatnonzero(mask)
        parts: dict[str, Any] = {
            name: None if values is None else _safe_indexing(values, at)
            for name, values in (("X", self.X), ("y", self.y), ("weight", self.weight))
        }
        return replace(self, index=self.numbers()[mask], **parts)


# What becomes of rows between a composite and one of its parts.
Change = Callable[[Rows], Rows]


def same(rows: Rows) -> Rows:
    """Change nothing."""
    return rows


def once(change: Change) -> Change:
    """Carry out a change once for the same rows: parts that are given the same share one object."""
    done: dict[int, tuple[Rows, Rows]] = {}

    def changed(rows: Rows) -> Rows:
        if id(rows) not in done:
            done[id(rows)] = rows, change(rows)  # the first is kept, so that no other object gets its id
        return done[id(rows)][1]

    return changed


def in_memory(X: Any) -> Any:
    """Return rows as scikit-learn takes them, whatever this package stores them as."""
    return X.csr if isinstance(X, SparseRows) else dense(X)


def array_of(X: Any, dtype: Any = "numeric") -> Any:
    """Return a table as the array, or the sparse matrix, that scikit-learn makes of it before it hands it on."""
    return check_array(X, accept_sparse=True, dtype=dtype, ensure_all_finite=False, allow_nd=True, ensure_min_samples=0)


def encoded(classes: NDArray[Any]) -> Change:
    """Return the change from labels to class numbers; rows with other labels cannot have been learnt, and drop out."""

    def change(rows: Rows) -> Rows:
        if rows.y is None:
            return rows
        codes = codes_of(classes, rows.y)
        return replace(rows, y=codes).take(codes >= 0)

    return once(change)
