"""Signals at random moments of a verb, one or two of them, and Ctrl-C: the old state or the new one."""

import os
import signal
import sys

import pytest
from skorch.callbacks import Callback

from benchmarks._faults import SITUATIONS, NormNet, Trial, X, fingerprint, fitted, strike_by_timer, y
from sk_unlearn.unlearners import Status, Unlearner, UnlearningResult

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
VERBS = [(situation.name, verb) for situation in SITUATIONS.values() for verb in situation.verbs]


@pytest.mark.parametrize(("situation", "verb"), VERBS)
def test_signals_of_a_timer_leave_the_old_state_or_the_new(situation, verb):
    tally = strike_by_timer(Trial(SITUATIONS[situation], verb), 8, seed=0)
    assert not tally.neither, tally.neither
    assert tally.injected == tally.old + tally.new == 8


@pytest.mark.parametrize(("situation", "verb"), VERBS)
def test_two_signals_in_quick_succession_do_no_more(situation, verb):
    tally = strike_by_timer(Trial(SITUATIONS[situation], verb), 5, seed=1, twice=True)
    assert not tally.neither, tally.neither


class SendsCtrlC(Unlearner):
    """While it solves."""

    def unlearn(self, problem):
        os.kill(os.getpid(), signal.SIGINT)
        return UnlearningResult(problem.parameters + 1, Status.COMPLETED)


def test_ctrl_c_before_the_commit_changes_nothing():
    est = fitted(NormNet).set_params(unlearner=SendsCtrlC())
    before = fingerprint(est)
    with pytest.raises(KeyboardInterrupt):
        est.forget(X[2:6])
    assert fingerprint(est) == before


class SendsCtrlCInTheSecondEpoch(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("keep_training_set", [True, False])
def test_ctrl_c_ends_a_fit_with_the_old_model(keep_training_set):
    """Other than in skorch, where a net that has seen a part of its epochs passes for a trained one."""
    est = fitted(NormNet, keep_training_set=keep_training_set)
    est.set_params(estimator__callbacks=[("ctrl-c", SendsCtrlCInTheSecondEpoch())], estimator__max_epochs=4)
    before = fingerprint(est)
    with pytest.raises(KeyboardInterrupt):
        est.fit(X[:20], y[:20])
    assert fingerprint(est) == before
