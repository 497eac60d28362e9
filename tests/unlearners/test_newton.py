"""One damped step against the matrices themselves, and that a bad one is called bad."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris, make_classification
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners import (
    DampedNewton,
    GaussNewton,
    MinMaxNaturalGradient,
    NaturalGradient,
    PseudoInverseNewton,
    Status,
)
from sk_unlearn.utils.estimator_checks import check_exact_on_quadratics
from tests._problems import parameters, problem_for, ridge_solution


def matrix(problem, kind):
    product = getattr(problem.retained.linearise(problem.parameters), kind)
    return torch.stack([product(e) for e in torch.eye(len(problem.parameters), dtype=torch.float64)])


def step_of(unlearner, problem):
    return unlearner.unlearn(problem).parameters - problem.parameters


@pytest.mark.parametrize("hold_residual", [True, False])
@pytest.mark.parametrize(("unlearner", "kind"), [(DampedNewton, "hessian"), (GaussNewton, "ggn")])
def test_step_is_the_damped_inverse(unlearner, kind, hold_residual):
    problem = problem_for()
    H, damping = matrix(problem, kind), 0.5
    g = problem.gradient - problem.residual if hold_residual else problem.gradient
    step = -torch.linalg.solve(H + damping * torch.eye(len(g), dtype=H.dtype), g)
    solvers = ["dense", "cg"] + (["lissa"] if unlearner is DampedNewton else [])
    for solver in solvers:
        found = unlearner(damping, solver=solver, tol=1e-9, hold_residual=hold_residual)
        torch.testing.assert_close(step_of(found, problem), step, rtol=1e-6, atol=1e-9)


def test_lissa_on_samples_comes_close():
    problem = problem_for(n=400, erased=40)
    exact = step_of(DampedNewton(0.5), problem)
    sampled = step_of(DampedNewton(0.5, solver="lissa", batch_size=60, max_products=60, n_runs=4), problem)
    assert (sampled - exact).norm() < 0.15 * exact.norm()


EXACT = [
    DampedNewton(0.0, solver="dense"),
    DampedNewton(0.0, solver="cg", tol=1e-9),
    GaussNewton(0.0),
    PseudoInverseNewton(),
    NaturalGradient(0.0),
]


@pytest.mark.parametrize("unlearner", EXACT)
@pytest.mark.parametrize("hold_residual", [True, False])
def test_one_undamped_step_is_exact_for_ridge_regression(unlearner, hold_residual):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    y = X @ rng.normal(size=4) + rng.normal(size=60)
    decay = 0.1
    net = NeuralNetRegressor(
        nn.Linear(4, 1).double(), lr=0.3, optimizer__weight_decay=decay, max_epochs=100, batch_size=-1,
        train_split=None, verbose=0,
    )  # fmt: skip
    unlearner.set_params(hold_residual=hold_residual)
    est = UnlearnableRegressor(net, unlearner, random_state=0).fit(X, y).forget(X[:10])
    np.testing.assert_allclose(parameters(est), ridge_solution(X[10:], y[10:], decay), atol=1e-6)
    assert est.unlearning_report_.status is Status.COMPLETED


@pytest.mark.parametrize("unlearner", EXACT)
@pytest.mark.parametrize("kind", [UnlearnableClassifier, UnlearnableRegressor])
@pytest.mark.parametrize("keep", [True, False])
def test_claim_on_quadratics_holds(unlearner, kind, keep):
    assert unlearner.__unlearner_tags__().exact_on_quadratics
    check_exact_on_quadratics(kind(unlearner=unlearner, keep_training_set=keep))


def test_claim_is_not_made_with_damping():
    for unlearner in (
        DampedNewton(),
        DampedNewton(0.0, solver="lissa"),
        NaturalGradient(0.0, sigma=0.1),
        NaturalGradient(0.0, fisher="kronecker"),
    ):
        assert not unlearner.__unlearner_tags__().exact_on_quadratics


@pytest.mark.parametrize("solver", ["dense", "cg"])
def test_indefinite_curvature_is_reported(solver):
    problem = problem_for(max_epochs=5)
    lowest = float(torch.linalg.eigvalsh(matrix(problem, "hessian"))[0])
    assert lowest < -1e-4
    weak = DampedNewton(-lowest / 2, solver=solver).unlearn(problem)
    assert weak.status is Status.MODEL_BROKE_DOWN
    assert "does not outweigh" in weak.stop_reason
    strong = DampedNewton(1.0, solver=solver).unlearn(problem)
    assert "does not outweigh" not in strong.stop_reason
    automatic = DampedNewton(solver=solver).unlearn(problem)
    assert automatic.status is Status.COMPLETED
    assert automatic.trace[-1]["damping"] > (-lowest if solver == "dense" else 0)
    assert automatic.trace[-1]["actual"] >= 0.5 * automatic.trace[-1]["predicted"]


@pytest.mark.parametrize("unlearner", [DampedNewton(), GaussNewton(), NaturalGradient()])
def test_automatic_damping_grows_until_the_promise_is_kept(unlearner):
    problem = problem_for(n=200, erased=60, max_epochs=100)
    result = unlearner.unlearn(problem)
    assert result.status is Status.COMPLETED
    assert [record["taken"] for record in result.trace] == [False] * (len(result.trace) - 1) + [True]
    assert len(result.trace) > 1
    dampings = [record["damping"] for record in result.trace]
    np.testing.assert_allclose(dampings, dampings[0] * 4.0 ** np.arange(len(dampings)))

    def objective(w):
        return problem.retained.value(w) - float(problem.residual @ w)

    assert objective(result.parameters) < objective(problem.parameters)


def test_automatic_damping_follows_the_unit_of_the_loss():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4))
    y = X @ rng.normal(size=4) + np.sin(X[:, 0])
    steps = []
    for unit in (1.0, 1e4):
        torch.manual_seed(0)
        net = NeuralNetRegressor(
            nn.Linear(4, 1).double(), optimizer=torch.optim.LBFGS, lr=1.0, max_epochs=30, batch_size=-1,
            train_split=None, verbose=0,
        )  # fmt: skip
        est = UnlearnableRegressor(net, DampedNewton(), random_state=0).fit(X, unit * y)
        before = est.predict(X)
        steps.append((est.forget(X[:30]).predict(X) - before) / unit)
    np.testing.assert_allclose(steps[0], steps[1], rtol=1e-3, atol=1e-4)
    assert np.abs(steps[0]).max() > 1e-3


def test_pseudo_inverse_is_the_pseudo_inverse_and_its_collapse_is_reported():
    problem = problem_for(max_epochs=10)
    H, g = matrix(problem, "hessian"), problem.gradient - problem.residual
    step = -torch.linalg.pinv(H, rtol=1e-3, hermitian=True) @ g
    torch.testing.assert_close(step_of(PseudoInverseNewton(1e-3), problem), step, rtol=1e-7, atol=1e-10)
    X, y = load_iris(return_X_y=True)
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 3)).double(), criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam, lr=0.02, max_epochs=40, train_split=None, verbose=0,
    )  # fmt: skip
    est = UnlearnableClassifier(net, PseudoInverseNewton(), random_state=0).fit(X, y)
    report = est.forget(X[y == 1]).unlearning_report_
    assert report.status is Status.MODEL_BROKE_DOWN
    assert "left the region" in report.stop_reason
    assert report.step_norm > 10


def test_matrix_that_does_not_fit_is_refused():
    # Of 540 thousand parameters, that is 6 TiB.
    problem = problem_for(max_epochs=1, hidden=60_000)
    for unlearner, cure in [
        (PseudoInverseNewton(), "CuReNU"),
        (DampedNewton(solver="dense"), "solver='cg'"),
        (NaturalGradient(fisher="dense"), "fisher='matrix_free'"),
    ]:
        with pytest.raises(MemoryError, match=cure):
            unlearner.unlearn(problem)


@pytest.mark.parametrize("unlearner", [DampedNewton(), GaussNewton(), PseudoInverseNewton(), NaturalGradient()])
def test_nothing_to_undo_is_the_identity(unlearner):
    problem = problem_for()
    result = unlearner.unlearn(dataclasses.replace(problem, gradient=problem.residual.clone()))
    assert torch.equal(result.parameters, problem.parameters)
    assert result.status is Status.NOTHING_TO_UNDO
    assert torch.equal(result.target, problem.residual)


def test_unsolved_system_is_reported():
    result = DampedNewton(1e-4, solver="cg", max_products=2, tol=1e-8).unlearn(problem_for(max_epochs=300))
    assert result.status is Status.BUDGET_SPENT
    assert "of the linear system unsolved" in result.stop_reason


def test_lissa_that_diverges_raises_and_changes_nothing():
    problem = problem_for(max_epochs=5)
    with pytest.raises(FloatingPointError, match="larger damping"):
        DampedNewton(0.0, solver="lissa", max_products=3000).unlearn(problem)


@pytest.mark.parametrize(
    ("unlearner", "name"),
    [
        (DampedNewton(-1.0), "damping"),
        (DampedNewton(solver="magic"), "solver"),
        (GaussNewton(solver="lissa"), "solver"),
        (PseudoInverseNewton(2.0), "rcond"),
        (DampedNewton(batch_size=0), "batch_size"),
    ],
)
def test_bad_parameters_are_named(unlearner, name):
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        unlearner.unlearn(problem_for(max_epochs=1))


@pytest.mark.gpu
def test_step_stays_on_the_device():
    X, y = load_iris(return_X_y=True)
    for unlearner in (DampedNewton(), GaussNewton(), NaturalGradient(), NaturalGradient(fisher="kronecker")):
        est = UnlearnableClassifier(unlearner=unlearner, random_state=0, device="cuda").fit(X, y).forget(X[:5])
        assert flat_parameters(est.net_).device.type == "cuda"


@pytest.mark.parametrize("seed", [2, 11, 23, 28])
def test_defaults_never_wreck_the_model(seed):
    """Problems on which a step that only lowers the objective with its held residual cost up to 45 points."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    n, d, k = int(rng.integers(150, 400)), int(rng.integers(4, 10)), int(rng.integers(2, 5))
    X, y = make_classification(
        n, d, n_informative=d, n_redundant=0, n_classes=k, n_clusters_per_class=1, flip_y=float(rng.uniform(0, 0.2)),
        random_state=seed,
    )  # fmt: skip
    X = X.astype(np.float32)
    unit = [nn.ReLU, nn.Tanh, nn.SiLU][rng.integers(3)]
    width = int(rng.integers(3, 24))
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(d, width), unit(), nn.Linear(width, width), unit(), nn.Linear(width, k)),
        criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, train_split=None, verbose=0,
        optimizer__weight_decay=float(rng.choice([0.0, 1e-4, 1e-2])), lr=0.01, max_epochs=int(rng.integers(15, 50)),
        batch_size=int(rng.choice([16, 64])), iterator_train__shuffle=True,
    )  # fmt: skip
    est = UnlearnableClassifier(net, random_state=seed).fit(X, y)
    some, one, a_class = rng.permutation(n)[: n // 10], rng.permutation(n)[:1], np.flatnonzero(y == y[0])
    request = [some, one, a_class][seed % 3]
    kept = np.setdiff1d(np.arange(n), request)
    before = est.score(X[kept], y[kept])
    for unlearner in (GaussNewton(), DampedNewton(), NaturalGradient(), MinMaxNaturalGradient()):
        other = pickle.loads(pickle.dumps(est)).set_params(unlearner=unlearner).forget(X[request])
        assert other.score(X[kept], y[kept]) >= before - 0.02, unlearner
