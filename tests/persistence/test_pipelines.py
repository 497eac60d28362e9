"""Our pipeline in files: with its rows it goes on as if never saved; without them nothing of a row is in the file."""

import pickle
import threading

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline as sklearn_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

import sk_unlearn
from sk_unlearn import UnlearnableClassifier
from sk_unlearn.exceptions import InconsistentVersionWarning, PersistenceError
from sk_unlearn.persistence import untrusted_types
from sk_unlearn.pipeline import Pipeline, make_pipeline
from sk_unlearn.receipts import prove_erased, verify
from tests._problems import classifier

rng = np.random.default_rng(11)
N = 50
PEOPLE = pd.DataFrame(
    {
        "age": rng.normal(50, 10, N),
        "income": rng.lognormal(10, 1, N),
        "town": rng.choice(["Ulm", "Bonn", "Jena"], N),
    }
)
PEOPLE.loc[::6, "town"] = np.nan
BOUGHT = np.where(PEOPLE.income > PEOPLE.income.median(), "yes", "no")
IDS = [f"person {i}" for i in range(N)]


def people(**settings):
    table = ColumnTransformer(
        [
            ("numbers", sklearn_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
            ("range", MinMaxScaler(), ["income"]),
            ("words", OneHotEncoder(sparse_output=False), ["town"]),
        ]
    )
    return Pipeline([("table", table), ("net", classifier(max_epochs=3, lr=0.1, batch_size=16))], **settings)


def to_and_fro(model, path, **options):
    sk_unlearn.save(model, path, **options)
    return sk_unlearn.load(path, trusted=untrusted_types(path))


def through_pickle(model, _path):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("carried", [to_and_fro, through_pickle])
@pytest.mark.parametrize("keep_raw", [True, False])
def test_it_goes_on_as_if_it_had_not_been_saved(keep_raw, carried, tmp_path):
    pipe = people(keep_raw=keep_raw).fit(PEOPLE, BOUGHT, sample_id=IDS)
    pipe.forget(PEOPLE.iloc[[3]])
    if keep_raw:
        pipe.request_forget(PEOPLE.iloc[[8]])
    verbs = [
        lambda one: one,
        lambda one: one.forget(PEOPLE.iloc[[5, 6]]),
        lambda one: one.partial_fit(PEOPLE.iloc[[3]], BOUGHT[[3]], sample_id=["person again"]),
        lambda one: one.settle(),
        lambda one: one.correct(PEOPLE.iloc[[20]], X_new=PEOPLE.iloc[[20]].assign(age=51.5)),
        lambda one: one.retrain(),
    ]
    other = carried(pipe, tmp_path / "pipe.skops")
    for verb in verbs:
        verb(pipe)
        verb(other)
        np.testing.assert_array_equal(other.predict_proba(PEOPLE), pipe.predict_proba(PEOPLE))
        np.testing.assert_array_equal(other[:-1].transform(PEOPLE), pipe[:-1].transform(PEOPLE))
        assert len(other[-1].training_set_) == len(pipe[-1].training_set_)
        assert len(other.receipts_) == len(pipe.receipts_)
        other = carried(other, tmp_path / "pipe.skops")
    assert other.receipt_key_ == pipe.receipt_key_
    assert verify(other.receipts_) == len(pipe.receipts_)


@pytest.mark.parametrize("receipts", [True, False])
def test_without_rows_nothing_of_a_row_is_in_the_file(receipts, tmp_path):
    """Nor what steps were counted by, which lists single values: those of MinMaxScaler are of the column's ends."""
    pipe = people(preprocessing="keep").fit(PEOPLE, BOUGHT, sample_id=IDS)
    pipe.forget(PEOPLE.iloc[[3]])
    path = tmp_path / "pipe.skops"
    sk_unlearn.save(pipe, path)
    whole = path.read_bytes()
    values = [value for column in ("age", "income") for value in np.sort(PEOPLE[column].drop(3))[1:-1]]
    traces = [np.float64(value).tobytes() for value in values] + [repr(float(value)).encode() for value in values]
    assert sum(trace in whole for trace in traces) > N
    other = to_and_fro(pipe, path, rows=False, receipts=receipts)
    data = path.read_bytes()
    assert not any(trace in data for trace in traces)
    assert b"person" not in data
    assert pipe.pipeline_state_.raw is not None  # the one that was saved keeps its rows
    assert (pipe.receipt_key_.hex().encode() in data) == receipts
    assert pipe.receipt_key_ not in data
    np.testing.assert_array_equal(other.predict_proba(PEOPLE), pipe.predict_proba(PEOPLE))
    other.partial_forget(PEOPLE.iloc[[9]], BOUGHT[[9]])
    assert verify(other.receipts_) == (2 if receipts else 1)
    assert prove_erased(other.receipts_, PEOPLE.iloc[[9, 10]], key=other.receipt_key_) == [[other.receipts_[-1]], []]
    assert (other.receipt_key_ == pipe.receipt_key_) == receipts
    with pytest.raises(ValueError, match="keep_training_set=False"):
        other.forget(PEOPLE.iloc[[10]])


def test_files_for_others_hold_no_key(tmp_path):
    """Of an estimator as of a pipeline; where rows stay, so does the key that finds them."""
    X = PEOPLE[["age"]].to_numpy()
    est = classifier(max_epochs=1).set_params(hash_ids=True).fit(X, BOUGHT, sample_id=IDS)
    path = tmp_path / "model.skops"
    for options, there in [
        ({}, True),
        ({"receipts": False}, True),
        ({"rows": False}, True),
        ({"rows": False, "receipts": False}, False),
    ]:
        sk_unlearn.save(est, path, **options)
        data = path.read_bytes()
        assert (est.receipt_key_ in data or est.receipt_key_.hex().encode() in data) == there
    assert sk_unlearn.load(path, trusted=untrusted_types(path)).receipt_key_ != est.receipt_key_


def test_an_estimator_whose_receipts_were_left_out_begins_others(tmp_path):
    X = PEOPLE[["age"]].to_numpy()
    est = classifier(max_epochs=1).fit(X, BOUGHT).forget(X[:1])
    other = to_and_fro(est, tmp_path / "model.skops", receipts=False)
    other.forget(X[1:2])
    assert verify(other.receipts_) == 1
    assert other.receipts_.beginning["parameters"] == other.receipts_[0].parameters_before


def test_rows_that_no_request_could_find_are_not_kept():
    net = UnlearnableClassifier(random_state=0, keep_training_set=False)
    pipe = make_pipeline(MinMaxScaler(), net, preprocessing="keep").fit(PEOPLE[["age"]], BOUGHT)
    assert pipe.pipeline_state_.raw is None
    pipe.partial_forget(PEOPLE[["age"]].iloc[[4]], BOUGHT[[4]])
    assert np.float64(PEOPLE.age[4]).tobytes() not in pickle.dumps(pipe)


@pytest.mark.parametrize("kind", ["search", "vote"])
def test_ensembles_of_pipelines_forget_after_loading(kind, tmp_path):
    if kind == "search":
        model = GridSearchCV(people(), {"net__estimator__max_epochs": [1, 2]}, cv=2, error_score="raise")
    else:
        model = VotingClassifier([("one", people()), ("two", people(keep_raw=False))], voting="soft")
    model.fit(PEOPLE, BOUGHT)
    loaded = to_and_fro(model, tmp_path / "model.skops")
    for each in (model, loaded):
        sk_unlearn.forget(each, PEOPLE.iloc[[4, 7]], on_other="report")
    np.testing.assert_array_equal(loaded.predict_proba(PEOPLE), model.predict_proba(PEOPLE))
    parts = [loaded.best_estimator_] if kind == "search" else loaded.estimators_
    assert [len(part[-1].training_set_) for part in parts] == [N - 2] * len(parts)


def test_a_pickle_has_a_version_and_a_checksum(monkeypatch):
    pipe = people().fit(PEOPLE, BOUGHT)
    data = pickle.dumps(pipe)
    at = data.index(np.float64(PEOPLE.income[7]).tobytes())  # in the rows as they came
    damaged = bytearray(data)
    damaged[at] ^= 1
    with pytest.raises(PersistenceError, match="The pickle of a Pipeline is damaged: pipeline_state_"):
        pickle.loads(bytes(damaged))
    monkeypatch.setattr("sk_unlearn.utils._versioned.__version__", "0.0.1")
    with pytest.warns(InconsistentVersionWarning) as caught:
        pickle.loads(data)
    assert any("Loading Pipeline" in str(each.message) for each in caught)


def test_a_pipeline_without_a_net_is_saved_too(tmp_path):
    pipe = Pipeline([("scale", StandardScaler()), ("rest", "passthrough")]).fit(PEOPLE[["age"]])
    other = to_and_fro(pipe, tmp_path / "pipe.skops", rows=False)
    np.testing.assert_array_equal(other.transform(PEOPLE[["age"]]), pipe.transform(PEOPLE[["age"]]))


class Meanwhile(DummyClassifier):
    """While it is written down, between two members of a vote, another thread sends a request to all of it."""

    def __getstate__(self):
        if hasattr(self, "request_"):
            request = threading.Thread(target=self.request_)
            request.start()
            request.join(1.0)
        return {name: value for name, value in vars(self).items() if name != "request_"}


@pytest.mark.parametrize("rows", [True, False])
def test_all_parts_in_a_file_are_of_one_moment(rows, tmp_path):
    members = [("a", people()), ("between", Meanwhile()), ("b", people())]
    vote = VotingClassifier(members).fit(PEOPLE, BOUGHT)
    started = threading.Event()

    def request():
        started.set()
        sk_unlearn.forget(vote, PEOPLE.iloc[[5]], on_other="report")

    vote.estimators_[1].request_ = request
    other = to_and_fro(vote, tmp_path / "vote.skops", rows=rows)
    assert started.is_set()
    first, last = other.estimators_[0], other.estimators_[2]
    assert len(first.receipts_) == len(last.receipts_) == 0
    assert first["table"].named_transformers_["range"].n_samples_seen_ == N
    assert last["table"].named_transformers_["range"].n_samples_seen_ == N
