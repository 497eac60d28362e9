"""Sees which functions a module's parameters enter, and sums up what the linear ones among them are multiplied with."""

from __future__ import annotations

import inspect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from sk_unlearn.risks.layer_inputs import LayerInputs, MapInputs, Place, Sums, squares_of
from sk_unlearn.rows.storage import BLOCK

__all__ = ["InputWatch"]

# Widest input whose second moments are kept whole: (p + 1)² numbers, and as many operations a row.
_WIDEST = 256
_UNIT = 2.0**-53


class _Fed(NamedTuple):
    """A tensor that a function multiplies with a weight.

    Attributes
    ----------
    weight, bias : Tensor or None

    input : Tensor
        For an embedding the rows of the table that were looked up, else with the inputs along its axis ``channel``.

    axis : int
        The axis of the weight that is multiplied with the input.

    first, last : int or None
        The entries of the weight's axis 0 that are meant; None for all of them.

    channel : int
        See ``input``.

    homogeneous : bool
        Whether a bias is another matter: in a convolution it meets borders, in a recurrent layer there are two.

    padding : int or None
        The row of a table whose look-ups do not count.
    """

    weight: Tensor | None
    bias: Tensor | None
    input: Tensor
    axis: int = 1
    first: int | None = None
    last: int | None = None
    channel: int = -1
    homogeneous: bool = False
    padding: int | None = None


class InputWatch(TorchFunctionMode):
    """A context in which a module's forward pass tells what enters its linear maps.

    It sees every function of PyTorch that takes a parameter, whichever module calls it. A parameter that enters any
    function that is not known to be linear in it, and be it a transposition, is left out for good.

    Notes
    -----
    Code that PyTorch does not show to modes (TorchScript, custom operators) is not seen. Gradients must be enabled:
    that a tensor requires none tells that it does not depend on parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self._leaves: Sequence[Tensor] = ()
        self._number: dict[int, int] = {}
        self._otherwise: set[int] = set()
        self._sums: dict[Place, _RunningSums] = {}
        # Which biases a map is used with, and with which maps a bias.
        self._biases: dict[Place, set[int | None]] = defaultdict(set)
        self._with_bias: dict[int, dict[tuple[int, int], set[Place]]] = defaultdict(lambda: defaultdict(set))
        # Whether something was cut off from the parameters.
        self._cut = False
        # Maps behind running statistics, which move with the rows; and whether the forward pass has come to such.
        self._moving: set[Place] = set()
        self._is_behind = False
        # Maps with an input that is the same whatever the rows are, as of a learnt prompt: all rows use it.
        self._of_no_row: set[Place] = set()
        # Tensors in which rows had no part, by identity; and whether numbers of rows have come to where nobody sees.
        self._rowless: dict[int, Tensor] = {}
        self._own: list[Tensor] = []
        self._has_left = False

    def of(self, leaves: Sequence[Tensor], module: nn.Module) -> InputWatch:
        """Watch these tensors, which stand for the module's parameters in their order."""
        self._leaves, self._number = leaves, {id(leaf): k for k, leaf in enumerate(leaves)}
        self._own = [*module.parameters(), *module.buffers()]
        return self

    def __enter__(self) -> InputWatch:
        """Begin a forward pass."""
        self._cut = self._is_behind = self._has_left = False
        self._rowless = {id(each): each for each in self._own}
        super().__enter__()
        return self

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Carry out a function, and look at it."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        tensors = list(_tensors((*args, *kwargs.values())))
        found = Counter(self._number[id(each)] for each in tensors if id(each) in self._number)
        results = list(_tensors((output,)))
        if found and results:
            self._see(func, args, kwargs, found)
        # What is cut off from the parameters may depend on them all the same.
        if any(each.requires_grad for each in tensors) and not all(each.requires_grad for each in results):
            self._cut = True
        if func in _NORMALISING:
            self._is_behind = True
        self._follow_rows(func, tensors, results)
        return output

    def _follow_rows(self, func: Any, tensors: Sequence[Tensor], results: Sequence[Tensor]) -> None:
        """Note whether rows had a part in the results of a function, which may be among its arguments."""
        if all(id(each) in self._rowless for each in tensors) and not (self._has_left and not tensors):
            self._rowless.update((id(each), each) for each in results)
            return
        for each in tensors[:1] if func is Tensor.__setitem__ else results:
            self._rowless.pop(id(each), None)
            self._rowless.pop(id(each._base), None)
        self._has_left = self._has_left or func in _LEAVING_TORCH

    def _see(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], found: Counter[int]) -> None:
        read = _LINEAR.get(func)
        with torch.no_grad():
            for fed in [] if read is None else read(args, kwargs):
                number = self._number.get(id(fed.weight))
                if number is not None and self._take(number, fed):
                    found[number] -= 1
                    bias = self._number.get(id(fed.bias))
                    if bias is not None and not fed.homogeneous:
                        # A packed bias is named once and used for each part of its weight.
                        found[bias] = 0
        self._otherwise.update(number for number, times in found.items() if times > 0)

    def _take(self, number: int, fed: _Fed) -> bool:
        """Add an input to the sums, and tell whether it was one that can be."""
        weight, x = self._leaves[number], fed.input
        if x.layout is not torch.strided:
            return False
        first, last = fed.first or 0, len(weight) if fed.last is None else fed.last
        place = Place(number, fed.axis, first, last)
        bias = None if fed.homogeneous else self._number.get(id(fed.bias))
        if fed.bias is not None and bias is None and not fed.homogeneous:
            fed = fed._replace(homogeneous=True)
        if self._is_behind:
            self._moving.add(place)
        if id(fed.input) in self._rowless:
            self._of_no_row.add(place)
        self._biases[place].add(bias)
        if bias is not None:
            self._with_bias[bias][first, last].add(place)
        steady = not (x.requires_grad or self._cut)
        sums = self._sums.get(place)
        if sums is None:
            sums = self._sums[place] = _RunningSums(weight.shape[fed.axis], weight.device, steady=steady)
        if steady != sums.steady:
            return False  # two layers with one weight, of which one sees rows and the other features
        if fed.axis == 0:
            sums.count(x, fed.padding)
        else:
            sums.add(x, fed.channel)
        return True

    def result(self) -> LayerInputs:
        """Return what has entered the linear maps so far."""
        places = defaultdict(list)
        for place in self._sums:
            if place.parameter not in self._otherwise:
                places[place.parameter].append(place)
        maps = []
        for found in places.values():
            if _are_disjoint(found):
                maps += [self._map(place) for place in sorted(found) if place not in self._of_no_row]
        return LayerInputs(tuple(sorted(maps, key=lambda each: each.place)))

    def _map(self, place: Place) -> MapInputs:
        sums = self._sums[place]
        steady = sums.steady and place not in self._moving
        return MapInputs(place, self._own_bias(place), steady, sums.result())

    def _own_bias(self, place: Place) -> int | None:
        """Return the number of the bias that this map has to itself."""
        biases = self._biases[place]
        if len(biases) != 1:
            return None
        (bias,) = biases
        if bias is None or bias in self._otherwise:
            return None
        users = self._with_bias[bias]
        whole = _are_disjoint([Place(bias, 1, *each) for each in users])
        return bias if whole and users[place.first, place.last] == {place} else None


