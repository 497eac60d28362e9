import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy, norm
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.datasets import make_classification
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from skorch import NeuralNetClassifier
from torch import nn, optim

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.metrics import tug_of_war_mia_score
from sk_unlearn.metrics.membership import (
    confidence_scores,
    entropy_scores,
    evaluate_attack,
    fit_shadows,
    logit_confidence,
    loss_scores,
    membership_attack,
    membership_rate,
    rmia_scores,
    ulira,
    ulira_scores,
)
from sk_unlearn.references.many import fit_many
from sk_unlearn.unlearners import Retrain


def noisy_rows(n, seed=0):
    """Rows whose labels are half noise, so that learning them means learning them by heart."""
    return make_classification(n, 20, n_informative=4, flip_y=0.5, random_state=seed)


class Wide(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features_in, 64), nn.Tanh(), nn.Linear(64, n_outputs))

    def forward(self, X):
        return self.body(X)


def overfitted(epochs=40):
    net = NeuralNetClassifier(
        Wide,
        criterion=nn.CrossEntropyLoss,
        optimizer=optim.Adam,
        lr=0.02,
        max_epochs=epochs,
        batch_size=32,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    return UnlearnableClassifier(net, Retrain(), random_state=0)


# --------------------------------------------------------------------------------------------------------------- scores


def test_scores_have_their_closed_forms():
    p = np.random.default_rng(0).dirichlet([0.5] * 4, size=30)
    np.testing.assert_allclose(entropy_scores(p), -entropy(p, axis=1), atol=1e-10)
    np.testing.assert_allclose(confidence_scores(p), p.max(axis=1), atol=1e-12)
    np.testing.assert_array_equal(loss_scores([1.0, 0.5]), [-1.0, -0.5])
    assert entropy_scores([[1.0, 0.0]])[0] == 0
    np.testing.assert_allclose(logit_confidence(1 / (1 + np.exp(-np.array([-3.0, 0.0, 5.0])))), [-3, 0, 5], atol=1e-9)
    assert np.isfinite(logit_confidence([0.0, 1.0])).all()


def test_rmia_by_the_double_loop():
    rng = np.random.default_rng(0)
    x, z, out_x, out_z = rng.random(7), rng.random(50), rng.random((3, 7)), rng.random((3, 50))
    for gamma, slope in ((1.0, 1.0), (2.0, 0.3)):
        expected = np.zeros(7)
        for i in range(7):
            p_x = ((1 + slope) * out_x[:, i].mean() + 1 - slope) / 2
            for j in range(50):
                p_z = ((1 + slope) * out_z[:, j].mean() + 1 - slope) / 2
                expected[i] += (x[i] / p_x) / (z[j] / p_z) >= gamma
        scores = rmia_scores(x, out_x, z, out_z, gamma=gamma, offline_slope=slope)
        np.testing.assert_allclose(scores, expected / 50)
    with pytest.raises(ValueError, match="got \\(3, 6\\)"):
        rmia_scores(x, out_x[:, :6], z, out_z)


def test_ulira_is_the_ratio_of_two_gaussians():
    rng = np.random.default_rng(1)
    own, inside, outside = rng.normal(size=5), rng.normal(1, 2, size=(9, 5)), rng.normal(size=(12, 5))
    logs = [norm.logpdf(own, s.mean(axis=0), s.std(axis=0, ddof=1)) for s in (inside, outside)]
    np.testing.assert_allclose(ulira_scores(own, inside, outside), logs[0] - logs[1], atol=1e-10)
    # A missing shadow model is left out.
    padded = np.vstack([inside, np.full(5, np.nan)])
    np.testing.assert_allclose(ulira_scores(own, padded, outside), logs[0] - logs[1], atol=1e-10)
    with pytest.raises(ValueError, match="retrained must hold at least 2"):
        ulira_scores(own, inside, outside[:1])


# -------------------------------------------------------------------------------------------------------------- figures


@settings(max_examples=25)
@given(st.lists(st.integers(0, 8), min_size=2, max_size=30), st.lists(st.integers(0, 8), min_size=2, max_size=30))
def test_area_agrees_with_scikit_learn_and_is_antisymmetric(members, others):
    members, others = np.array(members, float), np.array(others, float)
    result = evaluate_attack(members, others, n_bootstrap=2)
    truth = np.repeat([1, 0], [len(members), len(others)])
    assert result.auc == pytest.approx(roc_auc_score(truth, np.concatenate([members, others])), abs=1e-10)
    reverse = evaluate_attack(-members, -others, n_bootstrap=2)
    assert reverse.auc == pytest.approx(1 - result.auc, abs=1e-10)
    assert reverse.tpr == pytest.approx(result.streisand_tpr, abs=1e-10)
    assert 0 <= result.accuracy <= 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=30), st.lists(st.integers(0, 9), min_size=2, max_size=30))
