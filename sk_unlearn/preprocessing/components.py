"""Principal components, fitted from the exact products of all pairs of columns."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.utils.extmath import svd_flip
from sklearn.utils.validation import _num_samples

from sk_unlearn.preprocessing.columnwise import View
from sk_unlearn.preprocessing.exact_sums import UNIT
from sk_unlearn.preprocessing.tallies import Needs, NotKnownError

__all__ = ["COMPONENTS", "needs_of", "refit"]

COMPONENTS: tuple[type[Any], ...] = (PCA, IncrementalPCA)

MOST_COLUMNS = 128
"""For more columns the exact products cost much more than the fit: 100 columns of 100,000 rows take two seconds."""

FACTOR_BITS = 400
"""Bits behind the point of scales and shifts; a float64 of ordinary size has less than a hundred."""

CONDITION = 1e8
"""Ratio of variances from where eigenvalues of the covariance say too little of the smallest singular value."""


def needs_of(step: Any, X: Any, is_filled: bool) -> Needs | None:
    """Return what components ask of the tally, or None where they depend on chance or on the order of the rows."""
    known = not sparse.issparse(X) and step.n_features_in_ <= MOST_COLUMNS
    return Needs(gram=True, marks=is_filled) if known and _is_exact(step, _num_samples(X)) else None


def _is_exact(step: Any, n: int) -> bool:
    """Whether the components of n rows are those of their covariance."""
    d = step.n_features_in_
    if n <= d:
        return False
    if isinstance(step, IncrementalPCA):  # exact where no batch was cut to fewer components
        return bool(step.n_components_ == d)
    if step.n_components == "mle":
        return False
    solver = step.svd_solver
    if solver == "auto":
        few = step.n_components is not None and 1 <= step.n_components < 0.8 * min(n, d)
        # As scikit-learn chooses: a tall table by its covariance, a small one in full, else at random if few are asked
        # for.
        return n >= 10 * d or max(n, d) <= 500 or not few
    return solver in ("full", "covariance_eigh")


def _covariance(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Return means and covariance of a step's input, rounded once."""
    table = view.tally.gram or []
    d = len(view.tally.missing or [])
    # An input is a combination of 1, of a raw column, and of the mark at its missing values. The factors are cut to
    # whole multiples of 2**-FACTOR_BITS: whole numbers are faster than fractions by far.
    maps = []
    for column in view.columns:
        if column.fill is None and view.n_missing(column):
            raise NotKnownError
        scale, shift, fill = column.exact()
        marked = 0 if fill is None else fill - shift
        factors = {0: shift, 1 + column.source: scale, 1 + d + column.source: marked}
        maps.append({row: round(factor * 2**FACTOR_BITS) for row, factor in factors.items() if factor})
    half = [[sum(row[i] * factor for i, factor in factors.items()) for factors in maps] for row in table]
    second = [[sum(half[i][m] * factor for i, factor in factors.items()) for m in range(len(maps))] for factors in maps]
    first, n = half[0], view.tally.n_rows
    of_mean, of_product = n << UNIT + FACTOR_BITS, n * (n - 1) << 2 * (UNIT + FACTOR_BITS)
    covariance = [
        [(value * (n << UNIT) - a * b) / of_product for value, b in zip(row, first, strict=True)]
        for row, a in zip(second, first, strict=True)
    ]
    return np.array([value / of_mean for value in first]), np.array(covariance)


def refit(step: Any, view: View) -> Any:
    """Return components as they would have been fitted on the rows that the tally counts."""
    if not _is_exact(step, view.tally.n_rows):
        raise NotKnownError
    step = copy.copy(step)
    mean, covariance = _covariance(view)
    n, d = view.tally.n_rows, len(mean)
    step.n_features_in_ = d
    variances, vectors = np.linalg.eigh(covariance)
    variances = np.clip(variances[::-1], 0, None)
    if not isinstance(step, IncrementalPCA) and n < 10 * d and variances[-1] * CONDITION < variances[0]:
        raise NotKnownError
    _, components = svd_flip(None, np.ascontiguousarray(vectors.T[::-1]), u_based_decision=False)
    total = variances.sum()
    k = _n_components(step, variances / total)
    dtype = step.components_.dtype
    if isinstance(step, IncrementalPCA):
        step.var_ = np.diag(covariance) * ((n - 1) / n)
        step.n_samples_seen_ = type(step.n_samples_seen_)(n)
        step.noise_variance_ = 0.0
    else:
        step.n_samples_ = n
        step.noise_variance_ = variances[k:].mean().astype(dtype) if k < d else 0.0
    step.mean_, step.n_components_ = mean.astype(step.mean_.dtype), k
    step.components_ = components[:k].astype(dtype)
    step.explained_variance_ = variances[:k].astype(dtype)
    step.explained_variance_ratio_ = (variances[:k] / total).astype(dtype)
    step.singular_values_ = np.sqrt(variances[:k] * (n - 1)).astype(dtype)
    return step


def _n_components(step: Any, ratios: np.ndarray) -> int:
    if isinstance(step, IncrementalPCA) or step.n_components is None:
        return len(ratios)
    if 0 < step.n_components < 1:
        return int(np.searchsorted(np.cumsum(ratios), step.n_components, side="right")) + 1
    return int(step.n_components)
