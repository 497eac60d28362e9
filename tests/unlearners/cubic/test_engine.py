"""The loop over stages, and what they hand on to each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sk_unlearn.unlearners import CuReNU, Retrain, Status, StoCuReNU
from sk_unlearn.unlearners.cubic._policy import Policy
from tests import _problems

from .test_output_layer import problem_for


class Thrown:
    """A stage that moves so far that the gradient is larger than before."""

    def __init__(self, by=5.0):
        self.by = by

    def run(self, state):
        state.begin_move()
        state.w, state.gradient_lags = state.w + self.by, True
        state.record(
            {"taken": True, "step_norm": 1.0, "gradient_norm": state.gradient_norm, "block": "thrown"} | NOTHING
        )


NOTHING = {"n_products": 0, "predicted": 0.0, "actual": 0.0}


# Stages are private: these subclasses put one in, since none of the package's own goes astray on a small problem.
class Astray(CuReNU):
    """Its first stage goes astray."""

    def _stages(self, plan):
        return [Thrown(), super()._stages(plan)[-1]]


class Prepared(StoCuReNU):
    """One more stage before those that there are, which moves a first layer and tells the gradient there."""

    def _stages(self, plan):
        class First:
            def run(self, state):
                state.begin_move()
                state.w = state.w + 1e-3 * (torch.arange(len(state.w)) < 8)
                state.gradient = state.objective.gradient(state.w)

        return [First(), *super()._stages(plan)]


def test_a_stage_that_led_too_far_is_taken_back():
    problem = problem_for()
    result = Astray().unlearn(problem)
    assert [record["taken"] for record in result.trace if "block" in record] == [False]
    assert result.trace[0]["step_norm"] == 0.0
    alone = CuReNU(output_layer_first=False, max_steps=49).unlearn(problem)
    torch.testing.assert_close(result.parameters, alone.parameters)
    assert result.status == alone.status


@pytest.mark.parametrize(("rise", "kept"), [(1.5, True), (2.5, False)])
def test_a_stage_may_leave_as_much_more_of_the_gradient_as_a_step_may(rise, kept):
    problem = problem_for()
    start, first = problem.parameters, problem.objective.gradient_norm_at_start
    low, high = 0.0, 5.0
    while high - low > 1e-6:  # how far all parameters may move until the norm is so many times what it was
        middle = (low + high) / 2
        norm = float(problem.objective.gradient(start + middle).norm())
        low, high = (middle, high) if norm < rise * first else (low, middle)

    class Raised(CuReNU):
        def _stages(self, plan):
            return [Thrown(low), super()._stages(plan)[-1]]

    result = Raised(max_steps=4).unlearn(problem)
    assert result.trace[0]["taken"] is kept
    assert float(result.gradient.sub(problem.objective.tilt).norm()) <= rise * first


def test_taken_back_even_where_no_step_is_left():
    problem = problem_for()
    result = Astray(max_steps=1).unlearn(problem)
    assert torch.equal(result.parameters, problem.parameters)
    assert result.status == Status.OVERSHOOT_UNDONE
    assert "taken back" in result.stop_reason
    assert not any(record["taken"] for record in result.trace)
    torch.testing.assert_close(result.gradient, problem.gradient)


def test_a_stage_put_before_the_others_is_built_upon():
    problem = problem_for(n=3000)
    first, alone = Prepared().unlearn(problem), StoCuReNU().unlearn(problem_for(n=3000))
    moved = first.parameters != problem.parameters
    assert bool(moved[:8].all())
    assert not any("Only the output layer" in note for note in first.notes)
    assert any("Only the output layer" in note for note in alone.notes)
    assert first.status == Status.SETTLED


def test_the_last_stage_must_end():
    class Endless(CuReNU):
        def _stages(self, plan):
            return [Thrown(1e-3)]

    with pytest.raises(RuntimeError, match="last stage"):
        Endless().unlearn(problem_for())


# ------------------------------------------------------------------------------------------- where training had ended


def test_a_target_that_faded_is_no_sign_of_an_optimum():
    problem = _problems.problem_for()
    still = replace(problem, residual=torch.zeros_like(problem.residual))
    faded = replace(still, norm_left=float(problem.residual.norm()))
    wide, narrow = (CuReNU(output_layer_first=False).unlearn(each) for each in (still, faded))
    assert wide.status is Status.CONVERGED
    assert max(record["n_products"] for record in wide.trace) > Policy().narrow_products
    assert max(record["n_products"] for record in narrow.trace) <= Policy().narrow_products
    assert 5 * narrow.n_products < wide.n_products


def test_requests_remember_what_training_left_while_their_target_fades():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3)).astype(np.float32)
    y = (X[:, 0] > 0).astype(np.int64)
    X[:, 0] += 2 * np.sign(X[:, 0])
    est = _problems.classifier(
        StoCuReNU(renew=False), module__n_features_in=3, module__n_outputs=2, lr=0.5, max_epochs=60
    )
    est.fit(X, y)
    first = float(est.unlearning_state_.anchor.residual.norm())
    fractions = []
    for k in range(4):
        est.forget(X[5 * k : 5 * k + 5])
        anchor = est.unlearning_state_.anchor
        assert anchor.norm_left == pytest.approx(first)
        fractions.append(float(anchor.residual.norm()) / first)
    assert fractions == sorted(fractions, reverse=True)
    assert fractions[-1] < fractions[0] < 1
    est.set_params(unlearner=Retrain()).forget(X[20:25])
    est.set_params(unlearner=StoCuReNU(renew=False)).forget(X[25:30])
    assert est.unlearning_state_.anchor.norm_left != pytest.approx(first)
