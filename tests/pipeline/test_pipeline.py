"""A pipeline forgets whole: raw rows are found, every step is what a fit without them gives, and the net follows."""

import pickle
import threading
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline as sklearn_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.utils.estimator_checks import check_estimator

from sk_unlearn import MLPNetRegressor, UnlearnableRegressor, forget
from sk_unlearn.pipeline import Pipeline, make_pipeline
from sk_unlearn.receipts import prove_erased, verify
from sk_unlearn.unlearners import FineTune, Retrain
from tests import _problems
from tests._problems import FOLDS_IN_ORDER

rng = np.random.default_rng(5)
N = 60
PEOPLE = pd.DataFrame(
    {
        "age": rng.integers(18, 90, N).astype(float),
        "income": rng.lognormal(10, 1, N),
        "town": rng.choice(["Ulm", "Bonn", "Jena"], N),
        "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, N), unit="D"),
    }
)
PEOPLE.loc[[3, 17, 40], "age"] = np.nan
PEOPLE.loc[5, "town"] = "Atlantis"
BOUGHT = np.where(PEOPLE.income + rng.normal(size=N) * 1e4 > 2.5e4, "yes", "no")
IDS = np.arange(N) // 2
NUMBERS, WORDS = ["age", "income"], ["town"]


def years(dates):
    return np.asarray((pd.DataFrame(dates) - pd.Timestamp("2020-01-01")) / pd.Timedelta(days=365), dtype=float)


def net(unlearner=None, **settings):
    return _problems.classifier(unlearner, **({"max_epochs": 4, "lr": 0.1, "batch_size": 16} | settings))


def mixed(**encoder):
    return ColumnTransformer(
        [
            ("numbers", sklearn_pipeline(SimpleImputer(), StandardScaler()), NUMBERS),
            ("words", OneHotEncoder(sparse_output=False, **encoder), WORDS),
            ("dates", FunctionTransformer(years), ["since"]),
        ]
    )


def people(*, last=None, **settings):
    return Pipeline([("table", mixed()), ("net", last or net())], **settings)


def check_steps(pipe, X, y):
    """All steps are what they are when they are fitted on these rows, and the last one stores what they give."""
    fresh = clone(pipe[:-1])
    Z = fresh.fit_transform(X, y)
    np.testing.assert_allclose(
        np.asarray(pipe[:-1].transform(X)), np.asarray(fresh.transform(X)), rtol=1e-10, atol=1e-10
    )
    last = pipe[-1]
    stored = last._at_width_of_net(np.asarray(Z, dtype=last.unlearning_state_.dtype))
    np.testing.assert_allclose(last.training_set_.X, stored, rtol=1e-5, atol=1e-6)


# ----------------------------------------------------------------------------------------------------------- forgetting


def test_raw_rows_leave_every_step():
    pipe = people().fit(PEOPLE, BOUGHT)
    assert pipe.forget(PEOPLE.iloc[[5, 3]]) is pipe
    stay = np.delete(np.arange(N), [5, 3])
    check_steps(pipe, PEOPLE.iloc[stay], BOUGHT[stay])
    assert "Atlantis" not in pipe.named_steps["table"].named_transformers_["words"].categories_[0]
    assert pipe.unlearning_report_.n_erased == 2
    assert pipe.unlearning_history_ == [pipe.unlearning_report_]
    assert pipe.predict(PEOPLE.iloc[stay]).shape == (N - 2,)
    with pytest.raises(ValueError, match=r"X_del: 1 of 2 rows cannot be found: 1 not among .* \(index 1\)"):
        pipe.forget(PEOPLE.iloc[[6, 3]])
    assert len(pipe[-1].training_set_) == N - 2


def test_nothing_of_the_rows_is_left_in_its_files():
    marked = PEOPLE.copy()
    marked.loc[7, ["age", "income"]] = [123.4567, 98765.4321]
    pipe = people().fit(marked, BOUGHT, sample_id=[f"person {i}" for i in range(N)])
    pipe.forget(marked.iloc[[7, 5]])
    content = pickle.dumps(pipe)
    for trace in (b"Atlantis", b"person 7", np.float64(123.4567).tobytes(), np.float64(98765.4321).tobytes()):
        assert trace not in content
    assert np.float64(marked.income[8]).tobytes() in content  # as those of others are


