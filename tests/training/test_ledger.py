"""The row ledger: which rows entered a gradient, and that recording it changes nothing."""

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Initializer,
    LRScheduler,
)
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset, WeightedRandomSampler, default_collate

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.references import fit_many
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.rows import RowRole, TrainingSet
from sk_unlearn.training.ledger import train
from sk_unlearn.unlearners import FineTune, HessianFreeRecording, Retrain, RewindToDelete, Status, StoCuReNU
from tests import _problems
from tests._problems import affine, parameters, skorch_net

TRAINED, VALIDATED, UNSEEN = RowRole.TRAINED, RowRole.VALIDATED, RowRole.UNSEEN


class Net(nn.Module):
    def __init__(self, n_features_in=3, n_outputs=2):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features_in, 5), nn.Dropout(0.2), nn.Tanh(), nn.Linear(5, n_outputs))

    def forward(self, X):
        return self.body(X)


def net(module=Net, kind=NeuralNetClassifier, **settings):
    """One that holds out a fifth of its rows, as skorch does unless told otherwise."""
    defaults = {"max_epochs": 3, "lr": 0.2, "batch_size": 8, "train_split": ValidSplit(5, stratified=True)}
    return skorch_net(module, kind, **(defaults | settings))


rng = np.random.default_rng(0)
X = rng.normal(size=(50, 3)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)


def estimator(unlearner=None, **settings):
    return UnlearnableClassifier(net(**settings), unlearner, random_state=0)


# ------------------------------------------------------------------------------------------------------------- roles


def test_default_train_split_holds_out_a_fifth():
    est = estimator().fit(X, y)
    assert np.bincount(est.training_set_.role, minlength=3).tolist() == [40, 10, 0]
    assert est.training_set_.n_trained == 40


def test_no_split_trains_on_all():
    role = estimator(train_split=None).fit(X, y).training_set_.role
    assert (role == TRAINED).all()


def test_split_that_shuffles_is_followed():
    est = estimator(train_split=ValidSplit(0.2, stratified=True, random_state=3)).fit(X, y)
    wanted = np.full(50, VALIDATED)
    split = ValidSplit(0.2, stratified=True, random_state=3)(SkorchDataset(X, y), y)
    wanted[split[0].indices] = TRAINED
    np.testing.assert_array_equal(est.training_set_.role, wanted)


def test_drop_last_leaves_rows_unseen():
    est = estimator(train_split=None, iterator_train__drop_last=True).fit(X, y)
    np.testing.assert_array_equal(est.training_set_.role, [TRAINED] * 48 + [UNSEEN] * 2)
    before = parameters(est)
    est.forget(X[48:])
    assert np.array_equal(before, parameters(est))
    assert est.unlearning_report_.n_trained_erased == 0


def test_drop_last_with_shuffling_sees_nearly_all():
    role = estimator(train_split=None, iterator_train__drop_last=True, iterator_train__shuffle=True, max_epochs=20)
    assert (role.fit(X, y).training_set_.role == TRAINED).all()


def test_sampler_that_leaves_rows_out():
    weights = torch.tensor([0.0] * 10 + [1.0] * 40)
    sampler = WeightedRandomSampler(weights, 200, generator=torch.Generator().manual_seed(0))
    est = estimator(train_split=None, iterator_train__sampler=sampler).fit(X, y)
    np.testing.assert_array_equal(est.training_set_.role, [UNSEEN] * 10 + [TRAINED] * 40)


def test_validation_on_other_data_holds_out_nothing():
    foreign = SkorchDataset(X[:5] + 1, y[:5])
    est = estimator(train_split=predefined_split(foreign)).fit(X, y)
    assert (est.training_set_.role == TRAINED).all()


def test_rows_that_are_validated_on_as_well_are_trained():
    est = estimator(train_split=lambda dataset, y=None, **kwargs: (dataset, dataset)).fit(X, y)
    assert (est.training_set_.role == TRAINED).all()


def test_rows_of_weight_zero_are_unseen():
    weight = np.ones(50)
    weight[::5] = 0
    role = estimator(train_split=None).fit(X, y, sample_weight=weight).training_set_.role
    np.testing.assert_array_equal(role, np.where(weight > 0, TRAINED, UNSEEN))


