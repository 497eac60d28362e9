"""The empirical risk against finite differences, dense autograd on an independent formula, and PyTorch's own means."""

import copy
import gc
import logging
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import Dataset
from torch import nn

from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters, weighted_loss
from tests._problems import skorch_net

N, N_CLASSES = 11, 3


def build(kind, module, criterion, **options):
    settings = {"optimizer": torch.optim.SGD, "lr": 0.1}
    return skorch_net(module.double(), kind, criterion=criterion, **(settings | options)).initialize()


def classifier(module=None, criterion=nn.CrossEntropyLoss, **options):
    return build(NeuralNetClassifier, module or mlp(), criterion, **options)


def mlp(n_outputs=N_CLASSES):
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, n_outputs))


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)
        self.head = nn.Linear(3, N_CLASSES)

    def forward(self, x):
        x = torch.nn.functional.softplus(self.norm(self.conv(x)))
        return self.head(torch.nn.functional.avg_pool2d(x, 3).flatten(1))


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, N_CLASSES)

    def forward(self, x):
        z = self.norm(x)
        return self.head((x + self.attention(z, z, z, need_weights=False)[0]).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.lstm, self.head = nn.Embedding(6, 3), nn.LSTM(3, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.lstm(self.embedding(x))[0][:, -1])


def problem(name, seed=0, **options):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    X, module = {
        "mlp": lambda: (rng.normal(size=(N, 4)), mlp()),
        "cnn": lambda: (rng.normal(size=(N, 1, 5, 5)), Convolutional()),
        "attention": lambda: (rng.normal(size=(N, 3, 4)), Attentive()),
        "lstm": lambda: (rng.integers(0, 6, size=(N, 4)), Recurrent()),
    }[name]()
    return classifier(module, **options), X, rng.integers(0, N_CLASSES, size=N)


def point(risk, seed=1):
    """Parameters away from where the net stands."""
    return risk.parameters() + 0.3 * torch.randn(risk.n_parameters, generator=torch.Generator().manual_seed(seed))


def vector(risk, seed=2):
    return torch.randn(risk.n_parameters, generator=torch.Generator().manual_seed(seed), dtype=risk.dtype)


def output_at(net, w, X):
    """The module's output, in eval mode, by a way of its own."""
    module = copy.deepcopy(net.module_).eval()
    trainable = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    parts = w.split([p.numel() for _, p in trainable])
    values = {name: part.view(p.shape) for (name, p), part in zip(trainable, parts, strict=True)}
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return torch.func.functional_call(module, values, (torch.from_numpy(X),))


def reference(net, X, y):
    """F over all rows with PyTorch's own mean, without the penalty."""
    return lambda w: net.criterion_(output_at(net, w, X), torch.from_numpy(y))


def dense(product, d):
    return torch.stack([product(e) for e in torch.eye(d, dtype=torch.float64)], 1)


def central(function, w, v, step=1e-5):
    return (function(w + step * v) - function(w - step * v)) / (2 * step)


def close(a, b, tol=1e-10):
    a, b = (torch.as_tensor(each, dtype=torch.float64) for each in (a, b))
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


MODELS = ["mlp", "cnn", "attention", "lstm"]


# ------------------------------------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("name", MODELS)
def test_value_and_gradient(name):
    net, X, y = problem(name)
    risk = EmpiricalRisk(net, X, y)
    w, v = point(risk), vector(risk)
    function = reference(net, X, y)
    leaf = w.clone().requires_grad_()
    close(risk.value(w), function(w), 1e-12)
    close(risk.gradient(w), torch.autograd.grad(function(leaf), leaf)[0], 1e-11)
    close(risk.gradient(w) @ v, central(risk.value, w, v), 1e-7)
    value, gradient = risk.value_and_gradient(w)
    local = risk.linearise(w)
    assert value == local.value == pytest.approx(risk.value(w), rel=1e-13)
    close(gradient, risk.gradient(w), 0)
    close(gradient, local.gradient, 1e-13)


@pytest.mark.parametrize("name", MODELS)
def test_hessian(name):
    net, X, y = problem(name)
    risk = EmpiricalRisk(net, X, y)
    w, v = point(risk), vector(risk)
    local = risk.linearise(w)
    exact = torch.autograd.functional.hessian(reference(net, X, y), w)
    close(dense(local.hessian, len(w)), exact, 1e-9)
    close(local.hessian(v), central(risk.gradient, w, v), 1e-6)
    assert local.n_products == len(w) + 1


@pytest.mark.parametrize("name", MODELS)
def test_gauss_newton_and_fisher_of_cross_entropy(name):
    net, X, y = problem(name)
    risk = EmpiricalRisk(net, X, y)
    w = point(risk)
    local = risk.linearise(w)
    J = torch.autograd.functional.jacobian(lambda q: output_at(net, q, X), w)
    p = output_at(net, w, X).softmax(1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    exact = torch.einsum("ncd,nce,nef->df", J, inner, J) / N
    close(dense(local.ggn, len(w)), exact, 1e-10)
    close(dense(local.fisher, len(w)), exact, 1e-10)


def explicit_fisher(net, X, w, log_likelihood):
    """By its definition: outer products of gradients for every label, by the model's probability of it."""
    scores = torch.autograd.functional.jacobian(lambda q: log_likelihood(output_at(net, q, X)), w)
    p = log_likelihood(output_at(net, w, X)).exp()
    return torch.einsum("nc,ncd,nce->nde", p, scores, scores)


def test_fisher_of_probabilities_is_that_of_logits():
    net, X, y = problem("mlp", criterion=nn.CrossEntropyLoss)
    risk = EmpiricalRisk(net, X, y)
    w = point(risk)
    exact = explicit_fisher(net, X, w, lambda out: out.log_softmax(1)).mean(0)
    with_softmax = classifier(nn.Sequential(net.module_, nn.Softmax(dim=1)), nn.NLLLoss)
    with_log_softmax = build(NeuralNet, nn.Sequential(net.module_, nn.LogSoftmax(dim=1)), nn.NLLLoss)
    for each in (net, with_softmax, with_log_softmax):
        local = EmpiricalRisk(each, X, y).linearise(w)
        close(dense(local.fisher, len(w)), exact, 1e-9)
        assert local.value == pytest.approx(risk.value(w), rel=1e-12)


def test_fisher_honours_class_and_sample_weights():
    cw = torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64)
    net, X, y = problem("mlp", criterion__weight=cw)
    weight = np.random.default_rng(3).uniform(size=N)
    risk = EmpiricalRisk(net, X, y, weight)
    w = point(risk)
    masses = torch.from_numpy(weight) * cw[y]
    per_row = explicit_fisher(net, X, w, lambda out: out.log_softmax(1))
    exact = torch.einsum("n,nde->de", masses, per_row) / masses.sum()
    local = risk.linearise(w)
    close(dense(local.fisher, len(w)), exact)
    close(dense(local.ggn, len(w)), exact)


def test_gauss_newton_with_two_positions_a_row_and_padding():
    net = classifier(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Unflatten(1, (3, 2))), criterion__ignore_index=2)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(N, 4)), rng.integers(0, 3, size=(N, 2))
    y[0] = 2  # a row that is all padding
    risk = EmpiricalRisk(net, X, y)
    w = point(risk)
    local = risk.linearise(w)
    close(local.value, reference(net, X, y)(w), 1e-12)
    assert risk.mass == np.mean(y != 2, axis=1).sum()
    close(local.fisher(vector(risk)), local.ggn(vector(risk)))


