"""From a request to the problem that an unlearner solves, and from its result to what the next request starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn.estimators._certificate import certificate_if_convex
from sk_unlearn.estimators._claims import still_known, why_not_converged
from sk_unlearn.estimators._constants import built_in
from sk_unlearn.estimators._features import StoredFeatures
from sk_unlearn.estimators._handed_in import bounded, chance_loss, check_harmless
from sk_unlearn.estimators._request import Content, Request
from sk_unlearn.estimators._state import Anchor
from sk_unlearn.risks.combined import CombinedRisk
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.risks.layer_inputs import InputChange, LayerInputs
from sk_unlearn.risks.protocol import Risk
from sk_unlearn.risks.quadratic import QuadraticRisk
from sk_unlearn.rows import TrainingSet
from sk_unlearn.rows.content import same_content
from sk_unlearn.training.ledger import Trained
from sk_unlearn.training.start import TrainingStart
from sk_unlearn.unlearners.base import Unlearner, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._twins import twin

__all__ = ["Solution", "had_little_to_undo", "hardly_moved", "solve", "stored_risk"]

# Where less than this share of the mass is left, it is summed anew: the difference would be mostly rounding error.
_LITTLE = 1e-6
# Rows that stay and are looked at before all of them are, to see whether they use what the erased rows do.
_LOOKED_AT = 512


@dataclass(frozen=True)
class Solution:
    """What the unlearner made of a request.

    Attributes
    ----------
    result : UnlearningResult or None
        None where no row of the request had entered a gradient, so that nothing moves.

    anchor : Anchor or None
        What the next request will start from; None where that must be taken over the stored rows.

    recording : object
        As it is after the request.

    told : dict
        What the report tells of it.
    """

    result: UnlearningResult | None
    anchor: Anchor | None
    recording: Any = None
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def role(self) -> NDArray[np.int8] | None:
        """What the rows that stay, in their order, were used for where the net was trained anew; else None."""
        trained = None if self.result is None else self.result.trained
        return None if trained is None else trained.role


def stored_risk(net: NeuralNet, rows: TrainingSet, mass: float | None = None) -> EmpiricalRisk:
    """Return the risk over the stored rows that were trained on, and whose mass may be known."""
    return EmpiricalRisk(net, rows.raw_X, rows.raw_y, rows.raw_weight, mask=rows.trained_mask, mass=mass)


def solve(
    net: NeuralNet,
    rows: TrainingSet | None,
    request: Request,
    anchor: Anchor,
    unlearner: Unlearner,
    rng: np.random.Generator,
    *,
    recording: Any,
    start: TrainingStart | None,
    features: StoredFeatures | None,
    set_aside_at: float,
    retrain: Callable[..., Trained],
    why_not_shorter: str,
    n_steps: int,
    report_step: Callable[[Mapping[str, Any]], None],
) -> Solution:
    """Pose the problem on a twin of the net and let the unlearner solve it.

    Parameters
    ----------
    net : skorch.NeuralNet
        The fitted net; no evaluation touches its modules.

    rows : TrainingSet or None
        The stored rows.

    request : Request
        With at least one row that had entered a gradient.

    anchor : Anchor
        What is known of the rows.

    unlearner : Unlearner

    rng : numpy.random.Generator
        The source of all randomness.

    features : StoredFeatures or None
        What earlier requests have left.

    recording, start, set_aside_at, retrain, why_not_shorter, n_steps, report_step
        As for :class:`~sk_unlearn.unlearners.UnlearningProblem`.

    Raises
    ------
    ValueError
        When nothing would be left to model, or when rows that were handed in and are not stored cannot be taken away
        without harm to those that are.

    FloatingPointError
        When the result is not finite.
    """
    posed, gradient, residual = _pose(twin(net), rows, request, anchor)
    problem = UnlearningProblem(
        parameters=posed.w,
        retained=posed.retained,
        erased=posed.erased,
        gradient=gradient,
        residual=residual,
        rng=rng,
        net=posed.net,
        retrain=retrain,
        report_step=report_step,
        recording=recording,
        erased_rows=request.erased_rows,
        start=start,
        layer_inputs=posed.inputs,
        why_not_shorter=why_not_shorter,
        n_steps=n_steps,
        n_to_train=_n_to_train(rows, request, anchor),
        features=None if features is None or rows is None else features.of_retained(rows, request.positions),
        set_aside_at=set_aside_at,
        is_estimated=anchor.is_estimated and rows is not None,
        norm_left=anchor.norm_left,
        is_built_in=built_in(net) is not None,
    )
    del gradient, residual  # it is for the problem to hold them
    if posed.erased.draws:
        problem.known_from(parameters=lambda: posed.w)
    else:
        problem.known_from(parameters=lambda: posed.w, gradient=lambda: posed.gradient(anchor))
    if not unlearner.__unlearner_tags__().takes_estimates:
        problem = problem.with_exact_gradient()
    result = unlearner.unlearn(problem)
    if not bool(torch.isfinite(result.parameters).all()):
        raise FloatingPointError(
            f"{type(unlearner).__name__} arrived at parameters that are not finite; nothing was changed."
        )
    result = _as_kept(net, posed, result)
    if posed.foreign is not None and rows is not None:
        assert posed.retained.stored is not None
        check_harmless(posed.retained.stored, posed.w, result)
    elif posed.foreign is not None and posed.retained.holds_locally:
        exact = posed.w if result.released is None else result.released.parameters
        result = bounded(posed.erased, exact, result, anchor.chance)
    recording = result.recording
    if recording is None and result.trained is not None:
        recording = result.trained.recording
    after = _anchor_after(posed, request, anchor, result)
    return Solution(result, after, recording, _told(posed, problem, result, request, anchor))


_ROUNDED = (
    "Rounding to {dtype} took back {share:.0%} of the change that the request came to: the net keeps its parameters in "
    "{dtype}. Keep them in float32 and compute in half precision under torch.autocast, or use Retrain()."
)
# Of the change; less is no more than what rounding makes of any training.
_MUCH_ROUNDED = 0.1


def _as_kept(net: NeuralNet, posed: _Posed, result: UnlearningResult) -> UnlearningResult:
    """Return a result with its parameters as the net will hold them, where it has them in less than float32."""
    dtype = next(p.dtype for p in net.module_.parameters() if p.requires_grad)
    kept = result.parameters.to(dtype).to(result.parameters)
    if result.trained is not None or torch.equal(kept, result.parameters):
        return result
    lost = float((kept - result.parameters).norm()) / float((result.parameters - posed.w).norm())
    name = str(dtype).removeprefix("torch.")
    notes = [_ROUNDED.format(dtype=name, share=min(lost, 1.0))] if lost > _MUCH_ROUNDED else []
    # The next request starts from what is there.
    gradient = None if result.gradient is None else posed.retained.gradient(kept)
    return replace(result, parameters=kept, gradient=gradient, is_estimated=False, notes=[*result.notes, *notes])


@dataclass(frozen=True)
class _Posed:
    """The risks of a request around the fitted parameters w of a net, which must not change while it is solved."""

    net: NeuralNet
    retained: Risk
    erased: EmpiricalRisk
    added: EmpiricalRisk | None
    foreign: EmpiricalRisk | None
    mass: float
    erased_value: float
    erased_gradient_norm: float
    inputs: InputChange
    stores_rows: bool

    @property
    def w(self) -> Tensor:
        """The fitted parameters: the net's own, copied each time rather than held beside them."""
        return flat_parameters(self.net)

    def gradient(self, anchor: Anchor) -> Tensor:
        """Return the gradient that the request leaves at w, where evaluations draw no random numbers."""
        w = self.w
        changes = [(-self.erased.mass, self.erased.gradient(w))]
        if self.added is not None:
            changes.append((self.added.mass, self.added.gradient(w)))
        return _gradient_left(anchor.gradient.to(w), changes, self.mass)


