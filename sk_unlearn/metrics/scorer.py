"""A scikit-learn scorer that judges forgetting against retraining."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, check_memory

from sk_unlearn.metrics.distance import Distance, check_distance, last_step, retrain_distance

Forget: TypeAlias = float | Mapping[str, Any] | Callable[[Any, Any, np.random.Generator], Any]


def make_retrain_scorer(
    distance: Distance = "js",
    *,
    forget: Forget = 0.1,
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
    distance : {"js", "kl", "total_variation", "accuracy", "parameters", "rms"}, default="js"
        See `sk_unlearn.metrics.retrain_distance`. "rms" for regressors.
    forget : float, int, {"class": label} or callable, default=0.1
        Which training rows to erase: a share of them in (0, 1), a number of them, every row of one class, or
        ``forget(X, y, rng)`` that returns a boolean mask over or indices into the training rows. It is given these rows
        as the estimator stores them (in a pipeline: transformed), their original labels, and a
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
        A callable ``scorer(estimator, X, y=None) -> float``, picklable and clonable.

    Raises
    ------
    ValueError, TypeError
        If a parameter is not one of the above.

    Notes
    -----
    `y` is not used: the truth is what the references predict. Forgetting by content erases every stored copy of a row,
    so that more rows may go than were asked for; the references are trained without them too. In a pipeline the earlier
    steps stay as they were fitted, for the copy and for the references: the score is that of the last step.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sk_unlearn.metrics import make_retrain_scorer
    >>> scorer = make_retrain_scorer("js", forget=0.2)
    >>> scorer
    RetrainScorer(forget=0.2)
    """
    check_distance(distance)
    _check_forget(forget)
    if not _is_int(n_references) or n_references < 1:
        raise ValueError(f"n_references must be an int of at least 1, got {n_references!r}.")
    if not _is_int(random_state) or not 0 <= random_state < 2**32:
        raise ValueError(
            f"random_state must be an int in [0, 2**32), got {random_state!r}: "
            "every candidate has to be judged on the same erased rows."
        )
    check_memory(memory)
    return RetrainScorer(
        distance=distance, forget=forget, n_references=n_references, random_state=random_state, memory=memory
    )


class RetrainScorer(BaseEstimator):
    """What `make_retrain_scorer` returns; see there. A BaseEstimator, so that it clones, prints and has parameters."""

    def __init__(
        self,
        distance: Distance = "js",
        *,
        forget: Forget = 0.1,
        n_references: int = 1,
        random_state: int = 0,
        memory: Any = None,
    ) -> None:
        self.distance = distance
        self.forget = forget
        self.n_references = n_references
        self.random_state = random_state
        self.memory = memory

    def __call__(self, estimator: Any, X: Any, y: Any = None) -> float:
        """Return minus the distance to retrained models; `estimator` is left as it is.

        Parameters
        ----------
        estimator : fitted unlearnable estimator, or Pipeline that ends in one
            The candidate.
        X : array-like of shape (n_rows, ...)
            Rows to compare predictions on, besides the erased ones.
        y : ignored
            Here because scikit-learn passes it.

        Returns
        -------
        float
            At most 0, which is best.

        Raises
        ------
        ValueError
            If the estimator cannot forget, kept no training rows or cannot be measured by `distance`, or if the request
            covers no training rows or all of them.
        """
        model = last_step(estimator)
        _check_can_forget(model)
        check_distance(self.distance, model)
        if isinstance(estimator, Pipeline) and len(estimator) > 1:
            X = estimator[:-1].transform(X)

        unlearned, X_erased = self._forget(model)
        references = self._references(model, unlearned)
        return -float(
            np.mean(
                [
                    retrain_distance(unlearned, reference, rows, self.distance)
                    for reference in references
                    for rows in (X_erased, X)
                ]
            )
        )

    def _forget(self, model: Any) -> tuple[Any, Any]:
        """Return a copy of the model that forgot, and the rows it was asked to forget."""
        if isinstance(self.forget, Mapping) and not is_classifier(model):
            raise ValueError(f"forget={self.forget!r} names a class, and {type(model).__name__} is not a classifier.")
        X, y = model.training_set_.X, _stored_targets(model)
        erased = _rows_to_erase(self.forget, X, y, np.random.default_rng(self.random_state))
        unlearned = copy.deepcopy(model)
        # With the labels, a row of another class that happens to have the same features stays.
        unlearned.forget(X[erased], y[erased])
        if len(unlearned.training_set_) == 0:
            raise ValueError(
                f"forget={self.forget!r} left no training row to retrain on: every row is a copy of an erased one."
            )
        return unlearned, X[erased]

    def _references(self, model: Any, unlearned: Any) -> list[Any]:
        """Train one model for each seed on what `unlearned` still holds."""
        fit = check_memory(self.memory).cache(_fit_reference)
        rows = unlearned.training_set_
        blank = clone(model)
        if not getattr(model.unlearner, "changes_training", False):
            # Left out so that all candidates that differ in it share a reference; it has no part in training.
            blank.set_params(unlearner=None)
        return [
            fit(
                clone(blank).set_params(random_state=seed),
                rows.X,
                _stored_targets(unlearned),
                rows.sample_weight,
                rows.sample_id,
            )
            for seed in self._seeds(model.random_state)
        ]

    def _seeds(self, own: Any) -> list[int]:
        # Below 2**31, which every seed argument of torch and NumPy takes.
        derived = np.random.SeedSequence(self.random_state).generate_state(self.n_references) >> 1
        seeds = [int(seed) for seed in derived]
        return [int(own), *seeds[1:]] if _is_int(own) else seeds


