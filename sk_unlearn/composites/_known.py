"""Which of the rows asked for each part of a composite knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing

from sk_unlearn.composites._rows import Rows
from sk_unlearn.composites._walk import Leaf, Walk
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.drafts import Draft, draft_deletion, draft_deletion_at
from sk_unlearn.estimators.lookup import find_rows, listed_ids, targets_of

__all__ = ["Asked", "Holding", "look_up"]


@dataclass(frozen=True)
class Asked:
    """A request: rows as the whole model was given them, identifiers, or both."""

    X: Any
    y: Any
    sample_id: Any

    @property
    def n(self) -> int:
        """How many rows, or identifiers, it names."""
        return len(self.rows) if self.X is not None else len(listed_ids(self.sample_id))

    @property
    def rows(self) -> Rows:
        """The rows, before they have gone anywhere."""
        return Rows(self.X, self.y)


@dataclass(eq=False)
class Holding:
    """What a part knows of the rows asked for.

    Attributes
    ----------
    leaf : Leaf

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

    def draft(self, asked: Asked) -> Draft:
        """Work out the deletion of what the part knows; it knows something."""
        if self.positions is not None:
            return draft_deletion_at(self.leaf.part, self.positions)
        X, y, ids = self.leaf.asked.X, self.leaf.asked.y, asked.sample_id
        if X is not None:
            assert self.known is not None
            at = np.flatnonzero(self.known[self.leaf.asked.numbers()])
            X, y = _safe_indexing(X, at), None if y is None else _safe_indexing(y, at)
        if ids is not None and self.known_ids is not None:
            ids = [one for one, known in zip(listed_ids(ids), self.known_ids, strict=True) if known]
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
    if not isinstance(part, BaseUnlearnable):
        known, known_ids = part._known_rows(leaf.asked.X, leaf.asked.y, asked.sample_id)
        return Holding(leaf, _numbered(leaf, known, known_ids, asked), known_ids=known_ids)
    if not hasattr(part, "training_set_"):
        return Holding(leaf, None, "keep_training_set=False keeps no rows to look in")
    for lead in leads:
        positions = _same_place(lead, leaf)
        if positions is not None:
            return Holding(leaf, lead.known, positions=positions, known_ids=lead.known_ids)
    if leaf.asked.lost:
        return Holding(leaf, None, leaf.asked.lost)
    if asked.sample_id is not None and part.training_set_.sample_id is None:
        return Holding(leaf, None, "no identifiers were given to it at fit")
    if asked.X is not None and not len(leaf.asked):
        return Holding(leaf, np.zeros(asked.n, dtype=bool), positions=np.empty(0, dtype=np.int64))
    rows = leaf.asked
    try:
        found = find_rows(part, rows.X, rows.y, sample_id=asked.sample_id, rounded=rows.rounded)
    except ValueError as error:
        if leaf.template:  # which may have been fitted on other rows altogether
            return Holding(leaf, np.zeros(asked.n, dtype=bool), positions=np.empty(0, dtype=np.int64))
        error.args = (f"{leaf.path}: {error}",)
        raise
    known = _numbered(leaf, found.known, found.known_ids, asked)
    return Holding(leaf, known, "", found.positions, found.known_ids, found.n_rounded, found.n_beside)


def _numbered(leaf: Leaf, known: Any, known_ids: Any, asked: Asked) -> NDArray[np.bool_]:
    """Return which of all rows asked for are known, from which of those that reach a part are."""
    if asked.X is None:
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
        same = np.array_equal(theirs.X, ours.X[:, : n_columns[0]])
    if not same:
        return None
    return np.flatnonzero(ours.live_mask)[np.searchsorted(np.flatnonzero(theirs.live_mask), lead.positions)]
