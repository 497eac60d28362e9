"""The adaptive weight of the cubic term."""

import numpy as np
import pytest
import torch

from sk_unlearn.solvers import DenseCubicModel
from sk_unlearn.solvers.adaptive import AdaptiveWeight, FixedWeight, first_weight


def hessian_and_gradient(seed=0, d=6):
    rng = np.random.default_rng(seed)
    A = torch.from_numpy(rng.normal(size=(d, d)))
    return A @ A.T, torch.from_numpy(rng.normal(size=d))


def model():
    return DenseCubicModel(*hessian_and_gradient())


def quadratic(s):
    """The decrease that a function has which is the quadratic part of `model` and no more."""
    H, g = hessian_and_gradient()
    return -float(g @ s + 0.5 * s @ H @ s)


def test_a_decrease_as_predicted_shrinks_the_weight():
    problem, weight = model(), AdaptiveWeight(1.0, shrink=0.1)
    tried = weight.step(problem, quadratic)
    assert tried.taken
    assert pytest.approx(0.1) == weight.L
    torch.testing.assert_close(tried.step, problem.solve(1.0).step)


def test_a_decrease_that_fails_grows_it_until_one_comes():
    problem, weight = model(), AdaptiveWeight(0.01, shrink=0.1)
    tried = weight.step(problem, lambda s: quadratic(s) - 5 * float(s.norm()) ** 3)
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


def test_a_decrease_that_rounding_hides_is_not_measured():
    weight = AdaptiveWeight(1.0, shrink=0.1)
    tried = weight.step(model(), lambda s: -1.0, resolution=1e9)
    assert tried.taken
    assert pytest.approx(0.1) == weight.L


def test_bounds_and_factors_are_settings():
    def half(s):
        return 0.5 * problem.solve(1.0).decrease

    problem = model()
    strict, lenient = (
        AdaptiveWeight(1.0, 0.1, too_poor=poor, very_good=good) for poor, good in ((0.6, 0.9), (0.1, 0.4))
    )
    assert not strict.step(problem, half, max_tries=1).taken
    assert lenient.step(problem, half).taken
    assert (strict.L, lenient.L) == (3.0, 0.1)
    patient = AdaptiveWeight(1.0, 0.1, grow=2.0, max_tries=5)
    assert not patient.step(problem, lambda s: -1.0).taken
    assert patient.L == 32.0


def test_a_fixed_weight_stays_and_every_step_is_taken():
    problem, weight = model(), FixedWeight(2.0)
    tried = weight.step(problem, lambda s: -7.0)
    assert tried.taken
    assert (weight.L, tried.record["L"], tried.record["actual"]) == (2.0, 2.0, -7.0)
    torch.testing.assert_close(tried.step, problem.solve(2.0).step)
