"""Weights that none but erased rows moved go back to where training without data leads."""

import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import LRScheduler
from torch import nn
from torch.nn import functional

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import CuReNU, StoCuReNU
from sk_unlearn.unlearners.cubic import Policy
from tests._problems import skorch_net

USERS, ERASED, ITEMS = 40, 3, 9
# With samples allowed, steps in the output layer are all that follows.
SAMPLED = StoCuReNU(renew=False, policy=Policy(few_rows=16))


class Taste(nn.Module):
    """Users and items."""

    def __init__(self, sparse=False, bag=False, padding=None):
        super().__init__()
        table = nn.EmbeddingBag if bag else nn.Embedding
        self.user = table(USERS, 4, sparse=sparse, padding_idx=padding)
        self.item = nn.Embedding(ITEMS, 4, sparse=sparse)
        self.body = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
        self.bag = bag

    def forward(self, X):
        users = self.user(X[:, :1]) if self.bag else self.user(X[:, 0])
        return self.body(torch.cat([users, self.item(X[:, 1])], dim=1))


def tastes(n=400, seed=0):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.integers(1, USERS, size=n), rng.integers(ITEMS, size=n)])
    X[: 2 * ERASED, 0] = np.arange(2 * ERASED) % ERASED + 1
    return X, rng.integers(2, size=n)


def estimator(module=Taste, unlearner=SAMPLED, *, optimizer=torch.optim.Adam, keep_training_set=True, **settings):
    defaults = {"lr": 0.01, "max_epochs": 3, "batch_size": 16, "iterator_train__shuffle": True}
    net = skorch_net(module, optimizer=optimizer, **(defaults | settings))
    return UnlearnableClassifier(net, unlearner, random_state=0, keep_training_set=keep_training_set)


def rows_of(est, name, rows):
    return dict(est.net_.module_.named_parameters())[name].detach()[rows]


def relative(a, b):
    return float((a - b).norm() / b.norm())


def released(est):
    return [note for note in est.unlearning_report_.notes if note.startswith("Release:")]


OPTIMISERS = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "momentum, decay": (torch.optim.SGD, {"optimizer__momentum": 0.9, "optimizer__weight_decay": 1e-3, "lr": 0.05}),
    "adam": (torch.optim.Adam, {}),
    "adam, decay": (torch.optim.Adam, {"optimizer__weight_decay": 1e-3}),
    "adamw": (torch.optim.AdamW, {"optimizer__weight_decay": 0.3}),
    "rmsprop, decay": (torch.optim.RMSprop, {"optimizer__weight_decay": 1e-3, "lr": 1e-3}),
    "sparse": (torch.optim.SGD, {"module__sparse": True}),
    "bag": (torch.optim.AdamW, {"module__bag": True}),
    "groups": (
        torch.optim.AdamW,
        {"optimizer__param_groups": [("user.*", {"weight_decay": 0.5, "lr": 0.02})], "optimizer__weight_decay": 0.1},
    ),
}
SCHEDULES = {
    "constant": {},
    "cosine": {"callbacks": [LRScheduler("CosineAnnealingLR", T_max=3)]},
    "cosine by steps": {"callbacks": [LRScheduler("CosineAnnealingLR", T_max=75, step_every="batch")]},
}


# Every optimiser under one schedule in turn, and two of them under all.
PAIRS = {(name, list(SCHEDULES)[k % 3]) for k, name in enumerate(OPTIMISERS)}
PAIRS |= {(name, schedule) for name in ("momentum, decay", "adamw") for schedule in SCHEDULES}


@pytest.mark.parametrize(("optimiser", "schedule"), sorted(PAIRS))
def test_rows_of_erased_users_are_those_of_the_retrained_net(optimiser, schedule):
    X, y = tastes()
    optimizer, settings = OPTIMISERS[optimiser]
    est = estimator(optimizer=optimizer, **settings, **SCHEDULES[schedule]).fit(X, y, sample_id=X[:, 0])
    users = [1, 2, 3]
    others = [k for k in range(USERS) if k not in users]
    before = rows_of(est, "user.weight", others)
    est.forget(sample_id=users)
    gone = np.isin(X[:, 0], users)
    retrained = estimator(optimizer=optimizer, **settings, **SCHEDULES[schedule]).fit(X[~gone], y[~gone])
    for user in users:
        got, wanted = (rows_of(each, "user.weight", [user]) for each in (est, retrained))
        assert relative(got, wanted) < 1e-3
    assert torch.equal(rows_of(est, "user.weight", others), before)
    report = est.unlearning_report_
    assert report.trace[0]["block"] == "release"
    assert report.status in ("settled", "converged", "budget_spent")
    assert released(est) == [
        "Release: 12 weights of user.weight went back to where training leads without data; only erased rows used them."
    ]


