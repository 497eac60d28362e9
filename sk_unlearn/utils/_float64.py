"""Float64, also for tensors on devices that do not have it."""

from __future__ import annotations

from torch import Tensor

__all__ = ["double"]


def double(tensor: Tensor) -> Tensor:
    """Return a tensor in float64: where it is, or on the CPU where its device has no float64, as torch's MPS."""
    return tensor.cpu().double() if tensor.device.type == "mps" else tensor.double()
