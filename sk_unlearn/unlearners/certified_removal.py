"""Certified removal from linear models (Guo et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn.exceptions import NotConvexError, RetrainRequired
from sk_unlearn.privacy import Assumption, Certificate, RandomWalk, gaussian_epsilon, gaussian_sigma
from sk_unlearn.privacy.certificates import SECRET_SEED
from sk_unlearn.privacy.mechanisms import objective_budget
from sk_unlearn.risks.convexity import ConvexModel, convex_model
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.solvers.linear import LinearSolution, conjugate_gradient
from sk_unlearn.training.recorder import TrainingRecorder
from sk_unlearn.unlearners.base import Unlearner, UnlearnerTags, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._float64 import double
from sk_unlearn.utils._numpy_state import NumpyStateMixin
from sk_unlearn.utils._random import standard_normal

__all__ = ["CertifiedRemoval"]

# Newton's method doubles the digits with each step, once it is near.
_STEPS_TO_ROUNDING = 50


@dataclass(frozen=True)
class _Perturbed(NumpyStateMixin):
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

    changes : tuple of float
        What each request under noise that goes on left of it.
    """

    term: Tensor
    sigma: float
    mass: float | None = None
    spent: float = 0.0
    changes: tuple[float, ...] = ()


class _Perturbation(TrainingRecorder):
    """Add a random linear term to the objective: b / n to every gradient."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def begin(self, net: NeuralNet, n_rows: int, mass: float, rng: np.random.Generator) -> None:
        self.scale = self.sigma / mass
        self.term = self.scale * standard_normal(flat_parameters(net), rng)

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

    noise : {"constant", "random_walk"}, default="constant"
        What becomes of the random term. "constant": it stays what it was in training, as in the paper. That hides the
        rows from whoever sees *one* model. Between two models it cancels, so that who sees both and knows the rows that
        stay is shown what is left without any noise. "random_walk": each request adds a fresh step N(0, σ²) to it, and
        goes on to the optimum that is moved by this step. That hides the rows from whoever sees *all* models, the
        fitted one too, and σ√(k+1) is in the objective after k requests. It stays what it was at the first request.

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

    *With a random walk* the ε of the certificate is that of a Gaussian mechanism, exactly, and adds up in squares; a
    request is refused where the ε of all would be above ``epsilon``. What a request leaves is settled before its noise
    is drawn, and stays in the objective from then on: the next request leaves something of its own, and nothing adds
    up in the dark. To arrive at the moved optimum takes a few Newton steps more, to the last digits.

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

    _parameter_constraints = {  # noqa: RUF012
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "delta": [Interval(Real, 0, 1, closed="neither")],
        "sigma": [Interval(Real, 0, None, closed="neither")],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "noise": [StrOptions({"constant", "random_walk"})],
    }

    def __init__(
        self,
        epsilon: float = 1.0,
        delta: float = 1e-4,
        *,
        sigma: float = 1.0,
        max_steps: int = 20,
        noise: str = "constant",
    ) -> None:
        self.epsilon = epsilon
        self.delta = delta
        self.sigma = sigma
        self.max_steps = max_steps
        self.noise = noise

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = True
        tags.changes_training = True
        tags.requires_linear_module = True
        return tags

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
            With a certificate. Its status is ``converged``: ``epsilon``, ``delta`` and ``sigma`` say how large a
            gradient may be left, and no more is.

        Raises
        ------
        ValueError
            When the objective is not strongly convex, its loss has no known constant, training had no random term, or
            earlier requests were answered with another ``noise``.

        RetrainRequired
            When the request would pass the budget. Nothing has changed then.
        """
        self._validate_params()
        model = self._model(problem)
        state = self._state(problem)
        assert state.mass is not None
        scale = state.sigma * state.mass  # of b, in the sum of losses
        mass = problem.retained.mass
        # b itself stays; in the mean over fewer rows it weighs more.
        term = state.term.to(problem.parameters) * (state.mass / mass)
        w, gradient, trace = self._newton_steps(problem, model, state, scale, term)
        charge = trace[-1]["charge"]
        if self.noise == "random_walk":
            fresh = (scale / mass) * standard_normal(w, problem.rng)
            w, record = _moved_by(problem.retained, w, fresh)
            charge += mass * record["gradient_norm"]
            trace.append({"step": len(trace) + 1, **record, "charge": charge})
            problem.report_step(trace[-1])
        share = self._share(state, charge, scale)
        if not share <= 1:
            raise self._refusal(state, charge, scale, len(trace))
        after = replace(state, spent=state.spent + charge)
        if self.noise == "random_walk":
            # What is left goes into the term: of that the model is the optimum, and the next request leaves its own.
            after, term = replace(after, changes=(*state.changes, charge)), -problem.retained.gradient(w)
            gradient = torch.zeros_like(term)
        after = replace(after, term=(term * (mass / state.mass)).cpu())
        return UnlearningResult(
            w,
            Status.CONVERGED,
            f"{share:.0%} of the budget is spent",
            trace=trace,
            gradient=gradient - term,
            recording=after,
            n_products=sum(record["n_products"] for record in trace),
            solver="conjugate_gradient",
            certificate=self._certificate(model, after, charge, scale),
        )

    def _newton_steps(
        self, problem: UnlearningProblem, model: ConvexModel, state: _Perturbed, scale: float, term: Tensor
    ) -> tuple[Tensor, Tensor, list[dict[str, Any]]]:
        """Return where steps lead after which no more is left than the budget allows, and the gradient there."""
        mass = problem.retained.mass
        Z, shares = _all_features(problem.retained, model)
        norm = _spectral_norm(Z, shares)
        w, gradient = problem.parameters, problem.gradient + term
        trace: list[dict[str, Any]] = []
        for step in range(1, self.max_steps + 1):
            found = _newton_step(problem.retained, w, gradient)
            w, gradient, share = _descended(problem.retained, w, gradient, found.solution, term)
            # Of a step that was cut short the bound says nothing.
            bound = mass * _residual_bound(model, found.solution, Z, shares, norm) if share == 1 else math.inf
            charge = max(bound, mass * float(double(gradient).norm()))
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
            if self._share(state, charge, scale) <= 1:
                return w, gradient, trace
        raise self._refusal(state, charge, scale, len(trace))

    def _share(self, state: _Perturbed, charge: float, scale: float) -> float:
        """Return the share of the budget that is spent when a request leaves so much."""
        epsilon, delta = float(self.epsilon), float(self.delta)
        if self.noise == "constant":
            return (state.spent + charge) / objective_budget(scale, epsilon, delta)
        if not math.isfinite(charge):
            return math.inf
        return RandomWalk((*state.changes, charge)).distance / (scale / gaussian_sigma(1.0, epsilon, delta))

    def _refusal(self, state: _Perturbed, charge: float, scale: float, n_steps: int) -> RetrainRequired:
        before = self._share(state, 0.0, scale)
        return RetrainRequired(
            f"the request would leave a gradient of up to {charge:.3g} after {n_steps} Newton steps, and of the budget "
            f"of epsilon={self.epsilon} at delta={self.delta} (sigma={scale:.3g}) {before:.0%} is spent. Nothing was "
            "changed: fit again without these rows, with a larger sigma to last longer."
        )

    def _certificate(self, model: ConvexModel, state: _Perturbed, charge: float, scale: float) -> Certificate:
        epsilon, delta = float(self.epsilon), float(self.delta)
        share = f"this request {charge:.3g}; {self._share(state, 0.0, scale):.0%} of the budget is spent"
        assumptions = [
            *model.assumptions,
            Assumption("training had the random term in its objective", True, "recorded"),
            Assumption("what is left fits into the budget of the random term", True, share),
            Assumption("retraining minimises its perturbed objective exactly", None),
        ]
        if self.noise == "constant":
            assumptions += _OF_CONSTANT_NOISE
            return Certificate(
                _METHOD, state.spent, epsilon, delta, scale, "objective", False, [*assumptions, SECRET_SEED]
            )
        assumptions.append(Assumption("retraining has the same walk in its objective", None))
        spent = gaussian_epsilon(charge, scale, delta)
        return Certificate(_METHOD, charge, spent, delta, scale, "walk", False, [*assumptions, SECRET_SEED])

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
        earlier = "random_walk" if state.changes else "constant"
        if state.spent and earlier != self.noise:
            raise ValueError(
                f"noise={self.noise!r}, but earlier requests were answered with noise={earlier!r}, and no certificate "
                "covers models of both: set it back, or fit again with the other one."
            )
        if state.mass is not None:
            return state
        _, base = problem.retained.parts[0]
        return replace(state, mass=base.mass + problem.erased.mass)


