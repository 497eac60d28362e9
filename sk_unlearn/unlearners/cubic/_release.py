"""Release: weights that none but erased rows moved go back to where training without data leads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sk_unlearn.risks.layer_inputs import DeadInputs
from sk_unlearn.risks.quadratic import QuadraticRisk
from sk_unlearn.unlearners.base import UnlearningProblem
from sk_unlearn.utils._float64 import double

__all__ = ["Release", "release"]

_NO_START = (
    "Weights of {names} that none but the erased rows used keep what they learnt from them, because it is not known "
    "where training started. Fit with keep_initial=True, give initial_parameters to from_fitted, or use Retrain()."
)
_NO_STEPS = (
    "The steps of training are not known: weights that none but the erased rows used went back to where training "
    "started, without the weight decay that there may have been."
)
_USED_OTHERWISE = (
    "Weights of {names} were not released: none but the erased rows seem to have used them, and yet the loss of the "
    "others depends on them."
)
_RELEASED = (
    "Release: {n} weights of {names} went back to where training leads without data; only erased rows used them."
)

# The gradient of retained rows along a dead direction is no more than this share of what the weight has. So many rows
# are looked at.
_OF_ROUNDING, _WATCHED_ROWS = 1e-4, 256


@dataclass(frozen=True)
class Release:
    """What a release made of a problem.

    Attributes
    ----------
    problem : UnlearningProblem
        As it is afterwards: at the new parameters, with nothing left to undo along the released directions.

    dead : list of DeadInputs
        The directions.

    record : dict
        For the trace; empty where no weight changed.

    notes : list of str
    """

    problem: UnlearningProblem
    dead: Sequence[DeadInputs]
    record: dict[str, Any]
    notes: list[str]

    def live(self, vector: Tensor) -> Tensor:
        """Return a flat vector, such as a gradient, without what it has along the released directions."""
        if not self.dead:
            return vector
        return (double(vector) - _mapped(self.problem, self.dead, double(vector), _plain)).to(vector)

    def held(self, w: Tensor) -> Tensor:
        """Return parameters with what they have along the released directions as the release left it."""
        if not self.dead:
            return w
        moved = double(w - self.problem.parameters)
        return (double(w) - _mapped(self.problem, self.dead, moved, _plain)).to(w)


def release(problem: UnlearningProblem, *, at_optimum: bool) -> Release:
    r"""Take back what weights learnt that none but erased rows used.

    A direction v of a layer's input is dead if rows that leave are the only ones with an input along it. No step on the
    retained risk moves the layer's weights W along v, and no gradient would have done so without the erased rows. With
    :math:`\tilde W` what the optimiser makes of the initial weights without data, and Π the projector onto the dead
    directions, orthogonal in the metric in which the optimiser moves, :math:`W \leftarrow W - (W - \tilde W) \Pi`.

    Parameters
    ----------
    problem : UnlearningProblem

    at_optimum : bool
        Whether training had ended at an optimum. With weight decay the steps to the next one then find what dead
        weights come to, better than the steps of a training that may not have got there.
    """
    dead = [] if problem.layer_inputs is None else problem.layer_inputs.dead()
    decay = problem.erased.weight_decay
    if at_optimum:
        decays = [bool(part.any()) for part in _parts(problem, decay)]
        dead = [each for each in dead if not decays[each.map.place.parameter]]
    if not dead:
        return Release(problem, [], {}, [])
    if problem.start is None:
        return Release(problem, [], {}, [_NO_START.format(names=_names(problem, dead))])
    notes = []
    depends = _retained_dependence(problem)
    seen = [each for each in dead if depends(each)]
    if seen:
        notes.append(_USED_OTHERWISE.format(names=_names(problem, seen)))
        dead = [each for each in dead if not any(each is other for other in seen)]
        if not dead:
            return Release(problem, [], {}, notes)
    if not problem.start.phases:
        notes.append(_NO_STEPS)
    w = problem.parameters
    start = problem.start.over_fewer_rows(problem.net, problem.n_to_train)
    ghost = start.ghost(_parameters(dead)) if start.phases else start.parameters
    adaptive = problem.start.is_adaptive
    learnt = double(w) - double(ghost.to(w))
    taken = _mapped(problem, dead, learnt, lambda each, U: each.directions.part(U, adaptive=adaptive))
    after = (double(w) - taken).to(w)
    changed = after != w
    step = after - w
    # Along the released directions the gradient of Φ is zero, and elsewhere what it was. The retained rows' outputs are
    # what they were, so that of their gradient the penalty alone has changed.
    brought = problem.gradient - problem.residual
    nothing = _mapped(problem, dead, double(brought), _plain).to(w)
    gradient = problem.gradient + decay * step
    retained = problem.retained
    if isinstance(retained, QuadraticRisk):
        retained = QuadraticRisk(after, gradient, retained.sketch, retained.mass)
    record: dict[str, Any] = {}
    if bool(changed.any()):
        moved = [each for each in dead if bool(_mapped(problem, [each], double(step), _unchanged).any())]
        notes.append(_RELEASED.format(n=int(changed.sum()), names=_names(problem, moved)))
        record = {
            "step": 0, "seconds": 0.0, "block": "release", "taken": True, "step_norm": float(step.norm()),
            "gradient_norm": float(brought.norm()), "n_products": 0, "n_rows": 0, "predicted": 0.0, "actual": 0.0,
            "objective_change": 0.0,
        }  # fmt: skip
    released = replace(
        problem,
        parameters=after,
        retained=retained,
        gradient=gradient,
        residual=gradient - (brought - nothing),
    )
    return Release(released, dead, record, notes)


def _parameters(dead: Sequence[DeadInputs]) -> set[int]:
    """Return the numbers of all weights and biases of some maps."""
    numbers = {each.map.place.parameter for each in dead}
    return numbers | {each.map.bias for each in dead if each.map.bias is not None}


def _parts(problem: UnlearningProblem, vector: Tensor) -> list[Tensor]:
    """Return views of a flat vector in the shapes of the parameters."""
    shapes = [p.shape for p in problem.net.module_.parameters() if p.requires_grad]
    pieces = vector.split([shape.numel() for shape in shapes])
    return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]


def _mapped(
    problem: UnlearningProblem,
    dead: Sequence[DeadInputs],
    vector: Tensor,
    change: Callable[[DeadInputs, Tensor], Tensor],
) -> Tensor:
    """Return a flat vector of zeros but for what becomes of the matrices of some maps."""
    result = torch.zeros_like(vector)
    given, into = _parts(problem, vector), _parts(problem, result)
    for each in dead:
        matrix = each.map.place.matrix(given, each.map.bias)
        each.map.place.put(change(each, matrix.cpu()).to(vector), into, each.map.bias)
    return result


def _plain(each: DeadInputs, matrix: Tensor) -> Tensor:
    return each.directions.part(matrix)


def _unchanged(each: DeadInputs, matrix: Tensor) -> Tensor:
    return matrix


def _retained_dependence(problem: UnlearningProblem) -> Callable[[DeadInputs], bool]:
    """Return what tells whether the loss of retained rows has a gradient along directions that they do not use.

    It cannot, unless something uses the weight in a way that was not seen. Some of the stored rows are looked at; the
    gradient that the problem brings may be an estimate.
    """
    stored, w = problem.retained.stored, problem.parameters
    if stored is None:
        return lambda each: False
    rows = stored.sample(_WATCHED_ROWS, np.random.default_rng(0))
    penalty = problem.erased.penalty_gradient(w)
    of_retained, of_erased = (
        double(gradient - penalty) for gradient in (stored.gradient(w, rows), problem.erased.gradient(w))
    )

    def depends(each: DeadInputs) -> bool:
        along = _mapped(problem, [each], of_retained, _plain)
        whole = [float(_mapped(problem, [each], vector, _unchanged).norm()) for vector in (of_retained, of_erased)]
        return float(along.norm()) > _OF_ROUNDING * sum(whole)

    return depends


def _names(problem: UnlearningProblem, dead: Sequence[DeadInputs]) -> str:
    named = [name for name, p in problem.net.module_.named_parameters() if p.requires_grad]
    return ", ".join(dict.fromkeys(named[each.map.place.parameter] for each in dead))
