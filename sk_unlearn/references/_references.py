"""Train the models that an audit compares with; Ctrl-C keeps those that are done."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier
from tqdm import tqdm

from sk_unlearn.references._fit_many import fit_many
from sk_unlearn.utils._interrupts import noticed_interrupts

__all__ = ["References", "Rows", "train_references"]

# Trained together they are faster; in several batches there is something to show, and to keep when interrupted.
_N_BATCHES = 4


class Rows(NamedTuple):
    """Rows, their targets as the user gives them, and their weights."""

    X: Any
    y: Any
    weight: Any = None


class References(NamedTuple):
    """Retrained models, their seeds, the seconds that one took, and whether they are all that were asked for."""

    models: list[Any]
    seeds: list[int]
    seconds: float
    complete: bool


def train_references(
    estimator: Any, rows: Rows, seeds: Sequence[int], *, n_jobs: int | None = None, verbose: int = 0
) -> References:
    """Train a clone of the estimator for each seed on the rows that stay.

    Parameters
    ----------
    estimator : unlearnable estimator
        Left as it is.
    rows : Rows
        What stays.
    seeds : sequence of int
        One a model.
    n_jobs : int or None
        See `sk_unlearn.references._fit_many.fit_many`.
    verbose : int
        Above 0 shows on stderr how many are done.
    """
    blank = clone(estimator).set_params(verbose=0)
    if not getattr(estimator.unlearner, "changes_training", False):
        blank.set_params(unlearner=None)  # it has no part in training, and may hinder training several at once
    models: list[Any] = []
    started = time.perf_counter()
    bar = tqdm(total=len(seeds), desc="audit: retraining", unit="model", disable=not verbose, leave=False)
    with noticed_interrupts() as interrupted, bar:
        for batch in np.array_split(np.asarray(seeds), min(_N_BATCHES, len(seeds))):
            try:
                done = fit_many(blank, rows.X, rows.y, seeds=batch.tolist(), sample_weight=rows.weight, n_jobs=n_jobs)
            except KeyboardInterrupt:
                break
            # skorch ends a training at Ctrl-C and returns as if it were complete: such a model is no reference.
            if interrupted:
                break
            models += [_with_all_outputs(model, estimator) for model in done]
            bar.update(len(done))
    if len(models) < len(seeds) and verbose:
        tqdm.write(f"audit: interrupted; going on with {len(models)} of {len(seeds)} models", file=sys.stderr)
    seconds = (time.perf_counter() - started) / max(len(models), 1)
    return References(models, list(seeds[: len(models)]), seconds, len(models) == len(seeds))


def _with_all_outputs(model: Any, estimator: Any) -> Any:
    """Name the outputs that a retrained net has beyond the classes it was shown after the classes that were erased."""
    if not is_classifier(estimator) or len(model.classes_) == len(estimator.classes_):
        return model
    n_outputs = _all_outputs(model, model.training_set_.X[:1]).shape[1]
    return _WithErasedClasses(model, estimator.classes_) if n_outputs == len(estimator.classes_) else model


class _WithErasedClasses(ClassifierMixin, BaseEstimator):
    """A retrained classifier whose net, built by the user, kept an output for every class that was erased.

    It was never shown those outputs' classes. Which of them belongs to which is all the same, for they were initialised
    alike.
    """

    def __init__(self, model: Any, classes: NDArray[Any]) -> None:
        self.model = model
        self.classes_ = classes

    def predict_proba(self, X: Any) -> NDArray[Any]:
        shown = self.model.classes_
        order = np.concatenate([shown, np.setdiff1d(self.classes_, shown)])
        return _all_outputs(self.model, X)[:, np.argsort(order)]

    def predict(self, X: Any) -> NDArray[Any]:
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


def _all_outputs(model: Any, X: Any) -> NDArray[Any]:
    """Return what the net gives, of which ``predict_proba`` leaves out what stands for no class of ``fit``."""
    return np.asarray(model.net_.predict_proba(np.asarray(X, dtype=model.training_set_.X.dtype)))
