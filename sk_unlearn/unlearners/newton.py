"""One Newton step: damped, by the pseudo-inverse, and with the Gauss-Newton matrix."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from sk_unlearn.solvers import (
    KrylovCubicModel,
    LinearSolution,
    conjugate_gradient,
    lanczos,
    lissa,
    solve_damped,
    solve_pseudo_inverse,
)
from sk_unlearn.unlearners.base import Linearised, Unlearner, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.cubic import _Memory

__all__ = ["DampedNewton", "GaussNewton", "PseudoInverseNewton"]

Product = Callable[[Tensor], Tensor]

# Damping "auto", as a share of the largest curvature.
_SHARE = 3e-2
# Products spent on finding out about the curvature where there is no matrix to decompose.
_PROBES = 10
# Up to so many parameters a matrix is cheaper than some hundred products.
_DENSE_UP_TO = 256
# What the Lanczos estimate of the largest curvature may fall short of it, and a sample's exceed that of all rows.
_SCALE_MARGIN, _SAMPLE_MARGIN = 1.1, 2.0


@dataclass(frozen=True)
class _Solved:
    """The solution of one damped system, and how it was found."""

    found: LinearSolution
    damping: float
    solver: str
    n_products: int

    @property
    def trouble(self) -> str:
        """What is wrong with it, in words; empty for nothing."""
        if self.found.indefinite:
            return (
                f"curvature {self.found.curvature_min:.3g} was met, which damping={self.damping:.3g} does not "
                "outweigh: the step is towards a saddle point, not a minimum"
            )
        if not self.found.converged:
            return f"{self.n_products} products left {self.found.residual:.1%} of the linear system unsolved"
        return ""


class _OneStep(Unlearner):
    """Take one step along the solution of a linear system, and say what became of it."""

    hold_residual: bool

    def _curvature(self, local: Linearised) -> Product:
        raise NotImplementedError

    def _solve(self, problem: UnlearningProblem, local: Linearised, gradient: Tensor) -> _Solved:
        raise NotImplementedError

    def _perturb(self, problem: UnlearningProblem, w: Tensor) -> Tensor:
        """Return the parameters to hand back, given those that were arrived at."""
        return w

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        started = time.perf_counter()
        target = problem.residual if self.hold_residual else torch.zeros_like(problem.residual)
        gradient = problem.gradient - target
        norm = float(gradient.norm())
        diagnostics: dict[str, Any] = {
            "residual_norm": float(problem.residual.norm()),
            "gradient_norm_before": norm,
            "gradient_norm_after": norm,
        }
        if is_nothing(problem, gradient):
            return UnlearningResult(
                problem.parameters.clone(), [], True, "nothing to undo: the gradient is zero", diagnostics,
                gradient=problem.gradient, holds_residual=self.hold_residual,
            )  # fmt: skip
        local = problem.retained.linearise(problem.parameters)
        solved = self._solve(problem, local, gradient)
        step = -solved.found.solution
        end = problem.parameters + step
        n_products = solved.n_products + 1
        predicted = -float(gradient @ step + 0.5 * (step @ self._curvature(local)(step)))
        actual = local.value - problem.retained.value(end) + float(target @ step)
        after = problem.retained.gradient(end)
        norm_after = float((after - target).norm())
        w = self._perturb(problem, end)
        perturbed = w is not end
        record = {
            "step": 1,
            "objective_change": -actual,
            "gradient_norm": norm,
            "damping": solved.damping,
            "step_norm": float(step.norm()),
            "n_products": n_products,
            "linear_residual": solved.found.residual,
            "seconds": time.perf_counter() - started,
        }
        problem.report_step(record)
        troubles = [solved.trouble] if solved.trouble else []
        # Not `>`: what is not a number has gone wrong too. The resolution is that of a value in float32.
        resolution = 1e-6 * abs(local.value)
        if not norm_after <= norm or not actual >= -resolution:
            troubles.append(
                f"the gradient went from {norm:.3g} to {norm_after:.3g} and the objective changed by {-actual:.3g} "
                f"where {-predicted:.3g} was predicted: the step left the region in which the model holds"
            )
        diagnostics |= {
            "gradient_norm_after": norm_after,
            "curvature_min": solved.found.curvature_min,
            "curvature_max": solved.found.curvature_max,
            "predicted_decrease": predicted,
            "actual_decrease": actual,
            "n_products": n_products,
            "solver": solved.solver,
        }
        return UnlearningResult(
            w, [record], not troubles, "; ".join(troubles) or "took one step", diagnostics,
            # Later requests must not take noise that was added for something to undo.
            gradient=problem.retained.gradient(w) if perturbed else after,
            holds_residual=self.hold_residual and not perturbed,
        )  # fmt: skip


def is_nothing(problem: UnlearningProblem, gradient: Tensor) -> bool:
    """Tell whether a gradient is no more than what rounding leaves of a difference of gradients."""
    return float(gradient.norm()) <= torch.finfo(gradient.dtype).eps * float(problem.residual.norm())


def dense_matrix(product: Product, like: Tensor, cure: str) -> Tensor:
    """Return the matrix of a product, symmetrised, in float64; a MemoryError that names the cure if it does not fit."""
    d = len(like)
    memory = _Memory.forecast(like, 0)
    if memory.available is not None and memory.dense > memory.available:
        raise MemoryError(
            f"The matrix of {d} parameters needs about {memory.dense / 2**30:.1f} GiB and "
            f"{memory.available / 2**30:.1f} GiB are free; use {cure}."
        )
    H = torch.empty((d, d), dtype=torch.float64, device=like.device)
    unit = torch.zeros_like(like)
    for i in range(d):
        unit[i] = 1
        H[i] = product(unit)
        unit[i] = 0
    return (H + H.T) / 2


def extreme_curvatures(product: Product, gradient: Tensor) -> tuple[float, float, int]:
    """Estimate the least and the largest curvature in the Krylov space of a gradient; and the products it took."""
    space = lanczos(product, gradient, min(_PROBES, len(gradient)))
    values, _ = KrylovCubicModel(space).spectrum
    return float(values[0]), float(values[-1]), space.n_products


def automatic_damping(lowest: float, largest: float) -> float:
    """Return a share of the largest curvature, above what it takes to outweigh the most negative one."""
    return _SHARE * max(abs(lowest), abs(largest)) + max(0.0, -lowest) or 1.0


class _Damped(_OneStep):
    """A damped step by the solver asked for."""

    damping: float | str
    solver: str
    tol: float
    max_products: int
    n_runs = 1
    batch_size: int | None = None

    @property
    def exact_on_quadratics(self) -> bool:  # type: ignore[override]
        """Whether it claims the optimum of a quadratic: only without damping, and by more than a truncated series."""
        return self.damping == 0 and self.solver != "lissa"

    def _kind(self) -> str:
        raise NotImplementedError

    def _curvature(self, local: Linearised) -> Product:
        product: Product = getattr(local, self._kind())
        return product

    def _solve(self, problem: UnlearningProblem, local: Linearised, gradient: Tensor) -> _Solved:
        product = self._curvature(local)
        solver = self.solver
        if solver == "auto":
            solver = "dense" if len(gradient) <= _DENSE_UP_TO else "cg"
        if solver == "dense":
            H = dense_matrix(product, gradient, "solver='cg'")
            damping = self.damping
            if damping == "auto":
                values = torch.linalg.eigvalsh(H)
                damping = automatic_damping(float(values[0]), float(values[-1]))
            return _Solved(solve_damped(H, gradient, float(damping)), float(damping), solver, len(gradient))
        n_probes, damping, largest = 0, self.damping, 0.0
        if damping == "auto" or solver == "lissa":
            lowest, largest, n_probes = extreme_curvatures(product, gradient)
            damping = automatic_damping(lowest, largest) if damping == "auto" else damping
        damping = float(damping)
        if solver == "lissa":
            margin = _SCALE_MARGIN if self.batch_size is None else _SAMPLE_MARGIN
            found = lissa(
                self._products(problem, product), gradient, damping=damping, scale=margin * max(largest, 0.0) + damping,
                depth=self.max_products, n_runs=self.n_runs,
            )  # fmt: skip
        else:
            found = conjugate_gradient(
                product, gradient, damping=damping, tol=self.tol, max_products=self.max_products
            )
        return _Solved(found, damping, solver, found.n_products + n_probes)

    def _products(self, problem: UnlearningProblem, product: Product) -> Iterator[Product]:
        if self.batch_size is None:
            return itertools.repeat(product)

        def fresh(v: Tensor) -> Tensor:
            rows = problem.retained.sample(int(self.batch_size or 1), problem.rng)
            return self._curvature(problem.retained.linearise(problem.parameters, rows))(v)

        return itertools.repeat(fresh)


_DAMPED_CONSTRAINTS = {
    "damping": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
    "solver": [StrOptions({"auto", "dense", "cg"})],
    "tol": [Interval(Real, 0, 1, closed="neither")],
    "max_products": [Interval(Integral, 1, None, closed="left")],
    "hold_residual": ["boolean"],
}


class DampedNewton(_Damped):
    r"""One damped Newton step over the retained rows, :math:`w_0 - (H + \gamma I)^{-1} g`.

    :math:`g` and :math:`H` are gradient and Hessian of the objective over the retained rows at the fitted parameters.
    The step is exact for a quadratic objective, with :math:`\gamma = 0`, and close where the objective is convex. For
    networks it is a baseline: the Hessian is indefinite, no single :math:`\gamma` is right for all requests, and the
    published settings wreck the model [1]_. When a step does, or meets curvature that the damping does not
    outweigh, the report says so and its ``converged`` is False.

    Parameters
    ----------
    damping : "auto" or float, default="auto"
        :math:`\gamma`, in units of loss per squared parameter. ``"auto"`` takes 3 % of the largest curvature, plus the
        magnitude of the most negative one where there is any, so that it does not depend on the unit of the loss.

    solver : {"auto", "dense", "cg", "lissa"}, default="auto"
        ``"dense"``: the full matrix and its eigenvalues, time O(n d² + d³), memory O(d²). ``"cg"``: conjugate
        gradients, which end at a direction of negative curvature. ``"lissa"``: the Neumann series of LiSSA [2]_.
        ``"auto"`` is dense up to 256 parameters, else conjugate gradients.

    tol : float, default=1e-3
        Conjugate gradients end when this share of the linear system is left.

    max_products : int, default=100
        Most Hessian-vector products of conjugate gradients; steps of each LiSSA run.

    n_runs : int, default=1
        LiSSA runs to average over.

    batch_size : int, default=None
        Retained rows drawn for each LiSSA step; None for all.

    hold_residual : bool, default=True
        Take for g the gradient that the deletion caused, :math:`\nabla F_R(w_0) - r`, with r the gradient that training
        had left, so that forgetting nothing changes nothing. False takes :math:`\nabla F_R(w_0)` as published, which
        also finishes the training: on a fit that has converged the two are the same, on others the rest of training,
        divided by small curvatures, is the larger part of the step.

    References
    ----------
    .. [1] Bui, Lu, Sim, Ng and Low, "On Newton's Method to Unlearn Neural Networks", 2024.
    .. [2] Agarwal, Bullins and Hazan, "Second-Order Stochastic Optimization for Machine Learning in Linear Time",
       Journal of Machine Learning Research 18, 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import DampedNewton
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=DampedNewton(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.solver
    'cg'
    """

    _parameter_constraints = {  # noqa: RUF012
        **_DAMPED_CONSTRAINTS,
        "solver": [StrOptions({"auto", "dense", "cg", "lissa"})],
        "n_runs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [None, Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        damping: float | str = "auto",
        *,
        solver: str = "auto",
        tol: float = 1e-3,
        max_products: int = 100,
        n_runs: int = 1,
        batch_size: int | None = None,
        hold_residual: bool = True,
    ) -> None:
        self.damping = damping
        self.solver = solver
        self.tol = tol
        self.max_products = max_products
        self.n_runs = n_runs
        self.batch_size = batch_size
        self.hold_residual = hold_residual

    def _kind(self) -> str:
        return "hessian"


class GaussNewton(_Damped):
    r"""One damped step with the Gauss-Newton matrix, :math:`w_0 - (J^\top H_\ell J + \gamma I)^{-1} g`.

    J is the Jacobian of the outputs in the parameters and :math:`H_\ell` the Hessian of the loss in the outputs, as a
    mean over the retained rows [1]_. For a loss that is convex in the outputs the matrix has no negative curvature, so
    that every damping gives a direction of descent; it is the Hessian where the outputs are linear in the parameters.

    Parameters
    ----------
    damping : "auto" or float, default="auto"
        :math:`\gamma`, in units of loss per squared parameter. ``"auto"`` takes 3 % of the largest curvature.

    solver : {"auto", "dense", "cg"}, default="auto"
        The full matrix and its eigenvalues, or conjugate gradients; ``"auto"`` is dense up to 256 parameters.

    tol : float, default=1e-3
        Conjugate gradients end when this share of the linear system is left.

    max_products : int, default=100
        Most products of conjugate gradients.

    hold_residual : bool, default=True
        Take for g the gradient that the deletion caused, not that which training had left; see :class:`DampedNewton`.

    References
    ----------
    .. [1] Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent", Neural Computation
       14, 2002.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import GaussNewton
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=GaussNewton(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.converged
    True
    """

    _parameter_constraints = _DAMPED_CONSTRAINTS

    def __init__(
        self,
        damping: float | str = "auto",
        *,
        solver: str = "auto",
        tol: float = 1e-3,
        max_products: int = 100,
        hold_residual: bool = True,
    ) -> None:
        self.damping = damping
        self.solver = solver
        self.tol = tol
        self.max_products = max_products
        self.hold_residual = hold_residual

    def _kind(self) -> str:
        return "ggn"


class PseudoInverseNewton(_OneStep):
    r"""One Newton step by the pseudo-inverse, :math:`w_0 - H^+ g`: exact for a quadratic, ruinous for a network.

    It divides by every eigenvalue of the Hessian that is not zero. A network has many just above zero, about which the
    data say next to nothing, so that the step is enormous: published for Fashion-MNIST, a norm of 3,709 where the cubic
    step has 0.36 [1]_. It is here to be compared with. The report says when the step made things worse.

    Parameters
    ----------
    rcond : float, default=None
        Eigenvalues of magnitude up to this share of the largest count as zero. None takes the number of parameters times
        the machine epsilon.

    hold_residual : bool, default=True
        Take for g the gradient that the deletion caused, not that which training had left; see :class:`DampedNewton`.

    Notes
    -----
    The full Hessian is formed and decomposed: memory O(d²), time O(n d² + d³). A MemoryError is raised where that does
    not fit.

    References
    ----------
    .. [1] Bui, Lu, Sim, Ng and Low, "On Newton's Method to Unlearn Neural Networks", 2024.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> import torch
    >>> from skorch import NeuralNetClassifier
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import PseudoInverseNewton
    >>> X, y = make_classification(200, 5, random_state=0)
    >>> linear = NeuralNetClassifier(
    ...     torch.nn.Linear(5, 2).double(), criterion=torch.nn.CrossEntropyLoss, train_split=None, verbose=0
    ... )
    >>> est = UnlearnableClassifier(linear, PseudoInverseNewton(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.converged
    True
    """

    exact_on_quadratics = True
    _parameter_constraints = {  # noqa: RUF012
        "rcond": [None, Interval(Real, 0, 1, closed="left")],
        "hold_residual": ["boolean"],
    }

    def __init__(self, rcond: float | None = None, *, hold_residual: bool = True) -> None:
        self.rcond = rcond
        self.hold_residual = hold_residual

    def _curvature(self, local: Linearised) -> Product:
        return local.hessian

    def _solve(self, problem: UnlearningProblem, local: Linearised, gradient: Tensor) -> _Solved:
        H = dense_matrix(local.hessian, gradient, "DampedNewton(solver='cg'), or CuReNU, which needs no matrix")
        return _Solved(solve_pseudo_inverse(H, gradient, self.rcond), 0.0, "dense", len(gradient))
