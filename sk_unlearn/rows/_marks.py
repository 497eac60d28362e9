"""Marks on rows that are to go later: where they stand, never what is in them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from sk_unlearn.rows.content import Mask, Positions

__all__ = ["Mark", "marks_after", "renumbered"]


class Mark(NamedTuple):
    """Rows that somebody has named, until they are dropped or the mark is taken off.

    Attributes
    ----------
    label : str
        By which the mark is known.
    since : str
        When it was made, as the caller writes it.
    positions : (m,) int64
        Slots of the rows that are still there, ascending; none where all have been dropped meanwhile.
    """

    label: str
    since: str
    positions: Positions


def marks_after(marks: tuple[Mark, ...], dropped: Positions, labels: Collection[str]) -> tuple[Mark, ...]:
    """Return the marks as they are when rows have been dropped and some of the marks taken off."""
    return tuple(
        mark._replace(positions=np.setdiff1d(mark.positions, dropped, assume_unique=True))
        for mark in marks
        if mark.label not in labels
    )


def renumbered(marks: tuple[Mark, ...], live: Mask) -> tuple[Mark, ...]:
    """Return the marks as they are when the slots that are not live have been closed up."""
    number = np.cumsum(live) - 1
    return tuple(mark._replace(positions=number[mark.positions].astype(np.int64)) for mark in marks)