def _fit_reference(
    reference: Any, X: NDArray[Any], y: NDArray[Any], sample_weight: NDArray[Any] | None, sample_id: NDArray[Any] | None
) -> Any:
    """Train a reference; a function of the module so that joblib can cache it by its arguments."""
    given = {"sample_weight": sample_weight, "sample_id": sample_id}
    return reference.fit(X, y, **{name: values for name, values in given.items() if values is not None})


def _stored_targets(model: Any) -> NDArray[Any]:
    """Return the training targets as the user gave them: classifiers store labels encoded, regressors columns."""
    rows = model.training_set_
    y = np.asarray(rows.y)
    if hasattr(model, "classes_"):
        return np.asarray(model.classes_)[y.astype(np.intp)]
    return y.ravel() if y.ndim == 2 and np.ndim(model.predict(rows.X[:1])) == 1 else y


def _rows_to_erase(forget: Forget, X: NDArray[Any], y: NDArray[Any], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the sorted indices of the training rows to erase: at least one, and not all."""
    n_rows = len(X)
    if callable(forget):
        indices = _as_indices(forget(X, y, rng), n_rows)
    elif isinstance(forget, Mapping):
        indices = np.flatnonzero(y == forget["class"])
        if len(indices) == 0:
            raise ValueError(
                f"forget={forget!r} names a class without training rows; those with some are {np.unique(y).tolist()}."
            )
    else:
        count = int(forget) if _is_int(forget) else max(1, round(float(forget) * n_rows))
        indices = np.sort(rng.permutation(n_rows)[:count])
    if not 0 < len(indices) < n_rows:
        raise ValueError(
            f"forget={forget!r} asks for {len(indices)} of {n_rows} training rows to be erased; "
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
        f"forget(X, y, rng) must return a boolean mask of shape ({n_rows},) or indices in [0, {n_rows}), "
        f"got {selected.dtype} values of shape {selected.shape}."
    )


def _check_forget(forget: Any) -> None:
    if callable(forget):
        return
    if isinstance(forget, Mapping):
        valid = set(forget) == {"class"}
    elif _is_int(forget):
        valid = forget >= 1
    else:
        valid = isinstance(forget, Real) and not isinstance(forget, (bool, np.bool_)) and 0 < float(forget) < 1
    if not valid:
        raise ValueError(
            "forget must be a float in (0, 1), an int of at least 1, {'class': label} or a callable "
            f"forget(X, y, rng), got {forget!r}."
        )


def _check_can_forget(model: Any) -> None:
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
