"""How a net that was trained anew differs from the fitted one: on the erased rows, and on those both have seen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.training.ledger import Trained
from sk_unlearn.training.soft_targets import soft_targets
from sk_unlearn.unlearners.base import UnlearningProblem
from sk_unlearn.unlearners.cubic._policy import Policy
from sk_unlearn.unlearners.cubic._training import loss_left

__all__ = ["Comparison"]

_TINY = 1e-30


@dataclass(frozen=True)
class Comparison:
    """What training anew changed.

    Attributes
    ----------
    apart : float
        How much more the predictions for erased rows changed than those for retained ones: the ratio of the mean
        squares. A net that never saw some rows differs from one that did on those rows; one that was merely trained
        otherwise differs on all of them alike.

    loss_rise : float
        Mean loss over retained rows, by what it was.

    loss_left : float
        The same, by that of one output for all rows.
    """

    apart: float
    loss_rise: float
    loss_left: float

    @classmethod
    def of(cls, problem: UnlearningProblem, trained: Trained, policy: Policy) -> Comparison:
        """Compare on some rows of each kind.

        Parameters
        ----------
        problem : UnlearningProblem
            With stored rows.

        trained : Trained
            The net that was trained anew.

        policy : Policy
        """
        stored = problem.retained.stored
        assert stored is not None
        rng = problem.rng.spawn(1)[0]
        erased, retained = (
            _Change.of(risk, problem.parameters, trained, risk.sample(min(risk.n_rows, policy.compared_rows), rng))
            for risk in (problem.erased, stored)
        )
        rise = retained.loss_after / max(retained.loss_before, _TINY)
        return cls(erased.square / max(retained.square, _TINY), rise, rise * loss_left(replace(problem, rng=rng)))


@dataclass(frozen=True)
class _Change:
    """Of predictions for some rows, and the mean losses."""

    square: float
    loss_before: float
    loss_after: float

    @classmethod
    def of(cls, risk: EmpiricalRisk, w: Tensor, trained: Trained, rows: NDArray[np.int64]) -> _Change:
        weight = None if risk.sample_weight is None else risk.sample_weight[rows]
        after, w_after = EmpiricalRisk(trained.net, risk.X[rows], risk.y[rows], weight), flat_parameters(trained.net)
        change = _predicted(trained, after.outputs(w_after)) - _predicted(trained, risk.outputs(w, rows))
        return cls(
            float(change.square().sum() / len(rows)),
            risk.without_penalty(w, risk.value(w, rows)),
            after.without_penalty(w_after, after.value(w_after)),
        )


def _predicted(trained: Trained, outputs: Tensor) -> Tensor:
    """Return probabilities or values; the outputs themselves where it is not known what they mean."""
    predictions = soft_targets(trained.net, outputs)
    return outputs if predictions is None else predictions
