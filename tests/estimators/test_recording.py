"""Unlearners that watch training, or take part in it: what they are told, and what becomes of what they recorded."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import EarlyStopping
from skorch.dataset import ValidSplit
from torch import nn

from sk_unlearn.metrics import make_retrain_scorer
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.rows import RowRole, TrainingSet
from sk_unlearn.unlearners import FineTune, Retrain, Status, TrainingRecorder, Unlearner, UnlearningResult
from tests._problems import classifier


class Counter(TrainingRecorder):
    """Counts how often each row was trained on, and halves the parameters at the end if told to."""

    def __init__(self, shrink=False):
        self.shrink = shrink

    def begin(self, net, n_rows, mass, rng):
        assert net.initialized_
        assert not net.history
        self.counts, self.mass, self.draw = np.zeros(n_rows, dtype=np.int64), mass, rng.integers(1000)
        self.validated = 0

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if training:
            assert len(batch[1]) == len(self.rows)
            np.add.at(self.counts, self.rows, 1)
        else:
            assert self.rows is None
            self.validated += 1

    def on_train_end(self, net, **kwargs):
        if self.shrink:
            with torch.no_grad():
                for p in net.module_.parameters():
                    p.mul_(0.5)

    def recording(self, net):
        assert self.rows is None
        kept = {"counts": self.counts[self.trained], "mass": self.mass, "draw": self.draw}
        return {**kept, "n_rows": len(self.counts), "validated": self.validated}


class Watcher(Unlearner):
    def __init__(self, shrink=False, retrain=False, fail=False):
        self.shrink, self.retrain, self.fail = shrink, retrain, fail

    def __unlearner_tags__(self):
        tags = super().__unlearner_tags__()
        tags.changes_training = self.shrink
        return tags

    def recorder(self):
        return Counter(self.shrink)

    def unlearn(self, problem):
        if self.fail:
            raise RuntimeError("injected")
        if not isinstance(problem.recording, dict):
            raise ValueError("fit with unlearner=Watcher so that counts are recorded")
        if self.retrain:
            trained = problem.retrain()
            return UnlearningResult(flat_parameters(trained.net), Status.COMPLETED, "trained anew", trained=trained)
        counts = np.delete(problem.recording["counts"], problem.erased_rows)
        recording = {**problem.recording, "counts": counts, "erased": problem.erased_rows}
        return UnlearningResult(problem.parameters + 1, Status.COMPLETED, "done", recording=recording)


rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)


def estimator(unlearner=None, **settings):
    defaults = {"module__in_features": 3, "module__out_features": 2, "max_epochs": 3, "lr": 0.1, "batch_size": 8}
    return classifier(unlearner, nn.Linear, **(defaults | settings))


def test_the_recorder_sees_every_batch_and_is_taken_away():
    est = estimator(Watcher(), iterator_train__shuffle=True).fit(X, y)
    np.testing.assert_array_equal(est.unlearning_state_.recording["counts"], np.full(40, 3))
    assert (
        est.unlearning_state_.recording["n_rows"],
        est.unlearning_state_.recording["mass"],
        est.unlearning_state_.recording["validated"],
    ) == (40, 40.0, 0)
    assert not any(isinstance(callback, TrainingRecorder) for _, callback in est.net_.callbacks_)


def test_watching_changes_no_bit_of_training():
    watched = estimator(Watcher(), iterator_train__shuffle=True).fit(X, y)
    plain = estimator(iterator_train__shuffle=True).fit(X, y)
    assert torch.equal(flat_parameters(watched.net_), flat_parameters(plain.net_))
    assert plain.unlearning_state_.recording is None


def test_numbers_of_erased_rows_and_a_second_request():
    est = estimator(Watcher()).fit(X, y)
    est.forget(X[[7, 3]])
    np.testing.assert_array_equal(est.unlearning_state_.recording["erased"], [3, 7])
    assert len(est.unlearning_state_.recording["counts"]) == 38
    est.forget(X[[8, 0]])
    # Among the 38 that were left: row 8 had become number 6.
    np.testing.assert_array_equal(est.unlearning_state_.recording["erased"], [0, 6])
    est.correct(X[[2]], y_new=1 - y[[2]])
    np.testing.assert_array_equal(est.unlearning_state_.recording["erased"], [1])


def test_rows_of_weight_zero_are_not_counted_among_the_trained():
    weight = np.ones(40)
    weight[[0, 5]] = 0
    weight[1] = 2.5
    est = estimator(Watcher()).fit(X, y, sample_weight=weight)
    assert (est.unlearning_state_.recording["n_rows"], est.unlearning_state_.recording["mass"]) == (38, 39.5)
    est.forget(X[[0, 6]])
    np.testing.assert_array_equal(est.unlearning_state_.recording["erased"], [4])
    kept = est.unlearning_state_.recording
    est.forget(X[[5]])  # never trained on: nothing to unlearn, and the recording stays
    assert est.unlearning_state_.recording is kept


def test_held_out_rows_are_not_counted_among_the_trained():
    est = estimator(Watcher(), train_split=ValidSplit(5)).fit(X, y)
    trained = np.flatnonzero(est.training_set_.role == RowRole.TRAINED)
    assert est.unlearning_state_.recording["n_rows"] == 40
    assert est.unlearning_state_.recording["validated"] > 0
    np.testing.assert_array_equal(est.unlearning_state_.recording["counts"], np.full(len(trained), 3))
    held_out = np.setdiff1d(np.arange(40), trained)
    est.forget(X[[held_out[0], trained[-1]]])
    np.testing.assert_array_equal(est.unlearning_state_.recording["erased"], [len(trained) - 1])


def test_rows_handed_in_are_not_numbered():
    est = estimator(Watcher()).fit(X, y)
    est.partial_forget(np.concatenate([X[:1] + 5, X[4:5]]), y[[0, 4]])
    np.testing.assert_array_equal(est.unlearning_state_.recording["erased"], [4])


def test_without_stored_rows_there_are_no_numbers():
    est = estimator(Watcher(retrain=False)).set_params(keep_training_set=False).fit(X, y)
    seen = []

    class Asks(Watcher):
        def unlearn(self, problem):
            seen.append((problem.erased_rows, problem.recording))
            return UnlearningResult(problem.parameters, Status.COMPLETED, "done", recording=problem.recording)

    est.set_params(unlearner=Asks()).partial_forget(X[:2], y[:2])
    assert seen[0][0] is None
    assert len(seen[0][1]["counts"]) == 40


@pytest.mark.parametrize("where", ["unlearn", "drop"])
def test_a_failed_request_keeps_the_recording(where, monkeypatch):
    est = estimator(Watcher()).fit(X, y).forget(X[:1])
    kept, content = est.unlearning_state_.recording, copy.deepcopy(est.unlearning_state_.recording)

    def fail(self, **changes):
        raise MemoryError

    if where == "drop":
        monkeypatch.setattr(TrainingSet, "plan", fail)
    else:
        est.set_params(unlearner__fail=True)
    with pytest.raises((MemoryError, RuntimeError)):
        est.forget(X[1:2])
    assert est.unlearning_state_.recording is kept
    for name, value in content.items():
        np.testing.assert_array_equal(kept[name], value)


def test_a_failed_commit_keeps_that_there_is_no_recording(monkeypatch):
    class Adopts(Watcher):
        def unlearn(self, problem):
            return UnlearningResult(problem.parameters, Status.COMPLETED, "done", recording="something")

    def fail(self, **changes):
        raise MemoryError

    est = estimator(FineTune()).fit(X, y).set_params(unlearner=Adopts())
    monkeypatch.setattr(TrainingSet, "plan", fail)
    with pytest.raises(MemoryError):
        est.forget(X[1:2])
    assert est.unlearning_state_.recording is None
    assert not hasattr(est, "unlearning_report_")
    monkeypatch.undo()
    assert est.forget(X[1:2]).unlearning_state_.recording == "something"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda est: pickle.loads(pickle.dumps(est))])
def test_copies_keep_the_recording_and_clones_have_none(copied):
    est = estimator(Watcher()).fit(X, y)
    other = copied(est)
    other.forget(X[:3])
    assert (len(other.unlearning_state_.recording["counts"]), len(est.unlearning_state_.recording["counts"])) == (
        37,
        40,
    )
    assert not hasattr(clone(est), "unlearning_state_")


def test_partial_fit_drops_it():
    est = estimator(Watcher()).fit(X, y).partial_fit(X[:5] + 1, y[:5])
    assert est.unlearning_state_.recording is None
    with pytest.raises(ValueError, match="fit with unlearner=Watcher"):
        est.forget(X[:1])
    assert estimator(Watcher()).partial_fit(X, y).unlearning_state_.recording is None


def test_another_unlearner_drops_it():
    est = estimator(Watcher()).fit(X, y).set_params(unlearner=FineTune()).forget(X[:1])
    assert est.unlearning_state_.recording is None
    assert estimator(FineTune()).fit(X, y).unlearning_state_.recording is None


def test_refitting_records_anew():
    est = estimator(Watcher()).fit(X, y).forget(X[:3])
    est.fit(X[:20], y[:20])
    assert len(est.unlearning_state_.recording["counts"]) == 20


def test_retraining_is_the_same_training():
    est = estimator(Watcher(shrink=True, retrain=True)).fit(X, y)
    est.forget(X[:4])
    fresh = estimator(Watcher(shrink=True)).fit(X[4:], y[4:])
    assert torch.equal(flat_parameters(est.net_), flat_parameters(fresh.net_))
    # The recording is that of the new training.
    assert est.unlearning_state_.recording["draw"] == fresh.unlearning_state_.recording["draw"]
    np.testing.assert_array_equal(
        est.unlearning_state_.recording["counts"], fresh.unlearning_state_.recording["counts"]
    )


def test_a_recorder_that_takes_part_is_heard():
    shrunk, plain = (estimator(Watcher(shrink=shrink)).fit(X, y) for shrink in (True, False))
    assert torch.equal(flat_parameters(shrunk.net_), flat_parameters(plain.net_) / 2)


def test_a_training_that_a_callback_ends_is_recorded():
    est = estimator(Watcher(), max_epochs=50, callbacks=[("stop", EarlyStopping("train_loss", 1, threshold=10.0))])
    est.fit(X, y)
    assert len(est.net_.history) < 50
    np.testing.assert_array_equal(est.unlearning_state_.recording["counts"], np.full(40, len(est.net_.history)))


@pytest.mark.parametrize("changes", [True, False])
def test_the_scorer_trains_its_references_alike(changes, monkeypatch):
    watched = []
    monkeypatch.setattr(Watcher, "recorder", lambda self: watched.append(self) or Counter(self.shrink))
    est = estimator(Watcher(shrink=changes, retrain=True)).fit(X, y)
    watched.clear()
    assert make_retrain_scorer("parameters")(est, X) == pytest.approx(0.0, abs=1e-12)
    # The request retrains, and is watched. One that only watches is left out of the reference, whose cache is shared.
    assert len(watched) == 1 + changes


def test_a_recorder_must_record():
    class Silent(Watcher):
        def recorder(self):
            return TrainingRecorder()

    with pytest.raises(NotImplementedError, match="TrainingRecorder must implement recording"):
        estimator(Silent()).fit(X, y)


def test_retrain_without_recorder_leaves_none():
    est = estimator(Retrain()).fit(X, y).forget(X[:2])
    assert est.unlearning_state_.recording is None
