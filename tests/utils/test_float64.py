"""Float64, also on devices that do not have it."""

import torch

from sk_unlearn.utils._float64 import double


class WithoutFloat64:
    """A tensor as it would be on a device that has no float64."""

    device = torch.device("mps")

    def __init__(self, values):
        self.values = values

    def cpu(self):
        return self.values

    def double(self):
        raise TypeError("Cannot convert an MPS tensor to float64, which the MPS framework does not support.")


def test_where_the_device_has_no_float64_it_is_on_the_cpu():
    values = torch.tensor([1.0, 2.0])
    for tensor in (values, WithoutFloat64(values)):
        assert torch.equal(double(tensor), values.double())
        assert double(tensor).device == torch.device("cpu")
