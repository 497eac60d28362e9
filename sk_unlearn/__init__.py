"""Machine unlearning for neural networks, the scikit-learn way: fit, then forget."""

from sk_unlearn._version import __version__
from sk_unlearn.estimators import UnlearnableClassifier, UnlearnableRegressor, UnlearningReport

__all__ = ["UnlearnableClassifier", "UnlearnableRegressor", "UnlearningReport", "__version__"]
