import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from sklearn.datasets import load_digits, load_iris, make_classification
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.solvers import cauchy_point, solve_dense
from sk_unlearn.unlearners import CuReNU, Retrain, Status, StoCuReNU
from sk_unlearn.unlearners.cubic import Policy
from tests._problems import problem_for


def hessian(risk, w):
    local = risk.linearise(w)
    return torch.stack([local.hessian(e) for e in torch.eye(len(w), dtype=w.dtype)])


class TestAsPublished:
    @pytest.mark.parametrize("L", [0.5, 5.0])
    def test_curenu_is_one_exact_cubic_step(self, L):
        problem = problem_for()
        result = CuReNU(L, solver="dense", max_steps=1, hold_residual=False).unlearn(problem)
        gradient = problem.retained.gradient(problem.parameters)
        H = hessian(problem.retained, problem.parameters)
        s = result.parameters - problem.parameters
        alpha = L / 2 * s.norm()
        assert torch.linalg.norm(H @ s + alpha * s + gradient) <= 1e-8 * gradient.norm()
        assert torch.linalg.eigvalsh(H).min() + alpha >= -1e-10

    def test_stocurenu_is_cauchy_plus_gradient_steps_on_fresh_samples(self):
        problem = problem_for()
        settings_ = {"n_gradient_rows": 20, "n_curvature_rows": 10, "n_products": 4, "learning_rate": 0.05}
        unlearner = StoCuReNU(
            5.0, solver="gradient_descent", max_steps=3, hold_residual=False, variance_reduction=False, **settings_
        )
        result = unlearner.unlearn(dataclasses.replace(problem, rng=np.random.default_rng(3)))
        # The same by hand, from the formulas, with the same draws.
        rng, w = np.random.default_rng(3), problem.parameters.clone()
        for _ in range(3):
            rows = problem.retained.sample(20, rng)
            g = problem.retained.gradient(w, rows)
            product = problem.retained.linearise(w, problem.retained.sample(10, rng)).hessian
            rng.integers(2**31 - 1)  # the seed of the perturbation
            s = cauchy_point(product, g, 5.0)
            for _ in range(4):
                s = s - 0.05 * (g + product(s) + 2.5 * s.norm() * s)
            w = w + s
        torch.testing.assert_close(result.parameters, w, rtol=1e-9, atol=1e-12)

    def test_published_settings(self):
        assert (
            CuReNU.published().get_params()
            == CuReNU(5.0, solver="dense", max_steps=1, hold_residual=False).get_params()
        )
        common = {"solver": "gradient_descent", "max_steps": 10, "hold_residual": False, "variance_reduction": False}
        images = StoCuReNU(5.0, n_gradient_rows=128, n_curvature_rows=64, n_products=5, sigma=0.1, **common)
        assert StoCuReNU.published().get_params() == images.get_params()
        for kind in (CuReNU, StoCuReNU):
            assert [kind.published(name).L for name in ("fashion", "cifar10", "agnews", "tofu")] == [5, 50, 80, 400]
            with pytest.raises(ValueError, match="one of 'fashion', 'cifar10', 'agnews', 'tofu', got 'mnist'"):
                kind.published("mnist")
        texts = StoCuReNU.published("tofu")
        assert (texts.n_gradient_rows, texts.n_curvature_rows) == (10, 5)

    def test_published_steps_are_a_set_number(self):
        result = StoCuReNU.published().unlearn(problem_for(n=300))
        assert (result.status, result.stop_reason) == (Status.COMPLETED, "took max_steps=10 steps of fixed L")
        assert len(result.trace) == 10
        assert result.target is None
        assert result.solver == "gradient_descent"
        # Each descends its model five times, after a product at the Cauchy point.
        assert result.n_products == 60

    def test_perturbation_changes_the_path_reproducibly(self):
        problem = problem_for()

        def run(sigma, seed):
            unlearner = StoCuReNU(5.0, solver="gradient_descent", max_steps=2, sigma=sigma)
            return unlearner.unlearn(dataclasses.replace(problem, rng=np.random.default_rng(seed))).parameters

        assert not torch.equal(run(0.1, 0), run(0.0, 0))
        assert torch.equal(run(0.1, 0), run(0.1, 0))


