import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from sk_unlearn.preprocessing import remember
from tests.preprocessing._refit import assert_forgets, assert_same, dense

GROUPS = [[0], [3, 4, 5], [50], [51, 52, 53], [7]]


def strings(rng, n=100):
    """Three columns; only row 0 has "Atlantis", only rows 3 to 5 have "zebra"."""
    X = np.column_stack(
        [
            rng.choice(["Lyon", "Turin", "Graz"], n),
            rng.choice(["cat", "dog", "eel", "fox"], n, p=[0.5, 0.3, 0.15, 0.05]),
            rng.choice(["yes", "no"], n),
        ]
    ).astype(object)
    X[0, 0], X[3:6, 1] = "Atlantis", "zebra"
    return X


def with_missing(rng):
    X = strings(rng)
    X[rng.random(X.shape) < 0.1] = np.nan
    X[0, 0], X[3:6, 1], X[50, 2] = "Atlantis", "zebra", None
    return X


ENCODERS = [
    OneHotEncoder(),
    OneHotEncoder(sparse_output=False, drop="first"),
    OneHotEncoder(drop="if_binary", handle_unknown="ignore"),
    OneHotEncoder(handle_unknown="infrequent_if_exist", dtype=np.float32),
    OrdinalEncoder(),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2, dtype=np.int64),
]


@pytest.mark.parametrize("make", [strings, with_missing], ids=["strings", "missing"])
@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
def test_a_category_that_no_row_has_any_more_is_gone(encoder, make):
    X = make(np.random.default_rng(0))
    if isinstance(encoder, OrdinalEncoder) and make is with_missing:
        X[:, 2] = np.where([x is None for x in X[:, 2]], np.nan, X[:, 2])
    step, _ = assert_forgets(encoder, X, GROUPS)
    assert all("Atlantis" not in categories and "zebra" not in categories for categories in step.categories_)


