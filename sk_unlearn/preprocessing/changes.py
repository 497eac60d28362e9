"""How outputs that are stored for the rows that stay come into the coordinates of a step that has forgotten others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.preprocessing import normalize

__all__ = ["Change", "as_table"]


def as_table(Z: Any) -> Any:
    """Return outputs as an ndarray, or as a CSR matrix if they are sparse."""
    return Z.tocsr() if sparse.issparse(Z) else np.asarray(Z)


def _columns_of(Z: Any, columns: np.ndarray) -> np.ndarray:
    block = Z[:, columns]
    return block.toarray() if sparse.issparse(block) else block


@dataclass
class Change:
    """A change of outputs that needs no raw rows: columns are picked, scaled, shifted, and rows normalised again.

    Attributes
    ----------
    columns : ndarray of int
        For each new column the old one it was.
    scale, shift : ndarray of float64
        ``z * scale + shift`` is the new value.
    norm : {"l1", "l2"} or None
        The norm that every row has afterwards, unless it is zero.
    codes : list of (ndarray of int, or None), or None
        For each column, from old code to new code, -1 for one that is gone; None for columns of other numbers. Scale
        and shift of a column of codes are one and zero.
    apart : ndarray of bool, or None
        Columns in which values that had been missing change otherwise, so that raw rows are needed; None for no such.
    """

    columns: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    norm: str | None = None
    codes: list[np.ndarray | None] | None = None
    apart: np.ndarray | None = None

    @classmethod
    def pick(cls, columns: Any, norm: str | None = None) -> Change:
        """Return the change that picks columns and leaves them as they are."""
        columns = np.asarray(columns, dtype=np.intp)
        return cls(columns, np.ones(len(columns)), np.zeros(len(columns)), norm)

    @classmethod
    def stack(cls, changes: Sequence[Change], starts: Sequence[int]) -> Change:
        """Return the changes of blocks that stand side by side as one; ``starts`` are their first columns."""
        codes = [table for change in changes for table in change.codes or [None] * len(change.columns)]
        return cls(
            np.concatenate([change.columns + start for change, start in zip(changes, starts, strict=True)]),
            np.concatenate([change.scale for change in changes]),
            np.concatenate([change.shift for change in changes]),
            codes=None if all(table is None for table in codes) else codes,
            apart=None
            if all(change.apart is None for change in changes)
            else np.concatenate(
                [
                    np.zeros(len(change.columns), dtype=bool) if change.apart is None else change.apart
                    for change in changes
                ]
            ),
        )

    @property
    def is_pick(self) -> bool:
        """Whether the columns that stay keep all their values."""
        return self.is_affine and bool((self.scale == 1).all() and (self.shift == 0).all())

    @property
    def is_affine(self) -> bool:
        """Whether scale and shift say all."""
        return self.norm is None and self.codes is None and self.apart is None

    @property
    def is_by_column(self) -> bool:
        """Whether each value changes by itself."""
        return self.norm is None

    def weighted(self, weight: float | None) -> Change | None:
        """Return the same change of outputs that were multiplied by a number; None where there is none."""
        if weight is None or weight == 1 or self.is_pick:
            return self
        return Change(self.columns, self.scale, self.shift * weight) if self.is_affine else None

    def is_precise(self, new: Any) -> bool:
        """Whether new outputs have about the digits of their data type.

        An outlier that is gone had pressed the other values together, far from zero, and what they had in common takes
        digits from them.
        """
        shifted = np.flatnonzero(self.shift)
        if not len(shifted) or not new.shape[0]:
            return True
        largest = np.abs(_columns_of(new, shifted)).max(axis=0)
        bound = max(16.0, 1e-11 / np.finfo(new.dtype).eps) if new.dtype.kind == "f" else 16.0
        return bool((np.abs(self.shift[shifted]) <= bound * largest).all())

    def apply(self, Z: Any) -> Any:
        """Return stored outputs in the new coordinates, in their own data type; dense or CSR as they were."""
        if sparse.issparse(Z):
            return self._apply_sparse(Z.tocsr())
        Z = Z if np.array_equal(self.columns, np.arange(Z.shape[1])) else Z[:, self.columns]
        result = Z.copy() if self.codes is None else self._recoded(Z)
        changed: Any = np.flatnonzero((self.scale != 1) | (self.shift != 0))
        if not len(changed):
            return self._normalised(result)
        if 2 * len(changed) > Z.shape[1]:
            changed = slice(None)
        # In float64 and rounded once, a block of rows at a time to save memory.
        for start in range(0, len(Z), 4096):
            block = result[start : start + 4096, changed] * self.scale[changed]
            block += self.shift[changed]
            result[start : start + 4096, changed] = block
        return self._normalised(result)

    def _apply_sparse(self, Z: Any) -> Any:
        codes = self.codes or [None] * len(self.columns)
        is_coded = np.array([table is not None for table in codes], dtype=bool)
        shifted = np.flatnonzero((self.shift != 0) | is_coded)
        if not len(shifted):
            Z = Z[:, self.columns]
            if (self.scale != 1).any():
                Z.data = (Z.data * self.scale[Z.indices]).astype(Z.dtype, copy=False)
            return self._normalised(Z)
        # A shift fills a column, and so may other codes, so that these are dense columns in a sparse table.
        others = np.setdiff1d(np.arange(len(self.columns)), shifted)
        dense = Z[:, self.columns[shifted]].toarray()
        tables = [codes[k] for k in shifted]
        block = Change(np.arange(len(shifted)), self.scale[shifted], self.shift[shifted], codes=tables).apply(dense)
        rest = Change(self.columns[others], self.scale[others], self.shift[others]).apply(Z)
        order = np.concatenate([shifted, others])
        both = sparse.hstack([sparse.csr_array(block), rest], format="csr")
        if not np.array_equal(order, np.arange(len(order))):
            both = both[:, np.argsort(order)]
        return both if isinstance(Z, sparse.sparray) else sparse.csr_matrix(both)

    def _recoded(self, Z: np.ndarray) -> np.ndarray:
        result = np.array(Z)
        for k, table in enumerate(self.codes or []):
            if table is None:
                continue
            # Anything else than a code stands for a missing or an unknown value.
            known = (Z[:, k] >= -0.5) & (Z[:, k] < len(table) - 0.5)
            result[known, k] = table[np.rint(Z[known, k]).astype(np.intp)]
        return result

    def _normalised(self, Z: Any) -> Any:
        return Z if self.norm is None else normalize(Z, norm=self.norm, copy=False)
