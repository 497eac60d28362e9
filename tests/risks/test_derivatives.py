"""Modules and losses whose derivatives PyTorch gives in another shape, on another path, or not at all."""

import copy

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn.risks import EmpiricalRisk
from sk_unlearn.risks.block_fisher import BlockFisher
from sk_unlearn.risks.output_layer import output_layer
from tests._problems import skorch_net

rng = np.random.default_rng(0)
X, y = rng.normal(size=(24, 4)), rng.integers(0, 3, size=24)
# Sentences of different lengths; one has no words at all.
WORDS = np.where(np.arange(6) < rng.integers(1, 7, size=(24, 1)), rng.integers(1, 9, size=(24, 6)), 0)
WORDS[5] = 0


class Text(nn.Module):
    """Averages over padded positions too, so that what they are given matters."""

    def __init__(self, frozen=False):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.1, activation="gelu", batch_first=True)
        self.words, self.encoder = nn.Embedding(9, 8, padding_idx=0), nn.TransformerEncoder(layer, 1)
        self.head = nn.Linear(8, 3)
        if frozen:
            self.words.requires_grad_(False)
            self.encoder.requires_grad_(False)

    def forward(self, x):
        padded = x == 0
        padded[:, 0] = False
        return self.head(self.encoder(self.words(x), src_key_padding_mask=padded).mean(1))


class Attention(nn.Module):
    """Masks every position of a row without words: in PyTorch's fast path that is not a number."""

    def __init__(self):
        super().__init__()
        self.words, self.attention = nn.Embedding(9, 8, padding_idx=0), nn.MultiheadAttention(8, 2, 0.3)
        self.attention.batch_first, self.head = True, nn.Linear(8, 3)

    def forward(self, x):
        z = self.words(x)
        mixed = self.attention(z, z, z, key_padding_mask=x == 0, need_weights=False)[0]
        return self.head(mixed.nan_to_num().mean(1))


def build(module, **options):
    torch.manual_seed(0)
    return skorch_net(module.double(), NeuralNetClassifier, **options).initialize()


def slope(function, w, v, step=1e-6):
    return (function(w + step * v) - function(w - step * v)) / (2 * step)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("module", [Text, lambda: Text(frozen=True), Attention])
def test_attention_is_evaluated_with_padding_as_it_is_trained(module):
    net = build(module())
    before = [copy.copy(vars(m)) for m in net.module_.modules()]
    risk = EmpiricalRisk(net, WORDS, y)
    w = risk.parameters()
    v = torch.randn(len(w), dtype=w.dtype)
    if "words.weight" in risk.parameter_slices:
        v[risk.parameter_slices["words.weight"]][:8] = 0  # PyTorch holds what stands for padding fixed
    assert float(slope(risk.value, w, v)) == pytest.approx(float(risk.gradient(w) @ v), rel=1e-6)
    local = risk.linearise(w)
    assert local.value == pytest.approx(risk.value(w), rel=1e-12)
    torch.testing.assert_close(local.hessian(v), slope(risk.gradient, w, v, 1e-8), rtol=1e-5, atol=1e-3)
    layer, reason = output_layer(risk)
    assert layer is not None, reason
    for m, settings in zip(net.module_.modules(), before, strict=True):
        assert vars(m) == settings


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_sparse_gradients_are_those_of_the_dense_layer(kind):
    class Reader(nn.Module):
        def __init__(self, sparse):
            super().__init__()
            self.words, self.head = kind(9, 8, sparse=sparse), nn.Linear(8, 3)

        def forward(self, x):
            z = self.words(x)
            return self.head((z if z.ndim == 2 else z.mean(1)).tanh())

    sparse, dense = (EmpiricalRisk(build(Reader(flag)), WORDS, y) for flag in (True, False))
    w = sparse.parameters()
    assert torch.equal(sparse.gradient(w), dense.gradient(w))
    v = torch.randn(len(w), dtype=w.dtype)
    assert torch.equal(sparse.linearise(w).hessian(v), dense.linearise(w).hessian(v))
    assert torch.equal(sparse.row_gradients(w), dense.row_gradients(w))
    assert sparse.net.module_.words.sparse


class SquaredHinge(torch.autograd.Function):
    """Marked as differentiable once only, which PyTorch then obeys without a word."""

    @staticmethod
    def forward(ctx, margin):
        ctx.save_for_backward(margin)
        return margin.clamp_min(0).square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return 2 * slope * ctx.saved_tensors[0].clamp_min(0)


class OnceDifferentiableLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.reduction = "mean"

    def forward(self, output, target):
        losses = SquaredHinge.apply(1 - output.gather(1, target[:, None])[:, 0] + output.mean(1))
        return losses if self.reduction == "none" else losses.mean()


LOSSES = {"not implemented": lambda: nn.MultiMarginLoss(p=2), "once differentiable": OnceDifferentiableLoss}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_without_second_derivatives_gets_differences(loss, caplog):
    net = build(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), criterion=LOSSES[loss]())
    risk = EmpiricalRisk(net, X, y)
    w = risk.parameters()
    v = torch.randn(len(w), dtype=w.dtype)
    expected = slope(risk.gradient, w, v)
    assert float(expected.norm()) > 0.1
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(risk.linearise(w).hessian(v), expected, **close)
    assert ["fall back to central differences" in record.getMessage() for record in caplog.records] == [True]
    torch.testing.assert_close(EmpiricalRisk(net, X, y).linearise(w).hessian_rows(v[None])[0], expected, **close)

    fresh = EmpiricalRisk(net, X, y)
    layer, _ = output_layer(fresh)
    of_layer = layer.risk(fresh)
    start = of_layer.start
    s = torch.randn(len(start), dtype=w.dtype)
    product = slope(of_layer.gradient, start, s)
    assert float(product.norm()) > 0.1
    torch.testing.assert_close(of_layer.linearise(start).hessian(s), product, **close)
    torch.testing.assert_close(layer.risk(EmpiricalRisk(net, X, y)).hessian(start) @ s, product, **close)

    # In the layer alone the output is linear, so that its block of Gauss-Newton is that of the Hessian.
    inserted = layer.insert(torch.zeros_like(w), s)
    ggn = layer.extract(EmpiricalRisk(net, X, y).linearise(w).ggn(inserted))
    torch.testing.assert_close(ggn, product, **close)
    assert bool(torch.isfinite(BlockFisher(risk, w, np.arange(24), kronecker=True).solve(v, 0.1)).all())
