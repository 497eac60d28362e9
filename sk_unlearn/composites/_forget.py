"""The two functions for users: forget in every part of a model at once, and ask which parts know a row."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sk_unlearn import distributed
from sk_unlearn.composites._known import Asked, Holding, look_up
from sk_unlearn.composites._refit import Refit, check_retained, refit_of, retained_rows
from sk_unlearn.composites._rows import Rows
from sk_unlearn.composites._summary import ForgetSummary, OtherPart, PartSummary
from sk_unlearn.composites._walk import Leaf, Walk, walk
from sk_unlearn.estimators.drafts import Draft, commit_drafts
from sk_unlearn.estimators.lookup import listed
from sk_unlearn.exceptions import PartsCannotForget
from sk_unlearn.utils._journal import Journal
from sk_unlearn.utils._lock import taking_turns

__all__ = ["checked_request", "forget", "in_turns", "undisturbed", "which_parts_know"]

_T = TypeVar("_T")
_ON_OTHER = ("raise", "refit", "report")
_CONTAINS = "still contains the rows"


def forget(
    model: Any,
    X_del: ArrayLike | None = None,
    y_del: ArrayLike | None = None,
    *,
    sample_id: ArrayLike | None = None,
    on_other: str = "raise",
    retained: tuple[Any, ...] | None = None,
) -> ForgetSummary:
    """Forget training rows in every part of a fitted model: a pipeline, an ensemble, a search, or any of them nested.

    Each part that knows the rows forgets them, as its own ``forget`` does, and parts that never saw them are left. It
    happens in all parts or in none.

    Parameters
    ----------
    model : object
        Fitted: a composite of scikit-learn's with :class:`UnlearnableClassifier` or :class:`UnlearnableRegressor`
        somewhere inside, or one of these.

    X_del : array-like of shape (n_rows, ...), default=None
        Rows to forget, as ``model.fit`` was given them.

    y_del : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
        Their targets, as ``model.fit`` was given them: only copies that also carry them are forgotten.

    sample_id : array-like of shape (n_ids,), default=None
        Identifiers, where they reached the parts at ``fit``; together with `X_del` as in ``forget`` of an estimator.

    on_other : {"raise", "refit", "report"}, default="raise"
        What to do about parts that may have learnt the rows and cannot forget, such as a scaler or a logistic
        regression: raise an error that lists them; fit clones of them on the rows that stay; or go on, and list them in
        the summary as still containing the rows.

    retained : tuple (X, y) or (X, y, sample_weight), default=None
        The rows that stay, all of them and no others, as ``model.fit`` was given them, for ``on_other="refit"``. None
        takes them from a part that was given the same rows and stores them unrounded: one whose network is of float64.

    Returns
    -------
    summary : ForgetSummary
        What each part did.

    Raises
    ------
    ValueError
        When no part knows any of the rows, or some rows are unknown to all; when a part can forget and it is not known
        how its composite feeds it; when `retained` holds a row to erase; and as ``forget`` of each part, whose path the
        message begins with. Nothing has changed then.

    sk_unlearn.exceptions.PartsCannotForget
        With ``on_other="raise"``, if there are parts that cannot forget; with "refit", if some of these cannot be
        fitted again. It names them all. Nothing has changed then.

    FloatingPointError, sklearn.exceptions.NotFittedError
        As ``forget``. Nothing has changed then.

    See Also
    --------
    which_parts_know : Where a row is.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import BaggingClassifier
    >>> import sk_unlearn
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BaggingClassifier(sk_unlearn.UnlearnableClassifier(), 2, random_state=0).fit(X, y)
    >>> summary = sk_unlearn.forget(model, X[:3], y[:3])
    >>> [len(part.training_set_) for part in model.estimators_]
    [147, 147]
    """
    if on_other not in _ON_OTHER:
        raise ValueError(f"on_other must be one of {_ON_OTHER}, got {on_other!r}.")
    if retained is not None and on_other != "refit":
        raise ValueError(f"retained is what on_other='refit' fits parts on, and on_other is {on_other!r}.")
    distributed.refuse("sk_unlearn.forget")
    asked, stay = checked_request(X_del, y_del, sample_id, "X_del", "y_del"), retained_rows(retained)
    return in_turns(model, asked.rows, stay, lambda way: _carried_out(way, asked, on_other, retained is not None))


def which_parts_know(
    model: Any, X: ArrayLike | None = None, y: ArrayLike | None = None, *, sample_id: ArrayLike | None = None
) -> dict[str, int | None]:
    """Say which parts of a fitted model know some rows, and change nothing.

    Parameters
    ----------
    model, X, y, sample_id
        As :func:`forget` takes them.

    Returns
    -------
    known : dict of str to int or None
        For the path of each part, how many of the rows (or identifiers) it knows; None for a part that may have learnt
        them and cannot tell, such as a scaler.

    Raises
    ------
    ValueError
        For rows that do not fit, or a composite of which it is not known how it feeds its parts.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> import sk_unlearn
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), sk_unlearn.UnlearnableClassifier(random_state=0)).fit(X, y)
    >>> sk_unlearn.which_parts_know(model, X[:3])
    {"steps['standardscaler']": None, "steps['unlearnableclassifier']": 3}
    """
    asked = checked_request(X, y, sample_id, "X", "y")

    def told(way: Walk) -> dict[str, int | None]:
        holdings = {id(each.leaf): each for each in look_up(way, asked)}
        counts: dict[str, int | None] = {}
        for leaf in way.leaves:
            holding = holdings.get(id(leaf))
            counts[leaf.path] = None if holding is None or holding.known is None else holding.n_known
        return counts

    return in_turns(model, asked.rows, Rows(), told)


def checked_request(X: Any, y: Any, sample_id: Any, X_name: str, y_name: str) -> Asked:
    """Check what a caller gives."""
    if X is None and sample_id is None:
        raise ValueError(f"Name rows by {X_name} or by sample_id (identifiers given at fit); both are None.")
    if X is None and y is not None:
        raise ValueError(f"{y_name} narrows {X_name}, which is None; pass {X_name} too.")
    rows = Rows(X, y)
    if X is not None and not len(rows):
        raise ValueError(f"{X_name} is empty: pass at least one row.")
    if y is not None and len(Rows(y)) != len(rows):
        raise ValueError(f"{y_name} has {len(Rows(y))} rows but belongs to {len(rows)}; pass one for each.")
    return Asked(rows, None if sample_id is None else listed(sample_id))


def in_turns(model: Any, asked: Rows, retained: Rows, use: Callable[[Walk], _T]) -> _T:
    """Go through a model and use what is found, while no other thread changes any part of it."""
    check_is_fitted(model)
    nodes = walk(model, Rows(), Rows()).nodes
    while True:
        with taking_turns([node for node in nodes if _can_be_held(node)]):
            way = walk(model, asked, retained)
            if {id(node) for node in way.nodes} <= {id(node) for node in nodes}:
                return use(way)
        nodes = way.nodes  # another request has put a new part in place meanwhile


def undisturbed(model: Any, use: Callable[[], _T]) -> _T:
    """Do something with a model while no other thread changes any part of it.

    Of a model that is not fitted, or through which there is no known way, the parts are not held.
    """
    try:
        check_is_fitted(model)
        walk(model, Rows(), Rows())
    except Exception:  # whatever it is, it is for `use` to say what is wrong with the model
        return use()
    return in_turns(model, Rows(), Rows(), lambda _: use())


def _can_be_held(node: Any) -> bool:
    try:
        hash(node)
        weakref.ref(node)
    except TypeError:
        return False
    return True


def _carried_out(way: Walk, asked: Asked, on_other: str, given: bool) -> ForgetSummary:
    holdings = look_up(way, asked)
    _check_known(holdings, asked)
    mute = {id(each.leaf): each.why for each in holdings if each.known is None}
    others = [leaf for leaf in way.leaves if not leaf.forgets or id(leaf) in mute]
    reasons = {id(leaf): mute.get(id(leaf), leaf.fixed if not leaf.child.places else "") for leaf in others}
    if others and on_other == "raise":
        raise PartsCannotForget(
            _listing(others, reasons)
            + ". Nothing was changed. on_other='refit' fits them on the rows that stay, where "
            "that can be done; on_other='report' goes on and lists them in the summary.",
            [leaf.path for leaf in others],
        )
    refits = _refits(others, holdings, given) if on_other == "refit" else []
    drafts = {id(each): _drafted(each) for each in holdings if each.n_known}
    renewed = Draft(Journal(), [each for refit in refits for each in refit.carry_out()])
    commit_drafts([*drafts.values(), renewed])
    outcome = "refitted" if on_other == "refit" else _CONTAINS
    return ForgetSummary(
        asked.n,
        [_part_summary(each, drafts.get(id(each))) for each in holdings if each.known is not None],
        [OtherPart(leaf.path, leaf.kind, outcome, reasons[id(leaf)]) for leaf in others],
        way.left,
        _notes(holdings),
    )


def _check_known(holdings: list[Holding], asked: Asked) -> None:
    """Raise unless every row, and every identifier, is known to some part."""
    if not holdings:
        raise ValueError("No part of the model is fitted and can forget: nothing in it can be asked for the rows.")
    able = [each for each in holdings if each.known is not None]
    if not able:
        why = "; ".join(f"{each.leaf.path}: {each.why}" for each in holdings)
        raise ValueError(f"No part of the model can tell whether it knows the rows ({why}).")
    if not any(each.n_known for each in able):
        raise ValueError(f"No part of the model knows any of the {asked.n} {_named(asked)}." + _cure(able, asked))
    unknown = ~np.logical_or.reduce([each.known for each in able if each.known is not None])
    if unknown.any():
        raise ValueError(
            f"{unknown.sum()} of {asked.n} {_named(asked)} are unknown to every part of the model (the first at index "
            f"{np.argmax(unknown)}): each must be one it was fitted on, and not erased since." + _cure(able, asked)
        )
    ids = [each.known_ids for each in able if each.known_ids is not None]
    if asked.rows.X is not None and ids and not np.logical_or.reduce(ids).all():
        n = int(np.count_nonzero(~np.logical_or.reduce(ids)))
        raise ValueError(f"sample_id: {n} of {len(ids[0])} ids are unknown to every part of the model.")


def _named(asked: Asked) -> str:
    return "identifiers" if asked.rows.X is None else "rows of X_del"


def _cure(holdings: list[Holding], asked: Asked) -> str:
    if asked.rows.X is not None and any(each.leaf.drawn for each in holdings):
        return " A row that no member of an ensemble has drawn is unknown to it, too."
    if asked.rows.X is not None and any(each.leaf.asked.rounded for each in holdings):
        return " Steps that round a row otherwise than at fit keep it from being found: name it by sample_id."
    pipelines = [each.leaf for each in holdings if hasattr(each.leaf.part, "_told_of_unknown")]
    if asked.rows.X is not None and pipelines:
        return pipelines[0].part._told_of_unknown(pipelines[0].asked.X, "X_del")
    return ""


def _listing(others: list[Leaf], reasons: dict[int, str]) -> str:
    listed = "; ".join(
        f"{leaf.path}: {leaf.kind}" + (f" ({reasons[id(leaf)]})" if reasons[id(leaf)] else "") for leaf in others
    )
    return f"{len(others)} parts may have learnt the rows and cannot forget them: {listed}"


def _refits(others: list[Leaf], holdings: list[Holding], given: bool) -> list[Refit]:
    check_retained(holdings)
    refits = [refit_of(leaf, holdings, given) for leaf in others]
    cannot = [each for each in refits if each.why_not]
    if cannot:
        reasons = {id(each.leaf): each.why_not for each in cannot}
        raise PartsCannotForget(
            _listing([each.leaf for each in cannot], reasons)
            + ". They cannot be fitted again here; nothing was changed.",
            [each.leaf.path for each in cannot],
        )
    return refits


def _drafted(holding: Holding) -> Draft:
    try:
        return holding.draft()
    except Exception as error:
        error.args = (f"{holding.leaf.path}: {error}",)
        raise


def _part_summary(holding: Holding, draft: Draft | None) -> PartSummary:
    report = None if draft is None else draft.report
    return PartSummary(holding.leaf.path, holding.leaf.kind, holding.n_known, holding.n_rounded, report)


def _notes(holdings: list[Holding]) -> list[str]:
    notes = []
    for each in holdings:
        if each.n_rounded:
            notes.append(
                f"{each.leaf.path}: {each.n_rounded} rows were found although the steps before round them otherwise "
                "than at fit; each equals one stored row, and no other, but for rounding."
            )
        if each.n_beside:
            notes.append(
                f"{each.leaf.path}: {each.n_beside} further stored rows differ from an erased one by rounding alone, "
                "and were left; if they are copies of it, name them by sample_id."
            )
    return notes
