"""What takes ``n_jobs`` on the workers of a Ray cluster. Ray is in no extra of the tests: install it to run these."""

import os
import pickle
import secrets
import signal
import sys
import threading
import time

import joblib
import numpy as np
import pytest
from joblib import parallel_config
from skorch.callbacks import Callback
from torch import nn

from sk_unlearn import ShardedClassifier, UnlearnableClassifier
from sk_unlearn.inspection import audit
from sk_unlearn.metrics.membership import fit_shadows
from sk_unlearn.model_selection import ForgetSearchCV
from sk_unlearn.references import fit_many
from sk_unlearn.unlearners import FineTune
from sk_unlearn.utils._parallel import carried_out
from tests._problems import skorch_net

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals"),
    pytest.mark.filterwarnings("default::ResourceWarning", "default::FutureWarning", "default::DeprecationWarning"),
    pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"),
]

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3)).astype(np.float32)
y = np.r_[0:3, rng.integers(0, 3, size=57)]


@pytest.fixture(scope="module")
def cluster():
    from ray.util.joblib import register_ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # or it writes one into the user's folder
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TQDM_PATCH_PRINT", "0")  # or nets that print by the print of before cannot be pickled
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        register_ray()
        yield
        ray.shutdown()
    joblib.parallel.BACKENDS.pop("ray")


@pytest.fixture
def on_ray(cluster):
    with parallel_config("ray", n_jobs=2):
        yield


class Normed(nn.Module):
    """Nets that cannot be trained in a stack, so that their numbers do not depend on how they are divided."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features_in, 4), nn.BatchNorm1d(4), nn.Linear(4, n_outputs))

    def forward(self, X):
        return self.body(X)


def estimator(**settings):
    return UnlearnableClassifier(skorch_net(Normed, max_epochs=2, batch_size=20, **settings), random_state=0)


def weights(models):
    return [value.numpy().tobytes() for model in models for value in model.net_.module_.state_dict().values()]


def test_references_and_shadow_models(on_ray):
    wide = np.tile(X, 10_000)  # beyond what Ray sends along with a task
    assert weights(fit_many(estimator(), X, y, seeds=[1, 2, 3])) == weights(
        fit_many(estimator(), X, y, seeds=[1, 2, 3], n_jobs=1)
    )
    sums = list(carried_out([(np.sum, (wide,), {"axis": axis}) for axis in (0, 1)], 2))
    assert [len(each) for each in sums] == [30_000, 60]
    elsewhere, here = (fit_shadows(estimator(), X, y, range(3, 20), n_shadows=8, n_jobs=n) for n in (None, 1))
    assert weights(elsewhere.models) == weights(here.models)


def test_an_audit_and_a_search(on_ray):
    before = estimator().fit(X, y)
    after = pickle.loads(pickle.dumps(before)).forget(X[3:7], y[3:7])
    elsewhere, here = (
        audit(after, X[3:7], y[3:7], X[40:], y[40:], before=before, n_references=4, n_jobs=n) for n in (None, 1)
    )
    assert elsewhere.to_frame().equals(here.to_frame())
    grid = {"unlearner": [FineTune(1), FineTune(3)]}
    elsewhere, here = (
        ForgetSearchCV(estimator(), grid, cv=2, n_references=2, random_state=0, n_jobs=n).fit(X, y) for n in (None, 1)
    )
    assert elsewhere.best_score_ == here.best_score_
    assert list(elsewhere.cv_results_["mean_selection_score"]) == list(here.cv_results_["mean_selection_score"])


def test_shards_of_which_both_forget(on_ray):
    rows = np.tile(X, 1000)
    elsewhere, here = (ShardedClassifier(estimator(), 2, random_state=0, n_jobs=n).fit(rows, y) for n in (None, 1))
    secret = rows[5].tobytes()
    assert secret in pickle.dumps(elsewhere)
    elsewhere.forget(rows[3:7])
    here.forget(rows[3:7])
    assert weights(elsewhere.estimators_) == weights(here.estimators_)
    assert secret not in pickle.dumps(elsewhere)


class Dies(Callback):
    """End the worker when training begins."""

    def __init__(self, home):
        self.home = home

    def on_train_begin(self, net, **kwargs):
        if os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)


class Waits(Callback):
    def on_train_begin(self, net, **kwargs):
        time.sleep(20)


def test_a_worker_that_dies_and_ctrl_c_leave_the_old_state(on_ray):
    est = ShardedClassifier(estimator(), 2, random_state=0, n_jobs=1).fit(X, y)
    est.n_jobs = None
    for callback, error in ((Dies(os.getpid()), ray.exceptions.RayActorError), (Waits(), KeyboardInterrupt)):
        for shard in est.estimators_:
            shard.set_params(estimator__callbacks=[callback])
        state = pickle.dumps(est)
        if error is KeyboardInterrupt:
            threading.Timer(5.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(error):
            est.forget(X[3:30])
        assert pickle.dumps(est) == state
    for shard in est.estimators_:
        shard.set_params(estimator__callbacks=None)
    est.forget(X[3:30])


class UnloadableError(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def _raises(value):
    raise UnloadableError("what it says", 2)


def test_what_cannot_travel_is_an_error(on_ray):
    with pytest.raises(RuntimeError, match="UnloadableError on a worker: what it says"):
        list(carried_out([(_raises, (1,), {})] * 3, None))
    with pytest.raises(TypeError, match="pickle"):
        list(carried_out([(id, (threading.Lock(),), {})] * 3, None))
