import copy
import json
import os
import signal
import sys
import time
from datetime import datetime, timezone

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import BaggingClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

import sk_unlearn
from sk_unlearn import MLPNetClassifier, MLPNetRegressor, UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.inspection import audit
from sk_unlearn.inspection._audit import _measures
from sk_unlearn.inspection._audit._verdict import Closeness, Findings, expected_of_another, judge
from sk_unlearn.metrics import (
    distance_ratio,
    distance_ratio_interval,
    relative_distance,
    retrain_distance,
    row_losses,
    tug_of_war_score,
)
from sk_unlearn.metrics.membership import membership_attack
from sk_unlearn.pipeline import make_pipeline as forgetful_pipeline
from sk_unlearn.references import load as load_references
from sk_unlearn.references import retrained
from sk_unlearn.references import save as save_references
from sk_unlearn.references.many import fit_many
from sk_unlearn.unlearners import Retrain, StoCuReNU
from tests._problems import Mlp, tiny_classifier

ERASED, KEPT, TEST = slice(0, 12), slice(12, 60), slice(60, 120)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(120, 3))
    return X, (X[:, 0] + 0.3 * rng.normal(size=120) > 0).astype(int)


@pytest.fixture(scope="module", autouse=True)
def quick_bootstrap():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_measures, "_N_BOOTSTRAP", 20)
        yield


@pytest.fixture(scope="module")
def before(data):
    X, y = data
    # So short a training would be done again in full.
    return tiny_classifier(StoCuReNU(renew=False), random_state=0).fit(X[:60], y[:60])


@pytest.fixture(scope="module")
def after(before, data):
    return copy.deepcopy(before).forget(data[0][ERASED])


@pytest.fixture(scope="module")
def references(data):
    X, y = data
    return fit_many(tiny_classifier(), X[KEPT], y[KEPT], seeds=[1, 2, 3])


def rows(data):
    X, y = data
    return X[ERASED], y[ERASED], X[TEST], y[TEST]


@pytest.fixture(scope="module")
def report(after, before, data, references):
    X, y = data
    return audit(after, *rows(data), before=before, X_retained=X[KEPT], y_retained=y[KEPT], references=references)


def value(report, measure, on, model):
    table = report.to_frame().set_index(["measure", "rows", "model"])
    return table.loc[(measure, on, model)]


# ------------------------------------------------------------------ figures


def test_figures_are_those_of_the_metrics(report, after, before, data, references):
    X, y = data
    X_del, y_del, X_test, y_test = rows(data)
    found = value(report, "distance ratio", "erased", "after")
    assert (found["value"], found["low"], found["high"]) == distance_ratio_interval(after, references, X_del)
    assert value(report, "distance ratio", "test", "before")["value"] == pytest.approx(
        distance_ratio(before, references, X_test)
    )
    floor = value(report, "JS distance (nats)", "test", "retrained")["value"]
    ratio = value(report, "JS distance (nats)", "test", "after")["value"] / floor
    assert ratio == pytest.approx(distance_ratio(after, references, X_test))
    assert value(report, "accuracy", "erased", "after")["value"] == after.score(X_del, y_del)
    sets = (X_del, y_del, X[KEPT], y[KEPT], X_test, y_test)
    expected = np.mean([tug_of_war_score(after, reference, *sets) for reference in references])
    assert value(report, "Tug-of-War", "all", "after")["value"] == pytest.approx(expected)
    attack = membership_attack(before, X_del, y_del, X_test, y_test)
    assert value(report, "attack AUC", "erased", "before")["value"] == attack.auc
    np.testing.assert_array_equal(report.losses["after"], row_losses(after, X_del, y_del))


def test_on_which_side_it_stands(report, after, before, data, references):
    X, _ = data
    found = value(report, "distance to retrained less that to before", "erased", "after")
    expected = relative_distance(after, before, references, X[ERASED], n_bootstrap=20, random_state=0)
    assert (found["value"], found["low"], found["high"]) == (expected.difference, expected.low, expected.high)


