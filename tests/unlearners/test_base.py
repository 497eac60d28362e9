"""The base class of all unlearners, and the seeds they are given."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.unlearners import (
    CuReNU,
    FineTune,
    Retrain,
    Status,
    StoCuReNU,
    Unlearner,
    UnlearnerTags,
    UnlearningResult,
)
from sk_unlearn.utils._random import numpy_seed, seeded_torch, torch_generator


class Bare(Unlearner):
    def __init__(self, strength=1):
        self.strength = strength


def test_a_subclass_must_implement_unlearn():
    with pytest.raises(NotImplementedError, match="Bare must implement unlearn"):
        Bare().unlearn(None)


def test_a_subclass_clones_and_has_parameters():
    assert clone(Bare(strength=3)).get_params() == {"strength": 3}
    assert Bare().__unlearner_tags__() == UnlearnerTags()


def test_tags_are_made_anew_for_each_question():
    Bare().__unlearner_tags__().needs_rows = True
    assert not Bare().__unlearner_tags__().needs_rows


@pytest.mark.parametrize(
    ("unlearner", "exact", "needs_rows"),
    [
        (CuReNU(), True, False),
        (StoCuReNU(), True, False),
        (CuReNU(L=5.0), False, False),
        (StoCuReNU(solver="gradient_descent"), False, False),
        (Retrain(), True, True),
        (FineTune(), False, True),
    ],
)
def test_what_the_packages_own_claim(unlearner, exact, needs_rows):
    tags = unlearner.__unlearner_tags__()
    assert (tags.exact_on_quadratics, tags.needs_rows) == (exact, needs_rows)


class Talkative(Unlearner):
    def __init__(self, name="mood"):
        self.name = name

    def __unlearner_tags__(self):
        tags = super().__unlearner_tags__()
        tags.extra = (self.name,)
        return tags

    def unlearn(self, problem):
        return UnlearningResult(problem.parameters, Status.COMPLETED, "done", extra={self.name: "good"})


def test_what_a_method_has_to_tell_besides_is_in_the_report():
    X, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    est = UnlearnableClassifier(unlearner=Talkative(), random_state=0).fit(X, y).forget(X[:1])
    assert est.unlearning_report_.extra == {"mood": "good"}


@pytest.mark.parametrize("name", ["n_steps", "status"])
def test_a_name_that_the_report_has_is_refused_with_nothing_changed(name):
    X, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    est = UnlearnableClassifier(unlearner=Talkative(name), random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=name):
        est.forget(X[:1])
    assert len(est.training_set_) == 10


def test_a_result_does_not_take_its_own_fields_as_extra():
    with pytest.raises(ValueError, match="n_products"):
        UnlearningResult(torch.zeros(2), Status.COMPLETED, extra={"n_products": 3})


class HoldsStill(Unlearner):
    """Claims to solve for the residual, and leaves it to the estimator to find out the gradient."""

    def unlearn(self, problem):
        return UnlearningResult(problem.parameters, Status.COMPLETED, "done", target=problem.residual)


def test_a_held_residual_stays_the_target_without_a_gradient():
    X, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    est = UnlearnableClassifier(unlearner=HoldsStill(), random_state=0).fit(X, y)
    before = est.unlearning_state_.anchor.residual.clone()
    est.forget(X[4:5])  # in the middle, so that the network's own shift and scale stay
    assert torch.equal(est.unlearning_state_.anchor.residual, before)
    assert not torch.equal(est.unlearning_state_.anchor.gradient, before)


@pytest.mark.parametrize("seed", [3, np.random.default_rng(3)])
def test_seeded_torch_seeds_and_restores(seed):
    state = torch.get_rng_state()
    with seeded_torch(seed):
        first = torch.rand(3)
    assert torch.equal(state, torch.get_rng_state())
    with seeded_torch(3 if isinstance(seed, int) else np.random.default_rng(3)):
        assert torch.equal(first, torch.rand(3))


def test_seeded_torch_restores_after_an_error():
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="own"), seeded_torch(1):  # noqa: PT012  what happens inside before the error is the point
        torch.rand(3)
        raise RuntimeError("own")
    assert torch.equal(state, torch.get_rng_state())


def test_generators_come_from_the_one_given():
    one, two = (torch_generator(np.random.default_rng(4), torch.device("cpu")) for _ in range(2))
    assert torch.equal(torch.rand(2, generator=one), torch.rand(2, generator=two))
    rng = np.random.default_rng(4)
    assert numpy_seed(rng) != numpy_seed(rng)


@pytest.mark.parametrize(
    ("unlearner", "name"),
    [(FineTune(n_epochs=0), "n_epochs"), (FineTune(learning_rate=0.0), "learning_rate"), (FineTune("one"), "n_epochs")],
)
def test_constraints(unlearner, name):
    with pytest.raises(InvalidParameterError, match=name):
        unlearner.unlearn(None)


class LetsGo(Unlearner):
    def unlearn(self, problem):
        before = [problem.parameters.clone(), problem.gradient.clone(), problem.objective.gradient_at_start]
        problem.let_go("parameters", "gradient", "residual")
        self.held_ = {"parameters", "gradient", "residual"} & set(vars(problem))
        after = [problem.parameters, problem.gradient, problem.objective.gradient_at_start]
        self.are_same_ = [torch.equal(*pair) for pair in zip(before, after, strict=True)]
        assert not hasattr(problem, "elsewhere")
        self.starts_there_ = torch.equal(problem.objective.start, before[0])
        return UnlearningResult(problem.parameters + 0.1, Status.COMPLETED)

    def __sklearn_clone__(self):
        return self


@pytest.mark.parametrize("verb", ["forget", "correct"])
def test_a_problem_gets_anew_what_it_let_go_of(verb):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 4)).astype(np.float32), rng.integers(0, 2, 40)
    unlearner = LetsGo()
    est = UnlearnableClassifier(unlearner=unlearner, random_state=0).fit(X, y)
    if verb == "forget":
        est.forget(X[:3])
    else:
        est.correct(X[:3], X_new=X[:3] + 1)
    assert unlearner.held_ == {"residual"}
    assert unlearner.are_same_ == [True, True, True]
    assert unlearner.starts_there_
