"""The rows of a fitted estimator that may still matter: find them by content or id, drop them for good.

Rows live in *slots* and are never moved when others are dropped, so a position handed out stays valid until
`TrainingSet.compact` is called. A dropped row leaves a tombstone: its slot is overwritten with zeros in every
array and taken out of the index. After the index is built, finding a few rows costs nothing that grows with the number
of rows held; dropping them copies the index, some 20 bytes a row held.
"""

from __future__ import annotations

import copy as copy_module
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_unlearn.rows._columns import (
    as_sources,
    cast_exactly,
    cast_like,
    check_length,
    check_numeric,
    check_role,
    few,
    indices,
    owned,
)
from sk_unlearn.rows._identifiers import as_identifiers, joined_ids, listed_ids, same_id
from sk_unlearn.rows._index import Segment, Segments, id_hash
from sk_unlearn.rows._marks import Mark, marks_after, renumbered
from sk_unlearn.rows._near import near_misses, near_pairs
from sk_unlearn.rows.content import (
    Array,
    Mask,
    Positions,
    Words,
    as_words,
    chunks,
    content_hash,
    group_content,
    group_rows,
    row_bytes,
    row_size,
    same_content,
)
from sk_unlearn.rows.forms import as_rows, emptied, joined, overwritten
from sk_unlearn.rows.parts import has_parts
from sk_unlearn.rows.roles import RowRole
from sk_unlearn.rows.sampling import sample_mask
from sk_unlearn.rows.sparse_rows import SparseRows
from sk_unlearn.utils._journal import Assignment, Journal

__all__ = ["RowMatch", "TrainingSet"]

# Each append or replacement adds an index segment and every look-up visits all: past this many, one rebuild is better.
_MAX_SEGMENTS = 16
# Of rows that are not stored, how many are looked at for the reason.
_MOST_TOLD = 1000


class RowMatch(NamedTuple):
    """Which stored rows equal which query rows; what `TrainingSet.match` returns."""

    positions: Positions
    """Slots of the stored copies, ascending, each once, int64."""
    query_index: Positions
    """For each of them the first query row that it equals, int64."""
    found: Mask
    """(n_query,) whether a query row equals any stored row, its label included where labels were given."""
    row_found: Mask
    """(n_query,) the same with labels left aside."""


# ------------------------------------------------------------------------------------------------------------------


