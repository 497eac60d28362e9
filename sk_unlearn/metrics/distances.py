"""How far a model that forgot is from one retrained without the erased rows.

The first half works on arrays (float64, natural logarithms), the second on fitted estimators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr, xlog1py
from sklearn.base import is_regressor
from sklearn.metrics import accuracy_score
from sklearn.pipeline import Pipeline

Distance = Literal["js", "kl", "total_variation", "accuracy", "parameters", "rms"]

Floats: TypeAlias = NDArray[np.float64]
"""What measures compute with."""

DISTANCES: tuple[str, ...] = get_args(Distance)
"""The names that ``distance=`` accepts."""

# Half-precision softmax rows miss 1 by up to about 1e-3; anything beyond is not a rounding error.
_SUM_TOLERANCE = 2e-3


def jensen_shannon(p: ArrayLike, q: ArrayLike, *, classes: tuple[ArrayLike, ArrayLike] | None = None) -> float:
    """Return the mean Jensen-Shannon divergence between the rows of two probability matrices.

    For one row, ``½ KL(p ‖ m) + ½ KL(q ‖ m)`` with ``m = ½ (p + q)``: symmetric, 0 for equal rows and ln 2 for rows
    that share no class [1]_. This is the divergence, the square of `scipy.spatial.distance.jensenshannon`.

    Parameters
    ----------
    p, q : array-like of shape (n_rows, n_classes)
        Probabilities; each row sums to 1.
    classes : pair of array-like of shape (n_classes,), default=None
        The classes of the columns of `p` and of `q`, such as ``(model.classes_, retrained.classes_)``; a class that one
        of them lacks has probability 0 there. None where the columns are those of the same classes.

    Returns
    -------
    float
        Nats, in [0, ln 2].

    Raises
    ------
    ValueError
        If the shapes differ and `classes` does not say why, or a matrix is empty or does not hold probabilities.

    References
    ----------
    .. [1] Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37(1), 1991,
       section IV.
    """
    return float(_jensen_shannon_rows(*_two_probability_matrices(p, q, classes)).mean())


def _jensen_shannon_rows(p: Floats, q: Floats) -> Floats:
    total = p + q
    # With t = (p - q) / (p + q) a class contributes (p + q)/4 · [(1 + t) ln(1 + t) + (1 - t) ln(1 - t)]: exactly
    # symmetric, and without the cancellation between two divergences of either sign when p is close to q.
    t = np.divide(p - q, total, out=np.zeros_like(total), where=total > 0)
    rows = (total * (xlog1py(1 + t, t) + xlog1py(1 - t, -t))).sum(axis=1) / 4
    return np.clip(rows, 0.0, np.log(2))


def kl_divergence(p: ArrayLike, q: ArrayLike, *, classes: tuple[ArrayLike, ArrayLike] | None = None) -> float:
    """Return the mean Kullback-Leibler divergence ``KL(p ‖ q) = Σ p ln(p / q)`` over rows.

    Parameters
    ----------
    p, q : array-like of shape (n_rows, n_classes)
        Probabilities; each row sums to 1.
    classes : pair of array-like of shape (n_classes,), default=None
        The classes of the columns of `p` and of `q`, such as ``(model.classes_, retrained.classes_)``; a class that one
        of them lacks has probability 0 there. None where the columns are those of the same classes.

    Returns
    -------
    float
        Nats, in [0, ∞]. Infinite as soon as one row of `q` gives probability 0 to a class that `p` does not.

    Raises
    ------
    ValueError
        If the shapes differ and `classes` does not say why, or a matrix is empty or does not hold probabilities.
    """
    p, q = _two_probability_matrices(p, q, classes)
    return float(np.maximum(rel_entr(p, q).sum(axis=1), 0.0).mean())


def total_variation(p: ArrayLike, q: ArrayLike, *, classes: tuple[ArrayLike, ArrayLike] | None = None) -> float:
    """Return the mean total variation distance ``½ Σ |p - q|`` over rows.

    Parameters
    ----------
    p, q : array-like of shape (n_rows, n_classes)
        Probabilities; each row sums to 1.
    classes : pair of array-like of shape (n_classes,), default=None
        The classes of the columns of `p` and of `q`, such as ``(model.classes_, retrained.classes_)``; a class that one
        of them lacks has probability 0 there. None where the columns are those of the same classes.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ValueError
        If the shapes differ and `classes` does not say why, or a matrix is empty or does not hold probabilities.
    """
    p, q = _two_probability_matrices(p, q, classes)
    return float(np.minimum(np.abs(p - q).sum(axis=1) / 2, 1.0).mean())


def rms_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Return the root mean square difference between two sets of predictions.

    Parameters
    ----------
    a, b : array-like of shape (n_rows,) or (n_rows, n_outputs)
        Predictions.

    Returns
    -------
    float
        In the unit of the predictions; the mean runs over rows and outputs.

    Raises
    ------
    ValueError
        If the shapes differ, or an array is empty or not finite.
    """
    a, b = as_finite("a", a), as_finite("b", b)
    check_same_shape("a", a, "b", b)
    return float(np.sqrt(np.mean((a - b) ** 2)))


