"""What two processes do in the tests: one run of both, of which each test looks at a part."""

import copy
import io
import os
import pickle
import warnings
from datetime import timedelta

import numpy as np
import torch
from scipy.sparse import csr_array
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

import sk_unlearn
from sk_unlearn import MLPNetClassifier, ShardedClassifier, UnlearnableClassifier, UnlearnableRegressor, unlearners
from sk_unlearn.distributed import data_parallel
from sk_unlearn.inspection import audit
from sk_unlearn.model_selection import ForgetSearchCV
from sk_unlearn.pipeline import make_pipeline
from sk_unlearn.receipts import digest_parameters
from sk_unlearn.references.many import fit_many
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.rows import open_rows
from sk_unlearn.rows.spread import SpreadRows
from sk_unlearn.unlearners import CuReNU, Retrain, Unlearner, VacuousBoundWarning

N, CUT = 44, 17
GONE = [1, 2, 20, 21, 30]
TIMEOUT = 3.0


def data(seed=0):
    """Rows of which process 0 has no label 2, and row 5, which it holds, is the same as row 30, of process 1."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, 3))
    y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(np.int64)
    y[CUT::5] = 2
    X[30], y[30] = X[5], y[5]
    return X, y, np.arange(N)


def part(rank):
    """The rows of a process."""
    return slice(None, CUT) if rank == 0 else slice(CUT, None)


class Small(nn.Module):
    """Two layers, with what a case asks for in between."""

    def __init__(self, dtype=torch.float64, norm=False):
        super().__init__()
        between = [nn.BatchNorm1d(2, dtype=dtype)] if norm else []
        self.body = nn.Sequential(nn.Linear(3, 2, dtype=dtype), *between, nn.Tanh(), nn.Linear(2, 3, dtype=dtype))

    def forward(self, x):
        return self.body(x)


def net(module=Small, kind=NeuralNetClassifier, **settings):
    given = {"lr": 0.5, "max_epochs": 3, "batch_size": -1, "train_split": None, "verbose": 0}
    if kind is NeuralNetClassifier:
        given["criterion"] = nn.CrossEntropyLoss
    return kind(module, **{**given, **settings})


def linear():
    return net(
        nn.Linear, module__in_features=3, module__out_features=3, module__dtype=torch.float64,
        optimizer__weight_decay=0.1, max_epochs=10,
    )  # fmt: skip


def _weights():
    return np.random.default_rng(1).integers(0, 4, N).astype(float)


def _float32():
    return UnlearnableClassifier(net(module__dtype=torch.float32), random_state=0)


# Name: how the estimator is made, what of the data it is given, and how far parameters may be from one process's.
CASES = {
    "float64": (lambda: UnlearnableClassifier(net(), random_state=0), {}, 1e-10),
    "float32": (_float32, {}, 1e-5),
    "steps in all layers": (lambda: UnlearnableClassifier(net(), CuReNU(), random_state=0), {}, 1e-10),
    "built-in net": (
        lambda: UnlearnableClassifier(MLPNetClassifier(max_epochs=2), CuReNU(), random_state=0),
        {}, 1e-10,
    ),
    "regression": (
        lambda: UnlearnableRegressor(
            net(nn.Linear, NeuralNetRegressor, module__in_features=3, module__out_features=1,
                module__dtype=torch.float64, lr=0.1),
            CuReNU(), random_state=0,
        ), {"continuous": True}, 1e-10,
    ),
    "batches, weights, class weights, Adam": (
        lambda: UnlearnableClassifier(
            net(batch_size=5, optimizer=torch.optim.Adam, lr=0.02,
                criterion__weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)),
            random_state=0,
        ), {"weights": True}, 1e-10,
    ),
    "loss that sums": (
        lambda: UnlearnableClassifier(net(criterion__reduction="sum", lr=0.01, batch_size=9), CuReNU(), random_state=0),
        {}, 1e-10,
    ),
    "L-BFGS": (
        lambda: UnlearnableClassifier(
            net(optimizer=torch.optim.LBFGS, optimizer__max_iter=3, lr=0.2, max_epochs=2),
            CuReNU(), random_state=0,
        ), {}, 1e-10,
    ),
    "BatchNorm": (
        lambda: UnlearnableClassifier(net(module__norm=True, batch_size=11), CuReNU(), random_state=0), {}, 1e-10,
    ),
    "sparse": (lambda: UnlearnableClassifier(net(), CuReNU(), random_state=0), {"sparse": True}, 1e-10),
    "mapped file": (lambda: UnlearnableClassifier(net(), CuReNU(), random_state=0), {"file": True}, 1e-10),
    "rows not kept": (lambda: UnlearnableClassifier(net(), keep_training_set=False, random_state=0), {}, 1e-10),
}  # fmt: skip


def fitted(name, rows, folder):
    """Fit the estimator of a case on some of the rows."""
    make, has, _ = CASES[name]
    X, y, ids = data()
    target = X[rows] @ np.array([1.0, -2.0, 0.5]) if has.get("continuous") else y[rows]
    given = X[rows]
    if has.get("sparse"):
        given = csr_array(np.where(np.abs(given) < 0.5, 0.0, given))
    if has.get("file"):
        path = os.path.join(folder, f"{len(given)}.npy")
        np.save(path, given)
        given = open_rows(path)
    weights = {"sample_weight": _weights()[rows]} if has.get("weights") else {}
    return make().fit(given, target, sample_id=ids[rows], **weights)


def forgotten(name, est):
    """Have the estimator of a case forget."""
    if name == "rows not kept":
        X, y, _ = data()
        return est.partial_forget(X[GONE], y[GONE])
    return est.forget(sample_id=GONE)


def state(est):
    """What a case compares: parameters before and after, and the counts of the report."""
    return {name: value.numpy(force=True).copy() for name, value in est.net_.module_.state_dict().items()}


def every_unlearner():
    classes = (getattr(unlearners, name) for name in unlearners.__all__)
    return {c.__name__: c for c in classes if isinstance(c, type) and issubclass(c, Unlearner) and c is not Unlearner}


def by_unlearner(base, name):
    """Forget by one unlearner, from a copy of the fitted estimators that it can start from."""
    unlearner = every_unlearner()[name]()
    is_linear = unlearner.__unlearner_tags__().requires_linear_module
    est = base["linear" if is_linear else "net"]
    if unlearner.recorder() is not None:
        est = base["fit"](linear() if is_linear else net(), unlearner)
    est = copy.deepcopy(est).set_params(unlearner=unlearner)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VacuousBoundWarning)  # of nets that are no more than an example
        return flat_parameters(est.forget(sample_id=GONE).net_).numpy()


def bases(rows):
    """Estimators that are fitted once for all unlearners."""
    X, y, ids = data()

    def fit(given, unlearner=None):
        return UnlearnableClassifier(given, unlearner, random_state=0).fit(X[rows], y[rows], sample_id=ids[rows])

    return {"net": fit(net()), "linear": fit(linear()), "fit": fit}


def verbs(est, rows):
    """Call one verb after the other, and tell after each what the estimator is."""
    X, y, ids = data()
    # What each of the two processes brings; one process brings all of it.
    added = np.intersect1d(np.concatenate([ids[part(rank)][:6] for rank in range(2)]), ids[rows])
    more = np.random.default_rng(7).normal(size=(N, 3))[added]
    steps = {
        "forget by content, a row of both": lambda: est.forget(X[5:6]),
        "partial_fit": lambda: est.partial_fit(more, y[added], sample_id=100 + added),
        "partial_forget": lambda: est.partial_forget(X[[7, 22]], y[[7, 22]]),
        "partial_forget of a stranger": lambda: est.partial_forget(X[7:8] + 3, y[7:8]),
        "correct a target": lambda: est.correct(X[8:9], y_new=(y[8:9] + 1) % 3),
        "correct a row": lambda: est.correct(X[40:41], X_new=X[40:41] + 0.1),
        "forget what was corrected": lambda: est.forget(X[40:41] + 0.1),
        "request and settle": lambda: (est.request_forget(sample_id=[100, 10]), est.settle()),
        "request and cancel": lambda: est.cancel_request(est.request_forget(sample_id=[11])),
        "retrain": lambda: est.retrain(),
        "forget most": lambda: est.forget(sample_id=[i for i in ids[11:].tolist() if i not in (22, 30, 40)]),
    }
    told = {}
    for name, step in steps.items():
        step()
        told[name] = (flat_parameters(est.net_).numpy(), len(est.training_set_), est.training_set_.y.tolist())
    return told


class Fails(Retrain):
    """Fails in process 1 alone, in a way that nobody could agree on."""

    rank = 0

    def unlearn(self, problem):
        if Fails.rank == 1:
            raise KeyboardInterrupt
        return super().unlearn(problem)


class Dies(Fails):
    """Process 1 dies."""

    def unlearn(self, problem):
        if Fails.rank == 1:
            os._exit(3)
        return super().unlearn(problem)


class _Log:
    """Outcomes by name: ("ok", value), or the class of an error and its message."""

    def __init__(self):
        self.of = {}

    def attempt(self, name, action):
        try:
            self.of[name] = "ok", action()
        except BaseException as error:  # a test says which it should be
            self.of[name] = type(error).__name__, str(error)


def _begin(folder, name, rank):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/{name}", rank=rank, world_size=2, timeout=timedelta(seconds=TIMEOUT)
    )


def run(rank, folder):
    """All that one process does; what came of it is left in the folder."""
    Fails.rank = rank
    log, mine = _Log(), part(rank)
    X, y, ids = data()
    _begin(folder, "first", rank)
    local = UnlearnableClassifier(net(), random_state=0).fit(X[mine], y[mine], sample_id=ids[mine])
    with data_parallel(timeout=TIMEOUT) as processes:
        log.of["processes"] = tuple(processes)
        for name in CASES:
            log.attempt(name, lambda name=name: _case(name, mine, f"{folder}/{rank}"))
        base = bases(mine)
        for name in every_unlearner():
            log.attempt(f"unlearner {name}", lambda name=name: by_unlearner(base, name))
        log.attempt("verbs", lambda: verbs(copy.deepcopy(base["net"]), mine))
        est = base["net"]
        log.of["held"] = held_by(est), held_by(copy.deepcopy(est).forget(sample_id=GONE))
        _refused_requests(log, est, rank)
        _not_in_processes(log, est, local, mine)
        log.attempt("predictions", lambda: est.predict_proba(X[:9]))
        log.of["before"] = _kept(est)
        est.set_params(unlearner=Fails())
        log.attempt("one fails", lambda: est.forget(sample_id=[3]))
        log.attempt("out of step", lambda: est.forget(sample_id=[3]))
        log.of["after one failed"] = _kept(est)
    log.attempt("outside", lambda: est.forget(sample_id=[3]))
    _begin(folder, "second", rank)
    with data_parallel(timeout=TIMEOUT):
        est.set_params(unlearner=Dies())
        if rank == 1:
            _leave(folder, rank, log)
        log.attempt("one dies", lambda: est.forget(sample_id=[3]))
        log.of["after one died"] = _kept(est)
    _leave(folder, rank, log)


def _case(name, rows, folder):
    os.makedirs(folder, exist_ok=True)
    est = fitted(name, rows, folder)
    before = state(est)
    forgotten(name, est)
    report = est.unlearning_report_
    counts = report.n_erased, report.n_trained_erased, report.n_retained, str(report.status)
    return before, state(est), counts, est.receipts_.head, getattr(est, "classes_", np.empty(0)).tolist()


class _Bytes(pickle.Pickler):
    """All that an object holds, rows of this process included, which are not pickled otherwise."""

    def reducer_override(self, obj):
        return (object, (), vars(obj)) if isinstance(obj, SpreadRows) else NotImplemented


def held_by(est):
    """Which rows of the data an estimator holds in this process."""
    stream = io.BytesIO()
    _Bytes(stream).dump(est)
    return [k for k, row in enumerate(data()[0]) if row.tobytes() in stream.getvalue()]


def _kept(est):
    return digest_parameters(est.net_), len(est.training_set_), est.receipts_.head


def _refused_requests(log, est, rank):
    X, y, ids = data()
    before = _kept(est)
    log.attempt("unknown row", lambda: est.forget(X[:1] + 9))
    log.attempt("unknown id", lambda: est.forget(sample_id=[10**6]))
    log.attempt("everything", lambda: est.forget(sample_id=ids))
    log.attempt("another request in each", lambda: est.forget(sample_id=[rank]))
    log.attempt("not a number in one", lambda: est.forget(X[:1] * (np.nan if rank else 1.0)))
    log.attempt("fit fails in one", lambda: UnlearnableClassifier(net()).fit(X[:9] * (np.nan if rank else 1.0), y[:9]))
    log.attempt("fit on other columns", lambda: UnlearnableClassifier(net()).fit(X[:9, : 2 + rank], y[:9]))
    log.attempt("other settings", lambda: UnlearnableClassifier(net(lr=0.1 + rank)).fit(X[:9], y[:9]))
    log.attempt("memory", lambda: UnlearnableClassifier(net(), memory="nowhere").fit(X[:9], y[:9]))
    log.of["nothing changed"] = _kept(est) == before


def _not_in_processes(log, est, local, mine):
    X, y, ids = data()
    refused = {
        "forget of an estimator fitted alone": lambda: local.forget(sample_id=ids[mine][:1]),
        "partial_fit of one": lambda: local.partial_fit(X[mine], y[mine], sample_id=ids[mine]),
        "retrain of one": lambda: local.retrain(),
        "partial_forget of one": lambda: local.partial_forget(X[mine][:1], y[mine][:1]),
        "correct of one": lambda: local.correct(X[mine][:1], y_new=y[mine][:1]),
        "request_forget of one": lambda: local.request_forget(sample_id=ids[mine][:1]),
        "Pipeline": lambda: make_pipeline(UnlearnableClassifier(net())).fit(X, y),
        "ShardedClassifier": lambda: ShardedClassifier(UnlearnableClassifier(net()), n_shards=2).fit(X, y),
        "sk_unlearn.forget": lambda: sk_unlearn.forget(est, X[:1], y[:1]),
        "sk_unlearn.save": lambda: sk_unlearn.save(est, "nowhere"),
        "pickle": lambda: pickle.dumps(est),
        "from_fitted": lambda: UnlearnableClassifier.from_fitted(local.net_, X, y),
        "audit": lambda: audit(local, X[:2], y[:2], X[2:4], y[2:4]),
        "record_audit": lambda: est.record_audit(None),
        "fit_many": lambda: fit_many(UnlearnableClassifier(net()), X, y, seeds=[0]),
        "ForgetSearchCV": lambda: ForgetSearchCV(local, {"unlearner": [CuReNU()]}).fit(X, y),
    }
    for name, action in refused.items():
        log.attempt(f"refused: {name}", action)


def _leave(folder, rank, log):
    with open(f"{folder}/{rank}.pkl", "wb") as file:
        pickle.dump(log.of, file)
