"""What a pipeline does through its last step: requests that wait, training anew, and what has happened."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.drafts import (
    commit_drafts,
    draft_retraining_at,
    draft_settlement,
    narrowed,
    pending_positions,
    request_at,
)
from sk_unlearn.pipeline._ground import Ground
from sk_unlearn.pipeline._requests import After, check_can_wait, with_all_drawn, without
from sk_unlearn.receipts import ReceiptChain

if TYPE_CHECKING:
    from typing_extensions import Self

    from sk_unlearn import PendingRequest
    from sk_unlearn.estimators.report import UnlearningReport

__all__ = ["Later"]


class Later(Ground):
    """Verbs and attributes that a pipeline has from its last step."""

    # ------------------------------------------------------------------ requests that wait

    def request_forget(
        self,
        X_del: Any = None,
        y_del: Any = None,
        *,
        sample_id: ArrayLike | None = None,
        received: datetime | None = None,
    ) -> str:
        """Write a deletion down now, for :meth:`settle` to carry it out.

        Parameters
        ----------
        X_del, y_del, sample_id
            Which rows, as for :meth:`forget`.

        received : datetime.datetime, default=None
            When the request came, with its time zone; None is now. The deadline is one month later.

        Returns
        -------
        request_id : str
            A random UUID, which says nothing of the rows.

        Raises
        ------
        ValueError, TypeError, sklearn.exceptions.NotFittedError
            As :meth:`UnlearnableClassifier.request_forget`; also where ``keep_raw=False`` keeps no rows until
            :meth:`settle` that steps could forget by.
        """
        with self._turn():
            match = self._checked_match(X_del, y_del, sample_id, "request_forget")
            check_can_wait(self)
            last = self.steps[-1][1]
            positions = narrowed(last, None if match is None else match.positions, sample_id)
            return request_at(last, with_all_drawn(self, last, positions), received)

    def cancel_request(self, request_id: str) -> Self:
        """Take a pending request back; see :meth:`UnlearnableClassifier.cancel_request`.

        Parameters
        ----------
        request_id : str
            As :meth:`request_forget` returned it.

        Returns
        -------
        self : object
        """
        with self._turn():
            self._fitted_last("cancel_request").cancel_request(request_id)
        return self

    def settle(self) -> Self:
        """Carry out all pending requests in one go, in every step; with none pending it changes nothing.

        Returns
        -------
        self : object
            The forgetful pipeline.

        Raises
        ------
        ValueError, FloatingPointError, sklearn.exceptions.NotFittedError
            As :meth:`UnlearnableClassifier.settle`, and where a step can neither give up rows nor be fitted anew. The
            requests stay pending, and nothing has changed then.
        """
        with self._turn():
            last = self._fitted_last("settle")
            if last.pending_:
                after = self._without_pending(last)
                commit_drafts([self._combined(draft_settlement(last, to=after.to, notes=self._notes(after)), after)])
        return self

    def _without_pending(self, last: BaseUnlearnable) -> After:
        return without(self, last, pending_positions(last), None)

    def retrain(self) -> Self:
        """Train the net anew from the start on the rows that are left, after the other steps without pending ones.

        Returns
        -------
        self : object
            The pipeline.

        Raises
        ------
        ValueError, sklearn.exceptions.NotFittedError
            As :meth:`UnlearnableClassifier.retrain`, and as :meth:`settle`. Nothing has changed then.
        """
        with self._turn():
            last = self._fitted_last("retrain")
            after = self._without_pending(last)
            commit_drafts([self._combined(draft_retraining_at(last, to=after.to, notes=self._notes(after)), after)])
        return self

    @property
    def pending_(self) -> tuple[PendingRequest, ...]:
        """The requests that wait to be settled, as they came in."""
        return self._last_of_fitted().pending_

    @property
    def retrain_recommended_(self) -> Any:
        """Whether to :meth:`retrain`, and why: see :class:`UnlearnableClassifier`."""
        return self._last_of_fitted().retrain_recommended_

    # ------------------------------------------------------------------ what happened

    @property
    def unlearning_report_(self) -> UnlearningReport:
        """What the last request did; absent before the first."""
        report: UnlearningReport = self.steps[-1][1].unlearning_report_
        return report

    @property
    def unlearning_history_(self) -> list[UnlearningReport]:
        """All requests since ``fit``."""
        history: list[UnlearningReport] = self.steps[-1][1].unlearning_history_
        return history

    @property
    def receipts_(self) -> ReceiptChain:
        """A receipt for each of them, with keyed digests of raw rows."""
        receipts: ReceiptChain = self.steps[-1][1].receipts_
        return receipts

    @property
    def receipt_key_(self) -> bytes:
        """The secret key of the digests."""
        key: bytes = self.steps[-1][1].receipt_key_
        return key

    @property
    def certificate_(self) -> Any:
        """What is guaranteed for the net, as :class:`UnlearnableClassifier` has it."""
        return self.steps[-1][1].certificate_

    def _last_of_fitted(self) -> BaseUnlearnable:
        check_is_fitted(self)
        last: BaseUnlearnable = self.steps[-1][1]
        return last
