"""Rows of a file that is mapped into memory, such as a large ``.npy``: the system reads what is looked at."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_unlearn.rows.outside import RowSource
from sk_unlearn.rows.storage import BLOCK
from sk_unlearn.utils._journal import Assignment

__all__ = ["MappedFile", "mapped_file", "npy_file", "strides_of"]

# Folders of joblib's, in which it maps the arguments of its workers and which it deletes soon.
_OF_JOBLIB = "joblib_memmapping_folder_"


class MappedFile(RowSource):
    """Rows of a file, by their place in it: the file is mapped for reading at the first look.

    Where the address space has no room for it, as under a limit or in 32 bits, rows are read by themselves.

    Parameters
    ----------
    path : str
    place : int
        Byte of the file at which the first number of the first row stands.
    shape : tuple of int
    strides : tuple of int
        Bytes from one number to the next along each axis.
    dtype : dtype
    name : str, optional
        What receipts call it. Default: the path.
    is_overwritten : bool, default=False
        Whether erased rows become zeros in the file. Deep copies only read.
    head : bytes, default=b""
        With what the file begins: the header of one in NumPy's format, by which another file is told.
    """

    def __init__(
        self,
        path: str,
        place: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        dtype: np.dtype[Any],
        name: str | None = None,
        *,
        is_overwritten: bool = False,
        head: bytes = b"",
    ) -> None:
        self._name = path if name is None else name
        self._overwrites, self._is_copy = is_overwritten, False
        self._place = path, place, tuple(shape), tuple(strides), np.dtype(dtype)
        self._head = head
        self._rows: NDArray[Any] | None = None
        self._is_mappable = True

    @property
    def name(self) -> str:
        """What receipts call it."""
        return self._name

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and shape of one."""
        return self._place[2]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the numbers in the file."""
        return self._place[4]

    @property
    def is_overwritten(self) -> bool:
        """Whether erased rows become zeros in the file."""
        return self._overwrites and not self._is_copy

    def read(self, numbers: NDArray[np.int64] | slice) -> NDArray[Any]:
        """Return some rows.

        Raises
        ------
        OSError
            If the file is not there, is shorter than it was, or has another header.
        """
        if self._rows is None and self._is_mappable:
            self._rows = self._mapped()
        if self._rows is None:
            return self._read_apart(numbers)
        mapped: Any = self._rows.base
        if mapped.size() < len(mapped):  # the system ends a process that looks past the end of a file
            raise self._cut()
        rows: NDArray[Any] = self._rows[numbers]
        return rows

    def overwriting(self, numbers: NDArray[np.int64]) -> list[Assignment]:
        """Return the assignments that leave zeros in place of some rows; the file is opened now.

        Raises
        ------
        OSError
            If it is not there, is shorter than it was, may not be written to, or holds other rows than it did.
        """
        if not self.is_overwritten:
            return []
        _, place, shape, strides, dtype = self._place
        zero = np.zeros((), dtype)[()]
        with self._opened("r+b") as file:
            try:
                mapped = mmap.mmap(file.fileno(), 0)
            except (OSError, OverflowError):  # no room for the whole file
                return [(piece, slice(None), zero) for piece in self._pieces(file, numbers)]
        rows: NDArray[Any] = np.ndarray(shape, dtype, buffer=mapped, offset=place, strides=strides)
        self._check_same_rows(rows, numbers)
        return [(rows, numbers, zero)]

    def _check_same_rows(self, rows: NDArray[Any], numbers: NDArray[np.int64]) -> None:
        """Raise an OSError where rows that are to be overwritten are neither those that were read, nor zeros already.

        Another file may have been put in the place of the one that is mapped.
        """
        if self._rows is None:
            return
        size = max(1, BLOCK // max(1, rows[0].size))
        for start in range(0, len(numbers), size):
            some = numbers[start : start + size]
            here, read = (np.ascontiguousarray(each[some]).view(np.uint8) for each in (rows, self._rows))
            here, read = here.reshape(len(some), -1), read.reshape(len(some), -1)
            if ((here != read).any(axis=1) & here.any(axis=1)).any():
                raise OSError(
                    f"{self._told} holds other rows than it did, of which none was overwritten: put it back, or fit "
                    "anew."
                )

    def _pieces(self, file: Any, numbers: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
        """Map runs of rows by themselves, to be written to."""
        _, place, shape, strides, dtype = self._place
        self._check_apart()
        for run in np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1):
            start = place + int(run[0]) * strides[0]
            begin = start - start % mmap.ALLOCATIONGRANULARITY
            mapped = mmap.mmap(file.fileno(), start - begin + len(run) * strides[0], offset=begin)
            yield np.ndarray((len(run), *shape[1:]), dtype, buffer=mapped, offset=start - begin)

    def flush(self) -> None:
        """Return when what was overwritten is on the disk.

        Raises
        ------
        OSError
            If the system cannot say so.
        """
        if not self.is_overwritten:
            return
        try:
            with self._opened("r+b") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(
                f"The request was carried out, but that its rows are overwritten in {self._place[0]!r}, on the disk, "
                "could not be confirmed: look at the file, and overwrite them where they are there still."
            ) from error

    @contextmanager
    def _opened(self, mode: str = "rb") -> Iterator[Any]:
        with open(self._checked(), mode, buffering=0) as file:
            if file.read(len(self._head)) != self._head:
                raise OSError(f"{self._told} has another header than it had: put it back as it was, or fit anew.")
            yield file

    @property
    def _told(self) -> str:
        """How a message on the file begins."""
        return f"The rows that the estimator was fitted on stay in the file {self._place[0]!r}, which"

    def _cut(self) -> OSError:
        return OSError(f"{self._told} is shorter than it was: put it back as it was, or fit anew.")

    @property
    def _end(self) -> int:
        """How many bytes the file has at least."""
        _, place, shape, strides, dtype = self._place
        return place + sum(max(0, (n - 1) * step) for n, step in zip(shape, strides, strict=True)) + dtype.itemsize

    def _checked(self) -> str:
        """Return the path of the file, which is there and as long as it was."""
        path = self._place[0]
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"{self._told} is not there: put it back, or fit anew. Workers on other machines need it under the "
                "same path."
            )
        if self._end > Path(path).stat().st_size:
            raise self._cut()
        return path

    def _mapped(self) -> NDArray[Any] | None:
        """Return all rows, mapped for reading; None where the address space has no room for the file."""
        # Whatever the user's map allows: a module that writes to its input must not reach the file.
        _, place, shape, strides, dtype = self._place
        with self._opened() as file:
            try:
                mapped = mmap.mmap(file.fileno(), self._end, access=mmap.ACCESS_READ)
            except (OSError, OverflowError):
                self._is_mappable = False
                return None
        return np.ndarray(shape, dtype, buffer=mapped, offset=place, strides=strides)

    def _read_apart(self, numbers: NDArray[Any] | slice) -> NDArray[Any]:
        """Read some rows by themselves, a slice of them at once."""
        _, place, shape, strides, dtype = self._place
        wanted = range(shape[0])[numbers] if isinstance(numbers, slice) else numbers.tolist()
        rows = np.empty((len(wanted), *shape[1:]), dtype)
        self._check_apart()
        content = rows.reshape(len(rows), -1).view(np.uint8)
        at_once = isinstance(wanted, range) and wanted.step == 1 and strides[0] == rows.strides[0]
        pieces = [(wanted[0], content)] if at_once and len(rows) else zip(wanted, content, strict=True)
        with self._opened() as file:
            for number, piece in pieces:
                _fill(file, place + number * strides[0], piece.reshape(-1).data)
        return rows

    def _check_apart(self) -> None:
        """Raise an OSError unless the numbers of a row lie side by side, so that it can be had by itself."""
        path, _, shape, strides, dtype = self._place
        wanted = strides_of(shape, dtype)
        if strides[1:] != wanted[1:] or strides[0] < wanted[0]:
            raise OSError(
                f"{path!r} does not fit into the address space, and its rows do not lie one after another, "
                "so that single ones could be read: write it in C order."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in ("_place", "_name", "_overwrites", "_head")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _rows=None, _is_mappable=True, _is_copy=False)

    def is_same(self, other: RowSource) -> bool:
        """Tell whether another object stands for the same part of the same file, whether or not it overwrites."""
        return self is other or (type(other) is type(self) and other._place == self._place)

    def reading(self) -> MappedFile:
        """Return an object that reads the same rows and overwrites none."""
        if not self.is_overwritten:
            return self
        other = object.__new__(type(self))
        vars(other).update(vars(self), _is_copy=True)
        return other

    def __repr__(self) -> str:
        return f"MappedFile({len(self.shape)} axes of {self.dtype})"


def _fill(file: Any, place: int, wanted: memoryview) -> None:
    """Fill memory from a place in a file; the system gives no more than some gigabytes at a time."""
    while len(wanted):
        n_read = _read_at(file, place, wanted)
        if not n_read:
            raise OSError("the file of rows was cut while it was read: put it back as it was, or fit anew")
        place, wanted = place + n_read, wanted[n_read:]


def _read_at(file: Any, place: int, wanted: memoryview) -> int:
    if hasattr(os, "preadv"):  # another thread may read the same file elsewhere
        return os.preadv(file.fileno(), [wanted], place)
    file.seek(place)
    return int(file.readinto(wanted))


def npy_file(path: str | os.PathLike[str], name: str | None = None, *, is_overwritten: bool = False) -> MappedFile:
    """Return the rows of a ``.npy`` file, of which only the header is read.

    Raises
    ------
    ValueError
        If it is not in NumPy's format, or holds anything but numbers along at least one axis.
    OSError
        If it is to be overwritten and may not be written to.
    """
    with open(path, "r+b" if is_overwritten else "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
        except ValueError as error:
            raise ValueError(
                f"{os.fspath(path)!r} is neither a .npy file nor a Parquet file: write the rows to one by numpy.save, "
                "or give fit an array."
            ) from error
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
        place = file.tell()
        file.seek(0)
        head = file.read(place)
    if dtype.kind not in "biuf" or dtype.char in "gG" or not shape or 0 in shape:
        raise ValueError(
            f"the file must hold an array of real numbers with at least one row, got {dtype} of shape {shape}"
        )
    strides = strides_of(shape[::-1], dtype)[::-1] if is_fortran else strides_of(shape, dtype)
    where = str(Path(path).resolve())
    return MappedFile(where, place, shape, strides, dtype, name, is_overwritten=is_overwritten, head=head)


def strides_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Return the bytes from one number to the next along each axis, where rows lie one after another."""
    return tuple(int(dtype.itemsize * np.prod(shape[k + 1 :], dtype=np.int64)) for k in range(len(shape)))


