"""What is done past a pipeline, or with other tables than it was fitted on, is refused or said in the report."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import RBFSampler
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from sk_unlearn.inspection import audit
from sk_unlearn.metrics import make_retrain_scorer
from sk_unlearn.pipeline import make_pipeline
from tests import _problems

rng = np.random.default_rng(11)
N = 40
TABLE = pd.DataFrame({"age": rng.integers(18, 90, N), "income": rng.lognormal(10, 1, N)})
BOUGHT = np.where(TABLE.income > 22_000, "yes", "no")


def scaled(**settings):
    net = settings.pop("net", {})
    last = _problems.classifier(max_epochs=3, lr=0.1, **net)
    return make_pipeline(StandardScaler(), last, **settings)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pl.from_pandas(TABLE[["age"]][:1]), r"1 of those are absent \(income\), and 0 are new"),
        (TABLE[:1].assign(more=1), r"0 of those are absent, and 1 are new \(more\)\. Pass .* neither the target nor"),
        (TABLE.to_numpy()[:1], "Columns of X_del have names: none; those of fit had: some"),
        *((rows, r"X_del is no table, .* sample_id=\[") for rows in (TABLE.iloc[0], 7, np.int64(7), "a7", [7], ["a7"])),
    ],
    ids=["fewer", "more", "array", "one row", "number", "NumPy's number", "text", "list of numbers", "list of texts"],
)
def test_rows_of_another_shape_are_not_merely_unknown(rows, message):
    with pytest.raises(ValueError, match=message):
        scaled().fit(TABLE, BOUGHT).forget(rows)


def test_names_that_fit_did_not_have():
    pipe = scaled().fit(TABLE.to_numpy(), BOUGHT)
    with pytest.raises(ValueError, match="Columns of X_old have names: some; those of fit had: none"):
        pipe.correct(TABLE[:1], y_new=["no"])
    with pytest.raises(ValueError, match="X is no table"):
        pipe.partial_forget(TABLE.to_numpy()[0], BOUGHT[:1])


def test_fit_does_not_drop_requests_that_wait():
    pipe = scaled().fit(TABLE, BOUGHT)
    pipe.request_forget(TABLE[:1])
    with pytest.raises(ValueError, match="fit would drop the pending requests"):
        pipe.fit(TABLE, BOUGHT)
    assert len(pipe.pending_) == 1
    pipe.settle().fit(TABLE[1:], BOUGHT[1:])


def test_no_raw_rows_are_kept_where_none_are_stored():
    """They could never be dropped: nothing says which of them are handed in."""
    marked = TABLE.assign(income=TABLE.income.where(TABLE.index != 3, 98765.4321))
    pipe = scaled(net={"keep_training_set": False}, preprocessing="keep").fit(marked, BOUGHT)
    assert np.float64(98765.4321).tobytes() not in pickle.dumps(pipe)
    assert repr(pipe.pipeline_state_) == f"PipelineState({N} rows, not kept as they came)"
    pipe.partial_forget(marked[3:4], BOUGHT[3:4])


def test_a_last_step_or_a_step_that_was_exchanged():
    pipe = scaled().fit(TABLE, BOUGHT)
    pipe.set_params(standardscaler="passthrough")
    with pytest.raises(ValueError, match="not those that fit fitted"):
        pipe.forget(TABLE[:1])
    pipe = scaled().fit(TABLE, BOUGHT)
    pipe[-1].fit(TABLE.to_numpy(np.float32), BOUGHT)
    for act in (lambda: pipe.forget(TABLE[:1]), lambda: pipe.partial_forget(TABLE[:1], BOUGHT[:1])):
        with pytest.raises(ValueError, match="its last step was fitted past it"):
            act()


def test_a_request_to_the_last_step_says_what_still_contains_the_rows():
    pipe = scaled().fit(TABLE, BOUGHT, sample_id=TABLE.index)
    told = "other steps, and the raw rows that it keeps, still contain them"
    pipe[-1].forget(sample_id=[0])
    assert any(told in note for note in pipe.unlearning_report_.notes)
    pipe.forget(sample_id=[1])
    assert not any(told in note for note in pipe.unlearning_report_.notes)
    assert len(pipe.pipeline_state_.raw) == N - 2
    pipe[-1].request_forget(sample_id=[2])
    pipe[-1].settle()
    assert any(told in note for note in pipe.unlearning_report_.notes)


def test_a_cache_is_named(tmp_path):
    pipe = scaled(memory=str(tmp_path)).fit(TABLE, BOUGHT)
    for act in (lambda: pipe.forget(TABLE[:1]), lambda: pipe.request_forget(TABLE[1:2]) and pipe.settle()):
        act()
        assert any("memory of the pipeline keeps steps" in note for note in pipe.unlearning_report_.notes)


def test_training_anew_because_codes_moved_is_said():
    """The net would take the towns after the one that vanished for their neighbours."""
    towns = np.array(["Bonn", "Jena", "Ulm"], dtype=object)[np.arange(N) % 3]
    bought, towns[7] = np.where(towns == "Ulm", "yes", "no"), "Lonelyville"
    towns = pd.DataFrame({"town": towns})
    pipe = make_pipeline(OrdinalEncoder(), _problems.classifier(max_epochs=30, lr=0.5)).fit(towns, bought)
    pipe.forget(towns[7:8])
    assert any("it was trained anew" in note for note in pipe.unlearning_report_.notes)
    assert (pipe.predict(towns.drop(index=7)) == np.delete(bought, 7)).mean() > 0.9


def test_the_net_follows_an_outlier_out_of_a_column_with_gaps():
    """The first layer takes what changes for all but the rows with gaps, and the net is not trained anew."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200)})
    y = (rows.b + 0.1 * rows.a > 0).to_numpy().astype(int)
    rows.loc[rng.random(200) < 0.1, "a"] = np.nan
    rows.loc[7, "a"] = 60.0
    net = _problems.classifier(max_epochs=40, lr=0.5)
    pipe = make_pipeline(SimpleImputer(), StandardScaler(), net).fit(rows, y)
    full = rows[rows.a.notna() & (rows.index != 7)]
    before = pipe.predict_proba(full)
    pipe.forget(rows[7:8])
    assert not any("trained anew" in note for note in pipe.unlearning_report_.notes)
    assert np.abs(pipe.predict_proba(full) - before).mean() < 0.02
    scaler = StandardScaler().fit(SimpleImputer().fit_transform(rows.drop(index=7)))
    np.testing.assert_allclose(pipe[1].mean_, scaler.mean_, rtol=1e-10)


