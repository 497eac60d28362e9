"""Whether the rows of a request are still known: a small gradient, or a step taken, says little of a network."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from torch import Tensor

from sk_unlearn.risks.empirical import EmpiricalRisk, Rows
from sk_unlearn.rows import SparseRows
from sk_unlearn.rows.parts import fields, has_parts
from sk_unlearn.rows.storage import RowStorage, dense

__all__ = ["still_known", "why_not_converged"]

# Rows that are looked at: erased ones, and stored ones among which a neighbour is looked for.
_ERASED_ROWS, _STORED_ROWS = 256, 2048
# Of large rows, such as images, fewer stored ones: so many numbers of theirs, but so many rows at least.
_STORED_NUMBERS, _FEWEST_STORED_ROWS = 2**26, 256
# Numbers held at a time, in float64.
_BLOCK = 2**21
# So much more often than its nearest neighbour is the model right on an erased row that still knows it.
_KNOWN_MORE = 0.3


def why_not_converged(
    erased: EmpiricalRisk, stored: EmpiricalRisk | None, w: Tensor, *, brought: float, left: float
) -> str:
    """Return why a tolerance that is met does not show that rows were undone; empty where nothing speaks against it.

    Training leaves a gradient that a request holds on to. A deletion that brings less than that cannot be told from
    training that was not finished: a small move meets any tolerance, whether or not the model still knows the rows.
    And a model that knows erased rows better than their neighbours among the stored rows do has not forgotten them,
    whatever the gradient says.

    Parameters
    ----------
    erased : EmpiricalRisk
        Over the rows that leave.

    stored : EmpiricalRisk or None
        Over the stored rows that stay; None where neighbours tell nothing, as of rows that stay with other content.

    w : Tensor of shape (d,)
        Where the request arrived.

    brought, left : float
        Norms of the gradient that the deletion brought and of that which training left.
    """
    if 0 < brought < left:
        return (
            f"but the gradient that the deletion brought ({brought:.2g}) is smaller than the one that training left "
            f"({left:.2g}), so that the tolerance says little; train longer, or compare with Retrain()"
        )
    if stored is None:
        return ""
    rng = np.random.default_rng(0)
    of_erased, of_stored = erased.sample(_ERASED_ROWS, rng), stored.sample(_n_stored(stored), rng)
    by_model, by_neighbour = _accuracies(erased, of_erased, stored, of_stored, w)
    if not by_model > by_neighbour + _KNOWN_MORE:  # also where there are none
        return ""
    return (
        f"but the model still gets {by_model:.0%} of the erased rows right, where their nearest retained neighbours "
        f"would get {by_neighbour:.0%}; compare with Retrain()"
    )


def still_known(erased: EmpiricalRisk, stored: EmpiricalRisk | None, w: Tensor) -> list[str]:
    """Say so where the model still knows the classes of erased rows that nothing among the retained rows suggests.

    A model that learnt rows by heart, such as wrong labels, is right on them where a retrained one would not be. What a
    retrained one would say, the nearest retained rows tell; how well they tell it in these data, retained rows show.
    The fewer rows there are, the more it takes: of one or two nothing can be said.

    Parameters
    ----------
    erased : EmpiricalRisk
        Over the rows that leave.

    stored : EmpiricalRisk or None
        Over the stored rows that stay; None where neighbours tell nothing, as of rows that stay with other content.

    w : Tensor of shape (d,)
        Where the request arrived.
    """
    n_asked = min(erased.n_rows, _ERASED_ROWS)
    if stored is None or not n_asked:
        return []
    margin = _KNOWN_MORE + n_asked**-0.5
    if margin >= 1:
        return []
    rng = np.random.default_rng(0)
    of_erased, of_stored = erased.sample(_ERASED_ROWS, rng), stored.sample(_n_stored(stored), rng)
    by_model, by_neighbour = _accuracies(erased, of_erased, stored, of_stored, w)
    if not by_model - by_neighbour > margin:  # also where there are none
        return []
    # Where neighbours tell little of any row, as of texts, they tell little of these.
    shuffled, n_others = rng.permutation(of_stored), min(n_asked, len(of_stored) // 2)  # rows may come class by class
    others, neighbours = shuffled[:n_others], shuffled[n_others:]
    usual_model, usual_neighbour = _accuracies(stored, others, stored, neighbours, w)
    if not by_model - by_neighbour > usual_model - usual_neighbour + margin:
        return []
    return [
        f"The model may still know these rows by heart: it gets {by_model:.0%} of the erased rows right, where their "
        f"nearest retained neighbours would get {by_neighbour:.0%}. Compare with Retrain() or Retrain(share=0.5), "
        "which leave nothing of the rows."
    ]


def _n_stored(stored: EmpiricalRisk) -> int:
    """Return among how many stored rows a neighbour is looked for."""
    return max(_FEWEST_STORED_ROWS, min(_STORED_ROWS, _STORED_NUMBERS // max(1, _row_size(stored.X))))


def _accuracies(
    asked: EmpiricalRisk, of_asked: Rows, stored: EmpiricalRisk, of_stored: Rows, w: Tensor
) -> tuple[float, float]:
    """Return how often the model and the nearest stored row tell the class of a row; nan without classes."""
    classes = asked.targets(of_asked)
    try:
        outputs = asked.outputs(w, of_asked)
    except TypeError:
        return float("nan"), float("nan")
    if classes.dtype.kind not in "iu" or classes.ndim != 1 or outputs.ndim != 2 or outputs.shape[1] < 2:
        return float("nan"), float("nan")
    nearest = _nearest(_flat(asked.X, of_asked), _flat(stored.X, of_stored))
    by_model = outputs.argmax(1).cpu().numpy() == classes
    return float(by_model.mean()), float((stored.targets(of_stored)[nearest] == classes).mean())


def _row_size(rows: Any) -> int:
    return sum(int(np.prod(part.shape[1:])) for part in fields(rows))


class _Flat(NamedTuple):
    """Some rows of a matrix, which may be sparse, or much larger than these rows are."""

    matrix: Any
    rows: Any
    n_rows: int

    def columns(self, part: slice) -> NDArray[np.float64]:
        values = self.matrix[self.rows, part]
        return np.asarray(values.toarray() if issparse(values) else values, dtype=np.float64)


def _flat(X: Any, rows: NDArray[np.int64]) -> _Flat:
    """Return some rows as vectors; parts stand side by side."""
    if isinstance(X, SparseRows):
        return _Flat(X[rows].csr, slice(None), len(rows))
    if isinstance(X, RowStorage):
        return _Flat(dense(X[rows]).reshape(len(rows), -1), slice(None), len(rows))
    if not has_parts(X):
        return _Flat(X.reshape(len(X), -1), rows, len(rows))
    parts = [part[rows].reshape(len(rows), -1) for part in fields(X)]
    return _Flat(np.concatenate(parts, axis=1), slice(None), len(rows))


def _nearest(A: _Flat, B: _Flat) -> NDArray[np.int64]:
    """Return which row of B is nearest to each row of A, columns measured by their deviation in B."""
    # Of |a - b|² what does not depend on a is all that is needed to find the nearest b.
    distance = np.zeros((A.n_rows, B.n_rows))
    width = max(1, _BLOCK // (A.n_rows + B.n_rows))
    for start in range(0, B.matrix.shape[1], width):
        part = slice(start, start + width)
        near, asked = B.columns(part), A.columns(part)
        scale = near.std(0)
        scale[scale == 0] = 1.0
        near /= scale
        asked /= scale
        distance += np.square(near).sum(1) - 2 * asked @ near.T
    return np.argmin(distance, axis=1)
