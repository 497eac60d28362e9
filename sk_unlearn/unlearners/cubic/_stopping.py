"""When the engine stops, and what it says then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sk_unlearn.unlearners.status import Status

__all__ = ["Ending", "FixedSteps", "OneUncheckedStep", "StoppingRule"]


class Ending(NamedTuple):
    """How it ended, and the same in numbers: one sentence without a full stop."""

    status: Status
    reason: str


@dataclass(frozen=True)
class StoppingRule:
    """Follow the gradient of Φ down to a share of its first norm, and never let it grow much.

    Attributes
    ----------
    first_norm : float
        Norm of the gradient at the fitted point.

    enough : float
        The norm to reach.

    max_steps : int
        Steps of all stages together.

    max_rise : float
        By how much a step may raise the smallest norm so far; infinity where it may lead over steeper ground.

    noise_factor : float
        See :class:`Policy`.

    may_promise_more : bool
        Whether a step may promise more than those before it: where a minimum is near, or where the net fits its rows
        and the way leads out of a place that is flat at first.
    """

    first_norm: float
    enough: float
    max_steps: int
    max_rise: float
    noise_factor: float
    may_promise_more: bool = False

    def ending(self, norm: float, noise: float = 0.0) -> Ending | None:
        """Tell whether no further step is needed, and why; None where one is.

        Parameters
        ----------
        norm : float
            Of the gradient of Φ at the present point.

        noise : float
            Norm of its sampling error; 0 where all rows were read.
        """
        share = self.share(norm)
        if norm <= self.enough:
            return Ending(Status.CONVERGED, f"gradient fell to {share}")
        if norm**2 <= self.noise_factor * noise**2:
            return Ending(Status.SAMPLING_NOISE, f"gradient fell to the noise of sampling rows, at {share}")
        return None

    def is_too_far(self, norm: float, norms_before: Sequence[float]) -> bool:
        """Tell whether a step left a larger gradient than any may.

        Parameters
        ----------
        norm : float
            After the step.

        norms_before : sequence of float
            Before each step taken in the same stage; none where the stage before has moved.
        """
        bound = self.max_rise * min([self.first_norm, *norms_before])
        if norms_before:  # the stage before may have left more than the first norm, which no step may add to
            bound = min(bound, max(self.first_norm, norms_before[0]))
        # Not `norm > bound`: a norm that is not a number is too far as well.
        return not norm <= (bound if self.max_rise < float("inf") else float("inf"))

    def slides(self, promised: float, promised_before: Sequence[float]) -> bool:
        """Tell whether a step promises to lower Φ by more than any before it.

        On the way to where the deletion is undone each step has less to lower than the one before. One that promises
        more has left that way: it goes down what training had not finished, along which Φ falls without end.

        Parameters
        ----------
        promised : float
            The decrease that the model predicts.

        promised_before : sequence of float
            The same of each step taken in the same stage.
        """
        return not self.may_promise_more and bool(promised_before) and promised > max(promised_before)

    def out_of_steps(self) -> Ending:
        """Tell how it ended where no step is left."""
        return Ending(Status.BUDGET_SPENT, f"took max_steps={self.max_steps} steps")

    def share(self, norm: float) -> str:
        """Say a norm in words."""
        return f"{norm / self.first_norm:.2g} of its first norm"


class FixedSteps(StoppingRule):
    """A set number of steps, all of which are taken, as the published algorithms do."""

    def ending(self, norm: float, noise: float = 0.0) -> Ending | None:
        """Never end before."""
        return None

    def is_too_far(self, norm: float, norms_before: Sequence[float]) -> bool:
        """Take every step."""
        return False

    def slides(self, promised: float, promised_before: Sequence[float]) -> bool:
        """Take every step."""
        return False

    def out_of_steps(self) -> Ending:
        """Say that it is done."""
        return Ending(Status.COMPLETED, f"took max_steps={self.max_steps} steps of fixed L")


class OneUncheckedStep(StoppingRule):
    """One step where the retained rows are not kept: their risk is known by a model near the fitted point only."""

    def ending(self, norm: float, noise: float = 0.0) -> Ending | None:
        """Claim nothing: the gradient of the model is not that of the rows."""
        return None

    def out_of_steps(self) -> Ending:
        """Say why there is no second step."""
        reason = "took one damped step: without rows, how far the model of them holds is not known"
        return Ending(Status.COMPLETED, reason)
