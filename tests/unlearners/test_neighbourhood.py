"""AMUN and RURK: the points they look at near the erased rows, and what these do to a model."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.utils._param_validation import InvalidParameterError
from skorch import NeuralNetBinaryClassifier, NeuralNetRegressor
from skorch.dataset import Dataset
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import AMUN, RURK, FineTune, Status
from sk_unlearn.unlearners._neighbours import input_spread, nearest_adversaries, others_over_own, scattered
from sk_unlearn.unlearners.neighbourhood import without_losses
from tests._problems import centred_iris, classifier, iris_classifier, mlp, problem_for, skorch_net

X, y = centred_iris()


class Blind(nn.Module):
    """Takes every row for the last class."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([0.0, 1.0]))

    def forward(self, X):
        return 0 * X.sum(1, keepdim=True) + self.bias


class Halved(Dataset):
    """Gives rows other than the stored ones."""

    def transform(self, X, y):
        return super().transform(X / 2, y)


def test_spread_of_every_input_far_from_zero_too():
    problem = problem_for(n=300)
    far = problem.retained.X + 1e6
    far[:, 2] = 7.0
    problem.retained.X[:] = far
    expected = far.std(0)
    np.testing.assert_allclose(input_spread(problem), expected, rtol=1e-9)
    assert input_spread(problem)[2] == 0


def test_scattered_points_lie_around_their_rows():
    problem, scale = problem_for(n=200, erased=100), np.array([0.0, 0.1, 0.2, 0.3, 0.4])
    risk = scattered(problem.erased, np.array([5, 2]), scale, 2000, np.random.default_rng(0))
    np.testing.assert_array_equal(risk.y, problem.erased.y[[5, 2]].repeat(2000))
    moved = risk.X - problem.erased.X[[5, 2]].repeat(2000, axis=0)
    np.testing.assert_allclose(moved.mean(0), 0, atol=0.04)
    np.testing.assert_allclose(moved.std(0), scale, rtol=0.05)


def test_others_over_own_points_along_the_cross_entropy():
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    own = torch.tensor([0, 1, 2, 3, 0, 1])
    (slope,) = torch.autograd.grad(others_over_own(logits, own).sum(), logits)
    losses = nn.functional.cross_entropy(logits, own, reduction="sum")
    (expected,) = torch.autograd.grad(losses, logits)
    wrong = 1 - logits.softmax(1).gather(1, own[:, None])
    torch.testing.assert_close(slope, expected / wrong)


