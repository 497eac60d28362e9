"""What a notebook shows of an estimator, below scikit-learn's diagram."""

import copy
import pickle
import re
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from sk_unlearn import ShardedClassifier, ShardedRegressor, UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.estimators import notebook
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.rows import TrainingSet
from sk_unlearn.unlearners import CuReNU, Retrain

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3)).astype(np.float32)
y = (X @ np.array([1.0, -1.0, 0.5]) > 0).astype(int)
IDS = [f"person-{i}" for i in range(60)]


def classifier(unlearner=None, **settings):
    return UnlearnableClassifier(nn.Linear(3, 2), unlearner or CuReNU(max_steps=1), random_state=0, **settings)


def card_of(shown):
    """What stands below the diagram, without markup."""
    html = shown._repr_html_()
    below = html[html.index('<div class="sku">') :]
    text = re.sub(r"<style>.*?</style>", " ", below, flags=re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


# ------------------------------------------------------------------------------------------------------- what it says


def test_before_fit_there_is_nothing_to_forget():
    for est in (UnlearnableClassifier(), UnlearnableRegressor(), ShardedClassifier(), clone(classifier().fit(X, y))):
        assert card_of(est) == f"{type(est).__name__} not fitted: there is nothing to forget yet"


def test_what_was_learnt_and_forgotten():
    est = classifier().fit(X, y)
    assert card_of(est) == (
        "UnlearnableClassifier fitted, no request so far Linear net 8 parameters 60 rows trained on"
    )
    est.forget(X[:4]).correct(X[10:12], y_new=1 - y[10:12])
    text = card_of(est)
    assert "fitted, 2 requests so far" in text
    assert "56 rows trained on" in text
    newest, oldest = (
        f"{report.completed[:19].replace('T', ' ')} UTC {report.request} {report.n_erased} "
        f"{str(report.status).replace('_', ' ')}"
        for report in reversed(est.unlearning_history_)
    )
    assert text.index(newest) <= text.index(oldest)
    assert f"Certificate: {est.certificate_.headline}" in text
    assert "VACUOUS" in text  # a bound of thousands


def test_only_the_newest_requests_are_listed():
    est = classifier().fit(X, y)
    for i in range(7):
        est.forget(X[[i]])
    text = card_of(est)
    assert "The last 5 of 7 requests" in text
    assert text.count("UTC forget") == 5


def test_rows_that_were_held_out_and_rows_that_are_pending():
    weight = np.ones(60)
    weight[:8] = 0
    est = classifier().fit(X, y, weight)
    est.request_forget(X[10:13])
    first = datetime.now(timezone.utc) - timedelta(days=3)
    est.request_forget(X[20:22], received=first)
    due = min(request.deadline for request in est.pending_)
    text = card_of(est)
    assert "52 rows trained on 8 rows held out or without weight" in text
    assert f"5 rows of 2 pending requests, the first due {due:%Y-%m-%d}" in text
    assert "overdue" not in text
    est.request_forget(X[30:31], received=datetime(2020, 1, 1, tzinfo=timezone.utc))
    assert "1 pending request waited beyond the deadline" in card_of(est)


def test_it_says_when_to_retrain_and_what_is_guaranteed():
    est = classifier(Retrain()).fit(X, y).forget(X[:2])
    text = card_of(est)
    assert f"Certificate: {str(est.certificate_).splitlines()[0]}" in text
    assert "Retraining" not in text
    est = classifier().fit(X, y).forget(X[:20])
    assert est.retrain_recommended_
    text = card_of(est)
    assert "Retraining is recommended: call retrain()" in text
    assert est.retrain_recommended_.reasons[0][1:] in text


def test_rows_that_are_not_kept():
    est = classifier(keep_training_set=False).fit(X, y)
    assert "60 rows count, none is stored" in card_of(est)
    est.partial_forget(X[:2], y[:2])
    assert "58 rows count, none is stored" in card_of(est)


@pytest.mark.parametrize("kind", [ShardedClassifier, ShardedRegressor])
def test_of_shards_all_is_counted_together(kind):
    net = UnlearnableClassifier if kind is ShardedClassifier else UnlearnableRegressor
    est = kind(net(nn.Linear(3, 2 if kind is ShardedClassifier else 1)), n_shards=3, random_state=0).fit(X, y)
    est.forget(X[:2])
    est.request_forget(X[10:11])
    text = card_of(est)
    n_parameters = 3 * (8 if kind is ShardedClassifier else 4)
    assert f"{n_parameters} parameters in 3 shards 58 rows trained on 1 rows of 1 pending request" in text
    assert "Certificate: retraining of the shards that held the rows: exact" in text
    est.set_params(unlearner=CuReNU(max_steps=1)).forget(X[2:4])
    assert "Certificate" not in card_of(est)


def test_a_pipeline_tells_of_its_last_step():
    pipe = make_pipeline(StandardScaler(), classifier())
    assert card_of(pipe) == "Pipeline not fitted: there is nothing to forget yet"
    pipe.fit(X, y).forget(X[:2])
    assert card_of(pipe).startswith("Pipeline fitted, 1 request so far Linear net 8 parameters 58 rows trained on")
    other = make_pipeline(StandardScaler(), DecisionTreeClassifier())
    assert "sku" not in other._repr_html_()
    assert "DecisionTreeClassifier" in other.fit(X, y)._repr_html_()


# ------------------------------------------------------------------------------------------------ how it is asked for


@pytest.mark.parametrize("make", [classifier, ShardedClassifier, lambda: make_pipeline(StandardScaler(), classifier())])
def test_the_diagram_stays_and_text_is_left_alone(make):
    for est in (make(), make().fit(X, y)):
        bundle = est._repr_mimebundle_()
        for html in (bundle["text/html"], est._repr_html_()):
            assert html.index("sk-container") < html.index('<div class="sku">')
            assert html.count('<div class="sku">') == 1
        assert "sku" not in bundle["text/plain"]
        with config_context(display="text"):
            assert set(est._repr_mimebundle_()) == {"text/plain"}
            assert not hasattr(est, "_repr_html_")


def test_copies_and_pickles_show_the_same():
    est = classifier().fit(X, y).forget(X[:2])
    for other in (copy.copy(est), copy.deepcopy(est), pickle.loads(pickle.dumps(est))):
        assert card_of(other) == card_of(est)


# ------------------------------------------------------------------------------------------------- what it never says


def test_no_row_no_identifier_and_no_key():
    values = 1234.5 + np.arange(60, dtype=np.float32)
    rows = np.column_stack([X[:, :2], values])
    est = classifier().fit(rows, y, sample_id=IDS).forget(sample_id=IDS[:2])
    request_id = est.request_forget(sample_id=IDS[5])
    pipe = make_pipeline(StandardScaler(), classifier()).fit(rows, y, sample_id=IDS)
    for shown in (est, pipe.forget(rows[:1]), est.unlearning_report_, est.receipts_, est.receipts_[-1]):
        html = shown._repr_html_()
        assert "person" not in html
        assert "1234.5" not in html
        assert request_id not in html
    for shown in (est, pipe):
        # Of each value scikit-learn's diagram shows the beginning and the end.
        assert "receipt_key_" not in shown._repr_html_()


def test_names_are_escaped():
    hostile = "<script>alert(1)</script>"
    kind = type(hostile, (nn.Linear,), {})
    est = UnlearnableClassifier(kind(3, 2), CuReNU(max_steps=1), random_state=0).fit(X, y).forget(X[:2])
    below = est._card()
    assert "<script" not in below
    assert "&lt;script&gt;alert(1)&lt;/script&gt; </b>" in below.replace("</b>", " </b>")


def test_it_computes_nothing_over_rows(monkeypatch):
    est = classifier().fit(X, y, sample_id=IDS).forget(X[:2])
    est.request_forget(X[5:6])

    def read(*args):
        raise AssertionError("rows were read")

    for name in ("X", "y", "raw_X", "raw_y", "raw_id", "sample_id", "trained_mask", "live_mask"):
        monkeypatch.setattr(TrainingSet, name, property(read))
    monkeypatch.setattr(notebook, "latest_certificate", lambda reports, risk: "none" if risk is None else read())
    assert "58" not in est._card().split("rows trained on")[1]
    assert "rows trained on" in est._card()