# ------------------------------------------------------------------------------------------- forgetting held-out rows


def test_held_out_row_leaves_the_store_and_moves_nothing():
    est = estimator().fit(X, y)
    held_out = np.flatnonzero(est.training_set_.role == VALIDATED)
    before = parameters(est)
    est.forget(X[held_out[:4]])
    report = est.unlearning_report_
    assert np.array_equal(before, parameters(est))
    assert (report.n_erased, report.n_trained_erased, report.n_retained) == (4, 0, 46)
    assert not report.parameters_moved
    assert report.status is Status.NOTHING_TO_UNDO
    assert "no row in the request had entered a gradient" in report.stop_reason
    assert report.notes == []
    assert len(est.training_set_) == 46
    with pytest.raises(ValueError, match="1 of 1 rows"):
        est.forget(X[held_out[:1]])


@pytest.mark.parametrize(
    "callback",
    [
        EarlyStopping(monitor="valid_loss", patience=5),
        Checkpoint(monitor="valid_loss_best", load_best=True),
        LRScheduler("ReduceLROnPlateau", monitor="valid_loss"),
        LRScheduler("ReduceLROnPlateau", monitor=lambda net: net.history[-1, "valid_loss"]),
    ],
    ids=["EarlyStopping", "Checkpoint", "LRScheduler", "callable"],
)
def test_note_where_validation_rows_chose(callback, tmp_path):
    if isinstance(callback, Checkpoint):
        callback = Checkpoint(monitor="valid_loss_best", load_best=True, dirname=str(tmp_path))
    est = estimator(StoCuReNU(renew=False), callbacks=[("chooser", callback)]).fit(X, y)
    role = est.training_set_.role
    validated, trained = np.flatnonzero(role == VALIDATED), np.flatnonzero(role == TRAINED)
    before = parameters(est)
    (note,) = est.forget(X[validated[:2]]).unlearning_report_.notes
    assert note.startswith("2 of the rows were held out for validation")
    assert np.array_equal(before, parameters(est))
    # Beside rows that were trained on, too; and not without any.
    (note,) = est.forget(X[[validated[2], *trained[:3]]]).unlearning_report_.notes
    assert note.startswith("1 of the rows")
    assert est.forget(X[trained[3:5]]).unlearning_report_.notes == []


@pytest.mark.parametrize(
    "callback",
    [
        EarlyStopping(monitor="train_loss", patience=5),
        Checkpoint(f_params=None, f_optimizer=None, f_criterion=None, f_history=None),
    ],
    ids=["on training rows", "only saves"],
)  # fmt: skip
def test_no_note_where_they_did_not(callback):
    est = estimator(callbacks=[("harmless", callback)]).fit(X, y)
    validated = np.flatnonzero(est.training_set_.role == VALIDATED)
    assert est.forget(X[validated[:2]]).unlearning_report_.notes == []


def test_unseen_rows_are_not_called_validated():
    settings = {"iterator_train__drop_last": True, "callbacks": [("stop", EarlyStopping(patience=5))]}
    est = estimator(**settings).fit(X[:49], y[:49])
    unseen = np.flatnonzero(est.training_set_.role == UNSEEN)
    assert len(unseen)
    assert est.forget(X[unseen]).unlearning_report_.notes == []


def test_early_stopping_that_stops_is_no_interruption():
    est = estimator(max_epochs=50, callbacks=[("stop", EarlyStopping(monitor="train_loss", patience=1, threshold=10))])
    est.fit(X, y)
    assert len(est.net_.history) < 50
    est.set_params(unlearner=Retrain()).forget(X[-2:])
    assert est.unlearning_report_.parameters_moved


# --------------------------------------------------------------------------------------------- roles after retraining


