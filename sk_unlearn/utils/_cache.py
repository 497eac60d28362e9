"""Results that joblib keeps: found by arguments, tensors among them, and filed without showing a row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import skorch
import torch
from joblib.hashing import NumpyHasher
from sklearn.utils.validation import check_memory
from torch import Tensor

from sk_unlearn._version import __version__

__all__ = ["cached", "fingerprint"]


def cached(memory: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return ``function(*arguments)``, or what it returned for equal arguments before.

    Parameters
    ----------
    memory : None, str or joblib.Memory
        Where to look and to keep; None only calls.

    function : callable
        A function of a module, or a partial of one, whose own arguments are not looked at.

    *arguments : object
        All must pickle.

    Returns
    -------
    result : object
        The caller's own: computed now, or loaded from disk.
    """
    if memory is None:
        return function(*arguments)
    name = (function.func if isinstance(function, partial) else function).__qualname__
    versions = (__version__, torch.__version__, skorch.__version__)
    # joblib writes the representation of arguments beside the result: here the key alone, and not the first rows.
    remembered = check_memory(memory).cache(_call, ignore=["function", "arguments"])
    return remembered(f"{name} {fingerprint(versions, arguments)}", function, arguments)


def _call(key: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


class _TensorHasher(NumpyHasher):
    """joblib's hasher; without this, equal tensors differ, since torch pickles each storage under a new name."""

    def save(self, obj: Any) -> None:
        if isinstance(obj, Tensor):
            content = obj.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            obj = (type(obj), str(obj.dtype), str(obj.device), tuple(obj.shape), obj.requires_grad, content)
        super().save(obj)


def fingerprint(*arguments: Any) -> str:
    """Return the same text for equal arguments, in this process and in others.

    Parameters
    ----------
    *arguments : object
        All must pickle.

    Returns
    -------
    key : str
    """
    return str(_TensorHasher(hash_name="md5").hash(arguments))
