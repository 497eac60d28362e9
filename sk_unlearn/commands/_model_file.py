"""A model file and the log of its receipts, changed together so that a kill in between is repaired by the next run.

The model file is put in its place first: it holds its own receipts, so that from then on the request is both carried
out and proven. Then the log is given what it does not hold yet. A process that is killed between the two leaves a log
that lags, and the next run catches it up from the model before it does anything else. The other order would leave a log
that speaks of a deletion which no model has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sk_unlearn.commands._outcome import LogBehindError
from sk_unlearn.composites.parts import parts_of
from sk_unlearn.exceptions import PersistenceError
from sk_unlearn.persistence import exclusive, load, save
from sk_unlearn.receipts import to_json_lines
from sk_unlearn.receipts.files import check_log

__all__ = ["ModelFile", "changing", "loaded"]


class ModelFile:
    """A model that was loaded, and where it goes.

    Parameters
    ----------
    path : str

    model : object

    log : str or None
        Of receipts. A model of several parts that forget has a chain of receipts for each, and a log for each beside
        that name.

    Attributes
    ----------
    parts : dict of str to object
        Parts that forget, by where they are.

    n_logged : int
        Receipts that were appended to logs.
    """

    def __init__(self, path: str, model: Any, log: str | None) -> None:
        self.path = path
        self.model = model
        self.parts, _ = parts_of(model)
        self.log = log
        self.n_logged = 0

    @property
    def logs(self) -> dict[str, str]:
        """The log of each part, by where the part is; empty without logs."""
        if self.log is None:
            return {}
        if len(self.parts) == 1:
            return dict.fromkeys(self.parts, self.log)
        stem, end = os.path.splitext(self.log)
        return {path: f"{stem}.{number}.{_slug(path)}{end}" for number, path in enumerate(self.parts, 1)}

    def catch_up(self) -> None:
        """Append to the logs what they do not hold yet.

        Raises
        ------
        ReceiptError
            If a log is of another model, or newer than this one: an old copy, which may hold erased rows.
        """
        for path, log in self.logs.items():
            self.n_logged += to_json_lines(self.parts[path].receipts_, log)

    def check_logs(self) -> None:
        """Compare the logs with the model as :meth:`catch_up` does, and write nothing.

        Raises
        ------
        ReceiptError
            As :meth:`catch_up`.
        """
        for path, log in self.logs.items():
            check_log(self.parts[path].receipts_, log)

    def save(self, output: str | None = None) -> None:
        """Put the model in its place, and then the receipts into the logs.

        Raises
        ------
        PersistenceError, OSError
            If it cannot be written. The file is as it was.

        LogBehindError
            If only the log cannot be written.
        """
        save(self.model, output or self.path)
        try:
            self.catch_up()
        except OSError as error:
            raise LogBehindError(
                "The model was changed and saved, and its receipts could not be appended to the log "
                f"({type(error).__name__}: {error.strerror}); the next command with --log appends them."
            ) from None


def _slug(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", path).strip("-")


def loaded(path: str, trusted: list[str] | None, log: str | None = None) -> ModelFile:
    """Load a model to look at.

    Raises
    ------
    PersistenceError, OSError, ImportError
        If it cannot be loaded.
    """
    return ModelFile(path, load(path, trusted=trusted), log)


@contextmanager
def changing(
    path: str, trusted: list[str] | None, log: str | None = None, *, wait: float = 0.0, dry: bool = False
) -> Iterator[ModelFile]:
    """Load a model to change, and keep other processes from changing it; first repair what a kill left of the log.

    Raises
    ------
    PersistenceError, OSError, ImportError
        If it cannot be loaded, or another process holds it.

    ReceiptError
        As :meth:`ModelFile.catch_up`.
    """
    if not Path(path).is_file():
        raise PersistenceError("There is no model file of that name.")
    with exclusive(path, wait=wait):
        file = loaded(path, trusted, log)
        if dry:
            file.check_logs()
        else:
            file.catch_up()
        yield file