def test_retraining_renews_the_roles():
    # Fewer rows are split elsewhere: the ledger must say what the net that is there now has seen.
    est = estimator(Retrain(), train_split=ValidSplit(5)).fit(X, y)
    trained = np.flatnonzero(est.training_set_.role == TRAINED)
    gone = trained[-25:]
    est.forget(X[gone])
    left = np.setdiff1d(np.arange(50), gone)
    fresh = estimator(train_split=ValidSplit(5)).fit(X[left], y[left])
    assert np.array_equal(parameters(est), parameters(fresh))
    np.testing.assert_array_equal(est.training_set_.role, fresh.training_set_.role)
    assert est.training_set_.n_trained == fresh.training_set_.n_trained
    # Rows that were held out at first and are trained on now can be forgotten for real.
    now_trained = np.flatnonzero(est.training_set_.role == TRAINED)[:1]
    est.forget(X[left][now_trained])
    assert est.unlearning_report_.n_trained_erased == 1


def test_roles_are_as_before_when_the_commit_fails(monkeypatch):
    est = estimator(Retrain(), train_split=ValidSplit(5)).fit(X, y)
    role = est.training_set_.role

    def fail(self, **changes):
        raise MemoryError

    monkeypatch.setattr(TrainingSet, "plan", fail)
    with pytest.raises(MemoryError):
        est.forget(X[-25:])
    np.testing.assert_array_equal(est.training_set_.role, role)


def test_finetuning_keeps_the_roles():
    est = estimator(FineTune(), train_split=ValidSplit(5)).fit(X, y)
    role = est.training_set_.role
    gone = np.flatnonzero(role == TRAINED)[:3]
    est.forget(X[gone])
    np.testing.assert_array_equal(est.training_set_.role, np.delete(role, gone))


# ------------------------------------------------------------------------------------------------ nothing is disturbed


class Halved(torch.utils.data.Dataset):
    """A dataset of the user's own."""

    def __init__(self, X, y=None, factor=0.5):
        self.X, self.y, self.factor = X, y, factor

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return torch.as_tensor(self.X[i]) * self.factor, 0 if self.y is None else int(self.y[i])


class CountingLoader(DataLoader):
    """A loader of the user's own."""


def doubled_collate(items):
    inputs, targets = default_collate(items)
    return inputs * 2, targets


class OwnNet(NeuralNetClassifier):
    """A subclass that overrides what it may."""

    def train_step_single(self, batch, **fit_params):
        self.n_steps = getattr(self, "n_steps", 0) + 1
        return super().train_step_single(batch, **fit_params)

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return super().get_loss(y_pred, y_true, *args, **kwargs) + 0.01 * sum(
            p.abs().sum() for p in self.module_.parameters()
        )


VARIANTS = {
    "plain": {},
    "no split": {"train_split": None},
    "shuffle": {"iterator_train__shuffle": True},
    "random sampler": {"train_split": None, "iterator_train__sampler": RandomSampler(range(50), num_samples=20)},
    "drop_last": {"train_split": None, "iterator_train__drop_last": True},
    "full batch": {"batch_size": -1},
    "own collate": {"iterator_train__collate_fn": doubled_collate},
    "own collate for both": {
        "iterator_train__collate_fn": doubled_collate, "iterator_valid__collate_fn": doubled_collate
    },
    "own dataset": {"dataset": Halved},
    "own dataset with parameters": {"dataset": Halved, "dataset__factor": 0.25},
    "own loader": {"iterator_train": CountingLoader},
    "adam with callbacks": {
        "optimizer": torch.optim.Adam,
        "callbacks": [("lr", LRScheduler("CosineAnnealingLR", T_max=3))],
    },
    "class weights": {"criterion__weight": torch.tensor([1.0, 3.0])},
}  # fmt: skip


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_bit_identical_to_plain_skorch(settings):
    torch.manual_seed(7)
    plain = net(**settings).initialize()
    state = torch.random.get_rng_state()
    plain.partial_fit(X, y)
    torch.manual_seed(7)
    recorded = net(**settings).initialize()
    torch.random.set_rng_state(state)
    train(recorded, X, y, None)
    assert torch.equal(flat_parameters(plain), flat_parameters(recorded))
    for column in ("train_loss", "valid_loss", "valid_acc"):
        if column in plain.history[0]:
            assert plain.history[:, column] == recorded.history[:, column]
    assert vars(plain).keys() == vars(recorded).keys()


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_fit_and_forget_with(settings):
    est = estimator(**settings).fit(X, y)
    trained = np.flatnonzero(est.training_set_.role == TRAINED)[:3]
    before = parameters(est)
    est.forget(X[trained])
    assert est.unlearning_report_.n_trained_erased == 3
    assert not np.array_equal(before, parameters(est))
    assert np.isfinite(est.predict_proba(X)).all()


