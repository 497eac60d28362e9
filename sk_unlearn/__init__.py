"""Machine unlearning for neural networks, the scikit-learn way: fit, then forget."""

from sk_unlearn._version import __version__
from sk_unlearn.estimators import (
    MLPNetClassifier,
    MLPNetRegressor,
    UnlearnableClassifier,
    UnlearnableRegressor,
    UnlearningReport,
)
from sk_unlearn.persistence import load, save
from sk_unlearn.utils._show_versions import show_versions

__all__ = [
    "MLPNetClassifier",
    "MLPNetRegressor",
    "UnlearnableClassifier",
    "UnlearnableRegressor",
    "UnlearningReport",
    "__version__",
    "load",
    "save",
    "show_versions",
]
