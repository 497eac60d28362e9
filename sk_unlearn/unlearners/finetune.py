"""Continue training on what is left, from the end or from an earlier point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from skorch import NeuralNet
from skorch.callbacks import Callback, LRScheduler
from torch import Tensor

from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.training.recorder import TrainingRecorder
from sk_unlearn.unlearners._heuristic import RowHeuristic
from sk_unlearn.unlearners._minibatch import annealed
from sk_unlearn.unlearners._watch import Watch
from sk_unlearn.unlearners.base import Unlearner, UnlearnerTags, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._numpy_state import NumpyStateMixin

__all__ = ["FineTune", "L1Sparse", "RewindToDelete", "epochs_trace"]


class FineTune(Unlearner):
    """Continue training on the retained rows from the fitted parameters: the warm start everybody tries first.

    It uses the net's own optimiser (with fresh state), batch size and loss. Nothing in it undoes the erased rows;
    they fade as training goes on.

    Parameters
    ----------
    n_epochs : int, default=1
        Passes over the retained rows.

    learning_rate : float, default=None
        First learning rate, annealed to zero along a cosine over the run. None takes the net's.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import FineTune
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=FineTune(n_epochs=2), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.n_steps
    2
    """

    _parameter_constraints = {  # noqa: RUF012
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [None, Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, n_epochs: int = 1, *, learning_rate: float | None = None) -> None:
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = True
        return tags

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        net = _trained_on(problem, self.n_epochs, self.learning_rate)
        trace = epochs_trace(problem, net, self.n_epochs)
        # Its BatchNorm statistics started from those of the erased rows and are better estimated anew: so `trained` is
        # not handed back.
        reason = f"trained for {self.n_epochs} more epochs"
        return UnlearningResult(flat_parameters(net), Status.COMPLETED, reason, trace=trace)


class L1Sparse(RowHeuristic):
    r"""Fine-tune towards small weights: descend :math:`F_R(w) + \gamma_t \lVert w \rVert_1` from the fitted parameters.

    In epoch t of T, counted from 0, :math:`\gamma_t = \gamma (1 - t / T)`. Weights that only the erased rows held up
    shrink fastest, since no retained row holds them against the penalty. All else is as in :class:`FineTune`: the net's
    own optimiser (with fresh state), batch size and loss, and the rate annealed to zero along a cosine.

    Parameters
    ----------
    strength : float, default=5e-4
        γ, at the beginning. 0 is :class:`FineTune`.

    n_epochs : int, default=10
        T, passes over the retained rows.

    learning_rate : float, default=None
        First learning rate. None takes the net's.

    Notes
    -----
    It follows the ℓ1-sparse objective of the paper [1]_ (fine-tuning plus :math:`\gamma \lVert \theta \rVert_1`) with
    the linear decay of the published code. As there, the optimiser is given the gradient of the loss plus
    :math:`\gamma_t \operatorname{sign}(w)`, for every trainable parameter of the module: weights come near zero, and
    few are zero exactly. An optimiser that rescales gradients, such as Adam, makes more of a small γ than plain SGD
    does. An embedding with sparse gradients is shrunk in the rows that a batch reads.

    A loss on retained rows that rose markedly (by a tenth of what training has gained over a constant prediction) gives
    the status ``harmed_retained``.

    Published are 10 passes with SGD at a rate of 0.01, and γ adjusted to the network. With the γ that later comparisons
    take, such as that of :class:`AMUN`'s authors, this is ``L1Sparse(5e-4, n_epochs=10, learning_rate=0.01)``.

    References
    ----------
    .. [1] Jia et al., "Model sparsity can simplify machine unlearning", NeurIPS 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import L1Sparse
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=L1Sparse(n_epochs=3), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.n_steps
    3
    """

    _parameter_constraints = {  # noqa: RUF012
        "strength": [Interval(Real, 0, None, closed="left")],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [None, Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, strength: float = 5e-4, *, n_epochs: int = 10, learning_rate: float | None = None) -> None:
        self.strength = strength
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        penalty = _L1Penalty(self.strength, self.n_epochs)
        net = _trained_on(problem, self.n_epochs, self.learning_rate, [("l1", penalty)])
        if not penalty.was_added:
            raise ValueError(
                "unlearner=L1Sparse() adds its penalty to the gradients that skorch's train_step announces by "
                "on_grad_computed, and the net's own train_step announces none; notify there, or use FineTune."
            )
        w, trace = flat_parameters(net), epochs_trace(problem, net, self.n_epochs)
        reason = f"trained for {self.n_epochs} more epochs; L1 norm {_l1(problem.parameters):.4g} to {_l1(w):.4g}"
        return UnlearningResult(w, *Watch(problem).verdict(w, Status.COMPLETED, reason), trace=trace)


class RewindToDelete(Unlearner):
    """Go back to an earlier point of training, and train from there on the retained rows alone.

    The epochs after that point are repeated with the learning rates that they had, and with fresh optimiser state. The
    estimator must be fitted with this unlearner, so that the point is kept.

    Parameters
    ----------
    rewind : float, default=0.5
        Share of the epochs of ``fit`` to go back, in (0, 1]. 1 is retraining, but for the order of the rows. It is
        read at ``fit``.

    Notes
    -----
    What the erased rows did before that point stays. The point is kept for further requests, which each start from it
    too; so the fitted estimator goes on holding *one* set of parameters that the erased rows had a part in. Fit again
    where that must not be.

    The paper [1]_ proves (epsilon, delta) guarantees for gradient descent with noise added at the end. No noise is
    added here, and none is claimed.

    References
    ----------
    .. [1] Mu and Klabjan, "Rewind-to-Delete: certified machine unlearning for nonconvex functions", 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import RewindToDelete
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=RewindToDelete(rewind=0.1), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.n_steps
    10
    """

    _parameter_constraints = {  # noqa: RUF012
        "rewind": [Interval(Real, 0, 1, closed="right")],
    }

    def __init__(self, rewind: float = 0.5) -> None:
        self.rewind = rewind

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = True
        return tags

    def recorder(self) -> TrainingRecorder:
        """Return a recorder that keeps the point to go back to."""
        self._validate_params()
        return _CheckpointRecorder(self.rewind)

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        point = problem.recording
        if not isinstance(point, _Checkpoint):
            raise ValueError(
                "RewindToDelete needs the point of training to go back to: fit with unlearner=RewindToDelete() so that "
                "it is recorded (partial_fit keeps none)."
            )
        rates = point.learning_rates
        anneal = LRScheduler(
            policy=torch.optim.lr_scheduler.LambdaLR,
            lr_lambda=lambda epoch: rates[min(epoch, len(rates) - 1)] / rates[0],
        )
        net = problem.retrain(
            warm=True,
            epochs=len(rates),
            callbacks=[("anneal", anneal)],
            learning_rate=rates[0],
            start=point.parameters.to(problem.parameters),
        ).net
        trace = epochs_trace(problem, net, len(rates))
        reason = f"repeated the last {len(rates)} epochs from a point that the erased rows had a part in"
        return UnlearningResult(flat_parameters(net), Status.COMPLETED, reason, trace=trace, recording=point)


@dataclass(frozen=True)
class _Checkpoint(NumpyStateMixin):
    """Parameters within training, of shape (d,), and the learning rate of every epoch after them."""

    parameters: Tensor
    learning_rates: list[float]


class _CheckpointRecorder(TrainingRecorder):
    """Keeps the parameters at the beginning of the epoch that leaves the given share of epochs to go."""

    def __init__(self, rewind: float) -> None:
        self.rewind = rewind

    def begin(self, net: NeuralNet, n_rows: int, mass: float, rng: np.random.Generator) -> None:
        self._first = net.max_epochs - max(1, round(self.rewind * net.max_epochs))
        self._epoch = 0
        self._rates: list[float] = []

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        if self._epoch <= self._first:
            self._parameters, self._rates = flat_parameters(net).cpu(), []
        self._rates.append(float(net.optimizer_.param_groups[0]["lr"]))
        self._epoch += 1

    def recording(self, net: NeuralNet) -> _Checkpoint:
        return _Checkpoint(self._parameters, self._rates)


class _L1Penalty(Callback):
    """Adds the gradient of strength * (1 - t / n_epochs) * |w|_1 to that of the loss, in epoch t from 0."""

    def __init__(self, strength: float, n_epochs: int) -> None:
        self.strength, self.n_epochs = strength, n_epochs

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        self._epoch, self.was_added = -1, False

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        self._epoch += 1

    @torch.no_grad()
    def on_grad_computed(self, net: NeuralNet, named_parameters: Any, **kwargs: Any) -> None:
        self.was_added = True
        strength = self.strength * (1 - self._epoch / self.n_epochs)
        for parameter in net.module_.parameters():
            if parameter.grad is None or strength == 0:
                continue
            if parameter.grad.is_sparse:
                # SparseAdam takes no dense gradient.
                parameter.grad = gradient = parameter.grad.coalesce()
                gradient.values().add_(parameter[gradient.indices()[0]].sign(), alpha=strength)
            else:
                parameter.grad.add_(parameter.sign(), alpha=strength)


def _l1(w: Tensor) -> float:
    return float(w.abs().sum())


def _trained_on(
    problem: UnlearningProblem,
    n_epochs: int,
    learning_rate: float | None,
    callbacks: Sequence[tuple[str, Callback]] = (),
) -> NeuralNet:
    """Return a net that went on training on the retained rows, the rate annealed to zero along a cosine."""
    return problem.retrain(
        warm=True, epochs=n_epochs, callbacks=[annealed(problem, n_epochs), *callbacks], learning_rate=learning_rate
    ).net


def epochs_trace(problem: UnlearningProblem, net: NeuralNet, n_epochs: int) -> list[dict[str, Any]]:
    """Return a record for each of the last epochs of a net, and report it."""
    trace: list[dict[str, Any]] = []
    for step, epoch in enumerate(net.history[-n_epochs:] if n_epochs else (), 1):
        trace.append({"step": step, "train_loss": epoch["train_loss"], "seconds": epoch["dur"]})
        problem.report_step(trace[-1])
    return trace
