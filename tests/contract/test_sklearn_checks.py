"""scikit-learn's own checks on default instances: none failed, none excused."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor


@parametrize_with_checks([UnlearnableClassifier(), UnlearnableRegressor()])
def test_sklearn(estimator, check):
    check(estimator)
