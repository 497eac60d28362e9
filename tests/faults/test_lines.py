"""An exception before any line of a verb leaves the old state or the new one, bit for bit.

`python -m benchmarks.faults --kinds line` strikes at every line with every error; here it is some of each verb.
"""

import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks._faults import (
    SITUATIONS,
    Alarm,
    Situation,
    Trial,
    X,
    line_strikes,
    strike_at,
    strike_lines,
    surroundings,
)
from sk_unlearn.unlearners import Status, Unlearner, UnlearningResult

VERBS = [(situation.name, verb) for situation in SITUATIONS.values() for verb in situation.verbs]
# Where states change: each line of these, and some of all others.
DECISIVE = {"_journal.py", "_commit.py", "_lock.py", "_turns.py", "fitting.py", "base.py"}


@pytest.mark.parametrize(("situation", "verb"), VERBS)
def test_an_exception_at_any_line_leaves_the_old_state_or_the_new(situation, verb):
    trial = Trial(SITUATIONS[situation], verb)
    strikes = line_strikes(trial)
    rng = random.Random(0)
    decisive = [each for each in strikes if Path(each[0][0]).name in DECISIVE]
    tally = strike_lines(trial, [*rng.sample(decisive, 8), *rng.sample(strikes, 4)])
    assert tally.struck == tally.injected
    assert tally.clean, (tally.neither, tally.left_behind)


def test_the_last_line_before_the_commit_leaves_the_old_state_and_the_first_after_it_the_new():
    trial = Trial(SITUATIONS["BatchNorm"], "forget")
    lines = [each for each in line_strikes(trial) if Path(each[0][0]).name == "_journal.py"]
    tally = strike_lines(trial, [each for each in lines if each[-1] is MemoryError])
    assert tally.clean, tally.neither
    assert tally.old
    assert tally.new


def test_a_request_after_a_struck_one_does_what_it_would_have_done():
    trial = Trial(SITUATIONS["BatchNorm"], "forget")
    est = SITUATIONS["BatchNorm"].build()
    straight = SITUATIONS["BatchNorm"].build().forget(X[2:6])
    line = next(line for line, _, _ in line_strikes(trial) if Path(line[0]).name == "_commit.py")
    assert strike_at(line, 1, KeyboardInterrupt)(lambda: est.forget(X[2:6]))[0]
    assert len(est.unlearning_history_) == 1
    est.forget(X[2:6])
    np.testing.assert_array_equal(est.predict_proba(X), straight.predict_proba(X))


# --------------------------------------------------------------------------------------------------- the harness itself


class MovesTheNet(Unlearner):
    """What no algorithm may do: it changes the fitted net while it solves."""

    def __init__(self, net=None):
        self.net = net

    def __sklearn_clone__(self):
        return self

    def unlearn(self, problem):
        for parameter in self.net.module_.parameters():
            parameter.data += 1
        raise Alarm
        return UnlearningResult(problem.parameters, Status.COMPLETED)


def test_the_harness_finds_a_state_that_is_neither():
    situation = SITUATIONS["BatchNorm"]
    trial = Trial(situation, "forget")
    trial.verb = lambda est: est.set_params(unlearner=MovesTheNet(est.net_)).forget(X[2:6])
    tally = strike_lines(trial, [])

    def strike(action):
        try:
            action()
        except Alarm as error:
            return True, error

    trial.run(strike, tally)
    assert len(tally.neither) == 1
    assert not tally.clean


def test_the_harness_finds_what_a_verb_does_to_the_process():
    import torch

    situation = Situation("draws", SITUATIONS["unfitted"].build, {"fit": lambda est: est.fit(X, X[:, 0] > 0)})
    trial = Trial(situation, "fit")
    before = surroundings()
    torch.rand(1)
    trial.run(lambda action: (False, None), tally := strike_lines(trial, []))
    assert len(tally.left_behind) == 1
    assert before != surroundings()
