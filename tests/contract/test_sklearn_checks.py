"""scikit-learn's own checks on default instances: none failed, none excused."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from sk_unlearn import (
    MLPNetClassifier,
    MLPNetRegressor,
    ShardedClassifier,
    ShardedRegressor,
    UnlearnableClassifier,
    UnlearnableRegressor,
)


def _subjects():
    """What None stands for, the regressor trained less; and two shards of small networks, of which checks train all."""
    yield UnlearnableClassifier()
    yield UnlearnableRegressor(MLPNetRegressor(max_epochs=40))
    yield ShardedClassifier(UnlearnableClassifier(MLPNetClassifier(module__width=16, max_epochs=20)), 2)
    yield ShardedRegressor(UnlearnableRegressor(MLPNetRegressor(module__width=16, max_epochs=20)), 2)


def _checks():
    """Each with a name of its own: scikit-learn's would show a set of skorch's, whose order differs by process."""
    for subject in _subjects():
        for estimator, check in estimator_checks_generator(subject):
            yield pytest.param(estimator, check, id=f"{type(subject).__name__}-{check.func.__name__}")


@pytest.mark.parametrize(("estimator", "check"), list(_checks()))
def test_sklearn(estimator, check):
    check(estimator)