def test_the_curve_is_that_of_scikit_learn(members, others):
    """With many equal scores."""
    found = evaluate_attack(members, others, n_bootstrap=1)
    truth = np.repeat([1, 0], [len(members), len(others)])
    fpr, tpr, _ = roc_curve(truth, [*members, *others], drop_intermediate=False)
    np.testing.assert_array_equal(found.fpr_curve, fpr)
    np.testing.assert_array_equal(found.tpr_curve, tpr)


def test_rates_at_low_false_positive_rates():
    others = np.arange(1000.0)
    # 30 of 100 members lie above all others, 20 more above all but five.
    members = np.repeat([2000.0, 995.5, -1.0], [30, 20, 50])
    result = evaluate_attack(members, others, n_bootstrap=20)
    assert result.tpr == pytest.approx({0.01: 0.5, 0.001: 0.3})
    assert result.streisand_tpr == pytest.approx({0.01: 0.5, 0.001: 0.5})
    assert result.tpr_interval[0.01][0] < 0.5 < result.tpr_interval[0.01][1]


def test_the_interval_covers_the_true_area():
    # Members are shifted by 1: the area is Φ(1/√2).
    truth, rng, covered = norm.cdf(1 / np.sqrt(2)), np.random.default_rng(0), 0
    for _ in range(40):
        low, high = evaluate_attack(rng.normal(1, 1, 60), rng.normal(0, 1, 60), n_bootstrap=80).auc_interval
        covered += low <= truth <= high
    assert 33 <= covered <= 40


def test_groups_widen_the_interval():
    rng = np.random.default_rng(0)
    shift = rng.normal(size=10).repeat(30)
    members, others, of = shift + 0.1 * rng.normal(size=300), np.zeros(300), np.repeat(np.arange(10), 30)
    alone = evaluate_attack(members, others, n_bootstrap=100)
    grouped = evaluate_attack(members, others, member_groups=of, nonmember_groups=of, n_bootstrap=100)
    assert np.diff(grouped.auc_interval) > 3 * np.diff(alone.auc_interval)
    with pytest.raises(ValueError, match="together"):
        evaluate_attack(members, others, member_groups=of)


def test_held_out_threshold_finds_nothing_in_noise():
    rng = np.random.default_rng(0)
    accuracies = [evaluate_attack(rng.normal(size=20), rng.normal(size=20), n_bootstrap=1).accuracy for _ in range(60)]
    # Chosen and tried on the same rows it would lie well above.
    assert np.mean(accuracies) == pytest.approx(0.5, abs=0.04)


def test_membership_rate():
    assert membership_rate([0.0, 1.0, 2.0, 3.0], [2.0, 3.0], [0.0, 1.0]) == 0.5


# ---------------------------------------------------------------------------------------------------- fitted estimators


