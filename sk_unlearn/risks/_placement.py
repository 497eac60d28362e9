"""How rows get from the host to the device of the net, without the host waiting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor

__all__ = ["placed", "takes_placed_rows"]


def placed(batch: Any, device: torch.device) -> Any:
    """Return tensors, and lists and dicts of tensors, on a CUDA device; as they are for any other.

    They are copied to pinned memory first, from which the device fetches them by itself. So the host goes on to read
    the next chunk while the device computes with this one; PyTorch keeps the pinned memory until it was fetched.
    """
    if device.type != "cuda":
        return batch
    if isinstance(batch, Mapping):
        return {name: placed(part, device) for name, part in batch.items()}
    if isinstance(batch, list):
        return [placed(part, device) for part in batch]
    assert isinstance(batch, Tensor)
    return batch.pin_memory().to(device, non_blocking=True)


def takes_placed_rows(net: NeuralNet) -> bool:
    """Tell whether a net only passes rows on to its device: code of others may expect them on the host."""
    methods = net.infer, net.get_loss
    return all(getattr(method, "__module__", "").partition(".")[0] == "skorch" for method in methods)
