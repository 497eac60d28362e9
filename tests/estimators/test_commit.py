"""A request is carried out whole or not at all: whatever strikes leaves the old state or the new, bit for bit."""

import copy
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

import sk_unlearn
from sk_unlearn.unlearners import Retrain, Status, StoCuReNU, Unlearner, UnlearningResult
from tests._problems import classifier

PACKAGE = str(Path(sk_unlearn.__file__).parent)


class NormNet(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.first = nn.Linear(n_features_in, 5)
        self.norm = nn.BatchNorm1d(5)
        self.last = nn.Linear(5, n_outputs)

    def forward(self, X):
        return self.last(torch.tanh(self.norm(self.first(X))))


class Shift(Unlearner):
    """Moves every parameter a little: all of a request but the solve."""

    def unlearn(self, problem):
        return UnlearningResult(problem.parameters + 0.1, Status.COMPLETED, "shifted", target=problem.residual)


rng = np.random.default_rng(1)
X = rng.normal(size=(40, 3))
y = (X[:, 0] > 0).astype(int)


def fit(unlearner=None):
    est = classifier(unlearner, NormNet, optimizer=torch.optim.Adam, lr=0.05, max_epochs=3, batch_size=10)
    est.fit(X[:30], y[:30], sample_id=np.arange(30)).forget(X[:2])
    # So that the optimiser, which a request empties, has something to lose.
    return est.partial_fit(X[30:], y[30:], sample_id=np.arange(30, 40))


@pytest.fixture(scope="module")
def shifted():
    return fit(Shift())


def everything(est):
    rows = est.training_set_
    optimiser = est.net_.optimizer_.state_dict()["state"]
    (group,) = est.net_.optimizer_.param_groups
    parameters = list(est.net_.module_.parameters())
    assert [id(p) for p in group["params"]] == [id(p) for p in parameters]
    assert all(type(p) is nn.Parameter and p.requires_grad for p in parameters)
    anchor = est.unlearning_state_.anchor
    return {
        **{k: v.clone().numpy() for k, v in est.net_.module_.state_dict().items()},
        **{f"optimiser {i} {k}": np.asarray(v) for i, s in optimiser.items() for k, v in s.items()},
        **{name: getattr(rows, name).copy() for name in ("X", "y", "role", "sample_id")},
        "found": rows.match(X).found,
        "residual": None if anchor is None else anchor.residual.numpy(),
        "gradient": None if anchor is None else anchor.gradient.numpy(),
        "anchor": None if anchor is None else np.array([anchor.mass, anchor.n_rows]),
        "reports": [(r.request, r.n_erased, r.step_norm) for r in est.unlearning_history_],
        "last report": est.unlearning_report_ is est.unlearning_history_[-1],
        "proba": est.predict_proba(X),
        "training": [m.training for m in est.net_.module_.modules()],
        "history": len(est.net_.history),
        "n_partial_fits": est.unlearning_state_.n_partial_fits,
    }


def same(one, other, but=()):
    return one.keys() - set(but) == other.keys() - set(but) and all(
        np.array_equal(one[k], other[k]) if one[k] is not None and other[k] is not None else one[k] is other[k]
        for k in one.keys() - set(but)
    )


VERBS = {
    "forget": lambda est: est.forget(X[2:6]),
    "by id": lambda est: est.forget(sample_id=[3, 4]),
    "partial_forget": lambda est: est.partial_forget(np.concatenate([X[2:4], X[:2] + 5]), [0, 1, 1, 0]),
    "correct": lambda est: est.correct(X[2:4], X_new=X[2:4] + 1, y_new=[0, 1]),
    "partial_fit": lambda est: est.partial_fit(X[:5] + 1, y[:5], sample_id=np.arange(40, 45)),
}


def strike_at(step, verb, est, error=KeyboardInterrupt):
    """Carry a request out, and raise the error before the step-th line of the package; None never does.

    Returns whether it came to that, and how many lines were executed.
    """
    executed, struck = 0, False

    def trace(frame, event, _):
        nonlocal executed
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            executed += 1
            if executed == step:
                raise error
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        verb(est)
    except error:
        struck = True
    finally:
        sys.settrace(before)
    return struck, executed


@pytest.mark.parametrize("name", VERBS)
def test_an_exception_at_any_line_leaves_the_old_state_or_the_new(shifted, name):
    # Every line would take minutes: each in a different place of a stride, over the three kinds of error.
    before, done = everything(shifted), copy.deepcopy(shifted)
    _, n_lines = strike_at(None, VERBS[name], copy.deepcopy(shifted))
    VERBS[name](done)
    after = everything(done)
    assert not same(before, after)
    steps = sorted({*range(1, n_lines, max(1, n_lines // 60)), *range(max(1, n_lines - 60), n_lines + 1)})
    outcomes = []
    for i, step in enumerate(steps):
        error = (KeyboardInterrupt, SystemExit, MemoryError)[i % 3]
        est = copy.deepcopy(shifted)
        strike_at(step, VERBS[name], est, error)
        now = everything(est)
        # The gradient that training left is taken when it is first needed; taken or not, it says the same.
        lazy = ("residual", "gradient", "anchor")
        assert same(now, before, but=lazy) or same(now, after, but=lazy), step
        outcomes.append(same(now, after, but=lazy))
    assert {True, False} == set(outcomes)
    assert outcomes == sorted(outcomes)  # the old state up to some line, the new one from there on


@pytest.mark.parametrize("unlearner", [StoCuReNU(max_steps=2), Retrain()], ids=["cubic", "retrain"])
def test_an_exception_in_the_solve_leaves_the_old_state(unlearner):
    est = fit(Shift()).set_params(unlearner=unlearner)
    before, after = everything(est), everything(copy.deepcopy(est).forget(X[2:6]))
    _, n_lines = strike_at(None, VERBS["forget"], copy.deepcopy(est))
    for step in range(5, n_lines, max(1, n_lines // 25)):
        struck = copy.deepcopy(est)
        strike_at(step, VERBS["forget"], struck)
        now = everything(struck)
        lazy = ("residual", "gradient", "anchor")
        assert same(now, before, but=lazy) or same(now, after, but=lazy), step
    # And nothing is broken: the same request now does what it would have done.
    assert est.forget(X[2:6]).unlearning_report_.n_erased == 4


def test_a_request_after_a_struck_one_does_what_it_would_have_done(shifted):
    est, straight = copy.deepcopy(shifted), copy.deepcopy(shifted).forget(X[2:6])
    assert strike_at(200, VERBS["forget"], est)[0]
    assert len(est.unlearning_history_) == 1
    est.forget(X[2:6])
    np.testing.assert_array_equal(est.predict_proba(X), straight.predict_proba(X))


def test_first_request_that_fails_leaves_no_report():
    class Fails(Unlearner):
        def unlearn(self, problem):
            raise RuntimeError("injected")

    est = classifier(Fails(), NormNet, max_epochs=1).fit(X, y)
    with pytest.raises(RuntimeError):
        est.forget(X[:2])
    assert est.unlearning_history_ == []
    assert not hasattr(est, "unlearning_report_")


class FailsInTheSecondEpoch(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 2:
            raise RuntimeError("second epoch")


def test_a_fit_that_fails_keeps_the_fitted_estimator():
    est = fit(Shift())
    before = everything(est)
    with pytest.raises(ValueError, match="NaN"):
        est.fit(np.full((4, 2), np.nan), ["a", "b", "a", "b"])
    est.set_params(estimator__callbacks=[("fails", FailsInTheSecondEpoch())])
    with pytest.raises(RuntimeError, match="second epoch"):
        est.fit(X[:, :2], y.astype(str))
    assert same(everything(est), before)
    assert est.classes_.tolist() == [0, 1]
    assert est.n_features_in_ == 3


# --------------------------------------------------------------------------------------------------------- real signals


class Signals(Unlearner):
    """Sends the process a Ctrl-C while it solves."""

    def unlearn(self, problem):
        os.kill(os.getpid(), signal.SIGINT)
        return UnlearningResult(problem.parameters + 1, Status.COMPLETED)


def test_ctrl_c_before_the_commit_changes_nothing():
    est = fit(Shift()).set_params(unlearner=Signals())
    before = everything(est)
    with pytest.raises(KeyboardInterrupt):
        est.forget(X[2:6])
    assert same(everything(est), before, but=("residual", "gradient", "anchor"))


# One that strikes in a destructor is printed by Python and not raised.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_signals_of_a_timer_leave_the_old_state_or_the_new(shifted):
    class Alarm(Exception):  # noqa: N818  it is a signal that came and no error
        pass

    rang = []

    def ring(number, frame):
        rang.append(number)
        raise Alarm

    before, done = everything(shifted), copy.deepcopy(shifted).forget(X[2:6])
    after = everything(done)
    waits, outcomes = np.random.default_rng(0).uniform(1e-5, 12e-3, size=60), set()
    handler = signal.signal(signal.SIGALRM, ring)
    try:
        for wait in waits:
            est = copy.deepcopy(shifted)
            rang.clear()
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, wait)
                    est.forget(X[2:6])
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Alarm:  # it may also ring on the way out of the inner block
                pass
            except TypeError:  # which numpy makes of what strikes in a comparison
                assert rang
            now = everything(est)
            lazy = ("residual", "gradient", "anchor")
            assert same(now, before, but=lazy) or same(now, after, but=lazy)
            outcomes.add(same(now, after, but=lazy))
    finally:
        signal.signal(signal.SIGALRM, handler)


def test_forget_in_a_thread(shifted):
    est = copy.deepcopy(shifted)
    thread = threading.Thread(target=lambda: est.forget(X[2:6]))
    thread.start()
    thread.join()
    assert len(est.training_set_) == 34


def test_a_second_request_waits_for_the_first(shifted):
    """What two threads ask for at once is what they would have asked for one after the other."""
    orders = []
    for order in ((2, 4), (4, 2)):
        est = copy.deepcopy(shifted)
        for first in order:
            est.forget(X[first : first + 2])
        orders.append(everything(est))
    for _ in range(20):
        est, start = copy.deepcopy(shifted), threading.Barrier(2)

        def ask(first, est=est, start=start):
            start.wait()
            est.forget(X[first : first + 2])

        threads = [threading.Thread(target=ask, args=(first,)) for first in (2, 4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        now = everything(est)
        assert any(same(now, each) for each in orders)
        assert est.unlearning_state_.anchor.n_rows == len(est.training_set_) == 34


# ------------------------------------------------------------------------------------------- the net that predicts


def test_predictions_during_a_request_are_those_of_the_old_model(shifted):
    est, seen = copy.deepcopy(shifted), []

    class Looks(Unlearner):
        def unlearn(self, problem):
            w = problem.parameters + 0.1
            seen.append(est.predict_proba(X))
            local = problem.retained.linearise(w)
            local.hessian(w)
            seen.append(est.predict_proba(X))
            return UnlearningResult(w, Status.COMPLETED)

    before = est.predict_proba(X)
    modules = list(est.net_.module_.modules())
    est.set_params(unlearner=Looks()).forget(X[2:6])
    for proba in seen:
        np.testing.assert_array_equal(proba, before)
    assert not np.allclose(est.predict_proba(X), before)
    # The old modules are whole for whoever is still predicting with them.
    assert all(type(p) is nn.Parameter for p in modules[0].parameters())


def test_whoever_holds_the_net_holds_the_forgetful_one(shifted):
    est = copy.deepcopy(shifted)
    net = est.net_
    est.forget(X[2:6])
    assert est.net_ is net
    assert all(p.grad is None for p in net.module_.parameters())
    assert not net.optimizer_.state
