"""The natural gradient against an explicit Fisher matrix, its approximations, its noise, and the min-max game."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.risks.block_fisher import BlockFisher
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import (
    DampedNewton,
    GaussNewton,
    MinMaxNaturalGradient,
    NaturalGradient,
    Status,
    natural_gradient_sigma,
)
from tests import _problems
from tests._problems import mlp, skorch_net

DECAY = 1e-2


def network():
    return mlp(5, 3, n_hidden=6)


def fitted(module, X, y, **settings):
    torch.manual_seed(0)
    defaults = {"optimizer": torch.optim.Adam, "lr": 0.02, "max_epochs": 30, "optimizer__weight_decay": DECAY}
    kind = NeuralNetClassifier if y.dtype.kind == "i" else NeuralNetRegressor
    return skorch_net(module.double(), kind, batch_size=-1, **(defaults | settings)).fit(X, y)


def problem_for(module=None, n=80, erased=8, **settings):
    """A training of fewer epochs, and the weights that the generator gives next."""
    defaults = {"max_epochs": 30, "optimizer__weight_decay": DECAY}
    return _problems.problem_for(n, erased=erased, module=module or network(), **(defaults | settings))


def explicit_fisher(net, X, weight=None):
    """Sum over rows and labels of p(c) grad log p(c) grad log p(c)', by one backward pass each, plus the penalty."""
    parameters = list(net.module_.parameters())
    F = 0.0
    weight = np.ones(len(X)) if weight is None else weight
    for x, share in zip(torch.from_numpy(X), weight / weight.sum(), strict=True):
        log_p = net.module_(x[None]).log_softmax(1)[0]
        for c in log_p:
            g = torch.cat([part.reshape(-1) for part in torch.autograd.grad(c, parameters, retain_graph=True)])
            F = F + share * c.exp().detach() * torch.outer(g, g)
    return F + DECAY * torch.eye(len(F), dtype=F.dtype)


def dense(product, d):
    return torch.stack([product(e) for e in torch.eye(d, dtype=torch.float64)])


# ------------------------------------------------------------------------------------------------------- the one step


@pytest.mark.parametrize("fisher", ["dense", "matrix_free"])
def test_step_is_the_published_one_on_a_fit_that_has_converged(fisher):
    problem = problem_for()
    # What follows from a vanishing gradient over all rows.
    sums = 8 * problem.erased.gradient(problem.parameters)
    problem = dataclasses.replace(problem, residual=torch.zeros_like(sums), gradient=-sums / 72)
    F, damping = explicit_fisher(problem.net, problem.retained.X), 0.3
    step = torch.linalg.solve(F + damping * torch.eye(len(F), dtype=F.dtype), sums) / 72
    result = NaturalGradient(damping, fisher=fisher).unlearn(problem)
    error = result.parameters - problem.parameters - step
    assert error.norm() < (1e-10 if fisher == "dense" else 2e-3) * step.norm()


def test_it_is_newton_for_softmax_regression():
    problem = problem_for(nn.Linear(5, 3))
    for damping in (0.0, 0.1):
        natural, newton = (kind(damping).unlearn(problem) for kind in (NaturalGradient, DampedNewton))
        torch.testing.assert_close(natural.parameters, newton.parameters, rtol=1e-7, atol=1e-9)
        assert (natural.parameters - problem.parameters).norm() > 1e-3


def test_other_criteria_get_gauss_newton():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), rng.normal(size=40)

    def after(unlearner):
        torch.manual_seed(0)
        net = NeuralNetRegressor(
            nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double(), criterion=nn.HuberLoss,
            train_split=None, verbose=0,
        )  # fmt: skip
        return flat_parameters(UnlearnableRegressor(net, unlearner, random_state=0).fit(X, y).forget(X[:5]).net_)

    assert torch.equal(after(NaturalGradient(0.1)), after(GaussNewton(0.1)))
    assert bool(torch.isfinite(after(NaturalGradient(0.1, fisher="kronecker"))).all())


@pytest.mark.parametrize("fisher", ["kronecker", "diagonal"])
def test_rough_steps_have_the_best_length_and_need_rows(fisher):
    problem = problem_for()
    result = NaturalGradient(0.01, fisher=fisher).unlearn(problem)
    s, g = result.parameters - problem.parameters, problem.gradient - problem.residual
    F = explicit_fisher(problem.net, problem.retained.X)
    # At the best length the model's slope along the step is zero.
    assert abs(float(s @ (F @ s + 0.01 * s + g))) < 1e-8 * float(s.norm() * g.norm())
    assert float(s @ g) < 0
    assert result.actual_decrease > 0
    assert NaturalGradient(fisher=fisher).__unlearner_tags__().needs_rows
    X, y = load_iris(return_X_y=True)
    est = UnlearnableClassifier(unlearner=NaturalGradient(fisher=fisher), keep_training_set=False, random_state=0)
    with pytest.raises(ValueError, match="keep_training_set=True"):
        est.fit(X, y).partial_forget(X[:3], y[:3])


