"""Where the engine stands, which its stages hand on to each other, and what a stage is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from sk_unlearn.risks.combined import CombinedRisk
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.output_layer import KeptFeatures, OutputLayer, output_layer
from sk_unlearn.risks.protocol import Risk
from sk_unlearn.risks.tilted import TiltedRisk
from sk_unlearn.training.ledger import Trained
from sk_unlearn.unlearners._offload import SetAside
from sk_unlearn.unlearners.base import UnlearningProblem
from sk_unlearn.unlearners.cubic._stopping import Ending, StoppingRule
from sk_unlearn.utils._lazy import cached_property

__all__ = ["Stage", "State", "added_parts"]

_ONLY_THE_OUTPUT_LAYER = (
    "Only the output layer moved: what the layers before it know of the erased rows is still there. "
    "CuReNU() moves all layers; Retrain() leaves nothing of the rows."
)
_ONLY_THE_OUTPUT_LAYER_AND_RELEASED = (
    "Only the output layer moved, and the weights that were released: what other weights of the layers before it know "
    "of the erased rows is still there. CuReNU() moves all layers; Retrain() leaves nothing of the rows."
)


def added_parts(risk: Risk) -> list[EmpiricalRisk] | None:
    """Return what counts beside stored rows, such as rows with their new content; None where that is subtracted."""
    if risk.stored is risk:
        return []
    return risk.added if isinstance(risk, CombinedRisk) else None


class Stage(Protocol):
    """A part of the way, such as the steps in the output layer."""

    def run(self, state: State) -> Ending | None:
        """Go on from a state, and change it.

        Before it moves it calls :meth:`State.begin_move`, and after it moved it sets ``w``, and ``gradient`` or
        ``gradient_lags``.

        Returns
        -------
        ending : Ending or None
            None hands over to the next stage; the last one returns an ending.
        """


@dataclass(frozen=True)
class _Move:
    """Where a move began: the point, the gradient as the state has it, and the move's first record in the trace."""

    w: SetAside
    gradient: SetAside
    is_of_risk: bool
    first_record: int


