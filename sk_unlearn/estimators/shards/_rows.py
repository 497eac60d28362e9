"""The rows of all shards, to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_unlearn.rows import RowMatch, TrainingSet
from sk_unlearn.rows.forms import joined
from sk_unlearn.rows.outside import RowSource

__all__ = ["Freed", "ShardRows"]

# Where rows stay outside, and the numbers of those that stood for rows that were erased or corrected.
Freed = Sequence[tuple[RowSource, NDArray[np.int64]]]


class ShardRows:
    """The rows that shards store, one shard after the other; to be read, not changed.

    It answers whoever reads a `TrainingSet`, with one difference: rows are numbered through all shards, and no number
    is that of a row that has gone.

    Attributes
    ----------
    shards : sequence of TrainingSet
    """

    def __init__(self, shards: Sequence[TrainingSet], freed: Freed = ()) -> None:
        self.shards: tuple[TrainingSet, ...] = tuple(shards)
        self._starts = np.cumsum([0, *map(len, self.shards)])
        self._freed = freed

    def __len__(self) -> int:
        return int(self._starts[-1])

    # -------------------------------------------------------------------------------------------------------- columns

    @cached_property
    def X(self) -> Any:  # noqa: N802  as TrainingSet has it
        """Features, as the nets take them."""
        X = self.shards[0].X
        for each in self.shards[1:]:
            X = joined(X, each.X)
        return X

    @cached_property
    def y(self) -> NDArray[Any]:
        """Targets, as the nets take them."""
        return self._all(lambda each: each.y)

    @cached_property
    def sample_weight(self) -> NDArray[np.float64] | None:
        """Weights, or None where all are one."""
        if all(each.sample_weight is None for each in self.shards):
            return None
        return self._all(lambda each: np.ones(len(each)) if each.sample_weight is None else each.sample_weight)

    @cached_property
    def sample_id(self) -> NDArray[Any] | None:
        """Identifiers, or None where there are none."""
        return None if self.shards[0].sample_id is None else self._all(lambda each: each.sample_id)

    @property
    def role(self) -> NDArray[np.int8]:
        """What each row was used for."""
        return self._all(lambda each: each.role)

    @property
    def shard(self) -> NDArray[np.int64]:
        """Which of the shards that have rows each row is in."""
        return np.repeat(np.arange(len(self.shards)), np.diff(self._starts))

    @property
    def n_trained(self) -> int:
        """How many of the rows have entered a gradient."""
        return sum(each.n_trained for each in self.shards)

    @property
    def live_mask(self) -> NDArray[np.bool_]:
        """True for every row: there are no gaps."""
        return np.ones(len(self), dtype=bool)

    @property
    def n_slots(self) -> int:
        """How many rows there are."""
        return len(self)

    @property
    def raw_X(self) -> Any:  # noqa: N802
        """As X."""
        return self.X

    @property
    def raw_y(self) -> NDArray[Any]:
        """As y."""
        return self.y

    @property
    def raw_weight(self) -> NDArray[np.float64] | None:
        """As sample_weight."""
        return self.sample_weight

    @property
    def raw_id(self) -> NDArray[Any] | None:
        """As sample_id."""
        return self.sample_id

    @property
    def raw_source(self) -> None:
        """None: no step of a pipeline makes the rows of shards out of others."""
        return None

    # -------------------------------------------------------------------------------------------------------- look-up

    def match(self, X_query: ArrayLike, y_query: ArrayLike | None = None, *, name: str = "X_del") -> RowMatch:
        """Find every copy of each query row, as ``TrainingSet.match`` does."""
        matches = [each.match(X_query, y_query, name=name) for each in self.shards]
        return RowMatch(
            self._numbered([each.positions for each in matches]),
            np.concatenate([each.query_index for each in matches]),
            np.logical_or.reduce([each.found for each in matches]),
            np.logical_or.reduce([each.row_found for each in matches]),
        )

    def locate(self, X_query: ArrayLike, y_query: ArrayLike | None = None, *, name: str = "X_del") -> NDArray[np.int64]:
        """Find every copy of each query row, all of which must be known, as ``TrainingSet.locate`` does."""
        return TrainingSet.all_found(self.match(X_query, y_query, name=name), name).positions

    def near_copies(
        self, X_query: ArrayLike, y_query: ArrayLike | None = None, *, tolerance: float, name: str = "X_del"
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find the rows that query rows equal but for rounding, as ``TrainingSet.near_copies`` does."""
        near = [each.near_copies(X_query, y_query, tolerance=tolerance, name=name) for each in self.shards]
        query, positions = np.concatenate([each[0] for each in near]), self._numbered([each[1] for each in near])
        order = np.lexsort([positions, query])
        return query[order], positions[order]

    def match_ids(self, sample_id: Iterable[Any]) -> Any:
        """Find every row with one of the given identifiers, as ``TrainingSet.match_ids`` does."""
        given = list(sample_id)
        matches = [each.match_ids(given) for each in self.shards]
        return matches[0]._replace(
            positions=self._numbered([each.positions for each in matches]),
            known=np.logical_or.reduce([each.known for each in matches]),
        )

    def slots_of(self, positions: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the slots in each shard of rows that are numbered through all of them."""
        mask = np.zeros(len(self), dtype=bool)
        mask[positions] = True
        return [
            np.flatnonzero(each.live_mask)[mask[start : start + len(each)]]
            for each, start in zip(self.shards, self._starts.tolist(), strict=False)
        ]

    def _numbered(self, slots: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return the numbers through all shards of slots in each."""
        return np.concatenate(
            [
                start + np.searchsorted(np.flatnonzero(each.live_mask), own)
                for each, start, own in zip(self.shards, self._starts.tolist(), slots, strict=False)
            ]
        )

    def outside(self) -> list[tuple[str, NDArray[np.int64]]]:
        """Return the path of each file, and numbers of its rows that stood for rows that were erased or corrected."""
        return [(source.name, numbers) for source, numbers in self._freed]

    def _all(self, column: Callable[[TrainingSet], Any]) -> NDArray[Any]:
        return np.concatenate([column(each) for each in self.shards])