def test_regression_with_several_outputs():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(N, 4)), rng.normal(size=(N, 2))
    net = build(NeuralNetRegressor, mlp(2), nn.MSELoss)
    risk = EmpiricalRisk(net, X, y)
    w = point(risk)
    local = risk.linearise(w)
    close(local.value, reference(net, X, y)(w), 1e-12)
    close(dense(local.hessian, len(w)), torch.autograd.functional.hessian(reference(net, X, y), w), 1e-9)
    J = torch.autograd.functional.jacobian(lambda q: output_at(net, q, X), w).reshape(2 * N, -1)
    close(dense(local.ggn, len(w)), J.T @ J / N)
    close(dense(local.fisher, len(w)), J.T @ J / N)


def test_binary_classifier():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(N, 4)), rng.integers(0, 2, size=N).astype(float)
    net = build(NeuralNetBinaryClassifier, mlp(1), nn.BCEWithLogitsLoss)
    risk = EmpiricalRisk(net, X, y)
    w = point(risk)
    local = risk.linearise(w)
    z = output_at(net, w, X)[:, 0]
    close(local.value, nn.functional.binary_cross_entropy_with_logits(z, torch.from_numpy(y)), 1e-12)
    J = torch.autograd.functional.jacobian(lambda q: output_at(net, q, X)[:, 0], w)
    p = z.sigmoid()
    close(dense(local.fisher, len(w)), (J.T * (p * (1 - p) / N)) @ J)
    close(dense(local.ggn, len(w)), (J.T * (p * (1 - p) / N)) @ J)


def test_bernoulli_fisher_with_weights_of_its_own():
    torch.manual_seed(0)
    X = np.random.default_rng(0).normal(size=(N, 4))
    y = np.random.default_rng(1).integers(0, 2, size=(N, 2)).astype(float)
    pos, el = torch.tensor([3.0, 0.5], dtype=torch.float64), torch.tensor([2.0, 0.1], dtype=torch.float64)
    net = build(NeuralNet, mlp(2), nn.BCEWithLogitsLoss, criterion__pos_weight=pos, criterion__weight=el)
    risk = EmpiricalRisk(net, X, y)
    w = point(risk)
    J = torch.autograd.functional.jacobian(lambda q: output_at(net, q, X), w)
    p = output_at(net, w, X).sigmoid()
    squares = el * (p * (pos * (1 - p)) ** 2 + (1 - p) * p**2)
    close(dense(risk.linearise(w).fisher, len(w)), torch.einsum("nk,nkd,nke->de", squares, J, J) / (2 * N))
    close(risk.value(w), reference(net, X, y)(w), 1e-12)


def test_fisher_of_another_criterion():
    net = build(NeuralNetRegressor, mlp(1), nn.HuberLoss)
    local = (risk := EmpiricalRisk(net, np.ones((3, 4)), np.ones((3, 1)))).linearise(risk.parameters())
    with pytest.raises(NotImplementedError, match=r"HuberLoss.*ggn"):
        local.fisher(vector(risk))
    assert torch.isfinite(local.ggn(vector(risk))).all()


def test_gauss_newton_of_a_loss_without_curvature():
    net = build(NeuralNetRegressor, mlp(1), nn.L1Loss)
    risk = EmpiricalRisk(net, np.ones((3, 4)), np.ones((3, 1)))
    close(risk.linearise(risk.parameters()).ggn(vector(risk)), torch.zeros(risk.n_parameters), 0)


def test_gauss_newton_needs_one_output():
    class TwoOutputs(NeuralNetClassifier):
        def infer(self, x, **fit_params):
            out = super().infer(x, **fit_params)
            return out, out.square()

        def get_loss(self, y_pred, y_true, *args, **kwargs):
            return super().get_loss(y_pred[0], y_true, *args, **kwargs)

    net = build(TwoOutputs, mlp(), nn.CrossEntropyLoss)
    plain, X, y = problem("mlp")
    net.module_.load_state_dict(plain.module_.state_dict())
    risk = EmpiricalRisk(net, X, y)
    local = risk.linearise(risk.parameters())
    close(local.gradient, EmpiricalRisk(plain, X, y).gradient(risk.parameters()))
    assert torch.isfinite(local.hessian(vector(risk))).all()
    with pytest.raises(TypeError, match="single tensor, got tuple"):
        local.ggn(vector(risk))


def test_float32():
    net, X, y = problem("mlp")
    risk = EmpiricalRisk(net, X, y)
    w, v = point(risk), vector(risk)
    exact = risk.linearise(w)
    net.module_.float()
    single = EmpiricalRisk(net, X.astype(np.float32), y)
    local = single.linearise(w.float())
    assert local.gradient.dtype == local.hessian(v.float()).dtype == local.fisher(v.float()).dtype == torch.float32
    assert local.value == pytest.approx(exact.value, rel=1e-6)
    close(local.gradient.double(), exact.gradient, 1e-5)
    for name in ("hessian", "ggn", "fisher"):
        close(getattr(local, name)(v.float()).double(), getattr(exact, name)(v), 1e-5)


# ------------------------------------------------------------------------------------------------- masses and criteria


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.0, 5.0), min_size=3, max_size=3).filter(lambda c: sum(c) > 0.1),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([-100, 1]),
    st.integers(0, 2**31 - 1),
)
def test_cross_entropy_mean_is_pytorchs(cw, smoothing, ignore_index, seed):
    cw = torch.tensor(cw, dtype=torch.float64)
    net, X, y = problem(
        "mlp",
        seed,
        criterion__weight=cw,
        criterion__label_smoothing=smoothing,
        criterion__ignore_index=ignore_index,
    )
    risk = EmpiricalRisk(net, X, y, chunk_size=4)
    w = point(risk)
    masses = np.where(y == ignore_index, 0.0, cw.numpy()[y])
    assert risk.mass == pytest.approx(masses.sum(), rel=1e-14, abs=1e-15)
    if masses.sum() > 1e-6:
        close(risk.value(w), reference(net, X, y)(w), 1e-10)
        leaf = w.clone().requires_grad_()
        close(risk.gradient(w), torch.autograd.grad(reference(net, X, y)(leaf), leaf)[0], 1e-8)
        if smoothing == 0:
            losses = risk.losses(w).numpy()
            plain = nn.functional.cross_entropy(output_at(net, w, X), torch.from_numpy(y), reduction="none").numpy()
            np.testing.assert_allclose(losses[masses > 1e-6], plain[masses > 1e-6], rtol=1e-10)