def test_features_that_still_know_a_class_are_noted():
    """A net whose output layer alone was changed never answers with the class again."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:1200], y[:1200]
    gone = y[:700] == 3
    before = UnlearnableClassifier(random_state=0).fit(X[:700], y[:700])
    references = fit_many(UnlearnableClassifier(), X[:700][~gone], y[:700][~gone], seeds=range(1, 7))
    head_only = copy.deepcopy(before).forget(X[:700][gone], y[:700][gone])
    head_only.net_.module_.load_state_dict(before.net_.module_.state_dict())
    with torch.no_grad():
        head_only.net_.module_.body[-1].bias[3] = -100.0
    retained = {"X_retained": X[:700][~gone], "y_retained": y[:700][~gone], "references": references}
    found = audit(head_only, X[:700][gone], y[:700][gone], X[700:], y[700:], before=before, **retained)
    measure = "class learnt anew from features"
    own, old, others = (value(found, measure, "test", each) for each in ("after", "before", "retrained"))
    assert own["value"] == old["value"] > others["high"]
    told = "The features inside the network still tell the erased class."
    assert any(told in each for each in found.reasons)
    again = "recognised while learnt again"
    own, old, others = (value(found, again, "erased", each) for each in ("after", "before", "retrained"))
    assert own["value"] == old["value"] > others["high"]
    assert any("The erased rows are learnt again faster" in each for each in found.assumptions)
    few = audit(head_only, X[:700][gone], y[:700][gone], X[700:][y[700:] != 3], y[700:][y[700:] != 3], **retained)
    assert any("there are too few test rows of the erased class" in each for each in few.assumptions)
    assert measure not in set(few.to_frame()["measure"])


def test_columns(report):
    assert list(report.to_frame()) == ["measure", "rows", "model", "value", "low", "high"]
    assert not report.to_frame().duplicated(["measure", "rows", "model"]).any()
    taken = report.to_frame()
    taken["value"] = 0.0
    assert value(report, "accuracy", "test", "after")["value"] > 0


def test_references_are_retrained_on_what_the_estimator_keeps(after, data):
    X, y = data
    found = audit(after, *rows(data), random_state=3)
    assert len(found.seeds["references"]) == 8
    assert found.n_retained == 48
    models = fit_many(tiny_classifier(), X[KEPT], y[KEPT], seeds=found.seeds["references"])
    expected = distance_ratio(after, models, X[TEST])
    assert value(found, "distance ratio", "test", "after")["value"] == pytest.approx(expected, rel=1e-3)
    again = audit(after, *rows(data), random_state=3)
    pd.testing.assert_frame_equal(found.to_frame(), again.to_frame())


def test_the_estimator_stays_as_it_is(after, data):
    X, _ = data
    predictions, n_reports = after.predict_proba(X), len(after.unlearning_history_)
    audit(after, *rows(data))
    np.testing.assert_array_equal(after.predict_proba(X), predictions)
    assert len(after.unlearning_history_) == n_reports
    assert len(after.training_set_) == 48


def test_rows_still_stored_are_found_and_not_retrained_on(before, data):
    found = audit(before, *rows(data))
    assert found.n_still_stored == 12
    assert found.verdict == "not_yet"
    assert "still holds 12" in found.headline
    assert found.n_retained == 48
    assert found.request is None
    assert np.isnan(found.seconds["forgetting"])


def test_retraining_is_taken_for_forgotten(data):
    X, y = data
    est = tiny_classifier(unlearner=Retrain(), random_state=0).fit(X[:60], y[:60]).forget(X[ERASED])
    found = audit(est, *rows(data), n_references=6)
    assert found.verdict not in ("not_yet", "over_forgotten")
    assert "retrained on the retained rows" in found.to_json()


def test_regression(data):
    X, _ = data
    y = X @ [1.0, 2.0, 3.0] + 1
    est = UnlearnableRegressor(MLPNetRegressor(max_epochs=20), StoCuReNU(renew=False), random_state=0)
    est.fit(X[:60], y[:60]).forget(X[ERASED])
    found = audit(est, X[ERASED], y[ERASED], X[TEST], y[TEST])
    assert set(found.to_frame()["measure"]) >= {"RMS distance", "RMS error", "attack AUC", "distance ratio"}
    assert "Tug-of-War" not in set(found.to_frame()["measure"])
    expected = np.sqrt(np.mean((est.predict(X[TEST]) - y[TEST]) ** 2))
    assert value(found, "RMS error", "test", "after")["value"] == pytest.approx(expected, rel=1e-6)
    assert found.n_still_stored == 0


def test_strings_weights_and_a_whole_class(data):
    X, y = data
    names = np.where(np.abs(X[:, 1]) > 1, "far", np.where(y == 1, "yes", "no"))
    gone = np.flatnonzero(names[:60] == "far")
    weight = np.linspace(0.5, 1.5, 60)
    est = UnlearnableClassifier(MLPNetClassifier(max_epochs=20), StoCuReNU(renew=False), random_state=0)
    est.fit(X[:60], names[:60], sample_weight=weight).forget(X[gone])
    found = audit(est, X[gone], names[gone], X[TEST], names[TEST])
    assert found.n_still_stored == 0
    assert found.n_retained == 60 - len(gone)
    assert any("do not know every erased class" in note for note in found.assumptions)
    assert "KS p-value of losses" not in set(found.to_frame()["measure"])
    assert found.to_html()


def test_a_whole_class_of_a_net_with_outputs_of_its_own(data):
    X, y = data
    names = np.where(np.abs(X[:, 1]) > 1, "far", np.where(y == 1, "yes", "no"))
    gone = np.flatnonzero(names[:60] == "far")
    est = tiny_classifier(n_outputs=3, random_state=0).fit(X[:60], names[:60])
    kept = np.setdiff1d(np.arange(60), gone)
    rows_kept = retrained.Rows(X[kept], names[kept])
    model = retrained.train_references(est, rows_kept, [5]).models[0]
    alone = tiny_classifier(n_outputs=3, random_state=5).fit(X[kept], names[kept])
    assert model.classes_.tolist() == ["far", "no", "yes"]
    np.testing.assert_allclose(
        model.predict_proba(X)[:, [1, 2, 0]], alone.net_.predict_proba(X.astype(np.float32)), rtol=1e-5
    )
    assert model.score(X[kept], names[kept]) > 0.5
    found = audit(est.forget(X[gone]), X[gone], names[gone], X[TEST], names[TEST])
    assert "KS p-value of losses" in set(found.to_frame()["measure"])


def test_pipeline(data):
    X, y = data
    pipeline = make_pipeline(StandardScaler(), tiny_classifier(random_state=0)).fit(X[:60], y[:60])
    untouched = copy.deepcopy(pipeline)
    pipeline[-1].forget(pipeline[:-1].transform(X[ERASED]))
    found = audit(pipeline, *rows(data), before=untouched)
    assert found.n_still_stored == 0
    assert value(found, "accuracy", "test", "before")["value"] == untouched.score(X[TEST], y[TEST])


@pytest.mark.parametrize("keep_raw", [True, False])
def test_every_pipeline_is_shown_rows_as_its_own_steps_make_them(data, keep_raw):
    """The erased rows lay far out, so that the scaler moves by the request."""
    X, y = data
    X = X + 30 * (np.arange(120) < 12)[:, None]

    def blank(seed):
        last = tiny_classifier(StoCuReNU(renew=False), random_state=seed)
        return forgetful_pipeline(StandardScaler(), last).set_params(keep_raw=keep_raw)

    untouched = blank(0).fit(X[:60], y[:60])
    pipeline = copy.deepcopy(untouched).forget(X[ERASED])
    assert np.abs(untouched[0].mean_ - pipeline[0].mean_).min() > 5
    # One of them has yet another scaler, and one is a net behind the scaler of the audited pipeline.
    references = [blank(seed).fit(X[KEPT], y[KEPT]) for seed in (1, 2, 3)]
    references[1] = blank(2).set_params(standardscaler__with_mean=False).fit(X[KEPT], y[KEPT])
    references[2] = fit_many(tiny_classifier(), pipeline[0].transform(X[KEPT]), y[KEPT], seeds=[3])[0]
    whole = [*references[:2], make_pipeline(pipeline[0], references[2])]
    given = {"before": untouched, "references": references}
    found = audit(pipeline, X[ERASED], y[ERASED], X[TEST], y[TEST], **given)
    for name, part in {"erased": ERASED, "test": TEST, "retained": KEPT}.items():
        distance = value(found, "JS distance (nats)", name, "before")["value"]
        expected = np.mean([retrain_distance(untouched, each, X[part]) for each in whole])
        if keep_raw or name != "retained":
            assert distance == pytest.approx(expected)
            assert value(found, "accuracy", name, "before")["value"] == untouched.score(X[part], y[part])
            own = np.mean([each.score(X[part], y[part]) for each in whole])
            assert value(found, "accuracy", name, "retrained")["value"] == pytest.approx(own)
        else:
            assert distance != pytest.approx(expected)
    told = [note for note in found.assumptions if "steps of their own that make other features" in note]
    assert [note[0] for note in told] == ([] if keep_raw else ["2"])
    if not keep_raw:
        retained = {"X_retained": X[KEPT], "y_retained": y[KEPT]}
        as_they_came = audit(pipeline, X[ERASED], y[ERASED], X[TEST], y[TEST], **given, **retained)
        distance = value(as_they_came, "JS distance (nats)", "retained", "before")["value"]
        assert distance == pytest.approx(np.mean([retrain_distance(untouched, each, X[KEPT]) for each in whole]))


def test_rows_of_a_later_request_are_not_retrained_on(data):
    """Places among rows of which some have gone are not places among all."""
    X, y = data
    est = tiny_classifier(StoCuReNU(renew=False), random_state=0).fit(X[:60], y[:60]).forget(X[:6])
    found = audit(est, X[50:60], y[50:60], X[TEST], y[TEST])
    assert (found.n_still_stored, found.n_retained) == (10, 44)
    models = fit_many(tiny_classifier(), X[6:50], y[6:50], seeds=found.seeds["references"])
    expected = distance_ratio(est, models, X[TEST])
    assert value(found, "distance ratio", "test", "after")["value"] == pytest.approx(expected, rel=1e-3)


def test_data_frames_are_audited_by_name(data):
    """Without a warning that names were missing, which every prediction would give."""
    X, y = data
    table = pd.DataFrame(X, columns=["c", "a", "b"])
    untouched = tiny_classifier(StoCuReNU(renew=False), random_state=0).fit(table[:60], y[:60])
    forgetful = copy.deepcopy(untouched).forget(table[:12])
    rows = (y[:12], table[60:], y[60:])
    by_name = audit(forgetful, table[:12], *rows, before=untouched, n_references=3)
    assert by_name.n_still_stored == 0
    assert audit(untouched, table[:12], *rows, n_references=3).n_still_stored == 12
    before = tiny_classifier(StoCuReNU(renew=False), random_state=0).fit(X[:60], y[:60])
    of_arrays = audit(
        copy.deepcopy(before).forget(X[:12]), X[:12], y[:12], X[60:], y[60:], before=before, n_references=3
    )
    pd.testing.assert_frame_equal(by_name.measures, of_arrays.measures)


def test_a_search_is_audited_as_what_it_chose(data):
    X, y = data
    pipeline = forgetful_pipeline(StandardScaler(), tiny_classifier(random_state=0))
    search = GridSearchCV(pipeline, {"unlearnableclassifier__unlearner": [None]}, cv=2).fit(X[:60], y[:60])
    untouched = copy.deepcopy(search)
    sk_unlearn.forget(search, X[ERASED])
    found, expected = (
        audit(each, *rows(data), before=past, n_references=3)
        for each, past in ((search, untouched), (search.best_estimator_, untouched.best_estimator_))
    )
    pd.testing.assert_frame_equal(found.to_frame(), expected.to_frame())
    assert found.n_still_stored == 0
    assert found.request is search.best_estimator_[-1].unlearning_report_


def test_an_ensemble_is_audited_beside_references(data):
    X, y = data
    bagging = BaggingClassifier(tiny_classifier(), 2, random_state=0).fit(X[:60], y[:60])
    retained = {"X_retained": X[KEPT], "y_retained": y[KEPT]}
    for lacking in ({}, retained):
        with pytest.raises(ValueError, match=r"BaggingClassifier does not forget by itself.* Give references"):
            audit(bagging, *rows(data), **lacking)
    others = [clone(bagging).set_params(random_state=seed).fit(X[KEPT], y[KEPT]) for seed in (1, 2, 3)]
    found = audit(bagging, *rows(data), references=others, **retained)
    assert value(found, "accuracy", "test", "after")["value"] == bagging.score(X[TEST], y[TEST])
    assert found.n_still_stored is None
    assert "which_parts_know" in str(found)
    assert "no certificate of its own" in str(found)


def test_without_stored_rows(data):
    X, y = data
    est = tiny_classifier(random_state=0, keep_training_set=False).fit(X[:60], y[:60])
    est.partial_forget(X[ERASED], y[ERASED])
    with pytest.raises(ValueError, match="give X_retained"):
        audit(est, *rows(data))
    found = audit(est, *rows(data), X_retained=X[KEPT], y_retained=y[KEPT])
    assert found.n_still_stored is None
    assert "itself keeps no training rows" in found.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_references": 2}, "n_references must be an int of at least 3, got 2"),
        ({"references": []}, "references must hold at least 3"),
        ({"random_state": None}, "random_state must be an int"),
        ({"X_retained": np.zeros((3, 3))}, "X_retained and y_retained belong together: give both or neither"),
        ({"y_retained": [0, 1]}, "X_retained and y_retained belong together: give both or neither"),
        ({"before": tiny_classifier()}, "before is not fitted"),
        ({"references": [tiny_classifier()] * 3}, r"references\[0\] is not fitted"),
        ({"y_del": [0]}, "X_del has 12 rows and y_del 1"),
        ({"X_test": [[0.0, 0.0, 0.0]], "y_test": [0]}, "X_test must hold at least 2 rows"),
    ],
)
def test_arguments(after, data, change, message):
    given = dict(zip(("X_del", "y_del", "X_test", "y_test"), rows(data), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        audit(after, **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": 3}, "references must be a list of retrained models or a folder, got int"),
        ({"references": tiny_classifier()}, "references must be a list of retrained models or a folder, got Unl"),
        ({"references": [1, 2, 3]}, r"references\[0\] must be a fitted estimator, got int"),
        ({"before": "model"}, "before must be a fitted estimator, got str"),
        ({"estimator": None}, "estimator must be a fitted estimator, got NoneType"),
    ],
)
def test_what_is_no_model(after, data, change, message):
    given = dict(zip(("X_del", "y_del", "X_test", "y_test"), rows(data), strict=True)) | {"estimator": after} | change
    with pytest.raises(TypeError, match=message):
        audit(**given | {"n_references": 3})


# ------------------------------------------------------------------ references that are handed in


def test_a_folder_of_references_serves_as_they_do(data, tmp_path):
    X, y = data
    est = UnlearnableClassifier(random_state=0).fit(X[:60], y[:60]).forget(X[ERASED])
    models = fit_many(UnlearnableClassifier(), X[KEPT], y[KEPT], seeds=[1, 2, 3])
    save_references(models, tmp_path)
    given = audit(est, *rows(data), references=models)
    assert any("without the erased rows, none of which they store" in note for note in given.assumptions)
    for folder in (tmp_path, str(tmp_path)):
        found = audit(est, *rows(data), references=folder)
        pd.testing.assert_frame_equal(found.to_frame(), given.to_frame())
        assert found.seeds["references"] == [1, 2, 3]
        assert any("which was not checked (3 of them keep no rows to look in)" in note for note in found.assumptions)


def test_references_that_were_trained_on_erased_rows_are_refused(after, data, references):
    X, y = data
    tainted = fit_many(tiny_classifier(), X[5:60], y[5:60], seeds=[4])
    with pytest.raises(ValueError, match=r"references\[3\] stores 7 of the 12 erased rows: it was trained on them"):
        audit(after, *rows(data), references=[*references, *tainted])
    # The same content with another target is another row.
    other = fit_many(tiny_classifier(), X[5:60], 1 - y[5:60], seeds=[4])
    assert audit(after, *rows(data), references=[*references, *other]).n_still_stored == 0


def test_receipts_say_whether_the_rows_are_those_of_a_request(before, after, data, references):
    def told(est, X, y):
        found = audit(est, X, y, data[0][TEST], data[1][TEST], references=references)
        return [each for each in found.assumptions if "handed to the audit" in each]

    X, y = data
    (all_of_them,) = told(after, X[ERASED], y[ERASED])
    assert all_of_them.endswith("by its receipts the model was asked to erase all 12.")
    (unknown,) = told(after, X[[0, 1, 70, 71, 72]], y[[0, 1, 70, 71, 72]])
    assert unknown.startswith("3 of the 5 rows handed to the audit as erased are in no receipt of the model")
    (no_request,) = told(references[0], X[ERASED], y[ERASED])
    assert no_request.endswith("which was not looked up in receipts.")
    steps = StandardScaler().fit(X[:60])
    behind = make_pipeline(steps, tiny_classifier(random_state=0).fit(steps.transform(X[:60]), y[:60]))
    behind[-1].forget(steps.transform(X[ERASED]))
    (of_features,) = told(behind, X[ERASED], y[ERASED])
    assert of_features.endswith("by its receipts the model was asked to erase all 12.")


def test_one_model_more_than_once_is_refused(after, data, references):
    for again in (references[1], copy.deepcopy(references[1])):
        with pytest.raises(ValueError, match=r"references\[3\] is references\[1\] again, or a copy of it"):
            audit(after, *rows(data), references=[*references, again])


def test_references_that_lack_a_class_of_the_rows_that_stay_are_refused(references):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), np.array(["a", "b", "c"]).repeat(20)
    est = tiny_classifier(random_state=0, n_outputs=3).fit(X, y).forget(X[:10])
    without = fit_many(tiny_classifier(), X[10:40], y[10:40], seeds=range(3))
    with pytest.raises(ValueError, match=r"references\[0\] does not know 1 of the 3 classes of the rows that stay"):
        audit(est, X[:10], y[:10], X[::4], y[::4], references=without)


def test_rows_that_nothing_can_be_trained_on():
    X, y = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2
    module = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    net = NeuralNetBinaryClassifier(module, max_epochs=1, train_split=None, verbose=0)
    est = UnlearnableClassifier(net, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"No model can be retrained on the rows that stay: .* separates 2 classes"):
        audit(est, X[y == 0], y[y == 0], X, y)


@pytest.mark.parametrize("own_steps", [True, False])
def test_references_of_a_pipeline_that_were_trained_on_erased_rows_are_refused(data, own_steps):
    X, y = data
    pipeline = forgetful_pipeline(StandardScaler(), tiny_classifier(StoCuReNU(renew=False), random_state=0))
    blank = clone(pipeline)
    pipeline.fit(X[:60], y[:60]).forget(X[ERASED])
    if own_steps:
        models = [clone(blank).fit(X[n:60], y[n:60]) for n in (12, 12, 10)]
    else:
        models = [tiny_classifier().fit(pipeline[0].transform(X[n:60]), y[n:60]) for n in (12, 12, 10)]
    with pytest.raises(ValueError, match=r"references\[2\] stores 2 of the 12 erased rows"):
        audit(pipeline, *rows(data), references=models)


def test_digests_say_which_requests_saved_references_serve(before, data, references, tmp_path):
    """One set, retrained without the rows of both requests, serves each of them, and no other."""
    X, y = data
    save_references(references, tmp_path, X_del=X[ERASED], y_del=y[ERASED], key=before.receipt_key_)
    saved = load_references(tmp_path, trusted=[Mlp])
    for request in (slice(0, 5), slice(5, 12)):
        forgetful = copy.deepcopy(before).forget(X[request])
        found = audit(forgetful, X[request], y[request], X[TEST], y[TEST], references=saved)
        assert any("by their digests, all erased ones are" in note for note in found.assumptions)
    other = copy.deepcopy(before).forget(X[8:16])
    with pytest.raises(ValueError, match="4 of the 8 erased rows are not among those that the saved references"):
        audit(other, X[8:16], y[8:16], X[TEST], y[TEST], references=saved)


def test_ctrl_c_while_references_are_handed_in_ends_the_audit(after, data, references, monkeypatch):
    """Nothing is retrained then that could be left out."""

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_measures, "evaluate_attack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        audit(after, *rows(data), references=references)


# ------------------------------------------------------------------ progress


@pytest.mark.parametrize("verbose", [0, 1])
def test_verbose_shows_progress_on_stderr(after, data, verbose, capsys):
    audit(after, *rows(data), verbose=verbose)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert ("retraining" in printed.err) == ("measuring" in printed.err) == bool(verbose)
    assert bool(printed.err) == bool(verbose)


# ------------------------------------------------------------------ interrupted


def test_interrupted_keeps_what_is_done(after, data, monkeypatch, capsys):
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit_many(*args, **kwargs)

    monkeypatch.setattr(retrained, "fit_many", interrupted)
    found = audit(after, *rows(data), n_references=3, verbose=1)
    assert not found.complete
    assert len(found.seeds["references"]) == 1
    assert found.verdict == "undecided"
    assert "INCOMPLETE" in str(found)
    assert "Incomplete" in found.to_html()
    assert json.loads(found.to_json())["complete"] is False
    assert "interrupted; going on with 1 of 3 models" in capsys.readouterr().err


def test_interrupted_before_anything_is_done(after, data, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(retrained, "fit_many", interrupted)
    found = audit(after, *rows(data))
    assert found.seeds["references"] == []
    assert value(found, "attack AUC", "erased", "after")["value"] >= 0
    assert found.to_html()


class CtrlC(Callback):
    """Press it in the second epoch."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_model_whose_training_was_cut_short_is_no_reference(data):
    X, y = data
    X = X.astype(np.float32)
    net = NeuralNetClassifier(
        nn.Linear(3, 2), criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, callbacks=[CtrlC()], max_epochs=4
    )
    handler = signal.getsignal(signal.SIGINT)
    trained = retrained.train_references(UnlearnableClassifier(net), retrained.Rows(X, y), [1, 2, 3])
    assert trained.models == []
    assert not trained.complete
    assert signal.getsignal(signal.SIGINT) is handler


