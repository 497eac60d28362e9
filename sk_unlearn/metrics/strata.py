"""Whether rows that a model had learnt by heart were forgotten as well as others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier

from sk_unlearn.metrics._arguments import check_references
from sk_unlearn.metrics.distances import Floats, distance_of, mean_distance, row_distances_among
from sk_unlearn.metrics.forgetting import label_probabilities, row_losses

__all__ = ["MemorisationStratum", "memorisation_strata"]

_NAMES = ("high", "middle", "low")


class MemorisationStratum(NamedTuple):
    """One of the three parts that `memorisation_strata` returns."""

    name: str
    """"high", "middle" or "low"."""
    n_rows: int
    """How many erased rows are in it."""
    memorisation: float
    """Their mean memorisation."""
    ratio: float
    """Distance of the model from retrained ones on these rows, over that of retrained ones from each other."""
    reference_ratios: tuple[float, ...]
    """The same for each retrained model beside the others, on the rows that are in this part by them."""


def memorisation_strata(
    estimator: Any, original: Any, references: Sequence[Any], X: Any, y: ArrayLike
) -> tuple[MemorisationStratum, ...]:
    r"""Return the distance ratio on erased rows that were memorised most, less, and least.

    Rows that a model had learnt by heart are the hardest to forget [1]_, and few of them are lost in a mean over all.
    Training each of many models without one row would tell how far it was memorised; what stands for that here is how
    much more confident the original is of its label than retrained models are [2]_:

    .. math:: m_i = p_{\text{original}}(y_i \mid x_i) - \frac{1}{K} \sum_k p_k(y_i \mid x_i),

    for regressors by how much its squared error is smaller. The rows are split into three parts of equal size by it.

    Parameters
    ----------
    estimator : estimator or Pipeline
        The model that forgot.
    original : estimator or Pipeline
        The model before it did.
    references : sequence of at least three estimators or Pipelines
        Models retrained without the erased rows, each from another seed.
    X : array-like of shape (n_rows, ...)
        The erased rows, at least three.
    y : array-like of shape (n_rows,) or (n_rows, n_targets)
        Their targets.

    Returns
    -------
    tuple of MemorisationStratum
        The high, the middle and the low one. A ratio is that of `distance_ratio`; it is NaN where retrained models do
        not differ.

    Raises
    ------
    ValueError
        If there are fewer than three references or rows, or not as many targets.

    Notes
    -----
    Rows that retrained models happen to be unsure of are taken for memorised, and on these any further model is
    somewhat farther away than they are from each other. So each retrained model is judged as the audited one is: beside
    the others alone, which also say what is memorised.

    References
    ----------
    .. [1] Zhao, Kurmanji, Barbulescu, Triantafillou and Triantafillou, "What makes unlearning hard and what to do about
       it", NeurIPS 2024.
    .. [2] Zhao and Triantafillou, "Scalability of memorization-based machine unlearning", 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.metrics import memorisation_strata
    >>> from sk_unlearn.references import fit_many
    >>> X, y = load_iris(return_X_y=True)
    >>> y[::10] = 0  # some labels that can only be learnt by heart
    >>> original = UnlearnableClassifier(random_state=0).fit(X, y)
    >>> erased = slice(0, None, 5)
    >>> stays = [i for i in range(150) if i % 5]
    >>> retrained = fit_many(UnlearnableClassifier(), X[stays], y[stays], seeds=[1, 2, 3])
    >>> high, middle, low = memorisation_strata(original, original, retrained, X[erased], y[erased])
    >>> high.ratio > max(high.reference_ratios)
    True
    """
    targets = np.asarray(y)
    check_references(references, 3)  # each of them is judged beside two others
    rows, learnt = row_distances_among([estimator, *references], X), _learnt([original, *references], X, targets)
    n = rows.shape[-1]
    if n < len(_NAMES) or len(targets) != n:
        raise ValueError(f"X and y must hold the same number of rows, at least 3; got {n} and {len(targets)}.")
    distance, numbers = distance_of(estimator), range(1, len(rows))
    memorised, ratios = _of_one(rows, learnt, 0, numbers, distance)
    others = [_of_one(rows, learnt, k, [i for i in numbers if i != k], distance)[1] for k in numbers]
    parts = _parts(memorised)
    return tuple(
        MemorisationStratum(
            name, len(part), float(memorised[part].mean()), ratios[at], tuple(each[at] for each in others)
        )
        for at, (name, part) in enumerate(zip(_NAMES, parts, strict=True))
    )


def _learnt(models: Sequence[Any], X: Any, y: NDArray[Any]) -> Floats:
    """Return how well each model knows each row."""
    if is_classifier(models[0]):
        return np.array([label_probabilities(model, X, y) for model in models])
    return -np.array([row_losses(model, X, y) for model in models])


def _parts(memorised: Floats) -> list[NDArray[np.intp]]:
    return np.array_split(np.argsort(-memorised, kind="stable"), len(_NAMES))


def _of_one(
    rows: Floats, learnt: Floats, judged: int, others: Sequence[int], distance: Any
) -> tuple[Floats, list[float]]:
    """Return how far each row was memorised by the side of some retrained models, and a model's ratios."""
    memorised = learnt[0] - learnt[list(others)].mean(axis=0)
    pairs = [(a, b) for a in others for b in others if a != b]
    ratios = []
    for part in _parts(memorised):
        own = mean_distance(rows[judged][list(others)][:, part], distance)
        among = mean_distance(np.array([rows[a, b, part] for a, b in pairs]), distance)
        ratios.append(own / among if among > 0 else float("nan"))
    return memorised, ratios
