"""The contract suite on everything the package exports: a new unlearner is tested by being there."""

import atexit
import inspect
import tempfile
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

import sk_unlearn
import sk_unlearn.unlearners
from sk_unlearn import ShardedClassifier, ShardedRegressor, UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.estimators.base import BaseUnlearnable
from sk_unlearn.rows import open_rows
from sk_unlearn.unlearners import HessianFreeRecording, StoCuReNU, Unlearner
from sk_unlearn.utils.estimator_checks import parametrize_with_checks
from tests._problems import LinearLayer, classifier, regressor


def _exported(module, base):
    found = [getattr(module, name) for name in module.__all__]
    return [c for c in found if inspect.isclass(c) and issubclass(c, base) and c is not base]


UNLEARNERS = _exported(sk_unlearn.unlearners, Unlearner)
ESTIMATORS = _exported(sk_unlearn, BaseUnlearnable)


# Of this module, so that pickles find the files as long as tests run.
FILES = tempfile.TemporaryDirectory()
atexit.register(FILES.cleanup)


class RowsInFile(UnlearnableClassifier):
    """Puts the rows into a file, where they stay."""

    def fit(self, X, y=None, sample_weight=None, *, sample_id=None):
        if isinstance(X, np.ndarray) and X.dtype.kind == "f" and np.isfinite(X).all():
            path = Path(FILES.name) / f"{uuid4()}.npy"
            np.save(path, X)
            X = open_rows(path)
        return super().fit(X, y, sample_weight, sample_id=sample_id)


def _with_plain_sgd(unlearner):
    """Both estimators around nets that the unlearner can follow, in place of the nets of the suite."""
    for build in (classifier, regressor):
        yield build(unlearner, LinearLayer, random_state=None, max_epochs=4, batch_size=16, lr=0.1)


def _subjects():
    """What is run through all checks: every unlearner in one of both estimators, and in the other without rows."""
    yield from ESTIMATORS
    yield RowsInFile
    yield from (ShardedClassifier, ShardedRegressor, ShardedClassifier(n_slices=2))
    yield ShardedRegressor(unlearner=StoCuReNU())
    for number, unlearner in enumerate(UNLEARNERS):
        if unlearner is HessianFreeRecording:
            yield from _with_plain_sgd(unlearner())
        elif unlearner().__unlearner_tags__().needs_logits:  # in the classifier alone
            yield unlearner()
        else:
            one, other = ESTIMATORS[:: 1 if number % 2 else -1]
            yield one(unlearner=unlearner())
            yield other(unlearner=unlearner(), keep_training_set=False)


def _in_the_other_estimator():
    for number, unlearner in enumerate(UNLEARNERS):
        if unlearner is not HessianFreeRecording and not unlearner().__unlearner_tags__().needs_logits:
            yield ESTIMATORS[number % 2](unlearner=unlearner())


# Checks whose outcome is the unlearner's doing; the others are about what the estimator does around it.
OF_UNLEARNERS = {
    "check_exact_on_quadratics", "check_extra_names", "check_finite_and_deterministic", "check_no_erased_bytes",
    "check_no_resurrection", "check_predictions_keep_their_form", "check_status", "check_unlearner_changes_nothing",
}  # fmt: skip


def _checks():
    others = parametrize_with_checks(_in_the_other_estimator()).args[1]
    of_unlearners = [each for each in others if each.values[1].__name__ in OF_UNLEARNERS]
    return [*parametrize_with_checks(_subjects()).args[1], *of_unlearners]


# A guarantee that is worth nothing says so with every request; that is no breach of the contract.
@pytest.mark.filterwarnings("ignore::sk_unlearn.unlearners.VacuousBoundWarning")
@pytest.mark.parametrize(("estimator", "check"), _checks())
def test_contract(estimator, check):
    check(estimator)


def test_what_is_exported_is_found():
    assert {c.__name__ for c in UNLEARNERS} >= {"CuReNU", "StoCuReNU", "Retrain", "FineTune"}
    assert set(ESTIMATORS) == {UnlearnableClassifier, UnlearnableRegressor}


def test_every_unlearner_is_checked_in_both_estimators():
    checked = {(type(each.values[0]), type(each.values[0].unlearner), each.values[1].__name__) for each in _checks()}
    for unlearner in UNLEARNERS:
        kinds = ESTIMATORS[:1] if unlearner().__unlearner_tags__().needs_logits else ESTIMATORS
        assert {(kind, unlearner, "check_finite_and_deterministic") for kind in kinds} <= checked, unlearner