class TrainingSet:
    """The rows of a fitted estimator that may still matter.

    Parameters
    ----------
    X : (n, ...) array, SparseRows, or scipy sparse matrix or array of shape (n, p)
        Rows along the first axis, boolean, integer, float or complex, in the dtype the net sees. A structured array
        holds rows of several parts. Sparse rows are stored in canonical form (`SparseRows`).
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

    _X: Any
    _y: Array
    _weight: NDArray[np.float64] | None
    _id: Array | None
    _source: Array | None
    _role: NDArray[np.int8]
    _live: Mask
    _trained: Mask
    _n_live: int
    _n_trained: int
    _row_segments: Segments | None
    _id_segments: Segments | None
    _source_segments: Segments | None
    _marks: tuple[Mark, ...]
    journal: Journal

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

    @staticmethod
    def _new_state(
        X: Any,
        y: Array,
        weight: Array | None,
        ids: Array | None,
        role: NDArray[np.int8],
        live: Mask | None = None,
        source: Array | None = None,
    ) -> dict[str, Any]:
        live = np.ones(len(X), dtype=bool) if live is None else live
        trained = live & (role == RowRole.TRAINED)
        return {
            "_X": X,
            "_y": y,
            "_weight": weight,
            "_id": ids,
            "_source": source,
            "_role": role,
            "_live": live,
            "_trained": trained,
            "_n_live": int(np.count_nonzero(live)),
            "_n_trained": int(np.count_nonzero(trained)),
            "_row_segments": None,
            "_id_segments": None,
            "_source_segments": None,
            "_marks": (),
            "journal": Journal(),
        }

    # -------------------------------------------------------------------------------------------------- live rows

    def __len__(self) -> int:
        self.journal.settle()
        return self._n_live

    @property
    def n_trained(self) -> int:
        """Number of live rows whose role is `RowRole.TRAINED`."""
        self.journal.settle()
        return self._n_trained

    @property
    def X(self) -> Any:  # noqa: N802 - scikit-learn's name for the data
        """The live rows, in original order, read-only: an array, or `SparseRows`.

        No copy as long as no row has been erased: it then follows a later correction or erasure. Afterwards a copy.
        """
        return self._live_part(self._X)

    @property
    def y(self) -> Array:
        """The live rows' targets, in original order; see `X`."""
        return self._live_part(self._y)

    @property
    def sample_weight(self) -> NDArray[np.float64] | None:
        """The live rows' weights, in original order, or None if all are one; see `X`."""
        return None if self._weight is None else self._live_part(self._weight)

    @property
    def sample_id(self) -> Array | None:
        """The live rows' ids, in original order, or None if none were given; see `X`."""
        return None if self._id is None else self._live_part(self._id)

    @property
    def source(self) -> Array | None:
        """The digests of what the live rows were made of, (n, 16) uint8, or None if none were given; see `X`."""
        return None if self._source is None else self._live_part(self._source)

    @property
    def role(self) -> NDArray[np.int8]:
        """The live rows' roles (`RowRole`), in original order; see `X`."""
        return self._live_part(self._role)

    def _live_part(self, array: Any) -> Any:
        self.journal.settle()
        if isinstance(array, SparseRows):
            return array if self._n_live == len(array) else array[self._live]
        part = array.view() if self._n_live == len(array) else array[self._live]
        # A row that is written to would no longer be found by its content.
        part.flags.writeable = False
        return part

    # -------------------------------------------------------------------------------------------------- raw access

    @property
    def n_slots(self) -> int:
        """Length of the raw arrays: live rows and tombstones."""
        return len(self._X)

    @property
    def raw_X(self) -> Any:  # noqa: N802
        """The rows, (n_slots, ...) array or `SparseRows`, tombstones included as zeros. Not a copy; only to be read."""
        return self._raw("_X")

    @property
    def raw_y(self) -> Array:
        """The targets, (n_slots, ...), tombstones included as zeros. Not a copy; not to be written to."""
        return self._raw("_y")

    @property
    def raw_weight(self) -> NDArray[np.float64] | None:
        """The weights, (n_slots,), tombstones included as zeros; None if all are one. Not a copy."""
        return self._raw("_weight")

    @property
    def raw_id(self) -> Array | None:
        """The ids, (n_slots,), tombstones included; None if none were given. Not a copy; not to be written to."""
        return self._raw("_id")

    @property
    def raw_source(self) -> Array | None:
        """Digests of what rows were made of, (n_slots, 16), tombstones included; None without any. Not a copy."""
        return self._raw("_source")

    @property
    def live_mask(self) -> Mask:
        """Which slots hold a live row, whatever its role, (n_slots,) bool. Not a copy; not to be written to."""
        return self._raw("_live")

    @property
    def trained_mask(self) -> Mask:
        """Which slots hold a live row with role `RowRole.TRAINED`, (n_slots,) bool. Not a copy."""
        return self._raw("_trained")

    def _raw(self, attribute: str) -> Any:
        self.journal.settle()
        return getattr(self, attribute)

    def with_features(self, X: Array) -> TrainingSet:
        """Return rows that are the same but for their features, with arrays of their own; slots stay.

        Parameters
        ----------
        X : (n_slots, ...) array
            Of the dtype and with the shape of the stored features. It is taken over, not copied.
        """
        self.journal.settle()
        other = object.__new__(type(self))
        optional = (self._weight, self._id, self._source)
        weight, ids, source = (None if column is None else column.copy() for column in optional)
        y, role, live = self._y.copy(), self._role.copy(), self._live.copy()
        other.__dict__.update(self._new_state(owned(X, copy=False), y, weight, ids, role, live, source))
        other._marks = self._marks
        # Segments never change, and these know nothing of features.
        other._id_segments, other._source_segments = self._id_segments, self._source_segments
        return other

    def plan_as(self, other: TrainingSet) -> list[Assignment]:
        """Return the assignments that make these rows what others are, which are not to be used afterwards."""
        other.journal.settle()
        return [(self.__dict__, name, value) for name, value in vars(other).items() if name != "journal"]

    def as_stored(self, X: Any) -> Any:
        """Return rows in the data type of the stored ones, and sparse or dense as these are.

        Parameters
        ----------
        X : (m, ...) array or SparseRows

        Raises
        ------
        ValueError
            If their shape is another, or the data type cannot hold a value.
        """
        return cast_exactly(X, self._X, "X")

    def trained_mask_without(self, positions: ArrayLike) -> Mask:
        """Return a copy of `trained_mask` that is false at `positions`: the retained rows before a drop.

        Parameters
        ----------
        positions : (m,) int array
            Unique live slots.

        Returns
        -------
        mask : (n_slots,) bool

        Raises
        ------
        ValueError
            If a position is not a live slot or appears twice.
        """
        slots = self._check_positions(positions)
        mask = self._trained.copy()
        mask[slots] = False
        return mask

    # -------------------------------------------------------------------------------------------------- finding rows

    def match(self, X_query: ArrayLike, y_query: ArrayLike | None = None, *, name: str = "X_del") -> RowMatch:
        """Find every live copy of each query row; unknown ones raise nothing.

        Parameters
        ----------
        X_query : (n_query, ...) array
        y_query : (n_query,) or (n_query, k) array, optional
            Only stored rows with this label match.
        name : str, default="X_del"
            What messages call `X_query`; `y_query` is called the same with y for X.

        Returns
        -------
        match : RowMatch

        Raises
        ------
        ValueError
            If a shape or dtype is not that of the stored rows.
        """
        query, exact = cast_like(X_query, self._X, name)
        kept = np.flatnonzero(exact)
        return self._matched(query[kept], self._copies, kept, len(query), y_query, name)

    def match_source(self, source: ArrayLike, y_query: ArrayLike | None = None, *, name: str = "X_del") -> RowMatch:
        """Find every live row that was made of one with the given digests; unknown ones raise nothing.

        Parameters
        ----------
        source : (n_query, 16) uint8 array
        y_query, name
            As in `match`.

        Returns
        -------
        match : RowMatch

        Raises
        ------
        ValueError
            If no digests are stored, or labels do not have the shape or dtype of the stored ones.
        """
        if self._source is None:
            raise ValueError(f"{name} cannot be looked up: no digests of the rows that these were made of are stored")
        words = as_sources(source, len(np.asarray(source))).view(np.uint64)
        return self._matched(words, self._source_copies, np.arange(len(words)), len(words), y_query, name)

    def _matched(
        self,
        query: Any,
        copies: Callable[[Any], tuple[Positions, Positions]],
        kept: Positions,
        n_query: int,
        y_query: ArrayLike | None,
        name: str,
    ) -> RowMatch:
        """Match by content, that of query rows `kept`; copies of distinct content are found by a function."""
        y_name = name.replace("X", "y", 1)
        if y_query is not None:
            labels, exact_label = cast_like(y_query, self._y, y_name)
            if len(labels) != n_query:
                raise ValueError(f"{y_name} must have {n_query} rows, as {name} has, got {len(labels)}")
        first, group = group_content(query)
        slots, owner = copies(query[first])
        row_found = np.zeros(n_query, dtype=bool)
        row_found[kept] = _marked(owner, len(first))[group]
        if y_query is None:
            return self._sorted_match(slots, kept[first[owner]], row_found, row_found)

        # A join on (content, label): comparing all pairs would take too long where a row is stored many times.
        group_of = np.full(n_query, -1)
        group_of[kept] = group
        asked = np.flatnonzero(row_found & exact_label)
        asked_keys = np.column_stack([group_of[asked].astype(np.uint64), as_words(labels[asked])])
        stored_keys = np.column_stack([owner.astype(np.uint64), as_words(self._y[slots])])
        first, key = group_rows(np.concatenate([asked_keys, stored_keys]))
        asked_key, stored_key = key[: len(asked)], key[len(asked) :]
        found = np.zeros(n_query, dtype=bool)
        found[asked] = _marked(stored_key, len(first))[asked_key]
        source = first[stored_key]
        hit = source < len(asked)
        return self._sorted_match(slots[hit], asked[source[hit]], found, row_found)

    @staticmethod
    def _sorted_match(slots: Positions, query_index: Positions, found: Mask, row_found: Mask) -> RowMatch:
        order = np.argsort(slots)
        return RowMatch(slots[order], query_index[order], found, row_found)

    def locate(self, X_query: ArrayLike, y_query: ArrayLike | None = None, *, name: str = "X_del") -> Positions:
        """Find every live copy of each query row; all of them must be known.

        Parameters
        ----------
        X_query, y_query, name
            As in `match`.

        Returns
        -------
        positions : (m,) int64
            Sorted and unique; more than query rows where a row is stored several times.

        Raises
        ------
        ValueError
            If a query row is not stored, or stored with another label only (the message tells which); or if a
            shape or dtype is not that of the stored rows.
        """
        return self.find(X_query, y_query, name=name).positions

    def find(self, X_query: ArrayLike, y_query: ArrayLike | None = None, *, name: str = "X_del") -> RowMatch:
        """Find every live copy of each query row, all of which must be known, and say which copy is of which row.

        Parameters
        ----------
        X_query, y_query, name
            As in `match`.

        Returns
        -------
        match : RowMatch

        Raises
        ------
        ValueError
            As `locate`.
        """
        match = self.match(X_query, y_query, name=name)
        unknown = ~match.found
        told = self._told_near_misses(X_query, y_query, unknown, name) if unknown.any() else ""
        return self.all_found(match, name, told)

    @staticmethod
    def all_found(match: RowMatch, name: str, told: str = "") -> RowMatch:
        """Return a match in which every row was found; else raise, saying why they were not and what else is told."""
        if match.found.all():
            return match
        absent = ~match.row_found
        relabelled = match.row_found & ~match.found
        reasons = []
        if absent.any():
            reasons.append(f"{absent.sum()} not among the stored rows ({indices(absent)})")
        if relabelled.any():
            y_name = name.replace("X", "y", 1)
            reasons.append(
                f"{relabelled.sum()} stored, but with another label than in {y_name} ({indices(relabelled)})"
            )
        raise ValueError(
            f"{name}: {(~match.found).sum()} of {len(match.found)} rows cannot be found: {'; '.join(reasons)}. "
            f"Every row of {name} must be one the estimator was fitted on, and not erased since." + told
        )

    def _told_near_misses(self, X_query: ArrayLike, y_query: ArrayLike | None, unknown: Mask, name: str) -> str:
        """Say how many of the unknown rows equal a stored one but for rounding, and what to do about it."""
        # The first ones are enough to tell what went wrong, and bound the time it takes to say so.
        first = unknown & (np.cumsum(unknown) <= _MOST_TOLD)
        near = self.near_misses(X_query, y_query, among=first, name=name)
        if not near.any():
            return ""
        count = "At least " if unknown.sum() > _MOST_TOLD else ""
        return (
            f" {count}{near.sum()} of them miss a stored row by rounding alone ({indices(near)}), as rows do that went "
            "through float32 or a text file: pass them as they were given to fit, or name them by sample_id."
        )

    def near_misses(
        self,
        X_query: ArrayLike,
        y_query: ArrayLike | None = None,
        *,
        among: Mask | None = None,
        name: str = "X_del",
    ) -> Mask:
        """Tell which query rows equal a live row but for rounding, exact copies included.

        It reads all live rows. Where a request names rows that are not stored, this says whether that is why.

        Parameters
        ----------
        X_query, y_query, name
            As in `match`; with labels, these have to be near, too.
        among : (n_query,) bool array, optional
            Which query rows to look at; default: all.

        Returns
        -------
        near : (n_query,) bool
            Each number within 1e-5, relative to it and to the mean absolute value of its column; whole numbers equal.

        Raises
        ------
        ValueError
            If a shape or dtype is not that of the stored rows.
        """
        at, queries, stored = self._as_stored(X_query, y_query, among, name)
        near = near_misses(queries, stored, np.flatnonzero(self.live_mask))
        return _marked(at[near], len(as_rows(X_query)))

    def near_copies(
        self, X_query: ArrayLike, y_query: ArrayLike | None = None, *, tolerance: float, name: str = "X_del"
    ) -> tuple[Positions, Positions]:
        """Find the live rows that query rows equal but for rounding, exact copies included.

        Parameters
        ----------
        X_query, y_query, name
            As in `match`; with labels, these have to be near, too.
        tolerance : float
            Relative; as `near_misses` says for 1e-5.

        Returns
        -------
        query_index, positions : (k,) int64
            Pairs of a query row and a live slot, by query.

        Raises
        ------
        ValueError
            If a shape or dtype is not that of the stored rows.
        """
        at, queries, stored = self._as_stored(X_query, y_query, None, name)
        query_index, slots = near_pairs(queries, stored, np.flatnonzero(self.live_mask), tolerance)
        return at[query_index], slots

    def _as_stored(
        self, X_query: ArrayLike, y_query: ArrayLike | None, among: Mask | None, name: str
    ) -> tuple[Positions, list[Array], list[Array]]:
        """Return which query rows the stored data types can hold, those rows so cast, and what to compare with."""
        queries, stored = [X_query], [self._X]
        if y_query is not None:
            queries, stored = [X_query, y_query], [self._X, self._y]
        names = (name, name.replace("X", "y", 1))
        cast = [cast_like(*column) for column in zip(queries, stored, names, strict=False)]
        asked = np.logical_and.reduce([exact for _, exact in cast])
        at = np.flatnonzero(asked if among is None else asked & among)
        return at, [values[at] for values, _ in cast], stored

    def locate_ids(self, sample_id: Iterable[Any]) -> Positions:
        """Find every live row with one of the given ids.

        Parameters
        ----------
        sample_id : one-dimensional array or iterable of ids

        Returns
        -------
        positions : (m,) int64
            Sorted and unique.

        Raises
        ------
        ValueError
            If no ids were given at fit, or an id is not stored.
        """
        if self._id is None:
            raise ValueError("sample_id cannot be looked up: none was given at fit; give the rows themselves")
        given = listed_ids(sample_id)
        wanted = list(dict.fromkeys(given))
        slots, owner = self._candidates(self._id_index(self._id), id_hash(wanted, len(wanted)))
        pairs = zip(self._id[slots].tolist(), owner.tolist(), strict=True)
        same = np.fromiter((same_id(stored, wanted[i]) for stored, i in pairs), dtype=bool, count=len(slots))
        known = _marked(owner[same], len(wanted))
        if not known.all():
            raise ValueError(self._unknown_ids(given, [wanted[i] for i in np.flatnonzero(~known)]))
        return np.sort(slots[same])

    def _unknown_ids(self, given: list[Any], unknown: list[Any]) -> str:
        """Say how many of the given ids are not stored, where the first five stand, and of what type; never which."""
        assert self._id is not None
        held, asked = ({type(one).__name__ for one in ids} for ids in (self._id[self._live].tolist(), unknown))
        where = _marked(np.array([given.index(one) for one in unknown[:6]]), len(given))
        message = f"sample_id: {len(unknown)} of {len(set(given))} ids are not stored ({indices(where)})"
        if held and not asked & held:
            message += f"; ids of type {' or '.join(sorted(asked))} were asked for, and those stored are of type "
            message += " or ".join(sorted(held))
        if "tuple" in held:
            message += "; an id that is a tuple goes into a list: sample_id=[(..., ...)]"
        return message

    def _copies(self, distinct: Any) -> tuple[Positions, Positions]:
        """Slots of the live rows that equal one of the given, distinct rows, and the index of that row."""
        slots, owner = self._candidates(self._row_index(), content_hash(distinct))
        same = np.empty(len(slots), dtype=bool)
        for chunk in chunks(len(slots), row_bytes(self._X)):
            same[chunk] = same_content(self._X[slots[chunk]], distinct[owner[chunk]])
        return slots[same], owner[same]

    def _source_copies(self, unique_words: Words) -> tuple[Positions, Positions]:
        """Slots of the live rows that were made of what has one of the given digests, and the index of that digest."""
        assert self._source is not None
        slots, owner = self._candidates(self._source_index(self._source), unique_words[:, 0])
        same = (self._source[slots].view(np.uint64) == unique_words[owner]).all(axis=1)
        return slots[same], owner[same]

    def _source_index(self, source: Array) -> Segments:
        self.journal.settle()
        if self._source_segments is None:
            slots = np.flatnonzero(self._live)
            self._source_segments = (Segment(slots, _source_hash(source[slots])),)
        return self._source_segments

    @staticmethod
    def _candidates(segments: Segments, hashes: Words) -> tuple[Positions, Positions]:
        parts = [segment.candidates(hashes) for segment in segments]
        return np.concatenate([slots for slots, _ in parts]), np.concatenate([owner for _, owner in parts])

    def _hash_slots(self, slots: Positions) -> Words:
        hashes = np.empty(len(slots), dtype=np.uint64)
        for chunk in chunks(len(slots), row_bytes(self._X)):
            hashes[chunk] = content_hash(self._X[slots[chunk]])
        return hashes

    def _row_index(self) -> Segments:
        self.journal.settle()
        if self._row_segments is None:
            slots = np.flatnonzero(self._live)
            self._row_segments = (Segment(slots, self._hash_slots(slots)),)
        return self._row_segments

    def _id_index(self, ids: Array) -> Segments:
        self.journal.settle()
        if self._id_segments is None:
            slots = np.flatnonzero(self._live)
            self._id_segments = (Segment(slots, id_hash(ids[slots].tolist(), len(slots))),)
        return self._id_segments

    # -------------------------------------------------------------------------------------------------- changing rows

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
        if role is not None:
            kept = np.setdiff1d(np.flatnonzero(self._live), slots, assume_unique=True)
            roles = check_role(role, len(kept))
            trained = roles == RowRole.TRAINED
            assignments += [(self._role, kept, roles), (self._trained, kept, trained)]
            n_trained = int(np.count_nonzero(trained))
        state = self.__dict__
        return [*assignments, (state, "_n_live", self._n_live - len(slots)), (state, "_n_trained", n_trained)]

    def _plan_drop(self, slots: Positions) -> list[Assignment]:
        columns = [self._X, self._y, self._weight, self._id, self._source, self._role, self._live, self._trained]
        assignments: list[Assignment] = [emptied(column, slots) for column in columns if column is not None]
        if self._row_segments is not None:
            rest = self._without(self._row_segments, slots, self._hash_slots(slots))
            assignments.append((self.__dict__, "_row_segments", rest))
        if self._id_segments is not None and self._id is not None:
            rest = self._without(self._id_segments, slots, id_hash(self._id[slots].tolist(), len(slots)))
            assignments.append((self.__dict__, "_id_segments", rest))
        if self._source_segments is not None and self._source is not None:
            rest = self._without(self._source_segments, slots, _source_hash(self._source[slots]))
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
                if stored is self._X and self._row_segments is not None:
                    rest = self._without(self._row_segments, slots, self._hash_slots(slots))
                    segments = self._with_segment(rest, slots, content_hash(values))
                    assignments.append((self.__dict__, "_row_segments", segments))
        if source is not None and self._source is not None:
            sources = as_sources(source, len(slots))
            assignments.append((self._source, slots, sources))
            if self._source_segments is not None:
                rest = self._without(self._source_segments, slots, _source_hash(self._source[slots]))
                segments = self._with_segment(rest, slots, _source_hash(sources))
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
        stored_role: ArrayLike | None = None,
        source: ArrayLike | None = None,
    ) -> list[Assignment]:
        """Return the assignments of `append`, and of new roles of the live rows so far, without making them."""
        self.journal.settle()
        X_new, y_new = cast_exactly(X, self._X, "X"), cast_exactly(y, self._y, "y")
        n_old, n_new = self.n_slots, len(X_new)
        if len(y_new) != n_new:
            raise ValueError(f"y must have {n_new} rows, as X has, got {len(y_new)}")
        self.check_ids_given(sample_id)
        sources = self._joined_source(source, n_new)
        old_role = self._role
        if stored_role is not None:
            old_role = self._role.copy()
            old_role[self._live] = check_role(stored_role, self._n_live)
        state = self._new_state(
            joined(self._X, X_new),
            joined(self._y, y_new),
            self._joined_weight(sample_weight, n_new),
            joined_ids(self._id, as_identifiers(sample_id, n_new)),
            np.concatenate([old_role, check_role(RowRole.TRAINED if role is None else role, n_new)]),
            np.concatenate([self._live, np.ones(n_new, dtype=bool)]),
            sources,
        )
        slots = np.arange(n_old, n_old + n_new)
        if self._row_segments is not None:
            hashes = content_hash(X_new)
            state["_row_segments"] = self._with_segment(self._row_segments, slots, hashes)
        if self._id_segments is not None:
            hashes = id_hash(state["_id"][slots].tolist(), n_new)
            state["_id_segments"] = self._with_segment(self._id_segments, slots, hashes)
        if self._source_segments is not None and sources is not None:
            state["_source_segments"] = self._with_segment(self._source_segments, slots, _source_hash(sources[slots]))
        del state["journal"], state["_marks"]  # the journal that will make the assignments stays, and so do slots
        return [(self.__dict__, name, value) for name, value in state.items()]

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

    def _joined_source(self, source: ArrayLike | None, n_new: int) -> Array | None:
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
        if source is None or self._source is None:
            return None
        return np.concatenate([self._source, as_sources(source, n_new)])

    def _joined_weight(self, sample_weight: ArrayLike | None, n_new: int) -> NDArray[np.float64] | None:
        new = np.ones(n_new) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        check_length(new, n_new, "sample_weight", "X")
        if self._weight is None and (new == 1.0).all():
            return None
        old = self._live.astype(np.float64) if self._weight is None else self._weight
        return np.concatenate([old, new])

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
        self.journal.settle()
        slots = np.flatnonzero(self._live) if positions is None else self._check_positions(positions)
        roles = check_role(role, len(slots))
        trained = roles == RowRole.TRAINED
        gained = int(np.count_nonzero(trained)) - int(np.count_nonzero(self._trained[slots]))
        n_trained = self._n_trained + gained
        self.journal.commit(
            [(self._role, slots, roles), (self._trained, slots, trained), (self.__dict__, "_n_trained", n_trained)]
        )

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
        state = self._state_of(self.__getstate__())
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
        slots = np.sort(self._check_positions(positions))
        if any(mark.label == label for mark in self._marks):
            raise ValueError("label is taken by another mark; give each its own")
        self.journal.commit([(self.__dict__, "_marks", (*self._marks, Mark(label, since, slots)))])

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

    def sample(self, size: int, rng: np.random.Generator, *, among: str = "trained") -> Positions:
        """Draw live rows uniformly and without replacement, at a cost that does not grow with the rows held.

        Parameters
        ----------
        size : int
            How many; where there are no more than this, all.
        rng : numpy.random.Generator
        among : {"trained", "live"}, default="trained"
            Rows with role `RowRole.TRAINED`, or any live rows.

        Returns
        -------
        positions : (min(size, available),) int64
            In random order; all of them in ascending order. See `sample_mask`.

        Raises
        ------
        ValueError
            If `size` is negative or `among` unknown.
        """
        self.journal.settle()
        if among == "trained":
            return sample_mask(self._trained, self._n_trained, size, rng)
        if among == "live":
            return sample_mask(self._live, self._n_live, size, rng)
        raise ValueError(f'among must be "trained" or "live", got {among!r}')

    # ------------------------------------------------------------------------------------------------ how rows change

    def _check_positions(self, positions: ArrayLike) -> Positions:
        self.journal.settle()
        given = np.asarray(positions)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise ValueError(
                f"positions must be a one-dimensional integer array, got {given.dtype} of shape {given.shape}"
            )
        outside = (given < 0) | (given >= self.n_slots)
        if outside.any():
            raise ValueError(f"positions must lie in 0..{self.n_slots - 1}, got {few(given[outside].tolist())}")
        slots = given.astype(np.int64)
        if len(np.unique(slots)) != len(slots):
            raise ValueError(f"positions must be unique, got {len(slots) - len(np.unique(slots))} repeated")
        dead = ~self._live[slots]
        if dead.any():
            raise ValueError(f"positions must be of live rows, but erased already are {few(slots[dead].tolist())}")
        return slots

    @staticmethod
    def _without(segments: Segments, slots: Positions, hashes: Words) -> Segments:
        return tuple(segment.without(slots, hashes) for segment in segments)

    @staticmethod
    def _with_segment(segments: Segments, slots: Positions, hashes: Words) -> Segments | None:
        # None: forgotten, and built anew at the next look-up.
        return None if len(segments) >= _MAX_SEGMENTS else (*segments, Segment(slots, hashes))

    # ------------------------------------------------------------------------------------------------ copies, pickles

    def __getstate__(self) -> dict[str, Any]:
        # Only what is pickled is compacted, not the object: pickling one must not invalidate its positions.
        columns = self.slots()
        live, marks = columns.pop("live"), columns.pop("marks")
        if self._n_live < self.n_slots:
            columns = {name: None if column is None else column[live] for name, column in columns.items()}
        return {**columns, "marks": renumbered(marks, live)}

    def slots(self) -> dict[str, Any]:
        """Return all columns by name, tombstones included as zeros, which slots are live, and marks; not copied.

        A training set that is given these as its state draws the same rows as this one for the same generator.
        """
        self.journal.settle()
        return {
            "X": self._X, "y": self._y, "sample_weight": self._weight, "sample_id": self._id, "role": self._role,
            "source": self._source, "live": self._live, "marks": self._marks,
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(self._state_of(state))

    @classmethod
    def _state_of(cls, state: dict[str, Any]) -> dict[str, Any]:
        """Return the attributes that go with the columns of a pickle."""
        # Loaded arrays may be read-only (memory-mapped, out-of-band buffers); erasing has to write.
        X, y, role = (owned(state[name], copy=False) for name in ("X", "y", "role"))
        weight, ids, source = (
            None if state.get(name) is None else owned(state[name], copy=False)
            for name in ("sample_weight", "sample_id", "source")
        )
        state_of_slots = cls._new_state(X, y, weight, ids, role, live=state.get("live"), source=source)
        return state_of_slots | {"_marks": state.get("marks", ())}

    def __copy__(self) -> TrainingSet:
        # A shallow copy would share arrays, and a drop in one would corrupt the other.
        return copy_module.deepcopy(self)

    def __repr__(self) -> str:
        kinds = [self._X.dtype[name] for name in self._X.dtype.names] if has_parts(self._X) else [self._X.dtype]
        shapes = [kind.shape for kind in kinds] if has_parts(self._X) else [self._X.shape[1:]]
        parts = (
            f"{'x'.join(map(str, shape)) or 'scalar'} {kind.base}" for kind, shape in zip(kinds, shapes, strict=True)
        )
        return f"TrainingSet({len(self)} rows of {' and '.join(parts)}, {self._n_trained} trained)"


def _marked(indices: Positions, n: int) -> Mask:
    mask = np.zeros(n, dtype=bool)
    mask[indices] = True
    return mask


def _source_hash(source: Array) -> Words:
    # A keyed digest is as good as random.
    return np.ascontiguousarray(source).view(np.uint64)[:, 0]
