"""Rows that are the items of a map-style data set of PyTorch's: they are made when they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from sk_unlearn.rows.outside import RowSource

__all__ = ["DatasetItems"]

# Items that are read twice, to see whether they stay what they are.
_COMPARED = 4


class DatasetItems(RowSource):
    """Items of a data set, which are (x, y) or x alone, as a source of rows x.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        With a length and numbered items.
    name : str
        What messages and receipts call it.

    Raises
    ------
    ValueError
        If it has no items, or they are no arrays of numbers, or are not the same when they are read again.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        if len(dataset) == 0:
            raise ValueError("the data set is empty: pass one with at least one item")
        self._dataset, self._name = dataset, name
        first = _row(dataset[0])
        if not isinstance(first, np.ndarray) or first.dtype.kind not in "biuf":
            raise ValueError(
                "items of the data set must be (x, y) or x, with x a tensor or array of real numbers; others are read "
                "into memory where the data set itself is given to fit"
            )
        self._shape, self._dtype = (len(dataset), *first.shape), first.dtype
        few = slice(0, _COMPARED)
        if not np.array_equal(self.read(few), self.read(few), equal_nan=True):
            raise ValueError(
                "items of the data set are others when they are read again, so that no row would be found: augment in "
                "iterator_train__collate_fn of the net, which only training sees"
            )

    @property
    def name(self) -> str:
        """What messages and receipts call it."""
        return self._name

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of items, and shape of one."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the first item."""
        return self._dtype

    def read(self, numbers: NDArray[Any] | slice) -> NDArray[Any]:
        """Return some rows.

        Raises
        ------
        ValueError
            If one is not of the shape of the first.
        """
        if type(self._dataset) is TensorDataset:  # whose items are rows of one tensor
            return self._dataset.tensors[0][numbers].numpy(force=True)
        wanted = list(range(self._shape[0])[numbers]) if isinstance(numbers, slice) else numbers.tolist()
        at_once = getattr(self._dataset, "__getitems__", None)  # how PyTorch's loaders ask for several
        items = at_once(wanted) if callable(at_once) else map(self._dataset.__getitem__, wanted)
        rows = np.empty((len(wanted), *self._shape[1:]), self._dtype)
        for row, item in zip(rows if rows.ndim > 1 else rows[:, None], items, strict=True):
            x = _row(item)
            if np.shape(x) != self._shape[1:]:
                raise ValueError(f"items of {self._name} differ in shape: all must have that of the first")
            row[...] = x
        return rows

    def __repr__(self) -> str:
        return f"DatasetItems({self._name})"


def _row(item: Any) -> Any:
    """Return the row in an item, as an array where it is a tensor or a number."""
    x = item[0] if isinstance(item, tuple | list) and len(item) == 2 else item
    if isinstance(x, torch.Tensor):
        return x.numpy(force=True)
    return np.asarray(x) if isinstance(x, np.generic | int | float) else x
