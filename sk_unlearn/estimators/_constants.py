"""The constants of the built-in network, kept those of the rows that count: one row may have stretched a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor, nn

from sk_unlearn.estimators._request import Content, Request
from sk_unlearn.estimators._standardise import coarse_standardisation
from sk_unlearn.estimators.default_net import CUT, MLP
from sk_unlearn.rows import TrainingSet
from sk_unlearn.rows.storage import in_blocks
from sk_unlearn.utils._twins import uncompiled

__all__ = ["Constants", "Review", "built_in", "constants_of", "fold", "gradient_under", "review"]


def built_in(net: NeuralNet) -> MLP | None:
    """Return the module of a net if it is the package's own and standardises; else None."""
    module = uncompiled(net.module_)
    return module if type(module) is MLP and module.input_shift is not None else None


@dataclass(frozen=True)
class Constants:
    """Shift and scale of the inputs and, for regression, of the outputs after them.

    Attributes
    ----------
    shift, scale : float64 ndarray of shape (n_features_in + n_outputs,) or (n_features_in,)
        As the module holds them, in its precision.

    n_inputs : int
        How many belong to the inputs.
    """

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]
    n_inputs: int

    def settings(self) -> dict[str, Any]:
        """Return the settings of a net that go with them."""
        n = self.n_inputs
        named = {"module__input_shift": self.shift[:n].tolist(), "module__input_scale": self.scale[:n].tolist()}
        if len(self.shift) > n:
            named |= {"module__output_shift": self.shift[n:].tolist(), "module__output_scale": self.scale[n:].tolist()}
        return named

    def unit_of_loss(self) -> float:
        """Return the unit of the squared loss, in which the weight decay of a regression counts; 1 for others."""
        outputs = self.scale[self.n_inputs :]
        return float(np.mean(np.square(outputs))) if len(outputs) else 1.0

    def differ(self, other: Constants) -> NDArray[np.bool_]:
        """Tell in which columns they are not those of another."""
        return (self.shift != other.shift) | (self.scale != other.scale)


def constants_of(module: MLP) -> Constants:
    """Return the constants that a module has."""
    parts = [(module.input_shift, module.input_scale)]
    if module.output_shift is not None:
        parts.append((module.output_shift, module.output_scale))
    shift, scale = (torch.cat([each[k] for each in parts]).cpu().double().numpy() for k in (0, 1))  # type: ignore[misc]
    return Constants(shift, scale, len(module.input_scale))


@dataclass(frozen=True)
class Review:
    """What a look at the constants came to.

    Attributes
    ----------
    constants : Constants or None
        Those that a net retrained would have, where they are not the present ones.

    spread_gone : float
        The share of the spread of a column that rows have taken with them since the constants were last taken over the
        stored rows; in thousandths, so that it tells of no row.

    unknown : int
        Number of columns whose constants may depend on rows that left, and cannot be taken again without rows.
    """

    constants: Constants | None = None
    spread_gone: float = 0.0
    unknown: int = 0


def review(module: MLP, rows: TrainingSet | None, request: Request, spread_gone: float, mass: float) -> Review:
    """Look whether the constants are those of the rows that count after a request.

    They are taken over the stored rows where that is quick, or where rows that left carried a telling part of the
    spread of a column. One row of a million costs no pass over the others.

    Parameters
    ----------
    module : MLP
        The present one.

    rows : TrainingSet or None
        Before the request.

    request : Request

    spread_gone : float
        As of the last review.

    mass : float
        Sum of the weights of all rows before the request.
    """
    present = constants_of(module)
    leaving = request.foreign if rows is None else _content(rows, request.positions)
    assert leaving is not None
    if not len(leaving):
        return Review(None, spread_gone)
    shares = _shares(leaving, present, mass)
    if rows is None:
        return Review(unknown=int(np.count_nonzero(shares > _STRETCHING)))
    if request.new is not None:
        shares += _shares(Content(request.new.X, request.new.y, leaving.weight), present, mass)
    spread_gone = round(spread_gone + float(np.ceil(1000 * shares.max())) / 1000, 3)
    if rows.raw_X.size > _QUICK and spread_gone < _TELLING:
        return Review(None, spread_gone)
    after = _taken_over(module, request.rows_after(rows, np.flatnonzero(request.stay(rows.live_mask))))
    return Review(after if after.differ(present).any() else None)


# Medians of so many numbers are taken in a few milliseconds.
_QUICK = 2**16
# A share of the spread that may make a scale another: scales are rounded to powers of two.
_TELLING = 0.01
# One that probably has, where there is no way to see.
_STRETCHING = 0.25


def _content(rows: TrainingSet, slots: NDArray[np.int64]) -> Content:
    weight = None if rows.raw_weight is None else rows.raw_weight[slots]
    return Content(rows.raw_X[slots], rows.raw_y[slots], weight)


