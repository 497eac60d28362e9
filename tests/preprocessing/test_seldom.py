"""Steps and tables that seldom meet: without some rows they are what a fit on the others makes of them."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from sk_unlearn.preprocessing import remember
from tests._problems import FOLDS_IN_ORDER
from tests.preprocessing._refit import assert_forgets, assert_same, dense

N = 60


@pytest.fixture
def rng():
    return np.random.default_rng(12)


def with_gaps(rng):
    """The only value of the second column is in row 4."""
    X = rng.integers(0, 5, (N, 3)).astype(float)
    X[rng.random(N) < 0.2, 0] = np.nan
    X[:, 1] = np.where(np.arange(N) == 4, 3.0, np.nan)
    return X


@pytest.mark.parametrize(
    "pipe",
    [
        make_pipeline(SimpleImputer(strategy="mean", keep_empty_features=True), MinMaxScaler()),
        make_pipeline(SimpleImputer(strategy="constant", fill_value=2), SimpleImputer(strategy="most_frequent")),
        make_pipeline(MinMaxScaler(), SimpleImputer(strategy="constant", fill_value=-1)),
        make_pipeline(SimpleImputer(), PCA(1)),
        StandardScaler(),
        make_pipeline(StandardScaler(), MinMaxScaler()),
    ],
    ids=["kept", "twice", "constant", "components", "scaler", "scalers"],
)
@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
@pytest.mark.filterwarnings("ignore:All-NaN slice")
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_a_column_whose_last_value_goes(rng, pipe):
    assert_forgets(pipe, with_gaps(rng), [[5, 6], [4], [7]], stored=False, retained=True)


def test_gaps_of_two_marks(rng):
    X = with_gaps(rng)[:, [0, 2]]
    pipe = make_pipeline(SimpleImputer(), SimpleImputer(missing_values=3.0, strategy="mean"))
    assert_forgets(pipe, X, [[5, 6], [4]], stored=False, retained=True)


def test_the_most_frequent_of_texts_and_numbers():
    X = pd.DataFrame({"a": pd.Series([1, "x", 1, "x", 2, None, "x", 1, 2, 2], dtype=object)})
    step = SimpleImputer(strategy="most_frequent").fit(X)
    assert step.statistics_.tolist() in ([1], ["x"])
    for gone in (0, 1, 4):
        expected = SimpleImputer(strategy="most_frequent").fit(X.drop(index=gone))
        assert_same(remember(step, X).without(step, X.loc[[gone]]).transformer, expected)


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
def test_categories_that_were_given_for_a_column_that_goes(rng):
    """Without the column there are too many lists of categories, and the encoder cannot be fitted anew."""
    X = with_gaps(rng)[:, :2]
    pipe = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(categories=[np.arange(5.0), np.arange(5.0)])
    )
    step = pipe.fit(X)
    memory = remember(step, X)
    kept = np.delete(X, 4, axis=0)
    with pytest.raises(ValueError, match="Shape mismatch: if categories is an array"):
        memory.without(step, X[4:5], retained=(kept, None))
    assert_same(memory.without(step, X[5:6]).transformer, pipe.fit(np.delete(X, 5, axis=0)))


def test_a_group_of_rare_categories_that_parts():
    towns = pd.DataFrame({"town": ["Bonn"] * 9 + ["Jena"] * 8 + ["Ulm"] * 7 + ["Wien"]})
    assert_forgets(OrdinalEncoder(max_categories=2), towns, [[0, 1], [2, 3, 4]], stored=False, retained=True)


def test_wide_tables_of_counts_behind_a_choice_of_columns(rng):
    X = sparse.csr_array(rng.poisson(0.5, (N, 8)))
    y = np.arange(N) % 2
    pipe = make_pipeline(SelectKBest(chi2, k=4), TfidfTransformer())
    assert_forgets(pipe, X, [[1, 2], [30]], y=y, stored=False, retained=True)


def test_sparse_columns_of_many_values(rng):
    X = sparse.random_array((300, 3), density=0.6, rng=rng, format="csr")
    assert_forgets(MaxAbsScaler(), X, [[int(np.argmax(X[:, [0]].toarray()))], [5, 6]])


def test_a_sparse_table_in_which_a_column_of_codes_stands_behind(rng):
    """The codes move, the ones before them are only picked."""
    table = pd.DataFrame({"a": rng.choice(list("uvw"), N), "b": rng.choice(list("xyz"), N)})
    table.loc[3, "b"] = "a"
    encoders = make_column_transformer((OneHotEncoder(), ["a"]), (OrdinalEncoder(), ["b"]), sparse_threshold=1.0)
    Z = encoders.fit_transform(table)
    forgotten = remember(encoders, table).without(encoders, table[3:4])
    kept = table.drop(index=3)
    new = forgotten.outputs(Z[np.arange(N) != 3])
    assert sparse.issparse(new)
    np.testing.assert_array_equal(new.toarray(), clone(encoders).fit_transform(kept).toarray())


@pytest.mark.parametrize("others", [[], ["a"]], ids=["alone", "beside"])
def test_outputs_come_in_the_form_they_were_stored_in(rng, others):
    table = pd.DataFrame({"a": rng.choice(list("uvw"), N), "b": rng.normal(size=N)})
    step = make_column_transformer((OneHotEncoder(), others), (RobustScaler(), ["b"]), sparse_threshold=1.0)
    Z = sparse.csr_array(step.fit_transform(table))
    kept = table.drop(index=3)
    forgotten = remember(step, table).without(step, table[3:4], retained=(kept, None))
    new = forgotten.outputs(Z[np.arange(N) != 3], kept)
    assert sparse.issparse(new)
    np.testing.assert_allclose(new.toarray(), dense(clone(step).fit_transform(kept)), atol=1e-12)


def test_components_behind_a_category_that_goes(rng):
    towns = pd.DataFrame({"town": rng.choice(["Bonn", "Jena", "Ulm", "Wien"], N, p=[0.1, 0.2, 0.3, 0.4])})
    towns.loc[3, "town"] = "Celle"
    pipe = make_pipeline(OneHotEncoder(sparse_output=False), PCA(2))
    assert_forgets(pipe, towns, [[5], [3], [6, 7]], stored=False, retained=True)


@pytest.mark.filterwarnings("error")
def test_parameters_of_a_union_go_to_all_of_its_branches(rng):
    X, weight = rng.normal(size=(N, 2)), rng.uniform(1, 2, N)
    union = FeatureUnion([("a", StandardScaler()), ("b", StandardScaler(with_mean=False))])
    assert_forgets(union, X, [[3], [5, 6]], weights=("sample_weight", weight))


def test_a_union_with_a_cross_fitted_branch(rng):
    table = pd.DataFrame({"a": rng.choice(list("uvw"), N), "b": rng.choice(list("xyz"), N)})
    y = rng.normal(size=N)
    union = FeatureUnion(
        [("a", OneHotEncoder(sparse_output=False)), ("b", TargetEncoder(target_type="continuous", **FOLDS_IN_ORDER))]
    )
    assert_forgets(union, table, [[3], [5, 6]], y=y, stored=False, retained=True)


def test_many_rows_that_come_below_all_others(rng):
    X, low = rng.normal(size=(300, 2)), rng.normal(size=(100, 2)) - 50
    step = MinMaxScaler().fit(X)
    come = remember(step, X).with_rows(step, low)
    assert_same(come.transformer, MinMaxScaler().fit(np.vstack([X, low])))
    back = come.memory.without(come.transformer, low[:50])
    assert_same(back.transformer, MinMaxScaler().fit(np.vstack([X, low[50:]])))


def test_components_do_not_take_in_rows_with_gaps(rng):
    X = rng.normal(size=(N, 3))
    step = PCA(2).fit(X)
    new = np.array([[np.nan, 1.0, 2.0]])
    with pytest.raises(ValueError, match=r"NaN|cannot take in rows"):
        remember(step, X).with_rows(step, new)


def test_few_rows_on_a_plane(rng):
    """The smallest variances are rounding errors, so that the components are fitted anew."""
    X = rng.normal(size=(20, 2)) @ rng.normal(size=(2, 4))
    assert_forgets(PCA(2), X, [[3], [5, 6]], stored=False, retained=True, tolerance=1e-8)


def test_lists_of_texts_and_numbers(rng):
    X = [[f"town {i % 4}", float(i)] for i in range(N)]
    step = make_column_transformer((OneHotEncoder(sparse_output=False), [0]), (MinMaxScaler(), [1]))
    assert_forgets(step, X, [[3], [0, 59]], stored=False)
