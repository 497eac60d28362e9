"""Another net's outputs in place of targets, for losses that take them."""

from __future__ import annotations

from skorch import NeuralNet
from torch import Tensor, nn

from sk_unlearn.risks.empirical import computes_as
from sk_unlearn.utils._twins import uncompiled

__all__ = ["soft_targets", "takes_soft_targets"]

_OF_VALUES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)


def soft_targets(net: NeuralNet, outputs: Tensor) -> Tensor | None:
    """Return what the net's loss takes for targets so that they are the predictions of outputs.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised.

    outputs : Tensor of shape (n, ...)
        What a module like the net's gives for some rows.

    Returns
    -------
    targets : Tensor of shape (n, ...) or None
        Class probabilities for the cross-entropy of logits, the values themselves for losses of values; None for a loss
        that takes no such targets, and where classes or labels are weighted or left out.
    """
    criterion = uncompiled(net.criterion_)
    if not takes_soft_targets(net):
        return None
    if computes_as(criterion, nn.CrossEntropyLoss):
        # Smoothed by the loss, they are the predictions again.
        probabilities, smoothing = outputs.softmax(1), criterion.label_smoothing
        return (probabilities - smoothing / outputs.shape[1]) / (1 - smoothing)
    return outputs.sigmoid() if computes_as(criterion, nn.BCEWithLogitsLoss) else outputs


def takes_soft_targets(net: NeuralNet) -> bool:
    """Tell whether the net's loss takes predictions in place of targets.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised.
    """
    criterion = uncompiled(net.criterion_)
    weighted = any(getattr(criterion, name, None) is not None for name in ("weight", "pos_weight"))
    leaves_out = getattr(criterion, "ignore_index", -1) >= 0 or getattr(criterion, "label_smoothing", 0) == 1
    return (
        not weighted
        and not leaves_out
        and computes_as(criterion, nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, *_OF_VALUES)
    )
