"""One request at a time for each estimator: a second one, from another thread, waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch

from sk_unlearn import distributed
from sk_unlearn.utils._random import GLOBAL_GENERATORS
from sk_unlearn.utils._turns import Turns

__all__ = ["one_at_a_time", "taking_turns"]

_Verb = TypeVar("_Verb", bound=Callable[..., Any])

# Not attributes of the estimators: locks can be neither pickled nor copied.
_TURNS: WeakKeyDictionary[Any, Turns] = WeakKeyDictionary()


def one_at_a_time(verb: _Verb) -> _Verb:
    """Have a method wait while another thread is in one of the methods so marked of the same object.

    Where several processes work together, all of them are in it at the same time.

    The thread that is in one may call another, as a subclass does that forgets in its own ``fit``. Whatever strikes,
    nothing is locked afterwards, and torch records gradients if it did before: a signal may come just where a context
    ends, and keep it from doing so.
    """

    @wraps(verb)
    def waiting(self: Any, *args: Any, **kwargs: Any) -> Any:
        with taking_turns([self]), distributed.in_step(verb.__name__):
            return verb(self, *args, **kwargs)

    return cast(_Verb, waiting)


@contextmanager
def taking_turns(objects: Sequence[Any]) -> Iterator[None]:
    """Wait until no other thread is in a method marked :func:`one_at_a_time` of any of some objects, and keep it so.

    Parameters
    ----------
    objects : sequence of object
        That can be hashed and referred to weakly.

    Raises
    ------
    RuntimeError
        Where several processes work together, for an object whose class does not say that it does.
    """
    for each in objects:
        if not getattr(type(each), "_works_in_processes", False):
            distributed.refuse(type(each).__name__)
    mine, gradients = [_TURNS.setdefault(each, Turns()) for each in objects], torch.is_grad_enabled()
    to_give_back = [turns for turns in (*mine, GLOBAL_GENERATORS) if not turns.held]
    # Twice, so that a signal which strikes in the first of them finds all of it done by the second.
    try:
        try:
            # In one order, so that two threads with the same objects do not wait for each other.
            for turns in sorted(mine, key=id):
                turns.take()
            yield
        finally:
            _end(to_give_back, gradients)
    finally:
        _end(to_give_back, gradients)


def _end(to_give_back: list[Turns], gradients: bool) -> None:
    for turns in to_give_back:
        turns.give_back()
    torch.set_grad_enabled(gradients)
