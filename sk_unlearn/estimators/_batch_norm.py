"""BatchNorm statistics remember rows too: estimate them afresh from the rows that are left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["batch_norm_layers", "reestimate_batch_norm"]


def batch_norm_layers(module: nn.Module) -> list[_BatchNorm]:
    """Return the layers that keep running statistics."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@contextmanager
def _collecting(module: nn.Module) -> Iterator[None]:
    """Put only the BatchNorm layers into training mode, collecting plain averages; restore all modes afterwards."""
    modes = [(m, m.training) for m in module.modules()]
    layers = batch_norm_layers(module)
    momenta = [layer.momentum for layer in layers]
    module.eval()
    try:
        for layer in layers:
            layer.train()
            layer.reset_running_stats()
            layer.momentum = None
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for m, training in modes:
            m.training = training


def reestimate_batch_norm(net: NeuralNet, X: NDArray[Any]) -> None:
    """Set the running statistics of all BatchNorm layers to their averages over the given rows, in place.

    Parameters
    ----------
    net : skorch.NeuralNet
        Its module's buffers are overwritten; the caller keeps a copy if the request may still fail.

    X : ndarray of shape (n, ...)
        Rows as the net takes them, at least two, in random order.

    References
    ----------
    .. [1] Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018, section 3.2
       (statistics recomputed by one pass for weights that no training step has visited).
    """
    # A batch of one row has no variance.
    n_batches = max(1, len(X) // 256)
    with torch.no_grad(), _collecting(net.module_):
        for batch in np.array_split(X, n_batches):
            net.infer(torch.from_numpy(batch).to(net.device))