def _shares(content: Content, constants: Constants, mass: float) -> NDArray[np.float64]:
    """Return which part of each column rows account for: of mean, of variance, or of the ranks that bound both."""
    weight = np.ones(len(content)) if content.weight is None else content.weight
    squares, total = np.zeros_like(constants.shift), np.zeros_like(constants.shift)
    for part, X in in_blocks(content.X):
        columns = [X.astype(np.float64)]
        if len(constants.shift) > constants.n_inputs:
            columns.append(content.y[part].reshape(len(X), -1).astype(np.float64))
        z = (np.concatenate(columns, axis=1) - constants.shift) / constants.scale
        # What lies far out has been drawn in before mean and variance were taken.
        np.clip(z, -CUT, CUT, out=z)
        squares += weight[part] @ np.square(z)
        total += weight[part] @ z
    return np.asarray(np.maximum(np.maximum(squares, np.abs(total)), weight.sum()) / mass)


def _taken_over(module: MLP, content: Content) -> Constants:
    """Return the constants that a net built for the rows would have, the way such a net takes them."""
    pairs = [coarse_standardisation(content.X, content.weight)]
    if module.output_shift is not None:
        pairs.append(coarse_standardisation(content.y.reshape(len(content), -1), content.weight))
    shift, scale = (np.concatenate([pair[k] for pair in pairs]) for k in (0, 1))
    return _held(module, shift, scale)


def _held(module: MLP, shift: NDArray[np.float64], scale: NDArray[np.float64]) -> Constants:
    """Return constants as the module would hold them."""
    dtype = module.input_scale.dtype
    shift, scale = (torch.as_tensor(values).to(dtype).double().numpy() for values in (shift, scale))
    return Constants(shift, scale, len(module.input_scale))


@torch.no_grad()
def fold(module: MLP, constants: Constants) -> None:
    r"""Give a module other constants and parameters with which it computes what it did.

    Numbers that are cut off (see :class:`MLP`) are cut off elsewhere under other constants; all others count as before.
    The first layer sees :math:`(x - s) / c = \rho (x - s') / c' + \delta` with :math:`\rho = c' / c` and
    :math:`\delta = (s' - s) / c`, so that :math:`W' = W \mathrm{diag}(\rho)` and :math:`b' = b + W \delta`. The last
    layer's outputs are stretched the other way round.

    Parameters
    ----------
    module : MLP
        Changed in place.

    constants : Constants
        The new ones.
    """
    old, n = constants_of(module), constants.n_inputs
    first, last = module.body[0], module.body[-1]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    rho = torch.from_numpy(constants.scale[:n] / old.scale[:n])
    delta = torch.from_numpy((constants.shift[:n] - old.shift[:n]) / old.scale[:n])
    W = first.weight.cpu().double()
    first.bias.copy_(first.bias.cpu().double() + W @ delta)
    first.weight.copy_(W * rho)
    if module.output_shift is not None:
        kappa = torch.from_numpy(old.scale[n:] / constants.scale[n:])
        offset = torch.from_numpy((old.shift[n:] - constants.shift[n:]) / constants.scale[n:])
        last.weight.copy_(kappa[:, None] * last.weight.cpu().double())
        last.bias.copy_(kappa * last.bias.cpu().double() + offset)
        module.output_shift.copy_(torch.from_numpy(constants.shift[n:]))
        module.output_scale.copy_(torch.from_numpy(constants.scale[n:]))
    assert module.input_shift is not None
    module.input_shift.copy_(torch.from_numpy(constants.shift[:n]))
    module.input_scale.copy_(torch.from_numpy(constants.scale[:n]))


def gradient_under(module: MLP, old: Constants, gradient: Tensor) -> Tensor:
    r"""Return what becomes of a gradient, by the parameters before :func:`fold`, by those after it.

    With the letters of :func:`fold`, :math:`W = W' \mathrm{diag}(1 / \rho)` and :math:`b = b' - W \delta`; the chain
    rule does the rest.

    Parameters
    ----------
    module : MLP
        After it.

    old : Constants
        Those before it.

    gradient : Tensor of shape (d,)
        Of a function of the trainable parameters.
    """
    new, n = constants_of(module), old.n_inputs
    first, last = module.body[0], module.body[-1]
    parameters = [p for p in module.parameters() if p.requires_grad]
    parts = dict(zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True))
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    by_bias = parts.get(first.bias)

    def changed(parameter: nn.Parameter, part: Tensor) -> Tensor:
        part = part.view(parameter.shape)
        if parameter is first.weight:
            rho = torch.from_numpy(new.scale[:n] / old.scale[:n]).to(part)
            delta = torch.from_numpy((new.shift[:n] - old.shift[:n]) / old.scale[:n]).to(part)
            part = part / rho if by_bias is None else (part - torch.outer(by_bias, delta)) / rho
        if len(old.shift) > n and (parameter is last.weight or parameter is last.bias):
            kappa = torch.from_numpy(old.scale[n:] / new.scale[n:]).to(part)
            part = part / (kappa[:, None] if part.ndim > 1 else kappa)
        return part.reshape(-1)

    return torch.cat([changed(parameter, part) for parameter, part in parts.items()])
