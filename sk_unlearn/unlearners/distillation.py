"""Learn from the fitted model what to keep, and unlearn from it what to lose: SCRUB and DELETE."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import torch
from sklearn.utils._param_validation import Interval
from skorch import NeuralNet, NeuralNetClassifier
from torch import Tensor, nn

from sk_unlearn.risks.empirical import EmpiricalRisk, Rows
from sk_unlearn.unlearners._heuristic import RowHeuristic
from sk_unlearn.unlearners._minibatch import MinibatchLoop
from sk_unlearn.unlearners._watch import AT_CHANCE, TOO_DEAR, stored_part
from sk_unlearn.unlearners.base import Unlearner, UnlearnerTags, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status

__all__ = ["DELETE", "SCRUB", "class_logits", "divergence_from_others", "softened_divergence"]


class SCRUB(RowHeuristic):
    r"""Obey the fitted model on the retained rows, and disobey it on the erased ones.

    A pass over the erased rows that *maximises* the divergence from the fitted model, the teacher t,
    :math:`\mathrm{KL}(p_t \| p_w)`, precedes each of the first ``n_max_epochs`` passes over the retained rows, which
    minimise :math:`\gamma F_R + \alpha \mathrm{KL}(p_t \| p_w)`. Probabilities are softened by a temperature T, and
    the divergence is multiplied by T². Steps are Adam's.

    Parameters
    ----------
    n_epochs : int, default=5
        Passes over the retained rows.

    n_max_epochs : int, default=4
        Passes over the erased rows.

    learning_rate : float, default=1e-3
        Of Adam.

    alpha : float, default=0.5
        Weight of the divergence on the retained rows.

    gamma : float, default=1.0
        Weight of the training loss on the retained rows.

    temperature : float, default=2.0
        T.

    Notes
    -----
    For classifiers with ``CrossEntropyLoss``, ``NLLLoss`` or (two classes) ``BCEWithLogitsLoss``.

    The divergence and its gradient are zero where student and teacher are the same, so that the very first pass over
    the erased rows does nothing in a net without dropout. It has no upper bound either: a pass over the erased rows is
    left out while their mean loss is at chance, their loss if every row got the mean output.

    The published settings for small problems [1]_ are ``SCRUB(n_epochs=10, n_max_epochs=3, learning_rate=5e-4)``.
    The paper's choice of a checkpoint afterwards (SCRUB+R) is no part of it.

    References
    ----------
    .. [1] Kurmanji, Triantafillou, Hayes and Triantafillou, "Towards unbounded machine unlearning", NeurIPS 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import SCRUB
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=SCRUB(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.n_steps
    5
    """

    _parameter_constraints = {  # noqa: RUF012
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "n_max_epochs": [Interval(Integral, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        n_epochs: int = 5,
        *,
        n_max_epochs: int = 4,
        learning_rate: float = 1e-3,
        alpha: float = 0.5,
        gamma: float = 1.0,
        temperature: float = 2.0,
    ) -> None:
        self.n_epochs = n_epochs
        self.n_max_epochs = n_max_epochs
        self.learning_rate = learning_rate
        self.alpha = alpha
        self.gamma = gamma
        self.temperature = temperature

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_logits = True
        return tags

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        check_has_logits(problem.net, self)
        loop, retained = MinibatchLoop(problem, self.learning_rate), problem.retained
        stored = stored_part(retained)
        for epoch in range(self.n_epochs):
            if epoch < self.n_max_epochs and loop.watch.erased_loss(loop.w) < loop.watch.chance:
                for rows in loop.erased_batches():
                    loop.step(-self._divergence_gradient(problem, problem.erased, loop.w, rows))
            for rows in loop.retained_batches():
                obey = self.alpha * self._divergence_gradient(problem, stored, loop.w, rows)
                loop.step(obey + self.gamma * retained.gradient(loop.w, rows))
            loop.record()
        return loop.result(Status.COMPLETED, f"{self.n_epochs} passes over the retained rows")

    def _divergence_gradient(self, problem: UnlearningProblem, risk: EmpiricalRisk, w: Tensor, rows: Rows) -> Tensor:
        teacher = class_logits(problem.net, risk.outputs(problem.parameters, rows))

        def loss(output: Tensor, y: Any, at: slice) -> Tensor:
            return softened_divergence(teacher[at], class_logits(problem.net, output), self.temperature)

        return risk.other_loss(w, loss, rows)[1]


class DELETE(RowHeuristic):
    r"""Teach the model, on the erased rows, its own opinion without the true class.

    Descends :math:`\mathrm{KL}(q \| p_w)` on the erased rows, where q is the softmax of the fitted model's logits with
    that of the true class set to minus infinity. No step reads retained rows. Steps are Adam's, on batches of the
    net's size.

    Parameters
    ----------
    n_epochs : int, default=20
        Passes over the erased rows, at most.

    learning_rate : float, default=1e-3
        Of Adam.

    Notes
    -----
    For classifiers with ``CrossEntropyLoss``, ``NLLLoss`` or (two classes) ``BCEWithLogitsLoss``.

    Every erased row is taught a wrong label. That is what retraining does when a class goes entirely; rows that a
    model without them would still get right become conspicuous.

    It stops when the mean loss of the erased rows reaches chance, their loss if every row got the mean output. A step
    that would raise the loss on retained rows markedly (by a hundredth of what training has gained over that constant
    prediction, on at most 1,024 rows) is not taken, and ends the run with the status
    ``overshoot_undone``; passes that run out before chance is reached are a ``budget_spent``.

    The published settings [1]_ are ``DELETE(n_epochs=20, learning_rate=1e-4)``, without these brakes.

    References
    ----------
    .. [1] Zhou et al., "Decoupled distillation to erase: a general unlearning method for any class-centric tasks",
       CVPR 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import DELETE
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=DELETE(), random_state=0).fit(X, y)
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

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_logits = True
        return tags

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        net, erased = problem.net, problem.erased
        check_has_logits(net, self)
        loop = MinibatchLoop(problem, self.learning_rate)

        def gradient(w: Tensor, rows: Rows) -> Tensor:
            teacher = class_logits(net, erased.outputs(problem.parameters, rows))

            def loss(output: Tensor, y: Any, at: slice) -> Tensor:
                return divergence_from_others(teacher[at], class_logits(net, output), y)

            return erased.other_loss(w, loss, rows)[1]

        for _ in range(self.n_epochs):
            for rows in loop.erased_batches():
                if not loop.try_step(gradient(loop.w, rows)):
                    return loop.result(Status.OVERSHOOT_UNDONE, TOO_DEAR)
                if loop.watch.erased_loss(loop.w) >= loop.watch.chance:
                    return loop.result(Status.COMPLETED, AT_CHANCE)
        return loop.result(Status.BUDGET_SPENT, f"{self.n_epochs} passes did not bring the erased rows' loss to chance")


