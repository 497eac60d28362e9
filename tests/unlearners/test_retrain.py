"""Retrain is a fit on what is left."""

import os
import signal

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners import Retrain, Status, StoCuReNU
from tests._problems import LinearLayer, Mlp, parameters, skorch_net

rng = np.random.default_rng(12)
X = rng.normal(size=(50, 3))
y = (X[:, 0] > 0).astype(int)
weight = rng.uniform(0.5, 2, size=50)


class NormNet(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(n_features_in, 5), nn.BatchNorm1d(5), nn.Dropout(0.1), nn.Tanh(), nn.Linear(5, n_outputs)
        )

    def forward(self, X):
        return self.body(X)


def net():
    return NeuralNetClassifier(
        NormNet, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, max_epochs=3, lr=0.05, batch_size=8,
        iterator_train__shuffle=True, verbose=0,
    )  # fmt: skip


def assert_same_net(one, two):
    state = two.net_.module_.state_dict()
    for name, value in one.net_.module_.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("given", [None, net(), NormNet])
@pytest.mark.parametrize("weighted", [False, True])
def test_bit_identical_to_fit_on_the_rest(given, weighted):
    w = weight if weighted else None
    est = UnlearnableClassifier(given, Retrain(), random_state=3).fit(X, y, sample_weight=w).forget(X[43:])
    fresh = UnlearnableClassifier(given, random_state=3).fit(X[:43], y[:43], sample_weight=w if w is None else w[:43])
    assert_same_net(est, fresh)
    np.testing.assert_array_equal(est.training_set_.role, fresh.training_set_.role)


def test_a_sequence_ends_where_one_request_does():
    est = UnlearnableRegressor(unlearner=Retrain(), random_state=3).fit(X[:30], X[:30, 0])
    for first in (0, 3):
        est.forget(X[first : first + 3])
    assert_same_net(est, UnlearnableRegressor(random_state=3).fit(X[6:30], X[6:30, 0]))


def test_report():
    report = UnlearnableClassifier(net(), Retrain(), random_state=3).fit(X, y).forget(X[-3:]).unlearning_report_
    assert report.status is Status.COMPLETED
    assert not report.converged
    assert report.stop_reason.startswith("trained anew; ")
    assert report.trace == []


