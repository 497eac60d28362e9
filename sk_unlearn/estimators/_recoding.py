"""Tables of embeddings in the order of new codes: where a category is gone, all later ones have moved up by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor, nn

from sk_unlearn.estimators._folding import noting
from sk_unlearn.estimators._notes import some_outputs
from sk_unlearn.estimators._state import Anchor
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.training.start import TrainingStart
from sk_unlearn.utils._twins import twin, uncompiled

__all__ = ["Recoding", "recoded", "recoded_values"]

Orders = Mapping[int, NDArray[np.int64]]


def recoded_values(values: NDArray[Any], order: NDArray[np.int64]) -> NDArray[Any]:
    """Return a column of codes as its new codes; what is no code, such as that of a missing value, stays.

    Parameters
    ----------
    values : ndarray of shape (n,)

    order : int64 ndarray
        The new code of each old one.
    """
    result = values.copy()
    with np.errstate(invalid="ignore"):
        known = (values >= 0) & (values < len(order)) & (values == np.rint(values))
    result[known] = order[values[known].astype(np.int64)]
    return result


@dataclass(frozen=True)
class Recoding:
    """Tables that have been put into another order.

    Attributes
    ----------
    orders : dict of int to int64 Tensor
        For the number of each among the trainable parameters, which old row each new one was.

    shapes : list of torch.Size
        Of the trainable parameters.
    """

    orders: dict[int, Tensor]
    shapes: list[torch.Size]

    def flat(self, vector: Tensor) -> Tensor:
        """Return a flat vector with one number a parameter, such as a gradient, in the new order."""
        parts = list(vector.split([shape.numel() for shape in self.shapes]))
        for number, order in self.orders.items():
            parts[number] = parts[number].view(self.shapes[number])[order].reshape(-1)
        return torch.cat(parts)

    def start(self, start: TrainingStart) -> TrainingStart:
        """Return where training started, each row of a table with the value that it had itself."""
        return replace(start, parameters=self.flat(start.parameters))

    def of_anchor(self, anchor: Anchor) -> dict[str, Any]:
        """Return what the anchor knows of each parameter, in the new order."""
        inputs = None if anchor.inputs is None else anchor.inputs.reordered(self.orders)
        return {"residual": self.flat(anchor.residual), "gradient": self.flat(anchor.gradient), "inputs": inputs}


def recoded(net: NeuralNet, orders: Orders, X: NDArray[Any], y: NDArray[Any]) -> Recoding | None:
    """Put the tables that a net looks up by some columns into the order of their new codes.

    Which tables these are is seen from what reaches them when the codes of a column are exchanged. That nothing else
    depends on the codes is tried out on a copy: outputs have to be what they were, to the last bit.

    Parameters
    ----------
    net : skorch.NeuralNet
        With modules of its own; changed in place.

    orders : mapping from int to int64 ndarray
        For each column, the new code of each old one.

    X, y : ndarray of shape (n, n_columns), ndarray of shape (n, ...)
        Some rows, with old codes, and their targets.

    Returns
    -------
    recoding : Recoding or None
        None where the net does other things with codes than to look them up, and it stays what it was.
    """
    # Every code takes the place of another one, so that no use of it can be overlooked.
    probe = {column: np.roll(np.arange(len(order)), 1) for column, order in orders.items()}
    of_tables: dict[int, int] = {}
    for column in orders:
        numbers = _fed_by(net, X, _with_codes(X, {column: probe[column]}))
        if numbers is None or not set(numbers).isdisjoint(of_tables):
            return None
        of_tables |= dict.fromkeys(numbers, column)
    tables = _modules(net)
    if not all(_can_move(tables[number], orders[column]) for number, column in of_tables.items()):
        return None
    if len({(id(tables[number].weight), column) for number, column in of_tables.items()}) > len(
        {id(tables[number].weight) for number in of_tables}
    ):  # one table for several columns
        return None
    expected = _outputs(net, X, y)
    for each in (probe, orders):
        copy = twin(net, share_tensors=False)
        _reorder(copy, of_tables, each)
        outputs = _outputs(copy, _with_codes(X, each), y)
        if expected is None or outputs is None or not torch.equal(expected, outputs):
            return None
    return _reorder(net, of_tables, orders)


def _modules(net: NeuralNet) -> list[nn.Module]:
    return list(uncompiled(net.module_).modules())


def _with_codes(X: NDArray[Any], orders: Orders) -> NDArray[Any]:
    result = X.copy()
    for column, order in orders.items():
        result[:, column] = recoded_values(X[:, column], order)
    return result


def _outputs(net: NeuralNet, X: NDArray[Any], y: NDArray[Any]) -> Tensor | None:
    try:
        return some_outputs(EmpiricalRisk(twin(net), X, y), flat_parameters(net))
    except (IndexError, RuntimeError):  # a code that a table does not have
        return None


def _fed_by(net: NeuralNet, X: NDArray[Any], other: NDArray[Any]) -> list[int] | None:
    """Return the numbers of the modules whose table is looked up otherwise for other rows."""
    seen: list[dict[int, list[Tensor]]] = []
    for rows in (X, other):
        copy = twin(net, share_tensors=False)
        looked_up: dict[int, list[Tensor]] = {}
        for number, module in enumerate(_modules(copy)):
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                module.register_forward_pre_hook(noting(looked_up.setdefault(number, [])))
        if not looked_up:
            return None
        try:
            with torch.no_grad():
                copy.module_.eval()
                copy.infer(torch.from_numpy(rows).to(copy.device))
        except (IndexError, RuntimeError):
            return None
        seen.append(looked_up)
    before, after = seen
    return [
        number
        for number in before
        if len(before[number]) != len(after[number]) or not all(map(torch.equal, before[number], after[number]))
    ]


def _can_move(table: nn.Module, order: NDArray[np.int64]) -> bool:
    assert isinstance(table, nn.Embedding | nn.EmbeddingBag)
    padding = table.padding_idx
    fixed = padding is None or padding >= len(order) or order[padding] == padding
    return fixed and table.num_embeddings >= len(order)


@torch.no_grad()
def _reorder(net: NeuralNet, of_tables: Mapping[int, int], orders: Orders) -> Recoding:
    trainable = [p for p in net.module_.parameters() if p.requires_grad]
    place = {id(p): k for k, p in enumerate(trainable)}
    modules, moved, done = _modules(net), {}, set()
    for number, column in of_tables.items():
        weight = modules[number].weight
        assert isinstance(weight, Tensor)
        if id(weight) in done:  # of two modules
            continue
        done.add(id(weight))
        order = orders[column]
        source = torch.arange(len(weight))
        source[: len(order)] = torch.from_numpy(np.argsort(order))
        weight.copy_(weight[source.to(weight.device)])
        if id(weight) in place:
            moved[place[id(weight)]] = source
    return Recoding(moved, [p.shape for p in trainable])
