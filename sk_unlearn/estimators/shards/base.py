"""What the two estimators of many shards share: their verbs."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context
from sklearn.utils.validation import check_is_fitted

from sk_unlearn.estimators._advice import RetrainAdvice
from sk_unlearn.estimators._draft import Draft, commit_drafts
from sk_unlearn.estimators._orders import Order, as_moment
from sk_unlearn.estimators._passes import check_corrected_rows
from sk_unlearn.estimators._pending import PendingRequest, refuse_to_drop_requests
from sk_unlearn.estimators._receipts import audited
from sk_unlearn.estimators.fitting import draft_of, take_over
from sk_unlearn.estimators.replay import beside_the_log, found_by_receipt, orders_of
from sk_unlearn.estimators.shards._found import pending_slots
from sk_unlearn.estimators.shards._ground import Ground
from sk_unlearn.estimators.shards._told import certificate_of, digest_of_shards, live, worst_of
from sk_unlearn.privacy import Certificate
from sk_unlearn.receipts import ReceiptChain
from sk_unlearn.rows import as_identifiers
from sk_unlearn.utils._lock import one_at_a_time

__all__ = ["BaseSharded"]


class BaseSharded(Ground):
    """Base class of :class:`ShardedClassifier` and :class:`ShardedRegressor`; not for direct use."""

    __metadata_request__fit = {"sample_id": True}  # noqa: RUF012
    __metadata_request__partial_fit = {"sample_id": True}  # noqa: RUF012

    @_fit_context(prefer_skip_nested_validation=True)
    @one_at_a_time
    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        sample_id: ArrayLike | None = None,
    ) -> BaseSharded:
        """Train an estimator on each shard of the rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or (n_samples, ...)
            Training rows, in any form that the estimator of a shard takes.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the loss. Each shard needs a row that counts.

        sample_id : array-like of shape (n_samples,), default=None
            Identifiers by which requests find rows. All rows of an identifier go into one shard; without identifiers
            equal rows do.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For invalid data, or when a training diverged. A fitted estimator stays what it was then.
        """
        refuse_to_drop_requests(self)
        draft = draft_of(self)
        return take_over(self, draft._first_trained(X, y, None, sample_weight, sample_id, one_pass=False))

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any, sample_id: Any) -> None:
        """Carry out ``partial_fit`` of a classifier or a regressor, whose arguments differ."""
        if not self.__sklearn_is_fitted__():
            draft = draft_of(self)
            take_over(self, draft._first_trained(X, y, classes, sample_weight, sample_id, one_pass=True))
            return
        X, y, weight = self._validate_training_rows(X, y, sample_weight, reset=False, net=self._one.estimator)
        self._one.training_set_.check_ids_given(sample_id)
        self._encode_targets(y, "y")
        shards = self._with_rows(X, y, weight, as_identifiers(sample_id, len(X)), one_pass=True)
        self._journal.commit([(vars(self), "estimators_", shards)])

    @one_at_a_time
    def forget(
        self, X_del: Any = None, y_del: ArrayLike | None = None, *, sample_id: ArrayLike | None = None
    ) -> BaseSharded:
        """Forget training rows, in the shards that hold them; no other shard changes.

        Each of these shards is trained anew on the rows it is left with, or does what ``unlearner`` does. The request
        is carried out whole or not at all.

        Parameters
        ----------
        X_del : {array-like, sparse matrix} of shape (n_rows, n_features) or (n_rows, ...), default=None
            Rows to forget, as they were given to ``fit``. Every stored copy goes.

        y_del : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Their targets: only copies that also carry this target are forgotten.

        sample_id : array-like of shape (n_ids,), default=None
            Identifiers: all their rows are forgotten. Together with ``X_del``, only rows that have the content *and*
            one of the identifiers.

        Returns
        -------
        self : object
            The forgetful estimator. What happened is in ``unlearning_report_``.

        Raises
        ------
        ValueError
            When a row or identifier is not (or no longer) in the training set, or the request is empty or covers every
            row. Nothing has changed then.

        FloatingPointError
            When a training did not arrive at finite numbers. Nothing has changed then.

        sklearn.exceptions.NotFittedError
            Before ``fit``.
        """
        commit_drafts([self._drafted_deletion(X_del, y_del, sample_id)])
        return self

    def _drafted_deletion(self, X_del: Any, y_del: Any, sample_id: Any) -> Draft:
        started = time.perf_counter()
        return self._drafted("forget", "forget", self._located("forget", X_del, y_del, sample_id), started)

    def _drafted_deletion_at(self, positions: NDArray[np.int64]) -> Draft:
        """Work out the deletion of some rows of ``training_set_``, which numbers them through all shards."""
        started = time.perf_counter()
        return self._drafted("forget", "forget", self._slots_at(positions), started)

    def _drafted_replay(self, chain: ReceiptChain) -> Draft:
        """Work out the one request that makes up for those of a log that are missing here, by their digests."""
        started = time.perf_counter()
        self._check_stored("replay")
        missing = [receipt for receipt in chain[len(self.receipts_) :] if receipt.verb != "audit"]
        # Rows that were handed in had to be stored in some shard, and need not be in each.
        asked = [replace(receipt, verb="forget") for receipt in missing]
        slots = {}
        for number, shard in enumerate(self.estimators_):
            found = [] if shard is None else [found_by_receipt(shard, receipt) for receipt in asked]
            if any(map(len, found)):
                slots[number] = np.unique(np.concatenate(found))
        none = np.empty(0, dtype=np.int64)
        numbered = [(number, shard) for number, shard in enumerate(self.estimators_) if shard is not None]
        beside_the_log([(shard, slots.get(number, none)) for number, shard in numbered], missing)
        notes = [f"Replays receipts {missing[0].sequence} to {missing[-1].sequence} of the log on an older copy."]
        if any(receipt.verb == "correct" for receipt in missing):
            notes.append("Rows had been corrected: their old content is erased, and the new one is missing.")
        return self._drafted(
            "replay", "forget", slots, started, orders=orders_of(missing), receipts=chain, notes=notes
        )  # fmt: skip

    @one_at_a_time
    def partial_forget(self, X: Any, y: ArrayLike | None = None) -> BaseSharded:
        """Forget rows that are handed in with their targets, as ``forget(X, y)`` does.

        Which shard has learnt a row is known of stored rows alone, so that others are refused.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features) or (n_rows, ...)
            Rows.

        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Their targets.

        Returns
        -------
        self : object
            The forgetful estimator.

        Raises
        ------
        ValueError, FloatingPointError, sklearn.exceptions.NotFittedError
            As :meth:`forget`. Nothing has changed then.
        """
        started = time.perf_counter()
        check_is_fitted(self)
        if X is None or y is None:
            raise ValueError("partial_forget needs X (rows) and y (their targets); None was given.")
        slots = self._located("partial_forget", X, y, None, "X")
        commit_drafts([self._drafted("partial_forget", "forget", slots, started)])
        return self

    @one_at_a_time
    def correct(
        self,
        X_old: Any,
        *,
        y_old: ArrayLike | None = None,
        X_new: Any = None,
        y_new: ArrayLike | None = None,
    ) -> BaseSharded:
        """Rectify training rows, in the shards that hold them: replace them, or only their targets.

        Parameters
        ----------
        X_old : {array-like, sparse matrix} of shape (n_rows, n_features) or (n_rows, ...)
            Rows as they are stored. Every stored copy is corrected, and stays in its shard.

        y_old : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Narrows the match to copies with this target.

        X_new : {array-like, sparse matrix} of the shape of X_old, default=None
            What row i should have been; None keeps the features.

        y_new : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            What its target should have been; None keeps it.

        Returns
        -------
        self : object
            The corrected estimator.

        Raises
        ------
        ValueError, FloatingPointError, sklearn.exceptions.NotFittedError
            As :meth:`forget`; also when two identical old rows are to become different ones.
        """
        started = time.perf_counter()
        check_is_fitted(self)
        if X_new is None and y_new is None:
            raise ValueError("correct needs X_new, y_new or both; both are None.")
        slots = self._located("correct", X_old, y_old, None, "X_old")
        columns = {
            "X_old": self._validate_features(X_old, "X_old"),
            "y_old": None if y_old is None else np.asarray(y_old),
            "X_new": None if X_new is None else self._validate_features(X_new, "X_new"),
            "y_new": None if y_new is None else np.asarray(y_new),
        }
        check_corrected_rows(columns["X_new"])
        for name, column in columns.items():
            if column is not None and len(column) != len(columns["X_old"]):
                raise ValueError(
                    f"{name} has {len(column)} rows but belongs to {len(columns['X_old'])}; pass one for each."
                )
        X_net, y_net = self._validate_request(X_old, y_old, "X_old", "y_old")
        held = {number: self._at(number).training_set_.match(X_net, y_net, name="X_old").found for number in slots}
        given = {
            number: {name: None if each is None else each[own] for name, each in columns.items()}
            for number, own in held.items()
        }
        moved = X_new is not None and self._one.training_set_.sample_id is None
        state = replace(self.sharded_state_, moved=self.sharded_state_.moved or moved)
        commit_drafts([self._drafted("correct", "correct", slots, started, given, state=state)])
        return self

    @one_at_a_time
    def request_forget(
        self,
        X_del: Any = None,
        y_del: ArrayLike | None = None,
        *,
        sample_id: ArrayLike | None = None,
        received: datetime | None = None,
    ) -> str:
        """Write a deletion down now, for :meth:`settle` to carry it out.

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
        ValueError, TypeError, sklearn.exceptions.NotFittedError
            As :meth:`UnlearnableClassifier.request_forget`. Nothing is written down then.
        """
        order = Order(str(uuid4()), as_moment(received))
        marks = []
        for number, slots in self._located("request_forget", X_del, y_del, sample_id).items():
            rows = self._at(number).training_set_
            marks += rows.plan_mark(order.request_id, order.received.isoformat(), slots)
        self._commit_marks([*marks, (vars(self), "_orders", (*self._orders, order))])
        return order.request_id

    @one_at_a_time
    def cancel_request(self, request_id: str) -> BaseSharded:
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
        marks = []
        for shard in live(self.estimators_):
            if any(mark.label == request_id for mark in shard.training_set_.marks):
                marks += shard.training_set_.plan(unmark=[request_id])
        rest = tuple(order for order in self._orders if order.request_id != request_id)
        self._commit_marks([*marks, (vars(self), "_orders", rest)])
        return self

    @property
    def pending_(self) -> tuple[PendingRequest, ...]:
        """The requests that wait to be settled, as they came in, each a :class:`~sk_unlearn.PendingRequest`."""
        check_is_fitted(self)
        n_rows: dict[str, int] = {order.request_id: 0 for order in self._orders}
        for shard in live(self.estimators_) if n_rows else []:
            for mark in shard.training_set_.marks:
                # A log may have settled one that an older copy still had.
                if mark.label in n_rows:
                    n_rows[mark.label] += len(mark.positions)
        return tuple(PendingRequest(*order, order.deadline, n_rows[order.request_id]) for order in self._orders)

    @one_at_a_time
    def settle(self) -> BaseSharded:
        """Carry out all pending requests in one go: each shard that holds rows of theirs is trained anew once.

        With none pending it changes nothing.

        Returns
        -------
        self : object
            The forgetful estimator.

        Raises
        ------
        ValueError, FloatingPointError, sklearn.exceptions.NotFittedError
            As :meth:`forget`. The requests stay pending, and nothing has changed then.
        """
        started = time.perf_counter()
        check_is_fitted(self)
        if self._orders:
            slots = pending_slots(self.estimators_)
            commit_drafts([self._drafted("settle", "settle", slots, started, orders=self._orders)])
        return self

    @one_at_a_time
    def retrain(self) -> BaseSharded:
        """Train every shard anew from the start on the rows that it is left with; rows of pending requests go first.

        Returns
        -------
        self : object
            The retrained estimator.

        Raises
        ------
        ValueError, sklearn.exceptions.NotFittedError
            As :meth:`settle`, or when a training diverged. Nothing has changed then.
        """
        started = time.perf_counter()
        check_is_fitted(self)
        self._check_stored("retrain")
        none, pending = np.empty(0, dtype=np.int64), pending_slots(self.estimators_)
        slots = {n: pending.get(n, none) for n, shard in enumerate(self.estimators_) if shard is not None}
        commit_drafts([self._drafted("retrain", "retrain", slots, started, orders=self._orders)])
        return self

    @property
    def retrain_recommended_(self) -> RetrainAdvice:
        """Whether :meth:`retrain` is due, and why: a :class:`~sk_unlearn.RetrainAdvice`, true where it is for a shard.

        Its numbers are those of the shard that each of them speaks most against. Shards that were trained anew by
        their last request have nothing against them.
        """
        check_is_fitted(self)
        return worst_of([shard.retrain_recommended_ for shard in live(self.estimators_)])

    @property
    def certificate_(self) -> Certificate:
        """What is guaranteed of all shards together, after all requests: that they are exact, where each is.

        Raises
        ------
        AttributeError
            Where there is no guarantee; it says why.
        """
        check_is_fitted(self)
        reports = [each for each in self.unlearning_history_ if each.n_trained_erased or each.certificate is not None]
        if not reports:
            raise AttributeError("There is no certificate_: no request has touched a row that was trained on.")
        parts = []
        for shard in live(self.estimators_):
            asked = any(each.n_trained_erased or each.certificate is not None for each in shard.unlearning_history_)
            parts += [shard.certificate_] if asked else []
        certificate = certificate_of(parts, self.estimators_, self.sharded_state_, len(reports))
        if certificate is None:
            raise AttributeError(
                f"There is no certificate_: {reports[-1].method} did not train the shards anew. What it guarantees of "
                "each shard is in certificate_ of estimators_."
            )
        return certificate

    def _digest_of_parameters(self) -> str:
        return digest_of_shards(self.estimators_)

    @property
    def receipt_key_(self) -> bytes:
        """The secret key of the digests in ``receipts_``, drawn at ``fit``."""
        check_is_fitted(self)
        return self._receipt_key

    @one_at_a_time
    def record_audit(self, report: Any) -> BaseSharded:
        """Write what an audit found of a request into ``receipts_``, as an entry of its own.

        Parameters
        ----------
        report : AuditReport
            Of :func:`~sk_unlearn.inspection.audit`, of this estimator as it was after that request.

        Returns
        -------
        self : object
        """
        check_is_fitted(self)
        self._journal.commit([(vars(self), "receipts_", audited(self.receipts_, report))])
        return self
