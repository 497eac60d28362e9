"""The parts of a model by what they are, for whoever asks nothing of them yet."""

from __future__ import annotations

from typing import Any

from sk_unlearn.composites._rows import Rows
from sk_unlearn.composites._walk import walk

__all__ = ["parts_of"]


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
