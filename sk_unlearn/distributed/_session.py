"""The time in which processes work together: how it begins, how it ends, and what becomes of it when one fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import torch

from sk_unlearn.exceptions import ProcessesError

__all__ = [
    "Processes",
    "Session",
    "data_parallel",
    "in_step",
    "is_active",
    "rank",
    "refuse",
    "session",
    "size",
]

# Seconds that a process which failed waits to hear that the others failed in the same way.
_GRACE = 10.0
_WORKING = (
    "fit, partial_fit, forget, partial_forget, correct, request_forget, cancel_request, settle, retrain and "
    "predictions of UnlearnableClassifier and UnlearnableRegressor"
)


class Processes(NamedTuple):
    """What :func:`data_parallel` tells a process of itself.

    Attributes
    ----------
    rank : int
        Its number, from 0.

    size : int
        How many processes there are.
    """

    rank: int
    size: int


@dataclass
class Session:
    """The processes that work together at present, as one of them sees it.

    Attributes
    ----------
    processes : Processes

    device : torch.device
        Where the backend takes tensors.

    store : torch.distributed.Store
        By which a process that failed tells the others without a collective call, which would not fit to theirs.

    owns_group : bool
        Whether the group of processes was made here, and ends here.

    n_verbs : int
        How many verbs have begun.

    depth : int
        How many of them this process is in, one inside the other.

    is_broken : bool
        Whether a process has failed by itself, so that collective calls fit together no more.
    """

    processes: Processes
    device: torch.device
    store: Any
    owns_group: bool
    timeout: float
    n_verbs: int = 0
    depth: int = 0
    is_broken: bool = False

    def check(self) -> None:
        """Raise where the processes are not in step any more."""
        if self.is_broken:
            raise ProcessesError(
                "The processes of data_parallel() are out of step since one of them failed: leave the context in all "
                "that are left, and begin a new one."
            )

    def failed(self, error: BaseException) -> bool:
        """Tell the others that this process left a verb with an error, and find out whether they did, too.

        Where they did not, or not in time, the group is given up. They wait for this process in a collective call,
        which ends when they notice that it has left, at the latest after the timeout.
        """
        if self.is_broken or self.processes.size == 1:
            return not self.is_broken
        ended = [f"failed/{self.n_verbs}/{k}" for k in range(self.processes.size)]
        try:
            self.store.set(ended[self.processes.rank], type(error).__name__)
            if not is_lost(error):
                self.store.wait(ended, timedelta(seconds=min(_GRACE, self.timeout)))
                return True
        except RuntimeError:
            pass  # it took too long, or the process that kept the store is gone
        self.give_up()
        return False

    def give_up(self) -> None:
        """Leave the group, so that collective calls of others fail at once."""
        self.is_broken = True
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


_session: Session | None = None


def session() -> Session:
    """Return the present session, whose processes are in step."""
    assert _session is not None
    _session.check()
    return _session


def is_active() -> bool:
    """Tell whether this process works together with others at present."""
    return _session is not None


def rank() -> int:
    """Return the number of this process; 0 where it works alone."""
    return 0 if _session is None else _session.processes.rank


def size() -> int:
    """Return the number of processes; 1 where this one works alone."""
    return 1 if _session is None else _session.processes.size


def is_lost(error: BaseException) -> bool:
    """Tell whether an error says that a collective call failed."""
    kinds = (torch.distributed.DistError, ProcessesError)
    told = str(error).lower()
    return isinstance(error, kinds) or (
        isinstance(error, RuntimeError) and any(word in told for word in ("gloo", "nccl", "connection closed by peer"))
    )


@contextmanager
def data_parallel(*, backend: str | None = None, timeout: float = 600.0) -> Iterator[Processes]:
    """Have several processes fit one model on rows that each holds a part of, and carry out requests together.

    Start the script with ``torchrun``, or call ``torch.distributed.init_process_group`` before. Inside the context each
    process gives ``fit`` and ``partial_fit`` its own rows, with their targets, weights and identifiers. All call the
    same verbs in the same order, and give a request whole: each finds what it holds. The model is the one that a single
    process makes of all rows, those of process 0 first, and is the same in all of them.

    Parameters
    ----------
    backend : {"gloo", "nccl"}, default=None
        Of ``torch.distributed``. None: nccl where a GPU is there, else gloo.

    timeout : float, default=600.0
        Seconds after which a process that waits for another gives up.

    Yields
    ------
    processes : Processes
        ``rank`` and ``size``.

    Raises
    ------
    RuntimeError
        If the processes were not started together, or inside another such context.

    ValueError
        For an unknown backend, or a timeout that is not positive.

    Notes
    -----
    Features stay with the process that gave them; nobody else keeps a copy. Targets, weights, identifiers and the index
    by which rows are found are in all processes, some dozens of bytes a row. Values, gradients and curvature products
    of the risk are computed by each process over its own rows and summed. What reads few rows gathers them.

    Training makes the batches that one process makes of all rows. Each process takes the rows of a batch that it holds,
    and ``DistributedDataParallel`` adds up their gradients, weighted so that the step is that of the whole batch: a
    process that holds none of its rows adds nothing, and all take equally many steps. A net with BatchNorm layers, or
    one whose batches are not slices of arrays, is trained on whole batches by every process.

    An error that all processes meet, such as for a row that nobody holds, is raised in all of them, and they go on.
    Where one fails or dies alone, the others raise a
    :class:`~sk_unlearn.exceptions.ProcessesError` and keep the old state; the context is
    then over for all of them.

    Examples
    --------
    ::

        # torchrun --nproc-per-node 2 train.py
        from sk_unlearn import UnlearnableClassifier
        from sk_unlearn.distributed import data_parallel

        with data_parallel() as processes:
            X, y = my_rows(processes.rank)
            est = UnlearnableClassifier(random_state=0).fit(X, y, sample_id=my_ids(processes.rank))
            est.forget(sample_id=["customer-17"])
    """
    global _session
    if _session is not None:
        raise RuntimeError("data_parallel() is entered already; leave it before you enter it again.")
    if backend not in (None, "gloo", "nccl"):
        raise ValueError(f"backend must be 'gloo', 'nccl' or None, got {backend!r}.")
    if not timeout > 0:
        raise ValueError(f"timeout must be a positive number of seconds, got {timeout}.")
    _session = _begun(backend, timeout)
    try:
        yield _session.processes
    finally:
        ended, _session = _session, None
        if ended.owns_group and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _begun(backend: str | None, timeout: float) -> Session:
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

    owns_group = not dist.is_initialized()
    if owns_group:
        if "WORLD_SIZE" not in os.environ:
            raise RuntimeError(
                "data_parallel() needs processes that were started together: run the script by torchrun "
                "--nproc-per-node 2 script.py, or call torch.distributed.init_process_group before."
            )
        backend = backend or ("nccl" if torch.cuda.is_available() else "gloo")
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    device = torch.device("cpu")
    if dist.get_backend() == "nccl":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    processes = Processes(dist.get_rank(), dist.get_world_size())
    store = PrefixStore("sk_unlearn", _get_default_store())
    return Session(processes, device, store, owns_group, timeout)


@contextmanager
def in_step(verb: str) -> Iterator[None]:
    """Carry out a verb that all processes carry out together; without others nothing is done.

    Parameters
    ----------
    verb : str
        Its name, for messages.

    Raises
    ------
    ProcessesError
        Where another process failed or died meanwhile, or before.
    """
    here = _session
    if here is None or here.depth:
        yield
        return
    here.check()
    here.depth, here.n_verbs = here.depth + 1, here.n_verbs + 1
    try:
        yield
    except BaseException as error:
        if not here.failed(error) and is_lost(error):
            raise ProcessesError(
                f"Another process failed or died while {verb} was under way; here nothing was changed. Leave "
                "data_parallel() in all processes that are left, and begin a new one."
            ) from error
        raise
    finally:
        here.depth -= 1


def refuse(what: str) -> None:
    """Raise where processes work together at present: for what is not made to run so.

    Parameters
    ----------
    what : str
        What was called.

    Raises
    ------
    RuntimeError
    """
    if _session is not None:
        raise RuntimeError(f"{what} does not run inside data_parallel(), where these do: {_WORKING}.")
