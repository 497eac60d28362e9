"""Which retained rows a step in the whole network reads, and the gradient that follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sk_unlearn.risks.protocol import Linearised
from sk_unlearn.risks.tilted import TiltedLinearisation
from sk_unlearn.unlearners.cubic._policy import Policy
from sk_unlearn.unlearners.cubic._state import State

__all__ = ["Sampling", "View"]


@dataclass(frozen=True)
class View:
    """Φ around the present point, over the rows that one step reads; None for all rows."""

    rows: NDArray[np.int64] | None
    local: TiltedLinearisation


@dataclass(frozen=True)
class Sampling:
    """Which rows a step reads, and how it corrects for reading only some.

    Attributes
    ----------
    n_rows : int
        Retained rows that there are.

    n_gradient_rows, n_curvature_rows : int
        How many a step reads for gradient and value, and for the Hessian.

    variance_reduction : bool
        Correct a sampled gradient by its value at the fitted point.
    """

    n_rows: int
    n_gradient_rows: int
    n_curvature_rows: int
    variance_reduction: bool = True

    @property
    def reads_all(self) -> bool:
        """Whether gradients are over all retained rows."""
        return self.n_gradient_rows >= self.n_rows

    @property
    def n_linearised(self) -> int:
        """Rows whose graphs a step holds: those of its gradient, and those of a sample of its own for the Hessian."""
        n_own = self.n_curvature_rows if self.n_curvature_rows < self.n_gradient_rows else 0
        return self.n_gradient_rows + n_own

    @property
    def knows_first_gradient(self) -> bool:
        """Whether the first step may use the gradient over all rows, which is known at the fitted point."""
        return self.reads_all or self.variance_reduction

    def view(self, state: State) -> View:
        """Draw rows, and differentiate Φ over them at the present point."""
        return self.view_of(
            state, None if self.reads_all else state.objective.sample(self.n_gradient_rows, state.problem.rng)
        )

    def view_of(self, state: State, rows: NDArray[np.int64] | None) -> View:
        """Differentiate Φ over some rows, all by default, at the present point."""
        return View(rows, state.objective.linearise(state.w, rows))

    def curvature(self, state: State, view: View) -> Linearised:
        """Return what gives the Hessian's products: the same rows, or a sample of its own where fewer are enough."""
        if self.n_curvature_rows >= self.n_gradient_rows:
            return view.local.of_risk
        rows = state.objective.sample(self.n_curvature_rows, state.problem.rng)
        return state.objective.risk.linearise(state.w, rows)

    def take_gradient(self, state: State, view: View) -> float:
        """Let the state know the gradient of Φ at its point, and return the norm of its sampling error."""
        if view.rows is None or not self.variance_reduction:
            state.know_risk_gradient(view.local.of_risk.gradient)
            return 0.0
        state.gradient, noise = self._variance_reduced(state, view.local, view.rows)
        return noise

    def _variance_reduced(
        self, state: State, local: TiltedLinearisation, rows: NDArray[np.int64]
    ) -> tuple[Tensor, float]:
        """Return ∇Φ(w) ≈ ∇F_B(w) - ∇F_B(w₀) + ∇Φ(w₀) on a sample B, and the norm of its error.

        The error comes from how far the two halves of the sample disagree.
        """
        risk, start = state.objective.risk, state.objective.start
        half = len(rows) // 2
        first, second = (risk.gradient(start, part) for part in (rows[:half], rows[half:]))
        share = half / len(rows)
        change = local.of_risk.gradient - (share * first + (1 - share) * second)
        change_on_half = risk.gradient(state.w, rows[:half]) - first
        # The change D over both halves is (D₁ + D₂)/2, and its standard error |D₁ - D₂|/2 = |D₁ - D|.
        noise = float((change_on_half - change).norm())
        noise *= float(np.sqrt(max(0.0, 1 - len(rows) / self.n_rows)))  # a sample of all rows has no error
        return change + state.objective.gradient_at_start, noise

    def gradient_at_end(self, state: State, policy: Policy) -> Tensor:
        """Estimate the gradient of Φ at the last point, for the report and as the anchor of the next request."""
        objective = state.objective
        if self.reads_all:
            return objective.gradient(state.w)
        # What is drawn is the change that the request brought, and that of few rows is small.
        few = max(policy.closing_rows, policy.closing_rows_per_erased * state.problem.erased.n_rows)
        # Two gradients over half the rows cost what one costs.
        rows = objective.sample(min(few, self.n_gradient_rows // 2), state.problem.rng)
        before = objective.risk.gradient(objective.start, rows)
        change = objective.risk.gradient(state.w, rows)
        change -= before
        del before
        change += objective.gradient_at_start
        return change
