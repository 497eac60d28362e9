"""The contract suite must be able to fail: each kind of broken unlearner or estimator is caught by the check for it."""

import copy
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.rows import SparseRows
from sk_unlearn.unlearners import CuReNU, FineTune, Retrain, Status, StoCuReNU, Unlearner, UnlearningResult
from sk_unlearn.utils import estimator_checks as checks
from sk_unlearn.utils.estimator_checks import check_estimator, estimator_checks, parametrize_with_checks

# --------------------------------------------------------------------------------------------------- broken unlearners


class ResurrectsUnlearner(StoCuReNU):
    """Adds each request's own step to where the first request began."""

    starts = []  # noqa: RUF012 - outlives the clone that the estimator makes for each request

    def unlearn(self, problem):
        result = super().unlearn(problem)
        self.starts.append(problem.parameters.clone())
        return replace(result, parameters=self.starts[0] + (result.parameters - problem.parameters))


class ClaimsTooMuch(Unlearner):
    """Does nothing, and claims to be exact."""

    def __unlearner_tags__(self):
        tags = super().__unlearner_tags__()
        tags.exact_on_quadratics = True
        return tags

    def unlearn(self, problem):
        return UnlearningResult(problem.parameters.clone(), Status.CONVERGED, "did nothing", gradient=problem.gradient)


class WordForAStatus(Unlearner):
    def unlearn(self, problem):
        return UnlearningResult(problem.parameters.clone(), "fine", "did nothing")


class StandsStill(Unlearner):
    def unlearn(self, problem):
        return UnlearningResult(problem.parameters.clone(), Status.COMPLETED, "did nothing")


class TellsSparseRowsApart(StandsStill):
    def unlearn(self, problem):
        result = super().unlearn(problem)
        return replace(result, parameters=result.parameters + isinstance(problem.erased.X, SparseRows))


class TellsWithoutNaming(Unlearner):
    def unlearn(self, problem):
        return UnlearningResult(problem.parameters + 1e-3, Status.COMPLETED, "nudged", extra={"mood": "good"})


class TakesANameOfTheReport(TellsWithoutNaming):
    def __unlearner_tags__(self):
        tags = super().__unlearner_tags__()
        tags.extra = ("seconds",)
        return tags


class NotDeterministic(Unlearner):
    def unlearn(self, problem):
        noise = torch.from_numpy(np.random.default_rng().normal(size=len(problem.parameters)))
        return UnlearningResult(problem.parameters + 1e-3 * noise.to(problem.parameters), Status.COMPLETED, "noise")


class GlobalGenerator(Unlearner):
    def unlearn(self, problem):
        parameters = problem.parameters
        noise = torch.randn(len(parameters)).to(parameters)
        return UnlearningResult(parameters + 1e-3 * noise, Status.COMPLETED, "noise")


class ChangesTheNet(StoCuReNU):
    def unlearn(self, problem):
        with torch.no_grad():
            for parameter in problem.net.module_.parameters():
                parameter.mul_(0.5)
        return super().unlearn(problem)


class ChangesTheProblem(StoCuReNU):
    def unlearn(self, problem):
        result = super().unlearn(problem)
        problem.residual.zero_()
        return result


class ReturnsItsInput(Unlearner):
    def unlearn(self, problem):
        return UnlearningResult(problem.parameters, Status.COMPLETED, "did nothing")


class LeavesTrainingMode(StoCuReNU):
    def unlearn(self, problem):
        result = super().unlearn(problem)
        problem.net.module_.train(not problem.net.module_.training)
        return result


class SwallowsInterrupts(StoCuReNU):
    def unlearn(self, problem):
        def report(record):
            with suppress(KeyboardInterrupt):
                problem.report_step(record)

        return super().unlearn(replace(problem, report_step=report))


class HalfDoneWhenInterrupted(StoCuReNU):
    def unlearn(self, problem):
        def report(record):
            with torch.no_grad():
                next(problem.net.module_.parameters()).add_(1.0)
            problem.report_step(record)

        return super().unlearn(replace(problem, report_step=report))


