"""What one request asks for, resolved once against the rows: all of it, or a ValueError before anything has changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.estimators._orders import Order
from sk_unlearn.rows import Mark, TrainingSet
from sk_unlearn.rows.content import numbered
from sk_unlearn.rows.forms import joined, replaced

__all__ = [
    "Content",
    "Request",
    "check_no_conflict",
    "check_some_stay",
    "listed",
    "locate_deletion",
    "narrowed_slots",
    "order_of",
    "resolve_correction",
    "resolve_deletion",
    "resolve_handed_in",
    "resolve_pending",
    "resolve_slots",
]


class Content(NamedTuple):
    """Rows as the net takes them: features, targets, and weights or None where all are one."""

    X: Any
    y: NDArray[Any]
    weight: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.X)


@dataclass(frozen=True)
class Request:
    """The rows that a request touches.

    Attributes
    ----------
    verb : {"forget", "partial_forget", "correct", "settle", "retrain", "replay"}
        What was asked.

    positions : ndarray of int64, ascending
        Slots of stored rows that leave, or whose content is replaced.

    trained : bool ndarray, one entry a position
        Which of them had entered a gradient.

    erased_rows : ndarray of int64 or None
        Numbers of these among the stored rows that had entered a gradient, ascending; None where rows are not stored.

    erased : Content
        The trained rows that leave, stored or handed in, with their old content.

    new : Content or None
        New content of ``positions``, for a correction.

    added : Content or None
        That of the trained ones.

    foreign : Content or None
        Rows that were handed in and are not stored.

    source : uint8 ndarray of shape (n, 16), or None
        Digests of what the new content was made of, or else of what the foreign rows were made of.

    orders : tuple of Order
        The pending requests that it carries out; empty for one that was not written down before.
    """

    verb: str
    positions: NDArray[np.int64]
    trained: NDArray[np.bool_]
    erased_rows: NDArray[np.int64] | None
    erased: Content
    new: Content | None = None
    added: Content | None = None
    foreign: Content | None = None
    source: NDArray[np.uint8] | None = None
    orders: tuple[Order, ...] = ()

    @property
    def replaces(self) -> bool:
        """Whether rows stay, with new content."""
        return self.new is not None

    @property
    def n_erased(self) -> int:
        """Stored rows that go or change, and rows handed in."""
        return len(self.positions) + (0 if self.foreign is None else len(self.foreign))

    @property
    def n_trained(self) -> int:
        """Those of them that had entered a gradient; the caller vouches for the ones handed in."""
        return len(self.erased)

    def rows_after(self, rows: TrainingSet, slots: NDArray[np.int64]) -> Content:
        """Return the given slots with the content they have after the request."""
        X, y = rows.raw_X[slots], rows.raw_y[slots]
        if self.new is not None:
            _, at, source = np.intersect1d(slots, self.positions, assume_unique=True, return_indices=True)
            X, y = replaced(X, at, self.new.X[source]), replaced(y, at, self.new.y[source])
        return Content(X, y, None if rows.raw_weight is None else rows.raw_weight[slots])

    def stay(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the slots of a mask that are still there after the request."""
        kept = mask.copy()
        if not self.replaces:
            kept[self.positions] = False
        return kept


def locate_deletion(rows: TrainingSet, X: Any, y: NDArray[Any] | None, sample_id: Any) -> NDArray[np.int64]:
    """Find the slots of the rows that ``forget`` names by content, by identifier, or by both.

    Raises
    ------
    ValueError
        For rows or identifiers that are not stored, and for a request of nothing.
    """
    positions = None if X is None else rows.locate(X, y, name="X_del")
    return narrowed_slots(rows, positions, sample_id)


def narrowed_slots(rows: TrainingSet, positions: NDArray[np.int64] | None, sample_id: Any) -> NDArray[np.int64]:
    """Return slots of rows with one of the identifiers, of those that content has found where it was given.

    Raises
    ------
    ValueError
        For identifiers that are not stored, and where nothing is left.
    """
    if sample_id is not None:
        by_id = rows.locate_ids(sample_id)
        positions = by_id if positions is None else np.intersect1d(positions, by_id)
    assert positions is not None
    if not len(positions):
        raise ValueError("No stored row has both the content in X_del and an identifier in sample_id.")
    return positions


def resolve_deletion(rows: TrainingSet, X: Any, y: NDArray[Any] | None, sample_id: Any) -> Request:
    """Find the rows that ``forget`` names, as :func:`locate_deletion` does.

    Raises
    ------
    ValueError
        As there, and for a request of everything.
    """
    return _request("forget", rows, locate_deletion(rows, X, y, sample_id))


def resolve_pending(rows: TrainingSet, verb: str) -> Request:
    """Return the request to forget all rows that pending requests name; it may come to none.

    Raises
    ------
    ValueError
        Where that is every row.
    """
    slots = [mark.positions for mark in rows.marks]
    positions = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *slots]))
    if len(positions) == len(rows):
        raise ValueError(
            f"The pending requests ({len(slots)}) cover all {len(rows)} rows of the training set; nothing would be "
            "left to model. They stay pending: bring other rows by partial_fit first, or discard the estimator."
        )
    return replace(_request(verb, rows, positions), orders=tuple(map(order_of, rows.marks)))


def order_of(mark: Mark) -> Order:
    """Read a pending request from the mark on its rows."""
    return Order(mark.label, datetime.fromisoformat(mark.since))


