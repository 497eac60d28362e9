"""Calls through joblib: here, in threads, and by backends of others, to which everything goes in parcels."""

import sys
import threading
from copy import deepcopy
from types import ModuleType

import joblib
import numpy as np
import pytest
from joblib import parallel_config
from joblib.parallel import ThreadingBackend

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.utils._parallel import carried_out, runs_here
from sk_unlearn.utils._parcels import Parcel
from tests._problems import skorch_net


class OtherBackend(ThreadingBackend):
    """One that joblib does not know."""


@pytest.fixture
def by_others():
    joblib.register_parallel_backend("other", OtherBackend)
    with parallel_config("other", n_jobs=2):
        yield
    joblib.parallel.BACKENDS.pop("other")


class LoudError(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def _fill(values, *, by):
    values[:] = by
    return values


def _fails(how):
    raise how


def _fails_loudly(value):
    raise LoudError("what it says", value)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_results_come_in_order_and_progress_adds_up(backend, n_jobs):
    told = []
    with parallel_config(backend):
        assert runs_here(n_jobs) == (n_jobs == 1)
        assert list(carried_out([(pow, (2, k), {}) for k in range(5)], n_jobs, advance=told.append)) == [1, 2, 4, 8, 16]
    assert sum(told) == pytest.approx(0 if n_jobs == 1 else 1)


def test_other_backends_get_copies_and_give_some(by_others):
    own = np.zeros(3)
    one, two = carried_out([(_fill, (own,), {"by": by}) for by in (1, 2)], None)
    assert (list(one), list(two), list(own)) == ([1] * 3, [2] * 3, [0] * 3)
    one[:] = 5  # may be written to


def test_errors_of_other_backends_say_where_they_come_from(by_others):
    with pytest.raises(ValueError, match="no luck") as raised:
        list(carried_out([(_fails, (ValueError("no luck"),), {})] * 2, None))
    assert "_fails" in str(raised.value.__cause__)
    with pytest.raises(RuntimeError, match="LoudError on a worker: what it says"):
        list(carried_out([(_fails_loudly, (2,), {})] * 2, None))
    with pytest.raises(TypeError, match="pickle"):
        list(carried_out([(_fails, (threading.Lock(),), {})] * 2, None))


def test_what_is_inside_a_call_stays_on_its_worker(by_others):
    assert list(carried_out([(joblib.effective_n_jobs, (-1,), {})] * 2, None)) == [1, 1]


def test_nets_of_a_script_travel_and_may_be_copied_there(monkeypatch):
    script = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", script)
    exec(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, n_features_in, n_outputs):\n"
        "        super().__init__(nn.Linear(n_features_in, n_outputs))\n",
        vars(script),
    )
    X, y = np.eye(3, dtype=np.float32), np.arange(3)
    est = UnlearnableClassifier(skorch_net(script.Net, max_epochs=1), random_state=0).fit(X, y)
    sent = Parcel(est)
    worker = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", worker)
    arrived = sent.opened()
    assert worker.Net is type(arrived.net_.module_)
    # By skorch's own pickle, which knows classes by their names.
    answered = Parcel(deepcopy(arrived).forget(X[:1]))
    redefined = script.Net = type("Net", (), {})
    monkeypatch.setitem(sys.modules, "__main__", script)
    assert answered.opened().predict(X).shape == (3,)
    assert script.Net is redefined
