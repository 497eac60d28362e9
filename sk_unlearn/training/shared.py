"""Training steps that several processes take together, each on the rows of a batch that it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import BatchScoring, Callback, EpochScoring, PassthroughScoring
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from sk_unlearn import distributed
from sk_unlearn.risks.empirical import row_masses
from sk_unlearn.rows.parts import tensors_for_net
from sk_unlearn.rows.spread import SpreadRows

if TYPE_CHECKING:
    from sk_unlearn.training.ledger import RowLedger

__all__ = ["Sharing", "shared_steps"]


class Sharing:
    """How the processes share the batches of one training, which are those that one process makes of all rows.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised.
    X : SpreadRows
    y : (n, ...) array
    weight : (n,) array or None
    targets : Tensor of shape (n, ...) or None
        What the loss takes in place of y.
    """

    def __init__(
        self,
        net: NeuralNet,
        X: SpreadRows,
        y: NDArray[Any],
        weight: NDArray[np.float64] | None,
        targets: Tensor | None,
    ) -> None:
        self._net, self._X, self._y, self._weight, self._has_targets = net, X, y, weight, targets is not None

    def part(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of a batch that this process takes; where it holds none, the first, which will not count."""
        own = rows[self._X.counted_here(rows)]
        return own if len(own) else rows[:1]

    def content(self, rows: NDArray[np.int64]) -> list[Any]:
        """Return features and targets of what :meth:`part` gave; of a row that this process does not hold, zeros."""
        if self._X.counted_here(rows).all():
            x = tensors_for_net(self._X.read_here(rows))
        else:
            x = torch.from_numpy(np.zeros((len(rows), *self._X.shape[1:]), self._X.dtype))
        return [x, tensors_for_net(self._y, rows)]

    def factor(self, rows: NDArray[np.int64]) -> float:
        """Return by what to multiply the loss of one's own rows: the mean over processes is then that of the batch."""
        own = rows[self._X.counted_here(rows)]
        if not len(own):
            return 0.0
        if getattr(self._net.criterion_, "reduction", None) == "sum":
            return float(distributed.size())
        total, mine = (self._mass(part) for part in (rows, own))
        return distributed.size() * mine / total if total > 0 else 0.0

    def _mass(self, rows: NDArray[np.int64]) -> float:
        weight = None if self._weight is None else self._weight[rows]
        # Predictions in place of labels carry no masses.
        return row_masses(self._net, None if self._has_targets else self._y[rows], weight, len(rows))

    @staticmethod
    def begin_pass() -> None:
        """Have all processes draw the same batches: dropout may have drawn other numbers in each of them."""
        torch.set_rng_state(distributed.from_first(torch.get_rng_state()))


def _why_whole(net: NeuralNet) -> str:
    """Say why each process must see whole batches; nothing where its own rows of them will do."""
    if any(isinstance(module, _BatchNorm) for module in net.module_.modules()):
        return "BatchNorm looks at the whole batch"
    if any(is_lazy(tensor) for tensor in (*net.module_.parameters(), *net.module_.buffers())):
        return "lazy layers are not there yet"
    if isinstance(net.criterion_, nn.Module) and any(p.requires_grad for p in net.criterion_.parameters()):
        return "the criterion has parameters"
    if any(_scores_batches(callback) for _, callback in net.callbacks_):
        return "a callback scores predictions for training batches"
    return ""


def _scores_batches(callback: Any) -> bool:
    is_score = isinstance(callback, EpochScoring | BatchScoring) and not isinstance(callback, PassthroughScoring)
    return is_score and bool(callback.on_train)


@contextmanager
def shared_steps(
    net: NeuralNet,
    X: Any,
    y: NDArray[Any],
    weight: NDArray[np.float64] | None,
    targets: Tensor | None,
    ledger: RowLedger,
) -> Iterator[Sharing | None]:
    """Have all processes take each training step together, where rows are spread over several.

    The module is wrapped in ``DistributedDataParallel`` for the time of a step, which adds up the gradients of all
    processes. Every process makes the same batches of the same rows, so that all take equally many steps; one that
    holds no row of a batch takes part with a loss of zero.

    Yields
    ------
    sharing : Sharing or None
        None where each process computes with whole batches: where rows are not spread, or a net looks at whole batches.
    """
    if not isinstance(X, SpreadRows):
        yield None
        return
    for prefix in ("iterator_train", "iterator_valid"):
        if net.get_params_for(prefix).get("num_workers", 0):
            raise ValueError(
                f"{prefix}__num_workers of the net must be 0 inside data_parallel(): a worker process belongs to no "
                "other and cannot ask for their rows."
            )
    if distributed.size() == 1 or _why_whole(net):
        yield None
        return
    sharing = Sharing(net, X, y, weight, targets)
    parallel = nn.parallel.DistributedDataParallel(net.module_, forward_sync_buffers=False)
    train_step_single = net.train_step_single

    def shared_step(batch: Any, **fit_params: Any) -> Any:
        if not ledger.is_shared or ledger.in_batch is None:
            return train_step_single(batch, **fit_params)
        factor, get_loss, module = sharing.factor(ledger.in_batch), net.get_loss, net.module_
        had_own = "get_loss" in vars(net)

        def weighted_loss(y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
            if factor == 0:
                return _nothing(y_pred)
            loss: Tensor = get_loss(y_pred, y_true, X=X, training=training) * factor
            return loss

        vars(net).update(module_=parallel, get_loss=weighted_loss)
        try:
            step = train_step_single(batch, **fit_params)
        finally:
            vars(net)["module_"] = module
            if had_own:
                vars(net)["get_loss"] = get_loss
            else:
                del vars(net)["get_loss"]
        step["loss"] = distributed.sum_(step["loss"].detach().clone()) / distributed.size()
        return step

    note = ("processes", _WholeSize(ledger).initialize())
    net.callbacks_.insert(0, note)
    vars(net)["train_step_single"] = shared_step
    try:
        yield sharing
    finally:
        del vars(net)["train_step_single"]
        net.callbacks_[:] = [each for each in net.callbacks_ if each is not note]


def _nothing(output: Any) -> Tensor:
    """Return a loss of zero that depends on all that the module gave."""
    parts = output if isinstance(output, tuple | list) else [output]
    total: Tensor = sum((torch.zeros_like(part) * part).sum() for part in parts if isinstance(part, Tensor))  # type: ignore[assignment]
    return total


class _WholeSize(Callback):
    """Note in the history how many rows a whole batch has, for means over batches."""

    def __init__(self, ledger: RowLedger) -> None:
        self.ledger = ledger

    def on_batch_end(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        if training and self.ledger.is_shared and self.ledger.in_batch is not None:
            net.history.record_batch("train_batch_size", len(self.ledger.in_batch))
