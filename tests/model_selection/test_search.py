import copy
import pickle
import re
import signal
import sys
import threading
from typing import ClassVar

import joblib
import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier, NeuralNetRegressor

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.metrics import jensen_shannon, make_retrain_scorer
from sk_unlearn.model_selection import ForgetSearchCV
from sk_unlearn.references import cases, fit_many
from sk_unlearn.training.recorder import TrainingRecorder
from sk_unlearn.unlearners import FineTune, Retrain, Status, Unlearner, UnlearningResult
from sk_unlearn.utils import _progress
from tests._problems import LinearLayer, skorch_net

MODULE = torch.nn.Linear(4, 3)
X, y = load_iris(return_X_y=True)
# Rows that occur once, so that a request erases as many as it asks for.
_, first = np.unique(X, axis=0, return_index=True)
X, y = X[np.sort(first)], np.array(["ant", "bee", "cow"])[y[np.sort(first)]]


class Push(Unlearner):
    """Stretch the parameters: the more the worse. It tells what it was asked."""

    seen: ClassVar[list] = []

    def __init__(self, by=0.0, fail=False):
        self.by = by
        self.fail = fail

    def unlearn(self, problem):
        Push.seen.append((self.by, problem.erased.n_rows))
        if self.fail:
            raise RuntimeError("no luck")
        return UnlearningResult(problem.parameters * (1 + self.by), Status.COMPLETED, "pushed")


class InterruptedAt(Push):
    def unlearn(self, problem):
        if self.by:
            signal.raise_signal(signal.SIGINT)
        return super().unlearn(problem)


class Watched(Push):
    """A push that needs to know how training went; `length` is part of the recording."""

    def __init__(self, by=0.0, length=1):
        self.by = by
        self.length = length
        self.fail = False

    def recorder(self):
        return Watcher(self.length)

    def unlearn(self, problem):
        if problem.recording != "watched" * self.length:
            raise ValueError("fit with unlearner=Watched so that training is watched")
        return super().unlearn(problem)


class Watcher(TrainingRecorder):
    seen: ClassVar[list] = []

    def __init__(self, length):
        self.length = length

    def recording(self, net):
        Watcher.seen.append(self.length)
        return "watched" * self.length


@pytest.fixture
def trainings(monkeypatch):
    """Nets that were trained one by one; those that train in a stack do not pass skorch's own loop."""
    counted = []
    real = NeuralNetClassifier.on_train_begin

    def counting(net, *args, **kwargs):
        counted.append(net)
        return real(net, *args, **kwargs)

    monkeypatch.setattr(NeuralNetClassifier, "on_train_begin", counting)
    Watcher.seen.clear()
    return counted


def counted_fit_many(monkeypatch):
    calls = []

    def counting(*args, **kwargs):
        calls.append(1)
        return fit_many(*args, **kwargs)

    monkeypatch.setattr(cases, "fit_many", counting)
    return calls


def net(module=MODULE, kind=NeuralNetClassifier, **options):
    """Return a net that trains fast; the penalty and the few rows make its optimum depend on each row."""
    settings = {"max_epochs": 8, "lr": 0.1, "iterator_train__shuffle": True}
    return skorch_net(module, kind, **settings | options)


def estimator(unlearner=None, module=MODULE, **options):
    unlearner = Push() if unlearner is None else unlearner
    return UnlearnableClassifier(net(module), unlearner, **{"random_state": 0} | options)


def search(grid, unlearner=None, **options):
    options = {"n_references": 2, "cv": 2, "random_state": 5} | options
    return ForgetSearchCV(estimator(unlearner), grid, **options)


PUSHES = {"unlearner__by": [0.3, 0.0, 1.0]}


# ------------------------------------------------------------------------------------------------------------ searching


def test_finds_the_best_candidate_and_fits_it():
    found = search(PUSHES).fit(X, y)
    assert found.best_params_ == {"unlearner__by": 0.0}
    assert found.best_index_ == 1
    assert found.cv_results_["rank_selection_score"].tolist() == [2, 1, 3]
    expected = clone(found.estimator).set_params(unlearner__by=0.0).fit(X, y)
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))
    assert found.classes_.tolist() == ["ant", "bee", "cow"]
    assert found.n_features_in_ == 4
    assert is_classifier(found)
    assert len(found.best_estimator_.training_set_) == len(X)


