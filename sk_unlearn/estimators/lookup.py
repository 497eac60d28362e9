"""Which of some rows a fitted estimator holds: what a request to several objects asks of each before anything moves."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from sk_unlearn.estimators._receipts import kept_ids
from sk_unlearn.estimators._request import listed
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.rows import as_identifiers, count_distinct

__all__ = [
    "Found",
    "SeveralNear",
    "at_width_of_net",
    "codes_of",
    "erased_among",
    "find_rows",
    "listed",
    "named",
    "stored_features",
    "targets_of",
]

# By how much a row may differ from itself that was transformed among others, by the bytes of a stored number: what some
# hundred products leave of its digits. Relative, as `TrainingSet.near_copies` takes it.
_ROUNDING = {4: 1e-5, 8: 1e-9}


def stored_features(estimator: Any) -> Any:
    """Return the stored rows as ``predict`` and ``forget`` take rows: without columns that have gone since ``fit``."""
    X, filled = estimator.training_set_.X, _columns_left(estimator)
    return X if filled is None else X[:, filled]


def named(estimator: Any, X: Any) -> Any:
    """Return stored features in the form that ``fit`` was given: a data frame, where it saw names of columns.

    Else estimators warn that names are missing, or that others were fitted without.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None or not isinstance(X, np.ndarray) or X.ndim != 2 or X.shape[1] != len(names):
        return X
    return pd.DataFrame(X, columns=names, copy=False)


def at_width_of_net(estimator: Any, X: Any) -> Any:
    """Return rows as they are stored, which is the way back: with zeros in columns that have gone."""
    return X if _columns_left(estimator) is None else estimator._at_width_of_net(X)


def _columns_left(estimator: Any) -> Any:
    # Estimators of others, which the same measures take, have no state of ours.
    return getattr(getattr(estimator, "unlearning_state_", None), "filled", None)


class SeveralNear(ValueError):  # noqa: N818  the name says what happened
    """A row misses several different stored ones by rounding."""


class Found(NamedTuple):
    """The rows of a request that an estimator holds."""

    positions: NDArray[np.int64]
    """Slots of their stored copies, ascending."""
    known: NDArray[np.bool_] | None = None
    """Which of the rows asked for it holds; None where none were given."""
    known_ids: NDArray[np.bool_] | None = None
    """Which of the identifiers asked for it holds; None where none were given."""
    n_rounded: int = 0
    """How many of the rows equal the stored one but for rounding."""
    n_beside: int = 0
    """How many further stored rows differ from one that was found by rounding alone, and are left."""


def find_rows(
    est: BaseUnlearnable, X: Any = None, y: Any = None, *, sample_id: Any = None, rounded: bool = False
) -> Found:
    """Find the rows of a request that an estimator holds; unknown ones raise nothing.

    Parameters
    ----------
    est : UnlearnableClassifier or UnlearnableRegressor
        Fitted, with stored rows; with stored identifiers, if `sample_id` is given.

    X, y, sample_id
        As ``forget`` takes them; X or sample_id is given.

    rounded : bool
        Whether the rows were transformed on their way, so that they may miss the stored ones by their last digit.

    Raises
    ------
    SeveralNear
        Where ``rounded``, for a row that misses several different stored ones by rounding.

    ValueError
        For rows of another shape or type than those stored.
    """
    by_id = None if sample_id is None else _by_id(est, sample_id)
    if X is None:
        assert by_id is not None
        return by_id
    found = _by_content(est, X, y, rounded)
    if by_id is None:
        return found
    positions = np.intersect1d(found.positions, by_id.positions)
    assert found.known is not None
    known = found.known if len(positions) else np.zeros_like(found.known)
    return found._replace(positions=positions, known=known, known_ids=by_id.known_ids)


