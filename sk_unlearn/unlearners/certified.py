"""Unlearning that comes with a guarantee, and says what the guarantee is worth."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn.convexity import ConvexModel, NotConvexError, convex_model, distance_certificate
from sk_unlearn.objective import EmpiricalRisk, flat_parameters
from sk_unlearn.privacy import Assumption, Certificate, gaussian_epsilon, gaussian_sigma
from sk_unlearn.solvers.lanczos import lanczos
from sk_unlearn.solvers.linear import conjugate_gradient, lissa
from sk_unlearn.surrogate import CombinedRisk
from sk_unlearn.unlearners.base import (
    Linearised,
    TrainingRecorder,
    Unlearner,
    UnlearningProblem,
    UnlearningResult,
    torch_generator,
)

__all__ = [
    "CertificateRefused",
    "CertifiedNewton",
    "CertifiedRemoval",
    "DominatingNoiseWarning",
    "RetrainRequired",
    "VacuousBoundWarning",
]

_LANCZOS_PRODUCTS = 30
# What "auto" adds to what makes the curvature positive; the paper's setting.
_CONVEXITY = 0.01
_SECRET_SEED = Assumption(
    "whoever looks at the models knows neither random_state nor this object", None, "the noise can be repeated from it"
)


class CertificateRefused(ValueError):  # noqa: N818  the name says what happened
    """Raised where a guarantee rests on something that does not hold; see :meth:`CertifiedNewton.unlearn`."""


class RetrainRequired(RuntimeError):  # noqa: N818
    """Raised where a request would pass the budget; see :meth:`CertifiedRemoval.unlearn`."""


class VacuousBoundWarning(UserWarning):
    """Warns of a bound that says no more than what holds for any two models; see :meth:`CertifiedNewton.unlearn`."""


class DominatingNoiseWarning(UserWarning):
    """Warns of noise that is longer than the parameters it hides; see :meth:`CertifiedNewton.unlearn`."""


# --------------------------------------------------------------------------------------------- certified Newton, deep


@dataclass(frozen=True)
class _InBall:
    """That training stayed in a ball, and how far from stationary it ended (known from the first request on)."""

    radius: float
    residual: float | None = None


class _Projection(TrainingRecorder):
    """Project the parameters to a ball after each step of the optimiser."""

    def __init__(self, radius: float) -> None:
        self.radius = radius

    def begin(self, net: NeuralNet, n_rows: int, mass: float, rng: np.random.Generator) -> None:
        self._project(net)

    def on_batch_end(self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        if training:
            self._project(net)

    def recording(self, net: NeuralNet) -> _InBall:
        # Once more: Ctrl-C may have come between a step and its projection.
        self._project(net)
        return _InBall(self.radius)

    @torch.no_grad()
    def _project(self, net: NeuralNet) -> None:
        parameters = [p for p in net.module_.parameters() if p.requires_grad]
        norm = math.sqrt(sum(float(p.square().sum()) for p in parameters))
        if norm > self.radius:
            for p in parameters:
                p.mul_(self.radius / norm)


class CertifiedNewton(Unlearner):
    r"""Certified unlearning of a deep network: training in a ball, one damped Newton step, calibrated noise.

    With ‖w‖ ≤ C throughout training, the step :math:`w^- = w - (H + \lambda I)^{-1} \nabla F_R(w)` ends within

    .. math:: \Delta = \frac{2C(MC + \lambda) + G + \|r\|}{\lambda + \lambda_{\min}}

    of the optimum on the retained rows, where M is the Lipschitz constant of the Hessian, λ_min its smallest
    eigenvalue, G the gradient that training leaves and r what the linear solver left, which is measured. Noise N(0, σ²)
    in every parameter then gives (ε, δ) against retraining with the same noise. Δ does not depend on how many rows
    leave, so that a sequence of requests reuses it.

    For a network this is more than the diameter 2C of the ball, which holds for any two models: the certificate is then
    *vacuous*, a :class:`VacuousBoundWarning` says so, and the ε that a usable σ implies protects nobody. The defaults
    are of that kind. On a strongly convex objective (one linear layer, a convex loss, weight decay on every parameter)
    the bound :math:`\|\nabla F_R(w^-)\| / \lambda_{decay}` is used where it is
    smaller and places the optimum inside the ball, and means something.

    Parameters
    ----------
    epsilon : float, default=None
        Noise is made as large as this ε needs. None adds noise ``sigma`` and prints the ε that it implies.

    delta : float, default=1e-5
        The δ of the guarantee.

    sigma : float, default=0.001
        Standard deviation of the noise when ``epsilon`` is None. 0 adds none and claims a distance only. The default
        leaves a model as it is and is no protection by itself; ``certificate_.epsilon`` says so in numbers.

    radius : float, default=20.0
        C, of the ball that all trainable parameters together are projected to after each step of training.

    convexity : "auto" or float, default="auto"
        λ. "auto" takes 0.01, and where the curvature has negative eigenvalues as much more as makes them harmless.

    hessian_lipschitz : float, default=None
        M. None estimates it along a few directions, which proves nothing and is marked so.

    gradient_bound : float, default=None
        G, a bound that the gradients at the end of this training and of retraining both obey. None takes the norm
        of the one that is known, which proves nothing for the other.

    solver : {"conjugate_gradient", "lissa"}, default="conjugate_gradient"
        How the linear system is solved. "lissa" is the paper's sampled series; unlike the paper, what it leaves is
        measured by one product over all retained rows and enters Δ as it is, instead of a bound in probability.

    n_products : int, default=200
        Most Hessian-vector products of conjugate gradients, and the depth of LiSSA.

    batch_size : int, default=128
        Rows of one LiSSA step.

    n_runs : int, default=1
        Independent runs of LiSSA that are averaged.

    Notes
    -----
    What is known at one point only is called *estimated, not proven* in the certificate: λ_min is the smallest Ritz
    value of a Lanczos run, which lies above the true one. The projection alters training, so that ``fit`` must have run
    with this unlearner. Parameters that noise has carried out of the ball are projected back at the next request. With
    ``epsilon`` given, the scale of the noise depends on the rows through Δ, which the theory does not cover.

    References
    ----------
    .. [1] Zhang, Dong, Wang and Li, "Towards certified unlearning for deep neural networks", ICML 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import CertifiedNewton, VacuousBoundWarning
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=CertifiedNewton(), random_state=0).fit(X, y)
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", VacuousBoundWarning)
    ...     certificate = est.forget(X[:5]).certificate_
    >>> certificate.vacuous, certificate.epsilon > 1000
    (True, True)
    """

    needs_rows = True
    changes_training = True
    _parameter_constraints = {  # noqa: RUF012
        "epsilon": [None, Interval(Real, 0, None, closed="neither")],
        "delta": [Interval(Real, 0, 1, closed="neither")],
        "sigma": [Interval(Real, 0, None, closed="left")],
        "radius": [Interval(Real, 0, None, closed="neither")],
        "convexity": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "hessian_lipschitz": [None, Interval(Real, 0, None, closed="left")],
        "gradient_bound": [None, Interval(Real, 0, None, closed="left")],
        "solver": [StrOptions({"conjugate_gradient", "lissa"})],
        "n_products": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_runs": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        epsilon: float | None = None,
        delta: float = 1e-5,
        *,
        sigma: float = 0.001,
        radius: float = 20.0,
        convexity: Any = "auto",
        hessian_lipschitz: float | None = None,
        gradient_bound: float | None = None,
        solver: str = "conjugate_gradient",
        n_products: int = 200,
        batch_size: int = 128,
        n_runs: int = 1,
    ) -> None:
        self.epsilon = epsilon
        self.delta = delta
        self.sigma = sigma
        self.radius = radius
        self.convexity = convexity
        self.hessian_lipschitz = hessian_lipschitz
        self.gradient_bound = gradient_bound
        self.solver = solver
        self.n_products = n_products
        self.batch_size = batch_size
        self.n_runs = n_runs

    def recorder(self) -> TrainingRecorder:
        """Return the projection to the ball; see :meth:`sk_unlearn.unlearners.Unlearner.recorder`."""
        self._validate_params()
        return _Projection(float(self.radius))

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem.

        Parameters
        ----------
        problem : UnlearningProblem
            Posed by an estimator that was fitted with this unlearner.

        Returns
        -------
        result : UnlearningResult
            With the certificate among the diagnostics.

        Raises
        ------
        ValueError
            When training was not watched.

        CertificateRefused
            When the gradient is larger than ``gradient_bound``, or the damped curvature is not positive.

        Warns
        -----
        VacuousBoundWarning
            When Δ ≥ 2C.

        DominatingNoiseWarning
            When the noise is expected to be longer than the parameters.
        """
        self._validate_params()
        ball = self._ball(problem)
        w = _projected(problem.parameters, self.radius)
        local = problem.retained.linearise(w)
        # Parameters that were projected back have another gradient than the problem says.
        gradient = problem.gradient if torch.equal(w, problem.parameters) else local.gradient
        spectrum = _Spectrum.of(local, gradient, problem.rng)
        convexity = self._convexity(spectrum)
        solution, left, n_products = self._solve(problem, local, gradient, convexity, spectrum)
        target = _projected(w - solution, self.radius)
        constants = _Constants(
            radius=float(self.radius),
            convexity=convexity,
            curvature_min=spectrum.low,
            hessian_lipschitz=self._lipschitz(problem, local, w, target, spectrum),
            residual=(ball.residual or 0.0) if self.gradient_bound is None else float(self.gradient_bound),
            solver_residual=left,
        )
        certificate = self._certificate(problem, constants, target)
        noise = certificate.sigma * _standard_normal(target, problem.rng)
        notes = _spoken(certificate, constants, target)
        record = {"step": 1, "damping": convexity, "gradient_norm": float(gradient.norm()), "n_products": n_products}
        record["step_norm"] = float((target - w).norm())
        problem.report_step(record)
        diagnostics = {
            "certificate": certificate,
            "notes": notes,
            "n_products": n_products,
            "gradient_norm_before": float(problem.gradient.norm()),
            "residual_norm": ball.residual,
            "curvature_min": spectrum.low,
            "curvature_max": spectrum.high,
            "solver": self.solver,
        }
        reason = f"one damped Newton step, then noise of standard deviation {certificate.sigma:.3g}"
        return UnlearningResult(target + noise, [record], True, reason, diagnostics, recording=ball)

    def _ball(self, problem: UnlearningProblem) -> _InBall:
        recording = problem.recording
        if not isinstance(recording, _InBall) or recording.radius != self.radius:
            raise ValueError(
                f"fit with unlearner={type(self).__name__}(radius={self.radius}) so that training is projected to the "
                "ball, which the bound rests on; this estimator was "
                + (
                    f"trained in one of radius {recording.radius}."
                    if isinstance(recording, _InBall)
                    else "trained without (or partial_fit or another unlearner came since)."
                )
            )
        if recording.residual is None:
            recording = replace(recording, residual=float(problem.residual.norm()))
        assert recording.residual is not None
        if self.gradient_bound is not None and recording.residual > self.gradient_bound:
            raise CertificateRefused(
                f"training ended with a gradient of norm {recording.residual:.3g}, above gradient_bound="
                f"{self.gradient_bound}: not stationary. Train longer, or raise gradient_bound if retraining keeps to "
                "it."
            )
        return recording

    def _convexity(self, spectrum: _Spectrum) -> float:
        if self.convexity == "auto":
            return _CONVEXITY + 2 * max(0.0, -spectrum.low)
        if not self.convexity + spectrum.low > 0:
            raise CertificateRefused(
                f"convexity={self.convexity} does not make the curvature positive: its smallest eigenvalue is at most "
                f'{spectrum.low:.3g}. Choose convexity above {max(0.0, -spectrum.low):.3g}, or "auto".'
            )
        return float(self.convexity)

    def _solve(
        self,
        problem: UnlearningProblem,
        local: Linearised,
        gradient: Tensor,
        convexity: float,
        spectrum: _Spectrum,
    ) -> tuple[Tensor, float, int]:
        """Return the solution of the damped system, the norm of what it leaves, and the products it took."""
        if self.solver == "lissa":
            found = lissa(
                _sampled_products(problem, self.batch_size),
                gradient,
                damping=convexity,
                # Samples of the rows have larger curvatures than all of them together.
                scale=4 * (abs(spectrum.high) + convexity),
                depth=self.n_products,
                n_runs=self.n_runs,
            )
        else:
            tol = 10 * float(torch.finfo(gradient.dtype).eps)
            found = conjugate_gradient(
                local.hessian, gradient, damping=convexity, tol=tol, max_products=self.n_products
            )
        if found.indefinite:
            raise CertificateRefused(
                f"the curvature along a direction is {found.curvature_min:.3g} and convexity={convexity:.3g} does not "
                "make it positive; choose a larger convexity."
            )
        left = local.hessian(found.solution) + convexity * found.solution - gradient
        return found.solution, float(left.norm()), found.n_products + _LANCZOS_PRODUCTS + 1

    def _lipschitz(
        self, problem: UnlearningProblem, local: Linearised, w: Tensor, target: Tensor, spectrum: _Spectrum
    ) -> float:
        """Return M: as given, or the largest change of the Hessian along a few directions."""
        if self.hessian_lipschitz is not None:
            return float(self.hessian_lipschitz)
        largest = 0.0
        length = 0.1 * max(1.0, float(w.norm()))
        for direction in (target - w, _standard_normal(w, problem.rng)):
            norm = float(direction.norm())
            if norm == 0:
                continue
            moved = problem.retained.linearise(w + (length / norm) * direction)
            for v in (direction / norm, spectrum.top):
                largest = max(largest, float((moved.hessian(v) - local.hessian(v)).norm()) / length)
        return largest

    def _certificate(self, problem: UnlearningProblem, constants: _Constants, target: Tensor) -> Certificate:
        bound, assumptions = constants.bound, self._assumptions(constants)
        method = "damped Newton step in a ball (Zhang et al. 2024)"
        try:
            after = distance_certificate(problem.retained, target)
        except NotConvexError:
            after = None
        # An optimum outside the ball is not what projected training arrives at, and nothing is known of the latter.
        if after is not None and after.bound < bound and float(target.norm()) + after.bound <= constants.radius:
            method, bound, assumptions = after.method, after.bound, list(after.assumptions)
            assumptions.append(Assumption("the retrained optimum lies in the ball", True, "by the bound"))
            assumptions.append(Assumption("retraining arrives at its optimum", None))
        # Both models are in the ball.
        diameter = 2 * constants.radius
        vacuous = bound >= diameter
        bound = min(bound, diameter)
        sigma = float(self.sigma)
        if self.epsilon is not None:
            sigma = gaussian_sigma(bound, float(self.epsilon), float(self.delta))
            assumptions.append(Assumption("the scale of the noise, though it depends on the rows, tells nothing", None))
        if sigma == 0:
            return Certificate(method, bound, vacuous=vacuous, assumptions=assumptions)
        epsilon = gaussian_epsilon(bound, sigma, float(self.delta))
        assumptions.append(_SECRET_SEED)
        return Certificate(method, bound, epsilon, float(self.delta), sigma, "output", vacuous, assumptions)

    def _assumptions(self, constants: _Constants) -> list[Assumption]:
        estimated = "estimated, not proven"
        given = "as given"
        return [
            Assumption("parameters stayed in the ball during training", True, f"C = {constants.radius:.3g}, projected"),
            Assumption(
                "the Hessian's Lipschitz constant is at most M", None,
                f"M = {constants.hessian_lipschitz:.3g}, {estimated if self.hessian_lipschitz is None else given}",
            ),
            Assumption(
                "the smallest eigenvalue of the Hessian is at least lambda_min", None,
                f"lambda_min = {constants.curvature_min:.3g}, {estimated}",
            ),
            Assumption(
                "retraining ends with a gradient of norm at most G", None,
                f"G = {constants.residual:.3g}, "
                + ("that of this training" if self.gradient_bound is None else "as given; this training keeps to it"),
            ),
            Assumption("retraining finds the global optimum of the retained risk in the ball", None),
        ]  # fmt: skip


