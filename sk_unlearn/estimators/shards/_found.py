"""Where the rows of a request are among the shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.estimators._receipts import kept_ids
from sk_unlearn.estimators._request import listed
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.lookup import find_rows
from sk_unlearn.rows import RowMatch, TrainingSet

__all__ = ["FoundInShards", "find_in_shards", "pending_slots"]

Shards = Sequence[BaseUnlearnable | None]
_NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class FoundInShards:
    """The rows of a request, found.

    Attributes
    ----------
    positions : dict of int to int64 ndarray
        By the number of a shard that holds some, their slots.

    matches : dict of int to RowMatch
        By the number of every shard that has rows, which of the rows asked for it holds; empty where rows were named by
        identifiers alone.

    known, known_ids : bool ndarray or None
        Which of the rows, and of the identifiers, are in any shard; None for what was not asked.
    """

    positions: dict[int, NDArray[np.int64]]
    matches: dict[int, RowMatch]
    known: NDArray[np.bool_] | None
    known_ids: NDArray[np.bool_] | None

    def all_found(self, shards: Shards, name: str, sample_id: Any) -> FoundInShards:
        """Return this if every row, and every identifier, was found; else raise a ValueError that says which were not.

        Raises
        ------
        ValueError
            Also where no row has both the content and an identifier asked for.
        """
        if self.matches:
            matches = list(self.matches.values())
            found = np.logical_or.reduce([each.found for each in matches])
            row_found = np.logical_or.reduce([each.row_found for each in matches])
            TrainingSet.all_found(RowMatch(_NONE, _NONE, found, row_found), name)
        if self.known_ids is not None and not self.known_ids.all():
            first = next(each for each in shards if each is not None)
            unknown = np.flatnonzero(~self.known_ids)
            raise ValueError(
                f"{len(unknown)} of {len(self.known_ids)} ids in sample_id are not in the training set (the first at "
                f"index {unknown[0]})"
                if first.training_set_.sample_id is not None
                else "sample_id cannot be looked up: none was given at fit; give the rows themselves"
            )
        if not self.positions:
            raise ValueError("No stored row has both the content in X_del and an identifier in sample_id.")
        return self


def find_in_shards(shards: Shards, X: Any, y: Any, sample_id: Any, name: str) -> FoundInShards:
    """Find the rows of a request in all shards; unknown ones raise nothing.

    Parameters
    ----------
    shards : sequence of BaseUnlearnable or None

    X, y : rows and targets as the nets take them, or None

    sample_id : identifiers, or None

    name : str
        What messages call X.
    """
    ids = None if sample_id is None else listed(sample_id)
    positions, matches, known_ids = {}, {}, []
    for number, shard in enumerate(shards):
        if shard is None:
            continue
        slots = None
        if X is not None:
            matches[number] = shard.training_set_.match(X, y, name=name)
            slots = matches[number].positions
        if ids is not None:
            by_id = _by_id(shard, ids)
            known_ids.append(by_id[1])
            slots = by_id[0] if slots is None else np.intersect1d(slots, by_id[0])
        if slots is not None and len(slots):
            positions[number] = slots
    known = None if X is None else np.logical_or.reduce([each.found for each in matches.values()])
    return FoundInShards(
        positions, matches, known, None if ids is None else reduce(np.logical_or, known_ids[1:], known_ids[0])
    )


def _by_id(shard: BaseUnlearnable, ids: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    if shard.training_set_.sample_id is None:
        return _NONE, np.zeros(len(kept_ids(shard, ids)), dtype=bool)
    found = find_rows(shard, sample_id=ids)
    assert found.known_ids is not None
    return found.positions, found.known_ids


def pending_slots(shards: Shards) -> dict[int, NDArray[np.int64]]:
    """Return the slots that pending requests name, by the number of the shard; only of those that hold some."""
    slots = {}
    for number, shard in enumerate(shards):
        if shard is not None and shard.training_set_.marks:
            slots[number] = np.unique(np.concatenate([mark.positions for mark in shard.training_set_.marks]))
    return slots