def test_noise_is_added_once_and_is_no_target_of_later_requests():
    X, y = load_iris(return_X_y=True)

    def after(sigma, seed, *requests):
        est = UnlearnableClassifier(
            fitted_net(), NaturalGradient(0.1, sigma=sigma), random_state=seed
        ).fit(X, y)  # fmt: skip
        est.unlearner = NaturalGradient(0.1, sigma=sigma)
        for rows in requests:
            est.forget(X[rows])
            est.unlearner = NaturalGradient(0.1)
        return flat_parameters(est.net_)

    def fitted_net():
        torch.manual_seed(0)
        return NeuralNetClassifier(
            nn.Linear(4, 3).double(), criterion=nn.CrossEntropyLoss, train_split=None, verbose=0
        )  # fmt: skip

    quiet, noisy = after(0.0, 0, [0]), after(0.5, 0, [0])
    assert 0.25 < float((noisy - quiet).std()) < 0.8
    assert torch.equal(noisy, after(0.5, 0, [0]))
    later = after(0.5, 0, [0], [1])
    assert (later - noisy).norm() < 0.1 * (noisy - quiet).norm()


def test_sigma_by_hand():
    bound = {
        "hessian_lipschitz": 2.0, "loss_lipschitz": 3.0, "smoothness": 5.0, "feature_bound": 7.0,
        "strong_convexity": 0.5, "n_rows": 100, "n_erased": 10, "epsilon": 0.5, "delta": 1e-5,
    }  # fmt: skip
    gamma = 2 * 100 * 9 / (0.125 * 10_000) + 2 * 100 * 3 * 5 * 7 / (0.25 * 10_000)
    assert natural_gradient_sigma(**bound) == pytest.approx(gamma / 0.5 * math.sqrt(2 * math.log(1.25e5)))
    for name, value in {
        "hessian_lipschitz": -1.0, "strong_convexity": 0.0, "n_erased": 100, "epsilon": 1.5, "delta": 1.0,
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=name):
            natural_gradient_sigma(**(bound | {name: value}))


# ---------------------------------------------------------------------------------------------------- block by block