class CtrlCElsewhere(Callback):
    """Press it in the process that started all, when the n-th training begins in whatever process."""

    def __init__(self, folder, process, n):
        self.folder = folder
        self.process = process
        self.n = n

    def on_train_begin(self, net, **kwargs):
        number = 1
        while True:  # each number is taken once
            try:
                (self.folder / str(number)).touch(exist_ok=False)
                break
            except FileExistsError:
                number += 1
        if number == self.n:
            os.kill(self.process, signal.SIGINT)
            time.sleep(2)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_interrupted_with_other_processes_at_work(data, tmp_path):
    X, y = data
    X = X.astype(np.float32)
    net = NeuralNetClassifier(
        nn.Linear(3, 2), criterion=nn.CrossEntropyLoss, train_split=None, verbose=0, max_epochs=2,
        callbacks=[CtrlCElsewhere(tmp_path, os.getpid(), 6)],
    )  # fmt: skip
    est = UnlearnableClassifier(net).fit(X, y)
    trained = retrained.train_references(est, retrained.Rows(X, y), range(8), n_jobs=2)
    # The first training is that of the estimator; the first batch of four is done, and the second is cut short.
    assert (trained.seeds, len(trained.models), trained.complete) == ([0, 1, 2, 3], 4, False)


@pytest.mark.parametrize(("n", "sizes"), [(3, [1, 1, 1]), (6, [2, 2, 1, 1]), (8, [4, 4]), (13, [5, 4, 4])])
def test_models_are_trained_in_stacks_that_gain_something(data, monkeypatch, n, sizes):
    found = []

    def counted(*args, seeds, **kwargs):
        found.append(len(seeds))
        return fit_many(*args, seeds=seeds, **kwargs)

    monkeypatch.setattr(retrained, "fit_many", counted)
    est = tiny_classifier(random_state=0).fit(*data)
    assert retrained.train_references(est, retrained.Rows(*data), range(n)).seeds == list(range(n))
    assert found == sizes


