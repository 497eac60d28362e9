"""Models trained together are the models that training one after the other gives."""

import os
import re
import signal
import sys
import threading

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback, GradientNormClipping, LRScheduler
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.references import many as shadow
from sk_unlearn.references.many import fit_many
from sk_unlearn.training import stacked as _stacked
from sk_unlearn.unlearners import StoCuReNU, TrainingRecorder, Unlearner
from tests._problems import skorch_net


class Tiny(nn.Module):
    """Two layers; optionally with BatchNorm, dropout, a frozen layer, or a branch on the values of its input."""

    def __init__(self, n_features_in, n_outputs, kind="plain"):
        super().__init__()
        self.kind = kind
        self.first = nn.Linear(n_features_in, 8)
        self.norm = nn.BatchNorm1d(8) if kind == "batch norm" else nn.Identity()
        self.drop = nn.Dropout(0.3 if kind == "dropout" else 0.0)
        self.last = nn.Linear(8, n_outputs)
        if kind == "frozen":
            self.first.weight.requires_grad_(False)

    def forward(self, X):
        if self.kind == "branch" and X.sum() > 0:
            X = X + 1
        return self.last(self.drop(torch.tanh(self.norm(self.first(X)))))


def tiny_net(kind="plain", **options):
    settings = {
        "module__kind": kind,
        "optimizer": torch.optim.Adam,
        "lr": 0.01,
        "max_epochs": 4,
        "batch_size": 16,
        "iterator_train__shuffle": True,
    }
    return skorch_net(Tiny, **(settings | options))


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 5)).astype(np.float32)
    return X, (X[:, 0] + 0.5 * rng.normal(size=120) > 0).astype(int) + (X[:, 1] > 1)


@pytest.fixture
def stacks(monkeypatch):
    """The sizes of the stacks that were trained."""
    sizes = []

    def watched(members, X, advance):
        sizes.append(len(members))
        return _stacked.train_stacked(members, X, advance)

    monkeypatch.setattr(shadow, "train_stacked", watched)
    return sizes


def halves(n_models, n_rows, seed=0):
    return np.random.default_rng(seed).random((n_models, n_rows)) < 0.6


def alone(estimator, X, y, subsets, seeds, **given):
    return [
        clone(estimator)
        .set_params(random_state=seed)
        .fit(X[subset], y[subset], **{name: values[subset] for name, values in given.items()})
        for subset, seed in zip(subsets, seeds, strict=True)
    ]


def outputs(model, X):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def assert_alike(together, separate, X, atol=2e-5):
    for a, b in zip(together, separate, strict=True):
        np.testing.assert_allclose(outputs(a, X), outputs(b, X), rtol=1e-4, atol=atol)
        np.testing.assert_array_equal(a.training_set_.X, b.training_set_.X)
        np.testing.assert_array_equal(a.training_set_.y, b.training_set_.y)
        np.testing.assert_array_equal(a.training_set_.role, b.training_set_.role)
        np.testing.assert_allclose(a.net_.history[:, "train_loss"], b.net_.history[:, "train_loss"], rtol=1e-3)


# ------------------------------------------------------------------------------------------------------- as one by one


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "optimizer__weight_decay": 1e-3, "lr": 0.1},
        {"optimizer": torch.optim.AdamW, "optimizer__param_groups": [("last*", {"lr": 0.03})]},
        {"callbacks": [LRScheduler(policy=torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)]},
        {"callbacks": [LRScheduler(policy="StepLR", step_size=3, gamma=0.3, step_every="batch")]},
        {"iterator_train__drop_last": True},
        {"batch_size": -1},
        {"criterion__weight": torch.tensor([1.0, 2.0, 0.5])},
        {"criterion__reduction": "sum", "lr": 0.001},
        {"criterion__label_smoothing": 0.2},
        {"criterion__ignore_index": 1},
        {"iterator_train__shuffle": False},
        {"kind": "frozen"},
    ],
    ids=lambda options: ", ".join(options) or "plain",
)
def test_the_same_networks_as_one_after_the_other(data, stacks, options):
    X, y = data
    estimator = UnlearnableClassifier(tiny_net(**options))
    subsets, seeds = halves(5, len(y)), [3, 1, 4, 15, 9]
    if "batch_size" in options:  # a batch of all rows: as many for all
        subsets = [np.arange(first, first + 90) for first in range(5)]
    together = fit_many(estimator, X, y, subsets, seeds=seeds)
    assert sum(stacks) >= 4
    assert_alike(together, alone(estimator, X, y, subsets, seeds), X)


def test_the_same_default_networks_in_double_precision(stacks):
    X, y = load_digits(return_X_y=True)
    X, y = X[:200], y[:200]
    subsets, seeds = halves(3, 200), [0, 1, 2]
    estimator = UnlearnableClassifier(default_module())
    together = fit_many(estimator, X, y, subsets, seeds=seeds)
    assert stacks
    assert_alike(together, alone(estimator, X, y, subsets, seeds), X, atol=1e-9)


