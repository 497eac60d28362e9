"""The net from which a request sets out: the built-in network under the constants of the rows that stay."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from skorch import NeuralNet

from sk_unlearn.estimators._constants import built_in, constants_of, fold, gradient_under, review
from sk_unlearn.estimators._notes import constants_notes
from sk_unlearn.estimators._problem import stored_risk
from sk_unlearn.estimators._request import Request
from sk_unlearn.estimators._state import Anchor
from sk_unlearn.estimators.default_net import built_in_spec
from sk_unlearn.estimators.fitting import first_anchor
from sk_unlearn.rows import TrainingSet
from sk_unlearn.unlearners.base import Unlearner
from sk_unlearn.utils._twins import twin

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = ["Footing", "anchor_on", "footing", "set_decay"]


@dataclass(frozen=True)
class Footing:
    """Where a request sets out.

    Attributes
    ----------
    net : skorch.NeuralNet
        The fitted net, or a copy of it that predicts the same under other constants.

    follows_rows : bool
        Whether shift and scale are constants that the net took of its rows.

    has_moved : bool
        Whether it is such a copy, so that gradients that were taken before do not belong to its parameters.

    settings : dict
        Settings of the net that go with the constants, as they will be; empty where these stay.

    notes : list of str
        What the reader of the report should know.

    spread_gone : float
        As for :class:`FittedState`.
    """

    net: NeuralNet
    follows_rows: bool = False
    has_moved: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    spread_gone: float = 0.0


def footing(estimator: BaseUnlearnable, rows: TrainingSet | None, request: Request, unlearner: Unlearner) -> Footing:
    """Give the built-in network the shift and scale that it would have without the rows, and predictions as they are.

    One row may have stretched a scale, and it would go on doing so. This comes before the request is solved: the net
    that is aimed at has these constants, and under them the weight decay pulls at the same numbers and the curvature of
    a column that the erased rows had filled is that of the others.

    Parameters
    ----------
    estimator : BaseUnlearnable
        Fitted; not changed.

    rows : TrainingSet or None
        The stored rows.

    request : Request

    unlearner : Unlearner
        That is to solve it. What one recorded during training would not fit to other constants, which then stay.
    """
    net, state = estimator.net_, estimator.unlearning_state_
    spec, module = built_in_spec(estimator.estimator, classifier=estimator._classifier), built_in(net)
    if spec is None or spec.has_own_constants or module is None:
        return Footing(net)
    present = constants_of(module)
    seen = review(module, rows, request, state.spread_gone, _mass(estimator, rows))
    # Without a trained row to undo, the recording is kept whoever made it.
    is_recording_kept = state.recording is not None and not (request.n_trained and unlearner.recorder() is None)
    notes = constants_notes(seen, present, movable=not is_recording_kept)
    if seen.constants is None or is_recording_kept:
        return Footing(net, True, notes=notes, spread_gone=seen.spread_gone)
    net = twin(net, share_tensors=False)
    module = built_in(net)
    assert module is not None
    fold(module, seen.constants)
    settings = seen.constants.settings()
    decay = vars(net).get("optimizer__weight_decay")
    if not spec.has_own_decay and decay is not None:  # it goes along with the unit of the loss
        set_decay(net, settings, decay * seen.constants.unit_of_loss() / present.unit_of_loss())
    return Footing(net, True, True, settings, notes, seen.spread_gone)


def anchor_on(ground: Footing, estimator: BaseUnlearnable) -> Anchor:
    """Return what is known of the stored rows at a net that has moved to other constants.

    The residual of training comes along by the chain rule, without what the weight decay pulls at under the new
    constants: training would not have left that, so it is a part of what the request brings and not one of the residual
    that is held.
    """
    rows, state = estimator.training_set_, estimator.unlearning_state_
    old, new = built_in(estimator.net_), built_in(ground.net)
    assert old is not None
    assert new is not None
    taken, present = first_anchor(ground.net, rows, state.seed, keeps_rows=True), constants_of(old)
    if state.anchor is not None:
        residual, held = gradient_under(new, present, state.anchor.residual), float(state.anchor.residual.norm())
        scale = float(residual.norm()) / held if held > 0 else 1.0
        return replace(taken, residual=residual, norm_left=scale * state.anchor.norm_left)
    before, after = stored_risk(estimator.net_, rows), stored_risk(ground.net, rows)
    penalty = gradient_under(new, present, before.weight_decay * before.parameters())
    pull = after.weight_decay * after.parameters() - penalty
    return replace(taken, residual=taken.residual - pull.cpu())


def set_decay(net: NeuralNet, settings: dict[str, Any], decay: float | None) -> None:
    """Give a net's optimiser a weight decay, and note it among the settings; do nothing with None."""
    if decay is None:
        return
    settings["optimizer__weight_decay"] = decay
    for group in net.optimizer_.param_groups:
        group["weight_decay"] = decay


def _mass(estimator: BaseUnlearnable, rows: TrainingSet | None) -> float:
    if rows is None:
        anchor = estimator.unlearning_state_.anchor
        assert anchor is not None
        return anchor.mass
    return rows.weight_sum
