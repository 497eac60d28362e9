"""A training that goes through the schedule of another in fewer and longer steps."""

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping, Freezer, GradientNormClipping, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn
from torch.optim import lr_scheduler

from sk_unlearn.rows import RowRole
from sk_unlearn.training.ledger import train_rows
from sk_unlearn.training.pace import Pace, longer_step
from sk_unlearn.training.start import Schedule
from tests._problems import Mlp, skorch_net

rng = np.random.default_rng(5)
X = rng.normal(size=(120, 3)).astype(np.float32)
y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
EPOCHS, BATCH = 10, 16
PER_EPOCH = -(-len(X) // BATCH)


def net(optimizer=torch.optim.SGD, *, callbacks=None, **settings):
    defaults = {
        "max_epochs": EPOCHS, "batch_size": BATCH, "lr": 0.1, "module__n_features_in": 3, "module__n_outputs": 2,
        "iterator_train__shuffle": True,
    }  # fmt: skip
    return skorch_net(Mlp, optimizer=optimizer, callbacks=callbacks, **(defaults | settings))


def trained(built, pace=None, *, X=X, y=y, weight=None):
    torch.manual_seed(0)
    return train_rows(built.initialize(), X, y, weight, pace=pace)


def in_share(built, share, **rows):
    """The full training, and the one in a share of its steps."""
    full = trained(built, **rows)
    return full, trained(built, Pace(full.start.schedule, share, 1 / share), **rows)


def used(result, name, group=0):
    """A setting in each step of a training."""
    return result.start.phases[0].groups[group].values(name, result.start.n_steps)


SCHEDULES = {
    "constant": (None, "epoch", {}),
    "cosine": (lr_scheduler.CosineAnnealingLR, "epoch", {"T_max": EPOCHS}),
    "cosine by batch": (lr_scheduler.CosineAnnealingLR, "batch", {"T_max": EPOCHS * PER_EPOCH}),
    "steps": (lr_scheduler.StepLR, "epoch", {"step_size": 3, "gamma": 0.2}),
    "one cycle": (lr_scheduler.OneCycleLR, "batch", {"max_lr": 0.3, "total_steps": EPOCHS * PER_EPOCH}),
}


def scheduled(name):
    policy, when, settings = SCHEDULES[name]
    return None if policy is None else [("schedule", LRScheduler(policy, step_every=when, **settings))]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("share", [0.07, 0.2, 0.5, 0.9])
def test_so_many_steps_whose_rates_sum_to_those_of_the_full_training(schedule, share):
    optimizer = torch.optim.Adam if schedule == "one cycle" else torch.optim.SGD
    full, short = in_share(net(optimizer, callbacks=scheduled(schedule)), share)
    n_steps = round(share * EPOCHS * PER_EPOCH)
    assert short.start.n_steps == short.paced.n_steps == n_steps
    assert short.paced.n_full == full.start.n_steps == EPOCHS * PER_EPOCH
    np.testing.assert_allclose(used(short, "lr").sum(), used(full, "lr").sum(), rtol=1e-9)
    assert not short.paced.cut_short


def test_a_share_of_little_more_than_whole_epochs_takes_one_step_of_the_next():
    _, short = in_share(net(), 0.3005)
    assert short.start.n_steps == short.paced.n_steps == 3 * PER_EPOCH + 1
    assert Pace(Schedule((), 100), 0.07, 1.0).n_epochs(net(max_epochs=100)) == 7  # 0.07 * 100 is a little more


def test_rates_follow_the_schedule_in_time():
    full, short = in_share(net(callbacks=scheduled("steps")), 0.2)
    means = used(full, "lr").reshape(len(used(short, "lr")), -1).mean(1)
    raises = used(short, "lr") / means
    np.testing.assert_allclose(raises[2:11], raises[2])
    assert 5 <= raises[2] < 6


def test_the_raise_begins_and_ends_gently():
    _, short = in_share(net(), 0.2)
    raises = used(short, "lr") / 0.1
    assert 2 < raises[0] < raises[1] < raises[2]
    np.testing.assert_allclose(raises[2:11], raises[2])
    assert (np.diff(raises[10:]) <= 1e-9).all()
    assert 5 < raises[2] < 6.5
    assert raises[-1] < 1


def test_betas_forget_as_fast_in_time_and_those_that_a_schedule_moves_are_those_in_the_middle():
    full, short = in_share(net(torch.optim.Adam, callbacks=scheduled("one cycle")), 0.25)
    betas = used(full, "betas")
    assert len(np.unique(betas[:, 0])) > 10
    np.testing.assert_allclose(used(short, "betas"), betas[2::4] ** 4, rtol=1e-9)


def test_momentum_of_sgd_is_kept():
    _, short = in_share(net(optimizer__momentum=0.9, optimizer__nesterov=True), 0.2)
    assert (used(short, "momentum") == 0.9).all()
    _, cycled = in_share(net(callbacks=scheduled("one cycle"), optimizer__momentum=0.9), 0.25)
    assert used(cycled, "momentum").min() < 0.86
    assert used(cycled, "momentum").max() <= 0.95


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize(
    ("optimizer", "decay", "near"),
    [(torch.optim.AdamW, 0.7, 1e-6), (torch.optim.SGD, 0.05, 0.05)],
    ids=["AdamW", "SGD"],
)
def test_decay_leaves_as_much_of_parameters_without_data(schedule, optimizer, decay, near):
    full, short = in_share(net(optimizer, callbacks=scheduled(schedule), optimizer__weight_decay=decay), 0.2)
    w = full.start.parameters
    torch.testing.assert_close(short.start.ghost(), full.start.ghost(), rtol=near, atol=1e-7)
    assert not torch.allclose(full.start.ghost(), w, rtol=0.1)


def test_each_parameter_group_follows_its_own_rates():
    groups = [("body.0.*", {"lr": 0.02, "weight_decay": 0.1})]
    full, short = in_share(net(callbacks=scheduled("cosine"), optimizer__param_groups=groups), 0.3)
    for group in (0, 1):
        np.testing.assert_allclose(used(short, "lr", group).sum(), used(full, "lr", group).sum(), rtol=1e-9)
    assert short.start.phases[0].groups[0].fixed["weight_decay"] == 0.1
    assert short.start.phases[0].groups[1].fixed["weight_decay"] == 0


def test_fewer_rows_end_a_schedule_by_batches_earlier_as_a_full_training_does():
    built = net(callbacks=scheduled("cosine by batch"))
    schedule = trained(built).start.schedule
    few = {"X": X[:60], "y": y[:60]}
    full, short = trained(built, **few), trained(built, Pace(schedule, 0.25, 4.0), **few)
    np.testing.assert_allclose(used(short, "lr").sum(), used(full, "lr").sum(), rtol=1e-9)
    assert used(short, "lr")[-4] > 0.1


def test_what_steers_is_left_out_and_all_else_stays():
    class Watcher(GradientNormClipping):
        n_batches = 0

        def on_grad_computed(self, net, named_parameters, **kwargs):
            self.n_batches += 1
            return super().on_grad_computed(net, named_parameters, **kwargs)

    stop = EarlyStopping(monitor="train_loss", patience=1, threshold=10.0)
    built = net(callbacks=[("clip", Watcher(1.0)), ("freeze", Freezer("body.0.bias"))])
    full, short = in_share(built, 0.5)
    assert (
        len(short.start.parameters) == len(full.start.parameters) == sum(p.numel() for p in Mlp(3, 2).parameters()) - 5
    )
    assert dict(short.net.callbacks_)["clip"].n_batches == full.start.n_steps + short.start.n_steps
    built = net(callbacks=[("stop", stop)])
    short = trained(built, Pace(full.start.schedule, 0.5, 2.0))
    assert short.start.n_steps == round(0.5 * EPOCHS * PER_EPOCH)
    assert "stop" in dict(short.net.callbacks_)


def test_weights_roles_and_held_out_rows_are_those_of_any_training():
    weight = rng.uniform(0.5, 2, size=len(X))
    weight[:5] = 0
    _, short = in_share(net(train_split=ValidSplit(0.2, random_state=0)), 0.3, weight=weight)
    assert (short.role[:5] == RowRole.UNSEEN).all()
    assert (short.role == RowRole.VALIDATED).sum() == 23
    assert (short.role == RowRole.TRAINED).sum() == 92
    _, doubled = in_share(net(train_split=ValidSplit(0.2, random_state=0)), 0.3)
    states = [each.net.module_.state_dict()["body.0.weight"] for each in (short, doubled)]
    assert not torch.equal(*states)


def test_rows_of_a_first_epoch_that_is_not_finished_are_not_trained_on():
    _, short = in_share(net(), 0.05)
    assert (short.role == RowRole.TRAINED).sum() == BATCH * round(0.05 * EPOCHS * PER_EPOCH)
    assert (short.role == RowRole.UNSEEN).any()


def test_a_training_that_a_callback_ended_is_followed_as_far_as_it_went():
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=10.0, lower_is_better=True)
    full = trained(net(callbacks=[("stop", stop)]))
    assert full.start.schedule.ended_early
    assert full.start.schedule.n_epochs < EPOCHS
    short = trained(net(), Pace(full.start.schedule, 0.5, 2.0))
    assert short.paced.n_full == full.start.n_steps


