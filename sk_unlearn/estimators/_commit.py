"""From a solution to what makes a changed estimator: the new state is built aside, to be put in place at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn import distributed
from sk_unlearn.estimators._batch_norm import batch_norm_layers, not_renewed, renew_statistics
from sk_unlearn.estimators._check import UNSTEADY
from sk_unlearn.estimators._constants import built_in, constants_of
from sk_unlearn.estimators._draft import Draft
from sk_unlearn.estimators._features import StoredFeatures
from sk_unlearn.estimators._footing import Footing, set_decay
from sk_unlearn.estimators._notes import (
    kept_side_state,
    left_outside,
    moved_by_statistics,
    on_trust,
    out_of_reach,
    some_outputs,
)
from sk_unlearn.estimators._problem import Solution
from sk_unlearn.estimators._receipts import receipt_of, receipts_so_far, retained_after
from sk_unlearn.estimators._request import Request
from sk_unlearn.estimators._slices import slices_left
from sk_unlearn.estimators._spread import net_as_first, same_net
from sk_unlearn.estimators._state import Anchor, FittedState
from sk_unlearn.estimators.report import report_of
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.rows import TrainingSet, sample_mask
from sk_unlearn.training.finite import buffers_not_finite, diverged
from sk_unlearn.training.ledger import Trained
from sk_unlearn.training.start import Schedule
from sk_unlearn.unlearners.base import Unlearner
from sk_unlearn.utils._journal import Assignment
from sk_unlearn.utils._random import numpy_seed
from sk_unlearn.utils._twins import compiled_as, twin, uncompiled

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = ["draft_of_solution", "load_flat", "net_assignments"]

# Rows that stay and are looked at: as many as leave, within these bounds. What a few rows change is small, and so is
# the error of a difference over the same rows.
_FEWEST_SHOWN, _MOST_SHOWN = 256, 2048


def draft_of_solution(
    estimator: BaseUnlearnable,
    request: Request,
    solution: Solution,
    ground: Footing,
    rng: np.random.Generator,
    *,
    unlearner: Unlearner,
    started: float,
    notes: Sequence[str] = (),
) -> Draft:
    """Build what carries a solution over into the estimator: parameters, statistics, rows and report.

    Parameters
    ----------
    estimator : BaseUnlearnable
        Fitted; not changed. Committing the draft changes its net and its training set in place, so that whoever holds
        them holds the forgetful ones.

    request : Request

    solution : Solution

    ground : Footing
        From which it was solved.

    rng : numpy.random.Generator
        Draws the rows that tell what a request changes in BatchNorm statistics.

    unlearner : Unlearner
        That solved it.

    started : float
        When the request came, by ``time.perf_counter``.

    notes : sequence of str
        What is to be told beside all that.

    Returns
    -------
    draft : Draft
    """
    rows: TrainingSet | None = getattr(estimator, "training_set_", None)
    renewed = _with_settings(_renewed(ground.net, rows, request, solution, rng), solution, ground)
    net_as_first(renewed.net)
    state = _state_after(estimator, request, solution, renewed)
    state = replace(state, retained_set=retained_after(estimator, rows, request, state.retained_set), served="")
    report = report_of(
        request,
        type(unlearner).__name__,
        solution.told,
        n_retained=_n_retained(rows, request, renewed.anchor),
        notes=[
            *state.notes,
            *out_of_reach(estimator, rows, request, solution),
            *on_trust(rows, request),
            *kept_side_state(state, solution),
            *([] if estimator._is_shard else left_outside(rows, request)),
            *renewed.notes,
            *notes,
        ],
        seconds=time.perf_counter() - started,
    )
    if distributed.is_active():
        report = distributed.from_first(report)
    state = replace(state, since=state.since.after(report))
    own = estimator.__dict__
    history = [*(each.brief() for each in estimator.unlearning_history_), report]
    receipt = receipt_of(estimator, request, report, net=renewed.net, state=state, unlearner=unlearner)
    if distributed.is_active():
        receipt = distributed.from_first(receipt)
        same_net(renewed.net)
    assignments = [
        *net_assignments(estimator.net_, renewed.net),
        *[(vars(estimator.net_), name, value) for name, value in renewed.settings.items()],
        (own, "unlearning_state_", state),
        (own, "unlearning_report_", report),
        (own, "unlearning_history_", history),
        (own, "receipts_", receipts_so_far(estimator).append(receipt)),
        *([] if rows is None else _row_assignments(rows, request, solution.role)),
    ]
    return Draft(estimator._journal, assignments, report, rows)


@dataclass(frozen=True)
class _Renewed:
    """The net and the anchor as they will be.

    Attributes
    ----------
    net : skorch.NeuralNet
        With modules of its own that hold the new parameters, and optimisers without state.

    anchor : Anchor or None
        As the solution has it, or moved along with new BatchNorm statistics.

    notes : list of str
        What the reader of the report should know.

    settings : dict
        Settings of the net that depended on rows, as they will be.

    spread_gone : float
        As for :class:`FittedState`.
    """

    net: NeuralNet
    anchor: Anchor | None
    notes: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    spread_gone: float = 0.0


def _renewed(
    net: NeuralNet, rows: TrainingSet | None, request: Request, solution: Solution, rng: np.random.Generator
) -> _Renewed:
    """Build the net with the new parameters and, where they move, BatchNorm statistics that know no erased row."""
    result, anchor = solution.result, solution.anchor
    fresh = twin(net, share_tensors=False)
    if result is None:
        return _Renewed(fresh, anchor)
    if result.trained is not None:
        fresh.module_.load_state_dict(uncompiled(result.trained.net.module_).state_dict())
        return _Renewed(fresh, anchor)
    load_flat(fresh, result.parameters)
    if not batch_norm_layers(fresh.module_):
        return _Renewed(fresh, anchor)
    seed, not_finite = numpy_seed(rng), buffers_not_finite(fresh.module_)
    if rows is None:
        assert anchor is not None
        complete = renew_statistics(
            net, fresh, n_kept=anchor.n_rows, gone=request.erased, come=None, sample=None, seed=seed
        )
        _check_finite(fresh, not_finite)
        notes = [] if complete else [_UNTOUCHED + "a part of them cannot be told apart without keep_training_set=True."]
        return _Renewed(fresh, anchor, notes)
    content = request.rows_after(rows, _slots_for_statistics(rows, request, rng))
    if len(content) < 2:
        return _Renewed(fresh, anchor, [_UNTOUCHED + "a single row has no variance."])
    risk = EmpiricalRisk(fresh, *content)
    old, before = flat_parameters(net), risk.gradient(result.parameters)
    fitted, moved = some_outputs(risk, old), some_outputs(risk, result.parameters)
    n_kept = int(np.count_nonzero(rows.trained_mask_without(request.positions)))
    renew_statistics(net, fresh, n_kept=n_kept, gone=request.erased, come=request.added, sample=content, seed=seed)
    _check_finite(fresh, not_finite)
    risk = EmpiricalRisk(fresh, *content)
    notes = moved_by_statistics(fitted, moved, some_outputs(risk, result.parameters))
    if anchor is None:
        return _Renewed(fresh, None, notes)
    # New statistics make a new function of the same parameters: the target moves with the gradient, or the next
    # request would take the difference for something to undo.
    shift = (risk.gradient(result.parameters) - before).to(anchor.residual)
    inputs = None if anchor.inputs is None else anchor.inputs.steady
    anchor = replace(anchor, residual=anchor.residual + shift, gradient=anchor.gradient + shift, inputs=inputs)
    return _Renewed(fresh, anchor, notes)


def _check_finite(net: NeuralNet, before: Counter[str]) -> None:
    broken = diverged(net.module_, before)
    if broken:
        raise FloatingPointError(
            f"BatchNorm statistics after the request are not finite ({broken}); nothing was changed."
        )


_UNTOUCHED = "BatchNorm statistics still carry the erased rows: "


def _with_settings(renewed: _Renewed, solution: Solution, ground: Footing) -> _Renewed:
    """Add what becomes of the constants of the built-in network: a net that was trained anew has brought its own."""
    trained = None if solution.result is None else solution.result.trained
    module = built_in(renewed.net) if ground.follows_rows else None
    if trained is None or module is None:
        notes = [*renewed.notes, *ground.notes]
        return replace(renewed, notes=notes, settings=ground.settings, spread_gone=ground.spread_gone)
    settings = constants_of(module).settings()
    set_decay(renewed.net, settings, vars(trained.net).get("optimizer__weight_decay"))
    return replace(renewed, settings=settings)


def _state_after(estimator: BaseUnlearnable, request: Request, solution: Solution, renewed: _Renewed) -> FittedState:
    """Return what later requests need to know."""
    state = estimator.unlearning_state_
    rows: TrainingSet | None = getattr(estimator, "training_set_", None)
    features = None if rows is None else _features_after(state, rows, request, solution, renewed)
    trained = None if solution.result is None else solution.result.trained
    if trained is not None:
        if trained.role is not None:  # of the parameters before, and of what was in buffers, nothing is left
            state = replace(
                state,
                notes=tuple(note for note in state.notes if note == UNSTEADY),
                side_state=(),
                set_aside_at=0.0,
                start=trained.start if estimator.keep_initial else None,
                schedule=_schedule_after(state, trained) if estimator.keep_initial else None,
            )
        state = state.after_training(trained.notes, not_renewed(trained.net, trained.side_state))
    if trained is not None and trained.role is not None:
        slices = trained.slices
    else:
        slices = slices_left(estimator._slicing, state.slices, rows, request.positions)
    state = replace(state, slices=slices)
    if solution.result is not None and solution.result.set_aside_at is not None:
        state = replace(state, set_aside_at=solution.result.set_aside_at)
    return replace(
        state, anchor=renewed.anchor, recording=solution.recording, spread_gone=renewed.spread_gone, features=features,
    )  # fmt: skip


def _features_after(
    state: FittedState, rows: TrainingSet, request: Request, solution: Solution, renewed: _Renewed
) -> StoredFeatures | None:
    """Return what is still known of what the output layer is given, for rows that stay as they are."""
    result = solution.result
    moved = result is not None and (result.trained is not None or result.features_moved)
    if moved or renewed.settings or batch_norm_layers(renewed.net.module_):
        return None
    kept = None if result is None else result.features
    if kept is None:
        kept = None if state.features is None else state.features.of_retained(rows, request.positions)
    return None if kept is None else StoredFeatures.of(kept, rows, request.positions[: 0 if request.replaces else None])


def _schedule_after(state: FittedState, trained: Trained) -> Schedule | None:
    """Return the steps of a full training on the rows that stay, or if the last one was shorter, those before it."""
    if trained.paced is not None:
        return state.schedule
    return None if trained.start is None else trained.start.schedule


def _slots_for_statistics(rows: TrainingSet, request: Request, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw trained rows that count after the request, in random order."""
    stay = rows.trained_mask_without(request.positions)
    if np.count_nonzero(stay) < 2:
        stay = request.stay(rows.trained_mask)
    n_shown = min(max(_FEWEST_SHOWN, request.n_trained), _MOST_SHOWN)
    return rng.permutation(sample_mask(stay, int(np.count_nonzero(stay)), n_shown, rng))