def _gradient_left(present: Tensor, changes: Sequence[tuple[float, Tensor]], mass: float) -> Tensor:
    """Return the gradient over the rows that count, from that before and those of the rows that leave or come.

    Written as a change, it is exactly the present gradient where the rows change nothing.

    Parameters
    ----------
    present : Tensor of shape (d,)

    changes : sequence of (float, Tensor)
        The mass of rows, negative for those that leave, and their gradient.

    mass : float
        Of the rows that count.
    """
    change_of_sum, *others = (share * (gradient - present) for share, gradient in changes)
    for other in others:
        change_of_sum += other
    return present + change_of_sum / mass


def _pose(net: NeuralNet, rows: TrainingSet | None, request: Request, anchor: Anchor) -> tuple[_Posed, Tensor, Tensor]:
    """Return what a request comes to, the gradient that it leaves over the rows that count, and the residual."""
    w = flat_parameters(net)
    erased = _risk(net, request.erased)
    added = None if request.added is None else _risk(net, request.added)
    foreign = None if request.foreign is None else _risk(net, request.foreign)
    left = anchor.mass - erased.mass
    mass = left + (0.0 if added is None else added.mass)
    is_little = left <= _LITTLE * anchor.mass
    if rows is None:
        retained: Risk = _without_rows(anchor, w, foreign)
    else:
        known = None if is_little or foreign is not None else left
        retained = _over_rows(net, rows, request, added, foreign, known)
    if mass <= _LITTLE * anchor.mass:
        mass = retained.mass
    if not mass > 0:
        raise ValueError("The request covers every row that the network was trained on; nothing would be left.")
    # The gradient over what stays follows from what is known over all rows and from the changed rows alone.
    erased_value, erased_gradient, gone = erased.value_gradient_and_inputs(w)
    changes, come = [(-erased.mass, erased_gradient)], None
    if added is not None:
        _, added_gradient, come = added.value_gradient_and_inputs(w)
        changes.append((added.mass, added_gradient))
    elif foreign is not None and rows is not None:
        come = foreign.layer_inputs(w)
    # Where evaluations draw random numbers, a pass over all rows would tell nothing.
    take = look = None
    if rows is not None and not erased.draws:
        take = partial(_inputs_of, stored_risk(net, rows, anchor.mass), net)
        look = partial(_inputs_of_some, retained, net)
    gradient, residual = _gradient_left(anchor.gradient.to(w), changes, mass), anchor.residual.to(w)
    if erased.draws and rows is not None:
        # What a row draws depends on which others it is evaluated with: gradients over parts of the rows do not add up
        # to that over all of them. What the deletion brings is kept, and the rest tilts the risk as it is evaluated.
        brought = gradient - residual
        gradient = retained.gradient(w)
        residual = gradient - brought
    posed = _Posed(
        net,
        retained,
        erased,
        added,
        foreign,
        mass,
        erased_value,
        float(erased_gradient.norm()),
        InputChange(anchor.inputs, gone, come, take, look),
        stores_rows=rows is not None,
    )
    return posed, gradient, residual


