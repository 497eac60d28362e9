"""Identifiers and rows from files."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sk_unlearn.commands._outcome import WrongUsageError

__all__ = ["read_ids", "read_rows", "split_target", "typed_ids"]

# What a cell has to look like, in the whole column, to be taken for something else than a text.
_KINDS: list[tuple[re.Pattern[str], Callable[[str], Any]]] = [
    (re.compile("True|False"), "True".__eq__),
    (re.compile(r"[+-]?\d+", re.ASCII), int),
    (re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII), float),
]


def read_ids(path: str, column: str | None = None) -> list[str]:
    """Read identifiers, one a line.

    Parameters
    ----------
    path : str
        A CSV file in UTF-8, or "-" for the standard input.

    column : str, optional
        The column to read, of a file whose first line names its columns. None takes a file of one column without such
        a line: a name taken for an identifier is refused as unknown, an identifier taken for a name would stay in.

    Raises
    ------
    WrongUsageError
        If it cannot be read so. Nothing of its content is quoted.
    """
    with _opened(path) as file:
        try:
            lines = [line for line in csv.reader(file, strict=True) if line]
        except (csv.Error, UnicodeDecodeError) as error:
            raise WrongUsageError(f"--ids: the file is no CSV in UTF-8 ({type(error).__name__}).") from None
    at = 0
    if column is not None:
        if not lines or lines[0].count(column) != 1:
            raise WrongUsageError(
                "--id-column: the first line of the file does not name that column, or names it twice."
            )
        at, lines = lines[0].index(column), lines[1:]
    elif any(len(line) > 1 for line in lines):
        raise WrongUsageError("--ids: the file has several columns; say by --id-column which one holds identifiers.")
    short = [number for number, line in enumerate(lines, 1) if len(line) <= at or not line[at]]
    if short:
        raise WrongUsageError(f"--ids: {len(short)} entries are empty, the first is number {short[0]}.")
    return [line[at] for line in lines]


@contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    if path == "-":
        yield sys.stdin
        return
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise WrongUsageError(f"--ids: the file cannot be read ({type(error).__name__}).") from None


def typed_ids(texts: Sequence[str], kind: str, known: Callable[[list[Any]], NDArray[np.bool_]]) -> list[Any]:
    """Return identifiers of a file as the model has them: a file knows texts alone, and 7 and "7" are two.

    Parameters
    ----------
    texts : sequence of str

    kind : {"auto", "int", "str"}
        "auto" takes for each the one that the model knows.

    known : callable
        Tells which identifiers the model knows.

    Raises
    ------
    WrongUsageError
        If some are no whole numbers, or the model knows both kinds of one.
    """
    if kind == "str":
        return list(texts)
    if kind == "int":
        try:
            return [int(text) for text in texts]
        except ValueError:
            raise WrongUsageError("--id-type int: not all identifiers are whole numbers.") from None
    plain = [at for at, text in enumerate(texts) if _is_plain_number(text)]
    ids: list[Any] = list(texts)
    if plain:
        numbers = [int(texts[at]) for at in plain]
        as_number, as_text = known(numbers), known([texts[at] for at in plain])
        if (as_number & as_text).any():
            raise WrongUsageError(
                f"--id-type auto: {int((as_number & as_text).sum())} identifiers are known both as a number and as a "
                "text; say int or str."
            )
        for at, number, is_number in zip(plain, numbers, as_number, strict=True):
            ids[at] = number if is_number else texts[at]
    return ids


def _is_plain_number(text: str) -> bool:
    """Whether a whole number would be written like this: 007 and +7 are texts."""
    try:
        return str(int(text)) == text
    except ValueError:
        return False


def read_rows(
    option: str, path: str, *, text_columns: Sequence[str] = (), date_columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Read raw rows with named columns: a CSV file, JSON lines (.jsonl) or Parquet (.parquet), by the end of the name.

    In a CSV file an empty cell is a missing one, and no text is. What looks like numbers becomes numbers, except in
    `text_columns`.

    Raises
    ------
    WrongUsageError
        If it cannot be read so. Nothing of its content is quoted.
    """
    kind = Path(path).suffix.lower()
    try:
        if kind == ".parquet":
            return pd.read_parquet(path)
        if kind in (".jsonl", ".ndjson"):
            with open(path, encoding="utf-8-sig") as file:
                frame = pd.DataFrame([json.loads(line) for line in file if line.strip()])
            for name in set(date_columns) & set(frame.columns):
                frame[name] = pd.to_datetime(frame[name])
        else:
            cells = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
            frame = cells.apply(lambda column: _typed(column, column.name in text_columns, column.name in date_columns))
    except ImportError:
        raise WrongUsageError(f"{option}: to read Parquet needs pyarrow: pip install pyarrow.") from None
    except (OSError, ValueError) as error:  # pandas' own errors quote lines
        raise WrongUsageError(f"{option}: the file cannot be read as a table ({type(error).__name__}).") from None
    absent = sorted({*text_columns, *date_columns} - set(frame.columns))
    if absent:
        raise WrongUsageError(f"{option}: the table has no column {', '.join(absent)}.")
    return frame


def _typed(column: pd.Series[Any], text: bool, date: bool) -> pd.Series[Any]:
    """Return a column of cells as what it holds: each number is the one that is nearest to what is written."""
    if date:
        return pd.to_datetime(column)
    filled = column.dropna()
    if filled.empty:
        return column.astype(object if text else float)
    for looks, kind in () if text else _KINDS:
        if filled.map(lambda cell, looks=looks: looks.fullmatch(cell) is not None).all():
            return pd.Series([kind(cell) for cell in filled], index=filled.index).reindex(column.index)
    return column


def split_target(
    option: str, frame: pd.DataFrame, target: str | None, texts: str | None, model: Any
) -> tuple[Any, Any]:
    """Return rows as the model takes them, and their targets, or None.

    Parameters
    ----------
    option : str
        What named the table, for messages.

    frame : DataFrame

    target : str or None
        The column of targets.

    texts : str or None
        The column of texts that are the rows, for a model that begins with a vectoriser of texts.

    model : object
        It says whether it knows columns by name.
    """
    absent = [name for name in (target, texts) if name is not None and name not in frame]
    if absent:
        raise WrongUsageError(f"{option}: the table has no column {absent[0]}.")
    y = None if target is None else frame.pop(target).to_numpy()
    if texts is not None:
        return frame[texts].tolist(), y
    return (frame if hasattr(model, "feature_names_in_") else frame.to_numpy()), y
