"""Cubic steps in the output layer alone, over features held fixed, on a sample of rows that grows as it must."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.output_layer import KeptFeatures, LayerPoint, LayerRisk, OutputLayer
from sk_unlearn.solvers.adaptive import AdaptiveWeight, first_weight
from sk_unlearn.unlearners.cubic._ceiling import Ceiling
from sk_unlearn.unlearners.cubic._direction import Krylov
from sk_unlearn.unlearners.cubic._policy import Policy
from sk_unlearn.unlearners.cubic._sampling import Sampling
from sk_unlearn.unlearners.cubic._state import State, added_parts
from sk_unlearn.unlearners.cubic._stopping import Ending
from sk_unlearn.unlearners.status import Status

__all__ = ["OutputLayerStage"]

_NOT_ALONE = (
    "The output layer was not moved on its own, because {}; all steps were taken in the whole network. A module of "
    "your own can end in a plain nn.Linear (a softmax or sigmoid may follow); Retrain() leaves nothing of the rows."
)


_AT_REST = "the output layer came to rest"
_AT_THE_CEILING = "the erased rows cost what rows of another class do, and the output layer went no further"


@dataclass(frozen=True)
class OutputLayerStage:
    """Minimise Φ in the parameters of the output layer, by adaptive cubic steps.

    It does nothing where the net has no such layer, where its rows are not at hand, and where the gradient has no part
    in the layer.

    Attributes
    ----------
    policy : Policy

    sampling : Sampling
        Of the steps in the whole network. If it reads only some rows, no such step follows a layer that could be
        solved for: on few rows they take the network further away than they bring it near.

    Notes
    -----
    A step is tried on rows that it was not computed from, as long as there are any. Few rows and a whole class to
    forget make a problem that is unbounded below; a cubic term chosen on the same rows would not notice.
    """

    policy: Policy
    sampling: Sampling

    def run(self, state: State) -> Ending | None:
        """Take steps in the layer; see :class:`Stage`."""
        layer, stored = state.output_layer, state.objective.risk.stored
        # The built-in network scales what its last layer gives, and nobody who uses it can do anything about that.
        if state.why_no_output_layer and not state.problem.is_built_in:
            state.remarks.append(_NOT_ALONE.format(state.why_no_output_layer))
        if layer is None or stored is None or not bool(layer.extract(state.gradient).any()):
            return None
        state.begin_move()
        sample = _GrowingSample(state, layer, stored, self.policy)
        reason = self._steps(state, layer, sample)
        if self.sampling.reads_all:
            return None
        # In the layer more rows tell the gradient, and requests to come begin with it.
        gradient = sample.gradient_at(layer.extract(state.w))
        state.features = None if stored.draws else sample.kept()
        # No stage follows that may go back, and the gradient takes most memory.
        del sample
        state.end_move()
        state.gradient = layer.insert(self.sampling.gradient_at_end(state, self.policy), gradient)
        state.gradient_lags = False
        return state.stopping.ending(state.gradient_norm) or self._ending(state, reason)

    @staticmethod
    def _ending(state: State, reason: str) -> Ending:
        if not reason:
            reason = f"took {len(state.trace)} steps and the output layer had not come to rest"
            return Ending(Status.BUDGET_SPENT, reason)
        if not any(record["taken"] for record in state.trace):
            return Ending(Status.STALLED, "no step in the output layer lowers the objective")
        return Ending(Status.SETTLED, reason)

    def _steps(self, state: State, layer: OutputLayer, sample: _GrowingSample) -> str:
        """Take steps until one changes nothing to speak of, and tell why no more are needed; nothing where some are."""
        policy, first = self.policy, state.w
        watched = _WatchedPredictions(state, layer, policy)
        control = AdaptiveWeight(None, shrink=policy.layer_shrink)
        solver = Krylov(policy.layer_products, policy.layer_inexact, policy.layer_check_every)
        ceiling = Ceiling.of(watched.risk, sample.blocks[0].risk, policy)
        v, reason = sample.start, ""
        most = len(state.trace) + policy.layer_max_steps
        while not reason and len(state.trace) < min(state.stopping.max_steps, most):
            point = sample.linearise(v)
            model = solver.model(point.hessian, point, control.L)
            if control.L is None:
                assert model.spectrum is not None
                control.L = first_weight(model.spectrum, policy.first_damping)
            fresh = sample.read()
            # Where fresh rows disagree, learning from them is better than the short step on which they would agree.
            max_tries = None if fresh is None else policy.fresh_tries
            tried = control.step(model, sample.decrease_from(v, fresh), max_tries=max_tries)
            share = ceiling.share(v, tried.step) if tried.taken and ceiling is not None else 1.0
            actual = tried.record["actual"] if share == 1 else sample.decrease_from(v, fresh)(share * tried.step)
            state.record(
                {
                    **tried.record,
                    "step_norm": share * tried.record["step_norm"],
                    "actual": actual,
                    "block": "output layer",
                    "gradient_norm": float(point.gradient.norm()),
                    "n_rows": sample.n_rows,
                    "n_products": model.n_products,
                }
            )
            if tried.taken:
                v = v + share * tried.step
                state.w, state.gradient_lags = layer.insert(first, v), True
                if share < 1:
                    reason = _AT_THE_CEILING
                elif watched.at_rest(v):
                    reason = _AT_REST
            elif fresh is None:
                reason = _AT_REST
            sample.add(fresh, v)
        return reason


@dataclass(frozen=True)
class _Block:
    """Some rows: their risk in the layer's parameters, and its value and gradient at the start."""

    rows: NDArray[np.int64]
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

    def __init__(self, state: State, layer: OutputLayer, stored: EmpiricalRisk, policy: Policy) -> None:
        self.policy, self.risk, self.layer, self.w = policy, stored, layer, state.w
        self.start, self.gradient = layer.extract(self.w), layer.extract(state.gradient)
        rng, n_erased = state.problem.rng, state.problem.erased.n_rows
        self.known = _known_features(state, stored)
        drawn = rng.permutation(stored.sample(min(stored.n_rows, policy.max_rows), rng))
        # Rows whose features are known come first: to read others takes a pass through the network.
        self.unread = np.concatenate([self.known.rows, drawn[~np.isin(drawn, self.known.rows)]])[: policy.max_rows]
        self.blocks: list[_Block] = []
        self.added: list[_Block] = []
        for part in added_parts(state.problem.retained) or ():
            risk = layer.risk(part, self.w, np.arange(part.n_rows))
            self.added.append(_Block(np.arange(part.n_rows), risk, part.mass, *risk.value_and_gradient(self.start)))
        self.grows = True
        # Half of all rows that may be read are left for judging the first step.
        first = min(max(policy.first_rows, int(policy.rows_per_erased * n_erased)), policy.max_rows // 2)
        self.add(self.read(first), self.start)
        if len(self.unread) <= first:  # too few to keep any for judging steps
            self.add(self.read(first), self.start)

    @property
    def n_rows(self) -> int:
        return sum(len(block.risk) for block in self.blocks)

    def read(self, size: int | None = None) -> _Block | None:
        """Read as many rows again as there are; None when the sample grows no more."""
        if size is None:
            size = self.n_rows
            if len(self.unread) <= (1 + self.policy.fewest_judges) * size:
                size = len(self.unread)  # what is left after them would be too few to judge the next step
        rows, self.unread = self.unread[:size], self.unread[size:]
        if not self.grows or not len(rows):
            return None
        risk = self.layer.risk(self.risk, self.w, rows, self._features_of(rows))
        return _Block(rows, risk, self.risk.mass_of(rows), *risk.value_and_gradient(self.start))

    def _with_added(self, blocks: Sequence[_Block]) -> list[_Block]:
        """Return blocks of stored rows with the rows that were added, which count as much as among all rows."""
        if not self.added:
            return list(blocks)
        share = sum(block.mass for block in blocks) / self.risk.mass
        return [*(replace(block, mass=share * block.mass) for block in self.added), *blocks]

    def _features_of(self, rows: NDArray[np.int64]) -> Tensor | None:
        """Return the features of the rows that come next; None where none of them is known."""
        n_read = sum(len(block.rows) for block in self.blocks)
        known = self.known.values[n_read : n_read + len(rows)]
        if not len(known):
            return None
        if len(known) < len(rows):
            known = torch.cat([known, self.layer.risk(self.risk, self.w, rows[len(known) :]).features.to(known)])
        return known

    def kept(self) -> KeptFeatures:
        """Return the features of as many of the rows read as are worth keeping for the next request."""
        most = self.policy.kept_rows
        rows = np.concatenate([block.rows for block in self.blocks])[:most]
        return KeptFeatures(rows, torch.cat([block.risk.features for block in self.blocks])[:most].cpu())

    def add(self, block: _Block | None, v: Tensor) -> None:
        """Take rows in, and stop growing once rows that had no say in v agree with it."""
        self.grows = len(self.unread) > 0 and self.grows
        if block is None:
            return
        if self.blocks:
            gradient = self.gradient + block.risk.gradient(v) - block.gradient
            self.grows &= float(gradient.norm()) > self.policy.agreeing_share * float(self.gradient.norm())
        self.blocks.append(block)

    def decrease_from(self, v: Tensor, fresh: _Block | None) -> Callable[[Tensor], float]:
        """Return the function that measures how far a step from v lowers Φ, on fresh rows if there are any.

        A step that costs retained rows more than a little of their loss lowers nothing: what training had left undone
        tilts Φ, and along directions that the data hardly bend it falls while the model gets worse.
        """
        blocks = self.blocks if fresh is None else [fresh]
        allowed = (1 + self.policy.max_cost) * sum(block.mass * block.value for block in self._with_added(blocks))
        value = self._objective(blocks, v)[0]

        def decrease(step: Tensor) -> float:
            after, loss = self._objective(blocks, v + step)
            return value - after if loss <= allowed else -float("inf")

        return decrease

    def _objective(self, blocks: list[_Block], v: Tensor) -> tuple[float, float]:
        """Return Φ less its value at the start, and the risk summed over rows."""
        moved = v - self.start
        change = loss = mass = 0.0
        for block in self._with_added(blocks):
            value = block.risk.value(v)
            change += block.mass * (value - block.value - float(block.gradient @ moved))
            loss += block.mass * value
            mass += block.mass
        return change / mass + float(self.gradient @ moved), loss

    def gradient_at(self, v: Tensor) -> Tensor:
        """Return the gradient of Φ by all rows read."""
        blocks = self._with_added(self.blocks)
        mass = sum(block.mass for block in blocks)
        changes = (block.mass / mass * (block.risk.gradient(v) - block.gradient) for block in blocks)
        return sum(changes, self.gradient)

    def linearise(self, v: Tensor) -> _Point:
        """Return the gradient of all rows read, and the curvature of no more than are needed for it."""
        blocks = self._with_added(self.blocks)
        mass = sum(block.mass for block in blocks)
        gradient, n_curved = self.gradient.clone(), 0
        curved: list[tuple[float, LayerPoint]] = []
        for block in blocks:
            if n_curved < self.policy.curvature_rows:
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


def _known_features(state: State, stored: EmpiricalRisk) -> KeptFeatures:
    """Return the features that earlier requests have left; none where they are drawn at random."""
    kept = state.problem.features
    if kept is None or stored.draws:
        return KeptFeatures(np.empty(0, dtype=np.int64), torch.empty(0))
    return kept


class _WatchedPredictions:
    """What the layer predicts for erased rows, and whether it has come to rest."""

    def __init__(self, state: State, layer: OutputLayer, policy: Policy) -> None:
        erased = state.problem.erased
        rows = erased.sample(min(erased.n_rows, policy.watched_rows), state.problem.rng)
        self.policy, self.risk = policy, layer.risk(erased, state.w, rows)
        self.first = self.last = self.risk.predictions(self.risk.start)

    def at_rest(self, v: Tensor) -> bool:
        now = self.risk.predictions(v)
        changed, changed_in_all = _rms(now - self.last), _rms(now - self.first)
        self.last = now
        invisible = self.policy.invisible_change if self.risk.predicts_probabilities else 0.0
        return changed <= max(self.policy.settled_share * changed_in_all, invisible)


def _rms(change: Tensor) -> float:
    return float(change.square().sum(-1).mean().sqrt()) if change.ndim > 1 else float(change.square().mean().sqrt())