@dataclass
class State:
    """Where the engine stands.

    Attributes
    ----------
    problem : UnlearningProblem

    objective : TiltedRisk
        Φ, whose tilt is what ∇F is to be in the end.

    stopping : StoppingRule

    w, gradient : Tensor of shape (d,)
        The point, and the gradient of Φ there. Neither is ever changed in place: the first is the problem's own.

    gradient_lags : bool
        Whether w has moved since the gradient was taken.

    trace : list of dict
        One record a step, of all stages.

    curvature : tuple of float or None
        The smallest and the largest curvature that the first step in the whole network saw; None before it.

    remarks : list of str
        What stages want the reader of the report to know.

    features : KeptFeatures or None
        What the output layer is given for some retained rows, for the next request.

    trained : Trained or None
        The net, where a stage trained it anew; w are then its parameters.

    why_not_renewed : str
        Why a net that was trained anew is not the model, or why that failed; empty where neither happened.

    offload : {None, "cpu"}
        Where the point and the gradient at which a move began are kept until it is known to be a good one.

    set_aside_at : float or None
        What later requests find as ``problem.set_aside_at``, where a net was set aside; else None.
    """

    problem: UnlearningProblem
    objective: TiltedRisk
    stopping: StoppingRule
    w: Tensor
    _gradient: Tensor
    _is_of_risk: bool = False
    gradient_lags: bool = False
    trace: list[dict[str, Any]] = field(default_factory=list)
    curvature: tuple[float, float] | None = None
    remarks: list[str] = field(default_factory=list)
    features: KeptFeatures | None = None
    trained: Trained | None = None
    why_not_renewed: str = ""
    set_aside_at: float | None = None
    offload: str | None = None
    _last_move: _Move | None = None
    _started: float = field(default_factory=time.perf_counter)

    @classmethod
    def at_start(
        cls, problem: UnlearningProblem, objective: TiltedRisk, stopping: StoppingRule, offload: str | None = None
    ) -> State:
        """Return the state at the fitted parameters, where the gradient of Φ costs nothing."""
        return cls(problem, objective, stopping, problem.parameters, objective.risk_gradient, True, offload=offload)

    @property
    def gradient(self) -> Tensor:
        """The gradient of Φ at the point; where that of the risk is known the tilt comes off when it is asked for."""
        return self._gradient - self.objective.tilt if self._is_of_risk else self._gradient

    @gradient.setter
    def gradient(self, gradient: Tensor) -> None:
        self._gradient, self._is_of_risk = gradient, False

    def know_risk_gradient(self, gradient: Tensor) -> None:
        """Take the gradient of the risk at the point, which others hold too: that of Φ is not kept beside it."""
        self._gradient, self._is_of_risk = gradient, True

    def hold_once(self, gradient: Tensor) -> None:
        """Hold the given vector, which others hold too, in place of the own one if the numbers are the same."""
        if torch.equal(self._gradient, gradient):
            self._gradient = gradient

    def gradient_beyond(self, other: Tensor) -> Tensor:
        """Return the gradient of Φ at the point less another vector, in one new one."""
        if self._is_of_risk:
            return self.gradient.sub_(other)
        return self._gradient - other

    @property
    def gradient_norm(self) -> float:
        """Norm of the gradient of Φ."""
        return float(self.gradient.norm())

    @property
    def output_layer(self) -> OutputLayer | None:
        """The linear layer at the end of the net; None where there is none, or where its rows are not at hand."""
        return self._layer_or_reason[0]

    @property
    def why_no_output_layer(self) -> str:
        """What about the net keeps its output layer from being moved alone; empty where it is not the net."""
        return self._layer_or_reason[1]

    @cached_property
    def _layer_or_reason(self) -> tuple[OutputLayer | None, str]:
        stored = self.problem.retained.stored
        if stored is None or stored.n_rows == 0:
            return None, ""
        return (None, "") if added_parts(self.problem.retained) is None else output_layer(stored)

    def begin_move(self) -> None:
        """Remember the present point, and no earlier one: :meth:`take_back` returns to it."""
        w, gradient = SetAside(self.w, self.offload), SetAside(self._gradient, self.offload)
        self._last_move = _Move(w, gradient, self._is_of_risk, len(self.trace))

    def end_move(self) -> None:
        """Let go of what is remembered of the last move: it is not taken back any more."""
        self._last_move = None

    def take_back(self) -> None:
        """Undo the move that was begun last; its records say that it was not taken."""
        move, self._last_move = self._last_move, None
        assert move is not None
        self.w, self.gradient_lags = move.w.vector(), False
        self._gradient, self._is_of_risk = move.gradient.vector(), move.is_of_risk
        for record in self.trace[move.first_record :]:
            record.update(taken=False, step_norm=0.0, objective_change=0.0)

    def record(self, record: dict[str, Any]) -> None:
        """Append one step to the trace and show it to whoever watches."""
        numbered = {"step": len(self.trace) + 1, "seconds": time.perf_counter() - self._started}
        self.trace.append(record | numbered)
        self.problem.report_step(self.trace[-1])

    def taken_since(self, first: int, number: str) -> list[float]:
        """Return what the trace says of each step taken, from a given one on: such as the norm at which it began."""
        return [record[number] for record in self.trace[first:] if record["taken"]]

    @property
    def features_moved(self) -> bool:
        """Whether any parameter outside the output layer has moved."""
        moved = self.w != self.problem.parameters
        if self.output_layer is not None:
            moved[self.output_layer.indices] = False
        return bool(moved.any())

    def notes(self, *, released: bool = False) -> list[str]:
        """Say what did not move, and why.

        Parameters
        ----------
        released : bool
            Whether weights that only erased rows used had gone back before.
        """
        moved = self.w != self.problem.parameters
        all_in_layer = self.output_layer is not None and len(self.output_layer.indices) == len(moved)
        if not bool(moved.any()) or self.output_layer is None or all_in_layer or self.features_moved:
            return self.remarks
        return [*self.remarks, _ONLY_THE_OUTPUT_LAYER_AND_RELEASED if released else _ONLY_THE_OUTPUT_LAYER]