def _n_to_train(rows: TrainingSet | None, request: Request, anchor: Anchor) -> int:
    """Return how many rows a training anew would read; without stored rows, those that the first one had read."""
    if rows is None:
        return anchor.n_rows - (0 if request.replaces else request.n_trained)
    return rows.n_read if request.replaces else rows.n_read - rows.count_read(request.positions)


def _inputs_of(stored: EmpiricalRisk, net: NeuralNet) -> LayerInputs | None:
    return stored.layer_inputs(flat_parameters(net))


def _inputs_of_some(retained: Risk, net: NeuralNet) -> LayerInputs | None:
    assert retained.stored is not None
    return retained.stored.layer_inputs(
        flat_parameters(net), retained.stored.sample(_LOOKED_AT, np.random.default_rng(0))
    )


def _risk(net: NeuralNet, content: Content) -> EmpiricalRisk:
    return EmpiricalRisk(net, content.X, content.y, content.weight)


def _over_rows(
    net: NeuralNet,
    rows: TrainingSet,
    request: Request,
    added: EmpiricalRisk | None,
    foreign: EmpiricalRisk | None,
    mass: float | None,
) -> EmpiricalRisk | CombinedRisk:
    mask = rows.trained_mask_without(request.positions)
    stored = EmpiricalRisk(net, rows.raw_X, rows.raw_y, rows.raw_weight, mask=mask, mass=mass)
    if added is None and foreign is None:
        return stored
    return CombinedRisk(stored, added=_listed(added), removed=_listed(foreign))


def _without_rows(anchor: Anchor, w: Tensor, foreign: EmpiricalRisk | None) -> QuadraticRisk:
    assert anchor.sketch is not None
    sketch, removed = anchor.sketch.to(w.device), _listed(foreign)
    present = QuadraticRisk(w, anchor.gradient.to(w), sketch, anchor.mass)
    after = CombinedRisk(present, removed=removed)
    # A quadratic stands for the rows that leave, too. Their exact loss would not cancel their part of the other
    # quadratic, and the difference of the two would fall without bound as their loss grows.
    return QuadraticRisk(w, after.gradient(w), sketch.updated(anchor.mass, w, removed=removed), after.mass)


