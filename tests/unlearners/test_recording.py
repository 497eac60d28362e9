"""The recorded vectors are derivatives of the trained parameters, exact where the theory says so."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError
from skorch.callbacks import GradientNormClipping, LRScheduler
from torch import nn

from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import HessianFreeRecording, Status, StoCuReNU
from tests import _problems
from tests._problems import mlp

N = 24
rng = np.random.default_rng(0)
X = rng.normal(size=(N, 3))
y = X @ [1.0, -1.0, 0.5] + rng.normal(size=N)
labels = (y > 0).astype(np.int64) + (y > 1)

DECAY = 0.1


def regressor(unlearner=None, **settings):
    torch.manual_seed(0)
    defaults = {"max_epochs": 1, "batch_size": 6, "lr": 0.05, "optimizer__weight_decay": DECAY}
    module = nn.Linear(3, 1).double()
    return _problems.regressor(unlearner or HessianFreeRecording(), module, **(defaults | settings))


def classifier(module=None, **settings):
    defaults = {"max_epochs": 2, "batch_size": 6, "lr": 0.2, "optimizer__weight_decay": DECAY}
    module = module or mlp(3, 3, n_hidden=4)
    return _problems.classifier(HessianFreeRecording(), module.double(), **(defaults | settings))


def sgd_by_hand(net, weight, y, n_epochs, rates, size=6):
    """SGD from a fresh net on the same batches, in order, with divisors as they are and a row's loss times a weight."""
    risk = EmpiricalRisk(net, X, y)
    w, penalty = risk.parameters(), risk.penalty_gradient
    for epoch in range(n_epochs):
        for start in range(0, N, size):
            rows = np.arange(start, start + size)
            parts = risk.row_gradients(w, rows) * torch.from_numpy(weight[rows])[:, None]
            w = w - rates[epoch] * (parts.sum(0) + penalty(w))
    return w


def with_fresh_net(est, y):
    """Return the fitted estimator, and a net that starts where its own did."""
    est.fit(X, y)
    return est, clone(est.estimator).initialize()


