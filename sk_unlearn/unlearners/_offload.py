"""Vectors to go back to, kept in the memory of the host while the device computes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["SetAside"]


class SetAside:
    """A vector that is not needed unless something is taken back.

    Parameters
    ----------
    vector : Tensor
        Not to be changed in place.

    where : {None, "cpu"}
        None keeps the vector itself, on its device. "cpu" keeps a copy in the memory of the host, page-locked where
        the device is a CUDA one, so that copies both ways need no pass through other memory. A vector that is there
        already is kept itself.
    """

    def __init__(self, vector: Tensor, where: str | None) -> None:
        self._device = vector.device
        if where is None or vector.device.type == "cpu":
            self._kept = vector
            return
        pinned = vector.device.type == "cuda"
        self._kept = torch.empty(vector.shape, dtype=vector.dtype, device="cpu", pin_memory=pinned)
        # The way back is on the same stream, and so comes after this.
        self._kept.copy_(vector, non_blocking=pinned)

    @property
    def kept(self) -> Tensor:
        """What is kept, where it is kept."""
        return self._kept

    def vector(self) -> Tensor:
        """Return the vector on its device."""
        return self._kept.to(self._device, non_blocking=True)
