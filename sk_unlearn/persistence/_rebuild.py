"""Objects that know no way to plain data of their own, or none that is safe: arrays of torch, scipy and pandas.

Each is taken apart into a function of this file and its arguments, which are plain or are taken apart in turn. The
functions check what they are given, because a file may have been made by anybody.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from pandas.api.extensions import ExtensionArray

__all__ = ["taken_apart"]

_Parts = tuple[Callable[..., Any], tuple[Any, ...]]
_COMPRESSED = ("csr_array", "csc_array", "bsr_array", "csr_matrix", "csc_matrix", "bsr_matrix")


def taken_apart(obj: Any) -> _Parts | None:
    """Return the function that makes such an object again and its arguments; None where pickle's own way will do."""
    for kinds, parts in _WAYS:
        if isinstance(obj, kinds):
            return parts(obj)
    return None


# ------------------------------------------------------------------------------------------------------------ torch


def here(device: str) -> torch.device:
    """Return that device, or the CPU where there is no such device."""
    wanted = torch.device(device)
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        return torch.device("cpu")
    return wanted


def storage(data: np.ndarray[Any, Any], device: str) -> torch.UntypedStorage:
    """Return the memory that one or several tensors look at."""
    return torch.from_numpy(np.array(data, dtype=np.uint8)).to(here(device)).untyped_storage()


def typed_storage(memory: torch.UntypedStorage, dtype: torch.dtype) -> torch.storage.TypedStorage:
    """Return that memory as numbers of one type."""
    return torch.storage.TypedStorage(wrap_storage=memory, dtype=dtype, _internal=True)


def tensor(memory: torch.storage.TypedStorage, offset: int, size: Any, stride: Any, *rest: Any) -> torch.Tensor:
    """Return a tensor that looks at a part of a storage and at nothing beyond it."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    room = memory._untyped_storage.nbytes() // memory.dtype.itemsize
    if min([offset, *size, *stride]) < 0 or (0 not in size and last >= room):
        raise ValueError("a tensor reaches beyond its memory")
    made: torch.Tensor = torch._utils._rebuild_tensor_v2(memory, offset, tuple(size), tuple(stride), *rest)
    return made


def constant(name: str) -> Any:
    """Return a data type, layout or memory format of torch."""
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype | torch.layout | torch.memory_format):
        raise ValueError("is no data type of torch")
    return found


def generator(state: np.ndarray[Any, Any], device: str) -> torch.Generator:
    """Return a generator of random numbers in that state."""
    made = torch.Generator(here(device))
    if made.device.type == torch.device(device).type:  # one of another device has states of another kind
        made.set_state(torch.from_numpy(np.array(state, dtype=np.uint8)))
    return made


def _storage_parts(obj: torch.UntypedStorage) -> _Parts:
    data = torch.empty(0, dtype=torch.uint8, device=obj.device).set_(obj).cpu().numpy()
    return storage, (data, str(obj.device))


# ------------------------------------------------------------------------------------------------ numpy and scipy


def masked(data: Any, mask: Any, fill_value: Any) -> np.ma.MaskedArray[Any, Any]:
    """Return an array with entries that do not count."""
    return np.ma.MaskedArray(data, mask, fill_value=fill_value)


def _masked_parts(obj: Any) -> _Parts:
    return masked, (np.asarray(obj.data), np.array(np.ma.getmaskarray(obj)), obj.fill_value)


def sparse(kind: str, shape: Any, *arrays: np.ndarray[Any, Any]) -> Any:
    """Return a sparse array or matrix, whose indices are checked."""
    make = getattr(scipy.sparse, kind) if kind in _COMPRESSED else scipy.sparse.coo_array
    if kind in _COMPRESSED:
        made = make(arrays, shape=tuple(shape))
        made.check_format(full_check=True)
        return made
    made = make((arrays[0], tuple(arrays[1:])), shape=tuple(shape))
    return getattr(scipy.sparse, _checked_kind(kind))(made)


def _checked_kind(kind: str) -> str:
    if kind not in {f"{each}_{what}" for each in ("coo", "dia", "lil", "dok") for what in ("array", "matrix")}:
        raise ValueError("is no sparse array")
    return kind


def _sparse_parts(obj: Any) -> _Parts:
    kind = type(obj).__name__
    if kind in _COMPRESSED:
        return sparse, (kind, obj.shape, obj.data, obj.indices, obj.indptr)
    points = scipy.sparse.coo_array(obj)
    return sparse, (kind, obj.shape, points.data, points.row, points.col)


# ------------------------------------------------------------------------------------------------------------ pandas


def column(values: Any, dtype: Any) -> Any:
    """Return a column of one of pandas' own types."""
    return pd.array(list(values), dtype=dtype)


