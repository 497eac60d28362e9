"""The weight decay that rows call for in ridge regression, from how well a linear model explains their targets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ridge_decay", "some_rows"]

# Rows that are read at most, evenly spaced; and with so many columns fewer, for a matrix of that size is decomposed.
_ROWS, _COLUMNS = 2**14, 2**11
# Ridge penalties that are compared, as multiples of the mean eigenvalue.
_PENALTIES = np.logspace(-6, 1, 15)


def some_rows(X: NDArray[Any]) -> slice:
    """Return which rows :func:`ridge_decay` is to read of many."""
    return slice(None, None, -(-len(X) // (_ROWS if X.shape[1] <= _COLUMNS else _COLUMNS)))


def ridge_decay(
    Z: NDArray[Any] | Iterable[NDArray[np.float64]],
    T: NDArray[np.float64],
    weight: NDArray[np.float64] | None,
    n_rows: float,
    n_columns: int | None = None,
) -> float:
    r"""Return the weight decay that suits ridge regression on rows like these.

    Hoerl and Kennard's rule: where a linear model of `p` directions explains the share :math:`R^2` of the variance of
    the targets over `n` rows, noise calls for a decay of

    .. math:: \frac{p}{n} \cdot \frac{1 - R^2}{R^2}.

    :math:`R^2` is what generalised cross-validation estimates for rows that were not trained on, with the ridge
    penalty at which that is best: no row has to be held out.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_columns), or iterable of ndarrays of shape (n_rows, some columns)
        Inputs, standardised: at once, or a block of columns after the other.

    T : ndarray of shape (n_rows, n_outputs)
        Targets; for a classifier, an indicator of each class.

    weight : ndarray of shape (n_rows,) or None
        A weight counts as so many rows.

    n_rows : float
        How many rows that makes, those included that are not read.

    n_columns : int or None
        Of all blocks together; None where Z is an array.

    Returns
    -------
    decay : float
        Before any bound; it may be far above 1 where nothing is explained.

    References
    ----------
    A. E. Hoerl, R. W. Kennard and K. F. Baldwin, "Ridge regression: some simulations", Communications in Statistics,
    1975.
    """
    share = np.ones(len(T)) if weight is None or not weight.any() else weight
    root = np.sqrt(share / share.sum())[:, None]
    if isinstance(Z, np.ndarray):
        n_columns, Z = Z.shape[1], [Z]
    assert n_columns is not None
    by_rows = len(T) < n_columns
    # The smaller of the two matrices of products: of rows with rows, or of columns with columns.
    products, blocks = np.zeros((len(T), len(T)) if by_rows else ()), []
    largest_Z = size_Z = 0.0
    for block in Z:
        largest_Z += np.square(root * block).sum()
        block = root * (block - root.T**2 @ block)
        size_Z += np.square(block).sum()
        if by_rows:
            products += block @ block.T
        else:
            blocks.append(block)
    largest_T, T = np.square(root * T).sum(), root * (T - root.T**2 @ T)
    total = float(np.square(T).sum())
    if total <= 1e-12 * largest_T or size_Z <= 1e-12 * largest_Z:  # what does not vary, but for rounding
        return 0.0
    if not by_rows:
        whole = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)
        products = whole.T @ whole
    # Squared sizes of the directions of the inputs, and how much of the targets lies along each.
    sizes, U = np.linalg.eigh(products)
    present = sizes > 1e-6 * sizes[-1]
    sizes, U = sizes[present], U[:, present]
    along = np.square(U.T @ T).sum(1) if by_rows else np.square(U.T @ (whole.T @ T)).sum(1) / sizes
    penalty = (_PENALTIES * sizes.mean())[:, None]
    unexplained = total - np.sum(along * (1 - np.square(penalty / (sizes + penalty))), axis=1)
    freedom = (1 + np.sum(sizes / (sizes + penalty), axis=1)) / min(n_rows, len(T))
    error = np.where(freedom < 0.9, unexplained / np.square(np.maximum(1 - freedom, 0.1)), np.inf)
    explained = float(np.clip(1 - error.min() / total, 0.01, 0.99))
    return float(np.count_nonzero(present) / n_rows * (1 - explained) / explained)