# ------------------------------------------------------------------ the verdict

FORGOTTEN = {
    "ratios": {"erased": Closeness(0.9, 0.6, 1.5), "test": Closeness(0.8, 0.6, 1.5)},
    "auc": 0.52,
    "auc_interval": (0.45, 0.6),
    "reference_aucs": [0.5, 0.52, 0.54],
    "loss": 1.0,
    "reference_losses": [0.9, 1.1, 1.0],
    "n_still_stored": 0,
}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, "closer"),
        ({"n_still_stored": 1}, "not_yet"),
        ({"ratios": {"erased": Closeness(1.2, 0.6, 1.5), "test": Closeness(0.8, 0.6, 1.5)}}, "within"),
        ({"ratios": {"erased": Closeness(1.2, 0.3, 4.5), "test": Closeness(0.8, 0.6, 1.5)}}, "undecided"),
        ({"recall": 0.45, "reference_recalls": [0.4, 0.42, 0.44]}, "closer"),
        ({"recall": 0.9, "reference_recalls": [0.4, 0.42, 0.44]}, "outputs_only"),
        ({"recall": 0.9, "reference_recalls": [0.4, 0.42, 0.44], "auc": 0.8}, "not_yet"),
        ({"ratios": {"erased": Closeness(2.0, 0.6, 1.5), "test": Closeness(0.8, 0.6, 1.5)}}, "not_yet"),
        ({"ratios": {"erased": Closeness(0.8, 0.6, 1.5), "test": Closeness(1.6, 0.6, 1.5)}}, "not_yet"),
        ({"auc": 0.8}, "not_yet"),
        ({"auc": 0.2}, "over_forgotten"),
        (
            {"ratios": {"erased": Closeness(2.0, 0.6, 1.5), "test": Closeness(0.8, 0.6, 1.5)}, "loss": 3.0},
            "over_forgotten",
        ),
        ({"ratios": {"erased": Closeness(0.9, 0.6, 1.5)}}, "undecided"),
        # What is in the weights needs no yardstick, and no interval that is narrow.
        ({"ratios": {}, "inside": ["A fact."]}, "outputs_only"),
        (
            {"ratios": {"erased": Closeness(2.0, 0.1, 9.0), "test": Closeness(0.8, 0.6, 1.5)}, "inside": ["A fact."]},
            "outputs_only",
        ),
        ({"reference_aucs": [0.5, 0.5], "reference_losses": [1.0, 1.0]}, "undecided"),
        # Models that do not vary leave the noise of the rows.
        ({"reference_aucs": [0.5, 0.5, 0.5], "auc": 0.47, "auc_interval": (0.4, 0.56)}, "closer"),
        ({"reference_aucs": [0.5, 0.5, 0.5], "auc": 0.3, "auc_interval": (0.2, 0.4)}, "over_forgotten"),
    ],
)
def test_verdicts(change, code):
    verdict = judge(Findings(**FORGOTTEN | change))
    assert verdict.code == code
    assert verdict.headline.endswith(".")
    assert set(change.get("inside", ())) <= set(verdict.reasons)
    assert all(reason.endswith(".") for reason in verdict.reasons if "n_references" not in reason)


