"""Estimators of many shards: after a request they are what fit makes of the rows that are left."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sk_unlearn
from sk_unlearn import ShardedClassifier, ShardedRegressor, UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.exceptions import PartsCannotForget, PersistenceError
from sk_unlearn.receipts import prove_erased, verify
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.rows import OutsideRows, open_rows
from sk_unlearn.unlearners import FineTune, StoCuReNU
from tests._problems import Mlp, skorch_net

N, D = 60, 3
NAMES = np.array(["ant", "bee", "cat"])
TRUSTED = ["tests._problems.Mlp"]


def net(**settings):
    return skorch_net(Mlp, **({"max_epochs": 4, "batch_size": 8, "lr": 0.1} | settings))


def sharded(n_shards=4, *, seed=0, **settings):
    return ShardedClassifier(UnlearnableClassifier(net()), n_shards, random_state=seed, **settings)


@pytest.fixture
def data():
    rng = np.random.default_rng()
    X = rng.normal(size=(N, D)).astype(np.float32)
    y = NAMES[np.r_[0:3, rng.integers(0, 3, size=N - 3)]]
    return X, y, rng


def parameters(est):
    return [None if each is None else flat_parameters(each.net_) for each in est.estimators_]


def equal(one, other):
    return all(
        (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))
        for a, b in zip(parameters(one), parameters(other), strict=True)
    )


def some(rng, n=4):
    return np.sort(rng.choice(np.arange(3, N), size=n, replace=False))


# ------------------------------------------------------------------------------------------------------------ exactness


def test_each_shard_is_what_its_estimator_makes_of_its_rows(data):
    X, y, _ = data
    est = sharded().fit(X, y)
    probabilities = []
    for each in est.estimators_:
        rows = each.training_set_
        labels = est.classes_[rows.y]
        alone = clone(each)
        if len(np.unique(labels)) == len(est.classes_):
            alone.fit(rows.X, labels)
            assert torch.equal(flat_parameters(alone.net_), flat_parameters(each.net_))
        probabilities.append(each.predict_proba(X))
    assert np.array_equal(est.predict_proba(X), np.mean(probabilities, axis=0))
    assert np.array_equal(est.predict(X), est.classes_[est.predict_proba(X).argmax(axis=1)])
    assert sum(len(each.training_set_) for each in est.estimators_) == N


def test_one_request_after_another_leaves_what_one_of_all_rows_does(data):
    X, y, rng = data
    one, other = sharded(2).fit(X, y), sharded(2).fit(X, y)
    at = some(rng, 8)
    for row in at:
        other.forget(X[row : row + 1], y[row : row + 1])
    stay = np.setdiff1d(np.arange(N), at)
    assert equal(one.forget(X[at]), other)
    assert equal(clone(one).fit(X[stay], y[stay]), other)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("by_id", [False, True])
def test_forgetting_leaves_what_fit_makes_of_the_rows_that_are_left(data, weighted, by_id):
    X, y, rng = data
    person = np.array([f"p{i // 2}" for i in range(N)])
    extra = {"sample_weight": rng.uniform(0.5, 2, size=N)} if weighted else {}
    extra |= {"sample_id": person} if by_id else {}
    est = sharded(seed=int(rng.integers(1000))).fit(X, y, **extra)
    before = parameters(est)
    gone = np.isin(person, person[some(rng, 2)]) if by_id else np.isin(np.arange(N), some(rng))
    gone[:3] = False
    if by_id:
        gone = np.isin(person, np.setdiff1d(person[gone], person[:3]))
        est.forget(sample_id=np.unique(person[gone]))
    else:
        est.forget(X[gone], y[gone])
    again = clone(est).fit(X[~gone], y[~gone], **{name: each[~gone] for name, each in extra.items()})
    assert equal(est, again)
    assert np.array_equal(est.predict_proba(X), again.predict_proba(X))
    changed = [not torch.equal(a, b) for a, b in zip(before, parameters(est), strict=True)]
    assert sum(changed) == est.unlearning_report_.extra["n_shards_touched"] >= 1
    assert est.unlearning_report_.n_erased == gone.sum()
    assert est.certificate_.kind == "exact"
    assert est.certificate_.proven


def test_a_seed_that_was_drawn_is_not_vouched_for(data):
    X, y, _ = data
    est = sharded().set_params(random_state=None).fit(X, y).forget(X[5:6])
    assert [each.checked for each in est.certificate_.assumptions if each.statement.startswith("the seed")] == [None]
    assert not est.certificate_.proven


def test_shards_that_hold_no_erased_row_are_the_same_objects(data):
    X, y, _ = data
    est = sharded().fit(X, y)
    before = list(est.estimators_)
    est.forget(X[5:6])
    assert sum(a is not b for a, b in zip(before, est.estimators_, strict=True)) == 1


def test_processes_train_what_one_process_trains(data):
    X, y, rng = data
    one, two = sharded().fit(X, y), sharded(n_jobs=2).fit(X, y)
    assert equal(one, two)
    at = some(rng)
    assert equal(one.forget(X[at]), two.forget(X[at]))


def test_regression_on_many_targets(data):
    X, _, rng = data
    Y = rng.normal(size=(N, 2))
    est = ShardedRegressor(n_shards=2, random_state=1).fit(X, Y)
    assert est.predict(X).shape == Y.shape
    at = some(rng)
    stay = np.setdiff1d(np.arange(N), at)
    assert equal(est.forget(X[at], Y[at]), clone(est).fit(X[stay], Y[stay]))
    assert est.certificate_.kind == "exact"


# ------------------------------------------------------------------------------------------------ rows, classes, shards


def test_all_rows_of_a_person_are_in_one_shard_and_stay_there(data):
    X, y, rng = data
    person = rng.integers(0, 12, size=N)
    est = sharded().fit(X, y, sample_id=person)
    homes = {}
    for number, each in enumerate(est.estimators_):
        for one in [] if each is None else each.training_set_.sample_id.tolist():
            homes.setdefault(one, set()).add(number)
    assert all(len(each) == 1 for each in homes.values())
    est.partial_fit(X[:1] + 1, y[:1], sample_id=person[:1])
    holds = [n for n, each in enumerate(est.estimators_) if each and person[0] in each.training_set_.sample_id]
    assert set(holds) == homes[int(person[0])]


def test_a_shard_that_loses_its_last_row_is_gone_and_comes_back(data):
    X, y, _ = data
    person = np.arange(N) // 10
    est = sharded(3).fit(X, y, sample_id=person)
    number = next(n for n, each in enumerate(est.estimators_) if each is not None)
    own = np.unique(est.estimators_[number].training_set_.sample_id)
    if len(own) == len(np.unique(person)):
        pytest.skip("one shard holds all")
    request = est.request_forget(sample_id=own[:1])
    est.forget(sample_id=own)
    assert est.estimators_[number] is None
    assert est.unlearning_report_.extra["n_shards_emptied"] == 1
    assert est.certificate_.kind == "exact"
    assert est.predict_proba(X).shape == (N, 3)
    assert [each.n_rows for each in est.pending_] == [0]
    est.settle()
    assert [each["request_id"] for each in est.unlearning_report_.requests] == [request]
    assert est.pending_ == ()
    back = np.isin(person, own)
    est.partial_fit(X[back], y[back], sample_id=person[back])
    assert len(est.estimators_[number].training_set_) == back.sum()


def test_every_shard_knows_the_classes_of_all(data):
    X, y, _ = data
    person = np.searchsorted(NAMES, y)  # a class is a person, so that shards lack classes
    est = sharded(3).fit(X, y, sample_id=person)
    assert all(each.classes_.tolist() == NAMES.tolist() for each in est.estimators_ if each is not None)
    assert set(est.predict(X)) <= set(NAMES)
    est.forget(sample_id=[0])
    assert est.predict_proba(X).shape == (N, 3)
    classes = [each for each in est.certificate_.assumptions if each.statement.startswith("the classes")]
    assert [each.checked for each in classes] == [False]


def test_more_shards_than_rows(data):
    X, y, _ = data
    est = sharded(40).fit(X[:9], y[:9])
    assert any(each is None for each in est.estimators_)
    est.forget(X[8:9])
    assert equal(est, clone(est).fit(X[:8], y[:8]))


# ---------------------------------------------------------------------------------------------------------- other verbs


def test_requests_wait_across_shards_and_are_settled_together(data):
    X, y, rng = data
    est, other = sharded().fit(X, y), sharded().fit(X, y)
    at = some(rng, 6)
    first, second = est.request_forget(X[at[:3]]), est.request_forget(X[at[2:]], y[at[2:]])
    dropped = est.request_forget(X[:1])
    est.cancel_request(dropped)
    assert [(each.request_id, each.n_rows) for each in est.pending_] == [(first, 3), (second, 4)]
    est = pickle.loads(pickle.dumps(est))
    est.forget(X[at[:1]]).settle()
    assert equal(est, other.forget(X[at]))
    assert [each["request_id"] for each in est.unlearning_report_.requests] == [first, second]
    assert est.pending_ == ()
    n = len(est.receipts_)
    assert len(est.settle().receipts_) == n


def test_fit_does_not_drop_requests(data):
    X, y, _ = data
    est = sharded().fit(X, y)
    est.request_forget(X[4:5])
    with pytest.raises(ValueError, match="pending"):
        est.fit(X, y)


def test_correcting_rows_trains_their_shards_on_the_new_content(data):
    X, y, rng = data
    person = np.arange(N)
    est = sharded().fit(X, y, sample_id=person)
    at = some(rng)
    new = X.copy()
    new[at] += 1
    est.correct(X[at], y_old=y[at], X_new=new[at])
    assert equal(est, clone(est).fit(new, y, sample_id=person))
    assert est.certificate_.proven
    relabelled = y.copy()
    relabelled[at] = NAMES[(np.searchsorted(NAMES, y[at]) + 1) % 3]
    est.correct(new[at], y_new=relabelled[at].tolist())
    assert equal(est, clone(est).fit(new, relabelled, sample_id=person))


def test_corrected_rows_that_are_found_by_content_stay_and_the_certificate_says_so(data):
    X, y, _ = data
    est = sharded().fit(X, y).correct(X[4:5], X_new=X[4:5] + 1)
    assert [each.checked for each in est.certificate_.assumptions].count(False) == 1
    est.forget(X[4:5] + 1)
    assert est.unlearning_report_.n_erased == 1


def test_retraining_after_further_passes(data):
    X, y, _ = data
    est = sharded().partial_fit(X[:40], y[:40], classes=NAMES).partial_fit(X[40:], y[40:])
    waits = est.request_forget(X[7:8])
    est.retrain()
    stay = np.delete(np.arange(N), 7)
    assert equal(est, clone(est).fit(X[stay], y[stay]))
    assert est.unlearning_report_.requests[0]["request_id"] == waits


def test_rows_handed_in_must_be_stored(data):
    X, y, _ = data
    est = sharded().fit(X, y)
    est.partial_forget(X[5:7], y[5:7])
    assert est.unlearning_report_.request == "partial_forget"
    with pytest.raises(ValueError, match="X: 1 of 1 rows cannot be found"):
        est.partial_forget(X[5:6], y[5:6])


def test_any_unlearner_forgets_in_the_shards(data):
    X, y, _ = data
    est = sharded(unlearner=FineTune(n_epochs=1)).fit(X, y)
    before = parameters(est)
    est.forget(X[5:6])
    assert sum(not torch.equal(a, b) for a, b in zip(before, parameters(est), strict=True)) == 1
    assert est.unlearning_report_.method == "FineTune"
    with pytest.raises(AttributeError, match="FineTune"):
        _ = est.certificate_
    # One shard that was answered so is not made exact by another one that is trained anew.
    homes = est.sharded_state_.shard_of(X)
    other = int(np.flatnonzero(homes != homes[5])[0])
    est.set_params(unlearner=None).forget(X[other : other + 1])
    assert est.unlearning_report_.certificate.kind == "exact"
    with pytest.raises(AttributeError, match="no certificate_"):
        _ = est.certificate_
    assert est.retrain().certificate_.kind == "exact"


# ---------------------------------------------------------------------------------------------------- all or nothing


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda est, X, y: est.forget(X[:2] + 9), "2 of 2 rows cannot be found"),
        (lambda est, X, y: est.forget(X), "covers all 60 rows"),
        (lambda est, X, y: est.forget(X[:0]), "X_del is empty"),
        (lambda est, X, y: est.forget(), "both are None"),
        (lambda est, X, y: est.forget(None, y, sample_id=[0]), "narrows X_del"),
        (lambda est, X, y: est.forget(sample_id=[0]), "none was given at fit"),
        (lambda est, X, y: est.forget(X[:1, :2]), "features"),
        (lambda est, X, y: est.correct(X[:1]), "X_new, y_new or both"),
        (lambda est, X, y: est.correct(X[:2], X_new=X[:1]), "X_new has 1 rows"),
        (lambda est, X, y: est.partial_forget(X[:1]), "needs X"),
        (lambda est, X, y: est.cancel_request("none"), "no pending request"),
        (lambda est, X, y: est.partial_fit(X[:1], ["dog"]), "labels that fit has not seen"),
        (lambda est, X, y: est.partial_fit(X[:1], y[:1], classes=["dog"]), "classes differs"),
    ],
)
def test_what_is_refused_changes_nothing(data, ask, says):
    X, y, _ = data
    est = sharded().fit(X, y)
    state = pickle.dumps(est)
    with pytest.raises(ValueError, match=says):
        ask(est, X, y)
    assert pickle.dumps(est) == state


@pytest.mark.parametrize(
    ("estimator", "error", "says"),
    [
        (UnlearnableClassifier(keep_training_set=False), ValueError, "keep_training_set"),
        (UnlearnableClassifier(unlearner=StoCuReNU()), ValueError, "unlearner=StoCuReNU"),
        (UnlearnableRegressor(), TypeError, "UnlearnableClassifier"),
    ],
)
def test_what_no_shard_can_be(data, estimator, error, says):
    X, y, _ = data
    with pytest.raises(error, match=says):
        ShardedClassifier(estimator).fit(X, y)


def test_weights_that_leave_a_shard_without_rows(data):
    X, y, _ = data
    person = np.arange(N) // 10
    weight = np.ones(N)
    est = sharded(3).fit(X, y, sample_id=person)
    one = next(each for each in est.estimators_ if each is not None)
    weight[np.isin(person, one.training_set_.sample_id)] = 0
    if not weight.any():
        pytest.skip("one shard holds all")
    with pytest.raises(ValueError, match="sample_weight is zero for every row of a shard"):
        sharded(3).fit(X, y, sample_weight=weight, sample_id=person)


class Moody(UnlearnableClassifier):
    """Trains, and fails when a shard is trained anew for the second time."""

    calls = 0

    def _drafted(self, *args, **kwargs):
        type(self).calls += 1
        if type(self).calls > 1:
            raise RuntimeError("moody")
        return super()._drafted(*args, **kwargs)


def test_a_shard_that_fails_leaves_all_as_they_were(data):
    X, y, _ = data
    est = ShardedClassifier(Moody(net()), 4, random_state=0).fit(X, y)
    Moody.calls = 0
    state = pickle.dumps(est)
    with pytest.raises(RuntimeError, match="moody"):
        est.forget(X[3:30])
    assert pickle.dumps(est) == state


# ------------------------------------------------------------------------------------------------- what is left of rows


def test_no_erased_row_is_left_in_the_object_or_a_file(data, tmp_path):
    X, y, _ = data
    X[7] = [1.2345678, -8.7654321, 3.1415927]
    person = np.array([f"customer-{i:04d}" for i in range(N)])
    est = sharded().fit(X, y, sample_id=person)
    # As text, and as NumPy stores it.
    patterns = (X[7].tobytes(), person[7].encode(), person[7:8].tobytes())
    assert [held in pickle.dumps(est) for held in patterns].count(True) >= 2
    est.forget(sample_id=person[7])
    sk_unlearn.save(est, tmp_path / "model.skops")
    back = sk_unlearn.load(tmp_path / "model.skops", trusted=TRUSTED)
    for held in patterns:
        assert held not in pickle.dumps(est)
        assert held not in pickle.dumps(back)
        assert held not in (tmp_path / "model.skops").read_bytes()
    assert equal(est, back)
    assert np.array_equal(est.predict_proba(X), back.predict_proba(X))
    assert equal(est.forget(sample_id=person[9]), back.forget(sample_id=person[9]))


def test_receipts_speak_of_all_shards(data):
    X, y, rng = data
    est = sharded().fit(X, y)
    at = some(rng)
    est.forget(X[at])
    assert verify(est.receipts_) == 1
    (receipt,) = est.receipts_
    assert receipt.n_erased == len(receipt.rows) == 4
    assert receipt.n_retained == N - 4
    assert prove_erased(est.receipts_, X[at[:1]], key=est.receipt_key_)
    again = sharded().fit(X, y)
    again.forget(X[at[:2]]).forget(X[at[2:]])
    assert again.receipts_[-1].parameters_after == receipt.parameters_after


def test_an_older_copy_is_brought_up_to_date_by_a_log(data, tmp_path):
    X, y, rng = data
    est = sharded().fit(X, y)
    sk_unlearn.save(est, tmp_path / "old.skops")
    at = some(rng)
    est.forget(X[at[:2]]).forget(X[at[2:]])
    with pytest.raises(PersistenceError, match="older than the log"):
        sk_unlearn.load(tmp_path / "old.skops", log=est.receipts_, trusted=TRUSTED)
    back = sk_unlearn.load(tmp_path / "old.skops", log=est.receipts_, replay=True, trusted=TRUSTED)
    assert equal(est, back)
    assert [receipt.verb for receipt in back.receipts_] == ["forget", "forget", "replay"]


def test_other_functions_take_it_as_one_part(data):
    X, y, _ = data
    est = sharded().fit(X, y)
    assert sk_unlearn.which_parts_know(est, X[:4]) == {"model": 4}
    sk_unlearn.forget(est, X[4:6], y[4:6])
    assert est.unlearning_report_.n_erased == 2
    pipe = make_pipeline(StandardScaler(), sharded()).fit(X, y)
    assert sk_unlearn.which_parts_know(pipe, X[:4])["steps['shardedclassifier']"] == 4
    with pytest.raises(PartsCannotForget):
        sk_unlearn.forget(pipe, X[4:6])
    sk_unlearn.forget(pipe, X[4:6], on_other="report")
    assert pipe[-1].unlearning_report_.n_erased == 2


def test_settings_are_searched(data):
    X, y, _ = data
    search = GridSearchCV(sharded(), {"n_shards": [1, 3], "estimator__estimator__lr": [0.1]}, cv=2).fit(X, y)
    assert search.best_estimator_.predict(X).shape == (N,)


# --------------------------------------------------------------------------------------------------------------- slices


def sliced(n_slices=4, n_shards=2, *, unlearner=None, **settings):
    estimator = UnlearnableClassifier(net(), **settings)
    return ShardedClassifier(estimator, n_shards, n_slices, unlearner=unlearner, random_state=0)


def numbers_of(shard):
    rows = shard.training_set_
    at = np.flatnonzero(rows.live_mask)
    return shard._slicing.slice_of(rows.raw_X[at], None if rows.raw_id is None else rows.raw_id[at])


@pytest.mark.parametrize("hash_ids", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_request_leaves_what_training_in_slices_makes_of_the_rows_that_are_left(data, weighted, hash_ids):
    X, y, rng = data
    person = np.arange(N) // 2
    weight = rng.uniform(0.5, 2, size=N) if weighted else np.ones(N)
    est = sliced(hash_ids=hash_ids).fit(X, y, sample_weight=weight, sample_id=person)
    stay = np.ones(N, dtype=bool)
    for one in (3, 11, 20):
        est.forget(sample_id=[one])
        stay &= person != one
        again = clone(est).fit(X[stay], y[stay], sample_weight=weight[stay], sample_id=person[stay])
        assert equal(est, again)
        for a, b in zip(est.estimators_, again.estimators_, strict=True):
            assert [each.number for each in a.unlearning_state_.slices] == [
                each.number for each in b.unlearning_state_.slices
            ]
    assert est.certificate_.kind == "exact"
    assert est.certificate_.proven


def test_states_of_slices_before_the_erased_row_are_kept_and_later_ones_made_anew(data):
    X, y, _ = data
    est = sliced(n_shards=1).fit(X, y)
    (shard,) = est.estimators_
    numbers = numbers_of(shard)
    row = int(np.flatnonzero(numbers == np.unique(numbers)[2])[0])
    before = {each.number: vars(each.state) for each in shard.unlearning_state_.slices}
    est.forget(shard.training_set_.X[row : row + 1])
    after = {each.number: vars(each.state) for each in est.estimators_[0].unlearning_state_.slices}
    assert before.keys() == after.keys()
    for number, state in before.items():
        same = all(torch.equal(state[name], after[number][name]) for name in state)
        assert same == (number < numbers[row])


def test_a_state_holds_nothing_of_later_slices(data):
    X, y, _ = data
    est = sliced(n_shards=1).fit(X, y)
    (shard,) = est.estimators_
    numbers = numbers_of(shard)
    first = np.unique(numbers)[0]
    keep = np.r_[np.flatnonzero(numbers == first), np.flatnonzero(numbers > first)[:1]]
    fewer = clone(est).fit(X[np.sort(keep)], y[np.sort(keep)]) if len(set(y[keep])) == 3 else None
    if fewer is None:
        pytest.skip("the rows that are kept lack a class")
    one, other = shard.unlearning_state_.slices[0], fewer.estimators_[0].unlearning_state_.slices[0]
    assert one.number == other.number
    assert all(torch.equal(value, vars(other.state)[name]) for name, value in vars(one.state).items())


def test_an_unlearner_keeps_no_state_that_knew_the_row(data):
    X, y, _ = data
    est = sliced(n_shards=1, unlearner=FineTune(n_epochs=1)).fit(X, y)
    (shard,) = est.estimators_
    numbers = numbers_of(shard)
    row = int(np.flatnonzero(numbers == np.unique(numbers)[1])[0])
    est.forget(shard.training_set_.X[row : row + 1])
    kept = est.estimators_[0].unlearning_state_.slices
    assert [each.number for each in kept] == [n for n in np.unique(numbers)[:-1] if n < numbers[row]]
    stay = np.delete(np.arange(N), row)
    assert equal(est.retrain(), clone(est).set_params(unlearner=None).fit(X[stay], y[stay]))


def test_slices_with_the_built_in_network_survive_files_and_further_passes(data, tmp_path):
    X, y, _ = data
    est = ShardedClassifier(UnlearnableClassifier(sk_unlearn.MLPNetClassifier(max_epochs=6)), 2, 3, random_state=0).fit(
        X[:50], y[:50]
    )
    est.partial_fit(X[50:], y[50:])
    sk_unlearn.save(est, tmp_path / "model.skops")
    back = sk_unlearn.load(tmp_path / "model.skops", trusted=TRUSTED)
    stay = np.delete(np.arange(N), [5, 55])
    est.forget(X[[5, 55]])
    assert equal(est, back.forget(X[[5, 55]]))
    assert equal(est.retrain(), clone(est).fit(X[stay], y[stay]))


# ------------------------------------------------------------------------------------------------------ rows outside


def test_rows_in_a_file_stay_there_and_shards_are_those_of_rows_in_memory(data, tmp_path):
    X, y, _ = data
    np.save(tmp_path / "rows.npy", X)
    pair = [sharded(n_slices=2).fit(rows, y) for rows in (X, open_rows(tmp_path / "rows.npy", overwrite=True))]
    for est in pair:
        est.forget(X[:5]).partial_fit(X[:2], y[:2])
        est.correct(X[5:6], X_new=X[5:6] + 1).correct(X[6:7], y_new=y[:1])
        est.request_forget(X[7:8])
        est.settle()
    memory, outside = pair
    assert equal(memory, outside)
    assert all(isinstance(each.training_set_.X, OutsideRows) for each in outside.estimators_ if each is not None)
    expected = X.copy()
    expected[[0, 1, 2, 3, 4, 5, 7]] = 0
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), expected)
    assert f"5 of the rows were overwritten with zeros in {tmp_path / 'rows.npy'}." in outside.receipts_[0].notes
    [(name, numbers)] = outside.training_set_.outside()
    assert name == str(tmp_path / "rows.npy")
    np.testing.assert_array_equal(numbers, [0, 1, 2, 3, 4, 5, 7])
    loaded = pickle.loads(pickle.dumps(outside))
    loaded.forget(X[10:11])
    expected[10] = 0
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), expected)


def test_a_file_stays_as_it_is_where_a_shard_cannot_forget(data, tmp_path, monkeypatch):
    X, y, _ = data
    np.save(tmp_path / "rows.npy", X)
    est = sharded().fit(open_rows(tmp_path / "rows.npy", overwrite=True), y)
    monkeypatch.setattr("sk_unlearn.receipts.receipt.Receipt.__init__", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        est.forget(X[:8])
    monkeypatch.undo()
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), X)
    est.forget(X[:8])
    assert not np.load(tmp_path / "rows.npy")[:8].any()


def test_a_row_of_a_file_that_is_several_persons_goes_with_the_last(data, tmp_path):
    X, y, _ = data
    np.save(tmp_path / "rows.npy", X)
    rows = open_rows(tmp_path / "rows.npy", overwrite=True)[np.r_[0:N, np.zeros(9, int)]]
    est = sharded().fit(rows, np.r_[y, y[:1].repeat(9)], sample_id=np.arange(N + 9))
    est.forget(sample_id=np.r_[N : N + 9])
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), X)
    est.forget(sample_id=[0])
    assert not np.load(tmp_path / "rows.npy")[0].any()
