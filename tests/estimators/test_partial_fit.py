"""partial_fit: rows that come in parts, and are forgotten as if they had come together."""

import copy
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from skorch import NeuralNetRegressor
from skorch.callbacks import Callback, LRScheduler
from skorch.dataset import ValidSplit

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.rows import RowRole
from tests import _problems
from tests._problems import Mlp, parameters

rng = np.random.default_rng(9)
X = rng.normal(size=(60, 3))
labels = np.where(X[:, 0] > 0, "b", "a")


def classifier(**settings):
    """One that holds out a fifth of its rows, as skorch does unless told otherwise."""
    defaults = {"max_epochs": 4, "lr": 0.3, "batch_size": 16, "train_split": ValidSplit(5, stratified=True)}
    return _problems.classifier(**(defaults | settings))


def test_first_call_names_the_classes():
    est = classifier().partial_fit(X[:20], labels[:20], classes=["a", "b", "c"])
    assert est.classes_.tolist() == ["a", "b", "c"]
    est.partial_fit(X[20:40], ["c"] * 20)
    assert est.predict_proba(X).shape == (60, 3)
    est.forget(X[:3]).forget(X[20:23], ["c"] * 3)
    assert len(est.training_set_) == 34
    assert len(est.unlearning_history_) == 2


def test_all_rows_enter_a_gradient_in_one_pass():
    est = classifier().partial_fit(X[:40], labels[:40])
    assert (est.training_set_.role == RowRole.TRAINED).all()
    assert len(est.net_.history) == 1
    assert est.net_.train_split is not None
    est.partial_fit(X[40:], labels[40:])
    assert len(est.net_.history) == 2
    np.testing.assert_array_equal(est.training_set_.X, X.astype(np.float32))


def test_after_fit_it_trains_on():
    est = classifier(train_split=None).fit(X[:40], labels[:40])
    before = parameters(est)
    est.partial_fit(X[40:], labels[40:])
    assert not np.array_equal(before, parameters(est))
    assert len(est.training_set_) == 60
    est.forget(X[[0, 59]])
    assert est.unlearning_report_.n_erased == 2


def test_residual_is_that_of_all_rows_where_training_ended():
    est = classifier(train_split=None).fit(X[:40], labels[:40]).forget(X[:2]).partial_fit(X[40:], labels[40:])
    w, rows = flat_parameters(est.net_), est.training_set_
    residual = EmpiricalRisk(est.net_, rows.X, rows.y).gradient(w)
    est.forget(X[2:4])
    assert est.unlearning_report_.residual_norm == pytest.approx(float(residual.norm()), rel=1e-5)


def test_forgotten_rows_may_be_learnt_again():
    est = classifier(train_split=None).fit(X, labels).forget(X[:2])
    est.partial_fit(X[:2], labels[:2])
    assert len(est.training_set_) == 60
    est.forget(X[:2])


def test_deterministic_also_after_a_refit():
    def passes(est):
        est.fit(X[:40], labels[:40]).partial_fit(X[40:], labels[40:])
        return parameters(est)

    est = classifier(iterator_train__shuffle=True)
    first = passes(est)
    assert np.array_equal(first, passes(classifier(iterator_train__shuffle=True)))
    assert np.array_equal(first, passes(est))


def test_weights_and_ids():
    est = classifier(train_split=None)
    est.partial_fit(X[:30], labels[:30], sample_weight=np.arange(1, 31), sample_id=np.arange(30))
    est.partial_fit(X[30:], labels[30:], sample_id=np.arange(30, 60))
    np.testing.assert_array_equal(est.training_set_.sample_weight, [*range(1, 31), *[1] * 30])
    est.forget(sample_id=[0, 59])
    assert len(est.training_set_) == 58