def _listed(risk: EmpiricalRisk | None) -> list[EmpiricalRisk]:
    return [] if risk is None else [risk]


def _anchor_after(posed: _Posed, request: Request, anchor: Anchor, result: UnlearningResult) -> Anchor | None:
    """Return what the next request will start from; None when it must be taken over the stored rows."""
    if result.gradient is not None:
        gradient = result.gradient
    elif posed.stores_rows and result.target is None:
        return None
    else:
        gradient = posed.retained.gradient(result.parameters)
    residual = gradient if result.target is None else result.target.to(gradient)
    n_rows = anchor.n_rows - (0 if request.replaces else posed.erased.n_rows)
    is_estimated = result.is_estimated and result.gradient is not None
    norm_left = 0.0 if result.target is None else max(anchor.norm_left, float(anchor.residual.norm()))
    moved = result.features_moved and not torch.equal(result.parameters, posed.w)
    inputs = posed.inputs.after(features_moved=moved)
    after = Anchor(
        residual, gradient, posed.mass, n_rows, anchor.sketch, anchor.chance, inputs, is_estimated, norm_left
    )
    if posed.foreign is not None and posed.stores_rows:
        after = _with_store_alone(after, posed.foreign, result.parameters)
    if after.sketch is not None:
        sketch = after.sketch.updated(anchor.mass, result.parameters, removed=_listed(posed.foreign))
        after = replace(after, sketch=sketch.to(torch.device("cpu")))
    return replace(after, residual=after.residual.cpu(), gradient=after.gradient.cpu())


def _with_store_alone(anchor: Anchor, foreign: EmpiricalRisk, w: Tensor) -> Anchor:
    """Return the anchor after rows that were not in the store have been taken away.

    From now on the store alone is the risk, and the target moves along so that the next request does not undo this one.
    """
    mass = anchor.mass + foreign.mass
    shift = foreign.mass / mass * (foreign.gradient(w) - anchor.gradient)
    return replace(
        anchor, residual=anchor.residual + shift, gradient=anchor.gradient + shift, mass=mass,
        n_rows=anchor.n_rows + foreign.n_rows,
    )  # fmt: skip


# What a report takes over from a result as it stands.
_AS_IT_STANDS = (
    "n_products", "curvature_min", "curvature_max", "predicted_decrease", "actual_decrease", "solver", "extra", "trace",
)  # fmt: skip

_READS_LIKE_SUCCESS = (Status.CONVERGED, Status.COMPLETED, Status.SETTLED, Status.NOTHING_TO_UNDO)
_STOOD_STILL = (
    "Rows that had been trained on were to go, and no parameter has changed: what the model knows of them is still "
    "there. Use another unlearner or other settings of this one; Retrain() leaves nothing of the rows."
)

# A request that leaves so much of the gradient, and changes the loss of the rows by so little, has undone nothing much.
_MOST_OF_GRADIENT, _LITTLE_OF_LOSS = 0.9, 0.01


def _is_to_move(request: Request, result: UnlearningResult) -> bool:
    """Tell whether there is something to undo; a net trained anew may come out the same."""
    old, new = request.erased, request.added
    same = new is not None and all(same_content(*each).all() for each in ((old.X, new.X), (old.y, new.y)))
    return result.trained is None and not same


# Rows are fitted that cost at most this share of what they would if the model knew nothing of them: as `fitted_share`
# of the cubic engine, whose steps hold less of the residual there.
_FITTED_SHARE = 0.02
_LITTLE_TO_UNDO = "There was little that a step could undo: "


def hardly_moved(gradient_before: float, gradient_after: float, loss_before: float, loss_after: float) -> bool:
    """Tell whether a step was taken that comes to nothing; a gradient that is not known says nothing."""
    return (
        0 < _MOST_OF_GRADIENT * gradient_before < gradient_after
        and abs(loss_after - loss_before) <= _LITTLE_OF_LOSS * abs(loss_before)
    )  # fmt: skip


def had_little_to_undo(notes: Sequence[str]) -> bool:
    """Tell whether a report notes that a step which came to nothing had little to undo."""
    return any(note.startswith(_LITTLE_TO_UNDO) for note in notes)


