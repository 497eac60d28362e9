"""What takes ``n_jobs`` on the workers of a Dask cluster: the same numbers, and nothing lost when a worker is."""

import io
import logging
import os
import pickle
import signal
import sys
import time
from contextlib import redirect_stdout, suppress
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from skorch.callbacks import Callback
from torch import nn

from sk_unlearn import ShardedClassifier, UnlearnableClassifier
from sk_unlearn.inspection import audit
from sk_unlearn.metrics.membership import fit_shadows
from sk_unlearn.model_selection import ForgetSearchCV
from sk_unlearn.references import fit_many
from sk_unlearn.references.retrained import Rows, train_references
from sk_unlearn.rows import open_rows
from sk_unlearn.unlearners import FineTune, Unlearner, UnlearningResult
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._parallel import carried_out
from tests._problems import Mlp, skorch_net

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3)).astype(np.float32)
y = np.r_[0:3, rng.integers(0, 3, size=57)]
# What a terminal's Ctrl-C would end, as docs/growing.rst says.
KEEP_WORKERS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        # Workers, also those in place of dead ones, begin with all imported.
        context = distributed.utils.get_mp_context()
        context.set_forkserver_preload(["distributed", "sk_unlearn.inspection", "sk_unlearn.model_selection"])
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=logging.CRITICAL,
            local_directory=tmp_path_factory.mktemp("workers"), preload=[KEEP_WORKERS],
        )  # fmt: skip
        with cluster, distributed.Client(cluster) as client:
            yield client


@pytest.fixture
def on_dask(client):
    with parallel_config("dask"):
        yield client
    assert not left_on(client)


def left_on(client):
    """What workers and the scheduler still hold, after a while in which they may drop it."""
    for _ in range(100):
        kept = client.run_on_scheduler(lambda dask_scheduler: [str(key) for key in dask_scheduler.tasks])
        kept += [
            key for keys in client.run(lambda dask_worker: list(map(str, dask_worker.data))).values() for key in keys
        ]
        if not kept:
            break
        time.sleep(0.05)
    return kept


