"""Products with Jacobians by automatic differentiation, for parameters given one tensor each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd import grad
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

__all__ = [
    "Ends",
    "PerParameter",
    "added_in_place",
    "central_difference",
    "is_cut",
    "tracked",
    "transposes",
    "vjp",
    "without_values",
]

# One entry for each parameter; None where it is zero.
PerParameter = Sequence[Tensor | None]
# What is differentiated: tensors or their places in the graph; None where nothing depends on the parameters.
Ends = Sequence[Tensor | GradientEdge | None]


def without_values(outputs: Ends) -> list[Tensor | GradientEdge | None]:
    """Return where outputs stand in the graph, so that their values can be freed; None where there is no graph."""
    attached = [part if isinstance(part, Tensor) and part.requires_grad else None for part in outputs]
    return [None if part is None else get_gradient_edge(part) for part in attached]


def vjp(outputs: Ends, inputs: Sequence[Tensor], v: Sequence[Tensor], *, batched: bool = False) -> PerParameter:
    """Return the product with the transposed Jacobian, for each input; None where nothing depends on it.

    If batched, the first axis of v, and of what is returned, counts vectors.
    """
    pairs = [
        (output, u)
        for output, u in zip(outputs, v, strict=True)
        if output is not None and (not isinstance(output, Tensor) or output.requires_grad)
    ]
    if not pairs:
        return [None] * len(inputs)
    ends, vectors = zip(*pairs, strict=True)
    return grad(ends, inputs, vectors, retain_graph=True, allow_unused=True, is_grads_batched=batched)


def tracked(v: Tensor) -> Tensor:
    """Return the same values as a leaf of a graph, to pull back from: :func:`is_cut` then sees all there is to see."""
    return v.detach().requires_grad_()


def is_cut(gradient: PerParameter) -> bool:
    """Return whether the graph of a gradient passes a function marked ``once_differentiable``.

    PyTorch puts a node there that raises, but on a dead end: ``torch.autograd.grad`` does not visit it, and leaves its
    part of the second derivative out without a word. It puts none where the function is the first that the gradient
    passes, as that of a loss is, unless what is pulled back is :func:`tracked`.
    """
    return any(node.name().endswith("::Error") for node in _nodes(gradient))


def transposes(gradient: PerParameter) -> list[Node]:
    """Return the nodes of the graph of a gradient that transpose matrices, for :func:`added_in_place`."""
    return [node for node in _nodes(gradient) if node.name() == "TBackward0"]


@contextmanager
def added_in_place(nodes: Sequence[Node]) -> Iterator[None]:
    """Have backward passes add up what nodes transpose in place: the same sums, and one matrix fewer.

    A weight of ``nn.Linear`` is transposed in forward, so that backward transposes its products. PyTorch adds in place
    to what nobody else holds, but a transposed tensor holds the one that it is a view of. Here it comes without that
    tie. Not for batched passes: their tensors do not survive it.
    """
    handles = [node.register_hook(_untied) for node in nodes]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _untied(transposed: tuple[Tensor | None, ...], _: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    return tuple(None if part is None else part.data for part in transposed)


def _nodes(gradient: PerParameter) -> Iterator[Node]:
    """Yield each node of the graph of a gradient."""
    seen, waiting = set(), [part.grad_fn for part in gradient if part is not None]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        yield node
        seen.add(node)
        waiting.extend(following for following, _ in node.next_functions)


def central_difference(function: Callable[[Tensor], Tensor], w: Tensor, v: Tensor) -> Tensor:
    """Return the derivative of a function at w along v."""
    # Balances the truncation error, of order step^2, with rounding, of order eps / step.
    step = torch.finfo(v.dtype).eps ** (1 / 3) * max(1.0, float(w.norm())) / (float(v.norm()) or 1.0)
    return (function(w + step * v) - function(w - step * v)) / (2 * step)
