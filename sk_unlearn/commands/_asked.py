"""What a request names, and which of it is stored, erased already, or unknown."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from sk_unlearn.commands._model_file import ModelFile
from sk_unlearn.commands._outcome import RefusedError, WrongUsageError
from sk_unlearn.commands._tables import read_ids, read_rows, split_target, typed_ids
from sk_unlearn.composites.parts import known_to_some
from sk_unlearn.receipts import prove_erased

__all__ = ["Asked", "Sorted", "asked_by", "sorted_out"]


@dataclass(frozen=True, eq=False)
class Asked:
    """Rows, identifiers, or both, as the functions of the package take them.

    Attributes
    ----------
    X, y : table and targets, or None
    ids : list, or None
    """

    X: Any = None
    y: Any = None
    ids: list[Any] | None = None

    def __len__(self) -> int:
        return len(self.ids) if self.X is None and self.ids is not None else int(_num_samples(self.X))

    @property
    def noun(self) -> str:
        """What it names."""
        return "identifiers" if self.X is None else "rows"

    def take(self, mask: NDArray[np.bool_]) -> Asked:
        """Return the part of a mask."""
        at = np.flatnonzero(mask)
        if self.X is None:
            assert self.ids is not None
            return Asked(ids=[self.ids[i] for i in at])
        return Asked(_safe_indexing(self.X, at), None if self.y is None else _safe_indexing(self.y, at), self.ids)


@dataclass(frozen=True, eq=False)
class Sorted:
    """A request, sorted out.

    Attributes
    ----------
    stored : Asked
        What is to be erased now.

    n_erased, n_unknown : int
        How many receipts show to be erased, and how many nobody knows.
    """

    stored: Asked
    n_erased: int = 0
    n_unknown: int = 0

    @property
    def record(self) -> dict[str, int]:
        """The counts."""
        return {"n_now": len(self.stored), "n_erased_before": self.n_erased, "n_unknown": self.n_unknown}


def asked_by(options: Namespace, file: ModelFile) -> Asked:
    """Read what the files of a command name.

    Raises
    ------
    WrongUsageError
        If they cannot be read.
    """
    if options.ids is None and options.rows is None:
        raise WrongUsageError("Name whom to forget: --ids, --rows, or both.")
    ids = None
    if options.ids is not None:
        texts = read_ids(options.ids, options.id_column)
        ids = typed_ids(texts, options.id_type, lambda some: _stored_or_erased(file, Asked(ids=some)))
    X = y = None
    if options.rows is not None:
        frame = read_rows("--rows", options.rows, text_columns=options.text_columns, date_columns=options.date_columns)
        X, y = split_target("--rows", frame, options.target, options.texts, file.model)
    return Asked(X, y, ids)


def _stored_or_erased(file: ModelFile, asked: Asked) -> NDArray[np.bool_]:
    stored = known_to_some(file.model, asked.X, asked.y, sample_id=asked.ids)
    return stored if stored.all() else stored | _proven(file.parts, asked)


def sorted_out(file: ModelFile, asked: Asked, *, skip_unknown: bool = False) -> Sorted:
    """Sort out a request, so that one that is sent again, because nobody knows how the first went, does no harm.

    Raises
    ------
    RefusedError
        If some of it is unknown, unless that is to be skipped. Requests that name rows and identifiers at once are left
        to the model.
    """
    if not len(asked) or (asked.X is not None and asked.ids is not None):
        return Sorted(asked)
    stored = known_to_some(file.model, asked.X, asked.y, sample_id=asked.ids)
    if stored.all():
        return Sorted(asked)
    erased = ~stored & _proven(file.parts, asked)
    unknown = ~stored & ~erased
    if not skip_unknown and unknown.any():
        if unknown.all():
            return Sorted(asked)  # the model itself knows best why
        raise RefusedError(
            f"{int(unknown.sum())} of {len(asked)} {asked.noun} are neither stored nor erased by a receipt, the first "
            f"is number {int(np.argmax(unknown)) + 1}. --skip-unknown goes on without them."
        )
    return Sorted(asked.take(stored), int(erased.sum()), int(unknown.sum()))


def _proven(parts: Mapping[str, Any], asked: Asked) -> NDArray[np.bool_]:
    """Return which rows, or identifiers, a receipt of any part says to be erased."""
    proven = np.zeros(len(asked), dtype=bool)
    for part in parts.values():
        try:
            found = prove_erased(part.receipts_, asked.X, sample_id=asked.ids, key=part.receipt_key_)
        except ValueError:  # rows that cannot be what was erased
            continue
        # A correction took old content away, and the person is still there.
        proven |= [any(receipt.verb != "correct" for receipt in receipts) for receipts in found]
    return proven
