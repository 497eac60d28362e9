"""Growth of the training set: a short run has every column, and ratios are those of the numbers."""

import json
import re
import subprocess
from types import SimpleNamespace

import pytest

from benchmarks import scale


def test_a_short_run(tmp_path, capsys):
    records = scale.main(["--quick", "--parts", "growth", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "one row, ms" in printed
    assert "wanted at most 24" in printed
    assert re.search(r"^identifiers, if any +8\.00$", printed, re.MULTILINE)
    assert (tmp_path / "growth.png").stat().st_size > 0
    assert json.loads((tmp_path / "scale.json").read_text())["growth"] == records
    for found in records:
        assert found["erased_at_once"] == found["rows"] // 10
        # One row first, three with steps and three without.
        assert found["held"] == found["rows"] - found["erased_at_once"] - 7
        assert found["index_bytes_a_row"] < 24


@pytest.mark.parametrize("clock", ["wall", "cpu"])
def test_the_last_line_is_the_largest_over_the_smallest(clock):
    names = ["index_bytes_a_row", *(scale._name(what, clock) for _, what, *_ in scale._COLUMNS)]
    records = [{"rows": n, "erased_at_once": n // 10, **dict.fromkeys(names, n / 1e5)} for n in (100_000, 400_000)]
    assert scale.table(records, clock)[-1].split() == ["x", "4"] * 10
    assert scale.verdicts(records, clock)[0] == "index built: 4 s, wanted at most 5"


def test_parts_are_run_by_themselves_and_one_that_fails_does_not_hide_the_others(monkeypatch, capsys):
    asked = []

    def run(command, **_):
        asked.append(command[2:])
        return SimpleNamespace(returncode=int("benchmarks.outside" in command))

    monkeypatch.setattr(subprocess, "run", run)
    assert scale.main(["--quick", "--parts", "shards"]) == []
    with pytest.raises(SystemExit, match=r"Without a result: outside\."):
        scale.main(["--parts", "outside,memory"])
    assert asked == [["benchmarks.shards", "--quick"], ["benchmarks.outside"], ["benchmarks.memory", "--stages"]]
    assert "== shards --quick" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        scale.main(["--parts", "growth,growing"])
    assert "got growing" in capsys.readouterr().err
