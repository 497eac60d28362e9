"""Cubic steps in the output layer alone, over features held fixed, on a sample of rows that grows as it must."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.output_layer import LayerPoint, LayerRisk, OutputLayer, output_layer
from sk_unlearn.solvers import KrylovCubicModel, KrylovSpace, lanczos
from sk_unlearn.solvers.adaptive import AdaptiveWeight, first_weight
from sk_unlearn.unlearners.base import UnlearningProblem

__all__ = ["OutputLayerSteps", "solve_output_layer"]

# Rows read first: half as many as are erased, within reason. Each step then checks itself on as many again, which are
# added to them.
_FIRST_ROWS = 1024
# Where the sample stops growing: features cost a forward pass.
_MAX_ROWS = 8192
# Curvature is taken from the first of them: more rows make a step dearer and not much better.
_CURVATURE_ROWS = 4096
# Fresh rows whose gradient is this share of the first one tell nothing more.
_ENOUGH = 0.1
# Erased rows whose predictions are watched. The steps end when the last one changed these by no more than this share of
# all change, or, if they are probabilities, by no more than what a model trained again would change them by anyway.
_WATCHED_ROWS, _SETTLED, _INVISIBLE = 1024, 0.1, 1e-2
_MAX_STEPS, _N_PRODUCTS = 12, 12
_SHRINK, _FRESH_TRIES = 0.1, 2
# By how much a step may raise the risk over retained rows.
_MAX_COST = 0.02
# The model is solved to this share of its gradient and no further: the next step starts from a new one.
_INEXACT = 0.1


@dataclass(frozen=True)
class OutputLayerSteps:
    """Where the steps in the output layer ended.

    Attributes
    ----------
    parameters : Tensor of shape (d,)
        All parameters, of which those of the layer have moved.

    trace : list of dict
        One record a step.

    settled : bool
        Whether they ended because a further one would change nothing to speak of.
    """

    parameters: Tensor
    trace: list[dict[str, Any]]
    settled: bool

    @property
    def n_products(self) -> int:
        """Hessian-vector products spent, each over features only."""
        return sum(record["n_products"] for record in self.trace)

    def given_up(self) -> OutputLayerSteps:
        """Return the same with no step taken."""
        return replace(self, trace=[record | {"taken": False, "step_norm": 0.0} for record in self.trace])


def solve_output_layer(
    problem: UnlearningProblem, gradient: Tensor, *, max_steps: int = _MAX_STEPS
) -> OutputLayerSteps | None:
    """Minimise Φ in the parameters of the output layer, by adaptive cubic steps.

    Parameters
    ----------
    problem : UnlearningProblem

    gradient : Tensor of shape (d,)
        The gradient of Φ at the fitted parameters, over all rows.

    max_steps : int
        Most steps, if fewer than usual.

    Returns
    -------
    steps : OutputLayerSteps or None
        None where the net has no such layer, or where its rows are not at hand.

    Notes
    -----
    A step is tried on rows that it was not computed from, as long as there are any. Few rows and a whole class to
    forget make a problem that is unbounded below; a cubic term chosen on the same rows would not notice.
    """
    if not isinstance(problem.retained, EmpiricalRisk):
        return None
    layer, _ = output_layer(problem.retained)
    if layer is None or not bool(layer.extract(gradient).any()):
        return None
    started = time.perf_counter()
    sample = _GrowingSample(problem, problem.retained, layer, gradient)
    watched = _WatchedPredictions(problem, layer)
    v, weight = sample.start, AdaptiveWeight(None, shrink=_SHRINK)
    trace: list[dict[str, Any]] = []
    settled = False
    while not settled and len(trace) < min(max_steps, _MAX_STEPS):
        point = sample.linearise(v)
        space = lanczos(point.hessian, point.gradient, min(_N_PRODUCTS, len(v)), stop=_solved_for(weight.L))
        model = KrylovCubicModel(space)
        if weight.L is None:
            weight.L = first_weight(model.spectrum)
        fresh = sample.read()
        # Where fresh rows disagree, learning from them is better than the short step on which they would agree.
        tries = {} if fresh is None else {"max_tries": _FRESH_TRIES}
        tried = weight.step(model, sample.decrease_from(v, fresh), **tries)
        trace.append(
            tried.record
            | {"step": len(trace) + 1, "block": "output layer", "gradient_norm": space.start_norm}
            | {"n_rows": sample.n_rows, "n_products": space.n_products, "seconds": time.perf_counter() - started}
        )
        problem.report_step(trace[-1])
        if tried.taken:
            v = v + tried.step
            settled = watched.settled(v)
        else:
            settled = fresh is None
        sample.add(fresh, v)
    return OutputLayerSteps(layer.insert(problem.parameters, v), trace, settled)


def _solved_for(L: float | None) -> Callable[[KrylovSpace], bool] | None:
    if L is None:
        return None
    # Looking costs a small eigenproblem.
    return lambda space: (
        space.n_products % 4 == 0 and (KrylovCubicModel(space).residual(L) <= _INEXACT * space.start_norm)
    )


@dataclass(frozen=True)
class _Block:
    """Some rows: their risk in the layer's parameters, and its value and gradient at the start."""

    risk: LayerRisk
    mass: float
    value: float
    gradient: Tensor


