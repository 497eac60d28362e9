"""The loss of a net taken apart into rows, and the weight by which PyTorch counts each label."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor, nn

__all__ = ["NO_MASS", "RowLoss", "computes_as", "refuse_differing", "row_masses", "uncompiled", "weighted_loss"]

# A mass below the rounding of any sum of masses, for a row that PyTorch gives a loss but no weight.
NO_MASS = 1e-20


def uncompiled(module: Any) -> Any:
    """Return the module that torch.compile was given, or the module itself."""
    return getattr(module, "_orig_mod", module)


def computes_as(module: Any, *kinds: type[nn.Module]) -> bool:
    """Whether a module computes what one of these classes of torch.nn does; a subclass may compute something else."""
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in kinds)


def refuse_differing(weights_differ: bool) -> None:
    """Raise where rows carry different weights but the loss cannot be taken apart."""
    if weights_differ:
        raise ValueError(
            "sample_weight has differing entries, but the net's loss is one number per batch. Use a criterion that "
            'has reduction="none", and a get_loss that keeps its rows apart, or drop sample_weight.'
        )


class RowLoss:
    """What ``get_loss`` makes of a batch, row by row: l_i, and PyTorch's own weight for each label."""

    def __init__(self, net: NeuralNet, get_loss: Callable[..., Tensor], batch_size: int) -> None:
        self.get_loss: Callable[..., Tensor] = get_loss
        self.batch_size: int = batch_size
        self.criterion: Any = uncompiled(net.criterion_)
        reduction = getattr(self.criterion, "reduction", None)
        # A criterion that was built unreduced has an override of get_loss that reduces: leave the two alone.
        self.reduction: str | None = (
            reduction if isinstance(self.criterion, nn.Module) and reduction != "none" else None
        )
        self.is_scalar: bool = False

    def __call__(self, output: Any, y: Any, x: Any, n: int, training: bool) -> Tensor:
        """Return l_i, of shape (n,); or their mean, of shape (), where get_loss gives no more."""
        if not self.is_scalar:
            with self._unreduced():
                loss = self.get_loss(output, y, X=x, training=training)
            if loss.ndim > 0 and loss.shape[0] == n:
                return loss if loss.ndim == 1 else loss.reshape(n, -1).mean(1)
            if loss.numel() != 1:
                raise ValueError(
                    f"get_loss of the net gave a loss of shape {tuple(loss.shape)} for {n} rows; it must be a scalar "
                    f"or have shape ({n},)."
                )
            self.is_scalar = True
        # With the criterion as it is, so that the mean is the one it takes itself.
        return self.get_loss(output, y, X=x, training=training).reshape(())

    def label_masses(self, target: Tensor) -> Tensor | None:
        """Return the weight by which PyTorch's mean counts each label; None where it counts all elements alike."""
        criterion = self.criterion
        if self.reduction != "mean" or not computes_as(criterion, nn.CrossEntropyLoss, nn.NLLLoss):
            return None
        if target.is_floating_point():  # class probabilities: PyTorch divides by the number of rows
            return None
        counted = target != criterion.ignore_index
        if criterion.weight is None:
            return counted.to(torch.get_default_dtype())
        weight = criterion.weight.detach().to(target.device)
        if getattr(criterion, "label_smoothing", 0.0) > 0:
            # Smoothing gives a row of weight 0 a loss although it has no mass.
            weight = weight.clamp_min(NO_MASS)
        return weight[torch.where(counted, target, 0).long()] * counted

    def element_scale(self, n_elements: int) -> float:
        """Return by how much each of a row's loss elements counts in l_i, label masses apart."""
        if self.reduction == "sum":
            return float(self.batch_size)
        return 1.0 if self.reduction == "batchmean" else 1.0 / n_elements

    @property
    def _counts_rows_alike(self) -> bool:
        """Whether a row with one loss counts with its mass alone: ``ignore_index`` has a loss of 0 and no mass."""
        if self.reduction == "mean" and computes_as(self.criterion, nn.CrossEntropyLoss, nn.NLLLoss):
            return self.criterion.weight is None
        return self.element_scale(1) == 1.0

    @contextmanager
    def _unreduced(self) -> Iterator[None]:
        """Have the criterion give a loss for each row."""
        if self.reduction is None:
            yield
            return
        self.criterion.reduction = "none"
        hook = self.criterion.register_forward_hook(self._reduce_to_rows, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
            self.criterion.reduction = self.reduction

    def _reduce_to_rows(self, criterion: nn.Module, args: tuple[Any, ...], kwargs: Any, loss: Tensor) -> Tensor:
        """Forward hook. Inside the criterion, so that what an override of get_loss adds keeps its own scale."""
        if loss.ndim == 0:
            return loss
        if loss.ndim == 1 and self._counts_rows_alike:
            return loss  # as the division below would leave it, one operation less in every product
        loss = loss.reshape(len(loss), -1)
        target = args[1] if len(args) > 1 else kwargs.get("target")
        masses = self.label_masses(target) if isinstance(target, Tensor) else None
        if masses is not None:
            return loss.sum(1) / masses.reshape(len(loss), -1).sum(1).clamp_min(NO_MASS)
        return loss.sum(1) * self.element_scale(loss.shape[1])


def row_masses(net: NeuralNet, y: NDArray[Any] | None, weight: NDArray[Any] | None, n: int) -> float:
    """Return what rows count together in the mean that is the loss of a batch.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised.
    y : (n, ...) array or None
        Their targets; None where the loss is given others, which carry no masses.
    weight : (n,) array or None
        Their weights; None where all are one.
    n : int
        How many they are.
    """
    labels = None
    if y is not None and y.dtype.kind in "iu":
        labels = RowLoss(net, net.get_loss, batch_size=1).label_masses(torch.from_numpy(y))
    if labels is None:
        return float(n if weight is None else weight.sum())
    masses = labels.to(torch.float64).reshape(len(labels), -1).mean(1).numpy()
    return float(masses.sum() if weight is None else masses @ weight)


def weighted_loss(
    net: NeuralNet,
    get_loss: Callable[..., Tensor],
    y_pred: Any,
    y_true: Any,
    weight: Tensor,
    *,
    X: Any = None,
    training: bool = True,
) -> Tensor:
    """Return the training loss of a batch whose rows carry weights: a row of weight 2 counts as the row twice.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised; its criterion is made to give row losses for the time of the call.
    get_loss : callable
        The net's own, or what it was before it was replaced.
    y_pred, y_true, X, training
        As ``get_loss`` takes them.
    weight : Tensor of shape (n,)
        Finite and non-negative.

    Returns
    -------
    loss : Tensor of shape ()
        The mean by mass that :class:`EmpiricalRisk` takes over its rows; for a criterion that sums, the weighted sum.

    Raises
    ------
    ValueError
        If weights differ and ``get_loss`` returns a scalar all the same.
    """
    row_loss = RowLoss(net, get_loss, batch_size=1)
    losses = row_loss(y_pred, y_true, X, len(weight), training)
    if losses.ndim == 0:
        refuse_differing(bool((weight != weight[0]).any()))
        return losses
    weight = weight.to(losses)
    if row_loss.reduction == "sum":
        return losses @ weight
    masses = row_loss.label_masses(torch.as_tensor(y_true, device=losses.device))
    if masses is not None:
        weight = weight * masses.reshape(len(weight), -1).mean(1).to(losses)
    return losses @ weight / weight.sum().clamp_min(NO_MASS)
