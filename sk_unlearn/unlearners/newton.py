"""One Newton step: damped, by the pseudo-inverse, and with the Gauss-Newton matrix."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from sk_unlearn.risks.protocol import Linearised
from sk_unlearn.solvers import conjugate_gradient, lissa, solve_damped, solve_pseudo_inverse
from sk_unlearn.unlearners._one_step import DENSE_UP_TO, OneStep, Product, Solved, dense_matrix, largest_curvature
from sk_unlearn.unlearners.base import UnlearnerTags, UnlearningProblem

__all__ = ["DampedNewton", "GaussNewton", "PseudoInverseNewton"]

# What the Lanczos estimate of the largest curvature may fall short of it, and a sample's exceed that of all rows.
_SCALE_MARGIN, _SAMPLE_MARGIN = 1.1, 2.0


class _Damped(OneStep):
    """A damped step by the solver asked for."""

    solver: str
    tol: float
    max_products: int
    n_runs = 1
    batch_size: int | None = None

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        # Without damping, and by more than a truncated series.
        tags.exact_on_quadratics = self.damping == 0 and self.solver != "lissa"
        return tags

    def _kind(self) -> str:
        raise NotImplementedError

    def _curvature(self, local: Linearised) -> Product:
        product: Product = getattr(local, self._kind())
        return product

    def _solve(self, problem: UnlearningProblem, product: Product, gradient: Tensor, damping: float) -> Solved:
        solver = self.solver
        if solver == "auto":
            solver = "dense" if len(gradient) <= DENSE_UP_TO else "cg"
        if solver == "dense":
            H = dense_matrix(product, gradient, "solver='cg'")
            return Solved(solve_damped(H, gradient, damping), solver, len(gradient))
        if solver == "cg":
            found = conjugate_gradient(product, gradient, damping=damping, tol=self.tol, max_products=self.max_products)
            return Solved(found, solver, found.n_products)
        largest, n_probes = largest_curvature(product, gradient)
        margin = _SCALE_MARGIN if self.batch_size is None else _SAMPLE_MARGIN
        found = lissa(
            self._products(problem, product), gradient, damping=damping, scale=margin * largest + damping,
            depth=self.max_products, n_runs=self.n_runs,
        )  # fmt: skip
        return Solved(found, solver, found.n_products + n_probes)

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
    published settings wreck the model [1]_. A step that does, or meets curvature that the damping does not outweigh,
    has the status ``model_broke_down``. One that kept its promise is ``completed``: the method has no tolerance on the
    gradient that it leaves, so that ``converged`` is never True.

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
    .. [1] Bui, Lu, Sim, Ng and Low, "How to Cure Newton for Unlearning Neural Networks? An Empirical Study from the
       Hessian Perspective", ICLR 2026.
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
    >>> str(est.forget(X[:5]).unlearning_report_.status)
    'completed'
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


class PseudoInverseNewton(OneStep):
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
    .. [1] Bui, Lu, Sim, Ng and Low, "How to Cure Newton for Unlearning Neural Networks? An Empirical Study from the
       Hessian Perspective", ICLR 2026.

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
    >>> str(est.forget(X[:5]).unlearning_report_.status)
    'completed'
    """

    damping: float | str = 0.0
    _parameter_constraints = {  # noqa: RUF012
        "rcond": [None, Interval(Real, 0, 1, closed="left")],
        "hold_residual": ["boolean"],
    }

    def __init__(self, rcond: float | None = None, *, hold_residual: bool = True) -> None:
        self.rcond = rcond
        self.hold_residual = hold_residual

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.exact_on_quadratics = True
        return tags

    def _curvature(self, local: Linearised) -> Product:
        return local.hessian

    def _solve(self, problem: UnlearningProblem, product: Product, gradient: Tensor, damping: float) -> Solved:
        H = dense_matrix(product, gradient, "DampedNewton(solver='cg'), or CuReNU, which needs no matrix")
        return Solved(solve_pseudo_inverse(H, gradient, self.rcond), "dense", len(gradient))
