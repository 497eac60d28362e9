"""Imputers and scalers in a row, with an encoder or principal components behind them, over one tally."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer

from sk_unlearn.preprocessing import categories, columnwise, components
from sk_unlearn.preprocessing.columnwise import Column, View
from sk_unlearn.preprocessing.nodes import Node, Outcome, Request, identity, reading, select_inputs
from sk_unlearn.preprocessing.tallies import Anchor, Needs, NotKnownError, Tally, tally

__all__ = ["Chain"]


def _anchor(step: Any, X: Any) -> Anchor:
    return categories.anchor(step, X) if isinstance(step, categories.ENCODERS) else columnwise.anchor(step, X)


def _ends(step: Any) -> bool:
    return isinstance(step, categories.ENCODERS + components.COMPONENTS)


class Chain(Node):
    """Steps whose fit is a function of one tally of the columns that the first of them is given."""

    def __init__(self, names: list[str], needs: Needs, counted: Tally) -> None:
        super().__init__(names)
        self.needs = needs
        self.tally = counted

    @staticmethod
    def needs_of(step: Any, before: list[Any], X: Any, weighted: bool, name: str) -> Needs | None:
        """Return what a step asks of the tally behind others; None if it does not belong there."""
        if any(_ends(b) for b in before):
            return None
        if isinstance(step, columnwise.COLUMNWISE):
            return columnwise.needs_of(step, before, weighted, name)
        if isinstance(step, components.COMPONENTS):
            return components.needs_of(step, X, any(isinstance(b, SimpleImputer) for b in before))
        if isinstance(step, categories.ENCODERS):
            only_filled = all(isinstance(b, SimpleImputer) and not b.add_indicator for b in before)
            by_value = all(b.strategy in ("most_frequent", "constant") for b in before) if only_filled else False
            return Needs(values=True) if by_value else None
        return None

    @classmethod
    def remembered(cls, names: list[str], steps: list[Any], X: Any, y: Any, params: list[dict[str, Any]]) -> Any:
        """See ``Node``."""
        needs = Needs()
        for k, step in enumerate(steps):
            weighted = params[k].get("sample_weight") is not None
            needs |= cls.needs_of(step, steps[:k], X, weighted, names[k]) or Needs()
        return cls(names, needs, _counted(names, steps, needs, X, params))

    def changed(self, steps: list[Any], request: Request) -> Outcome:
        """See ``Node``."""
        if request.moved:
            return self.refitted(steps, request)
        counted = _counted(self.names, steps, self.needs, request.X, request.params)
        n = getattr(steps[0], "n_features_in_", None) or len(steps[0].categories_)
        sources = request.sources(n)
        try:
            whole = self.tally.combined(counted, request.sign)
        except NotKnownError:
            return self.refitted(steps, request)
        after = Chain(self.names, self.needs, whole if request.columns is None else whole.take(sources))
        try:
            return after._from_tally(steps, sources, n, can_refit=request.kept is not None)
        except NotKnownError:
            return after.refitted(steps, request)

    def _from_tally(self, steps: list[Any], sources: np.ndarray, n: int, can_refit: bool) -> Outcome:
        """Return the steps as the tally has them, where ``sources`` of the n old input columns are left."""
        place = {int(source): k for k, source in enumerate(sources)}
        # The columns that a step is given, before the request and after it; both name raw columns by their new places.
        old = [Column(place.get(j, -1 - j)) for j in range(n)]
        new = [Column(k) for k in range(len(sources))]
        result, still_there = [], []
        for name, step in zip(self.names, steps, strict=True):
            inputs = _matches(old, new, name)
            selected = select_inputs(step, inputs)
            try:
                result.append(_refit(selected, View(self.tally, new, name), name))
            except NotKnownError:
                if can_refit or len(inputs) != len(old):
                    raise
                result.append(selected)
                still_there.append(name)
            if not _ends(step):
                old, new = columnwise.after(step, old), columnwise.after(result[-1], new)
        columns, change = columnwise.change_between(old, new, self.tally)
        n_old, mostly = len(old), None
        if change is not None and change.apart is not None:
            change, mostly = None, None if _ends(steps[-1]) else change
        if isinstance(steps[-1], components.COMPONENTS):
            n_old, n_new = steps[-1].n_components_, result[-1].n_components_
            columns, change = np.where(identity(n_new) < n_old, identity(n_new), -1), None
        elif _ends(steps[-1]):
            n_old = sum(getattr(steps[-1], "_n_features_outs", [1] * n_old))
            columns, of_codes = categories.change_between(steps[-1], result[-1], columns)
            change = change and of_codes
        return Outcome(result, self, n_old, columns, change, still_there, mostly=mostly)


def _matches(old: list[Column], new: list[Column], name: str) -> np.ndarray:
    """Return the place that each column had before."""
    places = {(column.source, column.indicator): k for k, column in enumerate(old)}
    if not all((column.source, column.indicator) in places for column in new):
        raise ValueError(f"{name}: the rows call for columns before it that there are not; fit again.")
    return np.array([places[column.source, column.indicator] for column in new], dtype=np.intp)


def _refit(step: Any, view: View, name: str) -> Any:
    if isinstance(step, components.COMPONENTS):
        return components.refit(step, view)
    if isinstance(step, columnwise.COLUMNWISE):
        return columnwise.refit(step, view)
    if not isinstance(step.categories, str) and len(step.categories) != len(view.columns):
        raise NotKnownError
    try:
        return categories.refit(step, view)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _counted(names: list[str], steps: list[Any], needs: Needs, X: Any, params: list[dict[str, Any]]) -> Tally:
    weights = {}
    with reading(names[:1]):
        anchor = _anchor(steps[0], X)
    for name, of_step in zip(names, params, strict=True):
        if name in needs.weights:
            weight = of_step.get("sample_weight")
            if weight is None:
                raise ValueError(f"{name}: it was fitted with sample_weight; pass that of these rows as well.")
            weights[name] = np.broadcast_to(np.asarray(weight, dtype=np.float64), (anchor.n_rows,))
    return tally(anchor, needs, weights)
