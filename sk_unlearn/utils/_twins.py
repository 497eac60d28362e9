"""A second net over the same tensors: what is put into its modules is not seen by those that predict."""

from __future__ import annotations

import copy
import logging
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer
from torch.utils.data import DataLoader

__all__ = ["compiled_as", "is_twin", "learnt", "pinned", "source_of", "training_copy", "twin", "uncompiled"]

logger = logging.getLogger("sk_unlearn")

_MARK = "_sk_unlearn_twin"
# What an object raises that cannot be copied. Not Exception: a signal or a lack of memory is something else.
_REFUSALS = (TypeError, RuntimeError, NotImplementedError, copy.Error, pickle.PicklingError)


def is_twin(net: NeuralNet) -> bool:
    """Whether a net is one that :func:`twin` made."""
    return _MARK in vars(net)


def source_of(net: NeuralNet) -> NeuralNet:
    """Return the net that a twin was made of, or of whose twin it is one; a net that is no twin itself."""
    source: NeuralNet = vars(net).get(_MARK, net)
    return source


def twin(net: NeuralNet, *, share_tensors: bool = True) -> NeuralNet:
    """Return a net like another, with module objects of its own.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised.
    share_tensors : bool, default=True
        Whether the modules of the twin hold the very parameters and buffers of the net's, so that nothing is copied and
        both follow what changes in place. Otherwise they hold copies.

    Returns
    -------
    twin : skorch.NeuralNet
        Of the same class and with the same settings. Its optimisers know its parameters and have no state. A module
        that was compiled is there as it was before compilation, and where tensors are shared so are compiled modules
        inside it: compiled code has no second derivative. Settings, callbacks and history are the net's own
        objects.

    Raises
    ------
    TypeError
        If a module cannot be copied and tensors are not to be shared. Where they are, the twin gets the module itself,
        and a warning is logged.
    """
    # Not copy.copy: skorch's __getstate__ would serialise whatever depends on the device.
    other = object.__new__(type(net))
    held = vars(other)
    held.update(vars(net))
    held[_MARK] = source_of(net)
    memo: dict[int, Any] = {id(net): other}
    for name in (f"{name}_" for name in [*net._modules, *net._criteria]):
        if name in held:
            held[name] = _copied(name, uncompiled(held[name]), memo, share_tensors)
    for name in (f"{name}_" for name in net._optimizers):
        if hasattr(held.get(name), "param_groups"):
            held[name] = _without_state(held[name], memo)
    for name, value in vars(net).items():
        if isinstance(value, MethodType) and value.__self__ is net:  # a method put in place of another
            held[name] = MethodType(value.__func__, other)
    return other


def _copied(name: str, module: Any, memo: dict[int, Any], share_tensors: bool) -> Any:
    if not isinstance(module, nn.Module):  # a criterion may be any callable
        return module
    before = dict(memo)
    memo.update(_known(module, share_tensors))
    try:
        # The innermost first, so that those around them find their copies.
        for inner in reversed([m for m in module.modules() if share_tensors and uncompiled(m) is not m]):
            memo[id(inner)] = copy.deepcopy(uncompiled(inner), memo)
        return copy.deepcopy(module, memo)
    except _REFUSALS as error:
        if not share_tensors:
            raise TypeError(f"{name} of the net cannot be copied, which forgetting needs: {error}") from error
        memo.clear()
        memo.update(before)
        logger.warning("%s of the net cannot be copied, so that it is evaluated in place. (%s)", name, error)
        return module


