"""Identifiers of rows: taken as they are given, and held in a column that tells any two of them apart."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, MappingView, Set
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from sk_unlearn.rows._columns import check_length, indices
from sk_unlearn.rows._growth import Extension, extended
from sk_unlearn.rows.content import Array, Mask

# Types whose values are held in one block of memory; all others, and mixtures, as Python objects.
_COMPACT: dict[type, type] = {int: np.int64, float: np.float64, str: np.str_}
# Every string of a block takes the room of the longest, so that one long string must not blow up the others.
_LONGEST_STRING = 64
# Python's own types that can be hashed and equal themselves: they need no look one by one.
_SOUND = frozenset((int, str, bytes, bool, date, datetime, timedelta))


def listed_ids(sample_id: Iterable[Any]) -> list[Any]:
    """Return identifiers as a list of Python objects that equal what was given.

    A scalar of NumPy's, an array or tensor without dimensions, or a time of pandas' becomes the Python object that it
    equals, if there is one, so that ``np.int64(1)`` and ``1``, or a `Timestamp` and a `datetime`, are one identifier.
    Nothing else is converted: ``1`` and ``"1"`` stay two.

    Raises
    ------
    ValueError
        If they are not in a one-dimensional container, one cannot be hashed, or one is missing (None, NaN, NaT, NA).
    """
    shape = getattr(sample_id, "shape", None)
    flat = isinstance(sample_id, Iterable) if shape is None else len(shape) == 1
    if not flat or isinstance(sample_id, str | bytes):
        given = f"an array of shape {tuple(shape)}" if shape is not None else type(sample_id).__name__
        raise ValueError(
            f"sample_id must be a one-dimensional array or list of identifiers, got {given}; identifiers of several "
            "parts are tuples in a list"
        )
    times = isinstance(sample_id, np.ndarray) and sample_id.dtype.kind in "mM"  # tolist makes numbers of nanoseconds
    ids = sample_id.tolist() if hasattr(sample_id, "tolist") and not times else list(sample_id)
    if not set(map(type, ids)) <= _SOUND:
        ids = [one if type(one) in _SOUND else _plain(one) for one in ids]
        _check_each(ids)
    return ids


def as_identifiers(sample_id: Any, n: int) -> Array | None:
    """Return identifiers as a column that keeps each as it is.

    Parameters
    ----------
    sample_id : one-dimensional array or iterable of hashable objects, or None
        Equality is Python's: 1 and 1.0 are one identifier, 1 and "1" are two. Scalars of NumPy's and times of pandas'
        become the Python objects that they equal.
    n : int
        How many there must be.

    Returns
    -------
    column : (n,) array or None
        Integers, floats or strings in one block where that loses nothing, else Python objects; None for None.

    Raises
    ------
    ValueError
        If there are not as many, one cannot be hashed, or one is missing (None, NaN, NaT, NA); if they come in a set
        or a mapping, which is in no order of rows; if one differs from its own copy.
    """
    if sample_id is None:
        return None
    if isinstance(sample_id, Set | Mapping | MappingView):
        raise ValueError(
            f"sample_id must be in the order of the rows in X, which a {type(sample_id).__name__} does not keep for "
            "certain; give a list or an array"
        )
    if _are_small_integers(sample_id):
        column: Array = np.array(sample_id, dtype=np.int64)
    else:
        ids = listed_ids(sample_id)
        _check_found_again(ids)
        column = as_column(ids)
    check_length(column, n, "sample_id", "X")
    return column


def _are_small_integers(sample_id: Any) -> bool:
    """Tell whether identifiers are a column of integers of NumPy's or pandas', with room for each in 64 bits.

    None of them can be missing or lack a hash, so that millions need not be looked at one by one.
    """
    dtype: Any = getattr(sample_id, "dtype", None)
    is_column = isinstance(dtype, np.dtype) and getattr(sample_id, "ndim", 0) == 1 and len(sample_id) > 0
    is_column = is_column and not np.ma.isMaskedArray(sample_id)
    return is_column and dtype.kind in "iu" and np.can_cast(dtype, np.int64)


def as_column(ids: list[Any]) -> Array:
    """Return identifiers in one block of memory where that loses nothing, else as Python objects."""
    kinds = set(map(type, ids))
    compact = _COMPACT.get(next(iter(kinds))) if len(kinds) == 1 else None
    if compact is np.str_ and max(map(len, ids)) > _LONGEST_STRING:
        compact = None
    if kinds == {bytes} and len(set(map(len, ids))) == 1 and ids[0]:
        return np.array(ids, dtype=f"V{len(ids[0])}")
    if compact is not None:
        try:
            column: Array = np.array(ids, dtype=compact)
        except OverflowError:  # an integer of more than 64 bits
            pass
        else:
            if column.tolist() == ids:  # NumPy drops zero characters at the end of a string
                return column
    return np.fromiter(ids, dtype=object, count=len(ids))


def extended_ids(old: Array, new: Array, room: Array | None) -> Extension:
    """Return a column that other identifiers come after; `room` is what it is the beginning of, if anything."""
    # Joined by NumPy, numbers would become strings, or large integers floats, and would not be found again.
    if old.dtype.kind != new.dtype.kind or (old.dtype.kind == "V" and old.dtype != new.dtype):
        old, new = old.astype(object), new.astype(object)
    wanted = np.result_type(old, new)
    fits = room is not None and room.dtype == wanted
    return extended(old.astype(wanted, copy=False), new, room if fits else None)


def same_id(one: Any, other: Any) -> bool:
    """Tell whether two identifiers are equal, as a dict would."""
    return one is other or (hash(one) == hash(other) and bool(one == other))


def same_ids(some: Array, others: Array) -> Mask:
    """Tell for each pair of identifiers out of two columns whether they are equal."""
    if some.dtype.kind == others.dtype.kind and some.dtype.kind in "ifU":
        same: Mask = some == others
        return same
    return np.fromiter(map(same_id, some.tolist(), others.tolist()), dtype=bool, count=len(some))


def _plain(one: Any) -> Any:
    """Return the Python object that a scalar of NumPy's or a time of pandas' equals; others as they are."""
    if isinstance(one, datetime | timedelta) and hasattr(one, "to_numpy") and getattr(one, "tzinfo", None) is None:
        one = one.to_numpy()
    if isinstance(one, np.ndarray) and one.ndim == 0:
        one = one[()]
    if not isinstance(one, np.generic):
        # A tensor of PyTorch's or of another library, which is compared by identity.
        return one.item() if getattr(one, "ndim", None) == 0 and hasattr(one, "item") else one
    if one.dtype.kind not in "mM":
        return one.item()
    if np.isnat(one):
        return None
    try:
        micro = one.astype(f"{one.dtype.kind}8[us]")
        exact = micro.item() if micro == one else None  # an integer where Python's calendar ends
    except TypeError:  # months have no length
        return one
    return exact if isinstance(exact, datetime | timedelta) else one


def _check_each(ids: list[Any]) -> None:
    hashable, present = np.ones(len(ids), dtype=bool), np.ones(len(ids), dtype=bool)
    for i, one in enumerate(ids):
        try:
            hash(one)
        except TypeError:
            hashable[i] = False
        else:
            present[i] = one is not None and _equals_itself(one)
    if not hashable.all():
        kinds = ", ".join(sorted({type(ids[i]).__name__ for i in np.flatnonzero(~hashable)}))
        raise ValueError(
            f"sample_id must hold hashable identifiers, got {kinds} ({indices(~hashable)}); identifiers of several "
            "parts are tuples in a list"
        )
    if not present.all():
        raise ValueError(
            f"sample_id is missing (None, NaN, NaT or NA) for {(~present).sum()} of {len(ids)} ({indices(~present)}): "
            "such a row could not be told from others, nor found again; give each an identifier"
        )


def _check_found_again(ids: list[Any]) -> None:
    """Refuse identifiers that are compared by identity: once they were saved and loaded nobody could name them."""
    one_of_each = {type(part): part for one in ids if type(one) not in _SOUND for part in _parts(one)}
    lost = sorted(kind.__name__ for kind, part in one_of_each.items() if not _equals_its_copy(part))
    if lost:
        raise ValueError(
            f"sample_id must hold identifiers that equal their copies, got {', '.join(lost)}, compared by identity: no "
            "row could be found by one after saving and loading; give numbers, strings or tuples of them"
        )


def _parts(one: Any) -> Iterator[Any]:
    if isinstance(one, tuple | frozenset):
        for part in one:
            yield from _parts(part)
    else:
        yield one


def _equals_its_copy(one: Any) -> bool:
    try:
        return same_id(copy.deepcopy(one), one)
    except Exception:  # whatever the code of a user's own class raises
        return False


def _equals_itself(one: Any) -> bool:
    if isinstance(one, tuple):
        return all(part is None or _equals_itself(part) for part in one)
    try:
        return bool(one == one)  # NaN and NaT do not
    except (ArithmeticError, TypeError, ValueError):  # NA, and a signalling NaN
        return False