def test_estimator_is_bit_identical_to_plain_skorch():
    est = estimator().fit(X, y)
    torch.manual_seed(est.unlearning_state_.seed)
    plain = net().fit(X, y)
    assert torch.equal(flat_parameters(plain), flat_parameters(est.net_))


def test_own_subclass_keeps_working():
    own = OwnNet(Net, criterion=nn.CrossEntropyLoss, max_epochs=2, batch_size=8, train_split=None, verbose=0)
    est = UnlearnableClassifier(own, random_state=0).fit(X, y)
    assert est.net_.n_steps == 14
    assert est.forget(X[:3]).unlearning_report_.parameters_moved


def test_worker_processes():
    est = estimator(iterator_train__num_workers=1, max_epochs=1, batch_size=25, train_split=None).fit(X, y)
    same = estimator(max_epochs=1, batch_size=25, train_split=None).fit(X, y)
    assert (est.training_set_.role == TRAINED).all()
    # Starting workers draws a seed: dropout differs, the rows do not.
    assert est.net_.history[-1, "train_batch_count"] == same.net_.history[-1, "train_batch_count"]
    est.forget(X[:2])


def test_nothing_of_the_ledger_stays_in_the_net():
    est = estimator().fit(X, y)
    assert not {"get_dataset", "get_iterator", "get_loss"} & vars(est.net_).keys()
    assert "collate_fn" not in est.net_.get_params_for("iterator_train")


def test_iterator_that_cannot_be_recorded_is_refused():
    class Loader:
        def __init__(self, dataset, batch_size=1):
            raise AssertionError("not reached")

    with pytest.raises(TypeError, match=r"iterator_train.*DataLoader"):
        estimator(iterator_train=Loader, train_split=None).fit(X, y)


class Sliced(DataLoader):
    """Slices the arrays, as fast loaders do, and asks neither the dataset nor collate_fn for its items."""

    def __iter__(self):
        for start in range(0, len(self.dataset), self.batch_size):
            rows = slice(start, start + self.batch_size)
            yield torch.from_numpy(self.dataset.X[rows]), torch.from_numpy(self.dataset.y[rows])


class Stacked(DataLoader):
    """Stacks the items itself."""

    def __iter__(self):
        inputs, targets = zip(*(self.dataset[i] for i in range(len(self.dataset))), strict=True)
        yield torch.from_numpy(np.stack(inputs)), torch.from_numpy(np.stack(targets))


class Counting(DataLoader):
    """Has its batches made as usual."""

    def __iter__(self):
        yield from super().__iter__()


@pytest.mark.parametrize("loader", [Sliced, Stacked])
def test_a_loader_that_makes_its_own_batches_is_refused_before_the_first_step(loader):
    class NoStep(Callback):
        def on_batch_begin(self, net, **kwargs):
            raise AssertionError("a batch was trained on")

    with pytest.raises(TypeError, match=rf"{loader.__name__} has an __iter__ of its own.*super\(\).__iter__\(\)"):
        estimator(iterator_train=loader, train_split=None, callbacks=[NoStep()]).fit(X, y)


def test_a_loader_that_hands_its_batches_on_is_recorded():
    est = estimator(iterator_train=Counting, train_split=None).fit(X, y)
    assert est.training_set_.trained_mask.all()


def test_dataset_with_another_number_of_items_is_refused():
    class Twice(TensorDataset):
        def __init__(self, X, y=None):
            super().__init__(torch.as_tensor(np.concatenate([X, X])))

    with pytest.raises(TypeError, match="one item a row"):
        estimator(dataset=Twice, train_split=None).fit(X, y)


