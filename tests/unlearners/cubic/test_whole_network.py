"""Steps in the whole network: on noisy rows they undo what rows brought, and finish no training."""

import copy

import numpy as np
import pytest
from sklearn.base import clone

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.metrics import distance_ratio
from sk_unlearn.unlearners import Status, StoCuReNU
from sk_unlearn.unlearners.cubic._stopping import FixedSteps, StoppingRule

N, N_ERASED, N_REQUESTS = 600, 48, 8
MARGIN = 1.1  # of the distance that doing nothing leaves, or as far as one retrained model is from another


class Noisy:
    """A net fitted to rows whose classes nobody can tell, and nets trained without some of them."""

    def __init__(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(N + 1000, 10)).astype(np.float32)
        y = (X @ rng.normal(size=(10, 3)) + 1.5 * rng.gumbel(size=(len(X), 3))).argmax(1)
        self.X, self.y, self.X_test = X[:N], y[:N], X[N:]
        self.erased = rng.permutation(N)[:N_ERASED]
        self.fitted = UnlearnableClassifier(random_state=0).fit(self.X, self.y)
        kept = np.setdiff1d(np.arange(N), self.erased)
        self.retrained = [
            clone(self.fitted).set_params(random_state=seed).fit(self.X[kept], self.y[kept]) for seed in (1, 2)
        ]

    def after(self, n_requests, unlearner=None):
        est = copy.deepcopy(self.fitted).set_params(unlearner=unlearner)
        for rows in np.array_split(self.erased, n_requests):
            est.forget(self.X[rows], self.y[rows])
        return est

    def distances(self, est):
        return np.array([distance_ratio(est, self.retrained, part) for part in (self.X[self.erased], self.X_test)])


@pytest.fixture(scope="module")
def noisy():
    return Noisy()


@pytest.mark.parametrize("n_requests", [1, N_REQUESTS])
def test_forgetting_noisy_rows_is_no_worse_than_doing_nothing(noisy, n_requests):
    before, after = noisy.distances(noisy.fitted), noisy.distances(noisy.after(n_requests))
    assert (after <= np.maximum(1.0, MARGIN * before)).all(), (before, after)
    assert after[0] < before[0]  # and it does forget


def test_a_step_that_promises_more_than_those_before_it_is_not_taken(noisy):
    report = noisy.after(N_REQUESTS, StoCuReNU(output_layer_first=False)).unlearning_report_
    assert report.status is Status.OVERSHOOT_UNDONE
    assert "promised more than any before it" in report.stop_reason
    *taken, last = report.trace
    assert all(record["taken"] for record in taken)
    assert not last["taken"]
    assert last["step_norm"] == last["objective_change"] == 0
    assert last["actual"] > 0.1 * last["predicted"] > 0.1 * max(record["predicted"] for record in taken)


def test_a_net_whose_change_is_mostly_chance_is_set_aside(noisy):
    told = noisy.after(1).unlearning_report_.extra
    assert told["renewal"] == "no"
    assert "times as much as for the retained ones" in told["renewal_reason"]


class TestSlides:
    @staticmethod
    def rule(kind=StoppingRule, **more):
        return kind(first_norm=1.0, enough=0.01, max_steps=9, max_rise=2.0, noise_factor=2.0, **more)

    @pytest.mark.parametrize(("before", "slides"), [([], False), ([3.0], False), ([1.0, 3.0], False), ([1.0], True)])
    def test_where_more_is_promised_than_ever(self, before, slides):
        assert self.rule().slides(2.0, before) is slides

    def test_not_where_steps_may_promise_more(self):
        assert not self.rule(may_promise_more=True).slides(2.0, [1.0])

    def test_not_where_every_step_is_taken(self):
        assert not self.rule(FixedSteps).slides(2.0, [1.0])