def test_same_scores_as_grid_search_with_memory(tmp_path):
    grid = [{"unlearner": [FineTune(1), Retrain()]}, {"unlearner": [Push()], "unlearner__by": [0.0, 0.1]}]
    found = search(grid, refit=False).fit(X, y)
    plain = GridSearchCV(
        estimator(memory=str(tmp_path)),
        grid,
        scoring=make_retrain_scorer(n_references=2, random_state=5, memory=str(tmp_path)),
        cv=[(train, select) for train, select, _ in found.splits_],
        refit=False,
        error_score="raise",
    ).fit(X, y)
    for fold in range(2):
        np.testing.assert_allclose(
            found.cv_results_[f"split{fold}_selection_score"], plain.cv_results_[f"split{fold}_test_score"], rtol=1e-4
        )
    assert found.cv_results_["rank_selection_score"].tolist() == plain.cv_results_["rank_test_score"].tolist()
    assert found.best_params_ == plain.best_params_


def test_fits_once_a_fold(trainings):
    search({"unlearner__by": [0.0, 0.1, 0.2, 0.3]}, cv=3).fit(X, y)
    assert len(trainings) == 3 + 1  # references train in a stack, and the last is the refit


def test_what_selects_shares_no_row_with_what_reports():
    drawn = []

    def some(X_left, y_left, rng):
        at = rng.permutation(len(X_left))[:30]
        drawn.append(({row.tobytes() for row in X_left}, {row.tobytes() for row in X_left[at]}))
        return at

    found = search(PUSHES, request=some, refit=False).fit(X, y)
    assert len(drawn) == 4
    for (all_rows, select), (left, report) in zip(drawn[::2], drawn[1::2], strict=True):
        assert left == all_rows - select
        assert not select & report
    for train, select, report in found.splits_:
        parts = np.concatenate([train, select, report])
        assert np.array_equal(np.sort(parts), np.arange(len(X)))
        assert abs(len(select) - len(report)) <= 1


def test_copies_of_a_row_are_not_in_both_requests():
    drawn = []

    def first_rows(X_left, y_left, rng):
        drawn.append({row.tobytes() for row in X_left[:8]})
        return np.arange(8)

    twice, labels = np.concatenate([X[::2], X[::2]]), np.concatenate([y[::2], y[::2]])
    search({"unlearner__by": [0.0]}, request=first_rows, refit=False).fit(twice, labels)
    assert not drawn[0] & drawn[1]
    assert not drawn[2] & drawn[3]


def test_the_report_is_of_the_winner_on_the_other_request():
    Push.seen.clear()
    found = search(PUSHES, request=0.1, report_request=5, refit=False).fit(X, y)
    n_train = [len(train) for train, _, _ in found.splits_]
    tried = [(by, round(0.1 * n)) for by in PUSHES["unlearner__by"] for n in n_train]
    assert Push.seen == [*tried, (0.0, 5), (0.0, 5)]
    assert found.best_score_ == np.mean(found.report_["js"])
    assert not np.isin(found.report_["js"], found.cv_results_["split0_selection_score"]).any()


def test_the_report_by_hand():
    def by_hand(erased):
        train, _, unseen = found.splits_[0]
        fitted = estimator().fit(X[train], y[train])
        kept = np.setdiff1d(np.arange(len(train)), erased)
        reference = estimator().fit(X[train][kept], y[train][kept])
        halves = X[train][erased], X[unseen]
        return -np.mean([jensen_shannon(reference.predict_proba(part), fitted.predict_proba(part)) for part in halves])

    def rows(X_left, y_left, rng):
        return np.arange(10)

    found = search({"unlearner__by": [0.0]}, request=rows, n_references=1, refit=False).fit(X, y)
    # The first ten of those that the first request left.
    assert found.report_["js"][0] == pytest.approx(by_hand(np.arange(10, 20)), rel=1e-5)


