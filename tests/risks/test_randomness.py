"""Random numbers drawn inside of an evaluation are the same every time, and the generators are left where they were."""

# ruff: noqa: NPY002  the old generators are what is looked after

import random

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.risks import EmpiricalRisk
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.risks.output_layer import output_layer
from sk_unlearn.unlearners import CuReNU, StoCuReNU
from tests._problems import skorch_net

rng = np.random.default_rng(0)
X, y = rng.normal(size=(40, 4)), rng.integers(0, 3, size=40)


class AlwaysDropout(nn.Module):
    """Forgets to say whether it is in training."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(nn.functional.dropout(torch.tanh(self.first(x)), 0.5))


class Noisy(AlwaysDropout):
    def forward(self, x):
        h = torch.tanh(self.first(x))
        return self.last(h + 0.5 * torch.randn_like(h))


class NoisyByNumPy(AlwaysDropout):
    def forward(self, x):
        h = torch.tanh(self.first(x))
        return self.last(h * torch.from_numpy(np.random.uniform(0.5, 1.5, size=tuple(h.shape))).to(h))


class Flipped(Dataset):
    def transform(self, X, y):
        flips = [random.random() < 0.5, torch.rand(()) < 0.5, np.random.random() < 0.5]
        return (-1.0) ** sum(map(int, flips)) * X, y


class Batches:
    """No DataLoader: what it gives has to be drawn batch by batch."""

    def __init__(self, dataset, batch_size):
        self.dataset = dataset

    def __iter__(self):
        for start in range(0, len(self.dataset), 3):
            items = [self.dataset[i] for i in range(start, min(start + 3, len(self.dataset)))]
            yield torch.utils.data.default_collate(items)


class NoisyLoss(NeuralNetClassifier):
    def get_loss(self, y_pred, *args, **kwargs):
        return super().get_loss(y_pred + 0.5 * torch.randn_like(y_pred), *args, **kwargs)


class Plain(AlwaysDropout):
    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


CASES = {
    "dropout": {"module": AlwaysDropout},
    "noise": {"module": Noisy},
    "noise by NumPy": {"module": NoisyByNumPy},
    "data set": {"module": Plain, "dataset": Flipped},
    "data set and noise": {"module": Noisy, "dataset": Flipped, "iterator_valid": Batches},
    "loss": {"module": Plain, "kind": NoisyLoss},
}


def build(module, kind=NeuralNetClassifier, **options):
    torch.manual_seed(0)
    return skorch_net(module().double(), kind, **({"optimizer__weight_decay": 0.01} | options)).initialize()


def generators():
    return torch.get_rng_state().numpy().tobytes(), torch.initial_seed(), repr(np.random.get_state()), random.getstate()


@pytest.mark.parametrize("chunk_size", [None, 7])
@pytest.mark.parametrize("name", CASES)
def test_a_risk_is_a_function(name, chunk_size):
    risk = EmpiricalRisk(build(**CASES[name]), X, y, chunk_size=chunk_size)
    w = risk.parameters()
    v = torch.randn(len(w), dtype=w.dtype)
    np.random.randn()  # of which NumPy keeps a second for next time
    before = generators()
    gradient = risk.gradient(w)  # the first evaluation is right already
    value = risk.value(w)
    assert risk.value(w) == value == risk.value_and_gradient(w)[0]
    assert torch.equal(risk.losses(w), risk.losses(w))
    torch.testing.assert_close(risk.gradient(w), gradient, rtol=0, atol=0)
    step = 1e-5
    slope = (risk.value(w + step * v) - risk.value(w - step * v)) / (2 * step)
    assert slope == pytest.approx(float(gradient @ v), rel=1e-6, abs=1e-8)
    local = risk.linearise(w)
    assert local.value == pytest.approx(value, rel=1e-13)
    torch.testing.assert_close(local.gradient, gradient)
    change = (risk.gradient(w + step * v) - risk.gradient(w - step * v)) / (2 * step)
    torch.testing.assert_close(local.hessian(v), change, rtol=1e-5, atol=1e-8)
    rebuilt = EmpiricalRisk(risk.net, X, y, chunk_size=risk.chunk_size, memory_budget=0).linearise(w)
    for product in ("hessian", "ggn", "fisher"):
        torch.testing.assert_close(getattr(rebuilt, product)(v), getattr(local, product)(v))
    assert generators() == before


def test_the_same_in_every_risk_but_not_in_every_chunk():
    net = build(AlwaysDropout)
    w = EmpiricalRisk(net, X, y).parameters()
    torch.manual_seed(1)
    first = EmpiricalRisk(net, X, y).gradient(w)
    torch.manual_seed(2)
    assert torch.equal(EmpiricalRisk(net, X, y).gradient(w), first)
    twice = EmpiricalRisk(net, np.repeat(X[:1], 8, axis=0), np.repeat(y[:1], 8), chunk_size=1)
    assert len(twice.losses(w).unique()) > 1


def test_features_of_the_output_layer_are_drawn_once():
    risk = EmpiricalRisk(build(Noisy), X, y, chunk_size=7)
    layer, _ = output_layer(risk)
    of_layer, w = layer.risk(risk), risk.parameters()
    assert of_layer.value(of_layer.start) == pytest.approx(risk.value(w), rel=1e-12)
    torch.testing.assert_close(of_layer.gradient(of_layer.start), risk.gradient(w)[layer.indices])


def test_generators_are_restored_after_an_exception():
    class Failing(AlwaysDropout):
        def forward(self, x):
            super().forward(x)
            raise KeyboardInterrupt

    risk = EmpiricalRisk(build(Failing), X, y, chunk_size=7)
    before = generators()
    with pytest.raises(KeyboardInterrupt):
        risk.gradient(risk.parameters())
    assert generators() == before


def test_what_draws_nothing_is_not_seeded(monkeypatch):
    seeds = []
    for module in (random, np.random):
        seed = module.seed
        monkeypatch.setattr(module, "seed", lambda number, seed=seed: seeds.append(number) or seed(number))
    for module, further in ((Plain, 0), (AlwaysDropout, 0), (NoisyByNumPy, 5)):
        risk = EmpiricalRisk(build(module), X, y, chunk_size=8)
        expected = risk.gradient(risk.parameters())
        assert seeds
        seeds.clear()
        assert torch.equal(risk.gradient(risk.parameters()), expected)
        assert len(seeds) == further


def flipped_by(draw):
    class FlippedBy(Dataset):
        def transform(self, X, y):
            X, y = super().transform(X, y)
            return (X.copy() if draw() < 0.5 else X * np.array([1, -1, -1, -1], X.dtype)), y

    return FlippedBy


def noisy_collate(items):
    inputs, targets = torch.utils.data.default_collate(items)
    return inputs + 0.3 * torch.randn_like(inputs), targets


def shifted_by_numpy(items):
    inputs, targets = torch.utils.data.default_collate(items)
    return inputs + torch.from_numpy(np.random.normal(0, 0.3, size=tuple(inputs.shape))).to(inputs), targets


class Handing(torch.utils.data.DataLoader):
    """Not the plain loader, so that batches are drawn from it."""


REQUESTS = {
    "nothing drawn": {"module": Plain},
    "dropout": {"module": AlwaysDropout},
    "noise": {"module": Noisy},
    "noise by NumPy": {"module": NoisyByNumPy},
    "data set, torch": {"module": Plain, "dataset": flipped_by(lambda: float(torch.rand(())))},
    "data set, NumPy": {"module": Plain, "dataset": flipped_by(np.random.random)},
    "data set, Python": {"module": Plain, "dataset": flipped_by(random.random)},
    "collate": {
        "module": Plain, "iterator_train__collate_fn": noisy_collate, "iterator_valid__collate_fn": noisy_collate,
    },
    "collate by NumPy and another loader": {
        "module": Plain, "iterator_train__collate_fn": shifted_by_numpy,
        "iterator_valid__collate_fn": shifted_by_numpy, "iterator_valid": Handing,
    },
    "collate in training alone": {"module": Plain, "iterator_train__collate_fn": noisy_collate},
}  # fmt: skip


@pytest.mark.parametrize("unlearner", [StoCuReNU(renew=False), CuReNU()], ids=["StoCuReNU", "CuReNU"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_finds_its_way(name, unlearner):
    options = dict(REQUESTS[name])
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    net = NeuralNetClassifier(
        options.pop("module")().float(), criterion=nn.CrossEntropyLoss, lr=0.5, max_epochs=30, train_split=None,
        verbose=0, optimizer__weight_decay=1e-3, batch_size=20, **options,
    )  # fmt: skip
    labels = (X[:, 0] > 0).astype(np.int64)
    labels[:6] = 1 - labels[:6]
    est = UnlearnableClassifier(net, unlearner, random_state=0).fit(X.astype(np.float32), labels)
    before = flat_parameters(est.net_)
    report = est.forget(X[:6].astype(np.float32)).unlearning_report_
    assert report.gradient_norm_before > 0
    assert report.n_steps > 0
    assert report.actual_decrease > 0
    assert not torch.equal(flat_parameters(est.net_), before)
    # As without noise: the rows had another label than their like, and are no longer fitted.
    assert report.erased_loss_after > 1.1 * report.erased_loss_before
    assert np.mean(est.predict(X[:6].astype(np.float32)) == labels[:6]) <= 0.5
    assert est.score(X[6:].astype(np.float32), labels[6:]) > 0.7
