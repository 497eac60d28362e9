"""Whatever module a user brings: the defaults forget, stay finite and do not wreck what is retained."""

import copy
import functools
import logging

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

import sk_unlearn
from sk_unlearn import UnlearnableClassifier
from sk_unlearn.receipts import digest_parameters
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import CuReNU, StoCuReNU

N, N_CLASSES = 90, 3
LABELS = np.arange(N) % N_CLASSES
WORDS = 12


def images():
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(N_CLASSES, 1, 8, 8))
    return (patterns[LABELS] + 0.7 * rng.normal(size=(N, 1, 8, 8))).astype(np.float32)


def sequences():
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(N_CLASSES, 6, 5))
    return (patterns[LABELS] + 0.7 * rng.normal(size=(N, 6, 5))).astype(np.float32)


def sentences():
    """Each class prefers words of its own."""
    rng = np.random.default_rng(0)
    own = rng.integers(0, WORDS // N_CLASSES, size=(N, 7)) * N_CLASSES + LABELS[:, None]
    return np.where(rng.random((N, 7)) < 0.7, own, rng.integers(0, WORDS, size=(N, 7)))


def padded():
    rng = np.random.default_rng(1)
    return np.where(np.arange(7) < rng.integers(4, 8, size=(N, 1)), sentences() + 1, 0)


def table():
    return images().reshape(N, 64)


class ConvNet(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2), nn.Flatten(),
            nn.Linear(54, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, N_CLASSES),
        )  # fmt: skip


class Block(nn.Module):
    """A residual block as in ResNet-18."""

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out),
        )  # fmt: skip
        self.skip = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.skip = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.body(x) + self.skip(x))


class ResNet18(nn.Sequential):
    """Eighteen layers in ResNet-18's arrangement, four channels wide instead of 64."""

    def __init__(self, width=4):
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        blocks = []
        for k in range(4):
            blocks += [Block(widths[k], widths[k + 1], 1 if k == 0 else 2), Block(widths[k + 1], widths[k + 1], 1)]
        super().__init__(
            nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True), *blocks,
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, N_CLASSES),
        )  # fmt: skip


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.norm = nn.MultiheadAttention(8, 2, batch_first=True), nn.LayerNorm(8)
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, N_CLASSES)

    def forward(self, x):
        z = self.embed(x)
        return self.head(self.norm(z + self.attention(z, z, z, need_weights=False)[0]).mean(1))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0.1, batch_first=True)
        self.embed, self.encoder = nn.Linear(5, 8), nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, N_CLASSES)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x)).mean(1))


class TextEncoder(nn.Module):
    """PyTorch's encoder with its defaults over padded sentences; a frozen one stands for a pretrained model."""

    def __init__(self, frozen=False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0.1, batch_first=True)
        self.words, self.encoder = nn.Embedding(WORDS + 1, 8, padding_idx=0), nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, N_CLASSES)
        if frozen:
            self.words.requires_grad_(False)
            self.encoder.requires_grad_(False)

    def forward(self, x):
        padded = x == 0
        z = self.encoder(self.words(x), src_key_padding_mask=padded)
        there = (~padded)[..., None].to(z)
        return self.head((z * there).sum(1) / there.sum(1))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.memory, self.head = kind(5, 8, batch_first=True), nn.Linear(8, N_CLASSES)

    def forward(self, x):
        return self.head(self.memory(x)[0][:, -1])


class Reader(nn.Module):
    def __init__(self, sparse=False):
        super().__init__()
        self.words, self.head = nn.Embedding(WORDS, 6, sparse=sparse), nn.Linear(6, N_CLASSES)

    def forward(self, x):
        return self.head(self.words(x).mean(1).tanh())


class BagReader(nn.Module):
    def __init__(self, mode):
        super().__init__()
        self.words, self.head = nn.EmbeddingBag(WORDS, 6, mode=mode), nn.Linear(6, N_CLASSES)

    def forward(self, x):
        return self.head(self.words(x).tanh())


class FrozenBackbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten())
        self.backbone.requires_grad_(False)
        self.head = nn.Linear(216, N_CLASSES)

    def forward(self, x):
        return self.head(self.backbone(x))


class LowRank(nn.Module):
    """A frozen linear layer with a trained low-rank change."""

    def __init__(self, layer, rank=2):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x):
        return self.layer(x) + x @ self.down.T @ self.up.T


