"""Carry the influence of every row along while the net trains; to forget is then to add vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.training.recorder import TrainingRecorder
from sk_unlearn.unlearners._watch import Watch
from sk_unlearn.unlearners.base import Unlearner, UnlearnerTags, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._numpy_state import NumpyStateMixin

__all__ = ["HessianFreeRecording"]

# Bytes of the vectors that go through one batched Hessian-vector product.
_PRODUCT_BYTES = 2**24
# How far the gradient of training may be from that of the mean loss over its batch, and what rounding may add to it.
_GRADIENT_TOLERANCE, _ROUNDING = 1e-2, 1e-4


class HessianFreeRecording(Unlearner):
    r"""Record, while the net trains by SGD, how the parameters would have changed without each row.

    Beside the parameters, every row i carries a vector through training that starts at zero. A step of rate η on a
    batch B, in which row j has the share :math:`s_j` of the mass (1/\|B\| without weights) and the mean loss with its
    penalty has the Hessian :math:`H_B`, does

    .. math:: a_i \leftarrow (I - \eta H_B)\, a_i + [i \in B]\; \eta\, s_i \nabla \ell_i(w)

    with the Hessian-vector products of all rows taken in batches. To forget rows E is then
    :math:`w \leftarrow w + \sum_{i \in E} a_i`: no retained row is read, whatever the number of rows. The estimator
    must be fitted with this unlearner, by plain SGD.

    Parameters
    ----------
    max_bytes : int, default=2**30
        Bytes that the recording, one vector of the size of the parameters for each row, may take. ``fit`` refuses
        beyond.

    Notes
    -----
    *What is exact.* :math:`a_i` is minus the derivative of the trained parameters in the weight of row i, with the
    batches and their divisors as they were. So forgetting is the first-order change towards SGD on the same batches
    without the erased rows' terms. It equals that where the loss is quadratic and no erased row is met again after
    the parameters have first changed: one epoch, the erased rows all in one batch. Elsewhere it errs by terms of
    second order: little for a few rows among many, much for a whole class, whose rows vouch for each other, so that
    most of it stays. Where the loss on retained rows (at most 1,024) rose markedly, the status is ``harmed_retained``.

    *What is refused at fit.* Any optimiser but ``torch.optim.SGD`` without momentum: with others the recursion would
    need their state too. A gradient other than that of the mean loss in eval mode, such as dropout, BatchNorm in
    training mode, gradient clipping and sample weights bring: it is compared at every batch.

    *Cost of recording.* A Hessian-vector product for each row that has been met, at every batch.

    *Certificate.* None is claimed. That of the paper needs noise and bounds that are not known of a network.

    References
    ----------
    .. [1] Qiao, Zhang, Tang and Wei, "Hessian-free online certified unlearning", ICLR 2025.

    Examples
    --------
    >>> import torch
    >>> from skorch import NeuralNetClassifier
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import HessianFreeRecording
    >>> X, y = load_iris(return_X_y=True)
    >>> generator = torch.manual_seed(0)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.Linear(4, 3), criterion=torch.nn.CrossEntropyLoss, max_epochs=5, train_split=None, verbose=0
    ... )
    >>> est = UnlearnableClassifier(net, unlearner=HessianFreeRecording(), random_state=0).fit(X.astype("float32"), y)
    >>> str(est.forget(X[:5].astype("float32")).unlearning_report_.status)
    'completed'
    """

    _parameter_constraints = {  # noqa: RUF012
        "max_bytes": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, max_bytes: int = 2**30) -> None:
        self.max_bytes = max_bytes

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = True
        return tags

    def recorder(self) -> TrainingRecorder:
        """Return a recorder of the vectors of all rows."""
        self._validate_params()
        return _InfluenceRecorder(self.max_bytes)

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        known = problem.recording
        if not isinstance(known, _Influences):
            raise ValueError(
                "HessianFreeRecording needs what training recorded: fit with unlearner=HessianFreeRecording() so that "
                "the vectors of the rows are recorded (partial_fit records none)."
            )
        rows = problem.erased_rows
        if rows is None or len(problem.retained.parts) > 1:
            raise ValueError(
                "HessianFreeRecording has vectors for rows of the training set alone: it can neither correct rows nor "
                "forget rows that were handed in and are not stored. Use StoCuReNU."
            )
        step = known.vectors[torch.from_numpy(rows)].sum(0).to(problem.parameters)
        w = problem.parameters + step
        watch = Watch(problem)
        record = {"step": 1, **watch.losses(w), "step_norm": float(step.norm())}
        problem.report_step(record)
        status, reason = watch.verdict(w, Status.COMPLETED, "added the recorded vectors of the erased rows")
        left = np.delete(np.arange(len(known.vectors)), rows)
        kept = _Influences(known.vectors[torch.from_numpy(left)])
        return UnlearningResult(w, status, reason, trace=[record], recording=kept)


@dataclass(frozen=True)
class _Influences(NumpyStateMixin):
    """One vector for each trained row, in their order: shape (n_trained, d), on the host."""

    vectors: Tensor


class _InfluenceRecorder(TrainingRecorder):
    """Carries the vectors through training."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes

    def begin(self, net: NeuralNet, n_rows: int, mass: float, rng: np.random.Generator) -> None:
        parameters = [p for p in net.module_.parameters() if p.requires_grad]
        d, size = sum(p.numel() for p in parameters), parameters[0].element_size()
        if n_rows * d * size > self.max_bytes:
            raise ValueError(
                f"max_bytes of HessianFreeRecording is {self.max_bytes}, and the vectors of {n_rows} rows for {d} "
                f"parameters take {n_rows * d * size} bytes. Raise it, or use an unlearner that records nothing, such "
                "as StoCuReNU."
            )
        _check_plain_sgd(net)
        if mass != n_rows:
            raise ValueError("HessianFreeRecording cannot record a training with sample_weight; drop it.")
        self._vectors = parameters[0].new_zeros(n_rows, d).detach()
        self._was_met = np.zeros(n_rows, dtype=np.bool_)

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        self._risk = EmpiricalRisk(net, X, y)

    def on_grad_computed(
        self, net: NeuralNet, named_parameters: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        if not training:
            return
        assert self.rows is not None
        risk, rows = self._risk, self.rows
        w, rate = risk.parameters(), _learning_rates(net)
        parts = risk.row_gradients(w, rows)
        _check_gradient(net, parts)
        met = np.flatnonzero(self._was_met)
        if len(met):
            local = risk.linearise(w, rows)
            size = max(1, _PRODUCT_BYTES // (w.numel() * w.element_size()))
            for some in np.array_split(met, -(-len(met) // size)):
                at = torch.from_numpy(some).to(w.device)
                V = self._vectors[at]
                self._vectors[at] = V - rate * local.hessian_rows(V)
        self._vectors.index_add_(0, torch.from_numpy(rows).to(w.device), rate * parts)
        self._was_met[rows] = True

    def recording(self, net: NeuralNet) -> _Influences:
        assert self.trained is not None
        return _Influences(self._vectors[torch.from_numpy(self.trained).to(self._vectors.device)].cpu())


def _check_plain_sgd(net: NeuralNet) -> None:
    optimiser = net.optimizer_
    is_plain = type(optimiser) is torch.optim.SGD and not any(
        group["momentum"] or group["maximize"] for group in optimiser.param_groups
    )
    if not is_plain:
        momentum = " with momentum" if type(optimiser) is torch.optim.SGD else ""
        raise ValueError(
            f"optimizer of the net is {type(optimiser).__name__}{momentum}, and HessianFreeRecording follows plain SGD "
            "alone. Give a net with optimizer=torch.optim.SGD, or use another unlearner, such as StoCuReNU."
        )


def _learning_rates(net: NeuralNet) -> Tensor:
    """Return the present learning rate of each entry of the flat vector."""
    rates = {id(p): float(group["lr"]) for group in net.optimizer_.param_groups for p in group["params"]}
    return _flat(net, lambda p: torch.full_like(p.detach(), rates.get(id(p), 0.0)))


def _check_gradient(net: NeuralNet, parts: Tensor) -> None:
    """Refuse a training whose gradient is not that of the mean loss over its batch."""
    own = _flat(net, lambda p: torch.zeros_like(p) if p.grad is None else p.grad)
    error = float((own - parts.sum(0)).norm())
    if not error <= _GRADIENT_TOLERANCE * float(own.norm()) + _ROUNDING * float(parts.norm(dim=1).sum()):
        raise ValueError(
            "HessianFreeRecording follows SGD on the mean loss of each batch, and the gradient in this training is "
            "another one. Take dropout, BatchNorm, gradient clipping and sample weights out of it, or use another "
            "unlearner, such as StoCuReNU."
        )


def _flat(net: NeuralNet, value: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what there is of each trainable parameter as a flat vector."""
    return torch.cat([value(p).reshape(-1) for p in net.module_.parameters() if p.requires_grad])