def _known(module: nn.Module, share_tensors: bool) -> dict[int, Any]:
    """Return what a copy of a module takes over instead of copying it, by ``id``."""
    known: dict[int, Any] = {}
    modules = list(module.modules())
    own = {id(m) for m in modules}
    # A module has a dozen empty dictionaries for hooks, on which copy.deepcopy spends most of its time.
    empty = (value for m in modules for value in vars(m).values() if type(value) in (dict, OrderedDict) and not value)
    known.update((id(value), type(value)()) for value in empty)
    for value in (value for m in modules for value in _entries(m)):
        if isinstance(value, Tensor) and share_tensors:
            known[id(value)] = value
        elif isinstance(value, UninitializedBuffer):  # which copy.deepcopy refuses, too
            known[id(value)] = UninitializedBuffer(device=value.device, dtype=value.dtype)  # type: ignore[call-arg]
        elif isinstance(value, Tensor) and not value.is_leaf:  # what copy.deepcopy refuses
            known[id(value)] = value.detach().clone()
        elif isinstance(value, MethodType) and id(value.__self__) not in own:
            known[id(value.__self__)] = value.__self__  # a hook reports to whom it did
    return known


def _entries(module: nn.Module) -> Iterator[Any]:
    """Give what a module holds, one level into its lists and dictionaries."""
    for value in vars(module).values():
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, list | tuple):
            yield from value
        else:
            yield value


def _without_state(optimiser: Any, memo: dict[int, Any]) -> Any:
    other = object.__new__(type(optimiser))
    vars(other).update(vars(optimiser))
    if "_params" in vars(other):  # L-BFGS keeps a second list
        other._params = [memo.get(id(p), p) for p in optimiser._params]
    other.param_groups = [
        group | {"params": [memo.get(id(p), p) for p in group["params"]]} for group in optimiser.param_groups
    ]
    other.state = defaultdict(dict)
    return other


def _with_state(optimiser: Any, memo: dict[int, Any]) -> Any:
    """Return a copy of an optimiser that goes on where it stands, for the parameters that the memo has.

    Not ``copy.deepcopy`` of the whole: PyTorch hands out groups and state alone, so that hooks, what L-BFGS keeps and
    the attributes of a user's own class would be lost.
    """
    other = object.__new__(type(optimiser))
    memo[id(optimiser)] = other
    for name, value in vars(optimiser).items():
        if name == "step":  # how a scheduler counts steps: bound to the original; the next one binds it anew
            continue
        vars(other)[name] = copy.copy(value) if name.endswith("_hooks") else copy.deepcopy(value, memo)
    return other


def uncompiled(module: Any) -> Any:
    """Return the module that torch.compile was given, or the module itself."""
    return getattr(module, "_orig_mod", module)


def compiled_as(known: Any, module: Any) -> Any:
    """Return a module compiled in the way in which another one is, or as it is where that one is not compiled."""
    if uncompiled(known) is known:
        return module
    return type(known)(module, known.dynamo_ctx)


def pinned(net: NeuralNet) -> NeuralNet:
    """Return a net to predict with, which goes on with the present modules though those of ``net`` be replaced.

    Its loader draws no seed for worker processes from torch's global generator, which another thread may train with.
    """
    other: NeuralNet = object.__new__(type(net))
    vars(other).update(vars(net))
    loader = net.iterator_valid
    if isinstance(loader, type) and issubclass(loader, DataLoader):
        vars(other).setdefault("iterator_valid__generator", torch.Generator())
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
            memo |= _known(uncompiled(getattr(net, name + "_")), share_tensors=False)
    for name in learnt(net):
        value = vars(net)[name]
        if name == "callbacks_":
            vars(other)[name] = [(key, _own_callback(callback, memo)) for key, callback in value]
        else:
            vars(other)[name] = (
                _with_state(value, memo) if hasattr(value, "param_groups") else copy.deepcopy(value, memo)
            )
    return other


def _own_callback(callback: Any, memo: dict[int, Any]) -> Any:
    before = dict(memo)
    try:
        return copy.deepcopy(callback, memo)
    except _REFUSALS:
        memo.clear()
        memo.update(before)
        return callback


def learnt(net: NeuralNet) -> list[str]:
    """Return the names of what initialising and training a net has set: modules, then optimisers, then all else.

    Optimisers hold parameters of modules, and schedulers among the callbacks hold optimisers.
    """
    names = [name for name in vars(net) if name.endswith("_") and not name.startswith("_")]
    first = [f"{name}_" for name in (*net._modules, *net._criteria, *net._optimizers)]
    return sorted(names, key=lambda name: first.index(name) if name in first else len(first))
