"""Which rows leave a pipeline whose steps resample: those of a request, and all that was made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.pipeline._raw import RawRows
from sk_unlearn.pipeline._samplers import whole_lineage
from sk_unlearn.pipeline._state import PipelineState, Resampled, Stage
from sk_unlearn.preprocessing import Memory

__all__ = ["Touched", "notes_of", "state_without", "touched"]

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Touched:
    """The rows that leave with those of a request.

    Attributes
    ----------
    raw : bool ndarray
        Of the rows as they came.

    stored : bool ndarray
        Of those that the last step stored when the pipeline last saw it, in their order.

    present : bool ndarray
        Which of these it stores still.

    origin : int64 ndarray
        The raw row that each of them is a copy of, -1 for none.
    """

    raw: Mask
    stored: Mask
    present: Mask
    origin: Numbers

    def stay(self, resampled: Resampled) -> list[Mask]:
        """Return which rows stay, of those as they came and of those that each sampler gave."""
        gone = [self.raw]
        for stage in resampled.stages:
            gone.append(stage.lineage.touched_by(gone[-1]))
        gone[-1] = self.stored[: len(gone[-1])]
        return [~mask for mask in gone]

    @property
    def numbers(self) -> Numbers:
        """Which of the rows that the last step stores now leave."""
        return np.flatnonzero(self.stored[self.present])


def touched(state: PipelineState, last: BaseUnlearnable, numbers: Numbers) -> Touched:
    """Return the rows that are made of the same raw rows as some of the stored ones, and those that are missing.

    Parameters
    ----------
    state : PipelineState
        Of a pipeline with resampling steps.

    last : UnlearnableClassifier or UnlearnableRegressor
        Its last step.

    numbers : int64 ndarray
        Which of the stored rows a request names.

    Raises
    ------
    ValueError
        If none of the rows that were drawn would be left.
    """
    resampled = state.resampled
    assert resampled is not None
    drawn = whole_lineage(resampled.stages)
    present = _present(resampled, last)
    named = ~present
    named[np.flatnonzero(present)[numbers]] = True
    origin = np.concatenate([drawn.one_each(), resampled.left_out])
    raw = np.zeros(state.n_rows, dtype=bool)
    raw[origin[named & (origin >= 0)]] = True
    stored = named.copy()
    stored[: len(drawn)] |= drawn.touched_by(raw)
    stored[len(drawn) :] |= raw[resampled.left_out]
    if stored[: len(drawn)].all():
        raise ValueError(
            "The request covers all rows that the resampling steps drew; nothing would be left to model. Discard the "
            "estimator instead."
        )
    return Touched(raw, stored, present, origin)


def _present(resampled: Resampled, last: BaseUnlearnable) -> Mask:
    """Tell which of the rows that the last step stored it stores still: all but those that it forgot by itself."""
    known, there = (np.asarray(each) for each in (resampled.source, last.training_set_.source))
    present = np.ones(len(known), dtype=bool)
    if len(known) == len(there):
        return present
    present[:] = False
    at = 0
    # Both are in one order.
    for digest in there:
        while not np.array_equal(known[at], digest):
            at += 1
        present[at] = True
        at += 1
    return present


def notes_of(state: PipelineState, gone: Touched) -> list[str]:
    """Say what became of rows that were left out, synthesised, or may have been."""
    resampled = state.resampled
    assert resampled is not None
    drawn, leaves = whole_lineage(resampled.stages), gone.stored & gone.present
    n_made = int(np.count_nonzero(leaves & (gone.origin < 0)))
    n_left_out = int(np.count_nonzero(leaves[len(drawn) :]))
    n_unknown = int(np.count_nonzero(drawn.is_unknown & ~gone.stored[: len(drawn)]))
    said = ((n_left_out, _LEFT_OUT), (n_made, _SYNTHETIC), (n_unknown, _UNKNOWN))
    return [note.format(n=n) for n, note in said if n]


_LEFT_OUT = "{n} of the rows had been left out by a resampling step, so that the net has learnt nothing from them."
_SYNTHETIC = "{n} rows that a resampling step had synthesised from the erased ones have gone with them."
_UNKNOWN = (
    "{n} synthetic rows may contain the erased ones, for it cannot be told from which rows the resampling step made "
    "them. They stay; fit the pipeline anew on the rows that are left if that must not be."
)


def state_without(
    state: PipelineState, gone: Touched, memories: list[Memory | None], tables: list[RawRows | None]
) -> PipelineState:
    """Return the state without the rows that leave.

    Parameters
    ----------
    memories, tables : list
        Of each stage, from the rows as they came on.
    """
    resampled = state.resampled
    assert resampled is not None
    stays = gone.stay(resampled)
    stages = tuple(
        Stage(stage.lineage.taken(np.flatnonzero(own), np.flatnonzero(before)), memory, table)
        for stage, before, own, memory, table in zip(
            resampled.stages, stays, stays[1:], memories[1:], tables[1:], strict=False
        )
    )
    left_out = resampled.left_out[~gone.raw[resampled.left_out]]
    left_out = left_out - np.cumsum(gone.raw)[left_out]
    new = Resampled(stages, left_out, resampled.source[~gone.stored])
    n_rows = int(np.count_nonzero(~gone.raw))
    return replace(state, memory=memories[0], raw=tables[0], n_rows=n_rows, resampled=new)
