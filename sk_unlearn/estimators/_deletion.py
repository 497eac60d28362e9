"""The way of a deletion: from the rows that change to a problem, and from its solution to a committed estimator."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn.estimators._batch_norm import batch_norm_layers, reestimate_batch_norm
from sk_unlearn.risks.combined import CombinedRisk
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.quadratic import CurvatureSketch, QuadraticRisk
from sk_unlearn.rows import TrainingSet, sample_mask
from sk_unlearn.unlearners.base import UnlearningResult

__all__ = [
    "Anchor",
    "Change",
    "Commit",
    "added_risk",
    "foreign_risk",
    "load_flat",
    "numbers_among_trained",
    "removed_risk",
    "retained_risk",
    "rows_after",
    "stored_risk",
    "uninterrupted",
]

_BATCH_NORM_ROWS = 2048


@dataclass(frozen=True)
class Anchor:
    """What a deletion needs to know about the rows that stay, in numbers that do not grow with them.

    Attributes
    ----------
    residual : Tensor of shape (d,)
        The gradient of the risk that training left, held as the target of every request.

    gradient : Tensor of shape (d,)
        The gradient of the risk over the present rows at the present parameters.

    mass : float
        Sum of the weights of the present rows.

    n_rows : int
        Their number.

    sketch : CurvatureSketch or None
        The curvature, when the rows themselves are not kept.
    """

    residual: Tensor
    gradient: Tensor
    mass: float
    n_rows: int
    sketch: CurvatureSketch | None = None


@dataclass(frozen=True)
class Change:
    """The rows that a request touches.

    Attributes
    ----------
    positions : ndarray of int64
        Slots of stored rows that leave, or whose content is replaced.

    new_X, new_y : ndarray or None
        New content of those slots (rectification).

    foreign_X, foreign_y : ndarray or None
        Rows that were trained on but are not stored.
    """

    positions: NDArray[np.int64]
    new_X: NDArray[Any] | None = None  # noqa: N815
    new_y: NDArray[Any] | None = None
    foreign_X: NDArray[Any] | None = None  # noqa: N815
    foreign_y: NDArray[Any] | None = None

    @property
    def replaces(self) -> bool:
        return self.new_X is not None

    @property
    def n_foreign(self) -> int:
        return 0 if self.foreign_X is None else len(self.foreign_X)


def stored_risk(net: NeuralNet, rows: TrainingSet, mask: NDArray[np.bool_] | None = None) -> EmpiricalRisk:
    """Return the risk over the stored rows that were trained on, or over those of a mask."""
    mask = rows.trained_mask if mask is None else mask
    return EmpiricalRisk(net, rows.raw_X, rows.raw_y, rows.raw_weight, mask=mask)


def numbers_among_trained(rows: TrainingSet, change: Change) -> NDArray[np.int64]:
    """Return the numbers of the changed rows among the stored rows that had entered a gradient, ascending."""
    trained = rows.trained_mask
    touched = np.sort(change.positions[trained[change.positions]])
    return np.searchsorted(np.flatnonzero(trained), touched).astype(np.int64)


def removed_risk(net: NeuralNet, rows: TrainingSet | None, change: Change) -> EmpiricalRisk:
    """Return the risk over the trained rows that leave, stored or handed in, with their old content."""
    X, y, weight = [], [], []
    if rows is not None:
        at = change.positions[rows.trained_mask[change.positions]]
        X.append(rows.raw_X[at])
        y.append(rows.raw_y[at])
        weight.append(np.ones(len(at)) if rows.raw_weight is None else rows.raw_weight[at])
    if change.foreign_X is not None and change.foreign_y is not None:
        X.append(change.foreign_X)
        y.append(change.foreign_y)
        weight.append(np.ones(len(change.foreign_X)))
    return EmpiricalRisk(net, np.concatenate(X), np.concatenate(y), np.concatenate(weight))


def added_risk(net: NeuralNet, rows: TrainingSet | None, change: Change) -> list[EmpiricalRisk]:
    """Return the risk over the new content of rectified rows that were trained on; empty for none."""
    if rows is None or change.new_X is None or change.new_y is None:
        return []
    trained = rows.trained_mask[change.positions]
    if not trained.any():
        return []
    weight = None if rows.raw_weight is None else rows.raw_weight[change.positions[trained]]
    return [EmpiricalRisk(net, change.new_X[trained], change.new_y[trained], weight)]


def foreign_risk(net: NeuralNet, change: Change) -> list[EmpiricalRisk]:
    """Return the risk over rows handed in that are not stored; empty for none."""
    if change.foreign_X is None or change.foreign_y is None:
        return []
    return [EmpiricalRisk(net, change.foreign_X, change.foreign_y)]


def retained_risk(
    net: NeuralNet, rows: TrainingSet | None, anchor: Anchor, change: Change, w: Tensor
) -> EmpiricalRisk | CombinedRisk | QuadraticRisk:
    """Return the risk over the rows that count after the change."""
    if rows is None:
        assert anchor.sketch is not None
        sketch, foreign = anchor.sketch.to(w.device), foreign_risk(net, change)
        present = QuadraticRisk(w, anchor.gradient.to(w), sketch, anchor.mass)
        after = CombinedRisk(present, removed=foreign)
        # The rows that leave are expanded too: taken away exactly from a quadratic they would not cancel their own part
        # of it, and what is left would fall without end as their loss grows.
        return QuadraticRisk(w, after.gradient(w), sketch.updated(anchor.mass, w, removed=foreign), after.mass)
    stored = stored_risk(net, rows, rows.trained_mask_without(change.positions))
    added, foreign = added_risk(net, rows, change), foreign_risk(net, change)
    return CombinedRisk(stored, added=added, removed=foreign) if added or foreign else stored


def rows_after(
    rows: TrainingSet, change: Change, slots: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None]:
    """Return X, y and weight of the given slots with the content they have after the change."""
    X, y = rows.raw_X[slots], rows.raw_y[slots]
    if change.new_X is not None and change.new_y is not None:
        _, at, source = np.intersect1d(slots, change.positions, assume_unique=True, return_indices=True)
        X[at], y[at] = change.new_X[source], change.new_y[source]
    return X, y, None if rows.raw_weight is None else rows.raw_weight[slots]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C until the context ends, so that what is inside happens whole or not at all."""
    if threading.current_thread() is not threading.main_thread():  # Python delivers the signal to the main thread only
        yield
        return
    held: list[tuple[int, Any]] = []
    previous = signal.getsignal(signal.SIGINT)
    if previous is None:  # installed from outside Python: not ours to replace
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if held and callable(previous):
            previous(*held[0])


