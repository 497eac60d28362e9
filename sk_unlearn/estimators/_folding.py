r"""A change of coordinates taken into the first layer, so that a net goes on computing what it did.

With :math:`z = \rho z' + \delta` by column, :math:`W z + b = W' z' + b'` for :math:`W' = W \mathrm{diag}(\rho)` and
:math:`b' = b + W \delta`. A BatchNorm layer takes it into its running mean and variance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor, nn

from sk_unlearn.estimators._constants import built_in, constants_of
from sk_unlearn.estimators._notes import some_outputs
from sk_unlearn.estimators.default_net import CUT
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.risks.layer_inputs import LayerInputs
from sk_unlearn.utils._twins import twin, uncompiled

__all__ = ["ColumnMap", "Fold", "as_seen", "folded", "noting"]

# A layer that is fed by the columns alone takes any change exactly; another one is off by about as much as the change.
_PROBED_ROWS, _EXACT = 16, 1e-3
# Squares of float32 numbers that move again and again are off by no more than this share of themselves.
_ROUNDED = 2.0**-20


@dataclass(frozen=True)
class ColumnMap:
    """How a row is had back from its new coordinates: ``z = rho * z_new + delta``, by column.

    Attributes
    ----------
    rho, delta : float64 ndarray of shape (n_columns,)
    """

    rho: NDArray[np.float64]
    delta: NDArray[np.float64]

    @property
    def moves(self) -> bool:
        """Whether it changes anything."""
        return bool((self.rho != 1).any() or (self.delta != 0).any())

    def of_inputs(self, columns: NDArray[np.int64] | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return it by the inputs of a layer: which column each is, -1 for none; None where they are the columns."""
        if columns is None:
            return self.rho, self.delta
        return np.append(self.rho, 1.0)[columns], np.append(self.delta, 0.0)[columns]

    def behind(self, net: NeuralNet) -> ColumnMap:
        """Return the change as the first layer sees it: the built-in network standardises its input before."""
        module = built_in(net)
        if module is None:
            return self
        constants = constants_of(module)
        n = constants.n_inputs
        shift, scale = constants.shift[:n], constants.scale[:n]
        return ColumnMap(self.rho, (self.delta + (self.rho - 1) * shift) / scale)


