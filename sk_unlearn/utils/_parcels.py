"""Calls that travel to other processes, and what comes back, pickled in one piece each.

Their own ways would leave arrays in memory or files that workers and this process share: read-only, and still there
when rows are erased from them. A cluster also waits for ever, or tells nothing, where something cannot be loaded. Here
all is pickled before it is handed over and loaded within the task, where an error is an answer, and what arrives is a
copy. Classes and functions of a script or notebook travel, too.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
import traceback
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any

from joblib import parallel_backend
from skorch import NeuralNet

try:
    import cloudpickle
except ImportError:  # joblib had its own before 1.6
    from joblib.externals import cloudpickle

__all__ = ["Call", "Parcel", "answer", "done", "packed", "result_of"]

# What joblib.delayed makes: a function, its arguments, and those with names.
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Parcel:
    """Something pickled on its way to or from a worker; what is printed of it quotes no row.

    Parameters
    ----------
    content : object
        Anything that cloudpickle can pickle, as the classes and functions of a script are.
    """

    def __init__(self, content: Any) -> None:
        self._bytes = _dumps(content)

    def opened(self) -> Any:
        """Return a copy of what was put in."""
        return pickle.loads(self._bytes)

    def __len__(self) -> int:
        return len(self._bytes)

    def __sizeof__(self) -> int:
        return len(self._bytes)  # by which a worker knows when its memory is full

    def __repr__(self) -> str:
        return f"Parcel({len(self)} bytes)"


def packed(calls: Iterable[Call]) -> Generator[tuple[Parcel, ...], None, None]:
    """Yield for each call what `answer` takes: an argument of several calls is pickled once, and the same parcel."""
    parcels: dict[int, Parcel] = {}
    kept = []  # so that no other object comes to be where one of them was

    def sent(value: Any) -> Parcel:
        if id(value) not in parcels:
            kept.append(value)
            parcels[id(value)] = Parcel(value)
        return parcels[id(value)]

    for function, given, named in calls:
        names = [None] * len(given) + list(named)
        yield Parcel((function, names)), *map(sent, given), *map(sent, named.values())


def done(call: Parcel, *given: Parcel) -> Parcel:
    """Carry out a call on a worker and return what it returns."""
    function, names = call.opened()
    values = [parcel.opened() for parcel in given]
    unnamed = [value for name, value in zip(names, values, strict=True) if name is None]
    named = {name: value for name, value in zip(names, values, strict=True) if name is not None}
    # A task is one worker's work, whatever joblib is asked for inside.
    with parallel_backend("sequential", n_jobs=1):
        return Parcel(function(*unnamed, **named))


def answer(call: Parcel, *given: Parcel) -> tuple[Parcel, str]:
    """Carry out a call on a worker; return what it returns, or what it raises and where that was."""
    try:
        return done(call, *given), ""
    except Exception as error:
        return _travelling(error), traceback.format_exc()


def result_of(answered: tuple[Parcel, str]) -> Any:
    """Return what a call returned, or raise what it raised."""
    parcel, where = answered
    content = parcel.opened()
    if where:
        raise content from RuntimeError(f"On a worker of the cluster:\n{where}")
    return content


def _travelling(error: Exception) -> Parcel:
    """Pack an error, or one with the same words where it cannot be opened elsewhere."""
    try:
        parcel = Parcel(error)
        parcel.opened()
    except Exception:
        parcel = Parcel(RuntimeError(f"{type(error).__name__} on a worker: {error}"))
    return parcel


class _Pickler(cloudpickle.Pickler):
    """Pickles what is defined in a script or notebook so that a worker can pickle it again by its name.

    skorch pickles modules and criteria by themselves, and by name alone, also where a net is only copied. So they are
    pickled here, in the form that its ``__setstate__`` takes, and what has a name in our ``__main__`` gets it there.
    """

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, NeuralNet) and type(obj).__getstate__ is NeuralNet.__getstate__:
            return copyreg.__newobj__, (type(obj),), _state_of(obj)  # type: ignore[attr-defined]
        reduced = super().reducer_override(obj)
        if isinstance(reduced, tuple) and len(reduced) == 6 and _is_named_in_main(obj):
            return *reduced[:5], partial(_named_in_main, reduced[5])
        return reduced


def _is_named_in_main(obj: Any) -> bool:
    name = getattr(obj, "__qualname__", None)
    return getattr(obj, "__module__", None) == "__main__" and name in vars(sys.modules["__main__"])


# What this process has in __main__ because it was sent, by its name.
_sent: dict[str, Any] = {}


def _named_in_main(settle: Callable[[Any, Any], Any], obj: Any, state: Any) -> None:
    """Fill a class or function that was sent, and let it be found by its name, unless __main__ has one of its own."""
    settle(obj, state)
    main, name = vars(sys.modules["__main__"]), obj.__qualname__
    if main.get(name) is _sent.get(name):
        main[name] = _sent[name] = obj


def _state_of(net: NeuralNet) -> dict[str, Any]:
    prefixes = tuple(net.cuda_dependent_attributes_)
    state = vars(net).copy()
    by_themselves = {name: state.pop(name) for name in list(state) if name.startswith(prefixes)}
    return {**state, "__cuda_dependent_attributes__": _dumps(by_themselves)}


def _dumps(content: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer).dump(content)
    return buffer.getvalue()
