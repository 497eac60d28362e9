"""Limits on the memory of this process: that of its control group (a container's), and that of its address space."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

__all__ = ["address_space_limit", "control_group_free", "memory_limit"]

_ROOT, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def memory_limit() -> int | None:
    """Return the least limit on the memory of this process, in bytes, or None where there is none.

    It does not tell what of it is in use: whatever follows it is the same in every run under the same limit.
    """
    known = [each for each in (address_space_limit(), _control_group_limit()) if each is not None]
    return min(known, default=None)


def address_space_limit() -> int | None:
    """Return the bytes of address space that the process may take (``RLIMIT_AS``), or None where that is not limited.

    It may be set at any moment, and is asked for anew each time.
    """
    try:
        import resource
    except ImportError:  # not POSIX
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else int(limit)


@cache
def _control_group_limit() -> int | None:
    # Once a process: groups are files, and a container's limit is set before anything runs in it.
    return min((limit for limit, _ in _control_groups(_ROOT, _MEMBERSHIP)), default=None)


def control_group_free(total: float, root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> Iterator[int]:
    """Give what each memory limit on this process leaves free, in bytes; nothing where there is no limit.

    Parameters
    ----------
    total : float
        Bytes of memory in the machine. A limit that is not below it binds nothing.

    root : Path
        Where control groups are mounted: version 2 here, version 1 in its folder ``memory``.

    membership : Path
        The file that names the groups of this process, one a line: ``number:controllers:path``.
    """
    for limit, free in _control_groups(root, membership):
        if limit < total:  # version 1 says that there is none by a very large one
            yield free


def _control_groups(root: Path, membership: Path) -> Iterator[tuple[int, int]]:
    """Give each limit on this process, and what it leaves free."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit_name, used_name, cache_name = root, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit_name = root / "memory", "memory.limit_in_bytes"
            used_name, cache_name = "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        own = PurePosixPath(path.lstrip("/"))
        # A limit binds all groups below it. In a container the outer path may not be visible; the mount itself is.
        for group in {top / own, *(top / parent for parent in own.parents), top}:
            try:
                limit = int((group / limit_name).read_text())
                used = int((group / used_name).read_text())
                # Files that were read and are kept in case they are read again: given up when memory is needed.
                cached = dict(each.split() for each in (group / "memory.stat").read_text().splitlines())
            except (OSError, ValueError):  # no such group, or the limit "max"
                continue
            yield limit, max(0, limit - used + int(cached.get(cache_name, 0)))
