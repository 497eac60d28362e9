"""Which shard a row belongs to: a function of that row, or of whose it is, and of the seed; of no other row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows import SparseRows
from sk_unlearn.rows.digests import digest_ids, digest_rows

__all__ = ["ShardedState"]


@dataclass(frozen=True)
class ShardedState:
    """What later requests need to know of a fit, beside the shards; never changed, only replaced.

    Attributes
    ----------
    seed : int
        From which the seeds of all shards follow, and which shard a row belongs to.

    n_shards : int
        How many there are, those without rows included.

    n_slices : int
        In how many slices each shard is trained.

    given : bool
        Whether the seed follows from a number that the user gave.

    moved : bool
        Whether rows have been corrected that are found by their content: they stay in the shard of their old content.
    """

    seed: int
    n_shards: int
    n_slices: int = 1
    given: bool = True
    moved: bool = False

    def seed_of(self, number: int) -> int:
        """Return the seed of a shard, a number as ``random_state`` takes it."""
        return int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])

    def shard_of(self, X: Any, sample_id: Any = None) -> NDArray[np.int64]:
        """Return the number of the shard that each row belongs to.

        Equal rows, and all rows of one identifier where there are any, belong together. The others have no say in it,
        so that rows that stay are where they would be had those that go never come.

        Parameters
        ----------
        X : rows as they were validated

        sample_id : sequence of identifiers, one a row, or None
        """
        key = self.seed.to_bytes(8, "little")
        rows = X.csr if isinstance(X, SparseRows) else X
        digests = digest_rows(key, rows) if sample_id is None else digest_ids(key, sample_id)
        numbers: NDArray[np.int64] = (digests.view(np.uint64)[:, 0] % np.uint64(self.n_shards)).astype(np.int64)
        return numbers
