"""FineTune trains on from where the fit ended, RewindToDelete from an earlier point."""

import numpy as np
import pytest
import torch
from sklearn.utils._param_validation import InvalidParameterError
from skorch.callbacks import EarlyStopping, LRScheduler

from sk_unlearn.unlearners import FineTune, Retrain, RewindToDelete, Status
from tests import _problems
from tests._problems import affine, parameters

rng = np.random.default_rng(13)
X = rng.normal(size=(40, 3))
y = X @ [1.0, -1.0, 0.5] + 0.1 * rng.normal(size=40)
y[:5] += 10


def regressor(unlearner, **settings):
    defaults = {"max_epochs": 60, "batch_size": -1, "lr": 0.3}
    return _problems.regressor(unlearner, affine(3), **(defaults | settings))


def gradient(X, y, w):
    A = np.column_stack([X, np.ones(len(X))])
    return 2 * A.T @ (A @ w - y) / len(X)


def test_one_full_batch_epoch_is_one_gradient_step():
    est = regressor(FineTune()).fit(X, y)
    start = parameters(est)
    est.forget(X[:5])
    np.testing.assert_allclose(parameters(est), start - 0.3 * gradient(X[5:], y[5:], start), rtol=1e-10)


def test_rate_is_annealed_along_a_cosine():
    est = regressor(FineTune(n_epochs=4, learning_rate=0.2)).fit(X, y)
    w = parameters(est)
    for k in range(4):
        w = w - 0.2 * (1 + np.cos(np.pi * k / 4)) / 2 * gradient(X[5:], y[5:], w)
    est.forget(X[:5])
    np.testing.assert_allclose(parameters(est), w, rtol=1e-10)


def test_long_enough_it_arrives():
    est = regressor(FineTune(n_epochs=60)).fit(X, y).forget(X[:5])
    A = np.column_stack([X[5:], np.ones(35)])
    np.testing.assert_allclose(parameters(est), np.linalg.lstsq(A, y[5:], rcond=None)[0], atol=1e-4)


@pytest.mark.parametrize("n_epochs", [1, 3])
def test_report_and_trace(n_epochs):
    report = regressor(FineTune(n_epochs), batch_size=8).fit(X, y).forget(X[:5]).unlearning_report_
    assert report.n_steps == len(report.trace) == n_epochs
    assert {"step", "train_loss", "seconds"} <= report.trace[0].keys()
    assert report.status is Status.COMPLETED


def test_callbacks_and_split_of_the_net_are_left_out():
    # A callback that looks at validation rows would have none; and would end the run early.
    settings = {"callbacks": [("stop", EarlyStopping(patience=1))], "train_split": None}
    settings |= {"callbacks__stop__monitor": "train_loss", "callbacks__stop__threshold": 1e9}
    est = regressor(FineTune(n_epochs=5), **settings).fit(X, y).forget(X[:5])
    assert est.unlearning_report_.n_steps == 5


def test_optimiser_starts_afresh_and_the_net_keeps_its_own():
    est = regressor(FineTune(), optimizer=torch.optim.Adam, lr=0.01).fit(X, y)
    rate = est.net_.optimizer_.param_groups[0]["lr"]
    n_epochs = len(est.net_.history)
    est.forget(X[:5])
    assert est.net_.lr == 0.01
    assert est.net_.optimizer_.param_groups[0]["lr"] == rate
    assert len(est.net_.history) == n_epochs


def test_weights_count():
    weight = np.arange(1.0, 41)
    est = regressor(FineTune()).fit(X, y, sample_weight=weight)
    start = parameters(est)
    est.forget(X[:5])
    A, w = np.column_stack([X[5:], np.ones(35)]), weight[5:]
    step = 2 * A.T @ (w * (A @ start - y[5:])) / w.sum()
    np.testing.assert_allclose(parameters(est), start - 0.3 * step, rtol=1e-10)


class TestRewindToDelete:
    def test_it_repeats_the_last_epochs_without_the_erased_rows(self):
        policy = LRScheduler(policy=torch.optim.lr_scheduler.ExponentialLR, gamma=0.8)
        settings = {"max_epochs": 6, "callbacks": [("rate", policy)]}
        est = regressor(RewindToDelete(0.5), **settings).fit(X, y)
        # A module instance starts from its present weights.
        w = torch.cat([p.detach().reshape(-1) for p in est.estimator.module.parameters()]).numpy()
        for k in range(6):
            w = w - 0.3 * 0.8**k * (gradient(X, y, w) if k < 3 else gradient(X[5:], y[5:], w))
        est.forget(X[:5])
        np.testing.assert_allclose(parameters(est), w, rtol=1e-9)
        assert est.unlearning_report_.n_steps == 3

    def test_all_the_way_back_is_retraining(self):
        est = regressor(RewindToDelete(1.0)).fit(X, y).forget(X[:5])
        retrained = regressor(Retrain()).fit(X, y).forget(X[:5])
        np.testing.assert_allclose(parameters(est), parameters(retrained), rtol=1e-10)

    def test_requests_in_sequence_start_from_the_same_point(self):
        one, two = regressor(RewindToDelete(0.3)).fit(X, y), regressor(RewindToDelete(0.3)).fit(X, y)
        np.testing.assert_allclose(
            parameters(one.forget(X[:3]).forget(X[3:5])), parameters(two.forget(X[:5])), rtol=1e-10
        )

    def test_without_a_point_it_is_refused(self):
        est = regressor(None).fit(X, y).set_params(unlearner=RewindToDelete())
        with pytest.raises(ValueError, match=r"fit with unlearner=RewindToDelete\(\)"):
            est.forget(X[:5])

    def test_a_training_that_ended_early_keeps_its_last_epoch(self):
        stop = EarlyStopping(monitor="train_loss", patience=2, threshold=1e9)
        est = regressor(RewindToDelete(0.1), callbacks=[("stop", stop)]).fit(X, y)
        assert len(est.net_.history) < 10
        assert est.forget(X[:5]).unlearning_report_.n_steps == 1

    @pytest.mark.parametrize("rewind", [0.0, 1.5])
    def test_constraints(self, rewind):
        with pytest.raises(InvalidParameterError, match="rewind"):
            regressor(RewindToDelete(rewind)).fit(X, y)
