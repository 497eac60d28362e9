"""Receipts outside the model: a log of JSON lines, and statements to sign."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sk_unlearn.exceptions import ReceiptError
from sk_unlearn.receipts.chain import ReceiptChain
from sk_unlearn.receipts.receipt import Receipt
from sk_unlearn.receipts.verification import lines_of, verify

__all__ = ["check_log", "read_json_lines", "to_in_toto", "to_json_lines"]

_PREDICATE_TYPE = "urn:sk-unlearn:receipt:v1"


def to_json_lines(receipts: ReceiptChain, path: str | os.PathLike[str]) -> int:
    """Append to a log what it does not hold yet, and wait until it is on the disk.

    A line that an earlier call could not finish, because the process was killed, is finished.

    Parameters
    ----------
    receipts : ReceiptChain
        Such as ``est.receipts_``.

    path : path
        A file of JSON lines, which is made if there is none. One log holds the receipts of one fitted model.

    Returns
    -------
    n_appended : int
        Receipts that were appended.

    Raises
    ------
    ReceiptError
        If the log holds other receipts: those of another model, or newer ones, as where an old copy of the model was
        loaded; nothing is written then.
    """
    lines = list(receipts.lines())
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
    try:
        content = Path(path).read_bytes()
        logged, unfinished = _compared(lines, content)
        if unfinished:
            os.ftruncate(handle, len(content) - unfinished)
        for line in lines[logged:]:
            _write_whole(handle, line + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
    if not logged:
        _sync_folder(Path(path).resolve().parent)
    return len(lines) - max(logged, 1)


def check_log(receipts: ReceiptChain, path: str | os.PathLike[str]) -> None:
    """Raise a ReceiptError where :func:`to_json_lines` would, and write nothing."""
    if Path(path).exists():
        _compared(list(receipts.lines()), Path(path).read_bytes())


def _compared(lines: list[bytes], content: bytes) -> tuple[int, int]:
    """Return how many lines a log holds, and how many bytes of one that was not finished; raise if it is another."""
    *logged, unfinished = content.split(b"\n")
    for index, line in enumerate(logged):
        if index >= len(lines):
            raise ReceiptError(index, "of the log is newer than the model: it was loaded from an old copy")
        if line != lines[index]:
            raise ReceiptError(index, "of the log is another one than that of the model")
    if unfinished and (len(logged) >= len(lines) or not lines[len(logged)].startswith(unfinished)):
        raise ReceiptError(len(logged), "of the log is incomplete and another one than that of the model")
    return len(logged), len(unfinished)


def _write_whole(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]


def _sync_folder(folder: Path) -> None:
    """Wait until the name of a new file is on the disk, where the system knows that."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_json_lines(path: str | os.PathLike[str], *, head: str | None = None) -> ReceiptChain:
    """Read a log and verify it.

    Parameters
    ----------
    path : path
        A file that :func:`to_json_lines` wrote.

    head : str, optional
        As for :func:`verify`.

    Returns
    -------
    receipts : ReceiptChain

    Raises
    ------
    ReceiptError
        As :func:`verify`.
    """
    lines = list(lines_of(path))
    verify(lines, head=head)
    return ReceiptChain(lines)


def to_in_toto(receipt: Receipt) -> dict[str, Any]:
    """Return a receipt as an in-toto Statement, version 1, about the parameters that it led to.

    It is not signed; the user guide says how to sign it.

    Parameters
    ----------
    receipt : Receipt
        One of a chain.

    Returns
    -------
    statement : dict
        For ``json.dump``.

    References
    ----------
    The in-toto Attestation Framework, Statement v1: https://github.com/in-toto/attestation/tree/main/spec/v1
    """
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model parameters", "digest": {"sha256": receipt.parameters_after}}],
        "predicateType": _PREDICATE_TYPE,
        "predicate": receipt.to_dict(),
    }
