"""The steps before the last: fitted, and as they are without some rows or with further ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse, vstack
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline as SklearnPipeline
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.validation import _num_samples

from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.coordinates import NewCoordinates
from sk_unlearn.estimators.drafts import as_stored, is_table
from sk_unlearn.estimators.lookup import stored_features
from sk_unlearn.preprocessing import Forgotten
from sk_unlearn.rows import SparseRows

__all__ = ["Change", "FittedSteps", "fit_steps", "is_per_row", "known_to", "moved_by", "transformer_of"]

Steps = list[tuple[str, Any]]


@dataclass(frozen=True)
class FittedSteps:
    """What came of fitting the steps before the last.

    Attributes
    ----------
    steps : list of (str, transformer)
        New objects.

    X : table
        What the last step is to be fitted on.

    params : dict
        Parameters of ``fit`` of the steps, by ``step__parameter``.

    last_params : dict
        Those of the last step.
    """

    steps: Steps
    X: Any
    params: dict[str, Any]
    last_params: dict[str, Any]


class _Taker(BaseEstimator):
    """Stands in for the last step, and takes what that would be fitted on."""

    def __init__(self, last: Any) -> None:
        self.last = last

    def get_metadata_routing(self) -> Any:
        return self.last.get_metadata_routing()

    def fit(self, X: Any, y: Any = None, **params: Any) -> _Taker:
        self.taken_ = X, params
        return self


def fit_steps(pipeline: SklearnPipeline, X: Any, y: Any, params: dict[str, Any]) -> FittedSteps:
    """Fit clones of the steps before the last, as scikit-learn does it; the pipeline is not changed."""
    *before, (name, last) = pipeline.steps
    taker = _Taker(last)
    steps = [(each, step if _is_nothing(step) else clone(step)) for each, step in before]
    inner = SklearnPipeline([*steps, (name, taker)], memory=pipeline.memory, verbose=pipeline.verbose)
    inner.set_params(transform_input=pipeline.transform_input)
    inner.fit(X, y, **params)
    given = _params_by_step(inner, params)
    return FittedSteps(
        inner.steps[:-1], taker.taken_[0], {k: v for k, v in given.items() if k.split("__")[0] != name}, taker.taken_[1]
    )


def _params_by_step(inner: SklearnPipeline, params: dict[str, Any]) -> dict[str, Any]:
    if not params or all("__" in name for name in params):
        return params
    routed = process_routing(inner, "fit", **params)
    return {
        f"{step}__{name}": value
        for step, _ in inner.steps
        for name, value in (routed[step].get("fit_transform") or routed[step].get("fit", {})).items()
    }


def _is_nothing(step: Any) -> bool:
    return step is None or (isinstance(step, str) and step == "passthrough")


def is_per_row(value: Any, n: int) -> bool:
    """Tell whether a parameter of ``fit`` has one value for each of n rows."""
    return not isinstance(value, str | dict) and hasattr(value, "__len__") and _num_samples(value) == n


def transformer_of(steps: Steps) -> SklearnPipeline | None:
    """Return the steps before the last as one transformer; None where there is nothing to transform."""
    return None if all(_is_nothing(step) for _, step in steps) else SklearnPipeline(steps)


def known_to(steps: Steps) -> list[str]:
    """Return the names of steps that learn of rows."""
    return [f"{name}: {type(step).__name__}" for name, step in steps if not _is_nothing(step) and _learns(step)]


def _learns(step: Any) -> bool:
    return bool(get_tags(step).requires_fit)


class Change(NamedTuple):
    """A change of the steps, and whether rows went (or came)."""

    outcome: Forgotten
    is_removal: bool


def moved_by(
    changes: Sequence[Change],
    last: BaseUnlearnable,
    numbers: NDArray[np.int64],
    X_gone: Any = None,
    X_kept: Any = None,
) -> NewCoordinates | None:
    """Return what steps that have changed, one change after the other, make of the rows that the last step stores.

    Parameters
    ----------
    changes : sequence of Change
        A removal comes last.

    last : UnlearnableClassifier or UnlearnableRegressor

    numbers : int64 ndarray
        Which of the stored rows are removed.

    X_gone : table or None
        These, as they came.

    X_kept : table or None
        The others, as they came, if they are kept.

    Returns
    -------
    to : NewCoordinates or None
        None where all features stay what they are.
    """
    if not is_table(last):
        return _whole_rows(changes, last, numbers, X_gone, X_kept)
    Z = stored = _stored_features(last)
    stays = np.ones(stored.shape[0], dtype=bool)
    stays[numbers] = False
    columns = np.arange(stored.shape[1])
    scale, shift = np.ones(len(columns)), np.zeros(len(columns))
    is_affine = True
    for outcome, is_removal in changes:
        sources = _sources(outcome.columns, len(columns))
        if is_removal:
            gone = _of_gone(outcome, Z[~stays], sources, X_gone)
            Z = _in_order(stays, outcome.outputs(Z[stays]), gone, stored.dtype)
        else:
            Z = outcome.outputs(Z).astype(stored.dtype)
        columns = columns[sources]
        is_affine = is_affine and outcome.change is not None and bool((outcome.columns >= 0).all())
        if is_affine and outcome.change is not None:
            by, offset = outcome.change
            scale, shift = scale[sources] * by, shift[sources] * by + offset
    whole = np.array_equal(columns, np.arange(stored.shape[1]))
    if is_affine and whole and bool((scale == 1).all() and (shift == 0).all()):
        return None
    names = changes[-1].outcome.transformer.get_feature_names_out() if hasattr(last, "feature_names_in_") else None
    if not is_affine:
        return NewCoordinates(Z, columns, names=names)
    return NewCoordinates(Z, columns, scale, shift, names)


def _whole_rows(
    changes: Sequence[Change], last: BaseUnlearnable, numbers: NDArray[np.int64], X_gone: Any, X_kept: Any
) -> NewCoordinates | None:
    """Do the same for rows that are no vectors: images, or parts by name."""
    if all(_leaves_outputs(outcome) for outcome, _ in changes):
        return None
    transformer = changes[-1].outcome.transformer
    if X_kept is None:
        raise ValueError(
            "Without these rows the steps before the net give other features for all rows, which are no vectors here "
            "and have to be made anew of the rows as they came: fit the pipeline with keep_raw=True."
        )
    X = last.training_set_.X.copy()
    stays = np.ones(len(X), dtype=bool)
    stays[numbers] = False
    X[stays] = as_stored(last, transformer.transform(X_kept))
    if len(numbers):
        with suppress(ValueError, TypeError):  # a category that is not there any more: they stay as they were
            X[~stays] = as_stored(last, transformer.transform(X_gone))
    return NewCoordinates(X, None)


def _leaves_outputs(outcome: Forgotten) -> bool:
    if outcome.change is None or not np.array_equal(outcome.columns, np.arange(len(outcome.columns))):
        return False
    scale, shift = outcome.change
    return bool((scale == 1).all() and (shift == 0).all())


def _in_order(stays: NDArray[np.bool_], kept: Any, gone: Any, dtype: np.dtype[Any]) -> Any:
    """Return the rows that stay and those that go in the order in which they are stored."""
    if issparse(kept):
        order = np.argsort(np.concatenate([np.flatnonzero(stays), np.flatnonzero(~stays)]))
        return vstack([kept, csr_array(gone)], format="csr", dtype=dtype)[order]
    moved = np.empty((len(stays), kept.shape[1]), dtype=dtype)
    moved[stays], moved[~stays] = kept, gone
    return moved


def _stored_features(last: BaseUnlearnable) -> Any:
    X = stored_features(last)
    return X.csr if isinstance(X, SparseRows) else X


def _sources(columns: NDArray[np.int64], n_old: int) -> NDArray[np.int64]:
    """Return for each new column an old one, each once: its own, or one that nothing stands in any more."""
    free = np.setdiff1d(np.arange(n_old), columns)
    new = np.flatnonzero(columns < 0)
    if len(new) > len(free):
        raise ValueError(
            f"Without the rows the steps before the net give {len(columns)} features in place of {n_old}, and the net "
            "takes no more than it was built for: fit the pipeline anew on the rows that stay."
        )
    sources = columns.astype(np.int64)
    sources[new] = free[: len(new)]
    return sources


def _of_gone(change: Forgotten, gone: Any, sources: NDArray[np.int64], X_gone: Any) -> NDArray[Any]:
    """Return features of rows that go in new coordinates; where there are none for them, as they were."""
    if issparse(gone):  # few enough to be dense
        gone = gone.toarray()
    if not len(gone):
        return np.asarray(gone[:, sources])
    if change.change is not None:
        scale, shift = change.change
        return (gone[:, sources] * scale + shift).astype(gone.dtype)
    try:
        moved = change.transformer.transform(X_gone)
        return np.asarray(moved.toarray() if issparse(moved) else moved).astype(gone.dtype)
    except (ValueError, TypeError):  # a category that is not there any more
        return gone[:, sources]
