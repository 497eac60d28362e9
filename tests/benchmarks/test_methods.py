"""The comparison of all methods: nobody is left out, its measures are the published ones, its verdicts follow."""

import inspect

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import roc_auc_score

from benchmarks import methods
from benchmarks._measure import forgetful
from sk_unlearn import unlearners
from sk_unlearn.metrics import distance_ratio, retrain_distance, tug_of_war_score
from sk_unlearn.unlearners import GradientAscent, Retrain, Unlearner

# Its bound is vacuous for a network, and says so.
pytestmark = pytest.mark.filterwarnings("ignore::sk_unlearn.unlearners.VacuousBoundWarning")


@pytest.fixture(scope="module")
def task():
    X, y = make_blobs(160, 3, centers=10, cluster_std=2.0, random_state=0)
    return methods.split("blobs", X, y, 0, hidden=3, epochs=4)


@pytest.fixture(scope="module")
def measured(task):
    return methods.measure(task, 0, recording=True)


def test_every_unlearner_is_compared_but_the_one_for_linear_layers(task):
    compared = {
        type(method.unlearner) for training in methods.trainings(task, recording=True) for method in training.methods
    }
    exported = (getattr(unlearners, name) for name in unlearners.__all__)
    concrete = {u for u in exported if inspect.isclass(u) and issubclass(u, Unlearner) and u is not Unlearner}
    assert concrete - compared == {unlearners.CertifiedRemoval}


def test_only_the_methods_asked_for(task):
    records, lines = methods.measure(task, 0, recording=True, only=["FineTune", "no-op"])
    assert {r["method"] for r in records} == {"FineTune", "no-op"}
    assert not lines  # nothing was trained with a recorder


def test_what_watches_training_finds_itself_in_the_fit(task):
    for training in methods.trainings(task, recording=True):
        for method in training.methods:
            if method.unlearner is not None and method.unlearner.recorder() is not None:
                assert type(method.unlearner) is type(training.unlearner)


def test_a_seed_gives_every_method_every_column(task, measured):
    records, lines = measured
    names = [m.name for training in methods.trainings(task, recording=True) for m in training.methods]
    for request in ("class", "random 10 %"):
        assert [r["method"] for r in records if r["request"] == request] == names
    frame = pd.DataFrame(records)[list(methods.COLUMNS)]
    assert np.isfinite(frame.drop(columns="memory").to_numpy(dtype=float)).all()
    assert any("HessianFreeRecording" in line for line in lines)
    text = methods.markdown(methods.table(records))
    assert len(text.splitlines()) == len(names) + 2
    assert len(methods.judge(records)) == 2 * 7


def test_doing_nothing_moves_nothing_and_retraining_takes_its_time(measured):
    frame = pd.DataFrame(measured[0]).set_index("method")
    assert (frame.loc["no-op", ["moved", "time"]] == 0).all(axis=None)
    assert (frame.loc["Retrain", "moved"] > 0).all()


@pytest.mark.parametrize("request_name", ["class", "random 10 %"])
def test_measures_are_the_public_ones(task, request_name):
    training = next(methods.trainings(task, recording=False))
    estimator = task.estimator(0).set_params(unlearner=Retrain())
    fitted = task.estimator(0).fit(task.X, task.y)
    erased = task.requests[request_name]
    kept = np.setdiff1d(np.arange(len(task.X)), erased)
    ruler = methods.Ruler(training, erased, estimator)
    retrained = [task.estimator(1000 * k).fit(task.X[kept], task.y[kept]) for k in (1, 2, 3)]
    model, _ = forgetful(fitted, task, erased, GradientAscent())
    got = ruler.measure(model)
    X = task.X[erased]
    assert got["ratio"] == pytest.approx(distance_ratio(model, retrained, X))
    assert got["js"] == pytest.approx(np.mean([retrain_distance(model, r, X) for r in retrained]))
    rows = (X, task.y[erased], task.X[kept], task.y[kept], task.X_test, task.y_test)
    assert got["tow"] == pytest.approx(np.mean([tug_of_war_score(model, r, *rows) for r in retrained]))
    same_class = np.isin(task.y_test, task.y[erased])
    likelihood = [
        model.predict_proba(A)[np.arange(len(b)), b]
        for A, b in ((X, task.y[erased]), (task.X_test[same_class], task.y_test[same_class]))
    ]
    expected = roc_auc_score([1] * len(likelihood[0]) + [0] * len(likelihood[1]), np.concatenate(likelihood))
    assert got["auc"] == pytest.approx(expected)
    if request_name == "class":  # retrained models give it no probability at all
        assert got["auc_retrained"] == 0.5


def test_means_come_with_their_standard_errors():
    assert methods._with_error(0.5, 0.0123) == "0.500 ± 0.012"
    assert methods._with_error(0.5, 0.0) == "0.500"
    assert methods._with_error(123.44, 5.0) == "123.4 ± 5.0"
    assert methods._with_error(float("nan"), 0.0) == ""


@pytest.mark.parametrize(
    ("other", "met"),
    [([0.98, 0.97, 0.99], False), ([0.99, 0.90, 0.98], True), ([0.95, 0.94, 0.96], True), ([0.8, 0.8, 0.8], True)],
)
def test_default_is_judged_seed_by_seed(other, met):
    scores = pd.DataFrame({"StoCuReNU": [0.95, 0.94, 0.96], "other": other})
    assert methods.default_is_best(scores, "here").met == met


def test_verdicts_follow_from_the_numbers():
    def record(method, tow):
        return [{"data": "d", "request": "r", "seed": s, "method": method, "tow": tow} for s in (0, 1)]

    records = record("StoCuReNU", 0.98) + record("PseudoInverseNewton, published", 0.1) + record("Retrain", 1.0)
    assert [v.met for v in methods.judge(records)] == [True, True, True]
    records = record("StoCuReNU", 0.96) + record("PseudoInverseNewton, published", 0.9) + record("Retrain", 1.0)
    assert [v.met for v in methods.judge(records)] == [False, False, True]
