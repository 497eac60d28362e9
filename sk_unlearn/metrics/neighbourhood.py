"""What a model still knows around erased rows, beside what retrained models know there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

__all__ = ["as_numbers", "recognised_nearby", "residual_knowledge"]


def residual_knowledge(
    estimator: Any,
    references: Sequence[Any],
    X: Any,
    y: ArrayLike,
    *,
    radius: float = 0.1,
    n_neighbours: int = 50,
    random_state: int = 0,
) -> float:
    r"""Return how often a model recognises rows near erased ones, over how often retrained models do.

    A model may have been taught to answer otherwise for the erased rows themselves, and still know them: a little noise
    then brings their labels back.

    Parameters
    ----------
    estimator : classifier or Pipeline
        The model that forgot.
    references : sequence of classifiers or Pipelines
        Models retrained without the erased rows.
    X : array-like of shape (n_rows, ...)
        The erased rows: numbers.
    y : array-like of shape (n_rows,)
        Their labels.
    radius : float, default=0.1
        Standard deviation of the noise, in standard deviations of each feature over these rows.
    n_neighbours : int, default=50
        Noisy copies of each row.
    random_state : int, default=0
        Seeds the noise, which is the same for all models.

    Returns
    -------
    float
        :math:`\sum_i P[u(x'_i) = y_i] / \sum_i P[r(x'_i) = y_i]`, with :math:`x'_i` near row i, :math:`u` the model
        that forgot and :math:`r` the retrained ones on average. 1 is as good as retraining; above it knowledge is left,
        below it more was taken than retraining would. NaN if neither recognises any row, infinite if it alone does.

    Raises
    ------
    ValueError
        If there are no references, X does not hold finite numbers or two different rows, or `radius` or `n_neighbours`
        is not positive.

    Notes
    -----
    The ratio of sums stands for the mean of ratios, which a single row that retrained models never recognise would make
    infinite.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.metrics import residual_knowledge
    >>> from sk_unlearn.references import fit_many
    >>> X, y = load_iris(return_X_y=True)
    >>> one, *others = fit_many(UnlearnableClassifier(), X[5:], y[5:], seeds=[1, 2, 3])
    >>> residual_knowledge(one, others, X[:5], y[:5])
    1.0
    """
    if len(references) == 0:
        raise ValueError("references must hold at least one retrained model, got none.")
    models = (estimator, *references)
    shares = recognised_nearby(models, X, y, radius=radius, n_neighbours=n_neighbours, random_state=random_state)
    own, others = shares[0], float(np.mean(shares[1:]))
    if others == 0:
        return float("nan") if own == 0 else float("inf")
    return own / others


def recognised_nearby(
    models: Sequence[Any],
    X: Any,
    y: ArrayLike,
    *,
    radius: float = 0.1,
    n_neighbours: int = 50,
    random_state: int = 0,
) -> list[float]:
    """Return for each model how often it recognises rows near the given ones, in [0, 1]; as `residual_knowledge`."""
    rows, labels = as_numbers(X), np.asarray(y)
    if rows.size == 0 or len(labels) != len(rows):
        raise ValueError(f"X and y must hold the same number of rows, at least one; got {len(rows)} and {len(labels)}.")
    if not np.isfinite(rows).all():
        raise ValueError("X must be finite, got NaN or infinity.")
    for name, value in (("radius", radius), ("n_neighbours", n_neighbours)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value!r}.")
    rng, spread = np.random.default_rng(random_state), rows.std(axis=0)
    if not spread.any():
        raise ValueError(
            "X must hold at least two different rows, by which radius is measured: no noise would be added."
        )
    hits = np.zeros(len(models))
    for _ in range(n_neighbours):
        near = _like(rows + radius * spread * rng.normal(size=rows.shape), X)
        hits += [np.count_nonzero(model.predict(near) == labels) for model in models]
    return [float(share) for share in hits / (n_neighbours * len(rows))]


def as_numbers(X: Any) -> NDArray[np.float64]:
    """Return rows as an array of numbers."""
    try:
        return np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError):  # which quotes what is no number
        raise ValueError("X must hold numbers, in one dense array or table.") from None


def _like(rows: NDArray[np.float64], X: Any) -> Any:
    """Return rows in the form of others: a data frame with the same columns, or of their data type."""
    if isinstance(X, pd.DataFrame):
        return pd.DataFrame(rows, columns=X.columns).astype({k: v for k, v in X.dtypes.items() if v.kind == "f"})
    dtype = np.asarray(X).dtype
    return rows.astype(dtype) if dtype.kind == "f" else rows
