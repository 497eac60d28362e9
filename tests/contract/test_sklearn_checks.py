"""scikit-learn's own checks on default instances: none failed, none excused."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from sk_unlearn import (
    MLPNetClassifier,
    MLPNetRegressor,
    ShardedClassifier,
    ShardedRegressor,
    UnlearnableClassifier,
    UnlearnableRegressor,
)


def _sharded():
    """Two shards of a smaller network, for each check trains all of them."""
    yield ShardedClassifier(UnlearnableClassifier(MLPNetClassifier(module__width=16)), 2)
    yield ShardedRegressor(UnlearnableRegressor(MLPNetRegressor(module__width=16)), 2)


@parametrize_with_checks([UnlearnableClassifier(), UnlearnableRegressor(), *_sharded()])
def test_sklearn(estimator, check):
    check(estimator)
