"""The frontier benchmark: its tasks build, its yardstick is the published one, its verdicts follow from its numbers."""

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import _verdicts, frontier, sequence
from benchmarks._measure import Clock, PeakMemory, Yardstick, forgetful
from benchmarks._pictures import draw_frontier, draw_sequences
from benchmarks._rivals import ContinueLBFGS, DenseNewton, Method, WarmStart, default_method, rivals
from benchmarks._tasks import Anneal, PenalisedLBFGS, adult_task, digits_task, full_batch_task, housing_task, tasks
from sk_unlearn.metrics import distance_ratio, retrain_distance
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import FineTune, Retrain
from tests._problems import parameters


@pytest.fixture(scope="module")
def task():
    return digits_task(200, 1, 50)


@pytest.fixture
def cheap(monkeypatch):
    """Let the default take one step, and be neither cut off nor forced on."""
    monkeypatch.setattr(frontier, "shorter", lambda: iter([]))
    monkeypatch.setattr(frontier, "longer", lambda n_steps: iter([]))
    for module in (frontier, sequence):
        monkeypatch.setattr(module, "default_method", lambda: default_method(max_steps=1, n_products=2))


@pytest.fixture(scope="module")
def measured(task):
    fitted = {seed: task.estimator(seed).fit(task.X, task.y) for seed in range(3)}
    erased = task.requests["10 %"]
    retrained = {seed: forgetful(model, task, erased, Retrain())[0] for seed, model in fitted.items()}
    return fitted, retrained, Yardstick(task, erased, retrained)


@pytest.fixture(scope="module")
def exact():
    """A full-batch task, fitted."""
    task = full_batch_task("mlp", 60, 1e-6, 500, 4)
    return task, task.estimator(0).fit(task.X, task.y)


def test_requests_are_rows_and_nest_as_named(task):
    assert list(task.requests) == ["one row", "1 %", "10 %", "half a class", "whole class"]
    assert [len(task.requests[r]) for r in ("one row", "1 %", "10 %")] == [1, 2, 20]
    assert set(task.requests["half a class"]) < set(task.requests["whole class"])
    assert (task.y[task.requests["whole class"]] == 3).all()
    assert not (np.delete(task.y, task.requests["whole class"]) == 3).any()


def test_networks_have_the_sizes_stated(task):
    def size(net):
        return sum(p.numel() for p in net.initialize().module_.parameters())

    assert size(task.net()) == 8970
    assert size(full_batch_task("mlp").net()) == 2410
    assert size(full_batch_task("cnn").net()) == 810


def test_absent_data_are_left_out_with_a_line(tmp_path, capsys):
    assert list(tasks("b", tmp_path)) == []
    assert capsys.readouterr().out.count("left out") == 2
    with pytest.raises(ValueError, match="--tasks"):
        list(tasks("e", tmp_path))


def test_regression_falls_back_to_diabetes(tmp_path):
    task = housing_task(tmp_path, epochs=1)
    assert len(task.X) + len(task.X_test) == 442
    assert len(task.requests["top decile"]) == pytest.approx(0.1 * len(task.X), abs=2)


def test_adult_erases_an_occupation(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.integers(0, 1000, (60, 15)))
    table[6] = np.where(rng.random(60) < 0.3, "Exec-managerial", "Sales")
    table[14] = np.where(rng.random(60) < 0.3, ">50K", "<=50K")
    (tmp_path / "adult").mkdir()
    table.to_csv(tmp_path / "adult" / "adult.data.gz", header=False, index=False)
    task = adult_task(tmp_path, epochs=1)
    assert 0 < len(task.requests["whole group"]) < len(task.X)
    assert set(task.y) == {0, 1}


