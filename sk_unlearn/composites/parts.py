"""The parts of a model that carry out requests, for whoever keeps their receipts and their queues."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_unlearn.composites._forget import checked_request, in_turns, undisturbed
from sk_unlearn.composites._known import look_up
from sk_unlearn.composites._rows import Rows
from sk_unlearn.composites._walk import Walk, walk

__all__ = ["known_to_some", "parts_of", "undisturbed"]


def parts_of(model: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the parts of a fitted model that forget by themselves, and the class of others that may have learnt rows.

    Parameters
    ----------
    model : object
        As :func:`~sk_unlearn.forget` takes it.

    Returns
    -------
    forgetters : dict of str to object
        By path.

    others : dict of str to str

    Raises
    ------
    ValueError
        For a composite of which it is not known how it feeds its parts.
    """
    leaves = walk(model, Rows(), Rows()).leaves
    return {each.path: each.part for each in leaves if each.forgets}, {
        each.path: each.kind for each in leaves if not each.forgets
    }


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