@dataclass(frozen=True)
class _Constants:
    """What the bound is made of."""

    radius: float
    convexity: float
    curvature_min: float
    hessian_lipschitz: float
    residual: float
    solver_residual: float

    @property
    def bound(self) -> float:
        C, lam = self.radius, self.convexity
        above = 2 * C * (self.hessian_lipschitz * C + lam) + self.residual + self.solver_residual
        return above / (lam + self.curvature_min)


@dataclass(frozen=True)
class _Spectrum:
    """Extreme Ritz values of a Hessian, and the vector of the largest."""

    low: float
    high: float
    top: Tensor

    @classmethod
    def of(cls, local: Linearised, gradient: Tensor, rng: np.random.Generator) -> _Spectrum:
        start = _standard_normal(gradient, rng)
        space = lanczos(local.hessian, start, n_products=min(_LANCZOS_PRODUCTS, gradient.numel()))
        values, vectors = torch.linalg.eigh(space.tridiagonal)
        top = space.basis.T @ vectors[:, -1].to(space.basis)
        return cls(float(values[0]), float(values[-1]), top)


def _spoken(certificate: Certificate, constants: _Constants, target: Tensor) -> list[str]:
    """Warn of what makes the certificate or the model useless; return the same words for the report."""
    notes = []
    if certificate.vacuous:
        implied = "" if certificate.epsilon is None else f" At sigma={certificate.sigma:.3g} it implies epsilon="
        implied += "" if certificate.epsilon is None else f"{certificate.epsilon:.3g}, which protects nobody."
        notes.append(
            f"The certificate is vacuous: its bound {constants.bound:.3g} is no better than the diameter "
            f"{2 * constants.radius:.3g} of the ball, which holds for any two models.{implied}"
        )
        warnings.warn(notes[-1], VacuousBoundWarning, stacklevel=3)
    expected = certificate.sigma * math.sqrt(target.numel())
    if expected > float(target.norm()):
        notes.append(
            f"The noise of norm {expected:.3g} is longer than the parameters of norm {float(target.norm()):.3g}: the "
            "model is likely to be useless. Ask for a larger epsilon, or train in a smaller ball."
        )
        warnings.warn(notes[-1], DominatingNoiseWarning, stacklevel=3)
    return notes


