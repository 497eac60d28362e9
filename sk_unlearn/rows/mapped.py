"""Rows of a file that is mapped into memory, such as a large ``.npy``: the system reads what is looked at."""

from __future__ import annotations

import io
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MappedFile", "mapped_file", "npy_file"]

# Folders of joblib's, in which it maps the arguments of its workers and which it deletes soon.
_OF_JOBLIB = "joblib_memmapping_folder_"


class MappedFile:
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
    """

    def __init__(
        self,
        path: str,
        place: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        dtype: np.dtype[Any],
        name: str | None = None,
    ) -> None:
        self._name = path if name is None else name
        self._place = path, place, tuple(shape), tuple(strides), np.dtype(dtype)
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

    def read(self, numbers: NDArray[np.int64] | slice) -> NDArray[Any]:
        """Return some rows.

        Raises
        ------
        OSError
            If the file is not there, or is shorter than it was.
        """
        if self._rows is None and self._is_mappable:
            self._rows = self._mapped()
        if self._rows is None:
            return self._read_apart(numbers)
        rows: NDArray[Any] = self._rows[numbers]
        return rows

    def _checked(self) -> str:
        """Return the path of the file, which is there and as long as it was."""
        path, place, shape, strides, dtype = self._place
        told = f"The rows that the estimator was fitted on stay in the file {path!r}, which "
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"{told}is not there: put it back, or fit anew. Workers on other machines need it under the same path."
            )
        last = place + sum(max(0, (n - 1) * step) for n, step in zip(shape, strides, strict=True)) + dtype.itemsize
        if last > Path(path).stat().st_size:
            raise OSError(f"{told}is shorter than it was: put it back as it was, or fit anew.")
        return path

    def _mapped(self) -> NDArray[Any] | None:
        """Return all rows, mapped for reading; None where the address space has no room for the file."""
        # Whatever the user's map allows: a module that writes to its input must not reach the file.
        _, place, shape, strides, dtype = self._place
        with open(self._checked(), "rb") as file:
            try:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, OverflowError):
                self._is_mappable = False
                return None
        return np.ndarray(shape, dtype, buffer=mapped, offset=place, strides=strides)

    def _read_apart(self, numbers: NDArray[Any] | slice) -> NDArray[Any]:
        """Read some rows by themselves, a slice of them at once."""
        _, place, shape, strides, dtype = self._place
        wanted = range(shape[0])[numbers] if isinstance(numbers, slice) else numbers.tolist()
        rows = np.empty((len(wanted), *shape[1:]), dtype)
        if strides[1:] != rows.strides[1:] or strides[0] < rows.strides[0]:
            raise OSError(
                f"{self._place[0]!r} does not fit into the address space, and its rows do not lie one after another, "
                "so that single ones could be read: write it in C order."
            )
        content = rows.reshape(len(rows), -1).view(np.uint8)
        at_once = isinstance(wanted, range) and wanted.step == 1 and strides[0] == rows.strides[0]
        pieces = [(wanted[0], content)] if at_once and len(rows) else zip(wanted, content, strict=True)
        with open(self._checked(), "rb", buffering=0) as file:
            for number, piece in pieces:
                file.seek(place + number * strides[0])
                _fill(file, piece.reshape(-1).data)
        return rows

    def __getstate__(self) -> dict[str, Any]:
        return {"_place": self._place, "_name": self._name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._place, self._name, self._rows, self._is_mappable = state["_place"], state["_name"], None, True

    def __deepcopy__(self, memo: dict[int, Any]) -> MappedFile:
        return self  # it never changes

    def __repr__(self) -> str:
        return f"MappedFile({len(self.shape)} axes of {self.dtype})"


def _fill(file: io.FileIO, wanted: memoryview) -> None:
    """Fill memory from where a file stands; the system gives no more than some gigabytes at a time."""
    while len(wanted):
        n_read = file.readinto(wanted)
        if not n_read:
            raise OSError("the file of rows was cut while it was read: put it back as it was, or fit anew")
        wanted = wanted[n_read:]


def npy_file(path: str | os.PathLike[str], name: str | None = None) -> MappedFile:
    """Return the rows of a ``.npy`` file, of which only the header is read.

    Raises
    ------
    ValueError
        If it holds anything but numbers along at least one axis.
    """
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
        place = file.tell()
    if dtype.kind not in "biuf" or dtype.char in "gG" or not shape or 0 in shape:
        raise ValueError(
            f"the file must hold an array of real numbers with at least one row, got {dtype} of shape {shape}"
        )
    strides = _strides(shape[::-1], dtype)[::-1] if is_fortran else _strides(shape, dtype)
    return MappedFile(str(Path(path).resolve()), place, shape, strides, dtype, name)


def _strides(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
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
    return MappedFile(str(Path(path).resolve()), place, values.shape, values.strides, values.dtype)
