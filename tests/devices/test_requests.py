"""Requests on a device: no tensor of another takes part, and the model is what the processor makes of the same."""

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn

from sk_unlearn import MLPNetClassifier, ShardedClassifier, UnlearnableClassifier
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.references import fit_many
from sk_unlearn.unlearners import (
    AMUN,
    RURK,
    SCRUB,
    CertifiedNewton,
    CertifiedRemoval,
    CuReNU,
    DampedNewton,
    FisherForgetting,
    GaussNewton,
    HessianFreeRecording,
    L1Sparse,
    LBFGSWarmStart,
    MinMaxNaturalGradient,
    NaturalGradient,
    NegGradPlus,
    NoisyFineTune,
    SalUn,
    StoCuReNU,
)  # fmt: skip
from tests._problems import LinearLayer, Mlp, classifier, regressor
from tests.contract.test_contract import UNLEARNERS

rng = np.random.default_rng(5)
N = 24
X = rng.normal(size=(N, 3))
y = (X[:, 0] + 0.3 * rng.normal(size=N) > 0).astype(int)
score = X @ [1.0, -2.0, 0.5]
weight = rng.uniform(0.5, 2.0, N)
words = rng.integers(8, size=(N, 4))
images = rng.normal(size=(N, 2, 4, 4))
TRAINING = {"max_epochs": 1, "batch_size": 12, "lr": 0.1}


class Tiny(Mlp):
    """Few parameters, in float64: what is left between two devices is then no more than the order of sums."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs, 2, dtype=torch.float64)


class Affine(LinearLayer):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs)
        self.double()


class Words(nn.Module):
    """Embeddings of words, of which some only erased rows use."""

    def __init__(self, kind=nn.Embedding):
        super().__init__()
        self.words, self.head = kind(8, 3), nn.Linear(3, 2)
        self.double()

    def forward(self, X):
        found = self.words(X)
        return self.head(found if found.ndim == 2 else found.mean(1))


class Bags(Words):
    def __init__(self):
        super().__init__(nn.EmbeddingBag)


class Images(nn.Module):
    """Convolution and BatchNorm."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)
        ).double()

    def forward(self, X):
        return self.body(X)


class Reader(nn.Module):
    """A recurrent layer."""

    def __init__(self):
        super().__init__()
        self.words, self.body, self.head = nn.Embedding(8, 2), nn.LSTM(2, 2, batch_first=True), nn.Linear(2, 2)
        self.double()

    def forward(self, X):
        return self.head(self.body(self.words(X))[0][:, -1])


class Attending(nn.Module):
    """Attention."""

    def __init__(self):
        super().__init__()
        self.words, self.body, self.head = (
            nn.Embedding(8, 4),
            nn.MultiheadAttention(4, 2, batch_first=True),
            nn.Linear(4, 2),
        )
        self.double()

    def forward(self, X):
        z = self.words(X)
        return self.head(self.body(z, z, z)[0].mean(1))


def tensors(est):
    """All tensors of a net and its criterion, by name."""
    return {**est.net_.module_.state_dict(), **est.net_.criterion_.state_dict()}


def assert_same(on_device, build, act):
    """What is done to an estimator leaves on the device what it leaves on the processor, and nothing elsewhere."""
    host = act(build().set_params(device="cpu"))
    with on_device():
        est = act(build().set_params(device="cuda"))
        assert {t.device.type for t in tensors(est).values()} == {"cuda"}
        found = {name: t.cpu().numpy() for name, t in tensors(est).items()}
        predicted = est.predict(X) if est.net_.module_.__class__ in (Tiny, Affine) else None
    if not on_device.same_noise:
        assert all(np.isfinite(values).all() for values in found.values())
        return
    assert est.unlearning_report_.status is host.unlearning_report_.status
    for name, expected in tensors(host).items():
        np.testing.assert_allclose(
            found[name], expected.numpy(), rtol=on_device.rtol, atol=on_device.atol, err_msg=name
        )
    if predicted is not None:
        np.testing.assert_allclose(predicted, host.predict(X), rtol=on_device.rtol, atol=on_device.atol)


def forget(rows, targets, n=4):
    return lambda est: est.fit(rows, targets).forget(rows[:n])


# Noise comes from the device's own generator, whose numbers are others than the processor's.
NOISY = {FisherForgetting, NoisyFineTune, CertifiedNewton, CertifiedRemoval}
# Shorter than by default, where a device has nothing more to show.
SHORT = {
    AMUN: {"n_steps": 2, "n_epochs": 1}, RURK: {"n_epochs": 1}, NegGradPlus: {"n_epochs": 1}, SalUn: {"n_epochs": 1},
    NoisyFineTune: {"n_steps": 2, "n_epochs": 1}, SCRUB: {"n_epochs": 1}, L1Sparse: {"n_epochs": 1},
    CuReNU: {"max_steps": 1}, DampedNewton: {"damping": 0.1}, GaussNewton: {"damping": 0.1},
    NaturalGradient: {"damping": 0.1}, LBFGSWarmStart: {"n_iterations": 2}, MinMaxNaturalGradient: {"max_rounds": 1},
}  # fmt: skip


