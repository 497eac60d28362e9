"""What threads ask for at once is what comes of it one after the other; predictions are of one model each."""

import copy
import os
import signal
import sys
import threading

import pytest
import torch

from benchmarks._faults import (
    DropoutNet,
    NoisyNet,
    NormNet,
    X,
    X_other,
    another_thread_gets_its_turn,
    at_once,
    fingerprint,
    fitted,
    pairs_of_estimators,
    pairs_of_requests,
    predictions_meanwhile,
    unfitted,
    y,
    y_other,
)
from sk_unlearn.utils._lazy import cached_property
from sk_unlearn.utils._random import seeded_torch
from sk_unlearn.utils._turns import Turns


@pytest.fixture(scope="module", params=[NormNet, DropoutNet])
def est(request):
    return copy.deepcopy(fitted(request.param))


@pytest.fixture(scope="module")
def noisy():
    return copy.deepcopy(fitted(NoisyNet))


def forget(est):
    est.forget(X[2:4])


def forget_others(est):
    est.forget(X[4:6])


def learn(est):
    est.partial_fit(X[:5] + 1, y[:5], sample_id=range(40, 45))


def fit(est):
    est.fit(X, y)


def fit_others(est):
    est.fit(X_other, y_other)


def assert_clean(tally):
    assert tally.clean, tally.neither


def test_two_requests_of_one_estimator_take_turns(est):
    assert_clean(pairs_of_requests(8, forget, forget_others, est))
    assert_clean(pairs_of_requests(2, forget, learn, est))
    assert_clean(pairs_of_requests(2, fit, forget, est))


def test_fits_of_separate_estimators_equal_those_of_one_after_the_other():
    dropout, norm = unfitted(DropoutNet), unfitted(NormNet)
    assert_clean(pairs_of_estimators(8, (dropout, fit), (dropout, fit_others)))
    assert_clean(pairs_of_estimators(4, (dropout, fit), (norm, fit_others)))


def test_requests_that_draw_random_numbers_disturb_nobody(noisy, est):
    assert_clean(pairs_of_estimators(3, (unfitted(DropoutNet), fit), (noisy, forget)))
    assert_clean(pairs_of_estimators(2, (noisy, forget), (noisy, forget_others)))
    assert_clean(pairs_of_estimators(2, (noisy, learn), (est, learn)))


@pytest.mark.parametrize("verb", [fit_others, fit, learn, forget])
def test_predictions_meanwhile_are_of_the_old_model_or_the_new(est, verb):
    if verb is not fit_others:  # whose rows have fewer columns
        assert_clean(predictions_meanwhile(2, est, verb))


def test_predictions_during_a_fit_with_other_classes_are_of_one_model():
    est = unfitted(DropoutNet).fit(X, y)
    for _ in range(4):
        one, over, seen = copy.deepcopy(est), threading.Event(), []

        def refit(one=one, over=over):
            one.fit(X, [("low", "mid", "high")[min(2, int(v > 0) + int(v > 1))] for v in X[:, 0]])
            over.set()

        def look(one=one, over=over, seen=seen):
            while not over.is_set():
                seen.append((one.predict_proba(X).shape[1], one.predict(X).dtype.kind))

        at_once(refit, look)
        assert {(n, kind) for n, kind in seen} <= {(2, "i"), (2, "U"), (3, "U")}  # two calls, each of one model


def test_predictions_do_not_disturb_a_fit():
    alone, served = fingerprint(unfitted(DropoutNet).fit(X, y)), unfitted(NormNet).fit(X, y)
    for _ in range(4):
        est, over = unfitted(DropoutNet), threading.Event()

        def train(est=est, over=over):
            est.fit(X, y)
            over.set()

        def predict(over=over):
            while not over.is_set():
                served.predict_proba(X)

        at_once(train, predict)
        assert fingerprint(est) == alone


def test_a_prediction_draws_nothing_from_the_global_generator():
    est = unfitted(NormNet).fit(X, y)
    before = torch.get_rng_state()
    est.predict(X), est.predict_proba(X)
    assert torch.equal(torch.get_rng_state(), before)


def test_attention_switches_come_back_when_the_last_of_two_threads_is_done(noisy):
    cuda = torch.backends.cuda
    before = cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()
    for _ in range(4):
        pair = [copy.deepcopy(noisy), copy.deepcopy(noisy)]
        at_once(lambda pair=pair: pair[0].forget(X[2:6]), lambda pair=pair: pair[1].forget(X[2:5]))
        assert (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()) == before


# --------------------------------------------------------------------------------------------------------------- turns


def test_nothing_stays_locked_after_an_error():
    est = fitted(NormNet)
    with pytest.raises(ValueError, match="NaN"):
        est.fit([[float("nan")] * 3] * 4, [0, 1, 0, 1])
    assert another_thread_gets_its_turn(est)


def test_a_turn_may_be_taken_again_inside():
    turns = Turns()
    with turns.taken():
        with turns.taken():
            assert turns.held
        assert turns.held
    assert not turns.held


def test_a_second_thread_waits_for_its_turn():
    turns, order = Turns(), []

    def work():
        with turns.taken():
            order.append("second")

    with turns.taken():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # several threads, and a fork: that is the point
def test_a_forked_process_does_not_inherit_a_held_turn():
    held, over = threading.Event(), threading.Event()

    def hold():
        with seeded_torch(0):
            held.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        child = os.fork()
        if child == 0:  # killed by the alarm, should it wait for ever
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            sys.settrace(None)
            with seeded_torch(0):
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        over.set()
        thread.join()


def test_what_is_computed_once_keeps_no_other_thread_out():
    """functools.cached_property of Python 3.11 holds a lock of its class, which met a turn the other way round."""

    class Reads:
        @cached_property
        def value(self):
            inside.set()
            with turns.taken():
                return 1

    turns, inside = Turns(), threading.Event()

    def read_in_turn():
        with turns.taken():
            waiting.start()
            inside.wait()
            assert Reads().value == 1

    waiting = threading.Thread(target=lambda: Reads().value, daemon=True)
    reading = threading.Thread(target=read_in_turn, daemon=True)
    reading.start()
    reading.join(10)
    waiting.join(10)
    assert not reading.is_alive()
    assert not waiting.is_alive()
