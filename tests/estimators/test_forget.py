"""forget: which rows are found, what is refused, and what is left of them."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from skorch import NeuralNetRegressor
from skorch.callbacks import Checkpoint, EpochScoring

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.unlearners import CuReNU, Status, StoCuReNU, Unlearner, UnlearningResult
from sk_unlearn.unlearners.cubic import Policy
from tests import _problems
from tests._problems import Mlp, affine, parameters, regressor, ridge_solution


def classifier(unlearner=None, **settings):
    defaults = {"max_epochs": 4, "lr": 0.3, "batch_size": 16}
    return _problems.classifier(unlearner, **(defaults | settings))


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(40, 3))
    return X, np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")


# ---------------------------------------------------------------------------------------------------- finding the rows


def test_all_copies_go_whatever_their_label(data):
    X, y = data
    X, y = np.concatenate([X, X[:2], X[:1]]), np.concatenate([y, y[:2], ["yes" if y[0] == "no" else "no"]])
    est = classifier().fit(X, y).forget(X[:1])
    assert est.unlearning_report_.n_erased == 3
    assert len(est.training_set_) == 40


def test_y_del_narrows_conflicting_labels(data):
    X, y = data
    other = "yes" if y[0] == "no" else "no"
    X, y = np.concatenate([X, X[:1]]), np.concatenate([y, [other]])
    est = classifier().fit(X, y).forget(X[:1], [other])
    assert est.unlearning_report_.n_erased == 1
    assert est.training_set_.X.shape == (40, 3)
    with pytest.raises(ValueError, match="y_del"):
        est.forget(X[:1], [other])
    est.forget(X[:1], y[:1])


@pytest.mark.parametrize(("label", "n_gone"), [("yes", None), ("no", None)])
def test_a_whole_class(data, label, n_gone):
    X, y = data
    est = classifier().fit(X, y).forget(X[y == label])
    assert est.classes_.tolist() == ["no", "yes"]
    assert est.predict_proba(X).shape == (40, 2)
    assert len(est.training_set_) == np.sum(y != label)


def test_repeated_query_rows_count_once(data):
    X, y = data
    est = classifier().fit(X, y).forget(X[[0, 0, 1]])
    assert est.unlearning_report_.n_erased == 2


@pytest.mark.parametrize("kind", ["int", "str", "object"])
def test_ids_stand_for_persons(data, kind):
    X, y = data
    person = np.arange(40) // 4
    ids = {
        "int": person,
        "str": np.array([f"p{i}" for i in person]),
        "object": np.array([("p", i) for i in person] + [None], dtype=object)[:40],
    }[kind]
    est = classifier().fit(X, y, sample_id=ids)
    est.forget(sample_id=[ids[0], ids[39]])
    assert est.unlearning_report_.n_erased == 8
    np.testing.assert_array_equal(est.training_set_.X, X[4:36].astype(np.float32))
    with pytest.raises(ValueError, match="sample_id"):
        est.forget(sample_id=[ids[0]])


def test_id_alone_may_be_a_scalar(data):
    X, y = data
    est = classifier().fit(X, y, sample_id=np.arange(40)).forget(sample_id=7)
    assert est.unlearning_report_.n_erased == 1


def test_rows_and_ids_together_intersect(data):
    X, y = data
    X, y = np.concatenate([X, X[:1]]), np.concatenate([y, y[:1]])
    est = classifier().fit(X, y, sample_id=np.arange(41))
    with pytest.raises(ValueError, match="both the content"):
        est.forget(X[:1], sample_id=[5])
    est.forget(X[:1], sample_id=[40])
    assert est.unlearning_report_.n_erased == 1
    assert 0 in est.training_set_.sample_id


# --------------------------------------------------------------------------------------------------------- refusals


def test_requests_that_make_no_sense_are_refused_and_name_the_argument(data):
    X, y = data
    est = classifier().fit(X, y, sample_id=np.arange(40))
    before = est.training_set_.X.copy(), parameters(est)
    for message, request in {
        "X_del is empty": lambda: est.forget(X[:0]),
        "X_del is empty ": lambda: est.forget([]),
        "sample_id is empty": lambda: est.forget(sample_id=[]),
        "X_del .rows. or sample_id": lambda: est.forget(),
        "y_del narrows X_del": lambda: est.forget(y_del=y[:1], sample_id=[1]),
        "y_del has 2 rows": lambda: est.forget(X[:1], y[:2]),
        "y_del holds labels": lambda: est.forget(X[:1], ["perhaps"]),
        "y_del holds labels ": lambda: est.forget(X[:1], [1]),
        "features": lambda: est.forget(X[:1, :2]),
        "NaN": lambda: est.forget(X[:1] * np.nan),
        "all 40 rows": lambda: est.forget(X),
        "all 40 rows ": lambda: est.forget(sample_id=np.arange(40)),
        "1 of 2 rows": lambda: est.forget(np.concatenate([X[:1], X[:1] + 1])),
        "X_del has rows of shape|Found array|Expected 2D|dim": lambda: est.forget(X[0]),
    }.items():
        with pytest.raises(ValueError, match=message.strip()):
            request()
    np.testing.assert_array_equal(est.training_set_.X, before[0])
    assert np.array_equal(parameters(est), before[1])
    assert est.unlearning_history_ == []


def test_every_trained_row_is_refused_even_if_others_are_left(data):
    X, y = data
    weight = np.zeros(40)
    weight[:3] = 1
    est = classifier().fit(X, y, sample_weight=weight)
    with pytest.raises(ValueError, match="every row that the network was trained on"):
        est.forget(X[:3])
    assert len(est.training_set_) == 40


# ---------------------------------------------------------------------------------------------------- what is left over


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD, torch.optim.Adagrad])
def test_optimiser_and_gradients_are_emptied(data, optimizer):
    X, y = data
    settings = {"optimizer": optimizer} | ({"optimizer__momentum": 0.9} if optimizer is torch.optim.SGD else {})
    est = classifier(**settings).fit(X, y)
    assert est.net_.optimizer_.state_dict()["state"]
    est.forget(X[:2])
    assert not est.net_.optimizer_.state_dict()["state"]
    assert all(p.grad is None for p in est.net_.module_.parameters())
    est.partial_fit(X[5:], y[5:])


@pytest.mark.parametrize("y_kind", ["one", "many"])
def test_no_byte_of_an_erased_row_with_callbacks_and_validation(tmp_path, y_kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 4))
    Y = rng.normal(size=(50, 2)) if y_kind == "many" else rng.normal(size=50)
    net = NeuralNetRegressor(
        Mlp,
        max_epochs=3,
        verbose=0,
        callbacks=[
            ("r2", EpochScoring("r2", lower_is_better=False)),
            ("r2_train", EpochScoring("r2", lower_is_better=False, on_train=True)),
            ("best", Checkpoint(dirname=str(tmp_path), load_best=True)),
        ],
        optimizer=torch.optim.Adam,
    )
    est = UnlearnableRegressor(net, random_state=0).fit(X, Y)
    trained = np.flatnonzero(est.training_set_.role == 0)[:3]
    validated = np.flatnonzero(est.training_set_.role == 1)[:3]
    for rows in (trained, validated):
        present = pickle.dumps(est)
        est.forget(X[rows])
        absent = pickle.dumps(est)
        for dtype in (np.float32, np.float64):
            for i in rows:
                for pattern in (X[i].astype(dtype).tobytes(), np.atleast_1d(Y[i]).astype(dtype).tobytes()):
                    assert pattern not in absent
                    assert dtype is np.float64 or pattern in present


def test_deepcopy_and_original_are_independent(data):
    X, y = data
    est = classifier().fit(X, y)
    twin = copy.deepcopy(est)
    before = parameters(est)
    twin.forget(X[:4])
    assert np.array_equal(parameters(est), before)
    assert len(est.training_set_) == 40
    est.forget(X[:4])
    assert np.array_equal(parameters(est), parameters(twin))


def test_tombstones_are_cleared_away(data):
    X, y = data
    est = classifier().fit(X, y).forget(X[:30])
    assert est.training_set_.n_slots == len(est.training_set_) == 10
    est.forget(X[30:31])
    assert len(est.training_set_) == 9


# ------------------------------------------------------------------------------------------------------------- effect


def test_forgets_towards_the_retrained_model():
    # A cluster with a label of its own: retrained, its region belongs to the others.
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(80, 2)), rng.normal(size=(12, 2)) * 0.3 + [3, 3]])
    y = np.concatenate([(X[:80, 0] > 0).astype(int), np.full(12, 2)])
    est = UnlearnableClassifier(random_state=0).fit(X, y)
    retrained = UnlearnableClassifier(random_state=0).fit(
        np.concatenate([X[:80], X[80:81]]), np.concatenate([y[:80], [2]])
    )
    before = est.predict_proba(X[81:])[:, 2].mean()
    est.forget(X[81:])
    after, wanted = est.predict_proba(X[81:])[:, 2].mean(), retrained.predict_proba(X[81:])[:, 2].mean()
    assert abs(after - wanted) < 0.5 * abs(before - wanted) or abs(after - wanted) < 0.02
    assert est.score(X[:80], y[:80]) > 0.95


def affine_regressor(unlearner, keep):
    return regressor(
        unlearner, affine(3), keep_training_set=keep, max_epochs=80, batch_size=-1, lr=0.4, optimizer__weight_decay=0.02
    )


@pytest.mark.parametrize("unlearner", [CuReNU(tol=0.0), StoCuReNU(tol=0.0)])
@pytest.mark.parametrize("keep", [True, False])
def test_a_sequence_on_a_quadratic_does_not_drift(unlearner, keep):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(60, 3))
    y = X @ [1.0, 2.0, -1.0] + rng.normal(size=60) * 2
    est = affine_regressor(unlearner, keep).fit(X, y)
    start = parameters(est)
    for first in range(0, 25, 5):
        rows = slice(first, first + 5)
        _ = est.forget(X[rows]) if keep else est.partial_forget(X[rows], y[rows])
        optimum = ridge_solution(X[first + 5 :], y[first + 5 :], 0.02)
        assert np.linalg.norm(parameters(est) - optimum) < 1e-3 * np.linalg.norm(start - optimum)


@pytest.mark.parametrize("hold", [True, False])
def test_target_is_held_over_a_sequence(data, hold):
    X, y = data
    est = classifier(CuReNU(tol=0.3, hold_residual=hold)).fit(X, y)
    for first in range(0, 12, 4):
        est.forget(X[first : first + 4])
    norms = [report.residual_norm for report in est.unlearning_history_]
    assert len(set(norms)) == (1 if hold else 3)


def test_target_of_a_net_that_fits_its_rows_fades_over_a_sequence(data):
    X, y = data
    est = classifier(CuReNU(tol=0.3, policy=Policy(fitted_share=float("inf")))).fit(X, y)
    for first in range(0, 12, 4):
        est.forget(X[first : first + 4])
    norms = [report.residual_norm for report in est.unlearning_history_]
    assert len(norms) == 3
    # Each request takes from the target the share by which it outweighs it, and no more.
    assert all(0.85 * before < after < before for before, after in pairwise(norms))


def test_unlearner_without_a_gradient_estimate_can_be_asked_again(data):
    X, y = data

    class Nudge(Unlearner):
        def unlearn(self, problem):
            return UnlearningResult(problem.parameters + 1e-3, Status.COMPLETED, "nudged")

    est = classifier(Nudge()).fit(X, y).forget(X[:2])
    est.set_params(unlearner=CuReNU()).forget(X[2:4])
    # The residual of the second request was taken anew, over the rows that were left.
    assert len(est.unlearning_history_) == 2
    assert np.isfinite(est.unlearning_report_.residual_norm)