def _are_disjoint(places: Sequence[Place]) -> bool:
    """Tell whether maps in one parameter have no weight in common."""
    ordered = sorted(places)
    return all(a.axis == b.axis == 1 and a.last <= b.first for a, b in pairwise(ordered))


class _RunningSums:
    """Sums over inputs of width p: of those that depend on parameters it is counted how often they are not zero."""

    def __init__(self, p: int, device: torch.device, *, steady: bool) -> None:
        self.p, self.steady = p, steady
        # torch's MPS backend has no float64.
        self.device = torch.device("cpu") if device.type == "mps" else device
        self.uses: Tensor | None = None
        self.moments: Tensor | None = None
        self.rounding: Tensor | None = None

    def count(self, ids: Tensor, padding: int | None) -> None:
        """Count which rows of a table were looked up, but for that of the padding."""
        ids = ids.reshape(-1).to(self.device, torch.int64)
        ids = ids if padding is None else ids[ids != padding]
        if self.uses is None:
            self.uses = torch.zeros(self.p, dtype=torch.int64, device=self.device)
        self.uses.index_add_(0, ids, torch.ones_like(ids))

    def add(self, x: Tensor, channel: int) -> None:
        """Add inputs, which lie along an axis of a tensor."""
        x = x.detach().to(self.device)
        if not self.steady:
            others = [axis for axis in range(x.ndim) if axis != channel % x.ndim]
            used = x.count_nonzero(others)
            self.uses = used if self.uses is None else self.uses + used
            return
        rows = x.movedim(channel, -1).reshape(-1, self.p)
        # In double precision they take up to four times the memory that they had, so a few at a time.
        step = max(1, BLOCK // self.p)
        added = self._moments_of(rows[:step].double())
        for start in range(step, len(rows), step):
            added += self._moments_of(rows[start : start + step].double())
        squares = squares_of(added)
        if self.moments is None or self.rounding is None:
            self.moments, self.rounding = torch.zeros_like(added), torch.zeros_like(squares)
        self.moments += added
        self.rounding += _UNIT * (squares_of(self.moments) + len(rows) ** 0.5 * squares)

    def _moments_of(self, rows: Tensor) -> Tensor:
        ones = rows.new_ones(1, len(rows))
        total = (ones @ rows)[0]
        if self.p > _WIDEST:
            return torch.stack([_with(total, len(rows)), _with((ones @ rows.square())[0], len(rows))])
        return torch.cat([torch.cat([rows.T @ rows, total[None]]), _with(total, len(rows))[:, None]], dim=1)

    def result(self) -> Sums:
        """Return the sums so far."""
        return Sums(*(None if each is None else each.cpu() for each in (self.uses, self.moments, self.rounding)))


def _with(values: Tensor, last: float) -> Tensor:
    return torch.cat([values, values.new_tensor([float(last)])])


def _tensors(values: Any) -> Iterator[Tensor]:
    """Give the tensors in nested lists, tuples and dictionaries."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())


# ------------------------------------------------------------------------------------------- the functions it knows


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int, name: str) -> Any:
    return args[position] if position < len(args) else kwargs.get(name)


def _linear(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[_Fed]:
    x, weight, bias = (_argument(args, kwargs, k, name) for k, name in enumerate(("input", "weight", "bias")))
    return [_Fed(weight, bias, x)] if weight.ndim == 2 else []


def _convolution(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[_Fed]:
    x, weight = (_argument(args, kwargs, k, name) for k, name in enumerate(("input", "weight")))
    if (_argument(args, kwargs, 6, "groups") or 1) != 1:
        return []  # each group of channels has a map of its own
    return [_Fed(weight, None, x, channel=1 - weight.ndim, homogeneous=True)]


def _table(args: tuple[Any, ...], bound: Mapping[str, Any]) -> list[_Fed]:
    ids, weight, padding = bound["input"], bound["weight"], bound.get("padding_idx")
    if padding is not None:  # whose row has no gradient
        padding %= len(weight)
    return [_Fed(weight, None, ids, axis=0, homogeneous=True, padding=padding)]


def _attention(args: tuple[Any, ...], bound: Mapping[str, Any]) -> list[_Fed]:
    inputs = [bound[name] for name in ("query", "key", "value")]
    bias, size = bound["in_proj_bias"], bound["query"].shape[-1]
    if bound["use_separate_proj_weight"]:
        weights = [bound[f"{name}_proj_weight"] for name in "qkv"]
        # The bias is packed all the same, so that its parts lie elsewhere than those of the weights.
        return [_Fed(weight, None, x, homogeneous=True) for weight, x in zip(weights, inputs, strict=True)]
    weight = bound["in_proj_weight"]
    return [_Fed(weight, bias, x, first=k * size, last=(k + 1) * size) for k, x in enumerate(inputs)]


def _recurrent(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[_Fed]:
    at = 3 if isinstance(args[3], list | tuple) else 2  # of packed sequences, or of a tensor
    weights, n_layers, both_ways = args[at], args[at + 2], args[at + 5]
    n_directions = 2 if both_ways else 1
    step = len(weights) // (n_layers * n_directions)
    return [_Fed(weights[k * step], None, args[0], homogeneous=True) for k in range(n_directions)]


def _recurrent_cell(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[_Fed]:
    return [_Fed(_argument(args, kwargs, 2, "w_ih"), None, args[0], homogeneous=True)]


def _by_name(function: Callable[..., Any], read: Callable[..., list[_Fed]]) -> Callable[..., list[_Fed]]:
    """Have the arguments of a Python function by their names."""
    signature = inspect.signature(function)

    def reader(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[_Fed]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return read(args, bound.arguments)

    return reader


# What they return is no tensor, and a tensor that is made of it looks as if it had nothing to do with rows.
_LEAVING_TORCH = (Tensor.item, Tensor.tolist, Tensor.numpy, Tensor.__array__)
_NORMALISING = (functional.batch_norm, torch.batch_norm)
_LINEAR: dict[Any, Callable[[tuple[Any, ...], Mapping[str, Any]], list[_Fed]]] = {
    functional.linear: _linear,
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), _convolution),
    functional.embedding: _by_name(functional.embedding, _table),
    functional.embedding_bag: _by_name(functional.embedding_bag, _table),
    functional.multi_head_attention_forward: _by_name(functional.multi_head_attention_forward, _attention),
    **dict.fromkeys((torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu), _recurrent),
    **dict.fromkeys((torch.lstm_cell, torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell), _recurrent_cell),
}
