"""Steps one after another and side by side, and which kind of node any of them gets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse
from sklearn import get_config
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import process_routing

from sk_unlearn.preprocessing.chains import Chain
from sk_unlearn.preprocessing.changes import Change, as_table
from sk_unlearn.preprocessing.nodes import (
    Kept,
    NarrowedError,
    Node,
    Opaque,
    Outcome,
    Part,
    RawRowsNeeded,
    Request,
    Stateless,
    identity,
    reading,
    run,
)
from sk_unlearn.preprocessing.texts import Frequencies, Vocabulary

__all__ = ["outputs", "remembered"]


CROSS_FITTED = ("TargetEncoder",)
"""Transformers whose ``fit_transform`` gives rows other outputs than ``transform`` does."""


def _path(path: str, name: str) -> str:
    return f"{path}__{name}" if path else name


def _label(path: str, step: Any) -> str:
    return f"{path}: {type(step).__name__}" if path else type(step).__name__


def remembered(path: str, step: Any, X: Any, y: Any, params: dict[str, Any]) -> Node:
    """Return the node of any fitted transformer; ``path`` is its name within what surrounds it."""
    if isinstance(step, Pipeline):
        return Sequence.remembered([path], [step], X, y, [params])
    if isinstance(step, ColumnTransformer | FeatureUnion):
        return Parallel.remembered([path], [step], X, y, [params])
    return _leaf_kind(step, X, params).remembered([_label(path, step)], [step], X, y, [params])


def _leaf_kind(step: Any, X: Any, params: dict[str, Any]) -> type[Node]:
    if Chain.needs_of(step, [], X, params.get("sample_weight") is not None, "") is not None:
        return Chain
    if isinstance(step, CountVectorizer):
        return Vocabulary
    if isinstance(step, TfidfTransformer):
        return Frequencies
    if isinstance(step, HashingVectorizer) or Stateless.knows(step):
        return Stateless
    return Opaque


# ---------------------------------------------------------------------------------------------------- one after another


class Sequence(Node):
    """The steps of a scikit-learn ``Pipeline`` of transformers."""

    nodes: list[tuple[Node, slice]]

    @classmethod
    def remembered(cls, names: list[str], steps: list[Any], X: Any, y: Any, params: list[dict[str, Any]]) -> Any:
        """See ``Node``."""
        (path,), (pipeline,) = names, steps
        sequence, start, opaque = cls(names), 0, False
        sequence.nodes = []
        of_steps = _split(pipeline, params[0], X)
        inner = [step for _, step in pipeline.steps]
        labels = [_label(_path(path, name), step) for name, step in pipeline.steps]
        while start < len(inner):
            end = start + 1
            if _does_nothing(inner[start]) and len(inner) > 1 and (sequence.nodes or end < len(inner)):
                start = end
                continue
            if opaque:
                node: Any = Opaque.remembered(labels[start:end], inner[start:end], X, y, of_steps[start:end])
            elif end < (longest := _chain_end(inner, start, X, of_steps, labels)):
                end = longest
                node = Chain.remembered(labels[start:end], inner[start:end], X, y, of_steps[start:end])
            else:
                node = remembered(_path(path, pipeline.steps[start][0]), inner[start], X, y, of_steps[start])
            sequence.nodes.append((node, slice(start, end)))
            opaque |= _is_cross_fitted(inner[start])
            start = end
            if start < len(inner):
                X = run(inner[sequence.nodes[-1][1]], X)
        return sequence

    def changed(self, steps: list[Any], request: Request) -> Outcome:
        """See ``Node``."""
        try:
            return self._step_by_step(steps, request)
        except NarrowedError:
            # The steps before keep their columns, too, and are named with it.
            return self._as_they_were(steps, request)

    def _step_by_step(self, steps: list[Any], request: Request) -> Outcome:
        (pipeline,) = steps
        inner = [step for _, step in pipeline.steps]
        labels = [name for name, _ in pipeline.steps]
        params = _split(pipeline, request.params[0], request.X)
        after, outcomes, X = Sequence(self.names), [], request.X
        after.nodes = []
        columns, moved, kept = request.columns, request.moved, request.kept
        kept = kept and kept.derived(_everything, lambda p, X: _split(pipeline, p[0], X))
        new = list(inner)
        for k, (node, where) in enumerate(self.nodes):
            of_node = kept and kept.derived(_everything, partial(_of_steps, where))
            part = Request(X, request.y, params[where], request.sign, of_node, columns, moved)
            outcome = node.changed(inner[where], part)
            new[where] = outcome.steps
            after.nodes.append((outcome.node, where))
            outcomes.append(outcome)
            if k + 1 < len(self.nodes):
                with reading([labels[k] for k in range(where.start, where.stop)]):
                    X = run(inner[where], X)
                kept = kept and kept.derived(outcome.fresh, _same_params)
                moved = outcome.change is None or not outcome.change.is_pick
                columns = None if np.array_equal(outcome.columns, identity(outcome.n_old)) else outcome.columns
        result = copy.copy(pipeline)
        result.steps = [(name, step) for (name, _), step in zip(pipeline.steps, new, strict=True)]
        still_there = [name for outcome in outcomes for name in outcome.still_there]
        last = outcomes[-1]

        def fresh(X: Any) -> Any:
            for outcome in outcomes:
                X = outcome.fresh(X)
            return X

        return Outcome(
            [result],
            after,
            last.n_old,
            last.columns,
            last.change,
            still_there,
            parts=last.parts if len(outcomes) == 1 else [],
            inner=outcomes,
            fresh_by=fresh,
            mostly=last.mostly,
        )

    def leaves(self) -> list[str]:
        """See ``Node``."""
        return [name for node, _ in self.nodes for name in node.leaves()]


def _of_steps(where: slice, params: list[dict[str, Any]], X: Any) -> list[dict[str, Any]]:
    return params[where]


def _same_params(params: Any, X: Any) -> Any:
    return params


def _chain_end(steps: list[Any], start: int, X: Any, params: list[dict[str, Any]], labels: list[str]) -> int:
    """Return where the steps end that can share one tally from here on."""
    end = start
    while end < len(steps):
        weighted = params[end].get("sample_weight") is not None
        if Chain.needs_of(steps[end], steps[start:end], X, weighted, labels[end]) is None:
            break
        end += 1
    return end


def _does_nothing(step: Any) -> bool:
    return step is None or isinstance(step, str)


def _is_cross_fitted(step: Any) -> bool:
    if isinstance(step, Pipeline):
        return any(_is_cross_fitted(inner) for _, inner in step.steps)
    if isinstance(step, ColumnTransformer):
        return any(_is_cross_fitted(inner) for _, inner, _ in step.transformers_)
    if isinstance(step, FeatureUnion):
        return any(_is_cross_fitted(inner) for _, inner in step.transformer_list)
    return type(step).__name__ in CROSS_FITTED


def _split(composite: Any, params: dict[str, Any], X: Any) -> list[dict[str, Any]]:
    """Return the parameters of ``fit`` for each step or branch."""
    if isinstance(composite, Pipeline):
        names = [name for name, _ in composite.steps]
    elif isinstance(composite, ColumnTransformer):
        names = [name for name, _, _ in composite.transformers_]
    else:
        names = [name for name, _ in composite.transformer_list]
    if not params:
        return [{} for _ in names]
    if get_config()["enable_metadata_routing"]:
        routed = process_routing(composite, "fit", **params)
        return [dict(_routed(routed, name)) for name in names]
    if isinstance(composite, Pipeline):
        return [
            {key.removeprefix(f"{name}__"): v for key, v in params.items() if key.startswith(f"{name}__")}
            for name in names
        ]
    return [dict(params) for _ in names]


def _routed(routed: Any, name: str) -> dict[str, Any]:
    of_step = routed.get(name, {})
    return of_step.get("fit_transform") or of_step.get("fit") or {}


# --------------------------------------------------------------------------------------------------------- side by side


class Parallel(Node):
    """The branches of a ``ColumnTransformer`` or a ``FeatureUnion``."""

    nodes: list[Node | None]

    @classmethod
    def remembered(cls, names: list[str], steps: list[Any], X: Any, y: Any, params: list[dict[str, Any]]) -> Any:
        """See ``Node``."""
        (path,), (step,) = names, steps
        node = cls(names)
        node.nodes = [
            None if inner is None else remembered(_path(path, name), inner, select(X), y, of_branch)
            for (name, inner, select), of_branch in zip(_branches(step), _split(step, params[0], X), strict=True)
        ]
        return node

    def changed(self, steps: list[Any], request: Request) -> Outcome:
        """See ``Node``."""
        (step,) = steps
        if request.moved or (request.columns is not None and isinstance(step, ColumnTransformer)):
            return self.refitted([step], request)
        node = Parallel(self.names)
        new: list[tuple[str, Outcome | None]] = []
        node.nodes, parts, start = [], [], 0
        branches, params = _branches(step), _split(step, request.params[0], request.X)
        weights = step.transformer_weights or {}
        for k, ((name, inner, select), child) in enumerate(zip(branches, self.nodes, strict=True)):
            if child is None or inner is None:
                node.nodes.append(None)
                new.append((name, None))
                continue
            kept = request.kept and request.kept.derived(select, partial(_of_branch, step, k))
            with reading([_label(_path(self.names[0], name), inner)]):
                X = select(request.X)
            part = Request(X, request.y, [params[k]], request.sign, kept, request.columns, request.moved)
            outcome = child.changed([inner], part)
            node.nodes.append(outcome.node)
            parts.append(Part(outcome, slice(start, start + outcome.n_old), select, weights.get(name)))
            new.append((name, outcome))
            start += outcome.n_old
        return self._together(step, node, new, parts, start)

    def _together(
        self, step: Any, node: Node, new: list[tuple[str, Outcome | None]], parts: list[Part], n_old: int
    ) -> Outcome:
        result = _with_branches(step, new)
        still_there = [name for part in parts for name in part.outcome.still_there]
        of_branches = [np.where(p.outcome.columns < 0, -1, p.outcome.columns + p.old.start) for p in parts]
        columns = np.concatenate([identity(0), *of_branches])
        change = _stacked([part.outcome.change for part in parts], parts)
        mostly = None if change else _stacked([part.outcome.change or part.outcome.mostly for part in parts], parts)
        outcome = Outcome(
            [result], node, n_old, columns, change, still_there, parts, inner=[p.outcome for p in parts], mostly=mostly
        )
        if outcome.has_cached:
            outcome.fresh_by = lambda X: _side_by_side(
                [_weighted(p.outcome.fresh(p.select(X)), p.weight) for p in parts]
            )
        return outcome

    def leaves(self) -> list[str]:
        """See ``Node``."""
        return [name for node in self.nodes if node is not None for name in node.leaves()]


def _stacked(changes: list[Change | None], parts: list[Part]) -> Change | None:
    """Return the changes of branches as one; None where one is not known by column."""
    weighted = [change and change.weighted(part.weight) for change, part in zip(changes, parts, strict=True)]
    known = [change for change in weighted if change is not None and change.is_by_column]
    return Change.stack(known, [part.old.start for part in parts]) if parts and len(known) == len(parts) else None


def _of_branch(step: Any, k: int, params: list[dict[str, Any]], X: Any) -> list[dict[str, Any]]:
    return [_split(step, params[0], X)[k]]


def _branches(step: Any) -> list[tuple[str, Any, Callable[[Any], Any]]]:
    """Return name, fitted transformer and selection of columns of each branch; None for one without outputs."""
    if isinstance(step, FeatureUnion):
        return [(name, None if inner == "drop" else inner, _everything) for name, inner in step.transformer_list]
    result: list[tuple[str, Any, Callable[[Any], Any]]] = []
    for name, inner, columns in step.transformers_:
        empty = not len(step._transformer_to_input_indices[name])
        select = partial(_selected, step, name, bool(np.isscalar(columns)))
        result.append((name, None if empty or (isinstance(inner, str) and inner == "drop") else inner, select))
    return result


def _everything(X: Any) -> Any:
    return X


def _selected(step: ColumnTransformer, name: str, is_one: bool, X: Any) -> Any:
    """Return what a branch of a fitted ``ColumnTransformer`` is given; columns of a table with names by their names."""
    if not (hasattr(X, "shape") or hasattr(X, "iloc")):
        X = np.asarray(X, dtype=object)
    columns: Any = list(step._transformer_to_input_indices[name])
    if hasattr(step, "feature_names_in_") and hasattr(X, "columns"):
        columns = list(step.feature_names_in_[columns])
    columns = columns[0] if is_one else columns
    return _safe_indexing(X, columns, axis=1)


def _with_branches(step: Any, new: list[tuple[str, Outcome | None]]) -> Any:
    result = copy.copy(step)
    # Names of outputs as they were; scikit-learn notes them again at the next transform.
    vars(result).pop("_transformers_feature_names_out", None)
    if isinstance(step, FeatureUnion):
        result.transformer_list = [
            (name, old if outcome is None else outcome.steps[0])
            for (name, old), (_, outcome) in zip(step.transformer_list, new, strict=True)
        ]
        return result
    result.transformers_ = [
        (name, old if outcome is None else outcome.steps[0], columns)
        for (name, old, columns), (_, outcome) in zip(step.transformers_, new, strict=True)
    ]
    start, result.output_indices_ = 0, {}
    for name, outcome in new:
        n = 0 if outcome is None else len(outcome.columns)
        result.output_indices_[name] = slice(start, start + n) if n else slice(0, 0)
        start += n
    for name in step.output_indices_:
        result.output_indices_.setdefault(name, slice(0, 0))
    return result


def _weighted(Z: Any, weight: float | None) -> Any:
    return Z if weight is None else Z * weight


def _side_by_side(blocks: list[Any]) -> Any:
    tables = [as_table(block) for block in blocks]
    if any(sparse.issparse(table) for table in tables):
        return sparse.hstack(tables, format="csr")
    return np.hstack(tables)


def outputs(outcome: Outcome, Z: Any, rows: Kept | None) -> Any:
    """Return stored outputs of the rows that stay in the new coordinates; raw rows are read where they have to be."""
    if outcome.change is not None:
        new = outcome.change.apply(Z)
        if rows is None or outcome.change.is_precise(new):
            return new
    # Rows that have come stand behind the others.
    n = Z.shape[0]
    if not outcome.parts:
        return _like(as_table(outcome.fresh(_needed(rows, outcome)))[:n], Z)
    # A large table is not put together of copies: each branch writes into the one that is returned.
    whole = None if sparse.issparse(Z) else np.empty((n, len(outcome.columns)), dtype=Z.dtype)
    blocks, start = [], 0
    for part in outcome.parts:
        within = part.outcome
        of_branch = rows and rows.derived(part.select, _same_params)
        block = Z[:, part.old]
        if within.parts or within.change is not None:
            if not _stays_as_it_is(within):
                block = _weighted(outputs(within, _divided(block, part.weight), of_branch), part.weight)
        else:
            block = _weighted(as_table(within.fresh(_needed(of_branch, within)))[:n], part.weight)
        if whole is None:
            blocks.append(block)
        else:
            whole[:, start : start + block.shape[1]] = block.toarray() if sparse.issparse(block) else block
            start += block.shape[1]
    return _like(_side_by_side(blocks), Z) if whole is None else whole


def _stays_as_it_is(outcome: Outcome) -> bool:
    change = outcome.change
    return change is not None and change.is_pick and np.array_equal(change.columns, identity(outcome.n_old))


def _divided(Z: Any, weight: float | None) -> Any:
    return Z if weight is None or weight == 1 else Z / weight


def _needed(rows: Kept | None, outcome: Outcome) -> Any:
    if outcome.cached is not None:
        return None
    if rows is None:
        name = outcome.node.names[0] or "the steps"
        raise RawRowsNeeded(f"{name}: outputs have to be computed from the raw rows that stay; pass them as X_kept.")
    return rows.X


def _like(new: Any, Z: Any) -> Any:
    """Return outputs in the container and with the data type that they were stored in."""
    if sparse.issparse(Z) and not sparse.issparse(new):
        new = type(Z)(new) if Z.format == "csr" else sparse.csr_array(new)
    elif sparse.issparse(new) and not sparse.issparse(Z):
        new = new.toarray()
    return new if new.dtype == Z.dtype else new.astype(Z.dtype)
