"""Weak erasures: the short run has every column, and what is counted is what the numbers say."""

import json

import pytest

from benchmarks import weak


def test_a_short_run(tmp_path, capsys):
    records = weak.main(["--quick", "--out", str(tmp_path / "weak.json")])
    assert "converged_and_weak" in capsys.readouterr().out
    assert json.loads((tmp_path / "weak.json").read_text()) == json.loads(json.dumps(records, default=float))
    assert {r["method"] for r in records} == set(weak.UNLEARNERS)
    of_class = [r for r in records if r["request"].startswith("class")]
    assert of_class
    assert all(r["retrained"] == 0 for r in of_class)
    assert all(0 <= r[name] <= 1 for r in records for name in ("fit", "before", "retrained", "after"))
    assert all(r["converged"] == (r["status"] == "converged") for r in records)


def test_weak_is_thirty_points_above_retraining():
    numbers = [(0.9, 0.5, True), (0.9, 0.5, False), (0.7, 0.5, True), (0.1, 0.9, True)]
    records = [
        {"data": "iris", "method": "m", "after": after, "retrained": retrained, "converged": converged}
        for after, retrained, converged in numbers
    ]
    (row,) = weak.counts(records).itertuples(index=False)
    assert row == pytest.approx((4, 3, 2, 1))


@pytest.mark.parametrize("name", list(weak.DATA))
def test_requests_leave_two_classes(name):
    X, y = weak.DATA[name](0)
    erased = weak.requests(X, y, 0)
    assert len(erased) >= weak.N_CLUSTERS + 2
    assert all(0 < len(rows) < len(y) for rows in erased.values())