def test_users_one_by_one_end_where_all_at_once_do():
    X, y = tastes()
    at_once, one_by_one = (estimator().fit(X, y, sample_id=X[:, 0]) for _ in range(2))
    at_once.forget(sample_id=[1, 2, 3])
    for user in (1, 2, 3):
        one_by_one.forget(sample_id=[user])
        assert len(released(one_by_one)) == 1
    users = [rows_of(each, "user.weight", [1, 2, 3]) for each in (at_once, one_by_one)]
    assert torch.equal(*users)


class Normalised(Taste):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


def test_users_go_one_by_one_where_statistics_move_too():
    X, y = tastes()
    est = estimator(Normalised).fit(X, y, sample_id=X[:, 0])
    initial = rows_of(estimator(Normalised, lr=0.0).fit(X, y), "user.weight", [1, 2, 3])
    for user in (1, 2, 3):
        assert len(released(est.forget(sample_id=[user]))) == 1
    assert torch.equal(rows_of(est, "user.weight", [1, 2, 3]), initial)


def test_half_of_a_user_stays_as_it_is():
    X, y = tastes()
    est = estimator().fit(X, y)
    before = rows_of(est, "user.weight", slice(None))
    first = np.flatnonzero(X[:, 0] == 1)[:2]
    assert len(first) < (X[:, 0] == 1).sum()
    est.forget(X[first[:1]], y[first[:1]])
    assert torch.equal(rows_of(est, "user.weight", slice(None)), before)
    assert not released(est)


def test_the_padding_of_a_table_is_not_released():
    X, y = tastes()
    X[X[:, 0] == 1, 0] = 0
    est = estimator(module__padding=0).fit(X, y, sample_id=X[:, 0])
    assert not released(est.forget(sample_id=[0]))


def test_without_rows_or_through_a_file_it_is_the_same():
    X, y = tastes()
    gone = np.isin(X[:, 0], [1, 2])
    est = estimator(keep_training_set=False).fit(X, y)
    initial = rows_of(est.__class__(est.estimator, random_state=0).fit(X[~gone], y[~gone]), "user.weight", [1, 2])
    est = pickle.loads(pickle.dumps(est)).partial_forget(X[gone], y[gone])
    assert relative(rows_of(est, "user.weight", [1, 2]), initial) < 1e-6
    assert len(released(est)) == 1


def test_a_correction_releases_what_the_old_content_used():
    X, y = tastes()
    est = estimator().fit(X, y)
    old = X[:, 0] == 1
    new = X[old].copy()
    new[:, 0] = 0
    initial = rows_of(estimator(max_epochs=1, lr=0.0).fit(X, y), "user.weight", [1])
    est.correct(X[old], X_new=new)
    assert torch.equal(rows_of(est, "user.weight", [1]), initial)
    # Nobody used row 0 before; the new rows do from now on.
    assert len(released(est)) == 1
    moved = estimator().fit(np.concatenate([X[~old], new]), np.concatenate([y[~old], y[old]]))
    moved.forget(new)
    assert len(released(moved)) == 1


def test_further_training_counts_what_it_brings():
    X, y = tastes()
    est = estimator().fit(X, y, sample_id=X[:, 0])
    est.partial_fit(np.array([[1, 0], [1, 1]] * 4), np.arange(8) % 2, sample_id=np.full(8, 100))
    assert not released(est.forget(sample_id=[1]))
    assert len(released(est.forget(sample_id=[100]))) == 1


def test_l_bfgs_over_all_rows_releases_too():
    X, y = tastes()
    options = {"optimizer": torch.optim.LBFGS, "batch_size": -1, "lr": 0.1}
    est = estimator(**options).fit(X, y, sample_id=X[:, 0])
    initial = rows_of(estimator(**options, max_epochs=1).fit(X[X[:, 0] > 1], y[X[:, 0] > 1]), "user.weight", [1])
    est.forget(sample_id=[1])
    assert relative(rows_of(est, "user.weight", [1]), initial) < 1e-3


