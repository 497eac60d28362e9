"""The stages side by side: the short run has every column, and the verdicts follow from the numbers."""

import json

import numpy as np
import pytest

from benchmarks import stages
from benchmarks._stage_tasks import builders


def test_a_short_run(tmp_path):
    told = []
    arguments = ["--quick", "--seeds", "1", "--references", "2", "--cells", "built-in cancer"]
    arguments += ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    lines = stages.main(arguments, told.append)
    records = json.loads((tmp_path / "out" / "stages.json").read_text())["records"]
    assert {record["stage"] for record in records} == {*stages.STAGES, "auto"}
    assert set(lines["request"]) == {"one row", "10 %", "group"}
    assert all(record["score"] >= 1 for record in records)
    assert np.isfinite(lines[["ratio", "kernel", "fit", "gap", "regret", "harm"]].to_numpy()).all()
    assert told[-1] == stages.summary(lines)


def test_without_data_only_what_comes_with_scikit_learn_is_left(tmp_path):
    kinds = builders(tmp_path, quick=True)
    assert {"digits-sgd", "digits-bn5", "attention", "ratings", "built-in cancer"} <= set(kinds)
    assert not any(key.startswith(("wine", "adult", "fashion")) for key in kinds)


@pytest.mark.parametrize("key", ["attention", "ratings", "digits-bn5"])
def test_requests_leave_most_rows(tmp_path, key):
    task = builders(tmp_path, quick=True)[key]()
    assert all(0 < len(erased) < len(task.X) / 2 for erased in task.requests.values())
    assert len(np.unique(task.X, axis=0)) == len(task.X)


def _record(stage, score, cost, seed=0):
    signals = dict.fromkeys(("ratio", "kernel", "steps of a fifth", "fit", "gap", "erased share", "left"), 1.0)
    return {"cell": "a", "request": "b", "stage": stage, "seed": seed, "score": score, "cost": cost, "renewal": "no",
            "reads all": False, **signals}  # fmt: skip


def test_regret_is_over_the_best_that_can_be_afforded():
    records = [
        *(_record("nothing", 2.0, 0.0), _record("steps", 1.5, 0.1), _record("teacher", 1.2, 0.35)),
        *(_record("FineTune", 1.0, 0.35), _record("auto", 1.5, 0.1)),
    ]
    (line,) = stages.table(records).itertuples()
    assert (line.best, line.regret, line.harm) == ("teacher", pytest.approx(1.25), pytest.approx(0.75))
    assert stages.summary(stages.table(records)) == "1 cells: 0 hits (0%), 0 harms, worst regret 1.25"
