"""Block-diagonal pictures of the Fisher matrix: Kronecker-factored or diagonal, a block a layer.

Written here rather than taken from a library because the factors must carry the weights of the rows, the net's own
loss and the penalty, or they are factors of another matrix than the one that is inverted beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import grad
from torch.nn import functional

from sk_unlearn.risks._evaluation import Evaluator
from sk_unlearn.risks._parameters import Point
from sk_unlearn.risks._row_loss import computes_as
from sk_unlearn.risks._rows import Chunk
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.linearisation import ChunkGraph
from sk_unlearn.utils._float64 import double

# Rows evaluated at a time: the gradients of all outputs of a row are kept at once.
_CHUNK = 256


@dataclass
class _Block:
    """One linear map of the module: where its parameters lie in the flat vector, and its sums over rows."""

    module: nn.Module
    weight: slice
    bias: slice | None
    A: Tensor | None = None
    G: Tensor | None = None
    diagonal: Tensor | None = None

    def matrix(self, v: Tensor) -> Tensor:
        """Return the entries of a flat vector as (outputs, inputs), the bias as the last input."""
        W = v[self.weight].reshape(len(self.module.weight), -1)  # type: ignore[arg-type]
        return W if self.bias is None else torch.cat([W, v[self.bias, None]], 1)

    def put(self, v: Tensor, M: Tensor) -> None:
        if self.bias is not None:
            v[self.bias], M = M[:, -1], M[:, :-1]
        v[self.weight] = M.reshape(-1)

    def inputs(self, x: Tensor) -> Tensor:
        """Return what the weight multiplies, as (rows, positions, inputs)."""
        m = self.module
        if isinstance(m, nn.Conv2d):
            x = functional.unfold(x, m.kernel_size, m.dilation, m.padding, m.stride).transpose(1, 2)  # type: ignore[arg-type]
        x = x.reshape(len(x), -1, x.shape[-1])
        return x if self.bias is None else torch.cat([x, torch.ones_like(x[..., :1])], -1)

    def outputs(self, g: Tensor) -> Tensor:
        """Return derivatives in what the layer gave, as (rows, positions, outputs)."""
        if isinstance(self.module, nn.Conv2d):
            g = g.flatten(2).transpose(1, 2)
        return g.reshape(len(g), -1, g.shape[-1])


class BlockFisher:
    r"""The Fisher matrix of a risk, penalty included, layer by layer.

    The blocks of ``nn.Linear`` and ``nn.Conv2d`` are :math:`A \otimes G`, with A the second moment of the layer's
    inputs and G that of the derivatives in its outputs, in expectation over the labels that the model could have drawn;
    or the exact diagonal. All other parameters (normalisation, embeddings, recurrent and tied layers) get the exact
    diagonal, at one backward pass a row and output.

    Parameters
    ----------
    risk : EmpiricalRisk
    w : Tensor of shape (d,)
    rows : int64 ndarray
        The rows to take the moments over.
    kronecker : bool
        Whether to factor; False for the diagonal.

    References
    ----------
    Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", 2015. Grosse and
    Martens, "A Kronecker-factored approximate Fisher matrix for convolution layers", 2016.
    """

    def __init__(self, risk: EmpiricalRisk, w: Tensor, rows: NDArray[np.int64], *, kronecker: bool) -> None:
        self.kronecker = kronecker
        self._evaluator = evaluator = risk.evaluator
        self._penalty = evaluator.parameters.penalty_product(torch.ones_like(w))
        self._blocks = _linear_maps(evaluator)
        free = torch.ones(len(w), dtype=torch.bool, device=w.device)
        for block in self._blocks:
            free[block.weight] = False
            if block.bias is not None:
                free[block.bias] = False
        self._others = free.nonzero()[:, 0]
        self._diagonal = torch.zeros_like(w)
        size = 1 if len(self._others) else _CHUNK
        with torch.inference_mode(False), evaluator.at(w) as at:
            for chunk in evaluator.chunks(rows, size=size):
                self._add(at, chunk)
        if not kronecker:
            for block in self._blocks:
                if block.diagonal is not None:
                    block.put(self._diagonal, block.diagonal)

    def _add(self, at: Point, chunk: Chunk) -> None:
        with _watched([block.module for block in self._blocks]) as seen:
            graph = ChunkGraph(self._evaluator, at, chunk)
        output = graph.output
        if not isinstance(output, Tensor):
            raise TypeError(f"The Fisher matrix needs a module whose output is a tensor, got {type(output).__name__}.")
        if not output.requires_grad:
            return
        roots = _root_columns(graph, output)
        shares = chunk.shares.to(output.dtype)
        for block in self._blocks:
            calls = seen[block.module]
            if not calls:
                continue
            x, y = calls[0]  # a checkpointed module would call again
            a = block.inputs(x.detach())
            squares = None
            for root in roots:
                g = block.outputs(grad(output, y, root, retain_graph=True)[0])
                if self.kronecker:
                    moment = torch.einsum("nto,ntp->op", g, g)
                    block.G = moment if block.G is None else block.G + moment
                else:
                    squares = _sum_of_squares(g, a) if squares is None else squares + _sum_of_squares(g, a)
            if self.kronecker:
                moment = torch.einsum("n,nti,ntj->ij", shares / a.shape[1], a, a)
                block.A = moment if block.A is None else block.A + moment
            elif squares is not None:
                block.diagonal = squares if block.diagonal is None else block.diagonal + squares
        if len(self._others):
            places = sorted(self._evaluator.parameters.places, key=_last)
            parameters = cast(list[nn.Parameter], list({k: store[name] for store, name, k in places}.values()))
            for root in roots:
                each = grad(output, parameters, root, retain_graph=True, allow_unused=True, materialize_grads=True)
                self._diagonal[self._others] += torch.cat([part.reshape(-1) for part in each])[self._others].square()

    def solve(self, v: Tensor, damping: float) -> Tensor:
        """Return (F + damping I)^-1 v; within a factored block the penalty counts with its mean."""
        x = v / (self._diagonal + self._penalty + damping)
        for block, (values_a, vectors_a), (values_g, vectors_g) in self._decomposed():
            shift = float(block.matrix(self._penalty).mean()) + damping
            M = vectors_g.T @ block.matrix(v).to(vectors_g) @ vectors_a
            M = M / (values_g[:, None] * values_a[None] + shift)
            block.put(x, (vectors_g @ M @ vectors_a.T).to(x))
        return x

    def product(self, v: Tensor) -> Tensor:
        """Return F v, the penalty included."""
        x = self._diagonal * v
        for block in self._blocks:
            if block.A is not None and block.G is not None:
                block.put(x, block.G @ block.matrix(v) @ block.A)
        return x + self._penalty * v

    def _decomposed(self) -> Iterator[tuple[_Block, Any, Any]]:
        for block in self._blocks:
            if block.A is not None and block.G is not None:
                (a, Q), (g, U) = (torch.linalg.eigh(double(M)) for M in (block.A, block.G))
                yield block, (a.clamp_min(0), Q), (g.clamp_min(0), U)


def _last(place: tuple[Any, str, int]) -> int:
    """Return the number of the parameter that a place holds."""
    return place[2]


def _sum_of_squares(g: Tensor, a: Tensor) -> Tensor:
    """Return the squared entries of each row's gradient, (sum over positions of g a')^2, summed over rows."""
    if a.shape[1] == 1:  # without forming a gradient for each row
        return g[:, 0].square().T @ a[:, 0].square()
    return torch.einsum("nto,nti->noi", g, a).square().sum(0)


def _linear_maps(evaluator: Evaluator) -> list[_Block]:
    """Find the layers whose forward pass is one linear map with parameters of their own."""
    flat = evaluator.parameters
    holders: dict[int, int] = {}
    for _, _, k in flat.places:
        holders[k] = holders.get(k, 0) + 1
    index = {(id(store), name): k for store, name, k in flat.places}
    slices = list(flat.slices.values())
    blocks = []
    for module in flat.module.modules():
        if not computes_as(module, nn.Linear, nn.Conv2d) or module._forward_hooks or module._forward_pre_hooks:
            continue
        if isinstance(module, nn.Conv2d) and not _is_unfoldable(module):
            continue
        weight, bias = (index.get((id(module._parameters), name)) for name in ("weight", "bias"))
        if weight is None or any(k is not None and holders[k] > 1 for k in (weight, bias)):
            continue
        blocks.append(_Block(module, slices[weight], None if bias is None else slices[bias]))
    return _called_once(evaluator, blocks)


def _is_unfoldable(module: nn.Conv2d) -> bool:
    return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _called_once(evaluator: Evaluator, blocks: list[_Block]) -> list[_Block]:
    """Leave out layers that the module goes through several times: their gradient is a sum over the calls."""
    watched = _watched([block.module for block in blocks])
    with evaluator.at(evaluator.parameters.current(), needs_grad=False), watched as seen:
        for chunk in evaluator.chunks(evaluator.rows.first(1)):
            evaluator.infer(chunk)
    return [block for block in blocks if len(seen[block.module]) == 1]


@contextmanager
def _watched(modules: list[nn.Module]) -> Iterator[dict[nn.Module, list[tuple[Tensor, Tensor]]]]:
    """Record what goes into each module and what comes out of it."""
    seen: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {module: [] for module in modules}

    def note(module: nn.Module, args: Any, output: Tensor) -> None:
        seen[module].append((args[0], output))

    hooks = [module.register_forward_hook(note) for module in modules]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _root_columns(graph: ChunkGraph, output: Tensor) -> list[Tensor]:
    """Return the columns of a root of each row's metric in the outputs: with these, F = sum of J' r r' J."""
    n, width = len(output), output[0].numel()
    unit = torch.zeros_like(output)
    flat = unit.reshape(n, width)
    metric = output.new_empty((n, width, width))
    known = True
    for k in range(width):
        flat[:, k] = 1
        try:
            column = graph.fisher_metric(unit) if known else graph.loss_hessian(unit)
        except NotImplementedError:  # as in the products: what is known of any criterion is Gauss-Newton
            known, column = False, graph.loss_hessian(unit)
        metric[:, :, k] = column.reshape(n, width)
        flat[:, k] = 0
    values, vectors = torch.linalg.eigh(double(metric + metric.mT) / 2)
    roots = (vectors * values.clamp_min(0).sqrt()[:, None, :]).to(output)
    return [root.reshape(output.shape) for root in roots.unbind(2)]