# ------------------------------------------------------------------------------------------------------ sample weights


AFFINE, LOGITS = affine(3), nn.Linear(3, 2)


def regressor():
    return _problems.regressor(None, AFFINE, max_epochs=30, batch_size=-1, lr=0.2, optimizer__weight_decay=0.01)


target = (X @ [1.0, -1.0, 0.5] + 0.3 * rng.normal(size=50)).astype(np.float64)


@pytest.mark.parametrize("weight", [np.ones(50), [1] * 50, 1.0])
def test_weights_of_one_change_nothing(weight):
    plain, weighted = estimator().fit(X, y), estimator().fit(X, y, sample_weight=weight)
    assert np.array_equal(parameters(plain), parameters(weighted))
    assert weighted.training_set_.sample_weight is None
    assert np.array_equal(parameters(plain.forget(X[-3:])), parameters(weighted.forget(X[-3:])))


def test_integer_weight_is_a_repeated_row():
    weight = rng.integers(1, 4, size=50)
    weighted = regressor().fit(X, target, sample_weight=weight)
    repeated = regressor().fit(np.repeat(X, weight, axis=0), np.repeat(target, weight))
    np.testing.assert_allclose(parameters(weighted), parameters(repeated), rtol=0, atol=1e-12)
    # Repeated rows go together, as the one row of their weight does.
    np.testing.assert_allclose(
        parameters(weighted.forget(X[:5])), parameters(repeated.forget(X[:5])), rtol=0, atol=1e-9
    )
    assert weighted.unlearning_report_.n_erased == 5
    assert repeated.unlearning_report_.n_erased == weight[:5].sum()


def test_integer_weight_is_a_repeated_row_with_class_weights():
    weight = rng.integers(1, 4, size=50)
    settings = {
        "batch_size": -1, "train_split": None, "criterion__weight": torch.tensor([1.0, 4.0]), "module": LOGITS,
    }  # fmt: skip
    weighted = estimator(**settings).fit(X, y, sample_weight=weight)
    repeated = estimator(**settings).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_allclose(parameters(weighted), parameters(repeated), rtol=0, atol=1e-5)


def test_weight_zero_is_a_removed_row():
    weight = np.ones(50)
    weight[::4] = 0
    weighted = estimator(train_split=None).fit(X, y, sample_weight=weight)
    removed = estimator(train_split=None).fit(X[weight > 0], y[weight > 0])
    assert np.array_equal(parameters(weighted), parameters(removed))
    # It is stored all the same, and can be asked for.
    assert len(weighted.training_set_) == 50
    weighted.forget(X[:1])


def test_scale_of_the_weights_does_not_matter():
    one, ten = (regressor().fit(X, target, sample_weight=np.arange(1, 51) * k) for k in (1.0, 10.0))
    np.testing.assert_allclose(parameters(one), parameters(ten), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("weight", "message"),
    [(np.zeros(50), "zero"), (-np.ones(50), "[Nn]egative"), (np.ones(49), "shape|samples"),
     (np.full(50, np.nan), "NaN")],
)  # fmt: skip
def test_weights_that_make_no_sense(weight, message):
    with pytest.raises(ValueError, match=message):
        estimator().fit(X, y, sample_weight=weight)


# ------------------------------------------------------------------------------------------- training loops of the user


class PlainLoop(NeuralNetClassifier):
    """Trains in plain torch, on datasets and loaders of its own."""

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        loader = DataLoader(self.get_dataset(X, y), batch_size=10)
        for _ in range(self.max_epochs if epochs is None else epochs):
            for Xi, yi in loader:
                self.optimizer_.zero_grad()
                self.criterion_(self.module_(Xi), yi).backward()
                self.optimizer_.step()
        return self


def polish(net, X, y):
    """A few steps of L-BFGS over all rows."""
    parameters = list(net.module_.parameters())
    optimiser = torch.optim.LBFGS(parameters, max_iter=3)
    net.module_.eval()

    def closure():
        optimiser.zero_grad()
        loss = net.criterion_(net.module_(torch.as_tensor(X)), torch.as_tensor(y))
        loss.backward()
        return loss

    optimiser.step(closure)


