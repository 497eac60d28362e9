"""Rows drawn from a mask at a cost that does not grow with its length."""

from __future__ import annotations

import numpy as np

from sk_unlearn.rows.content import Mask, Positions

__all__ = ["sample_mask"]


# Most rounds of drawing before the true positions are listed instead; the first nearly always suffices.
_MAX_DRAWS = 64


def sample_mask(mask: Mask, n_true: int, size: int, rng: np.random.Generator) -> Positions:
    """Draw positions where a mask is true, uniformly and without replacement.

    For `size` well below `n_true`, positions are drawn from the whole mask and thrown back where it is false: about
    ``size * len(mask) / n_true`` draws, so the length alone costs nothing. Otherwise the true ones are listed first.

    Parameters
    ----------
    mask : (n,) bool
    n_true : int
        How many are true; not counted again.
    size : int
        How many to draw; where it is `n_true` or more, all.
    rng : numpy.random.Generator

    Returns
    -------
    positions : (min(size, n_true),) int64
        In random order, so that a part of a sample is a sample; all of them in ascending order.

    Raises
    ------
    ValueError
        If `size` is negative.
    """
    if size < 0:
        raise ValueError(f"size must be 0 or more, got {size}")
    if size >= n_true:
        return np.flatnonzero(mask)
    if 32 * size <= n_true:
        drawn = np.empty(0, dtype=np.int64)
        for _ in range(_MAX_DRAWS):
            fresh = rng.integers(len(mask), size=int(1.2 * size * len(mask) / n_true) + 16)
            drawn = np.concatenate([drawn, fresh[mask[fresh]]])
            first = np.unique(drawn, return_index=True)[1]
            if len(first) >= size:  # the first distinct ones in the order of drawing: sorted ones would be biased
                return drawn[np.sort(first)[:size]]
    return rng.choice(np.flatnonzero(mask), size=size, replace=False)