def test_in_any_order_of_columns_from_another_library_and_by_target():
    pipe = people().fit(PEOPLE, BOUGHT)
    pipe.forget(PEOPLE[["town", "since", "income", "age"]].iloc[:2])
    pipe.forget(pl.DataFrame({name: PEOPLE[name][2:4].to_list() for name in PEOPLE}))
    with pytest.raises(ValueError, match="1 stored, but with another label than in y_del"):
        pipe.forget(PEOPLE.iloc[[4]], ["no" if BOUGHT[4] == "yes" else "yes"])
    pipe.forget(PEOPLE.iloc[[4]], BOUGHT[[4]])
    check_steps(pipe, PEOPLE.iloc[5:], BOUGHT[5:])


def test_by_identifier():
    pipe = people().fit(PEOPLE, BOUGHT, sample_id=IDS)
    pipe.forget(sample_id=[0, 3])
    pipe.forget(PEOPLE.iloc[[8]], sample_id=[4])
    stay = np.delete(np.arange(N), [0, 1, 6, 7, 8])
    check_steps(pipe, PEOPLE.iloc[stay], BOUGHT[stay])
    with pytest.raises(ValueError, match="1 of 1 ids are not stored"):
        pipe.forget(sample_id=[0])
    with pytest.raises(ValueError, match="No stored row has both"):
        pipe.forget(PEOPLE.iloc[[9]], sample_id=[10])


@pytest.mark.parametrize(
    "steps",
    [
        [StandardScaler()],
        [MinMaxScaler(), PCA(2)],
        [RobustScaler()],
        [QuantileTransformer(n_quantiles=10)],
        [StandardScaler(), SelectKBest(k=2)],
        ["passthrough"],
        [],
    ],
    ids=lambda steps: "-".join(type(step).__name__ for step in steps) or "nothing",
)
def test_steps_of_numbers(steps):
    X = rng.normal(size=(N, 3)) * [1, 10, 100] + [0, 5, 1000]
    y = (X[:, 0] + rng.normal(size=N) > 0).astype(int)
    pipe = make_pipeline(*steps, net()).fit(X, y)
    for gone in ([0, 1], [2], [30, 31, 32]):
        pipe.forget(X[gone])
    stay = np.delete(np.arange(N), [0, 1, 2, 30, 31, 32])
    if steps:
        check_steps(pipe, X[stay], y[stay])
    assert len(pipe[-1].training_set_) == N - 6


def test_the_net_is_the_one_of_the_same_request_in_new_coordinates():
    """Near enough: the first layer takes the move of a scale into itself, and the same rows leave."""
    X = rng.normal(size=(N, 3)) * [1, 10, 100]
    y = (X[:, 0] > 0).astype(int)
    pipe = make_pipeline(StandardScaler(), net(Retrain())).fit(X, y)
    pipe.forget(X[:3])
    fresh = make_pipeline(StandardScaler(), net()).fit(X[3:], y[3:])
    np.testing.assert_allclose(pipe.predict_proba(X), fresh.predict_proba(X), atol=1e-6)
    pipe, plain = make_pipeline(StandardScaler(), net()).fit(X, y), net().fit(StandardScaler().fit_transform(X), y)
    plain.forget(StandardScaler().fit_transform(X)[:3])
    pipe.forget(X[:3])
    np.testing.assert_allclose(pipe.predict_proba(X), plain.predict_proba(StandardScaler().fit_transform(X)), atol=0.05)