class TestEngine:
    def test_first_step_solves_the_cubic_model_of_the_anchored_objective(self):
        problem = problem_for()
        d = len(problem.parameters)
        result = CuReNU(2.0, solver="krylov", n_products=d, max_steps=1).unlearn(problem)
        H = hessian(problem.retained, problem.parameters)
        step = solve_dense(H, problem.gradient - problem.residual, 2.0)
        torch.testing.assert_close(result.parameters - problem.parameters, step.step, rtol=1e-6, atol=1e-9)

    def test_target_fades_with_what_the_deletion_outweighs(self):
        problem = problem_for()
        # Rows that the net does not fit: what training left is training that was not finished.
        assert torch.equal(CuReNU().unlearn(problem).target, problem.residual)
        fits_all = Policy(fitted_share=1.0)
        result = CuReNU(policy=fits_all).unlearn(problem)
        change, r = (problem.gradient - problem.residual).norm() ** 2, problem.residual.norm() ** 2
        torch.testing.assert_close(result.target, problem.residual * (r / (r + change)).sqrt())
        sampled = StoCuReNU(n_gradient_rows=20, policy=fits_all).unlearn(problem)
        assert torch.equal(sampled.target, problem.residual)
        assert torch.equal(CuReNU(1.0, max_steps=1, policy=fits_all).unlearn(problem).target, problem.residual)

    @pytest.mark.parametrize("epochs", [5, 600])
    def test_a_net_fits_its_rows_after_long_training_only(self, epochs):
        problem = problem_for(max_epochs=epochs, d=120, erased=4)
        w, rows = problem.parameters, problem.retained
        outputs = rows.outputs(w)
        constant = nn.functional.cross_entropy(outputs.mean(0).expand_as(outputs), torch.from_numpy(rows.targets()))
        share = rows.without_penalty(w, rows.value(w)) / float(constant)
        assert (share < 0.02) == (epochs == 600)
        assert torch.equal(CuReNU().unlearn(problem).target, problem.residual) == (epochs == 5)

    def test_a_loss_that_no_constant_can_be_given_is_no_hindrance(self, monkeypatch):
        def refuse(self, output, rows=None):
            raise ValueError("one output a row, please")

        monkeypatch.setattr(EmpiricalRisk, "value_at_output", refuse)
        problem = problem_for()
        result = CuReNU(policy=Policy(fitted_share=1.0)).unlearn(problem)
        assert torch.equal(result.target, problem.residual)

    @pytest.mark.parametrize(
        ("n", "epochs", "n_read"), [(2100, 25, 1024), (1500, 25, 1490), (1500, 5, 1024), (900, 5, 890), (900, 25, 890)]
    )
    def test_how_many_rows_a_step_takes(self, n, epochs, n_read):
        problem = problem_for(n=n, erased=10, max_epochs=epochs)
        whole_network = StoCuReNU(output_layer_first=False).unlearn(problem)
        assert {record["n_rows"] for record in whole_network.trace} == {n_read}
        in_layer = ["block" in record for record in StoCuReNU().unlearn(problem).trace]
        assert all(in_layer) == (n_read == 1024)
        asked_for = StoCuReNU(output_layer_first=False, n_gradient_rows=700).unlearn(problem)
        assert {record["n_rows"] for record in asked_for.trace} == {700}

    @pytest.mark.parametrize(("optimiser", "short"), [(torch.optim.SGD, True), (torch.optim.LBFGS, False)])
    def test_one_epoch_of_lbfgs_is_no_short_training(self, optimiser, short):
        X, y = load_iris(return_X_y=True)
        settings = {"max_epochs": 1, "batch_size": -1, "train_split": None, "verbose": 0}
        module = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        net = NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, optimizer=optimiser, **settings)
        # After a training that was not short twice as many rows are few, and all of them are read.
        unlearner = StoCuReNU(policy=Policy(few_rows=100), output_layer_first=False)
        est = UnlearnableClassifier(net, unlearner=unlearner, random_state=0).fit(X, y).forget(X[:5])
        n_read = 100 if short else est.unlearning_report_.n_retained
        assert {record["n_rows"] for record in est.unlearning_report_.trace} == {n_read}

    def test_nothing_to_undo_is_the_identity(self):
        problem = problem_for()
        same = dataclasses.replace(problem, gradient=problem.residual.clone())
        for unlearner in (CuReNU(), StoCuReNU(), CuReNU(5.0)):
            result = unlearner.unlearn(same)
            assert torch.equal(result.parameters, problem.parameters)
            assert result.status == Status.NOTHING_TO_UNDO
            assert result.trace == []
            torch.testing.assert_close(result.gradient, same.gradient)

    @pytest.mark.parametrize("unlearner", [CuReNU(), CuReNU(solver="dense"), StoCuReNU(n_gradient_rows=40)])
    def test_gradient_and_objective_fall(self, unlearner):
        problem = problem_for(n=400, erased=40, max_epochs=200)
        result = unlearner.unlearn(problem)
        goal = problem.gradient - result.target
        left = problem.retained.gradient(result.parameters) - result.target
        assert left.norm() < goal.norm()

        def objective(w):
            return problem.retained.value(w) - float(result.target @ w)

        assert objective(result.parameters) < objective(problem.parameters)

    def test_estimated_gradient_at_the_end(self):
        problem = problem_for(n=400, erased=40)
        exact = CuReNU().unlearn(problem)
        torch.testing.assert_close(exact.gradient, problem.retained.gradient(exact.parameters))
        sampled = StoCuReNU(n_gradient_rows=100).unlearn(problem)
        moved = problem.gradient - problem.residual
        error = sampled.gradient - problem.retained.gradient(sampled.parameters)
        assert error.norm() < moved.norm()

    def test_steps_that_lower_the_objective_by_too_little_are_not_taken(self):
        problem = problem_for()
        result = CuReNU(policy=Policy(first_damping=1e-9)).unlearn(problem)  # far too bold a first step
        goal = problem.gradient - result.target
        left = problem.retained.gradient(result.parameters) - result.target
        assert left.norm() <= goal.norm()
        for record in result.trace:
            assert not (record["taken"] and record["ratio"] <= 0.1)

    def test_accepted_steps_leave_no_larger_gradient(self):
        X, y = load_iris(return_X_y=True)
        est = UnlearnableClassifier(random_state=0, unlearner=CuReNU(tol=0.0)).fit(X, y)
        report = est.forget(X[::10]).unlearning_report_
        norms = [record["gradient_norm"] for record in report.trace if record["taken"] and "block" not in record]
        assert len(norms) > 1
        assert all(later <= 2 * min(norms[: i + 1]) * (1 + 1e-9) for i, later in enumerate(norms))
        assert all(norm <= report.gradient_norm_before * (1 + 1e-9) for norm in norms)
        assert report.gradient_norm_after <= report.gradient_norm_before

    def test_whatever_the_unit_of_the_loss(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(120, 4))
        y = X @ rng.normal(size=4) + np.sin(X[:, 0])
        moved = []
        for unit in (1.0, 1e4):
            torch.manual_seed(0)
            net = NeuralNetRegressor(
                nn.Linear(4, 1).double(), optimizer=torch.optim.LBFGS, lr=1.0, max_epochs=30, batch_size=-1,
                train_split=None, verbose=0,
            )  # fmt: skip
            est = UnlearnableRegressor(net, random_state=0).fit(X, unit * y).forget(X[:30])
            keep = np.column_stack([X[30:], np.ones(90)])
            best, *_ = np.linalg.lstsq(keep, unit * y[30:], rcond=None)
            moved.append(np.abs(est.predict(X) - np.column_stack([X, np.ones(120)]) @ best).max() / unit)
        assert max(moved) < 1e-3

    @pytest.fixture
    def free(self, monkeypatch):
        """Let the system report this many bytes free."""

        def set_to(n_bytes):
            monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=n_bytes, total=2 * n_bytes))

        return set_to

    def test_dense_refuses_what_does_not_fit(self, free):
        problem = problem_for()
        d = len(problem.parameters)
        free(d * d * 20)  # a float64 matrix, the same again, and its eigenvectors: 24 bytes an entry
        with pytest.raises(MemoryError, match="use solver='auto'"):
            CuReNU(solver="dense").unlearn(problem)
        result = CuReNU(max_steps=1).unlearn(problem)
        assert result.solver == "krylov"
        assert not any("solver" in note for note in result.notes)

    def test_auto_takes_the_solver_that_fits_and_says_so(self, free):
        problem = problem_for()
        d = len(problem.parameters)
        free(10 * d * 8)
        result = CuReNU(n_products=20).unlearn(problem)
        assert result.solver == "gradient_descent"
        assert any("solver='auto' took gradient descent: a Krylov space needs" in note for note in result.notes)
        left = result.gradient - result.target
        assert left.norm() < (problem.gradient - result.target).norm()
        with pytest.raises(MemoryError, match="solver='krylov' needs"):
            CuReNU(solver="krylov").unlearn(problem)

    def test_what_it_tells(self):
        result = CuReNU().unlearn(problem_for())
        assert result.curvature_min <= result.curvature_max
        assert result.extra["memory_forecast"]["krylov"] > 0
        assert result.actual_decrease > 0
        assert result.predicted_decrease > 0
        assert result.n_products == sum(record["n_products"] for record in result.trace)
        assert [record["step"] for record in result.trace] == list(range(1, len(result.trace) + 1))

    def test_claims(self):
        assert CuReNU().__unlearner_tags__().exact_on_quadratics
        assert not CuReNU(1.0).__unlearner_tags__().exact_on_quadratics
        assert not StoCuReNU(solver="gradient_descent").__unlearner_tags__().exact_on_quadratics
        assert CuReNU().__unlearner_tags__().extra == ("memory_forecast",)

    @pytest.mark.parametrize(
        ("unlearner", "name"),
        [
            (CuReNU(L=-1.0), "L"),
            (CuReNU(solver="magic"), "solver"),
            (StoCuReNU(n_gradient_rows=1), "n_gradient_rows"),
            (StoCuReNU(sigma=-1.0), "sigma"),
            (CuReNU(max_steps=0), "max_steps"),
            (CuReNU(policy={"max_rise": 1.5}), "policy"),
        ],
    )
    def test_bad_parameters_are_named(self, unlearner, name):
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            unlearner.unlearn(problem_for(max_epochs=1))


