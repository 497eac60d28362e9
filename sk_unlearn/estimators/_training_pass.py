"""Rows as training sees them, without training on them: through its iterator and its augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.dataset import unpack_data
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sk_unlearn.estimators._moments import Moments
from sk_unlearn.rows.parts import for_net
from sk_unlearn.utils._random import seeded_generators
from sk_unlearn.utils._twins import twin

__all__ = ["layers_that_follow", "moments_in_training", "training_batches"]

# Of smaller batches the variances are poor.
_BATCH_ROWS = 128
# Settings of a loader that are about the whole training set, or about worker processes and generators of its own.
_NOT_FOR_A_FEW_ROWS = (
    "sampler", "batch_sampler", "shuffle", "drop_last", "generator",
    "num_workers", "persistent_workers", "prefetch_factor", "multiprocessing_context",
)  # fmt: skip


def training_batches(net: NeuralNet, X: Any, y: NDArray[Any], seed: int) -> list[Any]:
    """Return the inputs of some rows, in their order, as the net's training iterator gives them out.

    Its dataset, its class and its ``collate_fn`` take part, and with them any augmentation. The same seed gives the
    same random numbers to as many rows. Samplers and worker processes take no part: all rows are given out, once.

    Parameters
    ----------
    net : skorch.NeuralNet
        Not changed.

    X, y : ndarray, or SparseRows
        Rows and targets as the net takes them.

    seed : int
        Of the global generators, which are put back afterwards.
    """
    other = object.__new__(type(net))
    vars(other).update(vars(net))
    given = net.get_params_for("iterator_train")
    for name in _NOT_FOR_A_FEW_ROWS:
        vars(other).pop(f"iterator_train__{name}", None)
    size = max(int(given.get("batch_size", net.batch_size)), _BATCH_ROWS)
    # As equal as they can be: of a few rows left over the variance would be poor.
    other.iterator_train__batch_size = -(-len(X) // max(1, len(X) // size))
    with seeded_generators(seed):
        return [unpack_data(batch)[0] for batch in other.get_iterator(other.get_dataset(for_net(X), y), training=True)]


def layers_that_follow(module: nn.Module) -> dict[str, _BatchNorm]:
    """Return the BatchNorm layers of a module in training mode whose running statistics follow the batches, by name.

    Those that a module keeps in eval mode while it trains are not among them.
    """
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None and layer.training
        if layer.track_running_stats and layer.momentum != 0
    }


@torch.no_grad()
def moments_in_training(
    net: NeuralNet, batches: Sequence[Any], seed: int, normalise_by: Callable[[str, int, int, Moments], Moments]
) -> dict[str, list[list[Moments]]]:
    """Give batches to a copy of a net in training mode and return the moments of what its BatchNorm layers are given.

    Dropout and whatever else a module does in training take place; what it changes in buffers is lost with the copy.
    The BatchNorm layers alone normalise by given moments. By the batch's own no single row could be normalised, and
    rows that leave would be normalised by one another; the moments of training's batches come to the running statistics
    on average.

    Parameters
    ----------
    net : skorch.NeuralNet
        Not changed.

    batches : list
        As :func:`training_batches` returns them.

    seed : int
        Of the global generators, which are put back afterwards.

    normalise_by : callable
        ``normalise_by(name, batch, call, moments)`` returns what a layer normalises by when it is called for the
        ``call``-th time on the ``batch``-th batch, with input of such moments.

    Returns
    -------
    moments : dict of str to list of list
        Of each layer that was called, the moments of its calls, batch by batch.
    """
    copy = twin(net, share_tensors=False)
    copy.module_.train()
    layers = layers_that_follow(copy.module_)
    seen: dict[str, list[list[Moments]]] = {name: [] for name in layers}

    def look(name: str, layer: _BatchNorm, values: Tensor) -> None:
        moments, calls = Moments.of(values), seen[name][-1]
        chosen = normalise_by(name, len(seen[name]) - 1, len(calls), moments)
        calls.append(moments)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.running_mean.copy_(chosen.mean)
        layer.running_var.copy_(chosen.var)

    def hook(name: str) -> Callable[..., None]:
        return lambda layer, args, kwargs: look(name, layer, args[0] if args else kwargs["input"])

    for name, layer in layers.items():
        layer.eval()
        layer.register_forward_pre_hook(hook(name), with_kwargs=True)
    with seeded_generators(seed):
        for batch in batches:
            for calls in seen.values():
                calls.append([])
            copy.infer(batch)
    return {name: calls for name, calls in seen.items() if any(calls)}