class PolishedInLoop(NeuralNetClassifier):
    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        super().fit_loop(X, y, epochs=epochs, **fit_params)
        polish(self, X, y)
        return self


class PolishedAtEnd(NeuralNetClassifier):
    def on_train_end(self, net, X=None, y=None, **kwargs):
        polish(self, X, y)


class PolishedInBetween(Callback):
    def on_epoch_end(self, net, dataset_train=None, **kwargs):
        if len(net.history) == 1:
            polish(net, X, y)


class AllRowsOverValidationLoader(NeuralNetClassifier):
    """Takes gradients over batches that are handed out as if to validate."""

    def on_train_end(self, net, X=None, y=None, **kwargs):
        for Xi, yi in self.get_iterator(self.get_dataset(X, y), training=False):
            self.train_step((Xi, yi))


class OtherRows(NeuralNetClassifier):
    """Trains on an array of its own making, in another order."""

    def fit_loop(self, X, y=None, **fit_params):
        return super().fit_loop(X[::-1].copy(), y[::-1].copy(), **fit_params)


class LoaderOfItsOwn(NeuralNetClassifier):
    def get_iterator(self, dataset, training=False):
        return DataLoader(dataset, batch_size=7)


class Averaging(Callback):
    """Leaves the average of the weights over the epochs."""

    def on_train_begin(self, net, **kwargs):
        self.sums = [torch.zeros_like(p) for p in net.module_.parameters()]

    def on_epoch_end(self, net, **kwargs):
        for total, p in zip(self.sums, net.module_.parameters(), strict=True):
            total += p.detach()

    def on_train_end(self, net, **kwargs):
        with torch.no_grad():
            for total, p in zip(self.sums, net.module_.parameters(), strict=True):
                p.copy_(total / len(net.history))


LOOPS = {
    "plain torch": {"kind": PlainLoop},
    "polish in fit_loop": {"kind": PolishedInLoop},
    "polish in on_train_end": {"kind": PolishedAtEnd},
    "polish between epochs": {"callbacks": [("polish", PolishedInBetween)]},
    "gradients of validation batches": {"kind": AllRowsOverValidationLoader},
    "rows in another order": {"kind": OtherRows},
    "own loader": {"kind": LoaderOfItsOwn},
    "average": {"callbacks": [("average", Averaging)]},
}


@pytest.mark.parametrize("settings", LOOPS.values(), ids=LOOPS)
def test_rows_whose_use_was_not_recorded_count_as_trained(settings):
    est = estimator(**settings).fit(X, y)
    assert (est.training_set_.role == TRAINED).all()
    # Those that the split holds out, too: nothing says that they were not used.
    held_out = np.flatnonzero(estimator().fit(X, y).training_set_.role == VALIDATED)[:3]
    assert 49 not in held_out
    before = parameters(est)
    report = est.forget(X[held_out]).unlearning_report_
    assert report.n_trained_erased == 3
    assert not np.array_equal(before, parameters(est))
    assert any("all rows are counted as trained" in note for note in report.notes)
    # As long as the estimator lives, every report says so.
    assert any("all rows are counted as trained" in note for note in est.forget(X[-1:]).unlearning_report_.notes)


def test_the_note_tells_an_own_loop_from_a_polish():
    (note,) = estimator(kind=PlainLoop).fit(X, y).forget(X[:1]).unlearning_report_.notes
    assert "own training loop did not go through get_iterator" in note
    (note,) = estimator(kind=PolishedAtEnd).fit(X, y).forget(X[:1]).unlearning_report_.notes
    assert "outside the batches that get_iterator gave out" in note


def test_own_loop_forgets_as_the_same_training_by_skorch_does():
    own = estimator(StoCuReNU(renew=False), kind=PlainLoop, train_split=None, batch_size=10).fit(X, y)
    usual = estimator(StoCuReNU(renew=False), train_split=None, batch_size=10).fit(X, y)
    assert np.array_equal(own.forget(X[:3]).net_.predict_proba(X), usual.forget(X[:3]).net_.predict_proba(X))