def test_class_probabilities_as_targets():
    net, X, _ = problem("mlp", criterion__weight=torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    y = np.random.default_rng(0).dirichlet(np.ones(3), size=N)
    risk = EmpiricalRisk(net, X, y)
    close(risk.value(point(risk)), reference(net, X, y)(point(risk)), 1e-12)
    assert risk.mass == N


def test_nll_with_class_weights_through_skorch():
    module = nn.Sequential(mlp(), nn.Softmax(dim=1))
    cw = torch.tensor([0.2, 1.0, 4.0], dtype=torch.float64)
    net = classifier(module, nn.NLLLoss, criterion__weight=cw)
    _, X, y = problem("mlp")
    risk = EmpiricalRisk(net, X, y)
    net.module_.eval()
    expected = net.get_loss(net.infer(torch.from_numpy(X)), torch.from_numpy(y))
    close(risk.value(risk.parameters()), expected.detach(), 1e-12)
    assert net.criterion_.reduction == "mean"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=N, max_size=N).filter(any), st.booleans())
def test_integer_weight_is_a_repeated_row(weight, class_weighted):
    cw = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64) if class_weighted else None
    net, X, y = problem("mlp", criterion__weight=cw, optimizer__weight_decay=0.1)
    weighted = EmpiricalRisk(net, X, y, np.array(weight))
    repeated = EmpiricalRisk(net, np.repeat(X, weight, axis=0), np.repeat(y, weight))
    w, v = point(weighted), vector(weighted)
    assert weighted.mass == pytest.approx(repeated.mass, rel=1e-14)
    a, b = weighted.linearise(w), repeated.linearise(w)
    close(a.value, b.value, 1e-13)
    close(a.gradient, b.gradient, 1e-12)
    for name in ("hessian", "ggn", "fisher"):
        close(getattr(a, name)(v), getattr(b, name)(v), 1e-12)


def test_parts_of_the_risk_add_up_by_mass():
    net, X, y = problem("mlp", criterion__weight=torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64))
    weight = np.random.default_rng(0).uniform(size=N)
    mask = np.random.default_rng(1).random(N) < 0.6
    whole = EmpiricalRisk(net, X, y, weight)
    parts = [EmpiricalRisk(net, X, y, weight, mask=m) for m in (mask, ~mask)]
    w = point(whole)
    close(sum(p.mass * p.gradient(w) for p in parts), whole.mass * whole.gradient(w))
    assert whole.mass == pytest.approx(sum(p.mass for p in parts), rel=1e-14)
    assert [p.n_rows for p in parts] == [mask.sum(), (~mask).sum()]
    known = EmpiricalRisk(net, X, y, weight, mask=mask, mass=parts[0].mass)
    assert (known.mass, known.value(w)) == (parts[0].mass, parts[0].value(w))
    assert torch.equal(known.gradient(w), parts[0].gradient(w))
    copied = EmpiricalRisk(net, X[mask], y[mask], weight[mask])
    close(parts[0].linearise(w).hessian(w), copied.linearise(w).hessian(w), 1e-13)
    rows = np.flatnonzero(mask)
    close(whole.gradient(w, rows), parts[0].gradient(w), 1e-14)
    close(whole.mass_of(rows), parts[0].mass, 1e-14)
    close(whole.losses(w, rows), parts[0].losses(w), 1e-14)


def test_rows_without_mass_have_no_data_term():
    net, X, y = problem("mlp", optimizer__weight_decay=0.5)
    risk = EmpiricalRisk(net, X, y, np.r_[np.zeros(3), np.ones(N - 3)])
    w = point(risk)
    for rows in (np.arange(3), np.arange(0)):
        close(risk.value(w, rows), 0.25 * w @ w)
        close(risk.gradient(w, rows), 0.5 * w)
        close(risk.linearise(w, rows).hessian(w), 0.5 * w)
    assert risk.losses(w, np.arange(0)).shape == (0,)


@pytest.mark.parametrize("by_iterator", [False, True])
def test_chunks_change_nothing(by_iterator):
    net, X, y = problem("cnn", optimizer__weight_decay=0.1)
    weight = np.random.default_rng(0).uniform(size=N)
    whole = EmpiricalRisk(net, X, y, weight)
    w, v, rows = point(whole), vector(whole), np.array([7, 1, 2, 9, 4])
    if by_iterator:
        # Batches of the net's own would lose a row.
        options = {"collate_fn": torch.utils.data.default_collate, "batch_size": 2, "drop_last": True}
        net, _, _ = problem(
            "cnn", optimizer__weight_decay=0.1, **{f"iterator_valid__{k}": option for k, option in options.items()}
        )
    for size in (1, 2, 4):
        cut = EmpiricalRisk(net, X, y, weight, chunk_size=size)
        assert cut.chunk_size == size
        for selection in (None, rows):
            a, b = whole.linearise(w, selection), cut.linearise(w, selection)
            close(cut.value(w, selection), a.value, 1e-13)
            close(b.value, a.value, 1e-13)
            close(cut.gradient(w, selection), a.gradient, 1e-12)
            close(cut.losses(w, selection), whole.losses(w, selection), 1e-12)
            for name in ("hessian", "ggn", "fisher"):
                close(getattr(b, name)(v), getattr(a, name)(v), 1e-12)


def test_memory_budget_bounds_chunks_and_kept_graphs():
    net, X, y = problem("cnn")
    sizes = []
    net.module_.register_forward_hook(lambda module, args, output: sizes.append(len(output)))
    w, v = point(EmpiricalRisk(net, X, y)), vector(EmpiricalRisk(net, X, y))
    kept = EmpiricalRisk(net, X, y, chunk_size=4).linearise(w)
    rebuilt_rows = set()
    for budget in (2**k for k in range(21)):
        local = EmpiricalRisk(net, X, y, chunk_size=4, memory_budget=budget).linearise(w)
        for name in ("hessian", "ggn", "fisher"):
            sizes.clear()
            close(getattr(local, name)(v), getattr(kept, name)(v), 1e-13)
            rebuilt_rows.add(tuple(sizes))
    # From all that is built again for each product to nothing, the graphs of the first chunks being the ones kept.
    assert rebuilt_rows == {(3, 4, 4), (4, 4), (4,), ()}
    assert EmpiricalRisk(net, X, y, memory_budget=1).chunk_size == 1


def test_chunks_follow_a_limit_on_the_address_space(monkeypatch):
    resource = pytest.importorskip("resource")
    net, X, y = problem("cnn")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8 * 2**14, resource.RLIM_INFINITY))
    limited, bounded = EmpiricalRisk(net, X, y), EmpiricalRisk(net, X, y, memory_budget=2**14)
    assert limited.chunk_size == bounded.chunk_size
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    unlimited = EmpiricalRisk(net, X, y)
    assert limited.chunk_size < unlimited.chunk_size
    w = point(unlimited)
    close(limited.gradient(w), unlimited.gradient(w), 1e-12)