def instants(ticks: np.ndarray[Any, Any], dtype: Any) -> Any:
    """Return a column of moments or durations, of which the numbers of ticks are given."""
    if isinstance(dtype, np.dtype):
        return pd.array(ticks.view(dtype))
    moments = pd.Series(ticks.view(f"M8[{dtype.unit}]")).dt.tz_localize("UTC")
    return moments.dt.tz_convert(dtype.tz).array


def instant(column: Any) -> Any:
    """Return the moment or duration in a column of one."""
    return column[0]


def time_zone(key: str) -> zoneinfo.ZoneInfo:
    """Return a time zone by its name."""
    return zoneinfo.ZoneInfo(key)


def nothing(name: str) -> Any:
    """Return what stands for a missing value, or for nothing in particular."""
    return {"NA": pd.NA, "NaT": pd.NaT, "Ellipsis": ...}[name]


def index(values: Any, name: Any) -> pd.Index:
    """Return an index of that type."""
    return pd.Index(values, name=name, dtype=values.dtype)


def range_index(start: int, stop: int, step: int, name: Any) -> pd.RangeIndex:
    """Return an index of equal steps."""
    return pd.RangeIndex(start, stop, step, name=name)


def multi_index(levels: Any, codes: Any, names: Any) -> pd.MultiIndex:
    """Return an index of several levels."""
    return pd.MultiIndex(levels=levels, codes=codes, names=names)


def series(values: Any, labels: pd.Index, name: Any) -> Any:
    """Return a column with labels."""
    return pd.Series(values, index=labels, name=name, dtype=values.dtype, copy=False)


def frame(columns: Any, names: pd.Index, labels: pd.Index) -> pd.DataFrame:
    """Return a table of these columns, each of its own type."""
    kept = {n: pd.Series(values, index=labels, dtype=values.dtype) for n, values in enumerate(columns)}
    made = pd.DataFrame(kept, index=labels)
    made.columns = names
    return made


def _held(values: Any) -> Any:
    """Return what a column or an index holds as an array of numpy's or of pandas' own."""
    return values.to_numpy() if isinstance(values.dtype, np.dtype) else values.array


def _index_parts(obj: Any) -> _Parts:
    if isinstance(obj, pd.RangeIndex):
        return range_index, (obj.start, obj.stop, obj.step, obj.name)
    if isinstance(obj, pd.MultiIndex):
        return multi_index, (list(obj.levels), [np.array(codes) for codes in obj.codes], list(obj.names))
    return index, (_held(obj), obj.name)


def _frame_parts(obj: pd.DataFrame) -> _Parts:
    return frame, ([_held(obj.iloc[:, n]) for n in range(obj.shape[1])], obj.columns, obj.index)


def _nothing_parts(obj: Any) -> _Parts:
    return nothing, (str(obj).removeprefix("<").removesuffix(">"),)


# In this order: the first that fits counts.
_WAYS: list[tuple[Any, Callable[[Any], _Parts]]] = [
    (torch.storage.TypedStorage, lambda obj: (typed_storage, (obj._untyped_storage, obj.dtype))),
    (torch.UntypedStorage, _storage_parts),
    (torch.device, lambda obj: (here, (str(obj),))),
    ((torch.dtype, torch.layout, torch.memory_format), lambda obj: (constant, (str(obj).removeprefix("torch."),))),
    (torch.Generator, lambda obj: (generator, (obj.get_state().numpy(), str(obj.device)))),
    (np.ma.MaskedArray, _masked_parts),
    (scipy.sparse.sparray, _sparse_parts),
    (scipy.sparse.spmatrix, _sparse_parts),
    (pd.DataFrame, _frame_parts),
    (pd.Series, lambda obj: (series, (_held(obj), obj.index, obj.name))),
    (pd.Index, _index_parts),
    (zoneinfo.ZoneInfo, lambda obj: (time_zone, (obj.key,))),
    ((type(pd.NA), type(pd.NaT), type(...)), _nothing_parts),
    ((pd.Timestamp, pd.Timedelta), lambda obj: (instant, (pd.array([obj]),))),
    ((pd.arrays.DatetimeArray, pd.arrays.TimedeltaArray), lambda obj: (instants, (obj.asi8, obj.dtype))),
    (ExtensionArray, lambda obj: (column, (np.asarray(obj, dtype=object), obj.dtype))),
]
