"""scikit-learn's validation in this package's words: the argument is named, and no value is quoted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_numbers", "listed", "validated"]

_T = TypeVar("_T")

# What scikit-learn, numpy and Python quote of the values, and what stands there instead.
_QUOTES = [
    (re.compile(r":\s*array=.*?(?=\nReshape|\Z)", re.DOTALL), "."),
    (re.compile(r"(Complex data not supported).*", re.DOTALL), r"\1; pass real numbers."),
    (re.compile(r"setting an array element with a sequence.*", re.DOTALL), "its entries differ in length or shape."),
    (
        re.compile(r"(Singleton array|Input should have at least 1 dimension).*", re.DOTALL),
        "got a single value; pass an array with one for each row.",
    ),
    (
        re.compile(r"sample_weight\.shape == (.*), expected (.*)!"),
        r"sample_weight has shape \1 and must have \2: pass one weight for each row of X.",
    ),
    (re.compile(r"(could not convert \w+ to \w+|invalid literal for .*?):.*", re.DOTALL), r"\1; pass numbers."),
]

_ENCODE = (
    " Texts and categories are encoded by a step before this estimator, in sk_unlearn.pipeline.make_pipeline, so that "
    "it forgets them, too."
)
# What is said in addition where an argument is refused, by words of the refusal.
_MORE = {
    "X": [("; pass numbers.", _ENCODE)],
    "X_del": [("; pass numbers.", _ENCODE), ("Expected ", " Identifiers are passed as sample_id=[...].")],
}


def validated(name: str, values: Any, check: Callable[[], _T], *, called: str = "") -> _T:
    """Return what a check of scikit-learn's returns, or raise its error about *our* argument.

    Parameters
    ----------
    name : str
        What the caller's user calls the argument.

    values : object
        The argument, as it was given.

    check : callable
        Calls scikit-learn with it.

    called : str
        What scikit-learn calls it: X or y.

    Raises
    ------
    ValueError, TypeError
        As the check, with the name put right and values left out; also for masked entries, which scikit-learn would
        read as if they were not masked.
    """
    parts = [values, *(values if isinstance(values, list | tuple) else [])]
    if any(isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part) for part in parts):
        raise ValueError(f"{name} has masked entries: fill them, or leave out their rows.")
    message = ""
    kind: type[Exception] = ValueError
    try:
        return check()
    except (ValueError, TypeError, OverflowError) as error:
        message = _without_values(str(error))
        of_value = message.startswith(("got a single value", "Sparse data"))
        kind = TypeError if isinstance(error, TypeError) and not of_value else ValueError
    message += next((more for start, more in _MORE.get(name, ()) if start in message), "")
    # Outside the except clause, so that scikit-learn's own words are not chained to it.
    message = re.sub(rf"\b{called}\b", name, message) if called else message
    raise kind(message if re.search(rf"\b{name}\b", message) else f"{name}: {message}")


def _without_values(message: str) -> str:
    for quote, instead in _QUOTES:
        message = quote.sub(instead, message)
    return message


def listed(values: Any) -> Any:
    """Return a list as an array, which scikit-learn converts to numbers where it would leave a list's objects alone."""
    return np.asarray(values) if isinstance(values, list | tuple) else values


def check_numbers(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Return an array, unless it holds what is no real number, such as times."""
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, got dtype {values.dtype}; convert them first.")
    return values
