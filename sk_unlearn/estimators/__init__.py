"""What a user fits and asks to forget."""

from sk_unlearn.estimators._advice import RetrainAdvice
from sk_unlearn.estimators._pending import PendingRequest
from sk_unlearn.estimators.classifier import UnlearnableClassifier
from sk_unlearn.estimators.default_net import MLPNetClassifier, MLPNetRegressor
from sk_unlearn.estimators.regressor import UnlearnableRegressor
from sk_unlearn.estimators.report import UnlearningReport
from sk_unlearn.estimators.shards import ShardedClassifier, ShardedRegressor

__all__ = [
    "MLPNetClassifier",
    "MLPNetRegressor",
    "PendingRequest",
    "RetrainAdvice",
    "ShardedClassifier",
    "ShardedRegressor",
    "UnlearnableClassifier",
    "UnlearnableRegressor",
    "UnlearningReport",
]
