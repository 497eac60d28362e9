"""Calls on the workers of a Dask cluster, by the client of joblib's backend.

joblib's own way to Dask hears of a task only when its worker answers: when workers die of one it waits for ever, and
after Ctrl-C its tasks go on.
"""

from __future__ import annotations

import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from typing import Any

from sk_unlearn.utils._parcels import Call, Parcel, answer, packed, result_of

__all__ = ["carried_out_by_dask"]

# Bytes from which an argument of several calls travels once, and not with each.
_SHARED_FROM = 10_000


def carried_out_by_dask(
    backend: Any, calls: Iterable[Call], advance: Callable[[float], object] | None = None
) -> Generator[Any, None, None]:
    """Carry out calls on the workers of a Dask cluster and yield what they return, in their order.

    Parameters
    ----------
    backend : DaskDistributedBackend
        joblib's: its client is used, and what the user gave for ``Client.submit``.
    calls : iterable of (function, arguments, named arguments)
        What ``joblib.delayed`` makes. Each gets copies of its arguments.
    advance : callable, optional
        Called with the fraction of all calls that have been carried out since it was called last.

    Yields
    ------
    outcome : object

    Raises
    ------
    BaseException
        What a call raises, or Dask, such as ``KilledWorker`` when several workers died of one call. Then, and when
        the generator is closed, tasks that no worker has begun are cancelled.
    """
    from distributed import as_completed

    backend.effective_n_jobs(None)  # waits for a first worker, and says so if none comes
    numbers: dict[Any, int] = {}
    shared: dict[Parcel, Any] = {}
    try:
        for number, future in enumerate(_submitted(backend, list(packed(calls)), shared)):
            numbers[future] = number
        shared.clear()  # the tasks hold what they need until they are done
        n_calls, early, due = len(numbers), {}, 0
        # In a task of the same cluster this thread makes room for others while it waits.
        with backend.retrieval_context():
            for future in as_completed(list(numbers)):
                result = result_of(future.result())
                early[numbers.pop(future)] = result
                del future, result  # lets the worker drop it
                if advance is not None:
                    advance(1 / n_calls)
                while due in early:
                    yield early.pop(due)
                    due += 1
    finally:
        if numbers or shared:
            with suppress(Exception):  # a cluster that is gone has nothing to cancel
                backend.client.cancel([*numbers, *shared.values()])


def _submitted(
    backend: Any, packed_calls: list[tuple[Parcel, ...]], shared: dict[Parcel, Any]
) -> Generator[Any, None, None]:
    """Hand in all calls and yield their futures; `shared` gets those of what several of them are given."""
    uses = Counter(parcel for parcels in packed_calls for parcel in parcels)
    for parcels in packed_calls:
        given = []
        for parcel in parcels:
            if uses[parcel] > 1 and len(parcel) >= _SHARED_FROM and parcel not in shared:
                # By a task, so that Dask can make it anew when the worker that holds it dies.
                shared[parcel] = _submit(backend, {}, _itself, parcel)
            given.append(shared.get(parcel, parcel))
        yield _submit(backend, backend.submit_kwargs, answer, *given)


def _submit(backend: Any, options: dict[str, Any], function: Callable[..., Any], *given: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")  # rows travel, and each set of them once
        key = f"sk_unlearn-{function.__name__}-{uuid.uuid4().hex}"
        return backend.client.submit(function, *given, key=key, **options)


def _itself(parcel: Parcel) -> Parcel:
    return parcel
