"""The way through a composite: every part inside, with the rows as they reach it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sk_unlearn.composites._feeds import Child, feed_of, may_contain_rows
from sk_unlearn.composites._look import forgets, forgetters_in, holds_forgetters, kind_of
from sk_unlearn.composites._rows import Rows, same

__all__ = ["Leaf", "Walk", "walk"]

_BEFORE = "it was fitted before it came here, on rows that are not known"


@dataclass(eq=False)
class Leaf:
    """A part at the end of the way, which forgets by itself or has to be fitted again.

    Attributes
    ----------
    path : str
        Where it is, such as ``estimators_[1].best_estimator_``; "model" for the whole.

    child : Child
        What its composite says of it.

    forgets : bool
        Whether it carries out requests by itself.

    asked, retained : Rows
        The rows asked for and the retained ones, as they reach it.

    place : tuple
        Equal for parts that were given the same rows and targets.

    fixed : str
        Why it must not be fitted again, also for reasons further up.

    drawn : bool
        Whether it was given a part of the rows that nobody knows, also for reasons further up.

    fitted_before : bool
        Whether it was fitted before it came into the composite, also for reasons further up.

    leads : list of Leaf
        Parts that were given one row for each row of this one, in the same order.
    """

    path: str
    child: Child
    forgets: bool
    asked: Rows
    retained: Rows
    place: tuple[Any, ...]
    fixed: str
    drawn: bool
    fitted_before: bool
    leads: list[Leaf]

    @property
    def part(self) -> Any:
        """The part itself."""
        return self.child.part

    @property
    def kind(self) -> str:
        """Its class."""
        return kind_of(self.part)


@dataclass(eq=False)
class Walk:
    """What was found on the way.

    Attributes
    ----------
    leaves : list of Leaf
        Each object once, in the order they are reached.

    nodes : list of object
        Every composite and every part.

    left : list of str
        What else composites keep that rows had a share in, such as scores.
    """

    leaves: list[Leaf] = field(default_factory=list)
    nodes: list[Any] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def walk(model: Any, asked: Rows, retained: Rows) -> Walk:
    """Go through a fitted model.

    Parameters
    ----------
    model : object

    asked, retained : Rows
        As the model was given them; empty where there are none.

    Raises
    ------
    ValueError
        For a composite with a part that can forget, of which it is not known how it feeds its parts; and where rows
        cannot be brought through a step.
    """
    found = Walk()
    _visit(found, Leaf("", Child("", model), False, asked, retained, (), "", False, False, []))
    for leaf in found.leaves:
        leaf.path = leaf.path or "model"
    return found


def _visit(found: Walk, at: Leaf) -> None:
    part = at.part
    if any(part is node for node in found.nodes):
        return
    at.forgets = forgets(part)
    if at.forgets or not holds_forgetters(part):
        if at.forgets or may_contain_rows(part):
            found.nodes.append(part)
            found.leaves.append(at)
        return
    found.nodes.append(part)
    feed = feed_of(part)
    if feed is None:
        inner = next(forgetters_in(part))
        raise ValueError(
            f"{_dotted(at.path, inner)} can forget, but how {at.path or 'the model'}, a {type(part).__name__}, hands "
            "rows to it is not known. Call forget of that part with the rows as it was given them."
        )
    before = len(found.leaves)
    for child in feed.children:
        leads = at.leads
        if child.follows:
            leads = [leaf for leaf in found.leaves[before:] if leaf.forgets and leaf.drawn == at.drawn]
        _visit(found, _inside(at, child, leads))
    found.left += [_dotted(at.path, each) for each in feed.left]
    for name, template in _templates(part):
        if holds_forgetters(template):
            _visit(found, _inside(at, Child(name, template, fitted_before=True), []))


def _inside(at: Leaf, child: Child, leads: list[Leaf]) -> Leaf:
    """Return where a child is, and what reaches it."""
    path = _dotted(at.path, child.name)
    # Children that are given the same share the function; what was drawn differs from child to child.
    step = (object(),) if child.drawn else () if child.change is same else (child.change,)
    return Leaf(
        path,
        child,
        False,
        _brought(at.asked, child, path),
        _brought(at.retained, child, path),
        (*at.place, *step),
        at.fixed or child.fixed or (_BEFORE if child.fitted_before else ""),
        at.drawn or child.drawn,
        at.fitted_before or child.fitted_before,
        leads,
    )


def _brought(rows: Rows, child: Child, path: str) -> Rows:
    """Return rows as they reach a child."""
    if rows.lost or (rows.X is not None and not len(rows)):
        return rows
    kind = ""
    try:
        return child.change(rows)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        kind = type(error).__name__
    # Outside the except clause: what scikit-learn says of rows that do not fit often quotes them.
    raise ValueError(
        f"{path}: rows cannot be brought there as those of fit were ({kind}): pass them, and their targets, as they "
        "were given to fit."
    )


def _dotted(path: str, name: str) -> str:
    return f"{path}.{name}" if path and not name.startswith("[") else f"{path}{name}"


def _templates(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the estimators among the parameters of a composite, with their names."""
    parameters = model.get_params(deep=False) if hasattr(model, "get_params") else {}
    for name, value in parameters.items():
        if isinstance(value, list | tuple):
            for i, each in enumerate(value):
                yield (
                    f"{name}[{i}]" + ("[1]" if isinstance(each, tuple) else ""),
                    (each[1] if isinstance(each, tuple) and len(each) > 1 else each),
                )
        else:
            yield name, value