def test_several_measures():
    found = search(PUSHES, scoring=["tug_of_war", "js"], refit="js").fit(X, y)
    assert found.best_params_ == {"unlearner__by": 0.0}
    assert set(found.report_) == {"js", "tug_of_war"}
    assert found.best_score_ == np.mean(found.report_["js"])
    assert {"mean_selection_js", "rank_selection_tug_of_war", "split1_selection_js"} <= set(found.cv_results_)
    without = search(PUSHES, scoring=["tug_of_war", "js"], refit=False).fit(X, y)
    assert not hasattr(without, "best_index_")
    np.testing.assert_array_equal(without.cv_results_["mean_selection_js"], found.cv_results_["mean_selection_js"])


def test_a_class_and_another_class():
    requests = {"request": {"class": "ant"}, "report_request": {"class": "cow"}}
    found = search(PUSHES, **requests, refit=False).set_params(estimator__estimator__module=LinearLayer).fit(X, y)
    assert found.best_score_ < 0


def test_regression():
    X_reg, y_reg = load_diabetes(return_X_y=True)
    est = UnlearnableRegressor(net(torch.nn.Linear(10, 1), kind=NeuralNetRegressor), Push(), random_state=0)
    found = ForgetSearchCV(est, {"unlearner__by": [50.0, 0.0]}, cv=2, n_references=1, random_state=0)
    found.fit(X_reg[:80], y_reg[:80])
    assert found.best_params_ == {"unlearner__by": 0.0}
    assert found.predict(X_reg[:3]).shape == (3,)


def test_in_a_pipeline_with_weights_and_groups():
    pipe = make_pipeline(StandardScaler(), estimator())
    name = "unlearnableclassifier"
    found = ForgetSearchCV(pipe, {f"{name}__unlearner__by": [0.5, 0.0]}, cv=2, n_references=1, random_state=0)
    weight = np.linspace(0.5, 2, len(X))
    found.fit(X, y, **{f"{name}__sample_weight": weight})
    assert found.best_params_ == {f"{name}__unlearner__by": 0.0}
    np.testing.assert_allclose(found.best_estimator_[-1].training_set_.sample_weight, weight)


def test_processes_give_the_same():
    alone = search({"unlearner": [FineTune(1), FineTune(3)]}, refit=False).fit(X, y)
    with parallel_config("loky", n_jobs=2):
        together = search({"unlearner": [FineTune(1), FineTune(3)]}, refit=False).fit(X, y)
    for name in ("mean_selection_score", "split1_selection_score"):
        np.testing.assert_allclose(together.cv_results_[name], alone.cv_results_[name], rtol=1e-3)
    assert together.best_score_ == pytest.approx(alone.best_score_, rel=1e-3)


def test_threads():
    with parallel_config("threading"):
        together = search(PUSHES, n_jobs=2, refit=False).fit(X, y)
    assert together.best_index_ == 1
    alone = search(PUSHES, refit=False).fit(X, y)
    for name in ("mean_selection_score", "split1_selection_score"):
        np.testing.assert_allclose(together.cv_results_[name], alone.cv_results_[name], rtol=1e-3)


def test_a_backend_without_generators(monkeypatch):
    monkeypatch.setattr(joblib.parallel.SequentialBackend, "supports_return_generator", False)
    monkeypatch.setattr(joblib._parallel_backends.LokyBackend, "supports_return_generator", False)
    assert search(PUSHES, refit=False).fit(X, y).best_index_ == 1


def test_unlearners_that_watch_training_share_a_fit_when_they_watch_alike(trainings):
    grid = [
        {"unlearner": [Watched()], "unlearner__by": [0.0, 0.5], "unlearner__length": [1, 2]},
        {"unlearner": [Push()]},
    ]
    found = search(grid, refit=False, error_score="raise").fit(X, y)
    assert len(found.cv_results_["params"]) == 5
    assert len(trainings) == 6
    assert sorted(Watcher.seen) == [1, 1, 2, 2]


