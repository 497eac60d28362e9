"""Whatever strikes, and wherever: afterwards Ctrl-C does what it did before."""

import contextlib
import os
import signal
import sys
import threading
import time

import pytest

from sk_unlearn.utils import _interrupts
from sk_unlearn.utils._interrupts import noticed_interrupts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="os.kill there ends the process")
BOTH = pytest.mark.parametrize("manager", [noticed_interrupts])


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(autouse=True)
def handler():
    """The process's handler, a known one in every test; put back whatever a test does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


# --------------------------------------------------------------------------------------------------- noticed_interrupts


def test_noticed_interrupts_are_raised_as_ever(handler):
    with noticed_interrupts() as noticed:
        assert noticed == []
        with contextlib.suppress(KeyboardInterrupt):
            interrupt()
        assert noticed == [signal.SIGINT]
    with pytest.raises(KeyboardInterrupt), noticed_interrupts() as noticed:
        interrupt()
    assert noticed == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is handler


# ----------------------------------------------------------------------------------------------------------------- both


@BOTH
def test_an_interrupt_by_a_timer(manager, handler):
    """The signal arrives in the middle of the work, and not where a test happens to send it."""

    def relay(number, frame):
        interrupt()

    usual = signal.signal(signal.SIGALRM, relay)
    reached_end = False
    try:
        with pytest.raises(KeyboardInterrupt), manager():  # noqa: PT012  what happens inside before the error is the point
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            deadline = time.monotonic() + 0.2
            while time.monotonic() < deadline:
                pass
            reached_end = True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
    assert not reached_end
    assert signal.getsignal(signal.SIGINT) is handler


@BOTH
def test_a_handler_from_outside_python_is_left_alone(manager, monkeypatch):
    installed = []
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda *args: installed.append(args))
    with manager():
        pass
    assert installed == []


@BOTH
def test_other_threads_do_nothing(manager, handler):
    seen, errors = [], []

    def work():
        try:
            with manager():
                seen.append(signal.getsignal(signal.SIGINT))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (seen, errors) == ([handler], [])


@BOTH
def test_a_handler_installed_inside_stays(manager):
    def own(number, frame):
        pass

    with manager():
        signal.signal(signal.SIGINT, own)
    assert signal.getsignal(signal.SIGINT) is own


class Strike:
    """Raise KeyboardInterrupt at the n-th line that is traced in a file."""

    def __init__(self, n, files):
        self.n, self.files, self.lines = n, files, []

    def __call__(self, frame, event, arg):
        if frame.f_code.co_filename not in self.files:
            return None
        if event == "line":
            self.lines.append((frame.f_code.co_name, frame.f_lineno))
            if len(self.lines) == self.n:
                raise KeyboardInterrupt
        return self


def struck(manager, n, files):
    """Enter and leave the context with a strike at its n-th line; return the lines that were reached."""
    strike, tracer = Strike(n, files), sys.gettrace()
    sys.settrace(strike)
    try:
        with manager():
            pass
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(tracer)
    return strike.lines


@BOTH
@pytest.mark.parametrize("files", [{_interrupts.__file__}, {_interrupts.__file__, contextlib.__file__}])
def test_a_strike_at_any_line_leaves_the_handler_as_it_was(manager, files, handler):
    n_lines = len(struck(manager, None, files))
    assert n_lines > 10
    for n in range(1, n_lines + 1):
        lines = struck(manager, n, files)
        assert len(lines) >= n
        assert signal.getsignal(signal.SIGINT) is handler, lines[n - 1]
