"""Whether a model that forgot is closer to retrained models than to the one that it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sk_unlearn.metrics.distances import row_distances

__all__ = ["RelativeDistance", "relative_distance"]


class RelativeDistance(NamedTuple):
    """What `relative_distance` returns. In nats, or for regressors in the squared unit of the target."""

    to_retrained: float
    """Mean distance to the retrained models."""
    to_original: float
    """Mean distance to the model before the request."""
    difference: float
    """The first less the second."""
    low: float
    """Lower end of a bootstrap interval of the difference."""
    high: float
    """Upper end."""

    @property
    def verdict(self) -> str:
        """Return "closer" to retrained models, "farther" from them than from the original, or "undecided"."""
        return "closer" if self.high < 0 else "farther" if self.low > 0 else "undecided"


def relative_distance(
    estimator: Any,
    original: Any,
    references: Sequence[Any],
    X: Any,
    *,
    level: float = 0.95,
    n_bootstrap: int = 1000,
    random_state: int = 0,
) -> RelativeDistance:
    r"""Compare the distance to retrained models with the distance to the model before the request.

    A test of whether a model *equals* retrained ones rejects even one that was retrained, if it only sees enough rows:
    no two trainings agree. This asks the question that can be answered, on which side a model stands [1]_. It says
    nothing of how far away it is: see `distance_ratio` for that.

    Parameters
    ----------
    estimator : estimator or Pipeline
        The model that forgot.
    original : estimator or Pipeline
        The model before it did, such as a ``copy.deepcopy``.
    references : sequence of at least two estimators or Pipelines
        Models retrained without the erased rows, each from another seed.
    X : array-like of shape (n_rows, ...)
        Rows to predict on, the erased ones first of all.
    level : float, default=0.95
        Of the interval.
    n_bootstrap : int, default=1000
        How often rows, and retrained models, are drawn with replacement.
    random_state : int, default=0
        Seeds the bootstrap.

    Returns
    -------
    RelativeDistance
        Of Jensen-Shannon divergences, for regressors of squared differences. Its ``verdict`` is "undecided" where the
        interval holds zero: with few rows, or where the request changes so little that another seed changes more.

    Raises
    ------
    ValueError
        If there are fewer than two references or two rows, `level` is not in (0, 1) or `n_bootstrap` is below 1.

    Notes
    -----
    With :math:`d` a distance of predictions for one row, :math:`u` the model that forgot, :math:`o` the original and
    :math:`r_k` the retrained ones, the difference is the mean over rows of :math:`\frac{1}{K} \sum_k d(u, r_k) -
    d(u, o)`. Rows and models are resampled independently, and the interval holds the middle of what comes out.

    References
    ----------
    .. [1] Ribero, Schrab and Gretton, 2026, on relative two-sample tests for unlearning.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.metrics import relative_distance
    >>> from sk_unlearn.references import fit_many
    >>> X, y = load_iris(return_X_y=True)
    >>> original = UnlearnableClassifier(random_state=0).fit(X, y)
    >>> retrained = fit_many(UnlearnableClassifier(), X[50:], y[50:], seeds=[1, 2])
    >>> relative_distance(original, original, retrained, X[:50]).verdict
    'farther'
    """
    if len(references) < 2:
        raise ValueError(f"references must hold at least 2 retrained models, got {len(references)}.")
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level!r}.")
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap must be at least 1, got {n_bootstrap!r}.")
    *to_retrained, to_original = row_distances(estimator, [*references, original], X)
    differences = np.array(to_retrained) - to_original
    n_models, n_rows = differences.shape
    if n_rows < 2:
        raise ValueError(f"X must hold at least 2 rows, got {n_rows}.")
    rng, drawn = np.random.default_rng(random_state), np.empty(n_bootstrap)
    for k in range(n_bootstrap):
        models = rng.integers(n_models, size=n_models)
        drawn[k] = differences[models].mean(axis=0)[rng.integers(n_rows, size=n_rows)].mean()
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    means = float(np.mean(to_retrained)), float(np.mean(to_original))
    return RelativeDistance(*means, means[0] - means[1], float(low), float(high))