@dataclass(frozen=True)
class _Point:
    gradient: Tensor
    hessian: Callable[[Tensor], Tensor]


class _GrowingSample:
    """Φ as a function of the layer's parameters, less its value at the start, over blocks of rows.

    Its gradient at the start is known over all rows; a block tells how it changes from there.
    """

    def __init__(self, problem: UnlearningProblem, risk: EmpiricalRisk, layer: OutputLayer, gradient: Tensor) -> None:
        self.risk, self.layer, self.w = risk, layer, problem.parameters
        self.start, self.gradient = layer.extract(self.w), layer.extract(gradient)
        self.unread = problem.rng.permutation(risk.sample(min(risk.n_rows, _MAX_ROWS), problem.rng))
        self.blocks: list[_Block] = []
        self.grows = True
        first = min(max(_FIRST_ROWS, problem.erased.n_rows // 2), _MAX_ROWS // 2)
        self.add(self.read(first), self.start)
        if len(self.unread) <= first:  # too few to keep any for judging steps
            self.add(self.read(first), self.start)

    @property
    def n_rows(self) -> int:
        return sum(len(block.risk) for block in self.blocks)

    def read(self, size: int | None = None) -> _Block | None:
        """Read as many rows again as there are; None when the sample grows no more."""
        if size is None:  # and do not leave so few that they would be a poor judge of a step
            size = self.n_rows if len(self.unread) > 1.5 * self.n_rows else len(self.unread)
        rows, self.unread = self.unread[:size], self.unread[size:]
        if not self.grows or not len(rows):
            return None
        risk = self.layer.risk(self.risk, self.w, rows)
        return _Block(risk, self.risk.mass_of(rows), *risk.value_and_gradient(self.start))

    def add(self, block: _Block | None, v: Tensor) -> None:
        """Take rows in, and stop growing once rows that had no say in v agree with it."""
        self.grows = len(self.unread) > 0 and self.grows
        if block is None:
            return
        if self.blocks:
            gradient = self.gradient + block.risk.gradient(v) - block.gradient
            self.grows &= float(gradient.norm()) > _ENOUGH * float(self.gradient.norm())
        self.blocks.append(block)

    def decrease_from(self, v: Tensor, fresh: _Block | None) -> Callable[[Tensor], float]:
        """Return the function that measures how far a step from v lowers Φ, on fresh rows if there are any.

        A step that costs retained rows more than a little of their loss lowers nothing: what training had left undone
        tilts Φ, and along directions that the data hardly bend it falls while the model gets worse.
        """
        blocks = self.blocks if fresh is None else [fresh]
        allowed = (1 + _MAX_COST) * sum(block.mass * block.value for block in blocks)
        value = self._objective(blocks, v)[0]

        def decrease(step: Tensor) -> float:
            after, loss = self._objective(blocks, v + step)
            return value - after if loss <= allowed else -float("inf")

        return decrease

    def _objective(self, blocks: list[_Block], v: Tensor) -> tuple[float, float]:
        """Return Φ less its value at the start, and the risk summed over rows."""
        moved = v - self.start
        change = loss = mass = 0.0
        for block in blocks:
            value = block.risk.value(v)
            change += block.mass * (value - block.value - float(block.gradient @ moved))
            loss += block.mass * value
            mass += block.mass
        return change / mass + float(self.gradient @ moved), loss

    def linearise(self, v: Tensor) -> _Point:
        """Return the gradient of all rows read, and the curvature of no more than are needed for it."""
        mass = sum(block.mass for block in self.blocks)
        gradient, n_curved = self.gradient.clone(), 0
        curved: list[tuple[float, LayerPoint]] = []
        for block in self.blocks:
            if n_curved < _CURVATURE_ROWS:
                point = block.risk.linearise(v)
                curved.append((block.mass, point))
                n_curved += len(block.risk)
                there = point.gradient
            else:
                there = block.risk.gradient(v)
            gradient += block.mass / mass * (there - block.gradient)
        curved_mass = sum(part for part, _ in curved)

        def hessian(s: Tensor) -> Tensor:
            return sum((part / curved_mass * point.hessian(s) for part, point in curved), torch.zeros_like(s))

        return _Point(gradient, hessian)


class _WatchedPredictions:
    """What the layer predicts for erased rows, and whether it has come to rest."""

    def __init__(self, problem: UnlearningProblem, layer: OutputLayer) -> None:
        erased = problem.erased
        rows = erased.sample(min(erased.n_rows, _WATCHED_ROWS), problem.rng)
        self.risk = layer.risk(erased, problem.parameters, rows)
        self.first = self.last = self.risk.predictions(self.risk.start)

    def settled(self, v: Tensor) -> bool:
        now = self.risk.predictions(v)
        changed, changed_in_all = _rms(now - self.last), _rms(now - self.first)
        self.last = now
        return changed <= max(_SETTLED * changed_in_all, _INVISIBLE if self.risk.predicts_probabilities else 0.0)


def _rms(change: Tensor) -> float:
    return float(change.square().sum(-1).mean().sqrt()) if change.ndim > 1 else float(change.square().mean().sqrt())
