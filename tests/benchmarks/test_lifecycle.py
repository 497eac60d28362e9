"""Deletion in production: a short run has every number, and kills tear and lose nothing."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import lifecycle

ROOT = Path(__file__).parents[2]


def test_a_short_run(tmp_path, capsys):
    found = lifecycle.main(["--quick", "--only", "requests", "lookup", "pipeline", "--out", str(tmp_path / "out.json")])
    assert json.loads((tmp_path / "out.json").read_text()) == found
    assert "p99_wall_s" in capsys.readouterr().out
    assert found["requests"]["verified"] == found["requests"]["requests"] == 8
    assert found["requests"]["object_after_mib"] < found["requests"]["object_before_mib"]
    assert found["lookup"]["asked"] == 1000
    assert [each["unlearner"] for each in found["pipeline"]] == ["default", "one gradient step"]


@pytest.mark.skipif(sys.platform == "win32", reason="cannot fork")
def test_kills_tear_and_lose_nothing():
    """In a process of its own: one that tests run in has threads, and must not be forked."""
    code = """
from benchmarks._lifecycle_kills import *
print([dict(kills(4, n_rows=500)) for kills in (kills_of_the_command_line, kills_of_the_service)])"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=300
    )
    of_the_command_line, of_the_service = ast.literal_eval(done.stdout)
    for counts in (of_the_command_line, of_the_service):
        assert not {name for name in counts if name.startswith(("torn", "lost"))}
    assert of_the_command_line["old"] + of_the_command_line["new"] == 4
    assert of_the_service["whole"] == 4
    assert of_the_service["accepted"] == of_the_service["carried out"]