def default_module():
    """The default module, for fewer epochs."""
    from sk_unlearn.estimators.default_net import MLP

    return NeuralNetClassifier(
        MLP,
        module__dtype=torch.float64,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=3e-3,
        max_epochs=5,
        batch_size=64,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )


def test_regressors(data, stacks):
    X, _ = data
    y = X[:, 0] ** 2 + X[:, 1]
    subsets, seeds = [np.arange(100), np.arange(10, 110), np.arange(20, 120)], [0, 1, 2]
    estimator = UnlearnableRegressor(
        NeuralNetRegressor(Tiny, module__n_outputs=1, max_epochs=4, train_split=None, verbose=0, lr=0.1)
    )
    together = fit_many(estimator, X, y, subsets, seeds=seeds)
    assert stacks == [3]
    assert_alike(together, alone(estimator, X, y, subsets, seeds), X)


def test_weights_and_ids(data, stacks):
    X, y = data
    weight = np.random.default_rng(1).integers(0, 3, size=len(y)).astype(float)
    ids = np.arange(len(y)) + 700
    estimator = UnlearnableClassifier(tiny_net())
    subsets, seeds = halves(4, len(y)), range(4)
    together = fit_many(estimator, X, y, subsets, seeds=seeds, sample_weight=weight, sample_id=ids)
    assert stacks
    separate = alone(estimator, X, y, subsets, seeds, sample_weight=weight, sample_id=ids)
    assert_alike(together, separate, X)
    for a, b in zip(together, separate, strict=True):
        np.testing.assert_array_equal(a.training_set_.sample_id, b.training_set_.sample_id)
        np.testing.assert_array_equal(a.training_set_.sample_weight, b.training_set_.sample_weight)


def test_ids_of_several_types_stay_apart(data):
    X, y = data
    ids = [2**53, 2**53 + 1, "7", 0.5, *range(len(y) - 4)]
    models = fit_many(UnlearnableClassifier(tiny_net()), X, y, [range(60), range(70)], seeds=[0, 1], sample_id=ids)
    for model in models:
        left = len(model.training_set_) - 1
        model.forget(sample_id=[2**53]).forget(sample_id=[7])
        assert len(model.training_set_) == left - 1
        assert "7" in model.training_set_.sample_id.tolist()


def test_all_rows_from_other_seeds_and_what_comes_after(data, stacks):
    X, y = data
    estimator = UnlearnableClassifier(tiny_net(), StoCuReNU(renew=False))
    together = fit_many(estimator, X, y, seeds=[0, 1, 2])
    assert stacks == [3]
    separate = alone(estimator, X, y, [slice(None)] * 3, [0, 1, 2])
    assert np.abs(outputs(together[0], X) - outputs(together[1], X)).max() > 0.01
    # Forgetting and further training start from what they would have started from.
    for model in (*together, *separate):
        model.forget(X[:10], y[:10])
    for a, b in zip(together, separate, strict=True):
        np.testing.assert_allclose(outputs(a, X), outputs(b, X), atol=1e-3)
    for model in (together := fit_many(estimator, X, y, seeds=[0, 1])) + (
        separate := alone(estimator, X, y, [slice(None)] * 2, [0, 1])
    ):
        model.partial_fit(X[:30], y[:30])
    for a, b in zip(together, separate, strict=True):
        np.testing.assert_allclose(outputs(a, X), outputs(b, X), atol=1e-4)


def test_dropout_gives_the_same_distribution(data, stacks):
    X, y = data
    estimator = UnlearnableClassifier(tiny_net("dropout"))
    subsets, seeds = halves(16, len(y)), np.arange(16)
    together = fit_many(estimator, X, y, subsets, seeds=seeds)
    assert stacks
    separate = alone(estimator, X, y, subsets, [int(seed) + 100 for seed in seeds])
    accuracies = [[model.score(X, y) for model in models] for models in (together, separate)]
    assert ks_2samp(*accuracies).pvalue > 0.01
    again = fit_many(estimator, X, y, subsets, seeds=seeds)
    np.testing.assert_array_equal(outputs(again[5], X), outputs(together[5], X))


def test_the_nets_share_nothing(data, stacks):
    X, y = data
    first, second = fit_many(UnlearnableClassifier(tiny_net()), X, y, seeds=[0, 1])
    assert stacks
    before = outputs(second, X)
    with torch.no_grad():
        for parameter in first.net_.module_.parameters():
            parameter.zero_()
    first.net_.optimizer_.state.clear()
    np.testing.assert_array_equal(outputs(second, X), before)
    # A view would keep the parameters of all others alive, whatever is forgotten.
    for parameter in second.net_.module_.parameters():
        assert parameter.untyped_storage().nbytes() == parameter.numel() * parameter.element_size()
        for value in second.net_.optimizer_.state[parameter].values():
            assert value.untyped_storage().nbytes() == value.numel() * value.element_size()


