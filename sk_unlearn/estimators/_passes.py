"""Whether rows that come to ``partial_fit`` are stored already, so that further passes over them store nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows import OutsideRows, RowRole, TrainingSet
from sk_unlearn.utils._journal import Assignment

__all__ = ["Pass", "check_can_be_overwritten", "check_corrected_rows", "known_rows", "plan_rows"]


class Pass(NamedTuple):
    """What a call of ``partial_fit`` makes of the stored rows.

    Attributes
    ----------
    assignments : list of (container, key, value)
        That store the rows which are new, and note that the others have entered a gradient.
    is_new : (n,) bool
        Which rows of the call are stored by them.
    """

    assignments: list[Assignment]
    is_new: NDArray[np.bool_]


def check_can_be_overwritten(X: Any, stored: TrainingSet) -> None:
    """Raise a ValueError for rows that come from a file to be overwritten into memory, where it would be forgotten."""
    if isinstance(X, OutsideRows) and X.is_overwritten and not isinstance(stored.raw_X, OutsideRows):
        raise ValueError(
            "X comes into memory, as the rows that are stored, so that erased ones would stay in the file that "
            "open_rows(..., overwrite=True) opened: open it without overwrite and erase them there, or fit on rows of "
            "a file."
        )


def check_corrected_rows(X_new: Any) -> None:
    """Raise a ValueError for corrected rows from a file to be overwritten: they are kept in memory, and lose it."""
    if isinstance(X_new, OutsideRows) and X_new.is_overwritten:
        raise ValueError(
            "X_new comes into memory, so that its rows, once erased, would stay in the file that "
            "open_rows(..., overwrite=True) opened: open it without overwrite and erase them there."
        )


def plan_rows(stored: TrainingSet, call: TrainingSet) -> Pass:
    """Return what stores the rows of a call that are new, and notes that the others have entered a gradient.

    A row is known by its content or by what it was made of, its target and weight, and its identifier if there are any.
    With identifiers, a row that comes as often as it is stored, or less often, is the stored one; of one that comes
    more often, the surplus is new. Without them nobody can tell a second person's row from a second pass over the first
    one's: a call of nothing but rows that are stored (each at least as often as it comes) is a further pass and stores
    nothing, and any other call is stored whole.

    Parameters
    ----------
    stored : TrainingSet
        The rows so far.

    call : TrainingSet
        Those of the call, with their roles.
    """
    known, slots = known_rows(stored, call)
    trained = slots if known.any() else slots[:0]
    if known.all():
        return Pass(stored.plan_role(trained, RowRole.TRAINED), ~known)
    assignments = stored.plan_append(
        call.raw_X[~known],  # X would only read files that are to be overwritten
        call.y[~known],
        sample_weight=None if call.sample_weight is None else call.sample_weight[~known],
        sample_id=None if call.sample_id is None else call.sample_id[~known],
        role=call.role[~known],
        source=None if call.source is None else call.source[~known],
        trained=trained,
    )
    return Pass(assignments, ~known)


class _Key(NamedTuple):
    """What makes a row the same: the first row of the call with its content and target, its weight, its identifier."""

    first: int
    weight: float
    sample_id: Any


def known_rows(stored: TrainingSet, call: TrainingSet) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which rows of the call are stored already, and the slots of those of them that entered a gradient.

    Where the rows were made of others, features are not looked at.
    """
    known, slots = _known(stored, call)
    if stored.sample_id is None and not known.all():
        known[:] = False
    return known, slots


def _known(stored: TrainingSet, call: TrainingSet) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    if call.source is not None and stored.source is not None:
        match, own = (each.match_source(call.source, call.y, name="X") for each in (stored, call))
    else:
        match, own = (each.match(call.X, call.y, name="X") for each in (stored, call))
    known = np.zeros(len(call), dtype=bool)
    if not match.found.any():
        return known, np.empty(0, dtype=np.int64)
    there = list(_keys(stored, match.positions, match.query_index))
    left = Counter(there)
    learnt = set()
    trained = call.trained_mask
    for i, key in enumerate(_keys(call, own.positions, own.query_index)):
        if left[key] > 0:
            left[key] -= 1
            known[i] = True
            if trained[i]:
                learnt.add(key)
    # Every copy: which of several equal rows it was does not matter, and none of them may pass for unseen.
    slots = [slot for slot, key in zip(match.positions.tolist(), there, strict=True) if key in learnt]
    return known, np.array(slots, dtype=np.int64)


def _keys(rows: TrainingSet, slots: NDArray[np.int64], first: NDArray[np.int64]) -> Iterator[_Key]:
    weight = np.ones(len(slots)) if rows.raw_weight is None else rows.raw_weight[slots]
    ids = [None] * len(slots) if rows.raw_id is None else rows.raw_id[slots].tolist()
    return (_Key(*key) for key in zip(first.tolist(), weight.tolist(), ids, strict=True))
