"""The verb ``retrain``: the net is trained anew in place, on the rows that are left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sk_unlearn.estimators._advice import RetrainAdvice, advise
from sk_unlearn.estimators._commit import draft_of_solution
from sk_unlearn.estimators._draft import Draft, commit_drafts
from sk_unlearn.estimators._footing import footing
from sk_unlearn.estimators._problem import Solution
from sk_unlearn.estimators._progress import steps_shown
from sk_unlearn.estimators._request import Request, resolve_pending
from sk_unlearn.estimators._retrain import retrain
from sk_unlearn.estimators._spread import check_spread
from sk_unlearn.estimators._trainable import check_trainable
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.training.ledger import Trained
from sk_unlearn.unlearners.base import UnlearningResult
from sk_unlearn.unlearners.retrain import Retrain
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._lock import one_at_a_time

if TYPE_CHECKING:
    from typing_extensions import Self

    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = ["RetrainMixin"]


class RetrainMixin:
    """How an estimator is trained anew, and how it says that it should be."""

    @one_at_a_time
    def retrain(self) -> Self:
        """Train the network anew from the start on the stored rows that are left, in place.

        Seed and settings are those of ``fit``, so that the network is what ``fit`` makes of these rows, and what a
        request leaves that :class:`~sk_unlearn.unlearners.Retrain` carries out. The rows of pending requests go first.
        What requests have left over, and what adds up over them, ends here. It is done whole or not at all.

        Returns
        -------
        self : object
            The retrained estimator. What happened is in ``unlearning_report_``, whose ``request`` is "retrain".

        Raises
        ------
        ValueError
            Where rows are not stored (``keep_training_set=False``), where pending requests cover every row, or when
            training diverged. Nothing has changed then.

        sklearn.exceptions.NotFittedError
            Before ``fit``.
        """
        commit_drafts([draft_retraining(self)])  # type: ignore[arg-type]
        return self

    @property
    def retrain_recommended_(self) -> RetrainAdvice:
        """Whether :meth:`retrain` is due, and why: a :class:`~sk_unlearn.RetrainAdvice`, true where it is.

        It reads counts and reports, and computes nothing over rows.
        """
        check_is_fitted(self)
        return advise(self)  # type: ignore[arg-type]


def draft_retraining(estimator: BaseUnlearnable, notes: Sequence[str] = ()) -> Draft:
    """Work out what :meth:`~sk_unlearn.UnlearnableClassifier.retrain` does, and change nothing.

    Parameters
    ----------
    estimator : BaseUnlearnable
        Fitted, and kept from other requests until the draft is committed or dropped.

    notes : sequence of str
        For the report.

    Raises
    ------
    ValueError
        As ``retrain``.
    """
    started = time.perf_counter()
    check_is_fitted(estimator)
    if not hasattr(estimator, "training_set_"):
        raise ValueError(
            "retrain trains on the stored rows, which keep_training_set=False does not keep; fit again on the rows "
            "that are left."
        )
    rows = estimator.training_set_
    check_spread(rows, "retrain")
    check_trainable(estimator.net_, estimator.unlearning_state_.trainable)
    request = resolve_pending(rows, "retrain")
    # Where the built-in network would set out from for this request; a net trained anew brings constants of its own.
    unlearner = Retrain()
    ground = footing(estimator, rows, request, unlearner)
    rng = np.random.default_rng([estimator.unlearning_state_.seed, 1 + len(estimator.unlearning_history_)])
    with steps_shown(estimator.verbose, request.verb):
        trained = retrain(estimator, ground.net, request, rng)
    result = UnlearningResult(flat_parameters(trained.net), Status.COMPLETED, "trained anew", trained=trained)
    # No anchor: what the rows left of the gradient is taken over them at the next request.
    solution = Solution(result, None, trained.recording, _told(estimator, request, result, trained))
    return draft_of_solution(
        estimator, request, solution, ground, rng, unlearner=unlearner, started=started, notes=notes
    )


def _told(estimator: BaseUnlearnable, request: Request, result: UnlearningResult, trained: Trained) -> dict[str, Any]:
    step_norm = float((result.parameters - flat_parameters(estimator.net_)).norm())
    return {
        "status": result.status,
        "stop_reason": f"{result.stop_reason} on the rows that are left",
        "parameters_moved": step_norm > 0,
        "step_norm": step_norm,
        "certificate": trained.certificate,
    }
