"""Where training started, the steps that it took, and what they make of parameters that see no data."""

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Freezer, LRScheduler
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.training.ledger import train
from sk_unlearn.training.start import GroupSteps, Phase
from sk_unlearn.unlearners import StoCuReNU

USERS, ERASED = 12, 3
OPTIMISERS = {
    "sgd": (torch.optim.SGD, {"lr": 0.3}),
    "sgd decay": (torch.optim.SGD, {"lr": 0.3, "optimizer__weight_decay": 0.05}),
    "momentum decay": (
        torch.optim.SGD,
        {"lr": 0.1, "optimizer__momentum": 0.9, "optimizer__nesterov": True, "optimizer__weight_decay": 0.05},
    ),
    "adam": (torch.optim.Adam, {"lr": 0.02}),
    "adam decay": (torch.optim.Adam, {"lr": 0.02, "optimizer__weight_decay": 0.01}),
    "adamw": (torch.optim.AdamW, {"lr": 0.02, "optimizer__weight_decay": 0.5}),
    "rmsprop decay": (torch.optim.RMSprop, {"lr": 0.01, "optimizer__weight_decay": 0.1}),
    "adagrad decay": (torch.optim.Adagrad, {"lr": 0.05, "optimizer__weight_decay": 0.1}),
    "asgd": (torch.optim.ASGD, {"lr": 0.1}),
}


class Taste(nn.Module):
    """Users and items; nobody but a user's own rows moves the user's row."""

    def __init__(self, sparse=False):
        super().__init__()
        self.user = nn.Embedding(USERS, 3, sparse=sparse)
        self.item = nn.Embedding(7, 3, sparse=sparse)
        self.out = nn.Linear(3, 2)

    def forward(self, X):
        return self.out(self.user(X[:, 0]) * self.item(X[:, 1]))


def drawn(n=150, seed=0):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.integers(USERS, size=n), rng.integers(7, size=n)])
    return X, rng.integers(2, size=n)


def net(optimizer=torch.optim.SGD, module=Taste, **settings):
    defaults = {"max_epochs": 3, "batch_size": 16, "iterator_train__shuffle": True, "train_split": None, "verbose": 0}
    return NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, optimizer=optimizer, **{**defaults, **settings}
    )  # fmt: skip


