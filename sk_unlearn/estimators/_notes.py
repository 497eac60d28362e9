"""What the reader of a report should know beside its numbers: what happened, and what can be done about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sk_unlearn.estimators._constants import Constants, Review
from sk_unlearn.estimators._nets import overridden
from sk_unlearn.estimators._problem import Solution
from sk_unlearn.estimators._request import Request
from sk_unlearn.estimators._state import FittedState
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.rows import RowRole, TrainingSet, count_distinct
from sk_unlearn.utils._float64 import double

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = [
    "constants_notes",
    "kept_side_state",
    "left_outside",
    "moved_by_statistics",
    "notes_past_a_pipeline",
    "on_trust",
    "out_of_reach",
    "perhaps_side_state",
    "some_outputs",
    "told_of_files",
]

# Rows on which the effects of new parameters and of new statistics are compared.
_COMPARED_ROWS = 256
# Where a net of one's own may train on rows that get_iterator did not give out, while a batch is out.
_TRAINING_METHODS = ("fit_loop", "run_single_epoch", "train_step", "train_step_single")
# Names that a note lists before it counts the rest.
_SHOWN_NAMES = 5


def notes_past_a_pipeline(rows: TrainingSet | None) -> list[str]:
    """Say what a request to the last step of a pipeline does not reach."""
    if rows is None or rows.raw_source is None:
        return []
    return [
        "The rows came through a pipeline, and this request did not: its other steps, and the raw rows that it keeps, "
        "still contain them until its next request. Call the same verb of the pipeline."
    ]


def out_of_reach(
    estimator: BaseUnlearnable, rows: TrainingSet | None, request: Request, solution: Solution
) -> list[str]:
    """Say what still knows the rows after the request."""
    notes = []
    if estimator.memory is not None:
        notes.append("memory keeps networks that were trained on the erased rows until it is cleared.")
    if rows is None or solution.role is not None:
        return notes
    role = rows.raw_role[request.positions]
    if estimator.unlearning_state_.chosen_by_validation:
        n_validated = int(np.count_nonzero(role == RowRole.VALIDATED))
        if n_validated:
            notes.append(
                f"{n_validated} of the rows were held out for validation and a callback chose parameters by them. "
                "That choice is not undone; fit again if it must be."
            )
    weight = rows.raw_weight
    counts = True if weight is None else weight[request.positions] > 0
    n_apart = int(np.count_nonzero((role != RowRole.TRAINED) & counts))
    own = overridden(estimator.net_, _TRAINING_METHODS)
    if n_apart and own:
        notes.append(
            f"{n_apart} of the rows count as never trained on. {' and '.join(own)} of {type(estimator.net_).__name__} "
            "may have trained on rows beside those of its batch, which nobody can see from outside; if so, fit again "
            "without them."
        )
    return notes


def left_outside(rows: TrainingSet | None, request: Request) -> list[str]:
    """Say which files and data sets of the user's still hold the rows of a request, and which no longer do."""
    if rows is None:
        return []
    return told_of_files(rows.freed_outside(request.positions, None if request.new is None else request.new.X))


def told_of_files(freed: Iterable[tuple[str, NDArray[np.int64], bool]]) -> list[str]:
    """Say of each file how many of its rows are not needed any more, and who erases them there.

    Parameters
    ----------
    freed : iterable of (str, int64 ndarray, bool)
        As :meth:`TrainingSet.freed_outside` returns them.
    """
    return [
        f"{len(numbers)} of the rows were overwritten with zeros in {name}."
        if is_overwritten
        else f"{len(numbers)} of the rows stay in {name}, which this estimator reads and never writes to. It does "
        "not read them any more; erasing them there is for you: training_set_.outside() gives their numbers."
        for name, numbers, is_overwritten in freed
        if len(numbers)
    ]


