"""Encoders of categories, fitted from counts."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from sklearn.utils._missing import is_scalar_nan

from sk_unlearn.preprocessing.changes import Change
from sk_unlearn.preprocessing.columnwise import View
from sk_unlearn.preprocessing.tallies import Anchor, key_of

__all__ = ["ENCODERS", "anchor", "change_between", "refit"]

ENCODERS: tuple[type[Any], ...] = (OneHotEncoder, OrdinalEncoder)


def anchor(step: Any, X: Any) -> Anchor:
    """Return a table as an encoder reads it: columns with their own data types, where missing is a category."""
    return Anchor(step._check_X(X, ensure_all_finite="allow-nan")[0])


def _counts(view: View) -> list[dict[Any, int]]:
    """Count the values of each column of the encoder's input."""
    result = []
    for column in view.columns:
        counts = dict((view.tally.values or [])[column.source])
        n_missing = view.n_missing(column)
        if n_missing and column.fill is not None:
            counts[column.fill] = counts.get(column.fill, 0) + n_missing
        result.append(counts)
    return result


def refit(step: Any, view: View) -> Any:
    """Return an encoder as it would have been fitted on the rows that the tally counts.

    Raises
    ------
    ValueError
        If there are categories that the encoder does not have, or ``drop`` names one that is gone.
    """
    step = copy.copy(step)
    automatic = isinstance(step.categories, str)
    counted = []
    categories_ = []
    for categories, counts in zip(step.categories_, _counts(view), strict=True):
        of_each = np.array([counts.get(key_of(c), 0) for c in categories.tolist()], dtype=np.int64)
        if automatic and of_each.sum() < sum(counts.values()):
            raise ValueError("there is a category that it was not fitted on, which needs a new output: fit again")
        stays = of_each > 0 if automatic else np.ones(len(of_each), dtype=bool)
        categories_.append(categories[stays])
        counted.append(of_each[stays])
    step.categories_ = categories_
    step.n_features_in_ = len(categories_)
    ordinal = isinstance(step, OrdinalEncoder)
    missing = {k: len(c) - 1 for k, c in enumerate(categories_) if ordinal and is_scalar_nan(c[-1])}
    if ordinal:
        step._missing_indices = missing
    if step._infrequent_enabled:
        step._fit_infrequent_category_mapping(view.tally.n_rows, counted, missing)
    if not ordinal:
        _set_drop(step)
        step._n_features_outs = step._compute_n_features_outs()
    return step


def _set_drop(step: OneHotEncoder) -> None:
    try:
        step._set_drop_idx()
    except ValueError:
        raise ValueError(
            "drop names a category that no row has any more, or that is infrequent now: fit again with another drop"
        ) from None


# ---------------------------------------------------------------------------------------------- from old to new outputs


def _groups(step: Any, k: int) -> list[tuple[int, ...]]:
    """Return for each output of a column the places of its categories: one of its own, or the infrequent ones."""
    mapping = step._default_to_infrequent_mappings[k] if step._infrequent_enabled else None
    n = len(step.categories_[k])
    if mapping is None:
        return [(place,) for place in range(n)]
    of_place = list(mapping) + [place + int(max(mapping)) + 1 - len(mapping) for place in range(len(mapping), n)]
    groups: dict[int, list[int]] = {}
    for place, code in enumerate(of_place):
        groups.setdefault(int(code), []).append(place)
    return [tuple(groups[code]) for code in sorted(groups)]


def _surviving(old: Any, new: Any, source: int, k: int) -> dict[int, int]:
    """Return from the place of an old category to that of the new one, for those that are still there."""
    places = {key_of(c): n for n, c in enumerate(new.categories_[k].tolist())}
    found = ((n, places.get(key_of(c))) for n, c in enumerate(old.categories_[source].tolist()))
    return {n: place for n, place in found if place is not None}


def change_between(old: Any, new: Any, sources: np.ndarray) -> tuple[np.ndarray, Change | None]:
    """Return which old outputs the new ones were, -1 for none, and how they change if no raw row is needed for it.

    Parameters
    ----------
    old, new : OneHotEncoder or OrdinalEncoder
    sources : ndarray of int
        For each input column of ``new`` that of ``old``.
    """
    change = _change_of_codes if isinstance(new, OrdinalEncoder) else _change_of_indicators
    return change(old, new, sources)


def _change_of_indicators(old: Any, new: Any, sources: np.ndarray) -> tuple[np.ndarray, Change | None]:
    starts = np.cumsum([0, *old._n_features_outs])
    columns: list[int] = []
    same = True
    for k, source in enumerate(sources):
        survives = _surviving(old, new, source, k)
        before = {}
        for n, group in enumerate(_without_dropped(old, source)):
            if left := tuple(survives[place] for place in group if place in survives):
                before[left] = int(starts[source]) + n
        after = _without_dropped(new, k)
        others = {group: column for group, column in before.items() if group not in after}
        for group in after:
            same &= group in before
            columns.append(before[group] if group in before else _successor(group, others))
    result = np.array(columns, dtype=np.intp)
    return result, Change.pick(result) if same else None


def _successor(group: tuple[int, ...], others: dict[tuple[int, ...], int]) -> int:
    """Take the column that has most categories of a new group from the other old ones; -1 if none has any."""
    closest = max(others, key=lambda other: len(set(other) & set(group)), default=())
    return others.pop(closest) if set(closest) & set(group) else -1


def _without_dropped(step: Any, k: int) -> list[tuple[int, ...]]:
    groups, dropped = _groups(step, k), step._drop_idx_after_grouping
    if dropped is not None and dropped[k] is not None:
        del groups[dropped[k]]
    return groups


def _change_of_codes(old: Any, new: Any, sources: np.ndarray) -> tuple[np.ndarray, Change | None]:
    tables: list[np.ndarray | None] = []
    for k, source in enumerate(sources):
        survives = _surviving(old, new, source, k)
        code_of = {place: code for code, group in enumerate(_groups(new, k)) for place in group}
        groups = _groups(old, source)
        if source in old._missing_indices:
            groups = groups[:-1]
        table = np.full(len(groups), -1)
        for code, group in enumerate(groups):
            codes = {code_of[survives[place]] for place in group if place in survives}
            if len(codes) > 1:
                return np.asarray(sources), None
            table[code] = codes.pop() if codes else -1
        tables.append(table)
    change = Change.pick(sources)
    if any(table is not None and (table != np.arange(len(table))).any() for table in tables):
        change.codes = tables
    return change.columns, change
