"""Tables, steps and orders of requests that seldom meet: each ends as a fit on the rows that stay, or is refused."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import MinMaxScaler, OrdinalEncoder, RobustScaler, StandardScaler
from torch import nn

from sk_unlearn.pipeline import make_pipeline
from tests import _problems

N = 40
rng = np.random.default_rng(3)
X = rng.normal(size=(N, 3)) * [1, 10, 100]
y = np.where(X[:, 0] > 0, "yes", "no")


def net(**settings):
    return _problems.classifier(**({"max_epochs": 2, "lr": 0.1, "batch_size": 16} | settings))


def scaled(first=None, **settings):
    return make_pipeline(first or StandardScaler(), net(), **settings)


# --------------------------------------------------------------------------------------------------------- other tables


def of_polars(X):
    return pl.DataFrame({f"x{k}": column for k, column in enumerate(X.T)})


@pytest.mark.parametrize(
    "table",
    [lambda X: X, lambda X: X.tolist(), of_polars, pd.DataFrame, sparse.csr_array],
    ids=["array", "list", "polars", "pandas", "sparse"],
)
@pytest.mark.parametrize("targets", [pd.Series, np.ndarray.tolist], ids=["series", "list"])
def test_raw_rows_are_trained_on_and_corrected_in_the_form_they_came_in(table, targets):
    pipe = scaled(StandardScaler(with_mean=table is not sparse.csr_array)).fit(table(X[:30]), targets(y[:30]))
    pipe.partial_fit(table(X[30:]), targets(y[30:]))
    new = X.copy()
    new[4] += 1
    pipe.correct(table(X[4:5]), X_new=table(new[4:5]), y_new=targets(y[4:5]))
    pipe.forget(table(new[35:37]), targets(y[35:37]))
    fresh = StandardScaler().fit(np.delete(new, [35, 36], axis=0))
    np.testing.assert_allclose(pipe[0].scale_, fresh.scale_, rtol=1e-9)
    assert len(pipe[-1].training_set_) == N - 2


def test_texts_are_trained_on_and_corrected():
    texts = [f"word{i % 5} and word{i % 3}" for i in range(N)]
    pipe = make_pipeline(CountVectorizer(), net()).fit(texts[:30], y[:30])
    pipe.partial_fit(texts[30:], y[30:])
    pipe.correct(texts[31:32], y_old=y[31:32], X_new=[texts[30]])
    assert pipe[0].vocabulary_ == CountVectorizer().fit(texts).vocabulary_
    assert len(pipe[-1].training_set_) == N


class ByName(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(2, 2)

    def forward(self, size, age):
        return self.out(torch.stack([size.reshape(-1), age.reshape(-1)], dim=1).float())


def test_columns_by_name_that_no_step_moves_stay():
    people = pd.DataFrame({"size": X[:, 0], "age": X[:, 1]})
    table = ColumnTransformer([("size", MinMaxScaler(), ["size"]), ("age", MinMaxScaler(), ["age"])])
    table.set_output(transform="pandas").set_params(verbose_feature_names_out=False)
    pipe = make_pipeline(table, net(module=ByName)).fit(people, y)
    before = pipe[-1].training_set_.X.copy()
    inside = np.flatnonzero(((people > people.min()) & (people < people.max())).all(axis=1))[:1]
    pipe.forget(people.iloc[inside])
    assert np.array_equal(pipe[-1].training_set_.X, np.delete(before, inside))


# -------------------------------------------------------------------------------------------------------- other steps


def test_without_steps_that_learn_rows_are_corrected_and_trained_on():
    pipe = make_pipeline("passthrough", net()).fit(X[:30], y[:30])
    pipe.partial_fit(X[30:], y[30:])
    pipe.correct(X[4:5], X_new=X[4:5] + 1)
    pipe.forget(X[4:5] + 1)
    np.testing.assert_array_equal(pipe[-1].training_set_.X, np.delete(X, 4, axis=0).astype(np.float32))
    assert pipe.pipeline_state_.n_rows == N - 1


def test_a_correction_that_moves_codes_twice():
    """The new town becomes frequent, and the old one rare, whose code is the last."""
    towns = pd.DataFrame({"town": ["Bonn"] * 2 + ["Celle"] * 2 + ["Jena"] * 12 + ["Ulm"] * (N - 16)})
    towns.loc[3, "town"] = "Ulm"
    kinds = np.array(["yes", "no"])[np.arange(N) % 2]
    pipe = make_pipeline(OrdinalEncoder(min_frequency=2), net()).fit(towns, kinds)
    right = towns.copy()
    right.loc[0, "town"] = "Celle"
    pipe.correct(towns[:1], y_old=kinds[:1], X_new=right[:1])
    expected = OrdinalEncoder(min_frequency=2).fit_transform(right)
    assert expected[:4, 0].tolist() == [0, 3, 0, 2]
    np.testing.assert_array_equal(pipe[:-1].transform(right), expected)
    np.testing.assert_array_equal(pipe[-1].training_set_.X, expected.astype(np.float32))


def test_a_word_that_becomes_rare_enough_has_no_place_in_the_net():
    texts = [f"word{i % 5}" + (" often" if i < 21 else "") for i in range(N)]
    pipe = make_pipeline(CountVectorizer(max_df=0.5), net()).fit(texts, y)
    with pytest.raises(ValueError, match=r"give 6 features in place of 5, and the net takes no more .* fit .* anew"):
        pipe.forget(texts[:1])
    assert len(pipe[-1].training_set_) == N


# ------------------------------------------------------------------------------------------------------ other orders


def test_training_anew_without_any_request():
    pipe = scaled().fit(X, y, sample_id=np.arange(N))
    state = pipe.pipeline_state_
    assert pipe.retrain().pipeline_state_ is state
    pipe[-1].forget(sample_id=[5])
    pipe.retrain()  # which takes out of the steps whom the last one forgot
    np.testing.assert_allclose(pipe[0].mean_, np.delete(X, 5, axis=0).mean(axis=0), rtol=1e-9, atol=1e-12)
    assert pipe.certificate_ == pipe[-1].certificate_


def test_rows_handed_in_some_of_which_are_stored():
    pipe = scaled().fit(X[:30], y[:30])
    pipe.partial_forget(X[28:33], y[28:33])
    np.testing.assert_allclose(pipe[0].mean_, X[:28].mean(axis=0), rtol=1e-9)
    assert len(pipe[-1].training_set_) == 28
    assert pipe.unlearning_report_.n_erased == 5


def test_past_the_pipeline_what_is_not_kept_cannot_follow():
    pipe = scaled(keep_raw=False).fit(X, y, sample_id=np.arange(N))
    pipe[-1].forget(sample_id=[5])
    with pytest.raises(ValueError, match="The last step has forgotten rows by a call of its own"):
        pipe.forget(X[:1])
    pipe = scaled().fit(X, y, sample_id=np.arange(N))
    pipe[-1].forget(sample_id=[5])
    with pytest.raises(ValueError, match="The last step has forgotten rows by a call of its own"):
        pipe.correct(X[:1], X_new=X[:1] + 1)
    pipe.forget(X[:1])
    pipe.correct(X[1:2], X_new=X[1:2] + 1)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda pipe: pipe.partial_forget(X[:1], None), "partial_forget needs X .rows. and y"),
        (lambda pipe: pipe.correct(X[:1]), "correct needs X_new, y_new or both; both are None"),
        (lambda pipe: pipe.correct(X[:2], y_new=["no"]), "y_new has 1 rows but belongs to 2"),
        (
            lambda pipe: pipe.partial_fit(X[:1], y[:1], unlearnableclassifier__more=1),
            "partial_fit of the last step takes no more; it takes sample_weight",
        ),
        (lambda pipe: pipe.set_params(keep_raw=2).fit(X, y), "keep_raw"),
    ],
    ids=["half a hand-in", "no correction", "one for two", "parameter", "setting"],
)
def test_verbs_say_what_they_need(act, message):
    pipe = scaled().fit(X, y)
    with pytest.raises(ValueError, match=message):
        act(pipe)
    assert len(pipe[-1].training_set_) == N


def test_only_an_unlearnable_last_step_is_trained_further():
    with pytest.raises(ValueError, match="partial_fit needs an UnlearnableClassifier or UnlearnableRegressor"):
        make_pipeline(StandardScaler(), SGDClassifier()).partial_fit(X, y)


def test_steps_that_are_fitted_anew_cannot_be_corrected_without_the_rows():
    pipe = scaled(RobustScaler(), keep_raw=False).fit(X, y)
    with pytest.raises(ValueError, match="robustscaler: RobustScaler"):
        pipe.correct(X[:1], X_new=X[:1] + 1)
    assert len(pipe[-1].training_set_) == N


def test_more_extremes_than_are_counted_cannot_be_corrected_without_the_rows():
    """Of the smallest values of a column a few are kept; once these have gone, nobody knows the next."""
    X = np.arange(600.0).reshape(300, 2)
    pipe = scaled(MinMaxScaler(), keep_raw=False).fit(X, np.arange(300) % 2)
    with pytest.raises(ValueError, match="minmaxscaler: MinMaxScaler"):
        pipe.correct(X[:250], X_new=X[:250] + 1000)
    np.testing.assert_array_equal(pipe[0].data_min_, [0, 1])
    pipe.correct(X[:2], X_new=X[:2] + 1000)
    np.testing.assert_array_equal(pipe[0].data_min_, [4, 5])
