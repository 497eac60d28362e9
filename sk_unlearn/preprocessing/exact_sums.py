"""Sums of floats without any rounding, so that a row taken out of a sum leaves nothing of itself behind.

A float64 is a whole number times a power of two. A sum of such numbers is kept as a whole number of units of
``2**-UNIT``, in Python's integers of any length. Addition is exact and undone by subtraction to the last bit: a sum of
100,000 rows less one row *is* the sum of the other 99,999, in whatever order rows came and went, however large the
row was.

Numbers are cut into slices of few bits each, so that sums and products of slices are exact in int64 or float64, and
NumPy and BLAS can do them. The idea is that of Ozaki, Ogita, Oishi and Rump (2012), "Error-free transformations of
matrix multiplication by using fast routines of matrix multiplication", Numerical Algorithms 59.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["UNIT", "as_float", "column_dots", "column_sums", "gram"]

BITS = 20
"""Bits of a slice. The products of 2**13 pairs of slices add up exactly in float64, those of 2**22 in int64."""

UNIT = 2200
"""Sums are whole multiples of ``2**-UNIT``; the product of the two smallest float64 is one."""

BLOCK = 2**13
"""Rows that are summed at once in float64, at most."""

ENTRIES = 2**17
"""Numbers in a block of a table with many columns, so that it stays in the cache."""

SPARSE_BLOCK = 2**20
"""Entries of a sparse matrix that are summed at once in int64."""


def slices(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield pairs (e, whole) with ``values == sum(whole * 2**e)`` and whole numbers below ``2**BITS``."""
    rest = np.array(values, dtype=np.float64)
    while (largest := np.abs(rest).max(initial=0.0)) > 0:
        exponent = BITS * (-(-int(np.frexp(largest)[1]) // BITS) - 1)
        whole = np.trunc(np.ldexp(rest, -exponent))
        yield exponent, whole
        rest -= np.ldexp(whole, exponent)


def as_float(total: int) -> float:
    """Return a sum as the nearest float64."""
    return total / (1 << UNIT)


def _blocks(n: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, n, size))


class _Totals:
    """Sums of whole numbers by exponent: in int64 for a while, then in Python's integers."""

    AT_ONCE = 2**9
    """Sums below ``2**53`` that fit into int64 together."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.pending: dict[int, np.ndarray] = {}
        self.counts: Counter[int] = Counter()
        self.total = np.zeros(shape, dtype=object)

    def add(self, exponent: int, wholes: np.ndarray) -> None:
        if exponent not in self.pending:
            self.pending[exponent] = np.zeros(self.shape, dtype=np.int64)
        self.pending[exponent] += wholes.astype(np.int64)
        self.counts[exponent] += 1
        if self.counts[exponent] >= self.AT_ONCE:
            self._settle(exponent)

    def _settle(self, exponent: int) -> None:
        del self.counts[exponent]
        self.total += self.pending.pop(exponent).astype(object) * (1 << (exponent + UNIT))

    def result(self) -> list[Any]:
        for exponent in list(self.pending):
            self._settle(exponent)
        return self.total.tolist()


def column_sums(values: np.ndarray, indices: np.ndarray | None = None, width: int = 0) -> list[int]:
    """Add up columns exactly.

    Parameters
    ----------
    values : ndarray of shape (n, d), or (n_entries,) where ``indices`` says which column an entry is in
        Finite float64 numbers.
    indices : ndarray of shape (n_entries,), default=None
    width : int, default=0
        The number of columns, with ``indices``.
    """
    if indices is not None:
        return _sparse_dots(np.ones_like(values), values, indices, width)
    totals = _Totals((values.shape[1],))
    for block in _blocks(len(values), _n_rows(values)):
        for exponent, whole in slices(values[block]):
            totals.add(exponent, whole.sum(axis=0))
    return totals.result()


def column_dots(a: np.ndarray, b: np.ndarray, indices: np.ndarray | None = None, width: int = 0) -> list[int]:
    """Add up the products of two tables, column by column, exactly; parameters as in ``column_sums``."""
    if indices is not None:
        return _sparse_dots(a, b, indices, width)
    totals = _Totals((b.shape[1],))
    for block in _blocks(len(b), _n_rows(b)):
        of_b = list(slices(b[block]))
        for exponent_a, whole_a in of_b if a is b else slices(a[block]):
            for exponent_b, whole_b in of_b:
                if a is not b or exponent_a == exponent_b:
                    totals.add(exponent_a + exponent_b, np.einsum("ij,ij->j", whole_a, whole_b))
                elif exponent_a > exponent_b:
                    totals.add(exponent_a + exponent_b, 2 * np.einsum("ij,ij->j", whole_a, whole_b))
    return totals.result()


def _n_rows(values: np.ndarray) -> int:
    return min(BLOCK, max(1, ENTRIES // max(values.shape[1], 1)))


def _sparse_dots(a: np.ndarray, b: np.ndarray, indices: np.ndarray, width: int) -> list[int]:
    """Add up products of the entries of sparse tables, column by column."""
    totals = _Totals((width,))
    for block in _blocks(len(b), SPARSE_BLOCK):
        of_b = list(slices(b[block]))
        for exponent_a, whole_a in slices(a[block]):
            for exponent_b, whole_b in of_b:
                sums = np.zeros(width, dtype=np.int64)
                np.add.at(sums, indices[block], (whole_a * whole_b).astype(np.int64))
                # These may be above 2**53, so that they are added one by one.
                totals.add(exponent_a + exponent_b, sums)
                totals._settle(exponent_a + exponent_b)
    return totals.result()


def two_products(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``fl(a * b)`` and its rounding error, after Dekker (1971) with Veltkamp's splitting."""
    product = a * b

    def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scaled = x * 134217729.0  # 2**27 + 1
        high = scaled - (scaled - x)
        return high, x - high

    (a_high, a_low), (b_high, b_low) = split(a), split(b)
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def gram(values: np.ndarray) -> list[list[int]]:
    """Return ``values.T @ values`` exactly, as rows of whole numbers of units."""
    totals = _Totals((values.shape[1], values.shape[1]))
    for block in _blocks(len(values), BLOCK):
        parts = list(slices(values[block]))
        for n, (exponent_a, whole_a) in enumerate(parts):
            totals.add(2 * exponent_a, whole_a.T @ whole_a)
            for exponent_b, whole_b in parts[n + 1 :]:
                products = whole_a.T @ whole_b
                totals.add(exponent_a + exponent_b, products)
                totals.add(exponent_a + exponent_b, products.T)
    return totals.result()
