"""From an object to a list of operations that make it again, and the arrays that these need.

The way is pickle's: an object says by ``__reduce_ex__`` how it is made and which state it then gets. What pickle writes
as a program that may call anything becomes a list in JSON here, whose operations are few and whose names are listed
apart, so that they can be checked before one of them is looked up.

Each operation makes one value, which later ones refer to by its number. A number, string, boolean or None stands in
a list of its own instead: ``[1.5]``.
"""

from __future__ import annotations

import copyreg
import json
from collections.abc import Callable
from enum import Enum
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet

from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.snapshot import snapshot
from sk_unlearn.exceptions import PersistenceError
from sk_unlearn.persistence._names import Name, name_of
from sk_unlearn.persistence._rebuild import taken_apart, tensor
from sk_unlearn.pipeline import Pipeline
from sk_unlearn.pipeline.snapshot import pipeline_snapshot
from sk_unlearn.rows import TrainingSet
from sk_unlearn.utils._checksum import unchecked

__all__ = ["Writer"]

_ATOMS = frozenset((type(None), bool, int, float, str))
_FUNCTIONS = (FunctionType, BuiltinFunctionType, np.ufunc)
# Shorter ones stand in the list of operations.
_SHORT = 1024


class Writer:
    """Write down what makes an object again.

    Parameters
    ----------
    rows : bool
        Whether estimators and pipelines keep their rows.
    receipts : bool
        Whether estimators keep their receipts.
    """

    def __init__(self, *, rows: bool, receipts: bool) -> None:
        self.operations: list[Any] = []
        self.arrays: list[np.ndarray[Any, Any]] = []
        self.names: list[Name] = []
        self._rows, self._receipts = rows, receipts
        # By identity, with the object, so that no other one gets its number meanwhile.
        self._known: dict[Any, tuple[int, Any]] = {}
        self._path: list[str] = []

    def write(self, obj: Any) -> str:
        """Return the operations that make the object, as JSON.

        Raises
        ------
        PersistenceError
            If a part of it cannot be written; says where it is.
        """
        try:
            with unchecked():  # the file has a checksum as a whole
                root = self._refer(obj, type(obj).__name__)
        except PersistenceError as error:
            raise PersistenceError(f"{'.'.join(self._path)} {error}.") from error
        except RecursionError as error:
            raise PersistenceError(
                f"{'.'.join(self._path[:6])}... is nested too deeply to be saved; raise sys.setrecursionlimit."
            ) from error
        except Exception as error:  # whose text may quote what it is about
            raise PersistenceError(f"{'.'.join(self._path)} cannot be saved ({type(error).__name__}).") from error
        return json.dumps({"names": self.names, "operations": self.operations, "root": root})

    # ------------------------------------------------------------------ values and references

    def _refer(self, obj: Any, label: Any = "[]") -> int | list[Any]:
        """Return the number of the operation that makes the object, after having written it; a list for an atom."""
        if type(obj) in _ATOMS:
            return [obj]
        key = ("memory", obj._cdata) if isinstance(obj, torch.UntypedStorage) else id(obj)
        if key not in self._known:
            self._path.append(str(label))
            self._make(obj, key)
            self._path.pop()
        return self._known[key][0]

    def _each(self, objects: Any) -> list[Any]:
        return [self._refer(one, f"[{n}]") for n, one in enumerate(objects)]

    def _do(self, *operation: Any) -> int:
        self.operations.append(operation)
        return len(self.operations) - 1

    def _array(self, values: np.ndarray[Any, Any]) -> int:
        self.arrays.append(np.array(values))  # copied, for the next request overwrites rows that it erases
        return len(self.arrays) - 1

    def _name(self, kind: str, obj: Any) -> int:
        name = name_of(obj, kind)
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    # ------------------------------------------------------------------ operations

    def _make(self, obj: Any, key: Any) -> None:
        """Write what makes an object, and note its number before its content is written: that may refer to it."""

        def known(number: int) -> int:
            self._known[key] = (number, obj)
            return number

        kind = type(obj)
        if kind in (list, dict, set, bytearray):
            self._fill(obj, known(self._do(kind.__name__)))
        elif kind in (tuple, frozenset):
            items = self._each(obj)
            if key not in self._known:  # one of its items may refer to it
                known(self._do(kind.__name__, items))
        elif kind is bytes:
            known(self._bytes(obj))
        elif isinstance(obj, type):
            known(self._do("class", self._name("class", obj)))
        elif isinstance(obj, _FUNCTIONS) or kind.__name__ == "cython_function_or_method":
            known(self._function(obj))
        elif isinstance(obj, MethodType):
            known(self._method(obj))
        elif isinstance(obj, Enum):
            known(self._do("enum", self._name("class", kind), obj.name))
        elif isinstance(obj, np.dtype):
            known(self._do("dtype", _descr(obj)))
        elif isinstance(obj, np.generic):
            known(self._do("scalar", _descr(obj.dtype), obj.tobytes().hex()))
        elif kind is np.ndarray or isinstance(obj, np.memmap):
            self._ndarray(obj, known)
        elif isinstance(obj, NeuralNet):
            # By its own ``__getstate__`` skorch would put a pickle into the file.
            net = known(self._do("new", self._name("class", kind), [], []))
            self._do("attributes", net, self._refer(dict(vars(obj)), "__dict__"))
        elif isinstance(obj, BaseUnlearnable):
            with snapshot(obj, rows=self._rows, receipts=self._receipts) as present:
                self._reduced(present, known, key)
        elif isinstance(obj, Pipeline):
            with pipeline_snapshot(obj, rows=self._rows) as present:
                self._reduced(present, known, key)
        elif kind is TrainingSet:
            # With its gaps, so that requests draw the same rows after loading.
            number = known(self._do("new", self._name("class", kind), [], []))
            self._do("state", number, self._refer(obj.slots(), "__dict__"))
        else:
            self._reduced(obj, known, key)

    def _fill(self, obj: Any, number: int) -> None:
        if isinstance(obj, dict):
            # Names of attributes tell where something is. Other keys may be identifiers, which no error may quote.
            named = self._path[-1] == "__dict__"
            pairs = [[self._refer(key), self._refer(value, key if named else "[]")] for key, value in obj.items()]
            self._do("items", number, pairs)
        elif isinstance(obj, bytearray):
            self._do("extend", number, [self._bytes(bytes(obj))])
        else:
            self._do("extend", number, self._each(obj))

    def _bytes(self, data: bytes) -> int:
        if len(data) <= _SHORT:
            return self._do("bytes", data.hex())
        return self._do("long bytes", self._array(np.frombuffer(data, np.uint8)))

    def _function(self, obj: Any) -> int:
        owner = getattr(obj, "__self__", None)  # of a function in C: its module
        if owner is not None and not isinstance(owner, ModuleType):
            raise PersistenceError(
                f"holds the method {obj.__name__} of a {type(owner).__name__}, which cannot be saved"
            )
        return self._do("function", self._name("function", obj))

    def _method(self, obj: MethodType) -> int:
        if isinstance(obj.__self__, type):
            raise PersistenceError(f"holds the class method {obj.__name__}, which cannot be saved; use a function")
        return self._do("method", self._refer(obj.__self__, "__self__"), obj.__func__.__name__)

    def _ndarray(self, values: np.ndarray[Any, Any], known: Callable[[int], int]) -> None:
        if values.dtype == object:
            number = known(self._do("objects", list(values.shape)))
            self._do("fill", number, self._each(values.ravel().tolist()))
        else:
            _descr(values.dtype)
            known(self._do("array", self._array(np.asarray(values))))

    def _reduced(self, obj: Any, known: Callable[[int], int], key: Any) -> None:
        way: Any = taken_apart(obj)
        if way is None:
            reduce: Any = copyreg.dispatch_table.get(type(obj))
            way = reduce(obj) if reduce else obj.__reduce_ex__(4)
        if not isinstance(way, tuple) or len(way) > 5:
            raise PersistenceError(f"is a {type(obj).__name__}, which cannot be saved")
        function, args, state, items, pairs = way + (None,) * (5 - len(way))
        number = self._called(type(obj), function, args)
        if key in self._known:
            return
        known(number)
        if items is not None:
            self._do("extend", number, self._each(items))
        if pairs is not None:
            self._fill(dict(pairs), number)
        if state is not None:
            self._do("state", number, self._refer(state, "__dict__"))

    def _called(self, kind: type, function: Any, args: tuple[Any, ...]) -> int:
        if function is copyreg.__newobj__:  # type: ignore[attr-defined]
            return self._do("new", self._name("class", args[0]), self._each(args[1:]), [])
        if function is copyreg.__newobj_ex__:  # type: ignore[attr-defined]
            named = [[name, self._refer(value, name)] for name, value in args[2].items()]
            return self._do("new", self._name("class", args[0]), self._each(args[1]), named)
        if isinstance(function, type):
            return self._do("call", self._name("class", function), self._each(args))
        if function is torch._utils._rebuild_tensor_v2:
            function = tensor
        return self._do("call", self._name("rebuild", function), self._each(args))


def _descr(dtype: np.dtype[Any]) -> Any:
    if dtype.hasobject and dtype != np.dtype(object):
        raise PersistenceError(f"is of the data type {dtype}, which cannot be saved")
    return np.lib.format.dtype_to_descr(dtype)