def test_gaps_filled_by_a_mean_need_the_raw_rows():
    gaps = TABLE.assign(age=TABLE.age.where(TABLE.index != 5))
    last = _problems.classifier(max_epochs=3, lr=0.1)
    pipe = make_pipeline(SimpleImputer(), StandardScaler(), last, keep_raw=False).fit(gaps, BOUGHT)
    before = pickle.dumps(pipe)
    for act in (
        lambda: pipe.forget(gaps[:1]),
        lambda: pipe.partial_fit(TABLE[:1].assign(age=20), BOUGHT[:1]),
        lambda: pipe.correct(gaps[:1], X_new=gaps[:1].assign(age=20)),
    ):
        with pytest.raises(ValueError, match=r"as where a mean fills gaps, .* fit with keep_raw=True"):
            act()
    assert pickle.dumps(pipe) == before
    pipe.set_params(preprocessing="keep").forget(gaps[:1])
    assert any("still contain the rows: simpleimputer: SimpleImputer" in n for n in pipe.unlearning_report_.notes)


def test_judged_after_columns_vanished():
    """By what the steps give now, which is narrower than the net."""
    towns = pd.DataFrame({"town": np.array(["Bonn", "Jena", "Ulm"])[rng.integers(0, 3, N)], "age": TABLE.age})
    towns.loc[[3, 4], "town"] = "Lonelyville"
    table = ColumnTransformer([("w", OneHotEncoder(handle_unknown="ignore"), ["town"])], remainder=StandardScaler())
    pipe = make_pipeline(table, _problems.classifier(max_epochs=3, lr=0.1)).fit(towns[:30], BOUGHT[:30])
    pipe.forget(towns[3:5])
    score = make_retrain_scorer("js", request=0.1)(pipe, towns[30:], BOUGHT[30:])
    assert -np.log(2) <= score <= 0
    report = audit(pipe, towns[3:5], BOUGHT[3:5], towns[30:], BOUGHT[30:], n_references=3, random_state=0)
    assert "in its training set" not in str(report)


def test_a_correction_past_the_pipeline_is_refused():
    pipe = scaled().fit(TABLE, BOUGHT)
    with pytest.raises(ValueError, match="call correct of the pipeline"):
        pipe[-1].correct(pipe[:-1].transform(TABLE[:1]), y_new=["no"])


def test_a_step_that_was_replaced_after_fit():
    pipe = scaled().fit(TABLE, BOUGHT)
    pipe.set_params(**{pipe.steps[0][0]: clone(pipe[0])})
    with pytest.raises(ValueError, match=f"{pipe.steps[0][0]} is not the step that fit fitted: fit the pipeline anew"):
        pipe.forget(TABLE[:1])


@pytest.mark.parametrize(
    "step", [GaussianRandomProjection(3), SparseRandomProjection(3), RBFSampler(gamma=1.0, n_components=8)], ids=str
)
def test_what_was_drawn_at_random_stays(step):
    """Drawn anew without a seed it would be another map, and the net would have to be trained anew at each request."""
    X = np.random.default_rng(0).normal(size=(60, 5))
    pipe = make_pipeline(step, _problems.classifier(max_epochs=3)).fit(X, X[:, 0] > 0)
    before = pipe[0].transform(X)
    pipe.forget(X[:2])
    np.testing.assert_array_equal(pipe[0].transform(X), before)
    assert pipe.unlearning_report_.method != "Retrain"
    # Behind a scaler it is given other numbers, and stays all the same.
    pipe = make_pipeline(StandardScaler(), step, _problems.classifier(max_epochs=3)).fit(X, X[:, 0] > 0)
    drawn = pipe[1].transform(X)
    pipe.forget(X[:2])
    np.testing.assert_array_equal(pipe[1].transform(X), drawn)
    stored = pipe[-1].training_set_.X
    np.testing.assert_allclose(stored, pipe[:-1].transform(X[2:]), atol=1e-6)


def test_single_rows_and_notes_of_a_table():
    pipe = scaled()
    noted = TABLE.copy()
    noted.attrs["note"] = "whose rows these are"
    pipe.fit(noted, BOUGHT)
    assert b"whose rows these are" not in pickle.dumps(pipe)
    with pytest.raises(ValueError, match=r"Rows must come in a table.*pandas.DataFrame\(\[row\]\)"):
        pipe.forget(TABLE.iloc[3].to_dict())
