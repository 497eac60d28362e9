"""What the two estimators of many shards share: their verbs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from numbers import Integral
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, _fit_context, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from sk_unlearn.estimators._draft import Draft, commit_drafts
from sk_unlearn.estimators._inputs import InputsMixin
from sk_unlearn.estimators._orders import Order, as_moment
from sk_unlearn.estimators._pending import PendingRequest, refuse_to_drop_requests
from sk_unlearn.estimators._receipts import audited, versions
from sk_unlearn.estimators._slices import Slicing
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.fitting import draft_of, take_over
from sk_unlearn.estimators.report import UnlearningReport
from sk_unlearn.estimators.shards._found import FoundInShards, find_in_shards, pending_slots
from sk_unlearn.estimators.shards._routing import ShardedState
from sk_unlearn.estimators.shards._rows import ShardRows
from sk_unlearn.estimators.shards._told import (
    Touched,
    certificate_of,
    digest_of_shards,
    live,
    receipt_of_all,
    report_of_all,
)
from sk_unlearn.estimators.shards._work import Training, Work, all_done, all_trained
from sk_unlearn.privacy import Certificate
from sk_unlearn.receipts import ReceiptChain
from sk_unlearn.rows import as_identifiers
from sk_unlearn.rows.digests import new_key
from sk_unlearn.unlearners.base import Unlearner
from sk_unlearn.unlearners.retrain import Retrain
from sk_unlearn.utils._checksum import ChecksummedMixin
from sk_unlearn.utils._journal import Journal, commit_together
from sk_unlearn.utils._lock import one_at_a_time
from sk_unlearn.utils._versioned import VersionedMixin

__all__ = ["BaseSharded"]


class BaseSharded(VersionedMixin, ChecksummedMixin, InputsMixin, BaseEstimator):
    """Base class of :class:`ShardedClassifier` and :class:`ShardedRegressor`; not for direct use."""

    _journal: Journal
    _receipt_key: bytes
    _orders: tuple[Order, ...]
    _shard_kind: type[BaseUnlearnable]
    # Shards are trained anew on their rows: no parameter turns that off.
    keep_training_set = True
    estimators_: list[BaseUnlearnable | None]
    sharded_state_: ShardedState
    unlearning_history_: list[UnlearningReport]
    receipts_: ReceiptChain

    __metadata_request__fit = {"sample_id": True}  # noqa: RUF012
    __metadata_request__partial_fit = {"sample_id": True}  # noqa: RUF012

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012  scikit-learn's convention
        "estimator": [BaseUnlearnable, None],
        "n_shards": [Interval(Integral, 1, None, closed="left")],
        "n_slices": [Interval(Integral, 1, None, closed="left")],
        "unlearner": [Unlearner, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any = None,
        n_shards: int = 5,
        n_slices: int = 1,
        *,
        unlearner: Unlearner | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.n_shards = n_shards
        self.n_slices = n_slices
        self.unlearner = unlearner
        self.n_jobs = n_jobs
        self.random_state = random_state

    # ------------------------------------------------------------------ learning

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

    def _first_trained(
        self, X: Any, y: Any, classes: Any, sample_weight: Any, sample_id: Any, *, one_pass: bool
    ) -> Any:
        """Train all shards for the first time, in a draft."""
        template = self._template()
        X, y, weight = self._validate_training_rows(X, y, sample_weight, reset=True, net=template.estimator)
        learner: Any = draft_of(template)
        learner._learn_targets(y, classes)
        for name in ("classes_", "target_shape_"):
            if name in vars(learner):
                setattr(self, name, vars(learner)[name])
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.sharded_state_ = ShardedState(seed, self.n_shards, self.n_slices)
        self._receipt_key = new_key()
        self.estimators_ = [None] * self.n_shards
        self.estimators_ = self._with_rows(X, y, weight, as_identifiers(sample_id, len(X)), one_pass=one_pass)
        self._journal = Journal()
        self._orders = ()
        self.unlearning_history_ = []
        self.receipts_ = ReceiptChain.begin(digest_of_shards(self.estimators_), versions())
        return self

    def _template(self) -> BaseUnlearnable:
        """Return the estimator that every shard gets a clone of."""
        if self.estimator is not None and not isinstance(self.estimator, self._shard_kind):
            raise TypeError(
                f"estimator must be a {self._shard_kind.__name__}, which each shard gets a clone of, got "
                f"{type(self.estimator).__name__}; wrap a net or a module as {self._shard_kind.__name__}(net)."
            )
        template: Any = self._shard_kind() if self.estimator is None else clone(self.estimator)
        if not template.keep_training_set:
            raise ValueError(
                "estimator has keep_training_set=False: shards are trained anew on their rows, which have to be kept."
            )
        if template.unlearner is not None:
            raise ValueError(
                f"estimator has unlearner={type(template.unlearner).__name__}: how shards forget is said by unlearner "
                f"of {type(self).__name__}, where None trains them anew."
            )
        return template.set_params(unlearner=self._unlearner())

    def _new_shard(self, number: int) -> BaseUnlearnable:
        state = self.sharded_state_
        shard: BaseUnlearnable = self._template().set_params(random_state=state.seed_of(number))
        if state.n_slices > 1:
            # Identifiers that are kept as digests have another key after every fit, and would be sliced otherwise.
            shard._slicing = Slicing(state.seed_of(number), state.n_slices, not shard.hash_ids)
        return shard

    def _unlearner(self) -> Unlearner:
        return Retrain() if self.unlearner is None else clone(self.unlearner)

    def _with_rows(
        self, X: Any, y: NDArray[Any], weight: Any, ids: Any, *, one_pass: bool
    ) -> list[BaseUnlearnable | None]:
        """Return all shards as they are with further rows."""
        if self._shard_kind._classifier and y.ndim == 2:
            y = y[:, 0]
        state = self.sharded_state_
        numbers = state.shard_of(X, ids)
        trainings, at = [], np.unique(numbers).tolist()
        for number in at:
            rows = np.flatnonzero(numbers == number)
            if weight is not None and not weight[rows].any():
                raise ValueError(
                    f"sample_weight is zero for every row of a shard ({len(rows)} rows, {len(at)} shards); leave such "
                    "rows out, or take fewer shards by n_shards."
                )
            present = self.estimators_[number]
            shard = self._new_shard(number) if present is None else present
            trainings.append(
                Training(
                    shard, X[rows], y[rows], None if weight is None else weight[rows],
                    None if ids is None else ids[rows], vars(self).get("classes_"), self._receipt_key, one_pass,
                )
            )  # fmt: skip
        shards = list(self.estimators_)
        for number, shard in zip(at, all_trained(trainings, self.n_jobs), strict=True):
            shards[number] = shard
        return shards

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

    # ------------------------------------------------------------------ forgetting

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
        found = self._located("forget", X_del, y_del, sample_id)
        return self._drafted("forget", "forget", found.positions, started)

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
        found = self._located("partial_forget", X, y, None, "X")
        commit_drafts([self._drafted("partial_forget", "forget", found.positions, started)])
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
        found = self._located("correct", X_old, y_old, None, "X_old")
        columns = {
            "X_old": self._validate_features(X_old, "X_old"),
            "y_old": None if y_old is None else np.asarray(y_old),
            "X_new": None if X_new is None else self._validate_features(X_new, "X_new"),
            "y_new": None if y_new is None else np.asarray(y_new),
        }
        for name, column in columns.items():
            if column is not None and len(column) != len(columns["X_old"]):
                raise ValueError(
                    f"{name} has {len(column)} rows but belongs to {len(columns['X_old'])}; pass one for each."
                )
        given = {
            number: {name: None if each is None else each[match.found] for name, each in columns.items()}
            for number, match in found.matches.items()
        }
        moved = X_new is not None and self._one.training_set_.sample_id is None
        state = replace(self.sharded_state_, moved=self.sharded_state_.moved or moved)
        commit_drafts([self._drafted("correct", "correct", found.positions, started, given, state=state)])
        return self

    def _located(self, verb: str, X: Any, y: Any, sample_id: Any, name: str = "X_del") -> FoundInShards:
        """Find the rows of a request, all of them, or raise a ValueError."""
        check_is_fitted(self)
        if X is None and sample_id is None:
            raise ValueError(f"{verb} needs {name} (rows) or sample_id (identifiers given at fit); both are None.")
        y_name = name.replace("X", "y", 1)
        if X is None and y is not None:
            raise ValueError(f"{y_name} narrows {name}, which is None; pass {name} too.")
        X_net, y_net = (None, None) if X is None else self._validate_request(X, y, name, y_name)
        found = find_in_shards(self.estimators_, X_net, y_net, sample_id, name)
        return found.all_found(self.estimators_, name, sample_id)

    def _drafted(
        self,
        verb: str,
        act: str,
        positions: dict[int, NDArray[np.int64]],
        started: float,
        given: dict[int, dict[str, Any]] | None = None,
        *,
        orders: Sequence[Order] = (),
        state: ShardedState | None = None,
    ) -> Draft:
        """Work out a request to the shards that hold its rows; nothing changes until the draft is committed.

        Parameters
        ----------
        verb : str
            What was asked.

        act : str
            What each shard is asked.

        positions : dict of int to int64 ndarray
            By the number of each shard that is asked, slots of the rows that go or change.

        started : float
            When the request came, by ``time.perf_counter``.

        given : dict of int to dict
            Further arguments, by shard.

        orders : sequence of Order
            The pending requests that it carries out.

        state : ShardedState or None
            As it will be; None as it is.
        """
        before, state = self.estimators_, self.sharded_state_ if state is None else state
        goes = act != "correct"
        n_rows = sum(len(shard.training_set_) for shard in live(before))
        if goes and sum(map(len, positions.values())) == n_rows:
            raise ValueError(
                f"The request covers all {n_rows} rows of the training set; nothing would be left to model. "
                "Discard the estimator instead."
            )
        work, olds = [], {}
        for number, slots in positions.items():
            shard = before[number]
            assert shard is not None
            olds[number] = shard
            if not goes or len(slots) < len(shard.training_set_):
                at = np.searchsorted(np.flatnonzero(shard.training_set_.live_mask), slots)
                work.append(Work(number, act, at, {} if given is None else given[number]))
        asked = [self._for_request(olds[each.number]) for each in work]
        news = dict(zip([each.number for each in work], all_done(work, asked, self.n_jobs), strict=True))
        after = [news.get(number) if number in positions else shard for number, shard in enumerate(before)]
        touched = [Touched(number, olds[number], news.get(number), slots) for number, slots in positions.items()]
        unlearner = Retrain() if act == "retrain" else self._unlearner()
        report = report_of_all(
            verb, type(unlearner).__name__, touched, after, state, orders, time.perf_counter() - started
        )  # fmt: skip
        receipt = receipt_of_all(
            report, touched, before, after, state, orders, unlearner, len(self.unlearning_history_)
        )  # fmt: skip
        own, settled = vars(self), {order.request_id for order in orders}
        assignments = [
            (own, "estimators_", after),
            (own, "sharded_state_", state),
            (own, "_orders", tuple(order for order in self._orders if order.request_id not in settled)),
            (own, "unlearning_report_", report),
            (own, "unlearning_history_", [*(each.brief() for each in self.unlearning_history_), report]),
            (own, "receipts_", self.receipts_.append(receipt)),
        ]
        return Draft(self._journal, assignments, report)

    def _for_request(self, shard: BaseUnlearnable) -> BaseUnlearnable:
        """Return a shard that forgets as ``unlearner`` says now: it may have been set since ``fit``."""
        other: Any = object.__new__(type(shard))
        other.__dict__.update(shard.__dict__)
        other.unlearner = self._unlearner()
        return other  # type: ignore[no-any-return]

    # ------------------------------------------------------------------ requests that wait

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
        found = self._located("request_forget", X_del, y_del, sample_id)
        marks = []
        for number, slots in found.positions.items():
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

    def _commit_marks(self, assignments: list[Any]) -> None:
        journals = [shard._journal for shard in live(self.estimators_)]
        commit_together([self._journal, *journals], assignments)

    @property
    def pending_(self) -> tuple[PendingRequest, ...]:
        """The requests that wait to be settled, as they came in, each a :class:`~sk_unlearn.PendingRequest`."""
        check_is_fitted(self)
        n_rows: dict[str, int] = {order.request_id: 0 for order in self._orders}
        for shard in live(self.estimators_):
            for mark in shard.training_set_.marks:
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
        none, pending = np.empty(0, dtype=np.int64), pending_slots(self.estimators_)
        slots = {n: pending.get(n, none) for n, shard in enumerate(self.estimators_) if shard is not None}
        commit_drafts([self._drafted("retrain", "retrain", slots, started, orders=self._orders)])
        return self

    # ------------------------------------------------------------------ what happened

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

    @property
    def training_set_(self) -> ShardRows:
        """The rows that may still matter, one shard after the other; to be read."""
        if not self.__sklearn_is_fitted__():
            raise AttributeError("There is no training_set_ before fit.")
        return ShardRows([shard.training_set_ for shard in live(self.estimators_)])

    # ------------------------------------------------------------------ one shard for all

    @property
    def _one(self) -> BaseUnlearnable:
        """A shard: what all of them have in common can be asked of it."""
        return live(self.estimators_)[0]

    def _at(self, number: int) -> BaseUnlearnable:
        shard = self.estimators_[number]
        assert shard is not None
        return shard

    @property
    def unlearning_state_(self) -> Any:
        """Of one of the shards, whose data type and shape of rows are those of all."""
        check_is_fitted(self)
        return self._one.unlearning_state_

    def _encode_targets(self, y: Any, name: str) -> NDArray[Any]:
        return self._one._encode_targets(y, name)

    def _targets_for_net(self, y: Any, X_net: Any, name: str) -> NDArray[Any]:
        return self._one._targets_for_net(y, X_net, name)

    def _known_rows(self, X: Any, y: Any, sample_id: Any) -> tuple[Any, Any]:
        """Return which of some rows, and which identifiers, belong to stored rows; None for what was not asked."""
        X_net, y_net = (None, None) if X is None else self._validate_request(X, y, "X_del", "y_del")
        found = find_in_shards(self.estimators_, X_net, y_net, sample_id, "X_del")
        return found.known, found.known_ids

    def _pinned(self) -> Any:
        """Return an estimator that predicts as this one does now, whatever is fitted, learnt or forgotten meanwhile."""
        check_is_fitted(self)
        other: Any = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __sklearn_is_fitted__(self) -> bool:
        if "_journal" not in self.__dict__:
            return False
        self._journal.settle()  # where two interrupts struck the same commit
        return True

    def __getstate__(self) -> dict[str, Any]:
        self.__sklearn_is_fitted__()
        state: dict[str, Any] = super().__getstate__()
        return state
