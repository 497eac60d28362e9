"""From places in a mask to numbers among those that are true, and back, without a list of all that are true."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows.content import Mask, Positions

__all__ = ["Counts", "counts_of", "less_true", "n_true_before", "nth_true"]

# Entries that are counted together. Eight lie in a word, whose bytes count up to 255 without running over.
_TOGETHER = 64

Counts = NDArray[np.uint8]


def counts_of(mask: Mask) -> Counts:
    """Count the true entries of a mask in each group of 64; those after the last full group are in none.

    Whoever asks often keeps them, and reads of the mask only what is around the places in question.

    Parameters
    ----------
    mask : (n,) bool

    Returns
    -------
    counts : (n // 64,) uint8
    """
    n_full = len(mask) // _TOGETHER
    words = np.ascontiguousarray(mask[: n_full * _TOGETHER]).view(np.uint64).reshape(n_full, _TOGETHER // 8)
    counts = np.zeros(n_full, dtype=np.uint64)
    for column in words.T:  # a loop over eight columns costs less than sums of eight numbers each
        counts += column
    sums: Counts = counts.view(np.uint8).reshape(n_full, 8).sum(axis=1, dtype=np.uint8)
    return sums


def less_true(counts: Counts, at: Positions) -> tuple[Counts, Positions, Counts]:
    """Return the assignment that makes counts those of a mask in which some true entries have become false.

    Parameters
    ----------
    counts : (n // 64,) uint8
    at : (m,) int64
        Each once.
    """
    groups, gone = np.unique(at[at < len(counts) * _TOGETHER] // _TOGETHER, return_counts=True)
    return counts, groups, counts[groups] - gone.astype(np.uint8)


def n_true_before(mask: Mask, at: Any, counts: Counts | None = None) -> Positions:
    """Count the true entries of a mask before each of some places.

    Parameters
    ----------
    mask : (n,) bool
    at : (m,) int
        From 0 to n.
    counts : (n // 64,) uint8, optional
        As `counts_of` gives them.

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
    n_before: Positions = _before_groups(mask, counts)[group] + np.count_nonzero(here, axis=1)
    return n_before


def nth_true(mask: Mask, numbers: Any, counts: Counts | None = None) -> Positions:
    """Return where the true entries of a mask with some numbers are.

    Parameters
    ----------
    mask : (n,) bool
    numbers : (m,) int
        From 0 to one less than there are true entries.
    counts : (n // 64,) uint8, optional
        As `counts_of` gives them.

    Returns
    -------
    at : (m,) int64
    """
    numbers = np.asarray(numbers, dtype=np.int64)
    if _are_many(mask, numbers):
        return np.flatnonzero(mask)[numbers]
    before = _before_groups(mask, counts)
    group = np.searchsorted(before, numbers, side="right") - 1
    here = _read(mask, group[:, None] * _TOGETHER + np.arange(_TOGETHER))
    reached = np.cumsum(here, axis=1, dtype=np.uint8) > (numbers - before[group])[:, None]
    return group * _TOGETHER + np.argmax(reached, axis=1)


def _are_many(mask: Mask, places: Positions) -> bool:
    """Tell whether a list of all true entries costs less than to look around each place."""
    return 2 * _TOGETHER * len(places) >= len(mask)


def _read(mask: Mask, places: Positions) -> NDArray[np.bool_]:
    """Read a mask that goes on beyond its end, with false entries."""
    return mask.take(places, mode="clip") & (places < len(mask))


def _before_groups(mask: Mask, counts: Counts | None) -> NDArray[Any]:
    """Count the true entries before each group, and before the end of the last one that is full."""
    counts = counts_of(mask) if counts is None else counts
    before: NDArray[Any] = np.zeros(
        len(counts) + 1, dtype=np.int32 if len(mask) <= np.iinfo(np.int32).max else np.int64
    )
    np.cumsum(counts, dtype=before.dtype, out=before[1:])
    return before
