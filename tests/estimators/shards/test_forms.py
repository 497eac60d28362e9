"""Forms of rows, settings and processes that shards take as a single estimator does."""

import joblib
import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from torch import nn

from sk_unlearn import ShardedClassifier, ShardedRegressor, UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners import FineTune
from tests._problems import Mlp, regressor, skorch_net

N = 30
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype(np.float32)
Y = np.r_[0, 1, RNG.integers(0, 2, size=N - 2)]
PERSON = np.arange(N) // 2


def sharded(module=Mlp, n_slices=1, *, unlearner=None, n_shards=2, **settings):
    net = skorch_net(module, **({"max_epochs": 1, "batch_size": 8, "lr": 0.2} | settings))
    return ShardedClassifier(UnlearnableClassifier(net), n_shards, n_slices, unlearner=unlearner, random_state=0)


def equal(one, other):
    pairs = zip(one.estimators_, other.estimators_, strict=True)
    return all(torch.equal(flat_parameters(a.net_), flat_parameters(b.net_)) for a, b in pairs)


class Named(nn.Module):
    """Takes rows of two parts."""

    def __init__(self):
        super().__init__()
        self.users, self.head = nn.Embedding(40, 2), nn.Linear(5, 2)

    def forward(self, x, ids):
        return self.head(torch.cat([x, self.users(ids).reshape(len(x), -1)], 1))


# --------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("n_slices", [1, 3])
def test_sparse_rows_are_corrected_as_dense_ones_are(n_slices):
    rows = np.where(np.abs(X) < 0.5, 0, X)
    new = rows.copy()
    new[4:6] = [[0, 1, 0], [2, 0, 0]]
    est = sharded(n_slices=n_slices).fit(csr_array(rows), Y, sample_id=PERSON)
    est.correct(csr_array(rows[4:6]), X_new=csr_array(new[4:6])).forget(csr_array(new[8:9]))
    stay = np.delete(np.arange(N), 8)
    assert equal(est, clone(est).fit(csr_array(new[stay]), Y[stay], sample_id=PERSON[stay]))
    assert equal(est, clone(est).fit(new[stay], Y[stay], sample_id=PERSON[stay]))


@pytest.mark.parametrize("n_slices", [1, 2])
def test_rows_of_parts(n_slices):
    def rows(at):
        return {"x": X[at], "ids": PERSON[at]}

    est = sharded(Named, n_slices).fit(rows(slice(0, 26)), Y[:26])
    est.partial_fit(rows(slice(26, N)), Y[26:])
    est.forget(rows([3, 28])).correct(rows([6]), y_new=1 - Y[[6]]).retrain()
    y, stay = Y.copy(), np.delete(np.arange(N), [3, 28])
    y[6] = 1 - y[6]
    assert equal(est, clone(est).fit(rows(stay), y[stay]))
    assert est.predict_proba(rows(slice(None))).shape == (N, 2)
    assert len(est.training_set_.X) == N - 2


