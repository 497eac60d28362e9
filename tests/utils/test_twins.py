"""A twin computes what its net computes, and nothing done to it reaches the net."""

import copy

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import LRScheduler
from torch import nn

from sk_unlearn.utils._twins import is_twin, pinned, training_copy, twin


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.alias = self.second
        self.out = nn.Linear(3, 2)

    def forward(self, X):
        return self.out(torch.tanh(self.alias(torch.tanh(self.first(X)))))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, X):
        return self.out(self.rnn(X[:, None])[0][:, -1])


class Listed(nn.Module):
    """Holds its layers where ``modules()`` does not look."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(3, 2)
        self.also = [self.out]

    def forward(self, X):
        return self.also[0](X)


def weight_normed():
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
def old_weight_norm():
    return nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2))


MODULES = {
    "plain": lambda: nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)),
    "norm": lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)),
    "tied": Tied,
    "recurrent": Recurrent,
    "listed": Listed,
    "parametrised": weight_normed,
    "old weight norm": old_weight_norm,
}
X = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
y = np.arange(8) % 2


def trained(module, **settings):
    net = NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, max_epochs=2, train_split=None, verbose=0,
        **settings,
    )  # fmt: skip
    return net.fit(X, y)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("name", MODULES)
def test_a_twin_computes_the_same_and_is_another(name, share):
    net = trained(MODULES[name]())
    other = twin(net, share_tensors=share)
    np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))
    assert is_twin(other) is share
    assert not is_twin(net)
    ours, theirs = (dict(n.module_.named_parameters()) for n in (other, net))
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert (ours[key] is theirs[key]) is share
        assert torch.equal(ours[key], theirs[key])
    assert not {id(m) for m in other.module_.modules()} & {id(m) for m in net.module_.modules()}
    in_optimiser = [p for group in other.optimizer_.param_groups for p in group["params"]]
    assert {id(p) for p in in_optimiser} == {id(p) for p in ours.values()}
    assert not other.optimizer_.state
    assert net.optimizer_.state


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize("name", MODULES)
def test_what_becomes_of_a_copy_does_not_reach_the_net(name):
    net = trained(MODULES[name]())
    before = copy.deepcopy(net.module_.state_dict())
    proba = net.predict_proba(X)
    other = twin(net, share_tensors=False)
    with torch.no_grad():
        for tensor in other.module_.parameters():
            tensor.mul_(3)
    other.module_.eval()
    assert not np.allclose(other.predict_proba(X), proba)
    np.testing.assert_array_equal(net.predict_proba(X), proba)
    for key, value in net.module_.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_training_copy_trains_on_as_the_net_would_have():
    settings = {"callbacks": [("rate", LRScheduler("StepLR", step_size=1, gamma=0.5))]}
    net, straight = trained(Tied(), **settings), None
    other = training_copy(net)
    before = copy.deepcopy(net.module_.state_dict())
    state = copy.deepcopy(net.optimizer_.state_dict())
    torch.manual_seed(1)
    other.partial_fit(X, y)
    for key, value in net.module_.state_dict().items():
        assert torch.equal(value, before[key])
    assert str(net.optimizer_.state_dict()) == str(state)
    n_epochs = len(net.history)
    torch.manual_seed(1)
    straight = net.partial_fit(X, y)
    assert len(straight.history) == len(other.history) == n_epochs + 2
    for a, b in zip(straight.module_.parameters(), other.module_.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_pinned_net_goes_on_with_the_modules_it_had():
    net = NeuralNetRegressor(nn.Linear(3, 1), train_split=None, verbose=0, max_epochs=1).fit(X, y[:, None].astype("f4"))
    before, held = net.predict(X), pinned(net)
    net.module_ = nn.Linear(3, 1)
    assert not np.allclose(net.predict(X), before)
    np.testing.assert_array_equal(held.predict(X), before)


def test_a_module_that_cannot_be_copied_is_refused_by_name():
    class Clinging(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(3, 2)

        def __deepcopy__(self, memo):
            raise RuntimeError("there is only one of me")

        def forward(self, X):
            return self.out(X)

    class Made(nn.Module):
        def __init__(self):
            super().__init__()
            self.only = Clinging()

        def forward(self, X):
            return self.only(X)

    net = NeuralNetClassifier(Made, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0).initialize()
    with pytest.raises(TypeError, match=r"module_ of the net cannot be copied.*only one of me"):
        twin(net)
