"""One evaluator of a net over rows: what the risks, their linearisations and the pictures of curvature all stand on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor
from torch.autograd import grad

from sk_unlearn import distributed
from sk_unlearn.risks._autograd import PerParameter, is_cut, without_values
from sk_unlearn.risks._parameters import FlatParameters, Point
from sk_unlearn.risks._randomness import FixedRandomness
from sk_unlearn.risks._row_loss import RowLoss, refuse_differing
from sk_unlearn.risks._rows import Chunk, Part, RiskRows, Rows
from sk_unlearn.utils._lazy import cached_property
from sk_unlearn.utils._limits import memory_limit
from sk_unlearn.utils._twins import source_of

__all__ = ["Evaluator", "Scored", "sum_of"]

logger = logging.getLogger("sk_unlearn")

# Bytes that the graphs kept by one linearisation may take; a single chunk takes at most a quarter of it. On a
# CUDA card this share of its memory, where that is more: small chunks leave most of a large card idle. Of all its
# memory rather than of what is free, so that results do not hang on what else is on the card. On a processor the same
# share of a limit on the process's memory, where that is less.
_MEMORY_BUDGET, _SHARE = 2**30, 1 / 8
# On a processor activations that leave its cache cost more than the overhead of further chunks, unless the chunks get
# very small.
_CACHED_BYTES, _LEAST_ROWS = 2**24, 64
# Bytes a row, by what is evaluated and the shape of a row: measured once for a net and its twins.
_SIZES: WeakKeyDictionary[NeuralNet, dict[Any, int]] = WeakKeyDictionary()
# A kept gradient graph holds the tensors saved by the forward pass, those of the backward pass, and their products.
_GRAPH_FACTOR = 4


class Scored(Protocol):
    """What the loss needs of some rows beside the module's output for them."""

    @property
    def x(self) -> Any:
        """What the net was given."""

    @property
    def y(self) -> Any:
        """Their targets."""

    @property
    def shares(self) -> Tensor:
        """Their shares of the total mass."""

    @property
    def number(self) -> int:
        """Which chunk they are: the same random numbers are drawn for it every time."""


