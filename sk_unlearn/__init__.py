"""Machine unlearning for neural networks, the scikit-learn way: fit, then forget."""

from sk_unlearn._version import __version__
from sk_unlearn.estimators import (
    MLPNetClassifier,
    MLPNetRegressor,
    PendingRequest,
    RetrainAdvice,
    UnlearnableClassifier,
    UnlearnableRegressor,
    UnlearningReport,
)
from sk_unlearn.utils._show_versions import show_versions

__all__ = [
    "MLPNetClassifier",
    "MLPNetRegressor",
    "PendingRequest",
    "RetrainAdvice",
    "UnlearnableClassifier",
    "UnlearnableRegressor",
    "UnlearningReport",
    "__version__",
    "show_versions",
]