def _projected(w: Tensor, radius: float) -> Tensor:
    norm = float(w.norm())
    return w if norm <= radius else w * (radius / norm)


def _standard_normal(like: Tensor, rng: np.random.Generator) -> Tensor:
    generator = torch_generator(rng, like.device)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _sampled_products(problem: UnlearningProblem, size: int) -> Iterator[Callable[[Tensor], Tensor]]:
    w = problem.parameters
    for _ in itertools.count():
        rows: NDArray[np.int64] = problem.retained.sample(size, problem.rng)
        yield problem.retained.linearise(w, rows).hessian


# ------------------------------------------------------------------------------------------ certified removal, linear


@dataclass(frozen=True)
class _Perturbed:
    """The linear term that training had in its objective, and what of its budget is spent.

    Attributes
    ----------
    term : Tensor of shape (d,)
        b divided by the mass of the rows given to training, as it was added to the mean loss.

    sigma : float
        Standard deviation of an entry of ``term``.

    mass : float or None
        Mass of the trained rows, by which the sum of their losses is reached; known from the first request on.

    spent : float
        Norm of the gradient of the perturbed sum of losses that may be left.
    """

    term: Tensor
    sigma: float
    mass: float | None = None
    spent: float = 0.0


class _Perturbation(TrainingRecorder):
    """Add a random linear term to the objective: b / n to every gradient."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def begin(self, net: NeuralNet, n_rows: int, mass: float, rng: np.random.Generator) -> None:
        self.scale = self.sigma / mass
        self.term = self.scale * _standard_normal(flat_parameters(net), rng)

    @torch.no_grad()
    def on_grad_computed(self, net: NeuralNet, named_parameters: Any = None, **kwargs: Any) -> None:
        parameters = [p for p in net.module_.parameters() if p.requires_grad]
        for p, part in zip(parameters, self.term.split([p.numel() for p in parameters]), strict=True):
            p.grad = part.view_as(p).clone() if p.grad is None else p.grad + part.view_as(p)

    def recording(self, net: NeuralNet) -> _Perturbed:
        return _Perturbed(self.term.cpu(), self.scale)


class CertifiedRemoval(Unlearner):
    r"""Certified removal for one linear layer with a convex loss: a random linear term in training, then Newton steps.

    Training minimises the sum of losses plus :math:`b^\top w`, b of entries N(0, σ²). A request takes a Newton step on
    that objective over the retained rows, after which a gradient is left of norm at most

    .. math:: \frac{\kappa}{2} \, \|Z\|_2 \, \max_i \|S z_i\| \, \sqrt{\textstyle\sum_i \|S z_i\|^2},

    with Z the rows (and ones for the bias), S the step as a matrix, and κ the Lipschitz constant of the Hessian of the
    loss in the outputs. The bounds add up over requests. As long as their sum is at most
    :math:`\sigma \epsilon / \sqrt{2 \ln(1.5/\delta)}`, the random term hides what is left, and the model is (ε, δ)
    indistinguishable from one retrained with such a term; before it is passed, :class:`RetrainRequired` is raised.

    Parameters
    ----------
    epsilon : float, default=1.0
        The ε of the guarantee, for all requests together.

    delta : float, default=1e-4
        The δ of the guarantee.

    sigma : float, default=1.0
        Standard deviation of the random term. More of it lasts for more requests, and costs accuracy.

    max_steps : int, default=20
        Newton steps in a request at most. A model trained to its optimum needs one, which is the paper's algorithm;
        further ones are taken only while the bound of the last does not fit into the budget.

    Notes
    -----
    The module must be one :class:`torch.nn.Linear` over fixed features, with weight decay on every parameter (bias
    too), and cross-entropy (binary or multinomial), BCEWithLogitsLoss or squared loss. For the logistic loss
    :math:`\kappa = 1/(6\sqrt 3)`, for cross-entropy over any number of classes :math:`\sqrt 2/(3 \sqrt 3)`: along a
    direction a, the third derivative of the log-sum-exp is the third central moment of a under the predicted
    distribution, at most :math:`R^3/(6 \sqrt 3)` for a range :math:`R \le \sqrt 2 \|a\|`. The bound is that of
    theorem 4 of [1]_ (there :math:`\gamma \|Z\| \|H^{-1}\Delta\| \|Z H^{-1}\Delta\|` for rows of length at most 1)
    with the ½ of the Taylor remainder and the longest :math:`S z_i` in place of ‖S‖, so that rows need no scaling.
    Where the gradient that is measured after the step is larger, as rounding may make it, that is charged instead.

    The step is Newton's on the full gradient, so that what training left undone is taken away as well. A step after
    which the gradient is larger than before is halved, and followed by another.

    References
    ----------
    .. [1] Guo, Goldstein, Hannun and van der Maaten, "Certified data removal from machine learning models", ICML 2020.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_breast_cancer
    >>> from skorch import NeuralNetClassifier
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import CertifiedRemoval
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X = (X - X.mean(0)) / X.std(0)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.Linear, module__in_features=30, module__out_features=2, criterion=torch.nn.CrossEntropyLoss,
    ...     optimizer__weight_decay=0.01, lr=0.5, max_epochs=20, train_split=None, verbose=0,
    ... )
    >>> est = UnlearnableClassifier(net, CertifiedRemoval(epsilon=1.0), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).certificate_.epsilon
    1.0
    """

    needs_rows = True
    changes_training = True
    requires_linear_module = True
    _parameter_constraints = {  # noqa: RUF012
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "delta": [Interval(Real, 0, 1, closed="neither")],
        "sigma": [Interval(Real, 0, None, closed="neither")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, epsilon: float = 1.0, delta: float = 1e-4, *, sigma: float = 1.0, max_steps: int = 20) -> None:
        self.epsilon = epsilon
        self.delta = delta
        self.sigma = sigma
        self.max_steps = max_steps

    def recorder(self) -> TrainingRecorder:
        """Return the random term; see :meth:`sk_unlearn.unlearners.Unlearner.recorder`."""
        self._validate_params()
        return _Perturbation(float(self.sigma))

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem.

        Parameters
        ----------
        problem : UnlearningProblem
            Posed by an estimator that was fitted with this unlearner.

        Returns
        -------
        result : UnlearningResult
            With the certificate among the diagnostics.

        Raises
        ------
        ValueError
            When the objective is not strongly convex, its loss has no known constant, or training had no random term.

        RetrainRequired
            When the request would pass the budget. Nothing has changed then.
        """
        self._validate_params()
        model = self._model(problem)
        state = self._state(problem)
        assert state.mass is not None
        scale = state.sigma * state.mass  # of b, in the sum of losses
        budget = scale * self.epsilon / math.sqrt(2 * math.log(1.5 / self.delta))
        mass = problem.retained.mass
        # b itself stays; in the mean over fewer rows it weighs more.
        term = state.term.to(problem.parameters) * (state.mass / mass)
        Z, shares = _all_features(problem.retained, model)
        norm = _spectral_norm(Z, shares)
        w, gradient = problem.parameters, problem.gradient + term
        trace: list[dict[str, Any]] = []
        charge = math.inf
        for step in range(1, self.max_steps + 1):
            local = problem.retained.linearise(w)
            tol = 10 * float(torch.finfo(w.dtype).eps)
            found = conjugate_gradient(local.hessian, gradient, damping=0.0, tol=tol, max_products=10 * w.numel())
            w, gradient, share = _descended(problem.retained, w, gradient, found.solution, term)
            # Of a step that was cut short the bound says nothing.
            bound = mass * _residual_bound(model, found.solution, Z, shares, norm) if share == 1 else math.inf
            charge = max(bound, mass * float(gradient.double().norm()))
            trace.append(
                {
                    "step": step,
                    "gradient_norm": float(gradient.norm()),
                    "step_norm": share * float(found.solution.norm()),
                    "n_products": found.n_products,
                    "bound": bound,
                    "charge": charge,
                }
            )
            problem.report_step(trace[-1])
            if state.spent + charge <= budget:
                break
        if not state.spent + charge <= budget:
            raise RetrainRequired(
                f"the request would leave a gradient of up to {charge:.3g} after {len(trace)} Newton steps, and of the "
                f"budget {budget:.3g} (sigma={scale:.3g}, epsilon={self.epsilon}, delta={self.delta}) "
                f"{state.spent:.3g} is spent. Nothing was changed: fit again without these rows, with a larger sigma "
                "to last longer."
            )
        spent = state.spent + charge
        certificate = Certificate(
            "certified removal (Guo et al. 2020)",
            spent,
            float(self.epsilon),
            float(self.delta),
            scale,
            "objective",
            assumptions=self._assumptions(model, charge, spent, budget),
        )
        diagnostics = {
            "certificate": certificate,
            "n_products": sum(record["n_products"] for record in trace),
            "gradient_norm_before": float((problem.gradient + term).norm()),
            "gradient_norm_after": float(gradient.norm()),
            "residual_norm": float(problem.residual.norm()),
            "solver": "conjugate_gradient",
        }
        return UnlearningResult(
            w,
            trace,
            True,
            f"{spent / budget:.0%} of the budget is spent",
            diagnostics,
            gradient=gradient - term,
            recording=replace(state, term=(term * (mass / state.mass)).cpu(), spent=spent),
        )

    def _model(self, problem: UnlearningProblem) -> ConvexModel:
        try:
            model = convex_model(problem.retained)
        except NotConvexError as error:
            raise ValueError(f"CertifiedRemoval needs a strongly convex objective: {error}.") from error
        if model.hessian_lipschitz is None:
            criterion = problem.net.criterion_
            raise ValueError(
                f"criterion={criterion!r} has no known Hessian-Lipschitz constant; CertifiedRemoval takes "
                "CrossEntropyLoss, NLLLoss and BCEWithLogitsLoss (unweighted) with reduction='mean', and MSELoss."
            )
        return model

    def _state(self, problem: UnlearningProblem) -> _Perturbed:
        state = problem.recording
        if not isinstance(state, _Perturbed):
            raise ValueError(
                "fit with unlearner=CertifiedRemoval so that the random term is in the objective; this estimator was "
                "trained without (or partial_fit or another unlearner came since)."
            )
        if state.mass is not None:
            return state
        retained = problem.retained
        stored = retained.base.mass if isinstance(retained, CombinedRisk) else retained.mass
        return replace(state, mass=stored + problem.erased.mass)

    def _assumptions(self, model: ConvexModel, charge: float, spent: float, budget: float) -> list[Assumption]:
        return [
            *model.assumptions,
            Assumption("training had the random term in its objective", True, "recorded"),
            Assumption(
                "what is left fits into the budget of the random term", True,
                f"this request {charge:.3g}, all {spent:.3g} of {budget:.3g}",
            ),
            Assumption("retraining minimises its perturbed objective exactly", None),
            _SECRET_SEED,
        ]  # fmt: skip