def test_another_is_expected_where_it_turns_up():
    rng = np.random.default_rng(0)
    hits = 0
    for drawn in rng.normal(size=(2000, 6)):
        low, high = expected_of_another(drawn[:5], least=0.0)
        hits += low <= drawn[5] <= high
    assert 0.98 < hits / 2000 < 0.998
    assert expected_of_another([0.5, 0.5, 0.5]) == (0.49, 0.51)


def test_a_model_that_forgot_nothing_is_told(data, references):
    X, y = data
    noisy = np.where(np.arange(120) < 12, 1 - y, y)
    est = tiny_classifier(random_state=0).fit(X[:60], noisy[:60])
    before = copy.deepcopy(est)
    est.forget(X[ERASED])
    # The parameters of the model before, with the rows merely struck off the list.
    est.net_.module_.load_state_dict(before.net_.module_.state_dict())
    assert audit(est, X[ERASED], noisy[ERASED], X[TEST], y[TEST]).verdict == "not_yet"


# ------------------------------------------------------------------ what is saved


def test_json_holds_aggregates_only(report, tmp_path):
    text = report.to_json(tmp_path / "audit.json")
    assert (tmp_path / "audit.json").read_text(encoding="utf-8") == text
    plain = json.loads(text)
    assert plain["verdict"] == report.verdict
    assert len(plain["measures"]) == len(report.to_frame())
    assert plain["request"]["n_erased"] == 12
    assert set(plain["versions"]) >= {"sk-unlearn", "torch", "Python"}
    assert "NaN" not in text
    for loss in report.losses["after"]:
        assert repr(float(loss)) not in text


