"""One receipt: what a request did, in a form that its own hash vouches for."""

from __future__ import annotations

import calendar
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any

import numpy as np

from sk_unlearn.receipts._html import shown_receipt

__all__ = ["FORMAT", "Receipt", "canonical_json", "deadline_of", "hash_of", "plain", "utc"]

FORMAT = 1


@dataclass(frozen=True)
class Receipt:
    """What a request did: enough to prove it later, and nothing of any row.

    Attributes
    ----------
    verb : str
        "forget", "partial_forget", "correct", "settle" or "retrain"; "replay" for requests that an older copy of the
        model had missed, carried out on it (its ``outcome`` lists them); "audit" for an entry that says how a request
        was judged afterwards.

    request_id : str
        The request's own, a random UUID; an audit has that of the request it judged.

    received, completed : str
        When the request came and when it was carried out, ISO 8601 in UTC.

    deadline : str
        One calendar month after it came: Article 12(3) of the General Data Protection Regulation.

    rows : tuple of str
        Keyed digests of the rows that were erased, or of their old content where they were corrected, in hexadecimal
        and sorted; see :func:`~sk_unlearn.receipts.prove_erased`. One of every row: of copies several.

    ids : tuple of str
        The same of their identifiers, each once.

    content : str
        What the digests in ``rows`` are over, in words.

    dtype : str, dict or None
        Data type that rows are cast to before they are digested, by column where there are several; None for none.

    n_erased, n_trained, n_retained : int
        Rows that went, or changed; those of them that had entered a gradient; rows that count afterwards.

    parameters_before, parameters_after : str
        SHA-256 of parameters and buffers: of their names, data types, shapes and values.

    retained_set : str or None
        Keyed digest of the rows that stay, with targets, weights and identifiers; None where rows are not kept.

    method : str
        Class of the unlearner.

    parameters : dict
        Its parameters, and those of the estimator, as far as they can be written down.

    versions : dict of str to str
        Of Python and of the packages that took part.

    seeds : dict
        Which fix what was drawn.

    outcome : dict
        Status and reason, steps, products and seconds, and what the method tells about its stages.

    notes : tuple of str
        Those of the report.

    certificate : dict or None
        What is guaranteed, with the assumptions it rests on.

    audit : dict or None
        Verdict of an audit.

    not_covered : tuple of str
        Where the rows may be still.

    format : int
        Version of this form.

    sequence : int
        Number in the chain, from 1.

    previous : str
        Hash of the receipt before, or of the beginning of the chain.

    hash : str
        SHA-256 over all of the above as canonical JSON.
    """

    verb: str
    request_id: str
    received: str
    completed: str
    deadline: str
    rows: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    content: str = ""
    dtype: Any = None
    n_erased: int = 0
    n_trained: int = 0
    n_retained: int = 0
    parameters_before: str = ""
    parameters_after: str = ""
    retained_set: str | None = None
    method: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, Any] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    certificate: Mapping[str, Any] | None = None
    audit: Mapping[str, Any] | None = None
    not_covered: tuple[str, ...] = ()
    format: int = FORMAT
    sequence: int = 0
    previous: str = ""
    hash: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as JSON has it: of dictionaries, lists, texts, numbers and None."""
        return {each.name: plain(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Receipt:
        """Return the receipt that :meth:`to_dict` wrote.

        Parameters
        ----------
        content : mapping
            Its fields.

        Returns
        -------
        receipt : Receipt

        Raises
        ------
        ValueError
            If fields are missing or too many, as those of another version of the form may be.
        """
        known = {each.name for each in fields(cls)}
        if set(content) != known:
            raise ValueError(f"has fields other than those of form {FORMAT}")
        given = dict(content)
        for name in ("rows", "ids", "notes", "not_covered"):
            given[name] = tuple(given[name])
        return cls(**given)

    def chained(self, sequence: int, previous: str) -> Receipt:
        """Return the receipt at its place in a chain, with its hash.

        Parameters
        ----------
        sequence : int
            Its number.

        previous : str
            Hash of the one before.

        Returns
        -------
        receipt : Receipt
        """
        placed = replace(self, sequence=sequence, previous=previous)
        return replace(placed, hash=hash_of(placed.to_dict()))

    def __str__(self) -> str:
        pairs = self._pairs()
        width = max(len(name) for name, _ in pairs)
        return "\n".join(f"{name:<{width}}  {told}" for name, told in pairs)

    def _pairs(self) -> list[tuple[str, str]]:
        return [(name, _told(value)) for name, value in self.to_dict().items() if value not in (None, "", [], {})]

    def _repr_html_(self) -> str:
        return shown_receipt(self, self._pairs())


def _told(value: Any) -> str:
    if isinstance(value, list) and len(value) > 4:
        return f"{len(value)} of them, the first {value[0]}"
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def plain(value: Any) -> Any:
    """Return a value as JSON has it; of arrays and other objects only what they are, never what is in them."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, np.integer | np.bool_):
        return value.item()
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        if set(map(type, value)) <= {str}:  # as of many rows
            return list(value)
        return [plain(each) for each in value]
    if isinstance(value, type) or callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    shape = getattr(value, "shape", None)
    return type(value).__qualname__ + ("" if shape is None else f" of shape {tuple(shape)}")


def canonical_json(content: Mapping[str, Any]) -> bytes:
    """Return the one way to write a dictionary down: names sorted, no blanks, ASCII only, no NaN."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def hash_of(content: Mapping[str, Any]) -> str:
    """Return SHA-256, in hexadecimal, over everything but the field "hash"."""
    return sha256(canonical_json({name: value for name, value in content.items() if name != "hash"})).hexdigest()


def utc(moment: datetime) -> str:
    """Return a moment in UTC, ISO 8601 with milliseconds."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def deadline_of(received: datetime) -> datetime:
    """Return the end of the month that a request has: the same day of the next month, or else that month's last."""
    year, month = received.year + received.month // 12, received.month % 12 + 1
    return received.replace(year=year, month=month, day=min(received.day, calendar.monthrange(year, month)[1]))