def as_seen(net: NeuralNet, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return rows as the first layer sees them."""
    module = built_in(net)
    if module is None:
        return X.astype(np.float64)
    constants = constants_of(module)
    n = constants.n_inputs
    return np.clip((X - constants.shift[:n]) / constants.scale[:n], -CUT, CUT)


@dataclass(frozen=True)
class Fold:
    """A change that layers have taken into themselves.

    Attributes
    ----------
    places : list of (int, int or None)
        Numbers of their weights and biases among the trainable parameters; only those of linear maps, and without the
        frozen ones.

    shapes : list of torch.Size
        Of the trainable parameters.

    change : ColumnMap
        As the layers saw it.

    columns : list of (int64 ndarray, or None)
        For each place which column each input is, -1 for one that is none; None where the inputs are the columns.
    """

    places: list[tuple[int, int | None]]
    shapes: list[torch.Size]
    change: ColumnMap
    columns: list[NDArray[np.int64] | None]

    def inputs(self, known: LayerInputs, before: NDArray[np.float64], after: NDArray[np.float64]) -> LayerInputs:
        """Return what is known of the inputs of layers, of which those that have taken the change are fed otherwise.

        Parameters
        ----------
        known : LayerInputs
            Before the change.

        before, after : ndarray of shape (n, n_columns)
            Inputs of rows that are about to be subtracted, before and after it.
        """
        rho, delta = self.change.rho, self.change.delta
        # Rows are stored rounded, and the built-in network cuts off what lies far out.
        off = np.abs(np.square((before - delta) / rho) - np.square(after)).sum(axis=0)
        inexact = torch.from_numpy(off + _ROUNDED * np.square(after).sum(axis=0))
        # What is known of inputs beside other things depends on parameters, and is taken anew.
        weights = [weight for (weight, _), columns in zip(self.places, self.columns, strict=True) if columns is None]
        return known.moved(weights, torch.from_numpy(rho), torch.from_numpy(delta), inexact)

    def gradient(self, gradient: Tensor) -> Tensor:
        """Return what becomes of the gradient of a function of the parameters, by the chain rule.

        Parameters
        ----------
        gradient : Tensor of shape (d,)
        """
        parts = [
            part.view(shape)
            for part, shape in zip(gradient.split([s.numel() for s in self.shapes]), self.shapes, strict=True)
        ]
        for (weight, bias), of_inputs in zip(self.places, self.columns, strict=True):
            rho, delta = (torch.from_numpy(each).to(gradient) for each in self.change.of_inputs(of_inputs))
            part = parts[weight]
            parts[weight] = (part if bias is None else part - torch.outer(parts[bias], delta)) / rho
        return torch.cat([part.reshape(-1) for part in parts])


def folded(net: NeuralNet, change: ColumnMap, X: NDArray[Any], y: NDArray[Any]) -> Fold | None:
    """Have the first layer of a net take a change of coordinates into itself.

    Which layers are fed by the columns alone, or by these beside other things such as rows of embeddings, is tried out:
    on a copy, with a change that nobody could overlook.

    Parameters
    ----------
    net : skorch.NeuralNet
        With modules of its own; changed in place.

    change : ColumnMap

    X, y : ndarray of shape (n, n_columns), ndarray of shape (n, ...)
        Some rows and targets.

    Returns
    -------
    fold : Fold or None
        None where no layer can take it, and the net stays what it was.
    """
    if X.dtype.kind != "f":  # whole numbers are looked up, and do not move by a little
        return None if change.moves else _fold(net, [], change)
    if not change.moves:
        return _fold(net, [], change)
    some = slice(0, _PROBED_ROWS)
    moved = (change.rho != 1) | (change.delta != 0)
    for kind in (nn.Linear, nn.BatchNorm1d):
        numbers = [number for number, layer in enumerate(_modules(net)) if _takes(layer, kind, X.shape[1])]
        if numbers and _is_exact(net, numbers, moved, X[some], y[some]):
            fits = all(getattr(_modules(net)[k], "bias", None) is not None for k in numbers)
            if kind is nn.Linear and not fits and bool(change.behind(net).delta.any()):
                return None  # without a bias only a scale can be taken
            return _fold(net, numbers, change)
    inside = _columns_inside(net, moved, X[some])
    has_bias = all(_modules(net)[k].bias is not None for k in inside)
    if not inside or not (has_bias or not change.delta.any()):
        return None
    if not _is_exact(net, list(inside), moved, X[some], y[some], inside):
        return None
    return _fold(net, list(inside), change, inside)


def _columns_inside(net: NeuralNet, moved: NDArray[np.bool_], X: NDArray[Any]) -> dict[int, NDArray[np.int64]]:
    """Return for each linear map that is given moved columns, beside other things, which column each input is or -1."""
    rows, probe = X.copy(), twin(net, share_tensors=False)
    # Numbers that nothing else equals by chance.
    rows[:, moved] *= np.random.default_rng(0).uniform(0.5, 2, size=(len(X), int(moved.sum())))
    seen: dict[int, list[Tensor]] = {}
    for number, layer in enumerate(_modules(probe)):
        if type(layer) is nn.Linear:
            layer.register_forward_pre_hook(noting(seen.setdefault(number, [])))
    try:
        with torch.no_grad():
            probe.module_.eval()
            probe.infer(torch.from_numpy(rows).to(probe.device))
    except (IndexError, RuntimeError):
        return {}
    result = {}
    for number, inputs in seen.items():
        if len(inputs) != 1 or inputs[0].ndim != 2 or len(inputs[0]) != len(rows):
            continue
        given = inputs[0].cpu().numpy()
        columns = np.full(given.shape[1], -1)
        for column in np.flatnonzero(moved):
            columns[(given == rows[:, [column]]).all(axis=0)] = column
        if (columns >= 0).any():
            result[number] = columns
    return result


def noting(into: list[Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    """Return a hook that notes what a module is given first."""

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        into.append(inputs[0].clone())

    return note


def _modules(net: NeuralNet) -> list[nn.Module]:
    return list(uncompiled(net.module_).modules())


def _takes(layer: nn.Module, kind: type[nn.Module], width: int) -> bool:
    if type(layer) is not kind:
        return False
    if isinstance(layer, nn.BatchNorm1d):
        return layer.num_features == width and layer.running_mean is not None
    return isinstance(layer, nn.Linear) and layer.in_features == width


def _is_exact(
    net: NeuralNet,
    numbers: Sequence[int],
    moved: NDArray[np.bool_],
    X: NDArray[Any],
    y: NDArray[Any],
    inside: Mapping[int, NDArray[np.int64]] | None = None,
) -> bool:
    rng, probe = np.random.default_rng(0), twin(net, share_tensors=False)
    has_bias = all(getattr(_modules(net)[k], "bias", None) is not None for k in numbers)
    width = X.shape[1]
    spread = np.maximum(np.abs(X).mean(axis=0, dtype=np.float64), 1e-3)
    rho, delta = rng.uniform(0.5, 2, size=width), rng.uniform(-1, 1, size=width) * spread
    # Other columns, such as codes, may be of a kind that cannot move.
    change = ColumnMap(np.where(moved, rho, 1.0), np.where(moved, delta, 0.0))
    if not has_bias and built_in(net) is None:
        change = ColumnMap(change.rho, np.zeros(width))
    _fold(probe, numbers, change, inside)
    new = ((X - change.delta) / change.rho).astype(X.dtype)
    before, after = (
        some_outputs(EmpiricalRisk(twin(each), rows, y), flat_parameters(each))
        for each, rows in ((net, X), (probe, new))
    )
    if before is None or after is None:
        return False
    scale = float(before.abs().mean()) + float(before.std())
    return bool(torch.isfinite(after).all()) and float((after - before).abs().max()) <= _EXACT * scale


@torch.no_grad()
def _fold(
    net: NeuralNet, numbers: Sequence[int], change: ColumnMap, inside: Mapping[int, NDArray[np.int64]] | None = None
) -> Fold:
    seen = change.behind(net)
    trainable = [p for p in net.module_.parameters() if p.requires_grad]
    place = {id(p): k for k, p in enumerate(trainable)}
    places: list[tuple[int, int | None]] = []
    modules = _modules(net)
    columns: list[NDArray[np.int64] | None] = []
    for number in numbers:
        layer, of_inputs = modules[number], None if inside is None else inside[number]
        rho, delta = map(torch.from_numpy, seen.of_inputs(of_inputs))
        if isinstance(layer, nn.Linear):
            weight = layer.weight.cpu().double()
            if layer.bias is not None:
                layer.bias.copy_(layer.bias.cpu().double() + weight @ delta)
            layer.weight.copy_(weight * rho)
            if id(layer.weight) in place:
                places.append((place[id(layer.weight)], None if layer.bias is None else place.get(id(layer.bias))))
                columns.append(of_inputs)
        elif isinstance(layer, nn.BatchNorm1d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.copy_((layer.running_mean.cpu().double() - delta) / rho)
            layer.running_var.copy_(layer.running_var.cpu().double() / rho.square())
    return Fold(places, [p.shape for p in trainable], seen, columns)
