"""Shards against one model: the short run has every column, and what is exact agrees with a fresh fit."""

from benchmarks import shards


def test_a_short_run(tmp_path, capsys):
    records = shards.main(["--quick", "--out", str(tmp_path)])
    told = capsys.readouterr().out
    assert all(title in told for title in ("touched", "A day", "Persons of 20 rows", "Accuracy by rows and shards"))
    assert (tmp_path / "shards.json").exists()
    requests = records["requests"]
    assert {r["way"] for r in requests} == {
        "one model, default",
        "one model, Retrain",
        "4 shards",
        "2 shards of 2 slices",
    }
    for r in requests:
        if r["way"] != "one model, default":
            assert r["agree"] == 1
        if r["persons"] == 1:
            assert r["touched"] == 1
    table = shards.summary(requests)
    assert (table["request"] > 0).all()
    day = shards.days(table)
    assert (day[10, "one by one"] == 10 * day[1, "together"]).all()
    touched = {(r["way"], r["named"]): r["touched"] for r in records["spread"]}
    assert (touched["4 shards", True], touched["4 shards", False]) == (1, 4)
    assert len(records["rows"]) == 8
