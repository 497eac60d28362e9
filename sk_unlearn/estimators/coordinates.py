"""Features that move when the steps before an estimator give up rows: its rows and its net move along."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn.estimators._folding import ColumnMap, Fold, as_seen, folded
from sk_unlearn.estimators._notes import some_outputs
from sk_unlearn.estimators._recoding import Recoding, recoded, recoded_values
from sk_unlearn.estimators._state import Anchor
from sk_unlearn.estimators.fitting import first_anchor
from sk_unlearn.receipts import digest_parameters
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.risks.layer_inputs import LayerInputs
from sk_unlearn.rows import SparseRows, TrainingSet
from sk_unlearn.rows.storage import dense
from sk_unlearn.utils._twins import training_copy, twin

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = ["Moved", "NewCoordinates", "recoded_values", "shadowed", "trainable"]

# Root mean square change of the outputs, as a share of their spread, past which the net in new coordinates is no longer
# the model that was trained, and a request does not set out from it.
_TOO_FAR = 0.1
_SHOWN = 256


@dataclass(frozen=True)
class NewCoordinates:
    """What becomes of the features of the stored rows.

    Attributes
    ----------
    X : ndarray of shape (n_stored, n_new)
        The stored rows, in order, in new coordinates; those that are about to go, too. May be sparse.

    columns : int64 ndarray of shape (n_new,), or None
        Which of the present features these are; None where rows are no vectors, and X has them whole, as stored.

    scale, shift : float64 ndarray of shape (n_new,), or None
        Where that is the whole change for the rows that stay, ``X = scale * X_before[:, columns] + shift``.

    names : ndarray of str of shape (n_new,), or None
        Names of the features.

    codes : list of (int64 ndarray, or None), or None
        For each feature that is a code, the new code of each old one, all of them different: codes that only rows that
        are about to go have come last. They change before scale and shift. None for the others, and where none changes.

    apart : int64 ndarray
        Rows with values that scale and shift do not bring about: such as were missing, and are filled in otherwise.
    """

    X: Any
    columns: NDArray[np.int64] | None
    scale: NDArray[np.float64] | None = None
    shift: NDArray[np.float64] | None = None
    names: NDArray[np.object_] | None = None
    codes: list[NDArray[np.int64] | None] | None = None
    apart: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class Moved:
    """An estimator in new coordinates.

    Attributes
    ----------
    estimator : BaseUnlearnable
        With rows, net and state of its own, so that nothing that is done to it reaches the one that predicts.

    is_far : bool
        Whether its net predicts otherwise than before, so that a request had better train anew.

    notes : list of str
        What the reader of the report should know.
    """

    estimator: BaseUnlearnable
    is_far: bool = False
    notes: list[str] = field(default_factory=list)


def shadowed(estimator: BaseUnlearnable, to: NewCoordinates, gone: NDArray[np.int64]) -> Moved:
    """Return an estimator like another, in new coordinates.

    The first layer takes an affine change into itself, where it is one that can, and tables of embeddings are put into
    the order of new codes: predictions are then what they were.
    A net keeps the width of its input; columns that have gone are zero in all rows that stay.

    Parameters
    ----------
    estimator : BaseUnlearnable
        Fitted, with stored rows of one dimension each; not changed.

    to : NewCoordinates

    gone : int64 ndarray
        Slots of rows that are about to go.
    """
    return _moved(estimator, twin(estimator.net_, share_tensors=False), to, gone)


def trainable(estimator: BaseUnlearnable, to: NewCoordinates | None) -> BaseUnlearnable:
    """Return an estimator like another, in new coordinates if they move, whose net can be trained further.

    Parameters
    ----------
    estimator, to
        As for :func:`shadowed`.
    """
    net, none = training_copy(estimator.net_), np.empty(0, dtype=np.int64)
    if to is not None:
        return _moved(estimator, net, to, none).estimator
    rows = estimator.training_set_
    return _like(estimator, net, rows.with_features(rows.raw_X.copy()))


def _moved(estimator: BaseUnlearnable, net: NeuralNet, to: NewCoordinates, gone: NDArray[np.int64]) -> Moved:
    rows, state = estimator.training_set_, estimator.unlearning_state_
    if to.columns is None:
        return _of_whole_rows(estimator, net, to, gone)
    width = rows.raw_X.shape[1]
    filled = np.arange(width) if state.filled is None else state.filled
    X, constant = _features(rows, to, filled, gone)
    some = np.flatnonzero(rows.trained_mask_without(gone))[:_SHOWN]
    recoding = _recoding(net, to, filled, rows, some) if state.recording is None else None
    fold = None
    if to.scale is not None and (recoding is not None or to.codes is None):
        fold = folded(net, _column_map(to, filled, constant), dense(X[some]), rows.raw_y[some])
    new_rows = rows.with_features(X)
    shadow = _like(estimator, net, new_rows)
    apart, columns = np.flatnonzero(rows.live_mask)[to.apart], filled[to.columns]
    anchor = state.anchor
    if anchor is not None:
        anchor = _anchor(estimator, net, new_rows, anchor, recoding, fold, gone, apart)
    shadow.unlearning_state_ = replace(
        state,
        row_shape=(len(columns),),
        filled=None if len(columns) == width else columns,
        anchor=anchor,
        start=state.start if state.start is None or recoding is None else recoding.start(state.start),
        features=state.features if fold is not None and not len(apart) else None,
        retained_set=None if rows.raw_source is None else state.retained_set,
        served=digest_parameters(estimator.net_),
    )
    shadow.n_features_in_ = len(columns)
    if to.names is not None:
        shadow.feature_names_in_ = to.names
    notes = []
    if len(columns) < len(filled):
        notes.append(_NARROWER.format(n=len(filled) - len(columns)))
    may_be_far = fold is None or len(apart) > 0
    is_far = may_be_far and _has_moved(estimator.net_, net, rows, new_rows, some)
    if is_far:
        notes.append(_FAR)
    return Moved(shadow, is_far, notes)


_FAR = (
    "Without the rows the steps before the net give the others features that the fitted net would misread, such as "
    "other codes of categories; it was trained anew on them."
)


def _of_whole_rows(estimator: BaseUnlearnable, net: NeuralNet, to: NewCoordinates, gone: NDArray[np.int64]) -> Moved:
    """Return an estimator whose rows are exchanged whole, and whose net stays as it is."""
    rows, state = estimator.training_set_, estimator.unlearning_state_
    X = np.zeros_like(rows.raw_X)
    X[rows.live_mask] = to.X
    new_rows = rows.with_features(X)
    shadow = _like(estimator, net, new_rows)
    anchor = state.anchor
    if anchor is not None:
        anchor = _anchor(estimator, net, new_rows, anchor, None, None, gone, np.empty(0, dtype=np.int64))
    shadow.unlearning_state_ = replace(
        state,
        anchor=anchor,
        features=None,
        retained_set=None if rows.raw_source is None else state.retained_set,
        served=digest_parameters(estimator.net_),
    )
    some = np.flatnonzero(rows.trained_mask_without(gone))[:_SHOWN]
    return Moved(shadow, _has_moved(estimator.net_, net, rows, new_rows, some))


_NARROWER = (
    "{n} features that only erased rows had are gone. The net keeps the width of its input, with zeros in their place; "
    "how many there were can be seen, and nothing else of them."
)


def _features(
    rows: TrainingSet, to: NewCoordinates, filled: NDArray[np.int64], gone: NDArray[np.int64]
) -> tuple[Any, NDArray[np.float64]]:
    """Return features of all slots at the width of the net, and what a column that vanishes was for rows that stay."""
    old, live = rows.raw_X, np.flatnonzero(rows.live_mask)
    if isinstance(old, SparseRows):
        return _sparse_features(old, live, to, filled, gone)
    if len(live) == len(old) and np.array_equal(filled[to.columns], np.arange(old.shape[1])):
        return to.X.astype(old.dtype), np.zeros(old.shape[1])
    X, columns = np.zeros_like(old), filled[to.columns]
    if np.array_equal(columns, np.arange(old.shape[1])):
        X[live] = to.X
    else:
        X[np.ix_(live, columns)] = to.X
    vanishing = np.setdiff1d(filled, filled[to.columns])
    constant = np.zeros(old.shape[1])
    stay = np.setdiff1d(live, gone, assume_unique=True)
    for column in vanishing:
        value = old[stay[0], column]
        if (old[stay, column] == value).all():
            constant[column] = value
            # An input that only these rows have is how the engine knows which weights learnt from them alone.
            X[gone, column] = old[gone, column] - value
    return X, constant


def _sparse_features(
    old: SparseRows, live: NDArray[np.int64], to: NewCoordinates, filled: NDArray[np.int64], gone: NDArray[np.int64]
) -> tuple[SparseRows, NDArray[np.float64]]:
    """Do the same for sparse rows, of which a few columns at most vanish."""
    n_rows, width = old.shape
    moved = SparseRows(to.X, old.dtype).at_columns(filled[to.columns], width)
    X = old.with_rows(np.arange(n_rows)).with_rows(live, moved)
    constant = np.zeros(width)
    vanishing = np.setdiff1d(filled, filled[to.columns])
    stay = np.setdiff1d(live, gone, assume_unique=True)
    kept, leaving = (old[rows].csr[:, vanishing].tocsc() for rows in (stay, gone))
    wide = X[gone].csr.tolil()
    for k, column in enumerate(vanishing):
        values = kept[:, [k]].toarray().reshape(-1)
        if (values == values[0]).all():
            constant[column] = values[0]
            wide[:, [column]] = leaving[:, [k]].toarray() - values[0]
    return X.with_rows(gone, SparseRows(wide, old.dtype)), constant


def _column_map(to: NewCoordinates, filled: NDArray[np.int64], constant: NDArray[np.float64]) -> ColumnMap:
    """Return how a row is had back from its new coordinates, at the width of the net."""
    assert to.scale is not None
    assert to.shift is not None
    rho, delta = np.ones(len(constant)), constant.copy()
    columns = filled[to.columns]
    rho[columns], delta[columns] = 1 / to.scale, -to.shift / to.scale
    return ColumnMap(rho, delta)


def _like(estimator: BaseUnlearnable, net: NeuralNet, rows: TrainingSet) -> BaseUnlearnable:
    shadow: BaseUnlearnable = object.__new__(type(estimator))
    shadow.__dict__.update(estimator.__dict__)
    shadow.net_, shadow.training_set_, shadow._journal = net, rows, rows.journal
    shadow.unlearning_history_ = list(estimator.unlearning_history_)
    return shadow


def _anchor(
    estimator: BaseUnlearnable,
    net: NeuralNet,
    rows: TrainingSet,
    anchor: Anchor,
    recoding: Recoding | None,
    fold: Fold | None,
    gone: NDArray[np.int64],
    apart: NDArray[np.int64],
) -> Anchor:
    """Return what is known of the stored rows, in new coordinates."""
    residual = anchor.residual if recoding is None else recoding.flat(anchor.residual)
    residual = residual if fold is None else fold.gradient(residual)
    # To go through some rows twice is dearer than through all once where they are half.
    takes_anew = fold is None or (len(apart) > 0 and (recoding is not None or 2 * len(apart) >= len(rows)))
    sides = ((estimator.net_, estimator.training_set_), (net, rows))
    left, come = (None, None) if takes_anew else (_part_of(*each, apart, anchor.mass) for each in sides)
    if fold is None or left is None or come is None or left.draws or come.draws:
        return replace(first_anchor(net, rows, estimator.unlearning_state_.seed, keeps_rows=True), residual=residual)
    decay = left.decay
    if recoding is not None:
        anchor, decay = replace(anchor, **recoding.of_anchor(anchor)), recoding.flat(decay)
    gradient = fold.gradient(anchor.gradient - decay - left.gradient) + come.decay + come.gradient
    # What the weight decay pulls at otherwise under the new coordinates is a part of what the request brings.
    old = as_seen(estimator.net_, dense(estimator.training_set_.raw_X[gone]))
    new = as_seen(net, dense(rows.raw_X[gone]))
    inputs = anchor.inputs if left.inputs is None or anchor.inputs is None else anchor.inputs.minus(left.inputs)
    if inputs is not None and (recoding is None or fold.change.moves):
        inputs = fold.inputs(inputs, old, new)
    inputs = inputs if come.inputs is None or inputs is None else inputs.plus(come.inputs)
    return replace(anchor, residual=residual, gradient=gradient, inputs=inputs)


class _Part(NamedTuple):
    """The weight decay's part of a gradient, and that of some rows: in it, and in what linear maps are given."""

    decay: Tensor
    gradient: Tensor | float = 0.0
    inputs: LayerInputs | None = None
    draws: bool = False  # random numbers, so that parts do not add up


