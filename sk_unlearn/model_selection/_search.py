"""Search for the unlearner that comes closest to retraining, at the price of one fit a fold."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import ParameterGrid, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_random_state, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, check_memory

from sk_unlearn.metrics.distances import last_step
from sk_unlearn.metrics.scorer import (
    Case,
    RequestLike,
    RetrainScorer,
    check_can_forget,
    check_measurable,
    fit_references,
    make_retrain_scorer,
    measure,
    stored_targets,
)
from sk_unlearn.utils._cache import cached, fingerprint

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ForgetSearchCV"]


@dataclass(frozen=True)
class _Request:
    """One deletion, what retraining makes of it, and the unseen rows that both are compared on."""

    X_erased: NDArray[Any]
    y_erased: NDArray[Any]
    references: list[Any]
    X: Any
    y: Any


@dataclass(frozen=True)
class _Fold:
    """A fitted estimator and the deletions that it will be judged by: one to select, one to report."""

    fitted: Any
    targets: NDArray[Any]
    erased: list[NDArray[np.intp]]
    retained: list[NDArray[np.intp]]
    unseen: list[tuple[Any, Any]]
    seconds: float

    def requests(self, references: list[list[Any]]) -> list[_Request]:
        rows = self.fitted.training_set_
        return [
            _Request(rows.X[gone], self.targets[gone], models, X, y)
            for gone, models, (X, y) in zip(self.erased, references, self.unseen, strict=True)
        ]


@dataclass(frozen=True)
class _Prepared:
    """A fold with its references."""

    fitted: Any
    select: _Request
    report: _Request


@dataclass(frozen=True)
class _Outcome:
    """What one candidate did with one request."""

    scores: dict[str, float]
    forget_seconds: float = float("nan")
    score_seconds: float = float("nan")
    error: str = ""


@dataclass(frozen=True)
class _Candidate:
    """Parameters as the user wrote them, the unlearner they make, and which fits it can use."""

    params: dict[str, Any]
    unlearner: Any
    training: str


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


class ForgetSearchCV(MetaEstimatorMixin, BaseEstimator):
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

    scoring : str or sequence of str, default="js"
        The measures that :func:`~sk_unlearn.metrics.make_retrain_scorer` knows, higher is better.

    n_references : int, default=3
        How many models to retrain for each of the two requests of a fold.

    cv : int, cross-validation generator or iterable, default=3
        The folds, as in `GridSearchCV`.

    refit : bool or str, default=True
        Whether to fit `best_estimator_` on all rows in the end. With several measures, the name of the one that
        decides; with False there is no winner and no report then.

    n_jobs : int, default=None
        Number of jobs of joblib: folds are fitted, and then candidates tried, at once. Threads share torch's random
        generator, so that with joblib's backend "threading" seeds do not repeat a result; processes do.

    memory : str or joblib.Memory, default=None
        Where to keep fits and references, so that a further search over other candidates starts at once. It needs an
        estimator with an int as `random_state`. What is kept knows the rows and holds retained ones; clear it when rows
        must be erased.

    verbose : int, default=0
        1 prints a line for each fold and each candidate as they come.

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
    >>> from sk_unlearn.model_selection._search import ForgetSearchCV
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
        scoring: str | Sequence[str] = "js",
        n_references: int = 3,
        cv: Any = 3,
        refit: bool | str = True,
        n_jobs: int | None = None,
        memory: Any = None,
        verbose: int = 0,
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
            every candidate failed.
        """
        scorers = self._scorers()
        chosen_by = self._chosen_by()
        candidates = self._candidates()
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        self.splits_ = [
            _halved(train, test, np.random.default_rng([scorers[0].random_state, fold]))
            for fold, (train, test) in enumerate(splitter.split(X, y, groups))
        ]
        self.n_splits_ = len(self.splits_)
        self.scorer_ = scorers[0]
        self.times_: dict[str, float] = {}
        for name in ("best_index_", "best_params_", "best_score_", "report_", "best_estimator_", "cv_results_"):
            self.__dict__.pop(name, None)

        folds = self._prepare(X, y, fit_params, scorers, candidates)
        outcomes = self._try(folds, candidates, scorers[0])
        self.cv_results_ = self._results(candidates[: len(outcomes)], outcomes)
        self.times_["candidates"] = _seconds(outcome for row in outcomes for outcome in row)
        if chosen_by is None:
            return self
        self._choose(chosen_by, candidates, outcomes)
        self._report(chosen_by, folds, candidates[self.best_index_], scorers[1])
        del folds  # fitted on rows that may have to be erased; nothing of it is kept
        if self.refit:
            started = time.perf_counter()
            self.best_estimator_ = clone(self.estimator).set_params(**_cloned(self.best_params_))
            self.best_estimator_.fit(X, y, **fit_params)
            self.times_["refit"] = time.perf_counter() - started
        return self

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
        return "score" if isinstance(self.scoring, str) else measure

    def _candidates(self) -> list[_Candidate]:
        """Build the unlearner of every candidate, so that what is wrong with one is said before anything is fitted."""
        prefix = f"{self.estimator.steps[-1][0]}__" if isinstance(self.estimator, Pipeline) else ""
        if not hasattr(last_step(self.estimator), "forget"):
            raise ValueError(
                "estimator must be one that can forget, such as UnlearnableClassifier, or a Pipeline that ends in one; "
                f"got {type(last_step(self.estimator)).__name__}."
            )
        candidates = []
        for params in ParameterGrid(self.param_grid):
            for name in params:
                if name != f"{prefix}unlearner" and not name.startswith(f"{prefix}unlearner__"):
                    raise ValueError(
                        f"param_grid varies {name!r}, but ForgetSearchCV fits once for all candidates, so they may "
                        f"differ in {prefix}unlearner and {prefix}unlearner__... only. Search other parameters with "
                        "GridSearchCV and make_retrain_scorer."
                    )
            whole = clone(self.estimator)
            if last_step(whole).unlearner is None and f"{prefix}unlearner" not in params and params:
                raise ValueError(
                    f"param_grid varies {next(iter(params))!r}, and unlearner=None has no parameters; give the "
                    "estimator an unlearner, such as StoCuReNU()."
                )
            unlearner = last_step(whole.set_params(**_cloned(params))).unlearner
            candidates.append(_Candidate(params, unlearner, _training(unlearner)))
        return candidates

    def _prepare(
        self,
        X: Any,
        y: Any,
        fit_params: dict[str, Any],
        scorers: tuple[RetrainScorer, RetrainScorer],
        candidates: list[_Candidate],
    ) -> dict[tuple[int, str], _Prepared]:
        """Fit and retrain, once a fold for all candidates that can share it."""
        first = {candidate.training: candidate for candidate in reversed(candidates)}
        keys = [(fold, training) for fold in range(self.n_splits_) for training in first]
        tasks = (
            delayed(_fit_fold)(
                clone(self.estimator).set_params(**_cloned(first[training].params)),
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
        for number, (key, fold) in enumerate(zip(keys, _as_they_come(self.n_jobs, tasks), strict=True), 1):
            folds[key] = fold
            self._print(f"fold {number}/{len(keys)}: fitted in {fold.seconds:.2f} s")
        self.times_["fit"] = sum(fold.seconds for fold in folds.values())
        started = time.perf_counter()
        # All folds at once, since many networks train together for little more than one.
        alike: dict[Any, list[tuple[int, str]]] = {}
        for key, fold in folds.items():
            rows = fold.fitted.training_set_.X
            alike.setdefault((key[1], rows.shape[1:], rows.dtype), []).append(key)
        prepared = {}
        for of_kind in alike.values():
            references = self._references([folds[key] for key in of_kind], scorers)
            for key, of_fold in zip(of_kind, references, strict=True):
                prepared[key] = _Prepared(folds[key].fitted, *folds[key].requests(of_fold))
        self.times_["references"] = time.perf_counter() - started
        n_models = 2 * self.n_references * len(keys)
        self._print(f"references: {n_models} retrained in {self.times_['references']:.2f} s")
        return prepared

    def _references(self, folds: list[_Fold], scorers: tuple[RetrainScorer, RetrainScorer]) -> list[list[list[Any]]]:
        """Retrain for every fold and request, on the rows of all folds in one array."""
        stored = [fold.fitted.training_set_ for fold in folds]
        starts = np.cumsum([0] + [len(rows) for rows in stored])
        weights = [np.ones(len(rows)) if rows.sample_weight is None else rows.sample_weight for rows in stored]
        subsets, seeds = [], []
        for fold, start in zip(folds, starts, strict=False):
            for scorer, retained in zip(scorers, fold.retained, strict=True):
                own = scorer.seeds(fold.fitted)
                seeds += own
                subsets += [start + retained] * len(own)
        models = cached(
            self.memory,
            partial(fit_references, n_jobs=self.n_jobs),
            scorers[0].blank(folds[0].fitted),
            seeds,
            np.concatenate([rows.X for rows in stored]),
            np.concatenate([fold.targets for fold in folds]),
            None if all(rows.sample_weight is None for rows in stored) else np.concatenate(weights),
            None,
            subsets,
        )
        each = self.n_references
        of_requests = [models[at : at + each] for at in range(0, len(models), each)]
        return [of_requests[at : at + len(scorers)] for at in range(0, len(of_requests), len(scorers))]

    def _try(
        self, folds: dict[tuple[int, str], _Prepared], candidates: list[_Candidate], scorer: RetrainScorer
    ) -> list[list[_Outcome]]:
        """Return the outcomes in every fold of each candidate, of those that Ctrl-C let finish."""
        tasks = (
            delayed(_try_candidate)(fold.fitted, candidate.unlearner, fold.select, scorer, self.error_score)
            for candidate in candidates
            for fold in self._of(candidate, folds)
        )
        outcomes: list[list[_Outcome]] = []
        row: list[_Outcome] = []
        self.interrupted_ = False
        try:
            with closing(_as_they_come(self.n_jobs, tasks)) as stream:
                for outcome in stream:
                    row.append(outcome)
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
                stacklevel=3,
            )
        _warn_of_failures(outcome for row in outcomes for outcome in row)
        return outcomes

    def _of(self, candidate: _Candidate, folds: dict[tuple[int, str], _Prepared]) -> list[_Prepared]:
        return [folds[fold, candidate.training] for fold in range(self.n_splits_)]

    def _choose(self, chosen_by: str, candidates: list[_Candidate], outcomes: list[list[_Outcome]]) -> None:
        if all(outcome.error for row in outcomes for outcome in row):
            raise ValueError(f"Every candidate failed; the first with {outcomes[0][0].error}")
        self.best_index_ = int(np.argmin(self.cv_results_[f"rank_selection_{self._label(chosen_by)}"]))
        self.best_params_ = candidates[self.best_index_].params

    def _report(
        self, chosen_by: str, folds: dict[tuple[int, str], _Prepared], winner: _Candidate, scorer: RetrainScorer
    ) -> None:
        """Let the winner forget what no candidate has been judged by."""
        tasks = (
            delayed(_try_candidate)(fold.fitted, winner.unlearner, fold.report, scorer, self.error_score)
            for fold in self._of(winner, folds)
        )
        outcomes = list(_as_they_come(self.n_jobs, tasks))
        _warn_of_failures(outcomes)
        self.times_["report"] = _seconds(outcomes)
        self.report_ = {name: np.array([outcome.scores[name] for outcome in outcomes]) for name in self._measures}
        self.best_score_ = float(np.mean(self.report_[chosen_by]))
        self._print(f"best: {winner.params}; on rows it was not chosen by: {chosen_by} {self.best_score_:.5g}")

    # ------------------------------------------------------------------ results

    def _results(self, candidates: list[_Candidate], outcomes: list[list[_Outcome]]) -> dict[str, Any]:
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
        measure = self.refit if isinstance(self.refit, str) else self._measures[0]
        return frame.sort_values(f"rank_selection_{self._label(measure)}", kind="stable")

    def _print(self, line: str) -> None:
        if self.verbose:
            print(line, flush=True)

    def _print_candidate(self, candidate: _Candidate, row: list[_Outcome], number: int, n: int) -> None:
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
        self._best().correct(X_old, y_old, X_new, y_new)
        return self

    @property
    def unlearning_report_(self) -> Any:
        """The best estimator's report on its last request; an AttributeError where there is none."""
        return self._best().unlearning_report_

    @property
    def unlearning_history_(self) -> Any:
        """The best estimator's reports on all requests; an AttributeError where it keeps none."""
        return self._best().unlearning_history_

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


# ---------------------------------------------------------------------------------------------------- one unit of work


def _fit_fold(
    estimator: Any,
    X: Any,
    y: Any,
    split: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]],
    fit_params: dict[str, Any],
    scorers: tuple[RetrainScorer, RetrainScorer],
    memory: Any,
) -> _Fold:
    """Fit on one fold and draw the two requests."""
    train, *unseen = split
    started = time.perf_counter()
    model = last_step(estimator)
    if memory is not None:
        own = model.memory
        model.set_params(memory=memory)
    given = {name: _rows(value, train, len(y)) for name, value in fit_params.items()}
    estimator.fit(_safe_indexing(X, train), _safe_indexing(y, train), **given)
    if memory is not None:
        model.set_params(memory=own)
    seconds = time.perf_counter() - started
    check_can_forget(model)
    rows, targets = model.training_set_, stored_targets(model)
    present = np.ones(len(rows), dtype=bool)
    erased, retained = [], []
    for scorer in scorers:
        # Among what the request before left, so that they share no row.
        wanted = scorer.draw(model, among=np.flatnonzero(present))
        gone = rows.locate(rows.X[wanted], rows.y[wanted], name="request")
        present[gone] = False
        erased.append(wanted)
        retained.append(np.setdiff1d(np.arange(len(rows)), gone))
    transform = estimator[:-1].transform if isinstance(estimator, Pipeline) and len(estimator) > 1 else None
    seen = [(_safe_indexing(X, at), _safe_indexing(y, at)) for at in unseen]
    for name in scorers[0].names:
        check_measurable(name, model, seen[0][1])
    if transform is not None:
        seen = [(transform(X_at), y_at) for X_at, y_at in seen]
    return _Fold(model, targets, erased, retained, seen, seconds)


