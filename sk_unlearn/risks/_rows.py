"""The rows of a risk: which they are, what each counts, and how they reach the net chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.dataset import Dataset, unpack_data
from torch import Tensor
from torch.utils.data import DataLoader

from sk_unlearn.risks._placement import placed, takes_placed_rows
from sk_unlearn.risks._randomness import FixedRandomness
from sk_unlearn.risks._row_loss import RowLoss
from sk_unlearn.rows import sample_mask
from sk_unlearn.rows.parts import fields, for_net, tensors_for_net
from sk_unlearn.rows.spread import SpreadRows
from sk_unlearn.rows.storage import RowStorage, dense
from sk_unlearn.utils._lazy import cached_property

__all__ = ["Chunk", "Part", "RiskRows", "Rows", "checked_sample_weight"]

Rows = NDArray[np.int64]


class Part(NamedTuple):
    """Rows to evaluate together, each one's share of the total mass, and which of the parts it is.

    Where several processes hold rows, ``is_own`` says that these are some which this process computes with.
    """

    rows: slice | Rows
    shares: NDArray[np.float64]
    number: int
    is_own: bool = False


class Chunk(NamedTuple):
    """Rows as tensors, as the net's iterator would give them, their shares of the total mass, and the part's number."""

    x: Any
    y: Any
    shares: Tensor
    number: int


class RiskRows:
    """The rows of a risk.

    Parameters
    ----------
    net : skorch.NeuralNet
        Whose dataset and iterator the rows go through, unless those only slice arrays.
    row_loss : RowLoss
        Says what weight PyTorch gives each label.
    X, y, sample_weight, mask
        As :class:`~sk_unlearn.risks.empirical.EmpiricalRisk` takes them; weights have been checked.

    Attributes
    ----------
    n : int
        Rows of the mask.
    n_stored : int
        Rows of X.
    is_spread : bool
        Whether several processes hold the rows.
    """

    def __init__(
        self,
        net: NeuralNet,
        row_loss: RowLoss,
        X: Any,
        y: NDArray[Any],
        sample_weight: NDArray[Any] | None,
        mask: NDArray[np.bool_] | None,
    ) -> None:
        n = len(X)
        if len(y) != n:
            raise ValueError(f"y must have one entry for each of the {n} rows of X, got {len(y)}.")
        if mask is not None and (mask.shape != (n,) or mask.dtype != np.bool_):
            raise ValueError(f"mask must be a bool array of shape ({n},), got {mask.dtype} of shape {mask.shape}.")
        self.X: Any = X
        self.y: NDArray[Any] = y
        self.mask: NDArray[np.bool_] | None = mask
        self.sample_weight = sample_weight
        self.n: int = n if mask is None else int(np.count_nonzero(mask))
        self.n_stored = n
        self.is_spread: bool = isinstance(X, SpreadRows)
        self._net, self._row_loss = net, row_loss
        self._slices_arrays = _slices_arrays(net, X, y)

    def first(self, size: int) -> Rows:
        """Return the first rows of the mask, so many or all, as indices into X, without a list of the others."""
        if self.mask is None:
            return np.arange(min(size, self.n_stored))
        end = size
        while end < self.n_stored and np.count_nonzero(self.mask[:end]) < size:
            end *= 2
        return np.flatnonzero(self.mask[:end])[:size]

    def selected(self, rows: Rows | None) -> slice | Rows:
        """Return rows as an index into X: a slice, which copies nothing, where that is possible."""
        if rows is None:
            return slice(0, self.n_stored) if self.mask is None else np.flatnonzero(self.mask)
        rows = np.asarray(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise TypeError(f"rows must be a vector of integer row indices, got {rows.dtype} of shape {rows.shape}.")
        return rows.astype(np.int64, copy=False)

    def sample(self, size: int, rng: np.random.Generator) -> Rows:
        """Draw rows of the mask uniformly, without replacement; all of them, in order, where there are no more."""
        if size >= self.n:
            return np.arange(self.n_stored) if self.mask is None else np.flatnonzero(self.mask)
        if self.mask is None:
            return rng.choice(self.n_stored, size=size, replace=False)
        return sample_mask(self.mask, self.n, size, rng)

    def masses(self, selected: slice | Rows) -> NDArray[np.float64]:
        """Return what each row counts: its sample weight times PyTorch's weight of its label."""
        y = self.y[selected]
        masses = np.ones(len(y)) if self.sample_weight is None else self.sample_weight[selected]
        # The dtype is looked at first: from_numpy takes no strings, and only labels carry masses.
        shares = self._row_loss.label_masses(tensors_for_net(y)) if y.dtype.kind in "iu" else None
        if shares is None:
            return masses
        return masses * shares.to(torch.float64).reshape(len(y), math.prod(y.shape[1:])).mean(1).numpy()

    @cached_property
    def weights_differ(self) -> bool:
        """Whether the rows of the mask carry different sample weights."""
        weights = None if self.sample_weight is None else self.sample_weight[self.selected(None)]
        return weights is not None and bool(np.any(weights != weights[0]))

    def cut(self, rows: Rows | None, size: int, *, only_own: bool = False) -> list[Part]:
        """Cut rows into parts of at most the given size, each with its share of the total mass.

        Where several processes hold rows, and only its own are asked for, each cuts those that it computes with.
        """
        selected = self.selected(rows)
        masses = self.masses(selected)
        total = masses.sum()
        shares = masses / total if total > 0 else np.zeros_like(masses)
        is_own = only_own and self.is_spread
        if is_own:
            mine = self.X.counted_here(selected)
            selected = np.flatnonzero(mine) if isinstance(selected, slice) else selected[mine]
            shares = shares[mine]
        n = len(shares)
        if n == 0:
            return []
        # Even chunks: a last one of a single row is slow, and breaks modules that squeeze.
        n_parts = math.ceil(n / size)
        bounds = [n * k // n_parts for k in range(n_parts + 1)]
        if isinstance(selected, slice):  # of all rows, so that it starts at 0
            return [Part(slice(a, b), shares[a:b], k) for k, (a, b) in enumerate(pairwise(bounds))]
        return [Part(selected[a:b], shares[a:b], k, is_own) for k, (a, b) in enumerate(pairwise(bounds))]

    def read(
        self, part: Part, dtype: torch.dtype, device: torch.device, randomness: FixedRandomness
    ) -> Iterator[Chunk]:
        """Give the part's batches as the net would see them, with their shares in the given dtype on the device."""
        shares = placed(torch.as_tensor(part.shares, dtype=dtype), device).to(device)
        y = self.y[part.rows]
        if self._slices_arrays:
            x = tensors_for_net(self.X.read_here(part.rows)) if part.is_own else tensors_for_net(self.X, part.rows)
            target = tensors_for_net(y)
            if takes_placed_rows(self._net):
                x, target = placed(x, device), placed(target, device)
            yield Chunk(x, target, shares, part.number)
            return
        if self.is_spread:
            X = self.X.read_here(part.rows) if part.is_own else dense(self.X[part.rows])
        else:
            X = for_net(self.X[part.rows])
        start = 0
        for batch in randomness.over("read", part.number, _batches(self._net, X, y)):
            x, target = unpack_data(batch)
            stop = start + len(target)
            yield Chunk(x, target, shares[start:stop], part.number)
            start = stop
        if start != len(y):
            raise ValueError(f"The iterator of net gave {start} of {len(y)} rows; it must give all of them, in order.")


def checked_sample_weight(sample_weight: Any, n: int) -> NDArray[np.float64] | None:
    """Return weights in double precision, or raise where one cannot be the weight of a row."""
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n,):
        raise ValueError(f"sample_weight must have shape ({n},), one entry a row of X; got {weights.shape}.")
    if not np.all(np.isfinite(weights)) or np.any(weights < 0):
        raise ValueError("sample_weight must be finite and non-negative.")
    return weights


def _slices_arrays(net: NeuralNet, X: Any, y: Any) -> bool:
    """Whether a batch is just a slice of X and of y, so that datasets and iterators can be passed by."""
    stored = (part for column in (X, y) for part in fields(column))
    arrays = all(isinstance(a, np.ndarray | RowStorage) and a.dtype.kind in "biufc" for a in stored)
    plain = (
        net.dataset is Dataset
        and net.iterator_valid is DataLoader
        and type(net).get_dataset is NeuralNet.get_dataset
        and type(net).get_iterator is NeuralNet.get_iterator
        and not net.get_params_for("dataset")
        and "collate_fn" not in net.get_params_for("iterator_valid")
    )
    return arrays and plain


def _batches(net: NeuralNet, X: Any, y: Any) -> Iterator[Any]:
    """Give the rows as batches of the net's own dataset and iterator."""
    dataset = net.get_dataset(X, y)
    iterator = net.get_iterator(dataset, training=False)
    # A DataLoader may shuffle, drop rows or start processes; only what it makes of a list of rows is wanted.
    if type(iterator) is DataLoader and hasattr(dataset, "__len__") and len(dataset) == len(y):
        yield iterator.collate_fn([dataset[i] for i in range(len(dataset))])
    else:
        yield from iterator