def codes_of(classes: NDArray[Any], y: Any) -> NDArray[np.int64]:
    """Return the place of each label among the classes, -1 where it is none of them.

    By Python's equality, as identifiers are compared: 1 and 1.0 are one label, 1 and "1" are two.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)

    y : array-like of shape (n_rows,) or (n_rows, 1)
    """
    given = np.asarray(y, dtype=object) if isinstance(y, list | tuple) else np.asarray(y)
    code_of = {label: code for code, label in enumerate(np.asarray(classes).tolist())}
    labels: NDArray[Any] = given.reshape(-1)
    which: Any = slice(None)
    if labels.dtype.kind in "biufU":  # of many rows, each label is looked up once
        labels, which = np.unique(labels, return_inverse=True)
    codes = [code_of.get(label, -1) if isinstance(label, Hashable) else -1 for label in labels.tolist()]
    return np.array(codes, dtype=np.int64)[which]


def targets_of(est: BaseUnlearnable, y: NDArray[Any]) -> NDArray[Any]:
    """Return stored targets as ``fit`` was given them: labels, or values in their shape."""
    if est._classifier:
        labels: NDArray[Any] = vars(est)["classes_"][y.reshape(-1).astype(np.int64)]
        return labels
    return y.reshape(len(y), *vars(est)["target_shape_"])


def erased_among(
    est: BaseUnlearnable, X: Any, y: Any, positions: NDArray[np.int64], *, name: str = "retained X"
) -> NDArray[np.int64]:
    """Find the rows, meant to stay, all of whose stored copies are to be erased.

    Parameters
    ----------
    est : UnlearnableClassifier or UnlearnableRegressor

    X, y : array-like
        Rows that are meant to stay, and their targets.

    positions : ndarray of int64
        Slots to be erased.

    name : str
        What messages call X.

    Returns
    -------
    index : ndarray of int64
        Of the first of equal rows.
    """
    X_net, y_net = est._validate_request(X, y, name, name.replace("X", "y"))
    match = est.training_set_.match(X_net, y_net, name=name)
    erased = np.isin(match.positions, positions)
    # The copies of one content are all listed for the first row that equals them.
    return np.setdiff1d(match.query_index[erased], match.query_index[~erased])


def _by_id(est: BaseUnlearnable, sample_id: Any) -> Found:
    rows = est.training_set_
    given = listed(sample_id)
    # Invalid ones are an error whoever is asked.
    as_identifiers(given, len(given))
    match = rows.match_ids(kept_ids(est, given))
    return Found(match.positions, known_ids=match.known)


def _by_content(est: BaseUnlearnable, X: Any, y: Any, rounded: bool) -> Found:
    rows, n = est.training_set_, _num_samples(X)
    known = np.zeros(n, dtype=bool)
    asked = np.arange(n)
    if y is not None and est._classifier:
        asked = np.flatnonzero(codes_of(vars(est)["classes_"], y) >= 0)
        if len(asked) < n:
            X, y = _safe_indexing(X, asked), _safe_indexing(y, asked)
        if not len(asked):
            return Found(np.empty(0, dtype=np.int64), known)
    X_net, y_net = est._validate_request(X, y, "X_del", "y_del")
    match = rows.match(X_net, y_net)
    known[asked] = match.found
    if not rounded:
        return Found(match.positions, known)
    query, slots = rows.near_copies(X_net, y_net, tolerance=_ROUNDING.get(rows.raw_X.dtype.itemsize, 0.0))
    missing = ~match.found[query]
    several = [i for i in np.unique(query[missing]) if count_distinct(rows.raw_X[slots[query == i]]) > 1]
    if several:
        raise SeveralNear(
            f"X_del: {len(several)} of {n} rows miss several different stored rows by rounding alone, after the steps "
            f"before have transformed them (the first at index {asked[several[0]]}): name them by sample_id."
        )
    known[asked[query[missing]]] = True
    positions = np.union1d(match.positions, slots[missing]).astype(np.int64)
    n_beside = len(np.setdiff1d(slots, positions))
    return Found(positions, known, n_rounded=len(np.unique(query[missing])), n_beside=n_beside)