def test_text(report):
    text = str(report)
    assert report.headline in text
    for measure in report.to_frame()["measure"]:
        assert measure in text


def test_compliance_claims_no_certificate_that_there_is_not(report):
    assert report.certificate is None
    clauses = {clause.get("clause"): clause for clause in json.loads(report.to_json())["compliance"]}
    assert clauses["GDPR Article 17, erasure"]["evidence"].endswith("No (ε, δ) guarantee is claimed for this request.")
    assert clauses["GDPR Article 16, rectification"]["evidence"].startswith("Not what")


def test_compliance_quotes_the_record_of_the_request(data):
    X, y = data
    est = tiny_classifier(StoCuReNU(renew=False), random_state=0).fit(X[:60], y[:60], sample_id=np.arange(60))
    untouched = audit(est, *rows(data))
    assert {each["evidence"] for each in clauses_of(untouched, "12.5.3", "Article 12(3)")} == {
        "The estimator has no receipt of a request.",
        "The estimator has no record of a request.",
    }
    received = datetime(2020, 1, 1, tzinfo=timezone.utc)
    est.request_forget(sample_id=list(range(8)), received=received)
    est.request_forget(sample_id=list(range(8, 12)))
    settled = audit(est.settle(), *rows(data))
    kept, in_time = clauses_of(settled, "12.5.3", "Article 12(3)")
    assert est.receipts_[-1].request_id in kept["evidence"]
    assert in_time["evidence"] == "2 waiting requests were carried out together, 1 of them after their deadline."
    # The published standard has no requirement on unlearning; drafts of it had.
    assert not any("12.2" in clause.get("clause", "") for clause in json.loads(settled.to_json())["compliance"])


def clauses_of(report, *names):
    found = [each for each in json.loads(report.to_json())["compliance"] if "clause" in each]
    return [next(each for each in found if name in each["clause"]) for name in names]


def test_a_certificate_is_in_the_report(data):
    X, y = data
    net = NeuralNetClassifier(
        nn.Linear,
        module__in_features=3,
        module__out_features=2,
        criterion=nn.CrossEntropyLoss,
        optimizer__weight_decay=0.1,
        lr=0.3,
        max_epochs=20,
        train_split=None,
        verbose=0,
    )
    est = UnlearnableClassifier(net, StoCuReNU(renew=False), random_state=0).fit(X[:60], y[:60])
    found = audit(est.forget(X[ERASED]), *rows(data))
    assert found.certificate is not None
    plain = json.loads(found.to_json())
    assert plain["certificate"]["bound"] == found.certificate.bound
    assert "within" in str(found)
    # A bound without noise is no (epsilon, delta) guarantee.
    assert plain["compliance"][1]["evidence"].endswith("No (ε, δ) guarantee is claimed for this request.")
    assert "no (epsilon, delta) claim" in found.to_html()
