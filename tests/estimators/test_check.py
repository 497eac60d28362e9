"""A look at a net before it is trained: it refuses what could not forget or predict, and leaves no trace."""

# ruff: noqa: NPY002  the old generators are what modules of users draw from

import random

import numpy as np
import pytest
import torch
from sklearn.utils import check_random_state
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.unlearners import Retrain, StoCuReNU
from tests._problems import skorch_net

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 4)).astype(np.float32)
LABELS = np.arange(40) % 3
VALUES = (X @ np.arange(4)).astype(np.float32)


class Restless(nn.Module):
    """Draws from all generators, counts its calls in a buffer, and normalises by what it has seen."""

    def __init__(self, n_outputs):
        super().__init__()
        self.body, self.norm, self.head = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, n_outputs)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += self.training
        h = self.norm(self.body(x)) * random.uniform(0.9, 1.1) * np.random.uniform(0.9, 1.1)
        return self.head(nn.functional.dropout(h, 0.2))


class Lazy(nn.Sequential):
    def __init__(self, n_outputs):
        super().__init__(nn.LazyLinear(6), nn.Tanh(), nn.LazyBatchNorm1d(), nn.LazyLinear(n_outputs))


class Flipped(Dataset):
    def transform(self, X, y):
        X, y = super().transform(X, y)
        return (-1 if torch.rand(()) < 0.5 else 1) * X, y


@pytest.mark.parametrize("module", [Restless, Lazy])
@pytest.mark.parametrize("classifies", [True, False])
def test_the_net_trains_as_it_does_in_skorch(module, classifies):
    kind = NeuralNetClassifier if classifies else NeuralNetRegressor
    options = {"max_epochs": 3, "batch_size": 16, "iterator_train__shuffle": True, "dataset": Flipped}
    net = skorch_net(module, kind, module__n_outputs=3 if classifies else 1, **options)
    y = LABELS if classifies else VALUES

    def seeded():
        random.seed(1)
        np.random.seed(1)

    seeded()
    torch.manual_seed(check_random_state(0).randint(2**31 - 1))
    plain = net.fit(X, y if classifies else y[:, None]).module_.state_dict()
    seeded()
    fitted = (UnlearnableClassifier if classifies else UnlearnableRegressor)(net, random_state=0).fit(X, y)
    assert fitted.predict(X).shape == (40,)
    seeded()
    fitted = (UnlearnableClassifier if classifies else UnlearnableRegressor)(net, random_state=0).fit(X, y)
    state = fitted.net_.module_.state_dict()
    assert state.keys() == plain.keys()
    for name, values in plain.items():
        assert torch.equal(state[name], values), name


class NotReached(Callback):
    def on_train_begin(self, net, **kwargs):
        raise AssertionError("training began")


class HalfOutput(nn.Linear):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, dtype=torch.complex64))

    def forward(self, x):
        return (x.to(torch.complex64) @ self.weight).abs()


class WholeBatches(nn.Linear):
    def forward(self, x):
        return super().forward(x.reshape(20, -1))


class Pinball(nn.Module):
    def forward(self, quantiles, y):
        excess = y - quantiles
        levels = torch.tensor([0.1, 0.5, 0.9])
        return torch.maximum(levels * excess, (levels - 1) * excess).mean()


class OneNumber(nn.Module):
    def forward(self, output, y):
        return nn.functional.cross_entropy(output, y)


class SparseFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(2, 3))

    def forward(self, x):
        return nn.functional.embedding((x > 0).long(), self.table, sparse=True).mean(1)


REFUSED = {
    "frozen": (lambda: nn.Linear(4, 3).requires_grad_(False), {}, ValueError, "no trainable parameters"),
    "bfloat16": (
        lambda: nn.Linear(4, 3, dtype=torch.bfloat16),
        {},
        ValueError,
        r"let forward begin with x = x\.bfloat16",
    ),
    "float16": (lambda: nn.Linear(4, 3, dtype=torch.float16), {}, ValueError, r"float32 or float64.*autocast"),
    "complex": (Complex, {}, ValueError, r"float32 or float64.*view_as_real"),
    "output in half precision": (lambda: HalfOutput(4, 3), {}, TypeError, r"return output\.float\(\)"),
    "too few outputs": (lambda: nn.Linear(4, 2), {}, ValueError, r"2 probabilities a row.*at least 3 classes"),
    "a batch of one size": (lambda: WholeBatches(8, 3), {}, ValueError, "The net fails on 4 of the training rows"),
    "sparse by a function": (SparseFunction, {}, ValueError, "The net fails on 4 .*sparse"),
}


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_a_classifier_that_could_not_forget_is_refused_before_training(name, memory, tmp_path):
    module, options, error, message = REFUSED[name]
    net = skorch_net(module(), callbacks=[NotReached()], batch_size=20, **options)
    est = UnlearnableClassifier(net, random_state=0, memory=str(tmp_path) if memory else None)
    with pytest.raises(error, match=message):
        est.fit(X, LABELS)
    assert not hasattr(est, "net_")