class Commit:
    """Carry a result over into the net and the training set, all or nothing.

    Parameters
    ----------
    net : skorch.NeuralNet
        The fitted net; changed in place, so that whoever holds it holds the forgetful one.

    rows : TrainingSet or None
        The stored rows.

    change : Change
        Which rows leave or are replaced.

    result : UnlearningResult or None
        None when no parameter moves.

    role : ndarray of shape (n_retained,), dtype=int8, or None
        What the rows that stay, in their order, were used for when ``result`` comes from a training of its own.
    """

    def __init__(
        self,
        net: NeuralNet,
        rows: TrainingSet | None,
        change: Change,
        result: UnlearningResult | None,
        role: NDArray[np.int8] | None = None,
    ) -> None:
        self.net = net
        self.rows = rows
        self.change = change
        self.result = result
        self.role = role
        self.notes: list[str] = []

    def run(self, anchor: Anchor | None, rng: np.random.Generator, assign: Callable[[Anchor | None], None]) -> None:
        """Load the result, re-estimate statistics, let ``assign`` store the new anchor, and drop the rows for good.

        Parameters
        ----------
        anchor : Anchor or None
            The anchor as it will be if no statistics are re-estimated; None when it is to be taken over the stored
            rows.

        rng : numpy.random.Generator
            Draws the rows that statistics are re-estimated on.

        assign : callable
            Stores the final anchor and the report in the estimator.

        Notes
        -----
        The caller runs it in :func:`uninterrupted`, together with undoing ``assign`` should it fail.
        """
        backup = {name: value.detach().clone() for name, value in self.net.module_.state_dict().items()}
        optimisers = [getattr(self.net, name + "_") for name in self.net._optimizers]
        states = [optimiser.state for optimiser in optimisers]
        try:
            if self.result is not None:
                anchor = self._load(self.result, anchor, rng)
            for optimiser in optimisers:
                optimiser.state = type(optimiser.state)(dict)
            assign(anchor)
            self._change_rows()
        except BaseException:
            self.net.module_.load_state_dict(backup)
            for optimiser, state in zip(optimisers, states, strict=True):
                optimiser.state = state
            raise
        # From here on nothing can fail. The last batch's gradients may be those of an erased row.
        for parameter in self.net.module_.parameters():
            parameter.grad = None

    def _load(self, result: UnlearningResult, anchor: Anchor | None, rng: np.random.Generator) -> Anchor | None:
        module = self.net.module_
        if result.trained is not None:
            module.load_state_dict(result.trained.net.module_.state_dict())
            return anchor
        load_flat(self.net, result.parameters)
        if not batch_norm_layers(module):
            return anchor
        if self.rows is None:
            self.notes.append(
                "BatchNorm statistics still carry the erased rows: re-estimating them needs keep_training_set=True."
            )
            return anchor
        X, y, weight = rows_after(self.rows, self.change, self._slots_for_statistics(self.rows, rng))
        if len(X) < 2:
            self.notes.append("BatchNorm statistics still carry the erased rows: a single row has no variance.")
            return anchor
        risk = EmpiricalRisk(self.net, X, y, weight)
        before = risk.gradient(result.parameters)
        reestimate_batch_norm(self.net, X)
        if anchor is None:
            return None
        # New statistics make a new function of the same parameters: the target moves with the gradient, or the next
        # request would take the difference for something to undo.
        shift = (risk.gradient(result.parameters) - before).to(anchor.residual)
        return Anchor(anchor.residual + shift, anchor.gradient + shift, anchor.mass, anchor.n_rows, anchor.sketch)

    def _slots_for_statistics(self, rows: TrainingSet, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw trained rows that count after the change, in random order."""
        stay = rows.trained_mask if self.change.replaces else rows.trained_mask_without(self.change.positions)
        return rng.permutation(sample_mask(stay, int(np.count_nonzero(stay)), _BATCH_NORM_ROWS, rng))

    def _change_rows(self) -> None:
        if self.rows is None:
            return
        # A copy that grows with the rows: made only where roles change.
        old_role = None if self.role is None else self.rows.role
        try:
            if self.role is not None:
                stay = self.rows.live_mask.copy()
                stay[self.change.positions] = self.change.replaces
                self.rows.set_role(np.flatnonzero(stay), self.role)
            if not len(self.change.positions):
                return
            if self.change.replaces:
                self.rows.replace(self.change.positions, self.change.new_X, self.change.new_y)
            else:
                self.rows.drop(self.change.positions)
        except BaseException:
            if old_role is not None:
                self.rows.set_role(None, old_role)
            raise


@torch.no_grad()
def load_flat(net: NeuralNet, w: Tensor) -> None:
    """Set the trainable parameters of a net to those of a flat vector."""
    parameters = [p for p in net.module_.parameters() if p.requires_grad]
    for parameter, values in zip(parameters, w.split([p.numel() for p in parameters]), strict=True):
        parameter.copy_(values.view_as(parameter))
