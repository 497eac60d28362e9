"""Estimators of many shards inside models of others, and in what judges a deletion."""

import copy
import json
from collections import defaultdict

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline as PlainPipeline
from sklearn.pipeline import make_pipeline as plain_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import sk_unlearn
from sk_unlearn import MLPNetClassifier, ShardedClassifier, UnlearnableClassifier
from sk_unlearn.commands import main
from sk_unlearn.inspection import audit
from sk_unlearn.metrics import make_retrain_scorer
from sk_unlearn.model_selection import ForgetSearchCV
from sk_unlearn.pipeline import Pipeline, make_pipeline
from sk_unlearn.references.many import fit_many
from sk_unlearn.references.retrained import Rows, train_references
from sk_unlearn.unlearners import FineTune, Retrain
from tests._problems import Mlp, skorch_net

N = 40
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
Y = np.array(["ant", "bee", "cat"])[np.r_[0:3, RNG.integers(0, 3, size=N - 3)]]
PERSON = np.arange(N) // 2
GONE, STAY = np.arange(4, 7), np.r_[0:4, 7:N]


def sharded(unlearner=None, *, dtype="float64", **settings):
    import torch

    net = skorch_net(
        Mlp, max_epochs=2, batch_size=8, lr=0.2, module__n_hidden=2, module__dtype=getattr(torch, dtype), **settings
    )  # fmt: skip
    return ShardedClassifier(UnlearnableClassifier(net), 2, unlearner=unlearner, random_state=0)


# ------------------------------------------------------------------------------------------------- models around them


def test_a_pipeline_whose_steps_forget_refuses_shards_and_says_what_to_take():
    pipe = make_pipeline(StandardScaler(), sharded())
    assembled = Pipeline([("scale", StandardScaler().fit(X)), ("model", sharded().fit(X, Y))])
    for ask in (
        lambda: pipe.fit(X, Y),
        lambda: pipe.partial_fit(X, Y),
        lambda: assembled.forget(X[:1]),
        lambda: sk_unlearn.forget(assembled, X[:1]),
        lambda: sk_unlearn.which_parts_know(assembled, X[:1]),
    ):
        with pytest.raises(ValueError, match=r"ShardedClassifier cannot be the last step: .* with Retrain\(\)"):
            ask()


def test_steps_that_learn_nothing_may_stand_before_shards():
    pipe = plain_pipeline(FunctionTransformer(np.tanh), sharded()).fit(X, Y)
    sk_unlearn.forget(pipe, X[GONE], Y[GONE])
    again = clone(pipe).fit(X[STAY], Y[STAY])
    np.testing.assert_array_equal(pipe.predict_proba(X), again.predict_proba(X))


def test_models_beside_shards_are_fitted_again_on_the_rows_that_these_keep():
    vote = VotingClassifier([("shards", sharded()), ("other", LogisticRegression())], voting="soft").fit(X, Y)
    sk_unlearn.forget(vote, X[GONE], on_other="refit")
    again = clone(vote).fit(X[STAY], Y[STAY])
    np.testing.assert_array_equal(vote.estimators_[0].predict_proba(X), again.estimators_[0].predict_proba(X))
    np.testing.assert_allclose(vote.predict_proba(X), again.predict_proba(X), atol=1e-4)  # rows in another order
    with pytest.raises(ValueError, match="retained holds 1 of the rows to erase"):
        sk_unlearn.forget(vote, X[7:9], on_other="refit", retained=(X[8:], Y[8:]))


def test_calibration_on_all_rows_is_taken_anew():
    model = CalibratedClassifierCV(sharded(), ensemble=False, cv=2).fit(X, Y)
    told = sk_unlearn.forget(model, X[GONE], on_other="refit")
    shards = model.calibrated_classifiers_[0].estimator
    assert shards.unlearning_report_.n_erased == 3
    assert any("refitted" in line for line in str(told).splitlines())


# ------------------------------------------------------------------------------------------------------------ judged


def test_a_scorer_sees_no_difference_from_retraining():
    est = sharded().fit(X, Y, sample_id=PERSON)
    assert make_retrain_scorer("js", request=3)(est, X, Y) == 0
    est.set_params(unlearner=FineTune(n_epochs=1))
    assert make_retrain_scorer("js", request=3)(est, X, Y) < 0