def test_memory_of_a_row_is_measured():
    """Twice the width saves twice the bytes, whatever the number of parameters."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 4)), rng.integers(0, 3, size=8)
    nets = [classifier(nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3))) for width in (1000, 2000)]
    budget = 2**23
    # A kept chunk holds four times what its forward pass saves, and there is to be room for four.
    sizes = [budget / 16 / EmpiricalRisk(net, X, y, memory_budget=budget).chunk_size for net in nets]
    assert 8000 <= sizes[1] - sizes[0] <= 16000


def test_graphs_are_freed_at_once():
    net, X, y = problem("mlp")
    outputs = []
    net.module_.register_forward_hook(lambda module, args, output: outputs.append(weakref.ref(output)))
    risk = EmpiricalRisk(net, X, y)
    gc.disable()
    try:
        local = risk.linearise(risk.parameters())
        for name in ("hessian", "ggn", "fisher"):
            getattr(local, name)(vector(risk))
        assert outputs[-1]() is not None
        del local
        assert outputs[-1]() is None
    finally:
        gc.enable()


def test_criterion_that_sums():
    """The penalty's balance is that of the batches the net was trained on."""
    batch, decay = 4, 0.3
    net, X, y = problem("mlp", criterion__reduction="sum", batch_size=batch, optimizer__weight_decay=decay)
    risk = EmpiricalRisk(net, X, y)
    w = point(risk)
    mean = nn.functional.cross_entropy(output_at(net, w, X), torch.from_numpy(y))
    close(risk.value(w), batch * mean + decay / 2 * w @ w, 1e-12)
    assert net.criterion_.reduction == "sum"
    net.set_params(batch_size=-1)
    net.initialize().partial_fit(X[:7], y[:7])
    w = risk.parameters()
    mean = nn.functional.cross_entropy(output_at(net, w, X), torch.from_numpy(y))
    close(EmpiricalRisk(net, X, y).value(w), 7 * mean + decay / 2 * w @ w, 1e-12)
    close(EmpiricalRisk(net, X, y).linearise(w).fisher(w), EmpiricalRisk(net, X, y).linearise(w).ggn(w))


# ------------------------------------------------------------------------------------------------------ weight decay


def test_weight_decay_by_parameter_group():
    groups = [("*.bias", {"weight_decay": 0.0}), ("0.*", {"weight_decay": 0.7})]
    net, X, y = problem("mlp", optimizer__weight_decay=0.2, optimizer__param_groups=groups)
    net.module_.register_parameter("spare", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    net.optimizer_.add_param_group({"params": [net.module_.spare], "weight_decay": 0.9})
    risk = EmpiricalRisk(net, X, y)
    bare = EmpiricalRisk(problem("mlp")[0], X, y)
    w, v = point(risk), vector(risk)
    decay = torch.zeros_like(w)
    decay[risk.parameter_slices["0.weight"]] = 0.7
    decay[risk.parameter_slices["3.weight"]] = 0.2
    decay[risk.parameter_slices["spare"]] = 0.9
    inner = [k for name in bare.parameter_slices for k in range(len(w))[risk.parameter_slices[name]]]
    close(risk.value(w), bare.value(w[inner]) + 0.5 * (decay * w) @ w, 1e-12)
    expected = decay * w
    expected[inner] += bare.gradient(w[inner])
    close(risk.gradient(w), expected, 1e-12)
    local, plain = risk.linearise(w), bare.linearise(w[inner])
    for name in ("hessian", "ggn", "fisher"):
        expected = decay * v
        expected[inner] += getattr(plain, name)(v[inner])
        close(getattr(local, name)(v), expected, 1e-12)


@pytest.mark.parametrize(
    ("optimizer", "options", "counts"),
    [
        (torch.optim.SGD, {}, True),
        (torch.optim.Adam, {}, True),
        (torch.optim.RMSprop, {}, True),
        (torch.optim.Adagrad, {}, True),
        (torch.optim.AdamW, {}, False),
        (torch.optim.NAdam, {"optimizer__decoupled_weight_decay": True}, False),
        (torch.optim.RAdam, {"optimizer__decoupled_weight_decay": False}, True),
    ],
)
def test_only_coupled_decay_belongs_to_the_risk(optimizer, options, counts):
    net, X, y = problem("mlp", optimizer=optimizer, optimizer__weight_decay=0.4, **options)
    risk = EmpiricalRisk(net, X, y)
    w = point(risk)
    close(risk.value(w) - reference(net, X, y)(w), 0.2 * w @ w if counts else 0.0, 1e-12)


def test_no_optimizer():
    net, X, y = problem("mlp", optimizer__weight_decay=0.4)
    del net.optimizer_
    risk = EmpiricalRisk(net, X, y)
    close(risk.value(point(risk)), reference(net, X, y)(point(risk)), 1e-12)


# -------------------------------------------------------------------------------------------------------- parameters


def test_frozen_parameters_stay_out():
    net, X, y = problem("mlp")
    everything = EmpiricalRisk(net, X, y)
    full = everything.linearise(everything.parameters())
    net.module_[0].weight.requires_grad_(False)
    risk = EmpiricalRisk(net, X, y)
    assert list(risk.parameter_slices) == ["0.bias", "3.weight", "3.bias"]
    assert risk.n_parameters == sum(p.numel() for p in net.module_.parameters() if p.requires_grad)
    keep = slice(everything.parameter_slices["0.bias"].start, None)
    local, v = risk.linearise(risk.parameters()), vector(risk)
    close(local.gradient, full.gradient[keep], 1e-13)
    padded = torch.zeros(everything.n_parameters, dtype=torch.float64)
    padded[keep] = v
    close(local.hessian(v), full.hessian(padded)[keep], 1e-12)
    assert not net.module_[0].weight.requires_grad


def test_tied_parameters_and_shared_modules():
    shared = nn.Linear(4, 4)
    tied = nn.Linear(4, 4)
    tied.weight = shared.weight
    net = classifier(nn.Sequential(shared, nn.Tanh(), tied, nn.Tanh(), shared))
    _, X, y = problem("mlp")
    before = dict(net.module_.named_parameters(remove_duplicate=False))
    risk = EmpiricalRisk(net, X, y)
    assert list(risk.parameter_slices) == ["0.weight", "0.bias", "2.bias"]
    w, v = point(risk), vector(risk)

    def value(q):
        W, b, c = q[:16].view(4, 4), q[16:20], q[20:]
        h = torch.tanh(torch.tanh(torch.from_numpy(X) @ W.T + b) @ W.T + c)
        return nn.functional.cross_entropy(h @ W.T + b, torch.from_numpy(y))

    close(risk.value(w), value(w), 1e-12)
    close(risk.linearise(w).hessian(v), torch.autograd.functional.hvp(value, w, v)[1], 1e-10)
    after = dict(net.module_.named_parameters(remove_duplicate=False))
    assert all(after[name] is before[name] for name in before)
    close(flat_parameters(net), risk.parameters(), 0)


def test_unused_parameters_have_no_derivative():
    net, X, y = problem("mlp")
    net.module_.register_parameter("spare", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    risk = EmpiricalRisk(net, X, y)
    local = risk.linearise(risk.parameters())
    v = torch.ones(risk.n_parameters, dtype=torch.float64)
    spare = risk.parameter_slices["spare"]
    for each in (local.gradient, local.hessian(v), local.ggn(v), local.fisher(v)):
        assert not each[spare].any()
        assert each.any()


def test_parameters_is_a_copy():
    net, X, y = problem("mlp")
    risk = EmpiricalRisk(net, X, y)
    w = risk.parameters()
    w += 1
    assert not w.requires_grad
    close(risk.parameters() + 1, w, 0)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda m: m.requires_grad_(False), "no trainable parameters"),
        (lambda m: m[0].float(), "one data type"),
        (lambda m: m.half(), "float32 or float64.*float16.*autocast"),
    ],
)
def test_modules_that_have_no_flat_vector(break_it, message):
    net, X, y = problem("mlp")
    break_it(net.module_)
    with pytest.raises(ValueError, match=message):
        EmpiricalRisk(net, X, y)


