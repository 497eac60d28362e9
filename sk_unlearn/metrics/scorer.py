"""A scikit-learn scorer that judges forgetting against retraining."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, check_memory

from sk_unlearn.estimators.lookup import named, stored_features
from sk_unlearn.metrics.distances import (
    DISTANCES,
    check_distance,
    distance_of,
    distance_ratio,
    last_step,
    retrain_distance,
    tug_of_war_score,
)
from sk_unlearn.metrics.forgetting import gap_closed, loss_ks_pvalue
from sk_unlearn.metrics.membership import tug_of_war_mia_score
from sk_unlearn.references.cases import Case, fit_references, stored_targets
from sk_unlearn.references.retrained import changes_training
from sk_unlearn.rows import SparseRows
from sk_unlearn.utils._cache import cached
from sk_unlearn.utils._progress import quiet

RequestLike: TypeAlias = float | Mapping[str, Any] | Callable[[Any, Any, np.random.Generator], Any]


def make_retrain_scorer(
    distance: str | Sequence[str] | None = None,
    *,
    request: RequestLike = 0.1,
    n_references: int = 1,
    random_state: int = 0,
    memory: Any = None,
) -> RetrainScorer:
    """Make a scorer that erases training rows from a fitted estimator and compares it with retrained ones.

    The scorer works wherever scikit-learn takes a ``scoring=``. Called with a fitted unlearnable estimator, or a
    Pipeline that ends in one, it picks training rows, lets a copy of the estimator forget them, trains references on
    the rows that the copy still holds, and returns **minus** the distance between the copy and the references, so that
    higher is better and 0 is best.

    The distance is the mean of two halves: on the erased rows, where a model that forgot too little or too much gives
    itself away, and on the rows being scored, where one that forgot at the expense of everything else does.

    Parameters
    ----------
    distance : str or sequence of str, default=None
        None is "js", and "rms" for regressors.

        - "js", "kl", "total_variation", "accuracy", "parameters" or "rms" (for regressors): see `retrain_distance`.
        - "distance_ratio": minus the `distance_ratio`, by "js" or for regressors by "rms". Needs two references.
        - "gap_closed": see `gap_closed`; on the erased rows, by "js" or "rms".
        - "tug_of_war", "tug_of_war_mia": see `tug_of_war_score` and `tug_of_war_mia_score`, for classifiers; the rows
          that the scorer is given are the test rows, and need `y`.
        - "ks_pvalue": see `loss_ks_pvalue`; on the erased rows.

        A sequence of them makes a scorer that returns a dictionary, as scikit-learn takes it for several metrics at
        once: the copy forgets once and references are trained once for all of them.
    request : float, int, {"class": label} or callable, default=0.1
        Which training rows to erase: a share of them in (0, 1), a number of them, every row of one class, or
        ``request(X, y, rng)`` that returns a boolean mask over or indices into the training rows. It is given these
        rows as the estimator stores them (in a pipeline: transformed), their original labels, and a
        `numpy.random.Generator`.
    n_references : int, default=1
        How many models to retrain. The distance is averaged over them; more tell the quality of forgetting from the
        luck of one seed.
    random_state : int, default=0
        Draws the erased rows and the references' seeds. An int, so that all candidates of a search are judged on the
        same request. The first reference keeps the estimator's own ``random_state`` where that is an int, and with it
        the same initialisation; the others get derived seeds.
    memory : None, str or joblib.Memory, default=None
        Where to keep references. With it one is trained once for each fold and seed instead of once for each candidate,
        as long as the candidates differ in their unlearner alone. What is kept contains the retained rows.

    Returns
    -------
    RetrainScorer
        A callable ``scorer(estimator, X, y=None)``, picklable and clonable, that returns a float, or a dictionary of
        them where `distance` is a sequence. Higher is better for each.

    Raises
    ------
    ValueError, TypeError
        If a parameter is not one of the above.

    Notes
    -----
    Distances do not use `y`: the truth is what the references predict. Forgetting by content erases every stored
    copy of a row, so that more rows may go than were asked for; the references are trained without them too. In a
    pipeline the earlier steps stay as they were fitted, for the copy and for the references: the score is that of the
    last step.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sk_unlearn.metrics import make_retrain_scorer
    >>> scorer = make_retrain_scorer(request=0.2)
    >>> scorer
    RetrainScorer(request=0.2)
    """
    if distance is not None:
        _check_names(distance)
    _check_request(request)
    if not _is_int(n_references) or n_references < 1:
        raise ValueError(f"n_references must be an int of at least 1, got {n_references!r}.")
    if distance is not None and "distance_ratio" in _names(distance) and n_references < 2:
        raise ValueError(f"distance='distance_ratio' needs n_references of at least 2, got {n_references}.")
    if not _is_int(random_state) or not 0 <= random_state < 2**32:
        raise ValueError(
            f"random_state must be an int in [0, 2**32), got {random_state!r}: "
            "every candidate has to be judged on the same erased rows."
        )
    check_memory(memory)
    return RetrainScorer(
        distance=distance, request=request, n_references=n_references, random_state=random_state, memory=memory
    )


class RetrainScorer(BaseEstimator):
    """What `make_retrain_scorer` returns; see there. A BaseEstimator, so that it clones, prints and has parameters."""

    def __init__(
        self,
        distance: str | Sequence[str] | None = None,
        *,
        request: RequestLike = 0.1,
        n_references: int = 1,
        random_state: int = 0,
        memory: Any = None,
    ) -> None:
        self.distance = distance
        self.request = request
        self.n_references = n_references
        self.random_state = random_state
        self.memory = memory

    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float | dict[str, float]:
        """Judge one deletion against retrained models; `estimator` is left as it is.

        Parameters
        ----------
        estimator : fitted unlearnable estimator, or Pipeline that ends in one
            The candidate.
        X : array-like of shape (n_rows, ...)
            Rows to compare predictions on, besides the erased ones.
        y : array-like of shape (n_rows,), default=None
            Their targets, for the measures that use them.

        Returns
        -------
        float or dict of str to float
            Higher is better; minus a distance is at most 0.

        Raises
        ------
        ValueError
            If the estimator cannot forget, kept no training rows or cannot be measured by `distance`, or if the request
            covers no training rows or all of them.
        """
        model = last_step(estimator)
        check_can_forget(model)
        names = self.names_for(model)
        for name in names:
            check_measurable(name, model, y)
        if isinstance(estimator, Pipeline) and len(estimator) > 1:
            X = estimator[:-1].transform(X)
        with quiet():  # a search has a score taken many times
            unlearned, X_erased, y_erased = self._forget(model)
            case = Case(model, unlearned, self._references(model, unlearned), X_erased, y_erased, X, y)
        scores = {name: measure(name, case) for name in names}
        return scores[names[0]] if self.distance is None or isinstance(self.distance, str) else scores

    def _forget(self, model: Any) -> tuple[Any, Any, Any]:
        """Return a copy of the model that forgot, and the rows and targets it was asked to forget."""
        X, y = stored_features(model), stored_targets(model)
        erased = self.draw(model)
        unlearned = copy.deepcopy(model)
        # With the labels, a row of another class that happens to have the same features stays.
        X_erased = named(model, X[erased])
        unlearned.forget(X_erased, y[erased])
        if len(unlearned.training_set_) == 0:
            raise ValueError(
                f"request={self.request!r} left no training row to retrain on: every row is a copy of an erased one."
            )
        return unlearned, X_erased, y[erased]

    def _references(self, model: Any, unlearned: Any) -> list[Any]:
        """Train one model for each seed on what `unlearned` still holds."""
        rows = unlearned.training_set_
        references: list[Any] = cached(
            self.memory,
            fit_references,
            self.blank(model),
            self.seeds(model),
            named(unlearned, stored_features(unlearned)),
            stored_targets(unlearned),
            rows.sample_weight,
            rows.sample_id,
        )
        return references

    # What a search needs that draws several requests and trains all their references together.

    def draw(self, model: Any, among: NDArray[np.intp] | None = None) -> NDArray[np.intp]:
        """Return the numbers of the training rows to erase, chosen among all or some of them."""
        if isinstance(self.request, Mapping) and not is_classifier(model):
            raise ValueError(f"request={self.request!r} names a class, and {type(model).__name__} is not a classifier.")
        X, y = stored_features(model), stored_targets(model)
        rng = np.random.default_rng(self.random_state)
        if among is None:
            return rows_to_erase(self.request, X, y, rng)
        return among[rows_to_erase(self.request, X[among], y[among], rng, n_all=len(X))]

    def blank(self, model: Any) -> Any:
        """Return what references are clones of."""
        blank = clone(model)
        # Left out so that all candidates that differ in it share references; it has no part in training, but for those
        # that say so.
        if not changes_training(model.unlearner):
            blank.set_params(unlearner=None)
        if "memory" in blank.get_params(deep=False):
            # Of other fits; and a cache at another place makes no other references.
            blank.set_params(memory=None)
        # Whatever the seed of the candidate: each reference gets its own.
        return blank.set_params(random_state=None)

    def seeds(self, model: Any) -> list[int]:
        """Return a seed for each reference; the model's own, if it has one, comes first."""
        # Below 2**31, which every seed argument of torch and NumPy takes.
        derived = np.random.SeedSequence(self.random_state).generate_state(self.n_references) >> 1
        seeds = [int(seed) for seed in derived]
        return [int(model.random_state), *seeds[1:]] if _is_int(model.random_state) else seeds

    def names_for(self, model: Any) -> list[str]:
        """Return the measures, however many."""
        return [distance_of(model)] if self.distance is None else _names(self.distance)


