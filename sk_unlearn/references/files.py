"""A set of retrained models in a folder, so that many audits share it."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sk_unlearn._version import __version__
from sk_unlearn.composites import which_parts_know
from sk_unlearn.exceptions import PersistenceError
from sk_unlearn.persistence import exclusive
from sk_unlearn.persistence import load as load_model
from sk_unlearn.persistence import save as save_model
from sk_unlearn.persistence.atomic import write_atomically
from sk_unlearn.rows.digests import digest_rows

__all__ = ["SavedReferences", "load", "save"]

_MANIFEST = "references.json"
_FORMAT = 1
_FILE = re.compile(r"reference-[0-9a-f]{16}-\d+\.skops")
# What a save that was killed may have left.
_PART = re.compile(rf"\.{_FILE.pattern}\.part")


class SavedReferences(list[Any]):
    """Retrained models that were loaded from a folder, in the order in which they were saved.

    Parameters
    ----------
    models : iterable of estimators
        Fitted.
    seeds : sequence of int or None
        The ``random_state`` of each.
    left_out : frozenset of str
        Keyed digests of rows that none of them was trained on; empty if nothing was said.
    key_digest : str
        A digest of the key that they were made with.
    version : str
        Of the package that wrote them.

    Attributes
    ----------
    seeds, left_out, key_digest, version
        As given.

    See Also
    --------
    load : Makes it.
    """

    def __init__(
        self,
        models: Iterable[Any],
        seeds: Sequence[int | None] = (),
        left_out: frozenset[str] = frozenset(),
        key_digest: str = "",
        version: str = __version__,
    ) -> None:
        super().__init__(models)
        self.seeds: list[int | None] = list(seeds)
        self.left_out = left_out
        self.key_digest = key_digest
        self.version = version

    def n_not_left_out(self, X: Any, key: bytes) -> int | None:
        """Count the rows that are not among those that the models were retrained without.

        Parameters
        ----------
        X : table of n rows
            In the form that `save` was given rows in.
        key : bytes
            ``receipt_key_`` of the model to be audited.

        Returns
        -------
        n : int or None
            None where it cannot be told: nothing was said at `save`, or by another key.
        """
        if not self.left_out or _digest_of_key(key) != self.key_digest:
            return None
        return sum(each not in self.left_out for each in _hexadecimal(key, X))


def save(
    models: Sequence[Any],
    folder: str | os.PathLike[str],
    *,
    X_del: Any = None,
    y_del: Any = None,
    key: bytes | None = None,
    rows: bool = False,
) -> None:
    """Write retrained models to a folder, so that the audits of many requests share them.

    Each model is a file of its own, as `sk_unlearn.save` writes it; ``references.json`` beside them says which they
    are, their seeds, the version, and, by keyed digests, which rows they were retrained without. It is written last and
    at once: whoever looks finds the old set or the new one, even if the process is killed.

    Parameters
    ----------
    models : sequence of estimators
        Fitted: what `fit_many` returns, or whole Pipelines or ensembles that were retrained.
    folder : str or path-like
        Where to. It is made if it is not there; a set that is there is replaced.
    X_del : table of n rows, default=None
        Rows that none of the models was trained on, as audits will be given them: those of all requests that the set
        is to serve. None says nothing about it.
    y_del : array-like of shape (n,), default=None
        Their targets: only copies that also carry this target are looked for in the models.
    key : bytes, default=None
        ``receipt_key_`` of the model that is to be audited, which makes the digests worthless to others. It is needed
        with `X_del`, and not written.
    rows : bool, default=False
        Whether the rows that the models store are written, too. They are copies of training rows, once for each
        model, and have to go when one of these rows is erased.

    Raises
    ------
    ValueError
        If there are no models, `X_del` is given without `key`, or rows in it are among those that a model stores.
    sklearn.exceptions.NotFittedError
        If a model is not fitted.
    PersistenceError
        If a part of a model cannot be written; a set that was there before is as it was.
    TimeoutError
        If another process is writing to the folder.
    ImportError
        If skops is not installed.

    Notes
    -----
    A set serves a request if no model in it was trained on any row of the request. One that was retrained without rows
    A serves requests for exactly A, or for some of A. For many requests of few rows out of many, retrain without all of
    these rows: none of the models knows any, and a few rows more or less that stay hardly move predictions. When a
    later request erases a row that the set was trained on, the set cannot judge it, and the folder is to be deleted
    like any other copy of a model that learnt the row.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier, references
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(random_state=0).fit(X, y)
    >>> models = references.fit_many(UnlearnableClassifier(), X[10:], y[10:], seeds=[1, 2, 3])
    >>> folder = tempfile.mkdtemp()
    >>> references.save(models, folder, X_del=X[:10], y_del=y[:10], key=est.receipt_key_)
    >>> references.load(folder).seeds
    [1, 2, 3]
    """
    if len(models) == 0:
        raise ValueError("models is empty: give at least one retrained model.")
    if X_del is not None and key is None:
        raise ValueError("X_del is written as keyed digests: pass key=est.receipt_key_ of the model to be audited.")
    for number, model in enumerate(models):
        check_is_fitted(model)
        if X_del is not None:
            _check_does_not_know(model, number, X_del, y_del)
    left_out = None
    if X_del is not None and key is not None:
        left_out = {"key": _digest_of_key(key), "rows": sorted(set(_hexadecimal(key, X_del)))}
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    with exclusive(place / _MANIFEST):
        name = secrets.token_hex(8)
        files = [f"reference-{name}-{number}.skops" for number in range(len(models))]
        try:
            for model, file in zip(models, files, strict=True):
                save_model(model, place / file, rows=rows, receipts=False)
            told = [
                {"file": file, "sha256": sha256((place / file).read_bytes()).hexdigest(), "seed": _seed_of(model)}
                for file, model in zip(files, models, strict=True)
            ]
            content = {"format": _FORMAT, "version": __version__, "models": told, "left_out": left_out}
            write_atomically(os.fspath(place / _MANIFEST), [memoryview(_sealed(content))])
        except BaseException:
            _clear(place, _listed_in(place))
            raise
        _clear(place, set(files))


def load(folder: str | os.PathLike[str], *, trusted: Iterable[Any] | None = None) -> SavedReferences:
    """Load the models that `save` wrote.

    Parameters
    ----------
    folder : str or path-like
        The folder.
    trusted : iterable of str, type or function, default=None
        Classes and functions of your own, as `sk_unlearn.load` takes them.

    Returns
    -------
    models : SavedReferences
        A list of them.

    Raises
    ------
    PersistenceError
        If there is no set in the folder, a file of it is missing, damaged or another one, or it was written by a later
        version; also as `sk_unlearn.load`.
    FileNotFoundError
        If there is no such folder.
    ImportError
        If skops is not installed.

    Examples
    --------
    See `save`.
    """
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(f"There is no folder {os.fspath(folder)!r} of references.")
    content = _manifest(place)
    told = content["models"]
    missing = [each for each in told if not (place / each["file"]).is_file()]
    if missing:
        raise PersistenceError(f"{len(missing)} of {len(told)} files of the references are missing. {_AGAIN}")
    for number, each in enumerate(told):
        if sha256((place / each["file"]).read_bytes()).hexdigest() != each["sha256"]:
            raise PersistenceError(
                f"The file of references[{number}] is damaged, or not the one that was saved with the others. {_AGAIN}"
            )
    models = [load_model(place / each["file"], trusted=trusted) for each in told]
    left_out = content["left_out"] or {"key": "", "rows": []}
    return SavedReferences(
        models, [each["seed"] for each in told], frozenset(left_out["rows"]), left_out["key"], content["version"]
    )


_AGAIN = "Retrain the models and save them again."


def _manifest(place: Path) -> dict[str, Any]:
    try:
        data = (place / _MANIFEST).read_bytes()
    except FileNotFoundError:
        raise PersistenceError(
            f"The folder holds no {_MANIFEST}: it was not written by sk_unlearn.references.save, or not to the end."
        ) from None
    try:
        content = json.loads(data)
        told, kind, version = content.pop("sha256"), int(content["format"]), str(content["version"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PersistenceError(f"{_MANIFEST} is damaged, or is no list of references. {_AGAIN}") from error
    if kind > _FORMAT:
        raise PersistenceError(
            f"The references were written by version {version} of sk-unlearn, and this is version {__version__}, which "
            "may not understand them. Install that version or a later one."
        )
    names = [each["file"] for each in content.get("models", ())]
    if _checksum(content) != told or not all(_FILE.fullmatch(name) for name in names):
        raise PersistenceError(f"{_MANIFEST} is damaged, or is no list of references. {_AGAIN}")
    return dict(content)


def _sealed(content: dict[str, Any]) -> bytes:
    return json.dumps({**content, "sha256": _checksum(content)}, indent=1).encode()


def _checksum(content: dict[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _listed_in(place: Path) -> set[str]:
    try:
        return {each["file"] for each in _manifest(place)["models"]}
    except PersistenceError:
        return set()


def _clear(place: Path, stay: set[str]) -> None:
    """Remove models that belong to no set."""
    for path in place.iterdir():
        if path.name not in stay and (_FILE.fullmatch(path.name) or _PART.fullmatch(path.name)):
            path.unlink()


def _check_does_not_know(model: Any, number: int, X: Any, y: Any) -> None:
    counts = [count for count in which_parts_know(model, X, y).values() if count]
    if counts:
        raise ValueError(
            f"models[{number}] stores {max(counts)} rows of X_del: it was trained on them. Retrain it without them."
        )


def _seed_of(model: Any) -> int | None:
    last = model[-1] if isinstance(model, Pipeline) else model
    seed = getattr(last, "random_state", None)
    return int(seed) if isinstance(seed, int) else None


def _hexadecimal(key: bytes, X: Any) -> list[str]:
    return [each.tobytes().hex() for each in digest_rows(key, X)]


def _digest_of_key(key: bytes) -> str:
    return blake2b(key, digest_size=16, person=b"sk_unlearn key").hexdigest()
