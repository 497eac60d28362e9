"""Deletions from the command line: what they do to files, what they say, and what the shell is told."""

import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline as plain_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import sk_unlearn
from sk_unlearn import UnlearnableClassifier
from sk_unlearn.commands import Exit, main
from sk_unlearn.persistence import exclusive
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.receipts import read_json_lines
from sk_unlearn.unlearners import FineTune

X, y = load_iris(return_X_y=True)
X, y = X[::2], y[::2]
IDS = list(range(1000, 1000 + len(X)))
FRAME = pd.DataFrame(X, columns=list("abcd")).assign(zip=[f"{i % 7:03d}" for i in range(len(X))], kind=y)


def quick():
    return UnlearnableClassifier(unlearner=FineTune(1), random_state=0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Files of a model by identifier and of a pipeline over a mixed table."""
    folder = tmp_path_factory.mktemp("models")
    sk_unlearn.save(quick().fit(X, y, sample_id=IDS), folder / "model.skops")
    steps = make_column_transformer((StandardScaler(), list("abcd")), (OneHotEncoder(), ["zip"]))
    sk_unlearn.save(make_pipeline(steps, quick()).fit(FRAME[[*"abcd", "zip"]], y), folder / "pipe.skops")
    return folder


@pytest.fixture
def here(saved, tmp_path, monkeypatch):
    """Those files, copied to where a test works."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(capsys):
    """A command, as a program calls it."""

    def called(*arguments):
        status = main([*map(str, arguments), "--json", "--traceback"])
        said = capsys.readouterr()
        sys.stderr.write(said.err)  # shown where a test fails
        told = json.loads(said.out)
        assert told["exit"] == status
        return told

    return called


def write(name, *lines):
    Path(name).write_text("".join(f"{line}\n" for line in lines))
    return name


# ---------------------------------------------------------------------------------------------------------- forgetting


def test_forgetting_persons_by_identifier(here, call):
    told = call("forget", "model.skops", "--ids", write("ids.csv", 1003, 1007), "--log", "receipts.jsonl")
    assert (told["exit"], told["status"]) == (0, "forgotten")
    loaded = sk_unlearn.load("model.skops")
    expected = quick().fit(X, y, sample_id=IDS).forget(sample_id=[1003, 1007])
    np.testing.assert_array_equal(loaded.predict_proba(X), expected.predict_proba(X))
    log = read_json_lines("receipts.jsonl", head=loaded.receipts_.head)
    assert log[0].request_id == told["receipts"][0]["request_id"]
    assert (told["n_logged"], told["parts"][0]["n_erased"], log[0].n_erased) == (1, 2, 2)


def test_the_same_request_again_does_no_harm(here, call):
    arguments = "forget", "model.skops", "--log", "receipts.jsonl", "--ids"
    call(*arguments, write("ids.csv", 1003))
    before = Path("model.skops").read_bytes()
    told = call(*arguments, "ids.csv")
    assert (told["exit"], told["n_now"], told["n_erased_before"]) == (0, 0, 1)
    assert Path("model.skops").read_bytes() == before
    told = call(*arguments, write("more.csv", 1003, 1004))
    assert (told["exit"], told["n_now"], told["n_erased_before"]) == (0, 1, 1)
    assert len(read_json_lines("receipts.jsonl")) == 2


def test_a_person_whose_row_was_only_corrected_is_not_taken_for_erased(here, call):
    est = sk_unlearn.load("model.skops")
    est.correct(X[3:4], y_old=y[3:4], X_new=X[3:4] + 1, y_new=y[3:4])
    sk_unlearn.save(est, "model.skops")
    old = FRAME.loc[[3], list("abcd")]
    old.to_csv("old.csv", index=False)
    assert call("forget", "model.skops", "--rows", "old.csv")["exit"] == Exit.REFUSED
    assert call("forget", "model.skops", "--ids", write("ids.csv", 1003))["n_now"] == 1


def test_unknown_identifiers_are_refused_or_skipped(here, call):
    before = Path("model.skops").read_bytes()
    told = call("forget", "model.skops", "--ids", write("ids.csv", 1003, 4711))
    assert told["exit"] == Exit.REFUSED
    assert "the first is number 2" in told["error"]
    assert "4711" not in told["error"]
    assert call("forget", "model.skops", "--ids", write("none.csv", 4711))["exit"] == Exit.REFUSED
    told = call("forget", "model.skops", "--ids", "none.csv", "--skip-unknown")
    assert (told["exit"], told["n_unknown"]) == (Exit.REFUSED, 1)
    assert Path("model.skops").read_bytes() == before
    told = call("forget", "model.skops", "--ids", "ids.csv", "--skip-unknown")
    assert (told["exit"], told["n_now"], told["n_unknown"]) == (0, 1, 1)


def test_a_dry_run_and_another_output(here, call):
    before = Path("model.skops").read_bytes()
    ids = write("ids.csv", 1003)
    told = call("forget", "model.skops", "--ids", ids, "--log", "receipts.jsonl", "--dry-run")
    assert (told["exit"], told["status"]) == (0, "would be forgotten")
    assert not Path("receipts.jsonl").exists()
    told = call("forget", "model.skops", "--ids", ids, "--log", "receipts.jsonl", "--output", "other.skops")
    assert told["exit"] == 0
    assert Path("model.skops").read_bytes() == before
    assert len(sk_unlearn.load("other.skops").training_set_) == len(X) - 1
    # From then on the log knows that the old file is an old one.
    log = Path("receipts.jsonl").read_bytes()
    assert call("forget", "model.skops", "--ids", ids, "--log", "receipts.jsonl", "--dry-run")["exit"] == Exit.RECEIPTS
    assert Path("receipts.jsonl").read_bytes() == log
    assert call("forget", "model.skops", "--ids", ids, "--log", "receipts.jsonl")["exit"] == Exit.RECEIPTS


def test_raw_rows_of_a_pipeline(here, call):
    """Texts that look like numbers stay texts where the command says so, and leave every step."""
    FRAME[3:5].to_csv("rows.csv", index=False)
    assert call("forget", "pipe.skops", "--rows", "rows.csv", "--target", "kind")["exit"] == Exit.REFUSED
    told = call("forget", "pipe.skops", "--rows", "rows.csv", "--target", "kind", "--text-columns", "zip")
    assert (told["exit"], told["n_now"]) == (0, 2)
    scaler = sk_unlearn.load("pipe.skops")[0].named_transformers_["standardscaler"]
    np.testing.assert_allclose(scaler.mean_, np.delete(X, [3, 4], axis=0).mean(axis=0), rtol=1e-10)
    FRAME[6:8].to_json("rows.jsonl", orient="records", lines=True)
    told = call("request", "pipe.skops", "--rows", "rows.jsonl", "--target", "kind")
    assert (told["exit"], told["n_now"]) == (0, 2)


def test_tables_come_back_from_csv_as_they_were(tmp_path, call, monkeypatch):
    """Numbers to the last bit, texts that only look like something else, and gaps."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng()
    n = 40
    odd = ["NA", "nan", "None", "1_000", " 7", "inf", "True", "0x1f"]
    table = pd.DataFrame(
        {
            "any": rng.standard_normal(n) * 10.0 ** rng.integers(-300, 30, n),
            "gaps": np.where(rng.random(n) < 0.3, np.nan, rng.random(n)),
            "whole": rng.integers(-(2**53), 2**53, n),
            "text": rng.choice(odd, n),
            "digits": [f"{i:04d}" for i in rng.integers(0, 99, n)],
            "flag": rng.random(n) < 0.5,
            "day": pd.Timestamp("2026-01-31") + pd.to_timedelta(rng.integers(0, 9999, n), unit="D"),
        }
    )
    table.loc[:1, "gaps"] = [0.5, np.nan]
    columns = make_column_transformer(
        (StandardScaler(), ["flag"]), (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["text"])
    )
    pipe = make_pipeline(columns, quick(), preprocessing="keep").fit(table, np.arange(n) % 2)
    sk_unlearn.save(pipe, "pipe.skops")
    table[: n // 2].to_csv("rows.csv", index=False)
    arguments = "--text-columns", "text", "digits", "--date-columns", "day"
    assert call("forget", "pipe.skops", "--rows", "rows.csv", *arguments, "--dry-run")["n_now"] == n // 2
    assert call("forget", "pipe.skops", "--rows", "rows.csv", *arguments)["exit"] == 0
    assert call("forget", "pipe.skops", "--rows", "rows.csv", *arguments)["n_erased_before"] == n // 2


def test_texts_are_rows(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = [f"word{i % 5} and word{i % 3}" for i in range(30)]
    pipe = make_pipeline(CountVectorizer(), TruncatedSVD(3, random_state=0), quick()).fit(texts, np.arange(30) % 2)
    sk_unlearn.save(pipe, "texts.skops")
    pd.DataFrame({"letter": texts[4:5]}).to_csv("letters.csv", index=False)
    told = call("forget", "texts.skops", "--rows", "letters.csv", "--texts", "letter")
    assert (told["exit"], told["parts"][0]["n_erased"]) == (0, 2)


def test_parts_that_cannot_forget(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = VotingClassifier([("net", plain_pipeline(StandardScaler(), quick())), ("other", LogisticRegression())])
    sk_unlearn.save(model.fit(X, y), "vote.skops")
    pd.DataFrame(X[:1]).to_csv("rows.csv", index=False)
    told = call("forget", "vote.skops", "--rows", "rows.csv")
    assert told["exit"] == Exit.REFUSED
    assert "cannot forget" in told["error"]
    told = call("forget", "vote.skops", "--rows", "rows.csv", "--on-other", "report")
    assert told["exit"] == 0
    assert {each["outcome"] for each in told["others"]} == {"still contains the rows"}
    assert call("settle", "vote.skops")["exit"] == Exit.REFUSED


def test_an_ensemble_has_a_log_for_each_part(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = BaggingClassifier(quick(), 2, bootstrap=False, random_state=0).fit(X, y)
    sk_unlearn.save(model, "bag.skops")
    pd.DataFrame(X[:1]).to_csv("rows.csv", index=False)
    told = call("forget", "bag.skops", "--rows", "rows.csv", "--log", "receipts.jsonl")
    assert sorted(told["logs"]) == ["receipts.1.estimators_-0.jsonl", "receipts.2.estimators_-1.jsonl"]
    for log in told["logs"]:
        told = call("verify", log, "--model", "bag.skops")
        assert (told["exit"], told["n_receipts"], told["agrees"]) == (0, 1, {"parameters": True, "rows": True})


@pytest.mark.parametrize(
    ("name", "content", "arguments", "message"),
    [
        ("rows.csv", None, [], "cannot be read as a table (FileNotFoundError)"),
        ("rows.jsonl", b'{"a": 1', [], "cannot be read as a table (JSONDecodeError)"),
        ("rows.parquet", b"secret", [], "--rows: "),
        ("rows.csv", b"a,b\n1,2\n", ["--text-columns", "zip"], "the table has no column zip"),
        ("rows.csv", b"a,b\n1,2\n", ["--target", "kind"], "the table has no column kind"),
        ("rows.csv", b"a,b\n1,secret\n", ["--date-columns", "b"], "cannot be read as a table"),
    ],
    ids=["absent", "half", "parquet", "column", "target", "date"],
)
def test_tables_that_cannot_be_read_are_not_quoted(here, call, name, content, arguments, message):
    if content is not None:
        Path(name).write_bytes(content)
    told = call("forget", "pipe.skops", "--rows", name, *arguments)
    assert told["exit"] == Exit.USAGE
    assert message in told["error"]
    assert "secret" not in told["error"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (FileNotFoundError)"),
        (b"a\xff\n", "no CSV in UTF-8"),
        (b'"secret"x\n', "no CSV in UTF-8"),
    ],
    ids=["absent", "bytes", "quotes"],
)
def test_identifiers_that_cannot_be_read_are_not_quoted(here, call, content, message):
    if content is not None:
        Path("ids.csv").write_bytes(content)
    told = call("forget", "model.skops", "--ids", "ids.csv")
    assert told["exit"] == Exit.USAGE
    assert message in told["error"]
    assert "secret" not in told["error"]


def test_days_in_json_lines_and_columns_without_a_value(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    days = pd.Timestamp("2026-01-31") + pd.to_timedelta(np.arange(30), unit="D")
    table = pd.DataFrame({"day": days, "empty": np.nan, "text": np.array(["u", "v"])[np.arange(30) % 2]})
    steps = make_column_transformer((OneHotEncoder(sparse_output=False), ["text"]))
    sk_unlearn.save(make_pipeline(steps, quick(), preprocessing="keep").fit(table, np.arange(30) % 2), "pipe.skops")
    lines = [json.dumps({"day": f"{day:%Y-%m-%d}", "empty": None, "text": "uv"[i]}) for i, day in enumerate(days[:2])]
    told = call("forget", "pipe.skops", "--rows", write("rows.jsonl", *lines), "--date-columns", "day", "--dry-run")
    assert (told["exit"], told["n_now"]) == (0, 2)
    table[:2].to_csv("rows.csv", index=False)
    assert call("forget", "pipe.skops", "--rows", "rows.csv", "--date-columns", "day")["n_now"] == 2


def test_a_part_that_did_not_learn_a_row_reports_nothing_of_it(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipe = make_pipeline(StandardScaler(), quick())  # to which rows go without weights
    model = BaggingClassifier(pipe, 2, max_samples=0.5, bootstrap=False, random_state=0).fit(X, y)
    sk_unlearn.save(model, "bag.skops")
    first, second = (set(each.tolist()) for each in model.estimators_samples_)
    pd.DataFrame(X[[min(first - second)]]).to_csv("rows.csv", index=False)
    told = call("forget", "bag.skops", "--rows", "rows.csv")
    assert [(part["n_known"], part.get("n_erased")) for part in told["parts"]] == [(1, 1), (0, None)]
    told = call("audit", "bag.skops", "--erased", "rows.csv", "--test", "rows.csv", "--record")
    assert (told["exit"], "keeps no receipts of its own" in told["error"]) == (Exit.REFUSED, True)


# -------------------------------------------------------------------------------------------------------- identifiers


@pytest.mark.parametrize("hash_ids", [False, True])
def test_the_model_says_whether_an_identifier_is_a_number(tmp_path, call, monkeypatch, hash_ids):
    monkeypatch.chdir(tmp_path)
    ids = [*IDS[:-2], "7", "007"]
    est = UnlearnableClassifier(unlearner=FineTune(1), hash_ids=hash_ids, random_state=0).fit(X, y, sample_id=ids)
    sk_unlearn.save(est, "model.skops")
    told = call("forget", "model.skops", "--ids", write("ids.csv", 1003, "7", "007"))
    assert (told["exit"], told["n_now"]) == (0, 3)
    assert call("forget", "model.skops", "--ids", "ids.csv", "--id-type", "str")["exit"] == Exit.REFUSED
    assert call("forget", "model.skops", "--ids", "ids.csv")["n_erased_before"] == 3
    assert call("forget", "model.skops", "--ids", write("int.csv", 1004), "--id-type", "int")["n_now"] == 1
    assert call("forget", "model.skops", "--ids", write("bad.csv", "x1"), "--id-type", "int")["exit"] == Exit.USAGE


def test_an_identifier_that_is_known_as_both_has_to_be_named(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sk_unlearn.save(quick().fit(X, y, sample_id=[*IDS[:-2], 7, "7"]), "model.skops")
    told = call("forget", "model.skops", "--ids", write("ids.csv", "7"))
    assert told["exit"] == Exit.USAGE
    assert "both as a number and as a text" in told["error"]
    assert call("forget", "model.skops", "--ids", "ids.csv", "--id-type", "str")["n_now"] == 1


def test_tables_of_identifiers(here, call, monkeypatch):
    table = write("table.csv", "name,customer", '"Doe, J",1003', "Roe,1004")
    assert call("forget", "model.skops", "--ids", table)["exit"] == Exit.USAGE
    assert call("forget", "model.skops", "--ids", table, "--id-column", "number")["exit"] == Exit.USAGE
    assert call("forget", "model.skops", "--ids", write("gap.csv", "id,x", ",1"), "--id-column", "id")["exit"] == 2
    assert call("forget", "model.skops", "--ids", table, "--id-column", "customer")["n_now"] == 2
    # A heading is not taken for one unless that is said: the first person would be left out.
    told = call("forget", "model.skops", "--ids", write("headed.csv", "customer", 1005))
    assert (told["exit"], "number 1." in told["error"]) == (Exit.REFUSED, True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("1006\n\n1008\n"))
    assert call("forget", "model.skops", "--ids", "-")["n_now"] == 2
    told = call("forget", "model.skops", "--ids", write("empty.csv"))
    assert (told["exit"], told["status"]) == (0, "nothing asked")


# --------------------------------------------------------------------------------------------------- requests that wait


def test_requests_wait_and_are_settled_together(here, call):
    for number, moment in ((1003, "2020-01-31T09:30:00+01:00"), (1004, "2020-02-01T00:00:00Z")):
        told = call("request", "model.skops", "--ids", write("ids.csv", number), "--received", moment)
        assert told["exit"] == 0
    shown = call("show", "model.skops")
    (part,) = shown["parts"].values()
    assert [each["deadline"] for each in part["pending"]] == ["2020-02-29T08:30:00+00:00", "2020-03-01T00:00:00+00:00"]
    assert shown["n_overdue"] == 2
    assert part["n_rows"] == len(X)
    told = call("settle", "model.skops", "--log", "receipts.jsonl")
    assert (told["exit"], told["n_settled"], told["n_late"], told["n_erased"]) == (0, 2, 2, 2)
    (part,) = call("show", "model.skops")["parts"].values()
    assert (part["n_rows"], part["pending"]) == (len(X) - 2, [])
    assert part["newest_receipt"]["request_id"] == told["receipts"][0]["request_id"]
    told = call("settle", "model.skops", "--log", "receipts.jsonl")
    assert (told["exit"], told["status"]) == (0, "nothing pending")


def test_requests_are_tried_out_and_not_written_twice(here, call):
    ids = write("ids.csv", 1003)
    told = call("request", "model.skops", "--ids", ids, "--dry-run")
    assert (told["exit"], told["status"]) == (0, "would wait")
    assert call("settle", "model.skops")["status"] == "nothing pending"
    call("request", "model.skops", "--ids", ids)
    told = call("settle", "model.skops", "--dry-run")
    assert (told["exit"], told["status"], told["n_erased"]) == (0, "would be settled", 1)
    assert call("settle", "model.skops")["n_settled"] == 1
    told = call("request", "model.skops", "--ids", ids)
    assert (told["exit"], told["n_erased_before"], told["status"]) == (0, 1, "nothing to forget")


@pytest.mark.parametrize("moment", ["2026-01-31T09:30:00", "soon"])
def test_a_moment_needs_a_time_zone(here, call, moment):
    told = call("request", "model.skops", "--ids", write("ids.csv", 1003), "--received", moment)
    assert told["exit"] == Exit.USAGE


# ------------------------------------------------------------------------------------------------------------ receipts


def test_what_a_kill_left_of_the_log_is_repaired_by_the_next_run(here, call):
    """The model is in its place, and the log has nothing, half a line or no file of it yet."""
    call("forget", "model.skops", "--ids", write("ids.csv", 1003), "--log", "receipts.jsonl")
    short = Path("receipts.jsonl").read_bytes()
    call("forget", "model.skops", "--ids", write("ids.csv", 1004), "--log", "receipts.jsonl")
    whole = Path("receipts.jsonl").read_bytes()
    for left in (short, short + whole[len(short) :][:100], None):
        Path("receipts.jsonl").unlink()
        if left is not None:
            Path("receipts.jsonl").write_bytes(left)
        told = call("forget", "model.skops", "--ids", "ids.csv", "--log", "receipts.jsonl")
        assert (told["exit"], told["n_erased_before"]) == (0, 1)
        assert Path("receipts.jsonl").read_bytes() == whole


def test_an_old_copy_of_the_model_is_refused(here, call):
    shutil.copy("model.skops", "backup.skops")
    call("forget", "model.skops", "--ids", write("ids.csv", 1003), "--log", "receipts.jsonl")
    told = call("forget", "backup.skops", "--ids", write("ids.csv", 1004), "--log", "receipts.jsonl")
    assert told["exit"] == Exit.RECEIPTS
    assert "old copy" in told["error"]
    assert call("verify", "receipts.jsonl", "--model", "backup.skops")["exit"] == Exit.RECEIPTS
    assert len(sk_unlearn.load("backup.skops").training_set_) == len(X)


def test_verifying(here, call):
    call("forget", "model.skops", "--ids", write("ids.csv", 1003), "--log", "receipts.jsonl")
    first = Path("receipts.jsonl").read_bytes()
    call("forget", "model.skops", "--ids", write("ids.csv", 1004), "--log", "receipts.jsonl")
    head = sk_unlearn.load("model.skops").receipts_.head
    assert call("verify", "receipts.jsonl", "--head", head)["n_receipts"] == 2
    assert call("verify", "receipts.jsonl", "--head", "0" * 64)["exit"] == Exit.RECEIPTS
    assert call("verify", "receipts.jsonl", "--model", "model.skops")["agrees"] == {"parameters": True, "rows": True}
    assert call("verify", "receipts.jsonl", "--model", "pipe.skops")["exit"] == Exit.RECEIPTS
    Path("short.jsonl").write_bytes(first)
    assert call("verify", "short.jsonl", "--model", "model.skops")["exit"] == Exit.LOG_BEHIND
    Path("edited.jsonl").write_bytes(first.replace(b'"n_erased":1', b'"n_erased":2'))
    assert call("verify", "edited.jsonl")["exit"] == Exit.RECEIPTS
    assert call("verify", "absent.jsonl")["exit"] == Exit.MODEL_FILE


def test_verifying_against_a_copy_that_went_another_way_or_keeps_no_rows(here, call):
    shutil.copy("model.skops", "copy.skops")
    call("forget", "model.skops", "--ids", write("ids.csv", 1003), "--log", "receipts.jsonl")
    call("forget", "copy.skops", "--ids", write("ids.csv", 1004))
    told = call("verify", "receipts.jsonl", "--model", "copy.skops")
    assert told["exit"] == Exit.RECEIPTS
    assert "is another one than that of the model" in told["error"]
    sk_unlearn.save(sk_unlearn.load("model.skops"), "bare.skops", rows=False)
    assert call("verify", "receipts.jsonl", "--model", "bare.skops")["agrees"] == {"parameters": True}


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a folder that cannot be written to")
def test_a_log_that_cannot_be_written_changes_nothing(here, call):
    os.mkdir("locked", 0o500)
    told = call("forget", "model.skops", "--ids", write("ids.csv", 1003), "--log", "locked/receipts.jsonl")
    assert told["exit"] == Exit.MODEL_FILE


def test_a_log_in_a_folder_that_is_not_there_changes_nothing(here, call):
    before = Path("model.skops").read_bytes()
    told = call("forget", "model.skops", "--ids", write("ids.csv", 1003), "--log", "absent/receipts.jsonl")
    assert told["exit"] == Exit.MODEL_FILE
    assert Path("model.skops").read_bytes() == before


# --------------------------------------------------------------------------------------------------------------- audit


def test_an_audit_is_recorded(here, call):
    columns = list("abcd")
    numbers = FRAME[[*columns, "kind"]]
    numbers[3:9].to_csv("erased.csv", index=False)
    numbers[9:40].to_csv("test.csv", index=False)
    call("forget", "model.skops", "--ids", write("ids.csv", *IDS[3:9]), "--log", "receipts.jsonl")
    told = call(
        "audit", "model.skops", "--erased", "erased.csv", "--test", "test.csv", "--target", "kind", "--html",
        "report.html", "--record", "--log", "receipts.jsonl",
    )  # fmt: skip
    assert told["n_still_stored"] == 0
    assert told["exit"] == (0 if told["verdict"] in ("closer", "within") else 1)
    assert "<html" in Path("report.html").read_text()
    assert read_json_lines("receipts.jsonl")[-1].audit["verdict"] == told["verdict"]


# --------------------------------------------------------------------------------------------------------------- usage


def test_model_files_that_cannot_be_used(here, call):
    ids = write("ids.csv", 1003)
    assert call("forget", "absent.skops", "--ids", ids)["exit"] == Exit.MODEL_FILE
    assert not Path(".absent.skops.lock").exists()
    content = bytearray(Path("model.skops").read_bytes())
    content[500] ^= 1
    Path("damaged.skops").write_bytes(content)
    assert "damaged" in call("forget", "damaged.skops", "--ids", ids)["error"]
    with exclusive("model.skops"):
        told = call("forget", "model.skops", "--ids", ids, "--wait", "0.1")
        assert told["exit"] == Exit.MODEL_FILE
        assert "Another process" in told["error"]
    assert call("forget", "model.skops")["exit"] == Exit.USAGE


class Struck(FineTune):
    """A method that fails as nobody expected, with a row in its message."""

    def unlearn(self, problem):
        raise RuntimeError("secret")


def test_an_error_that_nobody_expected_is_not_quoted(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sk_unlearn.save(UnlearnableClassifier(unlearner=Struck(1), random_state=0).fit(X, y, sample_id=IDS), "model.skops")
    before = Path("model.skops").read_bytes()
    names = sk_unlearn.persistence.untrusted_types("model.skops")
    arguments = ["forget", "model.skops", "--ids", write("ids.csv", 1003), "--trusted", *names]
    assert main(arguments) == Exit.UNEXPECTED
    said = capsys.readouterr()
    assert said.err == "sk-unlearn forget: Unexpected RuntimeError; --traceback shows more.\n"
    assert Path("model.skops").read_bytes() == before


def test_arguments_that_are_no_command(capsys):
    for arguments in ([], ["forgive", "model.skops"], ["forget"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == Exit.USAGE
    with pytest.raises(SystemExit) as stopped:
        main(["forget", "--help"])
    assert stopped.value.code == 0
    assert "exit status" in capsys.readouterr().out


def test_no_identifier_and_no_row_is_said_or_left(here, capsys):
    """Neither in what is printed, nor in the model, the log or any other file once the request is done."""
    est = quick().fit(X, y, sample_id=[f"customer-{i:04d}" for i in range(len(X))])
    sk_unlearn.save(est, "named.skops")
    secret = "customer-0003"
    assert secret.encode("utf-32-le") in Path("named.skops").read_bytes()
    ids = write("../ids-elsewhere.csv", secret)
    for _ in range(2):
        assert main(["forget", "named.skops", "--ids", ids, "--log", "receipts.jsonl"]) == 0
    assert main(["forget", "named.skops", "--ids", write("../others.csv", secret, "customer-9999")]) == 1
    captured = capsys.readouterr()
    assert "customer-" not in captured.out + captured.err
    Path(ids).unlink()
    Path("../others.csv").unlink()
    for path in here.iterdir():
        for code in ("utf-8", "utf-32-le"):  # texts of several are kept by numpy, in its own code
            assert secret.encode(code) not in path.read_bytes(), path.name


def test_the_module_is_the_command(here, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sk-unlearn", "show", "model.skops"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("sk_unlearn", run_name="__main__")
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("show: shown\n")


def test_as_a_module(here):
    """What a shell gets: the result on stdout, messages on stderr, and the status."""
    write("ids.csv", 4711)
    done = subprocess.run(
        [sys.executable, "-m", "sk_unlearn", "forget", "model.skops", "--ids", "ids.csv"],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(Path(sk_unlearn.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == Exit.REFUSED
    assert done.stdout == "forget: refused\n"
    assert done.stderr.startswith("sk-unlearn forget: No part of the model knows any of the 1 ")
