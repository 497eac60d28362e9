"""How long a step may be: the weight of the cubic term, adapted to how well each step was predicted, or fixed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor

from sk_unlearn.solvers import CubicStep

__all__ = ["AdaptiveWeight", "CubicModel", "FixedWeight", "StepControl", "TriedStep", "first_weight"]


class CubicModel(Protocol):
    """A cubic model whose minimiser can be had for any weight of its cubic term."""

    def solve(self, L: float) -> CubicStep:
        """Minimise the model."""


@dataclass(frozen=True)
class TriedStep:
    """The last step that was tried, whether it is to be taken, and what a trace tells about it."""

    step: Tensor
    taken: bool
    record: dict[str, Any]

    def left_out(self) -> TriedStep:
        """Return the same step as one that is not to be taken after all."""
        record = self.record | {"taken": False, "step_norm": 0.0, "objective_change": 0.0}
        return replace(self, taken=False, record=record)


class StepControl(Protocol):
    """Chooses the weight L of the cubic term, and tells whether the step it gives is to be taken.

    Attributes
    ----------
    L : float or None
        Where the weight stands; None before the first model has been seen.
    """

    L: float | None

    def step(self, model: CubicModel, decrease: Callable[[Tensor], float], *, resolution: float = 0.0) -> TriedStep:
        """Minimise the model and tell whether to take the step.

        Parameters
        ----------
        model : CubicModel

        decrease : callable
            Measures by how much the objective falls if a step is taken.

        resolution : float
            The smallest decrease that can be told from rounding.
        """


@dataclass
class AdaptiveWeight:
    r"""A weight L that adaptive cubic regularisation learns from step to step [1]_.

    The measure of a step is the ratio of the actual to the predicted decrease.

    Parameters
    ----------
    L : float or None
        Where it stands; None before the first model has been seen.

    shrink : float
        L is multiplied by this after a step whose ratio is above ``very_good``.

    grow : float, default=3.0
        L is multiplied by this after a step whose ratio is not above ``too_poor``; such a step is not taken.

    very_good, too_poor : float, default=0.9, 0.1
        The two bounds of the ratio, as in [1]_.

    max_tries : int, default=12
        How many values of L are tried for one step: together they grow L by 3¹², more than half a million.

    References
    ----------
    .. [1] Cartis, Gould and Toint, "Adaptive cubic regularisation methods for unconstrained optimization", Part I,
       Mathematical Programming 127, 2011.
    """

    L: float | None
    shrink: float
    grow: float = 3.0
    very_good: float = 0.9
    too_poor: float = 0.1
    max_tries: int = 12

    def step(
        self,
        model: CubicModel,
        decrease: Callable[[Tensor], float],
        *,
        resolution: float = 0.0,
        max_tries: int | None = None,
    ) -> TriedStep:
        """Minimise the model under growing L until the actual decrease is a fair share of the predicted one.

        Parameters
        ----------
        model : CubicModel

        decrease : callable
            Measures by how much the objective falls if a step is taken.

        resolution : float
            The smallest decrease that can be told from rounding. A step with a smaller predicted one is taken without
            looking at the ratio: where the decrease is that small the model is right.

        max_tries : int, optional
            Try no more values of L than this.
        """
        assert self.L is not None
        taken, actual = False, 0.0
        step: CubicStep | None = None
        for _ in range(self.max_tries if max_tries is None else max_tries):
            used_L = self.L
            step = None  # the one before goes first: both are as long as the parameters
            step = model.solve(used_L)
            predicted = step.decrease
            if predicted < 0:  # gradient descent at a rate too high for this model; a larger L shortens its start
                self.L *= self.grow
                continue
            actual = decrease(step.step)
            if predicted <= resolution:
                taken = step.norm > 0
                self.L *= self.shrink
                break
            ratio = actual / predicted
            # Not `ratio <= too_poor`: a value that is not a number must count as a failure too.
            taken = ratio > self.too_poor
            if not taken:
                self.L *= self.grow
                continue
            if ratio > self.very_good:
                self.L *= self.shrink
            break
        assert step is not None
        return TriedStep(step.step, taken, _record(step, used_L, actual, taken))


@dataclass
class FixedWeight:
    """A weight that stays as it is; every step is taken, as the published algorithms do.

    Parameters
    ----------
    L : float
    """

    L: float | None

    def step(self, model: CubicModel, decrease: Callable[[Tensor], float], *, resolution: float = 0.0) -> TriedStep:
        """Minimise the model; the decrease is measured for the trace only."""
        assert self.L is not None
        step = model.solve(self.L)
        return TriedStep(step.step, True, _record(step, self.L, decrease(step.step), True))


def _record(step: CubicStep, L: float, actual: float, taken: bool) -> dict[str, Any]:
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


def first_weight(spectrum: tuple[Tensor, Tensor], share: float) -> float:
    """Choose the L whose step is damped by a share of the largest curvature, whatever the loss's unit.

    Parameters
    ----------
    spectrum : pair of Tensors of shape (k,)
        Eigenvalues, and the gradient's coefficients along their vectors.

    share : float
        Small enough to move, large enough for the step to be taken at once.
    """
    values, coefficients = spectrum
    coefficients = coefficients.to(values.device)
    damping = share * float(values.abs().max()) + max(0.0, -float(values.min()))
    length = float((coefficients / (values + damping)).norm())
    return 2 * damping / length if damping > 0 and length > 0 else 1.0
