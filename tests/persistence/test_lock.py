"""One process at a time changes a model file."""

import errno
import subprocess
import sys
import time

import pytest

from sk_unlearn.persistence import exclusive, load, save

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")


def test_whoever_comes_second_waits_or_is_told(tmp_path):
    path = tmp_path / "model.skops"
    with exclusive(path):
        with pytest.raises(TimeoutError, match="Another process is changing the model file"), exclusive(path):
            pass
        start = time.monotonic()
        with pytest.raises(TimeoutError), exclusive(path, wait=0.2):
            pass
        assert time.monotonic() - start >= 0.2
    with exclusive(path):
        pass


def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "model.skops"
    code = (
        "import fcntl, os, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code + "; time.sleep(60)", str(tmp_path / ".model.skops.lock")], stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b"1\n"
    with pytest.raises(TimeoutError), exclusive(path):
        pass
    other.kill()
    other.communicate()
    with exclusive(path, wait=5):
        pass


def test_a_link_and_what_it_leads_to_are_one_file(tmp_path):
    (tmp_path / "real").touch()
    (tmp_path / "link").symlink_to("real")
    with exclusive(tmp_path / "real"), pytest.raises(TimeoutError), exclusive(tmp_path / "link"):
        pass


def test_a_file_system_without_locks_holds_nothing(tmp_path, monkeypatch):
    def refuse(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    path = tmp_path / "model.skops"
    with exclusive(path), exclusive(path):
        save([1, 2], path)
    assert load(path) == [1, 2]
