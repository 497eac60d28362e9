"""Membership inference: what an attacker can still tell about erased rows.

A *score* is a number per row that is higher the more the row looks like one the model was trained on. The first part
makes scores of losses and probabilities, the second judges them, the third does both for fitted estimators.

Compare a model that forgot with a retrained one, not with chance: rows that were easy to learn, or come from another
distribution than the rows they are compared with, are told apart under a model that has never seen them too.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from scipy.special import xlogy
from sklearn.base import is_classifier

from sk_unlearn.metrics.distances import Floats, as_finite, as_probabilities, tug_of_war
from sk_unlearn.metrics.forgetting import label_probabilities, row_losses
from sk_unlearn.references.many import fit_many
from sk_unlearn.rows.forms import rows_kept, taken

__all__ = [
    "AttackResult",
    "Shadows",
    "confidence_scores",
    "entropy_scores",
    "evaluate_attack",
    "fit_shadows",
    "logit_confidence",
    "loss_scores",
    "membership_attack",
    "membership_rate",
    "rmia_scores",
    "ulira",
    "ulira_scores",
]

Attack = Literal["loss", "confidence", "entropy", "rmia"]

LOW_RATES = (0.01, 0.001)
"""False positive rates at which the true positive rate is reported."""

_EPSILON = 1e-12


# ------------------------------------------------------------------ scores of rows


def loss_scores(losses: ArrayLike) -> NDArray[np.float64]:
    """Return minus the losses: a row that the model fits well looks like a member.

    Parameters
    ----------
    losses : array-like of shape (n_rows,)
        See `row_losses`.

    Returns
    -------
    ndarray of shape (n_rows,)
    """
    return -as_finite("losses", losses)


def confidence_scores(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the largest probability of each row, which needs no label.

    Parameters
    ----------
    probabilities : array-like of shape (n_rows, n_classes)
        Predicted; each row sums to 1.

    Returns
    -------
    ndarray of shape (n_rows,)
        In (0, 1].
    """
    return np.asarray(as_probabilities("probabilities", probabilities).max(axis=1))


