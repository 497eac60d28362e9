"""Rows of which only the numbers that are not zero are kept; whoever computes with them makes a few dense at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sk_unlearn.rows.storage import RowStorage, dense
from sk_unlearn.utils._journal import Assignment

__all__ = ["SparseRows"]


class SparseRows(RowStorage):
    """Sparse rows in one canonical form, so that equal content has equal arrays.

    Columns ascend in each row, each column stands there once, and no zero does, not even a negative one. What is
    indexed by one number is a dense row, as the nets' data sets want it; everything else stays sparse.

    Parameters
    ----------
    values : scipy sparse matrix or array of shape (n, p), SparseRows, or ndarray of shape (n, p)
        Arrays that have this form already are shared, unless `copy` is set. They are never changed.
    dtype : dtype, optional
        Default: that of `values`. Numbers that it rounds to zero are left out.
    copy : bool, default=False
        Whether arrays are this object's own, writeable, and in native byte order.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from sk_unlearn.rows import SparseRows
    >>> rows = SparseRows(csr_array([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]))
    >>> rows.shape
    (2, 3)
    >>> rows[0]
    array([0., 2., 0.])
    >>> rows[1:].toarray()
    array([[1., 0., 0.]])
    """

    def __init__(self, values: Any, dtype: Any = None, *, copy: bool = False) -> None:
        if isinstance(values, SparseRows):
            values = values.csr
        self.csr: Any = _canonical(values, dtype, copy)

    @classmethod
    def _of(cls, csr: Any) -> SparseRows:
        """Wrap a matrix that has the canonical form."""
        rows = object.__new__(cls)
        rows.csr = csr
        return rows

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        n_rows, n_columns = self.csr.shape
        return int(n_rows), int(n_columns)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the numbers."""
        dtype: np.dtype[Any] = self.csr.dtype
        return dtype

    @property
    def row_of_entry(self) -> NDArray[np.int64]:
        """Which row each number belongs to that is not zero, in their order."""
        return np.repeat(np.arange(len(self)), np.diff(self.csr.indptr))

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, int | np.integer):
            return SparseRows._of(self.csr[key])
        start, stop = self.csr.indptr[range(len(self))[key]], self.csr.indptr[range(len(self))[key] + 1]
        row = np.zeros(self.shape[1], dtype=self.dtype)
        row[self.csr.indices[start:stop]] = self.csr.data[start:stop]
        return row

    def toarray(self) -> NDArray[Any]:
        """Return all of the rows as a dense array of shape (n, p)."""
        values: NDArray[Any] = self.csr.toarray()
        return values

    def tocsr(self) -> Any:
        """Return a copy as ``scipy.sparse.csr_array``."""
        return self.csr.copy()

    def copy(self) -> SparseRows:
        """Return rows with arrays of their own."""
        return SparseRows._of(self.csr.copy())

    def at_columns(self, columns: NDArray[np.int64], width: int) -> SparseRows:
        """Return rows of another width whose columns stand where it is said, with zeros in all others.

        Parameters
        ----------
        columns : (p,) int64
            Where each column goes; each another.
        width : int
        """
        csr = self.csr
        moved = sparse.csr_array((csr.data, columns[csr.indices], csr.indptr), shape=(len(self), width))
        return SparseRows(moved, copy=True)

    def with_rows(self, at: NDArray[np.int64], values: Any = None) -> SparseRows:
        """Return rows of which some are others, or are empty.

        Parameters
        ----------
        at : (m,) int64
            Which rows.
        values : m rows of any kind, optional
            What they become; None: zeros.
        """
        source = np.arange(len(self))
        source[at] = len(self) + (0 if values is None else np.arange(len(at)))
        empty = sparse.csr_array((1, self.shape[1]), dtype=self.dtype)
        others = empty if values is None else self._alike(values)
        return SparseRows._of(_narrow(sparse.vstack([self.csr, others], format="csr", dtype=self.dtype)[source]))

    def followed_by(self, other: Any) -> SparseRows:
        """Return these rows and, after them, others of the same columns, which come to this data type."""
        return SparseRows._of(_narrow(sparse.vstack([self.csr, self._alike(other)], format="csr", dtype=self.dtype)))

    def change(self, at: NDArray[np.int64], values: Any = None) -> Assignment:
        """Return the assignment that makes this object what :meth:`with_rows` returns."""
        # A row may have another number of entries than before: all are built aside.
        return vars(self), "csr", self.with_rows(at, values).csr

    def _alike(self, others: Any) -> Any:
        return SparseRows(others if isinstance(others, SparseRows) else dense(others), self.dtype).csr

    def equals(self, other: SparseRows) -> NDArray[np.bool_]:
        """Tell of each row whether the one in the same place of another is equal; of the same data type."""
        same = np.diff(self.csr.indptr) == np.diff(other.csr.indptr)
        both = np.flatnonzero(same)
        a, b = self[both], other[both]
        value = (a.csr.data == b.csr.data) | ((a.csr.data != a.csr.data) & (b.csr.data != b.csr.data))
        same[both[a.row_of_entry[(a.csr.indices != b.csr.indices) | ~value]]] = False
        return same

    def __repr__(self) -> str:
        return f"SparseRows({len(self)} rows of {self.shape[1]} {self.dtype}, {self.csr.nnz} numbers not zero)"


def _canonical(values: Any, dtype: Any, copy: bool) -> Any:
    given = values if sparse.issparse(values) and values.format == "csr" else sparse.csr_array(values)
    # The flags of the given one say what it was when somebody last looked.
    csr = sparse.csr_array((given.data, given.indices, given.indptr), shape=given.shape)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    wanted = (csr.dtype if dtype is None else np.dtype(dtype)).newbyteorder("=")
    if csr.dtype != wanted:
        csr = csr.astype(wanted)
    if np.count_nonzero(csr.data) < len(csr.data):
        csr = csr.copy()
        csr.eliminate_zeros()
    csr = _narrow(csr)
    return csr.copy() if copy else csr


def _narrow(csr: Any) -> Any:
    """Return a matrix with indices as narrow as they can be, whatever they were narrowed or widened from."""
    narrow = np.int32 if max(csr.nnz, *csr.shape) <= np.iinfo(np.int32).max else np.int64
    indices, indptr = (each.astype(narrow, copy=False) for each in (csr.indices, csr.indptr))
    return sparse.csr_array((csr.data, indices, indptr), shape=csr.shape)
