"""Whether tensors are still what they were, without a copy of them."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from sk_unlearn.utils._strided import strided_parts

__all__ = ["fingerprint"]


def fingerprint(tensors: Iterable[Tensor]) -> bytes:
    """Return a hash of the values of tensors, in their order; those whose shape is not known yet are left out."""
    digest = blake2b(digest_size=16)
    present = (part for tensor in tensors if not is_lazy(tensor) for part in strided_parts(tensor))
    # What lies together on another device comes to the host in one copy: every copy waits for the device.
    for device, parts in groupby(present, key=lambda part: part.device):
        each = map(_bytes_of, parts)
        for values in each if device.type == "cpu" else [torch.cat([*each]).cpu()]:
            content: Any = values.numpy()
            digest.update(content)
    return digest.digest()


def _bytes_of(part: Tensor) -> Tensor:
    values = torch.view_as_real(part.resolve_conj()) if part.is_complex() else part
    return values.flatten().contiguous().view(torch.uint8)
