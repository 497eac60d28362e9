"""The weight of the cubic term, adapted to how well each step kept its promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from sk_unlearn.solvers import CubicStep

__all__ = ["FIRST_DAMPING", "AdaptiveWeight", "CubicModel", "TriedStep", "first_weight", "step_record"]

# How well the model must have predicted the decrease (Cartis, Gould and Toint 2011).
_VERY_GOOD, _TOO_POOR = 0.9, 0.1
_GROW, _MAX_TRIES = 3.0, 12
# First damping, as a share of the largest curvature: small enough to move, large enough to be taken at once.
FIRST_DAMPING = 1e-2


class CubicModel(Protocol):
    """A cubic model whose minimiser can be had for any weight of its cubic term."""

    def solve(self, L: float) -> CubicStep:
        """Minimise the model."""


@dataclass(frozen=True)
class TriedStep:
    """The last step that was tried, and whether it kept enough of its promise to be taken."""

    step: Tensor
    taken: bool
    record: dict[str, Any]


@dataclass
class AdaptiveWeight:
    r"""The weight L of the cubic term, of which adaptive cubic regularisation learns from step to step [1]_.

    Parameters
    ----------
    L : float or None
        Where it stands; None before the first model has been seen.

    shrink : float
        What L is multiplied with after a step that kept its promise almost to the letter.

    References
    ----------
    .. [1] Cartis, Gould and Toint, "Adaptive cubic regularisation methods for unconstrained optimization", Part I,
       Mathematical Programming 127, 2011.
    """

    L: float | None
    shrink: float

    def step(
        self,
        model: CubicModel,
        decrease: Callable[[Tensor], float],
        *,
        resolution: float = 0.0,
        max_tries: int = _MAX_TRIES,
    ) -> TriedStep:
        """Minimise the model under growing L until a step keeps its promise, and shrink L where it did so fully.

        Parameters
        ----------
        model : CubicModel

        decrease : callable
            Measures by how much the objective falls if a step is taken.

        resolution : float
            A promised decrease that rounding would hide. Such a step is taken: where it is that small the model is
            right.

        max_tries : int
            How many values of L.
        """
        assert self.L is not None
        taken, actual, ratio = False, 0.0, float("nan")
        for _ in range(max_tries):
            used_L = self.L
            step = model.solve(used_L)
            promised = step.decrease
            if promised < 0:  # gradient descent at a rate too high for this model; a larger L shortens its start
                self.L *= _GROW
                continue
            actual = decrease(step.step)
            if promised <= resolution:
                taken = step.norm > 0
                self.L *= self.shrink
                break
            ratio = actual / promised
            # Not `ratio <= poor`: a value that is not a number must count as a failure too.
            taken = ratio > _TOO_POOR
            if not taken:
                self.L *= _GROW
                continue
            if ratio > _VERY_GOOD:
                self.L *= self.shrink
            break
        return TriedStep(step.step, taken, step_record(step, used_L, actual, taken))


def step_record(step: CubicStep, L: float, actual: float, taken: bool) -> dict[str, Any]:
    """Return what a trace tells about one step."""
    return {
        "objective_change": -actual if taken else 0.0,
        "L": L,
        "damping": step.damping,
        "ratio": actual / step.decrease if step.decrease > 0 else float("nan"),
        "predicted": step.decrease,
        "actual": actual,
        "step_norm": step.norm if taken else 0.0,
        "taken": taken,
    }


def first_weight(spectrum: tuple[Tensor, Tensor], share: float = FIRST_DAMPING) -> float:
    """Choose the L whose step is damped by this share of the largest curvature, whatever the loss's unit.

    Parameters
    ----------
    spectrum : pair of Tensors of shape (k,)
        Eigenvalues, and the gradient's coefficients along their vectors.
    """
    values, coefficients = spectrum
    coefficients = coefficients.to(values.device)
    damping = share * float(values.abs().max()) + max(0.0, -float(values.min()))
    length = float((coefficients / (values + damping)).norm())
    return 2 * damping / length if damping > 0 and length > 0 else 1.0