def entropy_scores(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return minus the entropy of each row's prediction, which needs no label.

    Parameters
    ----------
    probabilities : array-like of shape (n_rows, n_classes)
        Predicted; each row sums to 1.

    Returns
    -------
    ndarray of shape (n_rows,)
        Nats, at most 0.
    """
    p = as_probabilities("probabilities", probabilities)
    return np.asarray(xlogy(p, p).sum(axis=1))


def logit_confidence(label_probability: ArrayLike) -> NDArray[np.float64]:
    """Return ``ln(p / (1 - p))`` of the probability of the label, which is close to Gaussian over models [1]_.

    Parameters
    ----------
    label_probability : array-like of any shape
        In [0, 1]; kept 1e-12 away from both ends.

    Returns
    -------
    ndarray of the same shape

    References
    ----------
    .. [1] Carlini, Chien, Nasr, Song, Terzis and Tramèr, "Membership inference attacks from first principles", IEEE
       S&P 2022, section IV-C.
    """
    p = np.clip(as_finite("label_probability", label_probability), _EPSILON, 1 - _EPSILON)
    return np.asarray(np.log(p) - np.log1p(-p))


def rmia_scores(
    target: ArrayLike,
    references: ArrayLike,
    population_target: ArrayLike,
    population_references: ArrayLike,
    *,
    gamma: float = 2.0,
    offline_slope: float = 0.3,
) -> NDArray[np.float64]:
    """Return the scores of the robust membership inference attack, offline form [1]_.

    The share of population rows z for which ``(p(x|θ) / p(x)) / (p(z|θ) / p(z)) >= γ``; p(x) is the mean label
    probability under models that were not trained on x, raised to what models that were might give,
    ``((1 + a) p + 1 - a) / 2``.

    Parameters
    ----------
    target : array-like of shape (n_rows,)
        Probability of the label of each attacked row under the attacked model.
    references : array-like of shape (n_references, n_rows)
        The same under models that were not trained on the rows.
    population_target : array-like of shape (n_population,)
        The same of rows that no model was trained on, under the attacked model. They must be none of the attacked rows.
    population_references : array-like of shape (n_references, n_population)
        The same under the references.
    gamma : float, default=2.0
        γ, at least 1.
    offline_slope : float, default=0.3
        a, in [0, 1].

    Returns
    -------
    ndarray of shape (n_rows,)
        In [0, 1].

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    .. [1] Zarifzadeh, Liu and Shokri, "Low-cost high-power membership inference attacks", ICML 2024, equations 2-4 and
       appendix B.2.2.
    """
    p_x, p_z = as_finite("target", target), as_finite("population_target", population_target)
    out_x, out_z = as_finite("references", references), as_finite("population_references", population_references)
    if out_x.shape != (len(out_x), len(p_x)) or out_z.shape != (len(out_x), len(p_z)):
        raise ValueError(
            "references and population_references must have shapes (n_references, n_rows) and (n_references, "
            f"n_population), here (k, {len(p_x)}) and (k, {len(p_z)}); got {out_x.shape} and {out_z.shape}."
        )

    def ratio(own: Floats, out: Floats) -> Floats:
        usual = ((1 + offline_slope) * out.mean(axis=0) + 1 - offline_slope) / 2
        return np.maximum(own, _EPSILON) / np.maximum(usual, _EPSILON)

    # How many of the population's ratios lie at or below the row's over γ.
    below = np.searchsorted(np.sort(ratio(p_z, out_z)), ratio(p_x, out_x) / gamma, side="right")
    return np.asarray(below / len(p_z))


def ulira_scores(observed: ArrayLike, unlearned: ArrayLike, retrained: ArrayLike) -> NDArray[np.float64]:
    """Return U-LiRA's log likelihood ratio of *trained and forgotten* to *never trained*, row by row [1]_.

    Under each of the two hypotheses a row's statistic is Gaussian over models; mean and variance are those of the
    shadow models of either kind.

    Parameters
    ----------
    observed : array-like of shape (n_rows,)
        Statistic of each row, such as `logit_confidence`, under the attacked model.
    unlearned, retrained : array-like of shape (n_shadows, n_rows)
        The same under shadow models that were trained with the row and forgot it, and under such as never saw it. NaN
        where a shadow model is not of that kind for a row; at least two must be, for each row.

    Returns
    -------
    ndarray of shape (n_rows,)
        Positive where the row looks trained and forgotten.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a row has fewer than two shadow models of a kind.

    References
    ----------
    .. [1] Hayes, Shumailov, Triantafillou, Khalifa and Papernot, "Inexact unlearning needs more careful evaluations to
       avoid a false sense of privacy", 2024, algorithm 1.
    """
    at = as_finite("observed", observed)
    logs = []
    for name, values in (("unlearned", unlearned), ("retrained", retrained)):
        shadows = np.asarray(values, dtype=np.float64)
        if shadows.ndim != 2 or shadows.shape[1:] != at.shape:
            raise ValueError(f"{name} must have shape (n_shadows, {len(at)}), got {shadows.shape}.")
        known = ~np.isnan(shadows)
        if known.sum(axis=0).min() < 2:
            raise ValueError(
                f"{name} must hold at least 2 shadow models for every row, got {known.sum(axis=0).min()} for some; "
                "fit more."
            )
        mean, deviation = np.nanmean(shadows, axis=0), np.nanstd(shadows, axis=0, ddof=1)
        # Shadow models that agree to the last digit say nothing of the spread between others.
        deviation = np.maximum(deviation, 1e-6)
        logs.append(-0.5 * ((at - mean) / deviation) ** 2 - np.log(deviation))
    return np.asarray(logs[0] - logs[1])


# ------------------------------------------------------------------ how good an attack is


@dataclass(frozen=True)
class AttackResult:
    """How well scores tell members from rows that are none.

    Attributes
    ----------
    auc : float
        Area under the ROC curve; 0.5 is guessing. Well below 0.5 betrays as much as above: the erased rows look *less*
        familiar than rows never seen (the Streisand effect).

    auc_interval : tuple of float
        Bootstrap interval of it.

    tpr : dict of float to float
        True positive rate at a false positive rate of 1 % and 0.1 %: the members about whom an attacker is sure.

    tpr_interval : dict of float to tuple of float
        Bootstrap intervals of these.

    streisand_tpr : dict of float to float
        The same when the *lowest* scores are called members.

    streisand_tpr_interval : dict of float to tuple of float
        Bootstrap intervals of these.

    accuracy : float
        Balanced accuracy of a threshold that was chosen on one half of the rows and tried on the other, both ways.

    fpr_curve, tpr_curve : ndarray
        The ROC curve.

    n_members, n_nonmembers : int
        How many scores there were. 0.1 % of fewer than 1,000 non-members is none of them.
    """

    auc: float
    auc_interval: tuple[float, float]
    tpr: dict[float, float]
    tpr_interval: dict[float, tuple[float, float]]
    streisand_tpr: dict[float, float]
    streisand_tpr_interval: dict[float, tuple[float, float]]
    accuracy: float
    fpr_curve: NDArray[np.float64] = field(repr=False)
    tpr_curve: NDArray[np.float64] = field(repr=False)
    n_members: int
    n_nonmembers: int


def evaluate_attack(
    member_scores: ArrayLike,
    nonmember_scores: ArrayLike,
    *,
    member_groups: ArrayLike | None = None,
    nonmember_groups: ArrayLike | None = None,
    n_bootstrap: int = 500,
    confidence: float = 0.95,
    random_state: int = 0,
) -> AttackResult:
    """Judge an attack by its scores of members and of others.

    Parameters
    ----------
    member_scores, nonmember_scores : array-like of shape (n_members,) and (n_nonmembers,)
        Higher means member.
    member_groups, nonmember_groups : array-like of the same shapes, default=None
        What the scores have in common, such as the model they come from: the bootstrap then draws groups, since scores
        of one group do not vary by themselves. None: every score for itself.
    n_bootstrap : int, default=500
        How often to draw.
    confidence : float, default=0.95
        Of the percentile intervals.
    random_state : int, default=0
        Seeds the bootstrap and the halves.

    Returns
    -------
    AttackResult
        Area, rates and intervals.

    Raises
    ------
    ValueError
        If there are fewer than two scores of a kind, scores that are not finite, or groups of one kind only.

    Examples
    --------
    >>> from sk_unlearn.metrics.membership import evaluate_attack
    >>> round(evaluate_attack([0.9, 0.8, 0.4], [0.5, 0.3, 0.2]).auc, 3)
    0.889
    """
    scores = [
        as_finite("member_scores", member_scores).ravel(),
        as_finite("nonmember_scores", nonmember_scores).ravel(),
    ]
    if min(map(len, scores)) < 2:
        raise ValueError(f"There must be at least 2 scores of each kind, got {len(scores[0])} and {len(scores[1])}.")
    if (member_groups is None) != (nonmember_groups is None):
        raise ValueError("member_groups and nonmember_groups must be given together, or neither.")
    rng = np.random.default_rng(random_state)
    groups = None
    if member_groups is not None and nonmember_groups is not None:
        groups = [np.asarray(member_groups), np.asarray(nonmember_groups)]
    fpr, tpr, _ = _roc(*scores)
    draws = np.array([_figures(*drawn) for drawn in _resampled(scores, groups, n_bootstrap, rng)])
    edges = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0).T
    intervals = [(float(low), float(high)) for low, high in edges]
    figures = _figures(*scores)
    n = len(LOW_RATES)
    return AttackResult(
        auc=figures[0],
        auc_interval=intervals[0],
        tpr=dict(zip(LOW_RATES, figures[1 : 1 + n], strict=True)),
        tpr_interval=dict(zip(LOW_RATES, intervals[1 : 1 + n], strict=True)),
        streisand_tpr=dict(zip(LOW_RATES, figures[1 + n :], strict=True)),
        streisand_tpr_interval=dict(zip(LOW_RATES, intervals[1 + n :], strict=True)),
        accuracy=_held_out_accuracy(scores[0], scores[1], rng),
        fpr_curve=fpr,
        tpr_curve=tpr,
        n_members=len(scores[0]),
        n_nonmembers=len(scores[1]),
    )


def membership_rate(scores: ArrayLike, member_scores: ArrayLike, nonmember_scores: ArrayLike) -> float:
    """Return the share of rows that an attacker takes for members.

    The threshold is the one with the best balanced accuracy on rows of known membership.

    Parameters
    ----------
    scores : array-like of shape (n_rows,)
        Of the rows in question, such as the erased ones.
    member_scores, nonmember_scores : array-like of shape (n,)
        Of retained rows and of rows never seen; none of the rows in question.

    Returns
    -------
    float
        In [0, 1].
    """
    threshold = _best_threshold(
        as_finite("member_scores", member_scores), as_finite("nonmember_scores", nonmember_scores)
    )
    return float(np.mean(as_finite("scores", scores) >= threshold))


def _roc(members: Floats, others: Floats) -> tuple[Floats, Floats, Floats]:
    """Return what `roc_curve` of scikit-learn does, which spends most of its time on checks: a bootstrap asks often."""
    scores, truth = np.concatenate([members, others]), np.repeat([1.0, 0.0], [len(members), len(others)])
    order = np.argsort(scores, kind="stable")[::-1]
    scores = scores[order]
    # Of equal scores all are above a threshold, or none.
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    hits = np.cumsum(truth[order])[last]
    tpr, fpr = np.append(0.0, hits / len(members)), np.append(0.0, (1 + last - hits) / len(others))
    return fpr, tpr, np.append(np.inf, scores[last])


def _figures(members: Floats, others: Floats) -> list[float]:
    """Area, and true positive rates at the low rates of both directions."""
    fpr, tpr, _ = _roc(members, others)
    figures = [float((np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2).sum())]
    # To call the lowest scores members is to take the complements of the sets along the same curve.
    for false, true in ((fpr, tpr), (1 - fpr, 1 - tpr)):
        # The best point that keeps to the rate; a curve of steps is not interpolated.
        figures += [float(true[false <= rate + _EPSILON].max()) for rate in LOW_RATES]
    return figures


def _resampled(
    scores: Sequence[Floats], groups: Sequence[NDArray[Any]] | None, n: int, rng: np.random.Generator
) -> Any:
    if groups is None:
        for _ in range(n):
            yield [values[rng.integers(len(values), size=len(values))] for values in scores]
        return
    names = np.unique(np.concatenate(groups))
    parts = [[values[of == name] for name in names] for values, of in zip(scores, groups, strict=True)]
    drawn = 0
    while drawn < n:
        picked = rng.integers(len(names), size=len(names))
        sample = [np.concatenate([part[i] for i in picked]) for part in parts]
        if min(map(len, sample)):
            drawn += 1
            yield sample


def _best_threshold(members: Floats, others: Floats) -> float:
    fpr, tpr, thresholds = _roc(members, others)
    return float(thresholds[np.argmax(tpr - fpr)])


def _held_out_accuracy(members: Floats, others: Floats, rng: np.random.Generator) -> float:
    halves = [np.array_split(rng.permutation(values), 2) for values in (members, others)]
    accuracies = []
    for chosen in (0, 1):
        threshold = _best_threshold(halves[0][chosen], halves[1][chosen])
        tried = [half[1 - chosen] for half in halves]
        accuracies.append((np.mean(tried[0] >= threshold) + np.mean(tried[1] < threshold)) / 2)
    return float(np.mean(accuracies))


# ------------------------------------------------------------------ of fitted estimators


def membership_attack(
    estimator: Any,
    X_members: Any,
    y_members: ArrayLike,
    X_nonmembers: Any,
    y_nonmembers: ArrayLike,
    *,
    attack: Attack = "loss",
    references: Sequence[Any] = (),
    population: tuple[Any, ArrayLike] | None = None,
    random_state: int = 0,
) -> AttackResult:
    """Try to tell rows that a model was trained on, or should have forgotten, from rows that it never saw.

    Parameters
    ----------
    estimator : classifier or regressor
        The attacked model. A regressor can be attacked by "loss" alone.
    X_members, y_members : array-like
        Rows to take for members: erased rows, or training rows.
    X_nonmembers, y_nonmembers : array-like
        Rows that the model never saw, of the same distribution: for an erased class, unseen rows of that class.
    attack : {"loss", "confidence", "entropy", "rmia"}, default="loss"
        See `loss_scores`, `confidence_scores`, `entropy_scores` and `rmia_scores`.
    references : sequence of classifiers, default=()
        For "rmia": models trained on neither kind of row.
    population : tuple of (X, y), default=None
        For "rmia": further rows never seen. None takes a random half of the non-members for it, which then are not
        attacked.
    random_state : int, default=0
        Seeds the halves and the bootstrap.

    Returns
    -------
    AttackResult
        To be held against that of a retrained model, not against 0.5.

    Raises
    ------
    ValueError
        If the attack is unknown, cannot be made on this kind of model, or lacks references.
    """
    if attack not in ("loss", "confidence", "entropy", "rmia"):
        raise ValueError(f"attack must be 'loss', 'confidence', 'entropy' or 'rmia', got {attack!r}.")
    if attack != "loss" and not is_classifier(estimator):
        raise ValueError(f"attack={attack!r} needs class probabilities, and this is no classifier; use attack='loss'.")
    both = ((X_members, y_members), (X_nonmembers, y_nonmembers))
    if attack == "rmia":
        if len(references) == 0:
            raise ValueError("attack='rmia' needs references: models that were trained on neither kind of row.")
        if population is None:
            both, population = _with_population(both, random_state)
        scores = [_rmia_of(estimator, references, rows, population) for rows in both]
    elif attack == "loss":
        scores = [loss_scores(row_losses(estimator, X, y)) for X, y in both]
    else:
        score = confidence_scores if attack == "confidence" else entropy_scores
        scores = [score(estimator.predict_proba(X)) for X, _ in both]
    return evaluate_attack(*scores, random_state=random_state)


def tug_of_war_mia_score(
    estimator: Any,
    reference: Any,
    X_erased: Any,
    y_erased: ArrayLike,
    X_retained: Any,
    y_retained: ArrayLike,
    X_test: Any,
    y_test: ArrayLike,
) -> float:
    """Return the Tug-of-War score with an attack on the erased rows in place of their accuracy, ToW-MIA [1]_.

    The attack is the loss threshold that best tells retained rows from test rows; its rate is the share of the erased
    rows that it takes for members.

    Parameters
    ----------
    estimator : classifier
        The model that forgot.
    reference : classifier
        The model retrained without the erased rows.
    X_erased, X_retained, X_test : array-like of shape (n_rows, ...)
        The rows of each set.
    y_erased, y_retained, y_test : array-like of shape (n_rows,)
        Their labels.

    Returns
    -------
    float
        In [0, 1]; 1 is best.

    References
    ----------
    .. [1] Zhao, Kurmanji, Bărbulescu, Triantafillou and Triantafillou, "What makes unlearning hard and what to do about
       it", NeurIPS 2024, the "ToW-MIA" metric.
    """
    rates = []
    for model in (estimator, reference):
        erased, retained, test = (
            loss_scores(row_losses(model, X, y))
            for X, y in ((X_erased, y_erased), (X_retained, y_retained), (X_test, y_test))
        )
        accuracies = [float(np.mean(model.predict(X) == y)) for X, y in ((X_retained, y_retained), (X_test, y_test))]
        rates.append([membership_rate(erased, retained, test), *accuracies])
    return tug_of_war(*rates)


def _with_population(both: Any, random_state: int) -> tuple[Any, tuple[Any, NDArray[Any]]]:
    """Give one half of the non-members to the population."""
    members, (X, y) = both
    X, y = X if issparse(X) else rows_kept(X), np.asarray(y)
    if len(y) < 4:
        raise ValueError(f"attack='rmia' divides the non-members in two and needs at least 4, got {len(y)}.")
    mine, rest = np.array_split(np.random.default_rng(random_state).permutation(len(y)), 2)
    return (members, (taken(X, mine), y[mine])), (taken(X, rest), y[rest])


def _rmia_of(estimator: Any, references: Sequence[Any], rows: Any, population: Any) -> NDArray[np.float64]:
    def of(model: Any, part: Any) -> NDArray[np.float64]:
        return label_probabilities(model, *part)

    return rmia_scores(
        of(estimator, rows),
        np.array([of(model, rows) for model in references]),
        of(estimator, population),
        np.array([of(model, population) for model in references]),
    )


# ------------------------------------------------------------------ U-LiRA


@dataclass(frozen=True)
class Shadows:
    """Models for U-LiRA, each trained on the rows that stay and on half of those that may be erased.

    Attributes
    ----------
    models : list of estimators
        Fitted; nothing is forgotten yet.

    trained_on : ndarray of shape (n_shadows, n_candidates), dtype=bool
        Which of the candidates each was trained on.

    X, y : ndarray
        The candidates.
    """

    models: list[Any] = field(repr=False)
    trained_on: NDArray[np.bool_] = field(repr=False)
    X: NDArray[Any] = field(repr=False)
    y: NDArray[Any] = field(repr=False)


def fit_shadows(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    candidates: ArrayLike,
    *,
    n_shadows: int = 64,
    random_state: int = 0,
    n_jobs: int | None = None,
    verbose: int | None = None,
) -> Shadows:
    """Train the shadow models of U-LiRA, together where `sk_unlearn.references.many.fit_many` can.

    Parameters
    ----------
    estimator : unlearnable classifier
        Not fitted and not changed.
    X : array-like of shape (n_rows, ...)
        Training rows.
    y : array-like of shape (n_rows,)
        Their labels.
    candidates : array-like of shape (n_rows,) or (n_candidates,)
        Mask over, or indices into, the rows that may be erased. Every shadow model is trained on a random half of them
        and on all other rows; so half of the candidates is what will be forgotten. For a class, give all its rows: what
        is forgotten then is all that the model knew of it.
    n_shadows : int, default=64
        Number of models, even: they come in pairs that share the candidates out.
    random_state : int, default=0
        Seeds the halves and the models.
    n_jobs : int, default=None
        See `sk_unlearn.references.many.fit_many`.
    verbose : int or None, default=None
        Above 0 shows on stderr how much is done, 0 does not. None does in a terminal or a notebook only, if it takes
        more than a second.

    Returns
    -------
    Shadows
        To be handed to `ulira` with one unlearner after the other.

    Raises
    ------
    ValueError
        If there are fewer than 8 shadow models, an odd number of them, or fewer than 2 candidates.
    """
    if n_shadows < 8 or n_shadows % 2:
        raise ValueError(f"n_shadows must be even and at least 8, got {n_shadows}: Gaussians are fitted to them.")
    X, y = X if issparse(X) else rows_kept(X), np.asarray(y)
    chosen = np.asarray(candidates)
    chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
    if len(chosen) < 2:
        raise ValueError(f"candidates must hold at least 2 rows, got {len(chosen)}.")
    rng = np.random.default_rng(random_state)
    trained_on = np.zeros((n_shadows, len(chosen)), dtype=bool)
    for first in range(0, n_shadows, 2):
        # A pair shares the candidates out, so that every row is in exactly half of the models.
        half = rng.permutation(len(chosen))[: len(chosen) // 2]
        trained_on[first, half] = True
        trained_on[first + 1] = ~trained_on[first]
    masks = np.ones((n_shadows, len(y)), dtype=bool)
    masks[:, chosen] = trained_on
    seeds = rng.integers(2**31 - 1, size=n_shadows)
    models = fit_many(estimator, X, y, list(masks), seeds=seeds.tolist(), n_jobs=n_jobs, verbose=verbose)
    return Shadows(models, trained_on, taken(X, chosen), y[chosen])


def ulira(shadows: Shadows, unlearner: Any = None, *, forget: bool = True, random_state: int = 0) -> AttackResult:
    """Try, by U-LiRA, to tell rows that were trained and forgotten from rows that were never trained.

    Every shadow model forgets its half of the candidates. From one half of the models the attacker learns what a row
    looks like in either case; with `ulira_scores` the candidates are then scored under each of the others.

    Parameters
    ----------
    shadows : Shadows
        From `fit_shadows`. The models are left as they are.
    unlearner : Unlearner, default=None
        The algorithm; None is the estimator's default.
    forget : bool, default=True
        False attacks the models as they are, before anything is forgotten: what there was to lose.
    random_state : int, default=0
        Seeds the bootstrap, which draws shadow models.

    Returns
    -------
    AttackResult
        An exact algorithm gives 0.5 but for chance; `Retrain` shows how much that is.
    """
    statistic = np.empty(shadows.trained_on.shape)
    for k, (model, own) in enumerate(zip(shadows.models, shadows.trained_on, strict=True)):
        if forget:
            model = copy.deepcopy(model).set_params(unlearner=unlearner)
            model.forget(shadows.X[own], shadows.y[own])
        statistic[k] = logit_confidence(label_probabilities(model, shadows.X, shadows.y))
    # Half of the models inform the attacker and the others are attacked. To attack each from all others would be
    # biased: what is left out of one Gaussian is just what is scored.
    n_known = len(statistic) // 4 * 2
    known, was = shadows.trained_on[:n_known], shadows.trained_on[n_known:]
    unlearned = np.where(known, statistic[:n_known], np.nan)
    retrained = np.where(known, np.nan, statistic[:n_known])
    scores = np.array([ulira_scores(attacked, unlearned, retrained) for attacked in statistic[n_known:]])
    number = np.broadcast_to(np.arange(len(scores))[:, None], scores.shape)
    return evaluate_attack(
        scores[was],
        scores[~was],
        member_groups=number[was],
        nonmember_groups=number[~was],
        n_bootstrap=200,
        random_state=random_state,
    )
