"""Cubic steps in all parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sk_unlearn.solvers.adaptive import StepControl, first_weight
from sk_unlearn.solvers.lanczos import extremes
from sk_unlearn.unlearners.cubic._direction import Direction
from sk_unlearn.unlearners.cubic._policy import Policy
from sk_unlearn.unlearners.cubic._sampling import Sampling, View
from sk_unlearn.unlearners.cubic._state import State
from sk_unlearn.unlearners.cubic._stopping import Ending
from sk_unlearn.unlearners.status import Status

__all__ = ["WholeNetworkStage"]


@dataclass
class WholeNetworkStage:
    """Steps in all parameters until the state's stopping rule ends them.

    Each round looks where the last move led. Where it left too large a gradient it is taken back; otherwise one more
    step follows.

    Attributes
    ----------
    direction : Direction
        Makes the cubic model around a point.

    control : StepControl
        Chooses the weight of its cubic term, and whether a step is taken.

    sampling : Sampling
        Which rows each step reads.

    first_damping : float
        Damping of the first step, as a share of the largest curvature.

    policy : Policy
    """

    direction: Direction
    control: StepControl
    sampling: Sampling
    first_damping: float
    policy: Policy

    def run(self, state: State) -> Ending:
        """Take steps; see :class:`Stage`."""
        stopping, first = state.stopping, len(state.trace)
        for _ in range(stopping.max_steps - first):
            ending = self._round(state, first)
            if ending is not None:
                return ending
        return self._end_without_steps_left(state, first)

    def _round(self, state: State, first: int) -> Ending | None:
        """Look where the last move led, and take one step from there; or say why there is none."""
        stopping = state.stopping
        view, noise, moved = self.sampling.view(state), 0.0, state.gradient_lags
        if moved or not self.sampling.knows_first_gradient:
            noise = self.sampling.take_gradient(state, view)
            state.gradient_lags = False
        if moved and stopping.is_too_far(state.gradient_norm, state.taken_since(first, "gradient_norm")):
            left = stopping.share(state.gradient_norm)
            if not self._retreat(state, first):
                here = stopping.share(state.gradient_norm)
                reason = f"gradient is at {here}; a further step left it at {left} and was taken back"
                return Ending(Status.OVERSHOOT_UNDONE, reason)
            rows = view.rows
            del view  # before the next is there
            view = self.sampling.view_of(state, rows)
            state.hold_once(view.local.of_risk.gradient)
        elif moved:
            ending = stopping.ending(state.gradient_norm, noise)
            if ending is not None:
                return ending
        return self._step(state, view, first)

    def _step(self, state: State, view: View, first: int) -> Ending | None:
        """Minimise the cubic model around the present point and take the step, or say why it is not taken."""
        state.end_move()
        model = self.direction.model(self.sampling.curvature(state, view).hessian, state, self.control.L)
        spectrum = model.spectrum
        if spectrum is not None and state.curvature is None:
            state.curvature = float(spectrum[0][0]), float(spectrum[0][-1])
        if self.control.L is None:
            self.control.L = (
                self.policy.descent_weight if spectrum is None else first_weight(spectrum, self.first_damping)
            )
        tried = self.control.step(model, _decrease(state, view), resolution=self._resolution(view))
        norm, promised = state.gradient_norm, float(tried.record["predicted"])
        promised_before = state.taken_since(first, "predicted")
        # Where the model is descended and not solved, a step may promise more because it came farther on the model.
        slides = tried.taken and spectrum is not None and state.stopping.slides(promised, promised_before)
        if slides:
            tried = tried.left_out()
        if tried.taken:
            state.begin_move()
            state.w, state.gradient_lags = state.w + tried.step, True
            if not all(map(math.isfinite, extremes(state.w))):
                raise FloatingPointError("The cubic step is not finite; L may be too small for this problem.")
        state.record(
            tried.record
            | {"gradient_norm": norm, "n_rows": self.sampling.n_gradient_rows, "n_products": model.n_products}
        )
        if tried.taken:
            return None
        here = f"gradient is at {state.stopping.share(norm)}"
        if slides:
            reason = f"{here}; a further step promised more than any before it, which leads away, and was taken back"
            return Ending(Status.OVERSHOOT_UNDONE, reason)
        return Ending(Status.STALLED, f"{here}; no step lowers the objective any further at this precision")

    def _resolution(self, view: View) -> float:
        """Return the smallest decrease of Φ that can be told from rounding."""
        precision = torch.finfo(view.local.w.dtype)
        return self.policy.rounding * precision.eps * max(abs(view.local.of_risk.value), precision.tiny)

    def _retreat(self, state: State, first: int) -> bool:
        """Take back the move that went too far, and tell whether there is another way to go on."""
        state.take_back()
        if len(state.trace) == first:  # it was the stage before: this one starts where that did
            return True
        # Not even a first step: the model was trusted too far.
        self.control.L = self.policy.overshoot * state.trace[-1]["L"]
        return not state.taken_since(first, "gradient_norm")

    def _end_without_steps_left(self, state: State, first: int) -> Ending:
        """Look where the last move led, take it back if that is too far, and say how it ended."""
        stopping = state.stopping
        state.gradient, state.gradient_lags = self.sampling.gradient_at_end(state, self.policy), False
        if not stopping.is_too_far(state.gradient_norm, state.taken_since(first, "gradient_norm")):
            return stopping.ending(state.gradient_norm) or stopping.out_of_steps()
        state.take_back()
        which = "the last of which left" if len(state.trace) > first else "all in the output layer, which left"
        taken_back = "was" if len(state.trace) > first else "were"
        return Ending(
            Status.OVERSHOOT_UNDONE,
            f"{stopping.out_of_steps().reason}, {which} a larger gradient and {taken_back} taken back",
        )


def _decrease(state: State, view: View) -> Callable[[Tensor], float]:
    """Return the function that measures by how much a step lowers Φ over the rows of a view.

    The linear term makes the gradient of what is measured that of the state, which is Φ's over all rows. It is taken as
    one product with the step: a difference of two values of it would lose digits.
    """
    risk, local, w = state.objective.risk, view.local.of_risk, state.w

    def decrease(step: Tensor) -> float:
        return local.value - risk.value(w + step, view.rows) - float(state.gradient_beyond(local.gradient) @ step)

    return decrease
