"""The output layer's risk against the whole risk: same value, same gradient and Hessian in the layer's entries."""

import numpy as np
import pytest
import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.output_layer import output_layer
from tests._problems import skorch_net

N, N_CLASSES = 13, 3


class PenalisedNet(NeuralNetClassifier):
    """A loss that looks at the parameters too."""

    def get_loss(self, y_pred, y_true, X=None, training=False):
        penalty = sum(p.square().square().sum() for p in self.module_.parameters())
        return super().get_loss(y_pred, y_true, X, training) + 0.1 * penalty


class MeanOfSquares(nn.Module):
    """A criterion that gives one number, and is no sum over rows."""

    def forward(self, output, target):
        return (output.sum(1) - target).square().mean().sqrt()


def mlp(*ending, n_outputs=N_CLASSES, bias=True):
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, n_outputs, bias=bias), *ending)


def convolutional():
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.ReLU(), nn.Linear(3, 3)
    )


def partly_frozen(name):
    module = mlp()
    module[-1].get_parameter(name).requires_grad_(False)
    return module


def risk_of(kind, module, criterion, y, *, weighted=True, decay=0.1, seed=0, **options):
    net = skorch_net(module.double(), kind, criterion=criterion, optimizer__weight_decay=decay, **options).initialize()
    rng = np.random.default_rng(seed)
    X, weight = rng.normal(size=(N, 4)), rng.integers(0, 4, size=N).astype(float)
    mask = rng.random(N) < 0.8
    return EmpiricalRisk(net, X, y, weight if weighted else None, mask=mask, chunk_size=4)


def labels(seed=0):
    return np.random.default_rng(seed).integers(0, N_CLASSES, size=N)


def values(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(N, *shape))


CLASS_WEIGHT = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)

CASES = {
    "logits": lambda: risk_of(NeuralNetClassifier, mlp(), nn.CrossEntropyLoss, labels()),
    "no bias": lambda: risk_of(NeuralNetClassifier, mlp(bias=False), nn.CrossEntropyLoss, labels()),
    "frozen bias": lambda: risk_of(NeuralNetClassifier, partly_frozen("bias"), nn.CrossEntropyLoss, labels()),
    "frozen weight": lambda: risk_of(NeuralNetClassifier, partly_frozen("weight"), nn.CrossEntropyLoss, labels()),
    "cnn": lambda: risk_of(NeuralNetClassifier, convolutional(), nn.CrossEntropyLoss, labels()),
    "class weights": lambda: risk_of(
        NeuralNetClassifier, mlp(), nn.CrossEntropyLoss, labels(), criterion__weight=CLASS_WEIGHT
    ),
    "summed": lambda: risk_of(
        NeuralNetClassifier, mlp(), nn.CrossEntropyLoss, labels(), criterion__reduction="sum",
        criterion__weight=CLASS_WEIGHT, batch_size=3,
    ),
    "ignored label": lambda: risk_of(
        NeuralNetClassifier, mlp(), nn.CrossEntropyLoss, labels(), criterion__ignore_index=1
    ),
    "smoothed": lambda: risk_of(
        NeuralNetClassifier, mlp(), nn.CrossEntropyLoss, labels(), criterion__label_smoothing=0.2
    ),
    "soft labels": lambda: risk_of(NeuralNet, mlp(), nn.CrossEntropyLoss, np.abs(values(N_CLASSES))),
    "softmax": lambda: risk_of(NeuralNetClassifier, mlp(nn.Softmax(-1)), nn.NLLLoss, labels()),
    "log softmax": lambda: risk_of(NeuralNet, mlp(nn.LogSoftmax(-1), nn.Identity()), nn.NLLLoss, labels()),
    "log softmax twice": lambda: risk_of(NeuralNetClassifier, mlp(nn.LogSoftmax(-1)), nn.CrossEntropyLoss, labels()),
    "binary": lambda: risk_of(
        NeuralNetBinaryClassifier, mlp(nn.Flatten(0), n_outputs=1), nn.BCEWithLogitsLoss, (labels() > 0).astype(float)
    ),
    "sigmoid": lambda: risk_of(
        NeuralNet, mlp(nn.Sigmoid(), n_outputs=2), nn.BCELoss, (values(2) > 0).astype(float)
    ),
    "squares": lambda: risk_of(NeuralNetRegressor, mlp(), nn.MSELoss, values(N_CLASSES)),
    "one output": lambda: risk_of(NeuralNetRegressor, mlp(nn.Flatten(0), n_outputs=1), nn.MSELoss, values()),
    "grid of outputs": lambda: risk_of(NeuralNet, mlp(nn.Unflatten(1, (2, 3)), n_outputs=6), nn.MSELoss, values(2, 3)),
    "huber": lambda: risk_of(NeuralNetRegressor, mlp(), nn.HuberLoss, values(N_CLASSES), decay=0.0),
    "linear in the logits": lambda: risk_of(NeuralNet, mlp(), nn.L1Loss, values(N_CLASSES)),
    "own get_loss": lambda: risk_of(PenalisedNet, mlp(), nn.CrossEntropyLoss, labels(), weighted=False),
    "no sum over rows": lambda: risk_of(NeuralNet, mlp(), MeanOfSquares, values(), weighted=False),
    "linear model": lambda: risk_of(NeuralNetClassifier, nn.Linear(4, N_CLASSES), nn.CrossEntropyLoss, labels()),
}  # fmt: skip


def close(a, b, tol=1e-10):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


