"""A process that is killed while it saves, or settles and saves, leaves the old file or the new one."""

import re
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="cannot fork")
def test_a_kill_leaves_the_old_file_or_the_new_one():
    """In a process of its own: one that tests run in has threads, and must not be forked."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._kills", "12"], capture_output=True, text=True, check=True, timeout=300
    )
    for line in done.stdout.splitlines():
        counts = {name: int(n) for name, n in re.findall(r"'([\w ]+)': (\d+)", line)}
        assert counts.get("old", 0) + counts.get("new", 0) == 12
        assert "torn" not in counts
    assert len(done.stdout.splitlines()) == 2
