"""The pretended device itself: it refuses what CUDA refuses, and sees every round trip."""

import numpy as np
import pytest
import torch

from tests.devices._accelerator import Accelerator


@pytest.fixture
def gpu():
    with Accelerator() as gpu:
        yield gpu


@pytest.fixture
def a(gpu):
    return torch.arange(3.0, device="cuda", requires_grad=True)


def test_results_and_slopes_stay_on_the_device(a):
    found = (torch.zeros_like(a) + a * 2).square().sum()
    (slope,) = torch.autograd.grad(found, a, create_graph=True)
    for each in (a, found, slope, a.detach()[1:], torch.nn.Linear(3, 2).to("cuda").weight, a.new_tensor([1.0])):
        assert each.device == torch.device("cuda", 0)
        assert each.is_cuda
    assert a.cpu().device.type == "cpu"
    assert torch.ones(3).to(a).is_cuda


@pytest.mark.parametrize(
    "mixed",
    [
        lambda a, b: a + b,
        lambda a, b: b @ a,
        lambda a, b: torch.cat([a, b]),
        lambda a, b: a.detach().add_(b),
        lambda a, b: b.index_add_(0, torch.tensor([0]), a[:1]),
        lambda a, b: b[a.detach().long()],
        lambda a, b: torch.where(b > 1, a, 0.0),
        lambda a, b: b + a.sum(),
        lambda a, b: torch.stack([a[0], b[0]]),
    ],
)
def test_both_sides_in_one_operation(a, mixed):
    with pytest.raises(RuntimeError, match="same device"):
        mixed(a, torch.ones(3))


def test_what_cuda_allows(a):
    (a * torch.tensor(2.0))[torch.tensor([0, 1])].sum().backward()
    a.detach().copy_(torch.ones(3))


def test_numpy_wants_a_copy_first(a):
    for look in (lambda: a.detach().numpy(), lambda: np.asarray(a.detach())):
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            look()
    assert (a.detach().cpu().numpy() == [0, 1, 2]).all()


def test_a_generator_of_the_other_side(a):
    with pytest.raises(RuntimeError, match="for generator"):
        torch.randn(3, device="cuda", generator=torch.Generator().manual_seed(0))
    assert torch.randn(3, device="cuda", generator=torch.Generator("cuda").manual_seed(0)).is_cuda


@pytest.mark.parametrize(
    "look",
    [
        lambda a: a.sum().item(),
        lambda a: float(a[0]),
        lambda a: bool((a > 0).all()),
        lambda a: a.tolist(),
        lambda a: a.cpu(),
        lambda a: a.to("cpu", torch.float64),
        lambda a: a.nonzero(),
        lambda a: a[a > 0],
        lambda a: torch.equal(a, a),
        lambda a: torch.zeros(3).copy_(a),
        lambda a: a.unique(),
    ],
)
def test_each_round_trip_counts_once(gpu, a, look):
    look(a.detach())
    assert gpu.n_trips == 1


def test_what_is_no_round_trip(gpu, a):
    with torch.no_grad():
        a.to("cuda").double().norm().clamp_max(1).add(a[torch.tensor([0, 1])].max())
        torch.ones(3).to("cuda")
    assert gpu.n_trips == 0
    assert sum(gpu.uploads.values()) == 1