@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
def test_tables_and_data_types(encoder):
    rng = np.random.default_rng(1)
    X = strings(rng)
    assert_forgets(encoder, pd.DataFrame(X, columns=list("abc")), GROUPS)
    assert_forgets(encoder, pd.DataFrame(X, columns=list("abc")).astype("category"), GROUPS)
    assert_forgets(encoder, X.astype(str), GROUPS)
    numbers = rng.integers(0, 5, (100, 3)).astype(float)
    numbers[0, 0], numbers[rng.random(100) < 0.1, 1] = 17.5, np.nan
    assert_forgets(encoder, numbers, GROUPS)
    assert_forgets(encoder, rng.integers(0, 40, (100, 2)), GROUPS)
    days = pd.DataFrame({"day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 30, 100), unit="D")})
    assert_forgets(encoder, days, GROUPS)


def test_polars():
    polars = pytest.importorskip("polars")
    X = polars.DataFrame(strings(np.random.default_rng(2)).tolist(), schema=list("abc"), orient="row")
    step = OneHotEncoder().fit(X)
    forgotten = remember(step, X).without(step, X[[0]])
    assert_same(forgotten.transformer, OneHotEncoder().fit(X[1:]))


@pytest.mark.parametrize(
    "params",
    [
        {"min_frequency": 8},
        {"min_frequency": 0.1},
        {"max_categories": 3},
        {"min_frequency": 4, "max_categories": 4},
        {"max_categories": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [OneHotEncoder, OrdinalEncoder])
def test_infrequent_categories(kind, params):
    rng = np.random.default_rng(3)
    for make in (strings, with_missing):
        X = make(rng)
        X[50, 2] = "no"
        assert_forgets(kind(**params), X, [*GROUPS, *([k] for k in range(20, 45, 3))], stored=False)


def test_outputs_need_raw_rows_only_where_groups_change():
    X = np.array(["a"] * 5 + ["b"] * 3 + ["c"] * 2 + ["d"] * 2)[:, None]
    step = OneHotEncoder(min_frequency=3, sparse_output=False).fit(X)
    Z, memory = step.transform(X), remember(step, X)
    same = memory.without(step, X[[0]])
    assert same.change is not None
    np.testing.assert_array_equal(same.outputs(Z[1:]), Z[1:])
    other = memory.without(step, X[[5]])  # "b" becomes infrequent
    assert other.change is None
    assert other.columns.tolist() == [0, 2]
    kept = np.delete(X, 5, axis=0)
    with pytest.raises(ValueError, match="outputs have to be computed from the raw rows that stay"):
        other.outputs(np.delete(Z, 5, axis=0))
    expected = OneHotEncoder(min_frequency=3, sparse_output=False).fit(kept)
    np.testing.assert_array_equal(other.outputs(np.delete(Z, 5, axis=0), lambda: kept), expected.transform(kept))


@pytest.mark.parametrize("kind", [OneHotEncoder, OrdinalEncoder])
def test_categories_that_were_given_stay(kind):
    X = strings(np.random.default_rng(4))
    categories = [sorted(set(column)) for column in X.T]
    step, _ = assert_forgets(kind(categories=categories), X, GROUPS)
    assert "Atlantis" in step.categories_[0]


@pytest.mark.parametrize("strategy", ["most_frequent", "constant"])
@pytest.mark.parametrize("encoder", ENCODERS[:2] + ENCODERS[4:], ids=str)
def test_behind_an_imputer(encoder, strategy):
    X = with_missing(np.random.default_rng(5))
    X[50, 2] = "no"
    pipe = make_pipeline(SimpleImputer(strategy=strategy), encoder)
    assert_forgets(pipe, X, GROUPS)
    assert_forgets(pipe, pd.DataFrame(X, columns=list("abc")), GROUPS)


def test_the_most_frequent_value_changes():
    X = np.array(["a"] * 4 + ["b"] * 4 + [np.nan] * 3, dtype=object)[:, None]
    pipe = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(sparse_output=False))
    assert_forgets(pipe, X, [[0]], stored=False)


def test_the_dropped_category_goes():
    X = np.array(["a", "b", "b", "c", "c"], dtype=object)[:, None]
    step = OneHotEncoder(drop=["a"]).fit(X)
    memory = remember(step, X)
    with pytest.raises(ValueError, match="OneHotEncoder: drop names a category that no row has any more"):
        memory.without(step, X[:1])
    assert_forgets(OneHotEncoder(drop=["b"], sparse_output=False), X, [[0], [4]])


@pytest.mark.parametrize("kind", [OneHotEncoder, OrdinalEncoder])
def test_rows_that_come(kind):
    X = strings(np.random.default_rng(6))
    step = kind().fit(X[:90])
    memory = remember(step, X[:90])
    more = memory.with_rows(step, X[90:])
    assert_same(more.transformer, kind().fit(X))
    taken = more.memory.without(more.transformer, X[:1])
    with pytest.raises(ValueError, match=f"{kind.__name__}: there is a category that it was not fitted on"):
        taken.memory.with_rows(taken.transformer, X[:1])
    with pytest.raises(ValueError, match="there is a category that it was not fitted on") as caught:
        memory.with_rows(step, np.array([["Secretville", "cat", "no"]], dtype=object))
    assert "Secretville" not in str(caught.value)


def test_columns_that_stay_keep_their_order():
    X = strings(np.random.default_rng(7))
    step = OneHotEncoder().fit(X)
    forgotten = remember(step, X).without(step, X[[0, 3, 4, 5]])
    names = step.get_feature_names_out()
    assert forgotten.transformer.get_feature_names_out().tolist() == names[forgotten.columns].tolist()
    kept = np.delete(X, [0, 3, 4, 5], axis=0)
    np.testing.assert_array_equal(
        dense(step.transform(kept))[:, forgotten.columns], dense(forgotten.transformer.transform(kept))
    )
