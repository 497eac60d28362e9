"""What is free, and what a step needs of it."""

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.risks import EmpiricalRisk
from sk_unlearn.unlearners import CuReNU
from sk_unlearn.unlearners._memory import MemoryForecast, free_memory
from tests._problems import skorch_net


def test_free_memory_is_no_more_than_the_system_has(monkeypatch):
    total = psutil.virtual_memory().total
    assert 0 < free_memory(torch.device("cpu")) <= total
    available = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    assert free_memory(torch.device("cpu")) <= 1000


def test_a_limit_on_the_address_space_counts(monkeypatch):
    resource = pytest.importorskip("resource")
    used = psutil.Process().memory_info().vms
    for left in (2**24, -(2**24)):
        limits = (used + left, resource.RLIM_INFINITY)
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        assert 0 <= free_memory(torch.device("cpu")) <= max(0, left)


def test_unknown_where_the_system_does_not_tell(monkeypatch):
    def hidden():
        raise OSError("no /proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    assert MemoryForecast.of(torch.zeros(3), 10).available is None


def test_forecast_counts_vectors_in_their_precision():
    single, double = (MemoryForecast.of(torch.zeros(100, dtype=dtype), 10) for dtype in (torch.float32, torch.float64))
    assert double.krylov == 2 * single.krylov
    assert double.gradient_descent == 2 * single.gradient_descent
    assert single.dense - single.gradient_descent == double.dense - double.gradient_descent == 50 * 100 * 100
    more = MemoryForecast.of(torch.zeros(100), 13, graph_bytes=1000)
    assert more.krylov - single.krylov == 3 * 400 + 1000
    assert more.gradient_descent - single.gradient_descent == 1000


def allocated_at_peak(call):
    """Return by how many bytes what PyTorch has allocated rises, at the most, in a call."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = profile.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max(np.cumsum([change for _, change in changes]))


# Parameters that outweigh the rows, and rows whose graphs outweigh the parameters.
SIZES = {"krylov": (200, 60), "gradient_descent": (200, 60), "dense": (8, 20), "auto": (30, 3000)}


@pytest.mark.filterwarnings("ignore:.*profiler")
def test_a_product_with_the_hessian_of_a_large_net_holds_two_vectors():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 1020), nn.Tanh(), nn.Linear(1020, 1020), nn.Tanh(), nn.Linear(1020, 3))
    net = skorch_net(module).initialize()
    rng = np.random.default_rng(0)
    X, y = torch.from_numpy(rng.normal(size=(8, 6)).astype(np.float32)), torch.from_numpy(rng.integers(0, 3, 8))
    risk = EmpiricalRisk(net, X.numpy(), y.numpy())
    w = risk.parameters()
    local, products = risk.linearise(w), []
    v = local.gradient
    vector = w.numel() * w.element_size()
    assert allocated_at_peak(lambda: products.append(local.hessian(v))) < 2.5 * vector
    leaves = list(module.parameters())
    gradient = torch.autograd.grad(nn.functional.cross_entropy(module(X), y), leaves, create_graph=True)
    parts = v.split([p.numel() for p in leaves])
    along = sum(one.reshape(-1) @ part for one, part in zip(gradient, parts, strict=True))
    expected = torch.cat([part.reshape(-1) for part in torch.autograd.grad(along, leaves)])
    torch.testing.assert_close(products[0], expected)
    batched = local.hessian_rows(torch.stack([v, products[0]]))
    torch.testing.assert_close(batched[0], products[0])


@pytest.mark.filterwarnings("ignore:.*profiler")
@pytest.mark.parametrize("solver", SIZES)
def test_forecast_is_what_a_request_allocates(solver):
    width, n_rows = SIZES[solver]
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3))
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n_rows, 6)).astype(np.float32), rng.integers(0, 3, n_rows)
    unlearner = CuReNU(solver=solver, n_products=10, max_steps=2, output_layer_first=False)
    est = UnlearnableClassifier(skorch_net(module, max_epochs=2), unlearner, random_state=0).fit(X, y)
    est.forget(X[:5])  # what the gradient of the training takes is known after it
    needed = allocated_at_peak(lambda: est.forget(X[5:10]))
    report = est.unlearning_report_
    assert report.n_products > 0
    assert needed <= report.extra["memory_forecast"][report.solver] <= 1.5 * needed


def test_what_pytorch_keeps_for_later_is_free_on_a_card(monkeypatch):
    for name, value in (("mem_get_info", (1000, 5000)), ("memory_reserved", 300), ("memory_allocated", 100)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_memory(torch.device("cuda")) == 1200
