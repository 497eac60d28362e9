"""Columns of rows: what may be stored, and what is asked for cast to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_unlearn.rows._index import Array, Mask, row_size
from sk_unlearn.rows.roles import RowRole


def few(items: list[Any]) -> str:
    return ", ".join(map(repr, items[:5])) + (", ..." if len(items) > 5 else "")


def indices(mask: Mask) -> str:
    where = np.flatnonzero(mask).tolist()
    return f"{'index' if len(where) == 1 else 'indices'} {few(where)}"


def owned(values: Array, copy: bool) -> Array:
    """Return a C-ordered, writeable array in native byte order; without `copy` the given one where it is one."""
    values = np.asarray(values)
    native = values.dtype.newbyteorder("=")
    return np.array(values, dtype=native, order="C") if copy else np.require(values, native, ["C", "W"])


def check_numeric(values: Array, name: str) -> None:
    if values.dtype.kind not in "biufc" or values.dtype.char in "gG":  # extended precision has undefined padding bytes
        raise ValueError(
            f"{name} must have a boolean, integer, float or complex dtype a net can take, got {values.dtype}"
        )


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


def as_sources(source: ArrayLike, n: int) -> Array:
    """Return digests of 16 bytes as a column."""
    given = np.asarray(source)
    if given.shape != (n, 16) or given.dtype != np.uint8:
        raise ValueError(f"source must be a uint8 array of shape ({n}, 16), got {given.dtype} of shape {given.shape}")
    return np.array(given, order="C")


def cast_like(values: ArrayLike, stored: Array, name: str) -> tuple[Array, Mask]:
    """Cast rows to the dtype of stored ones, as the net would see them.

    Returns
    -------
    cast : (n, ...) array
    exact : (n,) bool
        False for rows that an integer or boolean dtype cannot represent (1.5 is not stored as 1), or that a float dtype
        has no finite number for. Otherwise a float dtype rounds, and rounding is what the net sees.
    """
    given = np.asarray(values)
    if given.ndim != stored.ndim or given.shape[1:] != stored.shape[1:]:
        expected = ", ".join(["n_rows", *map(str, stored.shape[1:])]) + ("," if stored.ndim == 1 else "")
        raise ValueError(f"{name} must have shape ({expected}), as what was fitted, got {given.shape}")
    if given.dtype == stored.dtype:
        return given, np.ones(len(given), dtype=bool)
    if given.dtype.kind == "c" and stored.dtype.kind != "c":
        raise ValueError(f"{name} must be real ({stored.dtype}), got {given.dtype}")
    if given.dtype.kind != "O":
        check_numeric(given, name)
    cast = None
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            cast = given.astype(stored.dtype)
    except (TypeError, ValueError, OverflowError):
        pass  # their messages quote values
    if cast is None:
        raise ValueError(f"{name} must be convertible to {stored.dtype}, got {given.dtype} that is not")
    if stored.dtype.kind in "fc":
        sound = ~np.isinf(cast)
        if not sound.all():  # infinite as given is not made infinite
            sound |= np.isinf(given.astype(np.result_type(stored.dtype, np.float64)))
    else:
        sound = np.asarray(cast == given, dtype=bool)
    return cast, np.asarray(sound.reshape(len(given), row_size(given)).all(axis=1))


def cast_exactly(values: ArrayLike, stored: Array, name: str) -> Array:
    cast, exact = cast_like(values, stored, name)
    if not exact.all():
        raise ValueError(f"{name} must hold values of dtype {stored.dtype}; other ones in rows {indices(~exact)}")
    return cast
