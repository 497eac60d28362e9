"""From a solution to a changed estimator, all or nothing: the new state is built aside and put in place at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn.estimators._batch_norm import batch_norm_layers, reestimate_batch_norm
from sk_unlearn.estimators._request import Request
from sk_unlearn.estimators._state import Anchor
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.rows import TrainingSet, sample_mask
from sk_unlearn.unlearners.base import UnlearningResult
from sk_unlearn.utils._journal import Assignment
from sk_unlearn.utils._twins import twin, uncompiled

__all__ = ["Renewed", "load_flat", "net_assignments", "renew", "row_assignments"]

_BATCH_NORM_ROWS = 2048


@dataclass(frozen=True)
class Renewed:
    """The net and the anchor as they will be.

    Attributes
    ----------
    net : skorch.NeuralNet
        With modules of its own that hold the new parameters, and optimisers without state.

    anchor : Anchor or None
        As the solution has it, or moved along with new BatchNorm statistics.

    notes : list of str
        What the reader of the report should know.
    """

    net: NeuralNet
    anchor: Anchor | None
    notes: list[str] = field(default_factory=list)


def renew(
    net: NeuralNet,
    rows: TrainingSet | None,
    request: Request,
    result: UnlearningResult | None,
    anchor: Anchor | None,
    rng: np.random.Generator,
) -> Renewed:
    """Build the net with the new parameters and, where they move, BatchNorm statistics that know no erased row.

    Parameters
    ----------
    net : skorch.NeuralNet
        The fitted net; not changed.

    rows : TrainingSet or None
        The stored rows, as they are before the request.

    request : Request

    result : UnlearningResult or None
        None when no parameter moves.

    anchor : Anchor or None
        As it is if no statistics are re-estimated.

    rng : numpy.random.Generator
        Draws the rows that statistics are re-estimated on.
    """
    fresh = twin(net, share_tensors=False)
    if result is None:
        return Renewed(fresh, anchor)
    if result.trained is not None:
        fresh.module_.load_state_dict(uncompiled(result.trained.net.module_).state_dict())
        return Renewed(fresh, anchor)
    load_flat(fresh, result.parameters)
    if not batch_norm_layers(fresh.module_):
        return Renewed(fresh, anchor)
    if rows is None:
        return Renewed(fresh, anchor, [_UNTOUCHED + "re-estimating them needs keep_training_set=True."])
    X, y, weight = request.rows_after(rows, _slots_for_statistics(rows, request, rng))
    if len(X) < 2:
        return Renewed(fresh, anchor, [_UNTOUCHED + "a single row has no variance."])
    before = EmpiricalRisk(fresh, X, y, weight).gradient(result.parameters)
    reestimate_batch_norm(fresh, X)
    if anchor is None:
        return Renewed(fresh, None)
    # New statistics make a new function of the same parameters: the target moves with the gradient, or the next
    # request would take the difference for something to undo.
    shift = (EmpiricalRisk(fresh, X, y, weight).gradient(result.parameters) - before).to(anchor.residual)
    return Renewed(fresh, replace(anchor, residual=anchor.residual + shift, gradient=anchor.gradient + shift))


_UNTOUCHED = "BatchNorm statistics still carry the erased rows: "


def _slots_for_statistics(rows: TrainingSet, request: Request, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw trained rows that count after the request, in random order."""
    stay = request.stay(rows.trained_mask)
    return rng.permutation(sample_mask(stay, int(np.count_nonzero(stay)), _BATCH_NORM_ROWS, rng))


def net_assignments(net: NeuralNet, fresh: NeuralNet) -> list[Assignment]:
    """Return what makes the net that predicts the fresh one; whoever holds the net then holds the forgetful one.

    Its modules are replaced whole, so that a prediction under way goes on with the old ones, and with them go the
    gradients of the last batch, which may be those of an erased row. Its optimisers stay, for schedulers hold them;
    they get the new parameters and lose their state.
    """
    assignments: list[Assignment] = []
    for name in (*net._modules, *net._criteria):
        module = vars(fresh)[name + "_"]
        if uncompiled(vars(net)[name + "_"]) is not vars(net)[name + "_"]:
            module = net.torch_compile(module, name)
        assignments.append((vars(net), name + "_", module))
    for name in net._optimizers:
        optimiser, renewed = getattr(net, name + "_"), getattr(fresh, name + "_")
        # The groups themselves stay: a scheduler may hold them.
        assignments += [(vars(optimiser), k, v) for k, v in vars(renewed).items() if k != "param_groups"]
        assignments += [
            (group, "params", other["params"])
            for group, other in zip(optimiser.param_groups, renewed.param_groups, strict=True)
        ]
    return assignments


def row_assignments(rows: TrainingSet, request: Request, role: NDArray[np.int8] | None) -> list[Assignment]:
    """Return what drops or replaces the rows of a request for good.

    Parameters
    ----------
    rows : TrainingSet

    request : Request

    role : ndarray of shape (n_retained,), dtype=int8, or None
        What the rows that stay, in their order, were used for where the net was trained anew.
    """
    if request.new is not None:
        return rows.plan(replace=(request.positions, request.new.X, request.new.y), role=role)
    return rows.plan(drop=request.positions, role=role)


@torch.no_grad()
def load_flat(net: NeuralNet, w: Tensor) -> None:
    """Set the trainable parameters of a net to those of a flat vector."""
    parameters = [p for p in net.module_.parameters() if p.requires_grad]
    for parameter, values in zip(parameters, w.split([p.numel() for p in parameters]), strict=True):
        parameter.copy_(values.view_as(parameter))
