"""The parts of a model that carry out requests, for whoever keeps their receipts and their queues."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_unlearn.composites._forget import checked_request, in_turns
from sk_unlearn.composites._known import look_up
from sk_unlearn.composites._rows import Rows
from sk_unlearn.composites._walk import Walk, walk

__all__ = ["forgetful_parts", "known_to_some"]


def forgetful_parts(model: Any) -> dict[str, Any]:
    """Return the parts of a fitted model that forget by themselves, by where they are; "model" is the whole.

    Parameters
    ----------
    model : object
        Fitted.

    Raises
    ------
    ValueError
        For a composite of which it is not known how it feeds its parts.
    """
    return {leaf.path: leaf.part for leaf in walk(model, Rows(), Rows()).leaves if leaf.forgets}


def known_to_some(
    model: Any, X: ArrayLike | None = None, y: ArrayLike | None = None, *, sample_id: ArrayLike | None = None
) -> NDArray[np.bool_]:
    """Tell of each row, or each identifier, whether any part of a fitted model knows it.

    Parameters
    ----------
    model, X, y, sample_id
        As :func:`sk_unlearn.forget` takes them, rows or identifiers.

    Returns
    -------
    known : bool ndarray
        False also where no part can tell.

    Raises
    ------
    ValueError
        As :func:`sk_unlearn.which_parts_know`.
    """
    asked = checked_request(X, y, sample_id, "X", "y")

    def told(way: Walk) -> NDArray[np.bool_]:
        found = [each.known for each in look_up(way, asked) if each.known is not None]
        return np.logical_or.reduce(found) if found else np.zeros(asked.n, dtype=bool)

    return in_turns(model, asked.rows, Rows(), told)
