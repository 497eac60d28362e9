"""The weight decay of the built-in network: from the noise in the rows, and hardly from any one of them."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from sk_unlearn import MLPNetClassifier, MLPNetRegressor, UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.estimators._decay import ridge_decay, some_rows


def rows(n=400, p=8, explained=0.5, n_outputs=1, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, p))
    signal = Z @ rng.normal(size=(p, n_outputs)) / np.sqrt(p)
    signal /= signal.std(axis=0)
    return Z, np.sqrt(explained) * signal + np.sqrt(1 - explained) * rng.normal(size=(n, n_outputs))


@pytest.mark.parametrize("explained", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_it_is_the_rule_of_hoerl_and_kennard(explained, n_outputs):
    Z, T = rows(4000, 8, explained, n_outputs)
    assert ridge_decay(Z, T, None, 4000) == pytest.approx(8 / 4000 * (1 - explained) / explained, rel=0.2)
    assert ridge_decay(3 * Z + 1, 10 * T - 7, None, 4000) == pytest.approx(ridge_decay(Z, T, None, 4000))


def test_cross_validation_is_not_taken_in_by_columns_of_noise():
    # As many columns as make least squares explain two thirds of nothing; and more columns than rows.
    for p in (200, 500):
        Z, T = rows(300, p, 0.0)
        assert ridge_decay(Z, T, None, 300) > 5
    Z, T = rows(300, 5, 0.8)
    wide = np.column_stack([Z, 1e-3 * np.random.default_rng(1).normal(size=(300, 400))])
    assert ridge_decay(wide, T, None, 300) < 2


def test_a_weight_counts_as_so_many_rows():
    Z, T = rows()
    weight = np.random.default_rng(1).integers(0, 4, len(Z))
    repeated = ridge_decay(np.repeat(Z, weight, axis=0), np.repeat(T, weight, axis=0), None, weight.sum())
    assert ridge_decay(Z, T, weight.astype(float), weight.sum()) == pytest.approx(repeated, rel=0.05)


def test_nothing_to_explain_or_to_explain_with():
    Z, T = rows()
    assert ridge_decay(Z, np.ones_like(T), None, len(Z)) == 0
    assert ridge_decay(np.ones_like(Z), T, None, len(Z)) == 0
    assert np.isfinite(ridge_decay(Z[:1], T[:1], None, 1))
    assert np.isfinite(ridge_decay(Z[:2], T[:2], None, 2))


def test_of_many_rows_some_are_read():
    X = np.empty((10**6, 3))
    assert 10**3 < len(X[some_rows(X)]) <= 2**14
    assert len(np.empty((5000, 3000))[some_rows(np.empty((5000, 3000)))]) <= 2**11
    assert len(X[:100][some_rows(X[:100])]) == 100


@pytest.mark.parametrize(
    ("net", "load"),
    [(MLPNetClassifier, load_breast_cancer), (MLPNetClassifier, load_iris), (MLPNetRegressor, load_diabetes)],
)
def test_a_row_less_nearly_always_gives_the_same_settings(net, load):
    X, y = load(return_X_y=True)

    def settings(kept):
        built = vars(net().for_rows(X[kept], y[kept], None))
        return [built[name] for name in ("optimizer__weight_decay", "max_epochs", "batch_size")]

    present, erased = settings(slice(None)), np.random.default_rng(0).permutation(len(y))[:30]
    same = [settings(np.delete(np.arange(len(y)), k)) == present for k in erased]
    assert np.mean(same) >= 0.9


def test_noise_is_not_learnt_by_heart_and_a_rule_is_learnt():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 30)).astype(np.float32)
    noise, rule = rng.integers(0, 2, 400), (X[:, 0] + X[:, 1] > 0).astype(int)
    train = np.arange(400) < 200
    est = UnlearnableClassifier(random_state=0)
    assert est.fit(X[train], noise[train]).score(X[train], noise[train]) < 0.8
    assert est.fit(X[train], rule[train]).score(X[~train], rule[~train]) > 0.85
    values = rng.normal(size=200).astype(np.float32)
    assert UnlearnableRegressor(random_state=0).fit(X[train], values).score(X[train], values) < 0.5
