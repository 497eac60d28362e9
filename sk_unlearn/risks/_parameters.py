"""The trainable parameters of a module as one flat vector: where each lies, its penalty, and how it is put in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor, nn

from sk_unlearn.risks._attention import plain_attention
from sk_unlearn.risks._autograd import PerParameter
from sk_unlearn.risks._wide import NARROW, ComputesWide, wide

__all__ = ["FlatParameters", "Point"]

# What a module is evaluated with in place of its own settings, so that its output is one function of its parameters,
# with derivatives, whether they are asked for or not.
_SETTINGS: tuple[tuple[type[nn.Module], dict[str, Any]], ...] = (
    # Sparse gradients cannot be laid into a flat vector, and have no second derivative.
    (nn.Embedding, {"sparse": False}),
    (nn.EmbeddingBag, {"sparse": False}),
    # Where no derivatives are asked for PyTorch leaves these layers' ordinary code, and gives padded positions other
    # values (zeros, or not a number where a whole row is padded). Attention in training does not; what is random
    # about it then is its dropout.
    (nn.TransformerEncoder, {"use_nested_tensor": False}),
    (nn.TransformerEncoderLayer, {"activation_relu_or_gelu": 0}),
    (nn.MultiheadAttention, {"training": True, "dropout": 0.0}),
)

# Entries a parameter below which starting an operation costs more than copying them once more.
_SMALL = 2**14

# Parameters from which on a copy of their vector is not taken where evaluations change none. Of fewer it always is: a
# module may clip its weights only where they have grown.
_LARGE = 2**20


class FlatParameters:
    """The trainable parameters of a net's module, as one flat vector.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised, and not compiled: compiled code has no second derivative, and may hold on to the parameters that
        it was compiled with. Its optimiser says what weight decay each parameter has.

    Attributes
    ----------
    tensors : list of torch.nn.Parameter
        In the order of ``named_parameters()``; a tied one once.
    shapes, sizes : list
        Of each.
    slices : dict of str to slice
        Where each lies in the flat vector.
    n : int
        Length of the flat vector.
    dtype : torch.dtype
    device : torch.device
    sum_dtype : torch.dtype
        In which values are summed: differences of them are compared.
    places : list of (dict, str, int)
        The dictionaries of modules that hold a parameter, by which name, and its number: several for a tied one, but
        one for a module reached by several names.
    modules : list of torch.nn.Module
        All modules that hold them, and the criterion's.
    is_widened : bool
        Whether the module has them in bfloat16: it is then evaluated in float32.
    decay : Tensor of shape (n,) or None
        The weight decay of each entry; None where all are zero.
    are_left_alone : bool
        Whether evaluations have been seen to change no parameter. A point then needs no copy of its vector.
    """

    def __init__(self, net: NeuralNet) -> None:
        self.module: nn.Module = net.module_
        named = [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]
        if not named:
            raise ValueError("net.module_ has no trainable parameters: at least one must have requires_grad=True.")
        kinds = {(p.dtype, p.device) for _, p in named}
        if len(kinds) > 1 or named[0][1].dtype not in (torch.float32, torch.float64, NARROW):
            raise ValueError(
                "The trainable parameters of net.module_ must share one device and one data type, bfloat16, float32 or "
                f"float64; got {sorted(map(str, kinds))}. Keep them in float32 and compute in half precision under "
                "torch.autocast; split complex ones with torch.view_as_real."
            )
        self.tensors: list[nn.Parameter] = [p for _, p in named]
        self.shapes: list[torch.Size] = [p.shape for p in self.tensors]
        self.sizes: list[int] = [p.numel() for p in self.tensors]
        ends = np.cumsum(self.sizes).tolist()
        self.n: int = int(ends[-1])
        self.slices: dict[str, slice] = {
            name: slice(end - size, end) for (name, _), size, end in zip(named, self.sizes, ends, strict=True)
        }
        self.dtype: torch.dtype = wide(self.tensors[0][:0]).dtype
        self.device: torch.device = self.tensors[0].device
        self.is_widened: bool = self.dtype != self.tensors[0].dtype
        # Not until an evaluation has shown it: a module may clip its weights in forward.
        self.are_left_alone: bool = False
        # torch's MPS backend has no float64.
        self.sum_dtype: torch.dtype = torch.float32 if self.device.type == "mps" else torch.float64
        self._index_modules(net.criterion_)
        self.decay: Tensor | None = _weight_decay(net, self.tensors, self.dtype)

    def _index_modules(self, criterion: Any) -> None:
        modules = list(self.module.modules())
        index = {id(p): k for k, p in enumerate(self.tensors)}
        # torch.func.functional_call gets a module of several names wrong: it leaves it without its own parameters.
        self.places: list[tuple[dict[str, nn.Parameter | None], str, int]] = [
            (m._parameters, name, index[id(p)])
            for m in modules
            for name, p in m._parameters.items()
            if id(p) in index  # neither None nor frozen
        ]
        self._frozen = [
            (m._parameters, name)
            for m in modules
            for name, p in m._parameters.items()
            if self.is_widened and p is not None and id(p) not in index
        ]
        self._buffers = [(m._buffers, name) for m in modules for name, b in m._buffers.items() if b is not None]
        self._rnns = [m for m in modules if isinstance(m, nn.RNNBase)]
        self._settings = [
            (vars(m), name, value)
            for m in modules
            for kind, settings in _SETTINGS
            if isinstance(m, kind)
            for name, value in settings.items()
            if name in vars(m)
        ]
        self.modules: list[nn.Module] = modules + (
            list(criterion.modules()) if isinstance(criterion, nn.Module) else []
        )

    # --------------------------------------------------------------------------------------------- the flat vector

    def current(self) -> Tensor:
        """Return a copy of the present parameters, of shape (n,)."""
        return wide(torch.cat([p.detach().reshape(-1) for p in self.tensors]))

    def checked(self, v: Tensor, name: str) -> Tensor:
        """Return a vector in the parameters' dtype and on their device, or raise if it has not n entries."""
        v = torch.as_tensor(v, dtype=self.dtype, device=self.device).detach()
        if v.shape != (self.n,):
            raise ValueError(f"{name} must be a vector of {self.n} entries, got shape {tuple(v.shape)}.")
        return v

    def split(self, vector: Tensor) -> list[Tensor]:
        """Return the parts of a flat vector in the shapes of the parameters, without copying."""
        parts = vector.split_with_sizes(self.sizes)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def split_rows(self, vectors: Tensor) -> list[Tensor]:
        """Return the parts of k flat vectors, given as rows; each part has a first axis of length k."""
        columns = zip(vectors.split_with_sizes(self.sizes, 1), self.shapes, strict=True)
        return [part.reshape(len(vectors), *shape) for part, shape in columns]

    def add_to(self, total: Tensor, parts: Sequence[Tensor | None]) -> None:
        """Add to a flat vector in place what is given for each parameter; None where it is zero."""
        if all(part is not None for part in parts) and len(parts) * _SMALL > self.n:
            # Small parameters: one addition, since starting one costs more than copying.
            total += torch.cat([cast(Tensor, part).reshape(-1) for part in parts])
            return
        for into, part in zip(self.split(total), parts, strict=True):
            if part is not None:
                into += part

    def joined(self, parts: PerParameter, n: int) -> Tensor:
        """Return n flat vectors, as rows, of n values given for each parameter; None where they are zero."""
        zero = torch.zeros((), dtype=self.dtype, device=self.device)
        pairs = zip(parts, self.sizes, strict=True)
        return torch.cat([zero.expand(n, size) if part is None else part.reshape(n, size) for part, size in pairs], 1)

    def penalty(self, w: Tensor) -> float:
        """Return half the sum of squares, each entry weighted by its weight decay."""
        return 0.0 if self.decay is None else 0.5 * float(self._squares(w))

    def with_penalty(self, total: Tensor, w: Tensor) -> float:
        """Return a sum of losses, of shape () on the device, and the penalty, in one reading from the device."""
        if self.decay is None:
            return float(total)
        value, squares = torch.stack((total, self._squares(w))).tolist()
        return float(value + 0.5 * squares)

    def _squares(self, w: Tensor) -> Tensor:
        assert self.decay is not None
        w = torch.as_tensor(w, device=self.device).detach().to(self.sum_dtype)
        return self.decay.to(self.sum_dtype) @ w.square()

    def penalty_product(self, v: Tensor) -> Tensor:
        """Return v, each entry times its weight decay: the gradient of the penalty at v."""
        return torch.zeros_like(v) if self.decay is None else self.decay * v

    # ------------------------------------------------------------------------------------------------- put in place

    @contextmanager
    def at(self, w: Tensor, needs_grad: bool = True) -> Iterator[Point]:
        """Put the parameters at w."""
        with torch.inference_mode(False), torch.set_grad_enabled(needs_grad):
            point = Point(self, w, needs_grad)
            with self.in_place(point.leaves):
                yield point
            self.are_left_alone = self.are_left_alone or torch.equal(point.point, self.checked(w, "w"))

    @contextmanager
    def in_place(self, views: Sequence[Tensor]) -> Iterator[None]:
        """Have the modules compute with other tensors than their parameters, in eval mode, buffers kept."""
        training = [m for m in self.modules if m.training]
        parameters = [(store, name, store[name]) for store, name, _ in self.places]
        parameters += [(store, name, store[name]) for store, name in self._frozen]
        buffers = [(store, name, store[name]) for store, name in self._buffers]
        settings = [(store, name, store[name]) for store, name, _ in self._settings]
        # Recurrent layers keep a second list of their weights and refresh it in forward.
        rnn_caches = [{k: v for k, v in vars(m).items() if k.startswith("_flat_weight")} for m in self._rnns]
        # cuDNN's recurrent kernels have no second derivative, and would pack our views in place.
        without_cudnn = self._rnns and self.device.type == "cuda"
        try:
            # Past Module.__setattr__, which takes microseconds, in a small module as long as its arithmetic.
            for m in training:
                vars(m)["training"] = False
            for store, name, value in self._settings:
                store[name] = value
            for store, name, k in self.places:
                store[name] = cast(nn.Parameter, views[k])
            for store, name in self._frozen:
                store[name] = cast(nn.Parameter, wide(cast(Tensor, store[name])))
            for store, name, buffer in buffers:
                copied = cast(Tensor, buffer).clone()
                store[name] = wide(copied) if self.is_widened else copied
            widened = ComputesWide() if self.is_widened else nullcontext()
            with (
                widened,
                plain_attention(),
                torch.backends.cudnn.flags(enabled=False) if without_cudnn else nullcontext(),
            ):
                yield
        finally:
            for store, name, parameter in parameters:
                store[name] = parameter
            for store, name, buffer in buffers:
                store[name] = buffer
            for m, cache in zip(self._rnns, rnn_caches, strict=True):
                vars(m).update(cache)
            for store, name, value in settings:
                store[name] = value
            for m in training:
                vars(m)["training"] = True


