"""Rows handed in that are not stored: nothing proves that they were trained on, so their effect is bounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor, nn

from sk_unlearn.estimators._request import Request
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.unlearners.base import UnlearningResult
from sk_unlearn.unlearners.status import Status

__all__ = ["bounded", "chance_loss", "check_finite", "check_harmless"]

# Rows on which losses are looked at: enough for a mean.
_WATCHED_ROWS = 1024
# A rise of the stored rows' loss by this share of what training has gained over a constant prediction is a marked one.
_MARKED_RISE = 0.1
# How often the length of a step is halved at most.
_HALVINGS = 10


def chance_loss(risk: EmpiricalRisk, w: Tensor) -> float:
    """Return the mean loss of some rows if each got the same output; nan where outputs or losses are not of that kind.

    The output is the mean one. Of logits, which training may have made large, it is a part of it, whichever is best.
    """
    rows = risk.sample(_WATCHED_ROWS, np.random.default_rng(0))
    is_logit = isinstance(risk.net.criterion_, nn.CrossEntropyLoss | nn.BCEWithLogitsLoss)
    try:
        mean = risk.outputs(w, rows).mean(0)
        return min(risk.value_at_output(part * mean, rows) for part in ((0.0, 0.25, 0.5, 1.0) if is_logit else (1.0,)))
    except (TypeError, ValueError, RuntimeError, IndexError):
        return float("nan")


def check_finite(net: NeuralNet, request: Request) -> None:
    """Refuse rows or targets that a request brings along and that are too far out to be computed with.

    Raises
    ------
    FloatingPointError
        If their loss, or the norm of its gradient, is not finite.
    """
    content, names = (request.added, "X_new and y_new") if request.replaces else (request.foreign, "X and y")
    if content is None:
        return
    risk = EmpiricalRisk(net, *content)
    value, gradient = risk.value_and_gradient(risk.parameters())
    if not np.isfinite(value) or not torch.isfinite(gradient.norm()):
        raise FloatingPointError(
            f"The loss of the rows given, or its gradient, is not finite: {names} must not hold numbers far larger "
            "than those of fit; nothing was changed."
        )


def check_harmless(stored: EmpiricalRisk, fitted: Tensor, result: UnlearningResult) -> None:
    """Refuse to take rows away that the stored ones cannot spare.

    A model is fitted to what it was trained on. Without some of that it is fitted to the rest no worse; without what
    it never saw, or what has been taken away before, it is.

    Parameters
    ----------
    stored : EmpiricalRisk
        Over the stored rows that stay.

    fitted : Tensor of shape (d,)
        The parameters before the request.

    result : UnlearningResult
        What the unlearner made of it.

    Raises
    ------
    ValueError
        Where the loss on the stored rows rose markedly.
    """
    rows = stored.sample(_WATCHED_ROWS, np.random.default_rng(0))
    before = stored.without_penalty(fitted, stored.value(fitted, rows))
    after = stored.without_penalty(result.parameters, stored.value(result.parameters, rows))
    gained = chance_loss(stored, fitted) - before
    if after - before > _MARKED_RISE * max(gained, 0.0):
        raise ValueError(
            "The model cannot have been trained on the rows handed in that are not stored, or not any more: without "
            f"them its loss on the stored rows would rise from {before:.3g} to {after:.3g}. Nothing was changed. Hand "
            "in every row once, in one call, as it was trained on; use forget for stored rows."
        )


def bounded(erased: EmpiricalRisk, fitted: Tensor, result: UnlearningResult, chance: float) -> UnlearningResult:
    """Shorten a step that nothing can check until the rows handed in are no less familiar than by chance.

    No step is taken where they are less familiar than that already, whichever way it leads: there is nothing to undo.

    Parameters
    ----------
    erased : EmpiricalRisk
        Over the rows handed in.

    fitted : Tensor of shape (d,)
        The parameters before the request.

    result : UnlearningResult
        What the unlearner made of it.

    chance : float
        The mean loss at which nothing is known of a row; nan where it is not known.
    """

    def loss(w: Tensor) -> float:
        return erased.without_penalty(w, erased.value(w))

    before, after = loss(fitted), loss(result.parameters)
    step, length = result.parameters - fitted, 1.0
    if not chance < max(before, after):  # also where chance is not a number
        return result
    if before <= chance:
        for _ in range(_HALVINGS):
            length /= 2
            if loss(fitted + length * step) <= chance:
                break
        why = f"only {length:.2g} of the step was taken, up to where they are no better known than by chance"
    else:
        length = 0.0
        why = "no step was taken, for they are known no better than by chance already"
    note = (
        f"The step would have brought the mean loss of the rows handed in from {before:.3g} to {after:.3g}, where "
        f"{chance:.3g} is chance: {why}. Rows that were never trained on or have been handed in before, and copies of "
        "a row, do that. If they were trained on, fit again without them."
    )
    return replace(
        result,
        parameters=fitted + length * step if length else fitted.clone(),
        status=Status.MODEL_BROKE_DOWN,
        stop_reason=f"{result.stop_reason}; {length:.2g} of it was kept",
        gradient=None,
        notes=[*result.notes, note],
    )