class Evaluator:
    """Puts parameters in place, reads rows in chunks, runs the net on them and takes its loss apart into rows.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised.
    X, y, sample_weight, mask, chunk_size, memory_budget
        As :class:`~sk_unlearn.risks.empirical.EmpiricalRisk` takes them.

    Attributes
    ----------
    parameters : FlatParameters
    rows : RiskRows
    row_loss : RowLoss
    twice_differentiable : bool
        False once a second derivative was found missing.
    is_checked : bool
        Whether the graph of a gradient was looked at for functions that leave theirs out.

    Examples
    --------
    ::

        with evaluator.at(w) as at:
            for chunk in evaluator.chunks(rows):
                losses = evaluator.row_losses(evaluator.infer(chunk), chunk)
    """

    def __init__(
        self,
        net: NeuralNet,
        X: Any,
        y: NDArray[Any],
        sample_weight: NDArray[Any] | None,
        mask: NDArray[np.bool_] | None,
        chunk_size: int | None,
        memory_budget: int | None,
    ) -> None:
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be None or at least 1, got {chunk_size}.")
        self.net: NeuralNet = net
        self.given_chunk_size: int | None = chunk_size
        self.row_loss: RowLoss = RowLoss(net, net.get_loss, _batch_size(net, len(X)))
        self.rows: RiskRows = RiskRows(net, self.row_loss, X, y, sample_weight, mask)
        self.parameters: FlatParameters = FlatParameters(net)
        self.memory_budget: int = _default_budget(self.parameters.device) if memory_budget is None else memory_budget
        self.twice_differentiable: bool = True
        self.is_checked: bool = False
        self._randomness = FixedRandomness.of(net, self.parameters.device)

    @property
    def draws(self) -> bool:
        """Whether evaluations so far have drawn random numbers, in any process."""
        draws = self._randomness.draws
        return any(distributed.gather(draws)) if self.rows.is_spread else draws

    def at(self, w: Tensor, needs_grad: bool = True) -> AbstractContextManager[Point]:
        """Put the parameters at w for the time of a context."""
        return self.parameters.at(w, needs_grad)

    def zero(self) -> Tensor:
        """Return a zero to sum values in."""
        return torch.zeros((), dtype=self.parameters.sum_dtype, device=self.parameters.device)

    # --------------------------------------------------------------------------------------------------------- chunks

    def chunks(self, rows: Rows | None = None, size: int | None = None) -> Iterator[Chunk]:
        """Read rows chunk by chunk, of the size that suits memory unless another is given."""
        for part in self.cut(rows, size):
            yield from self.read(part)

    def cut(self, rows: Rows | None = None, size: int | None = None) -> list[Part]:
        """Cut rows into what is evaluated together."""
        return self.rows.cut(rows, size or self.chunk_size)

    def own_cut(self, rows: Rows | None = None) -> list[Part]:
        """Cut those of the rows that this process computes with: all of them, unless several processes hold rows."""
        return self.rows.cut(rows, self.chunk_size, only_own=True)

    def own_chunks(self, rows: Rows | None = None) -> Iterator[Chunk]:
        """Read those of the rows that this process computes with, inside of :meth:`summed`."""
        for part in self.own_cut(rows):
            yield from self.read(part)

    @contextmanager
    def summed(self, *totals: Tensor) -> Iterator[None]:
        """Have every process add its part to some tensors in place, and leave the sum of all in each of them.

        What they hold before counts once. An error in one process is raised in all. Without other processes nothing
        is done.
        """
        if not self.rows.is_spread:
            yield
            return
        _ = self.chunk_size  # the processes agree on it, which must not come between what each does by itself
        if distributed.rank():
            for total in totals:
                total.zero_()
        error: Exception | None = None
        try:
            yield
        except Exception as raised:  # told to the others, who wait for the sum, before it goes on
            error = raised
        first, *others = totals
        flag = first.new_full((1,), float(error is not None))
        told = distributed.sum_(torch.cat([first.detach().reshape(-1), flag]))
        if error is not None:
            raise error
        if told[-1] > 0:
            raise RuntimeError("Another process of data_parallel() could not evaluate the risk over the rows it holds.")
        first.copy_(told[:-1].view_as(first))
        for total in others:
            distributed.sum_(total)

    def read(self, part: Part) -> Iterator[Chunk]:
        """Read one part: a chunk, or several where the net's own iterator cuts it finer."""
        return self.rows.read(part, self.parameters.sum_dtype, self.parameters.device, self._randomness)

    @cached_property
    def chunk_size(self) -> int:
        """Rows evaluated at a time; the same in all processes, since what is read by all is read chunk by chunk."""
        if self.given_chunk_size is not None:
            return self.given_chunk_size
        size = self._fitting_chunk_size()
        return distributed.from_first(size) if self.rows.is_spread else size

    def _fitting_chunk_size(self) -> int:
        fitting = self.memory_budget // (4 * _GRAPH_FACTOR * self._bytes_per_row)
        if self.parameters.device.type == "cpu":
            fitting = min(fitting, max(_LEAST_ROWS, _CACHED_BYTES // self._bytes_per_row))
        return max(1, fitting)

    @property
    def rows_kept(self) -> int:
        """Rows whose graphs fit into the memory budget."""
        return self.memory_budget // (_GRAPH_FACTOR * self._bytes_per_row)

    def graph_bytes(self, n_rows: int) -> int:
        """Return the bytes that the graphs of a linearisation over so many rows take at the most."""
        # A chunk's graph is there beside those that are kept, while it is built or when a product runs through it; a
        # quarter more is what such a pass makes and drops.
        n_graphs = min(n_rows, self.rows_kept) + 1.25 * min(n_rows, self.chunk_size)
        return int(n_graphs * self._graph_bytes_per_row)

    @cached_property
    def _bytes_per_row(self) -> int:
        """Bytes that autograd saves for one more row of a forward pass."""
        return self._difference_per_row(with_gradient=False)

    @cached_property
    def _graph_bytes_per_row(self) -> int:
        """Bytes that autograd saves for one more row of a gradient that can be differentiated."""
        return self._difference_per_row(with_gradient=self.twice_differentiable)

    def _difference_per_row(self, *, with_gradient: bool) -> int:
        rows = self.rows.first(4)
        if len(rows) < 4:
            return 1
        known = _SIZES.setdefault(source_of(self.net), {})
        kind = with_gradient, self.rows.X.shape[1:], str(self.rows.X.dtype), len(self.parameters.tensors)
        if kind not in known:
            more, fewer = (self._saved_bytes(each, with_gradient=with_gradient) for each in (rows, rows[:2]))
            known[kind] = max(1, (more - fewer) // 2)
        return known[kind]

    def _saved_bytes(self, rows: Rows, *, with_gradient: bool) -> int:
        storages = {}

        def count(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            # A node that holds its own output holds itself, where no garbage collector sees it.
            return tensor if with_gradient else tensor.detach()

        watched = torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor)
        with self.at(self.parameters.current()) as at, watched:
            losses = [self.weighted_loss(self.infer(chunk), chunk) for chunk in self.chunks(rows, size=len(rows))]
            losses = [loss for loss in losses if loss.requires_grad]
            if with_gradient:
                found = [grad(loss, at.leaves, create_graph=True, allow_unused=True) for loss in losses]
                slopes = [slope for each in found for slope in each if slope is not None and slope.requires_grad]
                ends, zeros = without_values(slopes), _zeros_like(slopes)
                del found, slopes  # as long as the parameters
                _free(ends, zeros, at.leaves)
                _free(losses, _zeros_like(losses), at.leaves)
        return sum(storages.values())

    # --------------------------------------------------------------------------------------------- outputs and losses

    def infer(self, chunk: Chunk) -> Any:
        """Return the module's output for a chunk."""
        if self._randomness.is_quiet("infer"):
            return self.net.infer(chunk.x)
        with self._randomness.fixed("infer", chunk.number):
            return self.net.infer(chunk.x)

    def row_losses(self, output: Any, chunk: Scored) -> Tensor:
        """Return the loss of each row; or their mean, of shape (), where the net's loss cannot be taken apart."""
        n, is_quiet = len(chunk.shares), self._randomness.is_quiet("loss")
        with nullcontext() if is_quiet else self._randomness.fixed("loss", chunk.number):
            losses = self.row_loss(output, chunk.y, chunk.x, n, training=True)
        if losses.ndim == 0:
            refuse_differing(self.rows.weights_differ)
        return losses

    def losses_and_shares(self, output: Any, chunk: Scored) -> tuple[Tensor, Tensor]:
        """Return l_i of the chunk's rows, and what each counts in F; or their mean, and what the chunk counts.

        For gradients: shares as what is pulled back from the losses leave fewer operations to differentiate again.
        """
        losses = self.row_losses(output, chunk)
        return losses, chunk.shares.sum() if losses.ndim == 0 else chunk.shares

    def weighted_loss(self, output: Any, chunk: Scored) -> Tensor:
        """Return the chunk's part of the data term of F: a float64 scalar, since differences of F are compared."""
        losses, shares = self.losses_and_shares(output, chunk)
        losses = losses.to(self.parameters.sum_dtype)
        return losses * shares if losses.ndim == 0 else losses @ shares

    # --------------------------------------------------------------------------------------------- second derivatives

    def check_second_derivatives(self, gradient: PerParameter) -> None:
        """Look, the first time, whether the graph of a gradient can be differentiated.

        It is that of shares that were tracked (``_autograd.tracked``).
        """
        if not self.is_checked:
            self.is_checked = True
            if is_cut(gradient):
                self.note_missing_derivative(RuntimeError("a function of the module is once_differentiable"))

    def agree_on_derivatives(self) -> None:
        """Have all processes fall back to differences where one of them found a second derivative missing."""
        if self.rows.is_spread and self.twice_differentiable != all(distributed.gather(self.twice_differentiable)):
            self.note_missing_derivative(RuntimeError("found in another process"))

    def note_missing_derivative(self, error: RuntimeError) -> None:
        """Have curvature products fall back to differences from now on; raise where memory was the matter."""
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise error
        if not self.twice_differentiable:
            return  # said before
        self.twice_differentiable = False
        logger.warning("No second derivatives: curvature products fall back to central differences. (%s)", error)


def sum_of(losses: Tensor, shares: Tensor) -> Tensor:
    """Return the weighted sum of losses in the dtype of the weights, without its graph."""
    losses = losses.detach().to(shares.dtype)
    return losses * shares if losses.ndim == 0 else losses @ shares


def _zeros_like(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().new_zeros(()).expand(tensor.shape) for tensor in tensors]


def _free(ends: Sequence[Any], zeros: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
    """Have a graph drop what it saved, as its last use does."""
    try:
        grad(ends, inputs, zeros, allow_unused=True)
    except RuntimeError:  # no derivative, nothing saved any more, or no end at all
        return


def _default_budget(device: torch.device) -> int:
    if device.type == "cuda":
        return max(_MEMORY_BUDGET, int(_SHARE * torch.cuda.get_device_properties(device).total_memory))
    limit = memory_limit()
    return _MEMORY_BUDGET if limit is None else min(_MEMORY_BUDGET, int(_SHARE * limit))


def _batch_size(net: NeuralNet, n_rows: int) -> int:
    """Return the size of the net's training batches."""
    try:
        return int(net.history[0, "batches", 0, "train_batch_size"])
    except (AttributeError, IndexError, KeyError):
        size = int(net.get_params_for("iterator_train").get("batch_size", net.batch_size))
        return n_rows if size == -1 else size