def _why_hardly_moved(left: float, loss: float, chance: float) -> str:
    """Say what a step that comes to nothing means.

    Parameters
    ----------
    left : float
        Share of the gradient that is left.

    loss : float
        Of the rows, before and after.

    chance : float
        Of retained rows if each got the same output; nan where that is not known.
    """
    if 0 <= loss <= _FITTED_SHARE * chance:
        return (
            f"{_LITTLE_TO_UNDO}the loss of the rows was {loss:.2g} already, where one output for all rows costs "
            f"{chance:.2g}, and so small a loss brings hardly any gradient. What a net that fits its rows so well "
            "still knows of them, this does not tell: compare with Retrain() where it matters."
        )
    return (
        f"Next to nothing was undone: {left:.0%} of the gradient that the deletion brought "
        "is left, and the loss of the rows has not changed by more than a hundredth: most of what the model knows of "
        "them is still there. Train longer, use another unlearner, or Retrain(), which leaves nothing of the rows."
    )


def _chance(posed: _Posed, anchor: Anchor) -> float:
    """Return the mean loss of retained rows if each got the same output; nan where that is not known."""
    stored = posed.retained.stored
    if stored is None:
        return anchor.chance
    return chance_loss(stored, posed.w) if stored.n_rows else float("nan")


def _told(
    posed: _Posed, problem: UnlearningProblem, result: UnlearningResult, request: Request, anchor: Anchor
) -> dict[str, Any]:
    """Return what the report tells of a result. Gradient norms are of Φ, whatever the method itself descends."""
    objective = problem.objective
    taken = [record for record in result.trace if record.get("taken", True)]
    residual = problem.residual if result.released is None else result.released.residual
    gradient_after = float("nan") if result.gradient is None else float((result.gradient - residual).norm())
    # A net trained anew brings buffers of its own.
    seen = posed.erased if result.trained is None else _risk(result.trained.net, request.erased)
    before = posed.erased.without_penalty(posed.w, posed.erased_value)
    after = seen.without_penalty(result.parameters, seen.value(result.parameters))
    step_norm = float((result.parameters - posed.w).norm())
    status, notes = result.status, list(result.notes)
    if _is_to_move(request, result):
        if torch.equal(result.parameters, posed.w):
            status = Status.UNMOVED if status in _READS_LIKE_SUCCESS else status
            notes.append(_STOOD_STILL)
        elif hardly_moved(brought := objective.gradient_norm_at_start, gradient_after, before, after):
            notes.append(_why_hardly_moved(gradient_after / brought, before, _chance(posed, anchor)))
    certificate = result.certificate
    if certificate is None and result.trained is not None:
        same = torch.equal(flat_parameters(result.trained.net), result.parameters)
        certificate = result.trained.certificate if same else None
    if certificate is None:
        certificate = certificate_if_convex(posed.retained, result.parameters)
    reason = result.stop_reason
    neighbours = None if request.replaces else posed.retained.stored
    # Where the optimum is the only one, its distance is known; a net trained anew has nothing to be converged to.
    if status is Status.CONVERGED and certificate is None and result.trained is None:
        doubt = why_not_converged(
            posed.erased,
            neighbours,
            result.parameters,
            brought=objective.gradient_norm_at_start,
            left=0.0 if result.target is None else float(problem.residual.norm()),
        )
        status, reason = (Status.UNCERTAIN, f"{reason}, {doubt}") if doubt else (status, reason)
    elif certificate is None and result.trained is None:
        notes += still_known(posed.erased, neighbours, result.parameters)
    return {
        "status": status,
        "n_steps": len(taken),
        "step_norm": step_norm,
        "parameters_moved": bool((result.parameters != posed.w).any()),
        "gradient_norm_before": objective.gradient_norm_at_start,
        "gradient_norm_after": gradient_after,
        "erased_gradient_norm": posed.erased_gradient_norm,
        "residual_norm": float(problem.residual.norm()),
        "erased_loss_before": before,
        "erased_loss_after": after,
        "damping": float(taken[-1]["damping"]) if taken and "damping" in taken[-1] else float("nan"),
        # A method may meet its own criterion by doing little, so the report says what became of the loss.
        "stop_reason": f"{reason}; the mean loss of the erased rows went from {before:.3g} to {after:.3g}",
        "certificate": certificate,
        "notes": notes,
        **{name: getattr(result, name) for name in _AS_IT_STANDS},
    }
