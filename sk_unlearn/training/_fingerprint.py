"""Whether tensors are still what they were, without a copy of them."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from sk_unlearn.utils._strided import strided_parts

__all__ = ["fingerprint"]


def fingerprint(tensors: Iterable[Tensor]) -> bytes:
    """Return a hash of the values of tensors, in their order; those whose shape is not known yet are left out."""
    digest = blake2b(digest_size=16)
    for tensor in tensors:
        for part in () if is_lazy(tensor) else strided_parts(tensor):
            values: Any = torch.view_as_real(part.resolve_conj()) if part.is_complex() else part
            digest.update(values.cpu().flatten().contiguous().view(torch.uint8).numpy())
    return digest.digest()