class Point:
    """A flat vector, which must not be changed in place, and its parts as leaves of autograd that share its memory."""

    def __init__(self, parameters: FlatParameters, w: Tensor, needs_grad: bool = True) -> None:
        w = parameters.checked(w, "w")
        shares = parameters.n >= _LARGE and parameters.are_left_alone and not w.is_inference()
        self.point: Tensor = w if shares else w.clone()
        # Leaves rather than views of one leaf: its gradient would be put together anew from theirs, chunk by chunk.
        self.leaves: list[Tensor] = [part.detach().requires_grad_(needs_grad) for part in parameters.split(self.point)]


def _weight_decay(net: NeuralNet, parameters: list[nn.Parameter], dtype: torch.dtype) -> Tensor | None:
    """Return the coupled weight decay of each entry of the flat vector, or None where all are zero."""
    optimizer = getattr(net, "optimizer_", None)
    decay = {}
    for group in getattr(optimizer, "param_groups", []):
        if not _is_decoupled(optimizer, group):
            decay.update({id(p): float(group.get("weight_decay", 0.0)) for p in group["params"]})
    values = [decay.get(id(p), 0.0) for p in parameters]
    if not any(values):
        return None
    pairs = zip(parameters, values, strict=True)
    return torch.cat([torch.full_like(p, v, dtype=dtype).reshape(-1) for p, v in pairs]).detach()


def _is_decoupled(optimizer: Any, group: dict[str, Any]) -> bool:
    # AdamW had no flag in its groups before it became an Adam; Adafactor and Muon have none either.
    names = {kind.__name__ for kind in type(optimizer).__mro__ if kind.__module__.startswith("torch.optim")}
    return bool(group.get("decoupled_weight_decay")) or not names.isdisjoint({"AdamW", "Adafactor", "Muon"})
