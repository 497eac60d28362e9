"""The built-in network beside others: the short run has every column, and what is ahead is what the numbers say."""

import json

import pytest

from benchmarks import built_in


def test_a_short_run(tmp_path, capsys):
    records = built_in.main(["--quick", "--out", str(tmp_path / "built_in.json")])
    assert "ahead by" in capsys.readouterr().out
    assert json.loads((tmp_path / "built_in.json").read_text()) == json.loads(json.dumps(records, default=float))
    assert [(r["table"], r["seed"]) for r in records] == [("iris", 0), ("iris", 1), ("diabetes", 0), ("diabetes", 1)]
    assert all(r[name] <= 100 for r in records for name in ("before", "now", "linear", "mlp", "now_train"))


def test_ahead_is_of_the_better_rival_split_by_split():
    numbers = [(90, 80, 85), (90, 95, 70), (90, 60, 89)]
    seconds = {f"{name}_{what}": 1.0 for name in ("before", "now", "mlp") for what in ("seconds", "train")}
    records = [
        {"table": "iris", "rows": 1, "columns": 1, "before": 0, "now": now, "linear": linear, "mlp": mlp} | seconds
        for now, linear, mlp in numbers
    ]
    (row,) = built_in.summary(records).to_dict("records")
    assert row["ahead"] == 1
    assert row["chosen on"]


def test_tables_that_are_absent_or_unknown(tmp_path, capsys):
    assert built_in.main(["--only", "spam", "--data", str(tmp_path)]) == []
    assert "left out" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        built_in.main(["--only", "nonsense"])
