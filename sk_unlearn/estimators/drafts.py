"""Requests worked out aside, for whoever changes an estimator together with other objects, or finds its rows itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.estimators._commit import net_assignments
from sk_unlearn.estimators._draft import Draft, commit_drafts
from sk_unlearn.estimators._request import Content, resolve_slots
from sk_unlearn.estimators.coordinates import NewCoordinates, shadowed, trainable
from sk_unlearn.estimators.fitting import is_learnt
from sk_unlearn.estimators.report import UnlearningReport
from sk_unlearn.unlearners.retrain import Retrain
from sk_unlearn.utils._journal import Assignment
from sk_unlearn.utils._twins import learnt

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = [
    "Draft",
    "commit_drafts",
    "draft_correction_at",
    "draft_deletion",
    "draft_deletion_at",
    "draft_training",
    "fit_made",
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
    estimator: BaseUnlearnable, source: Any, X: Any, y: Any, *, key: bytes | None = None, **params: Any
) -> BaseUnlearnable:
    """Fit an estimator to rows that were made of others, which a digest of each stands for from then on.

    Parameters
    ----------
    estimator : UnlearnableClassifier or UnlearnableRegressor

    source : uint8 ndarray of shape (n_samples, 16)
        Keyed digests of the rows that X was made of.

    key : bytes or None
        That these were made with, for all digests of the estimator to be of one key; None draws one for the others.

    X, y, **params
        As for ``fit``.
    """
    return estimator._fit_made(source, X, y, key=key, **params)


def draft_deletion_at(
    estimator: BaseUnlearnable,
    positions: NDArray[np.int64],
    *,
    to: NewCoordinates | None = None,
    X: Any = None,
    y: Any = None,
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

    notes : sequence of str
        For the report.
    """

    def act(each: BaseUnlearnable, told: Sequence[str]) -> Draft:
        started, foreign = time.perf_counter(), None
        if X is not None:
            X_net, y_net = each._validate_request(X, y, "X", "y")
            assert y_net is not None
            foreign = Content(X_net, y_net)
        return each._drafted(resolve_slots(each.training_set_, positions, foreign=foreign), started, told)

    resolve_slots(estimator.training_set_, positions)  # a request of all rows is refused before anything moves
    return _aside(estimator, to, positions, act, notes)


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

    return _aside(estimator, to, positions, act, notes)


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
) -> Draft:
    """Work out what ``partial_fit`` does with rows that were made of others, and change nothing.

    Parameters
    ----------
    estimator, to
        As for :func:`draft_deletion_at`.

    X, y, classes, sample_weight, sample_id
        As for ``partial_fit``, X in the coordinates of `to`.

    source : uint8 ndarray of shape (n_samples, 16)
        Digests of what the rows were made of.
    """
    shadow = trainable(estimator, to)
    shadow._partial_fit(X, y, classes, sample_weight, sample_id, source)
    net, other = vars(estimator.net_), vars(shadow.net_)
    return _swap(estimator, shadow, [(net, name, other[name]) for name in learnt(shadow.net_)])


def _aside(
    estimator: BaseUnlearnable,
    to: NewCoordinates | None,
    positions: NDArray[np.int64],
    act: Callable[[BaseUnlearnable, Sequence[str]], Draft],
    notes: Sequence[str],
) -> Draft:
    """Draft a request, in new coordinates if they move: it is then carried out on a copy, which is swapped in."""
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
