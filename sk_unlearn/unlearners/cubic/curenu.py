"""Cubic-regularised Newton unlearning: CuReNU and its stochastic sibling StoCuReNU."""

from __future__ import annotations

from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, StrOptions

from sk_unlearn.unlearners.base import UnlearnerTags, UnlearningProblem
from sk_unlearn.unlearners.cubic._engine import CubicUnlearner
from sk_unlearn.unlearners.cubic._policy import Policy
from sk_unlearn.unlearners.cubic._sampling import Sampling
from sk_unlearn.unlearners.cubic._training import was_short

__all__ = ["CuReNU", "StoCuReNU"]

# The L of the paper for each of its data sets.
_PUBLISHED_L = {"fashion": 5.0, "cifar10": 50.0, "agnews": 80.0, "tofu": 400.0}
# What the paper trained on texts, of which a step reads fewer.
_TEXTS = ("agnews", "tofu")


class CuReNU(CubicUnlearner):
    r"""Cubic-regularised Newton unlearning over all retained rows.

    With :math:`F` the empirical risk over the retained rows and :math:`r` the gradient that training left over all
    rows, it minimises :math:`\Phi(w) = F(w) - r^\top w` by steps that minimise the cubic model

    .. math:: m(s) = g^\top s + \tfrac12 s^\top H s + \tfrac L6 \|s\|^3 .

    The cubic term bounds the step where the Hessian is singular or indefinite, as it is for networks. Because of r,
    forgetting nothing is exactly the identity and no training is resumed. With ``L="auto"`` weights that only erased
    rows used first go back to where training without data leads (release, with ``keep_initial=True``), and the steps
    begin in the output layer, where they need features only. Where the net fits its rows all but perfectly and all rows
    are read, r fades with what the deletion outweighs, :math:`r \|r\| / \sqrt{\|r\|^2 + \|\nabla F(w_0) - r\|^2}`.

    Parameters
    ----------
    L : "auto" or float, default="auto"
        Weight of the cubic term, in units of loss per cubed parameter norm. ``"auto"`` adapts it to how well the
        decrease of each step was predicted, and takes no step that lowers Φ by less than a tenth of that. A number is
        kept fixed and every step is taken, as published.

    solver : {"auto", "krylov", "dense", "gradient_descent"}, default="auto"
        How the model is minimised: in a Krylov space of Hessian-vector products (memory (n_products + 6)·d); exactly,
        with the full Hessian (memory O(d²), time O(n d² + d³) a step, for a few hundred parameters); or by gradient
        descent from the Cauchy point (memory 4·d). ``"auto"`` is Krylov where its memory is free, else gradient
        descent, which a note in the report then says; ``extra["memory_forecast"]`` tells what each was expected to
        need.

    n_products : "auto" or int, default="auto"
        Hessian-vector products a step: dimension of the Krylov space, or gradient-descent steps. ``"auto"`` is 10, or
        as many as the step needs (up to 200) where training had ended at an optimum; of a space that would take more
        than 128 MiB (10 products and 3.4 million parameters in float32) fewer, 3 at least.

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

    policy : Policy, default=None
        Rules of thumb, for whoever works on the engine: see ``sk_unlearn.unlearners.cubic.Policy``. None for those that
        the benchmarks chose.

    offload : {None, "cpu"}, default=None
        Where the point and the gradient at which a move began wait until the move is known to be a good one: None, on
        the device of the net; "cpu", in the memory of the host, page-locked for a CUDA device. That is two vectors as
        long as the parameters less on the device, for two copies a step; on a CPU nothing changes.

    Raises
    ------
    MemoryError
        When the solver asked for needs more memory than is free.

    See Also
    --------
    CuReNU.published : The algorithm exactly as published.

    Notes
    -----
    The status in the report says how it ended. "converged" is the gradient of Φ at `tol`; "overshoot_undone", common
    for networks, is a further step that left a larger gradient, since curvature near the fitted point holds no further,
    or that promised more than all before it, as steps do that go on with training.

    References
    ----------
    .. [1] Bui, Lu, Sim, Ng and Low, "How to Cure Newton for Unlearning Neural Networks? An Empirical Study from the
       Hessian Perspective", ICLR 2026.
    .. [2] Cartis, Gould and Toint, "Adaptive cubic regularisation methods for unconstrained optimization", Part I,
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
        "policy": [Policy, None],
        "offload": [None, StrOptions({"cpu"})],
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
        policy: Policy | None = None,
        offload: str | None = None,
    ) -> None:
        self.L = L
        self.solver = solver
        self.n_products = n_products
        self.max_steps = max_steps
        self.tol = tol
        self.hold_residual = hold_residual
        self.output_layer_first = output_layer_first
        self.policy = policy
        self.offload = offload

    #: The paper's solver at the rate and without the noise of training; :class:`StoCuReNU` has these as parameters.
    learning_rate: float | None = None
    sigma: float = 0.0
    renew: bool | str = False
    budget: float = 1.0

    @classmethod
    def published(cls, dataset: str = "fashion") -> CuReNU:
        """Return the algorithm as published: one exact step of fixed L on the retained risk itself.

        Parameters
        ----------
        dataset : {"fashion", "cifar10", "agnews", "tofu"}, default="fashion"
            Whose L to take: 5, 50, 80 or 400.

        Returns
        -------
        unlearner : CuReNU
            It needs memory O(d²).

        Raises
        ------
        ValueError
            For a data set of which no L was published.

        References
        ----------
        .. [1] Bui, Lu, Sim, Ng and Low, "How to Cure Newton for Unlearning Neural Networks? An Empirical Study from the
           Hessian Perspective", ICLR 2026.

        Examples
        --------
        >>> from sk_unlearn.unlearners import CuReNU
        >>> CuReNU.published("cifar10").L
        50.0
        """
        return cls(_published_weight(dataset), solver="dense", max_steps=1, hold_residual=False)

    def _sampling(self, problem: UnlearningProblem, policy: Policy) -> Sampling:
        n = problem.retained.n_rows
        return Sampling(n, n, n)


class StoCuReNU(CubicUnlearner):
    r"""Stochastic cubic-regularised Newton unlearning: :class:`CuReNU` on samples of the retained rows.

    Its cost does not grow with the training set. Weights that only the erased rows used first go back to where training
    without data leads, as in :class:`CuReNU`. On a sample the steps are those in the output layer alone, if there is
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

    renew : {"auto", True, False}, default="auto"
        Whether to train the whole network anew on the retained rows, from its initial weights and along the schedule of
        ``fit`` in fewer steps, in place of steps from the fitted point. ``"auto"`` does where steps are not enough:
        where most of what the outputs on the erased rows hang on lies before the output layer, and the request is no
        small one (see Notes). Where all rows are read and training anew takes at most 100 steps, steps would take as
        long, and it is done in full. It needs ``keep_initial=True`` and stored rows; where training cannot be shortened
        the report says why.

    budget : float, default=0.25
        Largest share of retraining's time that this may take, in (0, 1]. Four fifths of it are the share of the steps
        of a full training; the rest is for what every request takes, 50 to 100 ms, which is more than that where a full
        training takes less than a second or two. A training of at most 100 steps may be done again in full.

    variance_reduction : bool, default=True
        Correct each sampled gradient by its value at the fitted point. False uses the plain sample, as published.

    learning_rate : float, default=None
        Rate of the gradient-descent solver; None takes the net's training rate, as published.

    sigma : float, default=0.0
        Size of the perturbation that lets the gradient-descent solver leave a saddle point.

    policy : Policy, default=None
        Rules of thumb, for whoever works on the engine; see :class:`CuReNU`.

    offload : {None, "cpu"}, default=None
        Where vectors to go back to are kept; see :class:`CuReNU`.

    Raises
    ------
    MemoryError
        When the solver asked for needs more memory than is free.

    See Also
    --------
    StoCuReNU.published : The algorithm as published.

    Notes
    -----
    Where rows are sampled and the output layer came to rest the status in the report is "settled", and a note says that
    the layers before it were not moved. "sampling_noise" is a gradient that the sample cannot tell from zero.

    *When* ``renew="auto"`` *trains anew.* In full where up to 1,024 rows are left (2,048 after 20 epochs or more) and
    training on them takes at most 100 steps. Otherwise in a share of the steps, but not

    - where training had ended at an optimum;
    - where the residual of training is more than 40 times what this request brings to the gradient and earlier ones
      left there, nor for one row alone;
    - in fewer than 100 steps;
    - where weights that were released had 30 % or more of the neural tangent kernel of the erased rows' outputs, or the
      output layer has 50 % or more of what is left of it (20 % where all rows are read);
    - where a net was set aside, until twice as much is to be undone.

    The targets are the labels, so that no layer knows anything of the erased rows and ``certificate_`` says "exact",
    where no row of a class is left, where the request brings at least five times the residual, where all rows are read,
    or where the loss takes no predictions. Else they are what the net predicts once it has forgotten as far as steps
    lead, which changes it least where rows go at random. The net is set aside, and steps stand, if it changed
    predictions for erased rows hardly more than those for retained rows or did not learn these; where steps in the
    whole network read all rows, if it changed them less than six times as much or learnt these a tenth worse. ``extra``
    says what was chosen and why.

    References
    ----------
    .. [1] Bui, Lu, Sim, Ng and Low, "How to Cure Newton for Unlearning Neural Networks? An Empirical Study from the
       Hessian Perspective", ICLR 2026 (there CuReNUS).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import StoCuReNU
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=StoCuReNU(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.parameters_moved
    True
    """

    _parameter_constraints = {  # noqa: RUF012
        **CuReNU._parameter_constraints,
        "solver": [StrOptions({"auto", "krylov", "gradient_descent"})],
        "n_gradient_rows": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
        "n_curvature_rows": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "renew": ["boolean", StrOptions({"auto"})],
        "budget": [Interval(Real, 0, 1, closed="right")],
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
        renew: bool | str = "auto",
        budget: float = 0.25,
        variance_reduction: bool = True,
        learning_rate: float | None = None,
        sigma: float = 0.0,
        policy: Policy | None = None,
        offload: str | None = None,
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
        self.renew = renew
        self.budget = budget
        self.variance_reduction = variance_reduction
        self.learning_rate = learning_rate
        self.sigma = sigma
        self.policy = policy
        self.offload = offload

    @classmethod
    def published(cls, dataset: str = "fashion") -> StoCuReNU:
        """Return the algorithm as published: ten steps of fixed L on fresh samples, by perturbed gradient descent.

        Parameters
        ----------
        dataset : {"fashion", "cifar10", "agnews", "tofu"}, default="fashion"
            Whose L to take: 5, 50, 80 or 400. A step reads 128 rows for the gradient and 64 for the curvature on
            images, 10 and 5 on texts.

        Returns
        -------
        unlearner : StoCuReNU

        Raises
        ------
        ValueError
            For a data set of which no L was published.

        Notes
        -----
        Each step descends its model 5 times on images. For texts the number is only known to lie between 5 and 10; here
        it is 10. Sources differ on the size of the perturbation, too (0.001, 0.1 and 20); here it is 0.1.

        References
        ----------
        .. [1] Bui, Lu, Sim, Ng and Low, "How to Cure Newton for Unlearning Neural Networks? An Empirical Study from the
           Hessian Perspective", ICLR 2026 (there CuReNUS).

        Examples
        --------
        >>> from sk_unlearn.unlearners import StoCuReNU
        >>> StoCuReNU.published("agnews").n_gradient_rows
        10
        """
        texts = dataset in _TEXTS
        return cls(
            _published_weight(dataset),
            n_gradient_rows=10 if texts else 128,
            n_curvature_rows=5 if texts else 64,
            solver="gradient_descent",
            n_products=10 if texts else 5,
            max_steps=10,
            hold_residual=False,
            variance_reduction=False,
            sigma=0.1,
        )

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = self.renew is True
        tags.exact_on_quadratics &= self.renew is not True
        tags.extra = (*tags.extra, "renewal", "renewal_reason", "output_layer_share", "share_of_training")
        return tags

    def _sampling(self, problem: UnlearningProblem, policy: Policy) -> Sampling:
        n = problem.retained.n_rows
        few = n <= (policy.few_rows if was_short(problem.net, policy) else 2 * policy.few_rows)
        automatic = n if few else policy.few_rows
        gradient = automatic if self.n_gradient_rows == "auto" else min(n, int(self.n_gradient_rows))
        curvature = gradient if self.n_curvature_rows == "auto" else min(n, int(self.n_curvature_rows))
        return Sampling(n, gradient, curvature, self.variance_reduction)


def _published_weight(dataset: str) -> float:
    """Return the L of the paper for one of its data sets."""
    if dataset not in _PUBLISHED_L:
        known = ", ".join(map(repr, _PUBLISHED_L))
        raise ValueError(f"dataset must be one of {known}, got {dataset!r}; no L was published for others.")
    return _PUBLISHED_L[dataset]
