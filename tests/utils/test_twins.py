"""A twin has modules of its own over the same tensors, whatever the module is made of."""

import copy
import logging
import pickle

import numpy as np
import pytest
import torch
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import LRScheduler
from torch import nn

from sk_unlearn.utils._twins import is_twin, pinned, training_copy, twin
from tests._problems import skorch_net

X = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32))


def build(module, kind=NeuralNetClassifier, **options):
    torch.manual_seed(0)
    return skorch_net(module, kind, optimizer__weight_decay=0.1, **options).initialize()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.rnn(x[:, None])[0][:, -1])


class Cached(nn.Module):
    """Keeps what it computed: a tensor with a graph, which copy.deepcopy refuses."""

    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(4, 3), []

    def forward(self, x):
        self.last = self.linear(x)
        self.seen = [self.last]
        return self.last


def tied():
    first, last = nn.Linear(4, 4), nn.Linear(4, 4)
    last.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), last, first)


def weight_norm():
    with pytest.warns(FutureWarning):
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 3))


def cached():
    module = Cached()
    module(X)
    return module


MODULES = {
    "plain": lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
    "recurrent": Recurrent,
    "tied": tied,
    "old weight norm": weight_norm,
    "parametrised": lambda: nn.Sequential(
        torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
    ),
    "cached": cached,
}


@pytest.mark.parametrize("name", MODULES)
def test_same_tensors_in_other_modules(name):
    net = build(MODULES[name]())
    net.module_.eval()
    other = twin(net)
    assert type(other) is type(net)
    assert is_twin(other)
    assert not is_twin(net)
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = (dict(getattr(each.module_, kind)(remove_duplicate=False)) for each in (net, other))
        assert list(ours) == list(theirs)
        assert all(theirs[key] is value for key, value in ours.items())
    modules, twins = list(net.module_.modules()), list(other.module_.modules())
    assert len(modules) == len(twins)
    assert not {id(m) for m in modules} & {id(m) for m in twins}
    assert torch.equal(other.infer(X), net.infer(X))
    assert [group["weight_decay"] for group in other.optimizer_.param_groups] == [0.1]
    assert [id(p) for p in other.optimizer_.param_groups[0]["params"]] == [id(p) for p in net.module_.parameters()]
    # What changes in place changes for both; the twin's own objects are its own.
    with torch.no_grad():
        next(net.module_.parameters()).mul_(2)
    assert torch.equal(other.infer(X), net.infer(X))
    other.module_.train()
    assert not net.module_.training
    if name in ("plain", "recurrent", "tied"):  # the others' tensors can be neither copied nor stored, twin or not
        copy.deepcopy(net)
        pickle.dumps(net)


@pytest.mark.parametrize("name", MODULES)
def test_tensors_of_its_own(name):
    net = build(MODULES[name]())
    net.module_.eval()
    first = next(net.module_.parameters())
    first.requires_grad_(False)
    before = net.infer(X).detach().clone()
    other = twin(net, share_tensors=False)
    assert torch.equal(other.infer(X), before)
    ours, theirs = list(net.module_.parameters()), list(other.module_.parameters())
    assert [p.requires_grad for p in theirs] == [p.requires_grad for p in ours]
    assert not {p.data_ptr() for p in ours} & {p.data_ptr() for p in theirs}
    assert [id(p) for p in other.optimizer_.param_groups[0]["params"]] == [id(p) for p in theirs]
    if name == "tied":
        assert other.module_[0].weight is other.module_[2].weight
        assert other.module_[0] is other.module_[3]
    with torch.no_grad():
        for p in theirs:
            p.add_(1)
    assert torch.equal(net.infer(X), before)


def test_an_optimiser_without_state():
    net = build(nn.Linear(4, 3), optimizer=torch.optim.Adam, train_split=None)
    net.partial_fit(X.numpy(), np.arange(6) % 3)
    state = net.optimizer_.state
    assert state
    other = twin(net)
    assert not other.optimizer_.state
    assert net.optimizer_.state is state
    assert other.optimizer_.param_groups[0] is not net.optimizer_.param_groups[0]


def test_an_optimiser_steps_its_own_parameters():
    net = NeuralNetClassifier(nn.Linear(4, 3), criterion=nn.CrossEntropyLoss, optimizer=torch.optim.LBFGS).initialize()
    before = net.module_.weight.detach().clone()
    other = twin(net, share_tensors=False)
    other.optimizer_.step(lambda: other.module_.weight.square().sum())
    other.set_params(verbose=0, train_split=None).partial_fit(X.numpy(), np.arange(6) % 3)
    assert torch.equal(net.module_.weight, before)
    assert not torch.equal(other.module_.weight, before)


def test_hooks_come_along_and_report_to_the_same():
    class Counter:
        n = 0

        def count(self, module, args, output):
            self.n += 1

    counter, seen = Counter(), []
    net = build(nn.Sequential(nn.Linear(4, 3)))
    net.module_[0].register_forward_hook(counter.count)
    net.module_.register_forward_pre_hook(lambda module, args: seen.append(module))
    other = twin(net)
    other.infer(X)
    assert counter.n == 1
    assert seen == [other.module_]


