import io
import re
import subprocess
import sys
import threading
import types

import pytest

from sk_unlearn.utils import _progress
from sk_unlearn.utils._progress import detail, progress, quiet, somebody_looks_on


class Terminal:
    """What pytest captures, as if it were a terminal."""

    def __init__(self, capsys):
        self.capsys = capsys

    def text(self):
        return self.capsys.readouterr().err


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(_progress, "_MOMENT", 1e-9)
    monkeypatch.setattr(_progress, "_PAUSE", 0.0)


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Somebody looks on."""
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True)
    return Terminal(capsys)


def work(verbose=None, *, total=3, **settings):
    with progress(total, "work", unit="part", verbose=verbose, **settings) as bar:
        bar.update(total)
    return bar


# -------------------------------------------------------------------------------------------------- who sees a bar


@pytest.mark.parametrize(("verbose", "is_shown"), [(None, False), (0, False), (False, False), (1, True), (True, True)])
def test_where_nobody_looks_on_only_who_asks_for_it_gets_a_bar(capsys, verbose, is_shown):
    assert work(verbose).is_shown == is_shown
    printed = capsys.readouterr()
    assert printed.out == ""
    assert ("work: 100%" in printed.err) == is_shown
    assert bool(printed.err) == is_shown


@pytest.mark.parametrize(("verbose", "is_shown"), [(None, True), (0, False), (False, False), (1, True), (True, True)])
def test_in_a_terminal_there_is_one_unless_it_is_turned_off(terminal, verbose, is_shown):
    assert work(verbose).is_shown == is_shown
    assert ("work: 100%" in terminal.text()) == is_shown


def test_work_that_takes_a_moment_shows_none(terminal, monkeypatch):
    monkeypatch.setattr(_progress, "_MOMENT", 60.0)
    work()
    assert terminal.text().strip() == ""
    work(1)
    assert "work" in terminal.text()


def test_no_bar_from_other_threads_and_processes(terminal, monkeypatch):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(somebody_looks_on()))
    thread.start()
    thread.join()
    assert seen == [False]
    assert somebody_looks_on()
    monkeypatch.setattr(_progress.distributed, "is_active", lambda: True)
    monkeypatch.setattr(_progress.distributed, "rank", lambda: 0)
    assert somebody_looks_on()
    monkeypatch.setattr(_progress.distributed, "rank", lambda: 1)
    assert not somebody_looks_on()
    monkeypatch.setattr(_progress.distributed, "is_active", lambda: False)
    monkeypatch.setattr(_progress.multiprocessing, "parent_process", lambda: "another")
    assert not somebody_looks_on()


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, types.SimpleNamespace(), closed()])
def test_a_process_without_a_terminal_of_its_own(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    assert not somebody_looks_on()


@pytest.mark.parametrize("stream", [None, closed()])
def test_a_bar_that_is_asked_for_where_there_is_no_stderr(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    assert not work(1).is_shown


class Gone(io.StringIO):
    """A terminal that goes away after some texts were written."""

    def __init__(self, n_texts):
        super().__init__()
        self.n_texts = n_texts

    def isatty(self):
        return True

    def write(self, text):
        self.n_texts -= 1
        if self.n_texts < 0:
            raise BrokenPipeError("gone")
        return super().write(text)


@pytest.mark.parametrize("verbose", [None, 1])
@pytest.mark.parametrize("n_texts", [0, 1, 2, 3, 4])
def test_work_goes_on_where_the_terminal_goes_away(monkeypatch, verbose, n_texts):
    monkeypatch.setattr(sys, "stderr", Gone(n_texts))
    with progress(3, "work", unit="part", verbose=verbose, parts=True) as bar:
        for _ in range(3):
            bar.update()
            with detail(2, "a part", unit="step") as part:
                part.update()
    assert bar.is_shown


def asks(request):
    kernel = types.SimpleNamespace(get_parent=lambda: request)
    return types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=kernel))


@pytest.mark.parametrize(
    ("request_", "looks_on"),
    [
        ({"content": {"allow_stdin": True}}, True),
        ({"content": {"allow_stdin": False}}, False),  # as of nbconvert, papermill, a scheduled job
        ({}, True),
        (None, True),
    ],
)
def test_a_notebook_that_is_run_as_a_batch_shows_none(monkeypatch, request_, looks_on):
    monkeypatch.setitem(sys.modules, "IPython", asks(request_))
    assert somebody_looks_on() == looks_on


def test_ipython_in_a_terminal_is_a_terminal(monkeypatch, terminal):
    for shell in (None, types.SimpleNamespace()):
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda shell=shell: shell))
        assert somebody_looks_on()


# ------------------------------------------------------------------------------------------------------- one in another


def test_work_within_other_work_shows_none_by_itself(terminal):
    with progress(2, "whole", unit="part", verbose=None):
        assert not work().is_shown
        assert work(1).is_shown
        with detail(2, "training", unit="epoch") as bar:
            assert not bar.is_shown
    assert work().is_shown
    with progress(2, "whole", unit="part", verbose=0):
        assert not work().is_shown
    with quiet():
        assert not work().is_shown
        assert work(1).is_shown


def test_a_part_is_shown_where_the_whole_lets_it_be(terminal):
    with detail(2, "training", unit="epoch") as bar:
        assert not bar.is_shown
    with progress(None, "whole", unit="step", verbose=None, parts=True) as whole:
        assert not work().is_shown
        with detail(2, "training", unit="epoch") as bar:
            assert bar.is_shown
            with detail(2, "deeper", unit="epoch") as inner:
                assert not inner.is_shown
        whole.update()
        with detail(2, "training", unit="epoch") as bar:
            assert not bar.is_shown  # one at a time
    assert "\x1b" not in terminal.text()  # nothing went to a line above
    with quiet(), progress(None, "whole", unit="step", verbose=None, parts=True), detail(2, "a", unit="b") as bar:
        assert not bar.is_shown


def test_an_error_ends_it_and_leaves_nothing_behind(terminal):
    with pytest.raises(KeyboardInterrupt), progress(2, "work", unit="part", verbose=1):
        raise KeyboardInterrupt
    assert work().is_shown


# ------------------------------------------------------------------------------------------------------------ the bar


def test_fractions_that_add_up_to_more_than_the_whole(capsys):
    with progress(4, "work", unit="part", verbose=1) as bar:
        for _ in range(100):
            bar.update(4 / 100)
        bar.update(0.5)
    assert "100%" in capsys.readouterr().err


def test_no_total_and_a_text_beside(terminal):
    with progress(None, "work", unit="step", verbose=1) as bar:
        bar.tell("gradient 0.5")
        bar.update()
    assert re.search("work: 1step .* gradient 0.5", terminal.text())


def test_no_thread_watches_over_it(capsys):
    before = set(threading.enumerate())
    work(1)
    assert set(threading.enumerate()) == before


def test_a_notebook_without_widgets_gets_a_bar_of_text_and_no_warning():
    code = """
import sys, types
for name in ("ipykernel", "ipykernel.zmqshell"):
    sys.modules[name] = types.ModuleType(name)
kernel = types.SimpleNamespace(get_parent=lambda: {"content": {"allow_stdin": True}})
shell = type("ZMQInteractiveShell", (), {"kernel": kernel, "config": {"IPKernelApp": {}}})()
sys.modules["IPython"] = types.ModuleType("IPython")
sys.modules["IPython"].get_ipython = lambda: shell
sys.modules["ipywidgets"] = None
from sk_unlearn.utils import _progress
import sk_unlearn.inspection
assert "tqdm.auto" not in sys.modules  # importing the package does not wait for it
_progress._MOMENT, _progress._PAUSE = 1e-9, 0.0
with _progress.progress(2, "work", unit="part", verbose=None) as bar:
    bar.update(2)
"""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    assert "work: 100%" in ran.stderr
    assert "Warning" not in ran.stderr