def test_interrupted_training_is_not_taken(monkeypatch):
    est = UnlearnableClassifier(net(), Retrain(), random_state=3).fit(X, y)
    before = {k: v.clone() for k, v in est.net_.module_.state_dict().items()}

    def interrupt(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(NeuralNetClassifier, "train_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        est.forget(X[-3:])
    assert all(torch.equal(v, before[k]) for k, v in est.net_.module_.state_dict().items())
    assert len(est.training_set_) == 50


class SendsCtrlC(Callback):
    armed = False

    def on_epoch_end(self, net, **kwargs):
        if SendsCtrlC.armed:
            SendsCtrlC.armed = False
            os.kill(os.getpid(), signal.SIGINT)


def test_a_ctrl_c_that_strikes_in_a_callback_is_not_taken_for_the_callback_ending_the_training():
    est = UnlearnableClassifier(net().set_params(callbacks=[SendsCtrlC()]), Retrain(), random_state=3).fit(X, y)
    SendsCtrlC.armed = True
    with pytest.raises(KeyboardInterrupt):
        est.forget(X[-3:])
    assert len(est.training_set_) == 50


# ------------------------------------------------------------------------------------------------ a share of the steps


class TinyCnn(nn.Module):
    """Convolution, BatchNorm and a linear output."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 3, 3, stride=2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)
        )

    def forward(self, X):
        return self.body(X)


class Taste(nn.Module):
    """Users times items."""

    def __init__(self):
        super().__init__()
        self.user, self.item, self.out = nn.Embedding(12, 4), nn.Embedding(7, 4), nn.Linear(4, 2)

    def forward(self, X):
        return self.out(self.user(X[:, 0]) * self.item(X[:, 1]))


def table(n=150, n_classes=3):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    return X, (X[:, 0] * n_classes / 2 + rng.normal(size=n) > 0).astype(int) + (X[:, 1] > 0) * (n_classes == 3)


def numbers():
    X, _ = table()
    return X, X[:, 0] ** 2 + X[:, 1]


def images():
    rng = np.random.default_rng(3)
    return rng.normal(size=(150, 1, 8, 8)).astype(np.float32), rng.integers(3, size=150)


def ratings():
    rng = np.random.default_rng(3)
    return np.column_stack([rng.integers(12, size=150), rng.integers(7, size=150)]), rng.integers(2, size=150)


def built(module, criterion=nn.CrossEntropyLoss, kind=NeuralNetClassifier, **settings):
    defaults = {"max_epochs": 10, "batch_size": 16, "lr": 0.02, "train_split": None, "iterator_train__shuffle": True}
    return skorch_net(module, kind, **(defaults | {"criterion": criterion} | settings))


COSINE = [("schedule", LRScheduler("CosineAnnealingLR", T_max=10))]
MODELS = {
    "built-in classifier": (UnlearnableClassifier, lambda: None, table),
    "built-in regressor": (UnlearnableRegressor, lambda: None, numbers),
    "mlp, momentum, cosine": (
        UnlearnableClassifier,
        lambda: built(Mlp, module__n_hidden=6, optimizer__momentum=0.9, callbacks=COSINE),
        table,
    ),
    "mlp of squared loss": (
        UnlearnableRegressor, lambda: built(Mlp, nn.MSELoss, NeuralNetRegressor, module__n_hidden=6), numbers,
    ),
    "cnn with BatchNorm": (UnlearnableClassifier, lambda: built(TinyCnn, optimizer=torch.optim.AdamW), images),
    "embeddings": (
        UnlearnableClassifier,
        lambda: built(Taste, optimizer=torch.optim.Adam, optimizer__weight_decay=0.01),
        ratings,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("share", [0.05, 0.2, 0.6, 1.0])
def test_no_number_depends_on_what_the_erased_rows_were(name, share):
    kind, estimator, rows = MODELS[name]
    X, y = rows()
    other, ids = np.random.default_rng(8), np.arange(len(X))
    gone = slice(10, 50)
    X_else, y_else = X.copy(), y.copy()
    if X.dtype.kind == "i":
        X_else[gone] = X[other.integers(len(X), size=40)]
    else:
        X_else[gone] = 3 + 5 * other.normal(size=X[gone].shape)
    y_else[gone] = other.permutation(y)[:40]
    models = [
        kind(estimator(), Retrain(share), random_state=4).fit(*data, sample_id=ids)
        for data in ((X, y), (X_else, y_else))
    ]
    assert not torch.equal(*[flat_parameters(each.net_) for each in models])
    for each in models:
        each.forget(sample_id=ids[gone])
    assert_same_net(*models)
    certificate = models[0].certificate_
    assert certificate.kind == "exact"
    assert certificate.proven
    assert certificate.epsilon == certificate.delta == certificate.bound == 0
    assert "exact; no number depends on the erased rows" in str(certificate)


def test_a_share_trains_in_so_many_steps_from_the_weights_of_fit_and_says_so():
    X, y = table()
    est = UnlearnableClassifier(built(Mlp), Retrain(0.2), random_state=0).fit(X, y)
    initial = est.unlearning_state_.start.parameters
    report = est.forget(X[:20]).unlearning_report_
    assert est.unlearning_state_.start.n_steps == round(0.2 * 10 * 9)
    assert torch.equal(est.unlearning_state_.start.parameters, initial)
    assert report.extra == {"share_of_training": 0.2}
    assert report.stop_reason.startswith("trained anew in 18 steps for the 90 of a full training")
    assert sum("is unvouched below" in note for note in report.notes) == 1
    est.set_params(unlearner=Retrain(0.5))
    report = est.forget(X[20:30]).unlearning_report_
    # That of fit is followed, not that of the shorter training before; and its note is not repeated.
    assert report.stop_reason.startswith("trained anew in 40 steps for the 80 of a full training")
    assert report.notes == []
    assert est.certificate_.n_requests == 2


def test_a_linear_model_ends_near_where_retraining_ends():
    X, y = table()
    make = lambda unlearner: UnlearnableClassifier(  # noqa: E731  one line, used twice
        built(LinearLayer, max_epochs=100, lr=0.1, optimizer__weight_decay=0.05, callbacks=[
            ("schedule", LRScheduler("CosineAnnealingLR", T_max=100))
        ]), unlearner, random_state=0,
    ).fit(X, y)  # fmt: skip
    fitted, full, short = make(None), make(Retrain()).forget(X[:40]), make(Retrain(0.3)).forget(X[:40])
    w, w_full, w_short = (flat_parameters(each.net_) for each in (fitted, full, short))
    assert (w_short - w_full).norm() < 0.1 * (w - w_full).norm()


def steep():
    """A training that is stable at its own rate and diverges at five times that."""
    X, y = numbers()
    return (
        X,
        y,
        lambda unlearner: UnlearnableRegressor(
            built(LinearLayer, nn.MSELoss, NeuralNetRegressor, lr=0.2, batch_size=-1, max_epochs=60),
            unlearner,
            random_state=0,
        ),
    )


@pytest.mark.parametrize("unlearner", [Retrain(), Retrain(0.5), StoCuReNU(renew=True)])
def test_a_batch_of_one_row_under_batch_norm_is_an_error_with_its_cure(unlearner):
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    rows = rng.normal(size=(66, 4)).astype(np.float32)
    labels = np.arange(66) % 2
    given = skorch_net(module, max_epochs=10, batch_size=16)
    est = UnlearnableClassifier(given, unlearner, random_state=0)
    with pytest.raises(ValueError, match=r"in batches of 16, leave one over.*iterator_train__drop_last=True"):
        est.fit(rows[:65], labels[:65])
    est.fit(rows, labels)
    before = parameters(est)
    with pytest.raises(ValueError, match=r"in batches of 16, leave one over.*even if fit did not"):
        est.forget(rows[:1])
    assert np.array_equal(parameters(est), before)
    assert len(est.training_set_) == 66
    est.set_params(estimator__iterator_train__drop_last=True).forget(rows[:1])
    assert est.unlearning_report_.status == "completed"
    assert len(est.training_set_) == 65


def test_rates_that_diverge_are_raised_less():
    X, y, make = steep()
    est, again = (make(Retrain(0.2)).fit(X, y).forget(X[:20]) for _ in range(2))
    report = est.unlearning_report_
    assert any("training on the retained rows led nowhere; attempt 2 raised them 2.5 times" in n for n in report.notes)
    assert 0.2 < report.extra["share_of_training"] <= 0.4
    assert est.certificate_.proven
    assert_same_net(est, again)
    assert est.score(X, y) > make(None).fit(X, y).score(X, y) - 0.05


class Fragile(nn.Module):
    """Its units die where a rate is too high, and the loss stays finite."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, X):
        return self.outer(torch.relu(self.inner(X)))


def test_a_loss_no_better_than_that_of_a_constant_counts_as_diverged():
    X, y = table()
    X, net = 10 * X, built(Fragile, lr=0.05, batch_size=-1, max_epochs=80, optimizer__momentum=0.9)
    est = UnlearnableClassifier(net, Retrain(0.05), random_state=0).fit(X, y).forget(X[:20])
    report = est.unlearning_report_
    assert any("led nowhere" in note for note in report.notes)
    assert report.extra["share_of_training"] > 0.05


def test_where_one_class_is_left_there_is_no_more_to_learn_than_a_constant():
    X, y = table()
    est = UnlearnableClassifier(built(Mlp), Retrain(0.5), random_state=0).fit(X, y).forget(X[y != 0])
    report = est.unlearning_report_
    assert report.extra == {"share_of_training": 0.5}
    assert not any("led nowhere" in note for note in report.notes)


@pytest.mark.parametrize("how", ["keep_initial", "from_fitted", "partial_fit"])
def test_a_schedule_that_is_not_known_is_not_followed(how):
    X, y = table()
    est = UnlearnableClassifier(built(Mlp), Retrain(0.5), random_state=0, keep_initial=how != "keep_initial")
    if how == "from_fitted":
        adopted = built(Mlp, module__n_features_in=4, module__n_outputs=3).fit(X, y)
        est = UnlearnableClassifier.from_fitted(adopted, X, y, unlearner=Retrain(0.5), estimator=built(Mlp))
    elif how == "partial_fit":
        est.partial_fit(X, y)
    else:
        est.fit(X, y)
    cure = "fit with keep_initial=True" if how == "keep_initial" else "fit again"
    with pytest.raises(ValueError, match=f"share=0.5 cannot be had: .*schedule of fit.*; {cure}, or use share=1.0"):
        est.forget(X[:10])
    assert len(est.training_set_) == len(X)
    est.set_params(unlearner=Retrain()).forget(X[:10])
    est.set_params(unlearner=Retrain(0.5))
    if how == "keep_initial":
        return
    # Now the steps of a full training are known.
    assert est.forget(X[10:12]).unlearning_report_.extra == {"share_of_training": 0.5}


def test_rows_of_partial_fit_are_trained_on_along_the_schedule_of_fit():
    X, y = table()
    est = UnlearnableClassifier(built(Mlp, callbacks=COSINE), Retrain(0.5), random_state=0).fit(X[:100], y[:100])
    est.partial_fit(X[100:], y[100:]).forget(X[:6])
    assert est.unlearning_state_.start.n_steps == 45
    rates = est.unlearning_state_.start.phases[0].groups[0].values("lr", 45)
    assert rates[-1] < 0.1 * rates[0]


def test_share_is_checked():
    X, y = table()
    for share in (0, 1.5):
        with pytest.raises(ValueError, match="'share' parameter of Retrain"):
            UnlearnableClassifier(built(Mlp), Retrain(share), random_state=0).fit(X, y).forget(X[:5])
