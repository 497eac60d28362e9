"""What a fitted pipeline remembers, beside its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.pipeline._lineage import Lineage
from sk_unlearn.pipeline._raw import RawRows
from sk_unlearn.preprocessing import Memory

__all__ = ["PipelineState", "Resampled", "Stage"]


@dataclass(frozen=True)
class Stage:
    """The steps behind a sampler, up to the next one.

    Attributes
    ----------
    lineage : Lineage
        Of the rows that the sampler gave, from those that it was given.

    memory : Memory or None
        What the steps need to give up rows; None where there are none.

    rows : RawRows or None
        The rows that the sampler gave; None where they are not kept, or no step needs them.
    """

    lineage: Lineage
    memory: Memory | None
    rows: RawRows | None


@dataclass(frozen=True)
class Resampled:
    """What resampling steps made of the rows as they came.

    Attributes
    ----------
    stages : tuple of Stage
        One for each sampler.

    left_out : int64 ndarray
        Numbers of the rows as they came of which no copy was drawn. The last step stores them behind the others, with
        no weight.

    source : uint8 ndarray of shape (n_stored, 16)
        Digests of the rows that the last step stored, when the pipeline last saw it.
    """

    stages: tuple[Stage, ...]
    left_out: NDArray[np.int64]
    source: NDArray[np.uint8]


@dataclass(frozen=True, repr=False)
class PipelineState:
    """What later requests of a pipeline start from; never changed, only replaced.

    Attributes
    ----------
    memory : Memory or None
        What the steps before the last need to give up rows; None where there are none.

    raw : RawRows or None
        The rows as they came; None with ``keep_raw=False``.

    constants : dict
        Parameters of ``fit`` of the steps that are not one for each row.

    n_rows : int
        Rows that the steps before the last were fitted on, those before the first sampler where there are some.

    resampled : Resampled or None
        What resampling steps did; None where there are none.
    """

    memory: Memory | None
    raw: RawRows | None
    constants: dict[str, Any]
    n_rows: int
    resampled: Resampled | None = None

    def without_rows(self) -> PipelineState:
        """Return what is left where no rows are kept: requests are for the last step alone then.

        What the steps are counted by goes too, for it lists values of single rows: the extremes of each column, how
        often each category is there.
        """
        return PipelineState(None, None, {}, self.n_rows)

    def __repr__(self) -> str:
        kept = "not kept" if self.raw is None else "kept"
        return f"PipelineState({self.n_rows} rows, {kept} as they came)"
