"""The engine of the cubic algorithms: what the settings come to for one problem, and the loop over stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sk_unlearn.risks.output_layer import output_layer
from sk_unlearn.risks.tilted import TiltedRisk
from sk_unlearn.solvers.adaptive import AdaptiveWeight, FixedWeight, StepControl
from sk_unlearn.unlearners._memory import MemoryForecast
from sk_unlearn.unlearners.base import Released, Unlearner, UnlearnerTags, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.cubic._direction import Dense, Direction, GradientDescent, krylov
from sk_unlearn.unlearners.cubic._output_layer import OutputLayerStage
from sk_unlearn.unlearners.cubic._policy import Policy
from sk_unlearn.unlearners.cubic._release import Release, release
from sk_unlearn.unlearners.cubic._renewal import Renewal, RenewalStage, why_no_renewal
from sk_unlearn.unlearners.cubic._sampling import Sampling
from sk_unlearn.unlearners.cubic._state import Stage, State, added_parts
from sk_unlearn.unlearners.cubic._stopping import Ending, FixedSteps, OneUncheckedStep, StoppingRule
from sk_unlearn.unlearners.cubic._training import loss_left, with_faded_tilt
from sk_unlearn.unlearners.cubic._whole_network import WholeNetworkStage
from sk_unlearn.unlearners.status import Status

__all__ = ["CubicUnlearner", "Plan", "run_stages"]

_NOT_RENEWED = (
    "Training the network anew in fewer steps would have been right, because {}; it cannot be had: {}. Retrain() "
    "leaves nothing of the rows."
)


def run_stages(state: State, stages: Sequence[Stage]) -> Ending:
    """Run stages one after the other, from a state that they change, until one says how it ended."""
    for stage in stages:
        ending = stage.run(state)
        if ending is not None:
            return ending
    raise RuntimeError("The last stage must return an ending.")


@dataclass(frozen=True)
class Plan:
    """What an unlearner's settings come to for one problem.

    Attributes
    ----------
    problem : UnlearningProblem

    policy : Policy

    objective : TiltedRisk
        Φ with the tilt that ∇F is to come to.

    sampling : Sampling
        Which rows steps in the whole network read.

    at_optimum : bool
        Whether training had ended at an optimum, so that the one without the erased rows is near and worth finding.

    unchecked : bool
        Whether no step can be checked on rows: there are none, only a model of their risk near the fitted point.

    solver : str
        The one to use.

    n_products : int
        Most products for a step in the whole network.

    memory : MemoryForecast

    notes : list of str
        What the reader of the report should know of the choices.

    renewal : Renewal or None
        Whether the network is to be trained anew; None where that was not considered.

    refusal : str
        Why it cannot be had; empty where it can.
    """

    problem: UnlearningProblem
    policy: Policy
    objective: TiltedRisk
    sampling: Sampling
    at_optimum: bool
    unchecked: bool
    solver: str
    n_products: int
    memory: MemoryForecast
    notes: list[str]
    renewal: Renewal | None = None
    refusal: str = ""

    @property
    def wants_to_renew(self) -> bool:
        """Whether the network is to be trained anew, before any step is taken."""
        return self.renewal is not None and self.renewal.is_wanted

    def told_of_renewal(self, state: State) -> dict[str, Any]:
        """Return what the report tells of it, from where the stages have led."""
        if self.renewal is None or self.refusal:
            return {}
        paced = None if state.trained is None else state.trained.paced
        share = self.renewal.share if paced is None else paced.share_spent
        return self.renewal.told(share, done=state.trained is not None, why_not=state.why_not_renewed)

    @property
    def notes_of_refusal(self) -> list[str]:
        """Why the network was not trained anew where it would have been."""
        if not (self.renewal is not None and self.renewal.is_wanted and self.refusal):
            return []
        return [_NOT_RENEWED.format(self.renewal.reason, self.refusal)]

    def renewal_stage(self, teaching: Sequence[Stage] = ()) -> RenewalStage:
        """Return the stage that trains anew, for a teacher after these stages."""
        assert self.renewal is not None
        return RenewalStage(self.renewal, self.policy, teaching)


class CubicUnlearner(Unlearner):
    """What the cubic algorithms share: from settings to a plan, from the plan to stages, and the run of these."""

    L: float | str
    solver: str
    max_steps: int
    n_products: int | str
    tol: float
    hold_residual: bool
    output_layer_first: bool
    renew: bool | str = False
    budget: float = 0.25
    learning_rate: float | None
    sigma: float
    policy: Policy | None
    offload: str | None = None

    def __unlearner_tags__(self) -> UnlearnerTags:
        """Claim the optimum of a quadratic where L adapts and steps are more than a few gradient steps."""
        tags = super().__unlearner_tags__()
        tags.exact_on_quadratics = self._adapts and self.solver != "gradient_descent"
        tags.takes_estimates = True
        tags.extra = (*tags.extra, "memory_forecast")
        return tags

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        if not self._works_in_the_layer(problem):
            problem = problem.with_exact_gradient()
        release = self._release(problem)
        plan = self._plan(release.problem, release)
        # Errors of many requests may look like a large one. The exact gradient has none, so that this happens once.
        if problem.is_estimated and plan.wants_to_renew:
            return self.unlearn(problem.with_exact_gradient())
        problem = release.problem
        state = State.at_start(problem, plan.objective, self._stopping(plan), self.offload)
        problem.let_go("parameters")
        if plan.sampling.reads_all:  # on a sample each step goes back to the gradient at the fitted point
            problem.let_go("gradient")
        if not plan.objective.is_stationary_at_start:
            ending = run_stages(state, self._stages(plan))
        elif release.record:
            ending = Ending(Status.CONVERGED, "weights that only the erased rows used went back; no gradient is left")
        else:
            ending = Ending(Status.NOTHING_TO_UNDO, "nothing to undo: the gradient is zero")
        first_notes = plan.notes + plan.notes_of_refusal
        taken = [record for record in state.trace if record["taken"]]
        if release.record and ending.status is Status.STALLED and not taken:
            ending = Ending(Status.COMPLETED, f"weights that only the erased rows used went back; {ending.reason}")
        curvature_min, curvature_max = state.curvature or (float("nan"), float("nan"))
        result = UnlearningResult(
            state.w,
            ending.status,
            ending.reason,
            trace=[release.record, *state.trace] if release.record else state.trace,
            trained=state.trained,
            n_products=sum(record["n_products"] for record in state.trace),
            curvature_min=curvature_min,
            curvature_max=curvature_max,
            predicted_decrease=float(sum(record["predicted"] for record in taken)),
            actual_decrease=float(sum(record["actual"] for record in taken)),
            solver=plan.solver,
            notes=first_notes + state.notes(released=bool(release.record)),
            extra={"memory_forecast": asdict(plan.memory), **plan.told_of_renewal(state)},
        )
        return result if state.trained else self._moved(result, plan, state, release)

    def _moved(self, result: UnlearningResult, plan: Plan, state: State, release: Release) -> UnlearningResult:
        """Complete the result of steps from the fitted point, of which later requests go on."""
        state.end_move()
        w, tilt = release.held(state.w), plan.objective.tilt
        gradient = state.gradient + tilt
        if w is not state.w:
            gradient += plan.problem.erased.weight_decay * (w - state.w)
        return replace(
            result,
            parameters=w,
            gradient=gradient,
            target=tilt if self.hold_residual else None,
            released=Released(plan.problem.parameters, plan.problem.residual) if release.dead else None,
            is_estimated=not plan.sampling.reads_all,
            features_moved=state.features_moved,
            features=state.features,
            set_aside_at=state.set_aside_at,
            notes=release.notes + result.notes,
        )

    def _stages(self, plan: Plan) -> list[Stage]:
        """Return the stages in their order; the only place that knows it."""
        stages: list[Stage] = []
        if plan.wants_to_renew and not plan.refusal:
            stages.append(plan.renewal_stage([OutputLayerStage(plan.policy, plan.sampling)]))
        if self._adapts and self.output_layer_first and self.hold_residual and not plan.at_optimum:
            stages.append(OutputLayerStage(plan.policy, plan.sampling))
        stages.append(
            WholeNetworkStage(
                self._direction(plan), self._control(plan), plan.sampling, self._first_damping(plan), plan.policy
            )
        )
        return stages

    def _works_in_the_layer(self, problem: UnlearningProblem) -> bool:
        """Whether nothing but the output layer moves, whose gradient its own steps estimate on more rows."""
        stored = problem.retained.stored
        if stored is None or stored.n_rows == 0 or self._sampling(problem, self._rules).reads_all:
            return False
        if added_parts(problem.retained) is None:
            return False
        return self._adapts and self.output_layer_first and self.hold_residual and output_layer(stored)[0] is not None

    # ------------------------------------------------------------------------------- what the settings come to

    @property
    def _adapts(self) -> bool:
        return self.L == "auto"

    def _sampling(self, problem: UnlearningProblem, policy: Policy) -> Sampling:
        """Return which retained rows a step in the whole network reads."""
        raise NotImplementedError

    @property
    def _rules(self) -> Policy:
        return Policy() if self.policy is None else self.policy

    @property
    def _share(self) -> float:
        """In which share of the steps of a full training the network would be trained anew."""
        return self._rules.budget_for_steps * self.budget

    def _release(self, problem: UnlearningProblem) -> Release:
        """Return the problem after weights that only erased rows used went back; as it is for published algorithms."""
        if not (self._adapts and self.hold_residual):
            return Release(problem, [], {}, [])
        at_optimum = self._ended_at_optimum(problem, problem.objective)
        return release(problem, at_optimum=at_optimum)

    def _ended_at_optimum(self, problem: UnlearningProblem, objective: TiltedRisk) -> bool:
        """Tell whether what training left is next to nothing, compared with what the deletion brings.

        What earlier requests have let fade counts: the target got small and training did not end any nearer an optimum.
        """
        bound = self._rules.stationary_share * objective.gradient_norm_at_start
        checked = self._adapts and not problem.retained.holds_locally
        return checked and max(problem.norm_left, float(problem.residual.norm())) <= bound

    def _plan(self, problem: UnlearningProblem, release: Release) -> Plan:
        policy = self._rules
        sampling = self._sampling(problem, policy)
        objective = self._objective(problem, sampling, policy)
        unchecked = self._adapts and problem.retained.holds_locally
        at_optimum = self._ended_at_optimum(problem, objective)
        n_products = self._chosen_n_products(problem.parameters, at_optimum, sampling, policy)
        graph_bytes = problem.retained.graph_bytes(sampling.n_linearised)
        memory = MemoryForecast.of(problem.parameters, n_products, graph_bytes)
        solver, notes = self._chosen_solver(memory, problem.parameters.numel())
        renewal, refusal = self._renewal(release, policy, sampling, at_optimum=at_optimum)
        return Plan(
            problem, policy, objective, sampling, at_optimum, unchecked, solver, n_products, memory, notes, renewal,
            refusal,
        )  # fmt: skip

    def _renewal(
        self, release: Release, policy: Policy, sampling: Sampling, *, at_optimum: bool
    ) -> tuple[Renewal | None, str]:
        """Return whether the network is to be trained anew, and why it cannot be; None where it is not considered."""
        if not self.renew or not self._adapts or not self.hold_residual:
            return None, ""
        problem, reads_all = release.problem, sampling.reads_all
        refusal = why_no_renewal(problem)
        if not isinstance(self.renew, str):
            if refusal:
                raise ValueError(f"renew=True cannot be had: {refusal}. Use renew=False, or Retrain().")
            return Renewal.chosen(release, policy, self._share, reads_all=reads_all, asked_for=True), ""
        if at_optimum or problem.retained.stored is None or torch.equal(problem.gradient, problem.residual):
            return None, ""
        if sampling.reads_all and not refusal:
            in_full = Renewal.in_full(problem, policy)
            if in_full is not None:
                return in_full, ""
        return Renewal.chosen(release, policy, self._share, reads_all=reads_all, asked_for=False), refusal

    def _objective(self, problem: UnlearningProblem, sampling: Sampling, policy: Policy) -> TiltedRisk:
        """Return Φ; whether its tilt is to fade is not for a few sampled rows to judge."""
        if not self.hold_residual:
            return problem.untilted
        return with_faded_tilt(problem, policy) if self._adapts and sampling.reads_all else problem.objective

    def _chosen_n_products(self, w: Tensor, at_optimum: bool, sampling: Sampling, policy: Policy) -> int:
        """Return the most products of a step."""
        if self.n_products != "auto":
            return int(self.n_products)
        vector = w.numel() * w.element_size()
        spaces = self.solver in ("auto", "krylov")
        if at_optimum and spaces:
            return max(policy.narrow_products, min(policy.wide_products, policy.wide_bytes // vector))
        exact = sampling.n_curvature_rows >= sampling.n_rows
        most = policy.narrow_products if exact else policy.rough_products
        if not spaces:
            return most
        return max(policy.fewest_products, min(most, policy.narrow_bytes // vector))

    def _chosen_solver(self, memory: MemoryForecast, d: int) -> tuple[str, list[str]]:
        """Return the solver to use and what to note about it; MemoryError when the one asked for does not fit."""
        asked = "krylov" if self.solver == "auto" else str(self.solver)
        needed = int(getattr(memory, asked))
        if memory.available is None or needed <= memory.available:
            return asked, []
        short = f"needs about {_gib(needed)} for {d} parameters and {_gib(memory.available)} are free"
        if self.solver != "auto":
            raise MemoryError(f"solver={self.solver!r} {short}; use solver='auto', or another device.")
        return "gradient_descent", [f"solver='auto' took gradient descent: a Krylov space {short}."]

    def _stopping(self, plan: Plan) -> StoppingRule:
        """Return when to stop."""
        first_norm, max_steps = plan.objective.gradient_norm_at_start, self.max_steps
        kind: type[StoppingRule] = StoppingRule
        if not self._adapts:
            kind = FixedSteps
        elif plan.unchecked:
            kind, max_steps = OneUncheckedStep, 1
        # With a generator of its own, so that steps draw what they would have drawn without the question.
        looked_at = replace(plan.problem, rng=np.random.default_rng(0))
        return kind(
            first_norm=first_norm,
            enough=(self.tol**2 if plan.at_optimum else self.tol) * first_norm,
            max_steps=max_steps,
            # A minimum is near, and a way to it may lead over steeper ground.
            max_rise=float("inf") if plan.at_optimum else plan.policy.max_rise,
            noise_factor=plan.policy.noise_factor,
            may_promise_more=plan.at_optimum or loss_left(looked_at) <= plan.policy.unfitted_share,
        )

    def _direction(self, plan: Plan) -> Direction:
        """Return the solver of the cubic model."""
        if plan.solver == "dense":
            return Dense()
        if plan.solver == "krylov":
            return krylov(plan.policy, plan.n_products, at_optimum=plan.at_optimum)
        rate = float(plan.problem.net.lr) if self.learning_rate is None else self.learning_rate
        return GradientDescent(plan.n_products, rate, self.sigma, plan.problem.rng)

    def _control(self, plan: Plan) -> StepControl:
        """Return what chooses L."""
        if not self._adapts:
            return FixedWeight(float(self.L))
        return AdaptiveWeight(None, plan.policy.wide_shrink if plan.at_optimum else plan.policy.shrink)

    @staticmethod
    def _first_damping(plan: Plan) -> float:
        if plan.unchecked:
            return plan.policy.blind_damping
        return plan.policy.wide_damping if plan.at_optimum else plan.policy.first_damping


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"
