"""How a request ends that moves nothing, in the same words for every method."""

from __future__ import annotations

import torch
from torch import Tensor

from sk_unlearn.unlearners.base import UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status

__all__ = ["notes_on_standing_still", "nothing_to_undo"]

_STOOD_STILL = "Rows that had been trained on were erased, and no parameter has changed."


def nothing_to_undo(problem: UnlearningProblem, target: Tensor | None) -> UnlearningResult:
    """Return the fitted parameters, for an objective that is stationary there.

    Parameters
    ----------
    problem : UnlearningProblem
        What was to be undone.
    target : Tensor of shape (d,) or None
        The gradient of the risk that later requests are to hold; see :class:`UnlearningResult`.
    """
    return UnlearningResult(
        problem.parameters.clone(),
        Status.NOTHING_TO_UNDO,
        "nothing to undo: the gradient is zero",
        gradient=problem.gradient,
        target=target,
        notes=[_STOOD_STILL],
    )


def notes_on_standing_still(problem: UnlearningProblem, w: Tensor) -> list[str]:
    """Return a note for the report if w, of shape (d,), is where the request found the model; else nothing."""
    return [_STOOD_STILL] if torch.equal(w, problem.parameters) else []
