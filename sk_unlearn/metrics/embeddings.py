"""What is left in weights that erased rows alone had used: rows of an embedding, columns of a first layer."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sk_unlearn.estimators.drafts import rows_for_net
from sk_unlearn.metrics._arguments import check_references
from sk_unlearn.metrics.distances import last_step
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.risks.layer_inputs import LayerInputs, Place

__all__ = ["EmbeddingRows", "embedding_rows"]


class EmbeddingRows(NamedTuple):
    """What `embedding_rows` says of one layer. Distances are Euclidean, in the unit of the weights."""

    layer: str
    """Name of the parameter."""
    n_rows: int
    """How many of its rows, or columns of a first layer, erased rows alone had used."""
    distance: float
    """Mean distance of these from those of the model retrained from the same seed."""
    distance_before: float
    """The same before the request; NaN without the original."""
    distance_of_others: float
    """Mean distance of the rows that others use; NaN where there are none."""
    reference_distances: tuple[float, ...]
    """Mean distance of these rows in each further retrained model, from another seed, from those of the same one."""
    n_unchanged: int | None
    """How many are the same as before to the last bit, and not those of the retrained model; None without the original.
    """


def embedding_rows(
    estimator: Any,
    retrained: Any,
    X_erased: Any,
    y_erased: ArrayLike,
    X_retained: Any,
    y_retained: ArrayLike,
    *,
    original: Any = None,
    references: Sequence[Any] = (),
    least_share: float = 0.99,
) -> list[EmbeddingRows]:
    """Compare weights that erased rows alone had used with those of a model retrained from the same seed.

    A user's row of an embedding, or the column of a category, enters no prediction about anybody else, so that no
    comparison on other rows shows what it still knows. In retraining such weights are where training without data
    leads from where they started, and that depends on the seed: only a model retrained from the *same* one says where.

    Parameters
    ----------
    estimator : UnlearnableClassifier, UnlearnableRegressor, or Pipeline that ends in one
        The model that forgot.
    retrained : of the same kind
        The model retrained without the erased rows from the same seed: fitted with the ``random_state`` of the model
        that forgot, a whole number.
    X_erased : array-like of shape (n_erased, ...)
        The erased rows.
    y_erased : array-like of shape (n_erased,) or (n_erased, n_targets)
        Their targets, which `estimator` must know.
    X_retained, y_retained : array-like of shape (n_retained, ...) and (n_retained,) or (n_retained, n_targets)
        The rows that stay.
    original : of the same kind, default=None
        The model before the request.
    references : sequence of the same, default=()
        Models retrained from other seeds. How far they are from `retrained` shows what a seed makes of rows that nobody
        uses.
    least_share : float, default=0.99
        Of the use of a row, the share that must be that of erased rows: 1 for none but these. It is counted how often a
        row of an embedding is looked up, and measured how much a column differs from its mean over the rows that stay.

    Returns
    -------
    list of EmbeddingRows
        One for each embedding, and each layer that is given the columns themselves, some rows of which erased rows
        alone had used. It tells how many, and never which.

    Raises
    ------
    ValueError
        If a network has parameters of other shapes there, `least_share` is not in (0, 1], the rows are not as
        ``predict`` takes them, or the network draws random numbers when it predicts.
    sklearn.exceptions.NotFittedError
        Before ``fit``.

    Notes
    -----
    Columns that are standardised in the network count as what they are there: a column that is constant over the rows
    that stay is used by none of them. Only weights that enter nothing but look-ups and linear maps are looked at.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetRegressor
    >>> from torch import nn
    >>> from sk_unlearn import UnlearnableRegressor
    >>> from sk_unlearn.metrics import embedding_rows
    >>> net = NeuralNetRegressor(nn.Linear, module__in_features=3, module__out_features=1, train_split=None, verbose=0)
    >>> X, y = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2]], np.array([1, 2, 0, 1, 5], dtype=np.float32)
    >>> original = UnlearnableRegressor(net, random_state=0).fit(X, y)
    >>> retrained = UnlearnableRegressor(net, random_state=0).fit(X[:4], y[:4])
    >>> (found,) = embedding_rows(original, retrained, X[4:], y[4:], X[:4], y[:4], original=original)
    >>> found.n_rows, found.n_unchanged, found.distance > 0.1
    (1, 1, True)
    """
    check_references(references, 0)
    if not (isinstance(least_share, Real) and 0 < least_share <= 1):
        raise ValueError(f"least_share must lie in (0, 1], got {least_share!r}.")
    nets = [_net(model) for model in (estimator, retrained, *references, *([] if original is None else [original]))]
    gone, stay = (_inputs(estimator, *rows) for rows in ((X_erased, y_erased), (X_retained, y_retained)))
    staying = {each.place: each for each in stay.maps}
    found = []
    for each in gone.maps:
        others = staying.get(each.place)
        is_table = each.place.axis == 0
        if others is None or not each.sums.is_like(others.sums) or not (is_table or each.steady):
            continue
        by_erased, by_others = each.sums.uses_beside(others.sums, with_bias=each.bias is not None)
        alone = (by_erased > 0) & (by_erased >= least_share * (by_erased + by_others))
        if not alone.any():
            continue
        name, (own, goal, *rest) = _matrices(nets, each.place)
        before = None if original is None else rest.pop()
        found.append(
            EmbeddingRows(
                layer=name,
                n_rows=int(alone.sum()),
                distance=_apart(own, goal, alone),
                distance_before=float("nan") if before is None else _apart(before, goal, alone),
                distance_of_others=_apart(own, goal, (by_others > 0) & ~alone),
                reference_distances=tuple(_apart(other, goal, alone) for other in rest),
                n_unchanged=None if before is None else int(_kept(own, before, goal)[alone].sum()),
            )
        )
    return found


def _net(model: Any) -> Any:
    last = last_step(model)
    check_is_fitted(last)
    return last.net_


def _inputs(model: Any, X: Any, y: ArrayLike) -> LayerInputs:
    """Return what rows put into the linear maps of a model's net."""
    X = model[:-1].transform(X) if isinstance(model, Pipeline) and len(model) > 1 else X
    net = _net(model)
    inputs = EmpiricalRisk(net, *rows_for_net(last_step(model), X, y)).layer_inputs(flat_parameters(net))
    if inputs is None:
        raise ValueError("The network draws random numbers when it predicts, so that no use of its weights is fixed.")
    return inputs


def _matrices(nets: Sequence[Any], place: Place) -> tuple[str, list[Tensor]]:
    """Return the name of a layer, and its weights in each net: one column for each row of a table, or of the input."""
    names, matrices = set(), []
    for net in nets:
        own = [(name, p.detach()) for name, p in net.module_.named_parameters() if p.requires_grad]
        names.add(own[place.parameter][0] if place.parameter < len(own) else "")
        matrices.append(place.matrix([p for _, p in own], None).cpu())
    shapes = {tuple(matrix.shape) for matrix in matrices}
    if len(names) > 1 or len(shapes) > 1:
        raise ValueError(f"The networks differ in the layer {max(names)}, which has shapes {sorted(shapes)}.")
    return names.pop(), matrices


def _kept(own: Tensor, before: Tensor, goal: Tensor) -> Tensor:
    """Tell which columns are as they were, though those of the retrained model are others."""
    return (own == before).all(dim=0) & (own != goal).any(dim=0)


def _apart(a: Tensor, b: Tensor, rows: Tensor) -> float:
    """Return the mean distance between some columns of two matrices."""
    apart = torch.linalg.vector_norm(a - b, dim=0)[rows]
    return float(apart.mean()) if len(apart) else float("nan")
