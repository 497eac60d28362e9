import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, StandardScaler

from sk_unlearn.preprocessing import remember
from tests.preprocessing._refit import assert_forgets, assert_same, rows

SCALERS = [
    StandardScaler(),
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    StandardScaler(with_mean=False, with_std=False),
    MinMaxScaler(),
    MinMaxScaler(feature_range=(-2, 5), clip=True),
    MaxAbsScaler(),
]
GROUPS = [[3], [4, 5, 6], [0], [50, 51], [7], [11]]


def numbers(rng, n=120, missing=True, centre=1e6):
    X = rng.normal(size=(n, 5)) * [1, 1e-6, 1, 1e5, 1] + [0, 0, centre, 0, 0]
    X[:, 2] = np.round(X[:, 2] * 1024) / 1024  # so that scikit-learn adds it up without rounding, too
    X[:, 4] = 7.5
    X[3] = [1e8, 1e3, centre, -1e9, 7.5]  # an outlier, which goes first
    if missing:
        X[rng.random(X.shape) < 0.1] = np.nan
        X[3, 0] = 1e8
        X[0] = np.nan
    return X


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("step", SCALERS, ids=str)
def test_scalers_are_as_fitted_on_the_rows_that_stay(step, missing):
    X = numbers(np.random.default_rng(1), missing=missing)
    # Behind an outlier of 1e8 stored float64 have eight digits less of what stays.
    assert_forgets(step, X[1:], [[g - 1 for g in group if g] or [60] for group in GROUPS], stored=False)
    clean = np.delete(X, 3, axis=0)
    assert_forgets(step, clean, GROUPS)


@pytest.mark.parametrize("step", SCALERS, ids=str)
def test_data_types_and_tables(step):
    rng = np.random.default_rng(2)
    assert_forgets(step, numbers(rng, missing=False, centre=0).astype(np.float32)[4:], GROUPS, tolerance=2e-5)
    assert_forgets(step, rng.integers(0, 9, (60, 3)), GROUPS)
    table = pd.DataFrame(rng.normal(size=(60, 3)), columns=["c", "a", "b"])
    assert_forgets(step, table, GROUPS)


@pytest.mark.parametrize("step", [StandardScaler(with_mean=False), MaxAbsScaler()], ids=str)
def test_sparse_tables(step):
    X = sparse.csr_array(sparse.random(80, 6, density=0.2, random_state=3))
    X.data[::9] = np.nan
    assert_forgets(step, X, GROUPS)
    assert_forgets(step, sparse.csc_matrix(X), GROUPS)


@pytest.mark.parametrize("missing", [False, True])
def test_weights_go_with_their_rows(missing):
    rng = np.random.default_rng(4)
    X = np.delete(numbers(rng, missing=missing, centre=1e3), 3, axis=0)
    weights = rng.exponential(size=len(X))
    assert_forgets(StandardScaler(), X, GROUPS, weights=("sample_weight", weights))
    pipe = make_pipeline(SimpleImputer(), StandardScaler())
    assert_forgets(pipe, X, GROUPS, weights=("standardscaler__sample_weight", weights), stored=False)
    step = StandardScaler().fit(X, sample_weight=weights)
    with pytest.raises(ValueError, match=r"StandardScaler: it was fitted with sample_weight; pass that of these rows"):
        remember(step, X, sample_weight=weights).without(step, X[:1])


@pytest.mark.parametrize(
    "imputer",
    [
        SimpleImputer(),
        SimpleImputer(add_indicator=True),
        SimpleImputer(keep_empty_features=True, add_indicator=True),
        SimpleImputer(strategy="most_frequent"),
        SimpleImputer(strategy="constant", fill_value=-3.5),
        SimpleImputer(strategy="constant", add_indicator=True),
        MissingIndicator(),
        MissingIndicator(features="all", sparse=False),
    ],
    ids=str,
)
def test_imputers(imputer):
    rng = np.random.default_rng(5)
    X = np.round(numbers(rng, centre=1e3) * [1, 1e6, 1, 1e-5, 1])
    X[:, 0] = np.abs(X[:, 0]) % 7
    X[:, 1] = np.where(np.arange(len(X)) == 5, np.nan, X[:, 1] % 5)  # one missing value, and it goes
    groups = [[3, 5], [4], [0], [50, 51], [7]]
    assert_forgets(imputer, X, groups, stored=False)
    assert_forgets(make_pipeline(imputer, StandardScaler()), X.astype(float), groups, stored=False) if isinstance(
        imputer, SimpleImputer
    ) else None


@pytest.mark.parametrize("last", [StandardScaler(), MinMaxScaler(), "passthrough"], ids=str)
def test_all_values_but_filled_in_ones_move_by_column(last):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(90, 3))
    X[4, 1] = 30.0
    X[rng.random(len(X)) < 0.2, 1] = np.nan
    step = make_pipeline(SimpleImputer(), last)
    Z = step.fit_transform(X)
    forgotten = remember(step, X).without(step, X[4:5], None, (np.delete(X, 4, axis=0), None))
    assert forgotten.change is None
    scale, shift, apart = forgotten.mostly
    assert apart.tolist() == [False, True, False]
    old, raw = (np.delete(A, 4, axis=0) for A in (Z, X))
    moved, new = old * scale + shift, forgotten.outputs(old, raw)
    missing = np.isnan(raw[:, 1])
    np.testing.assert_allclose(moved[~missing], new[~missing], atol=1e-12)
    assert (np.abs(moved[missing, 1] - new[missing, 1]) > 1e-6).all()
    full = np.flatnonzero(~np.isnan(X[:, 1]))
    assert remember(step, X[full]).without(step, X[4:5]).mostly is None


