"""Tensors that are not dense, as the dense ones that they are made of."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["strided_parts"]

_COMPRESSED = {
    torch.sparse_csr: (Tensor.crow_indices, Tensor.col_indices, Tensor.values),
    torch.sparse_csc: (Tensor.ccol_indices, Tensor.row_indices, Tensor.values),
    torch.sparse_bsr: (Tensor.crow_indices, Tensor.col_indices, Tensor.values),
    torch.sparse_bsc: (Tensor.ccol_indices, Tensor.row_indices, Tensor.values),
}


def strided_parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """Return the dense tensors that a tensor of any layout is made of: of a dense one itself; values come last."""
    tensor = tensor.detach()
    if tensor.layout is torch.sparse_coo:
        tensor = tensor.coalesce()
        return tensor.indices(), tensor.values()
    return tuple(part(tensor) for part in _COMPRESSED.get(tensor.layout, (Tensor.detach,)))
