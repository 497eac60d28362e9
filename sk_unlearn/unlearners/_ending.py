"""How a request ends that moves nothing, in the same words for every method."""

from __future__ import annotations

from torch import Tensor

from sk_unlearn.unlearners.base import UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status

__all__ = ["nothing_to_undo"]


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
    )