# -------------------------------------------------------------------------------------------- the net is left as it was


def state(net):
    module = net.module_
    return (
        {name: (id(t), t.detach().clone(), t.requires_grad) for name, t in module.named_parameters()},
        {name: (id(t), t.clone()) for name, t in module.named_buffers()},
        {name: (id(p.grad), p.grad.clone()) for name, p in module.named_parameters() if p.grad is not None},
        [m.training for m in module.modules()],
        net.criterion_.reduction,
        net.criterion_.training,
        len(net.criterion_._forward_hooks),
        [{k: [id(t) for t in v] for k, v in vars(m).items() if k == "_flat_weights"} for m in module.modules()],
    )


def assert_same_state(a, b):
    for x, y in zip(a[:3], b[:3], strict=True):
        assert x.keys() == y.keys()
        for name in x:
            assert x[name][0] == y[name][0]
            assert x[name][2:] == y[name][2:]
            close(x[name][1], y[name][1], 0)
    assert a[3:] == b[3:]


def visit_everything(risk):
    w, v = point(risk), vector(risk)
    risk.value(w), risk.gradient(w), risk.value_and_gradient(w), risk.losses(w)
    local = risk.linearise(w)
    local.hessian(v), local.ggn(v), local.fisher(v)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [True, False])
def test_net_is_untouched(name, training):
    net, X, y = problem(name)
    net.module_.train(training)
    next(net.module_.children()).train(not training)
    net.get_loss(net.infer(torch.from_numpy(X)), torch.from_numpy(y)).backward()
    before = state(net)
    visit_everything(EmpiricalRisk(net, X, y, chunk_size=5))
    assert_same_state(before, state(net))
    copy.deepcopy(net.module_)


