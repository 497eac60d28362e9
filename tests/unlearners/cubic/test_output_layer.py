"""Cubic steps in the output layer alone."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.risks.combined import CombinedRisk
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.output_layer import output_layer
from sk_unlearn.unlearners import CuReNU, Status, StoCuReNU
from sk_unlearn.unlearners.cubic import Policy
from tests._problems import mlp, posed, skorch_net


def problem_for(n=300, n_classes=3, erased=None, regression=False, module=None, seed=0):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    X = rng.normal(size=(n, 4))
    if regression:
        y = (X[:, :1] + 0.1 * rng.normal(size=(n, 1))).astype(np.float64)
    else:
        y = (X[:, 0] + 0.3 * rng.normal(size=n) > 0).astype(np.int64) + (X[:, 1] > 0.5)
    if module is None:
        module = mlp(4, 1 if regression else n_classes, n_hidden=8).double()
    net = skorch_net(
        module, NeuralNetRegressor if regression else NeuralNetClassifier, optimizer=torch.optim.Adam, lr=0.01,
        optimizer__weight_decay=1e-3, max_epochs=20, batch_size=256,
    ).initialize()  # fmt: skip
    net.fit(X, y)
    gone = np.arange(n) < n // 10 if erased is None else erased(X, y)
    whole, retained = EmpiricalRisk(net, X, y), EmpiricalRisk(net, X, y, mask=~gone)
    return posed(net, whole, retained, EmpiricalRisk(net, X[gone], y[gone]))


# With samples allowed, steps in the output layer are all there is.
FEW_ARE_MANY = Policy(few_rows=16)


def solve(problem, **policy):
    """Take the steps in the output layer, and no others."""
    unlearner = StoCuReNU(policy=dataclasses.replace(FEW_ARE_MANY, **policy))
    result = unlearner.unlearn(dataclasses.replace(problem, rng=np.random.default_rng(0)))
    assert all(record["block"] == "output layer" for record in result.trace)
    return result


@pytest.mark.parametrize("regression", [False, True])
def test_gradient_in_the_layer_falls_and_nothing_else_moves(regression):
    problem = problem_for(regression=regression)
    result = solve(problem)
    layer, _ = output_layer(problem.retained)
    before = layer.extract(problem.gradient - problem.residual)
    after = layer.extract(problem.retained.gradient(result.parameters) - problem.residual)
    assert after.norm() < 0.2 * before.norm()
    rest = torch.ones(len(problem.parameters), dtype=torch.bool)
    rest[layer.indices] = False
    assert torch.equal(result.parameters[rest], problem.parameters[rest])
    assert not torch.equal(result.parameters, problem.parameters)


def test_sampled_rows_agree_with_all_of_them():
    problem = problem_for(n=4000)
    everything = solve(problem)
    sampled = solve(problem, first_rows=250, max_rows=2000)
    n_rows = [record["n_rows"] for record in sampled.trace]
    assert n_rows[0] == 250  # more than half as many as leave
    assert all(later in (now, 2 * now) for now, later in pairwise(n_rows))
    assert n_rows[-1] <= 2000
    moved = (everything.parameters - problem.parameters).norm()
    assert (sampled.parameters - everything.parameters).norm() < 0.5 * moved


@pytest.mark.parametrize(("n_first", "n_most"), [(100, 2000), (5000, 700), (300, 1000)])
def test_how_many_rows_are_read_first(n_first, n_most):
    trace = solve(problem_for(n=4000), first_rows=n_first, max_rows=n_most).trace
    n_rows = [record["n_rows"] for record in trace]
    first = min(max(n_first, 200), n_most // 2)
    # All at once where no more than as many again are to be had.
    assert n_rows[0] == (n_most if n_most <= 2 * first else first)


def test_no_step_is_judged_by_a_handful():
    # Not 1,600 in the end and then 50.
    never_at_rest = {"agreeing_share": 0.0, "settled_share": 0.0, "invisible_change": 0.0}
    trace = solve(problem_for(n=4000), max_rows=1650, first_rows=400, **never_at_rest).trace
    n_rows = [record["n_rows"] for record in trace]
    assert n_rows[:3] == [400, 800, 1650]


def test_curvature_of_the_first_rows_is_enough():
    problem = problem_for(n=8000, erased=lambda X, y: y == 2)
    everything = solve(problem)
    assert everything.trace[-1]["n_rows"] > 2000
    fewer = solve(problem, curvature_rows=1000)
    moved = (everything.parameters - problem.parameters).norm()
    assert not torch.equal(fewer.parameters, everything.parameters)
    assert (fewer.parameters - everything.parameters).norm() < 0.1 * moved


def test_few_rows_and_a_whole_class_stay_bounded():
    # Without the class its column is pushed down for ever by the exact gradient, and few rows do not hold it.
    problem = problem_for(n=200, erased=lambda X, y: y == 2)
    result = solve(problem, first_rows=20)
    assert result.trace[0]["n_rows"] < 40
    before, after = problem.retained.value(problem.parameters), problem.retained.value(result.parameters)
    assert after <= 1.1 * before
    assert (result.parameters - problem.parameters).norm() < 50


def test_no_step_costs_retained_rows_more_than_a_little():
    # A residual as large as this tilts the objective along everything.
    problem = problem_for()
    tilted = dataclasses.replace(problem, residual=problem.residual + 0.5)
    result = solve(tilted)
    assert problem.retained.value(result.parameters) <= 1.02 * problem.retained.value(problem.parameters) * (1 + 1e-9)


def test_the_erased_class_is_no_longer_predicted():
    problem = problem_for(n=500, erased=lambda X, y: y == 2)
    result = solve(problem)
    layer, _ = output_layer(problem.erased)
    risk = layer.risk(problem.erased, result.parameters)
    probabilities = risk.predictions(risk.start)
    assert risk.predicts_probabilities
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(probabilities), dtype=torch.float64))
    assert probabilities[:, 2].mean() < 0.1


def test_same_rng_same_result():
    problem = problem_for(n=3000)
    assert torch.equal(solve(problem).parameters, solve(problem).parameters)


def test_no_steps_where_there_is_no_such_layer():
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).double()
    problem = problem_for()
    combined = CombinedRisk(problem.retained, removed=[problem.erased])
    for other in (problem_for(module=module), dataclasses.replace(problem, retained=combined)):
        trace = CuReNU(max_steps=3).unlearn(other).trace
        assert trace
        assert not any("block" in record for record in trace)


def test_no_steps_where_the_gradient_has_no_part_in_the_layer():
    problem = problem_for()
    layer, _ = output_layer(problem.retained)
    gradient = layer.insert(problem.gradient, layer.extract(problem.residual))
    trace = CuReNU(max_steps=3).unlearn(dataclasses.replace(problem, gradient=gradient)).trace
    assert trace
    assert not any("block" in record for record in trace)


def test_trace_names_the_block():
    X, y = load_iris(return_X_y=True)
    est = UnlearnableClassifier(random_state=0).fit(X, y).forget(X[y == 1][::2])
    blocks = [record.get("block") for record in est.unlearning_report_.trace]
    assert blocks[0] == "output layer"
    est = UnlearnableClassifier(unlearner=StoCuReNU(output_layer_first=False), random_state=0).fit(X, y)
    blocks = [record.get("block") for record in est.forget(X[y == 1][::2]).unlearning_report_.trace]
    assert blocks
    assert not any(blocks)


def test_max_steps_counts_them():
    X, y = load_iris(return_X_y=True)
    est = UnlearnableClassifier(unlearner=StoCuReNU(max_steps=2), random_state=0).fit(X, y).forget(X[y == 1][::2])
    trace = est.unlearning_report_.trace
    assert [record.get("block") for record in trace] == ["output layer"] * 2


def test_settled_only_where_the_layer_came_to_rest():
    problem = problem_for(n=3000, erased=lambda X, y: (y == 2) & (X[:, 2] > 0))
    cut = StoCuReNU(max_steps=1).unlearn(problem)
    assert cut.status == Status.BUDGET_SPENT
    assert "had not come to rest" in cut.stop_reason
    whole = StoCuReNU().unlearn(dataclasses.replace(problem, rng=np.random.default_rng(0)))
    assert (whole.status, whole.stop_reason) == (Status.SETTLED, "the output layer came to rest")


def test_a_layer_that_no_step_moves_has_not_settled():
    # Not even a step that leaves the retained rows as they are is allowed.
    result = solve(problem_for(), max_cost=-1.0)
    assert result.status == Status.STALLED


def wrong_class_loss(problem):
    """Mean cross-entropy of the rows that stay, none of which is of class 2, in each class but their own."""
    y = torch.from_numpy(problem.retained.y[problem.retained.y != 2])
    losses = -problem.retained.outputs(problem.parameters, np.flatnonzero(problem.retained.y != 2)).log_softmax(1)
    return float(losses[torch.arange(3) != y[:, None]].mean())


@pytest.mark.parametrize("seed", [0, 1])
def test_an_erased_class_costs_about_what_a_wrong_one_does(seed):
    problem = problem_for(n=900, erased=lambda X, y: y == 2, seed=seed)
    bound = Policy().ceiling * wrong_class_loss(problem)
    free, result = solve(problem, ceiling=1e9), solve(problem)
    before, after, without_ceiling = (
        problem.erased.without_penalty(w, problem.erased.value(w))
        for w in (problem.parameters, result.parameters, free.parameters)
    )
    assert before < 0.5 * after
    assert 0.98 * bound < after <= 1.001 * bound < 0.6 * without_ceiling
    assert result.status == Status.SETTLED
    assert "cost what rows of another class do" in result.stop_reason


@pytest.mark.parametrize("criterion", [nn.BCEWithLogitsLoss, nn.BCELoss])
def test_so_does_one_of_two_classes(criterion):
    ending = [nn.Sigmoid()] if criterion is nn.BCELoss else []
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1), *ending, nn.Flatten(0)).double()
    X = np.random.default_rng(0).normal(size=(900, 4))
    y = (X[:, 0] > 0).astype(np.float64)
    torch.manual_seed(0)
    net = skorch_net(
        module, NeuralNet, criterion=criterion, optimizer=torch.optim.Adam, lr=0.01, max_epochs=20, batch_size=256
    ).fit(X, y)
    risks = EmpiricalRisk(net, X, y), EmpiricalRisk(net, X, y, mask=y == 0), EmpiricalRisk(net, X[y == 1], y[y == 1])
    problem = posed(net, *risks)
    outputs = problem.retained.outputs(problem.parameters, np.flatnonzero(y == 0))
    p = outputs if ending else outputs.sigmoid()
    bound = Policy().ceiling * float(-p.log().mean())
    free, result = solve(problem, ceiling=1e9), solve(problem)
    assert 0.98 * bound < problem.erased.value(result.parameters) <= 1.001 * bound
    assert problem.erased.value(free.parameters) > 1.5 * bound
    assert "cost what rows of another class do" in result.stop_reason


def test_rows_that_cost_more_already_are_left_where_they_are():
    """Wrong labels: nobody would call it overshoot that they are wrong."""
    problem = problem_for(n=900, erased=lambda X, y: np.arange(len(y)) < 30)
    wrong = (problem.erased.y + 1) % 3
    erased = EmpiricalRisk(problem.net, problem.erased.X, wrong)
    result = solve(dataclasses.replace(problem, erased=erased))
    assert result.status == Status.SETTLED
    assert result.trace[0]["taken"]


def corrected(n=400, n_wrong=40, seed=0):
    """Return a problem in which rows had another label than the one that they are to have."""
    problem = problem_for(n=n, seed=seed)
    whole = problem.retained.stored
    wrong = np.arange(n) < n_wrong
    y = whole.y.copy()
    y[wrong] = (y[wrong] + 1) % 3
    before = EmpiricalRisk(problem.net, whole.X, y)
    stored = EmpiricalRisk(problem.net, whole.X, y, mask=~wrong)
    new = EmpiricalRisk(problem.net, whole.X[wrong], whole.y[wrong])
    old = EmpiricalRisk(problem.net, whole.X[wrong], y[wrong])
    return posed(problem.net, before, CombinedRisk(stored, added=[new]), old), new


def test_rows_with_new_labels_count_beside_the_stored_ones():
    problem, new = corrected()
    result = solve(problem)
    assert left_in_layer(problem, result) < 0.2
    assert new.value(result.parameters) < new.value(problem.parameters)


def left_in_layer(problem, result):
    """Return which share of the gradient of Φ in the layer is left."""
    layer, _ = output_layer(problem.retained.stored)
    before, after = (problem.retained.gradient(w) - problem.residual for w in (problem.parameters, result.parameters))
    return float(layer.extract(after).norm() / layer.extract(before).norm())


def test_no_layer_where_rows_are_subtracted():
    problem, new = corrected()
    stored = problem.retained.stored
    problem = dataclasses.replace(problem, retained=CombinedRisk(stored, removed=[new]))
    result = StoCuReNU(policy=FEW_ARE_MANY).unlearn(problem)
    assert all(record.get("block") != "output layer" for record in result.trace)
