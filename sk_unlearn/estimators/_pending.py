"""Requests that are written down now and carried out later, all in one go."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from sk_unlearn import distributed
from sk_unlearn.estimators._draft import Draft, commit_drafts
from sk_unlearn.estimators._orders import as_moment, now
from sk_unlearn.estimators._request import Request, locate_deletion, order_of, resolve_pending
from sk_unlearn.rows import TrainingSet
from sk_unlearn.utils._lock import one_at_a_time

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PendingMixin", "PendingRequest", "refuse_to_drop_requests", "write_down"]


@dataclass(frozen=True)
class PendingRequest:
    """A request that waits to be settled. It names no row and holds nothing of any.

    Attributes
    ----------
    request_id : str
        As :meth:`~sk_unlearn.UnlearnableClassifier.request_forget` returned it.

    received : datetime.datetime
        When it came, in UTC.

    deadline : datetime.datetime
        Until when it is to be carried out, in UTC: one month after it came (GDPR Art. 12(3)).

    n_rows : int
        Rows of it that are still there, and in the model; 0 where all have been forgotten meanwhile.
    """

    request_id: str
    received: datetime
    deadline: datetime
    n_rows: int

    @property
    def overdue(self) -> bool:
        """Whether the deadline has passed."""
        return now() > self.deadline


class PendingMixin:
    """How requests wait and are settled together."""

    if TYPE_CHECKING:

        def _stored_rows(self, verb: str) -> TrainingSet: ...
        def _to_look_up(
            self, verb: str, X_del: Any, y_del: Any, sample_id: Any
        ) -> tuple[TrainingSet, NDArray[Any] | None, NDArray[Any] | None, Any]: ...
        def _drafted(self, request: Request, started: float) -> Draft: ...

    @one_at_a_time
    def request_forget(
        self,
        X_del: ArrayLike | None = None,
        y_del: ArrayLike | None = None,
        *,
        sample_id: ArrayLike | None = None,
        received: datetime | None = None,
    ) -> str:
        """Write a deletion down now, for :meth:`settle` to carry it out.

        The rows are found at once. Until the request is settled they stay stored and in the model; ``pending_`` says
        how many. The queue holds no copy of them: only where they stand, which follows them when other rows go, when
        they are corrected, and through pickles. Equal rows that ``partial_fit`` brings later are not part of the
        request.

        Parameters
        ----------
        X_del, y_del, sample_id : array-like, default=None
            Which rows, as for :meth:`forget`.

        received : datetime.datetime, default=None
            When the request came, with its time zone; None is now. The deadline is one month later.

        Returns
        -------
        request_id : str
            A random UUID, which says nothing of the rows.

        Raises
        ------
        ValueError
            As :meth:`forget`, but for a request that covers every row; also where ``received`` has no time zone.
            Nothing is written down then.

        TypeError
            If ``received`` is no datetime.

        sklearn.exceptions.NotFittedError
            Before ``fit``.
        """
        moment = as_moment(received)
        rows, *asked = self._to_look_up("request_forget", X_del, y_del, sample_id)
        return write_down(rows, locate_deletion(rows, *asked), moment)

    @one_at_a_time
    def cancel_request(self, request_id: str) -> Self:
        """Take a pending request back. Its rows stay, but for those that another one names.

        Parameters
        ----------
        request_id : str
            As :meth:`request_forget` returned it.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If no request of this id is pending.

        sklearn.exceptions.NotFittedError
            Before ``fit``.
        """
        if request_id not in {request.request_id for request in self.pending_}:
            raise ValueError("request_id is of no pending request: it was settled or taken back; see pending_.")
        self._stored_rows("cancel_request").unmark(request_id)
        return self

    @property
    def pending_(self) -> tuple[PendingRequest, ...]:
        """The requests that wait to be settled, as they came in, each a :class:`~sk_unlearn.PendingRequest`."""
        check_is_fitted(self)
        rows: TrainingSet | None = getattr(self, "training_set_", None)
        if rows is None:
            return ()
        orders = [(order_of(mark), len(mark.positions)) for mark in rows.marks]
        return tuple(PendingRequest(*order, order.deadline, n_rows) for order, n_rows in orders)

    @one_at_a_time
    def settle(self) -> Self:
        """Carry out all pending requests in one go, as one :meth:`forget` of all their rows.

        With none pending it changes nothing, so that it may be called every night. A request whose rows have all been
        forgotten meanwhile counts as carried out.

        Returns
        -------
        self : object
            The forgetful estimator. ``unlearning_report_.requests`` says of each request when it came, was carried out
            and was due.

        Raises
        ------
        ValueError
            When the requests cover every row that is left. They stay pending, and nothing has changed then.

        FloatingPointError
            When the algorithm did not arrive at finite numbers. They stay pending, and nothing has changed then.

        sklearn.exceptions.NotFittedError
            Before ``fit``.
        """
        started = time.perf_counter()
        if self.pending_:
            commit_drafts([self._drafted(resolve_pending(self._stored_rows("settle"), "settle"), started)])
        return self


def write_down(rows: TrainingSet, positions: NDArray[np.int64], moment: datetime) -> str:
    """Mark rows as going later, and return the id of the request."""
    request_id = str(uuid.uuid4())
    if distributed.is_active():
        request_id, moment = distributed.from_first((request_id, moment))
    rows.mark(request_id, moment.isoformat(), positions)
    return request_id


def refuse_to_drop_requests(estimator: Any) -> None:
    """Refuse a fit that would lose sight of pending requests.

    Raises
    ------
    ValueError
    """
    if estimator.__sklearn_is_fitted__() and estimator.pending_:
        raise ValueError(
            f"fit would drop the pending requests ({len(estimator.pending_)}), whose rows may be among the new ones: "
            "settle() them or take them back by cancel_request first, or fit a clone."
        )
