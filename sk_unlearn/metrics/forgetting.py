"""What a deletion left undone: gap closed, parameters, per-row losses, the challenge's score, relearning.

As in :mod:`sk_unlearn.metrics.distances`, the measures that take arrays come first, those of fitted estimators after.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score

from sk_unlearn.metrics.distances import (
    Distance,
    Floats,
    _between,
    _floor,
    _outputs,
    _parameter_distance,
    _trainable_parameters,
    as_finite,
    distance_of,
    last_step,
    retrain_distance,
)
from sk_unlearn.rows.forms import rows_given
from sk_unlearn.rows.parts import has_parts
from sk_unlearn.rows.storage import dense
from sk_unlearn.unlearners import FineTune

_CHALLENGE_BINS = np.arange(13) * 0.5
"""Edges of the privacy degree's bins in the NeurIPS 2023 challenge."""


class RatioInterval(NamedTuple):
    """A distance ratio and the interval that the choice of references leaves open."""

    ratio: float
    low: float
    high: float


class ParameterDistance(NamedTuple):
    """Distance of the parameters to retrained models, and the distance among these."""

    distance: float
    spread: float


class RelearnTime(NamedTuple):
    """Optimiser steps until the target was reached, and whether it was."""

    steps: int
    reached: bool


# ------------------------------------------------------------------ of arrays


def prediction_ratio(
    predictions: ArrayLike,
    references: Sequence[ArrayLike],
    metric: Callable[..., float],
    *,
    classes: tuple[ArrayLike, ArrayLike] | None = None,
) -> float:
    """Return the distance of predictions to retrained models' over the distance among these.

    `distance_ratio` for arrays: with `jensen_shannon` and probabilities the JS ratio, with `rms_distance` and values
    the RMS ratio.

    Parameters
    ----------
    predictions : array-like of shape (n_rows, ...)
        Of the model that forgot.
    references : sequence of at least two array-likes of shape (n_rows, ...)
        Of models retrained from different seeds.
    metric : callable
        ``metric(reference, predictions) -> float``.
    classes : pair of array-like of shape (n_classes,), default=None
        The classes of the columns of the predictions, and those of all references, where they differ, as after a whole
        class was erased; handed to `metric` as its ``classes``, the references' first.

    Returns
    -------
    float
        1.0 is as good as retraining can tell.

    Raises
    ------
    ValueError
        If there are fewer than two references, or they do not differ by a finite amount.

    Examples
    --------
    >>> from sk_unlearn.metrics import prediction_ratio, rms_distance
    >>> prediction_ratio([0.0], [[1.0], [-1.0]], rms_distance)
    0.5
    """
    floor = _floor(references, metric, getattr(metric, "__name__", "metric"))
    named = {} if classes is None else {"classes": (classes[1], classes[0])}
    return float(np.mean([metric(reference, predictions, **named) for reference in references])) / floor


def ks_pvalue(losses: ArrayLike, reference_losses: ArrayLike) -> float:
    """Return the p-value of the two-sample Kolmogorov-Smirnov test that two sets of row losses are of one kind.

    Parameters
    ----------
    losses, reference_losses : array-like of shape (n_rows,)
        Losses of rows under the model that forgot and under a retrained one; the numbers of rows may differ.

    Returns
    -------
    float
        In [0, 1]. A small one says that the distributions differ. A large one says little when there are few rows, and
        distributions can agree where the rows do not.

    Raises
    ------
    ValueError
        If a set is empty or not finite.

    See Also
    --------
    scipy.stats.ks_2samp : Which computes it.
    """
    from scipy.stats import ks_2samp  # not at import: it is slow to load and seldom used

    a, b = as_finite("losses", losses).ravel(), as_finite("reference_losses", reference_losses).ravel()
    with warnings.catch_warnings():
        # Where rounding lifts the exact p-value above 1, SciPy says so and takes the limit distribution's.
        warnings.filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful", RuntimeWarning)
        return float(ks_2samp(a, b).pvalue)


