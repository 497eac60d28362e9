"""The rows of all shards, to be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows import TrainingSet
from sk_unlearn.rows.forms import joined
from sk_unlearn.rows.outside import RowSource

__all__ = ["Freed", "ShardRows"]

# Where rows stay outside, and the numbers of those that stood for rows that were erased or corrected.
Freed = Sequence[tuple[RowSource, NDArray[np.int64]]]


class ShardRows:
    """The rows that shards store, one shard after the other; to be read, not changed.

    Attributes
    ----------
    shards : sequence of TrainingSet
    """

    def __init__(self, shards: Sequence[TrainingSet], freed: Freed = ()) -> None:
        self.shards = tuple(shards)
        self._freed = freed

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    @property
    def X(self) -> Any:  # noqa: N802  as TrainingSet has it
        """Features, as the nets take them."""
        X = self.shards[0].X
        for each in self.shards[1:]:
            X = joined(X, each.X)
        return X

    @property
    def y(self) -> NDArray[Any]:
        """Targets, as the nets take them."""
        return np.concatenate([each.y for each in self.shards])

    @property
    def sample_weight(self) -> NDArray[np.float64] | None:
        """Weights, or None where all are one."""
        if all(each.sample_weight is None for each in self.shards):
            return None
        return self._all(lambda each: np.ones(len(each)) if each.sample_weight is None else each.sample_weight)

    @property
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
        return np.repeat(np.arange(len(self.shards)), [len(each) for each in self.shards])

    def outside(self) -> list[tuple[str, NDArray[np.int64]]]:
        """Return the path of each file, and numbers of its rows that stood for rows that were erased or corrected."""
        return [(source.name, numbers) for source, numbers in self._freed]

    def _all(self, column: Callable[[TrainingSet], Any]) -> NDArray[Any]:
        return np.concatenate([column(each) for each in self.shards])