def test_retraining_brings_a_note_of_its_own():
    # Handed over as trained, the net says nothing of how; retrained by its own loop, it does.
    usual = estimator(train_split=None).fit(X, y)
    settings = {"unlearner": Retrain(), "estimator": net(kind=PlainLoop), "random_state": 0}
    est = UnlearnableClassifier.from_fitted(usual.net_, X, y, **settings)
    for row in range(2):
        (note,) = est.forget(X[[row]]).unlearning_report_.notes
        assert "own training loop" in note
    est.set_params(estimator=net(train_split=None)).forget(X[2:3])
    assert est.unlearning_report_.notes == []


def test_own_loop_in_partial_fit():
    est = estimator(kind=PlainLoop).partial_fit(X[:30], y[:30]).partial_fit(X[30:], y[30:])
    assert est.forget(X[[0, 40]]).unlearning_report_.n_trained_erased == 2
    assert any("own training loop" in note for note in est.unlearning_report_.notes)


def test_own_loop_that_cannot_honour_weights_is_refused():
    with pytest.raises(ValueError, match=r"sample_weight cannot be honoured.*get_iterator"):
        estimator(kind=PlainLoop).fit(X, y, sample_weight=np.arange(1, 51))
    # Rows of weight zero are not handed to the loop.
    est = estimator(kind=PlainLoop).fit(X, y, sample_weight=np.r_[np.zeros(5), np.ones(45)])
    np.testing.assert_array_equal(est.training_set_.role, [UNSEEN] * 5 + [TRAINED] * 45)


def test_own_loop_under_an_unlearner_that_records_is_refused():
    with pytest.raises(ValueError, match="records the training"):
        estimator(RewindToDelete(), kind=PlainLoop).fit(X, y)


class Restoring(Callback):
    """Puts back the parameters after the first epoch."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 1:
            self.best = [p.detach().clone() for p in net.module_.parameters()]

    def on_train_end(self, net, **kwargs):
        with torch.no_grad():
            for best, p in zip(self.best, net.module_.parameters(), strict=True):
                p.copy_(best)


BEST = {
    "Checkpoint": lambda path: Checkpoint(monitor="train_loss_best", load_best=True, dirname=path),
    "EarlyStopping": lambda path: EarlyStopping(patience=1, threshold=10, load_best=True),
    "own": lambda path: Restoring(),
    "Initializer": lambda path: Initializer("*weight", fn=nn.init.orthogonal_),
}


@pytest.mark.parametrize("callback", BEST.values(), ids=BEST)
def test_best_weights_and_initial_weights_are_no_polish(callback, tmp_path):
    est = estimator(max_epochs=5, callbacks=[("best", callback(str(tmp_path)))]).fit(X, y)
    assert np.bincount(est.training_set_.role, minlength=3).tolist() == [40, 10, 0]
    assert not any("counted as trained" in note for note in est.forget(X[:1]).unlearning_report_.notes)


def test_where_all_rows_were_recorded_a_polish_needs_no_note():
    est = estimator(kind=PolishedAtEnd, train_split=None).fit(X, y)
    assert est.forget(X[:3]).unlearning_report_.notes == []


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"max_epochs": 0},
        {"train_split": None, "batch_size": 60, "iterator_train__drop_last": True, "callbacks": "disable"},
    ],
)
def test_training_on_no_row_is_refused(settings, memory, tmp_path):  # fmt: skip
    est = estimator(**settings).set_params(memory=str(tmp_path) if memory else None)
    with pytest.raises(ValueError, match=r"No row entered a gradient.*from_fitted"):
        est.fit(X, y)
    assert not hasattr(est, "net_")


def test_many_trainings_on_no_row_are_refused():
    with pytest.raises(ValueError, match="No row entered a gradient"):
        fit_many(estimator(max_epochs=0, train_split=None), X, y, seeds=[0, 1])


class OverridesFit(NeuralNetClassifier):
    def fit(self, X, y=None, **fit_params):
        raise AssertionError("not reached")


class OverridesBoth(OverridesFit):
    def partial_fit(self, X, y=None, classes=None, **fit_params):
        raise AssertionError("not reached")


@pytest.mark.parametrize("verb", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("kind", "names"), [(OverridesFit, r"^fit of OverridesFit"), (OverridesBoth, r"^fit and partial_fit of")]
)
def test_methods_that_will_not_be_called_are_named(kind, names, verb):
    with pytest.warns(UserWarning, match=names + r".* will not be called: .*fit_loop"):
        est = getattr(estimator(kind=kind), verb)(X, y)
    est.forget(X[:1])  # says nothing more


# ---------------------------------------------------------------------------------- callbacks that look at other things


class Looks(Callback):
    """Predicts and scores on rows of its own, and iterates over them, whenever it can."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def look(self, net):
        net.predict(self.X)
        net.score(self.X, self.y)
        for _ in net.get_iterator(net.get_dataset(self.X, self.y)):
            pass
        list(net.forward_iter(self.X, training=False))

    def on_train_begin(self, net, **kwargs):
        self.look(net)

    def on_epoch_end(self, net, **kwargs):
        self.look(net)

    def on_batch_end(self, net, **kwargs):
        self.look(net)


