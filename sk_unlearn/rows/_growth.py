"""Columns with room beyond their last row, so that a few rows more do not copy all that are there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sk_unlearn.rows.content import Array
from sk_unlearn.rows.storage import RowStorage, dense
from sk_unlearn.utils._journal import Assignment

__all__ = ["Extension", "extended"]

# A column without room gets some for an eighth of its rows, so that a column that grows copies each row some eight
# times. Room that no row has come to takes no memory: the system gives out pages of zeros when they are written to.
_SHARE_OF_ROOM = 8


class Extension(NamedTuple):
    """A column with other rows after its own.

    Attributes
    ----------
    column : array or RowStorage
        As it will be.
    room : array or None
        What it is the beginning of; None where that is nothing but the column.
    assignments : list of (container, key, value)
        That write the rows into the room, beyond whatever anybody reads so far.
    """

    column: Any
    room: Array | None
    assignments: list[Assignment]


def extended(column: Any, new: Any, room: Array | None) -> Extension:
    """Return a column that others come after, at the cost of these.

    Parameters
    ----------
    column : (n, ...) array or RowStorage
        Not changed. A storage makes of it what it does.
    new : (m, ...) array or rows of any kind
        In the data type of the column.
    room : array or None
        What the column is the beginning of, as an extension before has left it.
    """
    if isinstance(column, RowStorage):
        return Extension(column.followed_by(new), None, [])
    n, total = len(column), len(column) + len(new)
    if room is None or len(room) < total:
        # Zeros, for memory that was given back may hold what was erased.
        room = np.zeros((total + total // _SHARE_OF_ROOM, *column.shape[1:]), dtype=column.dtype)
        room[:n] = column
    return Extension(room[:total], room, [(room, slice(n, total), dense(new))])