def test_global_random_state_is_left_alone(data):
    X, y = data
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit_many(UnlearnableClassifier(tiny_net("dropout")), X, y, seeds=[0, 1])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("verbose", [0, 1])
def test_verbose_shows_progress_on_stderr(data, capsys, verbose, n_jobs):
    X, y = data
    # One stack, and nets that cannot be stacked.
    for kind in ("plain", "batch norm"):
        fit_many(UnlearnableClassifier(tiny_net(kind)), X, y, seeds=range(4), n_jobs=n_jobs, verbose=verbose)
        printed = capsys.readouterr()
        assert printed.out == ""
        shown = [int(percent) for percent in re.findall(r"training: +(\d+)%", printed.err)]
        assert bool(shown) == bool(verbose)
        assert shown == sorted(shown)
        assert all(percent <= 100 for percent in shown)


# ---------------------------------------------------------------------------------------------------- one by one anyway


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("kind", ["plain", "batch norm"])
def test_ctrl_c_ends_all_trainings(data, kind):
    X, y = data
    torch.manual_seed(5)
    before = torch.get_rng_state()
    estimator = UnlearnableClassifier(tiny_net(kind, max_epochs=10**6))
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        fit_many(estimator, X, y, seeds=[0, 1])
    assert torch.equal(torch.get_rng_state(), before)


class Doubled(NeuralNetClassifier):
    def get_loss(self, *args, **kwargs):
        return 2 * super().get_loss(*args, **kwargs)


class Watching(Callback):
    def on_batch_end(self, net, **kwargs):
        pass


@pytest.mark.parametrize(
    "net",
    [
        tiny_net("batch norm"),
        tiny_net("branch"),
        tiny_net(optimizer=torch.optim.LBFGS),
        tiny_net(callbacks=[GradientNormClipping(0.1)]),
        tiny_net(callbacks=[Watching()]),
        tiny_net(callbacks=[LRScheduler(policy="ReduceLROnPlateau", monitor="train_loss")]),
        Doubled(**tiny_net().get_params(deep=False)).set_params(module__kind="plain"),
    ],
    ids=["batch norm", "branch", "lbfgs", "clipping", "callback", "plateau", "subclass"],
)
def test_what_cannot_be_stacked_is_fitted_one_by_one(data, stacks, net):
    X, y = data
    estimator = UnlearnableClassifier(net.set_params(max_epochs=1))
    subsets = halves(2, len(y))
    together = fit_many(estimator, X, y, subsets, seeds=[0, 1])
    assert stacks == []
    for a, b in zip(together, alone(estimator, X, y, subsets, [0, 1]), strict=True):
        np.testing.assert_array_equal(outputs(a, X), outputs(b, X))


class Recorder(TrainingRecorder):
    def recording(self, net):
        return self.trained


class Recorded(Unlearner):
    def recorder(self):
        return Recorder()


def test_an_unlearner_that_watches_training_is_not_bypassed(data, stacks):
    X, y = data
    models = fit_many(UnlearnableClassifier(tiny_net(max_epochs=1), Recorded()), X, y, seeds=[0, 1])
    assert stacks == []
    for model in models:
        np.testing.assert_array_equal(model.unlearning_state_.recording, np.arange(len(y)))


def test_other_estimators_and_pipelines(data):
    X, y = data
    subsets = halves(2, len(y))
    for estimator in (LogisticRegression(), make_pipeline(StandardScaler(), UnlearnableClassifier(tiny_net()))):
        models = fit_many(estimator, X, y, subsets, seeds=[0, 1], n_jobs=1)
        last = models[1] if estimator is not models[1] and not hasattr(models[1], "steps") else models[1][-1]
        assert last.random_state == 1
        expected = clone(models[1]).fit(X[subsets[1]], y[subsets[1]])
        np.testing.assert_array_equal(outputs(models[1], X), outputs(expected, X))


@pytest.mark.parametrize(
    ("subsets", "message"),
    [
        ([np.arange(3)], "as many as there are models, got 1 and 2"),
        ([np.arange(3), []], r"subsets\[1\]"),
        ([np.arange(3), [0, 120]], r"subsets\[1\]"),
        ([np.ones(7, dtype=bool), np.arange(3)], r"subsets\[0\]"),
    ],
)
def test_errors(data, subsets, message):
    X, y = data
    with pytest.raises(ValueError, match=message):
        fit_many(UnlearnableClassifier(tiny_net()), X, y, subsets, seeds=[0, 1])


def test_divergence_is_an_error(data):
    X, y = data
    with pytest.raises(ValueError, match="diverged"):
        fit_many(UnlearnableClassifier(tiny_net(optimizer=torch.optim.SGD, lr=1e38, max_epochs=3)), X, y, seeds=[0, 1])


@pytest.mark.gpu
def test_on_a_cuda_device(data, stacks):
    X, y = data
    estimator = UnlearnableClassifier(tiny_net(), device="cuda")
    subsets = halves(3, len(y))
    together = fit_many(estimator, X, y, subsets, seeds=[0, 1, 2])
    assert stacks
    assert_alike(together, alone(estimator, X, y, subsets, [0, 1, 2]), X, atol=1e-3)