def privacy_degrees(unlearned: ArrayLike, retrained: ArrayLike, *, delta: float = 0.01) -> NDArray[np.float64]:
    """Return for each erased row the ε that attacks on many unlearned and many retrained models reveal.

    An attack calls a model *unlearned* when its statistic of the row lies on one side of a threshold, or between two.
    With false positive and false negative rates f₊ and f₋ it shows that ε is at least
    ``max(ln(1 - δ - f₊) - ln f₋, ln(1 - δ - f₋) - ln f₊)``; ε of the row is the largest over attacks [1]_. An attack
    that never errs gives ∞; one with a single rate of zero is discarded, since so few models cannot tell how small it
    is.

    Parameters
    ----------
    unlearned, retrained : array-like of shape (n_models, n_rows)
        A statistic of each row, such as `sk_unlearn.metrics.membership.logit_confidence`, under models that were
        trained with the rows and forgot them, and under models retrained without them. The numbers of models may
        differ; the challenge took 512 of each.
    delta : float, default=0.01
        δ.

    Returns
    -------
    ndarray of shape (n_rows,)
        In [0, ∞].

    Raises
    ------
    ValueError
        If the shapes do not fit, or values are not finite.

    References
    ----------
    .. [1] Triantafillou et al., "Are we making progress in unlearning? Findings from the first NeurIPS unlearning
       competition", 2024, algorithm 1. Attacks here: every threshold on either side, and every interval between two.
    """
    U, R = as_finite("unlearned", unlearned), as_finite("retrained", retrained)
    if U.ndim != 2 or R.ndim != 2 or U.shape[1] != R.shape[1]:
        raise ValueError(
            f"unlearned and retrained must have shape (n_models, n_rows) with the same rows, got {U.shape}, {R.shape}."
        )
    return np.array([_privacy_degree(u, r, delta) for u, r in zip(U.T, R.T, strict=True)])


def forget_quality(unlearned: ArrayLike, retrained: ArrayLike, *, delta: float = 0.01) -> float:
    """Return the forgetting quality of the NeurIPS 2023 challenge, the mean of 2 / 2^n over erased rows.

    n is the number of the row's bin, from 1, when its `privacy_degrees` falls into 13 bins of width 0.5 [1]_. The
    challenge's final score multiplies it by the ratios of the unlearned models' accuracies on retained and test rows to
    the retrained models'.

    Parameters
    ----------
    unlearned, retrained : array-like of shape (n_models, n_rows)
        See `privacy_degrees`. With few models ε is a coarse and noisy number: even models of one kind are told apart by
        chance. Compute the score of retrained models against other retrained ones beside it.
    delta : float, default=0.01
        δ.

    Returns
    -------
    float
        In (0, 1]; 1 is best.

    Raises
    ------
    ValueError
        As `privacy_degrees` does.

    References
    ----------
    .. [1] Triantafillou et al., "Are we making progress in unlearning? Findings from the first NeurIPS unlearning
       competition", 2024, section 4.
    """
    bins = np.digitize(privacy_degrees(unlearned, retrained, delta=delta), _CHALLENGE_BINS)
    return float(np.mean(2.0 ** (1 - bins)))


