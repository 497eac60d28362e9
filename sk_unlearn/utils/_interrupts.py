"""Ctrl-C (SIGINT), where somebody has to know of it although it is raised and caught elsewhere.

What must not be cut in two goes through a :class:`~sk_unlearn.utils._journal.Journal`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["noticed_interrupts"]


@contextmanager
def noticed_interrupts() -> Iterator[list[int]]:
    """Note whether Ctrl-C was pressed, even if what runs inside catches the KeyboardInterrupt.

    The handler that was there before is called as ever, and put back at the end. Nothing is done in a thread other than
    the main one, to which alone Python delivers signals. skorch, for one, ends a training at Ctrl-C and returns as if
    the training were complete; only whoever noticed the signal can tell.

    Yields
    ------
    noticed : list of int
        The signal's number, once for every time it came; empty until then. It stays empty where the process ignores
        Ctrl-C or ends at once without running any Python.

    Examples
    --------
    >>> from sk_unlearn.utils._interrupts import noticed_interrupts
    >>> with noticed_interrupts() as noticed:
    ...     pass
    >>> noticed
    []
    """
    noticed: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    if not _in_main_thread() or not callable(previous):
        yield noticed
        return

    def notice(number: int, frame: Any) -> None:
        noticed.append(number)
        previous(number, frame)

    # Exceptions can arise between any two lines here, for instance from the handler of another signal. The handler is
    # therefore installed inside both blocks, and the outer one restores it if the inner one was kept from it.
    try:
        try:
            signal.signal(signal.SIGINT, notice)
            yield noticed
        finally:
            _restore(notice, previous)
    finally:
        _restore(notice, previous)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _restore(handler: Any, previous: Any) -> None:
    """Put the previous handler back, unless ours was never installed or another has taken its place since."""
    if signal.getsignal(signal.SIGINT) is handler:
        signal.signal(signal.SIGINT, previous)
