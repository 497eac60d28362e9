"""Continue training on what is left by a quasi-Newton method over all of it."""

from __future__ import annotations

import time
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from sk_unlearn.risks.protocol import Risk
from sk_unlearn.unlearners._ending import nothing_to_undo
from sk_unlearn.unlearners.base import Unlearner, UnlearnerTags, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status

__all__ = ["LBFGSWarmStart"]


class LBFGSWarmStart(Unlearner):
    """Minimise the risk over the retained rows from the fitted parameters by L-BFGS with a strong Wolfe line search.

    Every evaluation reads all retained rows. On small problems it is fast and precise: on a convex one it finds the
    very optimum. On a network that was not trained to a stationary point it also trains on, and with that moves away
    from what retraining for the same number of epochs would give.

    Parameters
    ----------
    n_iterations : int, default=20
        Iterations at most.

    tol : float, default=1e-2
        It stops when the gradient's norm is below this share of that at the fitted parameters, and counts as converged.

    References
    ----------
    .. [1] Nocedal and Wright, "Numerical optimization", 2006, algorithms 3.5 and 7.5.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import LBFGSWarmStart
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=LBFGSWarmStart(n_iterations=5), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.n_steps
    5
    """

    _parameter_constraints = {  # noqa: RUF012
        "n_iterations": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, n_iterations: int = 20, *, tol: float = 1e-2) -> None:
        self.n_iterations = n_iterations
        self.tol = tol

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = True
        tags.exact_on_quadratics = True
        return tags

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        if problem.untilted.is_stationary_at_start:
            return nothing_to_undo(problem, target=None)
        started = time.perf_counter()
        parameter = nn.Parameter(problem.parameters.clone())
        at = _Remembered(problem.retained)
        # One iteration a call, so that each can be reported; torch keeps its history of steps between calls.
        optimiser = torch.optim.LBFGS(
            [parameter], lr=1.0, max_iter=1, max_eval=25, line_search_fn="strong_wolfe", tolerance_grad=0.0,
            tolerance_change=0.0,
        )  # fmt: skip

        def closure() -> Tensor:
            value, gradient = at(parameter.detach())
            parameter.grad = gradient.clone()
            return torch.tensor(value, dtype=torch.float64)

        value, gradient = at(parameter.detach())
        first = float(gradient.norm())
        trace: list[dict[str, Any]] = []
        status, reason = Status.BUDGET_SPENT, f"{self.n_iterations} iterations"
        for step in range(1, self.n_iterations + 1):
            before, value_before = parameter.detach().clone(), value
            optimiser.step(closure)
            value, gradient = at(parameter.detach())
            norm = float(gradient.norm())
            if not value <= value_before or torch.equal(before, parameter.detach()):
                with torch.no_grad():
                    parameter.copy_(before)
                value, gradient = at(before)
                status, reason = Status.STALLED, "the line search found nothing lower"
                break
            trace.append(
                {
                    "step": step,
                    "objective_change": value - value_before,
                    "gradient_norm": norm,
                    "step_norm": float((parameter.detach() - before).norm()),
                    "seconds": time.perf_counter() - started,
                }
            )
            problem.report_step(trace[-1])
            if norm <= self.tol * first:
                status = Status.CONVERGED
                reason = f"the gradient fell below {self.tol:g} of its norm at the fitted parameters"
                break
        w = parameter.detach().clone()
        return UnlearningResult(w, status, reason, trace=trace, gradient=gradient.clone())


class _Remembered:
    """Value and gradient of a risk, not evaluated twice at the point of the last call."""

    def __init__(self, risk: Risk) -> None:
        self.risk = risk
        self.w: Tensor | None = None

    def __call__(self, w: Tensor) -> tuple[float, Tensor]:
        if self.w is None or not torch.equal(self.w, w):
            self.w = w.clone()
            self.known = self.risk.value_and_gradient(w)
        return self.known
