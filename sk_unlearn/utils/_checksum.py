"""Pickles that carry checksums, so that a damaged one does not load with other predictions."""

from __future__ import annotations

import datetime
import decimal
import fractions
import functools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from hashlib import sha256
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import sklearn
import skorch
import torch
from sklearn.base import BaseEstimator
from skorch import NeuralNet
from torch import Tensor, nn

from sk_unlearn._version import __version__
from sk_unlearn.exceptions import PersistenceError
from sk_unlearn.utils._versioned import VersionedMixin

__all__ = ["ChecksummedMixin", "unchecked"]

_KEY = "_sk_unlearn_checksums"
_LENGTH = 16  # bytes of a SHA-256 that are kept: more than damage can hit by chance
_VERSIONS = (
    f"sk_unlearn {__version__}",
    f"torch {torch.__version__} skorch {skorch.__version__} sklearn {sklearn.__version__}",
)
_UNCHECKED: ContextVar[bool] = ContextVar("unchecked", default=False)

# Python's repr tells any two of a type apart, and is the same in every process.
_SIMPLE = frozenset((type(None), bool, int, float, complex, str, bytes, range, slice, decimal.Decimal, uuid.UUID))
_TIMES = frozenset((datetime.date, datetime.datetime, datetime.time, datetime.timedelta, pd.Timestamp, pd.Timedelta))
_BY_REPR = _SIMPLE | _TIMES | {fractions.Fraction, type(pd.NaT), type(pd.NA)}


