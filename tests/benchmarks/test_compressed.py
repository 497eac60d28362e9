"""Shorter retraining: the short run has every column, and what is counted is what the numbers say."""

from pathlib import Path

import pytest

from benchmarks import compressed


def test_a_short_run(tmp_path, capsys):
    records = compressed.main(
        [
            "--quick",
            "--only",
            "digits, Adam, constant",
            "--shares",
            "0.3,1.0",
            "--data",
            str(tmp_path),
            "--out",
            str(tmp_path),
        ]
    )
    assert "class or group" in capsys.readouterr().out
    assert (tmp_path / "compressed.json").exists()
    assert {(r["request"], r["share"]) for r in records} == {
        (request, share) for request in ("class 3", "10 %") for share in (0.3, 1.0)
    }
    for r in records:
        assert r["steps"] == pytest.approx(r["share"], abs=0.06)
        assert r["erased"] > 0
        assert r["test"] > 0


def test_fine_is_near_on_erased_and_on_test_rows():
    rows = [(1.0, 1.2), (1.0, 1.4), (1.5, 1.0)]
    records = [
        {
            "variant": f"v{i}",
            "request": "10 %",
            "share": 0.5,
            "seed": seed,
            "cpu": 0.5,
            "steps": 0.5,
            "erased": a,
            "test": b,
        }
        for i, (a, b) in enumerate(rows)
        for seed in (0, 1)
    ]
    (row,) = compressed.counts(compressed.summary(records)).itertuples()
    assert row.Index == (0.5, "random")
    assert (row.fine, row.of) == (1, 3)
    assert row.worst == 1.5


def test_variants_without_data_are_left_out(capsys):
    names = [label for label, _ in compressed.variants(Path("nowhere"), (), quick=True)]
    assert all(not name.startswith(("adult", "fashion")) for name in names)
    assert "left out" in capsys.readouterr().out
