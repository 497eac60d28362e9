"""Modules whose parameters are in bfloat16, evaluated in float32: a step that rounds to nothing still has a slope."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

__all__ = ["NARROW", "ComputesWide", "wide"]

# What is solved for in float32. Float16 is not among them: its gradients overflow without a scaler.
NARROW = torch.bfloat16


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 where it is in bfloat16, and as it is otherwise."""
    return tensor.float() if tensor.dtype == NARROW else tensor


class ComputesWide(TorchFunctionMode):
    """Have whatever asks for bfloat16 get float32, such as the cast with which a forward method begins."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of PyTorch with float32 in place of bfloat16."""
        if function is Tensor.bfloat16:
            function = Tensor.float
        args, kwargs = tree_map_only(torch.dtype, _widened, (args, kwargs or {}))
        return function(*args, **kwargs)


def _widened(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == NARROW else dtype
