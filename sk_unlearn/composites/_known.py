"""Which of the rows asked for each part of a composite knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing

from sk_unlearn.composites._rows import Rows
from sk_unlearn.composites._walk import Leaf, Walk
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.drafts import Draft, draft_deletion, draft_deletion_at
from sk_unlearn.estimators.lookup import SeveralNear, find_rows, targets_of
from sk_unlearn.estimators.shards.base import BaseSharded
from sk_unlearn.rows.storage import dense, in_blocks

__all__ = ["Asked", "Holding", "look_up"]


@dataclass(frozen=True, eq=False)
class Asked:
    """A request: rows as the whole model was given them, identifiers, or both.

    Attributes
    ----------
    rows : Rows
        Empty where only identifiers are named.

    sample_id : sequence or None
    """

    rows: Rows
    sample_id: Any

    @property
    def n(self) -> int:
        """How many rows, or identifiers, it names."""
        return len(self.sample_id) if self.rows.X is None else len(self.rows)


@dataclass(eq=False)
class Holding:
    """What a part knows of the rows asked for.

    Attributes
    ----------
    leaf : Leaf

    asked : Asked

    known : bool ndarray, one entry a row, or an identifier, asked for
        Which of them the part knows; None where it cannot tell.

    why : str
        Why it cannot tell.

    positions : ndarray of int64 or None
        Slots of the stored copies; None where the part finds them itself.

    n_rounded, n_beside : int
        As for :class:`~sk_unlearn.estimators.lookup.Found`.
    """

    leaf: Leaf
    asked: Asked
    known: NDArray[np.bool_] | None
    why: str = ""
    positions: NDArray[np.int64] | None = None
    known_ids: NDArray[np.bool_] | None = None
    n_rounded: int = 0
    n_beside: int = 0

    @property
    def n_known(self) -> int:
        """How many of the rows asked for the part knows."""
        return 0 if self.known is None else int(np.count_nonzero(self.known))

    def draft(self) -> Draft:
        """Work out the deletion of what the part knows; it knows something."""
        if self.positions is not None:
            part = self.leaf.part
            if isinstance(part, BaseSharded):
                return part._drafted_deletion_at(self.positions)
            return draft_deletion_at(part, self.positions)
        X, y, ids = self.leaf.asked.X, self.leaf.asked.y, self.asked.sample_id
        if X is not None:
            assert self.known is not None
            at = np.flatnonzero(self.known[self.leaf.asked.numbers()])
            X, y = _safe_indexing(X, at), None if y is None else _safe_indexing(y, at)
        if ids is not None and self.known_ids is not None:
            ids = [one for one, known in zip(ids, self.known_ids, strict=True) if known]
        return draft_deletion(self.leaf.part, X, y, sample_id=ids)


def look_up(way: Walk, asked: Asked) -> list[Holding]:
    """Ask every part that forgets what it knows.

    Parameters
    ----------
    way : Walk
        Through the model.

    asked : Asked

    Raises
    ------
    ValueError
        For rows that do not fit, with the path of the part.
    """
    found: dict[int, Holding] = {}
    for leaf in way.leaves:
        if leaf.forgets:
            found[id(leaf)] = _holding(leaf, asked, [found[id(lead)] for lead in leaf.leads if id(lead) in found])
    return list(found.values())


def _holding(leaf: Leaf, asked: Asked, leads: list[Holding]) -> Holding:
    part = leaf.part
    ours = isinstance(part, BaseUnlearnable | BaseSharded)
    if ours and not hasattr(part, "training_set_"):
        return Holding(leaf, asked, None, "keep_training_set=False keeps no rows to look in")
    for lead in leads if isinstance(part, BaseUnlearnable) else []:
        positions = _same_place(lead, leaf)
        if positions is not None:
            return Holding(leaf, asked, lead.known, positions=positions, known_ids=lead.known_ids)
    if leaf.asked.lost:
        return Holding(leaf, asked, None, leaf.asked.lost)
    if asked.rows.X is not None and not len(leaf.asked):
        return Holding(leaf, asked, np.zeros(asked.n, dtype=bool), positions=np.empty(0, dtype=np.int64))
    if not ours:
        known, known_ids = part._known_rows(leaf.asked.X, leaf.asked.y, asked.sample_id)
        return Holding(leaf, asked, _numbered(leaf, known, known_ids, asked), known_ids=known_ids)
    if asked.sample_id is not None and part.training_set_.sample_id is None:
        return Holding(leaf, asked, None, "no identifiers were given to it at fit")
    if leaf.fitted_before and leaf.asked.y is not None:
        return max(_found(leaf, asked, leaf.asked), _found(leaf, asked, _original_targets(leaf, asked)), key=_size)
    return _found(leaf, asked, leaf.asked)


def _original_targets(leaf: Leaf, asked: Asked) -> Rows:
    """Return the rows with the targets that the whole model was given: a part may have learnt these elsewhere."""
    return replace(leaf.asked, y=_safe_indexing(asked.rows.y, leaf.asked.numbers()))


def _size(holding: Holding) -> int:
    return holding.n_known


def _found(leaf: Leaf, asked: Asked, rows: Rows) -> Holding:
    none = Holding(leaf, asked, np.zeros(asked.n, dtype=bool), positions=np.empty(0, dtype=np.int64))
    try:
        found = find_rows(leaf.part, rows.X, rows.y, sample_id=asked.sample_id, rounded=rows.rounded)
    except ValueError as error:
        # What was fitted before it came here may be of other rows altogether.
        if leaf.fitted_before and not isinstance(error, SeveralNear):
            return none
        error.args = (f"{leaf.path}: {error}",)
        raise
    known = _numbered(leaf, found.known, found.known_ids, asked)
    return Holding(leaf, asked, known, "", found.positions, found.known_ids, found.n_rounded, found.n_beside)


def _numbered(leaf: Leaf, known: Any, known_ids: Any, asked: Asked) -> NDArray[np.bool_]:
    """Return which of all rows asked for are known, from which of those that reach a part are."""
    if asked.rows.X is None:
        return np.asarray(known_ids, dtype=bool)
    whole = np.zeros(asked.n, dtype=bool)
    whole[leaf.asked.numbers()] = known
    return whole


def _same_place(lead: Holding, leaf: Leaf) -> NDArray[np.int64] | None:
    """Return where the rows that another part knows stand here, or None where the rows of the two are not the same.

    They are if both hold as many, have erased as many in each request, and agree in all targets or, which this one may
    have further ones of, in all features.
    """
    other, part = lead.leaf.part, leaf.part
    if lead.positions is None or not isinstance(other, BaseUnlearnable):
        return None
    theirs, ours = other.training_set_, part.training_set_
    if len(theirs) != len(ours):
        return None
    if [each.n_erased for each in other.unlearning_history_] != [each.n_erased for each in part.unlearning_history_]:
        return None
    n_columns = theirs.raw_X.shape[1:]
    same = np.array_equal(targets_of(other, theirs.y), targets_of(part, ours.y))
    if not same and len(n_columns) == 1 == ours.raw_X.ndim - 1:
        same = _begins_with(ours.X, theirs.X)
    if not same:
        return None
    return np.flatnonzero(ours.live_mask)[np.searchsorted(np.flatnonzero(theirs.live_mask), lead.positions)]


def _begins_with(X: Any, features: Any) -> bool:
    """Tell whether the first columns of some rows are others, a block at a time where they are no arrays."""
    width = features.shape[1]
    return all(np.array_equal(block, dense(X[at])[:, :width]) for at, block in in_blocks(features))