def check_has_logits(net: NeuralNet, unlearner: Unlearner) -> None:
    """Raise a ValueError where the net gives no class probabilities."""
    known = (nn.CrossEntropyLoss, nn.NLLLoss, nn.BCEWithLogitsLoss)
    if not isinstance(net.criterion_, known):
        raise ValueError(
            f"unlearner={type(unlearner).__name__}() compares class probabilities, and the net's criterion is "
            f"{type(net.criterion_).__name__}; use a classifier with CrossEntropyLoss, NLLLoss or BCEWithLogitsLoss, "
            "or an unlearner for any loss, such as StoCuReNU or NegGradPlus."
        )


def class_logits(net: NeuralNet, output: Tensor) -> Tensor:
    """Return logits of shape (n, n_classes) of what the net's criterion takes."""
    if isinstance(net.criterion_, nn.BCEWithLogitsLoss):
        z = output.reshape(len(output), -1)
        if z.shape[1] != 1:
            raise ValueError(
                f"output of a net with BCEWithLogitsLoss must be one logit a row, got shape {tuple(output.shape)}: "
                "several labels a row are no classes to compare."
            )
        return torch.cat([torch.zeros_like(z), z], 1)
    if output.ndim != 2:
        raise ValueError(f"output of the net must have shape (n_rows, n_classes), got {tuple(output.shape)}.")
    if isinstance(net.criterion_, nn.NLLLoss) and isinstance(net, NeuralNetClassifier):
        # skorch takes probabilities there.
        return output.clamp_min(torch.finfo(output.dtype).tiny).log()
    return output


def softened_divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return T² KL(teacher || student) for each row of logits, softened by a temperature T.

    Parameters
    ----------
    teacher, student : Tensor of shape (n, n_classes)
        Logits.
    temperature : float
        T, which divides them.

    Returns
    -------
    divergence : Tensor of shape (n,)
    """
    log_p = (teacher / temperature).log_softmax(1)
    log_q = (student / temperature).log_softmax(1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1)


def divergence_from_others(teacher: Tensor, student: Tensor, y: Tensor) -> Tensor:
    """Return KL(q || student) for each row of logits, q the teacher's distribution over the classes other than y.

    Parameters
    ----------
    teacher, student : Tensor of shape (n, n_classes)
        Logits.
    y : Tensor of shape (n,)
        The true classes, whose probability under q is zero.

    Returns
    -------
    divergence : Tensor of shape (n,)
    """
    is_true = torch.zeros_like(teacher, dtype=torch.bool).scatter_(1, y.reshape(-1, 1).long(), True)
    log_q = teacher.masked_fill(is_true, -torch.inf).log_softmax(1)
    # Of the true class q log q is 0, and not 0 times infinity.
    terms = log_q.exp() * (log_q.masked_fill(is_true, 0.0) - student.log_softmax(1))
    return terms.sum(1)
