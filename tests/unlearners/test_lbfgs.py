"""The quasi-Newton warm start finds optima, and stops honestly."""

import numpy as np
import pytest
import torch
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import LBFGSWarmStart, Status
from tests import _problems
from tests._problems import parameters, ridge_solution

rng = np.random.default_rng(13)
X = rng.normal(size=(60, 4)) * [1, 3, 10, 0.5]
y = X @ [1.0, -1.0, 0.5, 2.0] + rng.normal(size=60)
y[:6] += 10


def regressor(unlearner, **settings):
    defaults = {"max_epochs": 5, "batch_size": -1, "lr": 1e-3, "optimizer__weight_decay": 0.1}
    return _problems.regressor(unlearner, nn.Linear(4, 1).double(), **(defaults | settings))


def gradient_norm(est, X, y, w):
    """Of the mean loss with its penalty, over the rows that stay."""
    y = y if y.dtype.kind == "i" else y[:, None]
    return float(EmpiricalRisk(est.net_, X.astype(est.training_set_.raw_X.dtype), y).gradient(w).norm())


def test_it_finds_the_ridge_solution():
    est = regressor(LBFGSWarmStart(50, tol=1e-9)).fit(X, y)
    before = flat_parameters(est.net_)
    est.forget(X[:6])
    np.testing.assert_allclose(parameters(est), ridge_solution(X[6:], y[6:], 0.1), rtol=1e-6)
    report = est.unlearning_report_
    # Near the minimum the values agree to rounding long before the gradient is zero: either may end it.
    assert report.status in (Status.CONVERGED, Status.STALLED)
    first = gradient_norm(est, X[6:], y[6:], before)
    assert report.trace[-1]["gradient_norm"] <= 2e-8 * first
    assert report.n_steps < 50


def test_it_stops_at_the_tolerance():
    est = regressor(LBFGSWarmStart(50, tol=1e-4)).fit(X, y)
    before = flat_parameters(est.net_)
    report = est.forget(X[:6]).unlearning_report_
    assert report.status is Status.CONVERGED
    assert report.converged
    # Of the retained risk, which is what it descends; the report's norms are those of the tilted one.
    norms = [gradient_norm(est, X[6:], y[6:], w) for w in (before, flat_parameters(est.net_))]
    assert norms[1] <= 1e-4 * norms[0]
    assert norms[1] == pytest.approx(report.trace[-1]["gradient_norm"])


def test_a_correction_too():
    est = regressor(LBFGSWarmStart(50, tol=1e-9)).fit(X, y).correct(X[:6], y_new=y[:6] - 10)
    np.testing.assert_allclose(parameters(est), ridge_solution(X, np.concatenate([y[:6] - 10, y[6:]]), 0.1), rtol=1e-6)


def test_the_objective_falls_at_every_step_and_the_end_is_reported():
    A = rng.normal(size=(50, 3))
    est = UnlearnableClassifier(unlearner=LBFGSWarmStart(4, tol=0.0), random_state=0).fit(A, A[:, 0] > 0)
    report = est.forget(A[:5]).unlearning_report_
    assert report.n_steps == 4
    assert report.status is Status.BUDGET_SPENT
    assert all(record["objective_change"] < 0 for record in report.trace)
    norm = gradient_norm(est, A[5:], (A[5:, 0] > 0).astype(np.int64), flat_parameters(est.net_))
    assert report.trace[-1]["gradient_norm"] == pytest.approx(norm, rel=1e-6)


def test_at_the_optimum_there_is_nothing_to_find():
    est = regressor(LBFGSWarmStart(50, tol=1e-9)).fit(X, y).forget(X[:6])
    est.set_params(unlearner__tol=0.0).forget(X[6:7])
    report = est.unlearning_report_
    assert bool(torch.isfinite(flat_parameters(est.net_)).all())
    assert report.status in (Status.BUDGET_SPENT, Status.STALLED)


@pytest.mark.parametrize(
    ("unlearner", "name"), [(LBFGSWarmStart(0), "n_iterations"), (LBFGSWarmStart(tol=-1.0), "tol")]
)
def test_constraints(unlearner, name):
    with pytest.raises(InvalidParameterError, match=name):
        unlearner.unlearn(None)


@pytest.mark.gpu
def test_on_a_gpu():
    est = regressor(LBFGSWarmStart(30)).set_params(device="cuda").fit(X, y).forget(X[:6])
    assert flat_parameters(est.net_).device.type == "cuda"
    assert est.unlearning_report_.parameters_moved
