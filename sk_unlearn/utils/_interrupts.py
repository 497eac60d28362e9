"""What happens when Ctrl-C (SIGINT) arrives during work that it must not cut in two.

Both context managers replace the process's handler while they last and put the previous one back. They do nothing in
a thread other than the main one, to which alone Python delivers signals, and nothing where a handler was installed
outside Python, which Python could not put back.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["noticed_interrupts", "uninterrupted"]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the context ends, so that what is done inside is not cut off half-way.

    Then the signal is sent again, once however often it came, to the handler that was there before: Python's own
    raises KeyboardInterrupt.

    Examples
    --------
    >>> from sk_unlearn.utils._interrupts import uninterrupted
    >>> with uninterrupted():
    ...     done = [1, 2]
    """
    held: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    if not _in_main_thread() or previous is None:
        yield
        return

    def hold(number: int, frame: Any) -> None:
        held.append(number)

    # Exceptions can arise between any two lines here, for instance from the handler of another signal. The handler is
    # therefore installed inside both blocks, and the outer one restores it if the inner one was kept from it.
    try:
        try:
            signal.signal(signal.SIGINT, hold)
            yield
        finally:
            _restore(hold, previous)
    finally:
        _restore(hold, previous)
        if held:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def noticed_interrupts() -> Iterator[list[int]]:
    """Note whether Ctrl-C was pressed, even if what runs inside catches the KeyboardInterrupt.

    The handler that was there before is called as ever. skorch, for one, ends a training at Ctrl-C and returns as if
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

    # Two blocks, as in `uninterrupted`.
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