class HidesItsSettings(StoCuReNU):
    def get_params(self, deep=True):
        return {k: v for k, v in super().get_params(deep).items() if k != "tol" or not deep}


# -------------------------------------------------------------------------------------------------- broken estimators


class KeepsRows(UnlearnableClassifier):
    """Keeps a log of what it was asked to forget."""

    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        super().forget(X_del, y_del, sample_id=sample_id)
        self.log_ = (X_del, sample_id)
        return self


class KeepsTargets(UnlearnableRegressor):
    def fit(self, X, y, **metadata):
        super().fit(X, y, **metadata)
        self.first_ = y[:3].copy()
        return self


class KeepsIds(UnlearnableClassifier):
    def fit(self, X, y, *, sample_id=None, **metadata):
        super().fit(X, y, sample_id=sample_id, **metadata)
        self.ids_ = None if sample_id is None else list(map(str, sample_id))
        return self


class NeverDrops(UnlearnableClassifier):
    """Moves parameters and keeps the rows."""

    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        rows = copy.deepcopy(self.training_set_)
        super().forget(X_del, y_del, sample_id=sample_id)
        self.training_set_ = rows
        return self


class DropsOneCopy(UnlearnableClassifier):
    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        kept = self.training_set_.match(np.asarray(X_del, dtype=np.float32)).positions[1:]
        X, y = self.training_set_.raw_X[kept].copy(), self.training_set_.raw_y[kept].copy()
        super().forget(X_del, y_del)
        self.training_set_.append(X, y)
        return self


class IgnoresUnknown(UnlearnableClassifier):
    """Forgets what it knows and says nothing of the rest."""

    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        known = self.training_set_.match(np.asarray(X_del, dtype=np.float32)).found
        return super().forget(np.asarray(X_del)[known]) if known.any() else self


class IgnoresEmpty(UnlearnableClassifier):
    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        if X_del is not None and len(X_del) == 0:
            return self
        return super().forget(X_del, y_del, sample_id=sample_id)

    def partial_forget(self, X, y):
        return self if len(X) == 0 else super().partial_forget(X, y)


class ForgetsAll(UnlearnableClassifier):
    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        if X_del is not None and len(X_del) == len(self.training_set_):
            X_del = X_del[1:]
        return super().forget(X_del, y_del, sample_id=sample_id)


class CutsRows(UnlearnableClassifier):
    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        X_del = np.asarray(X_del)
        if X_del.shape[1] > self.n_features_in_:
            X_del = X_del[:, : self.n_features_in_]
        return super().forget(X_del, y_del, sample_id=sample_id)


class ForgetsWithoutRows(UnlearnableClassifier):
    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        return self if not self.keep_training_set else super().forget(X_del, y_del, sample_id=sample_id)


class IgnoresFaults(UnlearnableClassifier):
    """Drops the rows first and does not look at how the algorithm ended."""

    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        try:
            return super().forget(X_del, y_del, sample_id=sample_id)
        except (RuntimeError, FloatingPointError):
            self.training_set_.drop(self.training_set_.locate(np.asarray(X_del, dtype=np.float32)))
            raise


class HidesFaults(UnlearnableClassifier):
    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        try:
            return super().forget(X_del, y_del, sample_id=sample_id)
        except RuntimeError:
            return self


class NotFinite(UnlearnableClassifier):
    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        super().forget(X_del, y_del, sample_id=sample_id)
        with torch.no_grad():
            next(self.net_.module_.parameters()).mul_(float("nan"))
        return self


class AlwaysMoves(UnlearnableClassifier):
    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        super().forget(X_del, y_del, sample_id=sample_id)
        with torch.no_grad():
            next(self.net_.module_.parameters()).add_(1e-6)
        return self


class ClonesFitted(UnlearnableClassifier):
    def __sklearn_clone__(self):
        return copy.deepcopy(self)