def _part_of(net: NeuralNet, rows: TrainingSet, slots: NDArray[np.int64], mass: float) -> _Part:
    slots = slots[rows.trained_mask[slots]]
    some = slots if len(slots) else np.zeros(1, dtype=np.int64)
    weight = rows.raw_weight
    risk = EmpiricalRisk(net, rows.raw_X[some], rows.raw_y[some], None if weight is None else weight[some])
    w = risk.parameters()
    decay = risk.penalty_gradient(w)
    if not len(slots):
        return _Part(decay.cpu())
    _, gradient, inputs = risk.value_gradient_and_inputs(w)
    return _Part(decay.cpu(), (risk.mass / mass * (gradient - decay)).cpu(), inputs, risk.draws)


def _recoding(
    net: NeuralNet, to: NewCoordinates, filled: NDArray[np.int64], rows: TrainingSet, some: NDArray[np.int64]
) -> Recoding | None:
    """Put the tables of a net into the order of new codes, where it looks them up by these."""
    if to.codes is None or to.columns is None:
        return None
    orders = {int(filled[column]): order for column, order in zip(to.columns, to.codes, strict=True)}
    known = {column: order for column, order in orders.items() if order is not None}
    return recoded(net, known, dense(rows.raw_X[some]), rows.raw_y[some])


def _has_moved(
    net: NeuralNet, other: NeuralNet, rows: TrainingSet, new_rows: TrainingSet, some: NDArray[np.int64]
) -> bool:
    """Tell whether a net predicts otherwise for rows in new coordinates."""
    outputs: list[Tensor | None] = []
    for each, stored in ((net, rows), (other, new_rows)):
        risk = EmpiricalRisk(twin(each), stored.raw_X[some], stored.raw_y[some])
        outputs.append(some_outputs(risk, flat_parameters(each)))
    before, after = outputs
    if before is None or after is None:
        return True
    change = float((after - before).square().mean().sqrt())
    return change > _TOO_FAR * float(before.std(dim=0).square().mean().sqrt())
