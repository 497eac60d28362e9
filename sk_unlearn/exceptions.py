"""Errors and warnings of the package's own."""

from collections.abc import Sequence
from typing import Any

__all__ = [
    "CertificateRefused",
    "DominatingNoiseWarning",
    "InconsistentVersionWarning",
    "NotConvexError",
    "PartsCannotForget",
    "PersistenceError",
    "ProcessesError",
    "ReceiptError",
    "RetrainRequired",
    "VacuousBoundWarning",
]


class CertificateRefused(ValueError):  # noqa: N818  the name says what happened
    """Raised where a guarantee rests on something that does not hold; see :meth:`CertifiedNewton.unlearn`."""


class PartsCannotForget(ValueError):  # noqa: N818
    """Raised where parts of a model may have learnt the rows to erase and cannot forget; see :func:`sk_unlearn.forget`.

    Parameters
    ----------
    message : str
        What it says.

    parts : sequence of str
        Where they are, such as ``estimators_[1]``.

    Attributes
    ----------
    parts : tuple of str
        The same.
    """

    def __init__(self, message: str, parts: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.parts: tuple[str, ...] = tuple(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.parts)  # as it comes out of another process


class ProcessesError(ConnectionError):
    """Raised where another process failed or died, or is out of step; see :func:`sk_unlearn.distributed.data_parallel`.

    The estimator is what it was before.
    """


class RetrainRequired(RuntimeError):  # noqa: N818
    """Raised where a request would pass the budget; see :meth:`CertifiedRemoval.unlearn`."""


class VacuousBoundWarning(UserWarning):
    """Warns of a bound that says no more than what holds for any two models; see :meth:`CertifiedNewton.unlearn`."""


class DominatingNoiseWarning(UserWarning):
    """Warns of noise that is longer than the parameters it hides; see :meth:`CertifiedNewton.unlearn`."""


class InconsistentVersionWarning(UserWarning):
    """Warns of a pickle that another version of the package wrote.

    Parameters
    ----------
    estimator_name : str
        Class of what is loaded.

    current_sk_unlearn_version : str
        The version that loads it.

    original_sk_unlearn_version : str
        The version that wrote it, or "unknown".
    """

    def __init__(
        self, *, estimator_name: str, current_sk_unlearn_version: str, original_sk_unlearn_version: str
    ) -> None:
        self.estimator_name = estimator_name
        self.current_sk_unlearn_version = current_sk_unlearn_version
        self.original_sk_unlearn_version = original_sk_unlearn_version

    def __str__(self) -> str:
        return (
            f"Loading {self.estimator_name} pickled by version {self.original_sk_unlearn_version} of sk-unlearn into "
            f"version {self.current_sk_unlearn_version}. It may fail or compute something else. Fit it again, or load "
            "it with the version that pickled it."
        )


class NotConvexError(ValueError):
    """The objective is not known to be strongly convex; the message says why."""


class ReceiptError(ValueError):
    """Raised where receipts are not what they were when they were written; see :func:`sk_unlearn.receipts.verify`.

    Parameters
    ----------
    index : int
        Number of the first receipt that is wrong, from 1; 0 is the beginning of the chain.

    reason : str
        What is wrong with it.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(index, reason)
        self.index = index
        self.reason = reason

    def __str__(self) -> str:
        what = f"Receipt {self.index}" if self.index else "The beginning of the receipts"
        return f"{what} {self.reason}."


class PersistenceError(ValueError):
    """A file cannot be loaded or an object not saved; the message says why, and what to do.

    See :func:`sk_unlearn.load`.
    """