def test_others_over_own_does_not_vanish_where_the_model_is_sure():
    logits = torch.tensor([[80.0, 0.0, -1.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(others_over_own(logits, torch.tensor([0])).sum(), logits)
    assert slope[0, 0] == -1


class TestNearestAdversaries:
    def test_they_are_misclassified_within_the_radius(self):
        problem = problem_for(erased=30)
        spread = input_spread(problem)
        found = nearest_adversaries(problem, spread, 0.1, 50)
        assert len(found.rows) == 30
        predicted = problem.net.module_(torch.from_numpy(found.X)).argmax(1).numpy()
        np.testing.assert_array_equal(predicted, found.labels)
        assert (predicted != problem.erased.y[found.rows]).all()
        distance = np.linalg.norm((found.X - problem.erased.X[found.rows]) / spread, axis=1)
        assert (distance <= found.radius * (1 + 1e-9)).all()
        # A row that the model gets wrong is its own.
        wrong = problem.net.module_(torch.from_numpy(problem.erased.X)).argmax(1).numpy() != problem.erased.y
        assert not wrong.all()
        np.testing.assert_array_equal(distance == 0, wrong)

    def test_the_radius_is_the_smallest_by_doubling(self):
        # Of a linear model of two classes the distance to the boundary is known.
        problem = problem_for(n_classes=2, module=nn.Linear(5, 2), erased=30)
        spread = input_spread(problem)
        found = nearest_adversaries(problem, spread, 0.05, 50)
        slopes, bias = (p.detach().numpy() for p in problem.net.module_.parameters())
        slope = (slopes[1] - slopes[0]) * spread
        margin = problem.erased.X @ (slopes[1] - slopes[0]) + bias[1] - bias[0]
        own = np.where(problem.erased.y == 1, margin, -margin)
        distance = (own / np.linalg.norm(slope)).clip(0)
        expected = 0.05 * 2 ** np.ceil(np.log2(distance.clip(0.05) / 0.05))
        np.testing.assert_allclose(found.radius, expected)
        reached = np.linalg.norm((found.X - problem.erased.X) / spread, axis=1)
        # It stops at the first point beyond: at most one step too far.
        assert (reached >= distance).all()
        assert (reached <= distance + found.radius / 10 + 1e-9).all()

    def test_chunks_make_no_difference(self):
        problem = problem_for(erased=30)
        whole = nearest_adversaries(problem, input_spread(problem), 0.1, 20)
        cut = problem_for(erased=30)
        erased = EmpiricalRisk(cut.net, cut.erased.X, cut.erased.y, chunk_size=7)
        cut = type(cut)(**{**vars(cut), "erased": erased})
        parts = nearest_adversaries(cut, input_spread(cut), 0.1, 20)
        np.testing.assert_allclose(parts.X, whole.X, rtol=1e-10)
        np.testing.assert_array_equal(parts.labels, whole.labels)


class TestAMUN:
    def test_erased_rows_lose_confidence_and_the_others_are_kept(self):
        rows, labels = make_classification(
            150, 6, n_informative=6, n_redundant=0, n_classes=3, flip_y=0.2, random_state=0
        )
        rows = rows.astype(np.float32)
        net = skorch_net(mlp(6, 3, 30), optimizer=torch.optim.Adam, lr=0.03, max_epochs=80, batch_size=32)
        fitted = UnlearnableClassifier(net, random_state=0).fit(rows, labels)

        def confidence(est):
            return est.predict_proba(rows[:15])[np.arange(15), labels[:15]].mean()

        def after(unlearner):
            return copy.deepcopy(fitted).set_params(unlearner=unlearner).forget(rows[:15])

        unlearned = after(AMUN(n_epochs=20, learning_rate=3e-3))
        report = unlearned.unlearning_report_
        assert report.status is Status.COMPLETED
        assert 0 < report.extra["median_radius"] <= report.extra["largest_radius"]
        assert confidence(unlearned) < confidence(fitted) - 0.1
        assert confidence(unlearned) < confidence(after(FineTune(20))) - 0.1
        assert unlearned.score(rows[15:], labels[15:]) > fitted.score(rows[15:], labels[15:]) - 0.02

    def test_first_step_is_along_both_means(self):
        problem = problem_for()
        result = AMUN(n_epochs=1, learning_rate=1e-3).unlearn(problem)
        again = problem_for()
        found = nearest_adversaries(again, input_spread(again), 0.05, 50)
        points = EmpiricalRisk(again.net, found.X, found.labels)
        w = again.parameters
        gradient = 0.9 * again.retained.gradient(w) + 0.1 * points.gradient(w)
        # Adam's first step is the rate along the sign, but for an epsilon of 1e-8.
        expected = w - 1e-3 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(result.parameters, expected, rtol=0, atol=1e-9)

    def test_a_model_without_a_boundary_is_left_alone(self):
        net = skorch_net(Blind, max_epochs=1, lr=1e-3)
        labels = (np.arange(40) < 39).astype(np.int64)
        est = UnlearnableClassifier(net, AMUN(n_steps=2), random_state=0).fit(X[:40], labels)
        report = est.forget(X[:5]).unlearning_report_
        assert not report.parameters_moved
        assert "no adversarial point" in report.stop_reason

    def test_rows_without_a_point_are_counted(self):
        net = skorch_net(Blind, max_epochs=1, lr=1e-3)
        labels = (np.arange(40) < 35).astype(np.int64)
        est = UnlearnableClassifier(net, AMUN(n_steps=2, n_epochs=1), random_state=0).fit(X[:40], labels)
        report = est.forget(X[33:37]).unlearning_report_
        assert any("2 of 4 erased rows have no adversarial point" in note for note in report.notes)

    def test_images(self):
        images = np.random.default_rng(0).normal(size=(60, 1, 4, 4)).astype(np.float32)
        labels = (images.mean((1, 2, 3)) > 0).astype(np.int64)
        module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 2))
        est = classifier(AMUN(n_epochs=1), module, lr=0.1).fit(images, labels)
        assert est.forget(images[:5]).unlearning_report_.parameters_moved

    def test_a_regressor_is_refused_with_the_cure(self):
        net = NeuralNetRegressor(nn.Linear(4, 1), max_epochs=1, lr=1e-3, train_split=None, verbose=0)
        est = UnlearnableRegressor(net, AMUN(), random_state=0).fit(X, X[:, 0])
        with pytest.raises(ValueError, match=r"MSELoss.*CrossEntropyLoss.*StoCuReNU"):
            est.forget(X[:1])

    def test_a_dataset_of_its_own_is_refused_with_the_cure(self):
        est = iris_classifier(AMUN(), dataset=Halved, max_epochs=1).fit(X, y)
        with pytest.raises(ValueError, match=r"something else of stored rows.*RURK"):
            est.forget(X[:1])


class TestRURK:
    def test_objective_equals_its_formula(self):
        problem, rng = problem_for(), np.random.default_rng(3)
        w = problem.parameters + 0.1 * torch.from_numpy(rng.normal(size=len(problem.parameters)))
        near = scattered(problem.erased, np.arange(8), input_spread(problem), 3, rng)
        value, gradient = without_losses(
            w,
            problem.retained.value_and_gradient(w, np.arange(10, 40)),
            [(0.3, problem.erased, np.arange(4)), (0.7, near, None)],
            chance=np.inf,
        )
        leaf, module = w.clone().requires_grad_(), problem.net.module_
        shapes = [p.shape for p in module.parameters()]
        pieces = [piece.view(s) for piece, s in zip(leaf.split([s.numel() for s in shapes]), shapes, strict=True)]
        named = dict(zip(dict(module.named_parameters()), pieces, strict=True))

        def loss(rows, labels):
            logits = torch.func.functional_call(module, named, (torch.from_numpy(rows),))
            return nn.functional.cross_entropy(logits, torch.from_numpy(labels))

        retained, erased = problem.retained, problem.erased
        by_hand = loss(retained.X[10:40], retained.y[10:40]) + 0.5e-2 * leaf.square().sum()
        by_hand = by_hand - 0.3 * loss(erased.X[:4], erased.y[:4]) - 0.7 * loss(near.X, near.y)
        assert value == pytest.approx(by_hand.item(), rel=1e-12)
        torch.testing.assert_close(gradient, torch.autograd.grad(by_hand, leaf)[0], rtol=1e-10, atol=1e-12)

    def test_a_loss_at_chance_is_left_out(self):
        problem = problem_for()
        w = problem.parameters
        start = problem.retained.value_and_gradient(w)
        value, gradient = without_losses(w, start, [(0.5, problem.erased, None)], chance=0.0)
        assert value == start[0]
        assert torch.equal(gradient, start[1])

    def test_erased_rows_and_their_neighbourhood_are_known_less(self):
        unlearner = RURK(0.3, neighbour_weight=0.3, scatter=0.3, n_neighbours=2, n_epochs=20, learning_rate=0.01)
        est = iris_classifier(unlearner).fit(X, y)
        near = X[y == 0] + 0.3 * X.std(0) * np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
        before = est.predict_proba(near)[:, 0].mean()
        est.forget(X[y == 0])
        assert est.predict_proba(near)[:, 0].mean() < before - 0.2
        assert est.predict_proba(X[y == 0])[:, 0].mean() < before - 0.2
        assert est.score(X[y != 0], y[y != 0]) > 0.9

    def test_points_are_fresh_in_every_batch(self):
        row, seen = X[0], []
        est = iris_classifier(RURK(n_neighbours=2, n_epochs=1)).fit(X, y)
        near = type(est.net_.module_).forward

        class Watched(nn.Linear):
            def forward(self, at):
                seen.extend(map(tuple, at[(at - torch.from_numpy(row)).norm(dim=1) > 0].tolist()))
                return near(self, at)

        est.net_.module_.__class__ = Watched
        seen.clear()
        est.forget(row[None])
        stored = set(map(tuple, X.tolist()))
        points = [point for point in seen if point not in stored]
        # Five batches of retained rows, each with two points near the one erased row.
        assert len(points) == len(set(points)) == 10
        assert np.linalg.norm(np.array(points) - row, axis=1).max() < 1

    def test_a_regressor(self):
        net = NeuralNetRegressor(nn.Linear(4, 1), max_epochs=20, lr=0.05, train_split=None, verbose=0)
        est = UnlearnableRegressor(net, RURK(), random_state=0).fit(X, X[:, 0])
        assert est.forget(X[:5]).unlearning_report_.parameters_moved


@pytest.mark.parametrize("unlearner", [AMUN(n_epochs=1), RURK()])
def test_binary_classifier(unlearner):
    binary = (y[50:] == 2).astype(np.int64)
    net = NeuralNetBinaryClassifier(nn.Linear(4, 1), max_epochs=30, lr=0.1, train_split=None, verbose=0)
    est = UnlearnableClassifier(net, unlearner, random_state=0).fit(X[50:], binary)
    w = flat_parameters(est.net_)
    assert not torch.equal(flat_parameters(est.forget(X[50:60]).net_), w)


@pytest.mark.parametrize("unlearner", [AMUN(), RURK()])
def test_rows_without_neighbours_are_refused_with_the_cure(unlearner):
    rows = np.arange(40)[:, None] % 7
    module = nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(3, 2))
    est = classifier(unlearner, module).fit(rows, rows[:, 0] % 2)
    with pytest.raises(ValueError, match=r"int64 have none.*SalUn"):
        est.forget(rows[:1])


@pytest.mark.parametrize(
    ("unlearner", "name"),
    [(AMUN(0.0), "radius"), (AMUN(n_steps=0), "n_steps"), (AMUN(n_epochs=0), "n_epochs"), (RURK(-1.0), "erased_weight"),
     (RURK(neighbour_weight=-1.0), "neighbour_weight"), (RURK(scatter=0.0), "scatter"),
     (RURK(n_neighbours=0), "n_neighbours")],
)  # fmt: skip
def test_constraints(unlearner, name):
    with pytest.raises(InvalidParameterError, match=name):
        unlearner.unlearn(None)


@pytest.mark.gpu
@pytest.mark.parametrize("unlearner", [AMUN(), RURK()])
def test_on_a_gpu(unlearner):
    est = iris_classifier(unlearner).set_params(device="cuda").fit(X, y).forget(X[y == 0])
    assert est.unlearning_report_.parameters_moved
