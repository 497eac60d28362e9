"""What the training that came before says about how to undo a part of it."""

from __future__ import annotations

import torch
from skorch import NeuralNet

from sk_unlearn.risks.tilted import TiltedRisk
from sk_unlearn.unlearners._watch import Watch
from sk_unlearn.unlearners.base import UnlearningProblem
from sk_unlearn.unlearners.cubic._policy import Policy

__all__ = ["loss_left", "was_short", "with_faded_tilt"]


def was_short(net: NeuralNet, policy: Policy) -> bool:
    """Tell whether training took no longer than a step or two in the whole network would."""
    # One epoch of L-BFGS is as many evaluations as it was allowed.
    return 0 < len(net.history) < policy.short_training_epochs and not isinstance(net.optimizer_, torch.optim.LBFGS)


def loss_left(problem: UnlearningProblem) -> float:
    """Return the loss that training left, as a share of that of one output for all rows; inf where it is not seen."""
    if problem.retained.stored is None:
        return float("inf")
    try:
        return Watch(problem).share_left
    except (TypeError, ValueError, RuntimeError, IndexError):
        # Several outputs, or a loss that does not take the mean output for that of a row.
        return float("inf")


def with_faded_tilt(problem: UnlearningProblem, policy: Policy) -> TiltedRisk:
    r"""Return Φ with a tilt that fades where the net fits its rows all but perfectly.

    What training left of the gradient of such rows fades with their loss, and would have left another trace without the
    rows that leave. The tilt is then :math:`r \|r\| / \sqrt{\|r\|^2 + \|\nabla F(w_0) - r\|^2}`: the more the deletion
    outweighs r, the less of r. A deletion of nothing asks for r itself. Where the net does not fit its rows r stays as
    it is, for it is training that was not finished.
    """
    objective = problem.objective
    energy, change = float(objective.tilt.square().sum()), float(objective.gradient_at_start.square().sum())
    if not (change > 0 and energy > 0 and loss_left(problem) <= policy.fitted_share):
        return objective
    return objective.with_share_of_tilt((energy / (energy + change)) ** 0.5)