def tug_of_war(rates: ArrayLike, reference_rates: ArrayLike) -> float:
    """Return ``∏ (1 - |rate - reference rate|)``, what `tug_of_war_score` makes of accuracies.

    Parameters
    ----------
    rates, reference_rates : array-like of shape (n_sets,)
        Accuracies, or the success rate of an attack, of the model that forgot and of the retrained one.

    Returns
    -------
    float
        In [0, 1]; 1 is best.

    Raises
    ------
    ValueError
        If the shapes differ, or a rate lies outside [0, 1].

    Examples
    --------
    >>> from sk_unlearn.metrics import tug_of_war
    >>> tug_of_war([0.5, 1.0], [1.0, 0.5])
    0.25
    """
    a, b = as_finite("rates", rates), as_finite("reference_rates", reference_rates)
    check_same_shape("rates", a, "reference_rates", b)
    for name, values in (("rates", a), ("reference_rates", b)):
        if values.min() < 0 or values.max() > 1:
            raise ValueError(f"{name} must lie in [0, 1], got {values.tolist()}.")
    return float(np.prod(1 - np.abs(a - b)))


def retrain_distance(estimator: Any, reference: Any, X: Any, distance: Distance | None = None) -> float:
    """Return how far `estimator` is from `reference`, a model retrained without the erased rows.

    Parameters
    ----------
    estimator : estimator or Pipeline
        The model that forgot.
    reference : estimator or Pipeline
        The retrained model. It may lack a class that was erased entirely: probabilities are compared on the union of
        both models' classes, a class that a model does not know having probability 0.
    X : array-like of shape (n_rows, ...) or None
        Rows to predict on. Not used, and may be None, with ``distance="parameters"``.
    distance : {"js", "kl", "total_variation", "accuracy", "parameters", "rms"}, default=None
        None is "js", and "rms" for regressors.

        - "js": `jensen_shannon` of the predicted probabilities, nats.
        - "kl": ``KL(reference ‖ estimator)``, nats. The retrained model comes first because it may lack a class, which
          would make the other direction infinite.
        - "total_variation": `total_variation` of the predicted probabilities.
        - "accuracy": the share of rows on which the two predicted labels differ, in [0, 1]; the accuracy that one model
          loses when the other's predictions are taken for the truth, not a difference of two accuracies.
        - "parameters": Euclidean norm of the difference between the trainable parameters of both ``net_.module_``; in a
          pipeline those of the last step. For a non-convex net it means nothing between different seeds, since many
          parameters give the same predictions: put the norm between two retrained models beside it.
        - "rms": `rms_distance` of the predictions, for regressors.

    Returns
    -------
    float
        0 for two models that agree.

    Raises
    ------
    ValueError
        If `distance` is not one of the names above or cannot be computed for these models.

    See Also
    --------
    distance_ratio : The same, in units of the distance between retrained models.
    """
    by = distance_of(estimator) if distance is None else distance
    return _between(_outputs(estimator, X, by), _outputs(reference, X, by), by)


