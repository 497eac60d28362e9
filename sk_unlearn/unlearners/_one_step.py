"""One step along the solution of a linear system: what the families that take one have in common."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sk_unlearn.risks.protocol import Linearised
from sk_unlearn.solvers import KrylovCubicModel, LinearSolution, lanczos
from sk_unlearn.unlearners._ending import nothing_to_undo
from sk_unlearn.unlearners._memory import MemoryForecast
from sk_unlearn.unlearners.base import Unlearner, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._float64 import double

__all__ = ["DENSE_UP_TO", "RISE", "OneStep", "Product", "Solved", "dense_matrix", "largest_curvature"]

Product = Callable[[Tensor], Tensor]

# Damping "auto": first share of the largest curvature, and that where no rows are left to check the step on; by how
# much it grows when a step does not keep its promise, and how often; and the share of the predicted decrease that a
# step must bring to have kept it.
_SHARE, _BLIND_SHARE, _GROW, _MAX_TRIES, _KEPT = 1e-3, 3e-2, 4.0, 10, 0.5
# By what share the retained risk itself may rise. Far enough out, the linear term of the objective outweighs any rise.
RISE = 0.02
# Products spent on finding out about the curvature where there is no matrix to decompose.
_PROBES = 10
# Up to so many parameters a matrix is cheaper than some hundred products.
DENSE_UP_TO = 256


@dataclass(frozen=True)
class Solved:
    """The solution of one damped system, and how it was found.

    Attributes
    ----------
    found : LinearSolution
        The solution.

    solver : str
        Name of the solver, for the report.

    n_products : int
        Curvature products it took.
    """

    found: LinearSolution
    solver: str
    n_products: int


class OneStep(Unlearner):
    """Take one step along the solution of a linear system, and say what became of it.

    A subclass chooses the curvature matrix and solves the system. With ``damping="auto"`` larger and larger dampings
    are tried until a step keeps its promise; a number is taken as it is.

    The status is ``completed`` for a step that kept its promise: there is no tolerance on the gradient that it leaves.
    It is ``model_broke_down`` where the step met curvature that the damping does not outweigh, or lowered the objective
    by less than half of what was predicted; ``harmed_retained`` where the risk over the retained rows rose; and
    ``budget_spent`` where the products did not suffice to solve the linear system.
    """

    damping: float | str
    hold_residual: bool

    def _curvature(self, local: Linearised) -> Product:
        raise NotImplementedError

    def _solve(self, problem: UnlearningProblem, product: Product, gradient: Tensor, damping: float) -> Solved:
        raise NotImplementedError

    def _perturb(self, problem: UnlearningProblem, w: Tensor) -> Tensor:
        """Return the parameters to hand back, given those that were arrived at."""
        return w

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        started = time.perf_counter()
        objective = problem.objective if self.hold_residual else problem.untilted
        target = problem.residual if self.hold_residual else None
        if objective.is_stationary_at_start:
            return nothing_to_undo(problem, target)
        gradient, norm = objective.gradient_at_start, objective.gradient_norm_at_start
        local = problem.retained.linearise(problem.parameters)
        product = self._curvature(local)
        # What is below it cannot be measured as a difference of values.
        resolution = 4 * torch.finfo(gradient.dtype).eps * abs(local.value)
        is_without_rows = problem.retained.stored is None
        trace: list[dict[str, Any]] = []
        troubles: list[_Trouble] = []
        dampings, n_products = self._dampings(problem, product, gradient)
        for damping in dampings:
            solved = self._solve(problem, product, gradient, damping)
            step = -solved.found.solution
            end = problem.parameters + step
            predicted = -float(gradient @ step + 0.5 * (step @ product(step)))
            fall = local.value - problem.retained.value(end)
            # Of the objective. Its linear term is taken of the step, for of both points rounding would show.
            actual = fall + float(objective.tilt @ step)
            n_products += solved.n_products + 1
            troubles = _troubles(solved, damping, predicted, actual, resolution)
            # The value of a risk without rows has no zero to take a share of.
            if not troubles and not is_without_rows and not fall >= -RISE * abs(local.value) - resolution:
                troubles = [
                    _Trouble(
                        Status.HARMED_RETAINED,
                        f"the retained risk rose from {local.value:.3g} by {-fall:.3g}; a larger damping spares it",
                    )
                ]
            trace.append(
                {
                    "step": len(trace) + 1,
                    "objective_change": -actual,
                    "gradient_norm": norm,
                    "damping": damping,
                    "predicted": predicted,
                    "actual": actual,
                    "step_norm": float(step.norm()),
                    "n_products": solved.n_products + 1,
                    "linear_residual": solved.found.residual,
                    "taken": not troubles or damping == dampings[-1],
                    "seconds": time.perf_counter() - started,
                }
            )
            problem.report_step(trace[-1])
            if not troubles:
                break
        w = self._perturb(problem, end)
        after = problem.retained.gradient(w)
        left = float((after - objective.tilt).norm()) / norm
        taken = f"took one step, after which the gradient has {left:.2g} of its first norm"
        return UnlearningResult(
            w,
            troubles[0].status if troubles else Status.COMPLETED,
            "; ".join(trouble.sentence for trouble in troubles) or taken,
            trace=trace,
            gradient=after,
            # Later requests must not take noise that was added for something to undo.
            target=target if w is end else None,
            n_products=n_products,
            curvature_min=solved.found.curvature_min,
            curvature_max=solved.found.curvature_max,
            predicted_decrease=predicted,
            actual_decrease=actual,
            solver=solved.solver,
        )

    def _dampings(self, problem: UnlearningProblem, product: Product, gradient: Tensor) -> tuple[list[float], int]:
        """Return the dampings to try, in order, and the products it took to find them."""
        if self.damping != "auto":
            return [float(self.damping)], 0
        largest, n_products = largest_curvature(product, gradient)
        first = (_BLIND_SHARE if problem.retained.holds_locally else _SHARE) * largest or 1.0
        return [first * _GROW**k for k in range(_MAX_TRIES)], n_products


@dataclass(frozen=True)
class _Trouble:
    """What is wrong with a step, as a status and in words."""

    status: Status
    sentence: str


def _troubles(solved: Solved, damping: float, predicted: float, actual: float, resolution: float) -> list[_Trouble]:
    """Say what is wrong with a step, the worst first; nothing for a good one."""
    found = solved.found
    troubles = []
    if found.indefinite:
        sentence = (
            f"curvature {found.curvature_min:.3g} was met, which damping={damping:.3g} does not outweigh: the step "
            "is not towards a minimum"
        )
        troubles.append(_Trouble(Status.MODEL_BROKE_DOWN, sentence))
    # Not `<`: what is not a number has gone wrong too.
    if not actual >= _KEPT * predicted - resolution:
        sentence = (
            f"the objective changed by {-actual:.3g} where {-predicted:.3g} was predicted: the step left the region "
            "in which the model holds; a larger damping shortens it"
        )
        troubles.append(_Trouble(Status.MODEL_BROKE_DOWN, sentence))
    if not found.indefinite and not found.converged:
        sentence = f"{solved.n_products} products left {found.residual:.1%} of the linear system unsolved"
        troubles.append(_Trouble(Status.BUDGET_SPENT, sentence))
    return troubles


def dense_matrix(product: Product, like: Tensor, cure: str) -> Tensor:
    """Return the matrix of a product, of shape (d, d), symmetrised, in float64.

    Parameters
    ----------
    product : callable
        Multiplies the matrix with a vector.
    like : Tensor of shape (d,)
        A vector of the device and precision that the product takes.
    cure : str
        What to use instead where the matrix does not fit.

    Raises
    ------
    MemoryError
        Where it does not fit into what is free.
    """
    d = len(like)
    memory = MemoryForecast.of(like, 0)
    if memory.available is not None and memory.dense > memory.available:
        raise MemoryError(
            f"The matrix of {d} parameters needs about {memory.dense / 2**30:.1f} GiB and "
            f"{memory.available / 2**30:.1f} GiB are free; use {cure}."
        )
    H = double(like[:0]).new_empty((d, d))
    unit = torch.zeros_like(like)
    for i in range(d):
        unit[i] = 1
        H[i] = product(unit)
        unit[i] = 0
    return (H + H.T) / 2


def largest_curvature(product: Product, gradient: Tensor) -> tuple[float, int]:
    """Estimate the largest curvature in the Krylov space of a gradient; and the products it took."""
    space = lanczos(product, gradient, min(_PROBES, len(gradient)))
    values, _ = KrylovCubicModel(space).spectrum
    return float(values.abs().max()), space.n_products
