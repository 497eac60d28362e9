"""Train the models that an audit compares with; Ctrl-C keeps those that are done."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier

from sk_unlearn.estimators.shards.base import BaseSharded
from sk_unlearn.references.many import fit_many
from sk_unlearn.rows.parts import for_net
from sk_unlearn.rows.storage import RowStorage
from sk_unlearn.utils._interrupts import noticed_interrupts
from sk_unlearn.utils._progress import progress

__all__ = ["References", "Rows", "changes_training", "silent", "train_references"]

# Models that are trained together take less time each. Between batches, though, progress can be shown, and an interrupt
# keeps the batches that are done.
_N_BATCHES = 4
# Smaller stacks gain little, where there are enough models for larger ones.
_MODELS_A_BATCH = 4


class Rows(NamedTuple):
    """Rows, their targets as the user gives them, their weights, and identifiers where training depends on them."""

    X: Any
    y: Any
    weight: Any = None
    sample_id: Any = None


class References(NamedTuple):
    """Retrained models, their seeds, the seconds that one took, and whether they are all that were asked for."""

    models: list[Any]
    seeds: list[int]
    seconds: float
    complete: bool


def changes_training(unlearner: Any) -> bool:
    """Tell whether an unlearner, None for the default one, changes the parameters that training arrives at.

    Retrained models then need it in their training too.

    Parameters
    ----------
    unlearner : Unlearner or None
        None, and what declares no tags, changes nothing.

    Returns
    -------
    changes : bool
    """
    tags = getattr(unlearner, "__unlearner_tags__", None)
    return tags is not None and bool(tags().changes_training)


def silent(model: Any) -> Any:
    """Return a model that is told to show no progress; one of many shards has it said to each of them.

    Parameters
    ----------
    model : estimator
        Not fitted, and changed.
    """
    names = [name for name in ("verbose", "estimator__verbose") if name in model.get_params()]
    return model.set_params(**dict.fromkeys(names[:1], 0))


def train_references(
    estimator: Any, rows: Rows, seeds: Sequence[int], *, n_jobs: int | None = None, verbose: int | None = None
) -> References:
    """Train a clone of the estimator for each seed on the rows that stay.

    Parameters
    ----------
    estimator : unlearnable estimator
        Left as it is.
    rows : Rows
        What stays.
    seeds : sequence of int
        One for each model.
    n_jobs : int or None
        See `sk_unlearn.references.many.fit_many`.
    verbose : int or None
        Above 0 shows on stderr how many are done; None does where somebody looks on.
    """
    blank = silent(clone(estimator))
    if not changes_training(estimator.unlearner):
        # The unlearner has no part in training, and may keep the models from being trained together.
        blank.set_params(unlearner=None)
    models: list[Any] = []
    started = time.perf_counter()
    with (
        noticed_interrupts() as interrupted,
        progress(len(seeds), "audit: retraining", unit="model", verbose=verbose) as bar,
    ):
        for batch in np.array_split(np.asarray(seeds), _n_batches(len(seeds), n_jobs)):
            try:
                done = fit_many(
                    blank, rows.X, rows.y, seeds=batch.tolist(), sample_weight=rows.weight, sample_id=rows.sample_id,
                    n_jobs=n_jobs,
                )  # fmt: skip
            except KeyboardInterrupt:
                break
            # skorch ends a training at Ctrl-C and returns as if it were complete: such a model is no reference.
            if interrupted:
                break
            models += [_with_all_outputs(model, estimator) for model in done]
            bar.update(len(done))
    if len(models) < len(seeds) and bar.is_shown:
        print(f"audit: interrupted; going on with {len(models)} of {len(seeds)} models", file=sys.stderr)
    seconds = (time.perf_counter() - started) / max(len(models), 1)
    return References(models, list(seeds[: len(models)]), seconds, len(models) == len(seeds))


def _n_batches(n_models: int, n_jobs: int | None) -> int:
    n_large_enough = n_models if n_models < 2 * _MODELS_A_BATCH else n_models // _MODELS_A_BATCH
    # With a model for every worker, or most of a cluster would wait while a few of its workers train.
    return min(_N_BATCHES, n_large_enough, max(1, n_models // effective_n_jobs(n_jobs)))


def _with_all_outputs(model: Any, estimator: Any) -> Any:
    """Let a retrained net's spare outputs, if it has them, stand for the classes of which no row is left.

    A net built by the user may keep one output for every class, whatever rows it is retrained on.
    """
    if not is_classifier(estimator) or len(model.classes_) == len(estimator.classes_):
        return model
    n_outputs = _all_outputs(model, model.training_set_.X[:1]).shape[1]
    return _WithErasedClasses(model, estimator.classes_) if n_outputs == len(estimator.classes_) else model


class _WithErasedClasses(ClassifierMixin, BaseEstimator):
    """A retrained classifier whose net, built by the user, kept an output for every class that was erased.

    It was never shown a row of the erased classes. Which of its spare outputs stands for which of them makes no
    difference, since all were initialised alike.
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
    """Return the probabilities of all outputs; ``predict_proba`` leaves out those of no class of ``fit``."""
    if isinstance(model, BaseSharded):
        return np.mean([_all_outputs(each, X) for each in model.estimators_ if each is not None], axis=0)
    # A copy: rows of a training set are read-only, of which PyTorch warns.
    rows = model._validate_features(X)
    return np.asarray(model.net_.predict_proba(for_net(rows if isinstance(rows, RowStorage) else rows.copy())))