def test_a_search_tries_unlearners_of_the_shards(tmp_path):
    search = ForgetSearchCV(
        sharded(), {"unlearner": [FineTune(n_epochs=1), Retrain()]}, cv=2, n_references=2, memory=str(tmp_path)
    ).fit(X, Y)  # fmt: skip
    assert np.isfinite(search.cv_results_["mean_selection_score"]).all()
    assert search.best_estimator_.predict(X).shape == (N,)


def test_references_are_whole_models_of_shards_with_persons_kept_together():
    est = sharded().fit(X, Y)
    many = fit_many(est, X, Y, [STAY, STAY], seeds=[3, 4])
    alone = clone(est).set_params(random_state=4).fit(X[STAY], Y[STAY])
    np.testing.assert_array_equal(many[1].predict_proba(X), alone.predict_proba(X))
    (model,) = train_references(est, Rows(X, Y, None, PERSON), [5]).models
    homes = defaultdict(set)
    for number, each in enumerate(model.estimators_):
        for one in each.training_set_.sample_id.tolist():
            homes[one].add(number)
    assert {len(each) for each in homes.values()} == {1}
    assert len(homes) == N // 2


def test_an_audit_of_a_class_finds_the_rows_gone_and_tells_of_the_certificate():
    gone = Y == "cat"
    gone[2:20] = Y[2:20] == "cat"
    est = sharded(module__n_outputs=3).fit(X, Y, sample_id=np.arange(N)).forget(X[gone], Y[gone])
    report = audit(
        est, X[gone], Y[gone], X_test=X + 0.01, y_test=Y, n_references=3, n_jobs=1, random_state=0
    )  # fmt: skip
    assert (report.n_still_stored, report.n_retained) == (0, N - gone.sum())
    assert report.certificate.kind == "exact"
    assert report.verdict != "farther"
    assert len(est.record_audit(report).receipts_) == 2


def test_an_audit_takes_no_reference_twice():
    est = sharded().fit(X[STAY], Y[STAY])
    with pytest.raises(ValueError, match=r"references\[1\] is references\[0\] again"):
        audit(est, X[GONE], Y[GONE], X_test=X, y_test=Y, references=[est, copy.deepcopy(est), est])


def test_a_distance_of_parameters_needs_one_net():
    with pytest.raises(ValueError, match="got ShardedClassifier without one"):
        make_retrain_scorer("parameters")(sharded().fit(X, Y), X, Y)


# ------------------------------------------------------------------------------------------------------- command line


def test_the_command_line_forgets_settles_shows_and_verifies(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    single = UnlearnableClassifier(MLPNetClassifier(max_epochs=1, module__width=4))
    est = ShardedClassifier(single, 2, random_state=0).fit(X, Y, sample_id=PERSON)
    sk_unlearn.save(est, "model.skops")
    (tmp_path / "ids.csv").write_text("2\n3\n")
    (tmp_path / "more.csv").write_text("4\n")

    def call(*arguments):
        status = main([*arguments, "--json", "--traceback"])
        assert status == 0
        return json.loads(capsys.readouterr().out)

    assert call("forget", "model.skops", "--ids", "ids.csv", "--log", "log.jsonl")["parts"][0]["n_erased"] == 4
    call("request", "model.skops", "--ids", "more.csv", "--log", "log.jsonl")
    (shown,) = call("show", "model.skops")["parts"].values()
    assert (shown["kind"], shown["n_rows"], len(shown["pending"])) == ("ShardedClassifier", N - 4, 1)
    assert shown["retrain_recommended"] is False
    call("settle", "model.skops", "--log", "log.jsonl")
    assert call("verify", "log.jsonl", "--model", "model.skops")["agrees"] == {"parameters": True, "rows": True}
    stay = ~np.isin(PERSON, [2, 3, 4])
    again = clone(est).fit(X[stay], Y[stay], sample_id=PERSON[stay])
    np.testing.assert_array_equal(sk_unlearn.load("model.skops").predict_proba(X), again.predict_proba(X))


def test_plain_pipelines_are_told_what_keeps_them():
    pipe = PlainPipeline([("scale", StandardScaler()), ("model", sharded())]).fit(X, Y)
    with pytest.raises(sk_unlearn.exceptions.PartsCannotForget, match="StandardScaler"):
        sk_unlearn.forget(pipe, X[GONE], on_other="refit")
