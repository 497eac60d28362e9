"""Progress bars for long work: on stderr or as a notebook's widget, and only where somebody looks on.

What takes ``verbose`` hands it on: above 0 a bar is shown wherever that is, 0 shows none, and None shows one if the
work takes longer than a moment and somebody looks on. Work that is a part of other work shows nothing by itself: its
bar would come and go beside the one of the whole.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NamedTuple

from sk_unlearn import distributed

__all__ = ["SHARE", "Bar", "detail", "progress", "quiet", "somebody_looks_on"]

# The form of a bar of which fractions are known, and not how many are done.
SHARE = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"

# Seconds that work may take before a bar appears that nobody asked for.
_MOMENT = 1.0
# Seconds between two drawings of a bar.
_PAUSE = 0.1


class Bar:
    """A bar that nobody sees, and the base of one that is shown."""

    is_shown = False
    is_drawn = False

    def update(self, n: float = 1) -> None:
        """Say that so much more is done."""

    def tell(self, text: str) -> None:
        """Put a short text behind the bar."""

    def close(self) -> None:
        """Take it away."""


class _ShownBar(Bar):
    """A bar that is there after some seconds; until then the line is free for others."""

    is_shown = True

    def __init__(self, total: int | None, what: str, unit: str, wait: float, bar_format: str | None) -> None:
        # With `miniters` time alone decides when to draw, and no thread of tqdm's has to watch over bars that stand
        # still: it would be there in every process that is forked.
        self._settings = {
            "total": total, "desc": what, "unit": unit, "bar_format": bar_format, "leave": False, "miniters": 0,
            "mininterval": _PAUSE,
        }  # fmt: skip
        self._bar: Any = None
        self._total, self._done, self._text = total, 0.0, ""
        self._wait, self._began = wait, time.monotonic()
        self._is_lost = False
        if not wait:
            with self._unless_lost():
                self._bar = _tqdm()(**self._settings)

    @property
    def is_drawn(self) -> bool:  # type: ignore[override]
        return self._bar is not None

    def update(self, n: float = 1) -> None:
        if self._total is not None:  # fractions may add up to a little more than the whole, of which tqdm warns
            n = min(n, self._total - self._done)
        self._done += n
        if self._is_lost:
            return
        seconds = time.monotonic() - self._began
        if self._bar is None and seconds < self._wait:
            return
        with self._unless_lost():
            if self._bar is None:
                self._bar, n = _tqdm()(**self._settings), self._done
                self._bar.start_t -= seconds
                self._bar.last_print_t -= seconds
            if self._text:
                self._bar.set_postfix_str(self._text, refresh=False)
            self._bar.update(int(n) if n == int(n) else n)

    def tell(self, text: str) -> None:
        self._text = text

    def close(self) -> None:
        if self._bar is not None:
            with self._unless_lost():
                self._bar.close()

    @contextmanager
    def _unless_lost(self) -> Iterator[None]:
        """Give the bar up where it cannot be drawn: a terminal that went away is no reason to end the work."""
        try:
            yield
        except (OSError, ValueError):
            self._is_lost = True
            with suppress(RuntimeError, AssertionError):  # tqdm leaves its lock taken, and other threads would wait
                _tqdm().get_lock().release()
            if self._bar is not None:
                self._bar.disable = True  # nor is it drawn when it is collected
            self._bar = None


class _Around(NamedTuple):
    """What some work is a part of: its bar, whether parts may have one before that is drawn, and its name."""

    bar: Bar
    parts: bool = False
    what: str = ""


_around: ContextVar[_Around | None] = ContextVar("around", default=None)


@contextmanager
def progress(
    total: int | None,
    what: str,
    *,
    unit: str,
    verbose: int | bool | None,
    parts: bool = False,
    bar_format: str | None = None,
) -> Iterator[Bar]:
    """Show how far some work is.

    Parameters
    ----------
    total : int or None
        How much there is to do; None where nobody knows.
    what : str
        What stands before the bar.
    unit : str
        What is counted.
    verbose : int, bool or None
        As the caller got it.
    parts : bool, default=False
        Whether what takes long in it has a bar of its own: :func:`detail`.
    bar_format : str, default=None
        Of tqdm's, such as `SHARE`.

    Yields
    ------
    bar : Bar
        To be updated.
    """
    asked_for = bool(verbose) and _is_open(sys.stderr)
    is_shown = asked_for or (verbose is None and _around.get() is None and somebody_looks_on())
    bar = _ShownBar(total, what, unit, 0 if verbose else _MOMENT, bar_format) if is_shown else Bar()
    with _within(_Around(bar, is_shown and parts, what)):
        yield bar


@contextmanager
def detail(total: int | None, what: str, *, unit: str) -> Iterator[Bar]:
    """Show how far a part of some work is, if the work lets its parts be shown and has no bar there itself.

    One bar at a time: a notebook without widgets knows no way back to a line above.

    Parameters
    ----------
    total, what, unit
        As for :func:`progress`.

    Yields
    ------
    bar : Bar
        To be updated.
    """
    around = _around.get()
    bar = Bar()
    if around is not None and around.parts and not around.bar.is_drawn:
        bar = _ShownBar(total, f"{around.what}: {what}", unit, _MOMENT, None)
    with _within(_Around(bar)):
        yield bar


@contextmanager
def quiet() -> Iterator[None]:
    """Let nothing inside show a bar that nobody asked for."""
    with _within(_Around(Bar())):
        yield


@contextmanager
def _within(around: _Around) -> Iterator[None]:
    token = _around.set(around)
    try:
        yield
    finally:
        _around.reset(token)
        around.bar.close()


def somebody_looks_on() -> bool:
    """Tell whether a person sees what is drawn here: in a terminal, or in a notebook that is not run as a batch.

    It is the main thread of the first process that draws. Workers share its terminal, and would draw over its bars.
    """
    if threading.current_thread() is not threading.main_thread() or multiprocessing.parent_process() is not None:
        return False
    if distributed.is_active() and distributed.rank():
        return False
    kernel = _kernel()
    if kernel is not None:
        return _can_be_asked(kernel)
    return _is_open(sys.stderr) and bool(getattr(sys.stderr, "isatty", bool)())


def _is_open(stream: Any) -> bool:
    """Tell whether there is somewhere to draw: services and programs without a console have no stderr, or closed it."""
    return stream is not None and not getattr(stream, "closed", False)


def _kernel() -> Any:
    """Return the kernel of the notebook that this runs in, if it does."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None)


def _can_be_asked(kernel: Any) -> bool:
    """Tell whether the front end has somebody to type an answer: what runs a notebook as a batch says that it has not.

    It stands in the request for the present cell, of the protocol that all front ends speak.
    """
    try:
        return bool(kernel.get_parent()["content"]["allow_stdin"])
    except (AttributeError, KeyError, TypeError):
        return True


def _tqdm() -> Any:
    """Return tqdm's bar for this place; imported only when one is shown."""
    with warnings.catch_warnings():
        # In a notebook without ipywidgets it warns, and takes the bar made of text, which is what is wanted then.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    return tqdm