def test_at_an_optimum_with_weight_decay_the_steps_find_it():
    X, y = tastes()
    module = nn.Sequential(nn.EmbeddingBag(USERS, 2)).double()
    options = {"optimizer": torch.optim.SGD, "optimizer__weight_decay": 0.05, "batch_size": -1, "lr": 2.0}
    est = estimator(module, CuReNU(), max_epochs=300, **options).fit(X[:, :1], y, sample_id=X[:, 0])
    before = rows_of(est, "0.weight", 1)
    assert not released(est.forget(sample_id=[1]))
    # Without rows the penalty alone is left, and its optimum is zero.
    assert float(rows_of(est, "0.weight", 1).norm()) < 1e-3 * float(before.norm())


# ------------------------------------------------------------------------------------------------ other kinds of layers


def one_hot(n=600, seed=0, standardised=True, groups=4):
    rng = np.random.default_rng(seed)
    group = rng.integers(groups, size=n)
    X = np.column_stack([rng.normal(size=(n, 3)), np.eye(groups)[group]])
    if standardised:
        X = (X - X.mean(0)) / X.std(0)
    return X.astype(np.float32), ((X[:, 0] + 2 * group + rng.normal(size=n)) > 3).astype(np.int64), group


def dense(d=7, hidden=12):
    return nn.Sequential(nn.Linear(d, hidden), nn.ReLU(), nn.Linear(hidden, 2))


