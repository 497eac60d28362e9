"""One writing for every value that equals another: numbers, texts, times, missing ones, and what is made of them.

Equality is Python's: 1, 1.0 and True are one value, 1 and "1" are two. Beyond that all kinds of missing (None, NaN,
NaT, NA) are one. Short values are written in 64 bits, so that columns of numbers and times can be written without a
loop.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from numbers import Rational
from typing import Any

import numpy as np

__all__ = ["NANOSECONDS", "Tag", "canonical", "encoded"]

Canonical = tuple[int, bytes]


class Tag(IntEnum):
    """What the bytes of a value mean."""

    MISSING = 1
    NUMBER = 2  # a double
    INTEGER = 3  # of 64 bits with sign, that is no double
    NATURAL = 4  # of 64 bits without, that is neither
    MOMENT = 5  # nanoseconds since 1970, of a calendar and clock without time zone
    INSTANT = 6  # nanoseconds since 1970 in UTC
    DURATION = 7  # nanoseconds
    CLOCK = 8  # nanoseconds since midnight
    DATE = 9  # days, where a date is not its midnight
    # Those above take 64 bits, those below any number of bytes.
    TEXT = 16
    BYTES = 17
    RATIO = 18
    COMPLEX = 19
    LONG_TIME = 20
    SEQUENCE = 21
    SET = 22
    MAPPING = 23
    OBJECT = 24
    # A digest of one of those, in two halves.
    HASHED = 32
    HASHED_REST = 33


# Units of NumPy's that have a length, in nanoseconds.
NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "D": 86400 * 10**9,
    "W": 7 * 86400 * 10**9,
}
_FINER = {"ps": 10**3, "fs": 10**6, "as": 10**9}
_FIRST_DAY = date(1970, 1, 1).toordinal()
_MISSING: Canonical = (Tag.MISSING, bytes(8))


def canonical(one: Any, *, dates_apart: bool = False) -> Canonical:
    """Return tag and bytes of a value, the same for all values that equal it.

    Parameters
    ----------
    one : object
        A number, text, bytes, date or time of Python's, NumPy's or pandas'; a sequence (a list, a tuple and an array
        are the same), set or mapping of such; or any other object, by what its pickle is made of.

    dates_apart : bool, default=False
        Whether a date differs from midnight of that day, as in Python; in a table it does not, because pandas turns
        dates into times.

    Returns
    -------
    tag : Tag

    content : bytes
        8 of them where the tag is a short one.

    Raises
    ------
    TypeError
        For an object that cannot be pickled.
    """
    if type(one) is str:
        return Tag.TEXT, one.encode("utf-8", "surrogatepass")
    if one is None:
        return _MISSING
    if isinstance(one, np.generic) and one.dtype.kind in "mM":
        return _numpy_time(one)
    if isinstance(one, bool | int | np.bool_ | np.integer):
        return _integer(int(one))
    if isinstance(one, float | np.float16 | np.float32):
        return _MISSING if one != one else (Tag.NUMBER, struct.pack("<d", float(one) + 0.0))
    if isinstance(one, Decimal | Rational | np.floating):
        return _ratio(one)
    if isinstance(one, complex | np.complexfloating):
        return _complex(one)
    if isinstance(one, str):
        return Tag.TEXT, str.encode(one, "utf-8", "surrogatepass")
    if isinstance(one, bytes | bytearray | memoryview | np.void):
        return Tag.BYTES, one.tobytes() if isinstance(one, np.void) else bytes(one)
    if isinstance(one, date | time | timedelta):
        return _time(one, dates_apart)
    return _compound(one, dates_apart)


def encoded(one: Any, *, dates_apart: bool = False) -> bytes:
    """Return a value as bytes none of which is the beginning of another's; see :func:`canonical`."""
    tag, content = canonical(one, dates_apart=dates_apart)
    return struct.pack("<BQ", tag, len(content)) + content


def _integer(one: int) -> Canonical:
    try:
        as_float = float(one)
    except OverflowError:
        as_float = math.inf
    if as_float == one:
        return Tag.NUMBER, struct.pack("<d", as_float)
    if -(1 << 63) <= one < 1 << 63:
        return Tag.INTEGER, struct.pack("<q", one)
    if 0 <= one < 1 << 64:
        return Tag.NATURAL, struct.pack("<Q", one)
    return Tag.RATIO, f"{one:x}/1".encode()


def _ratio(one: Any) -> Canonical:
    if isinstance(one, Decimal) and not one.is_finite():
        return _MISSING if one.is_nan() else canonical(float(one))
    if isinstance(one, np.floating) and not np.isfinite(one):
        return canonical(float(one))
    if isinstance(one, Decimal | np.floating):
        over, under = one.as_integer_ratio()
    else:
        over, under = int(one.numerator), int(one.denominator)
    if under == 1:
        return _integer(over)
    try:
        as_float = over / under
    except OverflowError:
        as_float = math.inf
    if math.isfinite(as_float) and as_float.as_integer_ratio() == (over, under):
        return Tag.NUMBER, struct.pack("<d", as_float)
    return Tag.RATIO, f"{over:x}/{under:x}".encode()


