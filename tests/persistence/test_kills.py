"""A process that is killed while it saves leaves the old file or the new one."""

import re
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="cannot fork")
def test_a_kill_leaves_the_old_file_or_the_new_one():
    """In a process of its own: one that tests run in has threads, and must not be forked."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._kills", "20"], capture_output=True, text=True, check=True, timeout=300
    )
    counts = {name: int(n) for name, n in re.findall(r"'([\w ]+)': (\d+)", done.stdout)}
    assert counts["old"] + counts["new"] == 20
    assert "torn" not in counts
