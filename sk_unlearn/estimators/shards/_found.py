"""Where the rows of a request are among the shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.estimators._request import listed
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.lookup import find_rows
from sk_unlearn.rows import RowMatch, TrainingSet

__all__ = ["all_found", "pending_slots"]


def all_found(estimator: Any, X: Any, y: Any, sample_id: Any, name: str) -> NDArray[np.int64]:
    """Return the rows of a request as ``training_set_`` numbers them; raise unless every one is stored.

    Parameters
    ----------
    estimator : BaseSharded

    X, y : array-like, or None

    sample_id : identifiers, or None

    name : str
        What messages call X.

    Raises
    ------
    ValueError
        Also where no row has both the content and an identifier asked for.
    """
    rows = estimator.training_set_
    positions = None
    if X is not None:
        X_net, y_net = estimator._validate_request(X, y, name, name.replace("X", "y", 1))
        match: RowMatch = TrainingSet.all_found(rows.match(X_net, y_net, name=name), name)
        positions = match.positions
    if sample_id is None:
        assert positions is not None
        return positions
    if rows.sample_id is None:
        raise ValueError("sample_id cannot be looked up: none was given at fit; give the rows themselves")
    found = find_rows(estimator, sample_id=listed(sample_id))
    assert found.known_ids is not None
    if not found.known_ids.all():
        unknown = np.flatnonzero(~found.known_ids)
        raise ValueError(
            f"{len(unknown)} of {len(found.known_ids)} ids in sample_id are not in the training set (the first at "
            f"index {unknown[0]})"
        )
    both = found.positions if positions is None else np.intersect1d(positions, found.positions)
    if not len(both):
        raise ValueError("No stored row has both the content in X_del and an identifier in sample_id.")
    return both


def pending_slots(shards: Sequence[BaseUnlearnable | None]) -> dict[int, NDArray[np.int64]]:
    """Return the slots that pending requests name, by the number of the shard; only of those that hold some."""
    slots = {}
    for number, shard in enumerate(shards):
        if shard is not None and shard.training_set_.marks:
            slots[number] = np.unique(np.concatenate([mark.positions for mark in shard.training_set_.marks]))
    return slots