def _complex(one: Any) -> Canonical:
    if one != one:
        return _MISSING
    if one.imag == 0:
        return canonical(one.real)
    return Tag.COMPLEX, encoded(one.real) + encoded(one.imag)


def _time(one: Any, dates_apart: bool) -> Canonical:
    if one != one:  # NaT
        return _MISSING
    if isinstance(one, timedelta):
        seconds = one.days * 86400 + one.seconds
        return _nanoseconds(Tag.DURATION, seconds * 10**9 + one.microseconds * 1000 + getattr(one, "nanoseconds", 0))
    if not isinstance(one, datetime | time):
        if dates_apart:
            return Tag.DATE, struct.pack("<q", one.toordinal())
        return _nanoseconds(Tag.MOMENT, (one.toordinal() - _FIRST_DAY) * NANOSECONDS["D"])
    total = (one.hour * 3600 + one.minute * 60 + one.second) * 10**9 + one.microsecond * 1000
    offset = one.utcoffset()
    if offset is not None:
        total -= ((offset.days * 86400 + offset.seconds) * 10**6 + offset.microseconds) * 1000
    if isinstance(one, time):
        return (Tag.CLOCK, struct.pack("<q", total)) if offset is None else (Tag.LONG_TIME, f"clock {total}".encode())
    total += (one.toordinal() - _FIRST_DAY) * NANOSECONDS["D"] + getattr(one, "nanosecond", 0)
    return _nanoseconds(Tag.MOMENT if offset is None else Tag.INSTANT, total)


def _nanoseconds(tag: Tag, total: int | Fraction) -> Canonical:
    if isinstance(total, int) and -(1 << 63) < total < 1 << 63:
        return tag, struct.pack("<q", total)
    return Tag.LONG_TIME, f"{tag.name} {total}".encode()


def _numpy_time(one: Any) -> Canonical:
    if np.isnat(one):
        return _MISSING
    tag = Tag.MOMENT if one.dtype.kind == "M" else Tag.DURATION
    unit, step = np.datetime_data(one.dtype)
    if unit in ("Y", "M") and tag is Tag.MOMENT:
        return _numpy_time(one.astype("M8[D]"))
    count = int(one.astype(np.int64)) * step
    if unit in NANOSECONDS:
        return _nanoseconds(tag, count * NANOSECONDS[unit])
    if unit in _FINER:
        exact = Fraction(count, _FINER[unit])
        return _nanoseconds(tag, exact.numerator if exact.denominator == 1 else exact)
    months = count * (12 if unit == "Y" else 1)  # of no fixed length, or a bare number
    return Tag.LONG_TIME, f"months {months}".encode() if unit in ("Y", "M") else f"steps {count}".encode()


def _compound(one: Any, dates_apart: bool) -> Canonical:
    if isinstance(one, tuple | list) or getattr(one, "ndim", 0) == 1:
        return Tag.SEQUENCE, b"".join(encoded(part, dates_apart=dates_apart) for part in one)
    shape = getattr(one, "shape", None)
    if shape is not None and hasattr(one, "__array__"):  # an array or a tensor
        values = np.asarray(one)
        return canonical(values.item() if values.ndim == 0 else list(values), dates_apart=dates_apart)
    if isinstance(one, Set):
        return Tag.SET, b"".join(sorted(encoded(part, dates_apart=dates_apart) for part in one))
    if isinstance(one, Mapping):
        items = [encoded(k, dates_apart=dates_apart) + encoded(v, dates_apart=dates_apart) for k, v in one.items()]
        return Tag.MAPPING, b"".join(sorted(items))
    if isinstance(one, type) or (callable(one) and hasattr(one, "__qualname__")):
        return Tag.OBJECT, f"{one.__module__}.{one.__qualname__}".encode()
    if _is_missing(one):
        return _MISSING
    try:
        parts = one.__reduce_ex__(2)
        made_of = parts if isinstance(parts, str) else tuple(part for part in parts[:3] if part is not None)
    except TypeError:
        raise TypeError(
            f"a value of type {type(one).__name__} cannot be digested, because it cannot be pickled; give a number, a "
            "text, a date or a tuple of them"
        ) from None
    return Tag.OBJECT, encoded(made_of, dates_apart=dates_apart)


def _is_missing(one: Any) -> bool:
    try:
        return not bool(one == one)
    except (ArithmeticError, TypeError, ValueError):  # NA
        return True