def on_trust(rows: TrainingSet | None, request: Request) -> list[str]:
    """Say what had to be taken on the caller's word: that rows which are not stored were trained on, each once."""
    foreign = request.foreign
    if foreign is None:
        return []
    notes = []
    if rows is not None:
        notes.append(
            f"{len(foreign)} of the rows handed in are not stored. That the model was trained on them, and that they "
            "have not been handed in before, is taken on trust: if it is not so, the model has unlearnt what it never "
            "knew of them, at the cost of other rows."
        )
    n_copies = len(foreign) - count_distinct(foreign.X, foreign.y)
    if n_copies:
        notes.append(
            f"{n_copies} of the rows handed in are copies of others in the same call, and were taken away once each. "
            "Hand in a row as often as the model was trained on it."
        )
    return notes


def kept_side_state(state: FittedState, solution: Solution) -> list[str]:
    """Say what training put into the net beside its parameters, and that it is still there."""
    if solution.result is None or solution.role is not None or not state.side_state:
        return []
    return [
        "Training changed buffers or frozen parameters that no request can estimate afresh: "
        f"{_listed(state.side_state)}. They still carry the erased rows; Retrain() leaves nothing of them."
    ]


def perhaps_side_state(names: Sequence[str]) -> str:
    """Say of buffers of a net trained elsewhere that nobody knows whether training put something into them."""
    if not names:
        return ""
    return (
        f"Whether training elsewhere changed buffers is not known: {_listed(names)}. If it did, they still carry the "
        "erased rows, for no request can estimate them afresh; from_fitted can tell by initial_parameters as a "
        "state_dict."
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN_NAMES])
    return shown + (f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else "")


def constants_notes(seen: Review, present: Constants, *, movable: bool) -> list[str]:
    """Say what became of the shift and scale of the built-in network.

    Parameters
    ----------
    seen : Review
        What a look at them came to.

    present : Constants
        Those before the request.

    movable : bool
        Whether others may be put in their place.
    """
    if seen.unknown:
        return [
            f"Shift and scale of {seen.unknown} columns in the built-in network were set by the erased rows to a good "
            "part, and cannot be taken again without stored rows; fit again without them."
        ]
    if seen.constants is None:
        return []
    differ = seen.constants.differ(present)
    n_inputs, n_outputs = int(differ[: present.n_inputs].sum()), int(differ[present.n_inputs :].sum())
    what = " and ".join(f"{n} {name}" for n, name in ((n_inputs, "inputs"), (n_outputs, "outputs")) if n)
    without = f"Without the erased rows, shift or scale of {what} of the built-in network are others. "
    if not movable:
        return [
            f"{without}They stay, for what the unlearner recorded during training would not fit to others; Retrain() "
            "takes them anew."
        ]
    return [
        f"{without}They were replaced and the weights converted along, which changes no prediction, before the rows "
        "were undone. What the network learnt of these columns under the old ones may stay in part; a network "
        "retrained starts from the new ones: use Retrain()."
    ]


def some_outputs(risk: EmpiricalRisk, w: Tensor) -> Tensor | None:
    """Return what the module gives at w for some rows of a risk; None where that is not one tensor."""
    try:
        return double(risk.outputs(w, np.arange(min(len(risk.X), _COMPARED_ROWS))))
    except TypeError:
        return None


def moved_by_statistics(fitted: Tensor | None, moved: Tensor | None, renewed: Tensor | None) -> list[str]:
    """Say so where new statistics changed the outputs by more than the new parameters did.

    Parameters
    ----------
    fitted, moved, renewed : Tensor of the shape of outputs, or None
        Before the request, with the new parameters, and with the new statistics too; None where there are none.
    """
    if fitted is None or moved is None or renewed is None:
        return []
    by_parameters = float((moved - fitted).square().mean().sqrt())
    by_statistics = float((renewed - moved).square().mean().sqrt())
    if not by_statistics > by_parameters:
        return []
    return [
        f"BatchNorm statistics without the rows changed the outputs on retained rows by {by_statistics:.2g} "
        f"(root mean square), the new parameters by {by_parameters:.2g}: most of the change is not the unlearner's. "
        "Compare predictions on rows you know before you rely on the model, or use Retrain()."
    ]
