"""The steps before the last: fitted, and as they are without some rows or with further ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse, vstack
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline as SklearnPipeline
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.validation import _num_samples

from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.coordinates import NewCoordinates, recoded_values
from sk_unlearn.estimators.drafts import as_stored, is_table
from sk_unlearn.estimators.lookup import stored_features
from sk_unlearn.preprocessing import Forgotten
from sk_unlearn.preprocessing.nodes import RawRowsNeeded
from sk_unlearn.rows import SparseRows

if TYPE_CHECKING:
    from sk_unlearn.pipeline._stages import MovedStages

__all__ = [
    "Change",
    "FittedSteps",
    "Steps",
    "fit_steps",
    "is_nothing",
    "is_per_row",
    "is_sampler",
    "known_to",
    "moved_by",
    "params_by_step",
    "passed_over",
    "stored_table",
    "transformer_of",
]

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
    steps = [(each, step if is_nothing(step) else clone(step)) for each, step in before]
    inner = SklearnPipeline([*steps, (name, taker)], memory=pipeline.memory, verbose=pipeline.verbose)
    inner.set_params(transform_input=pipeline.transform_input)
    inner.fit(X, y, **params)
    given = params_by_step(inner, params)
    return FittedSteps(
        inner.steps[:-1], taker.taken_[0], {k: v for k, v in given.items() if k.split("__")[0] != name}, taker.taken_[1]
    )


def params_by_step(inner: SklearnPipeline, params: dict[str, Any]) -> dict[str, Any]:
    """Return parameters of ``fit`` as ``step__parameter``, by metadata routing where they are not that yet."""
    if not params or all("__" in name for name in params):
        return params
    routed = process_routing(inner, "fit", **params)
    return {
        f"{step}__{name}": value
        for step, _ in inner.steps
        for name, value in (routed[step].get("fit_transform") or routed[step].get("fit", {})).items()
    }


def is_nothing(step: Any) -> bool:
    """Tell whether a step leaves rows as they are."""
    return step is None or (isinstance(step, str) and step == "passthrough")


def is_sampler(step: Any) -> bool:
    """Tell whether a step resamples rows, as those of imbalanced-learn do."""
    return hasattr(step, "fit_resample") and not hasattr(step, "transform")


def passed_over(steps: Steps) -> Steps:
    """Return the steps as rows that come later meet them: who resamples leaves them as they are."""
    return [(name, "passthrough" if is_sampler(step) else step) for name, step in steps]


def is_per_row(value: Any, n: int) -> bool:
    """Tell whether a parameter of ``fit`` has one value for each of n rows."""
    return not isinstance(value, str | dict) and hasattr(value, "__len__") and _num_samples(value) == n


def transformer_of(steps: Steps) -> SklearnPipeline | None:
    """Return the steps before the last as one transformer; None where there is nothing to transform."""
    steps = passed_over(steps)
    return None if all(is_nothing(step) for _, step in steps) else SklearnPipeline(steps)


def known_to(steps: Steps) -> list[str]:
    """Return the names of steps that learn of rows."""
    return [
        f"{name}: {type(step).__name__}" for name, step in passed_over(steps) if not is_nothing(step) and _learns(step)
    ]


def _learns(step: Any) -> bool:
    return bool(get_tags(step).requires_fit)


class Change(NamedTuple):
    """A change of the steps, and whether rows went (or came)."""

    outcome: Forgotten | MovedStages
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
    Z = stored = stored_table(last)
    stays = np.ones(stored.shape[0], dtype=bool)
    stays[numbers] = False
    columns = np.arange(stored.shape[1])
    scale, shift = np.ones(len(columns)), np.zeros(len(columns))
    codes: list[NDArray[np.int64] | None] = [None] * len(columns)
    is_affine, apart = True, np.zeros(len(columns), dtype=bool)
    for outcome, is_removal in changes:
        sources = _sources(outcome.columns, len(columns))
        if is_removal:
            gone = _of_gone(outcome, Z[~stays], sources, X_gone)
            Z = _in_order(stays, outcome.outputs(Z[stays]), gone, stored.dtype)
        else:
            Z = outcome.outputs(Z).astype(stored.dtype)
        columns = columns[sources]
        by_column = _by_column(outcome)
        is_affine = is_affine and by_column is not None and bool((outcome.columns >= 0).all())
        is_affine = is_affine and not _merges_codes(outcome)
        if is_affine and by_column is not None:
            by, offset, otherwise = by_column
            scale, shift, apart = scale[sources] * by, shift[sources] * by + offset, apart[sources] | otherwise
            codes = _followed(codes, outcome, sources)
    whole = np.array_equal(columns, np.arange(stored.shape[1]))
    still = all(order is None for order in codes) and bool((scale == 1).all() and (shift == 0).all())
    if is_affine and whole and still and not apart.any():
        return None
    names = changes[-1].outcome.transformer.get_feature_names_out() if hasattr(last, "feature_names_in_") else None
    if not is_affine:
        return NewCoordinates(Z, columns, names=names)
    apart_rows = _moved_otherwise(stored, Z, columns, scale, shift, np.flatnonzero(apart))
    known_codes = None if all(each is None for each in codes) else codes
    return NewCoordinates(Z, columns, scale, shift, names, known_codes, apart_rows)


def _by_column(outcome: Forgotten | MovedStages) -> tuple[Any, Any, Any] | None:
    """Return scale and shift, and in which columns values that had been missing move otherwise; None if not known."""
    if outcome.change is not None:
        return *outcome.change, np.zeros(len(outcome.columns), dtype=bool)
    return getattr(outcome, "mostly", None)


def _moved_otherwise(
    old: Any, new: Any, columns: NDArray[np.int64], scale: Any, shift: Any, apart: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the rows that scale and shift do not bring to their new values in some columns, but for rounding."""
    if not len(apart):
        return np.empty(0, dtype=np.int64)
    blocks = (Z[:, of] for Z, of in ((old, columns[apart]), (new, apart)))
    before, after = (np.asarray(Z.toarray() if issparse(Z) else Z, dtype=np.float64) for Z in blocks)
    moved = before * scale[apart] + shift[apart]
    unit = np.finfo(new.dtype if new.dtype.kind == "f" else np.float32).eps
    rounding = 4 * unit * (np.abs(moved) + np.abs(shift[apart]) + np.abs(after))
    return np.flatnonzero((np.abs(moved - after) > rounding).any(axis=1))


