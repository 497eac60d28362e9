from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from sk_unlearn.preprocessing import remember
from tests._problems import FOLDS_IN_ORDER
from tests.preprocessing._refit import assert_forgets, assert_same, dense, mixed_table

GROUPS = [[0], [3, 4, 5], [50], [7]]
NUMBERS = ["age", "size", "income"]
STRINGS = ["city", "job", "day"]


def table(rng, n=90, missing=True):
    X = mixed_table(rng, n, missing)
    X["income"] -= 1e6  # scikit-learn's own sums round more than 1e-10 there
    X.loc[0, "city"] = "Atlantis"
    return X


def usual(**params):
    number = make_pipeline(SimpleImputer(), StandardScaler())
    category = OneHotEncoder(handle_unknown="ignore")
    return ColumnTransformer([("number", number, NUMBERS), ("category", category, STRINGS)], **params)


def test_numbers_and_categories():
    rng = np.random.default_rng(0)
    for missing in (False, True):
        X = table(rng, missing=missing)
        for params in ({}, {"sparse_threshold": 0}, {"sparse_threshold": 1}):
            step, _ = assert_forgets(usual(**params), X, GROUPS, stored=not missing)
        assert "Atlantis" not in " ".join(step.get_feature_names_out())


def test_outputs_stay_in_their_container():
    X = table(np.random.default_rng(1), missing=False)
    for threshold, kind in ((0, np.ndarray), (1, sparse.spmatrix | sparse.sparray)):
        step = usual(sparse_threshold=threshold)
        Z = step.fit_transform(X)[1:]
        forgotten = remember(step, X).without(step, X[:1])
        new = forgotten.outputs(Z)
        assert isinstance(Z, kind)
        assert type(new) is type(Z)
        single = forgotten.outputs(Z.astype(np.float32))
        assert single.dtype == np.float32
        np.testing.assert_allclose(dense(single), dense(new), atol=2e-6)
        scale, shift = forgotten.change
        np.testing.assert_allclose(dense(Z)[:, forgotten.columns] * scale + shift, dense(new), atol=1e-12)
        assert remember(step, X).without(step, X[:1]).outputs(Z, X[1:]).shape == new.shape


def test_raw_strings_are_not_read_again():
    X = table(np.random.default_rng(2))
    step = usual(sparse_threshold=0)
    Z = step.fit_transform(X)
    forgotten = remember(step, X).without(step, X[:1])
    kept = X[1:].copy()
    expected = usual(sparse_threshold=0).fit_transform(kept)
    for name in STRINGS:
        kept[name] = "nobody reads this"
    np.testing.assert_allclose(forgotten.outputs(Z[1:], kept), expected, atol=1e-10)


def test_columns_are_found_by_name_in_any_order():
    X = table(np.random.default_rng(3))
    step = usual().fit(X)
    memory = remember(step, X)
    shuffled = X[["day", "income", "job", "age", "city", "size"]]
    assert_same(memory.without(step, shuffled[:3]).transformer, memory.without(step, X[:3]).transformer)


@pytest.mark.parametrize("columns", [[0, 2], slice(0, 3), [True, False, True, False], make_column_selector("a|c")])
def test_ways_of_naming_columns(columns):
    rng = np.random.default_rng(4)
    X = pd.DataFrame(rng.normal(size=(60, 4)), columns=list("abcd"))
    for remainder in ("drop", "passthrough", MinMaxScaler()):
        step = ColumnTransformer([("scaled", StandardScaler(), columns), ("none", "drop", [1])], remainder=remainder)
        assert_forgets(step, X, [*GROUPS[:2], [50]])
        if not callable(columns):
            assert_forgets(step, X.to_numpy(), GROUPS[:2])


def test_unions_and_weights():
    X = np.random.default_rng(5).normal(size=(80, 3)) + 3
    union = make_union(StandardScaler(), MinMaxScaler(), "passthrough", PCA(n_components=2))
    assert_forgets(union, X, GROUPS, stored=False)
    union = FeatureUnion(
        [("a", StandardScaler()), ("b", "drop"), ("c", make_pipeline(MinMaxScaler(), "passthrough"))],
        transformer_weights={"a": 10, "c": 0.5},
    )
    assert_forgets(union, X, GROUPS)
    weighted = ColumnTransformer(
        [("a", StandardScaler(), [0, 1]), ("b", Normalizer(), [2]), ("c", OrdinalEncoder(), [0])],
        transformer_weights={"a": 3.0, "c": 2.0},
    )
    assert_forgets(weighted, X, GROUPS)


