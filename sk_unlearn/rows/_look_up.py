"""Finding stored rows: by content, by what they were made of, by identifier, and but for rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sk_unlearn.rows._columns import as_sources, cast_like, indices
from sk_unlearn.rows._identifiers import as_column, listed_ids, same_ids
from sk_unlearn.rows._index import Segment, Segments, id_hash, source_hash
from sk_unlearn.rows._near import near_misses, near_pairs
from sk_unlearn.rows._stored import StoredRows
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
    same_content,
)
from sk_unlearn.rows.forms import as_rows

__all__ = ["IdMatch", "LookUp", "RowMatch"]

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


class IdMatch(NamedTuple):
    """Which stored rows have which of some ids; what `TrainingSet.match_ids` returns."""

    positions: Positions
    """Slots of the rows that have one of them, ascending, each once, int64."""
    known: Mask
    """(n_ids,) whether any stored row has an id."""


class LookUp(StoredRows):
    """Rows that are found by an index, which is built at the first look-up. See `TrainingSet`."""

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
        positions, known = self.match_ids(given)
        if not known.all():
            raise ValueError(self._unknown_ids(given, list(dict.fromkeys(compress(given, ~known)))))
        return positions

    def match_ids(self, sample_id: Iterable[Any]) -> IdMatch:
        """Find every live row with one of the given ids; unknown ones raise nothing.

        Parameters
        ----------
        sample_id : one-dimensional array or iterable of ids

        Returns
        -------
        match : IdMatch

        Raises
        ------
        ValueError
            If an id is missing or cannot be hashed.
        """
        given = listed_ids(sample_id)
        if self._id is None or not given:
            return IdMatch(np.empty(0, dtype=np.int64), np.zeros(len(given), dtype=bool))
        wanted = list(dict.fromkeys(given))
        asked = as_column(wanted)
        slots, owner = self._candidates(self._id_index(), id_hash(asked, len(wanted)))
        same = same_ids(self._id[slots], asked[owner])
        known = _marked(owner[same], len(wanted))
        number = dict(zip(wanted, range(len(wanted)), strict=True))
        which = np.fromiter(map(number.__getitem__, given), dtype=np.int64, count=len(given))
        return IdMatch(np.sort(slots[same]), known[which])

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
        slots, owner = self._candidates(self._source_index(), unique_words[:, 0])
        same = (self._source[slots].view(np.uint64) == unique_words[owner]).all(axis=1)
        return slots[same], owner[same]

    def _source_index(self) -> Segments:
        self.journal.settle()
        if self._source_segments is None:
            slots = np.flatnonzero(self._live)
            self._source_segments = (Segment(slots, self._hash_sources(slots)),)
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

    def _hash_ids(self, slots: Positions) -> Words:
        assert self._id is not None
        return id_hash(self._id[slots], len(slots))

    def _hash_sources(self, slots: Positions) -> Words:
        assert self._source is not None
        return source_hash(self._source[slots])

    def _row_index(self) -> Segments:
        self.journal.settle()
        if self._row_segments is None:
            slots = np.flatnonzero(self._live)
            self._row_segments = (Segment(slots, self._hash_slots(slots)),)
        return self._row_segments

    def _id_index(self) -> Segments:
        self.journal.settle()
        if self._id_segments is None:
            slots = np.flatnonzero(self._live)
            self._id_segments = (Segment(slots, self._hash_ids(slots)),)
        return self._id_segments


def _marked(indices: Positions, n: int) -> Mask:
    mask = np.zeros(n, dtype=bool)
    mask[indices] = True
    return mask
