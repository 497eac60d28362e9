"""Calls that travel to a cluster, and what comes back, pickled in one piece each.

A cluster's own way would leave arrays in memory that its workers and this process share: read-only, and still there
when rows are erased from them. It also waits for ever, or tells nothing, where something cannot be loaded. Here all is
pickled before it is handed over and loaded within the task, where an error is an answer, and what arrives is a copy.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Generator, Iterable
from typing import Any

from joblib import parallel_backend

__all__ = ["Call", "Parcel", "answer", "packed", "result_of"]

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


def answer(call: Parcel, *given: Parcel) -> tuple[Parcel, str]:
    """Carry out a call on a worker; return what it returns, or what it raises and where that was."""
    try:
        function, names = call.opened()
        values = [parcel.opened() for parcel in given]
        unnamed = [value for name, value in zip(names, values, strict=True) if name is None]
        named = {name: value for name, value in zip(names, values, strict=True) if name is not None}
        # A task is one worker's work, whatever joblib is asked for inside.
        with parallel_backend("sequential", n_jobs=1):
            return Parcel(function(*unnamed, **named)), ""
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


def _dumps(content: Any) -> bytes:
    try:
        import cloudpickle
    except ImportError:  # joblib had its own before 1.6
        from joblib.externals import cloudpickle
    pickled: bytes = cloudpickle.dumps(content)
    return pickled
