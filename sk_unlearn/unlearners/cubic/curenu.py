"""Cubic-regularised Newton unlearning: CuReNU and its stochastic sibling StoCuReNU."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn.risks.protocol import Linearised
from sk_unlearn.risks.quadratic import QuadraticRisk
from sk_unlearn.solvers import (
    CubicStep,
    DenseCubicModel,
    KrylovCubicModel,
    KrylovSpace,
    lanczos,
    solve_gradient_descent,
)
from sk_unlearn.solvers.adaptive import FIRST_DAMPING, AdaptiveWeight, TriedStep, first_weight, step_record
from sk_unlearn.unlearners._minibatch import Watch
from sk_unlearn.unlearners.base import Unlearner, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.cubic._output_layer import OutputLayerSteps, solve_output_layer
from sk_unlearn.utils._random import torch_generator

__all__ = ["CuReNU", "StoCuReNU"]

# Damping of the single step that is taken where no rows are left to check it on, as a share of the largest curvature:
# with less, accuracy on retained rows is at risk.
_BLIND_DAMPING = 3e-2
# A step may leave the gradient this much larger than the smallest so far; beyond, it follows curvature away from the
# fitted point and undoes nothing.
_MAX_RISE = 2.0
_LAYER_REASON = "the output layer came to rest"
_OVERSHOT_REASON = "a further step would leave a larger gradient"
# What L is multiplied with after a step that kept its promise almost to the letter.
_SHRINK = 1 / 3
# How much more L after a first step that went too far.
_OVERSHOT = 10.0
# Rows of which a step takes them all, or twice as many after a training that was not short.
_FEW_ROWS = 1024
# Epochs: a step in the whole network, its products and its trials cost about as much.
_SHORT_TRAINING = 20
# A net fits its rows when their loss is at most this share of that of a constant prediction.
_FITTED = 0.02
# A fit counts as stationary when training left no more than this share of the gradient that the deletion brings. Its
# target is an optimum, which is worth finding: in wider Krylov spaces, within this much memory, as far as tol².
_STATIONARY = 3e-2
_NARROW, _WIDE, _WIDE_BYTES = 10, 200, 2**30
# Products where the curvature comes from a sample: it is not worth knowing as well.
_ROUGH = 5
_WIDE_DAMPING, _WIDE_INEXACT, _WIDE_SHRINK = 1e-4, 0.1, 0.1


@dataclass
class _Memory:
    """What the step will need beyond the model and one chunk of rows, in bytes, against what is free."""

    dense: int
    krylov: int
    gradient_descent: int
    available: int | None

    @classmethod
    def forecast(cls, w: Tensor, n_products: int) -> _Memory:
        d, size = w.numel(), w.element_size()
        if w.device.type == "cuda":
            available: int | None = int(torch.cuda.mem_get_info(w.device)[0])
        else:
            try:
                available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            except (ValueError, OSError, AttributeError):  # not a POSIX system
                available = None
        # Dense: the matrix in the net's precision, in float64, and the eigenvectors. Krylov: the basis and six vectors.
        return cls(
            dense=d * d * (size + 16), krylov=(n_products + 6) * d * size, gradient_descent=4 * d * size,
            available=available,
        )  # fmt: skip


@dataclass(frozen=True)
class _Sampling:
    """Which rows a step reads, and how it corrects for reading only some."""

    n_gradient_rows: int
    n_curvature_rows: int
    variance_reduction: bool = True


@dataclass(frozen=True)
class _Goal:
    """What the gradient of Φ must come to, and what it must never exceed."""

    first_norm: float
    enough: float
    stationary: bool

    def bound(self, taken: list[dict[str, Any]]) -> float:
        """Return the largest gradient norm that a step may leave behind."""
        if self.stationary:  # a minimum is near, and a way to it may lead over steeper ground
            return float("inf")
        return min([self.first_norm, *(_MAX_RISE * record["gradient_norm"] for record in taken)])


@dataclass
class _Descent:
    """Where the engine stands: the point and its gradient, the L it has learnt, what it has spent and done.

    Attributes
    ----------
    gradient : Tensor
        Of Φ; it may lag behind w, until :meth:`_CubicUnlearner._look` renews it.
    in_layer : OutputLayerSteps or None
        The steps in the output layer that led to the first point.
    """

    problem: UnlearningProblem
    target: Tensor
    goal: _Goal
    w: Tensor
    gradient: Tensor
    weight: AdaptiveWeight
    in_layer: OutputLayerSteps | None = None
    n_products: int = 0
    trace: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    @property
    def layer_trace(self) -> list[dict[str, Any]]:
        return self.in_layer.trace if self.in_layer else []

    def taken(self) -> list[dict[str, Any]]:
        return [record for record in self.trace if record["taken"]]

    def too_far(self) -> bool:
        """Tell whether the last step left a larger gradient than any may."""
        return not float(self.gradient.norm()) <= self.goal.bound(self.taken())

    def take_back(self, previous: tuple[Tensor, Tensor]) -> None:
        """Return to the point and gradient before the last step."""
        self.w, self.gradient = previous
        self.trace[-1]["taken"] = False

    def give_up_layer(self) -> None:
        """Return to the fitted parameters: fitting the layer undid less than it tilted for the layers before it."""
        assert self.in_layer is not None
        self.in_layer = self.in_layer.given_up()
        self.w, self.gradient = self.problem.parameters.clone(), self.problem.gradient - self.target


class _CubicUnlearner(Unlearner):
    """The outer loop both algorithms share."""

    L: float | str
    solver: str
    max_steps: int
    n_products: int | str
    tol: float
    hold_residual: bool
    output_layer_first: bool
    learning_rate: float | None
    sigma: float

    @property
    def exact_on_quadratics(self) -> bool:  # type: ignore[override]
        """Whether it claims the optimum of a quadratic: adaptive, and by more than a few gradient steps."""
        return self.L == "auto" and self.solver != "gradient_descent"

    def _sampling(self, problem: UnlearningProblem) -> _Sampling:
        raise NotImplementedError

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        sampling = self._sampling(problem)
        target = self._target(problem, sampling)
        gradient = problem.gradient - target
        first_norm, residual_norm = float(gradient.norm()), float(problem.residual.norm())
        stationary = self.L == "auto" and not _is_blind(problem) and residual_norm <= _STATIONARY * first_norm
        n_products = self._n_products(problem, stationary, sampling)
        memory = _Memory.forecast(problem.parameters, n_products)
        solver = self._chosen_solver(memory, problem.parameters.numel())
        diagnostics: dict[str, Any] = {
            "solver": solver,
            "memory_forecast": vars(memory),
            "residual_norm": residual_norm,
            "gradient_norm_before": first_norm,
            "gradient_norm_after": first_norm,
        }
        # What rounding alone leaves of a difference of gradients is not a reason to move.
        if first_norm <= torch.finfo(gradient.dtype).eps * residual_norm:
            return UnlearningResult(
                problem.parameters.clone(), [], True, "nothing to undo: the gradient is zero", diagnostics,
                gradient=problem.gradient, holds_residual=self.hold_residual, residual=target,
            )  # fmt: skip
        goal = _Goal(first_norm, (self.tol**2 if stationary else self.tol) * first_norm, stationary)
        return self._descend(problem, sampling, n_products, gradient, target, goal, diagnostics)

    def _target(self, problem: UnlearningProblem, sampling: _Sampling) -> Tensor:
        """Return the gradient that the new point is to have.

        It is the residual r of training. Where the net fits its rows all but perfectly it is less, the more the
        deletion outweighs it: what is left there fades with each row's loss, and would have left another trace without
        the rows that leave. A deletion of nothing asks for r itself. Elsewhere r stays as it is, for it is training
        that was not finished; on a sample too, since that is not for a few rows to judge.
        """
        r = problem.residual
        if not self.hold_residual:
            return torch.zeros_like(r)
        if self.L != "auto" or sampling.n_gradient_rows < problem.retained.n_rows:
            return r
        energy, change = float(r.square().sum()), float((problem.gradient - r).square().sum())
        if not (change > 0 and energy > 0 and _fits_its_rows(problem)):
            return r
        return r * (energy / (energy + change)) ** 0.5

    def _n_products(self, problem: UnlearningProblem, stationary: bool, sampling: _Sampling) -> int:
        """Return the most products of a step."""
        if self.n_products != "auto":
            return int(self.n_products)
        w = problem.parameters
        if stationary and self.solver in ("auto", "krylov"):
            return max(_NARROW, min(_WIDE, _WIDE_BYTES // (w.numel() * w.element_size())))
        return _NARROW if sampling.n_curvature_rows >= problem.retained.n_rows else _ROUGH

    def _chosen_solver(self, memory: _Memory, d: int) -> str:
        """Return the solver to use, or raise MemoryError when the one asked for does not fit."""
        free = float("inf") if memory.available is None else memory.available
        if self.solver == "auto":
            return "krylov" if memory.krylov <= free else "gradient_descent"
        needed = vars(memory)[self.solver]
        if needed > free:
            raise MemoryError(
                f"solver={self.solver!r} needs about {needed / 2**30:.1f} GiB for {d} parameters and "
                f"{free / 2**30:.1f} GiB are free; use solver='auto', or another device."
            )
        return str(self.solver)

    def _descend(
        self,
        problem: UnlearningProblem,
        sampling: _Sampling,
        n_products: int,
        gradient: Tensor,
        target: Tensor,
        goal: _Goal,
        diagnostics: dict[str, Any],
    ) -> UnlearningResult:
        L = None if self.L == "auto" else float(self.L)
        weight = AdaptiveWeight(L, _WIDE_SHRINK if goal.stationary else _SHRINK)
        state = _Descent(problem, target, goal, problem.parameters.clone(), gradient, weight)
        if self._begins_with_layer(problem, goal):
            state.in_layer = solve_output_layer(problem, gradient, max_steps=self.max_steps)
        if state.in_layer is not None:
            state.w, state.n_products = state.in_layer.parameters, state.in_layer.n_products
        if state.in_layer is not None and sampling.n_gradient_rows < problem.retained.n_rows:
            state.gradient = self._gradient_at_end(state, sampling)
            converged = state.in_layer.settled
            n_steps = len(state.in_layer.trace)
            reason = _LAYER_REASON if converged else f"took {n_steps} steps and the output layer had not come to rest"
        else:
            converged, reason = self._steps(state, sampling, n_products, diagnostics)
        taken = [record for record in state.layer_trace + state.trace if record["taken"]]
        diagnostics |= {
            "gradient_norm_after": float(state.gradient.norm()),
            "predicted_decrease": float(sum(record["predicted"] for record in taken)),
            "actual_decrease": float(sum(record["actual"] for record in taken)),
            "n_products": state.n_products,
        }
        return UnlearningResult(
            state.w, state.layer_trace + state.trace, converged, reason, diagnostics,
            gradient=state.gradient + target, holds_residual=self.hold_residual, residual=target,
        )  # fmt: skip

    def _steps(
        self, state: _Descent, sampling: _Sampling, n_products: int, diagnostics: dict[str, Any]
    ) -> tuple[bool, str]:
        """Take steps in the whole network, and say whether they came to an end of their own, and which."""
        problem, adaptive = state.problem, self.L == "auto"
        sampled = sampling.n_gradient_rows < problem.retained.n_rows
        before = len(state.layer_trace)
        max_steps, reason = self.max_steps - before, f"took max_steps={self.max_steps} steps"
        if adaptive and _is_blind(problem):
            max_steps, reason = 1, "took one damped step: without rows, how far the model of them holds is not known"
        previous = (state.w, state.gradient)
        moved = state.in_layer is not None
        for step in range(1, max_steps + 1):
            rows = problem.retained.sample(sampling.n_gradient_rows, problem.rng) if sampled else None
            local = problem.retained.linearise(state.w, rows)
            renew = moved or (sampled and not sampling.variance_reduction)
            noise = self._look(state, sampling, local, rows) if renew else 0.0
            if moved and adaptive:
                if state.too_far():
                    if not self._retreat(state, previous):
                        return True, _OVERSHOT_REASON
                    local = problem.retained.linearise(state.w, rows)
                else:
                    ending = self._ending(state, noise)
                    if ending:
                        return True, ending
            curvature = local
            if sampling.n_curvature_rows < sampling.n_gradient_rows:
                curvature_rows = problem.retained.sample(sampling.n_curvature_rows, problem.rng)
                curvature = problem.retained.linearise(state.w, curvature_rows)
            previous = (state.w, state.gradient)
            model = _Model(self, diagnostics["solver"], n_products, curvature.hessian, state)
            record = self._step(state, local, model, rows, diagnostics)
            record |= {
                "step": before + step, "gradient_norm": float(state.gradient.norm()),
                "n_rows": sampling.n_gradient_rows,
            }  # fmt: skip
            state.trace.append(record)
            problem.report_step(record)
            if not record["taken"]:
                return True, "no step lowers the objective any further at this precision"
            moved = True
        if moved:
            state.gradient = self._gradient_at_end(state, sampling)
        if moved and adaptive and state.too_far():
            if state.trace:
                state.take_back(previous)
                reason += ", the last of which left a larger gradient and was taken back"
            else:
                state.give_up_layer()
                reason += ", all in the output layer, which left a larger gradient and were taken back"
        return False, reason

    def _look(self, state: _Descent, sampling: _Sampling, local: Linearised, rows: NDArray[np.int64] | None) -> float:
        """Renew the gradient, and return the norm of its sampling error."""
        gradient, noise = local.gradient, 0.0
        if rows is not None and sampling.variance_reduction:
            gradient, noise = _variance_reduced(state.problem, state.w, local, rows)
        state.gradient = gradient - state.target
        return noise

    def _retreat(self, state: _Descent, previous: tuple[Tensor, Tensor]) -> bool:
        """Undo what went too far, and tell whether there is another way to go on."""
        if not state.trace:
            state.give_up_layer()
            return True
        state.take_back(previous)
        # Not even the first step: the model was trusted too far.
        state.weight.L = _OVERSHOT * state.trace[-1]["L"]
        return not state.taken()

    def _ending(self, state: _Descent, noise: float) -> str:
        """Say why no further step is needed; nothing where one is."""
        norm = float(state.gradient.norm())
        if norm <= state.goal.enough:
            return f"gradient fell to {norm / state.goal.first_norm:.2g} of its first norm"
        return "gradient fell to the noise of sampling rows" if norm**2 <= 2 * noise**2 else ""

    def _begins_with_layer(self, problem: UnlearningProblem, goal: _Goal) -> bool:
        return self.L == "auto" and self.output_layer_first and self.hold_residual and not goal.stationary

    def _gradient_at_end(self, state: _Descent, sampling: _Sampling) -> Tensor:
        """Estimate the gradient at the last point, for the report and as the anchor of the next request."""
        risk, fitted = state.problem.retained, state.problem.parameters
        if sampling.n_gradient_rows >= risk.n_rows:
            return risk.gradient(state.w) - state.target
        # Two gradients, for what one would cost.
        rows = risk.sample(sampling.n_gradient_rows // 2, state.problem.rng)
        change = risk.gradient(state.w, rows) - risk.gradient(fitted, rows)
        return change + state.problem.gradient - state.target

    def _step(
        self,
        state: _Descent,
        local: Linearised,
        model: _Model,
        rows: NDArray[np.int64] | None,
        diagnostics: dict[str, Any],
    ) -> dict[str, Any]:
        """Minimise the cubic model around the current point; with ``L="auto"``, until a step keeps its promise."""
        diagnostics.setdefault("curvature_min", model.curvature_min)
        diagnostics.setdefault("curvature_max", model.curvature_max)
        # The sampled objective, with the linear term that turns its gradient into the variance-reduced one.
        linear = state.gradient - local.gradient

        def decrease(step: Tensor) -> float:
            return local.value - state.problem.retained.value(state.w + step, rows) - float(linear @ step)

        if self.L == "auto":
            tiny = torch.finfo(linear.dtype)
            tried = state.weight.step(model, decrease, resolution=4 * tiny.eps * max(abs(local.value), tiny.tiny))
        else:
            step = model.solve(float(self.L))
            tried = TriedStep(step.step, True, step_record(step, float(self.L), decrease(step.step), True))
        if tried.taken:
            candidate = state.w + tried.step
            if not bool(torch.isfinite(candidate).all()):
                raise FloatingPointError("The cubic step is not finite; L may be too small for this problem.")
            state.w = candidate
        state.n_products += model.n_products
        return tried.record | {"n_products": model.n_products, "seconds": time.perf_counter() - state.started}


class _Model:
    """The cubic model at one point, by the solver asked for; trying another L costs no product where it can."""

    def __init__(
        self,
        owner: _CubicUnlearner,
        solver: str,
        n_products: int,
        product: Any,
        state: _Descent,
    ) -> None:
        problem, gradient, goal = state.problem, state.gradient, state.goal
        self.owner, self.product, self.gradient = owner, product, gradient
        self.n_products, self.n_steps = 0, n_products
        self.curvature_min = self.curvature_max = float("nan")
        self.decomposed: DenseCubicModel | KrylovCubicModel | None = None
        weight = state.weight
        if solver == "gradient_descent":
            self.generator = torch_generator(problem.rng, gradient.device)
            self.learning_rate = float(problem.net.lr) if owner.learning_rate is None else owner.learning_rate
            if weight.L is None:
                weight.L = 1.0
            return
        if solver == "dense":
            H = torch.stack(
                [product(e) for e in torch.eye(len(gradient), dtype=gradient.dtype, device=gradient.device)]
            )
            self.decomposed, self.n_products = DenseCubicModel((H + H.T) / 2, gradient), len(gradient)
        else:
            stop = None
            if goal.stationary:

                def stop(space: KrylovSpace) -> bool:
                    if weight.L is None:  # nothing to solve for yet: a few products tell where to begin
                        return space.n_products >= _NARROW
                    # Looking costs a small eigenproblem.
                    if space.n_products % 5:
                        return False
                    return KrylovCubicModel(space).residual(weight.L) <= _WIDE_INEXACT * space.start_norm

            space = lanczos(product, gradient, min(n_products, len(gradient)), stop=stop)
            self.decomposed, self.n_products = KrylovCubicModel(space), space.n_products
        values, _ = self.decomposed.spectrum
        self.curvature_min, self.curvature_max = float(values[0]), float(values[-1])
        if weight.L is None:
            share = _BLIND_DAMPING if _is_blind(problem) else _WIDE_DAMPING if goal.stationary else FIRST_DAMPING
            weight.L = first_weight(self.decomposed.spectrum, share)

    def solve(self, L: float) -> CubicStep:
        if self.decomposed is not None:
            return self.decomposed.solve(L)
        step = solve_gradient_descent(
            self.product, self.gradient, L, n_steps=self.n_steps, learning_rate=self.learning_rate,
            sigma=self.owner.sigma, generator=self.generator,
        )  # fmt: skip
        self.n_products += step.n_products
        return step


def _is_blind(problem: UnlearningProblem) -> bool:
    """Tell whether the retained rows are known by a quadratic only, which the risk itself is not."""
    return isinstance(problem.retained, QuadraticRisk) and not problem.retained.sketch.quadratic


def _was_short(net: NeuralNet) -> bool:
    """Tell whether training took no longer than a step or two in the whole network would."""
    # One epoch of L-BFGS is as many evaluations as it was allowed.
    return 0 < len(net.history) < _SHORT_TRAINING and not isinstance(net.optimizer_, torch.optim.LBFGS)


def _fits_its_rows(problem: UnlearningProblem) -> bool:
    """Tell whether training left next to nothing of the loss; no where that cannot be seen."""
    try:
        return Watch(problem).share_left <= _FITTED
    except (TypeError, ValueError, RuntimeError, IndexError):
        # No stored rows, several outputs, or a loss that does not take the mean output for that of a row.
        return False


def _variance_reduced(
    problem: UnlearningProblem, w: Tensor, local: Linearised, rows: NDArray[np.int64]
) -> tuple[Tensor, float]:
    """Return ∇F(w) ≈ ∇F_B(w) - ∇F_B(w₀) + ∇F(w₀) on a sample B, and the norm of its sampling error.

    The error comes from how far the two halves of the sample disagree.
    """
    half = len(rows) // 2
    start = [problem.retained.gradient(problem.parameters, part) for part in (rows[:half], rows[half:])]
    share = half / len(rows)
    difference = local.gradient - (share * start[0] + (1 - share) * start[1])
    first_half = problem.retained.gradient(w, rows[:half]) - start[0]
    # With D = (D₁ + D₂)/2 the standard error of D is |D₁ - D₂|/2 = |D₁ - D|.
    noise = float((first_half - difference).norm())
    noise *= float(np.sqrt(max(0.0, 1 - len(rows) / problem.retained.n_rows)))
    return difference + problem.gradient, noise


class CuReNU(_CubicUnlearner):
    r"""Cubic-regularised Newton unlearning over all retained rows.

    With :math:`F` the empirical risk over the retained rows and :math:`r` the gradient that training left over all
    rows, it minimises :math:`\Phi(w) = F(w) - r^\top w` by steps that minimise the cubic model

    .. math:: m(s) = g^\top s + \tfrac12 s^\top H s + \tfrac L6 \|s\|^3 .

    The cubic term bounds the step where the Hessian is singular or indefinite, as it is for networks. Because of r,
    forgetting nothing is exactly the identity and no training is resumed. With ``L="auto"`` the steps begin in the
    output layer, where they need features only. Where the net fits its rows all but perfectly and all rows are read, r
    fades with what the deletion outweighs, :math:`r \|r\| / \sqrt{\|r\|^2 + \|\nabla F(w_0) - r\|^2}`.

    Parameters
    ----------
    L : "auto" or float, default="auto"
        Weight of the cubic term, in units of loss per cubed parameter norm. ``"auto"`` adapts it to how well each
        step kept its promise and takes no step that did not. A number is kept fixed and every step is taken, as
        published (Fashion-MNIST 5, CIFAR-10 50, AG-News 80).

    solver : {"auto", "krylov", "dense", "gradient_descent"}, default="auto"
        How the model is minimised: in a Krylov space of Hessian-vector products (memory (n_products + 6)·d); exactly,
        with the full Hessian (memory O(d²), time O(n d² + d³) a step, for a few hundred parameters); or by gradient
        descent from the Cauchy point (memory 4·d). ``"auto"`` is Krylov where its memory is free, else gradient
        descent; the report says which, and what each was forecast to need.

    n_products : "auto" or int, default="auto"
        Hessian-vector products a step: dimension of the Krylov space, or gradient-descent steps. ``"auto"`` is 10, or
        as many as the step needs (up to 200) where training had ended at an optimum.

    max_steps : int, default=50
        Most steps taken, in the output layer (there 12 at most) and in the whole network.

    tol : float, default=1e-2
        With ``L="auto"``, stop when the gradient of Φ is this share of what it was; its square, where training had
        ended at an optimum (a gradient of at most three hundredths of the one that the deletion brings).

    hold_residual : bool, default=True
        Hold the residual r. False descends F itself, as published.

    output_layer_first : bool, default=True
        With ``L="auto"``, solve for the output layer before the whole network. False for features that must not keep
        what they learnt from the erased rows any longer than the rest.

    Notes
    -----
    The algorithm exactly as published is one dense step: ``CuReNU(L=5.0, solver="dense", max_steps=1,
    hold_residual=False)``.

    References
    ----------
    .. [1] Bui, Lu, Sim, Ng and Low, "On Newton's Method to Unlearn Neural Networks", 2024.
    .. [2] "Batch and Sequential Unlearning for Neural Networks", ICLR 2026 submission.
    .. [3] Cartis, Gould and Toint, "Adaptive cubic regularisation methods for unconstrained optimization", Part I,
       Mathematical Programming 127, 2011.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import CuReNU
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=CuReNU(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.n_erased
    5
    """

    _parameter_constraints = {  # noqa: RUF012
        "L": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "solver": [StrOptions({"auto", "krylov", "dense", "gradient_descent"})],
        "n_products": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, 1, closed="left")],
        "hold_residual": ["boolean"],
        "output_layer_first": ["boolean"],
    }

    def __init__(
        self,
        L: float | str = "auto",
        *,
        solver: str = "auto",
        n_products: int | str = "auto",
        max_steps: int = 50,
        tol: float = 1e-2,
        hold_residual: bool = True,
        output_layer_first: bool = True,
    ) -> None:
        self.L = L
        self.solver = solver
        self.n_products = n_products
        self.max_steps = max_steps
        self.tol = tol
        self.hold_residual = hold_residual
        self.output_layer_first = output_layer_first

    #: The paper's solver at the rate and without the noise of training; :class:`StoCuReNU` has both as parameters.
    learning_rate = None
    sigma = 0.0

    def _sampling(self, problem: UnlearningProblem) -> _Sampling:
        return _Sampling(problem.retained.n_rows, problem.retained.n_rows)


class StoCuReNU(_CubicUnlearner):
    r"""Stochastic cubic-regularised Newton unlearning: :class:`CuReNU` on samples of the retained rows.

    Its cost does not grow with the training set. On a sample the steps are those in the output layer alone, if there is
    one: there rows that a step was not computed from decide whether it is taken, and are then added to the sample.

    For steps in the whole network, and with ``variance_reduction``, the gradient on a fresh sample B is corrected by
    its value at the fitted point,
    :math:`\nabla F(w) \approx \nabla F_B(w) - \nabla F_B(w_0) + \nabla F(w_0)`, where the last term comes from the
    erased rows alone; the engine stops when the gradient has fallen to the noise of this estimate.

    Parameters
    ----------
    L : "auto" or float, default="auto"
        Weight of the cubic term; see :class:`CuReNU`.

    n_gradient_rows : "auto" or int, default="auto"
        Retained rows drawn a step for gradient and value. ``"auto"`` takes all rows up to 2,048 (after fewer than 20
        epochs, which a step in the whole network would cost again, up to 1,024), else 1,024 of them.

    n_curvature_rows : "auto" or int, default="auto"
        Retained rows drawn a step for the Hessian; ``"auto"`` uses the gradient's.

    solver : {"auto", "krylov", "gradient_descent"}, default="auto"
        How the model is minimised; see :class:`CuReNU`.

    n_products : "auto" or int, default="auto"
        Hessian-vector products a step: dimension of the Krylov space, or gradient-descent steps (T in the paper);
        ``"auto"`` is 5 where the curvature comes from a sample, else as for :class:`CuReNU`.

    max_steps : int, default=50
        Most steps taken, in the output layer (there 12 at most) and in the whole network.

    tol : float, default=1e-2
        With ``L="auto"``, stop when the gradient is this share of what it was; see :class:`CuReNU`.

    hold_residual : bool, default=True
        Hold the residual of training; see :class:`CuReNU`.

    output_layer_first : bool, default=True
        With ``L="auto"``, solve for the output layer first; see :class:`CuReNU`. False takes steps in the whole network
        on a sample, too.

    variance_reduction : bool, default=True
        Correct each sampled gradient by its value at the fitted point. False uses the plain sample, as published.

    learning_rate : float, default=None
        Rate of the gradient-descent solver; None takes the net's training rate, as published.

    sigma : float, default=0.0
        Size of the perturbation that lets the gradient-descent solver leave a saddle point.

    Notes
    -----
    The algorithm as published for vision is ``StoCuReNU(L=5.0, solver="gradient_descent", n_gradient_rows=128,
    n_curvature_rows=64, n_products=5, max_steps=10, sigma=0.1, hold_residual=False, variance_reduction=False)``.

    References
    ----------
    .. [1] "Batch and Sequential Unlearning for Neural Networks", ICLR 2026 submission (StoCuReNU, later CuReNUS).
    .. [2] Bui, Lu, Sim, Ng and Low, "On Newton's Method to Unlearn Neural Networks", 2024 (SCureNewton).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import StoCuReNU
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=StoCuReNU(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.converged
    True
    """

    _parameter_constraints = {  # noqa: RUF012
        **CuReNU._parameter_constraints,
        "solver": [StrOptions({"auto", "krylov", "gradient_descent"})],
        "n_gradient_rows": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
        "n_curvature_rows": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "variance_reduction": ["boolean"],
        "learning_rate": [None, Interval(Real, 0, None, closed="neither")],
        "sigma": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        L: float | str = "auto",
        *,
        n_gradient_rows: int | str = "auto",
        n_curvature_rows: int | str = "auto",
        solver: str = "auto",
        n_products: int | str = "auto",
        max_steps: int = 50,
        tol: float = 1e-2,
        hold_residual: bool = True,
        output_layer_first: bool = True,
        variance_reduction: bool = True,
        learning_rate: float | None = None,
        sigma: float = 0.0,
    ) -> None:
        self.L = L
        self.n_gradient_rows = n_gradient_rows
        self.n_curvature_rows = n_curvature_rows
        self.solver = solver
        self.n_products = n_products
        self.max_steps = max_steps
        self.tol = tol
        self.hold_residual = hold_residual
        self.output_layer_first = output_layer_first
        self.variance_reduction = variance_reduction
        self.learning_rate = learning_rate
        self.sigma = sigma

    def _sampling(self, problem: UnlearningProblem) -> _Sampling:
        n = problem.retained.n_rows
        few = n <= (_FEW_ROWS if _was_short(problem.net) else 2 * _FEW_ROWS)
        gradient = (n if few else _FEW_ROWS) if self.n_gradient_rows == "auto" else min(n, int(self.n_gradient_rows))
        curvature = gradient if self.n_curvature_rows == "auto" else min(n, int(self.n_curvature_rows))
        return _Sampling(gradient, curvature, self.variance_reduction)
