"""Certified removal from linear models (Guo et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn.exceptions import NotConvexError, RetrainRequired
from sk_unlearn.privacy import Assumption, Certificate
from sk_unlearn.privacy.certificates import SECRET_SEED
from sk_unlearn.privacy.mechanisms import objective_budget
from sk_unlearn.risks.convexity import ConvexModel, convex_model
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.solvers.linear import conjugate_gradient
from sk_unlearn.training.recorder import TrainingRecorder
from sk_unlearn.unlearners.base import Unlearner, UnlearnerTags, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._float64 import double
from sk_unlearn.utils._numpy_state import NumpyStateMixin
from sk_unlearn.utils._random import standard_normal

__all__ = ["CertifiedRemoval"]


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
            When the objective is not strongly convex, its loss has no known constant, or training had no random term.

        RetrainRequired
            When the request would pass the budget. Nothing has changed then.
        """
        self._validate_params()
        model = self._model(problem)
        state = self._state(problem)
        assert state.mass is not None
        scale = state.sigma * state.mass  # of b, in the sum of losses
        budget = objective_budget(scale, float(self.epsilon), float(self.delta))
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
        return UnlearningResult(
            w,
            Status.CONVERGED,
            f"{spent / budget:.0%} of the budget is spent",
            trace=trace,
            gradient=gradient - term,
            recording=replace(state, term=(term * (mass / state.mass)).cpu(), spent=spent),
            n_products=sum(record["n_products"] for record in trace),
            solver="conjugate_gradient",
            certificate=certificate,
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
        _, base = problem.retained.parts[0]
        return replace(state, mass=base.mass + problem.erased.mass)

    def _assumptions(self, model: ConvexModel, charge: float, spent: float, budget: float) -> list[Assumption]:
        return [
            *model.assumptions,
            Assumption("training had the random term in its objective", True, "recorded"),
            Assumption(
                "what is left fits into the budget of the random term", True,
                f"this request {charge:.3g}, all {spent:.3g} of {budget:.3g}",
            ),
            Assumption("retraining minimises its perturbed objective exactly", None),
            SECRET_SEED,
        ]  # fmt: skip


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
