from fractions import Fraction

import numpy as np
import pytest
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_unlearn.preprocessing import remember
from tests.preprocessing._refit import assert_forgets, assert_same

GROUPS = [[3], [4, 5, 6], [0], [50, 51], [7]]


def correlated(rng, n=150, d=5):
    return rng.normal(size=(n, d)) @ np.diag(2.0 ** np.arange(d)) @ rng.normal(size=(d, d)) + np.arange(d)


@pytest.mark.parametrize(
    "step",
    [
        PCA(),
        PCA(n_components=2),
        PCA(n_components=0.9),
        PCA(n_components=3, whiten=True),
        PCA(svd_solver="full"),
        PCA(svd_solver="covariance_eigh", n_components=4),
        IncrementalPCA(batch_size=20),
        IncrementalPCA(n_components=5, whiten=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("n", [30, 150])
def test_components_are_as_fitted_on_the_rows_that_stay(step, n):
    X = correlated(np.random.default_rng(0), n)
    assert_forgets(step, X, [g for g in GROUPS if max(g) < n], stored=False)


@pytest.mark.parametrize("missing", [False, True])
def test_behind_scalers_and_imputers(missing):
    rng = np.random.default_rng(1)
    X = correlated(rng)
    if missing:
        X[rng.random(X.shape) < 0.1] = np.nan
    for pipe in (
        make_pipeline(SimpleImputer(), StandardScaler(), PCA(n_components=3)),
        make_pipeline(SimpleImputer(add_indicator=True), PCA()),
        make_pipeline(SimpleImputer(strategy="constant"), StandardScaler(), PCA(whiten=True)),
    ):
        assert_forgets(pipe, X, GROUPS, stored=False, tolerance=1e-9)


def test_a_huge_mean_and_an_outlier_cost_no_digits():
    rng = np.random.default_rng(2)
    X = np.round(correlated(rng) * 1024) / 1024 + 2.0**30
    X[7] = [1e8, -1e12, 1e10, 0, 5]
    step = PCA(svd_solver="full").fit(X)
    forgotten = remember(step, X).without(step, X[[7]])
    # scikit-learn subtracts a rounded mean; of the centred rows, which are exact here, it has all digits.
    expected = PCA(svd_solver="full").fit(np.delete(X, 7, axis=0) - 2.0**30)
    new = forgotten.transformer
    np.testing.assert_allclose(new.explained_variance_, expected.explained_variance_, rtol=1e-11)
    np.testing.assert_allclose(new.components_, expected.components_, atol=1e-11)
    exact = [sum(map(Fraction, column)) / Fraction(len(X) - 1) for column in np.delete(X, 7, axis=0).T.tolist()]
    assert new.mean_.tolist() == [float(mean) for mean in exact]


def test_single_precision():
    X = correlated(np.random.default_rng(3)).astype(np.float32)
    step = PCA(n_components=2).fit(X)
    new = remember(step, X).without(step, X[[3]]).transformer
    expected = PCA(n_components=2).fit(np.delete(X, 3, axis=0))
    assert new.components_.dtype == expected.components_.dtype == np.float32
    np.testing.assert_allclose(new.components_, expected.components_, atol=1e-4)
    np.testing.assert_allclose(new.explained_variance_, expected.explained_variance_, rtol=1e-4)


@pytest.mark.parametrize(
    "step",
    [
        PCA(n_components=2, svd_solver="randomized", random_state=0),
        PCA(n_components=2, svd_solver="arpack", random_state=0),
        PCA(n_components="mle"),
        IncrementalPCA(n_components=2, batch_size=30),
    ],
    ids=str,
)
def test_others_are_fitted_anew(step):
    X = correlated(np.random.default_rng(4))
    assert_forgets(step, X, GROUPS[:2], retained=True, stored=True, tolerance=1e-6)
    fitted = step.fit(X)
    forgotten = remember(fitted, X).without(fitted, X[:1])
    assert forgotten.still_there == [type(step).__name__]
    assert_same(forgotten.transformer, fitted)


def test_fewer_rows_than_columns():
    X = np.random.default_rng(5).normal(size=(8, 20))
    assert_forgets(PCA(n_components=3), X, [[0], [5]], retained=True)
    short = PCA(n_components=3, svd_solver="full").fit(X[:, :7])
    assert remember(short, X[:, :7]).without(short, X[:2, :7]).still_there == ["PCA"]


def test_rows_that_come():
    X = correlated(np.random.default_rng(6))
    step = PCA().fit(X[:140])
    more = remember(step, X[:140]).with_rows(step, X[140:])
    assert_same(more.transformer, PCA().fit(X))