def _negative_distance(case: Case, distance: Any) -> float:
    halves = (case.X_erased, case.X)
    return -float(
        np.mean([retrain_distance(case.unlearned, r, rows, distance) for r in case.references for rows in halves])
    )


def _negative_ratio(case: Case) -> float:
    halves = (case.X_erased, case.X)
    return -float(np.mean([distance_ratio(case.unlearned, case.references, rows, case.by) for rows in halves]))


def _gap_closed(case: Case) -> float:
    return gap_closed(case.unlearned, case.fitted, case.references, case.X_erased, case.by)


def _tug_of_war_of(score: Callable[..., float]) -> Callable[[Case], float]:
    def measured(case: Case) -> float:
        sets = (case.X_erased, case.y_erased, *case.retained, case.X, case.y)
        return float(np.mean([score(case.unlearned, reference, *sets) for reference in case.references]))

    return measured


def _ks_pvalue(case: Case) -> float:
    return float(np.mean([loss_ks_pvalue(case.unlearned, r, case.X_erased, case.y_erased) for r in case.references]))


_MEASURES: dict[str, Callable[[Case], float]] = {
    "distance_ratio": _negative_ratio,
    "gap_closed": _gap_closed,
    "tug_of_war": _tug_of_war_of(tug_of_war_score),
    "tug_of_war_mia": _tug_of_war_of(tug_of_war_mia_score),
    "ks_pvalue": _ks_pvalue,
}