@pytest.mark.parametrize("n", [7, 50, 51])
@pytest.mark.parametrize("weight", [None, np.linspace(0.5, 1.5, 50)])
def test_callbacks_may_look_at_other_rows(n, weight):
    foreign = rng.normal(size=(n, 3)).astype(np.float32)
    settings = {"module": LOGITS, "train_split": None, "iterator_train__drop_last": True}
    est = estimator(**settings, callbacks=[("looks", Looks(foreign, np.arange(n) % 2))]).fit(X, y, weight)
    np.testing.assert_array_equal(est.training_set_.role, [TRAINED] * 48 + [UNSEEN] * 2)
    assert np.array_equal(parameters(est), parameters(estimator(**settings).fit(X, y, weight)))


def test_looking_at_the_own_rows_does_not_disturb_a_recorder():
    """It is told the rows of the present batch, also after another callback has looked at all of them meanwhile."""

    def forgetful(callbacks):
        settings = {"train_split": None, "module": LOGITS, "callbacks": callbacks}
        est = estimator(HessianFreeRecording(), **settings).fit(X, y)
        return parameters(est.forget(X[:3]))

    class LooksAtOwn(Looks):
        def on_train_begin(self, net, X, y, **kwargs):
            self.X, self.y = X, y

        def on_grad_computed(self, net, **kwargs):
            net.score(self.X, self.y)

    assert np.array_equal(forgetful([("looks", LooksAtOwn(None, None))]), forgetful(None))


SCORING = {
    "epoch, no cache": lambda: EpochScoring("accuracy", use_caching=False),
    "epoch, on training rows": lambda: EpochScoring("accuracy", on_train=True, use_caching=False, name="train_acc"),
    "epoch, cache": lambda: EpochScoring("neg_log_loss"),
    "batch": lambda: BatchScoring("accuracy"),
    "batch, no cache": lambda: BatchScoring("accuracy", use_caching=False, on_train=True, name="b"),
}


@pytest.mark.parametrize("split", ["own", "foreign", "foreign of equal length"])
@pytest.mark.parametrize("scoring", SCORING.values(), ids=SCORING)
def test_scoring_is_as_in_plain_skorch(scoring, split):
    foreign = SkorchDataset(X[: 50 if "equal" in split else 9] + 1, y[: 50 if "equal" in split else 9])
    settings = {} if split == "own" else {"train_split": predefined_split(foreign)}
    settings["callbacks"] = [("scoring", scoring())]
    torch.manual_seed(7)
    plain = net(**settings).initialize()
    state = torch.random.get_rng_state()
    plain.partial_fit(X, y)
    torch.manual_seed(7)
    recorded = net(**settings).initialize()
    torch.random.set_rng_state(state)
    ledger = train(recorded, X, y, None)
    name = plain.callbacks_[-2][1].name_
    assert plain.history[:, name] == recorded.history[:, name]
    assert np.bincount(ledger.role, minlength=3).tolist() == ([40, 10, 0] if split == "own" else [50, 0, 0])
    assert ledger.note == ""
