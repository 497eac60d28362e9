"""Shards against one model: the short run has every column, and what is exact agrees with a fresh fit."""

from benchmarks import shards


def test_a_short_run(tmp_path, capsys):
    records = shards.main(["--quick", "--out", str(tmp_path)])
    assert "touched" in capsys.readouterr().out
    assert (tmp_path / "shards.json").exists()
    assert {r["way"] for r in records} == {
        "one model, default",
        "one model, Retrain",
        "4 shards",
        "2 shards of 2 slices",
    }
    for r in records:
        if r["way"] != "one model, default":
            assert r["agree"] == 1
        if r["persons"] == 1:
            assert r["touched"] == 1
    table = shards.summary(records)
    assert (table["request"] > 0).all()
