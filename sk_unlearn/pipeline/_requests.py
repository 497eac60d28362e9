"""What a request makes of the steps before the last, worked out aside."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.coordinates import NewCoordinates
from sk_unlearn.estimators.drafts import check_some_stay, targets_as_given
from sk_unlearn.pipeline._raw import RawRows, taken
from sk_unlearn.pipeline._resampling import Touched, notes_of, state_without, touched
from sk_unlearn.pipeline._samplers import stages_of
from sk_unlearn.pipeline._stages import walked
from sk_unlearn.pipeline._state import PipelineState
from sk_unlearn.pipeline._steps import (
    Change,
    Steps,
    is_nothing,
    known_to,
    moved_by,
    passed_over,
    stored_table,
    transformer_of,
)
from sk_unlearn.preprocessing.nodes import RawRowsNeeded
from sk_unlearn.rows import RowMatch
from sk_unlearn.rows.digests import digest_rows

if TYPE_CHECKING:
    from sk_unlearn.pipeline._ground import Ground

__all__ = [
    "After",
    "check_can_wait",
    "check_steps_are_those_of_fit",
    "exchanged",
    "given_rows",
    "grown",
    "numbers_of",
    "retained_raw",
    "with_all_drawn",
    "without",
]

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class After:
    """The steps before the last after a request.

    Attributes
    ----------
    steps : list of (str, transformer)
        New objects where they have changed.

    state : PipelineState

    to : NewCoordinates or None
        What becomes of the features of the stored rows; None where they stay.

    still_there : list of str
        Steps that still contain the rows.

    told : list of str
        What else the reader of the report should know.
    """

    steps: Steps
    state: PipelineState
    to: NewCoordinates | None = None
    still_there: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """What the reader of the report should know."""
        if not self.still_there:
            return self.told
        return [f"Steps before the net still contain the rows: {', '.join(self.still_there)}.", *self.told]


def check_steps_are_those_of_fit(steps: Steps, state: PipelineState) -> None:
    """Refuse to go on where a step was replaced since ``fit``, so that what is remembered is of another one.

    Raises
    ------
    ValueError
    """
    if state.memory is not None and transformer_of(steps) is None:
        raise ValueError("The steps before the net are not those that fit fitted: fit the pipeline anew.")
    for name, step in passed_over(steps):
        if not is_nothing(step) and get_tags(step).requires_fit:
            try:
                check_is_fitted(step)
            except NotFittedError:
                raise ValueError(f"{name} is not the step that fit fitted: fit the pipeline anew.") from None


def given_rows(last: BaseUnlearnable, X: Any, match: RowMatch | None, positions: Numbers) -> RawRows | None:
    """Return the rows of some slots as a request gave them; None where it named identifiers alone."""
    if match is None:
        return None
    order = np.searchsorted(match.positions, positions)
    return RawRows(taken(X, match.query_index[order]), targets_as_given(last, positions), {})


def without(pipeline: Ground, last: BaseUnlearnable, positions: Numbers, given: RawRows | None) -> After:
    """Return the steps as fitted without the rows in some slots.

    Parameters
    ----------
    pipeline : Pipeline

    last : UnlearnableClassifier or UnlearnableRegressor
        Its last step.

    positions : int64 ndarray

    given : RawRows or None
        The rows as the request gave them.

    Raises
    ------
    ValueError
        Where a step cannot forget, unless the pipeline is to keep such steps.
    """
    check_some_stay(last.training_set_, positions)
    state, steps = pipeline.pipeline_state_, pipeline.steps[:-1]
    transformer = transformer_of(steps)
    numbers = numbers_of(last, positions)
    if state.resampled is not None:
        return _without_drawn(pipeline, last, positions, given)
    if transformer is None or state.memory is None:
        return After(steps, replace(state, n_rows=len(last.training_set_) - len(numbers)))
    gone, kept = given, None
    if state.raw is not None:
        of_stored, missing = _aligned(state, last)
        all_gone = np.sort(np.concatenate([of_stored[numbers], missing]))
        gone, kept = state.raw.rows(all_gone), state.raw.without(all_gone)
    elif state.n_rows > len(last.training_set_):
        return _kept_as_they_are(pipeline, state, _PAST_IT)
    elif not len(positions):  # of a training anew, or of pending requests whose rows have all gone
        return After(steps, state)
    if gone is None:
        return _kept_as_they_are(pipeline, state, _NOT_GIVEN)
    if not len(gone):
        return After(steps, state)
    outcome = state.memory.without(
        transformer, gone.X, gone.y, _retained(kept, state), **gone.params, **state.constants
    )
    if outcome.still_there and pipeline.preprocessing == "forget":
        raise ValueError(_CANNOT.format(names=", ".join(outcome.still_there)))
    # Rows that are missing are stored no more, so that of the stored ones only those of this request go.
    X_gone = None if given is None and state.raw is None else _of_request(state, last, numbers, given)
    try:
        to = moved_by([Change(outcome, True)], last, numbers, X_gone, None if kept is None else kept.X)
    except RawRowsNeeded:
        return _kept_as_they_are(pipeline, state, f"{_OTHERS_CHANGE}{_OR_KEEP}.")
    after = replace(state, memory=outcome.memory, raw=kept, n_rows=state.n_rows - len(gone))
    return After(outcome.transformer.steps, after, to, outcome.still_there)


def with_all_drawn(pipeline: Ground, last: BaseUnlearnable, positions: Numbers) -> Numbers:
    """Return the slots of some rows and of all that resampling steps made of the raw rows that these stand for."""
    state = pipeline.pipeline_state_
    if state.resampled is None:
        return positions
    gone = touched(state, last, numbers_of(last, positions))
    return np.flatnonzero(last.training_set_.live_mask)[gone.numbers]


def _without_drawn(pipeline: Ground, last: BaseUnlearnable, positions: Numbers, given: RawRows | None) -> After:
    """Do the same where steps resample, for rows with all that was drawn or synthesised from them."""
    state, steps = pipeline.pipeline_state_, pipeline.steps[:-1]
    resampled = state.resampled
    assert resampled is not None
    gone = touched(state, last, numbers_of(last, positions))
    told = notes_of(state, gone)
    memories = [state.memory, *(stage.memory for stage in resampled.stages)]
    tables = [state.raw, *(stage.rows for stage in resampled.stages)]
    if state.raw is None and any(memory is not None for memory in memories):
        return _without_given(pipeline, last, gone, positions, given)
    if state.raw is None:
        return After(steps, state_without(state, gone, memories, tables), told=told)
    walk, moved = walked(pipeline, gone, stored_table(last))
    to = None if moved is None else moved_by([Change(moved, True)], last, gone.numbers)
    return After(walk.steps, state_without(state, gone, walk.memories, walk.tables), to, told=told)


def _without_given(
    pipeline: Ground, last: BaseUnlearnable, gone: Touched, positions: Numbers, given: RawRows | None
) -> After:
    """Do it where the rows are not kept as they came: steps before the first sampler forget those that are given."""
    state = pipeline.pipeline_state_
    resampled = state.resampled
    assert resampled is not None
    told = notes_of(state, gone)
    before, *behind = stages_of(pipeline.steps[:-1])
    why = ""
    if names := known_to([each for steps in behind for each in steps]):
        why = _CANNOT.format(names=", ".join(names))
    elif not gone.present.all():
        why = _PAST_IT
    elif given is None:
        why = _NOT_GIVEN
    transformer = transformer_of(before)
    if why or given is None or transformer is None or state.memory is None:
        return replace(_kept_as_they_are(pipeline, state, why), told=told)
    # A row may have been drawn several times.
    _, first = np.unique(gone.origin[numbers_of(last, positions)], return_index=True)
    rows = given.rows(first)
    outcome = state.memory.without(transformer, rows.X, rows.y, **rows.params, **state.constants)
    if outcome.still_there and pipeline.preprocessing == "forget":
        raise ValueError(_CANNOT.format(names=", ".join(outcome.still_there)))
    to = moved_by([Change(outcome, True)], last, gone.numbers)
    memories = [outcome.memory, *(None for _ in behind)]
    after = state_without(state, gone, memories, [None] * len(memories))
    steps = [*outcome.transformer.steps, *pipeline.steps[len(before) : -1]]
    return After(steps, after, to, outcome.still_there, told)


_CANNOT = (
    "These steps before the net can neither give up rows nor be fitted anew, for the rows are not kept as they came: "
    '{names}. Fit with keep_raw=True, or set preprocessing="keep" to leave them as they are and have the report say so.'
)
_NOT_GIVEN = (
    "The steps before the net need the rows as they came to forget them, which keep_raw=False does not keep: pass "
    'X_del beside sample_id, or set preprocessing="keep" to leave the steps and have the report say so.'
)
_PAST_IT = (
    "The last step has forgotten rows by a call of its own, which the steps before it still contain and "
    'keep_raw=False does not keep: fit anew, or set preprocessing="keep" to leave them as they are and have the report '
    "say so."
)


_OTHERS_CHANGE = (
    "What the steps before the net make of the other rows changes, as where a mean fills gaps, and to tell how, these "
    "are needed as they came, which keep_raw=False does not keep: fit with keep_raw=True"
)
_OR_KEEP = ', or set preprocessing="keep" to leave the steps and have the report say so'


def _kept_as_they_are(pipeline: Ground, state: PipelineState, why: str) -> After:
    steps = pipeline.steps[:-1]
    names = known_to(steps)
    if names and pipeline.preprocessing == "forget":
        raise ValueError(why)
    return After(steps, state, still_there=names)


def exchanged(pipeline: Ground, last: BaseUnlearnable, positions: Numbers, old: RawRows, new: RawRows) -> After:
    """Return the steps as fitted with new rows in place of those in some slots."""
    state, steps = pipeline.pipeline_state_, pipeline.steps[:-1]
    transformer = transformer_of(steps)
    if transformer is None or state.memory is None:
        return After(steps, state)
    numbers = numbers_of(last, positions)
    with_new = replaced = left = others = None
    if state.raw is not None:
        if len(_aligned(state, last)[1]):
            raise ValueError(_AFTER_A_REQUEST)
        old = replace(state.raw.rows(numbers), y=old.y)
        new = replace(new, params=old.params)
        with_new, replaced = state.raw.followed_by(new), state.raw.replaced(numbers, new.X, new.y)
        stay = state.raw.without(numbers)
        left, others = stay.followed_by(new), stay.X
    # The new ones first: what only the old row and its successor have must not vanish in between.
    come = state.memory.with_rows(
        transformer, new.X, new.y, _retained(with_new, state), **new.params, **state.constants
    )
    gone = come.memory.without(come.transformer, old.X, old.y, _retained(left, state), **old.params, **state.constants)
    if gone.still_there and pipeline.preprocessing == "forget":
        raise ValueError(_CANNOT.format(names=", ".join(gone.still_there)))
    to = _moved_by([Change(come, False), Change(gone, True)], last, numbers, old.X, others)
    return After(gone.transformer.steps, replace(state, memory=gone.memory, raw=replaced), to, gone.still_there)


_AFTER_A_REQUEST = (
    "The last step has forgotten rows by a call of its own, which the steps before it still contain. Call forget of "
    "the pipeline for the next rows that are to go, which takes them out too, before correct and partial_fit."
)


def grown(pipeline: Ground, last: BaseUnlearnable, new: RawRows) -> After:
    """Return the steps as fitted on further rows as well."""
    state, steps = pipeline.pipeline_state_, pipeline.steps[:-1]
    transformer = transformer_of(steps)
    if not len(new):
        return After(steps, state)
    if transformer is None or state.memory is None:
        return After(steps, replace(state, n_rows=state.n_rows + len(new)))
    all_rows = None
    if state.raw is not None:
        if len(_aligned(state, last)[1]):
            raise ValueError(_AFTER_A_REQUEST)
        all_rows = state.raw.followed_by(new)
    come = state.memory.with_rows(
        transformer, new.X, new.y, _retained(all_rows, state), **new.params, **state.constants
    )
    none = np.empty(0, dtype=np.int64)
    to = _moved_by([Change(come, False)], last, none, X_kept=None if state.raw is None else state.raw.X)
    after = replace(state, memory=come.memory, raw=all_rows, n_rows=state.n_rows + len(new))
    return After(come.transformer.steps, after, to)


def _moved_by(*arguments: Any, **options: Any) -> NewCoordinates | None:
    try:
        return moved_by(*arguments, **options)
    except RawRowsNeeded:
        raise ValueError(f"{_OTHERS_CHANGE}.") from None


def check_can_wait(pipeline: Ground) -> None:
    """Refuse to write down a request that could never be settled.

    Raises
    ------
    ValueError
        Where the steps forget by the rows as a request brings them, which are not kept until then.
    """
    state = pipeline.pipeline_state_
    if state.raw is None and pipeline.preprocessing == "forget" and known_to(pipeline.steps[:-1]):
        raise ValueError(
            "A request cannot wait here: the steps before the net need the rows as they came to forget them, and "
            "keep_raw=False does not keep them until settle. Call forget with the rows, or fit with keep_raw=True."
        )


def _retained(rows: RawRows | None, state: PipelineState) -> Any:
    return None if rows is None else (lambda: (rows.X, rows.y, rows.params | state.constants))


def retained_raw(pipeline: Ground, last: BaseUnlearnable, positions: Numbers) -> RawRows | None:
    """Return the rows as they came that stay without those in some slots; None where they are not kept."""
    state, numbers = pipeline.pipeline_state_, numbers_of(last, positions)
    raw = state.raw
    if raw is not None and state.resampled is not None:
        gone = touched(state, last, numbers)
        return raw.without(np.flatnonzero(gone.raw)) if gone.present.all() else None
    return None if raw is None or len(raw) != len(last.training_set_) else raw.without(numbers)


def numbers_of(last: BaseUnlearnable, positions: Numbers) -> Numbers:
    """Return which of the stored rows are in some slots."""
    return np.searchsorted(np.flatnonzero(last.training_set_.live_mask), positions)


def _of_request(state: PipelineState, last: BaseUnlearnable, numbers: Numbers, given: RawRows | None) -> Any:
    if state.raw is None:
        assert given is not None
        return given.X
    return state.raw.rows(_aligned(state, last)[0][numbers]).X


def _aligned(state: PipelineState, last: BaseUnlearnable) -> tuple[Numbers, Numbers]:
    """Return which of the rows as they came each stored one was, and which of them the last step has not any more."""
    raw, rows = state.raw, last.training_set_
    assert raw is not None
    if len(raw) == len(rows):
        return np.arange(len(rows)), np.empty(0, dtype=np.int64)
    wanted = [each.tobytes() for each in np.asarray(rows.source)]
    there = [each.tobytes() for each in digest_rows(last.receipt_key_, raw.X)]
    # Both are in the order in which the rows came.
    of_stored, at = [], 0
    for digest in wanted:
        at = there.index(digest, at)
        of_stored.append(at)
        at += 1
    return np.array(of_stored, dtype=np.int64), np.setdiff1d(np.arange(len(raw)), of_stored)
