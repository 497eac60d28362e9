"""A commit puts the new state in place at once. What strikes meanwhile is in tests/faults."""

import copy
import threading

import numpy as np
import pytest
import torch
from torch import nn

from sk_unlearn.unlearners import Status, Unlearner, UnlearningResult
from tests._problems import classifier


class NormNet(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.first = nn.Linear(n_features_in, 5)
        self.norm = nn.BatchNorm1d(5)
        self.last = nn.Linear(5, n_outputs)

    def forward(self, X):
        return self.last(torch.tanh(self.norm(self.first(X))))


class Shift(Unlearner):
    """Moves every parameter a little: all of a request but the solve."""

    def unlearn(self, problem):
        return UnlearningResult(problem.parameters + 0.1, Status.COMPLETED, "shifted", target=problem.residual)


rng = np.random.default_rng(1)
X = rng.normal(size=(40, 3))
y = (X[:, 0] > 0).astype(int)


def fit(unlearner=None):
    est = classifier(unlearner, NormNet, optimizer=torch.optim.Adam, lr=0.05, max_epochs=3, batch_size=10)
    est.fit(X[:30], y[:30], sample_id=np.arange(30)).forget(X[:2])
    # So that the optimiser, which a request empties, has something to lose.
    return est.partial_fit(X[30:], y[30:], sample_id=np.arange(30, 40))


@pytest.fixture(scope="module")
def shifted():
    return fit(Shift())


def test_first_request_that_fails_leaves_no_report():
    class Fails(Unlearner):
        def unlearn(self, problem):
            raise RuntimeError("injected")

    est = classifier(Fails(), NormNet, max_epochs=1).fit(X, y)
    with pytest.raises(RuntimeError):
        est.forget(X[:2])
    assert est.unlearning_history_ == []
    assert not hasattr(est, "unlearning_report_")


def test_forget_in_a_thread(shifted):
    est = copy.deepcopy(shifted)
    thread = threading.Thread(target=lambda: est.forget(X[2:6]))
    thread.start()
    thread.join()
    assert len(est.training_set_) == 34


# ------------------------------------------------------------------------------------------- the net that predicts


def test_predictions_during_a_request_are_those_of_the_old_model(shifted):
    est, seen = copy.deepcopy(shifted), []

    class Looks(Unlearner):
        def unlearn(self, problem):
            w = problem.parameters + 0.1
            seen.append(est.predict_proba(X))
            local = problem.retained.linearise(w)
            local.hessian(w)
            seen.append(est.predict_proba(X))
            return UnlearningResult(w, Status.COMPLETED)

    before = est.predict_proba(X)
    modules = list(est.net_.module_.modules())
    est.set_params(unlearner=Looks()).forget(X[2:6])
    for proba in seen:
        np.testing.assert_array_equal(proba, before)
    assert not np.allclose(est.predict_proba(X), before)
    # The old modules are whole for whoever is still predicting with them.
    assert all(type(p) is nn.Parameter for p in modules[0].parameters())


def test_whoever_holds_the_net_holds_the_forgetful_one(shifted):
    est = copy.deepcopy(shifted)
    net = est.net_
    est.forget(X[2:6])
    assert est.net_ is net
    assert all(p.grad is None for p in net.module_.parameters())
    assert not net.optimizer_.state
