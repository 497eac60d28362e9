"""What processes tell each other: sums, objects, rows, and that all is well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sk_unlearn.distributed._session import session
from sk_unlearn.exceptions import ProcessesError

__all__ = ["agree", "as_first", "from_first", "gather", "gather_rows", "same", "sum_"]

_Call = TypeVar("_Call", bound=Callable[..., Any])


def _told(call: _Call) -> _Call:
    """Have a collective call say in words of ours that another process is gone."""

    @wraps(call)
    def telling(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except (ProcessesError, torch.OutOfMemoryError):
            raise
        except RuntimeError as error:
            raise ProcessesError("A collective call failed: another process failed, died or is not in step.") from error

    return cast(_Call, telling)


@_told
def sum_(tensor: Tensor) -> Tensor:
    """Add up a tensor over all processes, in place, and return it; the result has the same bits in all of them."""
    here = session()
    if here.processes.size == 1:
        return tensor
    moved = tensor if tensor.device.type == here.device.type else tensor.to(here.device)
    moved = moved.contiguous()
    torch.distributed.all_reduce(moved)
    return tensor if moved is tensor else tensor.copy_(moved)


@_told
def gather(value: Any) -> list[Any]:
    """Return an object of each process, that of process 0 first."""
    here = session()
    found: list[Any] = [None] * here.processes.size
    torch.distributed.all_gather_object(found, value)
    return found


@_told
def from_first(value: Any) -> Any:
    """Return the object that process 0 has."""
    found = [value]
    torch.distributed.broadcast_object_list(found, src=0, device=session().device)
    return found[0]


@_told
def as_first(*tensors: Tensor) -> None:
    """Give tensors, in place, the values that they have in process 0."""
    here = session()
    for tensor in tensors:
        kind = torch.uint8 if tensor.dtype is torch.bool else tensor.dtype  # not every backend takes truth values
        moved = tensor.detach().to(here.device, kind).contiguous()
        torch.distributed.broadcast(moved, src=0)
        if moved.data_ptr() != tensor.data_ptr():
            tensor.detach().copy_(moved)


@_told
def gather_rows(mine: NDArray[Any], holder: NDArray[Any]) -> NDArray[Any]:
    """Return rows of which each process has some, in one order.

    Parameters
    ----------
    mine : (m, ...) array
        Those of this process, in their order.
    holder : (n,) integer array
        Which process has each of the rows; the same in all of them.
    """
    here = session()
    counts = np.bincount(holder, minlength=here.processes.size)
    rows = np.empty((len(holder), *mine.shape[1:]), dtype=mine.dtype)
    n_bytes = rows.itemsize * int(np.prod(rows.shape[1:], dtype=np.int64))
    if not len(rows) or not n_bytes:
        return rows
    sent = np.zeros((int(counts.max()), n_bytes), dtype=np.uint8)
    sent[: len(mine)] = np.frombuffer(np.ascontiguousarray(mine).tobytes(), np.uint8).reshape(len(mine), n_bytes)
    packed = torch.from_numpy(sent).to(here.device)
    found = [torch.empty_like(packed) for _ in counts]
    torch.distributed.all_gather(found, packed)
    for k, part in enumerate(found):
        theirs = part.cpu().numpy()[: counts[k]]
        rows[holder == k] = theirs.reshape(-1).view(rows.dtype).reshape(len(theirs), *rows.shape[1:])
    return rows


@contextmanager
def agree() -> Iterator[None]:
    """Carry out what may fail in one process alone, and raise in all of them where it did in any.

    Raises
    ------
    Exception
        The own error where there is one; else a ValueError with the message of the first process that failed, or of
        the class TypeError where its error was.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as raised:  # told to the others before it goes on
        error = raised
    told = gather(None if error is None else (isinstance(error, TypeError), str(error)))
    if error is not None:
        raise error
    for k, each in enumerate(told):
        if each is not None:
            is_type_error, message = each
            raise (TypeError if is_type_error else ValueError)(f"In process {k}: {message}")


def same(value: Any, what: str) -> None:
    """Raise in all processes unless they have the same value.

    Parameters
    ----------
    value : object
        To be compared by ``==``; a digest of what is meant.
    what : str
        What it is of, for the message.

    Raises
    ------
    ValueError
    """
    found = gather(value)
    if any(each != found[0] for each in found):
        raise ValueError(f"{what} must be the same in all processes of data_parallel(), and is not.")
