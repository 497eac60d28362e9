"""A short training after steps, which brings the network to rest on the rows that stay."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners._annealed import trained_on
from sk_unlearn.unlearners.base import UnlearningProblem
from sk_unlearn.unlearners.cubic._policy import Policy
from sk_unlearn.unlearners.cubic._sampling import Sampling
from sk_unlearn.unlearners.cubic._state import State
from sk_unlearn.unlearners.cubic._stopping import Ending
from sk_unlearn.unlearners.status import Status

__all__ = ["Settling"]

_SETTLED = "then trained on over the retained rows for {n_epochs}, at rates that fell to zero"
_TAKEN_BACK = "Training on after the steps {why}, so that what these came to stands."


@dataclass(frozen=True)
class Settling:
    """Some epochs on the retained rows, from where steps have led.

    Steps from the fitted point end where the curvature there holds no further, with a part of the gradient left. A
    short training, at a fraction of the rate and down to zero, brings the network to rest as the end of a training
    does.

    Attributes
    ----------
    n_epochs : int
    sampling : Sampling
    policy : Policy
    """

    n_epochs: int
    sampling: Sampling
    policy: Policy

    @classmethod
    def after_steps(
        cls, problem: UnlearningProblem, sampling: Sampling, policy: Policy, budget: float
    ) -> Settling | None:
        """Return the one that suits a problem, or None where steps are to be left as they are.

        Parameters
        ----------
        problem : UnlearningProblem
            After a release.
        sampling : Sampling
            Of the steps in the whole network.
        policy : Policy
        budget : float
            Largest share of a full training.
        """
        if problem.retained.stored is not problem.retained or isinstance(problem.net.optimizer_, torch.optim.LBFGS):
            return None
        brought = float((problem.gradient - problem.residual).norm())
        if problem.erased.n_rows == 1 or float(problem.residual.norm()) > policy.settling_request * brought:
            return None
        n_epochs = int(min(policy.settling_share, budget) * len(problem.net.history) + 0.5)
        return cls(n_epochs, sampling, policy) if n_epochs >= 1 else None

    def run(self, state: State, ending: Ending) -> Ending:
        """Train on, unless that is not finite or costs the retained rows more than it gains them."""
        problem, risk = state.problem, state.objective.risk
        rate = self.policy.settling_rate * float(problem.net.lr)
        try:
            w = flat_parameters(trained_on(problem, self.n_epochs, rate, start=state.w)).to(state.w)
        except (ValueError, RuntimeError) as error:
            state.remarks.append(_TAKEN_BACK.format(why=f"failed ({error})"))
            return ending
        rows = None if self.sampling.reads_all else state.objective.sample(self.policy.compared_rows, problem.rng)
        if not bool(torch.isfinite(w).all()) or not risk.value(w, rows) <= risk.value(state.w, rows):
            state.remarks.append(_TAKEN_BACK.format(why="raised the loss of the retained rows"))
            return ending
        before, moved = state.gradient_norm, float((w - state.w).norm())
        state.begin_move()
        state.w = w
        state.gradient = self.sampling.gradient_at_end(state, self.policy)
        state.gradient_lags = False
        state.record(
            {
                "block": "settling", "taken": True, "step_norm": moved, "gradient_norm": before, "n_products": 0,
                "n_rows": problem.retained.n_rows, "predicted": 0.0, "actual": 0.0, "objective_change": 0.0,
            }
        )  # fmt: skip
        epochs = "an epoch" if self.n_epochs == 1 else f"{self.n_epochs} epochs"
        return Ending(Status.COMPLETED, f"{ending.reason}; {_SETTLED.format(n_epochs=epochs)}")
