"""partial_forget: rows handed in, with and without a training set."""

import copy
import pickle

import numpy as np
import pytest
import torch

from sk_unlearn.unlearners import CuReNU, FineTune, Retrain, StoCuReNU
from tests import _problems
from tests._problems import affine, centred_iris, parameters, ridge_solution

rng = np.random.default_rng(8)
X = rng.normal(size=(60, 3))
y = X @ [1.0, -2.0, 0.5] + rng.normal(size=60)
labels = (y > 0).astype(int)
DECAY = 0.05


def regressor(keep, unlearner=None):
    return _problems.regressor(
        CuReNU(tol=0.0) if unlearner is None else unlearner, affine(3), keep_training_set=keep, max_epochs=80,
        batch_size=-1, lr=0.3, optimizer__weight_decay=DECAY,
    )  # fmt: skip


def classifier(keep, unlearner=None, **settings):
    defaults = {"module__n_hidden": 8, "max_epochs": 10, "lr": 0.5, "batch_size": 16}
    return _problems.classifier(unlearner, keep_training_set=keep, **(defaults | settings))


# -------------------------------------------------------------------------------------------------------- with a store


def test_stored_rows_leave_the_store():
    est, twin = classifier(True).fit(X, labels), classifier(True).fit(X, labels)
    est.partial_forget(X[:3], labels[:3])
    twin.forget(X[:3])
    np.testing.assert_array_equal(parameters(est), parameters(twin))
    assert len(est.training_set_) == 57
    assert est.unlearning_report_.request == "partial_forget"
    with pytest.raises(ValueError, match="X_del"):
        est.forget(X[:1])


def test_row_stored_with_another_label_is_not_the_row():
    est = classifier(True).fit(X, labels).partial_forget(X[:1], 1 - labels[:1])
    assert len(est.training_set_) == 60
    assert est.unlearning_report_.n_trained_erased == 1


def test_unknown_rows_do_not_come_back():
    est = regressor(True).fit(X[:50], y[:50])
    fitted = parameters(est)
    est.partial_forget(X[50:], y[50:])
    without = parameters(est)
    assert np.linalg.norm(without - fitted) > 1e-2
    # From then on the stored rows alone are the risk, and the gradient they have here is the target: a later request
    # asks for what its own rows did, and takes the first one for nothing to be undone.
    target = gradient(X[:50], y[:50], without)
    est.forget(X[:1])
    np.testing.assert_allclose(gradient(X[1:50], y[1:50], parameters(est)), target, atol=1e-5)
    assert np.linalg.norm(parameters(est) - fitted) > 0.5 * np.linalg.norm(without - fitted)


def gradient(X, y, w):
    A = np.column_stack([X, np.ones(len(X))])
    return 2 * A.T @ (A @ w - y) / len(X) + DECAY * w


def test_known_and_unknown_together():
    est = classifier(True).fit(X, labels)
    est.partial_forget(np.concatenate([X[:3], X[:2] + 5]), np.concatenate([labels[:3], [0, 1]]))
    report = est.unlearning_report_
    assert (report.n_erased, report.n_trained_erased, report.n_retained) == (5, 5, 57)
    est.forget(X[3:5])
    assert report.step_norm < 5


@pytest.mark.parametrize("keep", [True, False])
def test_refused(keep):
    est = classifier(keep).fit(X, labels)
    before = parameters(est)
    for arguments, message in [
        ((X[:0], labels[:0]), "X is empty"),
        ((X[:2], labels[:1]), "y has 1 rows"),
        ((X[:2, :1], labels[:2]), "features"),
        ((X[:2], [5, 5]), "y holds labels"),
        ((X, labels), "covers all 60 rows" if keep else "weigh as much as all"),
    ]:
        with pytest.raises(ValueError, match=message):
            est.partial_forget(*arguments)
    np.testing.assert_array_equal(parameters(est), before)
    assert est.unlearning_history_ == []


