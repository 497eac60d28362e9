"""What is shown while a request runs, where somebody looks on."""

import copy
import re
import sys

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.base import clone
from torch import nn

from sk_unlearn import ShardedClassifier, UnlearnableClassifier
from sk_unlearn.unlearners import CuReNU, FineTune, Retrain, StoCuReNU
from sk_unlearn.utils import _progress

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3)).astype(np.float32)
y = (X @ np.array([1.0, -1.0, 0.5]) > 0).astype(int)


class Terminal:
    """What pytest captures, as if it were a terminal."""

    def __init__(self, capsys):
        self.capsys = capsys

    def text(self):
        return self.capsys.readouterr().err


@pytest.fixture
def terminal(monkeypatch, capsys):
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True)
    monkeypatch.setattr(_progress, "_MOMENT", 1e-9)
    monkeypatch.setattr(_progress, "_PAUSE", 0.0)
    return Terminal(capsys)


def bars(terminal):
    """Names of the bars, in the order in which they came."""
    return list(dict.fromkeys(re.findall(r"(\w+): ", terminal.text())))


def weights(est):
    return np.concatenate([p.detach().numpy().ravel() for p in est.net_.module_.parameters()])


def test_a_bar_counts_steps_and_tells_of_the_last(terminal):
    est = UnlearnableClassifier(nn.Linear(3, 2), CuReNU(max_steps=2), random_state=0).fit(X, y)
    assert terminal.text() == ""
    est.forget(X[:4])
    assert re.search(rf"forget: {len(est.unlearning_report_.trace)}step .* gradient \d", terminal.text())


@pytest.mark.parametrize("unlearner", [FineTune(n_epochs=2), Retrain(), StoCuReNU(max_steps=2)])
def test_what_is_seen_changes_nothing(terminal, unlearner):
    est = UnlearnableClassifier(nn.Linear(3, 2), unlearner, random_state=0).fit(X, y)
    silent = copy.deepcopy(est).set_params(verbose=0)
    callbacks = list(est.net_.callbacks_)
    est.forget(X[:4])
    assert bars(terminal) == ["forget", *(["training"] if isinstance(unlearner, FineTune | Retrain) else [])]
    silent.forget(X[:4])
    assert terminal.text() == ""
    assert np.array_equal(weights(est), weights(silent))
    assert [name for name, _ in est.net_.callbacks_] == [name for name, _ in callbacks]


def test_retrain_counts_epochs(terminal):
    est = UnlearnableClassifier(nn.Linear(3, 2), random_state=0).fit(X, y).retrain()
    n = est.net_.max_epochs
    assert re.search(f"(?s)retrain: .*training: .*{n}/{n}", terminal.text())


def test_lines_take_the_place_of_bars(terminal, capsys):
    est = UnlearnableClassifier(nn.Linear(3, 2), FineTune(n_epochs=2), verbose=1, random_state=0).fit(X, y)
    est.forget(X[:4]).retrain()
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "train_loss" in printed.out


@pytest.mark.parametrize(("n_jobs", "shown"), [(None, "2/2"), (2, "100%")])
def test_shards_are_counted(terminal, n_jobs, shown):
    est = ShardedClassifier(UnlearnableClassifier(nn.Linear(3, 2)), n_shards=2, n_jobs=n_jobs, random_state=0)
    with parallel_config("threading"):
        est.fit(X, y).forget(X[:8])
        assert re.search(f"forget: .*{shown}", terminal.text())
        est.set_params(estimator__verbose=0).forget(X[8:16])
    assert terminal.text() == ""


def test_none_is_what_clones_and_parameters_have():
    est = UnlearnableClassifier()
    assert est.get_params()["verbose"] is None is clone(est).verbose
    with pytest.raises(ValueError, match="verbose"):
        UnlearnableClassifier(verbose="loud").fit(X, y)
