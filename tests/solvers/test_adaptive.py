"""The adaptive weight of the cubic term."""

import numpy as np
import pytest
import torch

from sk_unlearn.solvers import DenseCubicModel
from sk_unlearn.solvers.adaptive import AdaptiveWeight, first_weight


def model(seed=0, d=6):
    rng = np.random.default_rng(seed)
    A = torch.from_numpy(rng.normal(size=(d, d)))
    return DenseCubicModel(A @ A.T, torch.from_numpy(rng.normal(size=d)))


def quadratic(problem):
    return lambda s: -float(problem.g @ s + 0.5 * s @ problem._hessian @ s)


def test_a_promise_kept_shrinks_the_weight():
    problem, weight = model(), AdaptiveWeight(1.0, shrink=0.1)
    tried = weight.step(problem, quadratic(problem))
    assert tried.taken
    assert pytest.approx(0.1) == weight.L
    torch.testing.assert_close(tried.step, problem.solve(1.0).step)


def test_a_broken_promise_grows_it_until_one_is_kept():
    problem, weight = model(), AdaptiveWeight(0.01, shrink=0.1)
    tried = weight.step(problem, lambda s: quadratic(problem)(s) - 5 * float(s.norm()) ** 3)
    assert tried.taken
    assert weight.L > 0.01
    assert tried.record["ratio"] > 0.1
    assert tried.record["L"] == weight.L


@pytest.mark.parametrize("actual", [float("nan"), -float("inf"), 0.0])
def test_what_lowers_nothing_is_not_taken(actual):
    weight = AdaptiveWeight(1.0, shrink=0.1)
    tried = weight.step(model(), lambda s: actual, max_tries=3)
    assert not tried.taken
    assert tried.record["step_norm"] == 0.0
    assert pytest.approx(27.0) == weight.L


def test_first_weight_damps_by_the_share_asked_for():
    problem = model()
    values, _ = problem.spectrum
    L = first_weight(problem.spectrum, share=0.05)
    assert problem.solve(L).damping == pytest.approx(0.05 * float(values.max()), rel=1e-6)
