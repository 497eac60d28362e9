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
    yield from ESTIMATORS
    yield RowsInFile
    for sharded in (ShardedClassifier, ShardedRegressor):
        yield from (sharded, sharded(n_slices=2), sharded(unlearner=StoCuReNU()))
    for unlearner in UNLEARNERS:
        if unlearner is HessianFreeRecording:
            yield from _with_plain_sgd(unlearner())
            continue
        yield unlearner()
        if unlearner().__unlearner_tags__().needs_rows:
            yield from (kind(unlearner=unlearner(), keep_training_set=False) for kind in ESTIMATORS)


# A guarantee that is worth nothing says so with every request; that is no breach of the contract.
@pytest.mark.filterwarnings("ignore::sk_unlearn.unlearners.VacuousBoundWarning")
@parametrize_with_checks(_subjects())
def test_contract(estimator, check):
    check(estimator)


def test_what_is_exported_is_found():
    assert {c.__name__ for c in UNLEARNERS} >= {"CuReNU", "StoCuReNU", "Retrain", "FineTune"}
    assert set(ESTIMATORS) == {UnlearnableClassifier, UnlearnableRegressor}