@pytest.mark.parametrize("given_first", [True, False])
def test_ids_now_and_then_are_refused_before_anything_is_learnt(given_first):
    ids = np.arange(30)
    est = classifier().partial_fit(X[:30], labels[:30], sample_id=ids if given_first else None)
    before = parameters(est)
    with pytest.raises(ValueError, match=r"sample_id was .* both times or never"):
        est.partial_fit(X[30:], labels[30:], sample_id=None if given_first else ids)
    with pytest.raises(ValueError, match="sample_id"):
        est.partial_fit(X[30:], labels[30:], sample_id=ids[:5])
    assert np.array_equal(before, parameters(est))
    assert len(est.training_set_) == 30


def test_refused():
    est = classifier()
    with pytest.raises(ValueError, match=r"classes must hold every label in y; 1 of 2 are missing"):
        est.partial_fit(X, labels, classes=["a"])
    est.partial_fit(X[:30], labels[:30])
    with pytest.raises(ValueError, match="y holds labels that fit has not seen"):
        est.partial_fit(X[30:], ["z"] * 30)
    with pytest.raises(ValueError, match="features"):
        est.partial_fit(X[30:, :2], labels[30:])
    assert len(est.training_set_) == 30
    with pytest.raises(TypeError, match="unexpected keyword argument 'classes'"):
        UnlearnableRegressor().partial_fit(X, X[:, 0], classes=[1])


def test_regressor():
    net = NeuralNetRegressor(Mlp, max_epochs=2, lr=0.05, verbose=0)
    est = UnlearnableRegressor(net, random_state=0).partial_fit(X[:30], X[:30, 0]).partial_fit(X[30:], X[30:, 0])
    est.forget(X[:2]).forget(X[30:32], X[30:32, 0])
    assert len(est.training_set_) == 56


def test_default_net():
    est = UnlearnableClassifier(random_state=0).partial_fit(X[:30], labels[:30]).partial_fit(X[30:], labels[30:])
    assert est.forget(X[[0, 40]]).unlearning_report_.parameters_moved


# ------------------------------------------------------------------------------------------------------ learning rates


def loss_of(est, X, labels):
    return log_loss(labels, est.predict_proba(X), labels=est.classes_)


