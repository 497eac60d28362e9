"""Ascent on the erased rows stops before it breaks the model; random labels are random."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils._param_validation import InvalidParameterError
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners import GradientAscent, NegGradPlus, RandomLabels, Status
from sk_unlearn.unlearners.ascent import other_labels, with_random_targets
from tests._problems import centred_iris, iris_classifier

X, y = centred_iris()


class TestGradientAscent:
    def test_first_step_climbs_the_loss_without_the_weight_decay(self):
        est = iris_classifier(GradientAscent(1, learning_rate=1e-3), optimizer__weight_decay=0.5, batch_size=-1)
        est.fit(X, y)
        w, at = flat_parameters(est.net_), torch.from_numpy
        loss = nn.functional.cross_entropy(est.net_.module_(at(X[y == 0])), at(y[y == 0]))
        gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(est.net_.module_.parameters()))])
        est.forget(X[y == 0])
        # Adam's first step is the rate along the sign, but for an epsilon of 1e-8.
        torch.testing.assert_close(flat_parameters(est.net_) - w, 1e-3 * gradient / (gradient.abs() + 1e-8))

    def test_it_stops_at_chance(self):
        est = iris_classifier(GradientAscent(200, learning_rate=3e-3)).fit(X, y).forget(X[y == 0])
        report = est.unlearning_report_
        assert report.status is Status.COMPLETED
        assert "chance" in report.stop_reason
        assert report.n_steps < 200 * 2
        assert est.score(X[y == 0], y[y == 0]) < 0.5

    def test_it_takes_no_step_that_breaks_the_rest(self):
        est = iris_classifier(GradientAscent(50, learning_rate=0.3)).fit(X, y)
        before = est.score(X, y)
        report = est.forget(X[:140:7]).unlearning_report_
        assert report.status is Status.OVERSHOOT_UNDONE
        assert "markedly" in report.stop_reason
        assert est.score(X, y) > before - 0.05

    def test_too_little_is_reported(self):
        report = iris_classifier(GradientAscent(1, learning_rate=1e-6)).fit(X, y).forget(X[y == 0]).unlearning_report_
        assert report.status is Status.BUDGET_SPENT
        assert "did not bring" in report.stop_reason


class TestNegGradPlus:
    def test_first_step_is_along_the_weighted_difference(self):
        unlearner = NegGradPlus(0.8, n_epochs=1, learning_rate=1e-3)
        est = iris_classifier(unlearner, batch_size=-1, optimizer__weight_decay=0.1).fit(X, y)
        w, at, parameters = flat_parameters(est.net_), torch.from_numpy, list(est.net_.module_.parameters())

        def risk(rows):
            loss = nn.functional.cross_entropy(est.net_.module_(at(X[rows])), at(y[rows]))
            return loss + 0.05 * sum(p.square().sum() for p in parameters)

        objective = 0.8 * risk(y != 0) - 0.2 * risk(y == 0)
        gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(objective, parameters)])
        est.forget(X[y == 0])
        torch.testing.assert_close(
            flat_parameters(est.net_) - w, -1e-3 * gradient / (gradient.abs() + 1e-8), rtol=1e-3, atol=1e-6
        )

    def test_the_ascent_is_bounded(self):
        est = iris_classifier(NegGradPlus(0.5, n_epochs=20, learning_rate=0.05)).fit(X, y).forget(X[y == 0])
        assert est.unlearning_report_.trace[-1]["erased_loss"] < 20
        assert est.score(X[y != 0], y[y != 0]) > 0.9

    def test_a_rise_of_the_retained_loss_is_reported(self):
        report = iris_classifier(NegGradPlus(0.01, learning_rate=1.0)).fit(X, y).forget(X[y == 0]).unlearning_report_
        assert not report.converged
        assert "retained rows rose markedly" in report.stop_reason


class TestRandomLabels:
    @given(st.lists(st.integers(0, 6), min_size=1), st.sets(st.integers(0, 6), min_size=1), st.integers(0, 99))
    def test_other_labels_differ_and_are_among_those_given(self, labels, known, seed):
        labels, known = np.array(labels), np.array(sorted(known))
        drawn = other_labels(labels, known, np.random.default_rng(seed))
        possible = (known[None] != labels[:, None]).any(1)
        assert np.isin(drawn[possible], known).all()
        assert (drawn[possible] != labels[possible]).all()
        np.testing.assert_array_equal(drawn[~possible], labels[~possible])

    def test_other_labels_are_uniform(self):
        drawn = other_labels(np.ones(30_000, dtype=np.int64), np.arange(4), np.random.default_rng(0))
        counts = np.bincount(drawn, minlength=4)
        assert counts[1] == 0
        np.testing.assert_allclose(counts[[0, 2, 3]], 10_000, rtol=0.05)

    def test_a_class_is_unlearnt(self):
        net = NeuralNetClassifier(
            nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 3)), criterion=nn.CrossEntropyLoss, max_epochs=20,
            batch_size=32, lr=0.02, optimizer=torch.optim.Adam, train_split=None, verbose=0,
        )  # fmt: skip
        est = UnlearnableClassifier(net, RandomLabels(10, learning_rate=0.01), random_state=0).fit(X, y)
        est.forget(X[y == 0])
        assert est.score(X[y == 0], y[y == 0]) < 0.5
        assert est.score(X[y != 0], y[y != 0]) > 0.85

    def test_targets_of_a_regressor_come_from_retained_rows(self):
        rng = np.random.default_rng(1)
        A = rng.normal(size=(30, 2)).astype(np.float32)
        b = A.sum(1) + 5
        net = NeuralNetRegressor(nn.Linear(2, 1), max_epochs=30, train_split=None, verbose=0)
        est = UnlearnableRegressor(net, random_state=0).fit(A, b)
        from sk_unlearn.risks.empirical import EmpiricalRisk

        erased = EmpiricalRisk(est.net_, A[:5], b[:5, None].astype(np.float32))
        drawn = with_random_targets(erased, np.array([[1.5], [2.5]], dtype=np.float32), None, rng).targets()
        assert np.isin(drawn, [1.5, 2.5]).all()
        assert drawn.shape == (5, 1)
        est.set_params(unlearner=RandomLabels()).forget(A[:5])
        assert est.unlearning_report_.parameters_moved


@pytest.mark.parametrize("make", [GradientAscent, NegGradPlus, RandomLabels])
@pytest.mark.parametrize(("name", "value"), [("n_epochs", 0), ("learning_rate", 0.0)])
def test_constraints(make, name, value):
    with pytest.raises(InvalidParameterError, match=name):
        make(**{name: value}).unlearn(None)


@pytest.mark.gpu
@pytest.mark.parametrize("unlearner", [GradientAscent(), NegGradPlus(), RandomLabels()])
def test_on_a_gpu(unlearner):
    est = iris_classifier(unlearner).set_params(device="cuda").fit(X, y).forget(X[y == 0])
    assert est.unlearning_report_.parameters_moved