@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_column_that_only_erased_rows_had_goes_back(optimiser, standardised):
    X, y, group = one_hot(standardised=standardised)
    optimizer, settings = OPTIMISERS[optimiser]
    torch.manual_seed(0)
    module = dense()
    initial = module[0].weight.detach().clone(), module[0].bias.detach().clone()
    options = {"optimizer": optimizer, "max_epochs": 20, **settings}
    est = estimator(module, **options).fit(X, y)
    retrained = estimator(module, **options).fit(X[group != 2], y[group != 2])
    before = est.predict_proba(X[group != 2])
    est.forget(X[group == 2])
    constant = float(X[group != 2][0, 5])
    along = [
        (each.weight.detach()[:, 5] - constant * each.bias.detach())
        for each in (est.net_.module_[0], retrained.net_.module_[0])
    ]
    started = initial[0][:, 5] - constant * initial[1]
    if optimiser == "sgd":  # exactly there, as is the retrained net
        torch.testing.assert_close(along[1], started, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(along[0], started, rtol=1e-3, atol=1e-3)
    assert len(released(est)) == 1
    # Retained rows are predicted as before, up to what the output layer's steps change.
    assert np.abs(est.predict_proba(X[group != 2]) - before).mean() < 0.05


class Pixels(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, X):
        return self.out(self.conv(X).relu().mean((2, 3)))


class Tokens(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.body = (
            nn.MultiheadAttention(4, 2, batch_first=True) if kind == "attention" else nn.LSTM(4, 4, batch_first=True)
        )
        self.out = nn.Linear(4, 2)

    def forward(self, X):
        hidden = self.body(X, X, X)[0] if self.kind == "attention" else self.body(X)[0]
        return self.out(hidden.mean(1))


@pytest.mark.parametrize(
    ("kind", "weight"),
    [("conv", "conv.weight"), ("attention", "body.in_proj_weight"), ("lstm", "body.weight_ih_l0")],
)
def test_a_channel_that_only_erased_rows_had_goes_back(kind, weight):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3, 5, 5) if kind == "conv" else (120, 3, 4)).astype(np.float32)
    y = rng.integers(2, size=120)
    (X[10:, 1] if kind == "conv" else X[10:, :, 1])[:] = 0
    options = {"module__kind": kind} if kind != "conv" else {}
    module = Pixels if kind == "conv" else Tokens
    est = estimator(module, **options).fit(X, y)
    initial = rows_of(estimator(module, lr=0.0, **options).fit(X, y), weight, slice(None))
    outputs = est.predict_proba(X[10:])
    before = rows_of(est, weight, slice(None))
    est.forget(X[:10])
    after = rows_of(est, weight, slice(None))
    torch.testing.assert_close(after[:, 1], initial[:, 1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after[:, [0, 2]], before[:, [0, 2]], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(before[:, 1], initial[:, 1], atol=1e-4)
    assert np.abs(outputs - est.predict_proba(X[10:])).max() < 0.3


class Tied(Taste):
    def forward(self, X):
        hidden = self.user(X[:, 0]) + self.item(X[:, 1])
        return self.body(torch.cat([hidden, hidden], dim=1)) + functional.linear(hidden, self.user.weight).mean(1, True)


def test_a_table_that_is_used_in_two_ways_is_left_alone():
    X, y = tastes()
    est = estimator(Tied).fit(X, y, sample_id=X[:, 0])
    assert not released(est.forget(sample_id=[1]))


class Hidden(Taste):
    """Uses its table where nobody can see it."""

    def forward(self, X):
        with torch._C.DisableTorchFunction():
            sums = self.user.weight.tanh().sum(0)[:2]
        return super().forward(X) + sums


def test_a_weight_that_the_loss_uses_unseen_is_left_alone_and_the_report_says_so():
    X, y = tastes()
    est = estimator(Hidden).fit(X, y, sample_id=X[:, 0])
    est.forget(sample_id=[1])
    assert not released(est)
    assert any("were not released" in note for note in est.unlearning_report_.notes)


class Prompted(Taste):
    """Adds what a layer makes of a learnt prompt, and looks up positions."""

    def __init__(self):
        super().__init__()
        self.prompt, self.linear, self.place = nn.Parameter(torch.ones(3)), nn.Linear(3, 2), nn.Embedding(2, 2)

    def forward(self, X):
        return super().forward(X) + self.linear(self.prompt) + self.place(torch.arange(2)).sum(0)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_layer_over_a_learnt_prompt_is_used_by_all_rows(keeps):
    X, y = tastes()
    est = estimator(Prompted, keep_training_set=keeps, batch_size=50).fit(X, y)
    gone = X[:, 0] == 1
    est.partial_forget(X[gone], y[gone])
    assert released(est) == [
        "Release: 4 weights of user.weight went back to where training leads without data; only erased rows used them."
    ]
    assert not any("were not released" in note for note in est.unlearning_report_.notes)


@pytest.mark.parametrize(
    ("keeps", "said"), [({"keep_initial": False}, "not known where training started"), ({}, "Release:")]
)
def test_where_training_started_must_be_known(keeps, said):
    X, y = tastes()
    est = estimator().set_params(**keeps).fit(X, y, sample_id=X[:, 0])
    est.forget(sample_id=[1])
    assert any(said in note for note in est.unlearning_report_.notes)


def test_initial_parameters_are_gone_back_to_where_the_steps_are_not_known():
    X, y = tastes()
    est = estimator().fit(X, y)
    start = est.unlearning_state_.start.parameters.numpy()
    adopted = UnlearnableClassifier.from_fitted(
        est.net_, X, y, sample_id=X[:, 0], initial_parameters=start, unlearner=SAMPLED, random_state=0
    )
    adopted.forget(sample_id=[1])
    notes = " ".join(adopted.unlearning_report_.notes)
    assert "The steps of training are not known" in notes
    np.testing.assert_allclose(rows_of(adopted, "user.weight", 1).numpy(), start[4:8])


@pytest.mark.parametrize("seed", range(20))
def test_outputs_of_retained_rows_are_those_of_before(seed):
    rng = np.random.default_rng(seed)
    n, d, gone = int(rng.integers(40, 200)), int(rng.integers(2, 8)), int(rng.integers(1, 8))
    X = rng.normal(size=(n, d))
    X[gone:, 0] = 0 if seed % 2 else 1.5
    X = (X @ np.linalg.qr(rng.normal(size=(d, d)))[0]).astype(np.float64)
    y = rng.integers(2, size=n)
    optimizer, settings = OPTIMISERS[["sgd", "momentum, decay", "adam", "adamw"][seed % 4]]
    torch.manual_seed(seed)
    # No layer that is linear at the end: nothing but the release moves, and then one step.
    module = dense(d, 5).double()
    est = estimator(module, optimizer=optimizer, **settings).fit(X, y)
    w = flat_parameters(est.net_)
    retained = EmpiricalRisk(est.net_, X[gone:], y[gone:])
    outputs = retained.outputs(w)
    first = est.net_.module_[0]
    before = first.weight.detach().clone(), first.bias.detach().clone()
    est.forget(X[:gone], y[:gone])
    assert len(released(est)) == 1
    kept = torch.from_numpy(X[gone:])
    after = est.net_.module_[0]
    torch.testing.assert_close(
        functional.linear(kept, after.weight, after.bias), functional.linear(kept, *before), rtol=0, atol=1e-9
    )
    assert len(outputs) == n - gone