def _try_candidate(
    fitted: Any, unlearner: Any, request: _Request, scorer: RetrainScorer, error_score: float | str
) -> _Outcome:
    """Forget in a copy and measure it."""
    unlearned = copy.deepcopy(fitted).set_params(unlearner=clone(unlearner, safe=False))
    started = time.perf_counter()
    try:
        unlearned.forget(request.X_erased, request.y_erased)
        forgotten = time.perf_counter()
        case = Case(fitted, unlearned, request.references, request.X_erased, request.y_erased, request.X, request.y)
        scores = {name: measure(name, case) for name in scorer.names}
    except Exception as error:
        if error_score == "raise":
            raise
        failed = {name: float(error_score) for name in scorer.names}
        return _Outcome(failed, error=f"{type(error).__name__}: {error}")
    return _Outcome(scores, forgotten - started, time.perf_counter() - forgotten)


def _as_they_come(n_jobs: int | None, tasks: Any) -> Generator[Any, None, None]:
    """Run joblib's tasks and yield results in their order, each as soon as it is there."""
    with_jobs = Parallel(n_jobs=n_jobs)
    if getattr(get_active_backend()[0], "supports_return_generator", False):
        with_jobs = Parallel(n_jobs=n_jobs, return_as="generator")
    yield from with_jobs(tasks)


# -------------------------------------------------------------------------------------------------------- small parts


def _training(unlearner: Any) -> str:
    """Return the same text for unlearners that can use the same fit."""
    make = getattr(unlearner, "recorder", None)
    recorder = None if make is None else make()
    return "" if recorder is None else fingerprint(recorder)


def _halved(
    train: NDArray[np.intp], test: NDArray[np.intp], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    train, test = np.asarray(train), np.asarray(test)
    if len(test) < 2:
        raise ValueError(f"cv must leave out at least 2 rows a fold, to select and to report by; it left {len(test)}.")
    order = rng.permutation(test)
    return train, np.sort(order[: (len(test) + 1) // 2]), np.sort(order[(len(test) + 1) // 2 :])


def _rows(value: Any, rows: NDArray[np.intp], n_rows: int) -> Any:
    one_a_row = hasattr(value, "__len__") and not isinstance(value, str | Mapping) and len(value) == n_rows
    return _safe_indexing(value, rows) if one_a_row else value


def _cloned(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: clone(value, safe=False) for name, value in params.items()}


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
            stacklevel=4,
        )
