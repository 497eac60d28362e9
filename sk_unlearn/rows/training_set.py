"""The rows of a fitted estimator that may still matter: find them by content or id, drop them for good.

Rows live in *slots* and are never moved when others are dropped, so a position handed out stays valid until
`TrainingSet.compact` is called. A dropped row leaves a tombstone: its slot is overwritten with zeros in every
array and taken out of the index. After the index is built, finding a few rows costs nothing that grows with the number
of rows held; dropping them copies the blocks of the index that know them, some 130 kB for a single row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_unlearn.rows._columns import (
    as_sources,
    cast_exactly,
    check_length,
    check_numeric,
    check_role,
    owned,
)
from sk_unlearn.rows._growth import Extension, extended
from sk_unlearn.rows._identifiers import as_identifiers, extended_ids
from sk_unlearn.rows._index import Segments, id_hash, source_hash, with_segment
from sk_unlearn.rows._look_up import LookUp
from sk_unlearn.rows._marks import Mark, marks_after
from sk_unlearn.rows.content import Array, Positions, Words, content_hash, row_size
from sk_unlearn.rows.forms import as_rows, emptied, overwriting_outside, overwritten
from sk_unlearn.rows.ranks import less_true
from sk_unlearn.rows.roles import RowRole
from sk_unlearn.rows.spread import SpreadRows
from sk_unlearn.utils._journal import Assignment

__all__ = ["TrainingSet"]


class TrainingSet(LookUp):
    """The rows of a fitted estimator that may still matter.

    Parameters
    ----------
    X : (n, ...) array, SparseRows, OutsideRows, or scipy sparse matrix or array of shape (n, p)
        Rows along the first axis, boolean, integer, float or complex, in the dtype the net sees. A structured array
        holds rows of several parts. Sparse rows are stored in canonical form (`SparseRows`). Rows outside
        (`OutsideRows`) stay where they are.
    y : (n,) or (n, k) array
        Targets as the net sees them (encoded).
    sample_weight : (n,) array, optional
        Default: all one. Held as float64; as None while all are one.
    sample_id : (n,) array or list, optional
        Hashable objects that say whose row it is, none missing; may repeat. Equality is Python's: 1 and 1.0 are the
        same, 1 and "1" are not. Scalars of NumPy's and times of pandas' become the Python objects they equal.
    role : RowRole or (n,) array of it, optional
        Default: all `RowRole.TRAINED`. Held as int8.
    source : (n, 16) uint8 array, optional
        Keyed digests of the rows that these were made of, such as those that came to a pipeline.
    copy : bool, default=True
        False hands ownership of the arrays over: they will be overwritten. By default they are never touched.

    Raises
    ------
    ValueError
        If lengths disagree, `X` or `y` is not numeric, rows have no values, or an id is missing or not hashable.

    Notes
    -----
    **Positions** are slots in the raw arrays (`raw_X` and the rest), int64. `drop`, `replace` and `append` leave those
    of other rows as they are; only `compact` renumbers. The class never calls it by itself, because only the caller
    knows when no position is in use any more (for an estimator, at the end of a commit).

    **Erasure**: `drop` overwrites the slot in every array with zeros and removes it from the index, which
    holds no hashes. A pickle or copy holds live rows only and no index. Of a sparse row nothing is left that says
    where its numbers stood or how many they were: the arrays are built anew without them.
    Rows outside are masked where they are erased, and `outside` tells which they are; where the user has asked for it,
    and in scratch files, they become zeros in the same commit.

    **Equality** is that of content as the net sees it: a query is cast to the stored dtype first, the sign of a zero
    and the payload of a NaN do not count, nor whether rows are sparse.

    **The index** is built at the first look-up, not here: a model that is never asked to forget does not pay for it.

    **Interruption**: every change is planned first, as a list of assignments, and goes through a
    :class:`~sk_unlearn.utils._journal.Journal`: an interrupt (Ctrl-C) leaves the rows as they were, or is raised once
    the change is complete. `plan` gives the list to a caller who has more to change along with the rows, to be handed
    to `journal`. Arrays that change size are built aside and put in place in one step.

    Attributes
    ----------
    journal : Journal
        Through which all changes go.
    """

    def __init__(
        self,
        X: Any,
        y: Array,
        *,
        sample_weight: ArrayLike | None = None,
        sample_id: ArrayLike | None = None,
        role: ArrayLike | None = None,
        source: ArrayLike | None = None,
        copy: bool = True,
    ) -> None:
        X, y = as_rows(X), np.asarray(y)
        if X.ndim == 0 or row_size(X) == 0:
            raise ValueError(
                f"X must have rows along its first axis, each with at least one value, got shape {X.shape}"
            )
        if y.ndim not in (1, 2) or len(y) != len(X) or row_size(y) == 0:
            raise ValueError(f"y must have shape ({len(X)},) or ({len(X)}, k) with k >= 1, as X has, got {y.shape}")
        check_numeric(X, "X")
        check_numeric(y, "y")
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        if weight is not None:
            check_length(weight, len(X), "sample_weight", "X")
            weight = None if (weight == 1.0).all() else owned(weight, copy)
        ids = as_identifiers(sample_id, len(X))
        roles = check_role(RowRole.TRAINED if role is None else role, len(X)).copy()
        sources = None if source is None else as_sources(source, len(X))
        self.__dict__.update(self._new_state(owned(X, copy), owned(y, copy), weight, ids, roles, source=sources))

    def drop(self, positions: ArrayLike) -> None:
        """Erase rows for good: their slots become tombstones full of zeros.

        Everything is checked before anything is written. An interrupt during the writes is raised after them (see the
        class notes): rows are never half erased.

        Parameters
        ----------
        positions : (m,) int array
            Unique live slots.

        Raises
        ------
        ValueError
            If a position is not a live slot or appears twice; nothing has been changed then.
        """
        self.journal.commit(self.plan(drop=positions))
        self.flush()

    def replace(self, positions: ArrayLike, X_new: ArrayLike | None = None, y_new: ArrayLike | None = None) -> None:
        """Overwrite the content of rows in place (rectification).

        Parameters
        ----------
        positions : (m,) int array
            Unique live slots.
        X_new : (m, ...) array, optional
            Row by row for `positions`; None leaves the rows as they are.
        y_new : (m,) or (m, k) array, optional
            The same for the targets.

        Raises
        ------
        ValueError
            If a position is not a live slot or appears twice, or a shape or dtype is not that of the stored rows;
            nothing has been changed then.
        """
        self.journal.commit(self.plan(replace=(positions, X_new, y_new)))
        self.flush()

    def plan(
        self,
        *,
        drop: ArrayLike | None = None,
        replace: tuple[Any, ...] | None = None,
        role: ArrayLike | None = None,
        unmark: Collection[str] = (),
    ) -> list[Assignment]:
        """Return the assignments of a change without making them.

        Parameters
        ----------
        drop : (m,) int array, optional
            Rows to erase, as `drop` takes them; not together with `replace`.
        replace : (positions, X_new, y_new) or (positions, X_new, y_new, source), optional
            Rows to overwrite, as `replace` takes them, and the digests of what the new content was made of.
        role : RowRole or (n,) array of it, optional
            What the rows that are live *after* the change, in order, were used for.
        unmark : collection of str, optional
            Labels of marks to take off.

        Returns
        -------
        assignments : list of (container, key, value)
            To be handed to `journal.commit`, at once: another change makes it void.

        Raises
        ------
        ValueError
            As `drop`, `replace` and `set_role`; and for a drop and a replacement at once.
        """
        if drop is not None and replace is not None:
            raise ValueError("drop and replace must not be planned together: each plans the index anew")
        slots = self._check_positions(np.empty(0, np.int64) if drop is None else drop)
        assignments = [] if replace is None else self._plan_replace(*replace)
        if len(slots):
            assignments += self._plan_drop(slots)
        if self._marks:
            assignments.append((self.__dict__, "_marks", marks_after(self._marks, slots, unmark)))
        n_trained = self._n_trained - int(np.count_nonzero(self._trained[slots]))
        n_read = self._n_read - self.count_read(slots)
        if role is not None:
            kept = np.setdiff1d(np.flatnonzero(self._live), slots, assume_unique=True)
            changed = self._plan_roles(kept, check_role(role, len(kept)))
            assignments, n_trained, n_read = assignments + changed[0], n_trained + changed[1], n_read + changed[2]
        weight = float(len(slots) if self._weight is None else self._weight[slots].sum())
        counts = {
            "_n_live": self._n_live - len(slots), "_n_trained": n_trained, "_n_read": n_read,
            "_weight_sum": self._weight_sum - weight,
        }  # fmt: skip
        return [*assignments, *((self.__dict__, name, value) for name, value in counts.items())]

    def _plan_roles(
        self, slots: Positions, roles: NDArray[np.int8], columns: Mapping[str, Any] | None = None
    ) -> tuple[list[Assignment], int, int]:
        """Plan other roles of live slots; and count how many more are trained then, and read by a training."""
        columns = vars(self) if columns is None else columns
        trained = roles == RowRole.TRAINED
        assignments = [(columns["_role"], slots, roles), (columns["_trained"], slots, trained)]
        n_trained = int(np.count_nonzero(trained)) - int(np.count_nonzero(self._trained[slots]))
        n_read = int(np.count_nonzero((roles != RowRole.VALIDATED) & self._weighs(slots))) - self.count_read(slots)
        return [*assignments, (vars(self), "_trained_counts", None)], n_trained, n_read

    def _plan_drop(self, slots: Positions) -> list[Assignment]:
        columns = [self._X, self._y, self._weight, self._id, self._source, self._role, self._live, self._trained]
        assignments: list[Assignment] = [emptied(column, slots) for column in columns if column is not None]
        if self._live_counts is not None:
            assignments.append(less_true(self._live_counts, slots))
        if self._trained_counts is not None:
            assignments.append(less_true(self._trained_counts, slots[self._trained[slots]]))
        assignments += overwriting_outside(self._X, slots)
        if self._row_segments is not None:
            rest = self._without(self._row_segments, slots, self._hash_slots(slots))
            assignments.append((self.__dict__, "_row_segments", rest))
        if self._id_segments is not None and self._id is not None:
            rest = self._without(self._id_segments, slots, id_hash(self._id[slots], len(slots)))
            assignments.append((self.__dict__, "_id_segments", rest))
        if self._source_segments is not None and self._source is not None:
            rest = self._without(self._source_segments, slots, source_hash(self._source[slots]))
            assignments.append((self.__dict__, "_source_segments", rest))
        return assignments

    def _plan_replace(
        self, positions: ArrayLike, X_new: ArrayLike | None, y_new: ArrayLike | None, source: ArrayLike | None = None
    ) -> list[Assignment]:
        slots = self._check_positions(positions)
        assignments: list[Assignment] = []
        for name, new, stored in (("X_new", X_new, self._X), ("y_new", y_new, self._y)):
            if new is not None:
                values = cast_exactly(new, stored, name)
                if len(values) != len(slots):
                    raise ValueError(f"{name} must have {len(slots)} rows, one for each position, got {len(values)}")
                assignments.append(overwritten(stored, slots, values))
                assignments += overwriting_outside(stored, slots, values)
                if stored is self._X and self._row_segments is not None:
                    rest = self._without(self._row_segments, slots, self._hash_slots(slots))
                    segments = with_segment(rest, slots, content_hash(values), self._hash_slots)
                    assignments.append((self.__dict__, "_row_segments", segments))
        if source is not None and self._source is not None:
            sources = as_sources(source, len(slots))
            assignments.append((self._source, slots, sources))
            if self._source_segments is not None:
                rest = self._without(self._source_segments, slots, source_hash(self._source[slots]))
                segments = with_segment(rest, slots, source_hash(sources), self._hash_sources)
                assignments.append((self.__dict__, "_source_segments", segments))
        return assignments

    def append(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        sample_id: ArrayLike | None = None,
        role: ArrayLike | None = None,
        source: ArrayLike | None = None,
    ) -> Positions:
        """Add rows after the last slot. Copies all arrays; positions handed out before stay valid.

        Parameters
        ----------
        X, y, sample_weight, sample_id, role, source
            As for the class; cast to the stored dtypes.

        Returns
        -------
        positions : (m,) int64
            Slots of the new rows.

        Raises
        ------
        ValueError
            If a shape or dtype is not that of the stored rows, or ids are given here but were not at fit or the other
            way round; nothing has been changed then.
        """
        n_old = self.n_slots
        self.journal.commit(
            self.plan_append(X, y, sample_weight=sample_weight, sample_id=sample_id, role=role, source=source)
        )
        return np.arange(n_old, self.n_slots)

    def plan_append(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        sample_id: ArrayLike | None = None,
        role: ArrayLike | None = None,
        source: ArrayLike | None = None,
        trained: Positions | None = None,
    ) -> list[Assignment]:
        """Return the assignments of `append`, and of live slots that were trained on too, without making them."""
        self.journal.settle()
        X_new, y_new = cast_exactly(X, self._X, "X"), cast_exactly(y, self._y, "y")
        n_old, n_new = self.n_slots, len(X_new)
        if len(y_new) != n_new:
            raise ValueError(f"y must have {n_new} rows, as X has, got {len(y_new)}")
        self.check_ids_given(sample_id)
        role, source = RowRole.TRAINED if role is None else role, self._checked_source(source)
        new = TrainingSet(
            X_new, y_new, sample_weight=sample_weight, sample_id=sample_id, role=role, source=source, copy=False
        )
        state = self.__dict__
        assignments: list[Assignment] = []
        columns: dict[str, Any] = {}
        room: dict[str, Array] = {}
        for name in ("_X", "_y", "_weight", "_id", "_source", "_role", "_live", "_trained"):
            longer = self._longer(name, new)
            if longer is not None:
                columns[name] = longer.column
                assignments += longer.assignments
                if longer.room is not None:
                    room[name] = longer.room
        own = np.arange(n_new)
        for name, hash_of in (("row", "_hash_slots"), ("id", "_hash_ids"), ("source", "_hash_sources")):
            segments = vars(self)[f"_{name}_segments"]
            if segments is not None:
                hashes = getattr(new, hash_of)(own)
                columns[f"_{name}_segments"] = with_segment(segments, n_old + own, hashes, getattr(self, hash_of))
        n_trained, n_read = self._n_trained + new._n_trained, self._n_read + new._n_read
        if trained is not None:
            changed = self._plan_roles(trained, check_role(RowRole.TRAINED, len(trained)), columns)
            assignments, n_trained, n_read = assignments + changed[0], n_trained + changed[1], n_read + changed[2]
        columns |= {"_n_live": self._n_live + n_new, "_n_trained": n_trained, "_n_read": n_read, "_room": room}
        columns |= {"_weight_sum": self._weight_sum + new._weight_sum, "_live_counts": None, "_trained_counts": None}
        return [*assignments, *((state, name, value) for name, value in columns.items())]

    def _longer(self, name: str, new: TrainingSet) -> Extension | None:
        """Return a column that the rows of another training set come after; None where neither has one."""
        old, added = vars(self)[name], vars(new)[name]
        if old is None and added is None:
            return None
        if name == "_id":
            return extended_ids(old, added, self._room.get(name))
        if name == "_weight":
            old = self._live.astype(np.float64) if old is None else old
            added = np.ones(len(new)) if added is None else added
        return extended(old, added, self._room.get(name))

    def check_ids_given(self, sample_id: ArrayLike | None) -> None:
        """Refuse further rows with identifiers where the stored ones have none, and the other way round.

        Parameters
        ----------
        sample_id : (m,) array or list, or None

        Raises
        ------
        ValueError
            If ids are given here and were not at fit, or the other way round.
        """
        if (sample_id is None) != (self._id is None):
            given, wanted = ("not given", "given") if sample_id is None else ("given", "not given")
            raise ValueError(f"sample_id was {given} here but {wanted} at fit; it must be given both times or never")

    def _checked_source(self, source: ArrayLike | None) -> ArrayLike | None:
        if source is None and self._source is not None:
            raise ValueError(
                "rows came past the pipeline that brought the stored ones, and could not be found by what they were "
                "made of; call partial_fit of the pipeline"
            )
        if self._source is None and source is not None:
            raise ValueError(
                "rows came through a pipeline that did not bring the stored ones, which could not be found by what "
                "they were made of; call partial_fit of the last step, or fit the pipeline anew"
            )
        return source

    def set_role(self, positions: ArrayLike | None, role: ArrayLike) -> None:
        """Record what rows were used for.

        Parameters
        ----------
        positions : (m,) int array or None
            Unique live slots; None: all live rows, in order.
        role : RowRole or (m,) array of it

        Raises
        ------
        ValueError
            If a position is not a live slot or appears twice, or a role is none of `RowRole`.
        """
        self.journal.commit(self.plan_role(positions, role))

    def plan_role(self, positions: ArrayLike | None, role: ArrayLike) -> list[Assignment]:
        """Return the assignments of `set_role` without making them, as `plan` does."""
        self.journal.settle()
        slots = np.flatnonzero(self._live) if positions is None else self._check_positions(positions)
        assignments, n_trained, n_read = self._plan_roles(slots, check_role(role, len(slots)))
        state = self.__dict__
        n_trained, n_read = n_trained + self._n_trained, n_read + self._n_read
        return [*assignments, (state, "_n_trained", n_trained), (state, "_n_read", n_read)]

    def compact(self, *, force: bool = False) -> bool:
        """Remove tombstones if more than half of the slots are. Every position handed out before becomes invalid.

        Parameters
        ----------
        force : bool, default=False
            Remove them however few they are.

        Returns
        -------
        compacted : bool
            Whether slots have been renumbered.
        """
        self.journal.settle()
        n_dead = self.n_slots - self._n_live
        if n_dead == 0 or (2 * n_dead <= self.n_slots and not force):
            return False
        columns = self.__getstate__()
        if isinstance(columns["X"], SpreadRows):
            columns["X"] = columns["X"].without_gaps()
        state = self._state_of(columns)
        del state["journal"]  # others commit through it too
        self.__dict__.update(state)
        return True

    # ---------------------------------------------------------------------------------------------- rows that are to go

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Marks on rows, in the order in which they were made; they follow the rows through every change."""
        return self._raw("_marks")

    def mark(self, label: str, since: str, positions: ArrayLike) -> None:
        """Mark rows that are to go later. Nothing else changes.

        Parameters
        ----------
        label : str
            By which the mark is taken off again: see `unmark`, and `plan`.
        since : str
            When the mark was made.
        positions : (m,) int array
            Unique live slots. Rows may bear several marks.

        Raises
        ------
        ValueError
            If a position is not a live slot or appears twice, or the label is taken.
        """
        self.journal.commit(self.plan_mark(label, since, positions))

    def plan_mark(self, label: str, since: str, positions: ArrayLike) -> list[Assignment]:
        """Return the assignments of `mark` without making them, as `plan` does."""
        slots = np.sort(self._check_positions(positions))
        if any(mark.label == label for mark in self._marks):
            raise ValueError("label is taken by another mark; give each its own")
        return [(self.__dict__, "_marks", (*self._marks, Mark(label, since, slots)))]

    def unmark(self, label: str) -> None:
        """Take a mark off. Its rows stay.

        Parameters
        ----------
        label : str

        Raises
        ------
        KeyError
            If there is no such mark.
        """
        if all(mark.label != label for mark in self.marks):
            raise KeyError(label)
        self.journal.commit(self.plan(unmark=[label]))

    def plan_as(self, other: TrainingSet) -> list[Assignment]:
        """Return the assignments that make these rows what others are, which are not to be used afterwards."""
        other.journal.settle()
        return [(self.__dict__, name, value) for name, value in vars(other).items() if name != "journal"]

    @staticmethod
    def _without(segments: Segments, slots: Positions, hashes: Words) -> Segments:
        return tuple(segment.without(slots, hashes) for segment in segments)
