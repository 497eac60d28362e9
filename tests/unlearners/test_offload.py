"""Vectors that wait in the memory of the host."""

import pytest
import torch
from torch._subclasses import FakeTensorMode

from sk_unlearn.unlearners import CuReNU, StoCuReNU
from sk_unlearn.unlearners._offload import SetAside

from .cubic.test_output_layer import problem_for


@pytest.mark.parametrize("where", [None, "cpu"])
def test_on_the_cpu_the_vector_itself_is_kept(where):
    vector = torch.randn(5)
    aside = SetAside(vector, where)
    assert aside.kept is vector
    assert aside.vector() is vector


# Tensors without content, that know a device which need not be there.
@pytest.mark.parametrize(("where", "kept_on"), [(None, "cuda"), ("cpu", "cpu")])
def test_of_another_device_it_waits_on_the_host_if_asked_to(where, kept_on):
    with FakeTensorMode():
        vector = torch.empty(5, device="cuda:0", dtype=torch.float64)
        aside = SetAside(vector, where)
        assert aside.kept.device.type == kept_on
        assert aside.vector().device == vector.device
        assert aside.vector().dtype == vector.dtype


@pytest.mark.parametrize("kind", [CuReNU, StoCuReNU])
def test_a_request_comes_to_the_same(kind):
    here, there = (kind(max_steps=4, offload=where).unlearn(problem_for()) for where in (None, "cpu"))
    assert torch.equal(here.parameters, there.parameters)


@pytest.mark.gpu
def test_on_a_graphics_card_it_waits_in_page_locked_memory():
    vector = torch.randn(1000, device="cuda")
    aside = SetAside(vector, "cpu")
    assert aside.kept.is_pinned()
    assert torch.equal(aside.vector(), vector)


def test_another_place_is_refused():
    with pytest.raises(ValueError, match="offload"):
        CuReNU(offload="disk").unlearn(problem_for())