def test_nothing_fitted_on_a_fold_is_kept():
    found = search(PUSHES, refit=False).fit(X, y)
    assert b"TrainingSet" not in pickle.dumps(found)
    assert b"TrainingSet" in pickle.dumps(search(PUSHES).fit(X, y))


# --------------------------------------------------------------------------------------------------- the best estimator


def test_score_is_that_of_the_scorer():
    found = search(PUSHES, request=7, scoring=["tug_of_war", "js"], refit="js").fit(X[::2], y[::2])
    before = pickle.dumps(found.best_estimator_)
    scorer = make_retrain_scorer("js", request=7, n_references=2, random_state=5)
    assert found.score(X[1::2], y[1::2]) == scorer(found.best_estimator_, X[1::2], y[1::2])
    assert found.score(X[1::2]) == found.score(X[1::2], y[1::2])  # this measure needs no targets
    assert pickle.dumps(found.best_estimator_) == before
    alone = search(PUSHES, request=7).fit(X[::2], y[::2])
    assert alone.score(X[1::2]) == found.score(X[1::2])
    assert alone.scorer_(alone.best_estimator_, X[1::2]) == alone.score(X[1::2])


def test_score_tells_a_good_choice_from_a_bad_one():
    scores = [search({"unlearner": [chosen]}).fit(X, y).score(X, y) for chosen in (Retrain(), Push(0.5))]
    assert scores[1] < scores[0] < 0


def test_score_in_a_pipeline_and_its_memory(tmp_path, monkeypatch):
    calls = counted_fit_many(monkeypatch)
    pipe = make_pipeline(StandardScaler(), estimator())
    grid = {"unlearnableclassifier__unlearner__by": [0.5, 0.0]}
    found = ForgetSearchCV(pipe, grid, cv=2, n_references=1, random_state=0, memory=str(tmp_path)).fit(X, y)
    calls.clear()
    assert found.score(X, y) == found.score(X, y) < 0
    assert len(calls) == 1


def test_score_of_a_class_that_is_gone():
    requests = {"request": {"class": "ant"}, "report_request": {"class": "cow"}}
    found = search(PUSHES, **requests).set_params(estimator__estimator__module=LinearLayer).fit(X, y)
    found.forget(X[y == "ant"])
    with pytest.raises(ValueError, match="names a class without training rows"):
        found.score(X, y)


def test_the_search_forgets_as_its_best_estimator_does():
    found = search({"unlearner": [FineTune(1)]}).fit(X, y)
    twin = copy.deepcopy(found.best_estimator_)
    assert found.unlearning_history_ == []
    assert not hasattr(found, "unlearning_report_")
    assert found.forget(X[:3], y[:3]) is found
    assert found.partial_forget(X[3:5], y[3:5]) is found
    assert found.correct(X[5:6], y_old=y[5:6], y_new=["bee"]) is found
    twin.forget(X[:3], y[:3]).partial_forget(X[3:5], y[3:5]).correct(X[5:6], y_old=y[5:6], y_new=["bee"])
    np.testing.assert_array_equal(found.predict_proba(X), twin.predict_proba(X))
    assert [report.request for report in found.unlearning_history_] == ["forget", "partial_forget", "correct"]
    assert found.unlearning_report_ is found.best_estimator_.unlearning_report_
    assert len(found.best_estimator_.training_set_) == len(X) - 5
    with pytest.raises(ValueError, match="cannot be found"):
        found.forget(X[:3])


def test_the_search_forgets_by_identifier():
    found = search({"unlearner": [FineTune(1)]}).fit(X, y, sample_id=np.arange(len(X)))
    assert found.forget(sample_id=[4, 7]).unlearning_report_.n_erased == 2


def test_what_only_the_last_step_can_forget_is_not_forgotten():
    pipe = make_pipeline(StandardScaler(), estimator())
    found = ForgetSearchCV(pipe, {"unlearnableclassifier__unlearner__by": [0.0]}, cv=2, n_references=1).fit(X, y)
    for verb in ("forget", "partial_forget", "correct", "unlearning_report_", "unlearning_history_"):
        assert not hasattr(found, verb)
    with pytest.raises(AttributeError, match="has no attribute 'forget'") as raised:
        found.forget(X[:3])
    assert "its last step, UnlearnableClassifier, has, but the other steps cannot" in str(raised.value.__cause__)