def mapped_file(values: Any) -> MappedFile | None:
    """Return the file that an array is mapped from; None where it is in memory, or may not be what its file says.

    Parameters
    ----------
    values : object
        Of real numbers, mapped by ``numpy.load(..., mmap_mode="r")`` or ``numpy.memmap``, or a view of such an array.
        Changes to one that is copied on write are in no file.
    """
    if not isinstance(values, np.memmap) or values.dtype.kind not in "biuf" or values.dtype.char in "gG":
        return None
    memory, path = getattr(values, "_mmap", None), values.filename
    if memory is None or path is None or values.mode == "c" or values.ndim == 0 or 0 in values.shape:
        return None
    if any(part.startswith(_OF_JOBLIB) for part in Path(path).parts):
        return None
    # Where the view begins in the file: a view of a view has the offset of the first.
    first = np.frombuffer(memory, dtype=np.uint8).__array_interface__["data"][0]
    begin = values.offset - values.offset % mmap.ALLOCATIONGRANULARITY
    place = begin + values.__array_interface__["data"][0] - first
    head = memory[: values.offset] if begin == 0 else b""
    head = head if head.startswith(np.lib.format.MAGIC_PREFIX) else b""
    return MappedFile(str(Path(path).resolve()), place, values.shape, values.strides, values.dtype, head=head)
