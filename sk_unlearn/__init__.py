"""Machine unlearning for neural networks, the scikit-learn way: fit, then forget."""

from sk_unlearn._version import __version__
from sk_unlearn.composites import ForgetSummary, forget, which_parts_know
from sk_unlearn.estimators import (
    MLPNetClassifier,
    MLPNetRegressor,
    PendingRequest,
    RetrainAdvice,
    ShardedClassifier,
    ShardedRegressor,
    UnlearnableClassifier,
    UnlearnableRegressor,
    UnlearningReport,
)
from sk_unlearn.persistence import load, save
from sk_unlearn.utils._show_versions import show_versions

__all__ = [
    "ForgetSummary",
    "MLPNetClassifier",
    "MLPNetRegressor",
    "PendingRequest",
    "RetrainAdvice",
    "ShardedClassifier",
    "ShardedRegressor",
    "UnlearnableClassifier",
    "UnlearnableRegressor",
    "UnlearningReport",
    "__version__",
    "forget",
    "load",
    "save",
    "show_versions",
    "which_parts_know",
]
