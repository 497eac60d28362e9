"""Opening what holds rows outside: a file, or a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from sk_unlearn.rows.items import DatasetItems
from sk_unlearn.rows.mapped import npy_file
from sk_unlearn.rows.outside import OutsideRows
from sk_unlearn.rows.parquet import ParquetRows, is_parquet

__all__ = ["open_rows"]


def open_rows(
    source: Any, *, columns: Sequence[str] | None = None, name: str | None = None, overwrite: bool = False
) -> OutsideRows:
    """Return rows that stay where they are, to be given to ``fit``, ``predict`` and requests, and are read in parts.

    Parameters
    ----------
    source : str, path-like, or torch.utils.data.Dataset
        The path of a ``.npy`` file of real numbers, with one row along its first axis for each sample. Where the
        address space has no room for the whole file, as under ``RLIMIT_AS``, rows are read from it by themselves; else
        they are what ``numpy.load(path, mmap_mode="r")`` gives. The path of a Parquet file, whose columns become the
        features; needs ``pyarrow``. Or a data set with a length, whose items are (x, y) or x, with x a tensor or array
        of numbers, and the same whenever they are asked for; the targets are given to ``fit`` as y.
    columns : sequence of str, optional
        Which columns of a Parquet file to read, and in which order. Default: all.
    name : str, optional
        What receipts call it. Default: the path, or the class of the data set.
    overwrite : bool, default=False
        Whether rows that an estimator erases or corrects become zeros in the ``.npy`` file, in the moment in which the
        request is committed. The file must stay where it is, and no other estimator be fitted on it. Deep copies of the
        estimator only read.

    Returns
    -------
    rows : OutsideRows
        ``shape`` and ``dtype`` are those of the file, or of the first item. For a Parquet file, the data type that
        holds all columns.

    Raises
    ------
    ValueError
        If it holds anything else, or items change; for columns of a Parquet file with missing values, of anything but
        numbers, or of whole numbers that the common data type cannot hold; and where what is to be overwritten cannot
        be.
    TypeError
        For a data set without a length, and for anything but a path or a data set.
    OSError
        If the file is not there, or is to be overwritten and may not be written to; or there is no room for the
        scratch copy of a Parquet file.
    ImportError
        For a Parquet file without ``pyarrow``.

    Notes
    -----
    A Parquet file is decoded once, in parts, into a scratch file in the folder that ``tempfile.gettempdir()`` names
    (the environment variable ``TMPDIR`` sets it). The scratch file has no name, takes as many bytes as the numbers in
    memory would, and is gone with the last object that refers to it, even if the process is killed.

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from sk_unlearn.rows import open_rows
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name) / "rows.npy"
    >>> np.save(path, np.arange(6.0).reshape(3, 2))
    >>> rows = open_rows(path)
    >>> rows
    OutsideRows(3 rows of 2 float64)
    >>> rows[1:].toarray()
    array([[2., 3.],
           [4., 5.]])
    >>> folder.cleanup()
    """
    if isinstance(source, Dataset):
        if overwrite or columns is not None:
            given = "columns" if columns is not None else "overwrite=True"
            raise ValueError(f"{given} is for files, and source is a data set: leave it out.")
        if isinstance(source, IterableDataset) or not hasattr(source, "__len__"):
            raise TypeError(
                f"source is a {type(source).__name__}, which has no length: rows that stay in it must have numbers; "
                "pass a data set with __len__ and __getitem__."
            )
        return OutsideRows(DatasetItems(source, name or f"data set {type(source).__name__}"))
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"source must be the path of a file or a data set of PyTorch's, got {type(source).__name__}: rows in "
            "memory go to fit as they are."
        )
    if not is_parquet(source):
        if columns is not None:
            raise ValueError("columns names columns of a Parquet file, which source is not: leave it out.")
        return OutsideRows(npy_file(source, name, is_overwritten=overwrite))
    if overwrite:
        raise ValueError(
            "overwrite=True needs a file in which a row can be overwritten, which a Parquet file is not: leave it out, "
            "and erase there what training_set_.outside() names, or write the rows to a .npy file."
        )
    return OutsideRows(ParquetRows(source, columns, name))