def test_batches_whose_gradients_are_summed_count_as_batches():
    class Accumulating(NeuralNetClassifier):
        def train_step(self, batch, **fit_params):
            self.seen = getattr(self, "seen", 0) + 1
            step = self.train_step_single(batch, **fit_params)
            if self.seen % 2 == 0:
                self.optimizer_.step()
                self.optimizer_.zero_grad()
            return step

    built = Accumulating(
        Mlp, criterion=nn.CrossEntropyLoss, module__n_features_in=3, module__n_outputs=2, lr=0.1, max_epochs=EPOCHS,
        batch_size=BATCH, train_split=None, verbose=0, callbacks=scheduled("cosine"),
    )  # fmt: skip
    full, short = in_share(built, 0.5)
    assert 2 * short.start.n_steps == short.paced.n_steps == round(0.5 * EPOCHS * PER_EPOCH)
    np.testing.assert_allclose(used(short, "lr").sum(), used(full, "lr").sum(), rtol=0.1)


def test_settings_of_other_optimisers():
    assert longer_step(torch.optim.RMSprop, {"lr": 0.1, "alpha": 0.9}, 2.0)["alpha"] == pytest.approx(0.81)
    assert longer_step(torch.optim.Adadelta, {"lr": 1.0, "rho": 0.9}, 2.0)["rho"] == pytest.approx(0.81)
    assert longer_step(torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.0}, 4.0)["lr"] == pytest.approx(0.2)
    nadam = longer_step(torch.optim.NAdam, {"lr": 0.1, "betas": (0.9, 0.99), "momentum_decay": 0.004}, 2.0)
    assert nadam["momentum_decay"] == pytest.approx(0.008)