def distance_ratio(estimator: Any, references: Sequence[Any], X: Any, distance: Distance | None = None) -> float:
    """Return the distance to retrained models over the distance among them.

    Models retrained from different seeds differ from each other; that floor is the finest difference that retraining
    can tell. 1.0 is as good as retraining, 2.0 twice as far from a retrained model as another retrained model is.

    Parameters
    ----------
    estimator : estimator or Pipeline
        The model that forgot.
    references : sequence of at least two estimators or Pipelines
        Models retrained without the erased rows, each from another seed. Three give three pairs for the floor and are a
        sensible minimum for a number to publish.
    X : array-like of shape (n_rows, ...) or None
        Rows to predict on; see `retrain_distance`.
    distance : {"js", "kl", "total_variation", "accuracy", "parameters", "rms"}, default=None
        See `retrain_distance`; None is "js", and "rms" for regressors.

    Returns
    -------
    float
        Mean of ``distance(estimator, reference)`` over references, divided by the mean over pairs of references (in
        both orders, which matters for "kl" alone).

    Raises
    ------
    ValueError
        If there are fewer than two references, or their distance from each other is 0 or infinite, or for the reasons
        given in `retrain_distance`.
    """
    _check_enough(references)
    by = distance_of(estimator) if distance is None else distance
    own = _outputs(estimator, X, by)
    others = [_outputs(reference, X, by) for reference in references]

    def between(a: Any, b: Any) -> float:
        return _between(a, b, by)

    return float(np.mean([between(own, other) for other in others])) / _floor(others, between, by)


def _check_enough(references: Sequence[Any]) -> None:
    if len(references) < 2:
        raise ValueError(
            f"references must hold at least 2 models retrained from different seeds, got {len(references)}: "
            "the floor is the distance between them."
        )


def _floor(others: Sequence[Any], between: Callable[[Any, Any], float], name: str) -> float:
    """Return the mean distance among retrained models, in both orders."""
    _check_enough(others)
    floor = float(np.mean([between(a, b) for a, b in permutations(others, 2)]))
    if not 0 < floor < np.inf:
        raise ValueError(
            f"references must differ from each other by a finite amount, got a mean {name!r} distance of {floor} "
            "among them: retrain them from different random_state values, or choose another distance."
        )
    return floor


def tug_of_war_score(
    estimator: Any,
    reference: Any,
    X_erased: Any,
    y_erased: ArrayLike,
    X_retained: Any,
    y_retained: ArrayLike,
    X_test: Any,
    y_test: ArrayLike,
) -> float:
    """Return the Tug-of-War score, ``∏ (1 - |accuracy(estimator) - accuracy(reference)|)`` over the three sets.

    It rewards a classifier whose accuracies on erased, retained and unseen rows are those of the retrained one [1]_.
    It sees accuracies alone: two models that err on different rows can score 1.

    Parameters
    ----------
    estimator : classifier or Pipeline
        The model that forgot.
    reference : classifier or Pipeline
        The model retrained without the erased rows.
    X_erased, X_retained, X_test : array-like of shape (n_rows, ...)
        The rows of each set.
    y_erased, y_retained, y_test : array-like of shape (n_rows,)
        Their labels.

    Returns
    -------
    float
        In [0, 1]; 1 is best.

    Raises
    ------
    ValueError
        If one of the sets is empty, or its rows and labels differ in number.

    References
    ----------
    .. [1] Zhao, Kurmanji, Bărbulescu, Triantafillou and Triantafillou, "What makes unlearning hard and what to do about
       it", NeurIPS 2024, the "ToW" metric.
    """
    accuracies = []
    for name, X, y in (
        ("erased", X_erased, y_erased),
        ("retained", X_retained, y_retained),
        ("test", X_test, y_test),
    ):
        if np.shape(y)[0] == 0:
            raise ValueError(f"X_{name} and y_{name} must hold at least one row, got none.")
        accuracies.append([accuracy_score(y, model.predict(X)) for model in (estimator, reference)])
    return tug_of_war(*np.transpose(accuracies))


def last_step(estimator: Any) -> Any:
    """Return the last step of a Pipeline, and any other estimator as it is."""
    return estimator[-1] if isinstance(estimator, Pipeline) else estimator


