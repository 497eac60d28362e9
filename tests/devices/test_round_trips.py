"""How often the host waits for the device, and how rows get there: bounds that a change must not break unseen."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier

from sk_unlearn.risks import EmpiricalRisk
from sk_unlearn.risks._placement import placed
from sk_unlearn.solvers import conjugate_gradient, lanczos, lissa, solve_gradient_descent
from sk_unlearn.unlearners import NoisyFineTune
from sk_unlearn.unlearners._minibatch import MinibatchLoop
from tests._problems import Mlp, classifier, posed, skorch_net
from tests.devices._accelerator import Accelerator

rng = np.random.default_rng(3)
N, D = 24, 3
X = rng.normal(size=(N, D)).astype(np.float32)
y = rng.integers(0, 2, N)


@pytest.fixture
def gpu():
    with Accelerator() as gpu:
        yield gpu


@pytest.fixture
def counted(gpu):
    """A context that says, when it ends, how many round trips there were in it."""

    @contextmanager
    def count():
        before, found = gpu.n_trips, []
        yield found
        found.append(gpu.n_trips - before)

    return count


def a_risk(kind=NeuralNetClassifier, **settings):
    net = skorch_net(Mlp, kind, module__n_features_in=D, module__n_outputs=2, device="cuda", **settings).initialize()
    risk = EmpiricalRisk(net, X, y, chunk_size=5)
    risk.value(risk.parameters())  # the first evaluation finds out whether random numbers are drawn
    return risk


class TestSolvers:
    @pytest.fixture
    def system(self, gpu):
        A = torch.randn(6, 6, dtype=torch.float64)
        H, b = (A @ A.T + torch.eye(6)).to("cuda"), torch.randn(6, dtype=torch.float64).to("cuda")
        return lambda v: H @ v, b

    @pytest.mark.parametrize(
        ("solve", "trips_a_product"),
        [
            (lambda product, b, n: lanczos(product, b, n), 1),
            (lambda product, b, n: conjugate_gradient(product, b, damping=0.0, tol=0.0, max_products=n), 3),
            (lambda product, b, n: lissa([product] * n, b, damping=0.0, scale=60.0, depth=n), 2),
            (lambda product, b, n: solve_gradient_descent(product, b, 1.0, n_steps=n, learning_rate=1e-3), 0),
        ],
        ids=["lanczos", "conjugate gradients", "lissa", "gradient descent"],
    )
    def test_a_product(self, system, counted, solve, trips_a_product):
        with counted() as short:
            solve(*system, 2)
        with counted() as long:
            solve(*system, 5)
        assert long[0] - short[0] == 3 * trips_a_product


class TestRisk:
    @pytest.mark.parametrize("decay", [0.0, 0.1])
    def test_one_number_a_value_and_none_a_gradient(self, counted, decay):
        risk = a_risk(optimizer__weight_decay=decay)
        w = risk.parameters()
        for evaluate, expected in (
            (risk.value, 1), (risk.value_and_gradient, 1), (risk.gradient, 0), (risk.losses, 0), (risk.outputs, 0),
            (risk.row_gradients, 0),
        ):  # fmt: skip
            with counted() as trips:
                evaluate(w)
            assert trips == [expected]

    @pytest.mark.parametrize("budget", [2**30, 1], ids=["graphs kept", "graphs built anew"])
    def test_none_a_product(self, counted, budget):
        risk = a_risk(optimizer__weight_decay=0.1)
        risk = EmpiricalRisk(risk.net, X, y, chunk_size=5, memory_budget=budget)
        w = risk.parameters()
        risk.value(w)  # the first evaluation of a risk looks whether the module leaves its parameters alone
        with counted() as trips:
            local = risk.linearise(w)
        assert trips == [1]
        local.hessian(w)
        with counted() as trips:
            local.hessian(w), local.ggn(w), local.fisher(w), local.hessian_rows(w[None])
        assert trips == [0]

    def test_chunks_do_not_keep_the_host_waiting(self, gpu):
        risk = a_risk()
        gpu.uploads.clear()
        risk.gradient(risk.parameters())
        assert {kind for kind, *_ in gpu.uploads} == {"pinned"}
        assert sum(gpu.uploads.values()) == 3 * 5  # rows, targets and shares of five chunks


class TestPlacement:
    def test_a_large_card_takes_large_chunks(self, gpu):
        risk = EmpiricalRisk(a_risk().net, X, y)
        assert risk.evaluator.memory_budget == 2**34 // 8

    def test_code_of_others_gets_rows_where_it_had_them(self, gpu):
        seen = set()

        class Own(NeuralNetClassifier):
            def infer(self, x, **params):
                seen.add(x.device.type)
                return super().infer(x, **params)

        risk = a_risk(Own)
        assert risk.gradient(risk.parameters()).is_cuda
        assert seen == {"cpu"}

    def test_parts_of_rows(self, gpu):
        batch = {"a": torch.ones(2), "b": [torch.zeros(2), torch.arange(2)]}
        found = placed(batch, torch.device("cuda"))
        assert found["a"].is_cuda
        assert all(part.is_cuda for part in found["b"])
        assert {kind for kind, *_ in gpu.uploads} == {"pinned"}
        assert placed(batch, torch.device("cpu")) is batch


class TestSteps:
    def test_none_a_mini_batch(self, counted):
        risk = a_risk()
        loop = MinibatchLoop(posed(risk.net, risk, risk, risk), 1e-3)
        loop.step(risk.gradient(loop.w, np.arange(4)))
        with counted() as trips:
            for _ in range(3):
                loop.step(risk.gradient(loop.w, np.arange(4)))
        assert trips == [0]

    @staticmethod
    def trips(counted, unlearner):
        est = classifier(unlearner, max_epochs=2, batch_size=12).set_params(device="cuda").fit(X, y)
        with counted() as trips:
            est.forget(X[:3])
        return trips[0]

    def test_none_a_noisy_step(self, counted):
        short, long = (self.trips(counted, NoisyFineTune(n_steps=n, n_epochs=1, cold_control=False)) for n in (2, 5))
        assert short == long
