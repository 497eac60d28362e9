"""Whether receipts are what they were when they were written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sk_unlearn.exceptions import ReceiptError
from sk_unlearn.receipts.chain import ReceiptChain
from sk_unlearn.receipts.receipt import FORMAT, Receipt, canonical_json, hash_of

__all__ = ["Receipts", "lines_of", "verify"]

Receipts = ReceiptChain | str | os.PathLike[str] | Iterable[bytes | str]

_RECEIPT_FIELDS = frozenset(Receipt.__dataclass_fields__)
_BEGINNING_FIELDS = frozenset(("format", "chain", "began", "parameters", "versions", "hash"))


def verify(receipts: Receipts, *, head: str | None = None, beginning: str | None = None) -> int:
    """Check that no receipt was edited, removed, inserted or put elsewhere.

    Parameters
    ----------
    receipts : ReceiptChain, path, or iterable of lines
        A file is one of JSON lines; see :func:`to_json_lines`.

    head : str, optional
        Hash of the newest receipt, as known from elsewhere, such as ``est.receipts_.head``. Without it receipts that
        are missing at the end are not missed, and who can write everything can write everything anew.

    beginning : str, optional
        Hash of the first line, as known from elsewhere: that these are receipts of this model.

    Returns
    -------
    n_receipts : int
        How many there are.

    Raises
    ------
    ReceiptError
        For the first receipt that is wrong; ``index`` and ``reason`` say which and why.
    """
    before, index = "", -1
    for index, line in enumerate(lines_of(receipts)):
        content = _parsed(index, line)
        _check_fields(index, content)
        if content["hash"] != hash_of(content):
            raise ReceiptError(index, "was edited: its content does not have its hash")
        if index and content["sequence"] != index:
            raise ReceiptError(index, f"is number {content['sequence']}: receipts were removed, inserted or reordered")
        if index and content["previous"] != before:
            raise ReceiptError(index, "does not follow the one before: receipts were removed, inserted or replaced")
        if not index and beginning is not None and content["hash"] != beginning:
            raise ReceiptError(index, "is that of another model")
        before = content["hash"]
    if index < 0:
        raise ReceiptError(0, "is missing: there is no line")
    if head is not None and before != head:
        raise ReceiptError(index, "is not the newest: those after it were removed, or all were written anew")
    return index


def lines_of(receipts: Receipts) -> Iterator[bytes]:
    """Yield the lines of a chain, a file or an iterable, without their ends.

    Raises
    ------
    ReceiptError
        Where the last line of a file has no end.
    """
    if isinstance(receipts, ReceiptChain):
        yield from receipts.lines()
    elif isinstance(receipts, str | os.PathLike):
        content = Path(receipts).read_bytes()
        lines = content.split(b"\n")
        if lines[-1]:
            raise ReceiptError(len(lines) - 1, "is incomplete: its line has no end")
        yield from lines[:-1]
    else:
        yield from (line.encode() if isinstance(line, str) else line for line in receipts)


def _parsed(index: int, line: bytes) -> dict[str, Any]:
    try:
        content = json.loads(line)
        same = isinstance(content, dict) and canonical_json(content) == line
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise ReceiptError(index, "was edited: it is no canonical JSON")
    return dict(content)


def _check_fields(index: int, content: dict[str, Any]) -> None:
    form = content.get("format")
    if isinstance(form, int) and form > FORMAT:
        raise ReceiptError(index, f"is of form {form}, which this version does not know; verify with a newer one")
    if set(content) == (_RECEIPT_FIELDS if index else _BEGINNING_FIELDS):
        return
    if not index and set(content) == _RECEIPT_FIELDS:
        raise ReceiptError(0, f"is missing: the first line is receipt {content['sequence']}")
    raise ReceiptError(index, "was edited: fields are missing, or too many")