# -------------------------------------------------------------------------------- rows that were hardly trained on
iris, species = centred_iris()
garbage = np.random.default_rng(3).normal(scale=3, size=(20, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def learnt():
    """Estimators that have learnt iris, with rows and without, to be copied."""
    settings = {"module__n_hidden": 16, "max_epochs": 100, "lr": 0.01, "batch_size": 32, "optimizer": torch.optim.Adam}
    return {keep: classifier(keep, **settings).fit(iris, species) for keep in (True, False)}


HARDLY_TRAINED_ON = [
    (iris[::4], species[::4], 5),  # a call that is tried again
    (iris[species == 0], species[species == 0], 2),
    (np.repeat(iris[::15], 10, axis=0), np.repeat(species[::15], 10), 1),  # copies
    (1e4 * iris[::15], species[::15], 2),
    (garbage, np.arange(20) % 3, 2),
    (iris[::8], (species[::8] + 1) % 3, 2),  # other labels
]


def _contents(rows):
    """Each row in one piece, to be compared."""
    return np.array([row.tobytes() for row in np.asarray(rows, dtype=np.float32)], dtype=object)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(("rows", "targets", "times"), HARDLY_TRAINED_ON)
def test_no_rows_handed_in_break_the_model_in_silence(learnt, keep, rows, targets, times):
    est = copy.deepcopy(learnt[keep])
    others = ~np.isin(_contents(iris), _contents(rows))
    accuracy = est.score(iris[others], species[others])
    assert accuracy > 0.97
    said = []
    for _ in range(times):
        try:
            said += est.partial_forget(rows, targets).unlearning_report_.notes
        except ValueError as error:
            said.append(str(error))
    told = any("cannot have been trained on" in text or "is chance" in text or "weigh as much" in text for text in said)
    assert est.score(iris[others], species[others]) > (0.7 if told else accuracy - 0.1)


def test_a_call_that_is_tried_again_is_refused_where_it_harms_stored_rows(learnt):
    gone = species == 1
    est = copy.deepcopy(learnt[True]).partial_forget(iris[gone], species[gone])
    before = parameters(est)
    with pytest.raises(ValueError, match="cannot have been trained on the rows handed in that are not stored"):
        est.partial_forget(iris[gone], species[gone])
    np.testing.assert_array_equal(parameters(est), before)
    assert len(est.unlearning_history_) == 1


def test_rows_that_the_model_does_not_know_move_nothing(learnt):
    est = copy.deepcopy(learnt[False])
    before = parameters(est)
    report = est.partial_forget(garbage, np.arange(20) % 3).unlearning_report_
    assert (report.status, report.parameters_moved) == ("model_broke_down", False)
    assert any("no step was taken" in note for note in report.notes)
    np.testing.assert_array_equal(parameters(est), before)


def test_rows_that_were_trained_on_are_not_held_up(learnt):
    est = copy.deepcopy(learnt[False])
    for step in range(5):
        report = est.partial_forget(iris[step::15], species[step::15]).unlearning_report_
        assert (report.status, report.notes) == ("completed", [])
    assert est.score(iris, species) > 0.95


# ----------------------------------------------------------------------------------------------------- without a store


@pytest.mark.parametrize("unlearner", [CuReNU(tol=0.0), StoCuReNU(tol=0.0)])
def test_exact_on_a_quadratic_without_rows(unlearner):
    est = regressor(False, unlearner).fit(X, y)
    start, optimum = parameters(est), ridge_solution(X[6:], y[6:], DECAY)
    est.partial_forget(X[:6], y[:6])
    assert np.linalg.norm(parameters(est) - optimum) < 1e-3 * np.linalg.norm(start - optimum)
    assert not hasattr(est, "training_set_")
    report = est.unlearning_report_
    assert (report.n_erased, report.n_trained_erased, report.n_retained) == (6, 6, 54)


def test_weights_at_fit_count():
    weight = np.ones(60)
    weight[10:] = 2.0
    est = regressor(False).fit(X, y, sample_weight=weight)
    start, optimum = parameters(est), ridge_solution(X[6:], y[6:], DECAY, weight[6:])
    est.partial_forget(X[:6], y[:6])
    assert np.linalg.norm(parameters(est) - optimum) < 1e-3 * np.linalg.norm(start - optimum)


def test_close_to_what_the_rows_would_have_given():
    kept, not_kept = (classifier(keep, max_epochs=100).fit(X, labels) for keep in (True, False))
    np.testing.assert_array_equal(parameters(kept), parameters(not_kept))
    before = kept.predict_proba(X)[:, 1]
    kept.forget(X[:3])
    not_kept.partial_forget(X[:3], labels[:3])
    moved = np.abs(kept.predict_proba(X)[:, 1] - before).mean()
    assert np.abs(not_kept.predict_proba(X) - kept.predict_proba(X)).mean() < 0.5 * moved


def test_sizes_do_not_depend_on_the_number_of_rows():
    sizes = []
    for n in (200, 2000):
        data = rng.normal(size=(n, 3))
        est = classifier(False, max_epochs=1, batch_size=-1).fit(data, data[:, 0] > 0)
        sizes.append(len(pickle.dumps(est)))
        est.partial_forget(data[:2], data[:2, 0] > 0)
    assert abs(sizes[1] - sizes[0]) < 200


def test_no_row_is_kept():
    data = rng.normal(size=(50, 3)).astype(np.float32)
    est = classifier(False).fit(data, data[:, 0] > 0, sample_id=[f"person-{i}" for i in range(50)])
    content = pickle.dumps(est)
    assert not any(row.tobytes() in content or row.astype(np.float64).tobytes() in content for row in data)
    assert b"person-1" not in content


def test_forget_names_the_cure():
    est = classifier(False).fit(X, labels)
    with pytest.raises(ValueError, match=r"keep_training_set=False.*partial_forget"):
        est.forget(X[:1])


@pytest.mark.parametrize("unlearner", [Retrain(), FineTune()])
def test_unlearner_that_reads_rows_is_refused_with_the_cure(unlearner):
    est = classifier(False, unlearner).fit(X, labels)
    before = parameters(est)
    with pytest.raises(ValueError, match="keep_training_set=True"):
        est.partial_forget(X[:1], labels[:1])
    np.testing.assert_array_equal(parameters(est), before)


def test_partial_fit_without_rows():
    est = regressor(False).fit(X[:30], y[:30])
    est.partial_fit(X[30:], y[30:])
    assert est.unlearning_state_.anchor.mass == 60
    # The sketch has learnt of the new rows: for a quadratic it is the curvature over all of them.
    v = torch.from_numpy(rng.normal(size=4))
    A = np.column_stack([X, np.ones(60)])
    H = 2 * A.T @ A / 60 + DECAY * np.eye(4)
    np.testing.assert_allclose(est.unlearning_state_.anchor.sketch.product(v), H @ v.numpy(), rtol=1e-9)
    est.partial_forget(X[28:32], y[28:32])
    assert est.unlearning_report_.n_retained == 56


def test_pickled_in_between():
    est = classifier(False).fit(X, labels)
    twin = pickle.loads(pickle.dumps(est))
    est.partial_forget(X[:3], labels[:3]).partial_forget(X[3:5], labels[3:5])
    twin = pickle.loads(pickle.dumps(twin.partial_forget(X[:3], labels[:3])))
    twin.partial_forget(X[3:5], labels[3:5])
    np.testing.assert_array_equal(parameters(est), parameters(twin))


def test_without_rows_a_network_takes_one_step_the_right_way():
    est = classifier(False, StoCuReNU(), max_epochs=60).fit(X, labels)
    gone = slice(0, 12)

    def loss():
        proba = est.predict_proba(X)
        return -np.log(proba[np.arange(60), labels])

    before, accuracy = loss(), est.score(X[12:], labels[12:])
    est.partial_forget(X[gone], labels[gone])
    report = est.unlearning_report_
    assert (report.n_steps, report.converged) == (1, False)
    assert "one damped step" in report.stop_reason
    assert loss()[gone].mean() > before[gone].mean()
    assert est.score(X[12:], labels[12:]) >= accuracy - 0.03


@pytest.mark.parametrize("given", [(X[:1], None), (None, y[:1])])
def test_rows_and_targets_are_both_needed(given):
    est = regressor(True).fit(X, y)
    with pytest.raises(ValueError, match=r"needs X \(rows\) and y"):
        est.partial_forget(*given)


def test_rows_that_are_not_stored_are_taken_on_trust_and_the_report_says_so(learnt):
    est = copy.deepcopy(learnt[True])
    assert not any("on trust" in note for note in est.partial_forget(iris[:2], species[:2]).unlearning_report_.notes)
    report = est.partial_forget(np.r_[iris[2:4], iris[:1]], species[:3]).unlearning_report_
    assert [note.split(".")[0] for note in report.notes if "handed in" in note] == [
        "1 of the rows handed in are not stored"
    ]


def test_copies_of_a_row_that_nothing_stores_are_counted(learnt):
    est = copy.deepcopy(learnt[False])
    report = est.partial_forget(np.repeat(iris[:2], 2, axis=0), np.repeat(species[:2], 2)).unlearning_report_
    assert any(note.startswith("2 of the rows handed in are copies") for note in report.notes)


def test_rows_known_worse_than_by_chance_move_nothing(learnt):
    """Many copies of a row with a wrong label: the step would even have taught it to the model."""
    est = copy.deepcopy(learnt[False])
    before = est.predict_proba(iris)
    report = est.partial_forget(np.repeat(iris[:1], 50, axis=0), np.full(50, species[-1])).unlearning_report_
    assert report.status == "model_broke_down"
    assert any("no step was taken" in note for note in report.notes)
    np.testing.assert_array_equal(est.predict_proba(iris), before)
