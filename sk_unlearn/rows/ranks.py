"""From places in a mask to numbers among those that are true, and back, without a list of all that are true."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows.content import Mask, Positions

__all__ = ["n_true_before", "nth_true"]

# Entries that are counted together. Eight lie in a word, whose bytes count up to 255 without running over.
_TOGETHER = 512


def n_true_before(mask: Mask, at: Any) -> Positions:
    """Count the true entries of a mask before each of some places.

    Parameters
    ----------
    mask : (n,) bool
    at : (m,) int
        From 0 to n.

    Returns
    -------
    n_before : (m,) int64
        For a place where the mask is true its number among those that are.
    """
    at = np.asarray(at, dtype=np.int64)
    if _are_many(mask, at):
        return np.searchsorted(np.flatnonzero(mask), at).astype(np.int64)
    group = at // _TOGETHER
    places = group[:, None] * _TOGETHER + np.arange(_TOGETHER)
    here = _read(mask, places) & (places < at[:, None])
    n_before: Positions = _before_groups(mask)[group] + np.count_nonzero(here, axis=1)
    return n_before


def nth_true(mask: Mask, numbers: Any) -> Positions:
    """Return where the true entries of a mask with some numbers are.

    Parameters
    ----------
    mask : (n,) bool
    numbers : (m,) int
        From 0 to one less than there are true entries.

    Returns
    -------
    at : (m,) int64
    """
    numbers = np.asarray(numbers, dtype=np.int64)
    if _are_many(mask, numbers):
        return np.flatnonzero(mask)[numbers]
    before = _before_groups(mask)
    group = np.searchsorted(before, numbers, side="right") - 1
    here = _read(mask, group[:, None] * _TOGETHER + np.arange(_TOGETHER))
    return group * _TOGETHER + np.argmax(np.cumsum(here, axis=1) > (numbers - before[group])[:, None], axis=1)


def _are_many(mask: Mask, places: Positions) -> bool:
    """Tell whether a list of all true entries costs less than to look around each place."""
    return 2 * _TOGETHER * len(places) >= len(mask)


def _read(mask: Mask, places: Positions) -> NDArray[np.bool_]:
    """Read a mask that goes on beyond its end, with false entries."""
    return mask.take(places, mode="clip") & (places < len(mask))


def _before_groups(mask: Mask) -> Positions:
    """Count the true entries before each group, and before the end of the last one that is full."""
    n_full = len(mask) // _TOGETHER
    words = np.ascontiguousarray(mask[: n_full * _TOGETHER]).view(np.uint64).reshape(n_full, _TOGETHER // 8)
    counts = words.sum(axis=1).view(np.uint8).reshape(n_full, 8).sum(axis=1, dtype=np.int64)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
