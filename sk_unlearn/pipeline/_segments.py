"""Which two rows a synthetic one lies between, as SMOTE makes it, found from where it lies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["on_segments"]

# A point that was computed as a + u * (b - a) and rounded is off by less than so many units of the last place.
_ULPS = 8.0
# Beyond so many products nobody waits for the answer, and candidates for one point beyond which none is certain.
_MOST_WORK, _MOST_CANDIDATES = 2e10, 100_000

Rows = NDArray[np.float64]


def on_segments(S: Rows, A: Rows, eps: float) -> list[tuple[NDArray[np.int64], Rows] | None]:
    r"""Find the two ends of the segment that each of some points lies on, where there is one segment only.

    Seen from a point :math:`s = a + u (b - a)`, its ends a and b lie in opposite directions. Pairs of opposite
    directions are found in a sorted list of projections onto one axis, and are then looked at closely.

    Parameters
    ----------
    S : float64 ndarray of shape (n, p)
        Points.

    A : float64 ndarray of shape (m, p)
        Rows that they may lie between.

    eps : float
        Unit of rounding of the data type that the points were computed in.

    Returns
    -------
    ends : list of (int64 ndarray, float64 ndarray), or None
        For each point the numbers of the rows at the ends, equal ones all, and shares of one in sum such that their
        weighted mean is the point. None where no segment passes through it, or several do. On a line several always
        may, so that two different rows must be all there are.
    """
    if not len(S) or not len(A) or S.size * len(A) > _MOST_WORK:
        return [None] * len(S)
    ends, of_content = np.unique(A, axis=0, return_inverse=True)
    of_content = of_content.reshape(-1)
    if len(ends) > 2 and np.count_nonzero(np.ptp(ends, axis=0)) < 2:
        return [None] * len(S)
    drawn = np.random.default_rng(0).normal(size=A.shape[1])
    axis: Rows = np.asarray(drawn / np.linalg.norm(drawn))
    return [_as_rows(_ends_of(s, ends, eps, axis), of_content) for s in S]


def _as_rows(found: list[tuple[int, float]] | None, of_content: NDArray[Any]) -> tuple[NDArray[np.int64], Rows] | None:
    if found is None:
        return None
    numbers, shares = [], []
    for end, share in found:
        equal = np.flatnonzero(of_content == end)
        numbers.append(equal)
        shares.append(np.full(len(equal), share / len(equal)))
    return np.concatenate(numbers), np.concatenate(shares)


def _ends_of(s: Rows, ends: Rows, eps: float, axis: Rows) -> list[tuple[int, float]] | None:
    """Return the ends of the only segment through a point, and the share of each; one end if it is the point."""
    off = ends - s
    distance = np.linalg.norm(off, axis=1)
    slack = _ULPS * eps * np.linalg.norm(np.maximum(np.abs(ends), np.abs(s)), axis=1)
    near = np.flatnonzero(distance <= slack)
    if len(near):
        return [(int(near[0]), 1.0)] if len(near) == 1 else None
    projected = off @ axis / distance
    # Two directions are opposite up to the rounding of the nearer end's, whose turn it is to look for the other.
    window = 2 * slack / distance + 1e-14
    order = np.argsort(projected)
    first = np.searchsorted(projected[order], -projected - window)
    n = np.searchsorted(projected[order], -projected + window, side="right") - first
    if n.sum() > _MOST_CANDIDATES:
        return None
    one = np.repeat(np.arange(len(ends)), n)
    place = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n) + np.repeat(first, n)
    other = order[place]
    pairs = np.unique(np.sort(np.column_stack([one, other])[one != other], axis=1), axis=0)
    a, b = ends[pairs[:, 0]], ends[pairs[:, 1]]
    along = b - a
    u = ((s - a) * along).sum(axis=1) / np.square(along).sum(axis=1)
    bound = _ULPS * eps * np.maximum(np.maximum(np.abs(a), np.abs(b)), np.abs(s))
    fits = (np.abs(a + u[:, None] * along - s) <= bound).all(axis=1) & (u > 0) & (u < 1)
    if np.count_nonzero(fits) != 1:
        return None
    at = int(np.argmax(fits))
    return [(int(pairs[at, 0]), 1 - float(u[at])), (int(pairs[at, 1]), float(u[at]))]
