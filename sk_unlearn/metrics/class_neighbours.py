"""How far a model went from retrained ones on rows next to the erased ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import _num_samples

from sk_unlearn.metrics._arguments import check_int, check_references
from sk_unlearn.metrics.distances import Floats, distance_of, mean_distance, row_distances_among
from sk_unlearn.metrics.neighbourhood import as_numbers
from sk_unlearn.metrics.probe import hidden_features

__all__ = ["NeighbourDistance", "nearest_rows", "neighbour_distance"]


class NeighbourDistance(NamedTuple):
    """What `neighbour_distance` returns. In nats, or for regressors in the unit of the target."""

    distance: float
    """Mean distance of the model from retrained ones on the rows nearest to the erased ones."""
    reference_distances: tuple[float, ...]
    """Mean distance of each retrained model from the others there."""
    n_rows: int
    """How many rows these are."""

    @property
    def ratio(self) -> float:
        """The distance over the mean of those among retrained models."""
        return self.distance / float(np.mean(self.reference_distances))


def neighbour_distance(
    estimator: Any,
    references: Sequence[Any],
    X_erased: Any,
    X: Any,
    *,
    n_neighbours: int = 3,
    space: Literal["features", "inputs"] = "features",
) -> NeighbourDistance:
    """Return how far a model is from retrained ones on the rows nearest to the erased ones.

    An attacker who does not have the erased rows looks at rows like them: of their class, or where that is gone of the
    classes next to it [1]_. A model that was taught to answer otherwise for the erased rows, or lost a class in the
    output layer alone, answers for these in another way than models that never saw the erased ones.

    Parameters
    ----------
    estimator : estimator or Pipeline
        The model that forgot.
    references : sequence of at least two estimators or Pipelines
        Models retrained without the erased rows, each from another seed.
    X_erased : array-like of shape (n_erased, ...)
        The erased rows.
    X : array-like of shape (n_rows, ...)
        Rows to look for neighbours in, such as test rows: of an erased class, leave out those of the class itself to
        see the classes next to it.
    n_neighbours : int, default=3
        How many to take for each erased row; all of them are taken together, each once.
    space : {"features", "inputs"}, default="features"
        Where they are near: in what the output layers of all retrained networks are given (`hidden_features`), or in
        the columns of X. Each feature is divided by its standard deviation.

    Returns
    -------
    NeighbourDistance
        Of Jensen-Shannon divergences, for regressors of root mean squared differences.

    Raises
    ------
    ValueError
        If there are fewer than two references, there are fewer rows than `n_neighbours` or none erased, `space` or
        `n_neighbours` is not as above, a retrained model has no output layer, or X holds no numbers in a table.

    Notes
    -----
    Rows next to an erased class are the hardest to tell for models that never saw it, and a few rows that one of them
    takes for something else make most of a mean. Take many references where much depends on it.

    References
    ----------
    .. [1] Ebrahimpour-Boroojeny, Wang and Sundaram, "Unlearning isn't forgetting: Revealing hidden leakage in class
       unlearning evaluations", ICML 2026, whose attack looks at what a model gives to the classes next to an erased
       one.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.metrics import neighbour_distance
    >>> from sk_unlearn.references import fit_many
    >>> X, y = load_iris(return_X_y=True)
    >>> original = UnlearnableClassifier(random_state=0).fit(X, y)
    >>> erased, stays = y == 1, y != 1
    >>> retrained = fit_many(UnlearnableClassifier(), X[stays], y[stays], seeds=[1, 2, 3])
    >>> neighbour_distance(original, retrained, X[erased], X[stays]).ratio > 2
    True
    """
    check_references(references, 2)
    near = nearest_rows(references, X_erased, X, n_neighbours=n_neighbours, space=space)
    return distances_on(estimator, references, X, near)


def nearest_rows(
    references: Sequence[Any],
    X_erased: Any,
    X: Any,
    *,
    n_neighbours: int = 3,
    space: Literal["features", "inputs"] = "features",
) -> NDArray[np.intp]:
    """Return which rows are nearest to erased ones, ascending; as `neighbour_distance`."""
    if space not in ("features", "inputs"):
        raise ValueError(f"space must be 'features' or 'inputs', got {space!r}.")
    n_erased, n = _num_samples(X_erased), _num_samples(X)
    check_int("n_neighbours", n_neighbours)
    if n_neighbours > n or n_erased == 0:
        raise ValueError(
            "n_neighbours must lie between 1 and the number of rows in X, and X_erased hold at least one; got "
            f"{n_neighbours!r}, {n} and {n_erased} rows."
        )
    erased, others = (_placed(references, rows, space) for rows in (X_erased, X))
    if erased.shape[1] != others.shape[1]:
        raise ValueError(f"X_erased has {erased.shape[1]} columns and X {others.shape[1]}; give rows of the same kind.")
    scale = others.std(axis=0)
    scale[scale == 0] = 1
    found = NearestNeighbors(n_neighbors=n_neighbours, algorithm="brute").fit(others / scale)
    return np.unique(found.kneighbors(erased / scale, return_distance=False))


def distances_on(estimator: Any, references: Sequence[Any], X: Any, near: NDArray[np.intp]) -> NeighbourDistance:
    """Return the distances on some of the rows."""
    rows, distance = row_distances_among([estimator, *references], X)[..., near], distance_of(estimator)
    numbers = range(1, len(rows))
    among = [mean_distance(rows[k, [i for i in numbers if i != k]], distance) for k in numbers]
    return NeighbourDistance(mean_distance(rows[0, 1:], distance), tuple(among), len(near))


def _placed(references: Sequence[Any], X: Any, space: str) -> Floats:
    if space == "features":
        return np.concatenate([hidden_features(model, X) for model in references], axis=1)
    rows = as_numbers(X)
    return rows.reshape(len(rows), -1)
