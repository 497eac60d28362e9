"""A pickle with a flipped bit does not load with other predictions."""

import copy
import io
import pickle
import warnings

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.exceptions import PersistenceError
from sk_unlearn.unlearners import FineTune

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)
IDS = [f"person-{n}" for n in range(len(X))]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.LeakyReLU(0.25), nn.Linear(5, 2))
        self.scale = 1.5

    def forward(self, X):
        return self.layers(X) * self.scale


def fitted(module=None, **settings):
    net = module and NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, max_epochs=2, lr=0.05, verbose=0, train_split=None
    )
    return UnlearnableClassifier(net, FineTune(1), random_state=0, **settings).fit(X, y, sample_id=IDS)


def flipped(data, place):
    damaged = bytearray(data)
    damaged[place // 8] ^= 1 << place % 8
    return bytes(damaged)


def dumped(est, way):
    file = io.BytesIO()
    (joblib.dump if way == "joblib" else pickle.dump)(est, file)
    return file.getvalue()


def loaded(data, way):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (joblib.load if way == "joblib" else pickle.load)(io.BytesIO(data))


@pytest.mark.parametrize(("way", "module"), [("pickle", None), ("pickle", Net), ("joblib", Net)])
def test_no_flipped_bit_loads_with_other_predictions(way, module):
    """100 random bits: an error, or an estimator that predicts and holds what it did."""
    est = fitted(module)
    data = dumped(est, way)
    before = est.predict_proba(X)
    places = np.random.default_rng(1).integers(8 * len(data), size=100)
    n_refused = 0
    for place in places:
        try:
            other = loaded(flipped(data, int(place)), way)
            after = other.predict_proba(X)
        except Exception:  # whatever pickle makes of it
            n_refused += 1
            continue
        np.testing.assert_array_equal(after, before, err_msg=f"bit {place}")
        np.testing.assert_array_equal(other.training_set_.X, X, err_msg=f"bit {place}")
        assert other.training_set_.sample_id.tolist() == IDS
    assert n_refused > 50


@pytest.mark.parametrize("part", ["parameters", "rows", "identifiers", "settings", "buffers", "anchor"])
def test_each_part_is_covered(part):
    est = fitted(Net)
    state = pickle.loads(pickle.dumps(est)).__getstate__()
    module = state["net_"].module_
    if part == "parameters":
        with torch.no_grad():
            module.layers[0].weight[1, 2] += 1e-6
    elif part == "rows":
        state["training_set_"].raw_X[3, 1] += 1
    elif part == "identifiers":
        state["training_set_"].slots()["sample_id"][3] = "somebody"
    elif part == "settings":
        module.layers[2].negative_slope = 0.5
    elif part == "buffers":
        module.layers[1].running_mean[0] += 1
    else:
        state["unlearning_state_"].anchor.gradient[0] += 1
    with pytest.raises(PersistenceError, match=r"pickle of a UnlearnableClassifier is damaged: .*_ is not what"):
        UnlearnableClassifier().__setstate__(state)


def test_old_pickles_load_without_a_word():
    est = fitted(Net)
    state = est.__getstate__()
    without = {name: value for name, value in state.items() if "checksums" not in name}
    assert len(without) == len(state) - 1
    other = UnlearnableClassifier()
    other.__setstate__(without)
    np.testing.assert_array_equal(other.predict_proba(X), est.predict_proba(X))
    assert not any("checksums" in name for name in vars(other))


def test_copies_memory_maps_and_buffers(tmp_path):
    est = fitted(Net)
    joblib.dump(est, tmp_path / "model.joblib")
    buffers = []
    data = pickle.dumps(est, protocol=5, buffer_callback=buffers.append)
    others = [
        joblib.load(tmp_path / "model.joblib", mmap_mode="r"),
        pickle.loads(data, buffers=[bytes(buffer) for buffer in buffers]),
        copy.deepcopy(est),
        copy.copy(est),
        pickle.loads(pickle.dumps(copy.deepcopy(est))),
    ]
    for other in others:
        assert vars(other).keys() == vars(est).keys()
        np.testing.assert_array_equal(other.predict_proba(X), est.predict_proba(X))
    others[2].forget(X[:1])
    assert len(est.training_set_) == len(X)
    assert not hasattr(clone(est), "net_")


class Leaving(UnlearnableClassifier):
    """A subclass whose state is another than what it has."""

    def __getstate__(self):
        state = super().__getstate__()
        state.pop("unlearning_history_")
        return {**state, "extra": 1}


def test_subclasses_may_leave_out_and_add():
    est = Leaving(NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0, train_split=None))
    est.fit(X, y)
    other = pickle.loads(pickle.dumps(est))
    assert other.extra == 1
    np.testing.assert_array_equal(other.predict_proba(X), est.predict_proba(X))


@pytest.mark.parametrize("kind", [UnlearnableClassifier, UnlearnableRegressor])
def test_what_is_not_fitted(kind):
    assert repr(pickle.loads(pickle.dumps(kind()))) == repr(kind())


class Burdened(Net):
    """Holds what modules seldom hold, and itself."""

    def __init__(self):
        super().__init__()
        self.draws = [np.random.default_rng(1), np.random.RandomState(2)]
        self.table = np.array([["a", [1, 2.5]]], dtype=object)
        self.records = np.array([(1, "a")], dtype=[("n", int), ("name", object)])
        self.shape_only = torch.empty(2, device="meta")
        self.round = [self.draws]
        self.round.append(self.round)
        self.graph = torch.eye(3).to_sparse()


def test_what_a_module_may_hold_loads_as_it_was():
    est = fitted(Burdened)
    other = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(other.predict_proba(X), est.predict_proba(X))
    held = other.net_.module_
    assert held.round[1] is held.round
    assert held.draws[0].random() == est.net_.module_.draws[0].random()
