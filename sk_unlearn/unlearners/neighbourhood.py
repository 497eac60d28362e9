"""Unlearn around the erased rows too: AMUN trains on adversarial points near them, RURK climbs at random ones."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval
from torch import Tensor

from sk_unlearn.risks.empirical import EmpiricalRisk, Rows
from sk_unlearn.unlearners._heuristic import RowHeuristic
from sk_unlearn.unlearners._minibatch import MinibatchLoop
from sk_unlearn.unlearners._neighbours import check_real_inputs, input_spread, nearest_adversaries, scattered
from sk_unlearn.unlearners.base import UnlearnerTags, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.distillation import check_has_logits
from sk_unlearn.unlearners.status import Status

__all__ = ["AMUN", "RURK", "without_losses"]


class AMUN(RowHeuristic):
    r"""Train on the retained rows, and on a point near each erased row with the wrong label that the model gives it.

    Such adversarial points lie just beyond the decision boundary. To agree with the labels the model lowers its
    confidence near the erased rows, and little changes elsewhere. Steps are Adam's; the points count by the mass of the
    erased rows.

    Parameters
    ----------
    radius : float, default=0.05
        Radius of the first ball around an erased row in which an adversarial point is looked for. It is doubled until
        there is one. Distances are Euclidean, every input in units of its standard deviation over retained rows.

    n_steps : int, default=50
        Steps of the search in a ball, each a tenth of its radius long.

    n_epochs : int, default=10
        Passes over the retained rows.

    learning_rate : float, default=1e-3
        Of Adam.

    Notes
    -----
    For classifiers with ``CrossEntropyLoss``, ``NLLLoss`` or (two classes) ``BCEWithLogitsLoss``, and rows of real
    numbers that the net takes as they are stored.

    It follows algorithm 1 of the paper [1]_ with the attack used there, projected gradient ascent of 50 steps with
    normalised gradients (PGD-50), and trains on retained rows and adversarial points, as the paper does where the
    retained rows are at hand. A row that the model gets wrong is its own adversarial point. Rows without such a point
    in 1,024 times the radius are left out, and a note in the report tells how many.

    The report's ``extra`` has ``median_radius`` and ``largest_radius``, of the balls in which points were found.

    The published settings are ``AMUN(radius=0.16, n_steps=50, n_epochs=10, learning_rate=0.01)``, with SGD: images in
    [0, 1] have a standard deviation of about a quarter, and the first radius is 0.04 there. Points are not kept within
    bounds here, since a table has none.

    References
    ----------
    .. [1] Ebrahimpour-Boroojeny, Sundaram and Chandrasekaran, "AMUN: adversarial machine unlearning" (also "Not all
       wrong is bad: using adversarial examples for unlearning"), ICML 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import AMUN
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=AMUN(n_epochs=2), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.n_steps
    2
    """

    _parameter_constraints = {  # noqa: RUF012
        "radius": [Interval(Real, 0, None, closed="neither")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self, radius: float = 0.05, *, n_steps: int = 50, n_epochs: int = 10, learning_rate: float = 1e-3
    ) -> None:
        self.radius = radius
        self.n_steps = n_steps
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_logits = True
        tags.extra = ("median_radius", "largest_radius")
        return tags

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        check_has_logits(problem.net, self)
        check_real_inputs(problem, self)
        erased = problem.erased
        found = nearest_adversaries(problem, input_spread(problem), self.radius, self.n_steps)
        if not len(found.rows):
            reason = "no adversarial point was found near the erased rows; raise radius"
            return UnlearningResult(problem.parameters.clone(), Status.COMPLETED, reason)
        targets = erased.targets(found.rows)
        labels = found.labels.astype(targets.dtype).reshape(targets.shape)
        points = erased.with_targets(labels, X=found.X, rows=found.rows)
        loop = MinibatchLoop(problem, self.learning_rate)
        for _ in range(self.n_epochs):
            loop.mixed_pass(points)
        n_missing = erased.n_rows - len(found.rows)
        note = f"{n_missing} of {erased.n_rows} erased rows have no adversarial point near them and took no part"
        return loop.result(
            Status.COMPLETED,
            f"{self.n_epochs} passes over the retained rows",
            notes=[note] if n_missing else [],
            extra={"median_radius": float(np.median(found.radius)), "largest_radius": float(found.radius.max())},
        )


class RURK(RowHeuristic):
    r"""Descend the loss of the retained rows, and climb that of the erased ones and of random points near them.

    .. math:: F_R(w) - \lambda_E F_E(w) - \lambda_N F_N(w)

    N holds normally distributed points around the erased rows, with the labels of these, drawn anew for every batch.
    Unlearned models often still know such points, which retrained ones do not: their residual knowledge. Each step
    takes a batch of each. Steps are Adam's.

    Parameters
    ----------
    erased_weight : float, default=0.03
        :math:`\lambda_E`.

    neighbour_weight : float, default=0.00045
        :math:`\lambda_N`.

    scatter : float, default=0.1
        Standard deviation of the points around a row, every input in units of its own over retained rows.

    n_neighbours : int, default=1
        Points around each row.

    n_epochs : int, default=2
        Passes over the retained rows.

    learning_rate : float, default=1e-3
        Of Adam.

    Notes
    -----
    For rows of real numbers, and any loss. It follows algorithm 1 (appendix B.2) of the paper [1]_ with Gaussian
    perturbations: there all points near a row count, not only those that the model still recognises, as in the
    objective of section 4.2.

    The objective has no lower bound. As in :class:`NegGradPlus` a batch of erased rows, or of points near them, is left
    out of a step while its loss is at chance or above, chance being the erased rows' loss if each got the mean output.
    The weight decay counts once, with the retained rows.

    The published settings for CIFAR-10 are ``RURK(0.03, neighbour_weight=0.00045, scatter=0.12, n_neighbours=1,
    n_epochs=2, learning_rate=0.01)``, with SGD, at most 200 steps, and gradients clipped to a norm of 1: the paper
    scatters by 0.03 in images in [0, 1], whose standard deviation is about a quarter.

    References
    ----------
    .. [1] Hsu et al., "The unseen threat: residual knowledge in machine unlearning under perturbed samples",
       NeurIPS 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import RURK
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=RURK(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.n_steps
    2
    """

    _parameter_constraints = {  # noqa: RUF012
        "erased_weight": [Interval(Real, 0, None, closed="left")],
        "neighbour_weight": [Interval(Real, 0, None, closed="left")],
        "scatter": [Interval(Real, 0, None, closed="neither")],
        "n_neighbours": [Interval(Integral, 1, None, closed="left")],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        erased_weight: float = 0.03,
        *,
        neighbour_weight: float = 0.00045,
        scatter: float = 0.1,
        n_neighbours: int = 1,
        n_epochs: int = 2,
        learning_rate: float = 1e-3,
    ) -> None:
        self.erased_weight = erased_weight
        self.neighbour_weight = neighbour_weight
        self.scatter = scatter
        self.n_neighbours = n_neighbours
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        check_real_inputs(problem, self)
        loop, erased, rng = MinibatchLoop(problem, self.learning_rate), problem.erased, problem.rng
        scale = self.scatter * input_spread(problem)
        for _ in range(self.n_epochs):
            for retained_rows, erased_rows in loop.paired_batches():
                near = scattered(erased, erased_rows, scale, self.n_neighbours, rng)
                climbed = [(self.erased_weight, erased, erased_rows), (self.neighbour_weight, near, None)]
                gradient = problem.retained.gradient(loop.w, retained_rows)
                loop.step(without_losses(loop.w, (0.0, gradient), climbed, loop.watch.chance)[1])
            loop.record()
        return loop.result(Status.COMPLETED, f"{self.n_epochs} passes over the retained rows")


def without_losses(
    w: Tensor,
    value_and_gradient: tuple[float, Tensor],
    climbed: Iterable[tuple[float, EmpiricalRisk, Rows | None]],
    chance: float,
) -> tuple[float, Tensor]:
    """Take weighted losses off an objective.

    Parameters
    ----------
    w : Tensor of shape (d,)
    value_and_gradient : tuple of float and Tensor of shape (d,)
        Of the objective at w.
    climbed : iterable of (float, EmpiricalRisk, int64 ndarray or None)
        A weight, and whose loss, over which rows, is taken off that many times, without penalty.
    chance : float
        A loss that is not below it stays out.

    Returns
    -------
    value : float
    gradient : Tensor of shape (d,)
    """
    value, gradient = value_and_gradient
    for weight, risk, rows in climbed:
        part, slope = risk.value_and_gradient(w, rows)
        loss = risk.without_penalty(w, part)
        if loss < chance:
            value = value - weight * loss
            gradient = gradient - weight * (slope - risk.penalty_gradient(w))
    return value, gradient
