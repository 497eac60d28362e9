"""The table of the cubic paper: a short run has every part, and what is known of the truth is known of the rows."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import papers
from benchmarks._measure import forgetful
from benchmarks._papers_tasks import NETS, PAIRS, PARTS, ROUNDS, SWAPPED, images, problems
from benchmarks._rivals import NO_OP, Method, PlainDELETE
from sk_unlearn.metrics import tug_of_war
from sk_unlearn.unlearners import Retrain, Unlearner


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return images(tmp_path_factory.mktemp("none"), 300, quick=True)


def test_a_short_run(tmp_path, capsys):
    cheap = ["no-op", "Retrain", "DELETE, published"]
    records = papers.main(["--quick", "--net", "small", "--methods", *cheap, "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert list(dict.fromkeys(r["part"] for r in records)) == list(PARTS)
    for request in dict.fromkeys(r["request"] for r in records):
        assert [r["method"] for r in records if r["request"] == request] == ["retrained", *cheap]
        assert f"### {request}\n" in printed
    for part in PARTS:
        saved = json.loads((tmp_path / f"papers_small_{part}.json").read_text())
        assert saved["records"] == json.loads(json.dumps([r for r in records if r["part"] == part], default=float))
    assert all(0 <= r[name] <= 1 for r in records for name in ("score_erased", "score_test", "tow"))
    assert all(np.isfinite(r["confused"]) == (r["part"] == "confusion") for r in records)
    shown = {r["request"]: r["published"] for r in records if np.isfinite(r.get("published", np.nan))}
    assert shown == {"class": 0.99, "sample": 0.85}


def test_methods_that_are_unknown_and_data_that_are_absent(tmp_path):
    for arguments in (["--quick", "--methods", "PseudoInverseNewton, published"], ["--data", str(tmp_path)]):
        with pytest.raises(SystemExit):
            papers.parse(arguments)
    assert papers.parse(["--quick", "--net", "small", "--methods", "PseudoInverseNewton, published"]).methods


@pytest.mark.parametrize("net", list(NETS))
def test_what_was_published_is_beside_what_is_run_as_published(net):
    names = [method.name for method in papers.compared(NETS[net])]
    as_published = {name.split(",")[0] for name in names if ", published" in name}
    assert as_published == set(papers.PUBLISHED) - (set() if NETS[net].dense else {"PseudoInverseNewton"})


@pytest.mark.parametrize("seed", [0, 1])
def test_only_erased_rows_have_wrong_labels(rows, seed):
    X, y, *_ = rows
    for part in PARTS:
        for problem in problems(part, rows, NETS["cnn"], seed):
            task, erased = problem.task, problem.erased
            wrong = np.flatnonzero(task.y != y)
            if part in ("canaries", "confusion"):
                np.testing.assert_array_equal(np.sort(erased), wrong)
            else:
                assert not len(wrong)
            assert len(problem.pieces) == (ROUNDS if part == "rounds" else 1)
            np.testing.assert_array_equal(np.sort(np.concatenate(problem.pieces)), np.sort(erased))
            np.testing.assert_array_equal(task.X, X)
    (swapped,) = problems("confusion", rows, NETS["cnn"], seed)
    a, b = PAIRS[seed]
    for true, label in ((a, b), (b, a)):
        of_class = np.flatnonzero(y == true)
        assert np.mean(swapped.task.y[of_class] == label) == pytest.approx(SWAPPED, abs=0.5 / len(of_class))


def test_confusion_is_counted_between_the_two_classes(rows):
    (problem,) = problems("confusion", rows, NETS["cnn"], 0)
    a, b = problem.pair
    true = problem.task.y_test
    swapped = np.where(true == a, b, np.where(true == b, a, true))
    third = next(c for c in range(10) if c not in problem.pair)
    assert problem.confused(np.eye(10)[true]) == 0
    assert problem.confused(np.eye(10)[swapped]) == 1
    assert problem.confused(np.eye(10)[np.full(len(true), third)]) == 0
    assert problem.confused(np.eye(10)[np.full(len(true), a)]) == pytest.approx(
        np.mean(true[np.isin(true, [a, b])] == b)
    )


def test_a_method_that_fails_has_a_line_and_the_others_are_measured(rows):
    class Diverging(Unlearner):
        def unlearn(self, problem):
            raise FloatingPointError("the step is not finite")

    bench = papers.Bench(rows, replace(NETS["small"], epochs=2))
    records = list(bench.records("sample", 0, [Method("diverging", "", Diverging()), NO_OP]))
    assert [r["method"] for r in records] == ["retrained", "diverging", "no-op"]
    assert records[1]["ended"] == "failed"
    assert records[1]["stopped"] == "the step is not finite"
    assert "| diverging |" in papers.table(records)
    assert papers.line(records[1]).endswith("failed")


def test_the_rival_without_brakes_makes_all_its_passes(rows):
    bench = papers.Bench(rows, replace(NETS["small"], epochs=5))
    (problem,) = problems("class", rows, bench.net, 0)
    fitted, ruler = bench.fitted(problem, 0), bench.ruler(problem, 0)
    losses = []
    for passes in (5, 20):
        model, _ = forgetful(fitted, problem.task, problem.erased, PlainDELETE(passes, 1e-2))
        losses.append(model.unlearning_report_.erased_loss_after)
    assert losses[1] > losses[0] > -ruler.yardstick.log_likelihood(fitted, *ruler.members).mean()


def test_rounds_add_up_and_are_measured_at_the_end(rows):
    bench = papers.Bench(rows, replace(NETS["small"], epochs=2))
    once, many = next(problems("class", rows, bench.net, 0)), next(problems("rounds", rows, bench.net, 0))
    fitted, ruler = bench.fitted(once, 0), bench.ruler(once, 0)
    assert bench.fitted(many, 0) is fitted
    assert bench.ruler(many, 0) is ruler
    method = Method("Retrain", "reference", Retrain())
    one, five = (papers.asked(problem, method, fitted, ruler) for problem in (once, many))
    assert five["score_erased"] == one["score_erased"] == 0
    assert five["moved"] > 0
    nothing = papers.asked(many, NO_OP, fitted, ruler)
    assert nothing["moved"] == nothing["time"] == 0
    means = papers.retrained(once, ruler)
    a, b, c = ruler.scores
    assert means["tow"] == pytest.approx(np.mean([tug_of_war(a, b), tug_of_war(a, c), tug_of_war(b, c)]))
    assert means["score_erased"] == 0