def test_texts_as_they_come():
    texts = [f"word{i % 7} word{i % 5} and" + (" secret" if i == 4 else "") for i in range(N)]
    pipe = make_pipeline(TfidfVectorizer(), net()).fit(texts, BOUGHT)
    pipe.forget([texts[4]])
    assert "secret" not in pipe[0].vocabulary_
    assert b"secret" not in pickle.dumps(pipe)
    stay = np.delete(np.arange(N), [i for i, text in enumerate(texts) if text == texts[4]])
    fresh = TfidfVectorizer().fit([texts[i] for i in stay])
    np.testing.assert_allclose(pipe[0].transform(texts).toarray(), fresh.transform(texts).toarray(), atol=1e-12)


def test_a_code_that_moves_is_followed_by_training_anew():
    pipe = make_pipeline(OrdinalEncoder(), net()).fit(PEOPLE[["town"]], BOUGHT)
    pipe.forget(PEOPLE[["town"]].iloc[[5]])
    stay = np.delete(np.arange(N), 5)
    check_steps(pipe, PEOPLE[["town"]].iloc[stay], BOUGHT[stay])


def test_supervised_steps_see_the_targets_that_are_left():
    """Features at `fit` come from folds, other than those of a later `transform`; so do those of the rows that stay."""
    pipe = make_pipeline(TargetEncoder(**FOLDS_IN_ORDER), net()).fit(PEOPLE[["town"]], BOUGHT)
    stay = np.flatnonzero(PEOPLE.town != "Jena")
    pipe.forget(PEOPLE[["town"]][PEOPLE.town == "Jena"].iloc[:1])
    Z = TargetEncoder(**FOLDS_IN_ORDER).fit_transform(PEOPLE[["town"]].iloc[stay], BOUGHT[stay])
    np.testing.assert_allclose(pipe[-1].training_set_.X, Z, rtol=1e-6)


def test_regression_and_output_as_data_frames():
    pipe = make_pipeline(StandardScaler(), UnlearnableRegressor(random_state=0)).set_output(transform="pandas")
    table = PEOPLE[["income"]].assign(twice=2 * PEOPLE.income + rng.normal(size=N))
    pipe.fit(table, PEOPLE.income * 3)
    pipe.forget(table.iloc[:2], PEOPLE.income[:2] * 3)
    assert pipe[-1].feature_names_in_.tolist() == ["income", "twice"]
    assert pipe.predict(table).shape == (N,)
    check_steps(pipe, table.iloc[2:], None)


# ------------------------------------------------------------------------------------------- what cannot be forgotten


def test_steps_that_cannot_forget_refuse_or_are_named():
    X, y = rng.normal(size=(N, 2)), BOUGHT
    pipe = make_pipeline(RobustScaler(), net(), keep_raw=False).fit(X, y)
    before = pickle.dumps(pipe)
    with pytest.raises(ValueError, match=r"robustscaler: RobustScaler\. Fit with keep_raw=True"):
        pipe.forget(X[:1])
    assert pickle.dumps(pipe) == before
    pipe.set_params(preprocessing="keep").forget(X[:1])
    assert any("still contain the rows: robustscaler: RobustScaler" in note for note in pipe.unlearning_report_.notes)
    assert len(pipe[-1].training_set_) == N - 1


def test_without_raw_rows_counts_are_enough_where_the_request_brings_the_rows():
    pipe = people(keep_raw=False)
    numbers = ColumnTransformer([("n", StandardScaler(), NUMBERS), ("w", OneHotEncoder(sparse_output=False), WORDS)])
    pipe = Pipeline([("table", numbers), ("net", net())], keep_raw=False)
    whole = PEOPLE.dropna()[[*NUMBERS, *WORDS]]
    y = BOUGHT[whole.index]
    pipe.fit(whole, y, sample_id=whole.index.to_numpy())
    pipe.forget(whole.iloc[[3, 4]])
    stay = np.delete(np.arange(len(whole)), [3, 4])
    check_steps(pipe, whole.iloc[stay], y[stay])
    with pytest.raises(ValueError, match="pass X_del beside sample_id"):
        pipe.forget(sample_id=[int(whole.index[5])])
    pipe.forget(whole.iloc[[5]], sample_id=[int(whole.index[5])])
    assert len(pipe[-1].training_set_) == len(whole) - 3
    with pytest.raises(ValueError, match="A request cannot wait here"):
        pipe.request_forget(whole.iloc[[6]])
    assert pipe.pending_ == ()
    pipe.retrain()  # with nothing to take out of the steps
    check_steps(pipe, whole.iloc[np.delete(np.arange(len(whole)), [3, 4, 5])], None)


