"""The bytes of a file: a zip archive as skops writes it, and a line at its end that says what it is and seals it.

The line is the comment of the archive, so that the file stays one that any program for zip archives opens. Its last 64
characters are the SHA-256 of every byte before them.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from hashlib import sha256
from typing import Any

import numpy as np

from sk_unlearn._version import __version__
from sk_unlearn.exceptions import PersistenceError

__all__ = ["opened", "sealed"]

_FORMAT = 1
_DIGEST = 64
_LINE = re.compile(rb"sk_unlearn format=(\d{1,6}) version=(\S{1,40}) sha256=([0-9a-f]{64})")
_LONGEST_LINE = 150
# What skops is asked to carry: containers, arrays, bytes. It imports nothing to make these.
_PLAIN = {
    ("DictNode", "builtins", "dict"),
    ("ListNode", "builtins", "list"),
    ("BytesNode", "builtins", "bytes"),
    ("NdArrayNode", "numpy", "ndarray"),
    ("TypeNode", "builtins", "str"),
}
_HOW_TO_GET_ANOTHER = "Take a copy from a backup, or save the estimator again."


def sealed(program: bytes, arrays: list[np.ndarray[Any, Any]]) -> list[memoryview]:
    """Return the bytes of a file, in parts that follow each other."""
    archive = _skops().dumps({"program": program, "arrays": arrays})
    line = f"sk_unlearn format={_FORMAT} version={__version__} sha256=".encode()
    # The archive ends with the length of its comment, so far none.
    parts = [memoryview(archive)[:-2], memoryview((len(line) + _DIGEST).to_bytes(2, "little") + line)]
    digest = sha256()
    for part in parts:
        digest.update(part)
    return [*parts, memoryview(digest.hexdigest().encode())]


def opened(data: bytes) -> tuple[bytes, list[np.ndarray[Any, Any]]]:
    """Return the program and the arrays in the bytes of a file, after having checked each of them.

    Raises
    ------
    PersistenceError
        If they are not as :func:`sealed` made them, or made by a later version.
    """
    _check_seal(data)
    try:
        _check_archive(data)
        held = _skops().loads(data)
        return held["program"], held["arrays"]
    except (PersistenceError, ImportError):
        raise
    except Exception as error:
        raise PersistenceError(
            f"The file is sealed, but no archive that sk_unlearn.save writes. {_HOW_TO_GET_ANOTHER}"
        ) from error


def _check_seal(data: bytes) -> None:
    line = _LINE.search(data[-_LONGEST_LINE:])
    if line is None or line.end() != len(data[-_LONGEST_LINE:]):
        raise PersistenceError(_what_else(data))
    kind, version, digest = (part.decode("ascii", "replace") for part in line.groups())
    if sha256(memoryview(data)[:-_DIGEST]).hexdigest() != digest:
        raise PersistenceError(
            f"The file is damaged: its SHA-256 is not the one that was written at its end. {_HOW_TO_GET_ANOTHER}"
        )
    if int(kind) > _FORMAT or _major_minor(version) > _major_minor(__version__):
        raise PersistenceError(
            f"The file was written by version {version} of sk-unlearn, and this is version {__version__}, which may "
            "not understand it. Install that version or a later one."
        )


def _major_minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _what_else(data: bytes) -> str:
    """Say what a file seems to be that does not end as it should."""
    if not data:
        return f"The file is empty. {_HOW_TO_GET_ANOTHER}"
    if data.startswith(b"\x80") and data[1:2] <= b"\x05":
        return "The file is a pickle. If you trust its origin, load it with joblib.load or pickle, and save it anew."
    if not data.startswith(b"PK"):
        return "The file is none that sk_unlearn.save writes. Check the path."
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except Exception:
        return f"The file is damaged or cut off: its end is missing. {_HOW_TO_GET_ANOTHER}"
    if "schema.json" in archive.namelist() and not archive.comment:
        return "The file is one of skops' own, without the seal of sk_unlearn.save. Load it with skops.io.load."
    return f"The file is an archive whose seal is damaged, or which has none. {_HOW_TO_GET_ANOTHER}"


def _check_archive(data: bytes) -> None:
    """Refuse what unpacks to more than it is, has two members of one name, or asks skops for more than plain data."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        names = {member.filename for member in members}
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        if not stored or len(names) < len(members) or sum(member.file_size for member in members) > len(data):
            raise ValueError("members are compressed, repeated, or overlap")
        for member in members:
            if member.filename.endswith(".npy"):
                with archive.open(member) as file:
                    _check_array(file, member.file_size)
        _check_plain(json.loads(archive.read("schema.json")))


def _check_array(file: Any, size: int) -> None:
    """Refuse an array that claims to be larger than its bytes, for which memory would be taken."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    n_bytes = dtype.itemsize
    for n in shape:
        n_bytes *= n
    if dtype.hasobject or n_bytes != size - file.tell():
        raise ValueError("an array is not of the size that it claims")


def _check_plain(schema: Any) -> None:
    if isinstance(schema, dict):
        if "__loader__" in schema and (schema["__loader__"], schema["__module__"], schema["__class__"]) not in _PLAIN:
            raise ValueError("holds more than plain data")
        for value in schema.values():
            _check_plain(value)
    elif isinstance(schema, list):
        for value in schema:
            _check_plain(value)


def _skops() -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise ImportError(
            "Saving and loading without pickle needs skops: pip install sk-unlearn[persist], or pip install skops."
        ) from error
    return skops.io
