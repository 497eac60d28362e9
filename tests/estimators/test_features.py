"""Features of some rows that one request leaves to the next."""

import copy
import pickle

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.risks.output_layer import output_layer
from sk_unlearn.unlearners import CuReNU, Retrain, StoCuReNU

N = 2600


class Net(nn.Module):
    def __init__(self, n_features_in, n_outputs, norm=False):
        super().__init__()
        norms = [nn.BatchNorm1d(6)] if norm else []
        self.body = nn.Sequential(nn.Linear(n_features_in, 6), *norms, nn.Tanh(), nn.Linear(6, n_outputs))

    def forward(self, X):
        return self.body(X)


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 4)).astype(np.float32)
    return X, (X[:, 0] + 0.5 * rng.normal(size=N) > 0).astype(np.int64)


def fitted(drawn, unlearner=None, **settings):
    defaults = {"max_epochs": 2, "batch_size": 128, "lr": 0.1, "train_split": None, "verbose": 0}
    net = NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss, **{**defaults, **settings})
    return UnlearnableClassifier(net, unlearner or StoCuReNU(renew=False), random_state=0).fit(*drawn)


def check(est):
    """Whatever is kept is what the present net makes of rows that are stored."""
    kept = est.unlearning_state_.features
    rows = est.training_set_
    live = np.flatnonzero(rows.live_mask)
    risk = EmpiricalRisk(est.net_, rows.raw_X[live], rows.raw_y[live])
    layer, _ = output_layer(risk)
    now = layer.risk(risk, rows=kept.numbers.numpy()).features
    torch.testing.assert_close(kept.values, now)
    assert len(np.unique(kept.numbers)) == len(kept.numbers)


def test_they_are_there_after_fit_and_right_after_every_request(drawn):
    X, _ = drawn
    est = fitted(drawn)
    check(est)
    assert len(est.unlearning_state_.features.numbers) == 2048
    for start in range(0, 300, 60):
        est.forget(X[start : start + 60])
        check(est)
        assert len(est.unlearning_state_.features.numbers) > 1900


def test_rows_that_are_erased_leave_none(drawn):
    X, _ = drawn
    est = fitted(drawn)
    gone = est.unlearning_state_.features.numbers[:40].numpy()
    before = est.unlearning_state_.features.values[:40]
    est.forget(X[gone])
    check(est)
    left = {row.tobytes() for row in est.unlearning_state_.features.values.numpy()}
    assert not left & {row.tobytes() for row in before.numpy()}


def test_they_outlive_files_and_gaps_that_are_closed(drawn):
    X, _ = drawn
    est = fitted(drawn)
    est.forget(X[:1500])  # more than half of the slots: they are renumbered
    check(est)
    loaded = pickle.loads(pickle.dumps(est.forget(X[1500:1510])))
    check(loaded)
    loaded.forget(X[1510:1520])
    check(loaded)


def test_the_model_is_the_same_as_without_them(drawn):
    """The rows that are read are others, but what is read of them is not."""
    X, _ = drawn
    est = fitted(drawn)
    other = copy.deepcopy(est)
    est.forget(X[:5])
    fresh = est.unlearning_state_.features
    risk = EmpiricalRisk(est.net_, est.training_set_.X, est.training_set_.y)
    layer, _ = output_layer(risk)
    known = layer.risk(risk, rows=fresh.numbers.numpy(), features=fresh.values)
    read = layer.risk(risk, rows=fresh.numbers.numpy())
    v = layer.extract(risk.parameters())
    assert known.value(v) == pytest.approx(read.value(v), rel=1e-6)
    torch.testing.assert_close(known.gradient(v), read.gradient(v), rtol=1e-4, atol=1e-6)
    again = other.forget(X[:5])
    assert torch.equal(flat_parameters(again.net_), flat_parameters(est.net_))


@pytest.mark.parametrize(
    "unlearner", [CuReNU(max_steps=2, output_layer_first=False), Retrain(), StoCuReNU(renew=True, budget=1.0)]
)
def test_none_are_left_where_the_layers_before_moved(drawn, unlearner):
    est = fitted(drawn, unlearner)
    assert est.forget(drawn[0][:30]).unlearning_state_.features is None
    est.set_params(unlearner=StoCuReNU(renew=False)).forget(drawn[0][30:60])
    check(est)


def test_those_of_corrected_rows_are_not_kept(drawn):
    X, _ = drawn
    est = fitted(drawn).correct(X[:20], X_new=X[:20] + 1)
    assert not np.isin(np.arange(20), est.unlearning_state_.features.numbers).any()
    check(est)


def test_none_are_left_where_statistics_moved_or_rows_came(drawn):
    X, y = drawn
    est = fitted(drawn, module__norm=True)
    assert est.forget(X[:30]).unlearning_state_.features is None
    est = fitted(drawn)
    est.partial_fit(X[:50], y[:50])
    assert est.unlearning_state_.features is None


def test_none_are_kept_without_rows_or_where_all_are_read(drawn):
    X, y = drawn
    est = fitted((X[:2000], y[:2000]))
    assert est.unlearning_state_.features is None
    net = NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss, max_epochs=1, train_split=None, verbose=0)
    est = UnlearnableClassifier(net, keep_training_set=False, random_state=0).fit(X, y)
    assert est.unlearning_state_.features is None