def _followed(
    before: list[NDArray[np.int64] | None], outcome: Forgotten | MovedStages, sources: NDArray[np.int64]
) -> list[NDArray[np.int64] | None]:
    """Return where the codes of each column have gone to in the end, after one more change."""
    result = []
    for source, order in zip(sources, _orders(outcome, len(sources)), strict=True):
        first = before[source]
        if first is None or order is None:
            result.append(first if order is None else order)
        else:
            n = max(len(first), len(order))
            later = np.append(order, np.arange(len(order), n))
            result.append(later[np.append(first, np.arange(len(first), n))])
    return [None if each is None or (each == np.arange(len(each))).all() else each for each in result]


def _merges_codes(outcome: Forgotten | MovedStages) -> bool:
    return any(
        table is not None and order is None
        for table, order in zip(outcome.codes or [], _orders(outcome, len(outcome.columns)), strict=False)
    )


def _orders(outcome: Forgotten | MovedStages, n: int) -> list[NDArray[np.int64] | None]:
    """Return the new place of each code: those that are gone come behind the others; None where codes are merged."""
    result: list[NDArray[np.int64] | None] = []
    for table in outcome.codes or [None] * n:
        order = None if table is None else table.astype(np.int64)
        if order is not None:
            n_left = int(np.count_nonzero(order >= 0))
            is_order = np.array_equal(np.sort(order[order >= 0]), np.arange(n_left))
            order[order < 0] = np.arange(n_left, len(order))
            order = order if is_order else None
        result.append(order)
    return result


def _whole_rows(
    changes: Sequence[Change], last: BaseUnlearnable, numbers: NDArray[np.int64], X_gone: Any, X_kept: Any
) -> NewCoordinates | None:
    """Do the same for rows that are no vectors: images, or parts by name."""
    if all(_leaves_outputs(outcome) for outcome, _ in changes):
        return None
    outcome = changes[-1].outcome
    transformer, kept = outcome.transformer, getattr(outcome, "table", None)  # of rows that were resampled
    if kept is None and X_kept is None:
        raise RawRowsNeeded("the rows are no vectors: features have to be made anew of the rows as they came")
    X = last.training_set_.X.copy()
    stays = np.ones(len(X), dtype=bool)
    stays[numbers] = False
    X[stays] = as_stored(last, transformer.transform(X_kept) if kept is None else kept)
    if len(numbers):
        with suppress(ValueError, TypeError):  # a category is not there any more: they stay as they were
            X[~stays] = as_stored(last, transformer.transform(X_gone))
    return NewCoordinates(X, None)


def _leaves_outputs(outcome: Forgotten | MovedStages) -> bool:
    if (
        outcome.change is None
        or outcome.codes is not None
        or not np.array_equal(outcome.columns, np.arange(len(outcome.columns)))
    ):
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


def stored_table(last: BaseUnlearnable) -> Any:
    """Return the features of the rows that the last step stores, as the steps before it gave them."""
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


def _of_gone(change: Forgotten | MovedStages, gone: Any, sources: NDArray[np.int64], X_gone: Any) -> NDArray[Any]:
    """Return features of rows that go in new coordinates; where there are none for them, as they were."""
    if issparse(gone):  # few enough to be dense
        gone = gone.toarray()
    if not len(gone):
        return np.asarray(gone[:, sources])
    if change.change is not None:
        scale, shift = change.change
        result = (gone[:, sources] * scale + shift).astype(gone.dtype)
        for k, order in enumerate(_orders(change, len(sources))):
            if order is not None:
                result[:, k] = recoded_values(result[:, k], order)
        return result
    if X_gone is None:
        return np.asarray(gone[:, sources])
    try:
        moved = change.transformer.transform(X_gone)
        return np.asarray(moved.toarray() if issparse(moved) else moved).astype(gone.dtype)
    except (ValueError, TypeError):  # a category that is not there any more
        return gone[:, sources]
