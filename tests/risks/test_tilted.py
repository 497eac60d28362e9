"""A risk with a linear term is that risk, minus the term."""

import numpy as np
import pytest
import torch

from sk_unlearn.risks.tilted import TiltedRisk
from tests import _problems


@pytest.fixture(scope="module")
def problem():
    return _problems.problem_for(n=30, d=3, erased=4, hidden=3, max_epochs=5)


@pytest.fixture
def tilted(problem):
    risk, start = problem.retained, problem.parameters
    tilt = torch.from_numpy(np.random.default_rng(1).normal(size=len(start)))
    return TiltedRisk(risk, tilt, start=start, risk_gradient=risk.gradient(start))


@pytest.mark.parametrize("rows", [None, np.array([2, 5, 7])], ids=["all", "some"])
def test_values_and_gradients_are_those_of_the_sum(problem, tilted, rows):
    risk, w = problem.retained, problem.parameters + 0.1
    value, gradient = risk.value(w, rows) - float(tilted.tilt @ w), risk.gradient(w, rows) - tilted.tilt
    around = tilted.linearise(w, rows)
    for each in (tilted.value(w, rows), around.value):
        assert each == pytest.approx(value, rel=1e-12)
    for each in (tilted.gradient(w, rows), around.gradient):
        torch.testing.assert_close(each, gradient)
    v, plain = torch.ones_like(w), risk.linearise(w, rows)
    for product in ("hessian", "ggn", "fisher"):
        torch.testing.assert_close(getattr(around, product)(v), getattr(plain, product)(v))


def test_rows_are_those_of_the_risk(problem, tilted):
    risk = problem.retained
    assert (tilted.n_rows, tilted.mass) == (risk.n_rows, risk.mass)
    drawn = (each.sample(5, np.random.default_rng(3)) for each in (tilted, risk))
    np.testing.assert_array_equal(*drawn)


def test_it_rests_where_the_tilt_is_the_gradient(tilted):
    assert not tilted.is_stationary_at_start
    at_rest = tilted.with_tilt(tilted.risk_gradient)
    assert at_rest.is_stationary_at_start
    assert at_rest.gradient_norm_at_start == 0
