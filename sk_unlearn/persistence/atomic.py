"""A file that is either the old one or the new one, whenever the process is killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows, where whoever writes second fails to open the file
    fcntl = None  # type: ignore[assignment]

__all__ = ["write_atomically"]


def write_atomically(path: str, parts: list[memoryview]) -> None:
    """Write a file beside the one of that name, bring it to the disk, and put it in its place.

    Parameters
    ----------
    path : str
        A link is followed, and the file that it leads to replaced. Its permissions are kept.
    parts : list of memoryview
        What is written, one after the other.
    """
    path = os.path.realpath(path)
    folder, name = os.path.split(path)
    # Always the same name: what a killed process leaves there may hold rows that are erased later, and must not stay
    # beside the file for longer than to the next save.
    aside = os.path.join(folder, f".{name}.part")
    with _alone(aside) as handle:
        with contextlib.suppress(OSError):
            os.chmod(aside, os.stat(path).st_mode & 0o7777)
        try:
            for part in parts:
                _write(handle, part)
            os.fsync(handle)
            os.replace(aside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(aside)
            raise
    _sync_folder(folder)


@contextlib.contextmanager
def _alone(aside: str) -> Iterator[int]:
    """Open an empty file that no other process writes to meanwhile."""
    while True:
        handle = os.open(
            aside, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0), 0o666
        )
        try:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # some network file systems know no locks
                    fcntl.flock(handle, fcntl.LOCK_EX)
            if not _is_own(handle):  # whoever has it could read what is written to it
                os.unlink(aside)
            elif _is_at(handle, aside):  # else another process put it in place while this one waited
                os.ftruncate(handle, 0)
                yield handle
                return
        finally:
            os.close(handle)


def _is_own(handle: int) -> bool:
    return not hasattr(os, "geteuid") or os.fstat(handle).st_uid == os.geteuid()


def _is_at(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _write(handle: int, rest: memoryview) -> None:
    rest = rest.cast("B")
    while rest:
        rest = rest[os.write(handle, rest[: 1 << 30]) :]


def _sync_folder(folder: str) -> None:
    """Bring the folder's entry to the disk, where the system can: before, a power cut may bring back the old file."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems know no such call
            os.fsync(handle)
    finally:
        os.close(handle)