class TestHonestStatus:
    def test_converged_is_the_gradient_at_tol(self):
        problem = problem_for(n=200, erased=20, max_epochs=200)
        result = CuReNU(tol=0.3).unlearn(problem)
        assert result.status == Status.CONVERGED
        first = float((problem.gradient - result.target).norm())
        assert float((result.gradient - result.target).norm()) <= 0.3 * first
        assert result.stop_reason.startswith("gradient fell to 0.")

    def test_an_optimum_is_found_to_tol_squared(self):
        X, y = make_classification(300, 5, n_informative=5, n_redundant=0, n_classes=3, random_state=0)
        torch.manual_seed(0)
        net = NeuralNetClassifier(
            nn.Linear(5, 3).double(), criterion=nn.CrossEntropyLoss, optimizer=torch.optim.LBFGS, lr=1.0, max_epochs=20,
            optimizer__line_search_fn="strong_wolfe", batch_size=-1, train_split=None, verbose=0,
        )  # fmt: skip
        est = UnlearnableClassifier(net, unlearner=CuReNU(), random_state=0).fit(X, y).forget(X[:20])
        report = est.unlearning_report_
        assert report.status == Status.CONVERGED
        assert report.gradient_norm_after <= 1e-4 * report.gradient_norm_before
        assert report.notes == []

    def test_a_step_that_left_too_large_a_gradient(self):
        X, y = load_iris(return_X_y=True)
        est = UnlearnableClassifier(random_state=0).fit(X, y).forget(X[:5])
        report = est.unlearning_report_
        assert report.status == Status.OVERSHOOT_UNDONE
        assert not report.converged
        share = report.gradient_norm_after / report.gradient_norm_before
        assert report.stop_reason.startswith(f"gradient is at {share:.2g} of its first norm; a further step left it at")
        assert not report.trace[-1]["taken"]

    def test_no_step_lowers_the_objective(self, monkeypatch):
        problem = problem_for()
        at_start = problem.retained.value(problem.parameters)

        def higher_elsewhere(self, w, rows=None):
            return at_start if torch.equal(w, problem.parameters) else at_start + 1.0

        monkeypatch.setattr(EmpiricalRisk, "value", higher_elsewhere)
        result = CuReNU(output_layer_first=False).unlearn(problem)
        assert result.status == Status.STALLED
        assert torch.equal(result.parameters, problem.parameters)

    def test_steps_used_up(self):
        result = CuReNU(max_steps=1, output_layer_first=False, tol=0.0).unlearn(problem_for())
        assert (result.status, result.stop_reason) == (Status.BUDGET_SPENT, "took max_steps=1 steps")

    def test_the_last_step_allowed_may_be_the_one_that_converges(self):
        problem = problem_for(n=200, erased=20, max_epochs=200)
        n_steps = len(CuReNU(tol=0.3).unlearn(problem).trace)
        assert CuReNU(tol=0.3, max_steps=n_steps).unlearn(problem).status == Status.CONVERGED

    def test_noise_of_sampling(self):
        problem = problem_for(n=3000, erased=30)
        unlearner = StoCuReNU(output_layer_first=False, n_gradient_rows=40, policy=Policy(noise_factor=1e6))
        result = unlearner.unlearn(problem)
        assert result.status == Status.SAMPLING_NOISE
        assert "noise of sampling rows" in result.stop_reason

    @pytest.mark.parametrize("linear", [True, False])
    def test_only_the_output_layer_moved(self, linear):
        note = "Only the output layer moved: what the layers before it know of the erased rows is still there."
        module = nn.Linear(5, 3) if linear else None
        result = StoCuReNU().unlearn(problem_for(n=3000, erased=30, max_epochs=25, module=module))
        assert result.status == Status.SETTLED
        # Where that layer is all there is, nothing is left out.
        assert [text.startswith(note) for text in result.notes] == ([] if linear else [True])
        assert CuReNU().unlearn(problem_for()).notes == []


