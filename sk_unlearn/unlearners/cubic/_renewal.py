"""Training the whole network anew, for a request that steps in the output layer cannot carry out, and when to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sk_unlearn.privacy import Assumption
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.risks.output_layer import output_layer
from sk_unlearn.risks.tangent_kernel import tangent_kernel_trace
from sk_unlearn.training.ledger import Trained
from sk_unlearn.training.soft_targets import takes_soft_targets
from sk_unlearn.unlearners.base import UnlearningProblem
from sk_unlearn.unlearners.cubic._comparison import Comparison
from sk_unlearn.unlearners.cubic._policy import Policy
from sk_unlearn.unlearners.cubic._release import Release
from sk_unlearn.unlearners.cubic._state import Stage, State, added_parts
from sk_unlearn.unlearners.cubic._stopping import Ending
from sk_unlearn.unlearners.status import Status

__all__ = ["Renewal", "RenewalStage", "why_no_renewal"]

_UNVOUCHED = (
    "Trained anew in {share:.0%} of the steps of a full training, {kind}. Predictions may differ from those of a full "
    "training more than they did before the request: compare on rows you know, or use Retrain()."
)
_FAILED = "The network was to be trained anew, and training failed, so that steps from the fitted point had to do: {}"
_SET_ASIDE = (
    "The network was trained anew in {share:.0%} of the steps and set aside, because {why}. What steps from the fitted "
    "point came to stands in its place; Retrain() leaves nothing of the rows."
)
_EXACT = "towards the labels, so that no layer knows anything of the erased rows"
_TAUGHT = "towards the predictions of {teacher}, which may pass on traces of the rows"

_CHOSEN = Assumption(
    "the choice to train anew does not depend on the erased rows",
    False,
    "they were looked at to choose it; Retrain(share=...) chooses nothing",
)
# What training raises where it does not come to an end, or where a sampler or a callback of the user's does not bear
# other rows. Whatever else strikes, such as a lack of memory, ends the request.
_FAILURES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
# Labels of retained rows that are looked at before all of them are.
_LABEL_ROWS = 1024
_TINY = 1e-30


@dataclass(frozen=True)
class Renewal:
    """Whether the network is to be trained anew, and why.

    Attributes
    ----------
    kind : str
        "labels" for training towards the labels, "teacher" for training towards what the fitted net predicts, or "no".

    reason : str
        Why, in numbers.

    share : float
        In which share of the steps of a full training.

    output_share : float
        Of the output layer in the tangent kernel of the erased rows; nan where it was not looked at
        or where there is no such layer.

    brought : float
        Norm of what this request and others since the net was trained brought to the gradient and left there.

    is_asked_for : bool
        Whether the user wants it in any case.

    is_certain : bool
        Whether the net is the better one whatever it turns out to be: asked for, or without so large a part of what the
        gradient knew that predictions for all rows may well change alike. Never where steps read all rows, unless it
        was asked for or takes as long as steps do.

    reads_all : bool
        Whether steps in the whole network read all rows, so that what it is set aside for has been forgotten in every
        layer.
    """

    kind: str
    reason: str
    share: float = 1.0
    output_share: float = float("nan")
    brought: float = 0.0
    is_asked_for: bool = False
    is_certain: bool = False
    reads_all: bool = False

    @property
    def is_wanted(self) -> bool:
        """Whether to train anew."""
        return self.kind != "no"

    def told(self, share: float, *, done: bool, why_not: str) -> dict[str, Any]:
        """Return what the report tells of it, in plain numbers and words.

        Parameters
        ----------
        share : float
            Of the steps of a full training.

        done : bool
            Whether the model is a net that was trained anew.

        why_not : str
            Why one that was trained anew is not the model, or why training failed; empty where neither happened.
        """
        return {
            "renewal": self.kind if done else "no",
            "renewal_reason": why_not or self.reason,
            "output_layer_share": self.output_share,
            "share_of_training": share if done or why_not else 0.0,
        }

    @classmethod
    def in_full(cls, problem: UnlearningProblem, policy: Policy) -> Renewal | None:
        """Return that of a training so short that steps from the fitted point cost no less; None for a longer one."""
        n_stored = problem.retained.n_rows
        n_left = n_stored + sum(part.n_rows for part in added_parts(problem.retained) or ())
        n_steps = round(problem.n_steps * n_left / (n_stored + problem.erased.n_rows))
        if not 0 < n_steps <= policy.short_training_steps:
            return None
        reason = f"that takes {n_steps} steps, and to undo a part of what they learnt costs no less"
        return cls("labels", reason, is_certain=True)

    @classmethod
    def chosen(cls, release: Release, policy: Policy, share: float, *, reads_all: bool, asked_for: bool) -> Renewal:
        """Decide from the gradients at hand and from where the net's outputs on the erased rows hang.

        Parameters
        ----------
        release : Release
            What is left to be undone, and what was released.

        policy : Policy

        share : float
            Of the steps of a full training that there would be.

        reads_all : bool
            Whether steps in the whole network read all rows.

        asked_for : bool
            True where the user asks for it, so that only the kind is to be chosen.
        """
        problem = release.problem
        # What earlier requests left is still between the two.
        brought, residual = float((problem.gradient - problem.residual).norm()), float(problem.residual.norm())
        ratio = residual / max(brought, _TINY)
        outweighs = ratio <= policy.outweighing
        # What a request brings along, such as corrected labels, no fitted net can teach; nor does it forget rows first
        # that are not stored. Where all rows are read, a net is trained anew whose output layer could not forget much.
        only_takes_away = problem.retained.stored is problem.retained
        taught = only_takes_away and not reads_all and takes_soft_targets(problem.net) and not _loses_a_class(problem)
        kind = "teacher" if taught and not outweighs else "labels"
        if asked_for:
            return cls(kind, "renew=True asks for it", share, is_asked_for=True, is_certain=True)
        if residual > policy.small_request * brought:
            reason = f"what it brings to the gradient is {brought / residual:.2g} of what training had left there"
            return cls("no", reason)
        if not outweighs and brought < policy.since_set_aside * problem.set_aside_at:
            return cls("no", "hardly more is to be undone than when a net that was trained anew was set aside")
        if problem.erased.n_rows == 1 and brought < policy.one_of_many * _own_change(release):
            return cls("no", "it is one row")
        n_steps = round(share * problem.n_steps)
        if n_steps < policy.fewest_steps and not problem.why_not_shorter:
            return cls("no", f"{n_steps} steps are too few to train in")
        if not _returns_one_tensor(problem):
            return cls("no", "the module does not return one tensor, by which to judge a net that was trained anew")
        in_layer, went_back = _kernel_shares(release, policy)
        if went_back >= policy.released_share:
            reason = f"{went_back:.0%} of the tangent kernel was that of weights that went back"
            return cls("no", reason, share, in_layer)
        if in_layer >= (policy.output_share_of_all if reads_all else policy.output_share):
            return cls("no", f"{in_layer:.0%} of the tangent kernel is the output layer's", share, in_layer)
        reason = (
            "the net has no output layer that could be moved on its own"
            if math.isnan(in_layer)
            else f"{1 - in_layer:.0%} of the tangent kernel of the erased rows lies before the output layer"
        )
        is_certain = outweighs and not reads_all
        return cls(kind, reason, share, in_layer, brought, is_certain=is_certain, reads_all=reads_all)


def _own_change(release: Release) -> float:
    """Return the norm of what the request by itself brings to the gradient, without what earlier ones left."""
    problem, live = release.problem, release.live
    share = problem.erased.mass / (problem.erased.mass + problem.retained.mass)
    return share * float(live(problem.gradient - problem.erased.gradient(problem.parameters)).norm())


def _roughly(norm: float, rng: np.random.Generator) -> float:
    """Return a norm whose square is rounded to a power of two, up or down at random so that it is right on average.

    It is kept between requests, and an exact norm would confirm a guess at what the rows were.
    """
    if not 0 < norm < math.inf:
        return 0.0
    mantissa, exponent = math.frexp(norm**2)  # the mantissa is between a half and one
    up = rng.spawn(1)[0].random() < 2 * mantissa - 1  # steps draw what they would have drawn without the question
    return math.ldexp(1.0, exponent if up else exponent - 1) ** 0.5


def _loses_a_class(problem: UnlearningProblem) -> bool:
    """Tell whether no row is left of a class: whatever a teacher still says of it is wrong."""
    y, stored = problem.erased.targets(), problem.retained.stored
    if stored is None or y.ndim != 1 or y.dtype.kind not in "iu":
        return False
    # A few rows have nearly always one of each class, and then the others need not be read.
    some, classes = stored.sample(_LABEL_ROWS, np.random.default_rng(0)), np.unique(y)
    return not any(bool(np.isin(classes, stored.targets(rows)).all()) for rows in (some, None))


def _returns_one_tensor(problem: UnlearningProblem) -> bool:
    try:
        problem.erased.outputs(problem.parameters, np.arange(1))
    except TypeError:
        return False
    return True


def _kernel_shares(release: Release, policy: Policy) -> tuple[float, float]:
    """Return two shares of the tangent kernel of some erased rows.

    Returns
    -------
    in_layer : float
        Of the output layer, in what a release left; nan where there is no such layer.

    went_back : float
        Of the weights that were released.
    """
    problem = release.problem
    layer = output_layer(problem.erased)[0]
    rng = problem.rng.spawn(1)[0]  # so that steps draw the rows that they would have drawn without the question
    rows = problem.erased.sample(min(problem.erased.n_rows, policy.kernel_rows), rng)
    seed = int(rng.integers(2**32))

    def trace(along: Callable[[Tensor], Tensor] | None) -> Tensor:
        return tangent_kernel_trace(problem.erased, problem.parameters, rows, np.random.default_rng(seed), along=along)

    if layer is None and not release.dead:
        return math.nan, 0.0
    live = trace(release.live if release.dead else None)
    went_back = 1 - float(live.sum() / trace(None).sum()) if release.dead else 0.0
    return math.nan if layer is None else float(layer.extract(live).sum() / live.sum().clamp_min(_TINY)), went_back


def why_no_renewal(problem: UnlearningProblem) -> str:
    """Say why the net cannot be trained anew; nothing where it can."""
    if problem.retained.stored is None:
        return "keep_training_set=False kept no rows to train on"
    return problem.why_not_shorter


def _teacher(state: State) -> str:
    """Say in words what the net has forgotten, of whose predictions another is to learn."""
    if torch.equal(state.w, state.problem.parameters):
        return "the fitted net"
    if state.features_moved:
        return "the net that had forgotten by steps in all its layers"
    return "the net that had forgotten in its output layer"


@dataclass(frozen=True)
class RenewalStage:
    """Train a fresh net on the retained rows in a share of the steps.

    Attributes
    ----------
    renewal : Renewal

    policy : Policy

    teaching : sequence of Stage
        What makes a teacher of the fitted net.
    """

    renewal: Renewal
    policy: Policy
    teaching: Sequence[Stage] = ()

    def run(self, state: State) -> Ending | None:
        """Train; see :class:`Stage`. Where that fails and the user had not asked for it, what steps came to remains."""
        teacher, taught, called, share = None, None, "", self.renewal.share
        if self.renewal.kind == "teacher":
            for stage in self.teaching if state.output_layer is not None else ():
                taught = stage.run(state)  # whatever it comes to is good enough to learn from
            called = _teacher(state)
            teacher = state.w
        try:
            at_once = not self.renewal.is_asked_for
            trained = state.problem.retrain(share=share, teacher=teacher, at_once=at_once)
        except _FAILURES as error:
            if self.renewal.is_asked_for:
                raise
            state.why_not_renewed = "training anew failed"
            state.set_aside_at = _roughly(self.renewal.brought, state.problem.rng)
            state.remarks.append(_FAILED.format(error))
            return taught
        why = "" if self.renewal.is_certain else self._why_worse(state.problem, trained)
        if why:
            state.why_not_renewed = why
            state.set_aside_at = _roughly(self.renewal.brought, state.problem.rng)
            state.remarks.append(_SET_ASIDE.format(share=share, why=why))
            return taught
        if trained.certificate is not None:
            basis = [*trained.certificate.assumptions, _CHOSEN]
            trained = trained._replace(certificate=replace(trained.certificate, assumptions=basis))
        state.trained, state.w, state.gradient_lags = trained, flat_parameters(trained.net), True
        kind = _EXACT if teacher is None else _TAUGHT.format(teacher=called)
        if share < 1:
            state.remarks.append(_UNVOUCHED.format(share=share, kind=kind))
        if trained.paced is not None:
            state.remarks += trained.paced.notes()
        towards = "labels" if teacher is None else f"predictions of {called}"
        part = f"in {share:.2g} of the steps" if share < 1 else "in full"
        reason = f"trained anew towards the {towards} {part}, because {self.renewal.reason}"
        return Ending(Status.COMPLETED, reason)

    def _why_worse(self, problem: UnlearningProblem, trained: Trained) -> str:
        """Say what speaks against the net once it is trained; nothing where it is the better one."""
        seen, policy = Comparison.of(problem, trained, self.policy), self.policy
        apart, rise, left = policy.apart, policy.loss_rise, policy.loss_left
        if self.renewal.reads_all:
            apart, rise, left = policy.apart_of_all, policy.loss_rise_of_all, policy.fitted_share
        if not seen.apart >= apart:
            return f"it changed predictions for the erased rows {seen.apart:.2g} times as much as for the retained ones"
        if seen.loss_rise > rise and seen.loss_left > left:
            return f"so few steps did not learn the retained rows: their loss is {seen.loss_rise:.3g} times what it was"
        return ""
