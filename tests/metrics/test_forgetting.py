import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp, t
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss, mean_squared_error

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.metrics import (
    anamnesis_index,
    distance_ratio,
    distance_ratio_interval,
    forget_quality,
    gap_closed,
    jensen_shannon,
    ks_pvalue,
    loss_ks_pvalue,
    parameter_distance,
    prediction_ratio,
    privacy_degrees,
    relearn_time,
    retrain_distance,
    retrain_warm,
    rms_distance,
    row_losses,
    tug_of_war,
    warm_ratio,
)
from sk_unlearn.unlearners import Retrain


class Fixed(RegressorMixin, BaseEstimator):
    def __init__(self, values):
        self.values = values

    def predict(self, X):
        return np.ravel(self.values)


class WithParameters(BaseEstimator):
    def __init__(self, *w):
        module = torch.nn.Module()
        module.w = torch.nn.Parameter(torch.tensor(w))
        self.net_ = type("Net", (), {"module_": module})()


# --------------------------------------------------------------------------------------------------------------- arrays


def test_prediction_ratio_of_values_and_probabilities():
    assert prediction_ratio([3.0], [[0.0], [1.0]], rms_distance) == 2.5
    rng = np.random.default_rng(0)
    own, *others = rng.dirichlet([1, 1, 1], size=(4, 20))
    pairs = [jensen_shannon(others[i], others[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    expected = np.mean([jensen_shannon(own, other) for other in others]) / np.mean(pairs)
    assert prediction_ratio(own, others, jensen_shannon) == pytest.approx(expected, abs=1e-10)
    with pytest.raises(ValueError, match="at least 2"):
        prediction_ratio([3.0], [[0.0]], rms_distance)
    # Retrained models that lack the first class.
    narrow = [other[:, 1:] / other[:, 1:].sum(axis=1, keepdims=True) for other in others]
    wide = [np.pad(each, ((0, 0), (1, 0))) for each in narrow]
    found = prediction_ratio(own, narrow, jensen_shannon, classes=(["a", "b", "c"], ["b", "c"]))
    assert found == pytest.approx(prediction_ratio(own, wide, jensen_shannon), rel=1e-12)


def test_ks_agrees_with_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=40), rng.normal(0.5, 1, size=60)
    assert ks_pvalue(a, b) == pytest.approx(ks_2samp(a, b).pvalue, abs=1e-10)
    assert ks_pvalue(a, a) == 1


def test_tug_of_war_of_rates():
    assert tug_of_war([0.9, 1.0, 0.8], [1.0, 0.5, 0.8]) == pytest.approx(0.45, abs=1e-12)
    with pytest.raises(ValueError, match=r"rates must lie in \[0, 1\]"):
        tug_of_war([1.5], [0.5])


def test_privacy_degree_by_hand():
    # One threshold and one interval have neither rate at 0: above 1.5 (f₊ = 1/4, f₋ = 1/4) is the best of all.
    unlearned, retrained = [[0.0], [2.0], [2.5], [3.0]], [[-1.0], [-0.5], [1.0], [4.0]]
    delta = 0.01
    assert privacy_degrees(unlearned, retrained, delta=delta)[0] >= np.log(1 - delta - 0.25) - np.log(0.25) - 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_privacy_degrees_by_trying_every_attack(seed):
    rng = np.random.default_rng(seed)
    u, r = rng.integers(0, 7, size=(9, 1)).astype(float), rng.integers(0, 7, size=(11, 1)) + 1.0
    best, cuts = 0.0, np.arange(-0.5, 9.5)
    rules = [lambda v, c=c: v > c for c in cuts] + [lambda v, c=c: v <= c for c in cuts]
    rules += [lambda v, a=a, b=b: (a < v) & (v <= b) for a in cuts for b in cuts if a < b]
    for rule in rules:
        fp, fn = rule(r).mean(), 1 - rule(u).mean()
        if fp == fn == 0:
            best = np.inf
        elif fp > 0 and fn > 1e-15:
            for a, b in ((fp, fn), (fn, fp)):
                if 1 - 0.01 - a > 0:
                    best = max(best, np.log(1 - 0.01 - a) - np.log(b))
    assert privacy_degrees(u, r)[0] == pytest.approx(best, abs=1e-10)


def test_forget_quality_of_extremes():
    rng = np.random.default_rng(0)
    apart, retrained = rng.normal(50, 1, size=(30, 4)), rng.normal(size=(30, 4))
    assert np.isinf(privacy_degrees(apart, retrained)).all()
    assert forget_quality(apart, retrained) == 2.0**-12
    # Models of one kind: ε = ln(1.99...) and less at every attack, the first three bins at most.
    many = rng.normal(size=(2, 400, 4))
    assert forget_quality(*many) > forget_quality(many[0] + 1, many[1]) > forget_quality(many[0] + 3, many[1])
    same = np.tile([[0.0], [1.0]], (200, 1))
    assert forget_quality(same, same) == 1
    with pytest.raises(ValueError, match="n_models, n_rows"):
        forget_quality(apart, retrained[:, :3])


# ----------------------------------------------------------------------------------------------------------- estimators


def test_row_losses_agree_with_scikit_learn():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(X, y)
    assert row_losses(model, X, y).mean() == pytest.approx(log_loss(y, model.predict_proba(X)), abs=1e-10)
    line = LinearRegression().fit(X, y)
    assert row_losses(line, X, y).mean() == pytest.approx(mean_squared_error(y, line.predict(X)), abs=1e-10)
    without = LogisticRegression(max_iter=500).fit(X[y > 0], y[y > 0])
    assert (row_losses(without, X[:3], y[:3]) > 80).all()
    assert loss_ks_pvalue(model, model, X, y) == 1
    # A single target as a column is no matrix of differences.
    assert np.array_equal(row_losses(line, X, y[:, None]), row_losses(line, X, y))
    with pytest.raises(ValueError, match="X and y must be of the same rows and targets"):
        row_losses(line, X, y[:1])


def test_interval_is_the_jackknife_by_hand():
    models, own = [Fixed([v]) for v in (0.0, 1.0, 3.0, 4.5)], Fixed([2.2])
    result = distance_ratio_interval(own, models, None, "rms", confidence=0.9)
    assert result.ratio == pytest.approx(distance_ratio(own, models, None, "rms"), abs=1e-12)
    logs = [np.log(distance_ratio(own, models[:k] + models[k + 1 :], None, "rms")) for k in range(4)]
    reach = t.ppf(0.95, 3) * np.sqrt(3 / 4 * np.sum((logs - np.mean(logs)) ** 2))
    assert np.log([result.low, result.high]) == pytest.approx(
        np.log(result.ratio) + np.array([-reach, reach]), abs=1e-10
    )
    with pytest.raises(ValueError, match="at least 3"):
        distance_ratio_interval(own, models[:2], None, "rms")
    with pytest.raises(ValueError, match="whichever is left out"):
        distance_ratio_interval(own, [Fixed([1.0]), Fixed([1.0]), Fixed([2.0])], None, "rms")


def test_interval_covers_the_ratio_over_all_references():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(40):
        own = Fixed(rng.normal(0.3, 1, size=5))
        everyone = [Fixed(v) for v in rng.normal(size=(150, 5))]
        truth = np.mean([rms_distance(own.values, r.values) for r in everyone])
        truth /= np.mean([rms_distance(a.values, b.values) for a, b in pairwise(everyone)])
        _, low, high = distance_ratio_interval(own, everyone[:6], None, "rms")
        covered += low <= truth <= high
    assert 34 <= covered <= 40


@given(st.floats(0, 2))
def test_gap_closed_is_linear_on_a_line(share):
    references = [Fixed([10.0])]
    assert gap_closed(Fixed([10 * share]), Fixed([0.0]), references, None, "rms") == pytest.approx(
        1 - abs(1 - share), abs=1e-10
    )


def test_gap_closed_errors():
    with pytest.raises(ValueError, match="no gap"):
        gap_closed(Fixed([1.0]), Fixed([2.0]), [Fixed([2.0])], None, "rms")
    with pytest.raises(ValueError, match="at least one"):
        gap_closed(Fixed([1.0]), Fixed([2.0]), [], None, "rms")


def test_parameters():
    references = [WithParameters(0.0, 0.0), WithParameters(6.0, 8.0)]
    assert parameter_distance(WithParameters(0.0, 5.0), references) == (pytest.approx((5 + 45**0.5) / 2), 10)
    assert warm_ratio(WithParameters(0.0, 3.0), WithParameters(0.0, 12.0), WithParameters(0.0, 0.0)) == 0.25
    with pytest.raises(ValueError, match="no way to go"):
        warm_ratio(WithParameters(1.0), WithParameters(2.0), WithParameters(2.0))
    with pytest.raises(ValueError, match="at least 2"):
        parameter_distance(WithParameters(1.0), references[:1])


def test_warm_model_relearning_and_anamnesis():
    X, y = load_iris(return_X_y=True)
    X, y = X[::2].astype(np.float32), y[::2]
    rows = y == 1
    fitted = UnlearnableClassifier(random_state=0).fit(X, y)
    warm = retrain_warm(fitted, X[rows], y[rows], n_epochs=10)
    assert not np.isin(1, warm.training_set_.y)
    assert len(fitted.training_set_) == len(X)
    assert warm_ratio(warm, fitted, warm) == 0
    assert warm_ratio(fitted, fitted, warm) == 1
    retrained = copy.deepcopy(fitted).set_params(unlearner=Retrain()).forget(X[rows], y[rows])
    before = [p.clone() for p in retrained.net_.module_.parameters()]
    steps, reached = relearn_time(retrained, X[rows], y[rows], target=0.9)
    assert reached
    assert steps > 5
    assert relearn_time(fitted, X[rows], y[rows], target=0.9) == (0, True)
    assert relearn_time(retrained, X[rows], y[rows], target=0.9, max_steps=2) == (2, False)
    assert all(torch.equal(p, q) for p, q in zip(before, retrained.net_.module_.parameters(), strict=True))
    # What was never forgotten comes back at once.
    assert anamnesis_index(fitted, retrained, fitted, X[rows], y[rows]) == 0
    assert anamnesis_index(retrained, retrained, fitted, X[rows], y[rows]) == 1
    assert anamnesis_index(retrained, fitted, fitted, X[rows], y[rows]) == np.inf
    assert np.isnan(anamnesis_index(fitted, fitted, fitted, X[rows], y[rows]))
    lacking = UnlearnableClassifier(random_state=0).fit(X[~rows], y[~rows])
    with pytest.raises(ValueError, match="cannot relearn"):
        relearn_time(lacking, X[rows], y[rows], target=0.9)
    assert retrain_distance(warm, retrained, X[rows]) < retrain_distance(fitted, retrained, X[rows])


def test_a_regressor_relearns():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)).astype(np.float32)
    y = X[:, 0] * 3
    model = UnlearnableRegressor(random_state=0).fit(X[:30], y[:30])
    error = row_losses(model, X[30:], y[30:]).mean()
    steps, reached = relearn_time(model, X[30:], y[30:], target=error / 2)
    assert reached
    assert steps > 0


def test_ks_pvalue_where_the_exact_one_rounds_to_more_than_one():
    assert ks_pvalue(np.arange(5.0), np.arange(5.0) + 1e-9) == pytest.approx(1, abs=1e-3)