def check_distance(distance: str, estimator: Any = None) -> None:
    """Raise a ValueError if `distance` is not a known one, or not one that `estimator` can be measured by."""
    if distance not in DISTANCES:
        raise ValueError(f"distance must be one of {', '.join(map(repr, DISTANCES))}, got {distance!r}.")
    if estimator is None or distance == "parameters":
        return
    name = type(last_step(estimator)).__name__
    if distance == "rms" and not is_regressor(estimator):
        raise ValueError(
            f"distance='rms' compares the values that regressors predict, and {name} is not one; use distance='js'."
        )
    if distance == "accuracy" and is_regressor(estimator):
        raise ValueError(
            f"distance='accuracy' compares predicted labels, and {name} is a regressor; use distance='rms'."
        )
    if distance in _OF_PROBABILITIES and not hasattr(estimator, "predict_proba"):
        raise ValueError(
            f"distance={distance!r} compares predicted probabilities, and {name} has no predict_proba; "
            f"use distance={'rms' if is_regressor(estimator) else 'accuracy'!r}."
        )


_OF_PROBABILITIES: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "js": jensen_shannon,
    "kl": kl_divergence,
    "total_variation": total_variation,
}


def _outputs(model: Any, X: Any, distance: Distance) -> Any:
    """Return what `distance` compares of a model, so that it is computed once however often it is compared."""
    check_distance(distance, model)
    if distance == "parameters":
        return _trainable_parameters(model)
    name = type(last_step(model)).__name__
    if distance in _OF_PROBABILITIES:
        return as_probabilities(f"predict_proba(X) of {name}", model.predict_proba(X)), np.asarray(model.classes_)
    predictions = model.predict(X)
    return np.asarray(predictions) if distance == "accuracy" else as_finite(f"predict(X) of {name}", predictions)


def _between(own: Any, other: Any, distance: Distance) -> float:
    """Compare the outputs of a model with those of a retrained one."""
    if distance == "parameters":
        return _parameter_distance(own, other)
    if distance == "rms":
        return rms_distance(own, other)
    if distance == "accuracy":
        return float(np.mean(own != other))
    classes = np.union1d(own[1], other[1])
    # The reference first: see "kl" in `retrain_distance`; the others are symmetric.
    return _OF_PROBABILITIES[distance](_over_classes(other, classes), _over_classes(own, classes))


def row_distances(model: Any, others: Sequence[Any], X: Any) -> Floats:
    """Return how far a model is from each of others, row by row: an array of shape (n_others, n_rows).

    The Jensen-Shannon divergence of probabilities; for regressors the squared difference, averaged over outputs.
    """
    distance = distance_of(model)
    return _row_distances(_outputs(model, X, distance), [_outputs(other, X, distance) for other in others], distance)


def row_distances_among(models: Sequence[Any], X: Any) -> Floats:
    """Return the same between each two of several models: an array of shape (n_models, n_models, n_rows)."""
    distance = distance_of(models[0])
    outputs = [_outputs(model, X, distance) for model in models]
    return np.array([_row_distances(each, outputs, distance) for each in outputs])


def distance_of(model: Any) -> Distance:
    """Return the distance that suits the kind of model."""
    return "rms" if is_regressor(model) else "js"


def _row_distances(own: Any, rest: Sequence[Any], distance: Distance) -> Floats:
    if distance == "rms":
        for each in rest:
            check_same_shape("predictions of one model", own, "those of another", each)
        return np.array([np.square(each - own).reshape(len(own), -1).mean(axis=1) for each in rest])
    union = [np.union1d(own[1], each[1]) for each in rest]
    return np.array(
        [
            _jensen_shannon_rows(_over_classes(each, names), _over_classes(own, names))
            for each, names in zip(rest, union, strict=True)
        ]
    )


def mean_distance(rows: Floats, distance: Distance) -> float:
    """Return the mean over pairs of models of their distance.

    Parameters
    ----------
    rows : ndarray of shape (n_pairs, n_rows)
        Of `row_distances`.
    distance : {"js", "rms"}
        Of squared differences it is the root of their mean.
    """
    of_pairs = rows.mean(axis=-1)
    return float(np.mean(np.sqrt(of_pairs) if distance == "rms" else of_pairs))


def _over_classes(known: tuple[Floats, NDArray[Any]], classes: NDArray[Any]) -> Floats:
    """Lay probabilities, given with their classes, out over the sorted superset `classes`, with 0 for the others."""
    probabilities, own_classes = known
    wide = np.zeros((len(probabilities), len(classes)))
    wide[:, np.searchsorted(classes, own_classes)] = probabilities
    return wide


