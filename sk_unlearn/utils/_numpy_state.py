"""Objects whose tensors are written to files as numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["NumpyStateMixin"]


class NumpyStateMixin:
    """Hand tensors to pickle, joblib and skops as numpy arrays, and take them back as tensors on the CPU.

    joblib can then map them into memory, and skops, which knows no tensors, can carry them. A type that numpy does not
    have, such as bfloat16, is widened to float32.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {name: _as_numpy(value) for name, value in self.__dict__.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Arrays that were mapped from a file are read-only, which torch does not take.
        self.__dict__.update(
            {name: torch.from_numpy(np.array(v)) if isinstance(v, np.ndarray) else v for name, v in state.items()}
        )


def _as_numpy(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
