"""correct: the right to rectification."""

import pickle

import numpy as np
import pytest
import torch
from skorch.dataset import ValidSplit

from sk_unlearn.rows import RowRole
from sk_unlearn.unlearners import CuReNU, Retrain
from tests import _problems
from tests._problems import affine, mlp, parameters, ridge_solution

rng = np.random.default_rng(6)
X = rng.normal(size=(50, 3))
y = X @ [1.0, -2.0, 0.5] + rng.normal(size=50)
DECAY = 0.05


def regressor(unlearner=None, **settings):
    defaults = {"max_epochs": 80, "batch_size": -1, "lr": 0.3, "optimizer__weight_decay": DECAY}
    return _problems.regressor(CuReNU(tol=0.0) if unlearner is None else unlearner, affine(3), **(defaults | settings))


def classifier(unlearner=None, **settings):
    defaults = {"max_epochs": 4, "lr": 0.3, "batch_size": 16}
    return _problems.classifier(unlearner, mlp(3, 2, n_hidden=5), **(defaults | settings))


labels = np.where(y > 0, "high", "low")


def changed(values, rows, new):
    values = values.copy()
    values[rows] = new
    return values


NEW_X, NEW_Y = X[:4] * -2 + 1, y[:4] + 5


@pytest.mark.parametrize(
    ("options", "X_after", "y_after"),
    [
        ({"y_new": NEW_Y}, X, changed(y, slice(4), NEW_Y)),
        ({"X_new": NEW_X}, changed(X, slice(4), NEW_X), y),
        ({"X_new": NEW_X, "y_new": NEW_Y}, changed(X, slice(4), NEW_X), changed(y, slice(4), NEW_Y)),
        ({"y_old": y[:4], "y_new": NEW_Y}, X, changed(y, slice(4), NEW_Y)),
    ],
    ids=["targets", "rows", "both", "narrowed"],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_training_on_the_corrected_rows(options, X_after, y_after, weighted):
    weight = rng.uniform(0.5, 2, size=50) if weighted else None
    est = regressor().fit(X, y, sample_weight=weight)
    start = parameters(est)
    np.testing.assert_allclose(start, ridge_solution(X, y, DECAY, weight), atol=1e-8)
    est.correct(X[:4], **options)
    optimum = ridge_solution(X_after, y_after, DECAY, weight)
    assert np.linalg.norm(parameters(est) - optimum) < 1e-3 * np.linalg.norm(start - optimum)
    np.testing.assert_array_equal(est.training_set_.X, X_after)
    np.testing.assert_array_equal(est.training_set_.y[:, 0], y_after)
    report = est.unlearning_report_
    assert (report.request, report.n_erased, report.n_trained_erased, report.n_retained) == ("correct", 4, 4, 50)


def test_forgetting_after_a_correction():
    est = regressor().fit(X, y)
    est.correct(X[:4], X_new=NEW_X).forget(NEW_X[:2]).correct(NEW_X[2:], y_new=NEW_Y[2:])
    X_after, y_after = np.concatenate([NEW_X[2:], X[4:]]), np.concatenate([NEW_Y[2:], y[4:]])
    np.testing.assert_allclose(parameters(est), ridge_solution(X_after, y_after, DECAY), atol=1e-3)


def test_old_content_cannot_be_found_and_leaves_no_byte():
    est = regressor(train_split=ValidSplit(5)).fit(X, y)
    stored = pickle.dumps(est)
    assert X[0].tobytes() in stored
    est.correct(X[:4], X_new=NEW_X, y_new=NEW_Y)
    content = pickle.dumps(est)
    for i in range(4):
        for dtype in (np.float32, np.float64):
            assert X[i].astype(dtype).tobytes() not in content
            assert y[i].astype(dtype).tobytes() not in content
    with pytest.raises(ValueError, match="X_del"):
        est.forget(X[:1])
    est.forget(NEW_X[:1])


def test_to_the_same_content_is_the_identity():
    est = classifier().fit(X, labels)
    before = parameters(est)
    est.correct(X[:3], X_new=X[:3])
    assert est.unlearning_report_.stop_reason.startswith("nothing to undo")
    np.testing.assert_array_equal(parameters(est), before)
    assert not est.unlearning_report_.parameters_moved


def test_held_out_row_moves_nothing():
    est = classifier(train_split=ValidSplit(5)).fit(X, labels)
    held_out = np.flatnonzero(est.training_set_.role == RowRole.VALIDATED)[:2]
    before = parameters(est)
    est.correct(X[held_out], y_new=["high", "high"])
    np.testing.assert_array_equal(parameters(est), before)
    assert set(est.training_set_.y[held_out]) == {0}


def test_every_copy_is_corrected_and_y_old_narrows():
    X_copies, y_copies = np.concatenate([X, X[:1], X[:1]]), np.concatenate([labels, labels[:1], ["low"]])
    y_copies[0] = y_copies[50] = "high"
    est = classifier().fit(X_copies, y_copies)
    est.correct(X[:1], y_old=["low"], y_new=["high"])
    assert est.unlearning_report_.n_erased == 1
    est.correct(X[:1], X_new=NEW_X[:1])
    assert est.unlearning_report_.n_erased == 3
    np.testing.assert_array_equal(est.training_set_.X[[0, 50, 51]], NEW_X[[0, 0, 0]].astype(np.float32))
    assert (est.training_set_.y[[0, 50, 51]] == 0).all()


def test_order_of_the_request_does_not_matter():
    order = [3, 0, 2, 1]
    one = classifier().fit(X, labels).correct(X[:4], X_new=NEW_X)
    torch.manual_seed(0)
    two = one.__class__(one.estimator, random_state=0).fit(X, labels).correct(X[order], X_new=NEW_X[order])
    np.testing.assert_array_equal(one.training_set_.X, two.training_set_.X)
    np.testing.assert_allclose(parameters(one), parameters(two), atol=1e-6)


def test_all_rows_may_be_corrected():
    est = regressor().fit(X, y).correct(X, y_new=y + 1)
    optimum = ridge_solution(X, y + 1, DECAY)
    assert np.linalg.norm(parameters(est) - optimum) < 1e-3 * np.linalg.norm(parameters(est))


def test_retraining_after_a_correction_is_a_fit_on_the_corrected_rows():
    settings = {"train_split": ValidSplit(5), "iterator_train__shuffle": True}
    est = classifier(Retrain(), **settings).fit(X, labels)
    est.correct(X[[7, 30]], X_new=NEW_X[:2], y_new=["low", "high"])
    y_after = changed(labels, [7, 30], ["low", "high"])
    fresh = est.__class__(est.estimator, random_state=0).fit(changed(X, [7, 30], NEW_X[:2]), y_after)
    np.testing.assert_array_equal(parameters(est), parameters(fresh))
    np.testing.assert_array_equal(est.training_set_.role, fresh.training_set_.role)


def test_ids_and_weights_stay_with_the_row():
    weight = np.arange(1.0, 51)
    est = classifier().fit(X, labels, sample_weight=weight, sample_id=np.arange(50)).correct(X[:2], X_new=NEW_X[:2])
    np.testing.assert_array_equal(est.training_set_.sample_weight, weight)
    est.forget(sample_id=[1])
    assert len(est.training_set_) == 49


@pytest.mark.parametrize(
    ("X_old", "options", "message"),
    [
        (X[:1], {}, "X_new, y_new or both"),
        (X[:1], {"X_new": NEW_X[:2]}, "X_new has 2 rows"),
        (X[:1], {"y_new": ["low", "low"]}, "y_new has 2 rows"),
        (X[:1], {"X_new": NEW_X[:1, :2]}, "features"),
        (X[:1], {"y_new": ["medium"]}, "y_new holds labels"),
        (X[:1] + 9, {"y_new": ["low"]}, "X_old"),
        (X[:0], {"y_new": []}, "X_old is empty"),
        (X[[0, 0]], {"y_new": ["low", "high"]}, "y_new gives identical rows"),
        (X[[0, 0]], {"X_new": NEW_X[:2]}, "X_new gives identical rows"),
        (X[[0, 0]], {"y_old": ["low", "low"], "X_new": NEW_X[:2]}, "X_new gives identical rows|another label"),
        (X[:1], {"X_new": NEW_X[:1] * np.nan}, "NaN"),
    ],
)
def test_refused(X_old, options, message):
    est = classifier().fit(X, labels)
    before = parameters(est)
    with pytest.raises(ValueError, match=message):
        est.correct(X_old, **options)
    np.testing.assert_array_equal(parameters(est), before)
    np.testing.assert_array_equal(est.training_set_.X, X.astype(np.float32))
    assert est.unlearning_history_ == []


def test_identical_rows_with_identical_corrections_are_no_conflict():
    est = classifier().fit(X, labels).correct(X[[0, 0]], X_new=NEW_X[[0, 0]])
    assert est.unlearning_report_.n_erased == 1


def test_without_rows_it_is_refused_with_the_cure():
    est = classifier().set_params(keep_training_set=False).fit(X, labels)
    with pytest.raises(ValueError, match=r"correct looks rows up.*keep_training_set=False"):
        est.correct(X[:1], y_new=["low"])
