"""What kind of values columns hold: why rows that went through a file may not be found."""

from __future__ import annotations

from typing import Any

import pandas as pd

__all__ = ["told_of_kinds"]

_KINDS = {
    **dict.fromkeys(["integer", "floating", "mixed-integer-float", "boolean", "decimal"], "numbers"),
    **dict.fromkeys(["datetime", "datetime64"], "times"),
    **dict.fromkeys(["timedelta", "timedelta64"], "durations"),
    "string": "texts",
}


def told_of_kinds(X: Any, kept: Any) -> str:
    """Say which columns of rows hold other kinds of values than those that a pipeline keeps; "" if none does.

    Parameters
    ----------
    X : table
        With the columns of `kept`, in any order.

    kept : table
        Rows as they came to ``fit``.
    """
    X, kept = _frame(X), _frame(kept)
    if X is None or kept is None:
        return ""
    told = []
    for name in kept.columns:
        given, had = _kind(X[name]), _kind(kept[name])
        if given and had and given != had:
            told.append(f"{name} ({given}, and {had} at fit)")
    if not told:
        return ""
    more = f" and {len(told) - 5} others" if len(told) > 5 else ""
    named = ", ".join(told[:5])
    return f" Columns hold other kinds of values than at fit: {named}{more}. Read them as fit was given them."


def _frame(table: Any) -> pd.DataFrame | None:
    """Return the first rows of a data frame; None of what is none."""
    if hasattr(table, "head"):
        table = table.head(1000)
    if hasattr(table, "get_columns"):  # polars
        table = pd.DataFrame({name: table[name].to_list() for name in table.columns})
    return table if isinstance(table, pd.DataFrame) and table.columns.is_unique else None


def _kind(column: pd.Series[Any]) -> str | None:
    """Return what the values there are in a column are; None where there are none, or they are not of one kind."""
    kind = _KINDS.get(pd.api.types.infer_dtype(list(column.dropna()), skipna=True))
    if kind != "times":
        return kind
    zones = {getattr(value, "tzinfo", None) is not None for value in column.dropna()}
    return None if len(zones) != 1 else "times with a zone" if zones.pop() else "times without a zone"
