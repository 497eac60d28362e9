"""Running statistics after a request: moved by what the rows that went, and new parameters, change in them."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from sk_unlearn.estimators._batch_norm import renew_statistics
from sk_unlearn.estimators._request import Content
from sk_unlearn.unlearners import Status, Unlearner, UnlearningResult
from tests._problems import classifier

rng = np.random.default_rng(11)
X = (rng.normal(size=(60, 3)) * [1, 2, 0.5] + [0, 3, -1]).astype(np.float32)
y = (X[:, 0] > 0).astype(int)
# One pass over one batch: a plain average of training is then that over the rows.
ONE_BATCH = {"max_epochs": 1, "batch_size": 60, "lr": 0.0}


class Still(Unlearner):
    """Leaves the parameters where they are."""

    def unlearn(self, problem):
        return UnlearningResult(problem.parameters, Status.COMPLETED, "stood still")


class Shift(Unlearner):
    """Moves all parameters by a little."""

    def unlearn(self, problem):
        return UnlearningResult(problem.parameters + 0.01, Status.COMPLETED, "shifted")


def at_input(momentum=None):
    return nn.Sequential(nn.BatchNorm1d(3, momentum=momentum), nn.Linear(3, 2))


def deep(momentum=None):
    return nn.Sequential(
        nn.Linear(3, 6), nn.BatchNorm1d(6, momentum=momentum), nn.Tanh(), nn.Dropout(0.1),
        nn.Linear(6, 5), nn.BatchNorm1d(5, momentum=momentum), nn.Tanh(), nn.Linear(5, 2),
    )  # fmt: skip


def statistics(est):
    state = est.net_.module_.state_dict()
    return torch.cat([value for name, value in state.items() if "running" in name]).double().numpy()


def moments(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return np.concatenate([rows.mean(0), rows.var(0, ddof=1)])


def augmented(batch):
    inputs, targets = torch.utils.data.default_collate(batch)
    return 3 * inputs + 1, targets


def noisy(batch):
    inputs, targets = augmented(batch)
    return inputs + torch.randn_like(inputs) + random.random() + np.random.rand(), targets  # noqa: NPY002  as users' code draws


@pytest.mark.parametrize("n_erased", [1, 7, 40])
@pytest.mark.parametrize("collate", [None, augmented])
def test_statistics_are_those_over_the_rows_left(n_erased, collate):
    settings = ONE_BATCH if collate is None else ONE_BATCH | {"iterator_train__collate_fn": collate}
    est = classifier(Still(), at_input(), **settings).fit(X, y)
    shown = X if collate is None else 3 * X + 1
    np.testing.assert_allclose(statistics(est), moments(shown), rtol=1e-5)
    est.forget(X[:n_erased])
    np.testing.assert_allclose(statistics(est), moments(shown[n_erased:]), rtol=1e-5, atol=1e-6)
    est.correct(X[50:52], X_new=X[50:52] + 2)
    corrected = X.copy()
    corrected[50:52] += 2
    shown = corrected if collate is None else 3 * corrected + 1
    np.testing.assert_allclose(statistics(est), moments(shown[n_erased:]), rtol=1e-5, atol=1e-6)


def test_a_moving_average_moves_by_the_share_that_rows_have_in_it():
    # Three batches at momentum 0.1: 0.271 of each statistic is of rows, the rest is where it began.
    est = classifier(Still(), at_input(0.1), **ONE_BATCH | {"max_epochs": 3}).fit(X, y).forget(X[:20])
    share, began = 1 - 0.9**3, np.repeat([0.0, 1.0], 3)
    np.testing.assert_allclose(statistics(est), (1 - share) * began + share * moments(X[20:]), rtol=1e-5, atol=1e-6)


def test_without_stored_rows_the_statistics_themselves_are_the_average_to_undo():
    est = classifier(Still(), at_input(), keep_training_set=False, **ONE_BATCH).fit(X, y)
    est.partial_forget(X[:1], y[:1]).partial_forget(X[1:5], y[1:5])
    np.testing.assert_allclose(statistics(est), moments(X[5:]), rtol=1e-5, atol=1e-6)
    assert not any("BatchNorm" in note for report in est.unlearning_history_ for note in report.notes)


def test_without_stored_rows_layers_behind_others_stay_and_it_is_said():
    est = classifier(Still(), deep(0.1), keep_training_set=False, max_epochs=2, batch_size=16, lr=0.1).fit(X, y)
    before = statistics(est)
    est.partial_forget(X[:2], y[:2])
    np.testing.assert_array_equal(statistics(est)[12:], before[12:])
    assert (statistics(est)[:6] != before[:6]).all()
    assert any("keep_training_set=True" in note for note in est.unlearning_report_.notes)


def test_without_stored_rows_what_cannot_be_told_apart_stays_and_is_said():
    # Of a row so far out that most of the variance is its own, a difference of large numbers would be left.
    far = X.copy()
    far[0, 0] = 1e4
    est = classifier(Still(), at_input(), keep_training_set=False, **ONE_BATCH).fit(far, y)
    before = statistics(est)
    est.partial_forget(far[:1], y[:1])
    (note,) = [note for note in est.unlearning_report_.notes if "BatchNorm" in note]
    assert "keep_training_set=True" in note
    assert statistics(est)[0] == before[0]
    np.testing.assert_allclose(statistics(est)[[1, 2, 4, 5]], moments(far[1:])[[1, 2, 4, 5]], rtol=1e-5)


@pytest.mark.parametrize("module", [at_input, deep])
def test_nothing_changes_nothing(module):
    est = classifier(None, module(0.1), max_epochs=3, batch_size=16, lr=0.1).fit(X, y)
    fresh, empty = copy.deepcopy(est.net_), Content(X[:0], y[:0])
    assert renew_statistics(est.net_, fresh, n_kept=60, gone=empty, come=None, sample=Content(X[:40], y[:40]), seed=3)
    for name, value in est.net_.module_.state_dict().items():
        assert torch.equal(fresh.module_.state_dict()[name], value)
    before = statistics(est)
    est.set_params(unlearner=Still()).correct(X[:5], y_new=1 - y[:5])
    np.testing.assert_array_equal(statistics(est), before)


def test_new_statistics_of_one_layer_reach_the_next():
    # Nothing is trained, so that a fit without the rows has the same weights and the statistics to arrive at.
    plain = nn.Sequential(*(layer for layer in deep() if not isinstance(layer, nn.Dropout)))
    est = classifier(Still(), plain, **ONE_BATCH).fit(X, y)
    without = classifier(Still(), plain, **ONE_BATCH).fit(X[12:], y[12:])
    before = statistics(est)
    est.forget(X[:12])
    assert np.abs(statistics(est) - statistics(without)).max() < 0.02 * np.abs(before - statistics(without)).max()


def test_what_new_parameters_do_to_statistics_is_seen():
    est = classifier(
        Shift(), nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6, momentum=None), nn.Linear(6, 2)), **ONE_BATCH
    )
    est.fit(X, y).forget(X[:1])
    with torch.no_grad():
        inside = est.net_.module_[0](torch.from_numpy(X[1:]))
    np.testing.assert_allclose(statistics(est), moments(inside), rtol=1e-4, atol=1e-5)


def test_augmentation_is_the_training_iterators_and_leaves_the_generators_alone():
    settings = {"max_epochs": 2, "batch_size": 16, "lr": 0.1, "iterator_train__collate_fn": noisy}
    settings |= {"iterator_train__shuffle": True, "iterator_train__drop_last": True}
    fitted = classifier(Still(), deep(0.1), **settings).fit(X, y)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002  the global one
    one, other = (copy.deepcopy(fitted).forget(X[:3]) for _ in range(2))
    np.testing.assert_array_equal(statistics(one), statistics(other))
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002  the global one
    assert torch.equal(torch.get_rng_state(), states[2])


def test_layers_that_training_keeps_in_eval_mode_stay():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.body = nn.BatchNorm1d(3), deep(0.1)

        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

        def forward(self, X):
            return self.body(self.norm(X))

    est = classifier(Shift(), Frozen(), max_epochs=2, batch_size=16, lr=0.1).fit(X, y)
    est.forget(X[:5])
    norm = est.net_.module_.norm
    assert torch.equal(norm.running_mean, torch.zeros(3))
    assert torch.equal(norm.running_var, torch.ones(3))


def test_one_row_of_thousands_moves_next_to_nothing():
    X = rng.normal(size=(4000, 3)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    settings = {"max_epochs": 2, "batch_size": 64, "lr": 0.1, "iterator_train__shuffle": True}
    fitted = [classifier(None, deep(0.1), random_state=seed, **settings).fit(X, y) for seed in (0, 1)]
    before, other = (est.predict_proba(X[:500]) for est in fitted)
    after = fitted[0].forget(X[:1]).predict_proba(X[:500])
    assert np.abs(after - before).mean() < 0.02 * np.abs(other - before).mean()


def test_row_by_row_is_as_all_at_once():
    X = rng.normal(size=(600, 3)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    est = classifier(Still(), deep(0.1), max_epochs=4, batch_size=32, lr=0.1).fit(X, y)
    erased, before = X[y == 1][:60], statistics(est)
    at_once = copy.deepcopy(est).forget(erased)
    for row in range(60):
        est.forget(erased[row : row + 1])
    moved = np.abs(statistics(at_once) - before).max()
    assert np.abs(statistics(est) - statistics(at_once)).max() < 0.1 * moved
