"""Models that were retrained elsewhere, and what can be checked of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import joblib
import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sk_unlearn.composites import which_parts_know
from sk_unlearn.estimators.lookup import find_rows
from sk_unlearn.estimators.shards.base import BaseSharded
from sk_unlearn.inspection._audit._verdict import ENOUGH_REFERENCES
from sk_unlearn.metrics.distances import last_step
from sk_unlearn.references.files import SavedReferences, load
from sk_unlearn.references.retrained import References, Rows

__all__ = ["chosen", "fitted", "handed_in"]


def chosen(estimator: Any) -> Any:
    """Return what a search predicts with, and any other estimator as it is."""
    return getattr(estimator, "best_estimator_", estimator)


def fitted(name: str, model: Any) -> Any:
    """Return the model that an argument holds; a TypeError or a NotFittedError that names it where that is no such."""
    try:
        check_is_fitted(last_step(model))
    except TypeError:
        raise TypeError(f"{name} must be a fitted estimator, got {type(model).__name__}.") from None
    except NotFittedError:
        raise NotFittedError(f"{name} is not fitted: give the model as it came out of training.") from None
    return model


def handed_in(
    references: Sequence[Any] | str | os.PathLike[str],
    audited: Any,
    X_del: Any,
    erased: Rows,
    retained: Rows,
    steps: Any,
) -> tuple[References, str]:
    """Return models that were retrained elsewhere, and what is known of where they come from.

    Parameters
    ----------
    references : sequence of estimators, or path
        A path to what `sk_unlearn.references.save` wrote.
    audited : estimator
        Whose key erased rows may have been digested by.
    X_del : table
        The erased rows as they came.
    erased : Rows
        The same as the audited net takes them, with their targets.
    retained : Rows
        The rows that stay.
    steps : transformer or None
        What the audited net is behind.

    Raises
    ------
    ValueError
        If there are too few, two of them are one model, one does not know a class of the rows that stay, or erased rows
        are among those that one of them was trained on, as far as can be seen.
    """
    listed = load(references) if isinstance(references, str | os.PathLike) else references
    if not isinstance(listed, Sequence | np.ndarray):
        raise TypeError(f"references must be a list of retrained models or a folder, got {type(listed).__name__}.")
    models = [chosen(fitted(f"references[{number}]", each)) for number, each in enumerate(listed)]
    if len(models) < ENOUGH_REFERENCES:
        raise ValueError(f"references must hold at least {ENOUGH_REFERENCES} retrained models, got {len(models)}.")
    n_untold = 0
    for number, model in enumerate(models):
        n_known = _n_known(model, X_del, erased, steps)
        if n_known:
            raise ValueError(
                f"references[{number}] stores {n_known} of the {len(erased.y)} erased rows: it was trained on them, "
                "and shows nothing about this request. Give models that were retrained without them."
            )
        n_untold += n_known is None
    _check_each_is_another(models)
    if is_classifier(audited):
        _check_classes(models, retained)
    seeds = [seed for seed in getattr(listed, "seeds", []) if seed is not None]
    told = "handed in as retrained without the erased rows, none of which they store"
    if n_untold:
        told = _told_by_digests(listed, audited, X_del) or (
            "handed in as retrained without the erased rows, which was not checked "
            f"({n_untold} of them keep no rows to look in)"
        )
    return References(models, seeds, float("nan"), True), told


def _check_each_is_another(models: Sequence[Any]) -> None:
    """Raise a ValueError if two models are one, by which nobody sees how far retrained ones differ."""
    marks = [_training_of(model) for model in models]
    for later, mark in enumerate(marks):
        earlier = marks.index(mark)
        if earlier < later:
            raise ValueError(
                f"references[{later}] is references[{earlier}] again, or a copy of it: how far retrained models are "
                "from each other cannot be seen. Give models that were retrained from different seeds."
            )


def _training_of(model: Any) -> Any:
    """Return what copies of a model have in common: where it starts from, and where it has come to."""
    last = last_step(model)
    seed, shards = getattr(last, "random_state", None), last.estimators_ if isinstance(last, BaseSharded) else [last]
    nets: list[Any] = [getattr(each, "net_", None) for each in shards if each is not None]
    if None in nets or not isinstance(seed, Integral):
        return id(model)
    values = [value.cpu().numpy() for net in nets for value in net.module_.state_dict().values()]
    return int(seed), joblib.hash(values)


def _check_classes(models: Sequence[Any], retained: Rows) -> None:
    """Raise a ValueError if a model has never seen a class of the rows that stay."""
    labels = np.unique(retained.y)
    for number, model in enumerate(models):
        n_unknown = np.count_nonzero(~np.isin(labels, getattr(model, "classes_", labels)))
        if n_unknown:
            raise ValueError(
                f"references[{number}] does not know {n_unknown} of the {len(labels)} classes of the rows that stay: "
                "it was not trained on these. Give models that were retrained on all rows but the erased ones."
            )


def _n_known(model: Any, X_del: Any, erased: Rows, steps: Any) -> int | None:
    """Return how many erased rows a model stores in any of its parts; None if it cannot be told."""
    try:
        if steps is not None and not isinstance(model, Pipeline):  # it stands behind the audited steps
            stores = hasattr(model, "training_set_")
            found = find_rows(model, erased.X, erased.y, rounded=True) if stores else None
            return None if found is None or found.known is None else int(found.known.sum())
        counts = [count for count in which_parts_know(model, X_del, erased.y).values() if count is not None]
    except (ValueError, TypeError, AttributeError):
        return None  # a composite that nobody knows the way through
    return max(counts, default=None)


def _told_by_digests(listed: Any, audited: Any, X_del: Any) -> str | None:
    """Return what the digests that were saved with models say; None where there are none by the model's own key."""
    key = getattr(audited, "receipt_key_", None)
    n_others = listed.n_not_left_out(X_del, key) if isinstance(listed, SavedReferences) and key is not None else None
    if n_others is None:
        return None
    if n_others:
        raise ValueError(
            f"{n_others} of the {len(X_del)} erased rows are not among those that the saved references were "
            "retrained without. Save some that were trained on none of them."
        )
    return "saved as retrained without rows among which, by their digests, all erased ones are"
