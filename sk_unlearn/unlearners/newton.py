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

from sk_unlearn.risks.protocol import Linearised
from sk_unlearn.solvers import (
    KrylovCubicModel,
    LinearSolution,
    conjugate_gradient,
    lanczos,
    lissa,
    solve_damped,
    solve_pseudo_inverse,
)
from sk_unlearn.unlearners.base import Unlearner, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.cubic.curenu import _is_blind, _Memory

__all__ = ["DampedNewton", "GaussNewton", "PseudoInverseNewton"]

Product = Callable[[Tensor], Tensor]

# Damping "auto": first share of the largest curvature, that where no rows are left to check the step on, by how much it
# grows when a step does not keep its promise, how often, and the share of the predicted decrease that keeps it.
_SHARE, _BLIND_SHARE, _GROW, _MAX_TRIES, _KEPT = 1e-3, 3e-2, 4.0, 10, 0.5
# By what share the retained risk itself may rise: the linear term of a held residual pays for any rise far enough out.
RISE = 0.02
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
    solver: str
    n_products: int


class _OneStep(Unlearner):
    """Take one step along the solution of a linear system, and say what became of it."""

    damping: float | str
    hold_residual: bool

    def _curvature(self, local: Linearised) -> Product:
        raise NotImplementedError

    def _solve(self, problem: UnlearningProblem, product: Product, gradient: Tensor, damping: float) -> _Solved:
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
        product = self._curvature(local)
        # What is below it cannot be measured as a difference of values.
        resolution = 4 * torch.finfo(gradient.dtype).eps * abs(local.value)
        is_without_rows = problem.retained.stored is None
        trace: list[dict[str, Any]] = []
        troubles: list[str] = []
        dampings, n_products = self._dampings(problem, product, gradient)
        for damping in dampings:
            solved = self._solve(problem, product, gradient, damping)
            step = -solved.found.solution
            end = problem.parameters + step
            predicted = -float(gradient @ step + 0.5 * (step @ product(step)))
            fall = local.value - problem.retained.value(end)
            actual = fall + float(target @ step)
            n_products += solved.n_products + 1
            troubles = _troubles(solved, damping, predicted, actual, resolution)
            # The value of a risk without rows has no zero to take a share of.
            if not troubles and not is_without_rows and not fall >= -RISE * abs(local.value) - resolution:
                troubles = [f"the retained risk rose from {local.value:.3g} by {-fall:.3g}; a larger damping spares it"]
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
        perturbed = w is not end
        after = problem.retained.gradient(w)
        left = float((after - target).norm()) / norm
        diagnostics |= {
            "gradient_norm_after": left * norm,
            "curvature_min": solved.found.curvature_min,
            "curvature_max": solved.found.curvature_max,
            "predicted_decrease": predicted,
            "actual_decrease": actual,
            "n_products": n_products,
            "solver": solved.solver,
        }
        reason = "; ".join(troubles) or f"took one step, after which the gradient has {left:.2g} of its first norm"
        # Later requests must not take noise that was added for something to undo.
        holds_residual = self.hold_residual and not perturbed
        return UnlearningResult(
            w, trace, not troubles, reason, diagnostics, gradient=after, holds_residual=holds_residual
        )

    def _dampings(self, problem: UnlearningProblem, product: Product, gradient: Tensor) -> tuple[list[float], int]:
        """Return the dampings to try, in order, and the products it took to find them."""
        if self.damping != "auto":
            return [float(self.damping)], 0
        largest, n_products = largest_curvature(product, gradient)
        first = (_BLIND_SHARE if _is_blind(problem) else _SHARE) * largest or 1.0
        return [first * _GROW**k for k in range(_MAX_TRIES)], n_products


def _troubles(solved: _Solved, damping: float, predicted: float, actual: float, resolution: float) -> list[str]:
    """Say in words what is wrong with a step; nothing for a good one."""
    found = solved.found
    troubles = []
    if found.indefinite:
        troubles.append(
            f"curvature {found.curvature_min:.3g} was met, which damping={damping:.3g} does not outweigh: the step "
            "is not towards a minimum"
        )
    elif not found.converged:
        troubles.append(f"{solved.n_products} products left {found.residual:.1%} of the linear system unsolved")
    # Not `<`: what is not a number has gone wrong too.
    if not actual >= _KEPT * predicted - resolution:
        troubles.append(
            f"the objective changed by {-actual:.3g} where {-predicted:.3g} was predicted: the step left the region "
            "in which the model holds; a larger damping shortens it"
        )
    return troubles


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


def largest_curvature(product: Product, gradient: Tensor) -> tuple[float, int]:
    """Estimate the largest curvature in the Krylov space of a gradient; and the products it took."""
    space = lanczos(product, gradient, min(_PROBES, len(gradient)))
    values, _ = KrylovCubicModel(space).spectrum
    return float(values.abs().max()), space.n_products


class _Damped(_OneStep):
    """A damped step by the solver asked for."""

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

    def _solve(self, problem: UnlearningProblem, product: Product, gradient: Tensor, damping: float) -> _Solved:
        solver = self.solver
        if solver == "auto":
            solver = "dense" if len(gradient) <= _DENSE_UP_TO else "cg"
        if solver == "dense":
            H = dense_matrix(product, gradient, "solver='cg'")
            return _Solved(solve_damped(H, gradient, damping), solver, len(gradient))
        if solver == "cg":
            found = conjugate_gradient(product, gradient, damping=damping, tol=self.tol, max_products=self.max_products)
            return _Solved(found, solver, found.n_products)
        largest, n_probes = largest_curvature(product, gradient)
        margin = _SCALE_MARGIN if self.batch_size is None else _SAMPLE_MARGIN
        found = lissa(
            self._products(problem, product), gradient, damping=damping, scale=margin * largest + damping,
            depth=self.max_products, n_runs=self.n_runs,
        )  # fmt: skip
        return _Solved(found, solver, found.n_products + n_probes)

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
        :math:`\gamma`, in units of loss per squared parameter. ``"auto"`` starts from 0.1 % of the largest curvature
        (3 % where no rows are kept to check the step on) and multiplies by four until the system is positive definite,
        the step lowers the objective by at least half of what was predicted, and the risk over the retained rows does
        not rise by more than 2 %. A number is taken as it is.

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
        :math:`\gamma`, in units of loss per squared parameter; ``"auto"`` as for :class:`DampedNewton`.

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
        Eigenvalues of magnitude up to this share of the largest count as zero. None takes the number of parameters
        times the machine epsilon.

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
    damping = 0.0
    _parameter_constraints = {  # noqa: RUF012
        "rcond": [None, Interval(Real, 0, 1, closed="left")],
        "hold_residual": ["boolean"],
    }

    def __init__(self, rcond: float | None = None, *, hold_residual: bool = True) -> None:
        self.rcond = rcond
        self.hold_residual = hold_residual

    def _curvature(self, local: Linearised) -> Product:
        return local.hessian

    def _solve(self, problem: UnlearningProblem, product: Product, gradient: Tensor, damping: float) -> _Solved:
        H = dense_matrix(product, gradient, "DampedNewton(solver='cg'), or CuReNU, which needs no matrix")
        return _Solved(solve_pseudo_inverse(H, gradient, self.rcond), "dense", len(gradient))
