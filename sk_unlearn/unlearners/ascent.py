"""Push the erased rows out: gradient ascent on them, alone or beside descent on the others, and random labels."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.utils._param_validation import Interval

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.unlearners._heuristic import RowHeuristic
from sk_unlearn.unlearners._minibatch import MinibatchLoop
from sk_unlearn.unlearners._watch import AT_CHANCE, TOO_DEAR, stored_part
from sk_unlearn.unlearners.base import UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status

__all__ = [
    "GradientAscent",
    "NegGradPlus",
    "RandomLabels",
    "other_labels",
    "train_on_random_targets",
    "with_random_targets",
]

_LABEL_ROWS = 4096


class GradientAscent(RowHeuristic):
    r"""Climb the loss of the erased rows, :math:`w \leftarrow w + \eta \nabla F_E(w)`, and stop before the rest breaks.

    Nothing in it says what a model without those rows would do: it makes the model wrong on them. It is here to be
    compared with. Steps are Adam's, on batches of the net's size.

    Parameters
    ----------
    n_epochs : int, default=20
        Passes over the erased rows, at most.

    learning_rate : float, default=1e-3
        Of Adam.

    Notes
    -----
    It stops when the mean loss of the erased rows reaches chance, their loss if every row got the mean output. A step
    that would raise the loss on retained rows markedly (by a hundredth of what training has gained over that constant
    prediction, on at most 1,024 rows) is not taken, and ends the run with the status
    ``overshoot_undone``. Passes that run out before chance is reached are a ``budget_spent``, and chance itself is
    ``completed``: it is where the ascent is to end, and no tolerance.

    The literature uses a fixed number of passes and no such brakes: ``GradientAscent(n_epochs=5, learning_rate=1e-4)``.

    References
    ----------
    .. [1] Golatkar, Achille and Soatto, "Eternal sunshine of the spotless net", CVPR 2020 (as a baseline there).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import GradientAscent
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=GradientAscent(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.parameters_moved
    True
    """

    _parameter_constraints = {  # noqa: RUF012
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, n_epochs: int = 20, *, learning_rate: float = 1e-3) -> None:
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        loop, erased = MinibatchLoop(problem, self.learning_rate), problem.erased
        for _ in range(self.n_epochs):
            for rows in loop.erased_batches():
                if loop.watch.erased_loss(loop.w) >= loop.watch.chance:
                    return loop.result(Status.COMPLETED, AT_CHANCE)
                # The loss alone: climbing the weight decay too would push the parameters outwards.
                if not loop.try_step(erased.penalty_gradient(loop.w) - erased.gradient(loop.w, rows)):
                    return loop.result(Status.OVERSHOOT_UNDONE, TOO_DEAR)
        if loop.watch.erased_loss(loop.w) >= loop.watch.chance:
            return loop.result(Status.COMPLETED, AT_CHANCE)
        return loop.result(Status.BUDGET_SPENT, f"{self.n_epochs} passes did not bring the erased rows' loss to chance")


class NegGradPlus(RowHeuristic):
    r"""Descend the loss of the retained rows and climb that of the erased ones, :math:`\alpha F_R - (1 - \alpha) F_E`.

    Each step takes a batch of each. Steps are Adam's.

    Parameters
    ----------
    alpha : float, default=0.95
        Weight of the retained rows, in (0, 1).

    n_epochs : int, default=3
        Passes over the retained rows.

    learning_rate : float, default=1e-3
        Of Adam.

    Notes
    -----
    The objective has no lower bound. A batch of erased rows is therefore left out of a step while its loss is at
    chance or above, chance being its loss if every row got the mean output.

    The published weight is ``NegGradPlus(alpha=0.95)`` [1]_.

    References
    ----------
    .. [1] Kurmanji, Triantafillou, Hayes and Triantafillou, "Towards unbounded machine unlearning", NeurIPS 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import NegGradPlus
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=NegGradPlus(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.n_steps
    3
    """

    _parameter_constraints = {  # noqa: RUF012
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, alpha: float = 0.95, *, n_epochs: int = 3, learning_rate: float = 1e-3) -> None:
        self.alpha = alpha
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        loop, erased = MinibatchLoop(problem, self.learning_rate), problem.erased
        for _ in range(self.n_epochs):
            for retained_rows, erased_rows in loop.paired_batches():
                gradient = self.alpha * problem.retained.gradient(loop.w, retained_rows)
                value, climb = erased.value_and_gradient(loop.w, erased_rows)
                if erased.without_penalty(loop.w, value) < loop.watch.chance:
                    gradient -= (1 - self.alpha) * climb
                loop.step(gradient)
            loop.record()
        return loop.result(Status.COMPLETED, f"{self.n_epochs} passes over the retained rows")


class RandomLabels(RowHeuristic):
    """Train on the retained rows as they are and on the erased rows with random targets.

    Class labels are drawn anew in every pass, uniformly from those of the retained rows other than the row's own;
    targets of a regressor are those of retained rows drawn at random. Steps are Adam's; the two kinds of rows count by
    their mass.

    Parameters
    ----------
    n_epochs : int, default=1
        Passes over the retained rows.

    learning_rate : float, default=1e-3
        Of Adam.

    Notes
    -----
    Rows that a model without them would still predict well, such as a random tenth of the training set, become
    *conspicuously* wrong here: see the accuracy on them.

    References
    ----------
    .. [1] Graves, Nagisetty and Ganesh, "Amnesiac machine learning", AAAI 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import RandomLabels
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=RandomLabels(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.n_steps
    1
    """

    _parameter_constraints = {  # noqa: RUF012
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, n_epochs: int = 1, *, learning_rate: float = 1e-3) -> None:
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        loop = MinibatchLoop(problem, self.learning_rate)
        train_on_random_targets(loop, self.n_epochs)
        return loop.result(Status.COMPLETED, f"{self.n_epochs} passes over the retained rows")


def train_on_random_targets(loop: MinibatchLoop, n_epochs: int) -> None:
    """Train on the retained rows as they are and on the erased rows with random targets, anew in every pass."""
    problem = loop.problem
    stored = stored_part(problem.retained)
    known = stored.targets(stored.sample(_LABEL_ROWS, problem.rng))
    labels = np.unique(known) if is_classifier(problem.net) else None
    for _ in range(n_epochs):
        loop.mixed_pass(with_random_targets(problem.erased, known, labels, problem.rng))


def with_random_targets(
    erased: EmpiricalRisk, known: NDArray[Any], labels: NDArray[Any] | None, rng: np.random.Generator
) -> EmpiricalRisk:
    """Return the risk over the erased rows with random targets.

    Parameters
    ----------
    erased : EmpiricalRisk
        Over the erased rows, with the targets they have.
    known : ndarray of shape (n, ...)
        Targets of other rows, to draw from.
    labels : ndarray of shape (n_classes,) or None
        The sorted classes, for a label other than the row's own; None draws from ``known``, as for a regressor.
    rng : numpy.random.Generator
        The source of randomness.
    """
    if labels is None:
        return erased.with_targets(known[rng.integers(len(known), size=erased.n_rows)])
    return erased.with_targets(other_labels(erased.targets(), labels, rng))


def other_labels(y: NDArray[Any], labels: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Draw another label for each row, uniformly; a row for which there is no other keeps its own.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Labels of the rows, which need not be among ``labels``.
    labels : ndarray of shape (n_classes,)
        Sorted, to draw from.
    rng : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    drawn : ndarray of shape (n,)
        Of the dtype of y.
    """
    at = np.searchsorted(labels, y)
    is_known = labels[np.minimum(at, len(labels) - 1)] == y
    n_others = len(labels) - is_known
    drawn = (rng.random(len(y)) * n_others).astype(np.int64)
    # The row's own label is jumped over.
    drawn += is_known & (drawn >= at)
    return np.where(n_others > 0, labels[np.minimum(drawn, len(labels) - 1)], y).astype(y.dtype)
