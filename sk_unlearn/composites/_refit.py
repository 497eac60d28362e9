"""Parts that cannot forget, fitted again on the rows that stay: exact, where those rows are to be had."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import has_fit_parameter

from sk_unlearn.composites._known import Holding
from sk_unlearn.composites._rows import Rows, in_memory
from sk_unlearn.composites._walk import Leaf
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.lookup import erased_among, targets_of
from sk_unlearn.estimators.shards.base import BaseSharded
from sk_unlearn.utils._journal import Assignment

__all__ = ["Refit", "check_retained", "refit_of", "retained_rows"]

_NOWHERE = "its composite does not say where a new one would go"


@dataclass(frozen=True)
class Refit:
    """How a part is to be fitted again, or why it cannot be.

    Attributes
    ----------
    leaf : Leaf

    rows : Rows or None
        The retained rows, as they reach the part.

    why_not : str
        Empty where it can.
    """

    leaf: Leaf
    rows: Rows | None = None
    why_not: str = ""

    def carry_out(self) -> list[Assignment]:
        """Fit a new part, and return what puts it in the place of the old one."""
        rows, leaf = self.rows, self.leaf
        assert rows is not None
        rows, kind = replace(rows, X=in_memory(rows.X)), ""
        try:
            new = leaf.child.refit(rows) if leaf.child.refit is not None else _fitted(leaf.part, rows)
        except (ValueError, TypeError, KeyError) as error:
            kind = type(error).__name__
        # Outside the except clause: what scikit-learn says of rows that do not fit often quotes them.
        if kind:
            raise ValueError(
                f"{leaf.path}: its fit on the rows that stay failed ({kind}); nothing was changed. Fit a clone of it "
                "on them by itself to see why."
            )
        return [(container, key, new) for container, key in leaf.child.places]


def refit_of(leaf: Leaf, holdings: list[Holding], given: bool) -> Refit:
    """Find the retained rows for a part, and say why it cannot be fitted again if it cannot.

    Parameters
    ----------
    leaf : Leaf

    holdings : list of Holding
        What the parts that forget know; one that was given the same rows may still have those that stay.

    given : bool
        Whether the caller gave the retained rows.
    """
    if leaf.fixed:
        return Refit(leaf, why_not=leaf.fixed)
    if not leaf.child.places:
        return Refit(leaf, why_not=_NOWHERE)
    if leaf.child.refit is None and not isinstance(leaf.part, BaseEstimator):
        return Refit(leaf, why_not="it is no estimator that can be cloned")
    rows, why = (
        (leaf.retained, "") if given and not leaf.drawn and not leaf.retained.lost else _from_siblings(leaf, holdings)
    )
    if rows is None:
        return Refit(leaf, why_not=why)
    if rows.weight is not None and leaf.child.refit is None and not has_fit_parameter(leaf.part, "sample_weight"):
        return Refit(leaf, why_not="its fit takes no sample_weight, and the retained rows have weights")
    return Refit(leaf, rows)


def _from_siblings(leaf: Leaf, holdings: list[Holding]) -> tuple[Rows | None, str]:
    """Return the retained rows of a part that forgets and was given the same rows, or why none has them."""
    why = "which of the rows that stay it was given is not known" if leaf.drawn else "pass retained=(X, y)"
    for holding in holdings:
        if holding.leaf.place != leaf.place or holding.known is None or holding.leaf.fitted_before:
            continue
        part = holding.leaf.part
        if not isinstance(part, BaseUnlearnable | BaseSharded):
            # A pipeline may keep raw rows.
            rows = holding.leaf.asked
            keeps = hasattr(part, "_retained_rows")
            kept = part._retained_rows(rows.X, rows.y, holding.asked.sample_id) if keeps else None
            if kept is not None:
                return retained_rows(kept), ""
            continue
        if part.training_set_.raw_X.dtype == np.float32:
            why += f"; {holding.leaf.path} stores them as float32, which may have rounded them"
            continue
        return _stored(holding), ""
    return None, why


def _stored(holding: Holding) -> Rows:
    """Return the rows that stay as a part stores them."""
    part: Any = holding.leaf.part
    rows = part.training_set_
    stay = rows.live_mask.copy()
    stay[holding.positions] = False
    X: Any = in_memory(rows.raw_X[stay])
    if hasattr(part, "feature_names_in_"):
        import pandas as pd

        X = pd.DataFrame(X, columns=part.feature_names_in_)
    weight = None if rows.raw_weight is None else rows.raw_weight[stay]
    return Rows(X, targets_of(part, rows.raw_y[stay]), weight=weight)


def _fitted(part: Any, rows: Rows) -> Any:
    weights = {} if rows.weight is None else {"sample_weight": rows.weight}
    return clone(part).fit(rows.X, rows.y, **weights)


def retained_rows(retained: Any) -> Rows:
    """Return what the caller gave as ``retained`` as rows.

    Raises
    ------
    ValueError
        If it is not two or three arrays of one length.
    """
    if retained is None:
        return Rows()
    if not isinstance(retained, list | tuple) or len(retained) not in (2, 3):
        raise ValueError(
            f"retained must be (X, y) or (X, y, sample_weight), the rows that stay, got {type(retained).__name__}"
            + (f" of {len(retained)}." if hasattr(retained, "__len__") else ".")
        )
    rows = Rows(retained[0], retained[1], weight=retained[2] if len(retained) == 3 else None)
    lengths = {len(rows), *(len(each) for each in retained[1:] if each is not None)}
    if len(lengths) > 1:
        raise ValueError(f"retained must hold arrays of one length, got {sorted(lengths)}.")
    return rows


def check_retained(holdings: list[Holding]) -> None:
    """Refuse retained rows among which an erased one is.

    Raises
    ------
    ValueError
        With their number. Where a person's row is erased by identifier and another has an equal one, it may stay.
    """
    for holding in holdings:
        rows = holding.leaf.retained
        if (
            rows.X is None
            or rows.lost
            or not holding.n_known
            or holding.positions is None
            or holding.leaf.fitted_before
        ):
            continue
        alone = erased_among(holding.leaf.part, rows.X, rows.y, holding.positions)
        if len(alone):
            raise ValueError(
                f"retained holds {len(alone)} of the rows to erase (the first at index {alone[0]}): pass the rows that "
                "stay, and only these."
            )
