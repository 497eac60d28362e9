"""A verb that fails leaves the estimator as it was: net, rows, and what fit has learnt of classes and columns."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from benchmarks._faults import NormNet, X, fingerprint, fitted, unfitted, y
from sk_unlearn.unlearners import Status, Unlearner, UnlearningResult


class NormOfColumns(nn.Module):
    """Statistics of the columns themselves, which can be infinite although every parameter is finite."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.norm = nn.BatchNorm1d(n_features_in)
        self.last = nn.Linear(n_features_in, n_outputs)

    def forward(self, X):
        return self.last(self.norm(X))


class Masked(nn.Module):
    """Has infinite numbers in a buffer from the beginning, as a mask of attention has."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.last = nn.Linear(n_features_in, n_outputs)
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))

    def forward(self, X):
        return self.last(X) * self.mask.exp()[0]


class Shift(Unlearner):
    def unlearn(self, problem):
        return UnlearningResult(problem.parameters + 0.1, Status.COMPLETED, target=problem.residual)


class Fails(Callback):
    """In the hook it is told, if it is armed."""

    def __init__(self, hook):
        self.hook = hook

    def initialize(self):
        setattr(self, self.hook, self._fail)
        return self

    def _fail(self, *args, **kwargs):
        raise RuntimeError("injected")


def assert_unchanged_by(est, verb, error, match):
    before = fingerprint(est)
    proba = est.predict_proba(X)
    with pytest.raises(error, match=match):
        verb(est)
    assert fingerprint(est) == before
    np.testing.assert_array_equal(est.predict_proba(X), proba)


HUGE = 1e25 * X  # its squares are beyond float32
OTHER = X[:, :2], np.where(y > 0, "yes", "no")

REFITS = {
    "rows that are not finite": ({}, lambda e: e.fit(np.full((4, 2), np.nan), list("abab")), "NaN"),
    "labels of another length": ({}, lambda e: e.fit(OTHER[0], OTHER[1][:-1]), "y has 39 rows"),
    "identifiers of another length": ({}, lambda e: e.fit(*OTHER, sample_id=[1]), "sample_id"),
    "weights of zero": ({}, lambda e: e.fit(*OTHER, sample_weight=np.zeros(40)), "at least one"),
    "a rate that diverges": (
        {"estimator__optimizer": torch.optim.SGD, "estimator__lr": 1e38},
        lambda e: e.fit(1e3 * OTHER[0], OTHER[1]),
        "Training diverged",
    ),
    "an infinite statistic": ({}, lambda e: e.fit(1e25 * OTHER[0], OTHER[1]), r"diverged: norm.running_var not finite"),
}


@pytest.mark.parametrize("name", REFITS)
@pytest.mark.parametrize("keep_training_set", [True, False])
def test_a_refit_that_fails_keeps_the_old_estimator_whole(name, keep_training_set):
    settings, refit, match = REFITS[name]
    est = fitted(NormOfColumns, Shift(), keep_training_set=keep_training_set).set_params(**settings)
    assert_unchanged_by(est, refit, ValueError, match)
    assert est.classes_.tolist() == [0, 1]
    assert est.n_features_in_ == 3


@pytest.mark.parametrize("hook", ["on_train_begin", "on_batch_end", "on_epoch_end", "on_train_end"])
def test_a_callback_that_fails(hook):
    est = fitted(NormNet, Shift())
    est.set_params(estimator__callbacks=[("fails", Fails(hook))])
    assert_unchanged_by(est, lambda e: e.fit(*OTHER), RuntimeError, "injected")
    # One that is in the fitted net already, and turns.
    est = unfitted(NormNet, Shift()).set_params(estimator__callbacks=[("fails", Callback())]).fit(X, y)
    est.net_.callbacks_[-1][1].__dict__[hook] = Fails(hook)._fail
    assert_unchanged_by(est, lambda e: e.partial_fit(X[:5] + 1, y[:5]), RuntimeError, "injected")


def test_a_statistic_that_is_not_finite_is_refused_by_every_verb():
    est = unfitted(NormOfColumns, Shift())
    with pytest.raises(ValueError, match=r"Training diverged: norm.running_var not finite"):
        est.fit(HUGE, y)
    assert not hasattr(est, "net_")
    with pytest.raises(ValueError, match="Training diverged"):
        est.partial_fit(HUGE, y)
    assert not hasattr(est, "net_")
    est = fitted(NormOfColumns, Shift())
    huge = HUGE[:5], y[:5]
    ids = range(40, 45)
    assert_unchanged_by(est, lambda e: e.partial_fit(*huge, sample_id=ids), ValueError, "Training diverged")
    assert_unchanged_by(
        est, lambda e: e.correct(X[4:6], X_new=HUGE[:2]), FloatingPointError, "not finite.*nothing was changed"
    )
    # Of rows so far out that the network is certain and right the loss is zero; the statistics overflow all the same.
    certain = est.predict(HUGE[:2])
    assert_unchanged_by(
        est,
        lambda e: e.correct(X[4:6], X_new=HUGE[:2], y_new=certain),
        FloatingPointError,
        r"BatchNorm statistics .* not finite .*nothing was changed",
    )
    est.forget(X[4:6])


def test_a_mask_of_infinities_is_no_divergence():
    est = fitted(Masked, Shift())
    assert est.forget(X[2:4]).unlearning_report_.n_erased == 2


# --------------------------------------------------------------------------------- callbacks that look at held-out rows

MONITORS = {
    "early stopping": lambda folder: EarlyStopping(),
    "the best": lambda folder: Checkpoint(dirname=folder, load_best=True),
    "plateau": lambda folder: LRScheduler(ReduceLROnPlateau, monitor="valid_loss"),
    "a function": lambda folder: LRScheduler(ReduceLROnPlateau, monitor=lambda net: net.history[-1, "valid_loss"]),
}


@pytest.mark.parametrize("name", MONITORS)
def test_callbacks_that_monitor_held_out_rows_sit_out_a_pass_without_any(name, tmp_path):
    est = unfitted(NormNet, Shift())
    est.set_params(
        estimator__callbacks=[("monitors", MONITORS[name](str(tmp_path)))],
        estimator__train_split=ValidSplit(5, stratified=True),
    )
    est.partial_fit(X[:30], y[:30])
    est.partial_fit(X[30:], y[30:])
    assert len(est.training_set_) == est.training_set_.n_trained == 40
    assert "monitors" in dict(est.net_.callbacks_)
    est.fit(X, y).partial_fit(X[:5] + 1, y[:5])
    assert len(est.training_set_) == 45


def test_a_schedule_that_monitors_nothing_goes_on():
    est = unfitted(NormNet, Shift())
    est.set_params(estimator__callbacks=[("rate", LRScheduler(StepLR, step_size=1, gamma=0.5, monitor="valid_loss"))])
    est.fit(X, y)
    est.partial_fit(X[:5] + 1, y[:5])
    assert est.net_.optimizer_.param_groups[0]["lr"] == 0.05 / 2  # one step of the schedule, which begins anew


class HoldsAFile(Callback):
    """Cannot be copied once it has one, and then fails."""

    file = None

    def on_epoch_end(self, net, **kwargs):
        if self.file is not None:
            raise RuntimeError("read-only")


def test_a_pass_that_fails_leaves_the_schedule_though_another_callback_cannot_be_copied():
    est = unfitted(NormNet, Shift())
    rate = ("rate", LRScheduler(StepLR, step_size=1, gamma=0.5, step_every="batch"))
    est.set_params(estimator__callbacks=[("file", HoldsAFile()), rate]).fit(X, y)
    rate = est.net_.optimizer_.param_groups[0]["lr"]
    with open(__file__, encoding="utf-8") as file:
        dict(est.net_.callbacks_)["file"].file = file
        with pytest.raises(RuntimeError, match="read-only"):
            est.partial_fit(X[:5] + 1, y[:5])
    assert est.net_.optimizer_.param_groups[0]["lr"] == rate
    assert len(est.training_set_) == 40
