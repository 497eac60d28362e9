"""A hash of what a net has learnt."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import torch
from skorch import NeuralNet
from torch.nn.parameter import is_lazy

from sk_unlearn.receipts.receipt import canonical_json, plain
from sk_unlearn.utils._strided import strided_parts

__all__ = ["digest_parameters"]


def digest_parameters(net: NeuralNet) -> str:
    """Return SHA-256 of all parameters and buffers of a net: of their names, data types, shapes and values.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised. Its modules and its criterion count.

    Returns
    -------
    digest : str
        In hexadecimal; the same on every device and after saving and loading.
    """
    digest = sha256()
    for part in (*net._modules, *net._criteria):
        for name, value in getattr(net, part + "_").state_dict().items():
            name = name.removeprefix("_orig_mod.")  # of a compiled module
            if not isinstance(value, torch.Tensor) or is_lazy(value):
                told = {"part": part, "name": name, "value": None if is_lazy(value) else plain(value)}
                digest.update(canonical_json(told))
                continue
            told = {"part": part, "name": name, "dtype": str(value.dtype), "shape": list(value.shape)}
            digest.update(canonical_json(told))
            for values in strided_parts(value.dequantize() if value.is_quantized else value):
                digest.update(_bytes_of(values))
    return digest.hexdigest()


def _bytes_of(value: torch.Tensor) -> Any:
    values = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
    return values.cpu().flatten().contiguous().view(torch.uint8).numpy()
