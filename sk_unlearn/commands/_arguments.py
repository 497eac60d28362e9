"""What the command line takes."""

from __future__ import annotations

import argparse

from sk_unlearn import __version__
from sk_unlearn.commands._forgetting import run_forget, run_request, run_settle
from sk_unlearn.commands._telling import run_audit, run_show, run_verify

__all__ = ["parser"]

_EXITS = """\
exit status:
  0  done; also where nothing was to be done: nobody is named, no request waits, receipts show all to be erased before
  1  refused, and nothing was changed: rows are unknown, parts cannot forget, ...; of audit: the verdict is not good
  2  wrong usage: arguments, or tables that cannot be read
  3  a file cannot be read or written; the model file is damaged, asks for names that are not trusted, or
     is held by another process; nothing was changed
  4  receipts were edited, or belong to another model, or the model is older than they are: an old copy, which may hold
     rows that were erased since; nothing was changed
  5  the model is changed and saved, and the log lags behind it; the next command with --log repairs that
  6  something unexpected; the model file is the old one or the new one, and the same command may be called again
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; ``run`` of what it parses carries out the command."""
    whole = argparse.ArgumentParser(
        prog="sk-unlearn",
        description="Deletions from saved models. Messages go to stderr, results to stdout; neither holds a row or an "
        "identifier.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object in place of text")
    common.add_argument("--traceback", action="store_true", help="show where an error came from; it may quote rows")
    common.add_argument("--trusted", nargs="+", metavar="NAME", help="classes of your own that the file may ask for")

    changing = argparse.ArgumentParser(add_help=False)
    changing.add_argument("model", help="file that sk_unlearn.save wrote")
    changing.add_argument("--log", metavar="receipts.jsonl", help="append receipts to this file")
    changing.add_argument(
        "--wait", type=float, default=600.0, metavar="SECONDS", help="for another process that changes the model (600)"
    )

    saving = argparse.ArgumentParser(add_help=False)
    saving.add_argument("--output", metavar="OTHER", help="write here, and leave the model file, which keeps the rows")
    saving.add_argument("--dry-run", action="store_true", help="try it out in memory: write neither model nor log")

    tables = argparse.ArgumentParser(add_help=False)
    tables.add_argument("--target", metavar="COLUMN", help="column of the tables that holds targets")
    tables.add_argument("--texts", metavar="COLUMN", help="column of texts, for a model whose rows are texts")
    tables.add_argument(
        "--text-columns",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns of CSV that are text, such as ZIP codes",
    )
    tables.add_argument("--date-columns", nargs="+", default=[], metavar="COLUMN", help="columns of CSV that are dates")

    naming = argparse.ArgumentParser(add_help=False)
    naming.add_argument("--ids", metavar="ids.csv", help="identifiers, one a line without a heading; - is stdin")
    naming.add_argument("--id-column", metavar="COLUMN", help="column of --ids, whose first line then names columns")
    naming.add_argument(
        "--id-type", choices=("auto", "int", "str"), default="auto",
        help="what the identifiers of the file are in the model: auto takes for each the one that the model knows",
    )  # fmt: skip
    naming.add_argument("--rows", metavar="rows.csv", help="rows as fit was given them (.csv, .jsonl or .parquet)")
    naming.add_argument("--skip-unknown", action="store_true", help="go on without those that nobody knows")

    changes = [changing, saving, naming, tables, common]
    one = _command(commands, "forget", run_forget, changes, "forget rows or persons, in every part of the model")
    one.add_argument(
        "--on-other", choices=("raise", "refit", "report"), default="raise",
        help="what to do about parts that may have learnt the rows and cannot forget",
    )  # fmt: skip
    one = _command(commands, "request", run_request, changes, "write a request into the model's queue, for settle")
    one.add_argument("--received", metavar="MOMENT", help="when it came, as 2026-01-31T09:30:00+01:00; by default now")
    _command(commands, "settle", run_settle, [changing, saving, common], "carry out all requests in the model's queue")

    one = _command(commands, "audit", run_audit, [changing, tables, common], "judge the last deletion by retraining")
    one.add_argument("--erased", required=True, metavar="erased.csv", help="the erased rows once more")
    one.add_argument("--test", required=True, metavar="test.csv", help="rows that no model was trained on")
    one.add_argument("--retained", metavar="retained.csv", help="rows to retrain on; by default those in the model")
    one.add_argument("--before", metavar="OLD", help="file of the model before the deletion")
    one.add_argument("--references", type=int, default=8, metavar="N", help="how many models to retrain (8)")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--html", metavar="report.html", help="write the report here")
    one.add_argument("--record", action="store_true", help="append the verdict to the model's receipts, and save")

    one = _command(commands, "verify", run_verify, [common], "check a log of receipts")
    one.add_argument("log", help="file of JSON lines")
    one.add_argument("--model", help="the model it is of")
    one.add_argument("--head", metavar="HASH", help="hash of the newest receipt, as noted elsewhere")
    one = _command(commands, "show", run_show, [common], "rows, requests that wait, receipts, and whether to retrain")
    one.add_argument("model", help="file that sk_unlearn.save wrote")
    return whole


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: object,
    parents: list[argparse.ArgumentParser],
    help: str,  # noqa: A002  argparse's name
) -> argparse.ArgumentParser:
    one = commands.add_parser(
        name, parents=parents, help=help, description=help.capitalize() + ".", epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    one.set_defaults(run=run)
    return one
