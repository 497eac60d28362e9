"""What a search does to one fold: fit, draw requests, retrain references, and try a candidate."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline

from sk_unlearn.estimators.lookup import named
from sk_unlearn.metrics.distances import last_step
from sk_unlearn.metrics.scorer import RetrainScorer, check_can_forget, check_measurable, measure
from sk_unlearn.references.cases import Case, fit_references, stored_targets
from sk_unlearn.rows.forms import joined, taken
from sk_unlearn.utils._cache import cached, fingerprint

__all__ = [
    "Candidate",
    "Fold",
    "Outcome",
    "Prepared",
    "Trial",
    "build_candidates",
    "cloned",
    "fit_fold",
    "halved",
    "retrain",
    "try_candidate",
]


@dataclass(frozen=True)
class Trial:
    """One deletion, what retraining makes of it, and the unseen rows that both are compared on."""

    X_erased: Any
    y_erased: NDArray[Any]
    references: list[Any]
    X: Any
    y: Any


@dataclass(frozen=True)
class Fold:
    """A fitted estimator and, in two entries each, the deletions to select and to report by.

    Erased and retained rows are numbers of stored rows; the unseen ones had no part in training.
    """

    fitted: Any
    targets: NDArray[Any]
    erased: list[NDArray[np.intp]]
    retained: list[NDArray[np.intp]]
    unseen: list[tuple[Any, Any]]
    seconds: float

    def trials(self, references: list[list[Any]]) -> list[Trial]:
        """Return both deletions with the models that were retrained for each."""
        rows = self.fitted.training_set_
        return [
            Trial(named(self.fitted, rows.X[gone]), self.targets[gone], models, X, y)
            for gone, models, (X, y) in zip(self.erased, references, self.unseen, strict=True)
        ]


@dataclass(frozen=True)
class Prepared:
    """A fold with its references."""

    fitted: Any
    select: Trial
    report: Trial


@dataclass(frozen=True)
class Outcome:
    """What one candidate did with one request."""

    scores: dict[str, float]
    forget_seconds: float = float("nan")
    score_seconds: float = float("nan")
    error: str = ""


@dataclass(frozen=True)
class Candidate:
    """Parameters as the user wrote them, the unlearner they make, and which fits it can use."""

    params: dict[str, Any]
    unlearner: Any
    training: str


def build_candidates(estimator: Any, param_grid: Any) -> list[Candidate]:
    """Build the unlearner of every candidate, so that what is wrong with one is said before anything is fitted."""
    prefix = f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""
    if not hasattr(last_step(estimator), "forget"):
        raise ValueError(
            "estimator must be one that can forget, such as UnlearnableClassifier, or a Pipeline that ends in one; "
            f"got {type(last_step(estimator)).__name__}."
        )
    candidates = []
    for params in ParameterGrid(param_grid):
        for name in params:
            if name != f"{prefix}unlearner" and not name.startswith(f"{prefix}unlearner__"):
                raise ValueError(
                    f"param_grid varies {name!r}, but ForgetSearchCV fits once for all candidates, so they may "
                    f"differ in {prefix}unlearner and {prefix}unlearner__... only. Search other parameters with "
                    "GridSearchCV and make_retrain_scorer."
                )
        whole = clone(estimator)
        if last_step(whole).unlearner is None and f"{prefix}unlearner" not in params and params:
            raise ValueError(
                f"param_grid varies {next(iter(params))!r}, and unlearner=None has no parameters; give the "
                "estimator an unlearner, such as StoCuReNU()."
            )
        unlearner = last_step(whole.set_params(**cloned(params))).unlearner
        candidates.append(Candidate(params, unlearner, _training(unlearner)))
    return candidates


def _training(unlearner: Any) -> str:
    """Return the same text for unlearners that can use the same fit."""
    make = getattr(unlearner, "recorder", None)
    recorder = None if make is None else make()
    return "" if recorder is None else fingerprint(recorder)


def halved(
    train: NDArray[np.intp], test: NDArray[np.intp], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows to train on, and those left out in two parts: to select and to report by."""
    train, test = np.asarray(train), np.asarray(test)
    if len(test) < 2:
        raise ValueError(f"cv must leave out at least 2 rows a fold, to select and to report by; it left {len(test)}.")
    order = rng.permutation(test)
    return train, np.sort(order[: (len(test) + 1) // 2]), np.sort(order[(len(test) + 1) // 2 :])


def fit_fold(
    estimator: Any,
    X: Any,
    y: Any,
    split: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]],
    fit_params: dict[str, Any],
    scorers: tuple[RetrainScorer, RetrainScorer],
    memory: Any,
) -> Fold:
    """Fit on one fold and draw the two requests."""
    train, *unseen = split
    started = time.perf_counter()
    model = last_step(estimator)
    caches = memory is not None and "memory" in model.get_params(deep=False)
    if caches:
        own = model.memory
        model.set_params(memory=memory)
    given = {name: _rows(value, train, len(y)) for name, value in fit_params.items()}
    estimator.fit(taken(X, train), taken(y, train), **given)
    if caches:
        model.set_params(memory=own)
    seconds = time.perf_counter() - started
    check_can_forget(model)
    rows, targets = model.training_set_, stored_targets(model)
    present = np.ones(len(rows), dtype=bool)
    erased, retained = [], []
    for scorer in scorers:
        # Among what the request before left, so that they share no row.
        wanted = scorer.draw(model, among=np.flatnonzero(present))
        gone = rows.locate(rows.X[wanted], rows.y[wanted], name="request")
        present[gone] = False
        erased.append(wanted)
        retained.append(np.setdiff1d(np.arange(len(rows)), gone))
    transform = estimator[:-1].transform if isinstance(estimator, Pipeline) and len(estimator) > 1 else None
    seen = [(taken(X, at), taken(y, at)) for at in unseen]
    for name in scorers[0].names_for(model):
        check_measurable(name, model, seen[0][1])
    if transform is not None:
        seen = [(transform(X_at), y_at) for X_at, y_at in seen]
    return Fold(model, targets, erased, retained, seen, seconds)