def test_a_column_whose_last_value_goes_is_gone():
    X = np.array([[1.0, np.nan], [2.0, 4.0], [np.nan, np.nan], [5.0, np.nan]])
    pipe = make_pipeline(SimpleImputer(), StandardScaler())
    step = pipe.fit(X)
    forgotten = remember(step, X).without(step, X[[1]])
    assert forgotten.columns.tolist() == [0]
    with pytest.warns(UserWarning, match="Skipping features without any observed values"):
        expected = make_pipeline(SimpleImputer(), StandardScaler()).fit(np.delete(X, 1, axis=0))
    assert_same(forgotten.transformer, expected)


def test_other_marks_of_missing_values():
    rng = np.random.default_rng(6)
    X = rng.integers(-1, 6, (60, 4))
    for strategy in ("mean", "most_frequent", "constant"):
        assert_forgets(SimpleImputer(missing_values=-1, strategy=strategy), X, [*GROUPS[:3], [20]], stored=False)


def test_sparse_imputers():
    X = sparse.csc_array(sparse.random(80, 6, density=0.3, random_state=7))
    X.data[::7] = np.nan
    X = X.tocsr()
    for strategy in ("mean", "most_frequent"):
        assert_forgets(SimpleImputer(strategy=strategy), X, GROUPS[:3], stored=False)


@pytest.mark.parametrize("missing", [False, True])
def test_several_in_a_row(missing):
    X = np.delete(numbers(np.random.default_rng(8), missing=missing, centre=1e3), 3, axis=0)[:, :4]
    pipes = [
        make_pipeline(SimpleImputer(), StandardScaler()),
        make_pipeline(SimpleImputer(add_indicator=True), MinMaxScaler(), StandardScaler()),
        make_pipeline(StandardScaler(), SimpleImputer(), MaxAbsScaler()),
        make_pipeline(StandardScaler(), MinMaxScaler(), "passthrough"),
        make_pipeline(SimpleImputer(strategy="most_frequent"), StandardScaler()),
        make_pipeline(FunctionTransformer(np.cbrt), SimpleImputer(), StandardScaler()),
    ]
    for pipe in pipes:
        assert_forgets(pipe, X, GROUPS, stored=not missing)


def test_a_thousand_removals_do_not_drift():
    rng = np.random.default_rng(9)
    X = np.round(rng.normal(loc=[0, 1e6, 0], size=(1500, 3)) * 1024) / 1024
    X[rng.random(X.shape) < 0.05] = np.nan
    X[::50, 2] = 1e8 * rng.normal(size=30)  # thirty outliers, all of which go
    gone = np.unique(np.append(np.arange(0, 1500, 50), rng.choice(1500, 1000, replace=False)))
    pipe = make_pipeline(SimpleImputer(), StandardScaler())
    step = copy.deepcopy(pipe).fit(X)
    memory = remember(step, X)
    for place in rng.permutation(gone):
        forgotten = memory.without(step, X[[place]])
        step, memory = forgotten.transformer, forgotten.memory
    kept = np.delete(X, gone, axis=0)
    assert_same(step, pipe.fit(kept))
    # To the last bit what is kept is what would have been kept of the rows that stay.
    assert pickle.dumps(memory) == pickle.dumps(remember(step, kept))


@pytest.mark.parametrize("step", [MinMaxScaler(), MaxAbsScaler()], ids=str)
def test_extremes_that_are_no_longer_known(step):
    X = np.random.default_rng(10).normal(size=(200, 2))
    order = np.argsort(-np.abs(X[:, 0]))
    step = step.fit(X)
    memory = remember(step, X)
    for n, place in enumerate(order[:150]):
        kept = np.delete(X, order[: n + 1], axis=0)
        forgotten = memory.without(step, X[[place]], retained=lambda kept=kept: (kept, None))
        step, memory = forgotten.transformer, forgotten.memory
        assert not forgotten.still_there
        assert_same(step, type(step)().fit(kept))
    full = type(step)().fit(X)
    name = type(step).__name__
    assert remember(full, X).without(full, rows(X, order[:150])).still_there == [name]


def test_smallest_values_come_back_with_rows():
    X = np.random.default_rng(11).normal(size=(300, 2))
    step = MinMaxScaler().fit(X)
    memory = remember(step, X)
    order = np.argsort(X[:, 0])
    taken = memory.without(step, X[order[:40]])
    back = taken.memory.with_rows(taken.transformer, X[order[:40]])
    assert_same(back.transformer, step)
    more = back.memory.with_rows(back.transformer, np.array([[-9.0, 9.0]]))
    assert_same(more.transformer, MinMaxScaler().fit(np.vstack([X, [[-9.0, 9.0]]])))