SCHEDULES = {
    "cosine": LRScheduler("CosineAnnealingLR", T_max=6),
    "cosine, by batch": LRScheduler("CosineAnnealingLR", T_max=24, step_every="batch"),
    "one cycle": LRScheduler(torch.optim.lr_scheduler.OneCycleLR, max_lr=9.0, total_steps=6),
    "step": LRScheduler("StepLR", step_size=1, gamma=1e-9),
    "exponential": LRScheduler("ExponentialLR", gamma=1e-6),
    "linear to zero": LRScheduler(torch.optim.lr_scheduler.LinearLR, start_factor=1.0, end_factor=0.0, total_iters=6),
    "of the epoch": LRScheduler("LambdaLR", lr_lambda=lambda epoch: 1.0 if epoch < 2 else 0.0),
    "plateau": LRScheduler("ReduceLROnPlateau", monitor="train_loss", patience=0, threshold=1e9, factor=1e-6),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_rates_start_anew_after_a_schedule_that_ended_low(schedule):
    settings = {"max_epochs": 6, "optimizer": torch.optim.SGD, "optimizer__momentum": 0.5, "train_split": None}
    est = classifier(**settings, callbacks=[("schedule", schedule)]).fit(X[:40], labels[:40])
    flipped = np.where(labels == "a", "b", "a")
    for _ in range(2):  # and once more
        before = loss_of(est, X[40:], flipped[40:])
        est.partial_fit(X[40:], flipped[40:])
        assert loss_of(est, X[40:], flipped[40:]) < before - 0.01
    assert len(est.training_set_) == 60
    assert "last_epoch" not in dict(est.net_.callbacks_)["schedule"].get_params()


@pytest.mark.parametrize("kind", [UnlearnableClassifier, UnlearnableRegressor])
def test_built_in_net_learns_in_one_pass(kind):
    rows = np.random.default_rng(0).normal(size=(400, 3))
    target = (rows[:, 0] > 0).astype(int) if kind is UnlearnableClassifier else rows[:, 0]
    est = kind(random_state=0).fit(rows[:200], target[:200])

    def loss(est):
        risk = EmpiricalRisk(est.net_, *(a.copy() for a in (new.X, new.y)))
        return risk.value(flat_parameters(est.net_))

    before = copy.deepcopy(est)
    est.partial_fit(rows[200:], 1 - target[200:])
    stored = est.training_set_
    new = SimpleNamespace(X=stored.X[200:], y=stored.y[200:])
    assert loss(est) < loss(before)
    assert est.net_.optimizer_.param_groups[0]["lr"] > 0.99 * est.net_.lr


def test_groups_keep_rates_of_their_own():
    groups = [("body.0.*", {"lr": 0.0}), ("body.2.*", {"lr": 0.5})]
    schedule = LRScheduler("CosineAnnealingLR", T_max=4)
    est = classifier(optimizer__param_groups=groups, callbacks=[("schedule", schedule)]).fit(X[:40], labels[:40])
    before = [p.detach().clone() for p in est.net_.module_.parameters()]
    est.partial_fit(X[40:], labels[40:])
    after = list(est.net_.module_.parameters())
    assert all(torch.equal(*pair) for pair in zip(before[:2], after[:2], strict=True))
    assert not any(torch.equal(*pair) for pair in zip(before[2:], after[2:], strict=True))


def test_rate_that_was_set_after_fit_counts():
    schedule = LRScheduler("CosineAnnealingLR", T_max=4)
    slow, usual = (classifier(callbacks=[("schedule", schedule)]).fit(X[:40], labels[:40]) for _ in range(2))
    slow.net_.set_params(lr=1e-6)
    start = parameters(slow)
    moved = [np.abs(parameters(est.partial_fit(X[40:], labels[40:])) - start).max() for est in (slow, usual)]
    assert 0 < moved[0] < 1e-4 * moved[1]


class WarmUpFromZero(Callback):
    def on_epoch_begin(self, net, **kwargs):
        for group in net.optimizer_.param_groups:
            group["lr"] = 0.1 if len(net.history) < 3 else 0.0


@pytest.mark.parametrize(
    "schedule",
    [WarmUpFromZero(), LRScheduler("LambdaLR", lr_lambda=lambda epoch: min(epoch, 1))],
    ids=["own", "warm-up"],
)
def test_a_pass_at_rate_zero_is_refused(schedule):
    est = classifier(callbacks=[("schedule", schedule)]).fit(X[:40], labels[:40])
    before, state = parameters(est), est.unlearning_state_
    with pytest.raises(ValueError, match=r"learning rate of the net was 0 in every step.*nothing was changed"):
        est.partial_fit(X[40:], labels[40:])
    assert np.array_equal(before, parameters(est))
    assert est.unlearning_state_ is state
    assert len(est.training_set_) == 40


# -------------------------------------------------------------------------------------------- passes over the same rows


@pytest.mark.parametrize("kind", [classifier, _problems.regressor])
@pytest.mark.parametrize("ids", [None, np.arange(60)])
@pytest.mark.parametrize("weight", [None, np.arange(1.0, 61.0)])
def test_passes_over_the_same_rows_store_them_once(kind, ids, weight):
    target = labels if kind is classifier else X[:, 0]
    est = kind(lr=0.05)
    for _ in range(4):
        est.partial_fit(X, target, sample_weight=weight, sample_id=ids)
    assert len(est.net_.history) == 4
    once = kind().partial_fit(X, target, sample_weight=weight, sample_id=ids)
    stored, other = est.training_set_, once.training_set_
    for name in ("X", "y", "sample_weight", "sample_id", "role"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(other, name))
    rows = est.training_set_
    residual = EmpiricalRisk(est.net_, rows.X, rows.y, rows.sample_weight).gradient(flat_parameters(est.net_))
    report = est.forget(X[:3]).unlearning_report_
    assert (report.n_erased, report.n_retained) == (3, 57)
    assert report.residual_norm == pytest.approx(float(residual.norm()), rel=1e-5)


def test_passes_in_batches_and_in_another_order():
    est = classifier()
    for order in (np.arange(60), rng.permutation(60), rng.permutation(60)):
        for batch in np.array_split(order, 4):
            est.partial_fit(X[batch], labels[batch])
    assert len(est.training_set_) == 60


def test_duplicates_within_a_call_stay_duplicates():
    twice = np.r_[0:60, 0:5]
    est = classifier().partial_fit(X[twice], labels[twice])
    assert len(est.training_set_) == 65
    est.partial_fit(X[twice], labels[twice]).partial_fit(X, labels)
    assert len(est.training_set_) == 65
    # More copies than are stored are news; without identifiers the call is stored whole.
    thrice = np.r_[0:5, 0:5, 0:5]
    est.partial_fit(X[thrice], labels[thrice])
    assert len(est.training_set_) == 80
    assert est.forget(X[:1]).unlearning_report_.n_erased == 5


def test_a_call_with_one_new_row_is_stored_whole_without_identifiers():
    est = classifier().partial_fit(X[:40], labels[:40]).partial_fit(X[:41], labels[:41])
    assert len(est.training_set_) == 81


def test_with_identifiers_only_what_is_new_is_stored():
    est = classifier().partial_fit(X[:40], labels[:40], sample_id=np.arange(40))
    est.partial_fit(X, labels, sample_id=np.arange(60))
    np.testing.assert_array_equal(est.training_set_.sample_id, np.arange(60))
    np.testing.assert_array_equal(est.training_set_.X, X.astype(np.float32))
    # Equal rows of another person are rows of their own, and so is a person's row that comes with more copies.
    est.partial_fit(X[:2], labels[:2], sample_id=[100, 101])
    assert len(est.training_set_) == 62
    est.partial_fit(X[[0, 0, 0]], labels[[0, 0, 0]], sample_id=[0, 0, 0])
    assert len(est.training_set_) == 64
    assert est.forget(sample_id=[0]).unlearning_report_.n_erased == 3
    est.forget(sample_id=[100])
    assert len(est.training_set_) == 60


@pytest.mark.parametrize("changed", ["target", "weight"])
def test_other_target_or_weight_is_another_row(changed):
    est = classifier().partial_fit(X, labels)
    if changed == "target":
        est.partial_fit(X[:3], np.where(labels[:3] == "a", "b", "a"))
    else:
        est.partial_fit(X[:3], labels[:3], sample_weight=[1.0, 1.0, 2.0])
    assert len(est.training_set_) == 63
    assert est.forget(X[:3]).unlearning_report_.n_erased == 6


@pytest.mark.parametrize("ids", [None, np.arange(60)])
def test_rows_that_fit_held_out_are_trained_on_after_a_pass(ids):
    est = classifier().fit(X, labels, sample_id=ids)
    held_out = np.flatnonzero(est.training_set_.role == RowRole.VALIDATED)
    part, others = held_out[:4], held_out[4:]
    est.partial_fit(X[part], labels[part], sample_id=None if ids is None else ids[part])
    assert len(est.training_set_) == 60
    assert (est.training_set_.role[part] == RowRole.TRAINED).all()
    assert (est.training_set_.role[others] == RowRole.VALIDATED).all()
    assert est.forget(X[part]).unlearning_report_.n_trained_erased == 4
    # Beside new rows, too.
    more = np.r_[others[:2], 60]
    grown, grown_labels = np.vstack([X, [[9.0, 9.0, 9.0]]]), np.append(labels, "a")
    est.partial_fit(grown[more], grown_labels[more], sample_id=None if ids is None else more)
    assert est.forget(X[others[:2]]).unlearning_report_.n_trained_erased == 2


def test_one_more_row_costs_no_copy_of_the_others():
    many = np.random.default_rng(0).normal(size=(30_000, 20)).astype(np.float32)
    est = classifier(max_epochs=1, batch_size=4096).fit(many, np.arange(30_000) % 2)
    est.forget(many[:1])
    est.partial_fit(many[:1] + 1, [0])  # makes room
    tracemalloc.start()
    est.partial_fit(many[:1] + 2, [0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000  # the rows take 2.4 million bytes
    assert est.training_set_.locate(many[:1] + 2).tolist() == [30_001]
