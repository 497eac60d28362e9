"""The forms in which rows may come: parts by name or in a row, columns of a table by name, data sets."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import unpack_data
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from sk_unlearn.rows.parts import as_records, part_name, parts_in

__all__ = ["is_dataset", "is_table", "named_parts", "parts_as_fitted", "read_dataset", "records_of"]

# Items of a data set that are put together at a time.
_ITEMS = 1024


def is_dataset(X: Any) -> bool:
    """Tell whether rows come as a data set of PyTorch or skorch."""
    return isinstance(X, Dataset)


def read_dataset(X: Any, y: Any, name: str) -> tuple[Any, Any]:
    """Return the rows of a map-style data set, read once, item by item, and their targets.

    Parameters
    ----------
    X : torch.utils.data.Dataset
        With a length, and items (x, y).

    y : array-like or None
        Targets to take in place of those in the data set.

    name : str
        What the caller's user calls X.

    Raises
    ------
    TypeError
        For a data set without a length.

    ValueError
        For one without items, or whose items are not of one shape.
    """
    if isinstance(X, torch.utils.data.IterableDataset) or not hasattr(X, "__len__"):
        raise TypeError(
            f"{name} is a {type(X).__name__}, which has no length: forgetting needs rows that can be stored; pass a "
            "data set with __len__ and __getitem__, or arrays."
        )
    # What is there as arrays already need not be taken apart.
    is_plain = type(X) is SkorchDataset and not isinstance(X.X, Tensor)
    if is_plain:
        return X.X, X.y if y is None else y
    if len(X) == 0:
        raise ValueError(f"{name} is empty: pass at least one row.")
    batches = []
    for start in range(0, len(X), _ITEMS):
        items = [unpack_data(X[i]) for i in range(start, min(start + _ITEMS, len(X)))]
        batches.append(_collated(items, name))
    rows, targets = (_concatenated([batch[k] for batch in batches]) for k in (0, 1))
    # skorch's own gives a placeholder where there are no targets.
    has_none = isinstance(X, SkorchDataset) and X.y is None
    return rows, y if y is not None else None if has_none else targets


def _collated(items: list[Any], name: str) -> Any:
    try:
        return default_collate(items)
    except (RuntimeError, TypeError):
        pass  # their messages may quote items
    raise ValueError(f"{name} has items that cannot be put together: all must be (x, y) with x of one shape.")


def _concatenated(batches: list[Any]) -> Any:
    first = batches[0]
    if isinstance(first, Mapping):
        return {key: _concatenated([batch[key] for batch in batches]) for key in first}
    if isinstance(first, list | tuple):
        parts = [_concatenated(list(each)) for each in zip(*batches, strict=True)]
        return tuple(parts) if all(isinstance(part, np.ndarray) for part in parts) else np.concatenate(parts)
    if isinstance(first, Tensor):
        return torch.cat(batches).numpy(force=True)
    return np.concatenate([np.asarray(batch) for batch in batches])


# ------------------------------------------------------------------------------------------------ rows of several parts


def named_parts(X: Any, estimator: Any) -> dict[str, Any] | None:
    """Return the columns of a table by name where a module is to be given them so; else None.

    It is where its ``forward`` cannot be called with one matrix alone: it requires several arguments, or takes keyword
    arguments only.

    Parameters
    ----------
    X : DataFrame or other rows

    estimator : object
        The net, module or class of a module that is to take the rows.
    """
    if not is_table(X):
        return None
    forward = _forward(estimator)
    if forward is None:
        return None
    try:
        inspect.signature(forward).bind(None, None)  # itself, and one matrix
    except TypeError:
        return _columns(X)
    return None


def is_table(X: Any) -> bool:
    """Tell whether rows come as a DataFrame."""
    return hasattr(X, "columns") and hasattr(X, "__getitem__") and hasattr(X, "shape")


def _columns(X: Any) -> dict[str, Any]:
    """Return the columns of a table, each as a matrix of one column, as skorch does."""
    return {str(name): _plain(X[name]).reshape(-1, 1) for name in X.columns}


def _plain(column: Any) -> NDArray[Any]:
    """Return a column as an array; pandas 2 would make objects of numbers that may be missing though none is."""
    dtype = getattr(column.dtype, "numpy_dtype", None)
    return np.asarray(column) if dtype is None or column.isna().any() else np.asarray(column, dtype=dtype)


def _forward(estimator: Any) -> Any:
    module = estimator.module if isinstance(estimator, NeuralNet) else estimator
    kind = module if isinstance(module, type) else type(module)
    return getattr(kind, "forward", None) if issubclass(kind, torch.nn.Module) else None


def parts_as_fitted(X: Any, dtype: np.dtype[Any], name: str) -> dict[str, Any]:
    """Return the parts of rows in the order of those that an estimator was fitted on.

    Raises
    ------
    ValueError
        If they are not of the same names.
    """
    names = dtype.names
    assert names is not None
    is_numbered = all(map(str.isdigit, names))
    parts = parts_in(X)
    if parts is None and is_numbered and isinstance(X, list | tuple):
        parts = {str(k): part for k, part in enumerate(X)}
    if parts is None and is_table(X):
        parts = _columns(X)
    if parts is None or set(parts) != set(names):
        wanted = f"a tuple of {len(names)} arrays" if is_numbered else f"the parts {', '.join(map(repr, names))}"
        if parts is None:
            given = f"a {type(X).__name__}"
        elif all(map(str.isdigit, parts)):
            given = f"{len(parts)} arrays"
        else:
            given = ", ".join(map(repr, sorted(parts)))
        raise ValueError(f"{name} must have {wanted}, as in fit; got {given}.")
    return {each: parts[each] for each in names}


def records_of(parts: Mapping[Any, NDArray[Any]], name: str) -> NDArray[Any]:
    """Return validated parts as one array of records.

    Raises
    ------
    ValueError
        If they are not of one length, or a name is no name of an argument.
    """
    if not parts:
        raise ValueError(f"{name} has no parts: pass at least one array.")
    first = next(iter(parts))
    for part, values in parts.items():
        if len(values) != len(parts[first]):
            raise ValueError(
                f"{part_name(name, part)} has {len(values)} rows and {part_name(name, first)} {len(parts[first])}; "
                "every part must have one for each row."
            )
    return as_records(parts)