class TestExact:
    def test_one_epoch_of_a_quadratic_and_rows_of_one_batch(self):
        target = y.reshape(-1, 1)
        est, net = with_fresh_net(regressor(), y)
        everything = sgd_by_hand(net, np.ones(N), target, 1, [0.05])
        torch.testing.assert_close(everything, flat_parameters(est.net_), rtol=1e-10, atol=1e-12)
        erased = [7, 9]
        weight = np.ones(N)
        weight[erased] = 0
        expected = sgd_by_hand(net, weight, target, 1, [0.05])
        assert float((expected - everything).norm()) > 1e-3
        est.forget(X[erased])
        torch.testing.assert_close(flat_parameters(est.net_), expected, rtol=1e-10, atol=1e-12)

    def test_of_several_epochs_the_error_is_of_second_order(self):
        """Taking away a share t of a row errs by a multiple of t squared."""
        est, net = with_fresh_net(regressor(max_epochs=5), y)
        target, vector = y.reshape(-1, 1), est.unlearning_state_.recording.vectors[7]
        errors = []
        for t in (1.0, 0.5, 0.25):
            weight = np.ones(N)
            weight[7] = 1 - t
            w = sgd_by_hand(net, weight, target, 5, [0.05] * 5)
            errors.append(float((flat_parameters(est.net_) + t * vector - w).norm()))
        assert 3.5 < errors[0] / errors[1] < 4.7
        assert 3.5 < errors[1] / errors[2] < 4.7

    @pytest.mark.parametrize("row", [0, 8, 23])
    def test_vectors_are_derivatives_of_a_non_linear_training(self, row):
        policy = LRScheduler(policy=torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
        est, net = with_fresh_net(classifier(callbacks=[("rate", policy)]), labels)
        ends = []
        for step in (1e-4, -1e-4):
            weight = np.ones(N)
            weight[row] += step
            ends.append(sgd_by_hand(net, weight, labels, 2, [0.2, 0.1]))
        torch.testing.assert_close(
            -(ends[0] - ends[1]) / 2e-4, est.unlearning_state_.recording.vectors[row], rtol=1e-5, atol=1e-8
        )

    def test_class_weights_count(self):
        weights = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
        est = classifier(max_epochs=1, batch_size=-1, criterion__weight=weights).fit(X, labels)
        vectors = est.unlearning_state_.recording.vectors
        share = weights[labels] / weights[labels].sum()
        assert float(vectors.norm(dim=1).min()) > 0
        # The last layer's bias: rate times share times (p - onehot), whose sum over classes is nought.
        torch.testing.assert_close(vectors[:, -3:].sum(1), torch.zeros(N, dtype=torch.float64), rtol=0, atol=1e-12)
        assert (vectors[:, -3:].abs().sum(1) <= 0.2 * 2 * share + 1e-12).all()


class TestRequests:
    def test_a_sequence_adds_up_and_entries_go(self):
        one, two = regressor(max_epochs=3).fit(X, y), regressor(max_epochs=3).fit(X, y)
        before = flat_parameters(one.net_)
        vectors = one.unlearning_state_.recording.vectors
        one.forget(X[[2, 11]]).forget(X[[3, 20]])
        two.forget(X[[2, 11, 3, 20]])
        torch.testing.assert_close(flat_parameters(one.net_), flat_parameters(two.net_), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(flat_parameters(one.net_), before + vectors[[2, 3, 11, 20]].sum(0))
        left = np.delete(np.arange(N), [2, 3, 11, 20])
        assert torch.equal(one.unlearning_state_.recording.vectors, vectors[left])

    def test_shuffled_batches(self):
        est = regressor(max_epochs=2, iterator_train__shuffle=True).fit(X, y)
        assert (est.unlearning_state_.recording.vectors.norm(dim=1) > 0).all()

    def test_a_wreck_is_reported(self):
        est = classifier(max_epochs=30, lr=2.0, optimizer__weight_decay=0.0).fit(X, labels)
        report = est.forget(X[:3]).unlearning_report_
        assert report.status is Status.HARMED_RETAINED
        assert "retained rows rose markedly" in report.stop_reason

    def test_what_it_cannot_do_is_refused(self):
        est = regressor().fit(X, y)
        with pytest.raises(ValueError, match="neither correct rows nor"):
            est.correct(X[:1], y_new=y[:1] + 1)
        with pytest.raises(ValueError, match="handed in"):
            est.partial_forget(X[:1] + 1, y[:1])
        with pytest.raises(ValueError, match=r"fit with unlearner=HessianFreeRecording\(\)"):
            regressor(StoCuReNU()).fit(X, y).set_params(unlearner=HessianFreeRecording()).forget(X[:1])


class TestRefusedAtFit:
    def test_too_much_memory(self):
        with pytest.raises(ValueError, match=r"24 rows for 4 parameters take 768 bytes"):
            regressor(HessianFreeRecording(max_bytes=767)).fit(X, y)
        regressor(HessianFreeRecording(max_bytes=768)).fit(X, y)

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"optimizer": torch.optim.Adam}, "Adam, and HessianFreeRecording follows plain SGD"),
            ({"optimizer__momentum": 0.9}, "SGD with momentum"),
            ({"callbacks": [("clip", GradientNormClipping(1e-3))]}, "gradient clipping"),
        ],
    )
    def test_other_trainings(self, settings, says):
        with pytest.raises(ValueError, match=says):
            regressor(**settings).fit(X, y)

    def test_dropout(self):
        with pytest.raises(ValueError, match="dropout"):
            classifier(nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 3))).fit(X, labels)

    def test_sample_weight(self):
        with pytest.raises(ValueError, match="sample_weight"):
            regressor().fit(X, y, sample_weight=np.arange(1.0, N + 1))

    def test_constraints(self):
        with pytest.raises(InvalidParameterError, match="max_bytes"):
            regressor(HessianFreeRecording(max_bytes=0)).fit(X, y)


@pytest.mark.gpu
def test_on_a_gpu():
    est = regressor().set_params(device="cuda").fit(X, y).forget(X[:2])
    assert est.unlearning_report_.parameters_moved