def test_without_raw_rows_a_filled_value_cannot_move():
    table = PEOPLE[["age"]]
    pipe = make_pipeline(SimpleImputer(), StandardScaler(), net(), keep_raw=False).fit(table, BOUGHT)
    before = pickle.dumps(pipe)
    with pytest.raises(ValueError, match=r"these are needed as they came.* fit with keep_raw=True"):
        pipe.forget(table.iloc[[0]])
    assert pickle.dumps(pipe) == before


def test_a_last_step_that_is_no_net_works_as_in_scikit_learn():
    pipe = make_pipeline(StandardScaler(), LogisticRegression()).fit(PEOPLE[["income"]], BOUGHT)
    assert pipe.predict(PEOPLE[["income"]]).shape == (N,)
    with pytest.raises(
        ValueError, match="forget needs an UnlearnableClassifier or UnlearnableRegressor as the last step"
    ):
        pipe.forget(PEOPLE[["income"]][:1])
    with pytest.raises(NotFittedError):
        people().forget(PEOPLE[:1])


def test_bad_requests_change_nothing():
    pipe = people().fit(PEOPLE, BOUGHT)
    before = pickle.dumps(pipe)
    for arguments, message in (
        ({}, "both are None"),
        ({"y_del": ["yes"], "sample_id": [1]}, "pass X_del too"),
        ({"X_del": PEOPLE}, "covers all"),
        ({"X_del": PEOPLE[:0]}, "X_del is empty"),
        ({"X_del": PEOPLE[:1], "y_del": ["perhaps"]}, "labels that fit has not seen"),
        ({"X_del": PEOPLE[:2], "y_del": BOUGHT[:1]}, "y_del has 1 rows but belongs to 2"),
        ({"sample_id": [1]}, "none was given at fit"),
    ):
        with pytest.raises(ValueError, match=message):
            pipe.forget(**arguments)
    assert pickle.dumps(pipe) == before


def test_rows_that_the_net_forgot_by_itself_leave_the_steps_at_the_next_request():
    pipe = people().fit(PEOPLE, BOUGHT, sample_id=np.arange(N))
    pipe[-1].forget(sample_id=[5, 30])
    pipe.forget(sample_id=[10])
    stay = np.delete(np.arange(N), [5, 10, 30])
    check_steps(pipe, PEOPLE.iloc[stay], BOUGHT[stay])
    pipe[-1].forget(sample_id=[11])
    with pytest.raises(ValueError, match="forgotten rows by a call of its own"):
        pipe.partial_fit(PEOPLE[:1].assign(age=1), BOUGHT[:1], sample_id=[99])


# ------------------------------------------------------------------------------------- handed in, corrected, trained on


def test_rows_handed_in():
    pipe = people().fit(PEOPLE, BOUGHT)
    pipe.partial_forget(PEOPLE.iloc[:2], BOUGHT[:2])
    check_steps(pipe, PEOPLE.iloc[2:], BOUGHT[2:])
    pipe = people(last=net(keep_training_set=False), preprocessing="keep").fit(PEOPLE, BOUGHT)
    pipe.partial_forget(PEOPLE.iloc[:2], BOUGHT[:2])
    assert any("still contain the rows: table: ColumnTransformer" in note for note in pipe.unlearning_report_.notes)
    assert prove_erased(pipe.receipts_, PEOPLE.iloc[[1]], key=pipe.receipt_key_) == [[pipe.receipts_[0]]]
    with pytest.raises(ValueError, match='set preprocessing="keep"'):
        pipe.set_params(preprocessing="forget").partial_forget(PEOPLE.iloc[2:3], BOUGHT[2:3])
    with pytest.raises(ValueError, match="hand the rows and targets to partial_forget"):
        pipe.forget(PEOPLE.iloc[2:3])