def measure(name: str, case: Case) -> float:
    """Measure one deletion; higher is better."""
    return _MEASURES[name](case) if name in _MEASURES else _negative_distance(case, name)


def _names(distance: str | Sequence[str]) -> list[str]:
    return [distance] if isinstance(distance, str) else list(distance)


def _check_names(distance: Any) -> None:
    known = (*DISTANCES, *_MEASURES)
    listed = isinstance(distance, Sequence) and not isinstance(distance, str)
    names = list(distance) if listed else [distance]
    if not names or not all(isinstance(name, str) and name in known for name in names):
        raise ValueError(
            f"distance must be one of {', '.join(map(repr, known))}, or a sequence of such names; got {distance!r}."
        )


def check_measurable(name: str, model: Any, y: Any) -> None:
    """Raise a ValueError if the model, or rows without targets, cannot be measured by `name`."""
    if name in DISTANCES:
        check_distance(name, model)
    elif name.startswith("tug_of_war"):
        if not is_classifier(model):
            raise ValueError(f"distance={name!r} compares accuracies, and {type(model).__name__} is not a classifier.")
        if y is None:
            raise ValueError(f"distance={name!r} needs the labels of the rows that are scored: pass y.")


def rows_to_erase(
    request: RequestLike, X: NDArray[Any], y: NDArray[Any], rng: np.random.Generator, *, n_all: int | None = None
) -> NDArray[np.intp]:
    """Return the sorted indices of the training rows to erase: at least one, and not all.

    A share is one of `n_all` rows, if the rows given are not all.
    """
    n_rows = len(X)
    if callable(request):
        given = X.tocsr() if isinstance(X, SparseRows) else X
        indices = _as_indices(request(given, y, rng), n_rows)
    elif isinstance(request, Mapping):
        indices = np.flatnonzero(y == request["class"])
        if len(indices) == 0:
            raise ValueError(
                f"request={request!r} names a class without training rows; those with some are {np.unique(y).tolist()}."
            )
    else:
        count = int(request) if _is_int(request) else max(1, round(float(request) * (n_all or n_rows)))
        indices = np.sort(rng.permutation(n_rows)[:count])
    if not 0 < len(indices) < n_rows:
        raise ValueError(
            f"request={request!r} asks for {len(indices)} of {n_rows} training rows to be erased; "
            "it must be at least one, and leave at least one to retrain on."
        )
    return indices


def _as_indices(selected: Any, n_rows: int) -> NDArray[np.intp]:
    selected = np.asarray(selected)
    if selected.dtype == bool and selected.shape == (n_rows,):
        return np.flatnonzero(selected)
    if selected.size == 0:
        return np.empty(0, dtype=np.intp)
    if selected.dtype.kind in "iu" and selected.ndim == 1 and selected.min() >= 0 and selected.max() < n_rows:
        return np.unique(selected).astype(np.intp)
    raise ValueError(
        f"request(X, y, rng) must return a boolean mask of shape ({n_rows},) or indices in [0, {n_rows}), "
        f"got {selected.dtype} values of shape {selected.shape}."
    )


def _check_request(request: Any) -> None:
    if callable(request):
        return
    if isinstance(request, Mapping):
        valid = set(request) == {"class"}
    elif _is_int(request):
        valid = request >= 1
    else:
        valid = isinstance(request, Real) and not isinstance(request, (bool, np.bool_)) and 0 < float(request) < 1
    if not valid:
        raise ValueError(
            "request must be a float in (0, 1), an int of at least 1, {'class': label} or a callable "
            f"request(X, y, rng), got {request!r}."
        )


def check_can_forget(model: Any) -> None:
    """Raise an error if the model is not fitted, cannot forget or keeps no rows."""
    name = type(model).__name__
    if not hasattr(model, "forget"):
        raise ValueError(
            "This scorer needs an estimator that can forget, such as UnlearnableClassifier, or a Pipeline that ends in "
            f"one; got {name}."
        )
    check_is_fitted(model)
    if getattr(model, "training_set_", None) is None:
        raise ValueError(
            f"This scorer draws the rows to erase from those that the estimator keeps, and {name} kept none; "
            "set keep_training_set=True."
        )


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, (bool, np.bool_))
