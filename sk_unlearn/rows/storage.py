"""What every storage of rows answers to that is not one dense array in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.utils._journal import Assignment

__all__ = ["BLOCK", "RowStorage", "dense", "in_blocks"]

# Numbers that are dense at a time where all rows are gone through.
BLOCK = 2**20


class RowStorage(ABC):
    """Rows along a first axis, of which a few at a time become a dense array: ``rows[start:stop].toarray()``.

    Indexed by one number it gives a dense row of its own, as the nets' data sets want it; by a slice, a mask or several
    numbers it gives rows of the same kind, and reads nothing that it need not read for that.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and shape of one."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Data type of the numbers as they are read."""

    @abstractmethod
    def __getitem__(self, key: Any) -> Any:
        """Return one dense row, or some rows of this kind."""

    @abstractmethod
    def toarray(self) -> NDArray[Any]:
        """Return all of the rows as a dense array."""

    @abstractmethod
    def copy(self) -> RowStorage:
        """Return rows that no change of these reaches."""

    @abstractmethod
    def with_rows(self, at: NDArray[np.int64], values: Any = None) -> RowStorage:
        """Return rows of which some are others, or are zeros.

        Parameters
        ----------
        at : (m,) int64
            Which rows.
        values : m rows of any kind, optional
            What they become; None: zeros.
        """

    @abstractmethod
    def followed_by(self, other: Any) -> RowStorage:
        """Return these rows and, after them, others of any kind, which come to this data type."""

    @abstractmethod
    def change(self, at: NDArray[np.int64], values: Any = None) -> Assignment:
        """Return the assignment that makes this object what :meth:`with_rows` returns."""

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers the rows have, zeros included."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        # NumPy would call it wherever a dense array is expected, and make all of them dense.
        kind = type(self).__name__
        raise TypeError(f"{kind} become dense by toarray(), a few rows at a time: rows[start:stop].toarray().")


def dense(rows: Any) -> Any:
    """Return rows of any storage as a dense array; an array is returned as it is."""
    return rows.toarray() if isinstance(rows, RowStorage) else rows


def in_blocks(rows: Any) -> Iterator[tuple[slice, Any]]:
    """Give rows a block at a time, dense, and where each block begins and ends; an array comes in one."""
    width = max(1, rows.size // max(1, len(rows)))
    step = max(1, BLOCK // width) if isinstance(rows, RowStorage) else max(1, len(rows))
    return ((slice(start, start + step), dense(rows[start : start + step])) for start in range(0, len(rows), step))
