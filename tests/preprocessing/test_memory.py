import pickle
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)

from sk_unlearn.preprocessing import remember
from tests.preprocessing._refit import assert_forgets, assert_same, mixed_table


def everything():
    number = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), PCA())
    return make_column_transformer(
        (number, ["age", "size"]),
        (make_pipeline(SimpleImputer(), MinMaxScaler()), ["income"]),
        (MaxAbsScaler(), ["income"]),
        (OneHotEncoder(min_frequency=2), ["city", "job"]),
        (OrdinalEncoder(), ["day"]),
        (TfidfVectorizer(), "text"),
    )


def people(rng, n=80):
    X = mixed_table(rng, n)
    X["text"] = [" ".join(rng.choice(["red", "green", "blue", "black"], 3)) for _ in range(n)]
    return X


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1), st.data())
def test_any_history_equals_a_fit_of_the_rows_there_are(seed, data):
    rng = np.random.default_rng(seed)
    X = people(rng, 60)
    X["income"] -= 1e6
    X["size"] *= 1e6
    present = np.arange(45)
    step = everything().fit(X.iloc[present])
    memory = remember(step, X.iloc[present])
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            rows = np.array(data.draw(st.lists(st.sampled_from(list(present)), min_size=1, max_size=4, unique=True)))
            left = np.setdiff1d(present, rows)
            changed = memory.without(step, X.iloc[rows], retained=lambda left=left: (X.iloc[left], None))
        else:
            absent = np.setdiff1d(np.arange(60), present)
            rows = np.array(data.draw(st.lists(st.sampled_from(list(absent)), min_size=1, max_size=4, unique=True)))
            left = np.append(present, rows)
            known = [set(X[name].iloc[present]) for name in ("city", "day", "text")]
            if any(not set(X[name].iloc[rows]) <= k for name, k in zip(("city", "day", "text"), known, strict=True)):
                continue  # which may need new outputs
            changed = memory.with_rows(step, X.iloc[rows], retained=lambda left=left: (X.iloc[left], None))
        step, memory, present = changed.transformer, changed.memory, left
    expected = everything().fit(X.iloc[present])
    assert memory.n_rows == len(present)
    names = step.get_feature_names_out().tolist()
    assert names == expected.get_feature_names_out().tolist()
    new, old = step.transform(X.iloc[present]), expected.transform(X.iloc[present])
    np.testing.assert_allclose(abs(new), abs(old), atol=1e-8)


def test_nothing_of_an_erased_row_is_left():
    rng = np.random.default_rng(0)
    X = people(rng)
    gone = [5, 6]
    X.loc[5, ["age", "income", "size"]] = [8_675_309.123, 1.234_567_89e12, -9.876_543_21e5]
    X.loc[6, ["age", "income", "size"]] = [np.nan, -7.654_321_09e7, 4.321_098_7e3]
    X.loc[5, ["city", "text"]] = ["Rumpelstadt", "Rumpelstilzchen said so"]
    X.loc[6, ["city", "text"]] = ["Rumpelstadt", "xylophone"]
    X.loc[gone, "day"] = pd.Timestamp("1987-06-05")
    step = everything().fit(X)
    memory = remember(step, X)
    before = pickle.dumps((step, memory))
    kept = X.drop(index=gone)
    forgotten = memory.without(step, X.loc[gone])
    after = pickle.dumps((forgotten.transformer, forgotten.memory))
    secrets = [word.encode() for word in ("Rumpel", "rumpel", "xylophone", "said")]
    numbers = X.loc[gone, ["age", "income", "size"]].to_numpy().ravel()
    secrets += [np.float64(sign * x).tobytes() for x in numbers if x == x for sign in (1, -1)]
    secrets += [np.float64(sign * x).tobytes()[::-1] for x in numbers if x == x for sign in (1, -1)]
    secrets += [np.array(pd.Timestamp("1987-06-05").as_unit(unit)).tobytes() for unit in ("s", "us", "ns")]
    assert sum(secret in before for secret in secrets) >= 6
    assert not any(secret in after for secret in secrets)
    # The old ones are as they were.
    assert pickle.dumps((step, memory)) == before
    assert_same(forgotten.transformer.transform(kept).shape, everything().fit(kept).transform(kept).shape)


