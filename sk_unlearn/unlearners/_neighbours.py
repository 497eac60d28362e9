"""Points near the erased rows: random ones, and the nearest that the model takes for another class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sk_unlearn.risks.empirical import EmpiricalRisk, Rows
from sk_unlearn.rows.storage import dense
from sk_unlearn.unlearners._watch import stored_part
from sk_unlearn.unlearners.base import Unlearner, UnlearningProblem
from sk_unlearn.unlearners.distillation import class_logits

__all__ = ["Adversaries", "check_real_inputs", "input_spread", "nearest_adversaries", "others_over_own", "scattered"]

# Retained rows that the spread of the inputs is taken over, and how many of them are looked at at a time.
_SPREAD_ROWS, _PART_ROWS = 1024, 64
# The largest radius of the search is the first one times 2 to this power.
_DOUBLINGS = 10
# Steps from the middle of a ball to its edge.
_STEPS_TO_EDGE = 10


class Adversaries(NamedTuple):
    """Points that the model takes for another class than that of the row they are near to.

    Attributes
    ----------
    rows : int64 ndarray of shape (n,)
        Numbers of the rows that have one.
    X : ndarray of shape (n, ...)
        The points.
    labels : int64 ndarray of shape (n,)
        What the model takes them for.
    radius : ndarray of shape (n,)
        Of the ball around the row in which each was found, in units of the spread of the inputs.
    """

    rows: Rows
    X: NDArray[Any]
    labels: NDArray[np.int64]
    radius: NDArray[Any]


def check_real_inputs(problem: UnlearningProblem, unlearner: Unlearner) -> None:
    """Raise a ValueError where rows cannot be moved a little."""
    kind = problem.erased.X.dtype
    if kind.kind != "f":
        raise ValueError(
            f"unlearner={type(unlearner).__name__}() looks at points near the erased rows, and rows of dtype {kind} "
            "have none; use float32 or float64, or an unlearner for any rows, such as StoCuReNU or SalUn."
        )


def input_spread(problem: UnlearningProblem) -> NDArray[Any]:
    """Return the standard deviation of every input over at most 1,024 retained rows, of the shape of one row.

    It is the unit of distances between rows: columns have units of their own, which an estimator does not see.
    """
    stored = stored_part(problem.retained)
    rows = stored.sample(_SPREAD_ROWS, problem.rng)
    # From differences to one row, so that a column far from zero keeps its digits.
    origin = stored.X[rows[0]].astype(np.float64)
    total, squares = np.zeros_like(origin), np.zeros_like(origin)
    for start in range(0, len(rows), _PART_ROWS):
        moved = dense(stored.X[rows[start : start + _PART_ROWS]]) - origin
        total += moved.sum(0)
        squares += np.square(moved).sum(0)
    variance = squares / len(rows) - np.square(total / len(rows))
    return np.sqrt(variance.clip(0)).astype(stored.X.dtype)


def scattered(
    risk: EmpiricalRisk, rows: Rows, scale: NDArray[Any], n_points: int, rng: np.random.Generator
) -> EmpiricalRisk:
    """Return the risk over random points near rows, normally distributed around each, with the rows' targets.

    Parameters
    ----------
    risk : EmpiricalRisk
    rows : int64 ndarray of shape (n,)
        Numbers of rows.
    scale : ndarray
        Standard deviation of every input, of the shape of one row.
    n_points : int
        For each row.
    rng : numpy.random.Generator
    """
    rows = np.repeat(rows, n_points)
    X = dense(risk.X[rows])
    noise = scale * rng.standard_normal(X.shape)
    return risk.with_targets(risk.targets(rows), X=X + noise.astype(X.dtype), rows=rows)


def nearest_adversaries(problem: UnlearningProblem, spread: NDArray[Any], radius: float, n_steps: int) -> Adversaries:
    """Return a point near each erased row that the model takes for another class, in the smallest ball that has one.

    In a ball around the row, n_steps steps of a tenth of its radius climb the loss along its normalised gradient, and
    end at the first point that the model takes for another class. Where there is none, the ball is doubled. Rows that
    have none in a ball of 1,024 times the first radius are left out. Rows are searched chunk by chunk.

    Parameters
    ----------
    problem : UnlearningProblem
        Of a classifier.
    spread : ndarray
        Unit of every input, of the shape of one row.
    radius : float
        Of the first ball, by the Euclidean norm in units of the spread.
    n_steps : int
        In each ball, at most.

    Raises
    ------
    ValueError
        Where the net does not take rows as they are stored.
    """
    erased, w = problem.erased, problem.parameters
    unit = torch.from_numpy(spread).to(w.device)
    rows = erased.sample(erased.n_rows, problem.rng)
    given, _ = next(erased.inputs(rows[:1]))
    if not isinstance(given, Tensor) or not np.array_equal(given.cpu().numpy(), dense(erased.X[rows[:1]])):
        raise ValueError(
            "unlearner=AMUN() moves rows as the net is given them, and the net's dataset or iterator makes something "
            "else of stored rows; use skorch's own Dataset, or an unlearner for any net, such as StoCuReNU or RURK."
        )

    def search(x: Tensor, y: Any, respond: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        x = x.to(w.device)
        own = torch.as_tensor(y, device=w.device).reshape(-1).long()

        def logits(at: Tensor) -> Tensor:
            return class_logits(problem.net, respond(at))

        return _nearest(x, own, unit, logits, radius, n_steps)

    parts = [[part.cpu().numpy() for part in found] for found in erased.explore(w, search, rows)]
    X, labels, radii = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = labels >= 0
    return Adversaries(rows[found], X[found], labels[found], radii[found])


def others_over_own(logits: Tensor, own: Tensor) -> Tensor:
    """Return for each row the log-odds that it is of any other class than its own.

    Its gradient is that of the cross-entropy over 1 - p, p being the probability of the row's own class. So it points
    the same way, and does not vanish where p rounds to 1.
    """
    is_own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, own[:, None], True)
    return logits.masked_fill(is_own, -torch.inf).logsumexp(1) - logits.gather(1, own[:, None])[:, 0]


def _nearest(
    x: Tensor, own: Tensor, unit: Tensor, logits: Callable[[Tensor], Tensor], radius: float, n_steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each row the point, its class (-1 where none was found), and the radius of the ball."""
    point, label = x.clone(), torch.full_like(own, -1)
    within = torch.full_like(own, torch.inf, dtype=x.dtype)
    left = torch.arange(len(x), device=x.device)
    for ball in (radius * 2.0**k for k in range(_DOUBLINGS + 1)):
        shift = torch.zeros_like(x[left])
        for step in range(n_steps + 1):
            shift.requires_grad_()
            near = x[left] + unit * shift
            z = logits(near)
            taken_for = z.argmax(1)
            is_other = taken_for != own[left]
            # How many there are has to be read from the device; all that follows is done by number.
            hits = is_other.nonzero()[:, 0]
            if len(hits):
                found = left[hits]
                point[found], label[found], within[found] = near[hits].detach(), taken_for[hits], ball
            if len(hits) == len(left):
                return point, label, within
            if step < n_steps:
                (slope,) = torch.autograd.grad(others_over_own(z, own[left]).sum(), shift)
                shift = shift.detach() + ball / _STEPS_TO_EDGE * slope / _lengths(slope)
                shift = shift * (ball / _lengths(shift)).clamp_max(1.0)
            shift = shift.detach()
            if len(hits):
                others = (~is_other).nonzero()[:, 0]
                left, shift = left[others], shift[others]
    return point, label, within


def _lengths(rows: Tensor) -> Tensor:
    """Return the Euclidean norm of each row, to be divided by: of the shape to do so, and never zero."""
    length = rows.reshape(len(rows), -1).norm(dim=1).clamp_min(torch.finfo(rows.dtype).tiny)
    return length.reshape(-1, *[1] * (rows.ndim - 1))