def test_a_pipeline_that_forgets_is_asked_to():
    class Forgetful(Pipeline):
        def forget(self, X_del=None, y_del=None, *, sample_id=None):
            self[-1].forget(self[:-1].transform(X_del), y_del, sample_id=sample_id)
            return self

    pipe = Forgetful([("scale", StandardScaler()), ("net", estimator())])
    found = ForgetSearchCV(pipe, {"net__unlearner__by": [0.0]}, cv=2, n_references=1).fit(X, y)
    found.forget(X[:3])
    assert len(found.best_estimator_[-1].training_set_) == len(X) - 3


def test_nothing_to_ask_without_a_best_estimator():
    with pytest.raises(NotFittedError):
        search(PUSHES).forget(X[:3])
    found = search(PUSHES, refit=False).fit(X, y)
    for call in (found.forget, found.score):
        with pytest.raises(AttributeError, match="set refit=True"):
            call(X[:3])
    assert not hasattr(found, "unlearning_history_")


# -------------------------------------------------------------------------------------------------------------- results


def test_results():
    grid = [{"unlearner__by": [0.0, 0.0]}, {"unlearner": [FineTune()]}]
    found = search(grid, refit=False).fit(X, y)
    results = found.cv_results_
    assert results["param_unlearner__by"].tolist() == [0.0, 0.0, None]
    assert results["param_unlearner__by"].mask.tolist() == [False, False, True]
    splits = np.array([results[f"split{k}_selection_score"] for k in range(2)])
    np.testing.assert_array_equal(results["mean_selection_score"], splits.mean(axis=0))
    np.testing.assert_array_equal(results["std_selection_score"], splits.std(axis=0))
    ranks = results["rank_selection_score"]
    assert ranks[0] == ranks[1]
    assert (results["mean_forget_time"] > 0).all()
    assert not any("test" in name for name in results)
    frame = found.to_frame()
    assert frame["rank_selection_score"].is_monotonic_increasing
    assert len(frame) == 3
    assert frame["param_unlearner__by"].isna().sum() == 1
    tried = (
        search({"unlearner": [FineTune()], "unlearner__learning_rate": [None, 0.1]}, refit=False).fit(X, y).to_frame()
    )
    assert tried["param_unlearner__learning_rate"][0] is None
    assert {"fit", "references", "candidates", "report"} == set(found.times_)


def test_a_notebook_shows_the_candidates_the_best_one_first():
    unfitted = search(PUSHES)
    assert "not fitted: nothing has been tried yet" in unfitted._repr_html_()
    found = unfitted.fit(X, y)
    html = found._repr_html_()
    assert "3 candidates in 2 folds" in html
    assert f"{found.best_score_:.5g}" in html
    table = html[html.index("<tbody>", html.index('<div class="sku">')) :]
    scores = re.findall(r"<td class=\"number\">(-[\d.e-]+)</td>", table)
    assert list(map(float, scores)) == sorted(map(float, scores), reverse=True)
    assert len(scores) == 3
    found.best_params_ = {"unlearner": "<script>"}
    assert "<script>" not in found._card()


def test_verbose_prints_a_line_each(capsys):
    search(PUSHES, verbose=1).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["fold"] * 2 + ["references:"] + ["candidate"] * 3 + ["best:"]
    assert "8 retrained" in lines[2]
    search(PUSHES).fit(X, y)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("verbose", "bars"), [(None, {"search", "training"}), (0, set()), (1, set())])
def test_bars_are_shown_where_somebody_looks_on(capsys, monkeypatch, verbose, bars):
    monkeypatch.setattr(_progress, "_MOMENT", 1e-9)
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True)
    found = search(PUSHES, verbose=verbose).fit(X, y)
    assert set(re.findall(r"\r(\w+): ", capsys.readouterr().err)) == bars
    found.scorer_(found.best_estimator_, X, y)  # which a search has taken many times
    assert capsys.readouterr().err == ""


