"""What is kept beside one step, or beside a few in a row that are treated together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.kernel_approximation import RBFSampler, SkewedChi2Sampler
from sklearn.preprocessing import PolynomialFeatures
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection
from sklearn.utils import get_tags

from sk_unlearn.preprocessing.changes import Change, as_table

__all__ = [
    "Kept",
    "NarrowedError",
    "Node",
    "Opaque",
    "Outcome",
    "Part",
    "RawRowsNeeded",
    "Request",
    "Stateless",
    "identity",
    "output_places",
    "reading",
    "run",
    "select_inputs",
]


def identity(n: int) -> np.ndarray:
    """Return the places of n columns that all stay."""
    return np.arange(n, dtype=np.intp)


class Kept:
    """The rows that stay, in the coordinates of a step's new input; computed when first asked for.

    Attributes
    ----------
    X, y : object
    params : list of dict
        Parameters of ``fit`` for each of the node's steps.
    """

    def __init__(self, load: Callable[[], tuple[Any, Any, Any]]) -> None:
        self._load = load
        self._loaded: tuple[Any, Any, Any] | None = None

    def _get(self) -> tuple[Any, Any, Any]:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    X: Any = property(lambda self: self._get()[0])
    y: Any = property(lambda self: self._get()[1])
    params: Any = property(lambda self: self._get()[2])

    def derived(self, of_X: Callable[[Any], Any], of_params: Callable[[Any, Any], Any]) -> Kept:
        """Return the same rows as a later step, or a branch, is given them."""
        return Kept(lambda: (of_X(self.X), self.y, of_params(self.params, self.X)))


@dataclass
class Request:
    """Rows to take out (sign -1) or to add (1), as they reach a node.

    Attributes
    ----------
    X, y : object
        As the old steps before gave them.
    params : list of dict
        Parameters of ``fit`` for these rows.
    columns : ndarray of int, or None
        Which of the old input columns there still are; None for all.
    moved : bool
        Whether the rows that stay reach the node in other coordinates than before.
    """

    X: Any
    y: Any
    params: list[dict[str, Any]]
    sign: int
    kept: Kept | None
    columns: np.ndarray | None = None
    moved: bool = False

    def sources(self, n: int) -> np.ndarray:
        """Return for each new input column the old one, of n."""
        return identity(n) if self.columns is None else self.columns


@dataclass
class Outcome:
    """Steps after a request, and what has become of their outputs.

    Attributes
    ----------
    steps : list
        New objects; old ones are as they were.
    node : Node
    n_old : int
        How many output columns there were.
    columns : ndarray of int
        For each new output column the old one, -1 if it is new.
    change : Change or None
        How stored outputs change; None where raw rows are needed.
    still_there : list of str
    parts : list of Part
        Branches, each of which changes in its way.
    cached : object
        Outputs of the rows that stay, where the steps were fitted on them.
    inner : list of Outcome
        What it is put together from.
    fresh_by : callable or None
        How outputs of the rows that stay are computed, if not by the new steps' ``transform``.
    mostly : Change or None
        How most values change, where `change` is None for those alone that had been missing.
    """

    steps: list[Any]
    node: Node
    n_old: int
    columns: np.ndarray
    change: Change | None
    still_there: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    cached: Any = None
    inner: list[Outcome] = field(default_factory=list)
    fresh_by: Callable[[Any], Any] | None = None
    mostly: Change | None = None

    def fresh(self, X: Any) -> Any:
        """Return outputs of the rows that stay from what the steps are given."""
        if self.cached is not None:
            return self.cached
        if self.fresh_by is not None:
            return self.fresh_by(X)
        return run(self.steps, X)

    @property
    def has_cached(self) -> bool:
        """Whether outputs of the rows that stay differ from what ``transform`` says of them."""
        return self.cached is not None or any(outcome.has_cached for outcome in self.inner)


@dataclass
class Part:
    """A branch: its outcome, where its outputs stood, what it is given, and the weight of its outputs."""

    outcome: Outcome
    old: slice
    select: Callable[[Any], Any]
    weight: float | None = None


def run(steps: list[Any], X: Any) -> Any:
    """Transform rows by steps in turn."""
    for step in steps:
        X = X if step is None or isinstance(step, str) else step.transform(X)
    return X


@contextmanager
def reading(names: list[str]) -> Iterator[None]:
    """Say which step cannot read the rows of a request, without what scikit-learn quotes of them."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{' and '.join(names) or 'the steps'}: the rows cannot be read as those of fit were "
            f"({type(error).__name__}); pass them with the same columns and data types."
        ) from None


def select_inputs(step: Any, columns: np.ndarray) -> Any:
    """Return a copy of a fitted step that expects some of its input columns only."""
    step = copy.copy(step)
    n = getattr(step, "n_features_in_", None)
    if n is None or np.array_equal(columns, identity(n)):
        return step
    for name, value in vars(step).items():
        if name.endswith("_") and isinstance(value, np.ndarray) and value.shape == (n,):
            setattr(step, name, value[columns])
        elif name == "categories_":
            step.categories_ = [value[j] for j in columns]
    step.n_features_in_ = len(columns)
    return step


def _some_columns(X: Any, columns: np.ndarray) -> Any:
    return X.iloc[:, columns] if hasattr(X, "iloc") else X[:, columns]


def _output_names(steps: list[Any], columns: np.ndarray) -> list[Any] | None:
    """Name outputs of steps by the old input columns that they come from."""
    names: Any = [f"column {j}" for j in columns]
    try:
        for step in steps:
            names = list(step.get_feature_names_out(None if hasattr(step, "feature_names_in_") else names))
    except (AttributeError, ValueError, TypeError):
        return None
    return names