def test_corrected_rows():
    pipe = people().fit(PEOPLE, BOUGHT)
    right = PEOPLE.copy()
    right.loc[9, ["age", "town"]] = [33.0, "Bonn"]
    pipe.correct(PEOPLE.iloc[[9]], X_new=right.iloc[[9]])
    check_steps(pipe, right, BOUGHT)
    other = BOUGHT.copy()
    other[9] = "no" if BOUGHT[9] == "yes" else "yes"
    pipe.correct(right.iloc[[9]], y_new=other[[9]])
    assert pipe[-1].training_set_.y[9] == int(other[9] == "yes")
    pipe.forget(right.iloc[[9]], other[[9]])
    with pytest.raises(ValueError, match="cannot be found"):
        pipe.forget(PEOPLE.iloc[[9]])
    # The only row of a category stays one, whatever else of it is corrected.
    pipe.correct(PEOPLE.iloc[[5]], X_new=PEOPLE.iloc[[5]].assign(age=50.0))
    with pytest.raises(ValueError, match="different new contents"):
        pipe.correct(PEOPLE.iloc[[1, 1]], X_new=PEOPLE.iloc[[1, 2]])


def test_training_further():
    pipe = people().fit(PEOPLE[:50], BOUGHT[:50])
    pipe.partial_fit(PEOPLE[50:], BOUGHT[50:])
    check_steps(pipe, PEOPLE, BOUGHT)
    pipe.partial_fit(PEOPLE[50:], BOUGHT[50:])  # a further pass stores nothing and counts nothing twice
    check_steps(pipe, PEOPLE, BOUGHT)
    pipe.forget(PEOPLE.iloc[[55]])
    stay = np.delete(np.arange(N), 55)
    check_steps(pipe, PEOPLE.iloc[stay], BOUGHT[stay])
    with pytest.raises(ValueError, match="fit again"):
        pipe.partial_fit(PEOPLE[:1].assign(town="Oz"), BOUGHT[:1])
    first = people().partial_fit(PEOPLE, BOUGHT, classes=["maybe", "no", "yes"])
    assert first.classes_.tolist() == ["maybe", "no", "yes"]
    check_steps(first, PEOPLE, BOUGHT)


# ------------------------------------------------------------------------------------------------- in scikit-learn


@pytest.mark.parametrize(
    "last", [net(max_epochs=2), UnlearnableRegressor(MLPNetRegressor(max_epochs=2), random_state=0)]
)
def test_keeps_the_contract_of_an_estimator(last):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        check_estimator(
            make_pipeline(StandardScaler(), last),
            expected_failed_checks={"check_estimators_overwrite_params": "fitting a pipeline fits what it was given"},
        )


def test_rows_with_other_columns_are_told_apart_from_unknown_rows():
    pipe = people().fit(PEOPLE, BOUGHT)
    with pytest.raises(ValueError, match=r"X_del has other columns .* 1 of those are absent \(town\), and 1 are new"):
        pipe.forget(PEOPLE[:1].rename(columns={"town": "city"}))
    pipe = make_pipeline(StandardScaler(), net()).fit(PEOPLE[["income"]].to_numpy(), BOUGHT)
    with pytest.raises(ValueError, match="X_del has 2 features, but Pipeline is expecting 1 features"):
        pipe.forget(np.zeros((1, 2)))


def test_clones_searches_and_parameters():
    pipe = people(keep_raw=False, preprocessing="keep")
    assert clone(pipe).get_params()["keep_raw"] is False
    assert cross_val_score(people(last=net(max_epochs=1)), PEOPLE.assign(town="Ulm"), BOUGHT, cv=2).shape == (2,)
    search = GridSearchCV(people(last=net(FineTune())), {"net__unlearner__n_epochs": [1, 2]}, cv=2, error_score="raise")
    search.fit(PEOPLE.assign(town="Ulm"), BOUGHT)
    search.best_estimator_.forget(PEOPLE.assign(town="Ulm")[:1])
    assert len(search.best_estimator_[-1].training_set_) == N - 1