def retrain(
    folds: list[Fold], scorers: tuple[RetrainScorer, RetrainScorer], *, n_jobs: int | None, memory: Any
) -> list[list[list[Any]]]:
    """Train the references of every fold and deletion, on the rows of all folds in one array.

    In one array, because many networks train together for little more than one.
    """
    stored = [fold.fitted.training_set_ for fold in folds]
    starts = np.cumsum([0] + [len(rows) for rows in stored])
    weights = [np.ones(len(rows)) if rows.sample_weight is None else rows.sample_weight for rows in stored]
    subsets, seeds = [], []
    for fold, start in zip(folds, starts, strict=False):
        for scorer, retained in zip(scorers, fold.retained, strict=True):
            own = scorer.seeds(fold.fitted)
            seeds += own
            subsets += [start + retained] * len(own)
    models = cached(
        memory,
        partial(fit_references, n_jobs=n_jobs),
        scorers[0].blank(folds[0].fitted),
        seeds,
        named(folds[0].fitted, reduce(joined, [rows.X for rows in stored])),
        np.concatenate([fold.targets for fold in folds]),
        None if all(rows.sample_weight is None for rows in stored) else np.concatenate(weights),
        None,
        subsets,
    )
    each = scorers[0].n_references
    of_requests = [models[at : at + each] for at in range(0, len(models), each)]
    return [of_requests[at : at + len(scorers)] for at in range(0, len(of_requests), len(scorers))]


def try_candidate(
    fitted: Any, unlearner: Any, request: Trial, scorer: RetrainScorer, error_score: float | str
) -> Outcome:
    """Forget in a copy and measure it."""
    unlearned = copy.deepcopy(fitted).set_params(unlearner=clone(unlearner, safe=False))
    names = scorer.names_for(fitted)
    started = time.perf_counter()
    try:
        unlearned.forget(request.X_erased, request.y_erased)
        forgotten = time.perf_counter()
        case = Case(fitted, unlearned, request.references, request.X_erased, request.y_erased, request.X, request.y)
        scores = {name: measure(name, case) for name in names}
    except Exception as error:
        if error_score == "raise":
            raise
        failed = {name: float(error_score) for name in names}
        return Outcome(failed, error=f"{type(error).__name__}: {error}")
    return Outcome(scores, forgotten - started, time.perf_counter() - forgotten)


def cloned(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters whose estimators are copies, so that no candidate changes what the user holds."""
    return {name: clone(value, safe=False) for name, value in params.items()}


def _rows(value: Any, rows: NDArray[np.intp], n_rows: int) -> Any:
    """Cut what has one entry a row to the given rows; leave everything else as it is."""
    one_a_row = hasattr(value, "__len__") and not isinstance(value, str | Mapping) and len(value) == n_rows
    return taken(value, rows) if one_a_row else value
