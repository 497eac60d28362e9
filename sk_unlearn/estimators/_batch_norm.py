"""BatchNorm statistics remember rows too: move them by what the rows of a request, and new parameters, make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sk_unlearn.estimators._moments import Moments, followed
from sk_unlearn.estimators._request import Content
from sk_unlearn.estimators._training_pass import layers_that_follow, moments_in_training, training_batches
from sk_unlearn.utils._float64 import double
from sk_unlearn.utils._random import seeded_generators
from sk_unlearn.utils._twins import twin, uncompiled

__all__ = ["batch_norm_layers", "not_renewed", "renew_statistics", "take_statistics"]


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


@dataclass(frozen=True)
class _Running:
    """The statistics of a layer as a mixture of where they began, mean zero and variance one, and of rows.

    Attributes
    ----------
    share : float
        Of the rows: 1 - (1 - momentum)^batches, and one where a plain average is kept.

    moments : Moments
        What those of training's batches came to on average; their ``n`` is nan.

    eps : float
        What the layer adds to variances.
    """

    share: float
    moments: Moments
    eps: float

    @classmethod
    def of(cls, layer: _BatchNorm) -> _Running:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean, var = double(layer.running_mean), double(layer.running_var)
        n_batches = 0 if layer.num_batches_tracked is None else int(layer.num_batches_tracked)
        if layer.momentum is None or not n_batches:
            return cls(1.0, Moments(nan, mean, var), layer.eps)
        share = 1 - (1 - layer.momentum) ** n_batches
        of_rows = (var - (1 - share)) / share
        if bool((of_rows < -1e-3).any()):  # they began elsewhere
            return cls(1.0, Moments(nan, mean, var), layer.eps)
        return cls(share, Moments(nan, mean / share, of_rows.clamp_min(0)), layer.eps)


def renew_statistics(
    net: NeuralNet,
    fresh: NeuralNet,
    *,
    n_kept: int,
    gone: Content,
    come: Content | None,
    sample: Content | None,
    seed: int,
) -> bool:
    r"""Move the running statistics of a net by what a request changes in the moments that training would meet.

    With the rows :math:`D` before the request and :math:`R` after it, and the parameters :math:`w` and :math:`w'`, a
    statistic :math:`s` becomes

    .. math:: s + \rho\,[m_R(w, s) - m_D(w, s)] + \rho\,[m_R(w', s') - m_R(w, s)],

    where :math:`m_A(w, s)` are the moments of the layer's input over the rows :math:`A`, as training sees them, but
    with the statistics :math:`s` in the layers before; :math:`\rho` is the share that rows have in the statistic (the
    rest is where it began). Both differences are of estimates that have rows and random numbers in common. In the
    first, the moments of a sample of rows that stay are pooled with those of the rows that go, or come, each by its
    share of the rows and whatever batch it was last in. The second, over the sample alone, holds what new parameters
    do, and what new statistics of one layer do to the input of the next. Without a change the statistics stay as they
    are. Rows count once, whatever their weight, as in a training batch.

    Without a sample, the statistic itself is taken for :math:`m_D`, and new parameters count as changing nothing.
    Layers behind others stay: what new statistics do to their input, which mostly makes up for the rows' own part in
    it, only rows that stay could tell.

    Parameters
    ----------
    net : skorch.NeuralNet
        As it was before the request; not changed.

    fresh : skorch.NeuralNet
        With the new parameters and the old statistics, which are overwritten.

    n_kept : int
        How many rows that were trained on neither go nor come.

    gone, come : Content or None
        The rows that leave, with what they were trained on, and those in their place.

    sample : Content or None
        Some of the rows that are kept, or of all after the request where less than two are; None where no rows are
        stored.

    seed : int
        Of augmentation and dropout.

    Returns
    -------
    complete : bool
        False where a layer, or a channel of one, could not be renewed for lack of a sample.
    """
    trained = twin(net)
    trained.module_.train()
    running = {name: _Running.of(layer) for name, layer in layers_that_follow(trained.module_).items()}
    if not running:
        return True

    def as_they_were(name: str, batch: int, call: int, moments: Moments) -> Moments:
        return running[name].moments

    def of_rows(rows: Content | None) -> dict[str, Moments]:
        if rows is None or not len(rows):
            return {}
        seen = moments_in_training(net, training_batches(net, rows.X, rows.y, seed), seed, as_they_were)
        return {name: _pooled(calls) for name, calls in seen.items()}

    taken, put = of_rows(gone), of_rows(come)
    shown = gone if sample is None else sample
    batches = training_batches(net, shown.X, shown.y, seed + 1) if len(shown) else []
    old = moments_in_training(fresh if sample is None else net, batches, seed + 1, as_they_were)
    exchanged, complete = {}, True
    for name, layer in running.items():
        changed = [each[name] for each in (taken, put) if name in each]
        exchanged[name] = layer.moments
        if not changed:
            continue
        n = n_kept * changed[0].n / len(gone)
        if sample is None:
            exchanged[name], known = layer.moments.without(taken[name], n)
            complete = complete and known
        else:
            kept = [_pooled(old[name])._replace(n=n)] if name in old and n_kept else []
            before, after = (Moments.pooled([*kept, *_of_layer(each, name)]) for each in (taken, put))
            exchanged[name] = followed(layer.moments, before, after, layer.eps)

    def as_they_become(name: str, batch: int, call: int, moments: Moments) -> Moments:
        calls = old[name][batch] if name in old else []
        if not calls:
            return exchanged[name]
        return followed(exchanged[name], calls[min(call, len(calls) - 1)], moments, running[name].eps)

    new = moments_in_training(fresh, batches, seed + 1, as_they_become)
    layers = dict(uncompiled(fresh.module_).named_modules())
    with torch.no_grad():
        for name, was in running.items():
            moments = exchanged[name]
            if name in old and name in new:
                moments = followed(moments, _pooled(old[name]), _pooled(new[name]), was.eps)
                if sample is None and not torch.equal(_pooled(old[name]).mean, _pooled(new[name]).mean):
                    moments, complete = was.moments, False  # other layers come before it
            mean, var = layers[name].running_mean, layers[name].running_var
            mean.add_((was.share * (moments.mean - was.moments.mean)).to(mean.device))
            var.add_((was.share * (moments.var - was.moments.var)).to(var.device))
    return complete


@torch.no_grad()
def take_statistics(net: NeuralNet, X: Any, y: NDArray[Any], seed: int) -> None:
    """Take the running statistics of a net over rows as training sees them, and over nothing else.

    They become the plain average over the batches, at the present parameters. A single row has no variance, and leaves
    them as they are.

    Parameters
    ----------
    net : skorch.NeuralNet
        Changed in place, and left in evaluation mode.

    X, y : ndarray, or SparseRows
        Rows and targets as the net takes them.

    seed : int
        Of augmentation and dropout.
    """
    module = net.module_.train()
    layers = list(layers_that_follow(module).values())
    momenta = [layer.momentum for layer in layers]
    if layers and len(X) > 1:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None
        batches = training_batches(net, X, y, seed)
        with seeded_generators(seed):
            for batch in batches:
                net.infer(batch)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    module.eval()


def _of_layer(moments: dict[str, Moments], name: str) -> list[Moments]:
    return [moments[name]] if name in moments else []


def _pooled(calls: Sequence[Sequence[Moments]]) -> Moments:
    return Moments.pooled([moments for batch in calls for moments in batch])
