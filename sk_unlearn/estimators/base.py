"""What the two estimators share: their verbs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, _fit_context, clone
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from torch import nn

from sk_unlearn import distributed
from sk_unlearn.estimators._adopt import FromFittedMixin
from sk_unlearn.estimators._batch_norm import not_renewed
from sk_unlearn.estimators._certificate import latest_certificate
from sk_unlearn.estimators._commit import draft_of_solution
from sk_unlearn.estimators._draft import Draft, commit_drafts
from sk_unlearn.estimators._footing import Footing, anchor_on, footing
from sk_unlearn.estimators._handed_in import check_finite
from sk_unlearn.estimators._inputs import (
    InputsMixin,
    cast_targets,
    cast_values,
    check_same_length,
    warn_of_merged_rows,
)
from sk_unlearn.estimators._nets import check_nested, warn_of_methods_not_called
from sk_unlearn.estimators._notes import notes_past_a_pipeline
from sk_unlearn.estimators._passes import check_can_be_overwritten, check_corrected_rows, plan_rows
from sk_unlearn.estimators._pending import PendingMixin, refuse_to_drop_requests
from sk_unlearn.estimators._problem import Solution, solve, stored_risk
from sk_unlearn.estimators._progress import steps_shown
from sk_unlearn.estimators._receipts import audited, kept_ids, key_of, receipts_so_far, retained_with
from sk_unlearn.estimators._request import (
    Request,
    listed,
    resolve_correction,
    resolve_deletion,
    resolve_handed_in,
)
from sk_unlearn.estimators._retrain import retrain, why_not_shorter
from sk_unlearn.estimators._retrained import RetrainMixin
from sk_unlearn.estimators._slices import Slicing
from sk_unlearn.estimators._spread import (
    agreed,
    check_same_request,
    check_spread,
    net_as_first,
    rows_of_all,
    same_net,
)
from sk_unlearn.estimators._state import Anchor
from sk_unlearn.estimators._trainable import check_trainable, trainable_names
from sk_unlearn.estimators.fitting import (
    begin_fit,
    checked_net,
    draft_of,
    draw_seed,
    end_fit,
    first_anchor,
    grown_anchor,
    take_over,
    train_net,
)
from sk_unlearn.estimators.notebook import InNotebookMixin
from sk_unlearn.estimators.report import UnlearningReport
from sk_unlearn.privacy import Certificate
from sk_unlearn.receipts import ReceiptChain
from sk_unlearn.rows import TrainingSet, as_identifiers
from sk_unlearn.rows.forms import outside_rows
from sk_unlearn.training.ledger import Trained, monitors_validation, train_rows
from sk_unlearn.training.rates import fresh_rates
from sk_unlearn.unlearners.base import Unlearner
from sk_unlearn.unlearners.cubic import StoCuReNU
from sk_unlearn.utils._checksum import ChecksummedMixin
from sk_unlearn.utils._journal import Assignment, Journal
from sk_unlearn.utils._lock import one_at_a_time
from sk_unlearn.utils._random import seeded_torch
from sk_unlearn.utils._sklearn_compat import CallbackSupportMixin
from sk_unlearn.utils._twins import learnt, pinned, training_copy
from sk_unlearn.utils._versioned import VersionedMixin
from sk_unlearn.utils._whole_copies import WholeCopyMixin

__all__ = ["BaseUnlearnable"]

_REPORT_FIELDS = frozenset(field.name for field in fields(UnlearningReport))


class BaseUnlearnable(
    VersionedMixin,
    ChecksummedMixin,
    WholeCopyMixin,
    InputsMixin,
    FromFittedMixin,
    PendingMixin,
    RetrainMixin,
    CallbackSupportMixin,
    InNotebookMixin,
    BaseEstimator,
):
    """Base class of :class:`UnlearnableClassifier` and :class:`UnlearnableRegressor`; not for direct use."""

    # Whether verbs may be called inside data_parallel().
    _works_in_processes = True
    _journal: Journal
    _receipt_key: bytes
    # Whoever trains an estimator in slices says so by an attribute of the object, which clones do not have.
    _slicing: Slicing | None = None
    # Of an estimator that is a shard, whoever holds all of them tells which rows stay in files.
    _is_shard = False
    unlearning_history_: list[UnlearningReport]
    receipts_: ReceiptChain
    training_set_: TrainingSet

    # Identifiers are meant for here, whatever is around it: under scikit-learn's metadata routing nobody has to call
    # set_fit_request.
    __metadata_request__fit = {"sample_id": True}  # noqa: RUF012
    __metadata_request__partial_fit = {"sample_id": True}  # noqa: RUF012

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012  scikit-learn's convention
        "estimator": [NeuralNet, nn.Module, type, None],
        "unlearner": [Unlearner, None],
        "keep_training_set": ["boolean"],
        "keep_initial": ["boolean"],
        "hash_ids": ["boolean"],
        "device": [str, torch.device, None],
        "random_state": ["random_state"],
        "memory": [str, HasMethods("cache"), None],
        "verbose": ["verbose", None],
    }

    def __init__(
        self,
        estimator: Any = None,
        unlearner: Unlearner | None = None,
        *,
        keep_training_set: bool = True,
        keep_initial: bool = True,
        hash_ids: bool = False,
        device: str | torch.device | None = None,
        random_state: Any = None,
        memory: Any = None,
        verbose: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.unlearner = unlearner
        self.keep_training_set = keep_training_set
        self.keep_initial = keep_initial
        self.hash_ids = hash_ids
        self.device = device
        self.random_state = random_state
        self.memory = memory
        self.verbose = verbose

    def set_params(self, **params: Any) -> BaseUnlearnable:
        """Set parameters of this estimator, and of those that it holds as ``estimator__lr`` or ``unlearner__L``.

        Parameters
        ----------
        **params : dict
            Parameters.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            For a parameter that there is not; also where ``estimator`` or ``unlearner`` is None or a bare module,
            which have none: it says what to pass instead.
        """
        check_nested(params, classifier=self._classifier, estimator=self.estimator, unlearner=self.unlearner)
        super().set_params(**params)
        return self

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
    ) -> BaseUnlearnable:
        """Train the network and remember what a later deletion needs.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features) or (n_samples, ...)
            Training rows. They are stored in the data type the network takes, sparse ones sparse. A dict of arrays, a
            tuple of arrays or a DataFrame for a module with several arguments, and a data set of PyTorch's too. An
            array that is mapped from a file stays there; see :ref:`forms_of_rows`.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets; may be left out where X is a data set that has them.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the loss. A row of weight k counts as k equal rows; one of weight zero is stored and
            takes no part in training.

        sample_id : array-like of shape (n_samples,), default=None
            Identifiers, such as a customer number, by which :meth:`forget` finds rows: any hashable objects, none of
            them missing; see :ref:`by_identifier`. They may repeat: all rows of an identifier are forgotten together.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For invalid data, or when training diverged: when a parameter or a running statistic is not finite.

        Warns
        -----
        UserWarning
            Where rows of X that differ become equal in the data type that the network takes, because it cannot tell
            whole numbers apart: :meth:`forget` finds them together.

        Notes
        -----
        A fitted estimator stays what it was until the end. Ctrl-C is raised, other than in skorch, which keeps what was
        learnt so far.

        In several threads estimators are fitted one after the other: a process has one global generator of random
        numbers, and each fit seeds it. Processes, which joblib takes by default, train side by side.
        """
        return self._fit(X, y, sample_weight, sample_id)

    @_fit_context(prefer_skip_nested_validation=True)
    @one_at_a_time
    def _fit_made(
        self,
        source: Any,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        sample_id: Any = None,
        first_pass: bool = False,
        classes: Any = None,
        key: bytes | None = None,
    ) -> BaseUnlearnable:
        """Fit rows that were made of others, whose digests are given: see ``drafts.fit_made``."""
        outside = None if source is None else outside_rows(X)
        if outside is not None:  # The pipeline keeps and moves them, and what it brings is in a file by chance only.
            X = outside.toarray()
        if first_pass:
            return self._first_partial_fit(X, y, classes, sample_weight, sample_id, source, key)
        return self._fit(X, y, sample_weight, sample_id, source, key, classes)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        sample_id: Any,
        source: Any = None,
        key: bytes | None = None,
        classes: Any = None,
    ) -> BaseUnlearnable:
        refuse_to_drop_requests(self)
        draft = draft_of(self)
        if key is not None:
            draft._receipt_key = key
        task, sample_id = begin_fit(draft, X, y, sample_weight, sample_id, classes)
        ids = as_identifiers(kept_ids(draft, sample_id, len(task.X)), len(task.X))
        trained, X_net, y_net = train_net(self, draft, task, self._unlearner().recorder(), ids)
        rows = TrainingSet(X_net, y_net, sample_weight=task.weight, sample_id=ids, role=trained.role, source=source)
        end_fit(draft, trained, rows, task.seed)
        return take_over(self, draft)

    def _partial_fit(
        self,
        X: Any,
        y: Any,
        classes: ArrayLike | None,
        sample_weight: ArrayLike | None,
        sample_id: ArrayLike | None,
        source: Any = None,
    ) -> BaseUnlearnable:
        """Carry out ``partial_fit`` of a classifier or a regressor, whose arguments differ."""
        if not self.__sklearn_is_fitted__():
            return self._first_partial_fit(X, y, classes, sample_weight, sample_id, source)
        state = self.unlearning_state_
        kept: TrainingSet | None = getattr(self, "training_set_", None)
        check_spread(kept, "partial_fit")
        X, y, weight, sample_id = rows_of_all(self, X, y, sample_weight, sample_id, reset=False)
        X_net = cast_values(X, state.dtype)
        warn_of_merged_rows(X, X_net)
        X_net = self._at_width_of_net(X_net)
        y_net = cast_targets(self.net_, X_net, self._encode_targets(y, "y"), classifier=self._classifier)
        if kept is not None:
            kept.check_ids_given(sample_id)
            check_can_be_overwritten(X, kept)
        sample_id = kept_ids(self, sample_id, len(X_net))
        # Built before training, so that identifiers that cannot be stored are refused at once.
        new = TrainingSet(X_net, y_net, sample_weight=weight, sample_id=sample_id, source=source)
        number = state.n_partial_fits + 1
        net = training_copy(self.net_)
        goes_on = any(getattr(net, name + "_").state for name in net._optimizers)
        trained = _one_pass(net, new, weight, seed=[state.seed, number])
        # A recording would be of another training than the one that led to the parameters.
        start = state.start and state.start.followed_by(trained.start, goes_on=goes_on)
        state = replace(state, n_partial_fits=number, recording=None, anchor=None, features=None, start=start)
        moved = dict.fromkeys([*state.trainable, *trainable_names(net)]) if state.trainable else ()
        state = replace(state, served="", trainable=tuple(moved))
        state = state.after_training(trained.notes, not_renewed(net, trained.side_state))
        state = replace(state, since=state.since.after_pass(len(new)))
        grown: list[Assignment] = []
        if kept is None:
            state = replace(state, anchor=grown_anchor(net, self._present_anchor(Footing(self.net_)), new))
        else:
            grown, is_new = plan_rows(kept, new)
            state = replace(state, retained_set=retained_with(self, state.retained_set, kept, new, is_new))
        net_as_first(net)
        same_net(net)
        learnt_state = [(vars(self.net_), name, vars(net)[name]) for name in learnt(net)]
        self._journal.commit([*learnt_state, *grown, (self.__dict__, "unlearning_state_", state)])
        return self

    def _first_partial_fit(
        self,
        X: Any,
        y: Any,
        classes: ArrayLike | None,
        sample_weight: ArrayLike | None,
        sample_id: ArrayLike | None,
        source: Any,
        key: bytes | None = None,
    ) -> BaseUnlearnable:
        warn_of_methods_not_called(self.estimator)
        draft = draft_of(self)
        if key is not None:
            draft._receipt_key = key
        X, y, weight, sample_id = rows_of_all(draft, X, y, sample_weight, sample_id, reset=True)
        y = draft._learn_targets(y, classes)
        seed = draw_seed(self)
        with seeded_torch(seed):
            net, X_net, y_net = checked_net(draft, X, y, weight)
        sample_id = kept_ids(draft, sample_id, len(X_net))
        rows = TrainingSet(X_net, y_net, sample_weight=weight, sample_id=sample_id, source=source)
        trained = _one_pass(net, rows, weight, seed=[seed, 1])
        end_fit(draft, trained, rows, seed, n_partial_fits=1)
        return take_over(self, draft)

    # ------------------------------------------------------------------ forgetting

    @one_at_a_time
    def forget(
        self, X_del: Any = None, y_del: ArrayLike | None = None, *, sample_id: ArrayLike | None = None
    ) -> BaseUnlearnable:
        """Forget training rows, found by their content or by the identifiers given at ``fit``.

        Every stored copy of a matching row goes. Afterwards the model predicts much like one retrained without the
        rows, and nothing of them is left in this object. The request is carried out whole or not at all.

        Parameters
        ----------
        X_del : {array-like, sparse matrix} of shape (n_rows, n_features) or (n_rows, ...), default=None
            Rows to forget, as they were given to ``fit``, in any form that it takes. Content is compared in the data
            type the network takes; sparse rows find dense ones and the other way round. A data set brings `y_del`
            along.

        y_del : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Their targets: only copies that also carry this target are forgotten.

        sample_id : array-like of shape (n_ids,), default=None
            Identifiers: all their rows are forgotten. Together with ``X_del``, only rows that have the content *and*
            one of the identifiers. One that is no tuple may come without a list around it.

        Returns
        -------
        self : object
            The forgetful estimator. What happened is in ``unlearning_report_``.

        Raises
        ------
        ValueError
            When a row or identifier is not (or no longer) in the training set, when the request is empty or covers
            every row, or when the rows have another shape than those of ``fit`` or hold what the data type of the
            network cannot. Nothing has changed then.

        FloatingPointError
            When the algorithm did not arrive at finite numbers. Nothing has changed then.

        sklearn.exceptions.NotFittedError
            Before ``fit``.
        """
        commit_drafts([self._drafted_deletion(X_del, y_del, sample_id)])
        return self

    def _drafted_deletion(self, X_del: Any, y_del: Any, sample_id: Any) -> Draft:
        started = time.perf_counter()
        return self._drafted(resolve_deletion(*self._to_look_up("forget", X_del, y_del, sample_id)), started)

    def _to_look_up(
        self, verb: str, X_del: Any, y_del: Any, sample_id: Any
    ) -> tuple[TrainingSet, NDArray[Any] | None, NDArray[Any] | None, Any]:
        """Return the stored rows, and what is to be looked up in them as it is stored, for a verb that forgets."""
        rows = self._stored_rows(verb)
        if X_del is None and sample_id is None:
            raise ValueError(f"{verb} needs X_del (rows) or sample_id (identifiers given at fit); both are None.")
        if X_del is None and y_del is not None:
            raise ValueError("y_del narrows X_del, which is None; pass X_del too.")
        with agreed():
            X_net, y_net = (None, None) if X_del is None else self._validate_request(X_del, y_del, "X_del", "y_del")
            ids = None if sample_id is None else kept_ids(self, listed(sample_id))
        check_same_request(self, verb, X_net, y_net, ids)
        return rows, X_net, y_net, ids

    @one_at_a_time
    def partial_forget(self, X: Any, y: ArrayLike | None = None) -> BaseUnlearnable:
        """Forget rows that the caller hands in, without having to find them in the training set.

        The caller vouches that the model was trained on them. Stored copies, if there are any, go too. With
        ``keep_training_set=False`` it is the only way to forget: the influence of the rows is then undone against a
        sketch of the curvature. For a linear model with squared loss that is exact. For a network it is one damped
        step, which undoes only a part of the influence.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_rows, n_features) or (n_rows, ...)
            Rows, in any form that :meth:`fit` takes.

        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Their targets; may be left out where X is a data set that has them.

        Returns
        -------
        self : object
            The forgetful estimator.

        Raises
        ------
        ValueError
            As :meth:`forget`, but for unknown rows; also where rows miss stored ones by rounding alone, since those
            would stay, and when rows that are not stored cannot have been trained on, because stored ones would be
            known markedly worse without them. Nothing has changed then.

        FloatingPointError, sklearn.exceptions.NotFittedError
            As :meth:`forget`.
        """
        commit_drafts([self._drafted_handed_in(X, y)])
        return self

    def _drafted_handed_in(self, X: Any, y: Any, notes: Sequence[str] | None = None) -> Draft:
        started = time.perf_counter()
        check_is_fitted(self)
        check_spread(getattr(self, "training_set_", None), "partial_forget")
        with agreed():
            X_net, y_net = (None, None) if X is None else self._validate_request(X, y, "X", "y")
            if X_net is None or y_net is None:
                raise ValueError("partial_forget needs X (rows) and y (their targets); None was given.")
        check_same_request(self, "partial_forget", X_net, y_net, None)
        request = resolve_handed_in(getattr(self, "training_set_", None), X_net, y_net)
        return self._drafted(request, started, notes)

    @one_at_a_time
    def correct(
        self,
        X_old: Any,
        *,
        y_old: ArrayLike | None = None,
        X_new: Any = None,
        y_new: ArrayLike | None = None,
    ) -> BaseUnlearnable:
        """Rectify training rows: replace them, or only their targets, and solve for the change in one step.

        Parameters
        ----------
        X_old : {array-like, sparse matrix} of shape (n_rows, n_features) or (n_rows, ...)
            Rows as they are stored, in any form that :meth:`fit` takes. Every stored copy is corrected.

        y_old : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Narrows the match to copies with this target.

        X_new : {array-like, sparse matrix} of the shape of X_old, default=None
            What row i should have been; None keeps the features.

        y_new : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            What its target should have been; None keeps it.

        Returns
        -------
        self : object
            The corrected estimator. Afterwards no old content is left in this object.

        Raises
        ------
        ValueError, FloatingPointError, sklearn.exceptions.NotFittedError
            As :meth:`forget`; also when two identical old rows are to become different ones.
        """
        started = time.perf_counter()
        rows = self._stored_rows("correct")
        if rows.raw_source is not None:
            raise ValueError(
                "correct of the last step would leave the old content in the pipeline that its rows came through: call "
                "correct of the pipeline."
            )
        if X_new is None and y_new is None:
            raise ValueError("correct needs X_new, y_new or both; both are None.")
        with agreed():
            X_net, y_net = self._validate_request(X_old, y_old, "X_old", "y_old")
            new_X = None if X_new is None else self._validate_request(X_new, None, "X_new", "y_new")[0]
            check_corrected_rows(new_X)
            if new_X is not None:
                check_same_length(new_X, X_net, "X_new")
            new_y = None if y_new is None else self._targets_for_net(y_new, X_net, "y_new")
        check_same_request(self, "correct", X_net, y_net, None)
        check_same_request(self, "correct", new_X, new_y, None)
        commit_drafts([self._drafted(resolve_correction(rows, X_net, y_net, new_X, new_y), started)])
        return self

    def _drafted(self, request: Request, started: float, notes: Sequence[str] | None = None) -> Draft:
        """Solve a resolved request, aside; nothing changes until the draft is committed.

        A pipeline that forgets along hands in its own notes.
        """
        rows: TrainingSet | None = getattr(self, "training_set_", None)
        check_spread(rows, request.verb)
        check_trainable(self.net_, self.unlearning_state_.trainable)
        if notes is None:
            notes = notes_past_a_pipeline(rows)
        unlearner = self._checked_unlearner(rows)
        state, ground = self.unlearning_state_, footing(self, rows, request, unlearner)
        anchor = self._present_anchor(ground) if request.n_trained or not ground.has_moved else None
        rng = np.random.default_rng([state.seed, 1 + len(self.unlearning_history_)])
        solution = Solution(None, anchor, state.recording)
        if anchor is not None and request.n_trained:
            check_finite(self.net_, request)
            with steps_shown(self.verbose, request.verb) as report_step:
                solution = solve(
                    ground.net, rows, request, anchor, unlearner, rng,
                    recording=state.recording,
                    start=state.start,
                    features=None if ground.has_moved else state.features,
                    set_aside_at=state.set_aside_at,
                    retrain=partial(retrain, self, ground.net, request, rng),
                    why_not_shorter=why_not_shorter(self),
                    n_steps=0 if state.schedule is None else max(phase.n_steps for phase in state.schedule.phases),
                    report_step=report_step,
                )  # fmt: skip
        return draft_of_solution(
            self, request, solution, ground, rng, unlearner=unlearner, started=started, notes=notes
        )  # fmt: skip

    def _present_anchor(self, ground: Footing) -> Anchor:
        """Return what is known of the rows, taking it over the stored ones where nothing is."""
        if ground.has_moved:
            return anchor_on(ground, self)
        anchor = self.unlearning_state_.anchor
        if anchor is not None:
            return anchor
        return first_anchor(self.net_, self.training_set_, self.unlearning_state_.seed, keeps_rows=True)

    def _unlearner(self) -> Unlearner:
        return StoCuReNU() if self.unlearner is None else clone(self.unlearner)

    def _checked_unlearner(self, rows: TrainingSet | None) -> Unlearner:
        """Return the unlearner for one request, or say why it cannot carry it out."""
        unlearner = self._unlearner()
        tags = unlearner.__unlearner_tags__()
        if rows is None and tags.needs_rows:
            raise ValueError(
                f"unlearner={unlearner!r} reads retained rows, which keep_training_set=False does not keep; use "
                "StoCuReNU(), or fit with keep_training_set=True."
            )
        taken = sorted(_REPORT_FIELDS & set(tags.extra))
        if taken:
            raise ValueError(
                f"unlearner={type(unlearner).__name__} would report {taken} in extra, which are fields of "
                "UnlearningReport; give them other names."
            )
        return unlearner

    @property
    def certificate_(self) -> Certificate:
        """What is guaranteed after the last request; where noise was added at each, over all of them together.

        Raises
        ------
        AttributeError
            Where there is no guarantee; it says why.
        """
        check_is_fitted(self)
        rows = getattr(self, "training_set_", None)
        return latest_certificate(self.unlearning_history_, None if rows is None else stored_risk(self.net_, rows))

    @property
    def receipt_key_(self) -> bytes:
        """The secret key of the digests in ``receipts_``, drawn at ``fit``.

        Who has it can tell whether a given row was erased: keep it where the receipts are not.
        """
        check_is_fitted(self)
        return key_of(self)

    @one_at_a_time
    def record_audit(self, report: Any) -> BaseUnlearnable:
        """Write what an audit found of a request into ``receipts_``, as an entry of its own.

        Parameters
        ----------
        report : AuditReport
            Of :func:`~sk_unlearn.inspection.audit`, of this estimator as it was after that request.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If the audit is of no request of this estimator.

        sklearn.exceptions.NotFittedError
            Before ``fit``.
        """
        check_is_fitted(self)
        distributed.refuse("record_audit")
        self._journal.commit([(self.__dict__, "receipts_", audited(receipts_so_far(self), report))])
        return self

    def _stored_rows(self, verb: str) -> TrainingSet:
        check_is_fitted(self)
        if not hasattr(self, "training_set_"):
            raise ValueError(
                f"{verb} looks rows up in the training set, which keep_training_set=False does not keep; hand the rows "
                "and targets to partial_forget instead."
            )
        check_spread(self.training_set_, verb)
        return self.training_set_

    def _pinned(self) -> Any:
        """Return an estimator that predicts as this one does now, whatever is fitted, learnt or forgotten meanwhile."""
        check_is_fitted(self)
        other: Any = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.net_ = pinned(other.net_)
        return other

    # ------------------------------------------------------------------ scikit-learn's protocols

    def __sklearn_is_fitted__(self) -> bool:
        if "_journal" not in self.__dict__:
            return False
        self._journal.settle()  # where two interrupts struck the same commit
        return True

    def __getstate__(self) -> dict[str, Any]:
        self.__sklearn_is_fitted__()
        state: dict[str, Any] = super().__getstate__()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "training_set_" in self.__dict__:  # which makes a journal of its own when it is copied or loaded
            self._journal = self.training_set_.journal


def _one_pass(net: NeuralNet, rows: TrainingSet, weight: Any, *, seed: list[int]) -> Trained:
    """Train for one epoch on all rows, at the rates of a new training; set their roles, and tell what came of it."""
    # Nothing is held out, so that who looks at what is held out has nothing to look at.
    split, callbacks = net.train_split, net.callbacks_
    net.train_split, net.callbacks_ = None, [each for each in callbacks if not monitors_validation(each[1])]
    try:
        with seeded_torch(int(np.random.SeedSequence(seed).generate_state(1)[0])), fresh_rates(net):
            trained = train_rows(net, rows.raw_X, rows.raw_y, weight, epochs=1)
    finally:
        net.train_split, net.callbacks_ = split, callbacks
    assert trained.role is not None
    rows.set_role(None, trained.role)
    return trained
