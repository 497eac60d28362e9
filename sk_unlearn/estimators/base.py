"""What the two estimators share: fit, forget, and everything in between."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, _fit_context, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn

from sk_unlearn.estimators._cached_training import TrainingTask, cached_training, recorder_rng
from sk_unlearn.estimators._certificate import certificate_if_convex, latest_certificate
from sk_unlearn.estimators._deletion import (
    Anchor,
    Change,
    Commit,
    added_risk,
    foreign_risk,
    load_flat,
    numbers_among_trained,
    removed_risk,
    retained_risk,
    rows_after,
    stored_risk,
    uninterrupted,
)
from sk_unlearn.estimators._nets import build_net, cast_features, cast_targets, feature_dtype
from sk_unlearn.estimators._progress import print_step
from sk_unlearn.estimators.report import UnlearningReport
from sk_unlearn.privacy import Certificate
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.risks.quadratic import CurvatureSketch
from sk_unlearn.rows import RowRole, TrainingSet
from sk_unlearn.training.ledger import Trained, train_rows, uses_validation_rows
from sk_unlearn.unlearners.base import Unlearner, UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.cubic.curenu import StoCuReNU
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._random import seeded_torch
from sk_unlearn.utils._sklearn_compat import CallbackSupportMixin

__all__ = ["BaseUnlearnable"]

_SKETCH_RANK = 32
_LITTLE = 1e-6
# What a report takes over from a result as it stands.
_TOLD = (
    "n_products", "curvature_min", "curvature_max", "predicted_decrease", "actual_decrease", "solver", "notes", "extra",
)  # fmt: skip


class BaseUnlearnable(CallbackSupportMixin, BaseEstimator):
    """Base class of :class:`UnlearnableClassifier` and :class:`UnlearnableRegressor`; not for direct use."""

    _classifier: bool

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012  scikit-learn's convention
        "estimator": [NeuralNet, nn.Module, type, None],
        "unlearner": [Unlearner, None],
        "keep_training_set": ["boolean"],
        "device": [str, torch.device, None],
        "random_state": ["random_state"],
        "memory": [str, HasMethods("cache"), None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any = None,
        unlearner: Unlearner | None = None,
        *,
        keep_training_set: bool = True,
        device: str | torch.device | None = None,
        random_state: Any = None,
        memory: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.unlearner = unlearner
        self.keep_training_set = keep_training_set
        self.device = device
        self.random_state = random_state
        self.memory = memory
        self.verbose = verbose

    # ------------------------------------------------------------------ what the subclasses know about targets

    def _learn_targets(self, y: NDArray[Any], classes: ArrayLike | None = None) -> NDArray[Any]:
        """Learn the kind of target from the first y and return it encoded."""
        raise NotImplementedError

    def _encode_targets(self, y: Any, name: str) -> NDArray[Any]:
        """Encode targets of a fitted estimator; unknown ones raise a ValueError that names the argument."""
        raise NotImplementedError

    @property
    def _n_outputs(self) -> int:
        raise NotImplementedError

    # ------------------------------------------------------------------ learning

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        sample_id: ArrayLike | None = None,
    ) -> BaseUnlearnable:
        """Train the network and remember what a later deletion needs.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Training rows. They are stored in the data type the network takes.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the loss. A weight of k is a row that stands there k times; a row of weight zero
            is stored but never seen.

        sample_id : array-like of shape (n_samples,), default=None
            Identifiers, such as a customer number, by which :meth:`forget` finds rows. They may repeat: all rows of an
            identifier are forgotten together.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For invalid data, or when training diverged.
        """
        X, y, weight, seed = self._begin_fit(X, y, sample_weight)
        recorder = self._unlearner().recorder()
        # Callbacks of scikit-learn are there to see the training, so that there has to be one.
        if self.memory is None or getattr(self, "_skl_callbacks", None):
            with seeded_torch(seed):
                net, X_net, y_net = self._net_and_rows(X, y, weight)
                trained = self._train_with_callbacks(
                    net, X_net, y_net, weight, recorder=recorder, rng=recorder_rng(seed)
                )
        else:
            blank = self._blank_net(X, y, weight)
            verbose, blank.verbose = blank.verbose, 0
            task = TrainingTask(blank, X, y, weight, seed, self._classifier, recorder)
            trained = cached_training(self.memory, task, verbose=verbose)
            X_net, y_net = self._cast(trained.net, X, y)
        rows = TrainingSet(X_net, y_net, sample_weight=weight, sample_id=sample_id, role=trained.role)
        return self._end_fit(trained.net, rows, seed, trained.recording)

    # The parts of fit around the training itself, so that many nets can be trained together: see shadow.py.

    def _begin_fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None, int]:
        """Validate the rows, learn the kind of target and draw the seed of the training."""
        X, y, weight = self._validate_training_rows(X, y, sample_weight, reset=True)
        y = self._learn_targets(y)
        return X, y, weight, int(check_random_state(self.random_state).randint(2**31 - 1))

    def _net_and_rows(
        self, X: NDArray[Any], y: NDArray[Any], weight: NDArray[np.float64] | None
    ) -> tuple[NeuralNet, NDArray[Any], NDArray[Any]]:
        """Return an initialised net, and rows and targets as it takes them."""
        net = self._new_net(X, y, weight)
        return net, *self._cast(net, X, y)

    def _cast(self, net: NeuralNet, X: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        X_net = cast_features(X, feature_dtype(net, X))
        return X_net, cast_targets(net, X_net, y, classifier=self._classifier)

    def _end_fit(self, net: NeuralNet, rows: TrainingSet, seed: int, recording: Any = None) -> BaseUnlearnable:
        """Take over a trained net and what a deletion needs of the rows it was trained on."""
        X = rows.raw_X
        self._seed, self._dtype, self._row_shape, self._n_partial_fits = seed, X.dtype, X.shape[1:], 0
        self._uses_validation = bool((rows.role == RowRole.VALIDATED).any()) and uses_validation_rows(net)
        self.net_ = net
        self._adopt(rows)
        self._recording = recording
        self.unlearning_history_: list[UnlearningReport] = []
        self.__dict__.pop("unlearning_report_", None)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        sample_id: ArrayLike | None = None,
    ) -> BaseUnlearnable:
        """Train for one pass over further rows, which then belong to the training set.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, ...)
            Rows.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        classes : array-like of shape (n_classes,), default=None
            For a classifier, all labels that will ever come; needed in the first call, if not all are in y.

        sample_weight, sample_id : array-like of shape (n_samples,), default=None
            As in :meth:`fit`.

        Returns
        -------
        self : object
            The estimator.

        Notes
        -----
        The training residual is taken anew over all stored rows, at the next request. With
        ``keep_training_set=False`` it is updated from the new rows alone.
        """
        first = not hasattr(self, "net_")
        X, y, weight = self._validate_training_rows(X, y, sample_weight, reset=first)
        if first:
            y = self._learn_targets(y, classes)
            self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            with seeded_torch(self._seed):
                net = self._new_net(X, y, weight)
            self._dtype, self._row_shape, self._uses_validation = feature_dtype(net, X), X.shape[1:], False
            self.unlearning_history_ = []
            self._n_partial_fits = 0
        else:
            y = self._encode_targets(y, "y")
            net = self.net_
        X_net = cast_features(X, self._dtype)
        y_net = cast_targets(net, X_net, y, classifier=self._classifier)
        # Built before training, so that identifiers that cannot be stored are refused while nothing has happened.
        new = TrainingSet(X_net, y_net, sample_weight=weight, sample_id=sample_id)
        kept: TrainingSet | None = getattr(self, "training_set_", None)
        if kept is not None and (sample_id is None) != (kept.sample_id is None):
            raise ValueError(
                f"sample_id was {'not ' * (sample_id is None)}given here but {'not ' * (sample_id is not None)}given "
                "before; give it every time or never."
            )
        self._n_partial_fits += 1
        self._recording = None  # would be of another training than the one that led to the parameters
        split, net.train_split = net.train_split, None
        try:
            with seeded_torch(int(np.random.SeedSequence([self._seed, self._n_partial_fits]).generate_state(1)[0])):
                role = train_rows(net, X_net, y_net, weight, epochs=1).role
        finally:
            net.train_split = split
        self.net_ = net
        new.set_role(None, role)
        if first:
            self._adopt(new)
        elif kept is not None:
            kept.append(X_net, y_net, sample_weight=weight, sample_id=sample_id, role=role)
            self._anchor: Anchor | None = None
        else:
            self._anchor = self._updated_anchor(self._present_anchor(), new)
        return self

    def _new_net(self, X: NDArray[Any], y: NDArray[Any], weight: NDArray[np.float64] | None) -> NeuralNet:
        """Build and initialise a net, in torch's present random state."""
        return self._blank_net(X, y, weight).initialize()

    def _blank_net(self, X: NDArray[Any], y: NDArray[Any], weight: NDArray[np.float64] | None) -> NeuralNet:
        """Build a net that knows the shapes of the data."""
        net = build_net(
            self.estimator, X, y, weight, classifier=self._classifier, n_outputs=self._n_outputs, device=self.device
        )
        if self.estimator is None or not isinstance(self.estimator, NeuralNet):
            net.set_params(verbose=int(self.verbose))
        return net

    def _train_with_callbacks(
        self, net: NeuralNet, X: NDArray[Any], y: NDArray[Any], weight: NDArray[np.float64] | None, **options: Any
    ) -> Trained:
        """Train, telling scikit-learn's callbacks about every epoch."""
        if not getattr(self, "_skl_callbacks", None):
            return train_rows(net, X, y, weight, **options)
        metadata = None if weight is None else {"sample_weight": weight}
        context = self._init_callback_context(max_subtasks=net.max_epochs)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=metadata)
        net.callbacks_.append(("scikit_learn", _EpochMessenger(self, context)))
        try:
            training = train_rows(net, X, y, weight, **options)
        finally:
            del net.callbacks_[-1]
        context.call_on_fit_task_end(estimator=self, X=X, y=y, metadata=metadata)
        return training

    def _adopt(self, rows: TrainingSet) -> None:
        """Take the rows just trained on as the training set, or only what a deletion needs of them."""
        w = flat_parameters(self.net_)
        risk = stored_risk(self.net_, rows)
        residual = risk.gradient(w)
        sketch = None
        if not self.keep_training_set:
            sketch = CurvatureSketch.fit(risk, w, _SKETCH_RANK, np.random.default_rng(self._seed)).to(
                torch.device("cpu")
            )
        residual = residual.cpu()
        self._anchor = Anchor(residual, residual.clone(), risk.mass, risk.n_rows, sketch)
        self.__dict__.pop("training_set_", None)
        if self.keep_training_set:
            self.training_set_ = rows

    def _updated_anchor(self, old: Anchor, new: TrainingSet) -> Anchor:
        """Return the anchor after training on rows that are not kept, beside rows that were not kept."""
        risk, w = stored_risk(self.net_, new), flat_parameters(self.net_)
        mass = old.mass + risk.mass
        gradient = risk.gradient(w).cpu()
        residual = (old.mass * old.gradient + risk.mass * gradient) / mass
        assert old.sketch is not None
        sketch = old.sketch.updated(old.mass, w, added=[risk]).to(torch.device("cpu"))
        return Anchor(residual, residual.clone(), mass, old.n_rows + risk.n_rows, sketch)

    def _present_anchor(self) -> Anchor:
        """Return the anchor, taking it over the stored rows when it is not known."""
        if self._anchor is None:
            risk = stored_risk(self.net_, self.training_set_)
            residual = risk.gradient(flat_parameters(self.net_)).cpu()
            self._anchor = Anchor(residual, residual.clone(), risk.mass, risk.n_rows)
        return self._anchor

    # ------------------------------------------------------------------ forgetting

    def forget(
        self, X_del: ArrayLike | None = None, y_del: ArrayLike | None = None, *, sample_id: ArrayLike | None = None
    ) -> BaseUnlearnable:
        """Forget training rows, found by their content or by the identifiers given at ``fit``.

        Every stored copy of a matching row goes. Afterwards the model predicts much like one retrained without the
        rows, and nothing of them is left in this object. The request is carried out whole or not at all.

        Parameters
        ----------
        X_del : array-like of shape (n_rows, n_features) or (n_rows, ...), default=None
            Rows to forget, as they were given to ``fit``. Content is compared in the data type the network takes.

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
            When a row or identifier is not (or no longer) in the training set, when the request is empty or covers
            every row, or when the rows have another shape than those of ``fit``. Nothing has changed then.

        FloatingPointError
            When the algorithm did not arrive at finite numbers. Nothing has changed then.

        sklearn.exceptions.NotFittedError
            Before ``fit``.
        """
        started = time.perf_counter()
        rows = self._stored_rows("forget")
        if X_del is None and sample_id is None:
            raise ValueError("forget needs X_del (rows) or sample_id (identifiers given at fit); both are None.")
        positions: NDArray[np.int64] | None = None
        if X_del is not None:
            X_net, y_net = self._validate_request(X_del, y_del, "X_del", "y_del")
            positions = rows.locate(X_net, y_net, name="X_del")
        elif y_del is not None:
            raise ValueError("y_del narrows X_del, which is None; pass X_del too.")
        if sample_id is not None:
            by_id = rows.locate_ids(_listed(sample_id))
            positions = by_id if positions is None else np.intersect1d(positions, by_id)
        assert positions is not None
        if not len(positions):
            raise ValueError("No stored row has both the content in X_del and an identifier in sample_id.")
        return self._carry_out("forget", Change(positions), started)

    def partial_forget(self, X: ArrayLike, y: ArrayLike) -> BaseUnlearnable:
        """Forget rows that the caller hands in, without having to find them in the training set.

        The caller vouches that the model was trained on them. Stored copies, if there are any, go too. With
        ``keep_training_set=False`` it is the only way to forget: the influence of the rows is then undone against a
        sketch of the curvature. For a linear model with squared loss that is exact; for a network it is one damped step
        that goes part of the way.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features) or (n_rows, ...)
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
            As :meth:`forget`, but for unknown rows.
        """
        started = time.perf_counter()
        check_is_fitted(self)
        X_net, y_net = self._validate_request(X, y, "X", "y")
        assert y_net is not None
        positions, foreign = np.empty(0, dtype=np.int64), np.ones(len(X_net), dtype=bool)
        if hasattr(self, "training_set_"):
            match = self.training_set_.match(X_net, y_net, name="X")
            positions, foreign = np.unique(match.positions), ~match.found
        change = Change(positions)
        if foreign.any():
            change = Change(positions, foreign_X=X_net[foreign], foreign_y=y_net[foreign])
        return self._carry_out("partial_forget", change, started)

    def correct(
        self,
        X_old: ArrayLike,
        y_old: ArrayLike | None = None,
        X_new: ArrayLike | None = None,
        y_new: ArrayLike | None = None,
    ) -> BaseUnlearnable:
        """Rectify training rows: replace them, or only their targets, and solve for the change in one step.

        Parameters
        ----------
        X_old : array-like of shape (n_rows, n_features) or (n_rows, ...)
            Rows as they are stored. Every stored copy is corrected.

        y_old : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Narrows the match to copies with this target.

        X_new : array-like of the shape of X_old, default=None
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
        if X_new is None and y_new is None:
            raise ValueError("correct needs X_new, y_new or both; both are None.")
        X_net, y_net = self._validate_request(X_old, y_old, "X_old", "y_old")
        positions = rows.locate(X_net, y_net, name="X_old")
        match = rows.match(X_net, y_net, name="X_old")
        order = np.argsort(match.positions, kind="stable")
        query = match.query_index[order]
        new_X, new_y = rows.raw_X[positions], rows.raw_y[positions]
        if X_new is not None:
            X_given, _ = self._validate_request(X_new, None, "X_new", "y_new")
            self._check_same_length(X_given, X_net, "X_new")
            _check_no_conflict(X_net, y_net, X_given, "X_new")
            new_X = X_given[query]
        if y_new is not None:
            y_given = self._targets_for_net(y_new, X_net, "y_new")
            _check_no_conflict(X_net, y_net, y_given, "y_new")
            new_y = y_given[query]
        return self._carry_out("correct", Change(positions, new_X=new_X, new_y=new_y), started)

    def _carry_out(self, request: str, change: Change, started: float) -> BaseUnlearnable:
        """Solve a validated request and commit the result; nothing has changed if anything in it fails."""
        rows: TrainingSet | None = getattr(self, "training_set_", None)
        if rows is not None and not change.replaces and len(change.positions) == len(rows):
            raise ValueError(
                f"The request covers all {len(rows)} rows of the training set; nothing would be left to model. "
                "Discard the estimator instead."
            )
        n_trained = change.n_foreign
        if rows is not None:
            n_trained += int(np.count_nonzero(rows.trained_mask[change.positions]))
        rng = np.random.default_rng([self._seed, 1 + len(self.unlearning_history_)])
        details: dict[str, Any] = {}
        notes: list[str] = []
        if self.memory is not None and request != "correct":
            notes.append("memory keeps networks that were trained on the erased rows until it is cleared.")
        result, role = None, None
        recording = self._recording
        anchor: Anchor | None = self._present_anchor()
        assert anchor is not None
        if n_trained:
            result, anchor, training, details = self._solve(change, anchor, rng)
            role, recording = training
        if rows is not None and self._uses_validation and role is None:
            slots = np.searchsorted(np.flatnonzero(rows.live_mask), change.positions)
            n_validated = int(np.count_nonzero(rows.role[slots] == RowRole.VALIDATED))
            if n_validated:
                notes.append(
                    f"{n_validated} of the rows were held out for validation and a callback chose parameters by them. "
                    "That choice is not undone; fit again if it must be."
                )
        commit = Commit(self.net_, rows, change, result, role)
        if rows is not None:
            n_retained = len(rows) - (0 if change.replaces else len(change.positions))
        else:
            assert anchor is not None
            n_retained = anchor.n_rows
        moved = result is not None and bool((result.parameters != flat_parameters(self.net_)).any())

        def assign(final: Anchor | None) -> None:
            report = UnlearningReport(
                request=request,
                method=type(self._unlearner()).__name__,
                n_erased=len(change.positions) + change.n_foreign,
                n_trained_erased=n_trained,
                n_retained=n_retained,
                parameters_moved=moved,
                status=Status.NOTHING_TO_UNDO if result is None else result.status,
                stop_reason=_stop_reason(result, details),
                seconds=time.perf_counter() - started,
                notes=notes + commit.notes + details.pop("notes", []),
                **details,
            )
            self.__dict__.update(
                _anchor=final,
                _recording=recording,
                unlearning_report_=report,
                unlearning_history_=[*self.unlearning_history_, report],
            )

        assigned = ("_anchor", "_recording", "unlearning_report_", "unlearning_history_")
        before = {k: self.__dict__[k] for k in assigned if k in self.__dict__}
        # A Ctrl-C that is held back is raised after everything in here: it must not look like a failure of it.
        with uninterrupted():
            try:
                commit.run(anchor, rng, assign)
            except BaseException:
                self.__dict__.update(before)
                if "unlearning_report_" not in before:
                    self.__dict__.pop("unlearning_report_", None)
                raise
        if rows is not None:
            rows.compact()
        return self

    def _solve(
        self, change: Change, anchor: Anchor, rng: np.random.Generator
    ) -> tuple[UnlearningResult, Anchor | None, tuple[NDArray[np.int8] | None, Any], dict[str, Any]]:
        """Pose the problem and let the unlearner solve it.

        Returns the result, the anchor that follows from it, what the rows that stay were used for when that has
        changed together with the recording, and what the report tells.
        """
        net, rows = self.net_, getattr(self, "training_set_", None)
        unlearner = self._unlearner()
        if rows is None and unlearner.__unlearner_tags__().needs_rows:
            raise ValueError(
                f"unlearner={type(unlearner).__name__} reads retained rows, which keep_training_set=False does not "
                "keep; use StoCuReNU, or fit with keep_training_set=True."
            )
        w = flat_parameters(net)
        retained = retained_risk(net, rows, anchor, change, w)
        removed, added = removed_risk(net, rows, change), added_risk(net, rows, change)
        # From the changed rows alone, except where so little is left that rounding would show.
        mass = anchor.mass - removed.mass + sum(part.mass for part in added)
        if mass <= _LITTLE * anchor.mass:
            mass = retained.mass
        if not mass > 0:
            raise ValueError("The request covers every row that the network was trained on; nothing would be left.")
        # The gradient over what stays follows from what is known over all rows and from the changed rows alone.
        present = anchor.gradient.to(w)
        erased_value, erased_gradient = removed.value_and_gradient(w)
        change_of_sum = -removed.mass * (erased_gradient - present)
        for part in added:
            change_of_sum += part.mass * (part.gradient(w) - present)
        # Written as a change, so that rows that change nothing leave exactly the gradient there was.
        gradient = present + change_of_sum / mass
        problem = UnlearningProblem(
            parameters=w,
            retained=retained,
            erased=removed,
            gradient=gradient,
            residual=anchor.residual.to(w),
            rng=rng,
            net=net,
            retrain=partial(self._retrain, change, rng),
            report_step=print_step if self.verbose else _silent,
            recording=self._recording,
            erased_rows=None if rows is None else numbers_among_trained(rows, change),
        )
        result = unlearner.unlearn(problem)
        if not bool(torch.isfinite(result.parameters).all()):
            raise FloatingPointError(
                f"{type(unlearner).__name__} arrived at parameters that are not finite; nothing was changed."
            )
        n_rows = anchor.n_rows - (0 if change.replaces else removed.n_rows)
        # A net trained anew brings buffers of its own.
        seen = removed if result.trained is None else removed_risk(result.trained.net, rows, change)
        details = _details(result, problem)
        details["erased_gradient_norm"] = float(erased_gradient.norm())
        details["erased_loss_before"] = removed.without_penalty(w, erased_value)
        details["erased_loss_after"] = seen.without_penalty(result.parameters, seen.value(result.parameters))
        details["certificate"] = result.certificate or certificate_if_convex(retained, result.parameters)
        role, recording = (None, None) if result.trained is None else (result.trained.role, result.trained.recording)
        recording = recording if result.recording is None else result.recording
        after = self._anchor_after(result, change, anchor, mass, n_rows, retained)
        return result, after, (role, recording), details

    def _anchor_after(
        self,
        result: UnlearningResult,
        change: Change,
        anchor: Anchor,
        mass: float,
        n_rows: int,
        retained: Any,
    ) -> Anchor | None:
        """Return what the next request will start from; None when it must be taken over the stored rows."""
        if result.gradient is None:
            if hasattr(self, "training_set_") and result.target is None:
                return None
            gradient = retained.gradient(result.parameters)
        else:
            gradient = result.gradient
        residual = gradient if result.target is None else result.target.to(gradient)
        foreign = foreign_risk(self.net_, change)
        if foreign and hasattr(self, "training_set_"):
            # The rows were not in the store. From now on the store alone is the risk, and the target moves along so
            # that the next request does not undo this one.
            stored_mass = mass + foreign[0].mass
            shift = foreign[0].mass / stored_mass * (foreign[0].gradient(result.parameters) - gradient)
            gradient, residual = gradient + shift, residual + shift
            mass, n_rows = stored_mass, n_rows + foreign[0].n_rows
        sketch = anchor.sketch
        if sketch is not None:
            sketch = sketch.updated(anchor.mass, result.parameters, removed=foreign).to(torch.device("cpu"))
        return Anchor(residual.cpu(), gradient.cpu(), mass, n_rows, sketch)

    def _retrain(
        self,
        change: Change,
        rng: np.random.Generator,
        *,
        warm: bool = False,
        epochs: int | None = None,
        callbacks: Any = None,
        learning_rate: float | None = None,
        start: Tensor | None = None,
    ) -> Trained:
        """Train another net on the rows that count after the change; see :class:`UnlearningProblem`.

        A fresh net is trained as ``fit`` does it, recorder included, and comes with the role that each of the rows, in
        their order, played; a warm one with None, for it has also learnt what the fitted net had.
        """
        rows = self.training_set_
        stay = (rows.trained_mask if warm else rows.live_mask).copy()
        if not change.replaces:
            stay[change.positions] = False
        X, y, weight = rows_after(rows, change, np.flatnonzero(stay))
        seed: Any = rng if warm else self._seed
        with seeded_torch(seed):
            net = self._new_net(X, y, weight)
            if warm:
                net.module_.load_state_dict(self.net_.module_.state_dict())
                if start is not None:
                    load_flat(net, start)
                net.set_params(train_split=None, callbacks=callbacks)
                if learning_rate is not None:
                    net.set_params(lr=learning_rate)
                net._initialize_callbacks()
            recorder = None if warm else self._unlearner().recorder()
            trained = train_rows(
                net, X, y, weight, epochs=epochs, interruptible=False, recorder=recorder, rng=recorder_rng(self._seed)
            )
        return Trained(net, None) if warm else trained

    def _unlearner(self) -> Unlearner:
        return StoCuReNU() if self.unlearner is None else clone(self.unlearner)

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

    # ------------------------------------------------------------------ validation

    def _validate_training_rows(
        self, X: Any, y: Any, sample_weight: ArrayLike | None, *, reset: bool
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None]:
        X, y = validate_data(
            self, X, y, reset=reset, dtype="numeric", allow_nd=True, multi_output=True, y_numeric=not self._classifier
        )
        if not reset:
            self._check_row_shape(X, "X")
        if sample_weight is None:
            return X, y, None
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("sample_weight is zero for every row; at least one row must count.")
        return X, y, None if (weight == 1).all() else weight

    def _validate_features(self, X: Any, name: str = "X") -> NDArray[Any]:
        X = validate_data(self, X, reset=False, dtype="numeric", allow_nd=True)
        self._check_row_shape(X, name)
        return cast_features(X, self._dtype)

    def _check_row_shape(self, X: NDArray[Any], name: str) -> None:
        if X.shape[1:] != self._row_shape:
            raise ValueError(f"{name} has rows of shape {X.shape[1:]}; the estimator was fitted on {self._row_shape}.")

    def _validate_request(self, X: Any, y: Any, X_name: str, y_name: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
        if hasattr(X, "__len__") and len(X) == 0:
            raise ValueError(f"{X_name} is empty: pass at least one row.")
        X_net = self._validate_features(X, X_name)
        return X_net, None if y is None else self._targets_for_net(y, X_net, y_name)

    def _targets_for_net(self, y: Any, X_net: NDArray[Any], name: str) -> NDArray[Any]:
        encoded = self._encode_targets(y, name)
        self._check_same_length(encoded, X_net, name)
        return cast_targets(self.net_, X_net, encoded, classifier=self._classifier)

    @staticmethod
    def _check_same_length(a: NDArray[Any], X: NDArray[Any], name: str) -> None:
        if len(a) != len(X):
            raise ValueError(f"{name} has {len(a)} rows but belongs to {len(X)}; pass one for each.")

    def _stored_rows(self, verb: str) -> TrainingSet:
        check_is_fitted(self)
        if not hasattr(self, "training_set_"):
            raise ValueError(
                f"{verb} looks rows up in the training set, which keep_training_set=False does not keep; hand the rows "
                "and targets to partial_forget instead."
            )
        return self.training_set_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")


class _EpochMessenger(Callback):
    """Tell scikit-learn's callbacks about every epoch of skorch's loop."""

    def __init__(self, estimator: BaseUnlearnable, context: Any) -> None:
        self.estimator = estimator
        self.context = context

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        self.epoch = self.context.subcontext(task_name="epoch").call_on_fit_task_begin(estimator=self.estimator)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        if self.epoch.call_on_fit_task_end(estimator=self.estimator):
            raise KeyboardInterrupt  # how skorch's own callbacks end a training


def _details(result: UnlearningResult, problem: UnlearningProblem) -> dict[str, Any]:
    """Return what the report tells of a result. Gradient norms are of Φ, whatever the method itself descends."""
    objective = problem.objective
    taken = [record for record in result.trace if record.get("taken", True)]
    after = float("nan") if result.gradient is None else float((result.gradient - objective.tilt).norm())
    return {
        "n_steps": len(taken),
        "step_norm": float((result.parameters - problem.parameters).norm()),
        "gradient_norm_before": objective.gradient_norm_at_start,
        "gradient_norm_after": after,
        "residual_norm": float(problem.residual.norm()),
        "damping": float(taken[-1]["damping"]) if taken and "damping" in taken[-1] else float("nan"),
        "trace": result.trace,
        **{name: getattr(result, name) for name in _TOLD},
    }


def _stop_reason(result: UnlearningResult | None, details: dict[str, Any]) -> str:
    """Say why the unlearner ended and, since its own criterion may be met by doing little, what became of the loss."""
    if result is None:
        return "no row in the request had entered a gradient"
    before, after = details["erased_loss_before"], details["erased_loss_after"]
    return f"{result.stop_reason}; the mean loss of the erased rows went from {before:.3g} to {after:.3g}"


def _silent(record: Mapping[str, Any]) -> None:
    """Print nothing."""


def _listed(sample_id: Any) -> list[Any]:
    """Return identifiers as a list that leaves each of them as it is; a single one may come alone."""
    alone = isinstance(sample_id, str | bytes) or not isinstance(sample_id, Iterable) or np.ndim(sample_id) == 0  # type: ignore[arg-type]
    ids = [sample_id] if alone else list(sample_id)
    if not ids:
        raise ValueError("sample_id is empty: name at least one identifier to forget.")
    return ids


def _check_no_conflict(X: NDArray[Any], y: NDArray[Any] | None, new: NDArray[Any], name: str) -> None:
    """Refuse a correction that gives one old row two new contents."""
    old = X.reshape(len(X), -1)
    if y is not None:
        old = np.column_stack([old, y.reshape(len(y), -1)])
    n_old = len(np.unique(old, axis=0))
    both = np.column_stack([old, new.reshape(len(new), -1)])
    if len(np.unique(both, axis=0)) != n_old:
        raise ValueError(f"{name} gives identical rows of X_old different new contents; tell them apart by y_old.")
