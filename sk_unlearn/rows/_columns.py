"""Columns of rows: what may be stored, and what is asked for cast to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows.content import Array, Mask, row_size
from sk_unlearn.rows.forms import as_rows
from sk_unlearn.rows.outside import OutsideRows
from sk_unlearn.rows.parts import as_records, has_parts, part_name
from sk_unlearn.rows.roles import RowRole
from sk_unlearn.rows.sparse_rows import SparseRows
from sk_unlearn.rows.storage import RowStorage, dense


def few(items: list[Any]) -> str:
    return ", ".join(map(repr, items[:5])) + (", ..." if len(items) > 5 else "")


def indices(mask: Mask) -> str:
    where = np.flatnonzero(mask).tolist()
    return f"{'index' if len(where) == 1 else 'indices'} {few(where)}"


def owned(values: Any, copy: bool) -> Any:
    """Return a C-ordered, writeable array in native byte order; without `copy` the given one where it is one.

    Rows of another storage are always an object of their own, for they are changed in place; of sparse ones only the
    arrays may be shared.
    """
    if isinstance(values, SparseRows):
        return SparseRows(values, copy=copy)
    if isinstance(values, RowStorage):
        return values.copy()
    values = np.asarray(values)
    native = values.dtype.newbyteorder("=")
    return np.array(values, dtype=native, order="C") if copy else np.require(values, native, ["C", "W"])


def check_numeric(values: Any, name: str) -> None:
    """Raise unless a net can take the data type, of every part where there are parts."""
    kinds = [values.dtype[part].base for part in values.dtype.names] if has_parts(values) else [values.dtype]
    for dtype in kinds:
        # Extended precision has padding bytes, in which anything may stand. Sparse rows are real.
        taken = "biuf" if isinstance(values, SparseRows) else "biufc"
        if dtype.kind not in taken or dtype.char in "gG":
            raise ValueError(f"{name} must have a boolean, integer, float or complex dtype a net can take, got {dtype}")


def check_length(values: Array, n: int, name: str, of: str) -> None:
    if values.ndim != 1 or len(values) != n:
        raise ValueError(f"{name} must have shape ({n},), one value for each row of {of}, got {values.shape}")


def check_role(role: Any, n: int) -> NDArray[np.int8]:
    given = np.asarray(role)
    if not np.isin(given, list(RowRole)).all():
        raise ValueError(f"role must hold values of RowRole: {few([int(r) for r in RowRole])}")
    if given.ndim:
        check_length(given, n, "role", "the rows")
    return np.broadcast_to(given.astype(np.int8), (n,))


def as_sources(source: Any, n: int) -> Array:
    """Return digests of 16 bytes as a column."""
    given = np.asarray(source)
    if given.shape != (n, 16) or given.dtype != np.uint8:
        raise ValueError(f"source must be a uint8 array of shape ({n}, 16), got {given.dtype} of shape {given.shape}")
    return np.array(given, order="C")


def cast_like(values: Any, stored: Any, name: str) -> tuple[Any, Mask]:
    """Cast rows to the dtype of stored ones, as the net would see them, and to their kind: dense, sparse, or parts.

    Returns
    -------
    cast : (n, ...) array or SparseRows
    exact : (n,) bool
        False for rows that an integer or boolean dtype cannot represent (1.5 is not stored as 1), or that a float dtype
        has no finite number for. Otherwise a float dtype rounds, and rounding is what the net sees.
    """
    given = as_rows(values)
    if isinstance(given, OutsideRows) and (not isinstance(stored, OutsideRows) or given.dtype != stored.dtype):
        given = dense(given)
    if has_parts(given) or has_parts(stored):
        return _cast_parts(given, stored, name)
    if given.ndim != stored.ndim or given.shape[1:] != stored.shape[1:]:
        expected = ", ".join(["n_rows", *map(str, stored.shape[1:])]) + ("," if stored.ndim == 1 else "")
        raise ValueError(f"{name} must have shape ({expected}), as what was fitted, got {given.shape}")
    if isinstance(given, OutsideRows):
        return given, np.ones(len(given), dtype=bool)
    if not isinstance(stored, SparseRows):
        return _cast_dense(dense(given), stored.dtype, name)
    if isinstance(given, SparseRows):
        return _cast_sparse(given, stored.dtype, name)
    cast, exact = _cast_dense(given, stored.dtype, name)
    return SparseRows(cast), exact


def _cast_dense(given: Array, dtype: np.dtype[Any], name: str) -> tuple[Array, Mask]:
    if given.dtype == dtype:
        return given, np.ones(len(given), dtype=bool)
    cast, sound = _cast(given, dtype, name)
    return cast, np.asarray(sound.reshape(len(given), row_size(given)).all(axis=1))


def _cast_sparse(given: SparseRows, dtype: np.dtype[Any], name: str) -> tuple[SparseRows, Mask]:
    exact = np.ones(len(given), dtype=bool)
    if given.dtype == dtype:
        return given, exact
    exact[given.row_of_entry[~_cast(given.csr.data, dtype, name)[1]]] = False
    with np.errstate(over="ignore", invalid="ignore"):
        return SparseRows(given, dtype), exact


def _cast_parts(given: Any, stored: Any, name: str) -> tuple[Array, Mask]:
    if given.ndim != 1 or given.dtype.names != stored.dtype.names:
        expected, got = (
            f"the parts {', '.join(each.dtype.names)}" if has_parts(each) else "one array" for each in (stored, given)
        )
        raise ValueError(f"{name} must have {expected}, as what was fitted, got {got}")
    pairs = {
        part: cast_like(given[part], stored[part], part_name(name, part)) for part in stored.dtype.names
    }  # fmt: skip
    records = as_records({part: cast for part, (cast, _) in pairs.items()})
    return records, np.logical_and.reduce([exact for _, exact in pairs.values()])


def _cast(given: Array, dtype: np.dtype[Any], name: str) -> tuple[Array, Mask]:
    """Cast numbers, and tell which of them the data type holds but for rounding."""
    if given.dtype.kind == "c" and dtype.kind != "c":
        raise ValueError(f"{name} must be real ({dtype}), got {given.dtype}")
    if given.dtype.kind != "O":
        check_numeric(given, name)
    cast = None
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            cast = given.astype(dtype)
    except (TypeError, ValueError, OverflowError):
        pass  # their messages quote values
    if cast is None:
        raise ValueError(f"{name} must be convertible to {dtype}, got {given.dtype} that is not")
    if dtype.kind in "fc":
        sound = ~np.isinf(cast)
        if not sound.all():  # infinite as given is not made infinite
            sound |= np.isinf(given.astype(np.result_type(dtype, np.float64)))
    else:
        sound = np.asarray(cast == given, dtype=bool)
    return cast, sound


def cast_exactly(values: Any, stored: Any, name: str) -> Any:
    cast, exact = cast_like(values, stored, name)
    if not exact.all():
        raise ValueError(f"{name} must hold values of dtype {stored.dtype}; other ones in rows {indices(~exact)}")
    return cast
