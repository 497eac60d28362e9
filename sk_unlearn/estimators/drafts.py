"""Requests worked out aside, for whoever changes an estimator together with other objects, or finds its rows itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.utils import _safe_indexing

from sk_unlearn.estimators._commit import net_assignments
from sk_unlearn.estimators._draft import Draft, commit_drafts
from sk_unlearn.estimators._orders import as_moment
from sk_unlearn.estimators._passes import known_rows
from sk_unlearn.estimators._pending import refuse_to_drop_requests, write_down
from sk_unlearn.estimators._receipts import kept_ids
from sk_unlearn.estimators._request import (
    Content,
    check_no_conflict,
    check_some_stay,
    listed,
    narrowed_slots,
    resolve_pending,
    resolve_slots,
)
from sk_unlearn.estimators._retrained import draft_retraining
from sk_unlearn.estimators.coordinates import NewCoordinates, shadowed, trainable
from sk_unlearn.estimators.fitting import is_learnt
from sk_unlearn.estimators.lookup import codes_of, find_rows
from sk_unlearn.estimators.report import UnlearningReport
from sk_unlearn.rows import RowMatch, SparseRows, TrainingSet
from sk_unlearn.unlearners.retrain import Retrain
from sk_unlearn.utils._journal import Assignment
from sk_unlearn.utils._twins import learnt

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = [
    "Draft",
    "all_found",
    "as_stored",
    "check_one_new_each",
    "check_some_stay",
    "commit_drafts",
    "draft_aside",
    "draft_correction_at",
    "draft_deletion",
    "draft_deletion_at",
    "draft_retraining_at",
    "draft_settlement",
    "draft_training",
    "fit_made",
    "is_learnt",
    "is_table",
    "known_in",
    "narrowed",
    "pending_positions",
    "refuse_to_drop_requests",
    "request_at",
    "rows_for_net",
    "stored_already",
    "stored_rows",
    "stored_targets",
    "targets_as_given",
]


def draft_deletion(estimator: BaseUnlearnable, X_del: Any = None, y_del: Any = None, *, sample_id: Any = None) -> Draft:
    """Work out what :meth:`~sk_unlearn.UnlearnableClassifier.forget` does, and change nothing.

    Parameters
    ----------
    estimator : UnlearnableClassifier or UnlearnableRegressor
        Fitted, and kept from other requests until the draft is committed or dropped: see
        :func:`~sk_unlearn.utils._lock.taking_turns`.

    X_del, y_del, sample_id
        As for ``forget``.

    Raises
    ------
    ValueError, FloatingPointError, sklearn.exceptions.NotFittedError
        As ``forget``.
    """
    return estimator._drafted_deletion(X_del, y_del, sample_id)


def fit_made(
    estimator: BaseUnlearnable,
    source: Any,
    X: Any,
    y: Any,
    *,
    first_pass: bool = False,
    key: bytes | None = None,
    **params: Any,
) -> BaseUnlearnable:
    """Fit an estimator to rows that were made of others, which a digest of each stands for from then on.

    Parameters
    ----------
    estimator : UnlearnableClassifier or UnlearnableRegressor

    source : uint8 ndarray of shape (n_samples, 16)
        Keyed digests of the rows that X was made of.

    first_pass : bool
        Whether to call ``partial_fit`` for the first time, in place of ``fit``.

    key : bytes or None
        That these were made with, for all digests of the estimator to be of one key; None draws one for the others.

    X, y, **params
        As for that.
    """
    return estimator._fit_made(source, X, y, first_pass=first_pass, key=key, **params)


def narrowed(
    estimator: BaseUnlearnable, positions: NDArray[np.int64] | None, sample_id: Any = None
) -> NDArray[np.int64]:
    """Return slots of stored rows with one of the identifiers, of those that content has found where it was given.

    Raises
    ------
    ValueError
        For identifiers that are not stored, and where nothing is left.
    """
    ids = None if sample_id is None else kept_ids(estimator, listed(sample_id))
    return narrowed_slots(estimator.training_set_, positions, ids)


def is_table(estimator: BaseUnlearnable) -> bool:
    """Tell whether the stored rows are vectors of numbers, and not images or several parts."""
    X = estimator.training_set_.raw_X
    return X.ndim == 2 and X.dtype.names is None


def as_stored(estimator: BaseUnlearnable, X: Any) -> Any:
    """Return features as a fitted estimator stores them."""
    return estimator._validate_features(X)


def rows_for_net(estimator: BaseUnlearnable, X: Any, y: Any) -> tuple[Any, NDArray[Any]]:
    """Return rows and their targets as a fitted estimator's net takes them.

    Raises
    ------
    ValueError
        For rows or targets of another kind than it knows, or another number of them.
    """
    features, targets = estimator._validate_request(X, y, "X", "y")
    return features, np.asarray(targets)


def stored_rows(estimator: BaseUnlearnable, verb: str) -> TrainingSet:
    """Return the rows that an estimator stores, or raise a ValueError that names what needs them."""
    return estimator._stored_rows(verb)


def all_found(match: RowMatch, name: str, told: str = "") -> RowMatch:
    """Return a match in which every row was found; else raise a ValueError that says why not, and what else is told."""
    return TrainingSet.all_found(match, name, told)


def check_one_new_each(source: Any, y: Any, new_source: Any, y_new: Any) -> None:
    """Refuse a correction that gives one old row two new contents.

    Parameters
    ----------
    source, new_source : uint8 ndarray of shape (n, 16)
        Digests of the old rows, and of the new ones or None.

    y, y_new : ndarray of shape (n, ...) or None
        Targets as they are stored.
    """
    for new, name in ((new_source, "X_new"), (y_new, "y_new")):
        if new is not None:
            check_no_conflict(source, y, new, name)


def stored_targets(estimator: BaseUnlearnable, y: Any, n: int, name: str) -> NDArray[Any]:
    """Return the targets of n rows as a fitted estimator stores them.

    Raises
    ------
    ValueError
        For other targets than it knows, or another number of them.
    """
    return estimator._stored_targets(y, n, name)


def stored_already(
    estimator: BaseUnlearnable, source: NDArray[np.uint8], y: Any, *, sample_weight: Any = None, sample_id: Any = None
) -> NDArray[np.bool_]:
    """Tell which rows that come to ``partial_fit`` are stored already, by digests of what they were made of."""
    rows = estimator.training_set_
    targets = stored_targets(estimator, y, len(source), "y")
    shape = len(source), *rows.raw_X.shape[1:]
    is_sparse = isinstance(rows.raw_X, SparseRows)
    features: Any = (csr_array if is_sparse else np.zeros)(shape, dtype=rows.raw_X.dtype)
    call = TrainingSet(features, targets, sample_weight=sample_weight, sample_id=sample_id, source=source)
    return known_rows(rows, call)[0]


def targets_as_given(estimator: BaseUnlearnable, positions: NDArray[np.int64]) -> NDArray[Any]:
    """Return the targets of stored rows as they came to ``fit``, in the precision of the net."""
    y = estimator.training_set_.raw_y[positions]
    if hasattr(estimator, "classes_"):
        return np.asarray(estimator.classes_)[y.reshape(len(y)).astype(np.int64)]
    return y.reshape(len(y), *estimator.target_shape_)


def draft_deletion_at(
    estimator: BaseUnlearnable,
    positions: NDArray[np.int64],
    *,
    to: NewCoordinates | None = None,
    X: Any = None,
    y: Any = None,
    source: NDArray[np.uint8] | None = None,
    notes: Sequence[str] = (),
) -> Draft:
    """Work out the deletion of rows in slots, and of rows that were handed in, and change nothing.

    Parameters
    ----------
    estimator : UnlearnableClassifier or UnlearnableRegressor
        As for :func:`draft_deletion`.

    positions : int64 ndarray
        Slots of stored rows.

    to : NewCoordinates or None
        What becomes of the features of all rows at the same time.

    X, y : array-like or None
        Rows that are not stored and their targets, in the coordinates of `to`.

    source : uint8 ndarray of shape (n, 16), or None
        Digests of what these were made of.

    notes : sequence of str
        For the report.
    """

    def act(each: BaseUnlearnable, told: Sequence[str]) -> Draft:
        started, foreign = time.perf_counter(), None
        if X is not None:
            X_net, y_net = each._validate_request(X, y, "X", "y")
            assert y_net is not None
            foreign = Content(X_net, y_net)
        rows: TrainingSet | None = getattr(each, "training_set_", None)
        return each._drafted(resolve_slots(rows, positions, foreign=foreign, source=source), started, told)

    if hasattr(estimator, "training_set_"):
        check_some_stay(estimator.training_set_, positions)
    return draft_aside(estimator, to, positions, act, notes)


def draft_correction_at(
    estimator: BaseUnlearnable,
    positions: NDArray[np.int64],
    X_new: Any = None,
    y_new: Any = None,
    *,
    source: NDArray[np.uint8] | None = None,
    to: NewCoordinates | None = None,
    notes: Sequence[str] = (),
) -> Draft:
    """Work out what :meth:`~sk_unlearn.UnlearnableClassifier.correct` does to rows in slots, and change nothing.

    Parameters
    ----------
    estimator, positions, to, notes
        As for :func:`draft_deletion_at`.

    X_new, y_new : array-like or None
        What the rows should have been, one a slot, in the coordinates of `to`; None keeps it.

    source : uint8 ndarray of shape (n, 16), or None
        Digests of what the new rows were made of.
    """

    def act(each: BaseUnlearnable, told: Sequence[str]) -> Draft:
        started = time.perf_counter()
        rows = each.training_set_
        X = rows.raw_X[positions] if X_new is None else each._validate_request(X_new, None, "X_new", "y_new")[0]
        y = rows.raw_y[positions] if y_new is None else each._targets_for_net(y_new, X, "y_new")
        return each._drafted(resolve_slots(rows, positions, new=Content(X, y), source=source), started, told)

    return draft_aside(estimator, to, positions, act, notes)


def request_at(estimator: BaseUnlearnable, positions: NDArray[np.int64], received: datetime | None = None) -> str:
    """Do what :meth:`~sk_unlearn.UnlearnableClassifier.request_forget` does, for rows in slots.

    Parameters
    ----------
    estimator : UnlearnableClassifier or UnlearnableRegressor
        As for :func:`draft_deletion`.

    positions : int64 ndarray
        Slots of stored rows.

    received : datetime or None
        As for ``request_forget``.
    """
    return write_down(estimator.training_set_, positions, as_moment(received))


def draft_settlement(
    estimator: BaseUnlearnable, *, to: NewCoordinates | None = None, notes: Sequence[str] = ()
) -> Draft:
    """Work out what :meth:`~sk_unlearn.UnlearnableClassifier.settle` does where requests wait, and change nothing.

    Parameters
    ----------
    estimator, to, notes
        As for :func:`draft_deletion_at`.
    """

    def act(each: BaseUnlearnable, told: Sequence[str]) -> Draft:
        started = time.perf_counter()
        return each._drafted(resolve_pending(each.training_set_, "settle"), started, told)

    request = resolve_pending(estimator.training_set_, "settle")
    return draft_aside(estimator, to, request.positions, act, notes)


def pending_positions(estimator: BaseUnlearnable) -> NDArray[np.int64]:
    """Return the slots of the rows that pending requests name, or raise a ValueError where these are all rows."""
    if not hasattr(estimator, "training_set_"):
        return np.empty(0, dtype=np.int64)
    return resolve_pending(estimator.training_set_, "settle").positions


def draft_retraining_at(
    estimator: BaseUnlearnable, *, to: NewCoordinates | None = None, notes: Sequence[str] = ()
) -> Draft:
    """Work out what :meth:`~sk_unlearn.UnlearnableClassifier.retrain` does, and change nothing.

    Parameters
    ----------
    estimator, to, notes
        As for :func:`draft_deletion_at`.
    """
    return draft_aside(estimator, to, pending_positions(estimator), draft_retraining, notes)


def known_in(
    estimator: BaseUnlearnable, source: NDArray[np.uint8] | None, y: Any, sample_id: Any
) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
    """Tell which rows, by digests of what they were made of, and which identifiers belong to stored rows.

    Parameters
    ----------
    estimator : UnlearnableClassifier or UnlearnableRegressor

    source : uint8 ndarray of shape (n, 16), or None

    y : array-like of shape (n,), or None
        Targets; a row with one that the estimator does not know is not stored.

    sample_id : array-like, or None
    """
    rows = known = None
    if source is not None:
        rows = np.zeros(len(source), dtype=bool)
        asked = np.arange(len(source))
        if y is not None and hasattr(estimator, "classes_"):
            asked = np.flatnonzero(codes_of(np.asarray(estimator.classes_), y) >= 0)
        targets = None if y is None else stored_targets(estimator, _safe_indexing(y, asked), len(asked), "y_del")
        rows[asked] = estimator.training_set_.match_source(source[asked], targets).found
    if sample_id is not None:
        known = find_rows(estimator, None, None, sample_id=sample_id).known_ids
    return rows, known


def draft_training(
    estimator: BaseUnlearnable,
    X: Any,
    y: Any,
    *,
    source: NDArray[np.uint8],
    to: NewCoordinates | None = None,
    classes: Any = None,
    sample_weight: Any = None,
    sample_id: Any = None,
) -> tuple[Draft, int]:
    """Work out what ``partial_fit`` does with rows that were made of others, and change nothing.

    Parameters
    ----------
    estimator, to
        As for :func:`draft_deletion_at`.

    X, y, classes, sample_weight, sample_id
        As for ``partial_fit``, X in the coordinates of `to`.

    source : uint8 ndarray of shape (n_samples, 16)
        Digests of what the rows were made of.

    Returns
    -------
    draft : Draft

    n_new : int
        How many of the rows are stored now that were not before.
    """
    shadow = trainable(estimator, to)
    n_before = len(shadow.training_set_)
    shadow._partial_fit(X, y, classes, sample_weight, sample_id, source)
    n_new = len(shadow.training_set_) - n_before
    net, other = vars(estimator.net_), vars(shadow.net_)
    return _swap(estimator, shadow, [(net, name, other[name]) for name in learnt(shadow.net_)]), n_new


def draft_aside(
    estimator: BaseUnlearnable,
    to: NewCoordinates | None,
    positions: NDArray[np.int64],
    act: Callable[[BaseUnlearnable, Sequence[str]], Draft],
    notes: Sequence[str],
) -> Draft:
    """Draft a request, in new coordinates if they move: it is then carried out on a copy, which is swapped in.

    Parameters
    ----------
    estimator, to, notes
        As for :func:`draft_deletion_at`.

    positions : int64 ndarray
        Slots of stored rows that go.

    act : callable
        Drafts the request of the estimator, or of its copy, with the given notes.
    """
    if to is None:
        return act(estimator, notes)
    moved = shadowed(estimator, to, positions)
    shadow = moved.estimator
    if moved.is_far:
        shadow.unlearner = Retrain()
    draft = act(shadow, [*moved.notes, *notes])
    commit_drafts([draft])
    net, other = vars(estimator.net_), vars(shadow.net_)
    settings = [(net, name, value) for name, value in other.items() if _is_setting(name) and net.get(name) is not value]
    return _swap(estimator, shadow, [*net_assignments(estimator.net_, shadow.net_), *settings], draft.report)


def _is_setting(name: str) -> bool:
    return not name.startswith("_") and "__" in name


def _swap(
    estimator: BaseUnlearnable,
    shadow: BaseUnlearnable,
    net: list[Assignment],
    report: UnlearningReport | None = None,
) -> Draft:
    """Return what makes an estimator what its copy has become, and its net and its rows the objects that they are."""
    own, others = vars(estimator), ("net_", "training_set_", "_journal")
    state = [(own, name, value) for name, value in vars(shadow).items() if is_learnt(name) and name not in others]
    rows = estimator.training_set_.plan_as(shadow.training_set_)
    return Draft(estimator._journal, [*net, *rows, *state], report)
