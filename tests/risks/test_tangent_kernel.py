"""What each parameter adds to the trace of the tangent kernel."""

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.output_layer import output_layer
from sk_unlearn.risks.tangent_kernel import tangent_kernel_trace
from tests._problems import mlp, skorch_net


def risk_of(module, n=6, n_classes=3, seed=0):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = skorch_net(module).initialize()
    return EmpiricalRisk(net, rng.normal(size=(n, 4)), rng.integers(n_classes, size=n))


def exact_trace(risk, rows):
    """Squares of all entries of the Jacobian, row by row and output by output."""
    parameters = [p for p in risk.evaluator.net.module_.parameters() if p.requires_grad]
    total = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    for row in rows:
        for output in risk.evaluator.net.module_(torch.from_numpy(risk.X[[row]]))[0]:
            parts = torch.autograd.grad(output, parameters, retain_graph=True, allow_unused=True)
            total += torch.cat(
                [torch.zeros(p.numel()) if g is None else g.ravel() for p, g in zip(parameters, parts, strict=True)]
            ).square()
    return total


def test_estimate_agrees_with_the_jacobian():
    risk = risk_of(mlp(4, 3, 5).double())
    rows = np.array([0, 2, 5])
    found = tangent_kernel_trace(risk, risk.parameters(), rows, np.random.default_rng(1), n_draws=4000)
    exact = exact_trace(risk, rows)
    assert abs(float(found.sum() / exact.sum()) - 1) < 0.05
    torch.testing.assert_close(found, exact, rtol=0.2, atol=0.05 * float(exact.max()))


def test_one_output_of_one_row_needs_one_draw():
    risk = risk_of(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double(), n_classes=1)
    found = tangent_kernel_trace(risk, risk.parameters(), np.array([3]), np.random.default_rng(0), n_draws=1)
    torch.testing.assert_close(found, exact_trace(risk, [3]))


def test_share_of_an_output_layer_over_fixed_features_is_all():
    module = mlp(4, 3, 5).double()
    for p in list(module.parameters())[:-2]:
        p.requires_grad_(False)
    risk = risk_of(module)
    layer, _ = output_layer(risk)
    trace = tangent_kernel_trace(risk, risk.parameters(), np.arange(6), np.random.default_rng(0))
    assert float(layer.extract(trace).sum()) == float(trace.sum()) > 0


def test_nothing_is_changed_and_modules_of_several_outputs_are_refused():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, X):
            return self.linear(X), X

    risk = risk_of(mlp(4, 3, 5).double())
    before = risk.parameters()
    tangent_kernel_trace(risk, before, np.arange(2), np.random.default_rng(0))
    assert torch.equal(risk.parameters(), before)
    assert all(p.grad is None for p in risk.evaluator.net.module_.parameters())
    net = NeuralNetClassifier(Two, criterion=nn.CrossEntropyLoss).initialize()
    several = EmpiricalRisk(net, np.ones((2, 4), np.float32), np.arange(2))
    with pytest.raises(TypeError, match="tuple"):
        tangent_kernel_trace(several, several.parameters(), np.arange(2), np.random.default_rng(0))
