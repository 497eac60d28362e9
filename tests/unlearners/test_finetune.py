"""FineTune trains on from where the fit ended, RewindToDelete from an earlier point."""

import numpy as np
import pytest
import torch
from sklearn.utils._param_validation import InvalidParameterError
from skorch import NeuralNetRegressor
from skorch.callbacks import EarlyStopping, LRScheduler

from sk_unlearn import UnlearnableRegressor
from sk_unlearn.unlearners import FineTune, L1Sparse, Retrain, RewindToDelete, Status
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


class TestL1Sparse:
    def test_without_strength_it_is_fine_tuning(self):
        ends = []
        for unlearner in (L1Sparse(0.0, n_epochs=4, learning_rate=0.1), FineTune(4, learning_rate=0.1)):
            torch.manual_seed(0)
            ends.append(parameters(regressor(unlearner, batch_size=8, max_epochs=2).fit(X, y).forget(X[:5])))
        np.testing.assert_array_equal(*ends)

    def test_penalty_decays_linearly_over_the_epochs(self):
        est = regressor(L1Sparse(0.4, n_epochs=4, learning_rate=0.2)).fit(X, y)
        w = parameters(est)
        for k in range(4):
            slope = gradient(X[5:], y[5:], w) + 0.4 * (1 - k / 4) * np.sign(w)
            w = w - 0.2 * (1 + np.cos(np.pi * k / 4)) / 2 * slope
        est.forget(X[:5])
        np.testing.assert_allclose(parameters(est), w, rtol=1e-10)

    @pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.LBFGS])
    def test_it_shrinks_the_l1_norm(self, optimizer):
        settings = {"optimizer": optimizer, "lr": 0.05, "max_epochs": 20}
        norms = [
            np.abs(parameters(regressor(L1Sparse(strength), **settings).fit(X, y).forget(X[:5]))).sum()
            for strength in (0.0, 0.05)
        ]
        assert norms[1] < norms[0] - 0.01

    def test_report(self):
        report = regressor(L1Sparse(n_epochs=2)).fit(X, y).forget(X[:5]).unlearning_report_
        assert report.status is Status.COMPLETED
        assert report.n_steps == 2
        assert "L1 norm" in report.stop_reason

    def test_harm_is_reported(self):
        report = regressor(L1Sparse(10.0)).fit(X[5:], y[5:]).forget(X[5:10]).unlearning_report_
        assert report.status is Status.HARMED_RETAINED

    def test_a_sparse_embedding_shrinks_in_the_rows_that_are_read(self):
        class Users(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.table = torch.nn.Embedding(6, 2, sparse=True)

            def forward(self, at):
                return self.table(at[:, 0])

        users = np.arange(40)[:, None] % 5
        ends = []
        for strength in (0.0, 0.01):
            est = _problems.classifier(L1Sparse(strength, n_epochs=5), Users, lr=0.5, batch_size=8)
            ends.append(np.abs(parameters(est.fit(users, users[:, 0] % 2).forget(users[:1]))).reshape(6, 2))
        # All rows of user 0 went together, and user 5 had none.
        assert (ends[1][1:5].sum(1) < ends[0][1:5].sum(1)).all()
        np.testing.assert_array_equal(ends[1][[0, 5]], ends[0][[0, 5]])

    def test_a_net_that_announces_no_gradients_is_refused(self):
        class Silent(NeuralNetRegressor):
            def train_step(self, batch, **fit_params):
                self._zero_grad_optimizer()
                step = self.train_step_single(batch, **fit_params)
                self.optimizer_.step()
                return step

        net = Silent(affine(3), max_epochs=2, train_split=None, verbose=0)
        est = UnlearnableRegressor(net, L1Sparse(), random_state=0).fit(X, y)
        with pytest.raises(ValueError, match=r"own train_step announces none.*FineTune"):
            est.forget(X[:5])

    @pytest.mark.parametrize(("name", "value"), [("strength", -1.0), ("n_epochs", 0), ("learning_rate", 0.0)])
    def test_constraints(self, name, value):
        with pytest.raises(InvalidParameterError, match=name):
            L1Sparse(**{name: value}).unlearn(None)

    @pytest.mark.gpu
    def test_on_a_gpu(self):
        est = regressor(L1Sparse(n_epochs=2)).set_params(device="cuda").fit(X, y).forget(X[:5])
        assert est.unlearning_report_.parameters_moved
