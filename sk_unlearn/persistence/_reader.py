"""From the list of operations to the object that they make."""

from __future__ import annotations

import json
from enum import Enum
from types import MethodType
from typing import Any

import numpy as np
from skorch import NeuralNet

from sk_unlearn.exceptions import PersistenceError
from sk_unlearn.persistence._names import Name, resolve
from sk_unlearn.persistence._rebuild import here

__all__ = ["Reader"]


class Reader:
    """Make an object from the operations in a file.

    Parameters
    ----------
    program : bytes
        As `Writer.write` returns it.

    Attributes
    ----------
    names : list of Name
        What it needs to find by name. To be checked before :meth:`make` is called.
    """

    def __init__(self, program: bytes) -> None:
        parsed = json.loads(program)
        self.names = [Name(*map(str, name)) for name in parsed["names"]]
        self._operations, self._root = parsed["operations"], parsed["root"]

    def make(self, arrays: list[np.ndarray[Any, Any]]) -> Any:
        """Return the object.

        Parameters
        ----------
        arrays : list of ndarray
            What the file holds beside the operations. The object takes them over.

        Raises
        ------
        PersistenceError
            If a name leads nowhere here, or an operation is none that :class:`Writer` writes.
        """
        try:
            self._found = [resolve(name) for name in self.names]
        except PersistenceError as error:
            raise PersistenceError(f"The file cannot be loaded: {error}.") from None
        self._arrays = arrays
        self._values: list[Any] = []
        self._own: set[Any] = set()
        for kind, *operands in self._operations:
            do = _OPERATIONS.get(kind)
            if do is None:
                raise PersistenceError("The file holds an operation that this version of sk_unlearn does not know.")
            if kind in _CHANGES and operands[0] not in self._own:
                raise PersistenceError("The file changes a value that it did not make.")
            if kind in _MAKES:
                self._own.add(len(self._values))
            self._values.append(do(self, *operands))
        return self._value(self._root)

    # ------------------------------------------------------------------ operands

    def _value(self, reference: Any) -> Any:
        return reference[0] if isinstance(reference, list) else self._values[_whole(reference)]

    def _all(self, references: list[Any]) -> list[Any]:
        return [self._value(one) for one in references]

    def _named(self, number: int, *kinds: str) -> Any:
        if self.names[_whole(number)].kind not in kinds:
            raise PersistenceError("The file uses a name for what it was not written down for.")
        return self._found[number]

    # ------------------------------------------------------------------ operations

    def _class(self, number: int) -> Any:
        return self._named(number, "class")

    def _function(self, number: int) -> Any:
        return self._named(number, "function")

    def _list(self) -> list[Any]:
        return []

    def _dict(self) -> dict[Any, Any]:
        return {}

    def _set(self) -> set[Any]:
        return set()

    def _bytearray(self) -> bytearray:
        return bytearray()

    def _tuple(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(self._all(items))

    def _frozenset(self, items: list[Any]) -> frozenset[Any]:
        return frozenset(self._all(items))

    def _bytes(self, digits: str) -> bytes:
        return bytes.fromhex(digits)

    def _long_bytes(self, number: int) -> bytes:
        return self._arrays[_whole(number)].tobytes()

    def _array(self, number: int) -> Any:
        return self._arrays[_whole(number)]

    def _scalar(self, descr: Any, digits: str) -> Any:
        return np.frombuffer(bytes.fromhex(digits), self._dtype(descr))[0]

    def _dtype(self, descr: Any) -> np.dtype[Any]:
        return np.lib.format.descr_to_dtype(_with_tuples(descr))

    def _objects(self, shape: list[int]) -> Any:
        return np.empty(shape, dtype=object)

    def _fill(self, number: int, items: list[Any]) -> None:
        array = self._value(number)
        flat = np.empty(len(items), dtype=object)
        flat[:] = self._all(items)
        array[...] = flat.reshape(array.shape)

    def _extend(self, number: int, items: list[Any]) -> None:
        holder, values = self._value(number), self._all(items)
        if isinstance(holder, set):
            holder.update(values)
        elif isinstance(holder, bytearray):
            holder.extend(values[0])
        else:
            holder.extend(values)

    def _items(self, number: int, pairs: list[Any]) -> None:
        holder = self._value(number)
        for key, value in pairs:
            holder[self._value(key)] = self._value(value)

    def _enum(self, number: int, name: str) -> Any:
        cls = self._named(number, "class")
        if not issubclass(cls, Enum):
            raise PersistenceError("The file takes a class for what it is not.")
        return cls[name]

    def _method(self, owner: Any, name: str) -> Any:
        obj = self._value(owner)
        method = getattr(type(obj), name, None)
        if name.startswith("__") or not callable(method):
            raise PersistenceError("The file asks for a method that there is not.")
        return MethodType(method, obj)

    def _new(self, number: int, args: list[Any], named: list[Any]) -> Any:
        cls = self._named(number, "class")
        return cls.__new__(cls, *self._all(args), **{name: self._value(value) for name, value in named})

    def _call(self, number: int, args: list[Any]) -> Any:
        return self._named(number, "class", "rebuild")(*self._all(args))

    def _attributes(self, number: int, attributes: Any) -> None:
        obj, state = self._value(number), self._value(attributes)
        if isinstance(obj, NeuralNet) and isinstance(state.get("device"), str):
            state = {**state, "device": str(here(state["device"]))}
        vars(obj).update(state)

    def _state(self, number: int, given: Any) -> None:
        obj, state = self._value(number), self._value(given)
        if isinstance(obj, NeuralNet | np.ndarray):  # whose states may hold pickles and addresses
            raise PersistenceError("The file gives an object a state that it cannot have.")
        if hasattr(obj, "__setstate__"):
            obj.__setstate__(state)
            return
        state, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
        if state:
            vars(obj).update(state)
        for name, value in (slots or {}).items():
            setattr(obj, name, value)


# Operations that make something new, and those that change such a thing: classes, functions and constants, which others
# use too, must stay as they are.
_MAKES = frozenset(("new", "call", "list", "dict", "set", "bytearray", "objects"))
_CHANGES = frozenset(("state", "attributes", "items", "extend", "fill"))
_OPERATIONS: dict[str, Any] = {
    name: getattr(Reader, f"_{name.replace(' ', '_')}")
    for name in (
        *("class", "function", "method", "enum", "new", "call", "state", "attributes"),
        *("list", "dict", "set", "tuple", "frozenset", "extend", "items"),
        *("bytes", "long bytes", "bytearray", "array", "objects", "fill", "scalar", "dtype"),
    )
}


def _whole(number: Any) -> int:
    """Return the number of an earlier value; counting from the end is none."""
    if type(number) is not int or number < 0:
        raise PersistenceError("The file refers to a value that there is not.")
    return number


def _with_tuples(descr: Any) -> Any:
    """Return the description of a type of numpy's with the tuples that JSON made lists of."""
    if isinstance(descr, str):
        return descr
    return [(field[0], _with_tuples(field[1]), *map(tuple, field[2:])) for field in descr]