def _privacy_degree(unlearned: Floats, retrained: Floats, delta: float) -> float:
    values, position = np.unique(np.concatenate([unlearned, retrained]), return_inverse=True)
    # Share of the models at or below each value, with the start before it.
    below_u, below_r = (
        np.concatenate([[0.0], np.cumsum(np.bincount(at, minlength=len(values))) / len(at)])
        for at in np.split(position, [len(unlearned)])
    )
    # An attack says "unlearned" in (i, j]; those that start or end outside are the single thresholds.
    start, end = np.triu_indices(len(values) + 1, 1)
    inside = start > 0
    hit, false = below_u[end] - below_u[start], below_r[end] - below_r[start]
    # Inside or outside of the interval: either may be the sign of the unlearned.
    positive = np.concatenate([false, 1 - false[~inside]])
    negative = np.concatenate([1 - hit, hit[~inside]])
    # Shares are whole numbers of models; what is left of a difference is rounding.
    positive, negative = (np.where(rate < 1e-12, 0.0, rate) for rate in (positive, negative))
    if np.any((positive == 0) & (negative == 0)):
        return float("inf")
    usable = (positive > 0) & (negative > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = [
            np.log(np.maximum(1 - delta - a[usable], 0)) - np.log(b[usable])
            for a, b in ((positive, negative), (negative, positive))
        ]
    return float(np.max(np.concatenate([[0.0], *each])))


# ------------------------------------------------------------------ of fitted estimators


def row_losses(estimator: Any, X: Any, y: ArrayLike) -> NDArray[np.float64]:
    """Return the loss of every row: -ln of the probability of its label, or its squared error.

    Parameters
    ----------
    estimator : classifier or regressor
        Fitted. A label that a classifier does not know has probability 0, and its loss is that of the smallest positive
        float32, about 87.3.
    X : array-like of shape (n_rows, ...)
        Rows.
    y : array-like of shape (n_rows,) or (n_rows, n_targets)
        Their targets; the squared errors of several are averaged.

    Returns
    -------
    ndarray of shape (n_rows,)
        Nats, or the squared unit of the target.

    Raises
    ------
    ValueError
        If rows and targets differ in number.
    """
    if is_classifier(estimator):
        known = label_probabilities(estimator, X, y)
        return -np.log(np.maximum(known, np.finfo(np.float32).tiny))
    predicted, targets = (np.asarray(each, dtype=np.float64) for each in (estimator.predict(X), y))
    if targets.size != predicted.size or len(targets) != len(predicted):
        raise ValueError(
            f"X and y must be of the same rows and targets; {predicted.shape} are predicted, y has {targets.shape}."
        )
    error = predicted - targets.reshape(predicted.shape)  # a single target may come as a column
    return np.asarray((error.reshape(len(error), -1) ** 2).mean(axis=1))


def label_probabilities(estimator: Any, X: Any, y: ArrayLike) -> NDArray[np.float64]:
    """Return the probability that a classifier gives to each row's label, 0 for a label that it does not know."""
    proba = np.asarray(estimator.predict_proba(X), dtype=np.float64)
    labels = np.asarray(y)
    if labels.shape != (len(proba),):
        raise ValueError(f"y must have shape ({len(proba)},), as X has rows, got {labels.shape}.")
    at = np.minimum(np.searchsorted(estimator.classes_, labels), len(estimator.classes_) - 1)
    return np.where(estimator.classes_[at] == labels, proba[np.arange(len(labels)), at], 0.0)


def loss_ks_pvalue(estimator: Any, reference: Any, X: Any, y: ArrayLike) -> float:
    """Return `ks_pvalue` of the `row_losses` of a model that forgot and of a retrained one.

    Parameters
    ----------
    estimator, reference : classifiers or regressors
        The model that forgot, and the retrained one.
    X : array-like of shape (n_rows, ...)
        Rows, the erased ones first of all.
    y : array-like of shape (n_rows,) or (n_rows, n_targets)
        Their targets.

    Returns
    -------
    float
        In [0, 1].
    """
    return ks_pvalue(row_losses(estimator, X, y), row_losses(reference, X, y))


def distance_ratio_interval(
    estimator: Any, references: Sequence[Any], X: Any, distance: Distance | None = None, *, confidence: float = 0.95
) -> RatioInterval:
    """Return `distance_ratio` with a confidence interval over references.

    The jackknife leaves out one reference at a time; Student's t on the logarithm of the ratio gives the interval,
    which widens as it must when there are few. It says how much the ratio would change with other retrained models, not
    with another model that forgot: repeat fit and forget for that.

    Parameters
    ----------
    estimator : estimator or Pipeline
        The model that forgot.
    references : sequence of at least three estimators or Pipelines
        Models retrained without the erased rows, each from another seed.
    X : array-like of shape (n_rows, ...) or None
        Rows to predict on.
    distance : {"js", "kl", "total_variation", "accuracy", "parameters", "rms"}, default=None
        See `retrain_distance`; None is "js", and "rms" for regressors.
    confidence : float, default=0.95
        In (0, 1).

    Returns
    -------
    RatioInterval
        ``(ratio, low, high)``; where `low` is above 1, retrained models can tell.

    Raises
    ------
    ValueError
        If there are fewer than three references or as `distance_ratio` does.
    """
    if len(references) < 3:
        raise ValueError(f"references must hold at least 3 models for an interval, got {len(references)}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence!r}.")
    by = distance_of(estimator) if distance is None else distance
    own = _outputs(estimator, X, by)
    others = [_outputs(reference, X, by) for reference in references]
    n = len(others)
    to_own = np.array([_between(own, other, by) for other in others])
    among = np.array([[0.0 if a is b else _between(a, b, by) for a in others] for b in others])

    def ratio(kept: NDArray[np.bool_]) -> float:
        m = np.count_nonzero(kept)
        return float(to_own[kept].mean() / (among[np.ix_(kept, kept)].sum() / (m * (m - 1))))

    whole = np.ones(n, dtype=bool)
    left_out = ~np.eye(n, dtype=bool)
    floors = [among[np.ix_(kept, kept)].sum() for kept in (whole, *left_out)]
    if not (np.isfinite(floors).all() and np.min(floors) > 0):
        raise ValueError(
            f"references must differ from each other by a finite amount, whichever is left out, in {by!r}: "
            "retrain them from different random_state values, or choose another distance."
        )
    centre = ratio(whole)
    if centre == 0:
        return RatioInterval(0.0, 0.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log([ratio(kept) for kept in left_out])
    error = np.sqrt((n - 1) / n * np.sum((logs - logs.mean()) ** 2))
    reach = float(stdtrit(n - 1, (1 + confidence) / 2) * error)
    return RatioInterval(centre, centre * float(np.exp(-reach)), centre * float(np.exp(reach)))


def gap_closed(
    estimator: Any, fitted: Any, references: Sequence[Any], X: Any, distance: Distance | None = None
) -> float:
    """Return the share of the way from the fitted model to retrained ones that forgetting went, in predictions.

    ``1 - d(estimator) / d(fitted)``, d the mean distance to the references.

    Parameters
    ----------
    estimator : estimator or Pipeline
        The model that forgot.
    fitted : estimator or Pipeline
        The model before the request.
    references : sequence of estimators or Pipelines
        Models retrained without the erased rows.
    X : array-like of shape (n_rows, ...) or None
        Rows to predict on.
    distance : {"js", "kl", "total_variation", "accuracy", "parameters", "rms"}, default=None
        See `retrain_distance`; None is "js", and "rms" for regressors. Not "parameters" for references from
        other seeds: they lie far from either model.

    Returns
    -------
    float
        At most 1; 0 is as good as doing nothing, and below 0 worse. Since retrained models differ from each other,
        1 is out of reach, and a random ten per cent of the rows often leaves nearly nothing to close: give
        `distance_ratio` beside it.

    Raises
    ------
    ValueError
        If there is no reference, or the fitted model is at distance 0 or infinity from them.
    """
    if len(references) == 0:
        raise ValueError("references must hold at least one retrained model, got none.")
    by = distance_of(estimator) if distance is None else distance
    before, after = (
        float(np.mean([retrain_distance(model, reference, X, by) for reference in references]))
        for model in (fitted, estimator)
    )
    if not 0 < before < np.inf:
        raise ValueError(f"fitted must be a finite {by!r} distance from references, got {before}: no gap.")
    return 1 - after / before


def parameter_distance(estimator: Any, references: Sequence[Any]) -> ParameterDistance:
    """Return the mean distance of the parameters to retrained models, and the mean distance among these.

    Parameters
    ----------
    estimator : estimator or Pipeline
        The model that forgot.
    references : sequence of at least two estimators or Pipelines
        Retrained models of the same shape.

    Returns
    -------
    ParameterDistance
        ``(distance, spread)``. For a network other seeds lie much farther away than doing nothing does, so that
        neither can rank anything; see `warm_ratio`.

    Raises
    ------
    ValueError
        If there are fewer than two references, or the shapes differ.
    """
    if len(references) < 2:
        raise ValueError(f"references must hold at least 2 models, got {len(references)}: the spread is among them.")
    own = _trainable_parameters(estimator)
    others = [_trainable_parameters(reference) for reference in references]
    return ParameterDistance(
        float(np.mean([_parameter_distance(own, other) for other in others])),
        float(np.mean([_parameter_distance(a, b) for a, b in combinations(others, 2)])),
    )


def retrain_warm(fitted: Any, X_del: Any, y_del: Any = None, *, n_epochs: int | None = None) -> Any:
    """Return a copy of a fitted estimator trained on, from its own parameters, without some rows.

    Parameters
    ----------
    fitted : unlearnable estimator
        The model before the request; not changed. It must keep its training rows.
    X_del, y_del : array-like
        The rows to leave out, as ``forget`` takes them.
    n_epochs : int, default=None
        Passes over the retained rows, the learning rate annealed to zero over them. None: as many as ``fit`` took.

    Returns
    -------
    estimator
        The reference for `warm_ratio`.
    """
    warm = copy.deepcopy(fitted)
    warm.set_params(unlearner=FineTune(n_epochs or len(fitted.net_.history)))
    return warm.forget(X_del, y_del)


def warm_ratio(estimator: Any, fitted: Any, warm: Any) -> float:
    """Return ``‖w_u - w_warm‖ / ‖w₀ - w_warm‖``: how much of the way to the warm-started optimum is left.

    Parameters
    ----------
    estimator : unlearnable estimator or Pipeline
        The model that forgot, with parameters w_u.
    fitted : unlearnable estimator or Pipeline
        The model before the request, w₀.
    warm : unlearnable estimator or Pipeline
        Retrained on the retained rows from w₀ until it converged, w_warm; see `retrain_warm`. It lies in the same
        valley, so that parameters can be compared at all.

    Returns
    -------
    float
        0 is best, 1 is as good as doing nothing.

    Raises
    ------
    ValueError
        If w₀ = w_warm, or the shapes differ.
    """
    w_u, w_0, w_warm = (_trainable_parameters(model) for model in (estimator, fitted, warm))
    whole = _parameter_distance(w_0, w_warm)
    if whole == 0:
        raise ValueError("warm has the parameters of fitted: there was no way to go; retrain it for some epochs.")
    return _parameter_distance(w_u, w_warm) / whole


def relearn_time(
    estimator: Any, X: Any, y: ArrayLike, *, target: float, learning_rate: float = 1e-3, max_steps: int = 500
) -> RelearnTime:
    """Return how many steps of training on some rows bring a model to a score on them.

    A copy is trained by Adam on all the given rows at once, in evaluation mode, with the net's own loss.

    Parameters
    ----------
    estimator : unlearnable estimator
        Fitted, not changed. It must know the labels: retrain with the unlearner `Retrain` rather than by ``fit``, which
        after the deletion of a whole class would build a network without it.
    X : array-like of shape (n_rows, ...)
        The erased rows.
    y : array-like of shape (n_rows,) or (n_rows, n_targets)
        Their targets.
    target : float
        Accuracy to reach, or for a regressor the mean squared error to come down to.
    learning_rate : float, default=1e-3
        Adam's.
    max_steps : int, default=500
        Where to give up.

    Returns
    -------
    RelearnTime
        ``(steps, reached)``. 0 steps where the model has the score already.

    Raises
    ------
    ValueError
        If the estimator does not know a label.
    """
    model = copy.deepcopy(last_step(estimator))
    classifier = is_classifier(model)
    if classifier and not np.isin(y, model.classes_).all():
        raise ValueError(
            "y holds labels that estimator does not know and so cannot relearn; retrain with the unlearner Retrain."
        )
    net = model.net_
    inputs, targets = _as_net_takes(model, X, y)
    inputs, targets = inputs.to(net.device), targets.to(net.device)
    optimiser = torch.optim.Adam([p for p in net.module_.parameters() if p.requires_grad], lr=learning_rate)
    net.module_.eval()

    def reached() -> bool:
        if classifier:
            return accuracy_score(y, model.predict(X)) >= target
        return float(row_losses(model, X, y).mean()) <= target

    for step in range(max_steps):
        if reached():
            return RelearnTime(step, True)
        net.module_.eval()
        optimiser.zero_grad()
        net.get_loss(net.infer(inputs), targets, X=inputs, training=True).backward()
        optimiser.step()
    return RelearnTime(max_steps, reached())


def anamnesis_index(
    estimator: Any,
    reference: Any,
    fitted: Any,
    X: Any,
    y: ArrayLike,
    *,
    alpha: float = 0.1,
    learning_rate: float = 1e-3,
    max_steps: int = 500,
) -> float:
    """Return the anamnesis index: relearn time of the model that forgot over that of a retrained one [1]_.

    The time is that of `relearn_time` until the score on the erased rows is within a share `alpha` of what it was
    before the request.

    Parameters
    ----------
    estimator : unlearnable estimator
        The model that forgot.
    reference : unlearnable estimator
        The retrained model.
    fitted : unlearnable estimator
        The model before the request, which sets the target: ``(1 - alpha)`` times its accuracy, or ``(1 + alpha)``
        times its mean squared error.
    X : array-like of shape (n_rows, ...)
        The erased rows.
    y : array-like of shape (n_rows,) or (n_rows, n_targets)
        Their targets.
    alpha : float, default=0.1
        Margin.
    learning_rate, max_steps
        See `relearn_time`.

    Returns
    -------
    float
        1 is ideal. Below it the rows come back too fast, so they were hidden rather than forgotten; above it the model
        resists them more than one that never saw them. NaN where neither model has anything to relearn (rows that a
        retrained model gets right anyway) or the retrained one does not get there; ∞ where it alone has nothing.

    References
    ----------
    .. [1] Chundawat, Tarun, Mandal and Kankanhalli, "Zero-shot machine unlearning", IEEE Trans. Inf. Forensics and
       Security 18, 2023, the "Anamnesis Index".
    """
    if is_classifier(fitted):
        target = (1 - alpha) * float(accuracy_score(y, fitted.predict(X)))
    else:
        target = (1 + alpha) * float(row_losses(fitted, X, y).mean())
    own, other = (
        relearn_time(model, X, y, target=target, learning_rate=learning_rate, max_steps=max_steps)
        for model in (estimator, reference)
    )
    if not other.reached or own.steps == other.steps == 0:
        return float("nan")
    return float("inf") if other.steps == 0 else own.steps / other.steps


def _as_net_takes(model: Any, X: Any, y: ArrayLike) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows and targets in the data types and shapes that training gave them."""
    parameter = next(model.net_.module_.parameters())
    X = rows_given(X)
    if has_parts(X):
        raise TypeError("Relearning takes rows of one matrix, and X has several parts.")
    inputs = torch.as_tensor(dense(X))
    if inputs.is_floating_point() or not any(isinstance(m, torch.nn.Embedding) for m in model.net_.module_.modules()):
        inputs = inputs.to(parameter.dtype)
    targets = np.searchsorted(model.classes_, y) if is_classifier(model) else np.asarray(y)
    encoded = torch.as_tensor(targets)
    if is_classifier(model) and isinstance(model.net_.criterion_, torch.nn.CrossEntropyLoss | torch.nn.NLLLoss):
        return inputs, encoded.long()
    encoded = encoded.to(parameter.dtype)
    with torch.no_grad():
        output = model.net_.infer(inputs[:1].to(model.net_.device))
    output = output[0] if isinstance(output, tuple) else output
    return inputs, encoded.reshape(len(encoded), *output.shape[1:])
