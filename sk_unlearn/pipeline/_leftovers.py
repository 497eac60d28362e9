"""What a table still tells of rows that were taken out of it: names of categories, and texts that its columns share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["of_same_categories", "without_leftovers"]


def without_leftovers(table: Any, gone: Any) -> Any:
    """Return a table without the categories that no row has any more, and without texts that no row has.

    The type of a column of categories lists them all, also those of rows that are not there. Categories that neither
    the rows that went had stay: somebody declared them. Columns of texts of polars share one buffer with the columns
    that they were taken from; they are written anew.

    Parameters
    ----------
    table : table
        The rows that stay.

    gone : table
        The rows that went, of the same table.
    """
    if isinstance(table, pd.Series):
        return _of_pandas(table, gone)
    if isinstance(table, pd.DataFrame):
        table = table.copy(deep=False)
        for place, dtype in enumerate(table.dtypes):
            if isinstance(dtype, pd.CategoricalDtype) or _is_dictionary(dtype):
                table.isetitem(place, _of_pandas(table.iloc[:, place], gone.iloc[:, place]))
        return table
    if type(table).__module__.startswith("polars"):
        if hasattr(table, "get_columns"):
            return table.with_columns([_of_polars(table[name], gone[name]) for name in table.columns])
        return _of_polars(table, gone)
    return table


def _of_pandas(column: pd.Series[Any], gone: pd.Series[Any]) -> pd.Series[Any]:
    dtype: Any = column.dtype
    if _is_dictionary(dtype):  # which lists its values as categories do, in no order that says anything
        return column.astype(pd.ArrowDtype(dtype.pyarrow_dtype.value_type)).astype(dtype)
    if not isinstance(column.dtype, pd.CategoricalDtype) or column.dtype != gone.dtype:
        return column
    lost = np.setdiff1d(gone.cat.codes, column.cat.codes)
    return column.cat.remove_categories(column.cat.categories[lost[lost >= 0]])


def _is_dictionary(dtype: Any) -> bool:
    return isinstance(dtype, pd.ArrowDtype) and hasattr(dtype.pyarrow_dtype, "index_type")


def _of_polars(column: Any, gone: Any) -> Any:
    import polars as pl

    if column.dtype in (pl.String, pl.Binary):
        return pl.Series(column.name, column.to_list(), dtype=column.dtype)
    if isinstance(column.dtype, pl.Enum):
        lost = set(gone.to_list()) - set(column.to_list())
        kept = [one for one in column.dtype.categories.to_list() if one not in lost]
        return pl.Series(column.name, column.to_list(), dtype=pl.Enum(kept))
    return column


def of_same_categories(table: Any, later: Any) -> tuple[Any, Any]:
    """Return two data frames that are to be joined, with the same categories in columns where both have some.

    To those of the first come those that later rows have; what else the type of a later column lists may have been
    erased from the first.
    """
    if isinstance(table, pd.DataFrame) and isinstance(later, pd.DataFrame) and table.columns.is_unique:
        for name, dtype in table.dtypes.items():
            other = later.dtypes.get(name)
            if dtype != other and isinstance(dtype, pd.CategoricalDtype) and isinstance(other, pd.CategoricalDtype):
                both = dtype.categories.union(later[name].cat.remove_unused_categories().cat.categories, sort=False)
                shared = pd.CategoricalDtype(both, dtype.ordered)
                table, later = table.astype({name: shared}), later.astype({name: shared})
    elif type(table).__module__.startswith("polars") and hasattr(later, "get_columns"):
        import polars as pl

        for name, dtype in table.schema.items():
            other = later.schema.get(name)
            if dtype != other and isinstance(dtype, pl.Enum) and isinstance(other, pl.Enum):
                texts, used = dtype.categories.to_list(), later[name].drop_nulls().unique(maintain_order=True).to_list()
                enum = pl.Enum([*texts, *(one for one in used if one not in texts)])
                table, later = (frame.with_columns(pl.col(name).cast(enum)) for frame in (table, later))
    return table, later
