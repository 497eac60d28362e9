"""BatchNorm statistics remember rows too: estimate them afresh from the rows that are left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sk_unlearn.utils._random import seeded_torch
from sk_unlearn.utils._twins import uncompiled

__all__ = ["batch_norm_layers", "not_renewed", "reestimate_batch_norm"]


def batch_norm_layers(module: nn.Module) -> list[_BatchNorm]:
    """Return the layers that keep running statistics."""
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


def not_renewed(net: NeuralNet, names: Sequence[str]) -> tuple[str, ...]:
    """Return which of some buffers and frozen parameters are neither BatchNorm statistics nor a count of batches."""
    module = uncompiled(net.module_)
    layers = batch_norm_layers(module)
    renewed = {
        f"{prefix}.{name}".removeprefix(".")
        for prefix, layer in module.named_modules()
        for name in ("running_mean", "running_var")
        if any(layer is each for each in layers)
    }
    return tuple(name for name in names if name not in renewed and name.split(".")[-1] != "num_batches_tracked")


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
    # Seeded, for a net that draws random numbers when it is evaluated.
    with torch.no_grad(), _collecting(net.module_), seeded_torch(0):
        for batch in np.array_split(X, n_batches):
            net.infer(torch.from_numpy(batch).to(net.device))