def build(unlearner=None, module=Tiny, **settings):
    return classifier(unlearner, module, **(TRAINING | settings))


@pytest.mark.filterwarnings("ignore::sk_unlearn.unlearners.VacuousBoundWarning")
@pytest.mark.filterwarnings("ignore::sk_unlearn.unlearners.DominatingNoiseWarning")
@pytest.mark.parametrize("unlearner", UNLEARNERS)
def test_every_unlearner(on_device, unlearner):
    on_device.same_noise = on_device.pretended or unlearner not in NOISY
    module = Affine if unlearner in (HessianFreeRecording, CertifiedRemoval) else Tiny
    decay = {"optimizer__weight_decay": 0.1} if unlearner is CertifiedRemoval else {}
    assert_same(on_device, lambda: build(unlearner(**SHORT.get(unlearner, {})), module, **decay), forget(X, y))


@pytest.mark.parametrize(
    "unlearner",
    [
        CuReNU(solver="dense", output_layer_first=False, max_steps=1),
        CuReNU(solver="krylov", output_layer_first=False, max_steps=1),
        StoCuReNU(solver="gradient_descent", renew=False, sigma=0.1, max_steps=1),
        DampedNewton(0.1, solver="cg"),
        DampedNewton(2.0, solver="lissa", max_products=4),
        NaturalGradient(0.1, fisher="kronecker", sigma=0.01),
        NaturalGradient(0.1, fisher="diagonal"),
    ],
    ids=repr,
)
def test_every_solver(on_device, unlearner):
    on_device.same_noise = on_device.pretended or not getattr(unlearner, "sigma", 0)
    assert_same(on_device, lambda: build(unlearner), forget(X, y))


@pytest.mark.parametrize("module", [Words, Bags, Reader, Attending, Images])
def test_every_kind_of_layer(on_device, module):
    rows = images if module is Images else words
    assert_same(on_device, lambda: build(None, module), forget(rows, y))


def through_all_verbs(est):
    est.fit(X, y, sample_weight=weight).forget(X[:2]).partial_fit(X[:2] + 1, y[:2], sample_weight=weight[:2])
    est.correct(X[4:5], X_new=X[4:5] + 1)
    est.request_forget(X[6:8])
    return est.settle().partial_forget(X[8:9], y[8:9])


def test_every_verb(on_device):
    classes = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert_same(on_device, lambda: build(GaussNewton(0.1), criterion__weight=classes), through_all_verbs)


def test_regression_without_rows(on_device):
    def act(est):
        return (
            est.fit(X, score[:, None]).partial_forget(X[:3], score[:3, None]).partial_forget(X[3:4], score[3:4, None])
        )

    assert_same(on_device, lambda: regressor(GaussNewton(0.1), Tiny, keep_training_set=False, **TRAINING), act)


def test_the_built_in_network_in_a_pipeline(on_device):
    def fitted(device):
        est = UnlearnableClassifier(MLPNetClassifier(max_epochs=2), random_state=0, device=device)
        return make_pipeline(StandardScaler(), est).fit(X, y).forget(X[:2])

    host = fitted("cpu")
    with on_device():
        pipe = fitted("cuda")
        assert {t.device.type for t in tensors(pipe[-1]).values()} == {"cuda"}
        # In float32.
        np.testing.assert_allclose(
            pipe.predict_proba(X), host.predict_proba(X), rtol=0, atol=0.0 if on_device.pretended else 1e-3
        )


def test_shards(on_device):
    def fitted(device):
        return ShardedClassifier(build().set_params(device=device), 2, random_state=0).fit(X, y).forget(X[:2])

    host = fitted("cpu").predict_proba(X)
    with on_device():
        np.testing.assert_allclose(fitted("cuda").predict_proba(X), host, rtol=on_device.rtol, atol=on_device.atol)


def test_rows_that_stay_in_a_file(on_device, tmp_path):
    np.save(tmp_path / "rows.npy", X)
    stored = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert_same(on_device, lambda: build(GaussNewton(0.1)), lambda est: est.fit(stored, y).forget(X[:4]))


def test_many_at_once(on_device):
    """Nets of one shape are trained together, on the device too."""
    host = fit_many(build(), X, y, [np.arange(16), np.arange(8, 24)], seeds=[0, 1])
    with on_device():
        many = fit_many(build().set_params(device="cuda"), X, y, [np.arange(16), np.arange(8, 24)], seeds=[0, 1])
        found = [est.predict_proba(X) for est in many]
    for a, b in zip(found, host, strict=True):
        np.testing.assert_allclose(a, b.predict_proba(X), rtol=on_device.rtol, atol=on_device.atol)
