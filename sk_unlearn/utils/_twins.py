"""A second set of module objects for a net, so that one can be worked on while the other predicts."""

from __future__ import annotations

import copy
import pickle
from collections import defaultdict
from typing import Any

from skorch import NeuralNet
from torch import Tensor, nn

__all__ = ["is_twin", "learnt", "pinned", "training_copy", "twin", "uncompiled"]

_MARK = "_sk_unlearn_twin"
# What an object raises that cannot be copied. Not Exception: a signal or a lack of memory is something else.
_REFUSALS = (TypeError, RuntimeError, NotImplementedError, copy.Error, pickle.PicklingError)


def twin(net: NeuralNet, *, share_tensors: bool = True) -> NeuralNet:
    """Return a net with modules of its own.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised; not changed.

    share_tensors : bool, default=True
        Whether parameters and buffers are the very objects of ``net``, so that no number is copied. Otherwise they are
        copies, without gradients.

    Returns
    -------
    other : skorch.NeuralNet
        Its optimisers stand for the parameters of its own modules and have an empty state. History and callbacks are
        those of ``net``.

    Raises
    ------
    TypeError
        If a module cannot be copied.
    """
    other: NeuralNet = object.__new__(type(net))
    state = vars(other)
    state.update(vars(net))
    modules = [name + "_" for name in (*net._modules, *net._criteria)]
    memo: dict[int, Any] = {}
    for name in modules:
        if isinstance(state[name], nn.Module):
            memo |= _known_tensors(uncompiled(state[name]), share_tensors)
    for name in modules:
        try:
            state[name] = copy.deepcopy(uncompiled(state[name]), memo)
        except _REFUSALS as error:
            raise TypeError(f"{name} of the net cannot be copied, which forgetting needs: {error}") from error
    for name in net._optimizers:
        state[name + "_"] = _optimiser(state[name + "_"], memo)
    state[_MARK] = share_tensors
    return other


def is_twin(net: NeuralNet) -> bool:
    """Whether a net is a twin that shares its tensors with the net it was made from."""
    return bool(vars(net).get(_MARK, False))


def uncompiled(module: Any) -> Any:
    """Return the module that torch.compile was given, or the module itself."""
    return getattr(module, "_orig_mod", module)


def _known_tensors(module: nn.Module, share: bool) -> dict[int, Any]:
    """Return what deepcopy is to make of tensors: all are kept if shared; those it refuses are kept anyway."""
    memo: dict[int, Any] = {}
    for m in module.modules():
        if share:
            kept = [*m._parameters.values(), *m._buffers.values()]
            memo |= {id(t): t for t in kept if t is not None}
        # Results that a hook of an old weight_norm leaves behind; the next forward pass makes new ones.
        memo |= {id(t): t for t in vars(m).values() if isinstance(t, Tensor) and not t.is_leaf}
    return memo


def _optimiser(optimiser: Any, memo: dict[int, Any]) -> Any:
    other = object.__new__(type(optimiser))
    vars(other).update(vars(optimiser))
    other.param_groups = [
        group | {"params": [memo.get(id(p), p) for p in group["params"]]} for group in optimiser.param_groups
    ]
    other.state = defaultdict(dict)
    return other


def pinned(net: NeuralNet) -> NeuralNet:
    """Return a net that goes on with the present modules though those of ``net`` be replaced meanwhile."""
    other: NeuralNet = object.__new__(type(net))
    vars(other).update(vars(net))
    return other


def training_copy(net: NeuralNet) -> NeuralNet:
    """Return a net that can be trained on without a trace in ``net``: all that training changes is copied.

    Settings are shared. Callbacks that cannot be copied, such as one that writes to an open file, are shared too.
    """
    other: NeuralNet = object.__new__(type(net))
    vars(other).update(vars(net))
    memo: dict[int, Any] = {id(net): other}
    for name in net._modules:
        if isinstance(getattr(net, name + "_"), nn.Module):
            memo |= _known_tensors(uncompiled(getattr(net, name + "_")), share=False)
    for name in learnt(net):
        try:
            vars(other)[name] = copy.deepcopy(vars(net)[name], memo)
        except _REFUSALS:
            if name != "callbacks_":
                raise
    return other


def learnt(net: NeuralNet) -> list[str]:
    """Return the names of what initialising and training a net has set, those that optimisers depend on first."""
    names = [name for name in vars(net) if name.endswith("_") and not name.startswith("_")]
    modules = [name + "_" for name in net._modules]
    return sorted(names, key=lambda name: name not in modules)
