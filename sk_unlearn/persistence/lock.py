"""One process at a time between loading a file and saving it again."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["exclusive"]

_SECONDS_BETWEEN_TRIES = 0.05


@contextlib.contextmanager
def exclusive(path: str | os.PathLike[str], *, wait: float = 0.0) -> Iterator[None]:
    """Hold a model file for oneself while it is loaded, changed and saved.

    :func:`save` never leaves half a file, but two processes that load the same model and each forget somebody would
    save one after the other, and the second would bring back whom the first forgot. Whoever changes a file does it
    inside this context, as the command line does. Those who only read need it not.

    Parameters
    ----------
    path : str or path-like
        Of the model. What is locked is a hidden empty file beside it, ``.NAME.lock``, which stays there: to remove it
        would let two processes hold two files of that name.

    wait : float, default=0.0
        Seconds to wait for another process.

    Raises
    ------
    TimeoutError
        If another process, or another thread, holds it longer than that.

    Notes
    -----
    The system frees the lock when a process ends, however it ends. Where the system has no such locks, as on Windows
    and on some network file systems, nothing is held: let one process alone change a file there.

    Examples
    --------
    >>> import os, tempfile
    >>> from sk_unlearn.persistence import exclusive
    >>> path = os.path.join(tempfile.mkdtemp(), "model.skops")
    >>> with exclusive(path):
    ...     pass  # load, forget, save
    """
    folder, name = os.path.split(os.path.realpath(path))
    handle = os.open(os.path.join(folder, f".{name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _acquire(handle, time.monotonic() + wait)
        yield
    finally:
        os.close(handle)


def _acquire(handle: int, until: float) -> None:
    while fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise TimeoutError("Another process is changing the model file: wait until it has ended.") from None
            time.sleep(_SECONDS_BETWEEN_TRIES)
        except OSError:  # a file system without locks
            return
        else:
            return