class Counting(nn.Module):
    """Changes a buffer in eval mode, in place and by assignment."""

    def __init__(self):
        super().__init__()
        self.inner = mlp()
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("last", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        self.last = self.calls.clone()
        return self.inner(x)


def test_buffers_that_change_in_forward_are_restored():
    _, X, y = problem("mlp")
    net = classifier(Counting())
    before = state(net)
    visit_everything(EmpiricalRisk(net, X, y))
    assert_same_state(before, state(net))


@pytest.mark.parametrize("where", ["forward", "loss"])
@pytest.mark.parametrize("call", ["value", "gradient", "value_and_gradient", "losses", "linearise"])
def test_net_is_untouched_by_an_exception(where, call):
    class Fragile(NeuralNetClassifier):
        calls, armed = 0, False

        def infer(self, x, **fit_params):
            out = super().infer(x, **fit_params)
            return self.fail("forward", out)

        def get_loss(self, *args, **kwargs):
            return self.fail("loss", super().get_loss(*args, **kwargs))

        def fail(self, at, result):
            self.calls += at == where and Fragile.armed
            if Fragile.armed and at == where and self.calls == 2:
                raise KeyboardInterrupt
            return result

    _, X, y = problem("cnn")
    net = build(Fragile, Convolutional(), nn.CrossEntropyLoss)
    before = state(net)
    risk = EmpiricalRisk(net, X, y, chunk_size=4)
    risk.linearise(risk.parameters())
    Fragile.armed = True
    with pytest.raises(KeyboardInterrupt):
        getattr(risk, call)(risk.parameters())
    assert_same_state(before, state(net))
    Fragile.armed = False
    visit_everything(EmpiricalRisk(net, X, y))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_under_an_outer_context(context):
    net, X, y = problem("mlp", optimizer__weight_decay=0.1)
    risk = EmpiricalRisk(net, X, y, chunk_size=4)
    w, v = point(risk), vector(risk)
    outside = risk.linearise(w)
    with context():
        w_inside = w * 1  # an inference tensor
        inside = risk.linearise(w_inside)
        products = [getattr(inside, name)(v * 1) for name in ("hessian", "ggn", "fisher")]
        gradient = risk.gradient(w_inside)
        value = risk.value(w_inside)
        assert not torch.is_grad_enabled()
    close(gradient, outside.gradient, 1e-13)
    assert value == pytest.approx(outside.value)
    for name, product in zip(("hessian", "ggn", "fisher"), products, strict=True):
        close(product, getattr(outside, name)(v), 1e-13)


def test_results_carry_no_graph():
    net, X, y = problem("mlp")
    risk = EmpiricalRisk(net, X, y)
    w = point(risk).requires_grad_()
    local = risk.linearise(w)
    v = vector(risk).requires_grad_()
    for each in (risk.gradient(w), risk.losses(w), local.gradient, local.hessian(v), local.ggn(v), local.fisher(v)):
        assert not each.requires_grad


# ----------------------------------------------------------------------------------------- overrides, data, fallbacks


class Lasso(NeuralNetClassifier):
    """skorch's own example of an override."""

    def get_loss(self, y_pred, y_true, X=None, training=False):
        loss = super().get_loss(y_pred, y_true, X=X, training=training)
        if training:
            loss += 0.01 * sum(p.abs().sum() for p in self.module_.parameters())
        return loss


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_override_of_get_loss(reduction):
    cw = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    net = build(Lasso, mlp(), nn.CrossEntropyLoss, criterion__weight=cw, criterion__reduction=reduction, batch_size=N)
    _, X, y = problem("mlp")
    risk = EmpiricalRisk(net, X, y, chunk_size=4)
    w = point(risk)

    def value(q):
        return reference(net, X, y)(q) + 0.01 * q.abs().sum()

    leaf = w.clone().requires_grad_()
    close(risk.value(w), value(w), 1e-12)
    close(risk.gradient(w), torch.autograd.grad(value(leaf), leaf)[0], 1e-11)
    close(risk.linearise(w).hessian(w), torch.autograd.functional.hvp(value, w, w)[1], 1e-10)


class MeanOnly(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return super().get_loss(y_pred, y_true, *args, **kwargs).mean()


class NoReduction(nn.Module):
    def forward(self, output, target):
        return nn.functional.cross_entropy(output, target)


@pytest.mark.parametrize(
    ("kind", "criterion", "options"),
    [
        (MeanOnly, nn.CrossEntropyLoss, {"weight": torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)}),
        (MeanOnly, nn.CrossEntropyLoss, {"reduction": "none"}),
        (NeuralNetClassifier, NoReduction, {}),
    ],
)
def test_scalar_losses_are_means_over_rows(kind, criterion, options):
    net = build(kind, mlp(), criterion, **{f"criterion__{k}": v for k, v in options.items()})
    _, X, y = problem("mlp")
    risk = EmpiricalRisk(net, X, y, np.full(N, 2.0), chunk_size=4)
    w = point(risk)
    close(risk.value(w), reference(net, X, y)(w).mean(), 1e-12)
    weight = options.get("weight")
    rows = nn.functional.cross_entropy(output_at(net, w, X), torch.from_numpy(y), reduction="none")
    close(risk.losses(w), rows, 1e-12)
    assert weight is None or risk.mass == pytest.approx(2 * float(weight[y].sum()))
    uneven = EmpiricalRisk(net, X, y, np.arange(N))
    with pytest.raises(ValueError, match=r"sample_weight.*one number per batch.*drop sample_weight"):
        uneven.value(w)
    # Weights that differ outside of S are of no concern.
    mask = np.arange(N) < 2
    EmpiricalRisk(net, X, y, np.where(mask, 1.0, np.arange(N)), mask=mask).value(w)


def test_loss_of_a_wrong_shape():
    class Wrong(NeuralNetClassifier):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            return y_pred.sum(0)

    _, X, y = problem("mlp")
    risk = EmpiricalRisk(build(Wrong, mlp(), nn.CrossEntropyLoss), X, y)
    with pytest.raises(ValueError, match=r"shape \(3,\) for \d+ rows"):
        risk.value(risk.parameters())


def test_criterion_of_a_subclass_with_its_own_forward_is_not_taken_for_its_parent():
    class Focal(nn.CrossEntropyLoss):
        def forward(self, output, target):
            p = output.softmax(1).gather(1, target[:, None])[:, 0]
            loss = -((1 - p) ** 2) * p.log()
            return loss if self.reduction == "none" else loss.mean()

    net, X, y = problem("mlp", criterion=Focal, criterion__weight=torch.ones(3))
    risk = EmpiricalRisk(net, X, y)
    w = point(risk)
    close(risk.value(w), reference(net, X, y)(w), 1e-12)
    with pytest.raises(NotImplementedError, match="Focal"):
        risk.linearise(w).fisher(w)


class Doubling(Dataset):
    def transform(self, X, y):
        return 2 * X, y


class Batches:
    """An iterator that is no DataLoader, and gives two rows at a time."""

    def __init__(self, dataset, batch_size, drop_last=False):
        self.dataset, self.drop_last = dataset, drop_last

    def __iter__(self):
        n = len(self.dataset)
        for start in range(0, n - 1 if self.drop_last else n, 2):
            items = [self.dataset[i] for i in range(start, min(start + 2, n))]
            yield torch.utils.data.default_collate(items)


@pytest.mark.parametrize("options", [{}, {"iterator_valid": Batches}])
def test_custom_dataset_and_iterator(options):
    net, X, y = problem("mlp", dataset=Doubling, **options)
    plain = EmpiricalRisk(net_without_dataset(net), 2 * X, y)
    risk = EmpiricalRisk(net, X, y)
    w = point(risk)
    a, b = risk.linearise(w), plain.linearise(w)
    close(a.value, b.value, 1e-13)
    close(a.hessian(w), b.hessian(w), 1e-12)
    close(risk.losses(w, np.array([3, 1, 2])), plain.losses(w, np.array([3, 1, 2])), 1e-13)


def net_without_dataset(net):
    return classifier(net.module_)


def test_iterator_that_loses_rows():
    net, X, y = problem("mlp", iterator_valid=Batches, iterator_valid__drop_last=True)
    risk = EmpiricalRisk(net, X, y)
    with pytest.raises(ValueError, match="gave 10 of 11 rows"):
        risk.value(risk.parameters())


def test_read_only_and_strided_arrays():
    net, X, y = problem("mlp")
    risk = EmpiricalRisk(net, X, y)
    w = point(risk)
    frozen, reversed_y = X.copy(), y[::-1].copy()[::-1]
    frozen.setflags(write=False)
    other = EmpiricalRisk(net, np.asfortranarray(frozen), reversed_y)
    close(other.gradient(w), risk.gradient(w), 1e-14)


class _OnceDifferentiableTanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x.tanh()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient * (1 - y**2)


class OnceDifferentiable(nn.Module):
    def forward(self, x):
        return _OnceDifferentiableTanh.apply(x)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        return a * b

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("derivative for product is not implemented")


class _TanhByProduct(_OnceDifferentiableTanh):
    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return _Product.apply(gradient, 1 - y**2)


class Raising(nn.Module):
    """Fails in the second backward pass, as PyTorch's kernels without a second derivative do."""

    def forward(self, x):
        return _TanhByProduct.apply(x)


@pytest.mark.parametrize("kind", [OnceDifferentiable, Raising])
@pytest.mark.parametrize("first", ["hessian", "ggn", "fisher"])
def test_no_second_derivatives(first, kind, caplog):
    net, X, y = problem("mlp", optimizer__weight_decay=0.1)
    risk = EmpiricalRisk(net, X, y)
    w, v = point(risk), vector(risk)
    exact = risk.linearise(w)
    net.module_[1] = kind()
    once = EmpiricalRisk(net, X, y, chunk_size=4)
    with caplog.at_level(logging.WARNING, logger="sk_unlearn"):
        for _ in range(2):
            local = once.linearise(w)
            for name in (first, "hessian", "ggn", "fisher"):
                close(getattr(local, name)(v), getattr(exact, name)(v), 1e-8)
                close(getattr(local, name)(0 * v), 0 * v, 0)
            close(local.gradient, exact.gradient, 1e-13)
    assert len(caplog.records) == 1
    assert "central differences" in caplog.text


def test_compiled_module():
    cw = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    plain, X, y = problem("mlp", criterion__weight=cw)
    net = classifier(copy.deepcopy(plain.module_), compile=True, compile__backend="eager", criterion__weight=cw)
    module, criterion = net.module_, net.criterion_
    risk, expected = EmpiricalRisk(net, X, y), EmpiricalRisk(plain, X, y)
    w, v = point(risk), vector(risk)
    local = risk.linearise(w)
    close(local.value, expected.value(w), 1e-13)
    for name in ("hessian", "ggn", "fisher"):
        close(getattr(local, name)(v), getattr(expected.linearise(w), name)(v), 1e-12)
    assert list(risk.parameter_slices) == list(expected.parameter_slices)
    assert net.module_ is module
    assert net.criterion_ is criterion


def test_checkpointed_modules_run_again_at_the_right_parameters():
    class Checkpointed(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.inner, x, use_reentrant=False)

    net, X, y = problem("mlp")
    risk = EmpiricalRisk(net, X, y)
    w, v = point(risk), vector(risk)
    local = EmpiricalRisk(classifier(Checkpointed(net.module_)), X, y).linearise(w)
    close(local.gradient, risk.gradient(w), 1e-13)
    for name in ("hessian", "ggn"):
        close(getattr(local, name)(v), getattr(risk.linearise(w), name)(v), 1e-12)


def test_output_independent_of_the_parameters():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.spare = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return x[:, :3]

    _, X, y = problem("mlp")
    risk = EmpiricalRisk(classifier(Constant()), X, y)
    local = risk.linearise(risk.parameters())
    v = torch.ones(2, dtype=torch.float64)
    for each in (risk.gradient(v), local.gradient, local.hessian(v), local.ggn(v), local.fisher(v)):
        close(each, torch.zeros(2), 0)


# -------------------------------------------------------------------------------------------------- sampling, arguments


@pytest.mark.parametrize("masked", [False, True])
def test_sample_is_uniform_without_replacement(masked):
    net = classifier()
    n = 40
    mask = np.arange(n) % 2 == 0 if masked else None
    risk = EmpiricalRisk(net, np.zeros((n, 4)), np.zeros(n, dtype=np.int64), mask=mask)
    rng = np.random.default_rng(0)
    counts = np.zeros(n)
    draws = 2000
    for _ in range(draws):
        rows = risk.sample(8, rng)
        assert rows.dtype == np.int64
        assert len(np.unique(rows)) == 8
        counts[rows] += 1
    inside = np.flatnonzero(mask) if masked else np.arange(n)
    assert counts.sum() == counts[inside].sum()
    share = 8 / len(inside)
    # Five standard deviations of a binomial count.
    assert np.abs(counts[inside] / draws - share).max() < 5 * np.sqrt(share * (1 - share) / draws)
    np.testing.assert_array_equal(risk.sample(1000, rng), inside)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": np.zeros(2, dtype=int)}, r"y must have one entry for each of the 3 rows of X, got 2"),
        ({"sample_weight": np.ones(2)}, r"sample_weight must have shape \(3,\)"),
        ({"sample_weight": np.array([1.0, -1.0, 1.0])}, "finite and non-negative"),
        ({"sample_weight": np.array([1.0, np.nan, 1.0])}, "finite and non-negative"),
        ({"mask": np.array([0, 1, 1])}, r"mask must be a bool array of shape \(3,\), got int64"),
        ({"mask": np.ones(2, dtype=bool)}, r"mask must be a bool array of shape \(3,\)"),
        ({"chunk_size": 0}, "chunk_size must be None or at least 1, got 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        EmpiricalRisk(classifier(), **{"X": np.zeros((3, 4)), "y": np.zeros(3, dtype=int), **arguments})


def test_bad_vectors_and_rows():
    net, X, y = problem("mlp")
    risk = EmpiricalRisk(net, X, y)
    with pytest.raises(ValueError, match="w must be a vector of 43 entries, got shape"):
        risk.value(torch.zeros(3))
    with pytest.raises(ValueError, match="v must be a vector of 43 entries"):
        risk.linearise(risk.parameters()).hessian(torch.zeros(43, 1))
    with pytest.raises(TypeError, match="rows must be a vector of integer row indices, got bool"):
        risk.value(risk.parameters(), np.ones(N, dtype=bool))


# ------------------------------------------------------------------------------------------------------- training loss


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weighted_loss_of_repeated_rows(reduction):
    cw = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    net, _, y = problem("mlp", criterion__weight=cw, criterion__reduction=reduction)
    weight = np.random.default_rng(0).integers(0, 3, size=N)
    output, target = torch.randn(N, 3, dtype=torch.float64), torch.from_numpy(y)
    loss = weighted_loss(net, net.get_loss, output, target, torch.from_numpy(weight.astype(float)))
    again = torch.from_numpy(np.repeat(np.arange(N), weight))
    close(loss, net.get_loss(output[again], target[again]), 1e-12)
    assert net.criterion_.reduction == reduction


def test_weighted_loss_is_the_data_term():
    net, X, y = problem("mlp", criterion__weight=torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64))
    weight = np.random.default_rng(0).uniform(size=N)
    risk = EmpiricalRisk(net, X, y, weight)
    net.module_.eval()
    loss = weighted_loss(
        net, net.get_loss, net.infer(torch.from_numpy(X)), torch.from_numpy(y), torch.from_numpy(weight)
    )
    close(loss.detach(), risk.value(risk.parameters()), 1e-12)
    loss.backward()
    close(torch.cat([p.grad.flatten() for p in net.module_.parameters()]), risk.gradient(risk.parameters()), 1e-12)


def test_weighted_loss_of_a_scalar():
    net = build(MeanOnly, mlp(), nn.CrossEntropyLoss)
    output, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    loss = weighted_loss(net, net.get_loss, output, target, torch.full((4,), 2.0))
    close(loss, nn.functional.cross_entropy(output, target), 1e-6)
    with pytest.raises(ValueError, match="sample_weight"):
        weighted_loss(net, net.get_loss, output, target, torch.arange(4.0))


@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
def test_cuda_agrees_with_cpu(name):
    net, X, y = problem(name, optimizer__weight_decay=0.1)
    risk = EmpiricalRisk(net, X, y)
    w, v = point(risk), vector(risk)
    host = risk.linearise(w)
    on_gpu = classifier(copy.deepcopy(net.module_), device="cuda", optimizer__weight_decay=0.1)
    device_risk = EmpiricalRisk(on_gpu, X, y, chunk_size=4)
    before = state(on_gpu)
    local = device_risk.linearise(w)
    assert local.gradient.is_cuda
    assert local.value == pytest.approx(host.value, rel=1e-10)
    close(local.gradient.cpu(), host.gradient, 1e-9)
    for product in ("hessian", "ggn", "fisher"):
        close(getattr(local, product)(v).cpu(), getattr(host, product)(v), 1e-8)
    assert_same_state(before, state(on_gpu))


class TestDoorsForBatches:
    """What the first-order algorithms ask of a risk beyond value and gradient."""

    def risk(self, name="mlp", **options):
        net, X, y = problem(name, optimizer__weight_decay=0.3, **options)
        weight = np.linspace(0.5, 2, N)
        return EmpiricalRisk(net, X, y, weight, mask=np.arange(N) != 3, chunk_size=4)

    def test_row_gradients_add_up(self):
        risk = self.risk("cnn", criterion__weight=torch.tensor([1.0, 2.0, 0.5]).double())
        w, rows = risk.parameters(), np.array([9, 1, 4])
        parts = risk.row_gradients(w, rows)
        torch.testing.assert_close(parts.sum(0) + risk.penalty_gradient(w), risk.gradient(w, rows))
        alone = risk.gradient(w, rows[1:2]) - risk.penalty_gradient(w)
        torch.testing.assert_close(parts[1], risk.mass_of(rows[1:2]) / risk.mass_of(rows) * alone)
        assert risk.row_gradients(w).shape == (N - 1, len(w))

    def test_row_gradients_refuse_a_loss_that_is_one_number(self):
        class Total(nn.Module):
            def forward(self, output, target):
                return nn.functional.cross_entropy(output, target)

        net, X, y = problem("mlp", criterion=Total)
        risk = EmpiricalRisk(net, X, y)
        with pytest.raises(ValueError, match="one number for a batch"):
            risk.row_gradients(risk.parameters())

    @pytest.mark.parametrize("name", ["mlp", "cnn", "attention"])
    def test_hessian_rows_are_products_one_by_one(self, name):
        risk = self.risk(name)
        w = risk.parameters()
        V = torch.randn(5, len(w), dtype=torch.float64)
        local = risk.linearise(w)
        torch.testing.assert_close(local.hessian_rows(V), torch.stack([local.hessian(v) for v in V]))

    def test_hessian_rows_without_second_derivatives(self):
        risk = self.risk()
        w = risk.parameters()
        V = torch.randn(2, len(w), dtype=torch.float64)
        expected = risk.linearise(w).hessian_rows(V)
        risk.net.module_[1] = OnceDifferentiable()
        once = EmpiricalRisk(risk.net, risk.X, risk.y, risk.sample_weight, mask=np.arange(N) != 3)
        torch.testing.assert_close(once.linearise(w).hessian_rows(V), expected, rtol=1e-5, atol=1e-6)

    def test_batches_of_a_module_with_an_unused_parameter(self):
        class Partly(nn.Module):
            def __init__(self):
                super().__init__()
                self.used, self.idle = nn.Linear(3, 2), nn.Linear(3, 2)

            def forward(self, x):
                return self.used(x)

        net = NeuralNet(Partly().double(), nn.CrossEntropyLoss, optimizer__weight_decay=0.3).initialize()
        risk = EmpiricalRisk(net, np.random.default_rng(0).normal(size=(5, 3)), np.array([0, 1, 0, 1, 1]))
        w = risk.parameters()
        torch.testing.assert_close(risk.row_gradients(w).sum(0) + risk.penalty_gradient(w), risk.gradient(w))
        V, local = torch.randn(2, len(w), dtype=torch.float64), risk.linearise(w)
        torch.testing.assert_close(local.hessian_rows(V), torch.stack([local.hessian(v) for v in V]))

    def test_another_loss_that_is_the_same(self):
        risk = self.risk()
        w, rows = risk.parameters(), np.array([7, 0, 1, 10, 5])
        seen = []

        def loss(output, y, at):
            seen.append(at)
            assert (y.numpy() == risk.targets(rows[at])).all()
            return nn.functional.cross_entropy(output, y, reduction="none")

        value, gradient = risk.other_loss(w, loss, rows)
        assert len(seen) == 2
        torch.testing.assert_close(gradient + risk.penalty_gradient(w), risk.gradient(w, rows))
        assert float(value) == pytest.approx(risk.value(w, rows) - 0.15 * float(w @ w))

    def test_outputs_and_a_constant_one(self):
        risk = self.risk()
        w = risk.parameters()
        outputs = risk.outputs(w)
        assert outputs.shape == (N - 1, N_CLASSES)
        torch.testing.assert_close(risk.outputs(w, np.array([5])), outputs[4:5])
        assert risk.value_at_output(torch.zeros(N_CLASSES).double()) == pytest.approx(np.log(N_CLASSES))

    def test_outputs_need_one_tensor(self):
        class TwoOutputs(NeuralNetClassifier):
            def infer(self, x, **fit_params):
                return (super().infer(x, **fit_params),) * 2

        _, X, y = problem("mlp")
        risk = EmpiricalRisk(build(TwoOutputs, mlp(), nn.CrossEntropyLoss), X, y, chunk_size=N)
        with pytest.raises(TypeError, match="single tensor, got tuple"):
            risk.outputs(risk.parameters())

    def test_other_targets(self):
        risk = self.risk()
        w, y = risk.parameters(), (risk.targets() + 1) % N_CLASSES
        other = risk.with_targets(y)
        logs = risk.outputs(w).log_softmax(1)[torch.arange(N - 1), torch.from_numpy(y)]
        mass = torch.from_numpy(np.delete(np.linspace(0.5, 2, N), 3))
        expected = -float(logs @ mass / mass.sum()) + 0.15 * float(w @ w)
        assert other.value(w) == pytest.approx(expected)

    def test_other_content_of_some_rows(self):
        risk = self.risk()
        w, rows = risk.parameters(), np.array([4, 0, 4])
        X, y = risk.X[rows] + 0.5, risk.y[rows]
        other = risk.with_targets(y, X=X, rows=rows)
        outputs = copy.deepcopy(risk.net.module_).eval()(torch.from_numpy(X))
        logs = outputs.log_softmax(1)[torch.arange(3), torch.from_numpy(y)]
        mass = torch.from_numpy(np.linspace(0.5, 2, N)[rows])
        expected = -(logs @ mass / mass.sum()).item() + 0.15 * float(w @ w)
        assert other.value(w) == pytest.approx(expected)
        np.testing.assert_array_equal(risk.with_targets(y, rows=rows).X, risk.X[rows])

    def test_exploring_differentiates_outputs_by_rows(self):
        risk = self.risk()
        w, rows = 0.7 * risk.parameters(), np.array([5, 1, 2])

        def slopes(x, y, respond):
            x = x.clone().requires_grad_()
            return torch.autograd.grad(respond(x).square().sum(), x)[0], y

        found = risk.explore(w, slopes, rows)
        x = torch.from_numpy(risk.X[rows]).requires_grad_()
        module, before = copy.deepcopy(risk.net.module_).eval(), risk.parameters()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(0.7)
        expected = torch.autograd.grad(module(x).square().sum(), x)[0]
        torch.testing.assert_close(torch.cat([slope for slope, _ in found]), expected)
        np.testing.assert_array_equal(np.concatenate([y for _, y in found]), risk.y[rows])
        assert torch.equal(risk.parameters(), before)


def test_kept_graphs_hold_no_gradient_each():
    def n_vectors():
        gc.collect()
        shape = risk.net.module_[0].weight.shape
        return sum(type(each) is torch.Tensor and each.shape == shape for each in gc.get_objects())

    net, X, y = problem("mlp")
    counts = []
    for chunk_size in (N, 1):
        risk = EmpiricalRisk(net, X, y, chunk_size=chunk_size)
        before = n_vectors()
        local = risk.linearise(point(risk))
        local.hessian(vector(risk))
        local.ggn(vector(risk))
        counts.append(n_vectors() - before)
        del local
    assert counts[0] == counts[1]


@pytest.mark.parametrize("kind", ["mlp", "cnn", "attention", "lstm"])
def test_measuring_what_a_row_takes_leaves_no_tensor_behind(kind):
    """A node that saves its own output through a hook that gives it back holds itself, out of the collector's sight."""

    def n_tensors():
        gc.collect()
        return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())

    def measure():
        net, X, y = problem(kind)
        risk = EmpiricalRisk(net, X, y)
        assert risk.chunk_size > 0
        assert risk.graph_bytes(len(X)) > 0

    measure()
    before = n_tensors()
    for _ in range(3):
        measure()
    assert n_tensors() == before


def test_a_module_that_clips_grown_weights_leaves_the_vector_of_the_caller():
    class Clipping(nn.Linear):
        def __init__(self, n_features_in=3, n_outputs=2):
            super().__init__(n_features_in, n_outputs)

        def forward(self, X):
            self.weight.data.clamp_(-1, 1)
            return super().forward(X)

    rng = np.random.default_rng(0)
    net = skorch_net(Clipping).initialize()
    risk = EmpiricalRisk(net, rng.normal(size=(8, 3)).astype(np.float32), np.arange(8) % 2)
    risk.value(flat_parameters(net))  # where nothing is clipped
    grown = 5 * torch.ones_like(flat_parameters(net))
    risk.value_and_gradient(grown)
    assert (grown == 5).all()
