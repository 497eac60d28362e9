"""Training the whole network anew, for a request that steps in the output layer cannot carry out, and when to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.risks.output_layer import output_layer
from sk_unlearn.risks.tangent_kernel import tangent_kernel_trace
from sk_unlearn.training.soft_targets import takes_soft_targets
from sk_unlearn.unlearners.base import UnlearningProblem
from sk_unlearn.unlearners.cubic._policy import Policy
from sk_unlearn.unlearners.cubic._state import Stage, State
from sk_unlearn.unlearners.cubic._stopping import Ending
from sk_unlearn.unlearners.status import Status

__all__ = ["Renewal", "RenewalStage", "why_no_renewal"]

_UNVOUCHED = (
    "Trained anew in {share:.0%} of the steps of a full training, {kind}. Predictions may differ from those of a full "
    "training more than they did before the request: compare on rows you know, or use Retrain()."
)
_FAILED = (
    "The network was to be trained anew in fewer steps, and training failed, so that steps from the fitted point had "
    "to do: {}"
)
_EXACT = "towards the labels, so that no layer knows anything of the erased rows"
_TAUGHT = (
    "towards the predictions of the net that had forgotten in its output layer, which may pass on traces of the rows"
)


@dataclass(frozen=True)
class Renewal:
    """Whether the network is to be trained anew, and why.

    Attributes
    ----------
    kind : str
        "labels" for training towards the labels, "teacher" for training towards what the fitted net predicts, or "no".

    reason : str
        Why, in numbers.

    brought : float
        Norm of what the deletion brings to the gradient.

    residual : float
        Norm of the gradient that training left.

    output_share : float
        Of the output layer in the tangent kernel of the erased rows; nan where it was not looked at.

    small : bool
        Whether only the size of the request spoke against it.

    is_asked_for : bool
        Whether the user wants it in any case.
    """

    kind: str
    reason: str
    brought: float
    residual: float
    output_share: float = float("nan")
    small: bool = False
    is_asked_for: bool = False

    @property
    def is_wanted(self) -> bool:
        """Whether to train anew."""
        return self.kind != "no"

    def told(self, share: float, *, done: bool) -> dict[str, Any]:
        """Return what the report tells of it, in plain numbers and words."""
        return {
            "renewal": self.kind if done else "no",
            "renewal_reason": self.reason if done or not self.is_wanted else "steps in the whole network were enough",
            "output_layer_share": self.output_share,
            "share_of_training": share if done else 0.0,
        }

    @classmethod
    def chosen(cls, problem: UnlearningProblem, policy: Policy, share: float, *, wanted: bool) -> Renewal:
        """Decide from the gradients at hand and from where the net's outputs on the erased rows hang.

        Parameters
        ----------
        problem : UnlearningProblem

        policy : Policy

        share : float
            Of the steps of a full training that there would be.

        wanted : bool
            True where the user asks for it, so that only the kind is to be chosen.
        """
        brought = float((problem.gradient - problem.residual).norm())
        residual = float(problem.residual.norm())
        ratio = residual / brought if brought else float("inf")
        seen = (brought, residual)
        outweighs = ratio <= policy.outweighing or not takes_soft_targets(problem.net)
        kind = "labels" if outweighs else "teacher"
        if wanted:
            return cls(kind, "renew=True asks for it", *seen, is_asked_for=True)
        together = residual / (brought + problem.passed_over) if brought else float("inf")
        if together > policy.small_request:
            reason = f"what it brings to the gradient is {1 / together:.2g} of what training had left there"
            return cls("no", reason, *seen, small=True)
        n_steps = round(share * problem.n_steps)
        if n_steps < policy.fewest_steps:
            return cls("no", f"{n_steps} steps are too few to train in", *seen)
        in_layer = _output_share(problem, policy)
        if in_layer >= policy.output_share and ratio > policy.drowning:
            return cls("no", f"{in_layer:.0%} of the tangent kernel is the output layer's", *seen, in_layer)
        reason = f"{1 - in_layer:.0%} of the tangent kernel of the erased rows lies before the output layer"
        return cls(kind, reason, *seen, in_layer)


def _output_share(problem: UnlearningProblem, policy: Policy) -> float:
    """Return the output layer's share of the tangent kernel of some erased rows; 0 where there is none."""
    layer = output_layer(problem.erased)[0]
    if layer is None:
        return 0.0
    rows = problem.erased.sample(min(problem.erased.n_rows, policy.kernel_rows), problem.rng)
    trace = tangent_kernel_trace(problem.erased, problem.parameters, rows, problem.rng)
    return float(layer.extract(trace).sum() / trace.sum())


def why_no_renewal(problem: UnlearningProblem) -> str:
    """Say why the net cannot be trained anew; nothing where it can."""
    if problem.retained.stored is None:
        return "keep_training_set=False kept no rows to train on"
    return problem.why_not_shorter


@dataclass(frozen=True)
class RenewalStage:
    """Train a fresh net on the retained rows in a share of the steps.

    Attributes
    ----------
    renewal : Renewal

    share : float
        Of the steps of a full training.

    teaching : sequence of Stage
        What makes a teacher of the fitted net.
    """

    renewal: Renewal
    share: float
    teaching: Sequence[Stage] = ()

    def run(self, state: State) -> Ending | None:
        """Train; see :class:`Stage`. Where that fails and the user had not asked for it, the next stage goes on."""
        teacher = None
        if self.renewal.kind == "teacher":
            for stage in self.teaching:
                stage.run(state)  # whatever it comes to is good enough to learn from
            teacher = state.w
        try:
            trained = state.problem.retrain(share=self.share, teacher=teacher)
        except (ValueError, RuntimeError) as error:
            if self.renewal.is_asked_for:
                raise
            state.remarks.append(_FAILED.format(error))
            return None
        state.trained, state.w, state.gradient_lags = trained, flat_parameters(trained.net), True
        state.remarks.append(_UNVOUCHED.format(share=self.share, kind=_EXACT if teacher is None else _TAUGHT))
        towards = "labels" if teacher is None else "predictions of the net that had forgotten in its output layer"
        reason = f"trained anew towards the {towards} in {self.share:.2g} of the steps, because {self.renewal.reason}"
        return Ending(Status.COMPLETED, reason)
