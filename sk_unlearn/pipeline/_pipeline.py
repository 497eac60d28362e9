"""A pipeline of scikit-learn's that forgets whole: raw rows in, every step without them out."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import _fit_context, clone
from sklearn.pipeline import Pipeline as SklearnPipeline
from sklearn.pipeline import _final_estimator_has, _name_estimators
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples, check_is_fitted

from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.estimators.drafts import (
    Draft,
    check_one_new_each,
    commit_drafts,
    draft_correction_at,
    draft_deletion_at,
    draft_training,
    fit_made,
    narrowed,
    refuse_to_drop_requests,
    stored_already,
    stored_targets,
)
from sk_unlearn.estimators.notebook import InNotebookMixin, fitted_card
from sk_unlearn.estimators.replay import draft_replay_at, replay_of
from sk_unlearn.pipeline._ground import NO_MORE
from sk_unlearn.pipeline._later import Later
from sk_unlearn.pipeline._pinned import pinned_steps
from sk_unlearn.pipeline._raw import RawRows, check_columns, check_in_memory, in_order, owned_rows, taken
from sk_unlearn.pipeline._requests import (
    After,
    exchanged,
    given_rows,
    grown,
    with_all_drawn,
    without,
)
from sk_unlearn.pipeline._samplers import fit_samplers, has_samplers
from sk_unlearn.pipeline._state import PipelineState
from sk_unlearn.pipeline._steps import (
    FittedSteps,
    fit_steps,
    is_per_row,
    known_to,
    transformer_of,
)
from sk_unlearn.preprocessing import remember
from sk_unlearn.receipts import ReceiptChain
from sk_unlearn.rows.digests import digest_rows, new_key
from sk_unlearn.utils._checksum import ChecksummedMixin
from sk_unlearn.utils._lock import one_at_a_time
from sk_unlearn.utils._versioned import VersionedMixin
from sk_unlearn.utils._whole_copies import WholeCopyMixin

__all__ = ["Pipeline", "make_pipeline"]


class Pipeline(VersionedMixin, ChecksummedMixin, WholeCopyMixin, InNotebookMixin, Later):
    """A pipeline of scikit-learn's whose steps forget together, named by raw rows.

    In place of :class:`sklearn.pipeline.Pipeline`, with :class:`UnlearnableClassifier` or
    :class:`UnlearnableRegressor` as the last step. ``forget`` takes rows as they came to ``fit``. Afterwards the steps
    before the last are those that would have been fitted without them, and the net has forgotten the rows in the
    coordinates that these steps give.

    Parameters
    ----------
    steps : list of (str, estimator)
        As in scikit-learn.

    keep_raw : bool, default=True
        Whether the rows are kept as they came, for steps that can only forget by being fitted anew on the others. Takes
        as much memory as they do. Without it such steps refuse a request, unless ``preprocessing="keep"``.

    preprocessing : {"forget", "keep"}, default="forget"
        What becomes of steps that cannot forget: with "forget" a request is refused; with "keep" they stay as they are,
        and the report names them.

    transform_input, memory, verbose
        As in scikit-learn. A cache in `memory` keeps what steps were fitted on: clear it when rows must be erased. With
        steps that resample it is not used.

    Attributes
    ----------
    named_steps : Bunch
        Steps by name.

    classes_ : ndarray of shape (n_classes,)
        Of the last step.

    n_features_in_ : int
        Of the first step.

    unlearning_report_ : UnlearningReport
        What the last request did. Absent before the first.

    unlearning_history_ : list of UnlearningReport
        All requests since ``fit``.

    pipeline_state_ : PipelineState
        What later requests start from, such as the rows as they came. To be read, not changed.

    See Also
    --------
    make_pipeline : Names the steps by itself.

    Notes
    -----
    Rows are found by a keyed hash of their raw content, so that the last digit that a step rounds otherwise for a few
    rows than for all does not matter, nor does the order of the columns of a data frame. The key is drawn at ``fit``
    and is as secret as the rows are.

    ``fit`` works on copies of the steps and puts what they learnt into the given ones at its end: a fit that fails
    leaves a fitted pipeline as it was. During a request predictions come from the old steps.

    Steps may resample, as those of imbalanced-learn do (``fit_resample``): in ``fit`` alone, and they keep nothing of
    it. With a row goes all that was drawn or synthesised from it. Rows that a sampler left out are stored with no
    weight, so that they are found. Which rows it would have drawn without an erased one is not asked again.

    Rows that the last step forgets by a call of its own leave the other steps at the next request of the pipeline.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.preprocessing import OneHotEncoder
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.pipeline import make_pipeline
    >>> people = pd.DataFrame({"town": ["Ulm", "Bonn", "Bonn", "Jena"] * 25})
    >>> owns_car = [1, 0, 0, 1] * 25
    >>> pipe = make_pipeline(OneHotEncoder(), UnlearnableClassifier(random_state=0)).fit(people, owns_car)
    >>> pipe = pipe.forget(people[people.town == "Jena"].head(1))
    >>> pipe[0].categories_
    [array(['Bonn', 'Ulm'], dtype=object)]
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012  scikit-learn's convention
        **SklearnPipeline._parameter_constraints,
        "keep_raw": ["boolean"],
        "preprocessing": [StrOptions({"forget", "keep"})],
    }

    def __init__(
        self,
        steps: list[tuple[str, Any]],
        *,
        keep_raw: bool = True,
        preprocessing: str = "forget",
        transform_input: list[str] | None = None,
        memory: Any = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(steps, transform_input=transform_input, memory=memory, verbose=verbose)
        self.keep_raw = keep_raw
        self.preprocessing = preprocessing

    # ------------------------------------------------------------------ learning

    @_fit_context(prefer_skip_nested_validation=False)  # the steps are validated when they are fitted
    @one_at_a_time
    def fit(self, X: Any, y: Any = None, *, sample_id: ArrayLike | None = None, **params: Any) -> Pipeline:
        """Fit the steps one after the other, and remember what a later deletion needs.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            Training rows as they come: a data frame of pandas or polars, an array, a sparse matrix, a list of texts.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        sample_id : array-like of shape (n_samples,), default=None
            Identifiers by which :meth:`forget` finds rows; see :ref:`by_identifier`. It needs no metadata routing.

        **params : dict of str to object
            As in scikit-learn: ``step__parameter``, or with metadata routing what the steps request.

        Returns
        -------
        self : object
            The fitted pipeline.

        Raises
        ------
        ValueError, TypeError
            As in scikit-learn, and as the steps. A fitted pipeline is then what it was.
        """
        self._fit_all(X, y, sample_id, params)
        return self

    def _fit_all(
        self, X: Any, y: Any, sample_id: Any, params: dict[str, Any], *, first_pass: bool = False, classes: Any = None
    ) -> None:
        """Fit all steps aside, the last one for a single pass if this is the first of several, and swap them in."""
        check_in_memory(X)
        last = self._last_step()
        if last is None:
            if first_pass:
                raise ValueError("partial_fit needs an UnlearnableClassifier or UnlearnableRegressor as the last step.")
            if has_samplers(self.steps):
                raise ValueError(
                    "Steps that resample need an UnlearnableClassifier or UnlearnableRegressor as the last step here; "
                    "for another one there is imblearn.pipeline.Pipeline."
                )
            super().fit(X, y, **(params if sample_id is None else params | {"sample_id": sample_id}))
            return
        refuse_to_drop_requests(last)
        key, new = new_key(), clone(last)
        if has_samplers(self.steps[:-1]):
            if first_pass:
                raise ValueError(NO_MORE.format(verb="partial_fit", cure="fit"))
            drawn = fit_samplers(self, X, y, sample_id, params, key)
            fit_made(new, drawn.source, drawn.X, drawn.y, key=key, **drawn.options)
            commit_drafts([Draft(new._journal, self._assignments(drawn.steps, drawn.state, last, new))])
            return
        fitted = self._fitted_steps(X, y, params)
        options = fitted.last_params if sample_id is None else fitted.last_params | {"sample_id": sample_id}
        if classes is not None:
            options = options | {"classes": classes}
        fit_made(new, digest_rows(key, X), fitted.X, y, first_pass=first_pass, key=key, **options)
        state = self._first_state(fitted, X, y, stores=hasattr(new, "training_set_"))
        commit_drafts([Draft(new._journal, self._assignments(fitted.steps, state, last, new))])

    def _fitted_steps(self, X: Any, y: Any, params: dict[str, Any]) -> FittedSteps:
        if len(self.steps) > 1:
            return fit_steps(self, X, y, params)
        name = self.steps[0][0]
        return FittedSteps([], X, {}, {key.removeprefix(f"{name}__"): value for key, value in params.items()})

    def _first_state(self, fitted: FittedSteps, X: Any, y: Any, *, stores: bool) -> PipelineState:
        n, transformer = _num_samples(X), transformer_of(fitted.steps)
        if not stores:  # no request could take rows out again
            return PipelineState(None, None, {}, n)
        per_row = {name: value for name, value in fitted.params.items() if is_per_row(value, n)}
        constants = {name: value for name, value in fitted.params.items() if name not in per_row}
        memory = None if transformer is None else remember(transformer, X, y, **fitted.params)
        raw = None
        if self.keep_raw and transformer is not None:
            raw = RawRows(owned_rows(X), owned_rows(y), {name: owned_rows(value) for name, value in per_row.items()})
        return PipelineState(memory, raw, constants, n)

    # ------------------------------------------------------------------ forgetting

    def forget(self, X_del: Any = None, y_del: Any = None, *, sample_id: ArrayLike | None = None) -> Pipeline:
        """Forget raw rows, in every step.

        Parameters
        ----------
        X_del : table of shape (n_rows, n_features), default=None
            Rows to forget, as they came to ``fit``; the columns of a data frame in any order.

        y_del : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Their targets: only copies that also carry this target are forgotten.

        sample_id : array-like of shape (n_ids,), default=None
            Identifiers: all their rows are forgotten. Together with ``X_del``, only rows that have the content *and*
            one of the identifiers.

        Returns
        -------
        self : object
            The forgetful pipeline. What happened is in ``unlearning_report_``.

        Raises
        ------
        ValueError
            As :meth:`UnlearnableClassifier.forget`; also where a step can neither give up rows nor be fitted anew.
            Nothing has changed then.

        FloatingPointError, sklearn.exceptions.NotFittedError
            As :meth:`UnlearnableClassifier.forget`.
        """
        with self._turn():
            commit_drafts([self._drafted_deletion(X_del, y_del, sample_id)])
        return self

    def _drafted_deletion(self, X_del: Any, y_del: Any, sample_id: Any) -> Draft:
        X_del = in_order(X_del, self)
        match = self._checked_match(X_del, y_del, sample_id, "forget")
        last = self.steps[-1][1]
        positions = narrowed(last, None if match is None else match.positions, sample_id)
        after = without(self, last, positions, given_rows(last, X_del, match, positions))
        positions = with_all_drawn(self, last, positions)
        return self._combined(draft_deletion_at(last, positions, to=after.to, notes=self._notes(after)), after)

    def _drafted_replay(self, chain: ReceiptChain) -> Draft:
        """Work out the request that makes up for those of a log that this pipeline, just loaded, has missed."""
        last = self._fitted_last("replay")
        replay = replay_of(last, chain)
        after = without(self, last, replay.positions, None)
        return self._combined(draft_replay_at(last, replay, to=after.to, notes=after.notes), after)

    def partial_forget(self, X: Any, y: Any) -> Pipeline:
        """Forget raw rows that the caller hands in, without having to find them.

        Parameters
        ----------
        X : table of shape (n_rows, n_features)
            Rows as they came to ``fit``.

        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Their targets.

        Returns
        -------
        self : object
            The forgetful pipeline.

        Raises
        ------
        ValueError, FloatingPointError, sklearn.exceptions.NotFittedError
            As :meth:`UnlearnableClassifier.partial_forget`, and as :meth:`forget`.

        Notes
        -----
        Rows that are stored leave every step. Of others, only the net takes back what it learnt.
        """
        with self._turn():
            commit_drafts([self._drafted_handed_in(X, y)])
        return self

    def _drafted_handed_in(self, X: Any, y: Any) -> Draft:
        if X is None or y is None:
            raise ValueError("partial_forget needs X (rows) and y (their targets); None was given.")
        last, X = self._fitted_last("partial_forget"), in_order(X, self)
        if not hasattr(last, "training_set_"):
            after, none = self._left_as_they_are(), np.empty(0, dtype=np.int64)
            handed_in = {"X": self._transformed(X), "y": y, "source": self._digests(X)}
            return self._combined(draft_deletion_at(last, none, notes=self._notes(after), **handed_in), after)
        match = self._match(X, y, "X")
        positions, unknown = match.positions, np.flatnonzero(~match.found)
        after = without(self, last, positions, given_rows(last, X, match, positions))
        positions = with_all_drawn(self, last, positions)
        foreign: dict[str, Any] = {}
        if len(unknown):
            raw = taken(X, unknown)
            foreign = {"X": self._transformed(raw, after), "y": taken(y, unknown), "source": self._digests(raw)}
        draft = draft_deletion_at(last, positions, to=after.to, notes=self._notes(after), **foreign)
        return self._combined(draft, after)

    def _left_as_they_are(self) -> After:
        """Return the steps where no rows are stored, which therefore cannot follow them to other coordinates."""
        names = known_to(self.steps[:-1])
        if names and self.preprocessing == "forget":
            raise ValueError(
                "keep_training_set=False keeps no rows that could follow the steps before the net once these had "
                f'forgotten ({", ".join(names)}): keep them, or set preprocessing="keep" to leave the steps.'
            )
        return After(self.steps[:-1], self.pipeline_state_, still_there=names)

    def correct(self, X_old: Any, *, y_old: Any = None, X_new: Any = None, y_new: Any = None) -> Pipeline:
        """Rectify raw rows: replace them, or only their targets.

        Parameters
        ----------
        X_old : table of shape (n_rows, n_features)
            Rows as they came to ``fit``. Every copy is corrected.

        y_old : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Narrows the match to copies with this target.

        X_new : table of the shape of X_old, default=None
            What row i should have been; None keeps it.

        y_new : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            What its target should have been; None keeps it.

        Returns
        -------
        self : object
            The corrected pipeline.

        Raises
        ------
        ValueError, FloatingPointError, sklearn.exceptions.NotFittedError
            As :meth:`UnlearnableClassifier.correct`; also where the new rows need features that there are not, such as
            that of a category that is new.
        """
        with self._turn():
            commit_drafts([self._drafted_correction(X_old, y_old, X_new, y_new)])
        return self

    def _drafted_correction(self, X_old: Any, y_old: Any, X_new: Any, y_new: Any) -> Draft:
        last, _ = self._with_rows("correct")
        self._refuse_samplers("correct", "forget the old rows, or fit")
        X_old, X_new = in_order(X_old, self), in_order(X_new, self)
        if X_new is None and y_new is None:
            raise ValueError("correct needs X_new, y_new or both; both are None.")
        n = _num_samples(X_old)
        for new, name in ((X_new, "X_new"), (y_new, "y_new")):
            if new is not None and _num_samples(new) != n:
                raise ValueError(f"{name} has {_num_samples(new)} rows but belongs to {n}; pass one for each.")
        match = self._found(X_old, y_old, "X_old")
        old_y = None if y_old is None else stored_targets(last, y_old, n, "y_old")
        new_y = None if y_new is None else stored_targets(last, y_new, n, "y_new")
        new_source = None if X_new is None else self._digests(X_new)
        check_one_new_each(self._digests(X_old), old_y, new_source, new_y)
        positions, at = match.positions, match.query_index
        old = given_rows(last, X_old, match, positions)
        assert old is not None
        new = RawRows(
            old.X if X_new is None else taken(X_new, at), old.y if y_new is None else taken(y_new, at), old.params
        )
        after = exchanged(self, last, positions, old, new)
        return self._combined(
            draft_correction_at(
                last,
                positions,
                None if X_new is None else self._transformed(new.X, after),
                None if y_new is None else new.y,
                source=None if new_source is None else new_source[at],
                to=after.to,
                notes=self._notes(after),
            ),
            after,
        )

    # ------------------------------------------------------------------ training further

    @available_if(_final_estimator_has("partial_fit"))
    def partial_fit(
        self, X: Any, y: Any, classes: ArrayLike | None = None, *, sample_id: ArrayLike | None = None, **params: Any
    ) -> Pipeline:
        """Train for one pass over further raw rows, which then belong to the training set, also of the other steps.

        Parameters
        ----------
        X : table of shape (n_samples, n_features)
            Rows as they come.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Their targets.

        classes : array-like of shape (n_classes,), default=None
            As in :meth:`UnlearnableClassifier.partial_fit`.

        sample_id, **params
            As in :meth:`fit`.

        Returns
        -------
        self : object
            The pipeline.

        Raises
        ------
        ValueError
            As :meth:`UnlearnableClassifier.partial_fit`; also where a step cannot take in further rows, or they need
            features that there are not. Nothing has changed then.
        """
        with self._turn():
            if self.__sklearn_is_fitted__():
                self._train_further(X, y, classes, sample_id, params)
            else:
                self._fit_all(X, y, sample_id, params, first_pass=True, classes=classes)
        return self

    def _train_further(self, X: Any, y: Any, classes: Any, sample_id: Any, params: dict[str, Any]) -> None:
        last, _ = self._with_rows("partial_fit")
        self._refuse_samplers("partial_fit", "fit")
        check_in_memory(X)
        check_columns(X, self, "X")
        X = in_order(X, self)
        name, n = self.steps[-1][0], _num_samples(X)
        own = {key.removeprefix(f"{name}__"): value for key, value in params.items() if key.startswith(f"{name}__")}
        weight = own.pop("sample_weight", None)
        if own:
            raise ValueError(f"partial_fit of the last step takes no {', '.join(own)}; it takes sample_weight.")
        source = self._digests(X)
        known = stored_already(last, source, y, sample_weight=weight, sample_id=sample_id)
        new = np.flatnonzero(~known)
        per_row = {k: v for k, v in params.items() if not k.startswith(f"{name}__") and is_per_row(v, n)}
        rows = RawRows(X, y, per_row).rows(new)
        after = grown(self, last, rows)
        draft, n_new = draft_training(
            last, self._transformed(X, after), y, source=source, to=after.to, classes=classes, sample_weight=weight,
            sample_id=sample_id,
        )  # fmt: skip
        assert n_new == len(new)
        commit_drafts([self._combined(draft, after)])

    def _card(self) -> str:
        last = self.steps[-1][1] if self.steps else None
        return fitted_card(self, last) if isinstance(last, BaseUnlearnable) else ""

    # ------------------------------------------------------------------ predicting, from one state

    def _pinned(self) -> Any:
        """Return a pipeline that predicts as this one does now, whatever is fitted or forgotten meanwhile."""
        check_is_fitted(self)
        while True:
            before = vars(self).get("_n_changes", 0)
            other = object.__new__(SklearnPipeline)
            vars(other).update(vars(self), steps=pinned_steps(self.steps))
            if before % 2 == 0 and before == vars(self).get("_n_changes", 0):
                return other
            time.sleep(0)  # another thread is exchanging the steps

    @available_if(_final_estimator_has("predict"))
    def predict(self, X: Any, **params: Any) -> NDArray[Any]:
        """Transform raw rows and predict; see :meth:`sklearn.pipeline.Pipeline.predict`."""
        return np.asarray(self._pinned().predict(X, **params))

    @available_if(_final_estimator_has("predict_proba"))
    def predict_proba(self, X: Any, **params: Any) -> NDArray[Any]:
        """Transform raw rows and predict probabilities; see :meth:`sklearn.pipeline.Pipeline.predict_proba`."""
        return np.asarray(self._pinned().predict_proba(X, **params))

    @available_if(_final_estimator_has("score"))
    def score(self, X: Any, y: Any = None, sample_weight: Any = None, **params: Any) -> float:
        """Transform raw rows and score predictions; see :meth:`sklearn.pipeline.Pipeline.score`."""
        return float(self._pinned().score(X, y, sample_weight=sample_weight, **params))


def make_pipeline(
    *steps: Any,
    keep_raw: bool = True,
    preprocessing: str = "forget",
    transform_input: list[str] | None = None,
    memory: Any = None,
    verbose: bool = False,
) -> Pipeline:
    """Return a :class:`Pipeline` whose steps are named by their classes, as scikit-learn's ``make_pipeline`` does it.

    Parameters
    ----------
    *steps : estimators
        The last one an :class:`UnlearnableClassifier` or :class:`UnlearnableRegressor`.

    keep_raw, preprocessing, transform_input, memory, verbose
        As for :class:`Pipeline`.

    Returns
    -------
    pipeline : Pipeline
    """
    return Pipeline(
        _name_estimators(steps), keep_raw=keep_raw, preprocessing=preprocessing, transform_input=transform_input,
        memory=memory, verbose=verbose,
    )  # fmt: skip
