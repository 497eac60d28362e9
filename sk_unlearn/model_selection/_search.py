"""Search for the unlearner that comes closest to retraining, at the price of one fit a fold."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import delayed
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, check_memory

from sk_unlearn import distributed
from sk_unlearn.estimators.notebook import InNotebookMixin
from sk_unlearn.metrics.distances import distance_of
from sk_unlearn.metrics.scorer import RequestLike, RetrainScorer, make_retrain_scorer
from sk_unlearn.model_selection._folds import (
    Candidate,
    Outcome,
    Prepared,
    build_candidates,
    cloned,
    fit_fold,
    halved,
    retrain,
    try_candidate,
)
from sk_unlearn.utils._cards import Box, Table, card, counted
from sk_unlearn.utils._checksum import ChecksummedMixin
from sk_unlearn.utils._parallel import carried_out
from sk_unlearn.utils._progress import Bar, progress, quiet
from sk_unlearn.utils._versioned import VersionedMixin

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ForgetSearchCV"]

# So many candidates are shown in a notebook.
_SHOWN = 5
# What a fit learns; all of it is replaced by the next.
_LEARNT = frozenset(
    (
        "best_estimator_", "best_index_", "best_params_", "best_score_", "cv_results_", "interrupted_", "n_splits_",
        "report_", "scorer_", "splits_", "times_",
    )
)  # fmt: skip


def _best_has(method: str) -> Callable[[Any], bool]:
    return lambda search: hasattr(getattr(search, "best_estimator_", search.estimator), method)


def _best_forgets(verb: str) -> Callable[[Any], bool]:
    def check(search: ForgetSearchCV) -> bool:
        best = getattr(search, "best_estimator_", search.estimator)
        if hasattr(best, verb):
            return True
        # The last step alone could do it, but then the steps before it would still know the rows.
        only_last = isinstance(best, Pipeline) and hasattr(best[-1], verb)
        raise AttributeError(
            f"{type(best).__name__} has no {verb!r}"
            + (f": its last step, {type(best[-1]).__name__}, has, but the other steps cannot." if only_last else ".")
        )

    return check


class ForgetSearchCV(VersionedMixin, ChecksummedMixin, MetaEstimatorMixin, InNotebookMixin, BaseEstimator):
    """Try unlearners, or parameters of one, and keep the one that comes closest to retraining.

    In each fold the estimator is fitted once and references are retrained once; then every candidate forgets the same
    rows in a copy of the fitted estimator and is compared with the references. So only `unlearner` and
    `unlearner__...` may vary. `sklearn.model_selection.GridSearchCV` with
    :func:`~sk_unlearn.metrics.make_retrain_scorer` searches other parameters too.

    One part of the data selects and another reports. In each fold two requests are drawn that share no row, and the
    rows left out of training are halved. The candidates are ranked by the first request and the first half; the second
    ones are only for the winner, whose score on them is `best_score_`. The scores that selected it, the best of many,
    are in the columns of `cv_results_` that have *selection* in their names, and flatter it.

    Parameters
    ----------
    estimator : unlearnable estimator, or Pipeline that ends in one
        It is cloned and not changed.

    param_grid : dict or list of dict
        Candidates, as in `GridSearchCV`: ``{"unlearner__L": ["auto", 1.0]}`` or ``{"unlearner": [A(), B()]}``, in a
        Pipeline with the name of the last step and two underscores before it.

    request : float, int, {"class": label} or callable, default=0.1
        Which training rows to erase; see :func:`~sk_unlearn.metrics.make_retrain_scorer`.

    report_request : float, int, {"class": label} or callable, default=None
        Which rows to erase for the report, chosen among those that `request` left. None takes `request` again, which
        draws others. A class must be named, for there is nothing left of the first.

    scoring : str or sequence of str, default=None
        The measures that :func:`~sk_unlearn.metrics.make_retrain_scorer` knows, higher is better. None is "js", and
        "rms" for regressors.

    n_references : int, default=3
        How many models to retrain for each of the two requests of a fold.

    cv : int, cross-validation generator or iterable, default=3
        The folds, as in `GridSearchCV`.

    refit : bool or str, default=True
        Whether to fit `best_estimator_` on all rows in the end. With several measures, the name of the one that
        decides; with False there is no winner and no report then.

    n_jobs : int, default=None
        Number of jobs of joblib: folds are fitted, and then candidates tried, at once, in processes or by the backend
        of ``joblib.parallel_config``, such as "dask" or "ray". Threads take turns at training.

    memory : str or joblib.Memory, default=None
        Where to keep fits and references, so that a further search over other candidates starts at once. It needs an
        estimator with an int as `random_state`. What is kept knows the rows and holds retained ones; clear it when rows
        must be erased, on every machine of a cluster.

    verbose : int or None, default=None
        1 prints a line for each fold and each candidate as they come, 0 nothing. None shows bars in a terminal or a
        notebook only, for what takes more than a second.

    random_state : int, RandomState instance or None, default=None
        Draws the requests, the halves and the references' seeds.

    error_score : float or "raise", default=nan
        What a candidate gets for a request it fails.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray
        A row for each candidate: ``params`` and ``param_...``, ``split0_selection_score``, ...,
        ``mean_selection_score``, ``std_selection_score``, ``rank_selection_score`` (with several measures their names
        instead of *score*), and seconds, ``mean_forget_time``, ``mean_score_time`` and ``std_...``.

    best_index_ : int
        Row of the winner.

    best_params_ : dict
        Its parameters.

    best_score_ : float
        Its score on the requests that report, mean over the folds. It played no part in choosing.

    report_ : dict of str to ndarray of shape (n_splits,)
        All its scores on those requests.

    best_estimator_ : estimator
        Fitted on all rows. Absent with ``refit=False``.

    splits_ : list of tuple of ndarray
        For each fold the indices of the rows for training, selection and report.

    scorer_ : RetrainScorer
        What candidates were ranked by: its `request`, `n_references` and seed are those of the search. It also gives
        :meth:`score`.

    times_ : dict of str to float
        Seconds spent: "fit", "candidates" and "report", summed over jobs, "references", and "refit".

    interrupted_ : bool
        Whether Ctrl-C ended the search before all candidates were tried. Those that had met every fold are in
        `cv_results_`, and the winner among them was reported and refitted.

    n_splits_ : int
        Number of folds.

    See Also
    --------
    sk_unlearn.metrics.make_retrain_scorer : For use in `GridSearchCV`.

    Notes
    -----
    An unlearner that watches or changes training needs a fit that was watched or changed. Candidates share a fit
    when their recorders are equal, so a search over parameters of the recording itself fits once for each. The two
    requests share the fitted network, and the folds share training rows: the report is honest about the choice, and
    its spread over folds is not that over fresh data.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.model_selection import ForgetSearchCV
    >>> from sk_unlearn.unlearners import FineTune, StoCuReNU
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(random_state=0)
    >>> search = ForgetSearchCV(est, {"unlearner": [StoCuReNU(), FineTune(1)]}, cv=2, n_references=2, random_state=0)
    >>> search.fit(X, y).best_params_
    {'unlearner': StoCuReNU()}
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Sequence[Any]]],
        *,
        request: RequestLike = 0.1,
        report_request: RequestLike | None = None,
        scoring: str | Sequence[str] | None = None,
        n_references: int = 3,
        cv: Any = 3,
        refit: bool | str = True,
        n_jobs: int | None = None,
        memory: Any = None,
        verbose: int | None = None,
        random_state: Any = None,
        error_score: float | str = float("nan"),
    ) -> None:
        self.estimator = estimator
        self.param_grid = param_grid
        self.request = request
        self.report_request = report_request
        self.scoring = scoring
        self.n_references = n_references
        self.cv = cv
        self.refit = refit
        self.n_jobs = n_jobs
        self.memory = memory
        self.verbose = verbose
        self.random_state = random_state
        self.error_score = error_score

    # ------------------------------------------------------------------ searching

    def fit(self, X: Any, y: Any, *, groups: ArrayLike | None = None, **fit_params: Any) -> ForgetSearchCV:
        """Search.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows.

        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        groups : array-like of shape (n_samples,), default=None
            For the splitter.

        fit_params : dict
            Handed on to the estimator's ``fit``; arrays with one entry a row are cut to the fold.

        Returns
        -------
        self : object
            The search. Ctrl-C while candidates are tried ends it with what is done, if that is one candidate at least.

        Raises
        ------
        ValueError
            If a parameter is not one of those above, if `param_grid` varies something else than the unlearner, or if
            every candidate failed. The search is what it was before then.
        """
        distributed.refuse("ForgetSearchCV")
        # What a fit learns it learns in a copy, so that a search whose next fit fails keeps the results that it had.
        draft = copy.copy(self)
        for name in _LEARNT:
            draft.__dict__.pop(name, None)
        draft._search(X, y, groups, fit_params)
        # In one assignment, whatever was there under the same names.
        self.__dict__ = {name: value for name, value in self.__dict__.items() if name not in _LEARNT} | draft.__dict__
        return self

    def _search(self, X: Any, y: Any, groups: ArrayLike | None, fit_params: dict[str, Any]) -> None:
        """Search, and set what that learns; nothing of an earlier search is there."""
        scorers = self._scorers()
        chosen_by = self._chosen_by()
        candidates = build_candidates(self.estimator, self.param_grid)
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        self.splits_: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]] = [
            halved(train, test, np.random.default_rng([scorers[0].random_state, fold]))
            for fold, (train, test) in enumerate(splitter.split(X, y, groups))
        ]
        self.n_splits_: int = len(self.splits_)
        self.scorer_: RetrainScorer = scorers[0]
        self.times_: dict[str, float] = {}
        folds = self._prepare(X, y, fit_params, scorers, candidates)
        outcomes = self._try(folds, candidates, scorers[0])
        self.cv_results_: dict[str, Any] = self._results(candidates[: len(outcomes)], outcomes)
        self.times_["candidates"] = _seconds(outcome for row in outcomes for outcome in row)
        if chosen_by is None:
            return
        self._choose(chosen_by, candidates, outcomes)
        self._report(chosen_by, folds, candidates[self.best_index_], scorers[1])
        del folds  # fitted on rows that may have to be erased; nothing of it is kept
        if self.refit:
            started = time.perf_counter()
            self.best_estimator_: Any = clone(self.estimator).set_params(**cloned(self.best_params_))
            self.best_estimator_.fit(X, y, **fit_params)
            self.times_["refit"] = time.perf_counter() - started

    def _scorers(self) -> tuple[RetrainScorer, RetrainScorer]:
        """Check what concerns the two requests, and return how each is drawn and measured."""
        if isinstance(self.request, Mapping) and self.report_request is None:
            raise ValueError(
                f"request={self.request!r} leaves nothing of the class to report on; name another request, such as "
                'report_request={"class": another label} or report_request=0.1.'
            )
        if self.error_score != "raise" and not isinstance(self.error_score, Real):
            raise ValueError(f"error_score must be a number or 'raise', got {self.error_score!r}.")
        check_memory(self.memory)
        seed = self.random_state
        if seed is None or isinstance(seed, np.random.RandomState):
            seed = check_random_state(seed).randint(2**31 - 1)
        select = make_retrain_scorer(
            self.scoring,
            request=self.request,
            n_references=self.n_references,
            random_state=int(seed),
            memory=self.memory,
        )
        report = make_retrain_scorer(
            self.scoring,
            request=self.request if self.report_request is None else self.report_request,
            n_references=self.n_references,
            random_state=int(np.random.SeedSequence([int(seed), 1]).generate_state(1)[0]),
        )
        return select, report

    @property
    def _measures(self) -> list[str]:
        if self.scoring is None:
            return [distance_of(self.estimator)]
        return [self.scoring] if isinstance(self.scoring, str) else list(self.scoring)

    def _chosen_by(self) -> str | None:
        """Return the measure that decides, or None when there is to be no winner."""
        measures = self._measures
        if isinstance(self.refit, str):
            if self.refit not in measures:
                raise ValueError(f"refit must be one of the measures in scoring, {measures}, got {self.refit!r}.")
            return self.refit
        if len(measures) == 1:
            return measures[0]
        if self.refit:
            raise ValueError(f"scoring has several measures; say by refit which of {measures} decides, or refit=False.")
        return None

    def _label(self, measure: str) -> str:
        return "score" if self.scoring is None or isinstance(self.scoring, str) else measure

    def _prepare(
        self,
        X: Any,
        y: Any,
        fit_params: dict[str, Any],
        scorers: tuple[RetrainScorer, RetrainScorer],
        candidates: list[Candidate],
    ) -> dict[tuple[int, str], Prepared]:
        """Fit and retrain, once a fold for all candidates that can share it."""
        first = {candidate.training: candidate for candidate in reversed(candidates)}
        keys = [(fold, training) for fold in range(self.n_splits_) for training in first]
        tasks = (
            delayed(fit_fold)(
                clone(self.estimator).set_params(**cloned(first[training].params)),
                X,
                y,
                self.splits_[fold],
                fit_params,
                scorers,
                self.memory,
            )
            for fold, training in keys
        )
        folds = {}
        with (
            self._bar(len(keys), "search: fitting", "fold") as bar,
            closing(carried_out(tasks, self.n_jobs, stream=True)) as stream,
        ):
            for key, fold in zip(keys, stream, strict=True):
                folds[key] = fold
                bar.update()
                self._print(f"fold {len(folds)}/{len(keys)}: fitted in {fold.seconds:.2f} s")
        self.times_["fit"] = sum(fold.seconds for fold in folds.values())
        started = time.perf_counter()
        alike: dict[Any, list[tuple[int, str]]] = {}
        for key, fold in folds.items():
            rows = fold.fitted.training_set_.X
            alike.setdefault((key[1], rows.shape[1:], rows.dtype), []).append(key)
        prepared = {}
        for of_kind in alike.values():
            with nullcontext() if self.verbose is None else quiet():
                references = retrain([folds[key] for key in of_kind], scorers, n_jobs=self.n_jobs, memory=self.memory)
            for key, of_fold in zip(of_kind, references, strict=True):
                prepared[key] = Prepared(folds[key].fitted, *folds[key].trials(of_fold))
        self.times_["references"] = time.perf_counter() - started
        n_models = 2 * self.n_references * len(keys)
        self._print(f"references: {n_models} retrained in {self.times_['references']:.2f} s")
        return prepared

    def _try(
        self, folds: dict[tuple[int, str], Prepared], candidates: list[Candidate], scorer: RetrainScorer
    ) -> list[list[Outcome]]:
        """Return the outcomes in every fold of each candidate, of those that Ctrl-C let finish."""
        tasks = (
            delayed(try_candidate)(fold.fitted, candidate.unlearner, fold.select, scorer, self.error_score)
            for candidate in candidates
            for fold in self._of(candidate, folds)
        )
        outcomes: list[list[Outcome]] = []
        row: list[Outcome] = []
        self.interrupted_: bool = False
        try:
            with (
                self._bar(len(candidates) * self.n_splits_, "search: forgetting", "request") as bar,
                closing(carried_out(tasks, self.n_jobs, stream=True)) as stream,
            ):
                for outcome in stream:
                    row.append(outcome)
                    bar.update()
                    if len(row) == self.n_splits_:
                        outcomes.append(row)
                        self._print_candidate(candidates[len(outcomes) - 1], row, len(outcomes), len(candidates))
                        row = []
        except KeyboardInterrupt:
            if not outcomes:
                raise
            self.interrupted_ = True
            warnings.warn(
                f"Interrupted after {len(outcomes)} of {len(candidates)} candidates; the search goes by these.",
                UserWarning,
                stacklevel=4,
            )
        _warn_of_failures(outcome for row in outcomes for outcome in row)
        return outcomes

    def _of(self, candidate: Candidate, folds: dict[tuple[int, str], Prepared]) -> list[Prepared]:
        return [folds[fold, candidate.training] for fold in range(self.n_splits_)]

    def _choose(self, chosen_by: str, candidates: list[Candidate], outcomes: list[list[Outcome]]) -> None:
        if all(outcome.error for row in outcomes for outcome in row):
            raise ValueError(f"Every candidate failed; the first with {outcomes[0][0].error}")
        self.best_index_: int = int(np.argmin(self.cv_results_[f"rank_selection_{self._label(chosen_by)}"]))
        self.best_params_: dict[str, Any] = candidates[self.best_index_].params

    def _report(
        self, chosen_by: str, folds: dict[tuple[int, str], Prepared], winner: Candidate, scorer: RetrainScorer
    ) -> None:
        """Let the winner forget what no candidate has been judged by."""
        tasks = (
            delayed(try_candidate)(fold.fitted, winner.unlearner, fold.report, scorer, self.error_score)
            for fold in self._of(winner, folds)
        )
        with self._bar(self.n_splits_, "search: the winner", "request") as bar:
            outcomes = []
            for outcome in carried_out(tasks, self.n_jobs):
                outcomes.append(outcome)
                bar.update()
        _warn_of_failures(outcomes)
        self.times_["report"] = _seconds(outcomes)
        self.report_: dict[str, NDArray[Any]] = {
            name: np.array([outcome.scores[name] for outcome in outcomes]) for name in self._measures
        }
        self.best_score_: float = float(np.mean(self.report_[chosen_by]))
        self._print(f"best: {winner.params}; on rows it was not chosen by: {chosen_by} {self.best_score_:.5g}")

    # ------------------------------------------------------------------ results

    def _results(self, candidates: list[Candidate], outcomes: list[list[Outcome]]) -> dict[str, Any]:
        results: dict[str, Any] = {}
        for kind in ("forget", "score"):
            seconds = np.array([[getattr(outcome, f"{kind}_seconds") for outcome in row] for row in outcomes])
            results[f"mean_{kind}_time"], results[f"std_{kind}_time"] = seconds.mean(axis=1), seconds.std(axis=1)
        for name in dict.fromkeys(name for candidate in candidates for name in candidate.params):
            column = np.ma.masked_all(len(candidates), dtype=object)
            for i, candidate in enumerate(candidates):
                if name in candidate.params:
                    column[i] = candidate.params[name]
            results[f"param_{name}"] = column
        results["params"] = [candidate.params for candidate in candidates]
        for name in self._measures:
            label = self._label(name)
            scores = np.array([[outcome.scores[name] for outcome in row] for row in outcomes])
            for fold in range(self.n_splits_):
                results[f"split{fold}_selection_{label}"] = scores[:, fold]
            results[f"mean_selection_{label}"] = scores.mean(axis=1)
            results[f"std_selection_{label}"] = scores.std(axis=1)
            results[f"rank_selection_{label}"] = _ranks(scores.mean(axis=1))
        return results

    def to_frame(self) -> pd.DataFrame:
        """Return `cv_results_` as a table, the candidate that did best in the selection first.

        Returns
        -------
        frame : pandas.DataFrame
            A row for each candidate; the index is its row in `cv_results_`.
        """
        import pandas as pd

        check_is_fitted(self, "cv_results_")
        # As objects, or pandas would make a number of a None that was tried.
        columns = {
            name: pd.Series(column.filled(np.nan), dtype=object) if np.ma.isMaskedArray(column) else column
            for name, column in self.cv_results_.items()
            if name != "params"
        }
        frame = pd.DataFrame(columns)
        return frame.sort_values(f"rank_selection_{self._label(self._decides())}", kind="stable")

    def _decides(self) -> str:
        """Return the measure by which candidates are put in order."""
        return self.refit if isinstance(self.refit, str) else self._measures[0]

    def _card(self) -> str:
        if not self.__sklearn_is_fitted__():
            return card(type(self).__name__, "not fitted: nothing has been tried yet")
        names = [f"mean_selection_{self._label(name)}" for name in self._measures]
        best_first = np.argsort(self.cv_results_[f"rank_selection_{self._label(self._decides())}"], kind="stable")
        rows = [
            [
                str(self.cv_results_["params"][i]),
                *(f"{self.cv_results_[name][i]:.5g}" for name in names),
                f"{self.cv_results_['mean_forget_time'][i]:.2g} s",
            ]
            for i in best_first[:_SHOWN]
        ]
        caption = "" if len(best_first) <= _SHOWN else f"The best {_SHOWN} of {len(best_first)} candidates"
        table = Table(
            ["candidate", *(f"{name}, selection" for name in self._measures), "a request"], rows, caption,
            numbers=range(1, 2 + len(names)),
        )  # fmt: skip
        boxes = []
        if hasattr(self, "best_score_"):
            scores = ", ".join(f"{name} {values.mean():.5g}" for name, values in self.report_.items())
            boxes.append(Box(f"Best: {self.best_params_}", f"On rows that it was not chosen by: {scores}."))
        if self.interrupted_:
            boxes.append(Box("Interrupted", "Not all candidates were tried.", "open"))
        told = f"{counted(len(best_first), 'candidate')} in {counted(self.n_splits_, 'fold')}"
        return card(type(self).__name__, told, boxes=boxes, parts=[table])

    def _bar(self, total: int, what: str, unit: str) -> AbstractContextManager[Bar]:
        return progress(total, what, unit=unit, verbose=None if self.verbose is None else 0)

    def _print(self, line: str) -> None:
        if self.verbose:
            print(line, flush=True)

    def _print_candidate(self, candidate: Candidate, row: list[Outcome], number: int, n: int) -> None:
        scores = ", ".join(f"{name} {np.mean([o.scores[name] for o in row]):.5g}" for name in self._measures)
        seconds = np.mean([outcome.forget_seconds for outcome in row])
        self._print(f"candidate {number}/{n}: {candidate.params}: {scores}, {seconds:.2f} s a request")

    # ------------------------------------------------------------------ the best estimator

    @available_if(_best_has("predict"))
    def predict(self, X: Any) -> NDArray[Any]:
        """Predict with the best estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Predictions.
        """
        prediction: NDArray[Any] = self._best().predict(X)
        return prediction

    @available_if(_best_has("predict_proba"))
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict probabilities with the best estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities.
        """
        proba: NDArray[Any] = self._best().predict_proba(X)
        return proba

    def score(self, X: Any, y: Any = None) -> float:
        """Return how well the best estimator forgets, by the measure that chose it.

        A copy of it forgets rows of its own training set that `request` draws, `n_references` models are retrained
        without them, and both are compared on those rows and on `X`, as
        :func:`~sk_unlearn.metrics.make_retrain_scorer` says. For its accuracy or R², ask
        ``best_estimator_.score(X, y)``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows to compare on. Those it was not trained on tell most.

        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            Targets, for the measures that use them.

        Returns
        -------
        score : float
            By `scoring` or, where that names several measures, by the one in `refit`. Higher is better.

        Raises
        ------
        ValueError
            If the measure needs `y`, or if the request can no longer be drawn, as that of a class that was forgotten.

        Notes
        -----
        It costs `n_references` trainings on all retained rows and one request, every time; with `memory` the trainings
        are kept for the next call.
        """
        best = self._best()
        return float(clone(self.scorer_).set_params(distance=self._chosen_by())(best, X, y))

    @available_if(_best_forgets("forget"))
    def forget(
        self, X_del: ArrayLike | None = None, y_del: ArrayLike | None = None, *, sample_id: ArrayLike | None = None
    ) -> ForgetSearchCV:
        """Let the best estimator forget training rows.

        Available where `best_estimator_` has it. Scores, and what `memory` keeps, stay as they are.

        Parameters
        ----------
        X_del : array-like of shape (n_rows, ...), default=None
            Rows to forget, as they were given to ``fit``.

        y_del : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Their targets: only copies that also carry this target are forgotten.

        sample_id : array-like of shape (n_ids,), default=None
            Identifiers: all their rows are forgotten.

        Returns
        -------
        self : object
            The search. What happened is in `unlearning_report_`.

        Raises
        ------
        ValueError, FloatingPointError, sklearn.exceptions.NotFittedError
            As the ``forget`` of the best estimator; nothing has changed then.
        """
        self._best().forget(X_del, y_del, sample_id=sample_id)
        return self

    @available_if(_best_forgets("partial_forget"))
    def partial_forget(self, X: ArrayLike, y: ArrayLike) -> ForgetSearchCV:
        """Let the best estimator forget rows that need not be found in its training set.

        Available where `best_estimator_` has it.

        Parameters
        ----------
        X : array-like of shape (n_rows, ...)
            Rows.

        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Their targets.

        Returns
        -------
        self : object
            The search. What happened is in `unlearning_report_`.

        Raises
        ------
        ValueError, FloatingPointError, sklearn.exceptions.NotFittedError
            As the ``partial_forget`` of the best estimator; nothing has changed then.
        """
        self._best().partial_forget(X, y)
        return self

    @available_if(_best_forgets("correct"))
    def correct(
        self,
        X_old: ArrayLike,
        *,
        y_old: ArrayLike | None = None,
        X_new: ArrayLike | None = None,
        y_new: ArrayLike | None = None,
    ) -> ForgetSearchCV:
        """Let the best estimator replace training rows, or only their targets.

        Available where `best_estimator_` has it.

        Parameters
        ----------
        X_old : array-like of shape (n_rows, ...)
            Rows as they were given to ``fit``.

        y_old : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Narrows the match to copies with this target.

        X_new : array-like of the shape of X_old, default=None
            What row i should have been; None keeps the features.

        y_new : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            What its target should have been; None keeps it.

        Returns
        -------
        self : object
            The search. What happened is in `unlearning_report_`.

        Raises
        ------
        ValueError, FloatingPointError, sklearn.exceptions.NotFittedError
            As the ``correct`` of the best estimator; nothing has changed then.
        """
        self._best().correct(X_old, y_old=y_old, X_new=X_new, y_new=y_new)
        return self

    @property
    def unlearning_report_(self) -> Any:
        """The best estimator's report on its last request; an AttributeError where there is none."""
        return self._best().unlearning_report_

    @property
    def unlearning_history_(self) -> Any:
        """The best estimator's reports on all requests; an AttributeError where it keeps none."""
        return self._best().unlearning_history_

    @property
    def receipts_(self) -> Any:
        """The best estimator's receipts of all requests; an AttributeError where it keeps none."""
        return self._best().receipts_

    def _best(self) -> Any:
        check_is_fitted(self, "cv_results_")
        if not hasattr(self, "best_estimator_"):
            raise AttributeError(f"refit={self.refit!r} fitted no best_estimator_; set refit=True.")
        return self.best_estimator_

    @property
    def classes_(self) -> NDArray[Any]:
        """Labels, of a classifier that was refitted."""
        classes: NDArray[Any] = self._best().classes_
        return classes

    @property
    def n_features_in_(self) -> int:
        """Number of features of the best estimator."""
        return int(self._best().n_features_in_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "cv_results_")

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = copy.deepcopy(inner.classifier_tags)
        tags.regressor_tags = copy.deepcopy(inner.regressor_tags)
        tags.input_tags = copy.deepcopy(inner.input_tags)
        tags.target_tags = copy.deepcopy(inner.target_tags)
        return tags


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return 1 for the highest; ties share the better rank, and failures the last one."""
    ranks: NDArray[np.int32] = rankdata(np.where(np.isnan(scores), np.inf, -scores), method="min").astype(np.int32)
    return ranks


def _seconds(outcomes: Any) -> float:
    return float(sum(np.nansum([outcome.forget_seconds, outcome.score_seconds]) for outcome in outcomes))


def _warn_of_failures(outcomes: Any) -> None:
    errors = [outcome.error for outcome in outcomes if outcome.error]
    if errors:
        warnings.warn(
            f"{len(errors)} requests failed and got error_score; the first with {errors[0]}",
            FitFailedWarning,
            stacklevel=5,
        )