class Normed(nn.Module):
    """Nets that cannot be trained in a stack, so that their numbers do not depend on how they are divided."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features_in, 4), nn.BatchNorm1d(4), nn.Linear(4, n_outputs))

    def forward(self, X):
        return self.body(X)


def estimator(module=Normed, **settings):
    given = {"max_epochs": 2, "batch_size": 20, "lr": 0.1}
    return UnlearnableClassifier(skorch_net(module, **(given | settings)), random_state=0)


def weights(models):
    return [value.numpy().tobytes() for model in models for value in model.net_.module_.state_dict().values()]


def erase(est, at=slice(3, 7)):
    return est.forget(X[at], y[at])


# -------------------------------------------------------------------------------------------------- the same numbers


def test_references(on_dask):
    ids = np.arange(60)
    halves = np.random.default_rng(1).random((3, 60)) < 0.6
    halves[:, :3] = True
    for est, n_jobs_of_the_same in ((estimator(), 1), (estimator(Mlp), 2)):
        elsewhere = fit_many(est, X, y, halves, seeds=[1, 2, 3], sample_id=ids)
        with parallel_config("threading", n_jobs=n_jobs_of_the_same):
            here = fit_many(est, X, y, halves, seeds=[1, 2, 3], sample_id=ids)
        assert weights(elsewhere) == weights(here)
        assert [len(model.training_set_) for model in elsewhere] == halves.sum(axis=1).tolist()
        elsewhere[0].forget(sample_id=[0])


def test_an_audit_and_its_progress(on_dask, capsys):
    before = estimator().fit(X, y)
    after = erase(pickle.loads(pickle.dumps(before)))

    def measured(**settings):
        found = audit(
            after, X[3:7], y[3:7], X[40:], y[40:], before=before, n_references=4, random_state=1, **settings
        ).to_dict()
        return {key: value for key, value in found.items() if "second" not in key and "time" not in key}

    assert repr(measured(verbose=1)["measures"]) == repr(measured(n_jobs=1)["measures"])
    assert "4/4" in capsys.readouterr().err


class Meets(Callback):
    """Let training wait until another worker trains, too."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_begin(self, net, **kwargs):
        (self.folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 60
        while len(list(self.folder.iterdir())) < 2:
            assert time.monotonic() < deadline, "no other worker came"
            time.sleep(0.02)


def test_each_worker_has_a_reference_to_train(on_dask, tmp_path):
    fitted = estimator().fit(X, y).set_params(estimator__callbacks=[Meets(tmp_path)])
    trained = train_references(fitted, Rows(X, y), [1, 2])
    assert len(trained.models) == 2


def test_a_search(on_dask):
    def search(**settings):
        grid = {"unlearner": [FineTune(1), FineTune(3)]}
        return ForgetSearchCV(estimator(), grid, cv=2, n_references=2, random_state=0, **settings).fit(X, y)

    elsewhere, here = search(), search(n_jobs=1)
    for name, values in here.cv_results_.items():
        if "time" not in name and name != "params" and "param_" not in name:
            np.testing.assert_array_equal(elsewhere.cv_results_[name], values)
    assert elsewhere.best_score_ == here.best_score_


def test_shadow_models(on_dask):
    elsewhere, here = (fit_shadows(estimator(), X, y, range(3, 20), n_shadows=8, n_jobs=n) for n in (None, 1))
    assert weights(elsewhere.models) == weights(here.models)


def test_shards_of_which_one_forgets(on_dask):
    elsewhere, here = (ShardedClassifier(estimator(), 2, random_state=0, n_jobs=n).fit(X, y) for n in (None, 1))
    secret = X[5].tobytes()
    assert secret in pickle.dumps(elsewhere)
    for one, two in zip(weights(erase(elsewhere).estimators_), weights(erase(here).estimators_), strict=True):
        assert one == two
    assert secret not in pickle.dumps(elsewhere)
    folders = on_dask.run(lambda dask_worker: dask_worker.local_directory).values()
    files = [path for folder in folders for path in Path(folder).rglob("*") if path.is_file()]
    assert not [path for path in files if secret in path.read_bytes()]


def test_from_a_task_of_the_same_cluster(on_dask):
    (nested,) = Parallel(n_jobs=2)([delayed(fit_many)(estimator(), X, y, seeds=[1, 2])])
    assert weights(nested) == weights(fit_many(estimator(), X, y, seeds=[1, 2], n_jobs=1))


def test_large_rows_travel_once_and_quietly(on_dask, caplog):
    rows = np.zeros((2, 1_000_000))
    sums = list(carried_out([(np.sum, (rows,), {"axis": axis}) for axis in (0, 0, 1)], None))
    assert [each.shape for each in sums] == [(1_000_000,), (1_000_000,), (2,)]
    assert not caplog.records


# -------------------------------------------------------------------------------------------------- what goes wrong


class Unpicklable:
    def __reduce__(self):
        raise TypeError("cannot be pickled")


class Unloadable:
    def __reduce__(self):
        return _missing, ()


class TakesTwoError(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def _missing():
    raise ModuleNotFoundError("No module named 'mine'")


def _returns_unpicklable(value):
    return Unpicklable()


def _raises_two(value):
    raise TakesTwoError("what it says", 2)


@pytest.mark.parametrize(
    ("function", "given", "error", "says"),
    [
        (id, Unpicklable(), TypeError, "cannot be pickled"),
        (id, Unloadable(), ModuleNotFoundError, "mine"),
        (_returns_unpicklable, 1, TypeError, "cannot be pickled"),
        (_raises_two, 1, RuntimeError, "TakesTwoError on a worker: what it says"),
    ],
    ids=["to a worker", "on a worker", "from a worker", "error"],
)
def test_what_cannot_travel_is_an_error(on_dask, function, given, error, says):
    with pytest.raises(error, match=says):
        list(carried_out([(function, (given,), {})] * 3, None))


def test_a_worker_without_the_file_of_rows(on_dask, tmp_path):
    np.save(tmp_path / "rows.npy", X)
    rows = open_rows(tmp_path / "rows.npy")
    (tmp_path / "rows.npy").unlink()
    with pytest.raises(FileNotFoundError, match="under the same path") as raised:
        fit_many(estimator(), rows, y, seeds=[1, 2])
    assert "On a worker of the cluster" in str(raised.value.__cause__)


class CtrlC(Callback):
    """Press it in a terminal: the first process and the workers get the signal."""

    def __init__(self, folder, home, workers):
        self.folder = folder
        self.home = home
        self.workers = workers

    def on_train_begin(self, net, **kwargs):
        if os.getpid() == self.home:
            return
        with suppress(FileExistsError):
            (self.folder / "pressed").touch(exist_ok=False)
            for process in [*self.workers, self.home]:
                os.kill(process, signal.SIGINT)
        time.sleep(0.3)


class CtrlCAt(Unlearner):
    """Press it once the search has told of the candidate before."""

    def __init__(self, folder=None, home=0):
        self.folder = folder
        self.home = home

    def unlearn(self, problem):
        deadline = time.monotonic() + 60
        with suppress(FileExistsError):
            # One of them alone, or no worker might be left for the candidate before.
            (self.folder / "waits").touch(exist_ok=False)
            while not (self.folder / "told").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(self.home, signal.SIGINT)
            time.sleep(0.3)
        return UnlearningResult(problem.parameters, Status.COMPLETED)


class Told(io.StringIO):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def write(self, text):
        if "candidate 1/2" in text:
            self.path.touch()
        return super().write(text)


def test_ctrl_c_cancels_what_was_not_begun(on_dask, tmp_path):
    workers = list(on_dask.run(os.getpid).values())
    est = ShardedClassifier(estimator(), 6, random_state=0, n_jobs=1).fit(X, y)
    for shard in est.estimators_:
        shard.set_params(estimator__callbacks=[CtrlC(tmp_path, os.getpid(), workers)])
    est.n_jobs = None
    state = pickle.dumps(est)
    with pytest.raises(KeyboardInterrupt):
        erase(est, slice(3, 40))
    assert pickle.dumps(est) == state
    assert not left_on(on_dask)
    assert list(on_dask.run(os.getpid).values()) == workers
    assert len(fit_many(estimator(), X, y, seeds=[1, 2])) == 2


def test_ctrl_c_ends_a_search_with_what_is_done(on_dask, tmp_path):
    grid = {"unlearner": [FineTune(1), CtrlCAt(tmp_path, os.getpid())]}
    search = ForgetSearchCV(estimator(), grid, cv=2, n_references=2, random_state=0, refit=False, verbose=1)
    told = Told(tmp_path / "told")
    with redirect_stdout(told), pytest.warns(UserWarning, match="Interrupted after 1 of 2 candidates"):
        search.fit(X, y)
    assert search.interrupted_
    assert search.best_index_ == 0


class Dies(Callback):
    """End the worker when training begins, the first times only."""

    def __init__(self, folder, home, times=10**6):
        self.folder = folder
        self.home = home
        self.times = times

    def on_train_begin(self, net, **kwargs):
        if os.getpid() != self.home and len(list(self.folder.iterdir())) < self.times:
            (self.folder / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_made_up_for(on_dask, tmp_path):
    est = estimator(callbacks=[Dies(tmp_path, os.getpid(), times=1)])
    elsewhere = fit_many(est, X, y, seeds=[1, 2, 3])
    assert len(list(tmp_path.iterdir())) == 1
    assert weights(elsewhere) == weights(fit_many(estimator(), X, y, seeds=[1, 2, 3], n_jobs=1))


def test_a_request_of_which_workers_die_leaves_the_old_state(on_dask, tmp_path):
    est = ShardedClassifier(estimator(), 2, random_state=0, n_jobs=1).fit(X, y)
    one, other = est.estimators_
    one.set_params(estimator__callbacks=[Dies(tmp_path, os.getpid())])
    est.n_jobs = None
    erased, state = np.array(one.training_set_.X[:2]), pickle.dumps(est)
    on_dask.run_on_scheduler(_allow, 0)
    with pytest.raises(distributed.KilledWorker):
        est.forget(erased)
    on_dask.run_on_scheduler(_allow, 3)
    assert pickle.dumps(est) == state
    est.forget(np.array(other.training_set_.X[:2]))
    assert erased.tobytes() in pickle.dumps(est)


def _allow(n_deaths, dask_scheduler):
    dask_scheduler.allowed_failures = n_deaths