def test_differing_weights_of_a_loss_for_whole_batches_are_refused_before_training():
    net = skorch_net(nn.Linear(4, 3), criterion=OneNumber, callbacks=[NotReached()])
    with pytest.raises(ValueError, match="sample_weight has differing entries"):
        UnlearnableClassifier(net).fit(X, LABELS, sample_weight=np.where(np.arange(40) < 30, 1.0, 2.0))


@pytest.mark.parametrize("criterion", [nn.MSELoss, Pinball])
def test_more_outputs_than_targets_are_refused_before_training(criterion):
    net = skorch_net(nn.Linear(4, 3), NeuralNetRegressor, criterion=criterion, callbacks=[NotReached()])
    with pytest.raises(ValueError, match=r"values of shape \(3,\).*targets of shape \(\).*predict_nonlinearity"):
        UnlearnableRegressor(net).fit(X, VALUES)


class WithMedian(nn.Linear):
    def forward(self, x):
        quantiles = super().forward(x)
        return quantiles[:, 1], quantiles


class PinballOfTuple(Pinball):
    def forward(self, output, y):
        return super().forward(output[1], y[:, None])


def median(output):
    return output[:, 1]


CURES = {
    "a tuple": {"module": WithMedian(4, 3), "criterion": PinballOfTuple},
    "a nonlinearity": {"module": nn.Linear(4, 3), "criterion": Pinball, "predict_nonlinearity": median},
}


@pytest.mark.parametrize("name", CURES)
def test_what_the_refusal_of_more_outputs_recommends(name):
    settings = dict(CURES[name])
    torch.manual_seed(0)
    net = skorch_net(settings.pop("module"), NeuralNetRegressor, lr=0.5, max_epochs=60, **settings)
    est = UnlearnableRegressor(net, random_state=0).fit(X, VALUES)
    before = est.predict(X)
    assert est.score(X, VALUES) > 0.8
    report = est.forget(X[:5]).unlearning_report_
    assert report.parameters_moved
    assert report.erased_loss_after != report.erased_loss_before
    assert before.shape == est.predict(X).shape == (40,)


class OwnGenerator(Dataset):
    generator = np.random.default_rng(0)

    def transform(self, X, y):
        X, y = super().transform(X, y)
        return X + np.float32(self.generator.normal()), y


class Counting(nn.Linear):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x * (1 + 0.3 * np.sin(self.calls)))


class OwnNoise(nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.noise = np.random.default_rng(0)

    def forward(self, x):
        return super().forward(x + torch.from_numpy(self.noise.normal(size=x.shape)).to(x))


UNSTEADY = {
    "dataset": {"module": nn.Linear(4, 3), "dataset": OwnGenerator},
    "counter": {"module": Counting(4, 3)},
    "module": {"module": OwnNoise(4, 3)},
}


@pytest.mark.parametrize("name", UNSTEADY)
def test_evaluations_that_differ_are_told_at_fit_and_in_every_report(name):
    settings = dict(UNSTEADY[name])
    net = skorch_net(settings.pop("module"), max_epochs=2, **settings)
    est = UnlearnableClassifier(net, random_state=0)
    with pytest.warns(UserWarning, match=r"evaluations of the same rows .* differ.*iterator_train__collate_fn"):
        est.fit(X, LABELS)
    for unlearner in (Retrain(), StoCuReNU()):
        est.set_params(unlearner=unlearner).forget(est.training_set_.X[:1])
        assert sum("iterator_train__collate_fn" in note for note in est.unlearning_report_.notes) == 1


def test_evaluations_that_differ_are_told_by_from_fitted():
    with pytest.warns(UserWarning, match=r"evaluations of the same rows .* differ"):
        UnlearnableClassifier.from_fitted(OwnNoise(4, 3), X, LABELS)


def test_numbers_from_the_global_generators_are_no_matter_of_a_warning():
    net = skorch_net(Restless, max_epochs=2, module__n_outputs=3, dataset=Flipped)
    est = UnlearnableClassifier(net, random_state=0).fit(X, LABELS)  # warnings are errors
    assert not any("iterator_train__collate_fn" in note for note in est.forget(X[:1]).unlearning_report_.notes)
