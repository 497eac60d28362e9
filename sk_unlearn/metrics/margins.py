"""Margins of many unlearned models beside those of many retrained ones: KLoM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_unlearn.metrics._arguments import check_int
from sk_unlearn.metrics.distances import as_finite
from sk_unlearn.metrics.forgetting import label_probabilities
from sk_unlearn.metrics.membership import logit_confidence

__all__ = ["klom", "klom_score", "row_margins"]


def row_margins(estimator: Any, X: Any, y: ArrayLike) -> NDArray[np.float64]:
    r"""Return the margin of each row: the logit of its label less the log-sum-exp of those of the others.

    With :math:`p` the probability of the label it is :math:`\ln p - \ln (1 - p)`, so that any classifier has one.

    Parameters
    ----------
    estimator : classifier
        Fitted.
    X : array-like of shape (n_rows, ...)
        Rows.
    y : array-like of shape (n_rows,)
        Their labels.

    Returns
    -------
    ndarray of shape (n_rows,)
        Within about 27.6 of zero: probabilities are kept 1e-12 away from 0 and 1.
    """
    return logit_confidence(label_probabilities(estimator, X, y))


def klom(margins: ArrayLike, reference_margins: ArrayLike, *, n_bins: int = 20) -> NDArray[np.float64]:
    """Return for each row the KL divergence between the margins of unlearned models and of retrained ones.

    KLoM, the "KL divergence of margins" [1]_, asks whether unlearning, as a random procedure, leads to what retraining
    leads to: not one model beside others, but many beside many, row by row.

    Parameters
    ----------
    margins : array-like of shape (n_models, n_rows)
        Of models that forgot, each trained and unlearned from another seed; see `row_margins`.
    reference_margins : array-like of shape (n_references, n_rows)
        Of models retrained without the erased rows.
    n_bins : int, default=20
        Bins of equal width, over what both have of a row. Half a count is added to each, without which a single margin
        outside the range of the others would make the divergence infinite.

    Returns
    -------
    ndarray of shape (n_rows,)
        Nats; 0 where the histograms agree. With few models it is well above 0 for retrained models too: compare it with
        that between two halves of these.

    Raises
    ------
    ValueError
        If the arrays are no matrices of as many columns, hold fewer than two models, or `n_bins` is below 2.

    References
    ----------
    .. [1] Georgiev, Rinberg, Park, Garg, Ilyas, Madry and Neel, "Attribute-to-Delete: Machine unlearning via datamodel
       matching", 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_unlearn.metrics import klom
    >>> rng = np.random.default_rng(0)
    >>> near, far = klom(rng.normal(size=(200, 2)), rng.normal([0, 3], 1, size=(200, 2)))
    >>> print(f"{near:.1f} {far:.1f}")
    0.1 2.7
    """
    own, others = as_finite("margins", margins), as_finite("reference_margins", reference_margins)
    for name, each in (("margins", own), ("reference_margins", others)):
        if each.ndim != 2 or len(each) < 2:
            raise ValueError(f"{name} must have shape (n_models, n_rows) with at least 2 models, got {each.shape}.")
    if own.shape[1] != others.shape[1]:
        raise ValueError(
            f"margins and reference_margins must be of the same rows, got {own.shape[1]} and {others.shape[1]} columns."
        )
    check_int("n_bins", n_bins, 2)
    low = np.minimum(own.min(axis=0), others.min(axis=0))
    width = np.maximum(own.max(axis=0), others.max(axis=0)) - low
    p, q = (_histograms(each, low, width, n_bins) for each in (own, others))
    return np.asarray((p * np.log(p / q)).sum(axis=1))


def _histograms(margins: NDArray[np.float64], low: Any, width: Any, n_bins: int) -> NDArray[np.float64]:
    """Return a smoothed histogram for each row, over bins of its own."""
    n_models, n_rows = margins.shape
    place = np.divide(margins - low, width, out=np.zeros_like(margins), where=width > 0)
    bins = np.minimum((n_bins * place).astype(np.int64), n_bins - 1)
    counts = np.bincount((bins + n_bins * np.arange(n_rows)).ravel(), minlength=n_rows * n_bins)
    return (counts.reshape(n_rows, n_bins) + 0.5) / (n_models + 0.5 * n_bins)


def klom_score(
    estimators: Sequence[Any],
    references: Sequence[Any],
    X: Any,
    y: ArrayLike,
    *,
    quantile: float = 0.95,
    n_bins: int = 20,
) -> float:
    """Return a high quantile over rows of `klom`: how far the worst of them are from retraining.

    Parameters
    ----------
    estimators : sequence of classifiers
        Models that forgot, each trained and unlearned from another seed.
    references : sequence of classifiers
        Models retrained without the erased rows, such as those of `sk_unlearn.references.fit_many`.
    X : array-like of shape (n_rows, ...)
        Rows: erased, retained or unseen ones, each kind by itself.
    y : array-like of shape (n_rows,)
        Their labels.
    quantile : float, default=0.95
        Which; 0.5 is the median.
    n_bins : int, default=20
        See `klom`.

    Returns
    -------
    float
        Nats.

    Raises
    ------
    ValueError
        As `klom`; and if `quantile` is not in [0, 1].
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile must lie in [0, 1], got {quantile!r}.")
    own, others = ([row_margins(model, X, y) for model in models] for models in (estimators, references))
    return float(np.quantile(klom(own, others, n_bins=n_bins), quantile))
