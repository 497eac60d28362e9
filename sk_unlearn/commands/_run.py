"""From the arguments of a process to its exit status."""

from __future__ import annotations

import json
import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence

from sklearn.exceptions import NotFittedError

from sk_unlearn.commands._arguments import parser
from sk_unlearn.commands._outcome import Exit, LogBehindError, Outcome, RefusedError, WrongUsageError
from sk_unlearn.exceptions import PersistenceError, ReceiptError
from sk_unlearn.receipts.receipt import plain

__all__ = ["main"]

# The first that fits; of errors that are of several kinds the narrower ones come first.
_EXITS: list[tuple[type[BaseException] | tuple[type[BaseException], ...], Exit, str]] = [
    (WrongUsageError, Exit.USAGE, "wrong usage"),
    (RefusedError, Exit.REFUSED, "refused"),
    (LogBehindError, Exit.LOG_BEHIND, "log is behind"),
    (ReceiptError, Exit.RECEIPTS, "receipts do not hold"),
    ((PersistenceError, OSError, ImportError), Exit.MODEL_FILE, "file trouble"),
    ((ValueError, FloatingPointError, NotFittedError), Exit.REFUSED, "refused"),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command.

    Parameters
    ----------
    arguments : sequence of str, default=None
        As after ``python -m sk_unlearn``; None takes those of the process.

    Returns
    -------
    status : int
        One of :class:`Exit`.

    Raises
    ------
    SystemExit
        Where the arguments are no command, with status 2, or ask for help.
    """
    options = parser().parse_args(arguments)
    try:
        outcome: Outcome = options.run(options)
    except Exception as error:
        if options.traceback:
            traceback.print_exc()
        outcome = _failed(error)
    _print(options, outcome)
    return int(outcome.exit)


def _failed(error: Exception) -> Outcome:
    for kinds, status, name in _EXITS:
        if isinstance(error, kinds):
            message = str(error)
            if isinstance(error, OSError) and error.strerror:  # whose text would quote a path
                message = f"{type(error).__name__}: {error.strerror}"
            return Outcome(name, [], {"error": message}, [message], status)
    # Its text may be of another package, and quote rows.
    message = f"Unexpected {type(error).__name__}; --traceback shows more."
    return Outcome("unexpected", [], {"error": message}, [message], Exit.UNEXPECTED)


def _print(options: Namespace, outcome: Outcome) -> None:
    for note in outcome.notes:
        print(f"sk-unlearn {options.command}: {note}", file=sys.stderr)
    if options.json:
        first = {"command": options.command, "status": outcome.status, "exit": int(outcome.exit)}
        print(json.dumps(first | plain(outcome.record) | {"notes": outcome.notes}))
    else:
        print("\n".join([f"{options.command}: {outcome.status}", *outcome.lines]))