def output_places(old: list[Any], new: list[Any], sources: np.ndarray, n_old: int, n_new: int) -> np.ndarray:
    """Return for each output of some steps the one that had its name; by place where there are no names."""
    n_in = getattr(old[0], "n_features_in_", len(sources))
    old_names, new_names = _output_names(old, identity(n_in)), _output_names(new, sources)
    if old_names is None or new_names is None or len(old_names) != n_old or len(new_names) != n_new:
        return np.where(identity(n_new) < n_old, identity(n_new), -1)
    places = {name: place for place, name in enumerate(old_names)}
    return np.array([places.get(name, -1) for name in new_names], dtype=np.intp)


class Node:
    """What is kept beside some steps in a row.

    Parameters
    ----------
    names : list of str
        Readable names of the steps.

    Attributes
    ----------
    kind : type
        The class of their node once they are fitted anew.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.kind: type[Node] = type(self)

    @classmethod
    def remembered(cls, names: list[str], steps: list[Any], X: Any, y: Any, params: list[dict[str, Any]]) -> Any:
        """Return the node of steps that were fitted on these rows."""
        return cls(names)

    def changed(self, steps: list[Any], request: Request) -> Outcome:
        """Return the steps as they would be without, or with, the rows of a request."""
        raise NotImplementedError

    def refitted(self, steps: list[Any], request: Request) -> Outcome:
        """Return the steps fitted anew on the rows that stay; as they were, and named, where these are not kept."""
        if request.kept is None:
            return self._as_they_were(steps, request)
        kept, X, new = request.kept, request.kept.X, []
        for step, params in zip(steps, kept.params, strict=True):
            step = clone(step)
            X = step.fit_transform(X, kept.y, **params)
            new.append(step)
        n_old, n_new = self._width(steps, request), as_table(X).shape[1]
        sources = request.sources(getattr(steps[0], "n_features_in_", 0))
        columns = output_places(steps, new, sources, n_old, n_new)
        node = self.kind.remembered(self.names, new, kept.X, kept.y, kept.params)
        return Outcome(new, node, n_old, columns, None, cached=X)

    def leaves(self) -> list[str]:
        """Return the readable names of the steps, of those within them where they are put together."""
        return list(self.names)

    def _width(self, steps: list[Any], request: Request) -> int:
        """Return how many output columns old steps have."""
        with reading(self.names):
            return int(as_table(run(steps, request.X)).shape[1])

    def _as_they_were(self, steps: list[Any], request: Request) -> Outcome:
        if request.columns is not None:
            raise NarrowedError
        n = self._width(steps, request)
        change = None if request.moved else Change.pick(identity(n))
        node = OutOfDate(self.names, self.kind, self.leaves())
        return Outcome([copy.copy(step) for step in steps], node, n, identity(n), change, self.leaves())


class RawRowsNeeded(ValueError):  # noqa: N818  the name says what happened
    """Outputs for the rows that stay cannot be had from the stored ones, and the rows are not there as they came."""


class NarrowedError(Exception):
    """Columns before a step are gone, and it can neither do without them nor be fitted anew."""


class OutOfDate(Node):
    """Steps that could neither give up rows nor be fitted anew; nothing is kept beside them but who they are.

    What was counted of their input would be of other rows, or in other coordinates, than they have now.

    Parameters
    ----------
    names : list of str
    kind : type
        The class of their node once they are fitted anew.
    inner : list of str
        Readable names of the steps within them.
    """

    def __init__(self, names: list[str], kind: type[Node], inner: list[str]) -> None:
        super().__init__(names)
        self.kind = kind
        self.inner = inner

    def leaves(self) -> list[str]:
        """See ``Node``."""
        return list(self.inner)

    def changed(self, steps: list[Any], request: Request) -> Outcome:
        """See ``Node``."""
        return self.refitted(steps, request)


class Opaque(Node):
    """A step that has to be fitted anew whenever a row goes."""

    def changed(self, steps: list[Any], request: Request) -> Outcome:
        """See ``Node``."""
        return self.refitted(steps, request)


# What they hold was drawn at random, for so many columns: fitted anew without a seed, they would be others.
_DRAWN = (GaussianRandomProjection, SparseRandomProjection, RBFSampler, SkewedChi2Sampler)


class Stateless(Node):
    """A step that knows nothing of rows, at most which columns it is given."""

    @staticmethod
    def knows(step: Any) -> bool:
        """Whether a step is of this kind."""
        if step == "passthrough" or step is None or isinstance(step, PolynomialFeatures):
            return True
        if isinstance(step, _DRAWN):  # of rows they may ask how many there are, or how wide they spread
            return step.n_components != "auto" and getattr(step, "gamma", None) != "scale"
        return not get_tags(step).requires_fit

    def changed(self, steps: list[Any], request: Request) -> Outcome:
        """See ``Node``."""
        step = steps[0]
        if isinstance(step, _DRAWN) and request.columns is not None:
            return self.refitted(steps, request)
        n_old = self._width(steps, request)
        if request.columns is None:
            change = None if request.moved else Change.pick(identity(n_old))
            return Outcome([copy.copy(step)] if hasattr(step, "fit") else [step], self, n_old, identity(n_old), change)
        sources = request.columns
        if not hasattr(step, "fit"):
            return Outcome([step], self, n_old, sources, None if request.moved else Change.pick(sources))
        new = select_inputs(step, sources)
        if isinstance(step, PolynomialFeatures):
            names = getattr(new, "feature_names_in_", None)
            new = clone(step).fit(np.zeros((1, len(sources))))
            if names is not None:
                new.feature_names_in_ = names
        n_new = as_table(new.transform(_some_columns(request.X, sources))).shape[1]
        return Outcome([new], self, n_old, output_places([step], [new], sources, n_old, n_new), None)
