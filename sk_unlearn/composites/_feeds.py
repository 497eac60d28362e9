"""How each composite of scikit-learn's feeds its parts: who is inside, and what it was given of the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from sk_unlearn.composites._look import holds_forgetters, learns
from sk_unlearn.composites._rows import Change, Rows, array_of, encoded, once, same
from sk_unlearn.estimators.lookup import codes_of

__all__ = ["Child", "Feed", "feed_of", "may_contain_rows"]

_BEFORE = (
    "what comes after it was fitted on what it makes of the rows, so that a new one would move the inputs of that; use "
    "sk_unlearn.pipeline.Pipeline, whose steps forget along, or fit anew"
)
_AFTER = "its inputs come from a part that forgets, and would have to be computed when that has changed"


@dataclass(frozen=True)
class Child:
    """A part of a composite.

    Attributes
    ----------
    name : str
        Where it is, such as ``estimators_[0]``.

    part : object

    change : callable
        From the rows of the composite to those of the part.

    places : tuple of (container, key)
        Where a part that is fitted again is to be put; empty where that cannot be done.

    refit : callable or None
        Makes a new part from the retained rows as `change` gives them; None is a clone of the part, fitted on them.

    fixed : str
        Why it must not be fitted again by itself; empty where it may.

    drawn : bool
        Whether the part was given only some of the rows, nobody knows which.

    follows : bool
        Whether it was given one row for each row of the children before, in their order.

    fitted_before : bool
        Whether it was fitted before it came into the composite, perhaps on other rows, or on other targets.
    """

    name: str
    part: Any
    change: Change = same
    places: tuple[tuple[Any, Any], ...] = ()
    refit: Callable[[Rows], Any] | None = None
    fixed: str = ""
    drawn: bool = False
    follows: bool = False
    fitted_before: bool = False


@dataclass(frozen=True)
class Feed:
    """The parts of a composite, in the order they are asked, and what else it keeps that rows had a share in."""

    children: list[Child]
    left: list[str] = field(default_factory=list)


# ------------------------------------------------------------------------------------------------- one after the other


def _pipeline(model: Any) -> Feed:
    change: Change = same
    children, moved = [], False
    *before, last = model.steps
    for name, step in before:
        sampler = hasattr(step, "fit_resample") and not hasattr(step, "transform")
        why = "rows that it made from the erased ones may be among those that were learnt" if sampler else _BEFORE
        children.append(Child(f"steps['{name}']", step, change, fixed=why))
        moved = moved or holds_forgetters(step)
        if not sampler and step is not None and step != "passthrough":
            change = once(_transformed(change, step))
    children.append(Child(f"steps['{last[0]}']", last[1], change, fixed=_AFTER if moved else ""))
    kept = ["memory: transformed rows and fitted steps, until it is cleared"] if model.memory is not None else []
    return Feed(children, kept)


def _transformed(before: Change, step: Any) -> Change:
    def change(rows: Rows) -> Rows:
        rows = before(rows)
        return rows if rows.X is None else replace(rows, X=step.transform(rows.X), rounded=True)

    return change


def _column_transformer(model: Any) -> Feed:
    def columns_of(columns: Any) -> Change:
        return lambda rows: rows if rows.X is None else replace(rows, X=_safe_indexing(rows.X, columns, axis=1))

    return Feed(
        [
            Child(f"transformers_['{name}']", part, columns_of(columns), fixed=_BEFORE)
            for name, part, columns in model.transformers_
        ]
    )


def _feature_union(model: Any) -> Feed:
    parts = model.transformer_list
    return Feed([Child(f"transformer_list['{name}']", part, fixed=_BEFORE) for name, part in parts])


def _transformed_target(model: Any) -> Feed:
    def change(rows: Rows) -> Rows:
        if rows.y is None:
            return rows
        y = np.asarray(rows.y)
        new = model.transformer_.transform(y.reshape(-1, 1) if y.ndim == 1 else y)
        return replace(rows, y=new.squeeze(axis=1) if y.ndim == 1 and new.shape[1:] == (1,) else new, rounded=True)

    return Feed(
        [Child("transformer_", model.transformer_, fixed=_BEFORE), Child("regressor_", model.regressor_, once(change))]
    )


# ------------------------------------------------------------------------------------------------- one in a shell


def _only(name: str, *left: str) -> Callable[[Any], Feed]:
    def feed(model: Any) -> Feed:
        children = [Child(name, getattr(model, name))] if hasattr(model, name) else []
        return Feed(children, [each for each in left if hasattr(model, each.split(":", maxsplit=1)[0])])

    return feed


_SCORES = (
    "cv_results_: scores of models that were fitted with the rows",
    "best_score_: the score of a model that was fitted with the rows",
)
_THRESHOLD = "best_threshold_: chosen by predictions for all rows"


def _frozen(model: Any) -> Feed:
    why = "it is frozen, and on which rows it was fitted is not known"
    return Feed([Child("estimator", model.estimator, fixed=why, fitted_before=True)])


def _self_training(model: Any) -> Feed:
    def change(rows: Rows) -> Rows:
        X = None if rows.X is None else array_of(rows.X)
        # What a row without a label was given for one is not the caller's to know.
        unlabelled = rows.y is not None and bool((np.asarray(rows.y) == -1).any())
        return replace(rows, X=X, y=None if unlabelled else rows.y)

    why = "it holds a label for each row, by position"
    return Feed([Child("estimator_", model.estimator_, change), Child("transduction_", model.transduction_, fixed=why)])


# ------------------------------------------------------------------------------------------------- side by side


def _listed(model: Any, changes: list[Change], **settings: Any) -> list[Child]:
    """Return the members in ``estimators_``, each with what becomes of the rows on their way to it."""
    mutable = isinstance(model.estimators_, list)
    return [
        Child(f"estimators_[{i}]", part, change, ((model.estimators_, i),) if mutable else (), **settings)
        for i, (part, change) in enumerate(zip(model.estimators_, changes, strict=True))
    ]


def _voting(model: Any) -> Feed:
    change = encoded(model.classes_) if hasattr(model, "classes_") else same
    return Feed([_also_named(model, child) for child in _listed(model, [change] * len(model.estimators_))])


def _also_named(model: Any, child: Child) -> Child:
    named = [(model.named_estimators_, name) for name, part in model.named_estimators_.items() if part is child.part]
    return replace(child, places=(*child.places, *named))


def _bagging(model: Any) -> Feed:
    number = encoded(model.classes_) if hasattr(model, "classes_") else same
    table = once(lambda rows: rows if rows.X is None else replace(number(rows), X=array_of(number(rows).X, None)))

    def columns_of(columns: Any) -> Change:
        return once(lambda rows: rows if rows.X is None else replace(table(rows), X=table(rows).X[:, columns]))

    left = ["oob_score_", "oob_decision_function_", "oob_prediction_"]
    return Feed(
        _listed(model, [columns_of(columns) for columns in model.estimators_features_], drawn=True),
        [f"{name}: predictions for all rows had a share in it" for name in left if hasattr(model, name)],
    )


def _calibrated(model: Any) -> Feed:
    change: Change = same
    if model.method == "temperature" and model.classes_.dtype.kind in "UO":
        change = encoded(model.classes_)
    before = model.cv == "prefit" or type(model.estimator).__name__ == "FrozenEstimator"
    folds = model.ensemble if model.ensemble != "auto" else not before
    why = ""
    if folds or before:
        why = "it was fitted on what the estimator makes of other rows, which moves when that forgets; fit anew"
    children = []
    for i, pair in enumerate(model.calibrated_classifiers_):
        at = f"calibrated_classifiers_[{i}]"
        children += [
            Child(f"{at}.estimator", pair.estimator, change, drawn=bool(folds), fitted_before=before),
            # Its rows come from models of the folds, which are trained anew.
            Child(
                f"{at}.calibrators",
                pair.calibrators,
                places=((vars(pair), "calibrators"),),
                refit=lambda rows: _fitted(model, rows).calibrated_classifiers_[0].calibrators,
                fixed=why,
            ),
        ]
    return Feed(children)


def _one_vs_rest(model: Any) -> Feed:
    binarizer = model.label_binarizer_
    multilabel = binarizer.y_type_.startswith("multilabel")

    def binary(rows: Rows) -> Rows:
        if rows.y is None:
            return rows
        if not multilabel:
            rows = rows.take(codes_of(model.classes_, rows.y) >= 0)
        # Nothing is left where no label is known, and scikit-learn binarizes no empty list.
        return replace(rows, y=binarizer.transform(rows.y).toarray() if len(rows.y) else np.empty((0, 1)))

    return Feed(_listed(model, _columns(once(binary), len(model.estimators_))))


def _columns(table: Change, n: int) -> list[Change]:
    """Return changes that pick one column of the targets each."""

    def column(i: int) -> Change:
        def change(rows: Rows) -> Rows:
            rows = table(rows)
            return rows if rows.y is None else replace(rows, y=np.asarray(rows.y)[:, i if len(rows.y) else 0])

        return change

    return [column(i) for i in range(n)]


def _one_vs_one(model: Any) -> Feed:
    n = len(model.classes_)
    number = encoded(model.classes_)

    def pair(i: int, j: int) -> Change:
        def change(rows: Rows) -> Rows:
            if rows.X is not None:
                rows = replace(rows, X=array_of(rows.X))
            if rows.y is None:
                return rows
            rows = number(rows)
            codes: NDArray[np.int64] = rows.y
            return replace(rows, y=(codes == j).astype(int)).take((codes == i) | (codes == j))

        return change

    return Feed(_listed(model, [pair(i, j) for i in range(n) for j in range(i + 1, n)]))


def _output_code(model: Any) -> Feed:
    number = encoded(model.classes_)
    coded = once(lambda rows: rows if rows.y is None else replace(number(rows), y=_book(model, number(rows).y)))
    return Feed(_listed(model, _columns(coded, len(model.estimators_))))


def _book(model: Any, codes: Any) -> Any:
    return model.code_book_[codes].astype(int)


def _multi_output(model: Any) -> Feed:
    return Feed(_listed(model, _columns(same, len(model.estimators_))))


# ------------------------------------------------------------------------------------------- one on top of the others

_OUT_OF_FOLD = "it was given out-of-fold predictions, which cannot be made again"


def _chain(model: Any) -> Feed:
    order = np.asarray(model.order_)

    def link(k: int) -> Change:
        def change(rows: Rows) -> Rows:
            X = None if rows.X is None else array_of(rows.X)
            if rows.y is None:
                why = "it was given targets as features; pass y_del"
                return replace(rows, X=X) if X is None or k == 0 else replace(rows, X=None, lost=why)
            Y = np.asarray(rows.y)
            if k and X is not None:
                X = (sparse if sparse.issparse(X) else np).hstack([X, Y[:, order[:k]]])
            rows = replace(rows, X=X, y=Y[:, order[k]])
            return replace(rows, X=None, lost=_OUT_OF_FOLD) if k and model.cv is not None else rows

        return change

    first, *others = _listed(model, [link(k) for k in range(len(order))])
    return Feed([first, *(replace(child, follows=True) for child in others)])


def _stacking(model: Any) -> Feed:
    change: Change = same
    if hasattr(model, "classes_"):
        change = _encoded_columns(model.classes_) if isinstance(model.classes_, list) else encoded(model.classes_)
    prefit = model.cv == "prefit"
    bases = _listed(model, [change] * len(model.estimators_), fitted_before=prefit)
    final = model.final_estimator_
    place = ((vars(model), "final_estimator_"),)
    if holds_forgetters(final):
        top = Child("final_estimator_", final, _meta(model, change) if prefit else _lost, place, follows=True)
    else:
        # Its rows come from models of the folds, which are trained anew.
        top = Child(
            "final_estimator_", final, bases[0].change, place, lambda rows: _fitted(model, rows).final_estimator_,
            fixed=_AFTER if prefit else "",
        )  # fmt: skip
    left = [] if prefit else ["final_estimator_: the other rows' predictions came from models of folds with the rows"]
    return Feed([*(_also_named(model, child) for child in bases), top], left if holds_forgetters(final) else [])


def _lost(rows: Rows) -> Rows:
    return replace(rows, X=None, y=None, weight=None, lost=_OUT_OF_FOLD)


def _meta(model: Any, change: Change) -> Change:
    def predicted(rows: Rows) -> Rows:
        rows = change(rows)
        return replace(rows, X=model.transform(rows.X), rounded=True) if len(rows) else rows

    return once(predicted)


def _fitted(model: Any, rows: Rows) -> Any:
    weights = {} if rows.weight is None else {"sample_weight": rows.weight}
    return clone(model).fit(rows.X, rows.y, **weights)


def _encoded_columns(classes: list[Any]) -> Change:
    def change(rows: Rows) -> Rows:
        if rows.y is None:
            return rows
        codes = np.column_stack([codes_of(c, column) for c, column in zip(classes, np.asarray(rows.y).T, strict=True)])
        return replace(rows, y=codes).take(codes.min(axis=1) >= 0)

    return once(change)


# By name, and not by class: importing them all would take longer than the rest of the package.
_FEEDS: dict[str, Callable[[Any], Feed]] = {
    "Pipeline": _pipeline,
    "ColumnTransformer": _column_transformer,
    "FeatureUnion": _feature_union,
    "TransformedTargetRegressor": _transformed_target,
    "BaseSearchCV": _only("best_estimator_", *_SCORES),
    "ForgetSearchCV": _only("best_estimator_", *_SCORES),
    "FixedThresholdClassifier": _only("estimator_"),
    "TunedThresholdClassifierCV": _only("estimator_", *_SCORES, _THRESHOLD),
    "FrozenEstimator": _frozen,
    "SelfTrainingClassifier": _self_training,
    "_BaseVoting": _voting,
    "BaseBagging": _bagging,
    "_BaseStacking": _stacking,
    "CalibratedClassifierCV": _calibrated,
    "OneVsRestClassifier": _one_vs_rest,
    "OneVsOneClassifier": _one_vs_one,
    "OutputCodeClassifier": _output_code,
    "_MultiOutputEstimator": _multi_output,
    "_BaseChain": _chain,
}
_KNOWN_PACKAGES = frozenset(("sklearn", "imblearn", "sk_unlearn"))


# These learn nothing but what their parts do.
_PLUMBING = frozenset((_pipeline, _column_transformer, _feature_union))


def feed_of(model: Any) -> Feed | None:
    """Return how a composite feeds its parts, or None for one that is not known."""
    feed = _feed_for(model)
    return None if feed is None else feed(model)


def may_contain_rows(part: Any) -> bool:
    """Whether a part may have learnt from rows: a pipeline or a union of steps, if one of the steps may."""
    feed = _feed_for(part)
    if feed is not None and feed in _PLUMBING and learns(part):
        return any(may_contain_rows(child.part) for child in feed(part).children)
    return learns(part)


def _feed_for(model: Any) -> Callable[[Any], Feed] | None:
    for kind in type(model).__mro__:
        if kind.__module__.split(".")[0] in _KNOWN_PACKAGES and kind.__name__ in _FEEDS:
            return _FEEDS[kind.__name__]
    return None