def net_assignments(net: NeuralNet, fresh: NeuralNet) -> list[Assignment]:
    """Return what makes the net that predicts the fresh one; whoever holds the net then holds the forgetful one.

    Its modules are replaced whole, so that a prediction under way goes on with the old ones, and with them go the
    gradients of the last batch, which may be those of an erased row. Its optimisers stay, for schedulers hold them;
    they get the new parameters and lose their state.
    """
    assignments: list[Assignment] = []
    for name in (*net._modules, *net._criteria):
        module = vars(fresh)[name + "_"]
        module = compiled_as(vars(net)[name + "_"], module)
        assignments.append((vars(net), name + "_", module))
    for name in net._optimizers:
        optimiser, renewed = getattr(net, name + "_"), getattr(fresh, name + "_")
        # The groups themselves stay: a scheduler may hold them.
        assignments += [(vars(optimiser), k, v) for k, v in vars(renewed).items() if k != "param_groups"]
        assignments += [
            (group, key, value)
            for group, other in zip(optimiser.param_groups, renewed.param_groups, strict=True)
            for key, value in other.items()
        ]
    return assignments


def _row_assignments(rows: TrainingSet, request: Request, role: NDArray[np.int8] | None) -> list[Assignment]:
    """Return what drops or replaces the rows of a request for good, and notes the new role of the others, if any."""
    if request.new is not None:
        replaced = (request.positions, request.new.X, request.new.y, request.source)
        return rows.plan(replace=replaced, role=role)
    return rows.plan(drop=request.positions, role=role, unmark=[order.request_id for order in request.orders])


def _n_retained(rows: TrainingSet | None, request: Request, anchor: Anchor | None) -> int:
    if rows is not None:
        return len(rows) - (0 if request.replaces else len(request.positions))
    assert anchor is not None
    return anchor.n_rows


@torch.no_grad()
def load_flat(net: NeuralNet, w: Tensor) -> None:
    """Set the trainable parameters of a net to those of a flat vector."""
    parameters = [p for p in net.module_.parameters() if p.requires_grad]
    for parameter, values in zip(parameters, w.split([p.numel() for p in parameters]), strict=True):
        parameter.copy_(values.view_as(parameter))
