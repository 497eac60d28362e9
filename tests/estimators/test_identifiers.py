"""Identifiers: routed by scikit-learn without being asked for, kept as digests where wanted, thousands at once."""

import copy
import pickle

import numpy as np
import pytest
import sklearn
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_unlearn import MLPNetClassifier, UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.receipts import prove_erased
from sk_unlearn.unlearners import FineTune


def data(n=60, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int), [f"person-{i // 2:05d}-of-the-test" for i in range(n)]


def classifier(**params):
    return UnlearnableClassifier(MLPNetClassifier(max_epochs=2), random_state=0, **params)


# ------------------------------------------------------------------------------------------------------------- routing


@pytest.mark.parametrize("cls", [UnlearnableClassifier, UnlearnableRegressor])
def test_identifiers_are_requested_by_default(cls):
    with sklearn.config_context(enable_metadata_routing=True):
        requests = cls().get_metadata_routing()
        assert requests.fit.requests == {"sample_id": True, "sample_weight": None}
        assert requests.partial_fit.requests["sample_id"] is True
        unrequested = cls().set_fit_request(sample_id=False).get_metadata_routing()
        assert unrequested.fit.requests["sample_id"] is False


@pytest.mark.parametrize("routing", [False, True])
def test_a_search_hands_on_identifiers(routing):
    X, y, ids = data()
    with sklearn.config_context(enable_metadata_routing=routing):
        search = GridSearchCV(classifier(), {"unlearner": [FineTune(), None]}, cv=2).fit(X, y, sample_id=ids)
    best = search.best_estimator_
    assert best.training_set_.sample_id.tolist() == ids
    best.forget(sample_id=[ids[0]])
    assert len(best.training_set_) == len(X) - 2


def test_a_pipeline_and_cross_validation_hand_on_identifiers():
    X, y, ids = data()
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make_pipeline(StandardScaler(), classifier()).fit(X, y, sample_id=ids)
        assert pipe[-1].training_set_.sample_id.tolist() == ids
        search = GridSearchCV(
            make_pipeline(StandardScaler(), classifier()), {"unlearnableclassifier__unlearner": [FineTune()]}, cv=2
        ).fit(X, y, sample_id=ids)
        assert search.best_estimator_[-1].training_set_.sample_id.tolist() == ids
        found = cross_validate(
            make_pipeline(StandardScaler(), classifier()), X, y, cv=2, params={"sample_id": ids},
            return_estimator=True, return_indices=True,
        )  # fmt: skip
    for each, train in zip(found["estimator"], found["indices"]["train"], strict=True):
        assert each[-1].training_set_.sample_id.tolist() == [ids[i] for i in train]


# -------------------------------------------------------------------------------------------------------- keyed digests


def holds(est, ids):
    """Which of the identifiers, or their beginnings, stand in a pickle of the estimator."""
    content = pickle.dumps(est) + pickle.dumps(list(est.receipts_)) + b"\n".join(est.receipts_.lines())
    return [
        one
        for one in ids
        if one.encode() in content or one.encode("utf-16-le") in content or one.encode("utf-32-le") in content
    ]


def test_with_hash_ids_no_identifier_is_kept_and_all_verbs_work():
    X, y, ids = data()
    est, plain = classifier(hash_ids=True).fit(X, y, sample_id=ids), classifier().fit(X, y, sample_id=ids)
    assert holds(plain, ids) == ids
    assert holds(est, ids) == []
    for each in (est, plain):
        each.forget(sample_id=[ids[0], ids[4]])
        each.forget(X[10:11], sample_id=ids[10])
        each.correct(X[20:21], y_new=1 - y[20:21])
        each.partial_fit(X[:4] + 1, y[:4], sample_id=["new-person-a", "new-person-b", "new-person-b", ids[30]])
        each.forget(sample_id=["new-person-b", ids[30]])
    assert holds(est, [*ids, "new-person-a", "new-person-b"]) == []
    np.testing.assert_array_equal(est.training_set_.X, plain.training_set_.X)
    np.testing.assert_array_equal(est.predict_proba(X), plain.predict_proba(X))
    assert len(set(est.training_set_.sample_id.tolist())) == len(set(plain.training_set_.sample_id.tolist()))
    for each in (est, plain):
        asked = [ids[0], ids[4], ids[2], "new-person-b", ids[30], "new-person-a"]
        found = prove_erased(each.receipts_, sample_id=asked, key=each.receipt_key_)
        assert [[receipt.sequence for receipt in proofs] for proofs in found] == [[1], [1], [], [4], [4], []]


def test_with_hash_ids_unknown_identifiers_are_refused_and_not_quoted():
    X, y, ids = data()
    est = classifier(hash_ids=True).fit(X, y, sample_id=ids)
    again = pickle.loads(pickle.dumps(est))
    for each in (est, again, copy.deepcopy(est)):
        with pytest.raises(ValueError, match="1 of 2 ids are not stored") as caught:
            each.forget(sample_id=["somebody else", ids[0]])
        assert "somebody" not in str(caught.value)
        each.forget(sample_id=ids[2])
        assert len(each.training_set_) == len(X) - 2
    with pytest.raises(ValueError, match="one value for each row of X"):
        classifier(hash_ids=True).fit(X, y, sample_id=ids[:-1])
    with pytest.raises(ValueError, match="given at fit"):
        classifier(hash_ids=True).fit(X, y).forget(sample_id=[1])


def test_equal_identifiers_are_one_under_digests_too():
    X, y, _ = data(6)
    est = classifier(hash_ids=True).fit(X, y, sample_id=[1, "1", 1.0, (2, "a"), np.int64(3), 4])
    est.forget(sample_id=np.array([1]))
    assert len(est.training_set_) == 4
    est.forget(sample_id=[(2.0, "a"), 3])
    assert len(est.training_set_) == 2


def test_an_adopted_net_keeps_digests_too():
    X, y, ids = data(20)
    net = classifier().fit(X, y).net_
    est = UnlearnableClassifier.from_fitted(net, X, y, sample_id=ids, hash_ids=True)
    assert holds(est, ids) == []
    est.forget(sample_id=ids[0])
    assert len(est.training_set_) == 18


def test_two_fits_have_two_keys():
    X, y, ids = data(10)
    est = classifier(hash_ids=True).fit(X, y, sample_id=ids)
    key, kept = est.receipt_key_, est.training_set_.sample_id.tolist()
    est.fit(X, y, sample_id=ids)
    assert est.receipt_key_ != key
    assert not set(kept) & set(est.training_set_.sample_id.tolist())
    assert est.training_set_.sample_id.nbytes == 16 * len(X)


@pytest.mark.parametrize("hash_ids", [False, True])
def test_thousands_of_identifiers_are_one_request(hash_ids):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 3)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    ids = np.repeat(np.arange(3000), 2)
    est = classifier(hash_ids=hash_ids).fit(X, y, sample_id=ids)
    est.forget(sample_id=range(2000))
    assert est.unlearning_report_.n_erased == 4000
    assert len(est.unlearning_history_) == len(est.receipts_) == 1
    assert len(est.receipts_[0].ids) == 2000
    assert len(est.receipts_[0].rows) == 4000
    np.testing.assert_array_equal(est.training_set_.X, X[4000:])