_METHOD = "certified removal (Guo et al. 2020)"
# What the published proof takes for granted, in words.
_OF_CONSTANT_NOISE = [
    Assumption(
        "whoever looks has seen no other model with this random term, nor the one before the request", None,
        'between two of them it cancels; noise="random_walk" covers all models together',
    ),
    Assumption("what a step leaves does not hang on the random term", None, "as the published proof takes it"),
]  # fmt: skip


def _newton_step(retained: Any, w: Tensor, gradient: Tensor) -> LinearSolution:
    tol = 10 * float(torch.finfo(w.dtype).eps)
    return conjugate_gradient(
        retained.linearise(w).hessian, gradient, damping=0.0, tol=tol, max_products=10 * w.numel()
    )


def _moved_by(retained: Any, w: Tensor, fresh: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Go to where the gradient is that at w less a vector, to the last digits; return that, and what is missed."""
    start, term = w, fresh - retained.gradient(w)
    gradient, n_products = fresh, 0
    for _ in range(_STEPS_TO_ROUNDING):
        found = _newton_step(retained, w, gradient)
        n_products += found.n_products
        there, left, _ = _descended(retained, w, gradient, found.solution, term)
        if not float(left.norm()) < 0.5 * float(gradient.norm()):
            break
        w, gradient = there, left
    missed = float(double(gradient).norm())
    return w, {"gradient_norm": missed, "step_norm": float((w - start).norm()), "n_products": n_products}


def _all_features(retained: Any, model: ConvexModel) -> tuple[Tensor, Tensor]:
    """Return the rows that the layer is given, and their shares, over all parts of a risk."""
    found = [(share, *model.features(part.stored)) for share, part in retained.parts if part.stored is not None]
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
    for (p, _), part in zip(sizes, double(step).split([size for _, size in sizes]), strict=True):
        columns.append(part.view(p.shape) if p.ndim == 2 else part[:, None])
    change = (Z @ torch.cat(columns, 1).T).norm(dim=1)
    if not len(change):
        return 0.0
    largest = float(change[shares > 0].max()) if bool((shares > 0).any()) else 0.0
    return 0.5 * model.hessian_lipschitz * largest * norm * math.sqrt(float(shares @ change.square()))