class ChecksummedMixin:
    """Write a checksum of each attribute into the pickled state, and refuse a state that does not have them.

    To be named after `VersionedMixin`, so that a pickle of another version is known for that, and before BaseEstimator.
    What a subclass leaves out of the state or adds to it is not checked.
    """

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        if _UNCHECKED.get():
            return state
        return {**state, _KEY: (*_VERSIONS, _of_names(state), {name: _checksums(v) for name, v in state.items()})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        recorded = state.pop(_KEY, None)
        # Older pickles have none, and other versions of this package may keep other things.
        if recorded is not None and recorded[0] == _VERSIONS[0]:
            self._check(state, *recorded[1:])
        super().__setstate__(state)  # type: ignore[misc]

    def _check(
        self, state: dict[str, Any], libraries: str, names: bytes, recorded: dict[str, tuple[bytes, bytes]]
    ) -> None:
        is_ours = type(self).__module__.split(".")[0] == "sk_unlearn"
        damaged = sorted(state.keys() ^ recorded.keys()) if is_ours else []
        # A pickle has a name once for the state and its checksum, so that both may be damaged alike.
        if names != _of_names(recorded):
            damaged.append("a name")
        for name in state.keys() & recorded.keys():
            numbers, structure = _checksums(state[name])
            # Another version of a library may have added something of its own to what it loaded.
            if numbers != recorded[name][0] or (structure != recorded[name][1] and libraries == _VERSIONS[1]):
                damaged.append(name)
        if damaged:
            raise PersistenceError(
                f"The pickle of a {type(self).__name__} is damaged: {', '.join(sorted(damaged))} is not what was "
                "written. Take a copy from a backup, or write it again."
            )


@contextmanager
def unchecked() -> Iterator[None]:
    """Have states taken in the context go without checksums: what happens to them next is safe."""
    token = _UNCHECKED.set(True)
    try:
        yield
    finally:
        _UNCHECKED.reset(token)


def _of_names(state: dict[str, Any]) -> bytes:
    return sha256("\0".join(sorted(state)).encode("utf-8", "surrogatepass")).digest()[:_LENGTH]


def _checksums(value: Any) -> tuple[bytes, bytes]:
    """Return a checksum of the numbers in a value, and one of all else."""
    walk = _Walk()
    walk.enter(value)
    return walk.numbers.digest()[:_LENGTH], walk.structure.digest()[:_LENGTH]


class _Walk:
    """A walk through an object that comes by the same things before a pickle is written and after it was read.

    Objects of other packages, which may do what they like when they are pickled, count by their class alone, but for
    modules, nets, optimisers and scikit-learn's estimators.
    """

    def __init__(self) -> None:
        self.numbers, self.structure = sha256(), sha256()
        self._inside: set[int] = set()

    def enter(self, value: Any) -> None:
        """Add a value and what it holds."""
        if id(value) in self._inside:
            self._say("again")
            return
        self._inside.add(id(value))
        kind = type(value)
        self._say(f"{kind.__module__}.{kind.__qualname__}" if not isinstance(value, np.ndarray) else "array")
        if kind in _BY_REPR:
            self._say(repr(value))
        elif isinstance(value, Enum):
            self._say(value.name)
        elif isinstance(value, np.ndarray | np.generic):
            self._array(np.asarray(value))
        elif isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, type | FunctionType | BuiltinFunctionType | np.ufunc):
            self._say(getattr(value, "__qualname__", value.__name__))
        else:
            for part in self._parts(value):
                self.enter(part)
        self._inside.discard(id(value))

    def _say(self, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self.structure.update(len(data).to_bytes(8, "little") + data)

    def _parts(self, value: Any) -> Any:
        """Return what a value holds, in an order that does not change."""
        if isinstance(value, dict):
            return [part for pair in value.items() for part in pair]
        if isinstance(value, list | tuple):
            self._say(str(len(value)))
            return value
        if isinstance(value, set | frozenset):
            return sorted(_checksums(one) for one in value)
        if isinstance(value, functools.partial):
            return [value.func, value.args, value.keywords]
        if isinstance(value, nn.Module):
            # What begins with an underscore, but for these, is torch's own and changes between versions.
            public = {name: part for name, part in vars(value).items() if not name.startswith("_")}
            return [*_sorted(public), value._parameters, value._buffers, value._modules]
        if isinstance(value, NeuralNet):
            return _sorted({name: part for name, part in vars(value).items() if name != "device"})
        if isinstance(value, torch.optim.Optimizer):
            return [value.state_dict()]
        if isinstance(value, np.dtype | torch.dtype):
            return [str(value)]
        if isinstance(value, np.random.RandomState):
            return [value.get_state(legacy=False)]
        if isinstance(value, np.random.Generator):
            return [value.bit_generator.state]
        return self._parts_of_tables_and_objects(value)

    def _parts_of_tables_and_objects(self, value: Any) -> Any:
        if isinstance(value, scipy.sparse.sparray | scipy.sparse.spmatrix):
            points = value.tocoo()
            return [value.shape, points.data, points.row, points.col]
        if isinstance(value, pd.DataFrame):
            return [value.columns, value.index, *(value.iloc[:, n] for n in range(value.shape[1]))]
        if isinstance(value, pd.Series | pd.Index):
            return [str(value.dtype), np.asarray(value)]
        package = type(value).__module__.split(".")[0]
        if package == "sk_unlearn":
            return [_state_of(value)]
        if package == "sklearn" and isinstance(value, BaseEstimator):
            return _sorted(vars(value))
        return []

    def _array(self, values: np.ndarray[Any, Any]) -> None:
        self._say(f"{values.dtype.str} {values.shape}")
        if values.dtype == np.dtype(object):
            held = values.ravel().tolist()
            if set(map(type, held)) <= _BY_REPR:
                self.numbers.update(repr(held).encode("utf-8", "surrogatepass"))
            else:
                self.enter(held)
        elif not values.dtype.hasobject:
            self.numbers.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)

    def _tensor(self, values: Tensor) -> None:
        self._say(f"{values.dtype} {tuple(values.shape)}")
        if values.layout is torch.strided and not values.is_meta and not values.is_quantized:
            held = values.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
            self.numbers.update(held.view(torch.uint8).numpy().data)


def _sorted(attributes: dict[str, Any]) -> list[Any]:
    return [part for name in sorted(attributes) for part in (name, attributes[name])]


def _state_of(value: Any) -> Any:
    """Return what is pickled of an object of this package."""
    if isinstance(value, ChecksummedMixin | VersionedMixin) or not hasattr(value, "__getstate__"):
        return vars(value)
    with unchecked():
        return value.__getstate__()