def test_metadata_is_routed():
    weight = np.where(np.arange(N) % 2, 1.0, 2.0)
    plain = people().fit(PEOPLE, BOUGHT, net__sample_weight=weight, sample_id=IDS)
    with sklearn.config_context(enable_metadata_routing=True):
        numbers = sklearn_pipeline(SimpleImputer(), StandardScaler().set_fit_request(sample_weight=False))
        routed = people(last=net())
        routed.set_params(table__numbers=numbers, net=net().set_fit_request(sample_weight=True)).fit(
            PEOPLE, BOUGHT, sample_weight=weight, sample_id=IDS
        )
    for pipe in (plain, routed):
        assert pipe[-1].training_set_.sample_weight.tolist() == weight.tolist()
        pipe.forget(sample_id=[0])
    np.testing.assert_array_equal(plain.predict_proba(PEOPLE), routed.predict_proba(PEOPLE))


def test_weights_of_a_step_are_forgotten_too():
    X, weight = rng.normal(size=(N, 2)), rng.integers(1, 4, N).astype(float)
    pipe = make_pipeline(StandardScaler(), net()).fit(X, BOUGHT, standardscaler__sample_weight=weight)
    pipe.forget(X[:4])
    fresh = StandardScaler().fit(X[4:], sample_weight=weight[4:])
    np.testing.assert_allclose(pipe[0].mean_, fresh.mean_, rtol=1e-12)


def test_a_fit_that_fails_leaves_a_fitted_pipeline_as_it_was():
    pipe = people().fit(PEOPLE, BOUGHT)
    scaler, expected = pipe[0], pipe.predict_proba(PEOPLE)
    with pytest.raises(ValueError, match="y"):
        pipe.fit(PEOPLE[:30], None)
    assert pipe[0] is scaler
    np.testing.assert_array_equal(pipe.predict_proba(PEOPLE), expected)
    pipe.fit(PEOPLE[:30], BOUGHT[:30])
    assert len(pipe[-1].training_set_) == 30
    assert not hasattr(pipe, "unlearning_report_")


def test_whoever_holds_a_step_holds_the_forgetful_one():
    table, last = mixed(), net()
    pipe = Pipeline([("table", table), ("net", last)]).fit(PEOPLE, BOUGHT)
    encoder, rows = table, last.training_set_
    pipe.forget(PEOPLE.iloc[[5]])
    assert (pipe[0], pipe[-1], last.training_set_) == (encoder, last, rows)
    assert "Atlantis" not in encoder.named_transformers_["words"].categories_[0]


def test_a_failing_request_changes_no_step():
    class Failing(FineTune):
        def unlearn(self, problem):
            raise FloatingPointError("struck")

    pipe = people(last=net(Failing())).fit(PEOPLE, BOUGHT)
    before, expected, state = pickle.dumps(pipe[:-1]), pipe.predict_proba(PEOPLE), pipe.pipeline_state_
    with pytest.raises(FloatingPointError):
        pipe.forget(PEOPLE.iloc[[5]])
    assert pickle.dumps(pipe[:-1]) == before
    assert pipe.pipeline_state_ is state
    assert len(state.raw) == len(pipe[-1].training_set_) == N
    np.testing.assert_array_equal(pipe.predict_proba(PEOPLE), expected)


def test_predictions_meanwhile_come_from_one_state():
    """Scaler and net are exchanged together: no prediction mixes an old one with a new one."""
    X = rng.normal(size=(N, 2)) * 1000
    X[0] *= 1000  # which stretches the scale
    y = (X[:, 0] > 0).astype(int)
    pipe = make_pipeline(StandardScaler(), net()).fit(X, y)
    copy = pickle.loads(pickle.dumps(pipe))
    allowed = [copy.predict_proba(X[1:]).tobytes(), copy.forget(X[:1]).predict_proba(X[1:]).tobytes()]
    seen, done = set(), threading.Event()

    def predict():
        while not done.is_set():
            seen.add(pipe.predict_proba(X[1:]).tobytes())

    thread = threading.Thread(target=predict)
    thread.start()
    pipe.forget(X[:1])
    done.set()
    thread.join()
    seen.add(pipe.predict_proba(X[1:]).tobytes())
    assert seen <= set(allowed)
    assert allowed[1] in seen


