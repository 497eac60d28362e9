"""Threads that take turns, whatever strikes the one whose turn it is."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

__all__ = ["Turns"]


class Turns:
    """A lock that comes back: one thread at a time, and the turn ends with the context even if a signal strikes there.

    The thread whose turn it is may take it again inside. A process that is forked meanwhile starts with a free lock:
    the thread that holds it is not there to give it back.

    Examples
    --------
    >>> from sk_unlearn.utils._turns import Turns
    >>> turns = Turns()
    >>> with turns.taken():
    ...     pass
    """

    def __init__(self) -> None:
        self.renew()
        _ALL.add(self)

    def renew(self) -> None:
        """Start with a free lock."""
        # Any: that an RLock knows its owner is not in the type hints. threading.Condition relies on it too.
        self._lock: Any = threading.RLock()

    @property
    def held(self) -> bool:
        """Whether it is this thread's turn."""
        return bool(self._lock._is_owned())

    def take(self) -> None:
        """Wait for the turn, unless it is this thread's already."""
        if not self.held:
            self._lock.acquire()

    def give_back(self) -> None:
        """End the turn, if it is this thread's."""
        if self.held:
            self._lock.release()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn, and hold it inside the context."""
        if self.held:
            yield
            return
        # Not "with lock": an exception can arise after the lock is taken and before the context knows of it, and again
        # before it is given back. Whether it is held is therefore asked of the lock, twice.
        try:
            try:
                self.take()
                yield
            finally:
                self.give_back()
        finally:
            self.give_back()


_ALL: WeakSet[Turns] = WeakSet()


def _renew_all() -> None:
    for turns in list(_ALL):
        turns.renew()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_renew_all)