def resolve_handed_in(rows: TrainingSet | None, X: Any, y: NDArray[Any]) -> Request:
    """Take rows that ``partial_forget`` is handed: stored copies go, the others are foreign.

    Raises
    ------
    ValueError
        For a request of everything, and for rows that miss a stored one by rounding alone: it would stay.
    """
    if rows is None:
        return _request("partial_forget", None, np.empty(0, dtype=np.int64), foreign=Content(X, y))
    match = rows.match(X, y, name="X")
    unknown = ~match.found
    near = rows.near_misses(X, y, among=unknown, name="X") if unknown.any() else unknown
    if near.any():
        raise ValueError(
            f"{near.sum()} of {len(X)} rows of X, with their targets in y, miss a stored row by rounding alone (the "
            f"first at index {np.argmax(near)}): the stored one would stay. Pass both as they were given to fit."
        )
    foreign = Content(X[unknown], y[unknown]) if unknown.any() else None
    return _request("partial_forget", rows, match.positions, foreign=foreign)


def resolve_correction(
    rows: TrainingSet,
    X: Any,
    y: NDArray[Any] | None,
    X_new: Any,
    y_new: NDArray[Any] | None,
) -> Request:
    """Find the rows that ``correct`` names and what each is to become.

    Raises
    ------
    ValueError
        For rows that are not stored, or identical ones that are to become different.
    """
    match = rows.find(X, y, name="X_old")
    for new, name in ((X_new, "X_new"), (y_new, "y_new")):
        if new is not None:
            check_no_conflict(X, y, new, name)
    content = Content(
        rows.raw_X[match.positions] if X_new is None else X_new[match.query_index],
        rows.raw_y[match.positions] if y_new is None else y_new[match.query_index],
        None if rows.raw_weight is None else rows.raw_weight[match.positions],
    )
    return _request("correct", rows, match.positions, new=content)


def resolve_slots(
    rows: TrainingSet | None,
    positions: NDArray[np.int64],
    *,
    new: Content | None = None,
    foreign: Content | None = None,
    source: NDArray[np.uint8] | None = None,
) -> Request:
    """Take slots that somebody else has found, to be forgotten or with new content, and what that was made of.

    Raises
    ------
    ValueError
        For a request of everything.
    """
    if new is not None:
        weight = None if rows is None or rows.raw_weight is None else rows.raw_weight[positions]
        return replace(_request("correct", rows, positions, new=Content(new.X, new.y, weight)), source=source)
    verb = "forget" if foreign is None else "partial_forget"
    return replace(_request(verb, rows, positions, foreign=foreign), source=source)


def _request(
    verb: str,
    rows: TrainingSet | None,
    positions: NDArray[np.int64],
    *,
    new: Content | None = None,
    foreign: Content | None = None,
) -> Request:
    if rows is None:
        assert foreign is not None
        return Request(verb, positions, np.empty(0, dtype=bool), None, foreign, foreign=foreign)
    if new is None:
        check_some_stay(rows, positions)
    else:
        new = Content(rows.as_stored(new.X), new.y, new.weight)
    if foreign is not None:
        foreign = Content(rows.as_stored(foreign.X), foreign.y, foreign.weight)
    trained = rows.trained_mask[positions]
    slots = positions[trained]
    weight = None if rows.raw_weight is None else rows.raw_weight[slots]
    erased = Content(rows.raw_X[slots], rows.raw_y[slots], weight)
    return Request(
        verb,
        positions,
        trained,
        rows.numbers_of(slots, among="trained"),
        erased if foreign is None else _joined(erased, foreign),
        new,
        _part(new, trained) if new is not None and trained.any() else None,
        foreign,
    )


def _part(content: Content, mask: NDArray[np.bool_]) -> Content:
    return Content(content.X[mask], content.y[mask], None if content.weight is None else content.weight[mask])


def _joined(stored: Content, foreign: Content) -> Content:
    weight = None
    if stored.weight is not None:
        weight = np.concatenate([stored.weight, np.ones(len(foreign))])
    return Content(joined(stored.X, foreign.X), joined(stored.y, foreign.y), weight)


def listed(sample_id: Any) -> Any:
    """Return identifiers as they are; a single one, which may come alone, in a list."""
    alone = isinstance(sample_id, str | bytes) or not isinstance(sample_id, Iterable)
    alone = alone or getattr(sample_id, "shape", None) == ()
    ids = [sample_id[()] if isinstance(sample_id, np.ndarray) else sample_id] if alone else sample_id
    if not alone and not hasattr(ids, "shape"):
        ids = list(ids)
    if not len(ids):
        raise ValueError("sample_id is empty: name at least one identifier to forget.")
    return ids


def check_some_stay(rows: TrainingSet, positions: NDArray[np.int64]) -> None:
    """Refuse a request of everything."""
    if len(positions) == len(rows):
        raise ValueError(
            f"The request covers all {len(rows)} rows of the training set; nothing would be left to model. "
            "Discard the estimator instead."
        )


def check_no_conflict(X: Any, y: NDArray[Any] | None, new: Any, name: str) -> None:
    """Refuse a correction that gives one old row two new contents."""
    old = numbered(X) if y is None else numbered(X, y)
    if len(np.unique(old)) != len(np.unique(np.column_stack([old, numbered(new)]), axis=0)):
        raise ValueError(f"{name} gives identical rows of X_old different new contents; tell them apart by y_old.")
