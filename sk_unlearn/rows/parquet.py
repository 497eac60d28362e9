"""Rows of a Parquet file: decoded once, a few at a time, into a scratch file of their own, from which they are read."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows.mapped import MappedFile, strides_of
from sk_unlearn.rows.outside import RowSource
from sk_unlearn.rows.storage import BLOCK
from sk_unlearn.utils._journal import Assignment
from sk_unlearn.utils._turns import Turns

__all__ = ["ParquetRows", "is_parquet"]

_MAGIC = b"PAR1"


def is_parquet(path: Any) -> bool:
    """Tell whether a file begins as Parquet files do."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


class ParquetRows(RowSource):
    """Columns of numbers in a Parquet file, one after another, as a source of rows.

    A row of the file can only be read together with thousands of others. So all are decoded once, a block at a time,
    into a scratch file. It has no name and is gone with the last object that refers to it, or with the process. An
    erased row becomes zeros there; a copy of the estimator that still holds it reads it from the Parquet file again.

    Parameters
    ----------
    path : str or path-like
    columns : sequence of str, optional
        Which, and in which order. Default: all.
    name : str, optional
        What receipts call it. Default: the path.

    Raises
    ------
    ImportError
        Without pyarrow.
    ValueError
        If a column is not there, holds anything but numbers or a missing value, or has whole numbers that the data
        type of all columns together cannot hold.
    OSError
        If there is no room for the scratch file.
    """

    def __init__(self, path: Any, columns: Sequence[str] | None = None, name: str | None = None) -> None:
        self._path = str(Path(path).resolve())
        self._name = self._path if name is None else name
        with self._opened() as file:
            self._columns = _columns_of(file.schema_arrow, columns)
            self._dtype = _dtype_of(file.schema_arrow, self._columns)
            self._n = file.metadata.num_rows
        if not self._n:
            raise ValueError("the Parquet file has no rows: give one with at least one")
        self._scratch = _Scratch(np.zeros(self._n, dtype=bool))
        self._is_copy = False
        self._decoded()  # now, so that a column that cannot be taken is known before anything is trained

    @property
    def name(self) -> str:
        """What receipts call it."""
        return self._name

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and shape of one."""
        return self._n, len(self._columns)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type that holds the numbers of all columns."""
        return self._dtype

    def read(self, numbers: NDArray[Any] | slice) -> NDArray[Any]:
        """Return some rows.

        Raises
        ------
        OSError, ValueError
            If the file has to be read again, and is not there or is another one.
        """
        rows = self._decoded().read(numbers)
        # Looked up after the rows were read: another thread may erase some at this moment.
        erased = self._scratch.erased[numbers]
        if erased.any():
            rows = np.array(rows)
            wanted = np.asarray(range(self._n)[numbers]) if isinstance(numbers, slice) else numbers
            rows[erased] = self._read_again(wanted[erased])
        return rows

    def overwriting(self, numbers: NDArray[np.int64]) -> list[Assignment]:
        """Return the assignments that leave zeros in place of some rows of the scratch file.

        A copy of the estimator shares the file, and leaves it as it is.
        """
        if self._is_copy:
            return []
        return [(self._scratch.erased, numbers, True), *self._decoded().overwriting(numbers)]

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Open the file, of which a part of a column is in memory at a time."""
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise ImportError(
                "Reading a Parquet file needs pyarrow: pip install sk-unlearn[arrow], or pip install pyarrow."
            ) from error
        if not Path(self._path).is_file():
            raise FileNotFoundError(
                f"The rows that the estimator was fitted on stay in the file {self._path!r}, which is not there: put "
                "it back, or fit anew."
            )
        with parquet.ParquetFile(self._path, buffer_size=1 << 16, pre_buffer=False) as file:
            yield file

    def _decoded(self) -> MappedFile:
        """Return the rows in the scratch file, which is written where there is none, as after a pickle is loaded."""
        scratch = self._scratch
        if scratch.file is None:
            with scratch.turns.taken():
                if scratch.file is None:
                    scratch.file = _ScratchFile(self._blocks(scratch.erased), self.shape, self.dtype)
        return scratch.file

    def _blocks(self, erased: NDArray[np.bool_]) -> Iterator[NDArray[Any]]:
        """Give all rows, a block at a time, those that are erased as zeros."""
        with self._opened() as file:
            self._check_same(file)
            start = 0
            for block in self._decoding(file):
                block[erased[start : start + len(block)]] = 0
                start += len(block)
                yield block

    def _read_again(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Return some rows from the groups of the Parquet file in which they are."""
        rows = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        with self._opened() as file:
            self._check_same(file)
            meta = file.metadata
            ends = np.cumsum([meta.row_group(group).num_rows for group in range(meta.num_row_groups)])
            group_of = np.searchsorted(ends, numbers, side="right")
            for group in np.unique(group_of).tolist():
                start = ends[group] - meta.row_group(group).num_rows
                for block in self._decoding(file, [group]):
                    here = np.flatnonzero((start <= numbers) & (numbers < start + len(block)))
                    rows[here] = block[numbers[here] - start]
                    start += len(block)
        return rows

    def _decoding(self, file: Any, groups: list[int] | None = None) -> Iterator[NDArray[Any]]:
        size = max(1, BLOCK // len(self._columns))
        batches = file.iter_batches(batch_size=size, row_groups=groups, columns=self._columns, use_threads=False)
        for batch in batches:
            block = np.empty((batch.num_rows, len(self._columns)), self.dtype)
            for k, column in enumerate(self._columns):
                values = batch.column(column)
                if values.null_count:
                    raise ValueError(
                        f"column {column!r} of the Parquet file has missing values, which no net takes: fill them in "
                        "and write the file anew, or leave the column out by columns=[...]."
                    )
                given = values.to_numpy(zero_copy_only=False)
                block[:, k] = given
                if given.dtype.kind in "iu" and _is_lost(given, block[:, k]):
                    raise ValueError(
                        f"column {column!r} of the Parquet file has whole numbers that {self.dtype}, to which its "
                        "columns come together, cannot hold: leave it out by columns=[...], and name rows by "
                        "sample_id if it says whose they are."
                    )
            yield block

    def _check_same(self, file: Any) -> None:
        names = file.schema_arrow.names
        if file.metadata.num_rows != self._n or any(names.count(column) != 1 for column in self._columns):
            raise ValueError(
                f"The Parquet file {self._path!r} has other rows or columns than when the estimator was fitted on it: "
                "put it back as it was, with zeros in place of erased rows, or fit anew."
            )

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name not in ("_scratch", "_is_copy")}
        # A scratch file that is written anew must not hold again what was erased.
        return {**state, "erased": np.flatnonzero(self._scratch.erased)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        erased = np.zeros(state["_n"], dtype=bool)
        erased[state.pop("erased")] = True
        vars(self).update(state, _scratch=_Scratch(erased), _is_copy=False)

    def is_same(self, other: RowSource) -> bool:
        """Tell whether another object stands for the same columns of the same file."""
        return isinstance(other, ParquetRows) and (other._path, other._columns) == (self._path, self._columns)

    def reading(self) -> ParquetRows:
        """Return an object that reads the same rows and leaves the scratch file, which it shares, as it is."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), _is_copy=True)
        return other

    def __repr__(self) -> str:
        return f"ParquetRows({len(self._columns)} columns of {self.dtype})"


class _Scratch:
    """What a source and its copies share: which rows are zeros in the scratch file, and the file once it is there."""

    def __init__(self, erased: NDArray[np.bool_]) -> None:
        self.erased = erased
        self.file: MappedFile | None = None
        self.turns = Turns()


class _ScratchFile(MappedFile):
    """Rows in a file without a name, which the system removes when the process lets go of it, however it ends."""

    def __init__(self, blocks: Iterator[NDArray[Any]], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__("scratch file", 0, shape, strides_of(shape, dtype), dtype, is_overwritten=True)
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  open as long as this object
        weakref.finalize(self, self._file.close)
        for block in blocks:
            rest = block.reshape(-1).view(np.uint8).data
            while len(rest):
                rest = rest[self._written(rest) :]

    def _written(self, content: memoryview) -> int:
        try:
            return self._file.write(content) or 0
        except OSError as error:
            size = int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize
            raise OSError(
                error.errno,
                f"no room for the scratch copy of the Parquet file, {size / 1e6:.0f} MB, in {tempfile.gettempdir()!r}: "
                "name a folder with room by the environment variable TMPDIR",
            ) from error

    @contextmanager
    def _opened(self, mode: str = "rb") -> Iterator[Any]:
        yield self._file


def _is_lost(whole: NDArray[Any], cast: NDArray[Any]) -> bool:
    """Tell whether a cast has changed whole numbers."""
    with np.errstate(invalid="ignore"):
        return not np.array_equal(cast.astype(whole.dtype), whole)


def _columns_of(schema: Any, columns: Sequence[str] | None) -> list[str]:
    """Return the names of the columns to read, each of which is there once."""
    if isinstance(columns, str):
        raise ValueError(f"columns must be a list of names, got the text {columns!r}: write columns=[{columns!r}].")
    names = list(schema.names if columns is None else columns)
    if not names or (columns is not None and len(set(names)) < len(names)):
        raise ValueError("columns must name at least one column of the Parquet file, and each once.")
    for name in names:
        if schema.names.count(name) != 1:
            how = "is not in the Parquet file" if name not in schema.names else "is twice in the Parquet file"
            raise ValueError(f"column {name!r} {how}: name by columns=[...] which of its columns to read.")
    return names


def _dtype_of(schema: Any, columns: list[str]) -> np.dtype[Any]:
    """Return the data type to which columns of numbers come together."""
    from pyarrow import types

    found = []
    for name in columns:
        kind = schema.field(name).type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
            raise ValueError(
                f"column {name!r} of the Parquet file holds {kind}, and rows are numbers: leave it out by "
                "columns=[...], or write it as numbers. A Pipeline encodes columns of tables in memory."
            )
        found.append(np.dtype(kind.to_pandas_dtype()))
    return np.result_type(*found)
