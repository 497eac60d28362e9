"""Estimators of many shards: a request trains those anew that hold its rows, and leaves the others alone."""

from sk_unlearn.estimators.shards.classifier import ShardedClassifier
from sk_unlearn.estimators.shards.regressor import ShardedRegressor

__all__ = ["ShardedClassifier", "ShardedRegressor"]