def whole_hessian(risk, w, rows=None):
    at = risk.linearise(w, rows)
    return torch.stack([at.hessian(e) for e in torch.eye(risk.n_parameters, dtype=torch.float64)])


@pytest.mark.parametrize("name", CASES)
def test_layer_risk_is_the_whole_risk_in_the_layers_parameters(name):
    torch.manual_seed(1)
    risk = CASES[name]()
    layer, reason = output_layer(risk)
    assert reason == ""
    w = risk.parameters() + 0.3 * torch.randn(risk.n_parameters, dtype=torch.float64)
    of_layer = layer.risk(risk, w)
    v = of_layer.start + 0.5 * torch.randn(layer.n_parameters, dtype=torch.float64)
    moved = layer.insert(w, v)
    close(layer.extract(moved), v)
    block = whole_hessian(risk, moved)[layer.indices][:, layer.indices]
    assert of_layer.value(v) == pytest.approx(risk.value(moved), rel=1e-12)
    close(of_layer.gradient(v), risk.gradient(moved)[layer.indices])
    close(of_layer.hessian(v), block)
    s = torch.randn(layer.n_parameters, dtype=torch.float64)
    at = of_layer.linearise(v)
    close(at.hessian(s), block @ s)
    assert at.value == pytest.approx(of_layer.value(v), rel=1e-12)
    close(at.gradient, of_layer.gradient(v))


def test_rows_and_chunks_are_those_of_the_risk():
    risk = CASES["logits"]()
    layer, _ = output_layer(risk)
    rows, w = np.array([1, 5, 5, 7, 12]), risk.parameters()
    expected = whole_hessian(risk, w, rows)[layer.indices][:, layer.indices]
    sizes = []
    risk.net.criterion_.register_forward_hook(lambda criterion, args, loss: sizes.append(len(args[0])))
    for budget, wanted in ((2**30, [5]), (1, [1] * 5)):
        bounded = EmpiricalRisk(risk.net, risk.X, risk.y, risk.sample_weight, memory_budget=budget)
        of_layer = layer.risk(bounded, rows=rows)
        close(of_layer.hessian(of_layer.start), expected)
        sizes.clear()
        assert of_layer.value(of_layer.start) == pytest.approx(risk.value(w, rows), rel=1e-12)
        assert sizes[: len(wanted)] == wanted


def test_net_is_left_as_it_was():
    risk = CASES["cnn"]()
    module = risk.net.module_.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    layer, _ = output_layer(risk)
    of_layer = layer.risk(risk)
    of_layer.hessian(of_layer.start + 1)
    of_layer.linearise(of_layer.start + 1).hessian(of_layer.start)
    assert all(m.training for m in module.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    for name, value in module.state_dict().items():
        close(value, before[name], tol=0)


def test_float32_follows_the_net():
    risk = CASES["logits"]()
    layer, _ = output_layer(risk)
    single_net = risk.net.__class__(
        mlp().float(), criterion=nn.CrossEntropyLoss, train_split=None, verbose=0
    ).initialize()
    single_net.module_.load_state_dict(risk.net.module_.state_dict())
    single = EmpiricalRisk(single_net, risk.X.astype(np.float32), risk.y)
    H = output_layer(single)[0].risk(single).hessian(layer.extract(risk.parameters()))
    double = EmpiricalRisk(risk.net, risk.X, risk.y)
    decay = 0.1 * torch.eye(layer.n_parameters, dtype=torch.float64)
    assert H.dtype == torch.float32
    close(H.double(), layer.risk(double).hessian(layer.extract(risk.parameters())) - decay, tol=1e-5)


class Clipped(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.layer.bias.data += 10.0  # so that nothing is clipped on the rows looked at

    def forward(self, x):
        return self.layer(x).relu()


class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.skip = nn.Linear(4, 3), nn.Linear(4, 3, bias=False)

    def forward(self, x):
        return self.layer(x) + self.skip(x)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.last.weight = self.first.weight

    def forward(self, x):
        return self.last(self.first(x).tanh())


class Repeated(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(self.layer(x).tanh())


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x), x


def all_but_last_frozen():
    module = mlp()
    for name in ("weight", "bias"):
        module[-1].get_parameter(name).requires_grad_(False)
    return module


def normed():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.utils.parametrizations.weight_norm(nn.Linear(5, 3)))


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (all_but_last_frozen, "frozen"),
        (Clipped, "not that of a linear layer"),
        (Skipping, "not that of a linear layer"),
        (Tied, "shares a parameter"),
        (Repeated, "more than once"),
        (TwoOutputs, "tuple"),
        (normed, "from other parameters"),
        (lambda: mlp(nn.ReLU()), "not that of a linear layer"),
        (lambda: nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 4), nn.Flatten()), "not that of a linear"),
    ],
)
def test_no_door_and_why(module, reason):
    layer, why = output_layer(risk_of(NeuralNetClassifier, module(), nn.CrossEntropyLoss, labels()))
    assert layer is None
    assert reason in why


def test_no_door_without_rows():
    risk = CASES["logits"]()
    empty = EmpiricalRisk(risk.net, np.empty((0, 4)), np.empty(0, dtype=np.int64))
    assert output_layer(empty) == (None, "the risk has no rows to look at the module with")


def test_vector_of_another_length_is_refused():
    risk = CASES["logits"]()
    layer, _ = output_layer(risk)
    with pytest.raises(ValueError, match="v must be a vector of 18 entries"):
        layer.risk(risk).value(torch.zeros(3))
