"""The benchmark of the README's table: a line a request, with every method in it, and 1 for retraining."""

import numpy as np
import pytest

from benchmarks import readme


@pytest.mark.parametrize("make", readme.TASKS.values())
def test_tasks_hold_rows_to_erase_and_rows_to_test_on(make):
    task = make(quick=True)
    assert task.requests
    for erased in task.requests.values():
        assert 0 < len(erased) < len(task.X)
        assert len(np.unique(erased)) == len(erased)
    assert len(np.unique(np.concatenate([task.X, task.X_test]), axis=0)) > 0.9 * (len(task.X) + len(task.X_test))


def test_the_user_learnt_by_heart_has_wrong_labels_and_nobody_else():
    task, right = readme.learnt_by_heart(quick=True), readme.digits(quick=True)
    (user,) = task.requests.values()
    assert set(np.flatnonzero(task.y != right.y)) == set(user)


def test_a_short_run_has_every_method(capsys):
    table = readme.main(["--quick", "--seeds", "2", "--references", "2", "--only", "ratings"])
    assert table["erased"].tolist() == ["3 users, 60 of 1200 rows"]
    for method in ("nothing", "continuing", "default", "short", "retraining"):
        assert np.isfinite(table[f"{method}: distance"]).all()
    assert table["retraining: time"].tolist() == [1]
    assert table["nothing: time"].tolist() == [0]
    # Of two retrained models each is as far from the other as they are on average.
    assert table["retraining: distance"][0] == pytest.approx(1)
    assert "3 users" in capsys.readouterr().out
