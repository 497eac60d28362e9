"""What an object inside a composite is: one that can forget, one that has learnt from rows, or neither."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

__all__ = ["forgets", "forgetters_in", "holds_forgetters", "kind_of", "learns"]

# Objects of theirs hold no estimators.
_OPAQUE = frozenset(("builtins", "numpy", "pandas", "polars", "scipy", "skorch", "torch", "types", "functools"))
# Says what all rows had in common, and those that stay still have.
_FOREVER = frozenset(("_ConstantPredictor",))


def forgets(part: Any) -> bool:
    """Whether a part is fitted and carries out requests by itself: our estimators, and our pipeline."""
    return hasattr(type(part), "_drafted_deletion") and _is_fitted(part)


def learns(part: Any) -> bool:
    """Whether a part may have learnt from rows; strings such as "drop", and steps without memory, have not."""
    if part is None or isinstance(part, str):
        return False
    if type(part).__name__ in _FOREVER:
        return False
    if not hasattr(part, "__sklearn_tags__"):  # no estimator: a list of calibrators, an array of labels
        return True
    return get_tags(part).requires_fit and _is_fitted(part)


def holds_forgetters(part: Any) -> bool:
    """Whether a part is, or has somewhere inside, one that :func:`forgets`."""
    return next(forgetters_in(part), None) is not None


def forgetters_in(part: Any, path: str = "", seen: set[int] | None = None) -> Iterator[str]:
    """Yield the paths of all parts that forget by themselves, found by looking through all attributes."""
    seen = set() if seen is None else seen
    if id(part) in seen:
        return
    seen.add(id(part))
    if forgets(part):
        yield path
        return
    for name, value in _inside(part):
        yield from forgetters_in(value, f"{path}{name}".removeprefix("."), seen)


def _inside(part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, dict):
        # A key may be a customer's number.
        yield from (("[...]", value) for value in part.values())
    elif isinstance(part, list | tuple | set | frozenset):
        if len(part) and all(isinstance(each, int | float | str | bytes) for each in part):
            return
        yield from ((f"[{i}]", value) for i, value in enumerate(part))
    elif type(part).__module__.split(".")[0] not in _OPAQUE and not isinstance(part, type):
        yield from ((f".{name}", value) for name, value in getattr(part, "__dict__", {}).items())


def kind_of(part: Any) -> str:
    """Return the class of a part, of its first entry if it is a list."""
    if isinstance(part, list | tuple) and part:
        return type(part[0]).__name__
    return type(part).__name__


def _is_fitted(part: Any) -> bool:
    try:
        check_is_fitted(part)
    except (NotFittedError, TypeError):
        return False
    return True
