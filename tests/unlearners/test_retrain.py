"""Retrain is a fit on what is left."""

import os
import signal

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.unlearners import Retrain, Status

rng = np.random.default_rng(12)
X = rng.normal(size=(50, 3))
y = (X[:, 0] > 0).astype(int)
weight = rng.uniform(0.5, 2, size=50)


class NormNet(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(n_features_in, 5), nn.BatchNorm1d(5), nn.Dropout(0.1), nn.Tanh(), nn.Linear(5, n_outputs)
        )

    def forward(self, X):
        return self.body(X)


def net():
    return NeuralNetClassifier(
        NormNet, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, max_epochs=3, lr=0.05, batch_size=8,
        iterator_train__shuffle=True, verbose=0,
    )  # fmt: skip


def assert_same_net(one, two):
    state = two.net_.module_.state_dict()
    for name, value in one.net_.module_.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("given", [None, net(), NormNet])
@pytest.mark.parametrize("weighted", [False, True])
def test_bit_identical_to_fit_on_the_rest(given, weighted):
    w = weight if weighted else None
    est = UnlearnableClassifier(given, Retrain(), random_state=3).fit(X, y, sample_weight=w).forget(X[43:])
    fresh = UnlearnableClassifier(given, random_state=3).fit(X[:43], y[:43], sample_weight=w if w is None else w[:43])
    assert_same_net(est, fresh)
    np.testing.assert_array_equal(est.training_set_.role, fresh.training_set_.role)


def test_a_sequence_ends_where_one_request_does():
    est = UnlearnableRegressor(unlearner=Retrain(), random_state=3).fit(X[:30], X[:30, 0])
    for first in (0, 3):
        est.forget(X[first : first + 3])
    assert_same_net(est, UnlearnableRegressor(random_state=3).fit(X[6:30], X[6:30, 0]))


def test_report():
    report = UnlearnableClassifier(net(), Retrain(), random_state=3).fit(X, y).forget(X[-3:]).unlearning_report_
    assert report.status is Status.COMPLETED
    assert not report.converged
    assert report.stop_reason.startswith("trained anew; ")
    assert report.trace == []


def test_interrupted_training_is_not_taken(monkeypatch):
    est = UnlearnableClassifier(net(), Retrain(), random_state=3).fit(X, y)
    before = {k: v.clone() for k, v in est.net_.module_.state_dict().items()}

    def interrupt(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(NeuralNetClassifier, "train_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        est.forget(X[-3:])
    assert all(torch.equal(v, before[k]) for k, v in est.net_.module_.state_dict().items())
    assert len(est.training_set_) == 50


class SendsCtrlC(Callback):
    armed = False

    def on_epoch_end(self, net, **kwargs):
        if SendsCtrlC.armed:
            SendsCtrlC.armed = False
            os.kill(os.getpid(), signal.SIGINT)


def test_a_ctrl_c_that_strikes_in_a_callback_is_not_taken_for_the_callback_ending_the_training():
    est = UnlearnableClassifier(net().set_params(callbacks=[SendsCtrlC()]), Retrain(), random_state=3).fit(X, y)
    SendsCtrlC.armed = True
    with pytest.raises(KeyboardInterrupt):
        est.forget(X[-3:])
    assert len(est.training_set_) == 50
