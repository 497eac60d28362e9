"""How a command ends: a number for the shell, a line for a person, and a record for a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

__all__ = ["Exit", "LogBehindError", "Outcome", "RefusedError", "WrongUsageError"]


class Exit(IntEnum):
    """What the process returns."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    MODEL_FILE = 3
    RECEIPTS = 4
    LOG_BEHIND = 5
    UNEXPECTED = 6


@dataclass
class Outcome:
    """What a command did.

    Attributes
    ----------
    status : str
        In a word or two.

    lines : list of str
        For a person.

    record : dict
        For a program; of plain values.

    notes : list of str
        What the person should know; they go to stderr.

    exit : Exit
    """

    status: str
    lines: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    exit: Exit = Exit.DONE


class WrongUsageError(Exception):
    """The arguments, or the tables they name, are not what the command takes."""


class RefusedError(Exception):
    """The request is not carried out, and nothing has changed."""


class LogBehindError(Exception):
    """The model file is changed, and the log of receipts does not say so yet."""