def _all_features(retained: Any, model: ConvexModel) -> tuple[Tensor, Tensor]:
    """Return the rows that the layer is given, and their shares, over all parts of a risk."""
    parts = retained.parts if isinstance(retained, CombinedRisk) else [(1.0, retained)]
    found = [(share, *model.features(risk)) for share, risk in parts if isinstance(risk, EmpiricalRisk)]
    return torch.cat([Z for _, Z, _ in found]), torch.cat([share * shares for share, _, shares in found])


def _descended(retained: Any, w: Tensor, gradient: Tensor, step: Tensor, term: Tensor) -> tuple[Tensor, Tensor, float]:
    """Go along -step as far as makes the gradient smaller; return where that is, its gradient, and the share gone."""
    before = float(gradient.norm())
    tried = []
    for share in 0.5 ** np.arange(12):
        tried.append((w - share * step, retained.gradient(w - share * step) + term, float(share)))
        if float(tried[-1][1].norm()) < before:
            return tried[-1]
    # At the level of rounding nothing makes it smaller: the whole step is as good as any.
    return tried[0]


def _spectral_norm(Z: Tensor, shares: Tensor) -> float:
    """Return the largest singular value of the rows weighted by the roots of their shares."""
    weighted = Z * shares.sqrt()[:, None]
    gram = weighted.T @ weighted if len(Z) > Z.shape[1] else weighted @ weighted.T
    # The trace bounds it where a decomposition would cost more than the request.
    largest = gram.trace() if len(gram) > 2000 else torch.linalg.eigvalsh(gram)[-1]
    return math.sqrt(max(0.0, float(largest)))


def _residual_bound(model: ConvexModel, step: Tensor, Z: Tensor, shares: Tensor, norm: float) -> float:
    """Bound the norm of the gradient of the mean objective after a full Newton step."""
    assert model.hessian_lipschitz is not None
    columns, sizes = [], [(p, p.numel()) for p in model.layer.parameters() if p.requires_grad]
    for (p, _), part in zip(sizes, step.double().split([size for _, size in sizes]), strict=True):
        columns.append(part.view(p.shape) if p.ndim == 2 else part[:, None])
    change = (Z @ torch.cat(columns, 1).T).norm(dim=1)
    if not len(change):
        return 0.0
    largest = float(change[shares > 0].max()) if bool((shares > 0).any()) else 0.0
    return 0.5 * model.hessian_lipschitz * largest * norm * math.sqrt(float(shares @ change.square()))