@pytest.mark.parametrize("kind", ["Adagrad", "RMSprop", "Adadelta", "NAdam", "RAdam", "Adamax", "AdamW"])
def test_other_optimisers_learn_about_as_much_in_fewer_steps(kind):
    lr = {"Adadelta": 1.0, "Adagrad": 0.1}.get(kind, 0.01)
    full, short = in_share(net(getattr(torch.optim, kind), lr=lr, max_epochs=30), 0.25)
    losses = [each.net.history[-1, "train_loss"] for each in (full, short)]
    start = full.net.history[0, "train_loss"]
    assert losses[0] < start
    assert abs(losses[1] - losses[0]) < 0.35 * (start - losses[0]) + 0.02


@pytest.mark.parametrize("kind", ["LBFGS", "Rprop"])
def test_optimisers_that_find_their_own_length_are_refused(kind):
    schedule = trained(net()).start.schedule
    with pytest.raises(ValueError, match=f"steps of {kind} find their length themselves; use share=1.0"):
        trained(net(getattr(torch.optim, kind)), Pace(schedule, 0.5, 2.0))


def test_another_optimiser_than_that_of_the_schedule_is_refused():
    schedule = trained(net()).start.schedule
    for built in (net(torch.optim.Adam), net(optimizer__param_groups=[("body.0.*", {"lr": 0.02})])):
        with pytest.raises(ValueError, match="another optimiser or other parameter groups"):
            trained(built, Pace(schedule, 0.5, 2.0))


def test_batches_of_its_own_are_refused():
    class OwnBatches(NeuralNetClassifier):
        def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
            return super().run_single_epoch([(torch.from_numpy(X), torch.from_numpy(y))], training, prefix, step_fn)

    schedule: Schedule = trained(net()).start.schedule
    built = OwnBatches(
        Mlp, criterion=nn.CrossEntropyLoss, module__n_features_in=3, module__n_outputs=2, train_split=None, verbose=0
    )
    with pytest.raises(ValueError, match="counts the batches that get_iterator of the net gives out"):
        trained(built, Pace(schedule, 0.5, 2.0))


def test_the_net_is_left_as_any_training_leaves_it():
    _, short = in_share(net(callbacks=scheduled("cosine")), 0.5)
    assert not short.net.optimizer_._optimizer_step_pre_hooks
    assert "schedule" in dict(short.net.callbacks_)
    assert "get_iterator" not in vars(short.net)