def test_a_shard_that_knows_one_class_alone_speaks_for_that_class():
    labels = np.array(["ant", "bee", "cat"])[np.arange(N) % 3]
    est = sharded(max_epochs=30, n_shards=4).fit(X, labels, sample_id=labels)
    for each in est.estimators_:
        own = [] if each is None else np.unique(each.training_set_.y).tolist()
        if len(own) == 1:
            assert (each.predict(X) == est.classes_[own[0]]).all()
    alone = [each for each in est.estimators_ if each is not None]
    np.testing.assert_array_equal(est.predict_proba(X), np.mean([each.predict_proba(X) for each in alone], axis=0))
    np.testing.assert_allclose(est.predict_proba(X).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("n_targets", [1, 3])
def test_targets_keep_their_shape(n_targets):
    targets = X @ RNG.normal(size=(3, n_targets)).astype(np.float32)
    single = regressor(max_epochs=1, lr=0.05, random_state=None)
    est = ShardedRegressor(single, 2, random_state=0).fit(X, targets, sample_id=PERSON)
    assert est.predict(X).shape == targets.shape
    new = targets[4:5] + 1
    est.correct(X[4:5], y_old=targets[4:5], y_new=new).forget(X[6:7], targets[6:7])
    corrected, stay = targets.copy(), np.delete(np.arange(N), 6)
    corrected[4] = new
    assert equal(est, clone(est).fit(X[stay], corrected[stay], sample_id=PERSON[stay]))


def test_new_persons_go_where_fit_would_have_put_them():
    est = sharded().fit(X[:20], Y[:20], sample_id=PERSON[:20])
    est.partial_fit(X[20:], Y[20:], sample_id=PERSON[20:])
    homes = est.sharded_state_.shard_of(X, PERSON)
    for number, each in enumerate(est.estimators_):
        assert set(each.training_set_.sample_id) == set(PERSON[homes == number])
    est.forget(sample_id=[12])
    stay = PERSON != 12
    fresh = clone(est).fit(X[stay], Y[stay], sample_id=PERSON[stay])
    touched = homes[PERSON == 12][0]
    assert torch.equal(*(flat_parameters(each.estimators_[touched].net_) for each in (est, fresh)))
    assert equal(est.retrain(), fresh)
    with pytest.raises(ValueError, match="sample_id"):
        est.partial_fit(X[:1], Y[:1])


# ------------------------------------------------------------------------------------------------- settings, processes


def test_threads_train_what_one_thread_trains():
    one = sharded(n_shards=3).fit(X, Y).forget(X[4:8])
    with joblib.parallel_config("threading", n_jobs=3):
        other = sharded(n_shards=3).fit(X, Y).forget(X[4:8])
    assert equal(one, other)


def test_settings_reach_every_shard():
    est = sharded(unlearner=FineTune(n_epochs=3))
    est.set_params(estimator__estimator__lr=0.05, estimator__hash_ids=True, unlearner__n_epochs=1, n_shards=3)
    copy = clone(est)
    assert copy.get_params()["estimator__estimator__lr"] == 0.05
    copy.fit(X, Y, sample_id=PERSON)
    for each in copy.estimators_:
        assert (each.net_.lr, each.hash_ids, each.unlearner.n_epochs) == (0.05, True, 1)
    assert copy.forget(sample_id=[3]).unlearning_report_.n_erased == 2
    with pytest.raises(ValueError, match="1 of 1 ids"):
        copy.forget(sample_id=[3])
    assert not hasattr(est, "estimators_")


def test_training_anew_is_recommended_for_shards_that_have_lost_much():
    est = sharded(unlearner=FineTune(n_epochs=1)).fit(X, Y)
    assert not est.retrain_recommended_
    gone = np.flatnonzero(est.sharded_state_.shard_of(X) == 0)[:6]
    est.forget(X[gone])
    assert est.retrain_recommended_
    assert "in 1 of 2 shards" in est.retrain_recommended_.reason
    assert est.retrain_recommended_.share_erased > 0.2
    assert not est.retrain().retrain_recommended_
    exact = sharded().fit(X, Y).forget(X[gone])
    assert exact.retrain_recommended_.reason == "nothing has been erased since the model was trained"


def test_regressors_take_no_classifiers_as_shards():
    with pytest.raises(TypeError, match=r"wrap a net or a module as UnlearnableRegressor\(net\)"):
        ShardedRegressor(UnlearnableClassifier()).fit(X, Y)
    with pytest.raises(TypeError, match="UnlearnableClassifier"):
        ShardedClassifier(UnlearnableRegressor()).fit(X, Y)


@pytest.mark.parametrize("net", [skorch_net(Mlp), nn.Linear(3, 2), Mlp])
def test_shards_say_how_a_net_is_wrapped(net):
    with pytest.raises(TypeError, match=r"wrap a net or a module as UnlearnableClassifier\(net\)"):
        ShardedClassifier(net).fit(X, Y)
