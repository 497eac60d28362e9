"""Saving and loading, and what a file asks to be trusted for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from sk_unlearn import distributed
from sk_unlearn.composites.parts import undisturbed
from sk_unlearn.exceptions import PersistenceError
from sk_unlearn.persistence._container import opened, sealed
from sk_unlearn.persistence._log import bring_up_to_date
from sk_unlearn.persistence._names import trusted_names, untrusted
from sk_unlearn.persistence._reader import Reader
from sk_unlearn.persistence._writer import Writer
from sk_unlearn.persistence.atomic import write_atomically

__all__ = ["load", "save", "untrusted_types"]


def save(est: Any, path: str | os.PathLike[str], *, rows: bool = True, receipts: bool = True) -> None:
    """Write a fitted estimator, or whatever of scikit-learn's holds one, to a file that contains no code.

    The file is a skops container: a zip archive of arrays and of a list of operations that make the object again. It
    is written beside the old one and then takes its place, so that whoever looks finds one or the other, even if the
    process is killed or the power fails. It ends with a SHA-256 of all its bytes.

    Parameters
    ----------
    est : object
        An estimator of this package, or a Pipeline, GridSearchCV, VotingClassifier, … around some.

    path : str or path-like
        Where to. A file of that name is replaced, and its permissions are kept.

    rows : bool, default=True
        Whether stored rows and their identifiers are written too. Without them the estimator is, after loading, as one
        fitted with ``keep_training_set=False``: it predicts the same, and forgets by ``partial_forget`` alone.

    receipts : bool, default=True
        Whether its receipts are written too.

    Raises
    ------
    PersistenceError
        If a part of it cannot be written, such as a lambda; the message says where it is. A file that was there
        before is as it was.

    ImportError
        If skops is not installed.

    See Also
    --------
    load : The way back.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_iris
    >>> import sk_unlearn
    >>> X, y = load_iris(return_X_y=True)
    >>> est = sk_unlearn.UnlearnableClassifier(random_state=0).fit(X, y)
    >>> path = os.path.join(tempfile.mkdtemp(), "model.skops")
    >>> sk_unlearn.save(est, path)
    >>> bool((sk_unlearn.load(path).predict_proba(X) == est.predict_proba(X)).all())
    True
    """
    distributed.refuse("save")
    writer = Writer(rows=rows, receipts=receipts)
    program = undisturbed(est, lambda: writer.write(est))
    write_atomically(os.fspath(path), sealed(program.encode(), writer.arrays))


def load(
    path: str | os.PathLike[str], *, trusted: Iterable[Any] | None = None, log: Any = None, replay: bool = False
) -> Any:
    """Load what :func:`save` wrote.

    Before anything in the file is looked up or called, its checksum is compared, its names are looked through, and
    names that are neither trusted by this package nor in `trusted` are refused. Trusted without being named are the
    classes of this package, of scikit-learn, skorch, ``torch.nn`` and ``torch.optim`` that neither touch files nor
    hold unchecked positions in memory (trees do), and the plain types of Python, NumPy, SciPy and pandas.

    Parameters
    ----------
    path : str or path-like
        The file.

    trusted : iterable of str, type or function, default=None
        Classes and functions of your own, or of other packages, as ``"my_package.nets.MyNet"`` or as they are. Only
        name what you know: their code is run.

    log : path, ReceiptChain, iterable of lines, or list of paths and chains, default=None
        Receipts of the model, as :func:`~sk_unlearn.receipts.to_json_lines` keeps them, to be sure that the file is not
        older than the newest of them, and holds nothing that was erased since. A model of several parts has a log for
        each, which are told apart by how they begin.

    replay : bool, default=False
        What is done with a file that is older: with False it is refused. With True the missing requests are carried out
        on it, all of them in one solve, and its receipts are those of the log from then on, followed by one whose
        ``verb`` is "replay".

    Returns
    -------
    est : object
        It predicts, forgets and learns as the one that was saved. What was on a CUDA device is put on the CPU where
        there is no such device.

    Raises
    ------
    PersistenceError
        If the file is damaged, cut off, of another kind, or written by a later version; if it asks for names that are
        not trusted, which the message lists; if these cannot be found here. With `log` also if the file is older than
        it, has seen other requests, is of another model, or was saved without receipts; and if it cannot be replayed.

    ReceiptError
        If `log` is not what it was when it was written: see :func:`~sk_unlearn.receipts.verify`.

    TypeError
        If `trusted` is no iterable of names.

    ImportError
        If skops is not installed.

    Warns
    -----
    InconsistentVersionWarning
        If another version of the package wrote it.

    UserWarning
        If the file is newer than `log`.

    Notes
    -----
    Rows of missing requests are found by the keyed digests in their receipts. Where a request told equal rows apart by
    their targets, all of them go: receipts do not say which it was. The new content of corrected rows is in no receipt;
    the old one is erased. ``unlearning_report_.notes`` of the loaded estimator says how many rows that concerns.

    The checksum shows damage, not forgery: whoever can write the file can compute it. Where files come from others,
    sign them.
    """
    names = trusted_names(trusted)
    reader, arrays = _read(path)
    missing = untrusted(reader.names, names)
    if missing:
        raise PersistenceError(
            f"The file asks for {len(missing)} names that are not trusted. If you know all of them and trust where the "
            f"file comes from, pass trusted={missing!r}, on the command line --trusted {' '.join(missing)}."
        )
    try:
        model = reader.make(arrays)
    except PersistenceError:
        raise
    except Exception as error:
        raise PersistenceError(
            f"The file is whole, but what it holds cannot be made here ({type(error).__name__}): a class may have "
            "changed since, or the file was not written by sk_unlearn.save."
        ) from error
    if log is not None:
        bring_up_to_date(model, log, replay=replay)
    return model


def untrusted_types(path: str | os.PathLike[str]) -> list[str]:
    """Return the names in a file that :func:`load` refuses unless they are passed as `trusted`.

    Parameters
    ----------
    path : str or path-like
        The file. Its checksum is compared; nothing in it is looked up or called.

    Returns
    -------
    names : list of str
        Sorted; empty where all of them are trusted.

    Raises
    ------
    PersistenceError
        If the file is damaged, of another kind, or written by a later version.

    ImportError
        If skops is not installed.
    """
    return untrusted(_read(path)[0].names)


def _read(path: str | os.PathLike[str]) -> tuple[Reader, list[Any]]:
    with open(path, "rb") as file:
        data = file.read()
    program, arrays = opened(data)
    try:
        return Reader(program), arrays
    except Exception as error:
        raise PersistenceError("The file is sealed, but was not written by sk_unlearn.save.") from error
