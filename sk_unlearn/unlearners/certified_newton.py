"""Unlearning that comes with a guarantee, and says what the guarantee is worth."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from sk_unlearn.exceptions import CertificateRefused, DominatingNoiseWarning, NotConvexError, VacuousBoundWarning
from sk_unlearn.privacy import Assumption, Certificate, gaussian_epsilon, gaussian_sigma
from sk_unlearn.privacy.certificates import SECRET_SEED
from sk_unlearn.risks.convexity import distance_certificate
from sk_unlearn.risks.protocol import Linearised
from sk_unlearn.solvers.linear import conjugate_gradient, lissa
from sk_unlearn.training.recorder import TrainingRecorder
from sk_unlearn.unlearners._ball import InBall, Projection, projected
from sk_unlearn.unlearners._newton_bound import LANCZOS_PRODUCTS, BoundConstants, Spectrum
from sk_unlearn.unlearners.base import Unlearner, UnlearnerTags, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._random import standard_normal

__all__ = ["BoundConstants", "CertifiedNewton"]

# What "auto" adds to what makes the curvature positive; the paper's setting.
_CONVEXITY = 0.01


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

    noise : {"independent", "random_walk"}, default="independent"
        What noise a request adds. "independent": fresh noise each time, and the next request goes on from parameters
        that have it. "random_walk": the noise of earlier requests stays, a fresh step comes on top, and the next
        request goes on from the parameters without any. The step hides how much the gap to retraining has *changed*,
        of which nothing better is known than the sum of its last two bounds. A first request is the same with both.

    Notes
    -----
    *Which noise.* With both the certificates of a sequence compose to one of all its models together. Where Δ is about
    the same for all requests, independent noise is better: changes of twice Δ are to be hidden, and the walk grows. The
    walk pays where Δ would grow with the noise before it: a damped step from noisy parameters takes that noise away in
    part only. Its price is a state: the estimator knows the noise, so that the model may be given away, the
    estimator not.

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
        "noise": [StrOptions({"independent", "random_walk"})],
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
        noise: str = "independent",
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
        self.noise = noise

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = True
        tags.changes_training = True
        return tags

    def recorder(self) -> TrainingRecorder:
        """Return the projection to the ball; see :meth:`sk_unlearn.unlearners.Unlearner.recorder`."""
        self._validate_params()
        return Projection(float(self.radius))

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem.

        Parameters
        ----------
        problem : UnlearningProblem
            Posed by an estimator that was fitted with this unlearner.

        Returns
        -------
        result : UnlearningResult
            With a certificate. Its status is ``completed``: what the linear solver left counts in the bound, and there
            is no tolerance that it must meet.

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
        walk = None if ball.walk is None else ball.walk.to(problem.parameters)
        w = projected(problem.parameters if walk is None else problem.parameters - walk, self.radius)
        local = problem.retained.linearise(w)
        # Parameters that were projected back, or freed of noise, have another gradient than the problem says.
        gradient = problem.gradient if torch.equal(w, problem.parameters) else local.gradient
        spectrum = Spectrum.of(local, gradient, problem.rng)
        convexity = self._convexity(spectrum)
        solution, left, n_products = self._solve(problem, local, gradient, convexity, spectrum)
        target = projected(w - solution, self.radius)
        constants = BoundConstants(
            radius=float(self.radius),
            convexity=convexity,
            curvature_min=spectrum.low,
            hessian_lipschitz=self._lipschitz(problem, local, w, target, spectrum),
            residual=(ball.residual or 0.0) if self.gradient_bound is None else float(self.gradient_bound),
            solver_residual=left,
        )
        certificate, gap = self._certificate(problem, constants, target, ball)
        noise, spread = certificate.sigma * standard_normal(target, problem.rng), certificate.sigma
        reason = f"one damped Newton step, then noise of standard deviation {spread:.3g}"
        if walk is not None:
            noise, spread = walk + noise, math.hypot(ball.spread, spread)
            reason += f" on top of what was there, {spread:.3g} together"
        notes = _spoken(certificate, constants, target, spread)
        record = {"step": 1, "damping": convexity, "gradient_norm": float(gradient.norm()), "n_products": n_products}
        record |= {"step_norm": float((target - w).norm()), "gap": gap}
        problem.report_step(record)
        if certificate.noise == "walk":
            ball = replace(ball, walk=noise.cpu(), spread=spread, gap=gap)
        return UnlearningResult(
            target + noise,
            Status.COMPLETED,
            reason,
            trace=[record],
            recording=ball,
            n_products=n_products,
            curvature_min=spectrum.low,
            curvature_max=spectrum.high,
            solver=self.solver,
            certificate=certificate,
            notes=notes,
        )

    def _ball(self, problem: UnlearningProblem) -> InBall:
        recording = problem.recording
        if not isinstance(recording, InBall) or recording.radius != self.radius:
            raise ValueError(
                f"fit with unlearner={type(self).__name__}(radius={self.radius}) so that training is projected to the "
                "ball, which the bound rests on; this estimator was "
                + (
                    f"trained in one of radius {recording.radius}."
                    if isinstance(recording, InBall)
                    else "trained without (or partial_fit or another unlearner came since)."
                )
            )
        if recording.residual is None:
            recording = replace(recording, residual=float(problem.residual.norm()))
        if self.noise == "independent" or (self.epsilon is None and self.sigma == 0):
            recording = recording.without_walk()
        assert recording.residual is not None
        if self.gradient_bound is not None and recording.residual > self.gradient_bound:
            raise CertificateRefused(
                f"training ended with a gradient of norm {recording.residual:.3g}, above gradient_bound="
                f"{self.gradient_bound}: not stationary. Train longer, or raise gradient_bound if retraining keeps to "
                "it."
            )
        return recording

    def _convexity(self, spectrum: Spectrum) -> float:
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
        spectrum: Spectrum,
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
        return found.solution, float(left.norm()), found.n_products + LANCZOS_PRODUCTS + 1

    def _lipschitz(
        self, problem: UnlearningProblem, local: Linearised, w: Tensor, target: Tensor, spectrum: Spectrum
    ) -> float:
        """Return M: as given, or the largest change of the Hessian along a few directions."""
        if self.hessian_lipschitz is not None:
            return float(self.hessian_lipschitz)
        largest = 0.0
        length = 0.1 * max(1.0, float(w.norm()))
        for direction in (target - w, standard_normal(w, problem.rng)):
            norm = float(direction.norm())
            if norm == 0:
                continue
            moved = problem.retained.linearise(w + (length / norm) * direction)
            for v in (direction / norm, spectrum.top):
                largest = max(largest, float((moved.hessian(v) - local.hessian(v)).norm()) / length)
        return largest

    def _certificate(
        self, problem: UnlearningProblem, constants: BoundConstants, target: Tensor, ball: InBall
    ) -> tuple[Certificate, float]:
        """Return what the request guarantees, and how far the parameters before noise can be from retraining."""
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
        gap = min(bound, diameter)
        # Where noise goes on it has to hide how the gap changes. It had some direction and now has another: by both
        # lengths.
        hidden = gap if ball.walk is None else ball.gap + gap
        sigma = float(self.sigma)
        if self.epsilon is not None:
            sigma = gaussian_sigma(hidden, float(self.epsilon), float(self.delta))
            assumptions.append(Assumption("the scale of the noise, though it depends on the rows, tells nothing", None))
        if sigma == 0:
            return Certificate(method, hidden, vacuous=vacuous, assumptions=assumptions), gap
        epsilon = gaussian_epsilon(hidden, sigma, float(self.delta))
        assumptions.append(SECRET_SEED)
        kind: Any = "walk" if self.noise == "random_walk" else "output"
        return Certificate(method, hidden, epsilon, float(self.delta), sigma, kind, vacuous, assumptions), gap

    def _assumptions(self, constants: BoundConstants) -> list[Assumption]:
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


def _spoken(certificate: Certificate, constants: BoundConstants, target: Tensor, spread: float) -> list[str]:
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
    expected = spread * math.sqrt(target.numel())
    if expected > float(target.norm()):
        notes.append(
            f"The noise of norm {expected:.3g} is longer than the parameters of norm {float(target.norm()):.3g}: the "
            "model is likely to be useless. Ask for a larger epsilon, or train in a smaller ball."
        )
        warnings.warn(notes[-1], DominatingNoiseWarning, stacklevel=3)
    return notes


def _sampled_products(problem: UnlearningProblem, size: int) -> Iterator[Callable[[Tensor], Tensor]]:
    w = problem.parameters
    for _ in itertools.count():
        rows: NDArray[np.int64] = problem.retained.sample(size, problem.rng)
        yield problem.retained.linearise(w, rows).hessian
