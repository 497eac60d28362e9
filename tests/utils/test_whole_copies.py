"""Nothing that can forget shares what it learnt with a copy."""

import copy

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from sk_unlearn import ShardedClassifier, UnlearnableClassifier
from sk_unlearn.pipeline import make_pipeline
from tests._problems import Mlp, skorch_net


@pytest.mark.parametrize(
    "make",
    [
        lambda est: est,
        lambda est: ShardedClassifier(est, n_shards=2, random_state=0),
        lambda est: make_pipeline(StandardScaler(), est),
    ],
    ids=["estimator", "shards", "pipeline"],
)
def test_a_shallow_copy_forgets_for_itself(make):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2
    est = make(UnlearnableClassifier(skorch_net(Mlp, max_epochs=2, lr=0.1), random_state=0)).fit(X, y)
    before = est.predict_proba(X)
    copied = copy.copy(est)
    copied.forget(X[:4])
    np.testing.assert_array_equal(est.predict_proba(X), before)
    assert len(copied.receipts_) == 1
    assert len(est.receipts_) == 0
    est.forget(X[:4])
    np.testing.assert_array_equal(est.predict_proba(X), copied.predict_proba(X))
