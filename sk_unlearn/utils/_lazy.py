"""Attributes that are computed when they are first asked for."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

__all__ = ["cached_property"]

_T = TypeVar("_T")


class cached_property(functools.cached_property[_T]):  # noqa: N801  it is that of functools but for the lock
    """``functools.cached_property`` without the lock that it holds while it computes, as Python 3.11 has it.

    All instances of a class share that lock. A thread that waits inside for its turn at the global generators
    (`Turns`) would keep out the thread whose turn it is, and both would wait for ever. Of two threads that ask one
    object at once both compute, and the first result stays.

    Examples
    --------
    >>> from sk_unlearn.utils._lazy import cached_property
    >>> class Circle:
    ...     @cached_property
    ...     def area(self):
    ...         return 3.14
    >>> Circle().area
    3.14
    """

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        assert self.attrname is not None
        values = vars(instance)
        if self.attrname not in values:
            values.setdefault(self.attrname, self.func(instance))
        return values[self.attrname]