def test_seeds():
    scores = [search(PUSHES, random_state=seed, refit=False).fit(X, y).best_score_ for seed in (1, 1, 2)]
    assert scores[0] == scores[1] != scores[2]
    # By chance the smallest of the pushes is better than none for one seed in twenty.
    assert search({"unlearner__by": [1.0, 0.0]}, random_state=None, refit=False).fit(X, y).best_index_ == 1


# ------------------------------------------------------------------------------------------- failures and interruptions


def test_failures_get_the_error_score():
    grid = [{"unlearner__by": [0.0], "unlearner__fail": [True]}, {"unlearner__by": [0.4]}]
    with pytest.warns(FitFailedWarning, match="2 requests failed.*no luck"):
        found = search(grid).fit(X, y)
    assert np.isnan(found.cv_results_["mean_selection_score"][0])
    assert found.best_index_ == 1
    with pytest.raises(RuntimeError, match="no luck"):
        search(grid, error_score="raise").fit(X, y)


def test_all_failed():
    with (
        pytest.warns(FitFailedWarning),
        pytest.raises(ValueError, match="Every candidate failed; the first with RuntimeError: no luck"),
    ):
        search({"unlearner__fail": [True]}).fit(X, y)


@pytest.mark.parametrize(
    ("settings", "rows", "error"),
    [
        ({"error_score": "raise", "param_grid": {"unlearner__fail": [True]}}, (X, y), RuntimeError),  # while it tries
        ({"report_request": -1}, (X, y), ValueError),  # before it begins
        ({}, (np.full_like(X, np.nan), y), ValueError),  # while it fits the folds
    ],
)
def test_a_search_whose_next_fit_fails_stays_what_it_was(settings, rows, error):
    found = search(PUSHES).fit(X, y)
    names = [name for name in vars(found) if name.endswith("_")]
    before, best = {name: getattr(found, name) for name in names}, found.predict_proba(X)
    found.set_params(**settings)
    with pytest.raises(error):
        found.fit(*rows)
    assert [name for name in vars(found) if name.endswith("_")] == names
    assert all(getattr(found, name) is value for name, value in before.items())
    np.testing.assert_array_equal(found.predict_proba(X), best)
    found.forget(X[:1])


