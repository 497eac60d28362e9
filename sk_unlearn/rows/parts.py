"""Rows of several parts, each of a data type and shape of its own: one record a row, so that they stay together.

A structured array holds them: the names of its fields are those of the parts, which a module takes as arguments of
these names. Parts without names, of a tuple, are called "0", "1", ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse

from sk_unlearn.rows.storage import dense

__all__ = ["as_records", "fields", "for_net", "has_parts", "part_name", "parts_in", "tensors_for_net"]


def has_parts(rows: Any) -> bool:
    """Tell whether rows, or a data type, are of several parts."""
    return getattr(getattr(rows, "dtype", rows), "names", None) is not None


def as_records(parts: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return arrays with one entry a row as one array of records.

    Parameters
    ----------
    parts : mapping of str to (n, ...) array
        At least one; all of one length.
    """
    kinds = [(name, part.dtype, part.shape[1:]) for name, part in parts.items()]
    records = np.empty(len(next(iter(parts.values()))), dtype=kinds)
    for name, part in parts.items():
        records[name] = part
    return records


def parts_in(X: Any) -> dict[str, Any] | None:
    """Return the parts of rows by name, numbers for those of a tuple; None where X is one matrix or a list of rows.

    A tuple of arrays has parts. So has a list of arrays of different shapes; of arrays of one shape it is a list of
    rows, as everywhere in scikit-learn.
    """
    if issparse(X):  # some of which SciPy keeps in a dict
        return None
    if isinstance(X, Mapping):
        return dict(X)
    if isinstance(X, np.ndarray) and has_parts(X):
        return {name: X[name] for name in X.dtype.names}
    if not isinstance(X, list | tuple) or not X or not all(map(_is_array, X)):
        return None
    shapes = {tuple(part.shape) for part in X}
    return {str(k): part for k, part in enumerate(X)} if isinstance(X, tuple) or len(shapes) > 1 else None


def _is_array(part: Any) -> bool:
    return isinstance(part, np.ndarray | torch.Tensor) and part.ndim > 0


def fields(rows: Any) -> list[Any]:
    """Return the parts of rows, or the rows themselves where they have none, as a list."""
    return [rows[name] for name in rows.dtype.names] if has_parts(rows) else [rows]


def part_name(whole: str, part: str) -> str:
    """Return what messages call a part of an argument."""
    return f"{whole}[{part}]" if part.isdigit() else f"{whole}[{part!r}]"


def for_net(rows: Any) -> Any:
    """Return rows as a net's data set takes them: parts as a dict, or as a list where they have no names.

    Arrays are returned as they are, and so are sparse rows, which are dense when they are indexed one by one.
    """
    if not has_parts(rows):
        return rows
    # Copies: side by side in a record, numbers do not lie where torch wants them.
    parts = {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names}
    return list(parts.values()) if all(map(str.isdigit, parts)) else parts


def tensors_for_net(rows: Any, numbers: Any = slice(None)) -> Any:
    """Return a batch of rows as tensors, dense, as the net's loader would make of them.

    Parameters
    ----------
    rows : ndarray, SparseRows, or what :func:`for_net` makes of them
    numbers : slice or (m,) int64
        Which rows.
    """
    if has_parts(rows):
        rows = for_net(rows[numbers])
        numbers = slice(None)
    if isinstance(rows, Mapping):
        return {name: tensors_for_net(part, numbers) for name, part in rows.items()}
    if isinstance(rows, list):
        return [tensors_for_net(part, numbers) for part in rows]
    batch = dense(rows[numbers])
    # PyTorch takes no memory that it may not write to. Nor does it take a part of a single row whose length in bytes is
    # no multiple of its numbers' own, though NumPy calls that contiguous.
    aligned = all(step % batch.itemsize == 0 for step in batch.strides)
    is_plain = batch.flags.writeable and batch.flags.c_contiguous and aligned
    return torch.from_numpy(batch if is_plain else batch.copy(order="C"))