class NoHistory(UnlearnableClassifier):
    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        super().forget(X_del, y_del, sample_id=sample_id)
        self.unlearning_history_ = self.unlearning_history_[-1:]
        return self


class HidesItsNotes(UnlearnableRegressor):
    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        super().forget(X_del, y_del, sample_id=sample_id)
        self.unlearning_report_ = replace(self.unlearning_report_, notes=[])
        return self


class ChangesDtype(UnlearnableRegressor):
    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        super().forget(X_del, y_del, sample_id=sample_id)
        self.double_ = True
        return self

    def predict(self, X):
        prediction = super().predict(X)
        return prediction.astype(np.float64) if hasattr(self, "double_") else prediction


class DropsClasses(UnlearnableClassifier):
    def forget(self, X_del=None, y_del=None, *, sample_id=None):
        super().forget(X_del, y_del, sample_id=sample_id)
        self.classes_ = self.classes_[np.isin(np.arange(len(self.classes_)), self.training_set_.y)]
        return self

    def predict(self, X):
        return self.classes_[np.zeros(len(X), dtype=int)]

    def predict_proba(self, X):
        return super().predict_proba(X)[:, : len(self.classes_)]


class WarmRefit(UnlearnableClassifier):
    def fit(self, X, y, **metadata):
        old = flat_parameters(self.net_) if hasattr(self, "net_") else None
        super().fit(X, y, **metadata)
        if old is not None:
            torch.nn.utils.vector_to_parameters(old, self.net_.module_.parameters())
        return self


class FittedWhenBorn(UnlearnableClassifier):
    def predict(self, X):
        return np.zeros(len(X)) if not hasattr(self, "net_") else super().predict(X)


class SwapsItsUnlearner(UnlearnableClassifier):
    def fit(self, X, y, **metadata):
        self.unlearner = clone(self.unlearner) if self.unlearner is not None else None
        return super().fit(X, y, **metadata)


def _with(unlearner, kind=UnlearnableRegressor):
    return kind(unlearner=unlearner)


BROKEN = [
    (_with(ResurrectsUnlearner()), "check_no_resurrection"),
    (_with(ClaimsTooMuch()), "check_exact_on_quadratics"),
    (_with(NotDeterministic()), "check_finite_and_deterministic"),
    (_with(GlobalGenerator()), "check_finite_and_deterministic"),
    (NotFinite(), "check_finite_and_deterministic"),
    (_with(ChangesTheNet()), "check_unlearner_changes_nothing"),
    (_with(ChangesTheNet()), "check_fault_leaves_untouched"),
    (_with(ChangesTheProblem()), "check_unlearner_changes_nothing"),
    (_with(ReturnsItsInput()), "check_unlearner_changes_nothing"),
    (_with(LeavesTrainingMode()), "check_unlearner_changes_nothing"),
    (_with(SwallowsInterrupts(renew=False)), "check_fault_leaves_untouched"),
    (_with(HalfDoneWhenInterrupted(renew=False)), "check_fault_leaves_untouched"),
    (_with(HidesItsSettings()), "check_nested_parameters"),
    (KeepsRows(), "check_no_erased_bytes"),
    (KeepsTargets(), "check_no_erased_bytes"),
    (KeepsIds(), "check_no_erased_bytes"),
    (NeverDrops(), "check_forget_then_refuse"),
    (NeverDrops(), "check_no_resurrection"),
    (NeverDrops(), "check_forget_by_id"),
    (DropsOneCopy(), "check_copies_go_together"),
    (IgnoresUnknown(), "check_unknown_row_refused"),
    (IgnoresUnknown(), "check_forget_then_refuse"),
    (IgnoresEmpty(), "check_empty_request_refused"),
    (ForgetsAll(), "check_all_rows_refused"),
    (CutsRows(), "check_wrong_width_refused"),
    (ForgetsWithoutRows(keep_training_set=False), "check_forget_needs_rows"),
    (ForgetsWithoutRows(keep_training_set=False), "check_not_fitted_refused"),
    (IgnoresFaults(), "check_fault_leaves_untouched"),
    (HidesFaults(), "check_fault_leaves_untouched"),
    (AlwaysMoves(), "check_empty_change_is_identity"),
    (ClonesFitted(), "check_clone_is_unfitted"),
    (NoHistory(), "check_report"),
    (_with(TellsSparseRowsApart()), "check_sparse_rows"),
    (_with(StandsStill(), HidesItsNotes), "check_status"),
    (_with(WordForAStatus()), "check_status"),
    (_with(WordForAStatus()), "check_unlearner_changes_nothing"),
    (_with(TellsWithoutNaming()), "check_extra_names"),
    (_with(TakesANameOfTheReport()), "check_extra_names"),
    (ChangesDtype(), "check_predictions_keep_their_form"),
    (DropsClasses(), "check_predictions_keep_their_form"),
    (WarmRefit(), "check_refit_after_forget"),
    (FittedWhenBorn(), "check_not_fitted_refused"),
    (SwapsItsUnlearner(), "check_nested_parameters"),
]