def test_pickles_go_on():
    pipe = people().fit(PEOPLE, BOUGHT, sample_id=IDS)
    loaded = pickle.loads(pickle.dumps(pipe.forget(sample_id=[1])))
    for each in (pipe, loaded):
        each.forget(PEOPLE.iloc[[5]])
    np.testing.assert_array_equal(
        pipe.predict_proba(PEOPLE.assign(town="Ulm")), loaded.predict_proba(PEOPLE.assign(town="Ulm"))
    )


# ----------------------------------------------------------------------------------------------------- later, and proof


def test_requests_wait_and_are_settled_in_every_step():
    pipe = people().fit(PEOPLE, BOUGHT, sample_id=IDS)
    first = pipe.request_forget(PEOPLE.iloc[[5]])
    second = pipe.request_forget(sample_id=[10])
    third = pipe.request_forget(sample_id=[12])
    pipe.cancel_request(third)
    assert [each.request_id for each in pipe.pending_] == [first, second]
    assert len(pipe[-1].training_set_) == N
    assert pipe.settle() is pipe
    stay = np.delete(np.arange(N), [5, 20, 21])
    check_steps(pipe, PEOPLE.iloc[stay], BOUGHT[stay])
    assert [each["request_id"] for each in pipe.unlearning_report_.requests] == [first, second]
    state = pipe.pipeline_state_
    assert pipe.settle().pipeline_state_ is state  # nothing was pending


def test_trained_anew_after_pending_requests():
    X = rng.normal(size=(N, 3)) * [1, 10, 100]
    pipe = make_pipeline(StandardScaler(), net()).fit(X, BOUGHT)
    pipe.request_forget(X[:2])
    assert not pipe.retrain_recommended_
    pipe.retrain()
    fresh = make_pipeline(StandardScaler(), net()).fit(X[2:], BOUGHT[2:])
    np.testing.assert_allclose(pipe.predict_proba(X), fresh.predict_proba(X), atol=1e-6)
    assert pipe.unlearning_report_.request == "retrain"
    assert len(pipe.unlearning_history_) == 1


def test_receipts_prove_what_happened_to_raw_rows():
    pipe = people().fit(PEOPLE, BOUGHT, sample_id=[f"person {i}" for i in range(N)])
    pipe.forget(PEOPLE.iloc[[5, 6]])
    pipe.forget(sample_id=["person 9"])
    verify(pipe.receipts_)
    asked = PEOPLE.iloc[[5, 7, 9]][["town", "income", "since", "age"]]
    proof = prove_erased(pipe.receipts_, asked, key=pipe.receipt_key_)
    assert proof == [[pipe.receipts_[0]], [], [pipe.receipts_[1]]]
    assert all(word not in str(receipt) for word in ("Atlantis", "person 9") for receipt in pipe.receipts_)


def test_in_an_ensemble_and_a_search():
    members = [("one", people()), ("two", people(last=net(max_epochs=2)))]
    vote = VotingClassifier(members, voting="soft").fit(PEOPLE, BOUGHT)
    forget(vote, PEOPLE.iloc[[5]])
    stay = np.delete(np.arange(N), 5)
    for member in vote.estimators_:
        np.testing.assert_array_equal(len(member[-1].training_set_), N - 1)
        check_steps(member, PEOPLE.iloc[stay], vote.le_.transform(BOUGHT[stay]))
    with pytest.raises(ValueError, match="No part of the model knows"):
        forget(vote, PEOPLE.iloc[[5]])
    search = GridSearchCV(people(), {"net__estimator__max_epochs": [1, 2]}, cv=2, error_score="raise")
    search.fit(PEOPLE.assign(town="Ulm"), BOUGHT)
    forget(search, PEOPLE.assign(town="Ulm").iloc[[1]], on_other="report")
    assert len(search.best_estimator_[-1].training_set_) == N - 1