class Adapted(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), LowRank(nn.Linear(64, 16)), nn.ReLU(), LowRank(nn.Linear(16, N_CLASSES)))


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        (y,) = ctx.saved_tensors
        return slope * (1 - y * y)


class WithoutSecondDerivative(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(64, 8), nn.Linear(8, N_CLASSES)

    def forward(self, x):
        return self.head(OnceDifferentiable.apply(self.body(x.flatten(1))))


class AttentionFunction(nn.Module):
    """Fused attention called by its function, as transformers of other libraries do."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, N_CLASSES)

    def forward(self, x):
        z = self.embed(x)[:, None]
        return self.head(nn.functional.scaled_dot_product_attention(z, z, z)[:, 0].mean(1))


class Autocast(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, N_CLASSES))

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.body(x).float()


class HalfBackbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(64, 32, dtype=torch.bfloat16).requires_grad_(False)
        self.head = nn.Linear(32, N_CLASSES)

    def forward(self, x):
        return self.head(self.backbone(x.bfloat16()).tanh().float())


class TiedLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, N_CLASSES)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(self.second(self.first(x).tanh()).tanh())


class Parametrised(nn.Sequential):
    def __init__(self, how):
        super().__init__(how(nn.Linear(64, 12)), nn.Tanh(), how(nn.Linear(12, N_CLASSES)))


class LastOfAlignment(nn.Module):
    """CTC: a loss for whole batches, whose backward pass PyTorch cannot differentiate."""

    def forward(self, output, y):
        steps = output.log_softmax(1).expand(5, -1, -1)
        return nn.functional.ctc_loss(steps, y[:, None] % 2 + 1, [5] * len(y), [1] * len(y))


def mlp(dtype=None):
    return nn.Sequential(nn.Linear(64, 16, dtype=dtype), nn.Tanh(), nn.Linear(16, N_CLASSES, dtype=dtype))


SGD = {"optimizer": torch.optim.SGD, "lr": 0.5}
NETS = {
    "text encoder": (TextEncoder, padded, {}),
    "frozen text encoder": (lambda: TextEncoder(frozen=True), padded, {}),
    "sparse embedding": (lambda: Reader(sparse=True), sentences, SGD),
    "sparse embedding bag": (
        lambda: nn.EmbeddingBag(WORDS, N_CLASSES, mode="sum", sparse=True),
        sentences,
        {"optimizer": torch.optim.SparseAdam},
    ),
    "autocast": (Autocast, table, {}),
    "frozen backbone in bfloat16": (HalfBackbone, table, {}),
    "float64": (lambda: mlp(torch.float64), table, {}),
    "multi-margin loss": (mlp, table, {"criterion": nn.MultiMarginLoss}),
    "CTC loss": (mlp, table, {"criterion": LastOfAlignment}),
    "tied weights": (TiedLayers, table, {}),
    "weight norm": (lambda: Parametrised(nn.utils.parametrizations.weight_norm), table, {}),
    "spectral norm": (lambda: Parametrised(nn.utils.parametrizations.spectral_norm), table, {}),
    "lazy layers": (lambda: nn.Sequential(nn.LazyLinear(12), nn.Tanh(), nn.LazyLinear(N_CLASSES)), table, {}),
}


MODULES = {
    "convolutional with batch norm and dropout": (ConvNet, images),
    "ResNet-18": (ResNet18, images),
    "multi-head attention": (Attention, sequences),
    "transformer encoder": (Transformer, sequences),
    "attention function": (AttentionFunction, sequences),
    "LSTM": (lambda: Recurrent(nn.LSTM), sequences),
    "GRU": (lambda: Recurrent(nn.GRU), sequences),
    "embedding": (Reader, sentences),
    "embedding bag, mean": (lambda: BagReader("mean"), sentences),
    "embedding bag, max": (lambda: BagReader("max"), sentences),
    "frozen backbone": (FrozenBackbone, images),
    "low-rank adapters": (Adapted, images),
    "no second derivative": (WithoutSecondDerivative, images),
}


def fitted(module, X, unlearner=None, labels=LABELS, **options):
    torch.manual_seed(0)
    settings = {"criterion": nn.CrossEntropyLoss, "optimizer": torch.optim.Adam, "lr": 0.02} | options
    net = NeuralNetClassifier(
        module(), max_epochs=10, batch_size=30, iterator_train__shuffle=True, train_split=None, verbose=0, **settings
    )
    return UnlearnableClassifier(net, unlearner, random_state=0).fit(X, labels)


@pytest.mark.parametrize("name", MODULES)
def test_defaults_forget(name, caplog):
    module, rows = MODULES[name]
    X = rows()
    est = fitted(module, X, StoCuReNU(renew=False))  # so short a training is done again otherwise
    frozen = {k: p.clone() for k, p in est.net_.module_.named_parameters() if not p.requires_grad}
    before, accuracy = flat_parameters(est.net_), est.score(X[9:], LABELS[9:])
    assert accuracy > 0.8
    with caplog.at_level(logging.WARNING, logger="sk_unlearn"):
        est.forget(X[:9])
    after = flat_parameters(est.net_)
    assert torch.isfinite(after).all()
    assert np.isfinite(est.predict_proba(X)).all()
    assert not torch.equal(after, before)
    assert est.score(X[9:], LABELS[9:]) >= accuracy - 0.05
    for key, value in frozen.items():
        assert torch.equal(est.net_.module_.get_parameter(key), value)
    falls_back = name.startswith(("no second derivative", "embedding bag"))
    assert [record.levelname for record in caplog.records] == ["WARNING"] * falls_back
    for record in caplog.records:
        assert "fall back to central differences" in record.getMessage()


MISLABELLED = np.where(np.arange(N) < 9, (LABELS + 1) % N_CLASSES, LABELS)


NOT_COPIED = ("weight norm", "spectral norm", "lazy layers")  # which PyTorch refuses


def learnt(name):
    """Return one that learnt wrong labels of nine rows."""
    module, rows, options = NETS[name]
    return fitted(module, rows(), labels=MISLABELLED, **options)


to_be_copied = functools.cache(learnt)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # where such a module predicts
@pytest.mark.parametrize("unlearner", [None, CuReNU()], ids=["default", "CuReNU"])
@pytest.mark.parametrize("name", NETS)
def test_the_report_tells_what_became_of_the_erased_rows(name, unlearner):
    est = learnt(name) if name in NOT_COPIED else copy.deepcopy(to_be_copied(name))
    X, est = NETS[name][1](), est.set_params(unlearner=unlearner)
    erased = EmpiricalRisk(est.net_, X[:9].astype(est.unlearning_state_.dtype), MISLABELLED[:9])
    before, loss = flat_parameters(est.net_), erased.value(flat_parameters(est.net_))
    report = est.forget(X[:9]).unlearning_report_
    after = flat_parameters(est.net_)
    erased = EmpiricalRisk(est.net_, erased.X, erased.y)
    assert report.parameters_moved
    assert not torch.equal(after, before)
    assert report.erased_loss_before == pytest.approx(loss, rel=1e-5)
    assert report.erased_loss_after == pytest.approx(erased.value(after), rel=1e-5)
    assert report.erased_loss_after > 1.001 * loss
    assert est.predict(X).shape == (N,)
    assert len(est.training_set_) == N - 9


class Graph(nn.Module):
    """Rows are nodes, and a sparse buffer says which of them are neighbours."""

    def __init__(self):
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        near = (torch.rand(N, N, generator=rng) < 0.1).float() + torch.eye(N)
        self.register_buffer("near", (near / near.sum(1, keepdim=True)).to_sparse())
        self.register_buffer("features", torch.from_numpy(table()))
        self.layer = nn.Linear(64, N_CLASSES)

    def forward(self, nodes):
        return self.layer((self.near @ self.features)[nodes.reshape(-1).long()])


def test_a_sparse_buffer(tmp_path):
    nodes = np.arange(N)[:, None]
    net = NeuralNetClassifier(
        Graph, criterion=nn.CrossEntropyLoss, max_epochs=5, lr=0.1, train_split=None, verbose=0
    )  # fmt: skip
    est = UnlearnableClassifier(net, random_state=0).fit(nodes, LABELS)
    before = est.predict_proba(nodes[:3])
    est.forget(nodes[:3])
    assert np.abs(est.predict_proba(nodes[:3]) - before).max() > 1e-4
    sk_unlearn.save(est, tmp_path / "graph.skops")
    again = sk_unlearn.load(tmp_path / "graph.skops", trusted=[f"{__name__}.Graph"])
    np.testing.assert_array_equal(again.predict_proba(nodes), est.predict_proba(nodes))
    # A number of the buffer is a part of what receipts say of a net.
    told = digest_parameters(again.net_)
    again.net_.module_.near.values()[0] += 1
    assert told != digest_parameters(again.net_)
