"""Columns of raw values as 64-bit words that are equal where, and only where, the values are."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows._canonical import NANOSECONDS, Tag, canonical
from sk_unlearn.rows.content import Array, Words

__all__ = ["Cells", "array_cells", "object_cells", "series_cells"]

_LARGEST_EXACT = 2.0**53  # every integer below it is a double


class Cells(NamedTuple):
    """Values, flat: what each is, its word, and the second word of those that are digested."""

    tag: NDArray[np.uint8]
    word: Words
    rest: Words | None = None

    def at(self, index: NDArray[np.int64]) -> Cells:
        """Return the cells at these places."""
        return Cells(self.tag[index], self.word[index], None if self.rest is None else self.rest[index])


def _short(tag: Any, word: Array) -> Cells:
    return Cells(np.broadcast_to(np.asarray(tag, dtype=np.uint8), word.shape), word.view(np.uint64))


def _with_missing(cells: Cells, missing: NDArray[np.bool_]) -> Cells:
    if not missing.any():
        return cells
    tag, word = np.where(missing, np.uint8(Tag.MISSING), cells.tag), np.where(missing, np.uint64(0), cells.word)
    return Cells(tag, word, None if cells.rest is None else np.where(missing, np.uint64(0), cells.rest))


def array_cells(key: bytes, values: Array, *, dates_apart: bool = False) -> Cells:
    """Return the cells of a flat array of any data type."""
    kind = values.dtype.kind
    if kind == "b":
        return _short(Tag.NUMBER, values.astype(np.float64))
    if kind == "f" and values.dtype.itemsize <= 8:
        with np.errstate(invalid="ignore"):  # a signalling NaN
            numbers = values.astype(np.float64) + 0.0
        return _with_missing(_short(Tag.NUMBER, numbers), np.isnan(numbers))
    if kind in "iu":
        return _integer_cells(values)
    if kind in "mM":
        cells = _time_cells(values)
        if cells is not None:
            return cells
    if kind in "fcmM":  # a list of NumPy's scalars, because Python's are not as fine
        return object_cells(key, list(values), dates_apart=dates_apart)
    return object_cells(key, values.tolist(), dates_apart=dates_apart)


def _integer_cells(values: Array) -> Cells:
    wide = np.uint64 if values.dtype.kind == "u" else np.int64
    integers = values.astype(wide)
    numbers = integers.astype(np.float64)
    exact = np.abs(numbers) < _LARGEST_EXACT
    if exact.all():
        return _short(Tag.NUMBER, numbers)
    # The nearest double may lie beyond the range of integers, where going back is not defined.
    within = numbers < (2.0**64 if wide is np.uint64 else 2.0**63)
    exact = within & (np.where(within, numbers, 0.0).astype(wide) == integers)
    own = np.where(integers > np.uint64(2**63 - 1), Tag.NATURAL, Tag.INTEGER) if wide is np.uint64 else Tag.INTEGER
    words = np.where(exact, numbers.view(np.uint64), integers.view(np.uint64))
    return _short(np.where(exact, np.uint8(Tag.NUMBER), np.uint8(own)), words)


def _time_cells(values: Array) -> Cells | None:
    """Return the cells of times in a unit that fits; None for the others."""
    unit, step = np.datetime_data(values.dtype)
    if unit not in NANOSECONDS:
        return None
    factor = NANOSECONDS[unit] * step
    counts, missing = values.astype(np.int64), np.isnat(values)
    counts = np.where(missing, 0, counts)
    if len(counts) and max(-int(counts.min()), int(counts.max())) * factor >= 1 << 63:
        return None
    tag = Tag.MOMENT if values.dtype.kind == "M" else Tag.DURATION
    return _with_missing(_short(tag, counts * factor), missing)


def object_cells(key: bytes, values: list[Any], *, dates_apart: bool = False) -> Cells:
    """Return the cells of Python objects; equal ones of one type are written once."""
    # Of one type, because NumPy has a span of one month equal the number 1, and a cell must not depend on the others.
    codes: dict[tuple[type, Any], int] = {}
    try:
        index = np.fromiter((codes.setdefault((type(one), one), len(codes)) for one in values), np.int64, len(values))
    except TypeError:  # lists and arrays
        return _digested(key, values, dates_apart)
    return _digested(key, [one for _, one in codes], dates_apart).at(index)


def _digested(key: bytes, values: list[Any], dates_apart: bool) -> Cells:
    keyed = blake2b(key=key, digest_size=16, person=b"sk_unlearn value")
    tags, contents = np.empty(len(values), np.uint8), []
    for i, one in enumerate(values):
        tag, content = canonical(one, dates_apart=dates_apart)
        if tag < Tag.TEXT:
            content = content + bytes(8)
        else:
            one_value = keyed.copy()
            one_value.update(bytes([tag]) + content)
            tag, content = Tag.HASHED, one_value.digest()
        tags[i] = tag
        contents.append(content)
    words = np.frombuffer(b"".join(contents), dtype="<u8").reshape(-1, 2).astype(np.uint64)
    return Cells(tags, words[:, 0].copy(), words[:, 1].copy())


def series_cells(key: bytes, column: Any) -> Cells:
    """Return the cells of a column of a data frame, of pandas or polars."""
    if hasattr(column, "is_null") and hasattr(column, "fill_null"):
        return _polars_cells(key, column)
    dtype = column.dtype
    if isinstance(dtype, np.dtype):
        return array_cells(key, column.to_numpy())
    if hasattr(dtype, "categories"):
        codes = column.cat.codes.to_numpy().astype(np.int64)
        used, index = np.unique(codes, return_inverse=True)
        absent = used[:1] == -1  # the code of a missing one
        kinds = column.cat.categories.take(used[len(used[:1][absent]) :]).to_series()
        cells = series_cells(key, kinds)
        if absent.any():
            none = array_cells(key, np.array([np.nan]))
            cells = _joined(none, cells)
        return cells.at(index.reshape(-1))
    if getattr(dtype, "tz", None) is not None:
        return _as_instants(array_cells(key, column.dt.tz_convert(None).to_numpy()), key, column)
    if getattr(dtype, "kind", "O") in "biuf":
        plain = getattr(dtype, "numpy_dtype", None)
        if plain is None:  # sparse
            return array_cells(key, np.asarray(column))
        missing = column.isna().to_numpy()
        return _with_missing(array_cells(key, column.to_numpy(dtype=plain, na_value=0)), missing)
    return object_cells(key, column.to_numpy(dtype=object).tolist())


def _joined(one: Cells, other: Cells) -> Cells:
    rest = None
    if other.rest is not None:
        rest = np.concatenate([np.zeros(len(one.word), np.uint64), other.rest])
    return Cells(np.concatenate([one.tag, other.tag]), np.concatenate([one.word, other.word]), rest)


def _as_instants(cells: Cells, key: bytes, column: Any) -> Cells:
    """Return times in UTC as instants; those too far away to count nanoseconds one by one."""
    if cells.rest is not None:
        return object_cells(key, column.to_numpy(dtype=object).tolist())
    return cells._replace(tag=np.where(cells.tag == Tag.MOMENT, np.uint8(Tag.INSTANT), cells.tag))


def _polars_cells(key: bytes, column: Any) -> Cells:
    dtype = column.dtype
    name = str(dtype)
    if name == "Boolean" or (name not in ("Int128", "UInt128") and (dtype.is_integer() or dtype.is_float())):
        missing = column.is_null().to_numpy()
        filled = column.fill_null(False) if name == "Boolean" else column.fill_null(0)
        return _with_missing(array_cells(key, filled.to_numpy()), missing)
    if name.startswith(("Date", "Duration")):
        cells = array_cells(key, column.to_numpy())
        if getattr(dtype, "time_zone", None) is None:
            return cells
        return cells._replace(tag=np.where(cells.tag == Tag.MOMENT, np.uint8(Tag.INSTANT), cells.tag))
    return object_cells(key, column.to_list())
