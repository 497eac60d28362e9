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

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["UNIT", "as_float", "column_dots", "column_sums", "gram"]

BITS = 20
"""Bits of a slice. The products of 2**13 pairs of slices add up exactly in float64, those of 2**23 in int64."""

UNIT = 2200
"""Sums are whole multiples of ``2**-UNIT``; the product of the two smallest float64 is one."""

BLOCK = 2**18
"""Rows, or entries of a sparse matrix, that are summed at once in int64."""

BLAS_BLOCK = 2**13
"""Rows that are summed at once in float64."""


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


def _blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, n, size))


class _Totals:
    """Whole numbers by exponent, put together in the end."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.by_exponent: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(shape, dtype=object))

    def add(self, exponent: int, wholes: np.ndarray) -> None:
        self.by_exponent[exponent] += wholes.astype(np.int64).astype(object)

    def total(self, shape: tuple[int, ...]) -> list[Any]:
        result = np.zeros(shape, dtype=object)
        for exponent, wholes in self.by_exponent.items():
            result += wholes * (1 << (exponent + UNIT))
        return result.tolist()


def _by_column(wholes: np.ndarray, indices: np.ndarray | None, width: int) -> np.ndarray:
    """Sum whole numbers over rows; with ``indices`` they are the stored entries of a sparse matrix."""
    if indices is None:
        return wholes.sum(axis=0, dtype=np.int64)
    sums = np.zeros(width, dtype=np.int64)
    np.add.at(sums, indices, wholes.astype(np.int64))
    return sums


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
    width = values.shape[1] if indices is None else width
    totals = _Totals((width,))
    for block in _blocks(len(values)):
        for exponent, whole in slices(values[block]):
            totals.add(exponent, _by_column(whole, None if indices is None else indices[block], width))
    return totals.total((width,))


def column_dots(a: np.ndarray, b: np.ndarray, indices: np.ndarray | None = None, width: int = 0) -> list[int]:
    """Add up the products of two tables, column by column, exactly; parameters as in ``column_sums``."""
    width = b.shape[1] if indices is None else width
    totals = _Totals((width,))
    for block in _blocks(len(b)):
        of_b = list(slices(b[block]))
        for exponent_a, whole_a in of_b if a is b else slices(a[block]):
            for exponent_b, whole_b in of_b:
                products = _by_column(whole_a * whole_b, None if indices is None else indices[block], width)
                totals.add(exponent_a + exponent_b, products)
    return totals.total((width,))


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
    shape = (values.shape[1], values.shape[1])
    totals = _Totals(shape)
    for block in _blocks(len(values), BLAS_BLOCK):
        sums: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(shape, dtype=np.int64))
        parts = list(slices(values[block]))
        for n, (exponent_a, whole_a) in enumerate(parts):
            sums[2 * exponent_a] += (whole_a.T @ whole_a).astype(np.int64)
            for exponent_b, whole_b in parts[n + 1 :]:
                products = (whole_a.T @ whole_b).astype(np.int64)
                sums[exponent_a + exponent_b] += products + products.T
        for exponent, products in sums.items():
            totals.add(exponent, products)
    return totals.total(shape)