def test_the_loss_attack_finds_members_of_an_overfitted_net_and_not_of_a_retrained_one():
    X, y = noisy_rows(900)
    X = X.astype(np.float32)
    erased, unseen = slice(0, 200), slice(500, 900)
    model = overfitted().fit(X[:500], y[:500])
    for attack in ("loss", "confidence", "entropy"):
        found = membership_attack(model, X[erased], y[erased], X[unseen], y[unseen], attack=attack)
        assert found.auc >= 0.7, attack
        assert found.auc_interval[0] > 0.65
    retrained = copy.deepcopy(model).forget(X[erased], y[erased])
    references = fit_many(overfitted(), X[200:500], y[200:500], seeds=[5, 6, 7])
    for judged in (retrained, references[0]):
        left = membership_attack(judged, X[erased], y[erased], X[unseen], y[unseen])
        assert left.auc_interval[0] <= 0.5 <= left.auc_interval[1]
    sets = (X[erased], y[erased], X[200:500], y[200:500], X[unseen], y[unseen])
    assert tug_of_war_mia_score(references[1], references[0], *sets) > 0.8
    assert tug_of_war_mia_score(model, references[0], *sets) < 0.6
    assert tug_of_war_mia_score(model, model, *sets) == 1
    # RMIA weighs how hard a row is, which the references tell.
    out = fit_many(overfitted(), X[200:500], y[200:500], seeds=[8, 9])
    rmia = membership_attack(model, X[erased], y[erased], X[unseen], y[unseen], attack="rmia", references=out)
    assert rmia.auc >= 0.7
    assert rmia.n_nonmembers == 200


class Telltale(ClassifierMixin, BaseEstimator):
    classes_ = np.array([0, 1])

    def predict_proba(self, X):
        return np.column_stack([1 - X[:, 0], X[:, 0]])


def test_a_row_that_looks_too_unfamiliar_betrays_itself():
    rng = np.random.default_rng(0)
    erased, unseen = 0.1 * rng.random((300, 1)), 0.2 + 0.8 * rng.random((300, 1))
    ones = np.ones(300, dtype=int)
    result = membership_attack(Telltale(), erased, ones, unseen, ones)
    assert result.auc == 0
    assert result.tpr[0.01] == 0
    assert result.streisand_tpr[0.01] == 1


def test_regressors_are_attacked_by_their_loss():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 25)), rng.normal(size=60)
    model = LinearRegression().fit(X[:30], y[:30])
    assert membership_attack(model, X[:30], y[:30], X[30:], y[30:]).auc > 0.8
    with pytest.raises(ValueError, match="use attack='loss'"):
        membership_attack(model, X[:30], y[:30], X[30:], y[30:], attack="entropy")
    assert isinstance(model, RegressorMixin)


def test_errors():
    X, y = noisy_rows(40)
    model = LogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match="attack must be"):
        membership_attack(model, X, y, X, y, attack="telepathy")
    with pytest.raises(ValueError, match="needs references"):
        membership_attack(model, X, y, X, y, attack="rmia")
    with pytest.raises(ValueError, match="at least 2 scores"):
        evaluate_attack([1.0], [0.0, 1.0])
    with pytest.raises(ValueError, match="even and at least 8"):
        fit_shadows(overfitted(), X, y, np.arange(4), n_shadows=9)


# --------------------------------------------------------------------------------------------------------------- U-LiRA


class Sly(Retrain):
    """Forgets nothing."""

    def unlearn(self, problem):
        from sk_unlearn.unlearners import Status, UnlearningResult

        return UnlearningResult(problem.parameters.clone(), Status.COMPLETED, "did nothing")


def test_ulira_tells_doing_nothing_from_retraining():
    X, y = noisy_rows(150)
    shadows = fit_shadows(overfitted(15), X.astype(np.float32), y, np.arange(60), n_shadows=16, random_state=1)
    assert (shadows.trained_on.sum(axis=0) == 8).all()
    for model, own in zip(shadows.models, shadows.trained_on, strict=True):
        assert len(model.training_set_) == 90 + own.sum()
    nothing, before = ulira(shadows, Sly()), ulira(shadows, forget=False)
    assert nothing.auc == pytest.approx(before.auc, abs=1e-12)
    assert before.auc_interval[0] > 0.6
    assert before.n_members == before.n_nonmembers == 8 * 30
    retrained = ulira(shadows, Retrain())
    assert retrained.auc_interval[0] <= 0.5 <= retrained.auc_interval[1]
    assert all(len(model.training_set_) > 90 for model in shadows.models)
