"""One request at a time for each estimator: a second one, from another thread, waits."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from sk_unlearn.utils._turns import Turns

__all__ = ["one_at_a_time"]

_Verb = TypeVar("_Verb", bound=Callable[..., Any])

# Not attributes of the estimators: locks can be neither pickled nor copied.
_TURNS: WeakKeyDictionary[Any, Turns] = WeakKeyDictionary()


def one_at_a_time(verb: _Verb) -> _Verb:
    """Have a method wait while another thread is in one of the methods so marked of the same object.

    The thread that is in one may call another, as a subclass does that forgets in its own ``fit``.
    """

    @wraps(verb)
    def waiting(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _TURNS.setdefault(self, Turns()).taken():
            return verb(self, *args, **kwargs)

    return cast(_Verb, waiting)
