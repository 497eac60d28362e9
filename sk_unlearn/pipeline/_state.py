"""What a fitted pipeline remembers, beside its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sk_unlearn.pipeline._raw import RawRows
from sk_unlearn.preprocessing import Memory

__all__ = ["PipelineState"]


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
        Rows that the steps before the last were fitted on.
    """

    memory: Memory | None
    raw: RawRows | None
    constants: dict[str, Any]
    n_rows: int

    def without_rows(self) -> PipelineState:
        """Return what is left where no rows are kept: requests are for the last step alone then.

        What the steps are counted by goes too, for it lists values of single rows: the extremes of each column, how
        often each category is there.
        """
        return PipelineState(None, None, {}, self.n_rows)

    def __repr__(self) -> str:
        kept = "not kept" if self.raw is None else "kept"
        return f"PipelineState({self.n_rows} rows, {kept} as they came)"