class Demeaner(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.mean_ = np.asarray(X).mean(axis=0)
        return self

    def transform(self, X):
        return np.asarray(X) - self.mean_


def test_steps_that_still_contain_the_rows_are_named():
    X = mixed_table(np.random.default_rng(1), 60, missing=False)
    step = make_column_transformer(
        (make_pipeline(StandardScaler(), RobustScaler(), KBinsDiscretizer(strategy="uniform")), ["age", "size"]),
        (OneHotEncoder(), ["city"]),
        (Demeaner(), ["income"]),
    ).fit(X)
    memory = remember(step, X)
    forgotten = memory.without(step, X[:1])
    assert forgotten.still_there == [
        "pipeline__robustscaler: RobustScaler",
        "pipeline__kbinsdiscretizer: KBinsDiscretizer",
        "demeaner: Demeaner",
    ]
    assert forgotten.transformer["demeaner"].mean_ == step["demeaner"].mean_
    # And again with the next request, until the rows that stay are handed in.
    again = forgotten.memory.without(forgotten.transformer, X[1:2])
    assert again.still_there == forgotten.still_there
    clean = again.memory.without(again.transformer, X[2:3], retained=lambda: (X[3:], None))
    assert clean.still_there == []
    assert clean.transformer["demeaner"].mean_ == X["income"][3:].mean()


def test_unknown_transformers_are_fitted_anew():
    X = np.random.default_rng(2).normal(size=(50, 3))
    for step in (Demeaner(), RobustScaler(), KBinsDiscretizer(n_bins=3, strategy="kmeans")):
        assert_forgets(step, X, [[0], [4, 5]], retained=True)


def test_requests_that_cannot_be_met():
    X = pd.DataFrame(np.random.default_rng(3).normal(size=(10, 2)), columns=["a", "b"])
    step = StandardScaler().fit(X)
    memory = remember(step, X)
    with pytest.raises(ValueError, match="X_gone is empty: pass at least one row"):
        memory.without(step, X[:0])
    with pytest.raises(ValueError, match="X_gone has 10 rows of 10: no row would be left"):
        memory.without(step, X)
    with pytest.raises(ValueError, match="StandardScaler: the rows cannot be read as those of fit were") as caught:
        memory.without(step, pd.DataFrame({"a": ["secret"], "b": ["words"]}))
    assert "secret" not in str(caught.value)
    robust = RobustScaler().fit(X)
    with pytest.raises(ValueError, match=re.escape("RobustScaler: cannot take in rows without all the others")):
        remember(robust, X).with_rows(robust, X[:1])
    robust = RobustScaler().fit(X[:9])
    more = remember(robust, X[:9]).with_rows(robust, X[9:], retained=(X, None))
    assert_same(more.transformer, RobustScaler().fit(X))
    assert_same(more.outputs(robust.transform(X[:9])), RobustScaler().fit(X).transform(X[:9]))


def test_a_column_that_was_empty_has_values():
    X = np.array([[1.0, np.nan], [2.0, np.nan], [4.0, np.nan]])
    step = SimpleImputer().fit(X)
    with pytest.raises(ValueError, match="The new rows call for output columns that there are not; fit again"):
        remember(step, X).with_rows(step, [[1.0, 1.0]])
    with pytest.warns(UserWarning, match="Skipping"):
        pipe = make_pipeline(SimpleImputer(), StandardScaler()).fit(X)
    memory = remember(pipe, X)
    with pytest.raises(ValueError, match="standardscaler: StandardScaler: the rows call for columns before it"):
        memory.with_rows(pipe, [[1.0, 1.0]])


def test_values_that_were_not_there_are_noticed():
    X = np.array([["a"], ["b"], ["b"]], dtype=object)
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(X)
    assert remember(encoder, X).without(encoder, [["secret"]]).still_there == ["OrdinalEncoder"]
    strict = OneHotEncoder().fit(X)
    with pytest.raises(ValueError, match="OneHotEncoder: the rows cannot be read as those of fit were") as caught:
        remember(strict, X).without(strict, [["secret"]])
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
    texts = TfidfVectorizer().fit(["red blue", "blue green"])
    with pytest.raises(ValueError, match="TfidfVectorizer: a word of these texts is not among those") as caught:
        remember(texts, ["red blue", "blue green"]).without(texts, ["blue secret"])
    assert "secret" not in str(caught.value)
    scaler = MinMaxScaler().fit([[1.0], [2.0], [3.0]])
    assert remember(scaler, [[1.0], [2.0], [3.0]]).without(scaler, [[0.5]]).still_there == ["MinMaxScaler"]


def test_lists_are_tables():
    X = [[1.0, 5.0], [2.0, 4.0], [9.0, 3.5], [4.0, 1.0]]
    for step in (
        StandardScaler(),
        MinMaxScaler(),
        OneHotEncoder(),
        PCA(),
        SimpleImputer(),
        make_pipeline(StandardScaler()),
    ):
        step.fit(X)
        assert_same(
            remember(step, X).without(step, X[1:2]).transformer, type(step)(**step.get_params(False)).fit(X[:1] + X[2:])
        )


def test_steps_within_steps_are_named():
    X = np.random.default_rng(4).normal(size=(30, 3))
    inner = make_column_transformer((make_pipeline(StandardScaler(), MaxAbsScaler()), [0]), (RobustScaler(), [1, 2]))
    pipe = make_pipeline(RobustScaler(), StandardScaler(), inner).fit(X)
    memory = remember(pipe, X)
    # What the scaler gives the branches has changed, and no rows are at hand for these to be fitted on.
    forgotten = memory.without(pipe, X[:1])
    assert forgotten.still_there == [
        "robustscaler: RobustScaler",
        "columntransformer__pipeline__standardscaler: StandardScaler",
        "columntransformer__pipeline__maxabsscaler: MaxAbsScaler",
        "columntransformer__robustscaler: RobustScaler",
    ]
    assert forgotten.memory.without(forgotten.transformer, X[1:2]).still_there == forgotten.still_there
    expected = make_pipeline(RobustScaler(), StandardScaler(), inner).fit(X[1:])
    assert_same(memory.without(pipe, X[:1], retained=(X[1:], None)).transformer, expected)


def test_what_is_out_of_date_stays_so_until_it_is_fitted_anew():
    X = np.repeat([[-3.0], [0.0], [1.0], [7.0]], [1, 5, 5, 5], axis=0)
    pipe = make_pipeline(OrdinalEncoder(), FunctionTransformer(np.square), StandardScaler()).fit(X)
    # With -3 all codes change, and with them what the scaler is given; the next row changes no code.
    first = remember(pipe, X).without(pipe, X[:1])
    second = first.memory.without(first.transformer, X[1:2])
    assert first.still_there == second.still_there == ["standardscaler: StandardScaler"]
    third = second.memory.without(second.transformer, X[2:3], retained=(X[3:], None))
    assert third.still_there == []
    assert_same(third.transformer, make_pipeline(*(step for _, step in pipe.steps)).fit(X[3:]))
    assert third.memory.without(third.transformer, X[3:4]).still_there == []


def test_a_column_that_a_later_step_cannot_miss():
    X = pd.DataFrame({"a": ["x"] * 3 + ["y"] * 3 + ["z"], "b": [0.0, 1, 2, 3, 4, 5, 6]})
    pipe = make_pipeline(OneHotEncoder(sparse_output=False), RobustScaler())
    step = make_column_transformer((pipe, ["a"]), (StandardScaler(), ["b"])).fit(X)
    memory = remember(step, X)
    forgotten = memory.without(step, X[6:])
    assert forgotten.still_there == ["pipeline__onehotencoder: OneHotEncoder", "pipeline__robustscaler: RobustScaler"]
    assert forgotten.transformer.transform(X[:6]).shape == (6, 4)
    assert forgotten.transformer["standardscaler"].mean_ == X["b"][:6].mean()
    clean = forgotten.memory.without(forgotten.transformer, X[5:6], retained=(X[:5], None))
    assert_same(clean.transformer, make_column_transformer((pipe, ["a"]), (StandardScaler(), ["b"])).fit(X[:5]))