def test_references_between_module_criterion_and_net():
    class Regularised(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, output, target):
            return nn.functional.cross_entropy(output, target) + self.module.weight.square().sum()

    class Scaled(NeuralNet):
        def scaled(self, x):
            return 2 * self.module_(x)

    module = nn.Linear(4, 3)
    net = build(module, Scaled, criterion=Regularised, criterion__module=module)
    net.infer = net.scaled
    net.module_.owner = net
    other = twin(net)
    assert other.criterion_.module is other.module_
    assert other.module_.owner is other
    assert other.infer.__self__ is other


def test_compiled_module():
    net = build(nn.Linear(4, 3), compile=True, compile__backend="eager")
    other = twin(net)
    assert type(other.module_) is nn.Linear
    assert other.module_.weight is net.module_.weight


def test_a_module_that_cannot_be_copied(caplog):
    class Unique(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("there is only one")

    net = build(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)))
    net.module_[1] = Unique(4, 3)
    with caplog.at_level(logging.WARNING, logger="sk_unlearn"):
        other = twin(net)
    assert other.module_ is net.module_
    assert other.criterion_ is not net.criterion_
    assert "there is only one" in caplog.text
    with pytest.raises(TypeError, match="only one"):
        twin(net, share_tensors=False)


# ------------------------------------------------------------------------- copies that are trained on, and held


ROWS = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
LABELS = np.arange(8) % 2


class TwiceUsed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.alias = self.second
        self.out = nn.Linear(3, 2)

    def forward(self, X):
        return self.out(torch.tanh(self.alias(torch.tanh(self.first(X)))))


def fitted(module, **settings):
    return skorch_net(module, optimizer=torch.optim.Adam, max_epochs=2, **settings).fit(ROWS, LABELS)


def test_a_training_copy_trains_on_as_the_net_would_have():
    settings = {"callbacks": [("rate", LRScheduler("StepLR", step_size=1, gamma=0.5))]}
    net, straight = fitted(TwiceUsed(), **settings), None
    other = training_copy(net)
    before = copy.deepcopy(net.module_.state_dict())
    state = copy.deepcopy(net.optimizer_.state_dict())
    torch.manual_seed(1)
    other.partial_fit(ROWS, LABELS)
    for key, value in net.module_.state_dict().items():
        assert torch.equal(value, before[key])
    assert str(net.optimizer_.state_dict()) == str(state)
    n_epochs = len(net.history)
    torch.manual_seed(1)
    straight = net.partial_fit(ROWS, LABELS)
    assert len(straight.history) == len(other.history) == n_epochs + 2
    for a, b in zip(straight.module_.parameters(), other.module_.parameters(), strict=True):
        assert torch.equal(a, b)


class Slowing(torch.optim.SGD):
    """Has an attribute of its own, as a user's optimiser may."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr, momentum=0.5)
        self.scale = 1.0

    def step(self, closure=None):
        self.scale *= 0.5
        return super().step(closure)


@pytest.mark.parametrize("optimizer", [torch.optim.LBFGS, Slowing, torch.optim.Adagrad])
def test_a_training_copy_has_all_of_its_optimiser(optimizer):
    seen = []
    net = NeuralNetClassifier(
        TwiceUsed, criterion=nn.CrossEntropyLoss, optimizer=optimizer, lr=0.1, max_epochs=2, train_split=None,
        verbose=0, callbacks=[("rate", LRScheduler("StepLR", step_size=1, gamma=0.5))],
    )  # fmt: skip
    net.fit(ROWS, LABELS).optimizer_.register_step_post_hook(lambda *args: seen.append(1))
    other, before = training_copy(net), copy.deepcopy(net.module_.state_dict())
    scale = getattr(net.optimizer_, "scale", None)
    other.partial_fit(ROWS, LABELS)
    assert seen
    assert getattr(net.optimizer_, "scale", None) == scale
    for key, value in net.module_.state_dict().items():
        assert torch.equal(value, before[key])
    straight = net.partial_fit(ROWS, LABELS)
    for a, b in zip(straight.module_.parameters(), other.module_.parameters(), strict=True):
        assert torch.equal(a, b)
    # A scheduler among the callbacks of the copy turns the rate of the copy.
    assert dict(other.callbacks_)["rate"].lr_scheduler_.optimizer is other.optimizer_


def test_a_pinned_net_goes_on_with_the_modules_it_had():
    net = NeuralNetRegressor(nn.Linear(3, 1), train_split=None, verbose=0, max_epochs=1).fit(
        ROWS, LABELS[:, None].astype("f4")
    )
    before, held = net.predict(ROWS), pinned(net)
    net.module_ = nn.Linear(3, 1)
    assert not np.allclose(net.predict(ROWS), before)
    np.testing.assert_array_equal(held.predict(ROWS), before)


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
        twin(net, share_tensors=False)