@pytest.mark.parametrize(("estimator", "name"), BROKEN)
def test_broken_is_caught(estimator, name):
    ResurrectsUnlearner.starts.clear()
    with pytest.raises(AssertionError) as caught:
        getattr(checks, name)(estimator)
    assert str(caught.value)


def test_every_check_has_been_seen_to_fail():
    public = {name for name in checks.__all__ if name.startswith("check_")} - {"check_estimator"}
    seen = {name for _, name in BROKEN} | {"check_unlearner_that_needs_rows_refused"}
    assert public == seen


def test_unlearner_that_hides_its_need_is_caught():
    class Careless(UnlearnableClassifier):
        def partial_forget(self, X, y):
            return self

    with pytest.raises(AssertionError, match="must raise ValueError"):
        checks.check_unlearner_that_needs_rows_refused(Careless(unlearner=Retrain(), keep_training_set=False))


def test_check_estimator_runs_all_and_raises_the_first():
    check_estimator(UnlearnableRegressor(unlearner=StoCuReNU()))
    with pytest.raises(AssertionError, match=r"row|id"):
        check_estimator(KeepsRows())


def test_what_applies():
    def names(estimator):
        return {check.__name__ for _, check in estimator_checks(estimator)}

    assert "check_exact_on_quadratics" in names(CuReNU())
    assert "check_exact_on_quadratics" not in names(CuReNU(L=1.0))
    assert "check_exact_on_quadratics" not in names(FineTune())
    kept, not_kept = names(UnlearnableClassifier()), names(UnlearnableClassifier(keep_training_set=False))
    assert not_kept - kept == {"check_forget_needs_rows"}
    assert "check_unknown_row_refused" in kept - not_kept


def test_unlearners_are_wrapped():
    def wrapped(unlearner):
        subjects = {id(e): e for e, _ in estimator_checks(unlearner)}.values()
        return {(type(e).__name__, e.keep_training_set) for e in subjects}

    both = {("UnlearnableClassifier", True), ("UnlearnableRegressor", True)}
    assert wrapped(Retrain()) == both
    assert wrapped(CuReNU()) == both | {("UnlearnableClassifier", False), ("UnlearnableRegressor", False)}


def test_classes_are_built():
    (subject,) = {e for e, _ in estimator_checks(UnlearnableRegressor)}
    assert isinstance(subject, UnlearnableRegressor)


@pytest.mark.parametrize("wrong", [LogisticRegression(), StoCuReNU, "forget"])
def test_anything_else_is_refused(wrong):
    with pytest.raises(TypeError, match="UnlearnableClassifier"):
        list(estimator_checks(wrong))


def test_parametrize_names_estimator_and_check():
    mark = parametrize_with_checks([StoCuReNU()])
    ids = [parameter.id for parameter in mark.args[1]]
    assert "UnlearnableClassifier(StoCuReNU)-check_report" in ids
    assert "UnlearnableRegressor(StoCuReNU, no rows)-check_report" in ids
    assert len(ids) == len(set(ids))
