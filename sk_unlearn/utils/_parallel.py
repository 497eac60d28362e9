"""Calls that joblib's workers carry out: threads, processes, or those of a Dask or Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any

from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend

from sk_unlearn.utils._dask import carried_out_by_dask
from sk_unlearn.utils._parcels import Call, answer, done, packed, result_of

__all__ = ["carried_out", "runs_here"]


def runs_here(n_jobs: int | None) -> bool:
    """Tell whether calls are carried out one after another in this thread.

    Parameters
    ----------
    n_jobs : int or None
        As joblib takes it. A Dask cluster is left aside by 1 alone, and used even if it has one worker only: that may
        be the machine with the memory or the device.

    Returns
    -------
    here : bool
    """
    return n_jobs == 1 or (not _is_dask(get_active_backend()[0]) and effective_n_jobs(n_jobs) == 1)


def carried_out(
    calls: Iterable[Call],
    n_jobs: int | None,
    *,
    advance: Callable[[float], object] | None = None,
    stream: bool = False,
    **settings: Any,
) -> Generator[Any, None, None]:
    """Carry out calls and yield what they return, in their order.

    Whoever stops early closes the generator: what was not begun is left undone then.

    Parameters
    ----------
    calls : iterable of (function, arguments, named arguments)
        What ``joblib.delayed`` makes.
    n_jobs : int or None
        As joblib takes it; the backend is the one of ``joblib.parallel_config``.
    advance : callable, optional
        Called with the fraction of all calls that have been carried out since it was called last.
    stream : bool, default=False
        Whether to yield each as soon as it and those before it are there, where the backend can.
    settings : dict
        Further arguments of ``joblib.Parallel``.

    Yields
    ------
    outcome : object

    Raises
    ------
    BaseException
        What a call raises, or the backend, such as when a worker dies.
    """
    backend = get_active_backend()[0]
    if runs_here(n_jobs):
        for function, given, named in calls:
            yield function(*given, **named)
        return
    if _is_dask(backend):
        yield from carried_out_by_dask(backend, calls, advance)
        return
    if stream and getattr(backend, "supports_return_generator", False):
        settings["return_as"] = "generator"
    with_jobs = _Shown(advance, n_jobs=n_jobs, **settings)
    if not type(backend).__module__.startswith("joblib."):  # of others, such as Ray's
        yield from map(result_of, with_jobs(delayed(answer)(*parcels) for parcels in packed(calls)))
    elif getattr(backend, "supports_sharedmem", False):
        yield from with_jobs(calls)
    else:
        yield from (parcel.opened() for parcel in with_jobs(delayed(done)(*parcels) for parcels in packed(calls)))


def _is_dask(backend: Any) -> bool:
    return type(backend).__name__ == "DaskDistributedBackend"


class _Shown(Parallel):
    """Tells how much is done."""

    def __init__(self, advance: Callable[[float], object] | None, **settings: Any) -> None:
        super().__init__(**settings)
        self._advance = advance
        self._done = 0.0

    def print_progress(self) -> None:
        """Tell; joblib calls it whenever a task is done."""
        done = self.n_completed_tasks / max(self.n_dispatched_tasks, 1)
        if self._advance is not None:
            self._advance(done - self._done)
        self._done = done