@pytest.mark.parametrize("seed", [0, 2])
def test_variance_reduced_gradient_of_nearly_all_rows(seed):
    problem = problem_for(n=400, erased=40, seed=seed)

    def after(n_steps):
        unlearner = StoCuReNU(output_layer_first=False, max_steps=n_steps, n_gradient_rows=359, tol=0.0)
        return unlearner.unlearn(dataclasses.replace(problem, rng=np.random.default_rng(0)))

    one, two = after(1), after(2)
    exact = float((problem.retained.gradient(one.parameters) - one.target).norm())
    assert two.trace[1]["gradient_norm"] == pytest.approx(exact, rel=0.05)


def test_dense_and_krylov_give_the_same_step_on_digits():
    X, y = load_digits(return_X_y=True)
    est = UnlearnableClassifier(
        NeuralNetClassifier(
            nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).double(), criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam, optimizer__weight_decay=1e-4, lr=3e-3, max_epochs=8, train_split=None,
            iterator_train__shuffle=True, verbose=0,
        ),
        random_state=0,
    ).fit(X / 16, y)  # fmt: skip
    w, steps = flat_parameters(est.net_), []
    for solver in ("dense", "krylov"):
        # 30 products are enough for three digits where the matrix has 1,210 rows.
        other = copy.deepcopy(est).set_params(unlearner=CuReNU(L=1.0, solver=solver, max_steps=1, n_products=30))
        other.forget((X / 16)[y == 3])
        steps.append(flat_parameters(other.net_) - w)
    assert torch.linalg.norm(steps[0] - steps[1]) <= 1e-3 * torch.linalg.norm(steps[0])


@pytest.mark.parametrize("seed", range(18))
def test_default_forget_never_wrecks_the_model(seed):
    """No default ``forget`` costs retained rows two points of accuracy more than nothing and retraining both do."""
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
    retrained = copy.deepcopy(est).set_params(unlearner=Retrain()).forget(X[request])
    least = min(est.score(X[kept], y[kept]), retrained.score(X[kept], y[kept]))
    est.forget(X[request])
    assert est.score(X[kept], y[kept]) >= least - 0.02


@pytest.mark.gpu
def test_whole_step_stays_on_the_device():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    on_cpu = UnlearnableClassifier(random_state=0, device="cpu").fit(X, y)
    on_gpu = UnlearnableClassifier(random_state=0, device="cuda").fit(X, y)
    for est in (on_cpu, on_gpu):
        est.forget(X[y == 3])
        assert est.unlearning_report_.gradient_norm_after < est.unlearning_report_.gradient_norm_before
    assert flat_parameters(on_gpu.net_).device.type == "cuda"