class Mixed(nn.Module):
    """A convolution with stride and padding, a normalisation, and a linear layer that is gone through twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(18)
        self.twice = nn.Linear(18, 18, bias=False)
        self.out = nn.Linear(18, 3)

    def forward(self, X):
        z = self.norm(self.conv(X.reshape(-1, 1, 5, 5)).flatten(1))
        return self.out(torch.tanh(self.twice(torch.tanh(self.twice(z)))))


class Sequence(nn.Module):
    """The same linear layer on five positions of a row."""

    def __init__(self):
        super().__init__()
        self.each = nn.Linear(5, 2)
        self.out = nn.Linear(10, 3)

    def forward(self, X):
        return self.out(torch.tanh(self.each(X.reshape(-1, 5, 5))).flatten(1))


def digits_like(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.integers(0, 3, n)


@pytest.mark.parametrize(("module", "d"), [(network, 5), (Mixed, 25), (Sequence, 25)])
def test_diagonal_is_that_of_the_matrix(module, d):
    X, y = digits_like(12, d)
    net = fitted(module(), X, y, max_epochs=1)
    weight = np.arange(1.0, 13.0)
    w = flat_parameters(net)
    picture = BlockFisher(EmpiricalRisk(net, X, y, weight), w, np.arange(12), kronecker=False)
    F = explicit_fisher(net, X, weight)
    product = dense(picture.product, len(w))
    torch.testing.assert_close(product, torch.diag(F.diagonal()), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(("module", "d"), [(network, 5), (Mixed, 25)])
def test_kronecker_blocks_are_exact_for_a_single_row(module, d):
    X, y = digits_like(1, d)
    net = fitted(module(), np.repeat(X, 3, 0), np.arange(3), max_epochs=1)
    risk, w = EmpiricalRisk(net, X, y), flat_parameters(net)
    picture = BlockFisher(risk, w, np.arange(1), kronecker=True)
    F, P = explicit_fisher(net, X), dense(picture.product, len(w))
    names = {name.rsplit(".", 1)[0] for name in risk.parameter_slices} - {"conv", "norm", "twice"}
    for name in names:
        slices = [s for key, s in risk.parameter_slices.items() if key.startswith(name + ".")]
        at = np.concatenate([np.arange(s.start, s.stop) for s in slices])
        torch.testing.assert_close(P[at][:, at], F[at][:, at], rtol=1e-9, atol=1e-14)
        assert float((F[at][:, at] - torch.diag(F[at][:, at].diagonal())).norm()) > 1e-6


def test_kronecker_block_is_exact_for_linear_regression_with_weights():
    rng = np.random.default_rng(0)
    X, y, weight = rng.normal(size=(20, 4)), rng.normal(size=(20, 2)), rng.uniform(0.1, 2, 20)
    net = fitted(nn.Linear(4, 2), X, y, max_epochs=1)
    risk, w = EmpiricalRisk(net, X, y, weight), flat_parameters(net)
    H = dense(risk.linearise(w).hessian, len(w))
    picture = BlockFisher(risk, w, np.arange(20), kronecker=True)
    torch.testing.assert_close(dense(picture.product, len(w)), H, rtol=1e-10, atol=1e-14)
    v = torch.from_numpy(rng.normal(size=len(w)))
    exact = torch.linalg.solve(H + 0.2 * torch.eye(len(w), dtype=H.dtype), v)
    torch.testing.assert_close(picture.solve(v, 0.2), exact, rtol=1e-9, atol=1e-12)


def test_kronecker_convolution_at_a_single_position():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 5)

        def forward(self, X):
            return self.conv(X.reshape(-1, 1, 5, 5)).flatten(1)

    X, y = digits_like(1, 25)
    net = fitted(Whole(), np.repeat(X, 3, 0), np.arange(3), max_epochs=1)
    picture = BlockFisher(EmpiricalRisk(net, X, y), flat_parameters(net), np.arange(1), kronecker=True)
    torch.testing.assert_close(dense(picture.product, 78), explicit_fisher(net, X), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("kronecker", [True, False])
@pytest.mark.parametrize(("module", "d"), [(network, 5), (Mixed, 25), (Sequence, 25)])
def test_solving_inverts_the_product(module, d, kronecker):
    X, y = digits_like(9, d)
    net = fitted(module(), X, y, max_epochs=1)
    w = flat_parameters(net)
    picture = BlockFisher(EmpiricalRisk(net, X, y), w, np.arange(9), kronecker=kronecker)
    v = torch.randn(len(w), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(picture.solve(picture.product(v) + 0.05 * v, 0.05), v, rtol=1e-8, atol=1e-9)
    assert all(not module._forward_hooks for module in net.module_.modules())


# -------------------------------------------------------------------------------------------------------- the game


def mean_loss(problem, w):
    return float(problem.erased.losses(w).mean())


def test_game_ends_at_the_target_without_harm():
    problem = problem_for(n=200, erased=20, max_epochs=200)
    start = mean_loss(problem, problem.parameters)
    for target in (None, 1.2 * start):
        result = MinMaxNaturalGradient(target).unlearn(problem)
        assert result.status is Status.COMPLETED
        assert mean_loss(problem, result.parameters) > start
        if target is not None:
            assert mean_loss(problem, result.parameters) >= 0.95 * target

        def objective(w):
            return problem.retained.value(w) - float(problem.residual @ w)

        assert objective(result.parameters) <= objective(problem.parameters)


def test_target_out_of_reach_is_reported():
    result = MinMaxNaturalGradient(50.0, max_rounds=2).unlearn(problem_for())
    assert result.status in (Status.BUDGET_SPENT, Status.STALLED, Status.OVERSHOOT_UNDONE)
    assert "target 50" in result.stop_reason
    assert len(result.trace) <= 2


def test_nothing_to_undo_is_the_identity():
    problem = problem_for()
    result = MinMaxNaturalGradient().unlearn(dataclasses.replace(problem, gradient=problem.residual.clone()))
    assert torch.equal(result.parameters, problem.parameters)


@pytest.mark.parametrize("unlearner", [NaturalGradient(fisher="kronecker"), MinMaxNaturalGradient()])
def test_regressors_too(unlearner):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    y = np.sin(X[:, 0]) + X[:, 1]
    est = UnlearnableRegressor(unlearner=unlearner, random_state=0).fit(X, y)
    before = est.score(X[20:], y[20:])
    est.forget(X[:20])
    assert est.unlearning_report_.parameters_moved
    assert est.score(X[20:], y[20:]) > before - 0.05


@pytest.mark.parametrize(
    ("unlearner", "name"),
    [
        (NaturalGradient(sigma=-1.0), "sigma"),
        (NaturalGradient(fisher="empirical"), "fisher"),
        (MinMaxNaturalGradient(-1.0), "target_loss"),
        (MinMaxNaturalGradient(max_rounds=0), "max_rounds"),
    ],
)
def test_bad_parameters_are_named(unlearner, name):
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        unlearner.unlearn(problem_for(max_epochs=1))