def test_penalised_lbfgs_minimises_loss_plus_penalty():
    A, b = torch.randn(20, 3, dtype=torch.float64), torch.randn(20, dtype=torch.float64)
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = PenalisedLBFGS([w], weight_decay=0.3, max_iter=200, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        optimiser.zero_grad()
        loss = ((A @ w - b) ** 2).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    exact = torch.linalg.solve(2 * A.T @ A / 20 + 0.3 * torch.eye(3, dtype=torch.float64), 2 * A.T @ b / 20)
    torch.testing.assert_close(w.detach(), exact)


def test_full_batch_fit_reaches_the_gradient_stated(exact):
    fitted = exact[1]
    risk = EmpiricalRisk(fitted.net_, fitted.training_set_.X, fitted.training_set_.y)
    assert float(risk.gradient(flat_parameters(fitted.net_)).abs().max()) <= 1e-6
    assert bool((risk.weight_decay > 0).any())


def test_anneal_ends_at_zero_whatever_the_number_of_rows(task):
    for n in (200, 130):
        est = task.estimator(0).fit(task.X[:n], task.y[:n])
        anneal = dict(est.net_.callbacks_)["anneal"]
        assert anneal.step_ == anneal.n_steps_ == -(-n // 128)


def test_warm_start_of_whole_epochs_is_fine_tuning(task):
    fitted = task.estimator(0).set_params(estimator__batch_size=20).fit(task.X, task.y)
    ours, theirs = (forgetful(fitted, task, np.arange(20), unlearner)[0] for unlearner in (WarmStart(2.0), FineTune(2)))
    torch.testing.assert_close(flat_parameters(ours.net_), flat_parameters(theirs.net_))


def test_warm_start_of_a_quarter_epoch_takes_a_quarter_of_the_batches(task, monkeypatch):
    fitted = task.estimator(0).set_params(estimator__batch_size=10).fit(task.X, task.y)
    batches, on_batch_end = [], Anneal.on_batch_end

    def counted(self, net, batch=None, training=False, **kwargs):
        batches.append(training)
        on_batch_end(self, net, batch, training, **kwargs)

    monkeypatch.setattr(Anneal, "on_batch_end", counted)
    forgetful(fitted, task, np.arange(40), WarmStart(0.25))
    assert sum(batches) == 4  # of the 16 batches of 10 in 160 rows


def test_continued_lbfgs_arrives_at_the_retained_optimum(exact):
    task, fitted = exact
    erased = task.requests["20 %"]
    model, _ = forgetful(fitted, task, erased, ContinueLBFGS(2000, 1e-8))
    rows = model.training_set_
    risk = EmpiricalRisk(model.net_, rows.X, rows.y)
    assert float(risk.gradient(flat_parameters(model.net_)).abs().max()) <= 1e-7


def test_dense_newton_solves_its_system(exact):
    task, fitted = exact
    erased = task.requests["20 %"]
    kept = np.setdiff1d(np.arange(len(task.X)), erased)
    w = flat_parameters(fitted.net_)
    risk = EmpiricalRisk(fitted.net_, task.X[kept], task.y[kept])
    for damping in (1e-1, 0.0):
        model, _ = forgetful(fitted, task, erased, DenseNewton(damping))
        step = flat_parameters(model.net_) - w
        residual = risk.linearise(w).hessian(step) + damping * step + risk.gradient(w)
        assert float(residual.norm()) < 1e-6 * float(risk.gradient(w).norm())


def test_yardstick_agrees_with_the_metrics(task, measured):
    fitted, retrained, yardstick = measured
    got = yardstick.measure(fitted[1], 1)
    X = task.X[task.requests["10 %"]]
    references = list(retrained.values())
    assert got["ratio_erased"] == pytest.approx(distance_ratio(fitted[1], references, X))
    assert got["js_test"] == pytest.approx(retrain_distance(fitted[1], retrained[1], task.X_test))
    assert got["same_test"] == pytest.approx(got["js_test"] / yardstick.floor["test"])
    assert got["score_test"] == pytest.approx(fitted[1].score(task.X_test, task.y_test))
    assert yardstick.measure(retrained[1], 1)["same_erased"] == 0


def test_default_method_is_the_default(task):
    X, y = task.X[:100], task.y[:100]
    ends = [
        parameters(task.estimator(0).set_params(unlearner=unlearner).fit(X, y).forget(X[:5]))
        for unlearner in (None, default_method().unlearner)
    ]
    np.testing.assert_array_equal(*ends)


def test_rivals_named_once_and_dense_ones_only_where_they_fit(task, exact):
    large, small = ([m.name for m in rivals(t, d)] for t, d in ((task, 8970), (exact[0], 310)))
    assert len(set(small)) == len(small)
    assert len(set(large)) == len(large)
    assert {"warm start, 0.25 epochs", "L-BFGS, 50", "StoCuReNU, published", "no-op"} <= set(large)
    assert not any("dense" in name or "Newton" in name for name in large)
    assert {"CuReNU dense, published", "Newton, pseudo-inverse", "L-BFGS, 100"} <= set(small)


def test_longer_runs_that_cost_too_much_are_left_out(task, measured, cheap, monkeypatch):
    methods = [Method("1", "f", FineTune(1), 0.5), Method("9", "f", FineTune(1), 1e9), Method("other", "g", None)]
    monkeypatch.setattr(frontier, "rivals", lambda task, d: iter(methods))
    run = frontier.Run(task, measured[0][0], task.requests["10 %"], 1e3, "wall", 0.5)
    names = [record["method"] for _, record in run]
    assert names[:3] == ["ours", "1", "other"]
    assert run.left_out == ["9"]


def test_only_the_rivals_asked_for(task, measured, monkeypatch):
    methods = [Method("no-op", "no-op", None), Method("1", "f", None), Method("2", "g", None)]
    monkeypatch.setattr(frontier, "rivals", lambda task, d: iter(methods))
    run = frontier.Run(task, measured[0][0], task.requests["one row"], 1.0, "wall", 0.5, only=["g"])
    assert [record["method"] for _, record in run] == ["ours", "no-op", "2"]


def test_cut_off_later_than_it_stops_the_default_is_itself(task, measured, monkeypatch):
    monkeypatch.setattr(frontier, "rivals", lambda task, d: iter([]))
    records = [record for _, record in frontier.Run(task, measured[0][0], task.requests["10 %"], 1.0, "wall", 0.5)]
    ours = records[0]
    cuts = {int(r["method"].split()[1]): r for r in records if r["family"] == "ours, cut"}
    assert list(cuts) == [1, 2, 3, 5, 8, 12]
    for k, cut in cuts.items():
        assert cut["steps"] <= min(k, ours["steps"])
        assert (cut["wall"] == ours["wall"]) == (k >= ours["steps"])


def test_clock_and_memory():
    with PeakMemory() as memory, Clock() as clock:
        np.ones(2**22).sum()  # 32 MiB
    assert clock.wall > 0
    assert np.isnan(memory.mebibytes) or memory.mebibytes == pytest.approx(32, abs=8)


def test_a_run_gives_the_table_the_verdicts_and_the_pictures(cheap, monkeypatch, tmp_path, capsys):
    task = digits_task(200, 1, 50)
    for name in ("1 %", "half a class", "whole class"):
        del task.requests[name]
    monkeypatch.setattr(frontier, "rivals", lambda task, d: iter([frontier_no_op(), Method("w", "w", WarmStart(0.5))]))
    monkeypatch.setattr(frontier, "measure_sequence", lambda *a: sequence.measure_sequence(*a, rounds=2))
    content = frontier.measure(task, 2, "wall", 0.5, None)
    assert set(frontier.COLUMNS) <= set(content["records"][0])
    assert {r["method"] for r in content["records"]} >= {"retrain", "no-op", "ours", "w"}
    assert content["unmoved"] == {"digits": 0.0}
    assert sorted({r["round"] for r in content["sequences"]}) == [0, 1, 2]
    frontier.print_table(content["records"])
    assert "digits, 10 %" in capsys.readouterr().out
    claims = [v.claim for v in frontier.judge(content)]
    for start in ("distance for time", "on the frontier", "forgetting nothing", "sequence"):
        assert any(claim.startswith(start) for claim in claims), start
    draw_frontier(content["records"], tmp_path / "frontier.png")
    draw_sequences(content["sequences"], tmp_path / "sequence.png")
    assert {p.name for p in tmp_path.iterdir()} == {"frontier.png", "sequence.png"}


def frontier_no_op():
    return Method("no-op", "no-op", None)


def test_a_full_batch_run_adds_an_indefinite_fit(cheap, monkeypatch):
    task = full_batch_task("mlp", 60, 1e-6, 500, 4)
    for name in ("1 %", "20 %"):
        del task.requests[name]
    monkeypatch.setattr(
        frontier, "rivals", lambda task, d: iter([frontier_no_op(), Method("L", "L-BFGS", ContinueLBFGS(9))])
    )
    content = frontier.measure_full_batch(task, 1, "wall", None)
    assert [fit["smallest_eigenvalue"] < 0 for fit in content["fits"]] == [False, True]
    no_op = [r for r in content["records"] if r["method"] == "no-op"]
    assert [r["task"] for r in no_op] == ["full batch mlp", "full batch mlp, indefinite"]
    assert [r["distance"] for r in no_op] == [1, 1]
    assert len(_verdicts.full_batch(content["records"])) == 2


# ---------------------------------------------------------------------------------------- verdicts on numbers by hand


def record(family, distance, share, *, task="digits", request="whole class", seed=0, method=None, **more):
    full = {"full_batch": False, "same_erased": distance, "same_test": distance}
    return full | {
        "task": task, "request": request, "seed": seed, "method": method or family, "family": family,
        "distance": distance, "share": share,
    } | more  # fmt: skip


def test_distance_for_time_takes_the_steps_that_fit():
    records = [
        record("ours", 0.5, 0.09),
        record("ours, cut", 1.0, 0.02, method="ours, 1 steps"),
        record("L-BFGS", 0.1, 0.01),
    ]
    near, far = _verdicts.distance_for_time(records)
    assert (near.met, far.met) == (True, True)
    assert "'ours, 1 steps' at 1" in near.detail
    near, far = _verdicts.distance_for_time([record("ours", 1.2, 0.02), record("ours, cut", 0.2, 0.5)])
    assert (near.met, far.met) == (False, False)
    assert str(far).startswith("MISSED")


@pytest.mark.parametrize(
    ("rival", "met"),
    [
        ([(0.5, 0.01), (0.5, 0.01)], False),  # closer and faster on both seeds
        ([(0.5, 0.01), (1.5, 0.01)], True),  # on one only
        ([(0.5, 0.10), (0.5, 0.10)], True),  # closer, but slower
    ],
)
def test_frontier_counts_what_is_ahead_on_every_seed(rival, met):
    records = [record("ours", 1.0, 0.05, seed=s) for s in (0, 1)]
    records += [record("L-BFGS", d, t, seed=s, method="L-BFGS, 5") for s, (d, t) in enumerate(rival)]
    (verdict,) = _verdicts.frontier(records)
    assert verdict.met == met
    assert ("L-BFGS, 5" in verdict.detail) != met


@pytest.mark.parametrize(("distance", "share", "met"), [(0.01, 0.05, True), (0.03, 0.05, False), (0.01, 0.2, False)])
def test_full_batch_is_no_later_than_lbfgs(distance, share, met):
    records = [
        record("ours", distance, share, full_batch=True),
        record("L-BFGS", 0.5, 0.01, full_batch=True),
        record("L-BFGS", 0.02, 0.1, full_batch=True),
    ]
    (verdict,) = _verdicts.full_batch(records)
    assert verdict.met == met


def test_no_harm_is_asked_for_only_within_the_floor():
    records = [record("no-op", 0.5, 0), record("ours", 0.6, 0.1)]
    assert [v.met for v in _verdicts.no_harm(records)] == [False, False]
    records = [record("no-op", 5.0, 0, same_test=0.5), record("ours", 1.0, 0.1, same_test=0.5)]
    (verdict,) = _verdicts.no_harm(records)
    assert verdict.met
    assert verdict.claim.endswith("test")


def test_stopping_is_judged_from_both_sides():
    def judge(ours, forced, cut):
        records = [record("no-op", 9.0, 0), record("ours", ours, 0.1), record("ours, forced", forced, 0.2)]
        return [v.met for v in _verdicts.stops_by_itself([*records, record("ours, cut", cut, 0.05)])]

    assert judge(1.0, 0.96, 0.95) == [True, True]
    assert judge(1.0, 0.90, 2.0) == [False, True]
    assert judge(1.0, 1.5, 0.5) == [True, False]


def test_nothing_forgotten_must_move_nothing():
    assert [v.met for v in _verdicts.nothing_forgotten({"a": 0.0, "b": 1e-9})] == [True, False]


def test_sequence_is_judged_at_its_end():
    def at(way, number, distance):
        return {
            "task": "digits",
            "seed": 0,
            "way": way,
            "round": number,
            "same_erased": distance,
            "same_test": distance,
        }

    records = [at("sequence", 5, 9.0), at("sequence", 20, 1.1), at("one request", 20, 1.0)]
    assert [v.met for v in _verdicts.sequences(records)] == [True, True]
    records[1]["same_test"] = 1.3
    assert [v.met for v in _verdicts.sequences(records)] == [True, False]
    assert _verdicts.sequences([]) == []
