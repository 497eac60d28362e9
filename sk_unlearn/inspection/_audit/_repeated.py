"""The procedure judged rather than one outcome: training and forgetting done anew from many seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier

from sk_unlearn.metrics.margins import klom, row_margins
from sk_unlearn.references.many import fit_many
from sk_unlearn.references.retrained import Rows, silent, train_references
from sk_unlearn.rows.forms import joined, taken

__all__ = ["Repeated", "repeated"]

# More rows of a set than this change a percentile little.
_MOST_ROWS = 2000
_PERCENTILE = 0.95


class Repeated(NamedTuple):
    """KLoM by set of rows, at the 95th percentile over rows."""

    before: dict[str, float]
    """Of models that were trained on all rows."""
    after: dict[str, float]
    """Of the same after the request."""
    retrained: dict[str, float]
    """Of as many more retrained ones."""


def repeated(
    model: Any, sets: dict[str, Rows], seeds: Sequence[int], *, n_jobs: int | None = None, verbose: int | None = None
) -> Repeated:
    """Train, forget and retrain from each of many seeds, and compare the margins of what comes out, row by row.

    Parameters
    ----------
    model : unlearnable classifier
        Its settings are those of all. It is left as it is.
    sets : dict of str to Rows
        By "erased", "retained" and "test", as the model takes them.
    seeds : sequence of int
        Three for each run.

    Raises
    ------
    ValueError
        If there are no margins, or the rows cannot be forgotten.
    """
    if not is_classifier(model) or not hasattr(model, "forget"):
        raise ValueError("it takes a classifier that forgets.")
    erased, retained = sets["erased"], sets["retained"]
    trained_from, *others = np.array_split(np.asarray(seeds), 3)
    weight = None if retained.weight is None else np.concatenate([retained.weight, np.ones(len(erased.y))])
    y = np.concatenate([retained.y, erased.y])
    blank = silent(clone(model))
    if "keep_training_set" in blank.get_params(deep=False):
        blank.set_params(keep_training_set=True)
    retained = retained._replace(sample_id=None)  # whose the erased rows are is not known
    models = fit_many(
        blank, _joined(retained.X, erased.X), y, seeds=trained_from.tolist(), sample_weight=weight, n_jobs=n_jobs,
        verbose=verbose,
    )  # fmt: skip
    references, more = (
        train_references(model, retained, each.tolist(), n_jobs=n_jobs, verbose=verbose).models for each in others
    )
    if min(len(references), len(more)) < len(trained_from):
        raise KeyboardInterrupt
    rng = np.random.default_rng(int(trained_from[0]))
    some = {name: _some(rows, rng) for name, rows in sets.items()}
    margins = {name: _margins(references, rows) for name, rows in some.items()}

    def score(judged: Sequence[Any]) -> dict[str, float]:
        each = {name: klom(_margins(judged, rows), margins[name]) for name, rows in some.items()}
        return {name: float(np.quantile(values, _PERCENTILE)) for name, values in each.items()}

    before = score(models)
    for each in models:
        each.forget(erased.X, erased.y)
    return Repeated(before, score(models), score(more))


def _margins(models: Sequence[Any], rows: Rows) -> NDArray[np.float64]:
    return np.array([row_margins(model, rows.X, rows.y) for model in models])


def _some(rows: Rows, rng: np.random.Generator) -> Rows:
    if len(rows.y) <= _MOST_ROWS:
        return rows
    chosen = np.sort(rng.choice(len(rows.y), _MOST_ROWS, replace=False))
    return Rows(taken(rows.X, chosen), rows.y[chosen])


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, pd.DataFrame):
        return pd.concat([first, pd.DataFrame(second, columns=first.columns)], ignore_index=True)
    return joined(first, second)
