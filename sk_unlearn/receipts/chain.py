"""Receipts one after the other, each with the hash of the one before."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, overload
from uuid import uuid4

from sk_unlearn.receipts._html import shown_chain
from sk_unlearn.receipts.receipt import FORMAT, Receipt, canonical_json, hash_of, plain, utc
from sk_unlearn.utils._cards import counted

__all__ = ["ReceiptChain"]

# Lines are compressed together, since one receipt is much like the other: so many, or so many bytes of them.
_LINES_TOGETHER, _BYTES_TOGETHER = 64, 1 << 20


class ReceiptChain(Sequence[Receipt]):
    """Receipts in the order in which requests were carried out. It never changes: :meth:`append` makes another.

    It begins with a line that names the model, of which the first receipt has the hash. All lines are kept as they are
    exported, compressed: some 500 bytes a request of a few rows, in memory as in a pickle.

    Parameters
    ----------
    lines : sequence of bytes
        The beginning and the receipts, each as canonical JSON. They are not checked:
        :func:`~sk_unlearn.receipts.verify` does that.

    Attributes
    ----------
    head : str
        Hash of the newest receipt, or of the beginning where there is none. Whoever knows it from elsewhere can tell
        whether receipts were taken from the end.
    """

    def __init__(self, lines: Sequence[bytes]) -> None:
        if not lines:
            raise ValueError("lines is empty; a chain begins with a line of its own, see ReceiptChain.begin")
        self._packed: tuple[tuple[int, bytes], ...] = ()
        self._open: tuple[bytes, ...] = ()
        self.head: str = ""
        for line in lines:
            self._add(line)
        self.head = str(json.loads(lines[-1])["hash"])

    @classmethod
    def begin(cls, parameters: str, versions: Mapping[str, str] | None = None) -> ReceiptChain:
        """Return a chain without receipts, of a model that was just fitted.

        Parameters
        ----------
        parameters : str
            SHA-256 of its parameters.

        versions : mapping, optional
            Of the packages that took part.

        Returns
        -------
        chain : ReceiptChain
        """
        beginning = {
            "format": FORMAT,
            "chain": str(uuid4()),
            "began": utc(datetime.now(timezone.utc)),
            "parameters": parameters,
            "versions": plain(versions or {}),
        }
        return cls([canonical_json({**beginning, "hash": hash_of(beginning)})])

    @property
    def beginning(self) -> dict[str, Any]:
        """The first line: when the model was fitted, and the SHA-256 of its parameters."""
        return dict(json.loads(next(self.lines())))

    def append(self, receipt: Receipt) -> ReceiptChain:
        """Return the chain with one more receipt, which gets its number and its hash.

        Parameters
        ----------
        receipt : Receipt
            Its ``sequence``, ``previous`` and ``hash`` are not looked at.

        Returns
        -------
        chain : ReceiptChain
        """
        placed = receipt.chained(len(self) + 1, self.head)
        chain = object.__new__(type(self))
        chain._packed, chain._open, chain.head = self._packed, self._open, placed.hash
        chain._add(canonical_json(placed.to_dict()))
        return chain

    def _add(self, line: bytes) -> None:
        self._open = (*self._open, line)
        if len(self._open) >= _LINES_TOGETHER or sum(map(len, self._open)) > _BYTES_TOGETHER:
            self._packed = (*self._packed, (len(self._open), _pack(self._open)))
            self._open = ()

    def lines(self) -> Iterator[bytes]:
        """Yield the beginning and the receipts as canonical JSON, without line ends."""
        for _, packed in self._packed:
            yield from _unpack(packed)
        yield from self._open

    def __len__(self) -> int:
        return sum(count for count, _ in self._packed) + len(self._open) - 1

    @overload
    def __getitem__(self, index: int) -> Receipt: ...
    @overload
    def __getitem__(self, index: slice) -> list[Receipt]: ...
    def __getitem__(self, index: int | slice) -> Receipt | list[Receipt]:
        if isinstance(index, slice):
            return list(self)[index]
        number = range(len(self))[index] + 1
        for count, packed in self._packed:
            if number < count:
                return _receipt(_unpack(packed)[number])
            number -= count
        return _receipt(self._open[number])

    def __iter__(self) -> Iterator[Receipt]:
        lines = self.lines()
        next(lines)
        return map(_receipt, lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReceiptChain) and self.head == other.head

    def __hash__(self) -> int:
        return hash(self.head)

    def __getstate__(self) -> dict[str, Any]:
        return {"packed": self._packed, "open": _pack(self._open) if self._open else b"", "head": self.head}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._packed, self.head = state["packed"], state["head"]
        self._open = tuple(_unpack(state["open"])) if state["open"] else ()

    def __repr__(self) -> str:
        return f"ReceiptChain({counted(len(self), 'receipt')}, head {self.head[:12]})"

    def _repr_html_(self) -> str:
        return shown_chain(self)


def _receipt(line: bytes) -> Receipt:
    return Receipt.from_dict(json.loads(line))


def _pack(lines: Sequence[bytes]) -> bytes:
    content = b"\n".join(lines)
    # What takes most room is digests, which nothing can find a pattern in: a large request would wait for the search.
    return zlib.compress(content, level=9 if len(content) <= _BYTES_TOGETHER else 1)


def _unpack(packed: bytes) -> list[bytes]:
    return zlib.decompress(packed).split(b"\n")
