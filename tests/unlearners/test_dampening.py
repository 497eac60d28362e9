"""SSD and Fisher forgetting against their formulas."""

import numpy as np
import pytest
import torch
from sklearn.utils._param_validation import InvalidParameterError
from skorch import NeuralNetRegressor
from torch import nn

from sk_unlearn import UnlearnableRegressor
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners import SSD, FisherForgetting, Status
from sk_unlearn.unlearners.dampening import dampening_factors
from tests import _problems
from tests._problems import centred_iris, iris_classifier, parameters

X, y = centred_iris()
rng = np.random.default_rng(3)
A = rng.normal(size=(40, 3))
b = A @ [1.0, -1.0, 0.5] + 0.1 * rng.normal(size=40)
A[:8, 0] *= 5


def regressor(unlearner, **settings):
    defaults = {"max_epochs": 3, "batch_size": 8, "lr": 0.01}
    return _problems.regressor(unlearner, nn.Linear(3, 1).double(), **(defaults | settings))


def row_gradients(w):
    B = np.column_stack([A, np.ones(len(A))])
    return 2 * B * (B @ w - b)[:, None]


def test_dampening_factors_by_hand():
    of_erased = torch.tensor([100.0, 9.0, 0.0, 30.0, 1.0])
    of_all = torch.tensor([5.0, 1.0, 0.0, 2.0, 0.0])
    # Selected are those above ten times: the first, the fourth, and the last, which matters for no other row.
    expected = torch.tensor([0.1, 1.0, 1.0, 2 * 2 / 30, 0.0])
    torch.testing.assert_close(dampening_factors(of_erased, of_all, 10.0, 2.0), expected)
    assert dampening_factors(of_erased, of_all, 10.0, 100.0)[0] == 1.0


def test_ssd_is_its_formula():
    # Single-row batches: the mean squared gradient is that of rows. The weight decay is no part of it.
    est = regressor(SSD(alpha=1.5, dampening=0.7), batch_size=1, optimizer__weight_decay=0.3).fit(A, b)
    w = parameters(est)
    squares = row_gradients(w) ** 2
    of_erased, of_all = squares[:8].mean(0), squares.mean(0)
    expected = np.where(of_erased > 1.5 * of_all, np.minimum(0.7 * of_all / of_erased, 1), 1) * w
    assert (expected != w).any()
    est.forget(A[:8])
    np.testing.assert_allclose(parameters(est), expected, rtol=1e-10)


def test_ssd_that_selects_nothing_says_so():
    est = regressor(SSD(alpha=1e6)).fit(A, b).forget(A[:8])
    report = est.unlearning_report_
    assert report.status is Status.UNMOVED
    assert not report.parameters_moved
    assert any("no parameter has changed" in note for note in report.notes)
    assert "lower alpha" in report.stop_reason


def test_fisher_noise_has_the_variance_of_the_formula():
    wide = np.random.default_rng(5).normal(size=(20, 3000)) * np.geomspace(0.1, 10, 3000)
    net = NeuralNetRegressor(nn.Linear(3000, 1).double(), max_epochs=1, lr=1e-9, train_split=None, verbose=0)
    est = UnlearnableRegressor(net, FisherForgetting(1e-4, damping=0.5), random_state=0).fit(wide, b[:20])
    w = parameters(est)
    B = np.column_stack([wide, np.ones(20)])[4:]
    fisher = ((2 * B * (B @ w - b[4:20])[:, None]) ** 2).mean(0)
    standard = (flat_parameters(est.forget(wide[:4]).net_).numpy() - w) / np.sqrt(1e-4 / (fisher + 0.5 * fisher.mean()))
    np.testing.assert_allclose([standard.mean(), standard.std(), np.mean(standard**4)], [0, 1, 3], atol=0.4)
    # Where the rows hold fast and where they do not alike.
    np.testing.assert_allclose([standard[:1000].std(), standard[2000:].std()], 1, atol=0.1)


def test_a_parameter_that_nothing_holds_is_left_alone_without_damping():
    flat = A.copy()
    flat[:, 2] = 0
    est = regressor(FisherForgetting(1e-4, damping=0.0)).fit(flat, b)
    before = flat_parameters(est.net_)
    moved = flat_parameters(est.forget(flat[:8]).net_) != before
    np.testing.assert_array_equal(moved, [True, True, False, True])


def test_automatic_noise_moves_and_does_not_wreck():
    est = iris_classifier(FisherForgetting()).fit(X, y)
    before = est.score(X, y)
    report = est.forget(X[:5]).unlearning_report_
    assert report.parameters_moved
    assert report.status is Status.COMPLETED
    assert not report.notes
    assert est.score(X, y) > before - 0.05


@pytest.mark.parametrize("unlearner", [FisherForgetting(1e6), SSD(alpha=1e-3, dampening=0.0)])
def test_a_wrecked_model_is_reported(unlearner):
    report = iris_classifier(unlearner).fit(X, y).forget(X[:5]).unlearning_report_
    assert report.status is Status.HARMED_RETAINED
    assert "retained rows rose markedly" in report.stop_reason


@pytest.mark.parametrize(
    ("unlearner", "name"),
    [(SSD(0.0), "alpha"), (SSD(dampening=-1), "dampening"), (FisherForgetting("big"), "alpha"),
     (FisherForgetting(damping=-1.0), "damping")],
)  # fmt: skip
def test_constraints(unlearner, name):
    with pytest.raises(InvalidParameterError, match=name):
        unlearner.unlearn(None)


@pytest.mark.gpu
@pytest.mark.parametrize("unlearner", [SSD(1.0), FisherForgetting()])
def test_on_a_gpu(unlearner):
    est = iris_classifier(unlearner).set_params(device="cuda").fit(X, y).forget(X[y == 0])
    assert est.unlearning_report_.parameters_moved
