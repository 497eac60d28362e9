"""Whether the rows handed to an audit are those that the model was asked to erase."""

from __future__ import annotations

from typing import Any

from sk_unlearn.metrics.distances import last_step
from sk_unlearn.receipts import prove_erased

__all__ = ["told_of_erased"]


def told_of_erased(estimator: Any, X_del: Any, made: Any) -> str:
    """Return in a sentence what the receipts of a model say of the rows handed in as erased.

    Parameters
    ----------
    estimator : estimator or Pipeline
        Where it keeps receipts, they are of rows as they came; those of the last step alone are of what it was given.
    X_del, made : table
        The rows as they came, and as the last step takes them.
    """
    keeper, X = (estimator, X_del) if hasattr(estimator, "receipts_") else (last_step(estimator), made)
    key, receipts = getattr(keeper, "receipt_key_", None), getattr(keeper, "receipts_", None)
    if key is None or not receipts:
        return _NOT_LOOKED_UP
    try:
        found = prove_erased(receipts, X, key=key)
    except (ValueError, TypeError):  # rows of another kind than those that were erased
        return _NOT_LOOKED_UP
    n, n_unknown = len(found), sum(not of for of in found)
    if not n_unknown:
        return f"The erased rows are those handed to the audit; by its receipts the model was asked to erase all {n}."
    return (
        f"{n_unknown} of the {n} rows handed to the audit as erased are in no receipt of the model: if it never learnt "
        "them, nothing that is said here shows a deletion."
    )


_NOT_LOOKED_UP = "The erased rows are those handed to the audit, which was not looked up in receipts."
