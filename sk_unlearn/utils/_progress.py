"""Progress bars for long work: on stderr or as a notebook's widget, and only where somebody looks on.

What takes ``verbose`` hands it on: above 0 a bar is shown wherever that is, 0 shows none, and None shows one if the
work takes longer than a moment and somebody looks on. Work that is a part of other work shows nothing by itself: its
bar would come and go beside the one of the whole.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from sk_unlearn import distributed

__all__ = ["SHARE", "Bar", "detail", "progress", "quiet", "somebody_looks_on"]

# The form of a bar of which fractions are known, and not how many are done.
SHARE = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"

# Seconds that work may take before a bar appears that nobody asked for.
_MOMENT = 1.0
# Seconds between two drawings of a bar.
_PAUSE = 0.1

# What the work of this thread is in: nothing, work whose parts may show themselves, or work whose parts may not.
_around: ContextVar[Literal["nothing", "open", "closed"]] = ContextVar("around", default="nothing")


class Bar:
    """A bar that nobody sees, and the base of one that is shown."""

    is_shown = False

    def update(self, n: float = 1) -> None:
        """Say that so much more is done."""

    def tell(self, text: str) -> None:
        """Put a short text behind the bar."""

    def close(self) -> None:
        """Take it away."""


class _ShownBar(Bar):
    is_shown = True

    def __init__(self, total: int | None, what: str, unit: str, delay: float, bar_format: str | None) -> None:
        # With `miniters` time alone decides when to draw, and no thread of tqdm's has to watch over bars that stand
        # still: it would be there in every process that is forked.
        self._bar = _tqdm()(
            total=total, desc=what, unit=unit, bar_format=bar_format, leave=False, delay=delay, mininterval=_PAUSE,
            miniters=0,
        )  # fmt: skip

    def update(self, n: float = 1) -> None:
        # Fractions may add up to a little more than the whole, of which tqdm warns.
        left = n if self._bar.total is None else self._bar.total - self._bar.n
        self._bar.update(min(n, left))

    def tell(self, text: str) -> None:
        self._bar.set_postfix_str(text, refresh=False)

    def close(self) -> None:
        self._bar.close()


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
    is_shown = bool(verbose) or (verbose is None and _around.get() == "nothing" and somebody_looks_on())
    bar = _ShownBar(total, what, unit, 0 if verbose else _MOMENT, bar_format) if is_shown else Bar()
    with _within("open" if is_shown and parts else "closed", bar):
        yield bar


@contextmanager
def detail(total: int | None, what: str, *, unit: str) -> Iterator[Bar]:
    """Show how far a part of some work is, if the work is shown and lets its parts be.

    Parameters
    ----------
    total, what, unit
        As for :func:`progress`.

    Yields
    ------
    bar : Bar
        To be updated.
    """
    bar = _ShownBar(total, what, unit, _MOMENT, None) if _around.get() == "open" else Bar()
    with _within("closed", bar):
        yield bar


@contextmanager
def quiet() -> Iterator[None]:
    """Let nothing inside show a bar that nobody asked for."""
    with _within("closed", Bar()):
        yield


@contextmanager
def _within(kind: Literal["open", "closed"], bar: Bar) -> Iterator[None]:
    token = _around.set(kind)
    try:
        yield
    finally:
        _around.reset(token)
        bar.close()


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
    return bool(getattr(sys.stderr, "isatty", bool)())


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