def _trainable_parameters(model: Any) -> list[Floats]:
    module = getattr(getattr(last_step(model), "net_", None), "module_", None)
    if module is None:
        raise ValueError(
            "distance='parameters' needs fitted models with a skorch net in net_ (in a pipeline, its last step), "
            f"got {type(last_step(model)).__name__} without one."
        )
    # .cpu() before .double(): not every accelerator has float64.
    return [p.detach().cpu().double().numpy() for p in module.parameters() if p.requires_grad]


def _parameter_distance(own: list[Floats], other: list[Floats]) -> float:
    if [p.shape for p in own] != [p.shape for p in other]:
        raise ValueError(
            "distance='parameters' needs two nets of the same shape, got trainable parameters of shapes "
            f"{[p.shape for p in own]} and {[p.shape for p in other]}. A net retrained after a whole class was erased "
            "has fewer outputs: use distance='js' there."
        )
    return float(np.sqrt(sum(np.sum((p - q) ** 2) for p, q in zip(own, other, strict=True))))


def _two_probability_matrices(
    p: ArrayLike, q: ArrayLike, classes: tuple[ArrayLike, ArrayLike] | None
) -> tuple[Floats, Floats]:
    """Return both matrices over the same classes."""
    p, q = as_probabilities("p", p), as_probabilities("q", q)
    if classes is not None:
        named = [_classes_of(*each) for each in zip("pq", (p, q), _pair(classes), strict=True)]
        union = np.union1d(*named)
        p, q = (_over_classes(each, union) for each in zip((p, q), named, strict=True))
    elif len(p) == len(q) and p.shape != q.shape:
        raise ValueError(
            f"p has {p.shape[1]} columns and q has {q.shape[1]}. Where one model knows a class that the other does "
            "not, as after a whole class was erased, say which they are: classes=(model.classes_, retrained.classes_)."
        )
    check_same_shape("p", p, "q", q)
    return p, q


def _pair(classes: Any) -> tuple[ArrayLike, ArrayLike]:
    if not isinstance(classes, tuple | list) or len(classes) != 2:
        raise ValueError(
            f"classes must be a pair, the classes of p's columns and those of q's, got {type(classes).__name__}."
        )
    return classes[0], classes[1]


def _classes_of(name: str, matrix: Floats, classes: ArrayLike) -> NDArray[Any]:
    labels = np.asarray(classes)
    if labels.shape != (matrix.shape[1],) or len(np.unique(labels)) != len(labels):
        raise ValueError(
            f"classes must name each of the {matrix.shape[1]} columns of {name} once, got {len(np.unique(labels))} "
            f"different ones in an array of shape {labels.shape}."
        )
    return labels


def as_probabilities(name: str, values: ArrayLike) -> Floats:
    """Return the argument `name` as a float64 matrix whose rows sum to 1 up to float64 rounding.

    A ValueError where it is not a matrix of probabilities.
    """
    matrix = as_finite(name, values)
    if matrix.ndim != 2:
        raise ValueError(f"{name} must have shape (n_rows, n_classes), got {matrix.shape}.")
    if matrix.min() < 0:
        raise ValueError(f"{name} must hold probabilities, got a negative value, {matrix.min():g}.")
    sums = matrix.sum(axis=1, keepdims=True)
    worst = sums.flat[np.argmax(np.abs(sums - 1))]
    if abs(worst - 1) > _SUM_TOLERANCE:
        raise ValueError(f"Every row of {name} must sum to 1, got a row that sums to {worst:g}.")
    return cast("Floats", matrix / sums)


def as_finite(name: str, values: ArrayLike) -> Floats:
    """Return the values of the argument `name` as float64; a ValueError where there are none, or not all are finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one row, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity.")
    return array


def check_same_shape(first: str, a: Floats, second: str, b: Floats) -> None:
    """Raise a ValueError if two arguments, named `first` and `second`, differ in shape."""
    if a.shape != b.shape:
        raise ValueError(f"{first} and {second} must have the same shape, got {a.shape} and {b.shape}.")