def test_a_next_fit_leaves_nothing_of_the_last_one():
    found = search(PUSHES).fit(X, y)
    best = found.best_estimator_
    assert found.fit(X, y).best_estimator_ is not best
    assert not hasattr(found.set_params(refit=False).fit(X, y), "best_estimator_")


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread")
def test_ctrl_c_keeps_what_is_done():
    grid = {"unlearner": [Push(0.5), Push(0.2), InterruptedAt(1), Push(0)]}
    with pytest.warns(UserWarning, match="Interrupted after 2 of 4 candidates"):
        found = search(grid).fit(X, y)
    assert found.interrupted_
    assert len(found.cv_results_["params"]) == 2
    assert found.best_params_["unlearner"].by == 0.2
    assert np.isfinite(found.best_score_)
    assert found.predict(X[:2]).shape == (2,)
    with pytest.raises(KeyboardInterrupt):
        search({"unlearner": [InterruptedAt(1), Push(0)]}).fit(X, y)


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        ({"estimator__lr": [1]}, {}, "varies 'estimator__lr'.*GridSearchCV"),
        ({"unlearner__by": [0], "random_state": [1]}, {}, "varies 'random_state'"),
        ({"unlearner__what": [1]}, {}, "Invalid parameter 'what'"),
        (PUSHES, {"request": {"class": "ant"}}, 'report_request={"class": another label}'),
        (PUSHES, {"request": 2.0}, "request must be"),
        (PUSHES, {"report_request": -1}, "request must be"),
        (PUSHES, {"scoring": "accurate"}, "must be one of"),
        (PUSHES, {"scoring": "rms"}, "rms"),
        (PUSHES, {"scoring": ["js", "kl"]}, "say by refit which"),
        (PUSHES, {"refit": "kl"}, r"refit must be one of.*\['js'\]"),
        (PUSHES, {"error_score": "nan"}, "error_score must be"),
        (PUSHES, {"cv": [(np.arange(100), np.array([120]))]}, "at least 2 rows"),
        (PUSHES, {"n_references": 0}, "n_references must be"),
        (PUSHES, {"memory": 3}, "'memory' should be"),
    ],
)
def test_wrong_arguments(grid, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        search(grid, **options).fit(X, y)


def test_wrong_estimators():
    with pytest.raises(ValueError, match=r"one that can forget.*StandardScaler"):
        ForgetSearchCV(StandardScaler(), {}).fit(X, y)
    with pytest.raises(ValueError, match="unlearner=None has no parameters"):
        ForgetSearchCV(UnlearnableClassifier(), {"unlearner__L": [1]}).fit(X, y)
    with pytest.raises(ValueError, match="keep_training_set=True"):
        search(PUSHES).set_params(estimator__keep_training_set=False).fit(X, y)
    with pytest.raises(NotFittedError):
        search(PUSHES).predict(X)
    with pytest.raises(AttributeError, match="set refit=True"):
        search(PUSHES, refit=False).fit(X, y).predict(X)


def test_clones_and_prints():
    found = search(PUSHES)
    assert repr(clone(found)) == repr(found)


# --------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("as_object", [False, True])
def test_a_cached_fit_is_the_same_fit(tmp_path, trainings, as_object):
    memory = joblib.Memory(tmp_path, verbose=0, mmap_mode="r") if as_object else str(tmp_path)
    weight, ids = np.linspace(0, 2, len(X)), np.arange(len(X))
    plain = estimator().fit(X, y, sample_weight=weight, sample_id=ids)
    cached = [estimator(memory=memory).fit(X, y, sample_weight=weight, sample_id=ids) for _ in range(3)]
    assert len(trainings) == 2
    for est in cached:
        assert est.memory is memory
        np.testing.assert_array_equal(est.predict_proba(X), plain.predict_proba(X))
        np.testing.assert_array_equal(est.training_set_.role, plain.training_set_.role)
        assert torch.equal(est.unlearning_state_.anchor.residual, plain.unlearning_state_.anchor.residual)
        assert est.classes_.tolist() == plain.classes_.tolist()
        assert len(est.net_.history) == len(plain.net_.history)
    plain.set_params(unlearner=FineTune(2)).forget(X[:5])
    for est in cached[1:]:  # each its own: what one forgets the other still has
        assert len(est.training_set_) == len(X)
        est.set_params(unlearner=FineTune(2)).forget(sample_id=ids[:5])
        np.testing.assert_allclose(est.predict_proba(X), plain.predict_proba(X), atol=1e-6)
        assert "memory keeps networks" in est.unlearning_report_.notes[0]
    assert not plain.unlearning_report_.notes
    again = estimator(memory=memory).fit(X, y, sample_weight=weight, sample_id=ids)
    np.testing.assert_array_equal(again.predict_proba(X), cached[0].predict_proba(X))
    again.partial_fit(X[:9], y[:9], sample_id=np.arange(9) + 500)


def test_what_is_in_the_key(tmp_path, trainings):
    memory = str(tmp_path)

    def trained(est, rows=X, labels=y, **given):
        before = len(trainings)
        est.set_params(memory=memory).fit(rows, labels, **given)
        return len(trainings) - before

    assert trained(estimator()) == 1
    # Nothing that training does not depend on.
    for same in (Push(3.0), FineTune(5), Retrain()):
        assert trained(estimator(same)) == 0
    assert trained(clone(estimator(verbose=1)).set_params(verbose=0)) == 0
    assert trained(estimator(keep_training_set=False)) == 0
    assert trained(estimator(module=copy.deepcopy(MODULE))) == 0
    assert trained(estimator(), sample_id=np.arange(len(X))) == 0
    # Everything that it does.
    other = copy.deepcopy(MODULE)
    with torch.no_grad():
        other.bias[0] += 1
    assert trained(estimator(module=other)) == 1
    assert trained(estimator().set_params(random_state=1)) == 1
    assert trained(estimator(), X + 1) == 1
    assert trained(estimator(), X, np.roll(y, 1)) == 1
    assert trained(estimator(), sample_weight=np.arange(1.0, len(X) + 1)) == 1
    assert trained(estimator(Watched())) == 1
    assert trained(estimator(Watched(by=1.0))) == 0
    assert trained(estimator(Watched(length=2))) == 1
    assert trained(estimator(module=torch.nn.Sequential(copy.deepcopy(MODULE)))) == 1
    assert trained(estimator().set_params(random_state=None)) == 1
    assert trained(estimator().set_params(random_state=None)) == 1


def test_a_recording_comes_from_the_cache_too(tmp_path, trainings):
    ests = [estimator(Watched(), memory=str(tmp_path)).fit(X, y) for _ in range(2)]
    assert len(trainings) == 1
    assert ests[1].forget(X[:3]).unlearning_report_.n_erased == 3
    with pytest.raises(ValueError, match="so that training is watched"):
        estimator(memory=str(tmp_path)).fit(X, y).set_params(unlearner=Watched()).forget(X[:3])


def test_verbose_is_that_of_the_estimator(tmp_path, capsys):
    def fit(**options):
        est = UnlearnableClassifier(MODULE, memory=str(tmp_path), **options).fit(X[::5], y[::5])
        return est.net_.verbose, "train_loss" in capsys.readouterr().out

    assert fit(random_state=0) == (0, False)
    assert fit(random_state=0, verbose=1) == (1, False)  # nothing was trained
    assert fit(random_state=1, verbose=1) == (1, True)


def test_an_interrupted_training_is_not_kept(tmp_path, monkeypatch, trainings):
    def interrupted(self, *args, **kwargs):
        raise KeyboardInterrupt

    est = estimator(memory=str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(NeuralNetClassifier, "run_single_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            est.fit(X, y)
    est.fit(X, y)
    assert len(trainings) == 2
    assert len(est.net_.history) == est.net_.max_epochs


def test_the_cache_shows_no_rows_in_plain_text(tmp_path):
    marked = X.copy()
    marked[0] = 31.4159
    estimator(memory=str(tmp_path)).fit(marked, y)
    make_retrain_scorer(memory=str(tmp_path))(estimator().fit(marked, y), X)
    texts = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert texts
    assert not any("31.4" in text for text in texts)


def test_a_second_search_finds_the_fits_of_the_first(tmp_path, trainings, monkeypatch):
    calls = counted_fit_many(monkeypatch)
    plain = search(PUSHES, refit=False).fit(X, y)
    trainings.clear(), calls.clear()
    first = search(PUSHES, memory=str(tmp_path), refit=False).fit(X, y)
    assert (len(trainings), len(calls)) == (2, 1)
    second = search({"unlearner": [Push(0.0), FineTune(1)]}, memory=str(tmp_path), refit=False).fit(X, y)
    assert (len(trainings), len(calls)) == (2 + 2, 1)  # FineTune trains, for each fold
    for found in (first, second):
        assert found.report_["js"] == pytest.approx(plain.report_["js"], rel=1e-6)


def test_references_are_found_whatever_the_memory_of_the_estimator(tmp_path, monkeypatch):
    calls = counted_fit_many(monkeypatch)
    score = make_retrain_scorer(memory=str(tmp_path / "a"))
    values = [score(estimator(memory=memory).fit(X, y), X) for memory in (None, str(tmp_path / "b"))]
    assert values[0] == values[1]
    assert len(calls) == 1


def test_callbacks_of_scikit_learn_see_a_training(tmp_path, trainings):
    pytest.importorskip("sklearn.callback")
    from sklearn.callback import ScoringMonitor

    for _ in range(2):
        estimator(memory=str(tmp_path)).set_callbacks(ScoringMonitor(scoring="accuracy")).fit(X, y)
    assert len(trainings) == 2
