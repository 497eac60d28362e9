"""Natural-gradient unlearning (Lev and Wilson 2024): one step, and a game between erased and retained rows."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from sk_unlearn.risks.block_fisher import BlockFisher
from sk_unlearn.risks.protocol import Linearised
from sk_unlearn.solvers import LinearSolution, conjugate_gradient, solve_damped
from sk_unlearn.unlearners._ending import nothing_to_undo
from sk_unlearn.unlearners._one_step import (
    DENSE_UP_TO,
    RISE,
    OneStep,
    Product,
    Solved,
    dense_matrix,
    largest_curvature,
)
from sk_unlearn.unlearners.base import Unlearner, UnlearnerTags, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._random import torch_generator

__all__ = ["MinMaxNaturalGradient", "NaturalGradient", "natural_gradient_sigma"]

# Rows that Kronecker factors and diagonals are taken over: they are rough whatever the number.
_FISHER_ROWS = 4096
_CG_TOL = 1e-3
# Of the min-max game: damping as a share of the largest curvature, halvings of a step, and what a descent must keep.
_SHARE, _HALVINGS, _ARMIJO = 1e-3, 30, 0.1
# How close to the target the erased loss must come.
_NEAR = 0.95


def natural_gradient_sigma(
    *,
    hessian_lipschitz: float,
    loss_lipschitz: float,
    smoothness: float,
    feature_bound: float,
    strong_convexity: float,
    n_rows: int,
    n_erased: int,
    epsilon: float,
    delta: float,
) -> float:
    r"""Return the noise that the convex bound of natural-gradient unlearning asks for.

    .. math:: \sigma = \frac{\gamma}{\epsilon} \sqrt{2 \ln(1.25/\delta)}, \qquad
              \gamma = \frac{M n_e^2 C^2}{\mu^3 n^2} + \frac{2 n_e^2 C Q K}{\mu^2 n^2} .

    The bound is known here at second hand; the constants are the caller's to prove, for a strongly convex loss and a
    fit trained to its optimum. It says nothing about networks.

    Parameters
    ----------
    hessian_lipschitz : float
        M, the Lipschitz constant of a row's Hessian.
    loss_lipschitz : float
        C, the Lipschitz constant of a row's loss.
    smoothness : float
        Q.
    feature_bound : float
        K, the largest norm of a row's features.
    strong_convexity : float
        :math:`\mu > 0`, the least eigenvalue that any Hessian of the risk can have.
    n_rows : int
        n, rows of the fit, the erased ones among them.
    n_erased : int
        :math:`n_e`, between 1 and n - 1.
    epsilon : float
        In (0, 1], the range in which the Gaussian mechanism of this form is private.
    delta : float
        In (0, 1).

    Returns
    -------
    sigma : float
        Standard deviation of the noise on each parameter.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    .. [1] Lev and Wilson, "Faster Machine Unlearning via Natural Gradient Descent", 2024.

    Examples
    --------
    >>> from sk_unlearn.unlearners import natural_gradient_sigma
    >>> sigma = natural_gradient_sigma(
    ...     hessian_lipschitz=0.1, loss_lipschitz=1.0, smoothness=0.25, feature_bound=1.0, strong_convexity=0.1,
    ...     n_rows=10_000, n_erased=10, epsilon=1.0, delta=1e-5,
    ... )  # fmt: skip
    >>> round(sigma, 5)
    0.00073
    """
    for name, value in {
        "hessian_lipschitz": hessian_lipschitz,
        "loss_lipschitz": loss_lipschitz,
        "smoothness": smoothness,
        "feature_bound": feature_bound,
    }.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}.")
    if not strong_convexity > 0:
        raise ValueError(f"strong_convexity must be positive, got {strong_convexity!r}: the bound needs it.")
    if not 1 <= n_erased < n_rows:
        raise ValueError(f"n_erased must be between 1 and n_rows - 1 = {n_rows - 1}, got {n_erased!r}.")
    if not 0 < epsilon <= 1:
        raise ValueError(
            f"epsilon must lie in (0, 1], where this form of the Gaussian mechanism holds; got {epsilon!r}."
        )
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie in (0, 1), got {delta!r}.")
    share = (n_erased / n_rows) ** 2
    gamma = share * hessian_lipschitz * loss_lipschitz**2 / strong_convexity**3
    gamma += 2 * share * loss_lipschitz * smoothness * feature_bound / strong_convexity**2
    return gamma / epsilon * math.sqrt(2 * math.log(1.25 / delta))


class NaturalGradient(OneStep):
    r"""One natural-gradient step away from the erased rows.

    .. math:: w^- = w_0 + \frac{1}{n - n_e} (\mathcal F_R + \lambda I)^{-1} \sum_{i \in E} \nabla \ell_i(w_0)
              + N(0, \sigma^2 I)

    with the Fisher matrix :math:`\mathcal F_R` of the retained rows under the label distribution that the model itself
    predicts [1]_. It is the Hessian for softmax and for linear regression, so that the step is Newton's there. For a
    network it is positive semidefinite where the Hessian is not. The claims of the paper about convergence and privacy
    are for the convex case, and known here at second hand.

    Parameters
    ----------
    damping : "auto" or float, default="auto"
        :math:`\lambda`, in units of loss per squared parameter, beyond the weight decay, which the Fisher matrix
        contains; ``"auto"`` as for :class:`DampedNewton`.

    fisher : {"auto", "matrix_free", "dense", "kronecker", "diagonal"}, default="auto"
        Conjugate gradients on products with the Fisher matrix; the full matrix (memory O(d²), time O(n d² + d³)); its
        blocks by layer as Kronecker products, for ``nn.Linear`` and ``nn.Conv2d``, with the diagonal for other layers;
        or its diagonal. The last two read at most 4,096 retained rows, and the length of their step is the best one by
        the true Fisher matrix [3]_; one step of theirs undoes little. ``"auto"`` is dense up to 256 parameters, else
        matrix-free.

    max_products : int, default=100
        Most products of conjugate gradients.

    sigma : float, default=0.0
        Standard deviation of Gaussian noise on each parameter; see :func:`natural_gradient_sigma`.

    hold_residual : bool, default=True
        Count the gradient of an erased row from what training left as the mean over all rows: the same on a fit that
        has converged, and no more training on one that has not. False takes a full step on the retained risk.

    Notes
    -----
    What the model's label distribution is follows from the criterion: ``CrossEntropyLoss``, ``NLLLoss``,
    ``BCEWithLogitsLoss``, or ``MSELoss`` (Gaussian). For any other the Gauss-Newton matrix takes the place of the
    Fisher matrix; the two are the same where the loss is the negative log-likelihood of an exponential family and the
    outputs are its natural parameters [2]_.

    References
    ----------
    .. [1] Lev and Wilson, "Faster Machine Unlearning via Natural Gradient Descent", 2024.
    .. [2] Martens, "New insights and perspectives on the natural gradient method", 2020.
    .. [3] Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", 2015; the
       length of the step is that of section 6.4.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import NaturalGradient
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=NaturalGradient(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.solver
    'matrix_free'
    """

    _parameter_constraints = {  # noqa: RUF012
        "damping": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "fisher": [StrOptions({"auto", "matrix_free", "dense", "kronecker", "diagonal"})],
        "max_products": [Interval(Integral, 1, None, closed="left")],
        "sigma": [Interval(Real, 0, None, closed="left")],
        "hold_residual": ["boolean"],
    }

    def __init__(
        self,
        damping: float | str = "auto",
        *,
        fisher: str = "auto",
        max_products: int = 100,
        sigma: float = 0.0,
        hold_residual: bool = True,
    ) -> None:
        self.damping = damping
        self.fisher = fisher
        self.max_products = max_products
        self.sigma = sigma
        self.hold_residual = hold_residual

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        # Blocks by layer and the diagonal are taken from rows; they cannot be had from a sketch of the curvature.
        tags.needs_rows = self.fisher in ("kronecker", "diagonal")
        # With the whole matrix, and without damping and noise.
        tags.exact_on_quadratics = self.damping == 0 and self.sigma == 0 and not tags.needs_rows
        return tags

    def _curvature(self, local: Linearised) -> Product:
        return fisher_product(local)

    def _solve(self, problem: UnlearningProblem, product: Product, gradient: Tensor, damping: float) -> Solved:
        kind = self.fisher
        if kind == "auto":
            kind = "dense" if len(gradient) <= DENSE_UP_TO else "matrix_free"
        if kind == "dense":
            F = dense_matrix(product, gradient, "fisher='matrix_free'")
            return Solved(solve_damped(F, gradient, damping), kind, len(gradient))
        if kind == "matrix_free":
            found = conjugate_gradient(product, gradient, damping=damping, tol=_CG_TOL, max_products=self.max_products)
            return Solved(found, kind, found.n_products)
        direction = self._blocks(problem, kind).solve(gradient, damping)
        image = product(direction) + damping * direction
        length = float(gradient @ direction) / float(direction @ image)
        solution = length * direction
        residual = float((gradient - length * image).norm() / gradient.norm())
        curvature = float(direction @ image) / float(direction @ direction) - damping
        # An approximation by intent: what it leaves is told in the trace and is no failure.
        found = LinearSolution(solution, residual, 1, curvature, curvature, indefinite=False, converged=True)
        return Solved(found, kind, 1)

    def _blocks(self, problem: UnlearningProblem, kind: str) -> BlockFisher:
        risk = problem.retained.stored
        if risk is None:
            raise ValueError(f"fisher={kind!r} reads retained rows, which are not kept; use fisher='matrix_free'.")
        return BlockFisher(
            risk, problem.parameters, risk.sample(_FISHER_ROWS, problem.rng), kronecker=kind == "kronecker"
        )

    def _perturb(self, problem: UnlearningProblem, w: Tensor) -> Tensor:
        if self.sigma == 0:
            return w
        generator = torch_generator(problem.rng, w.device)
        return w + self.sigma * torch.randn(len(w), generator=generator, dtype=w.dtype, device=w.device)


class MinMaxNaturalGradient(Unlearner):
    r"""Natural-gradient ascent on the erased risk against descent on the retained risk, for networks.

    A round is one step up, while the erased loss is below its target, and one step down:

    .. math:: w \leftarrow w + \eta_1 (\mathcal F_R + \lambda I)^{-1} \nabla F_E(w), \qquad
              w \leftarrow w - \eta_2 (\mathcal F_R + \lambda I)^{-1} (\nabla F_R(w) - r) .

    :math:`\eta_1` would reach the target if the loss were linear, and is halved until the target is not passed;
    :math:`\eta_2` is halved from 1 until the retained objective falls; r is the gradient that training had left. Rounds
    that end with a retained risk of more than 2 % above the first are taken back.

    The schedule of the paper [1]_ could not be had. Ours stops when, after a descent, the mean loss of the erased
    rows is what it would be for rows never seen, so that they do not become conspicuous. No rows never seen are at hand
    during a request: all retained rows were trained on, a held-back share of them too. What the loss would be is
    therefore *estimated*: as the loss of the erased rows after one step of :class:`NaturalGradient`, the infinitesimal
    jackknife's answer to leaving them out. That is good for a few rows of many and rough for a whole class. Where rows
    were held out of training, their mean loss is the better target for a random request.

    Parameters
    ----------
    target_loss : float, default=None
        Mean loss of the erased rows at which the ascent stops, without penalty. None estimates it as said above.

    max_rounds : int, default=10
        Most rounds.

    max_products : int, default=50
        Most products with the Fisher matrix a step.

    References
    ----------
    .. [1] Lev and Wilson, "Faster Machine Unlearning via Natural Gradient Descent", 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import MinMaxNaturalGradient
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=MinMaxNaturalGradient(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.n_erased
    5
    """

    _parameter_constraints = {  # noqa: RUF012
        "target_loss": [None, Interval(Real, 0, None, closed="left")],
        "max_rounds": [Interval(Integral, 1, None, closed="left")],
        "max_products": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, target_loss: float | None = None, *, max_rounds: int = 10, max_products: int = 50) -> None:
        self.target_loss = target_loss
        self.max_rounds = max_rounds
        self.max_products = max_products

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = True
        return tags

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        if problem.objective.is_stationary_at_start:
            return nothing_to_undo(problem, target=problem.residual)
        game = _Game(problem, self._target(problem), self.max_products)
        status, reason = Status.BUDGET_SPENT, f"played max_rounds={self.max_rounds} rounds"
        safe = game.w, game.erased_loss
        for _ in range(self.max_rounds):
            before = game.w
            game.ascend()
            game.descend()
            game.note_round()
            if game.harmless:
                safe = game.w, game.erased_loss
            if game.reached and game.harmless:
                status, reason = Status.COMPLETED, "the erased rows are as unfamiliar as rows never seen"
                break
            if game.w is before:
                status, reason = Status.STALLED, "neither player finds a step"
                break
        if not game.harmless:
            game.w, game.erased_loss = safe
            status = Status.OVERSHOOT_UNDONE
            reason += "; rounds that cost the retained rows too much were taken back"
        reason += f"; mean loss of the erased rows {game.erased_loss:.3g}, target {game.target:.3g}"
        return UnlearningResult(
            game.w,
            status,
            reason,
            trace=game.trace,
            gradient=problem.retained.gradient(game.w),
            target=problem.residual,
            n_products=game.n_products,
            solver="matrix_free",
        )

    def _target(self, problem: UnlearningProblem) -> float:
        if self.target_loss is not None:
            return float(self.target_loss)
        silent = replace(problem, report_step=lambda record: None)
        left_out = NaturalGradient(max_products=2 * self.max_products).unlearn(silent)
        return _mean_loss(problem, left_out.parameters)


class _Game:
    """Where the two players stand."""

    def __init__(self, problem: UnlearningProblem, target: float, max_products: int) -> None:
        self.problem, self.target, self.max_products = problem, target, max_products
        self.objective = problem.objective
        self.w = problem.parameters.clone()
        self.erased_loss = _mean_loss(problem, self.w)
        self.risk = problem.retained.value(self.w)
        self.ceiling = self.risk + RISE * abs(self.risk)
        self.n_products = 0
        self.descent_norm = math.inf
        self.trace: list[dict[str, Any]] = []
        self.started = time.perf_counter()

    def ascend(self) -> None:
        """Take one step up, unless the target has been reached."""
        if self.reached:
            return
        slope = self.problem.erased.gradient(self.w)
        local = self.objective.linearise(self.w)
        direction = self._solve(slope, local.of_risk)
        rise = float(slope @ direction)
        tilt = float(local.gradient @ direction)
        bend = float(direction @ fisher_product(local.of_risk)(direction))
        # The loss of rows that are known well rises much faster than its first slope says; and no step is taken that
        # costs the retained rows more than twice what the model of their risk says, or they could not be won back.
        for k in range(_HALVINGS if rise > 0 else 0):
            length = (self.target - self.erased_loss) / (rise * 2**k)
            candidate = self.w + length * direction
            loss, value = _mean_loss(self.problem, candidate), self._objective(candidate)
            cost = abs(length * tilt) + 0.5 * length**2 * bend
            if loss <= self.target / _NEAR and value <= self._objective(self.w) + 2 * cost:
                self.w, self.erased_loss = candidate, loss
                return

    def descend(self) -> None:
        """Take one step down on the retained objective, the longest tried that keeps a tenth of its promise."""
        local = self.objective.linearise(self.w)
        gradient = local.gradient
        self.descent_norm = float(gradient.norm())
        direction = -self._solve(gradient, local.of_risk)
        before = self._objective(self.w)
        for k in range(_HALVINGS):
            step = direction / 2**k
            value = self._objective(self.w + step)
            risk = self.problem.retained.value(self.w + step)
            if before - value > -_ARMIJO * float(gradient @ step) > 0 and risk <= max(
                local.of_risk.value, self.ceiling
            ):
                self.w, self.risk = self.w + step, risk
                self.erased_loss = _mean_loss(self.problem, self.w)
                return

    @property
    def reached(self) -> bool:
        """Whether the erased rows are unfamiliar enough."""
        return self.erased_loss >= _NEAR * self.target

    @property
    def harmless(self) -> bool:
        """Whether the retained risk is where it was."""
        return self.risk <= self.ceiling

    def _objective(self, w: Tensor) -> float:
        # But for a constant, the value of the objective. Its linear term is small near the start, and so is rounding.
        return self.problem.retained.value(w) - float(self.objective.tilt @ (w - self.problem.parameters))

    def note_round(self) -> None:
        record = {
            "step": len(self.trace) + 1,
            "gradient_norm": self.descent_norm,
            "erased_loss": self.erased_loss,
            "step_norm": float((self.w - self.problem.parameters).norm()),
            "n_products": self.n_products,
            "seconds": time.perf_counter() - self.started,
        }
        self.trace.append(record)
        self.problem.report_step(record)

    def _solve(self, b: Tensor, local: Linearised) -> Tensor:
        if not float(b.norm()) > 0:
            return torch.zeros_like(b)
        product = fisher_product(local)
        if self.n_products == 0:
            largest, self.n_products = largest_curvature(product, b)
            self.damping = _SHARE * largest or 1.0
        found = conjugate_gradient(product, b, damping=self.damping, tol=_CG_TOL, max_products=self.max_products)
        self.n_products += found.n_products
        return found.solution


def fisher_product(local: Linearised) -> Product:
    """Return the product with the Fisher matrix, or with Gauss-Newton's where the model's distribution is not known."""
    known = True

    def product(v: Tensor) -> Tensor:
        nonlocal known
        if known:
            try:
                return local.fisher(v)
            except NotImplementedError:
                known = False
        return local.ggn(v)

    return product


def _mean_loss(problem: UnlearningProblem, w: Tensor) -> float:
    """Return the mean loss of the erased rows by mass, without the penalty."""
    return problem.erased.without_penalty(w, problem.erased.value(w))