def trained(optimizer, X, y, **settings):
    torch.manual_seed(0)
    built = net(optimizer, **settings).initialize()
    initial = flat_parameters(built)
    return built, train(built, X, y, None), initial


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("schedule", ["constant", "an epoch", "a batch"])
def test_rows_without_data_end_where_the_steps_lead_without_data(name, schedule):
    """Those of users that no row has: they see the gradient of the penalty alone."""
    X, y = drawn()
    X, y = X[X[:, 0] >= ERASED], y[X[:, 0] >= ERASED]
    optimizer, settings = OPTIMISERS[name]
    if schedule != "constant":
        policy = LRScheduler(
            torch.optim.lr_scheduler.CosineAnnealingLR, T_max=20, step_every="batch" if "batch" in schedule else "epoch"
        )
        settings = settings | {"callbacks": [("schedule", policy)]}
    built, ledger, initial = trained(optimizer, X, y, **settings)
    start = ledger.start
    assert torch.equal(start.parameters, initial)
    assert start.n_steps == 3 * -(-len(X) // 16)
    dead = slice(0, 3 * ERASED)
    ghost, final = start.ghost(), flat_parameters(built)
    torch.testing.assert_close(ghost[dead], final[dead], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(ghost[3 * ERASED :], final[3 * ERASED :], rtol=1e-3)


# Where rows are not kept, nobody knows of those that no epoch had read.
@pytest.mark.parametrize(("keeps", "shuffle"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("n_erased", [2, 3, 17, 40])
@pytest.mark.parametrize("drop_last", [True, False])
def test_a_request_takes_as_many_steps_as_training_on_what_stays(keeps, drop_last, n_erased, shuffle):
    """Of 150 rows in batches of 16 the last six are dropped, and read where others have gone."""
    X, y = drawn()
    X[X[:, 0] == 0, 0] = 1
    X[:n_erased, 0] = 0  # a user whose rows are these
    settings = {
        "lr": 0.1, "optimizer__weight_decay": 0.5, "iterator_train__drop_last": drop_last,
        "iterator_train__shuffle": shuffle,
    }  # fmt: skip
    est, retrained = (
        UnlearnableClassifier(net(**settings), StoCuReNU(renew=False), random_state=0, keep_training_set=kept)
        for kept in (keeps, True)
    )
    est.fit(X, y)
    if keeps:
        est.forget(X[:n_erased], y[:n_erased])
    else:
        est.partial_forget(X[:n_erased], y[:n_erased])
    retrained.fit(X[n_erased:], y[n_erased:])
    got, wanted = (each.net_.module_.user.weight.detach()[0] for each in (est, retrained))
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-6)


def test_a_sampler_says_how_many_steps_there_are():
    X, y = drawn()
    sampler = torch.utils.data.RandomSampler(range(len(X)), replacement=True, num_samples=320)
    built, ledger, _ = trained(torch.optim.SGD, X, y, iterator_train__sampler=sampler, iterator_train__shuffle=False)
    assert ledger.start.over_fewer_rows(built, 100).n_steps == ledger.start.n_steps == 60


def test_sparse_gradients_leave_other_rows_alone():
    X, y = drawn()
    X, y = X[X[:, 0] >= ERASED], y[X[:, 0] >= ERASED]
    built, ledger, initial = trained(torch.optim.SGD, X, y, module__sparse=True, lr=0.3)
    assert torch.equal(ledger.start.ghost(), initial)
    assert torch.equal(flat_parameters(built)[: 3 * ERASED], initial[: 3 * ERASED])


def test_parameter_groups_decay_each_in_their_way():
    X, y = drawn()
    X, y = X[X[:, 0] >= ERASED], y[X[:, 0] >= ERASED]
    built, ledger, initial = trained(
        torch.optim.Adam, X, y, lr=0.01,
        optimizer__param_groups=[("user.weight", {"weight_decay": 0.3, "lr": 0.03}), ("out.*", {"weight_decay": 0.1})],
    )  # fmt: skip
    ghost, final = ledger.start.ghost(), flat_parameters(built)
    torch.testing.assert_close(ghost[: 3 * ERASED], final[: 3 * ERASED], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(ghost[: 3 * ERASED], initial[: 3 * ERASED], rtol=1e-2)
    item = slice(3 * USERS, 3 * (USERS + 7))
    assert torch.equal(ghost[item], initial[item])


def test_frozen_parameters_are_left_out():
    X, y = drawn()
    built, ledger, initial = trained(
        torch.optim.AdamW, X, y, lr=0.01, callbacks=[("freeze", Freezer("item.weight"))]
    )  # fmt: skip
    assert len(ledger.start.parameters) == len(flat_parameters(built)) < len(initial)
    assert len(ledger.start.ghost()) == len(flat_parameters(built))


def test_lbfgs_without_decay_stays_where_it_started():
    X, y = drawn()
    _, ledger, initial = trained(torch.optim.LBFGS, X, y, lr=1.0, batch_size=-1)
    assert torch.equal(ledger.start.ghost(), initial)


def test_further_passes_go_on_with_what_the_optimiser_accumulated():
    X, y = drawn()
    keep = X[:, 0] >= ERASED
    est = UnlearnableClassifier(net(torch.optim.Adam, lr=0.02, optimizer__weight_decay=0.02), random_state=0)
    est.fit(X[keep], y[keep])
    for _ in range(3):
        est.partial_fit(X[keep], y[keep])
    start = est.unlearning_state_.start
    assert len(start.phases) == 1
    assert start.n_steps == 6 * -(-int(keep.sum()) // 16)
    torch.testing.assert_close(
        start.ghost()[: 3 * ERASED], flat_parameters(est.net_)[: 3 * ERASED], rtol=1e-5, atol=1e-7
    )


def test_a_pass_after_a_request_begins_with_a_fresh_optimiser():
    X, y = drawn()
    est = UnlearnableClassifier(net(torch.optim.Adam, lr=0.02, optimizer__weight_decay=0.02), random_state=0)
    est.fit(X, y).forget(X[:1])
    est.partial_fit(X[1:], y[1:])
    assert len(est.unlearning_state_.start.phases) == 2


def test_nothing_is_kept_where_that_is_not_wanted():
    X, y = drawn()
    est = UnlearnableClassifier(net(lr=0.1), keep_initial=False, random_state=0).fit(X, y)
    assert est.unlearning_state_.start is None
    assert est.partial_fit(X, y).unlearning_state_.start is None
    assert UnlearnableClassifier(net(lr=0.1), random_state=0).fit(X, y).unlearning_state_.start is not None


def test_a_loop_of_its_own_leaves_the_start_unknown():
    class OwnLoop(NeuralNetClassifier):
        def train_step(self, batch, **fit_params):
            step = super().train_step_single(batch, **fit_params)
            with torch.no_grad():
                for p in self.module_.parameters():
                    p -= 0.1 * p.grad
            self.module_.zero_grad()
            return step

    X, y = drawn()
    built = OwnLoop(Taste, criterion=nn.CrossEntropyLoss, max_epochs=1, train_split=None, verbose=0).initialize()
    assert train(built, X, y, None).start is None


def test_recording_the_steps_changes_nothing():
    X, y = drawn()
    est = UnlearnableClassifier(net(torch.optim.Adam, lr=0.02), random_state=0).fit(X, y)
    torch.manual_seed(est.unlearning_state_.seed)
    plain = net(torch.optim.Adam, lr=0.02).fit(X, y)
    assert torch.equal(flat_parameters(est.net_), flat_parameters(plain))
    assert not est.net_.optimizer_._optimizer_step_pre_hooks


def test_layers_that_learn_their_width_from_the_first_rows_start_where_these_made_them():
    X, y = drawn()
    torch.manual_seed(0)
    lazy = net(torch.optim.SGD, nn.Sequential(nn.LazyLinear(2)), lr=0.1).initialize()
    start = train(lazy, X.astype(np.float32), y, None).start
    assert start.sizes == (4, 2)
    assert start.n_steps == 3 * 10
    assert not torch.equal(start.parameters, flat_parameters(lazy))


@pytest.mark.parametrize("policy", ["constant", "cosine", "one cycle"])
@pytest.mark.parametrize("n", [40, 40_000])
def test_adam_is_followed_as_pytorch_steps(policy, n):
    """Many numbers on a grid, few one by one; cycled betas too."""
    w = 0.2 * torch.randn(n, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam([torch.nn.Parameter(w.clone())], lr=3e-3, weight_decay=0.02)
    schedule = {
        "constant": lambda: None,
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=60),
        "one cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(optimizer, total_steps=60, max_lr=0.01),
    }[policy]()
    (p,) = optimizer.param_groups[0]["params"]
    changes = []
    for step in range(60):
        changes.append((step, {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}))
        p.grad = torch.zeros_like(p)
        optimizer.step()
        if schedule is not None and step < 59:
            schedule.step()
    phase = Phase(torch.optim.Adam, 60, (GroupSteps.of((0,), changes),))
    torch.testing.assert_close(phase.without_data([w])[0], p.detach(), rtol=1e-4, atol=2e-5 if n < 1000 else 2.5e-4)
    torch.testing.assert_close(phase.replayed([w])[0], p.detach())


def test_only_what_is_asked_for_is_followed():
    X, y = drawn()
    _, ledger, initial = trained(torch.optim.Adam, X, y, lr=0.02, optimizer__weight_decay=0.05)
    whole, part = ledger.start.ghost(), ledger.start.ghost({0})
    assert torch.equal(part[: 3 * USERS], whole[: 3 * USERS])
    assert torch.equal(part[3 * USERS :], initial[3 * USERS :])
    assert not torch.equal(whole[3 * USERS :], initial[3 * USERS :])


def test_a_schedule_over_fewer_rows_goes_on_by_epochs_where_it_went_by_epochs():
    """Else by steps; and one phase after the other is all of their steps."""
    by_epochs = [(0, {"lr": 3.0}), (4, {"lr": 2.0}), (8, {"lr": 1.0})]
    by_steps = [(0, {"lr": 3.0}), (5, {"lr": 2.0})]
    whole = Phase(torch.optim.SGD, 12, (GroupSteps.of((0,), by_epochs),))
    cut = whole.with_epochs_cut(3, 2)
    assert [each["lr"] for each in cut.groups[0].each(cut.n_steps)] == [3, 3, 2, 2, 1, 1]
    joined = cut.continued_by(whole)
    assert [each["lr"] for each in joined.groups[0].each(18)] == [3, 3, 2, 2, 1, 1] + [3] * 4 + [2] * 4 + [1] * 4
    other = Phase(torch.optim.SGD, 12, (GroupSteps.of((0,), by_steps),)).with_epochs_cut(3, 2)
    assert [each["lr"] for each in other.groups[0].each(other.n_steps)] == [3, 3, 3, 3, 3, 2]