def test_texts_beside_numbers():
    rng = np.random.default_rng(6)
    X = table(rng, missing=False)
    X["text"] = [" ".join(rng.choice(["red", "green", "blue", "black"], 5)) for _ in range(len(X))]
    X.loc[0, "text"] = "ultramarine"
    step = make_column_transformer((TfidfVectorizer(), "text"), (StandardScaler(), NUMBERS), (OneHotEncoder(), STRINGS))
    assert_forgets(step, X, GROUPS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_pipeline(usual(sparse_threshold=0), PCA(n_components=3)),
        lambda: make_pipeline(StandardScaler(), PolynomialFeatures(2), StandardScaler()),
        lambda: make_pipeline(RobustScaler(), StandardScaler()),
        lambda: make_pipeline(QuantileTransformer(n_quantiles=10), PCA(n_components=2)),
        lambda: make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
        lambda: make_pipeline(VarianceThreshold(), MinMaxScaler()),
        lambda: make_pipeline(Normalizer(), StandardScaler(), Binarizer()),
        lambda: make_pipeline(SelectKBest(k=2), StandardScaler()),
        lambda: Pipeline([("all", make_pipeline(StandardScaler(), make_pipeline(MinMaxScaler(), RobustScaler())))]),
    ],
)
def test_steps_that_are_fitted_anew(make):
    rng = np.random.default_rng(7)
    y = rng.integers(0, 2, 90)
    X = table(rng) if isinstance(make()[0], ColumnTransformer) else rng.normal(size=(90, 4)) + 1
    assert_forgets(make(), X, GROUPS, y=y, retained=True, tolerance=1e-8)


def test_a_column_that_goes_is_missed_by_the_next_step():
    X = np.random.default_rng(8).normal(size=(60, 4))
    X[:, 1] = np.nan
    X[5, 1] = 3.0
    X = pd.DataFrame(X, columns=list("abcd"))
    for pipe in (
        make_pipeline(SimpleImputer(), StandardScaler()),
        make_pipeline(SimpleImputer(), Normalizer(), MinMaxScaler()),
        make_pipeline(SimpleImputer(), PolynomialFeatures(2)),
        make_pipeline(OneHotEncoder(sparse_output=False), StandardScaler(with_std=False)),
        make_pipeline(OrdinalEncoder(), "passthrough"),
    ):
        for output in ("default", "pandas"):
            step = pipe.set_output(transform=output).fit(X.round() if "onehotencoder" in pipe.named_steps else X)
            inputs = X.round() if "onehotencoder" in pipe.named_steps else X
            kept = inputs.drop(index=5)
            with pytest.warns(UserWarning, match="Skipping") if "simpleimputer" in pipe.named_steps else nullcontext():
                forgotten = remember(step, inputs).without(step, inputs[5:6], retained=(kept, None))
                expected = sklearn.clone(pipe).fit(kept)
                assert forgotten.transformer.get_feature_names_out().tolist() == list(expected.get_feature_names_out())
                new = forgotten.transformer.transform(kept)
                assert type(new) is type(expected.transform(kept))
                np.testing.assert_allclose(new, expected.transform(kept), atol=1e-10)
                outputs = forgotten.outputs(step.transform(kept), kept)
                assert isinstance(outputs, np.ndarray)
                np.testing.assert_allclose(outputs, expected.transform(kept), atol=1e-10)


def test_frames_as_outputs():
    X = table(np.random.default_rng(9))
    step = make_column_transformer(
        (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), NUMBERS),
        (OneHotEncoder(sparse_output=False), STRINGS),
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    Z = step.fit_transform(X)
    forgotten = remember(step, X).without(step, X[:1])
    expected = sklearn.clone(step).fit_transform(X[1:])
    new = forgotten.transformer.transform(X[1:])
    assert list(new.columns) == list(expected.columns)
    pd.testing.assert_frame_equal(new, expected)
    np.testing.assert_allclose(forgotten.outputs(Z[1:], X[1:]), expected, atol=1e-10)


def test_cross_fitted_outputs_are_those_of_the_fit():
    rng = np.random.default_rng(10)
    X = table(rng, missing=False)
    y = rng.normal(size=len(X))
    encoder = TargetEncoder(target_type="continuous", **FOLDS_IN_ORDER)
    pipe = make_column_transformer(
        (make_pipeline(encoder, StandardScaler()), ["city", "job"]), (StandardScaler(), NUMBERS)
    )
    assert_forgets(make_pipeline(pipe), X, GROUPS, y=y, retained=True)
    assert_forgets(make_pipeline(pipe, StandardScaler()), X, GROUPS, y=y, retained=True)


def test_metadata_routing():
    rng = np.random.default_rng(11)
    X, weights = table(rng, missing=False), rng.exponential(size=90)
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        step = make_column_transformer((scaler, NUMBERS), (OneHotEncoder(), STRINGS))
        assert_forgets(step, X, GROUPS, weights=("sample_weight", weights))
        assert_forgets(make_pipeline(step, "passthrough"), X, GROUPS, weights=("sample_weight", weights))


def test_functions_and_columns_of_any_type_pass_through():
    X = table(np.random.default_rng(12), missing=False)
    weekday = FunctionTransformer(lambda days: days.apply(lambda day: day.dt.day_of_week))
    step = make_column_transformer((weekday, ["day"]), ("passthrough", NUMBERS), (OrdinalEncoder(), ["city"]))
    assert_forgets(step, X, GROUPS)


def test_an_imputed_table_is_encoded_and_scaled():
    X = table(np.random.default_rng(13))
    number = make_pipeline(SimpleImputer(strategy="most_frequent", add_indicator=True), MinMaxScaler())
    category = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(drop="first"))
    step = make_column_transformer((number, NUMBERS), (category, ["city", "job"]))
    assert_forgets(step, X, GROUPS, stored=False)
