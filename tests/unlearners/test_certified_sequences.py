"""Several certified requests one after the other, seen by whoever sees every model: what their noise hides together."""

import copy
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import beta
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn

import sk_unlearn
from sk_unlearn.persistence import untrusted_types
from sk_unlearn.privacy import RandomWalk, gaussian_epsilon, gaussian_sigma
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import CertifiedNewton, CertifiedRemoval, RetrainRequired, Unlearner
from sk_unlearn.utils._random import standard_normal
from tests._problems import classifier

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
y = (X[:, 0] + rng.normal(size=60) > 0).astype(int)
REQUESTS = [slice(0, 6), slice(6, 12), slice(12, 18)]
WALKS = {
    "newton": lambda: CertifiedNewton(sigma=0.05, noise="random_walk"),
    "removal": lambda: CertifiedRemoval(epsilon=5.0, noise="random_walk"),
}


def fitted(unlearner, rows=X, **settings):
    torch.manual_seed(0)
    defaults = {"max_epochs": 80, "batch_size": -1, "lr": 0.5, "optimizer__weight_decay": 0.1}
    return classifier(unlearner, nn.Linear(3, 2, dtype=torch.float64), **(defaults | settings)).fit(rows, y)


def solved(risk, term=0.0):
    """Newton's method to rounding on F(w) + term'w."""
    w = torch.zeros(risk.n_parameters, dtype=torch.float64)
    for _ in range(100):
        local = risk.linearise(w)
        gradient = local.gradient + term
        H = torch.stack([local.hessian(e) for e in torch.eye(len(w), dtype=torch.float64)])
        step = torch.linalg.solve(H, gradient)
        w = w - step / max(1.0, float(step.norm()))
        if float(gradient.norm()) < 1e-13:
            return w
    raise AssertionError("not solved")


def problems_of(est):
    """The problems that the requests pose one after the other; each knows nothing of what others made of it."""
    seen = []

    class Catches(Unlearner):
        def unlearn(self, problem):
            seen.append(problem)
            raise LookupError

    est = copy.deepcopy(est)
    for rows in REQUESTS:
        twin = copy.deepcopy(est).set_params(unlearner=Catches())
        with pytest.raises(LookupError):
            twin.forget(X[rows])
        est.forget(X[rows])
    return seen


def releases(unlearner, problems, seed):
    """All results of one sequence with noise of its own."""
    results, generator = [], np.random.default_rng(seed)
    for problem in problems:
        if results:
            w = results[-1].parameters
            problem = replace(
                problem, parameters=w, gradient=problem.retained.gradient(w), recording=results[-1].recording
            )
        results.append(unlearner.unlearn(replace(problem, rng=generator)))
    return results


def bounds(k, n, level):
    """Clopper and Pearson: what the share of k in n is at least and at most."""
    low = 0.0 if k == 0 else float(beta.ppf(level, k, n - k + 1))
    return low, 1.0 if k == n else float(beta.ppf(1 - level, k + 1, n - k))


def excess(one, other, epsilon):
    """The largest P(one in E) - e^eps P(other in E) of a threshold that is certain but for one test in ten thousand."""
    thresholds, best = np.quantile(np.concatenate([one, other]), np.linspace(0.05, 0.95, 19)), -math.inf
    level = 1e-4 / (8 * len(thresholds))
    for t in thresholds:
        for a, b in ((one > t, other > t), (other > t, one > t), (one <= t, other <= t), (other <= t, one <= t)):
            low, high = bounds(a.sum(), len(a), level)[0], bounds(b.sum(), len(b), level)[1]
            best = max(best, low - math.exp(epsilon) * high)
    return best


# --------------------------------------------------------------------------------------------------- certified Newton


def test_the_first_request_is_the_same():
    one, other = (fitted(CertifiedNewton(2.0, 1e-4, noise=noise)) for noise in ("independent", "random_walk"))
    for est in (one, other):
        est.forget(X[:6])
    assert torch.equal(flat_parameters(one.net_), flat_parameters(other.net_))
    a, b = one.certificate_, other.certificate_
    assert (a.bound, a.epsilon, a.sigma, a.noise) == (b.bound, b.epsilon, b.sigma, "output")
    assert b.noise == "walk"


@pytest.mark.filterwarnings("ignore::sk_unlearn.unlearners.DominatingNoiseWarning")
def test_the_noise_goes_on_and_the_steps_do_not_know_it():
    # With and without noise the steps go through the same points; what is added is the sum of all noise so far.
    loud, silent = fitted(CertifiedNewton(sigma=0.3, noise="random_walk")), fitted(CertifiedNewton(sigma=0.0))
    before, bounds, total = torch.zeros(8, dtype=torch.float64), [], 0.0
    for rows in REQUESTS:
        for est in (loud, silent):
            est.forget(X[rows])
        noise = flat_parameters(loud.net_) - flat_parameters(silent.net_)
        fresh, before, total = noise - before, noise, math.hypot(total, 0.3)
        assert 0.05 < float(fresh.norm()) / math.sqrt(8) < 0.6
        assert f"{total:.3g} together" in loud.unlearning_report_.stop_reason or rows == REQUESTS[0]
        gap = silent.unlearning_report_.certificate.bound
        assert loud.unlearning_report_.trace[0]["gap"] == pytest.approx(gap, rel=1e-6)
        bounds.append(gap)
        assert loud.unlearning_report_.certificate.bound == pytest.approx(sum(bounds[-2:]), rel=1e-6)
    changes = [bounds[0], bounds[0] + bounds[1], bounds[1] + bounds[2]]
    assert loud.certificate_.epsilon == pytest.approx(RandomWalk(changes).epsilon(0.3, 1e-5), rel=1e-5)
    assert loud.certificate_.n_requests == 3


@pytest.mark.filterwarnings("ignore::sk_unlearn.unlearners.DominatingNoiseWarning")
def test_where_the_walk_pays_and_where_it_does_not():
    def epsilon(sigma, noise):
        est = fitted(CertifiedNewton(sigma=sigma, noise=noise))
        for rows in REQUESTS:
            est.forget(X[rows])
        return est.certificate_.epsilon

    # Much noise would have to be taken back by the next step; of little noise there is nothing to take back.
    assert epsilon(0.2, "random_walk") < 0.5 * epsilon(0.2, "independent")
    assert epsilon(0.002, "random_walk") > epsilon(0.002, "independent")


def test_no_observer_of_all_models_beats_the_certificate_of_newton_steps():
    delta, n = 0.05, 120
    unlearner = CertifiedNewton(sigma=0.15, delta=delta, convexity=0.05, hessian_lipschitz=1.0, noise="random_walk")
    est = fitted(unlearner)
    problems = problems_of(est)
    quiet = [each.trace[0]["gap"] for each in releases(unlearner, problems, 0)]
    changes = [quiet[0], quiet[0] + quiet[1], quiet[1] + quiet[2]]
    epsilon = RandomWalk(changes).epsilon(0.15, delta)
    retrained = torch.stack([solved(problem.retained) for problem in problems])
    runs = [[each.parameters for each in releases(unlearner, problems, 1 + k)] for k in range(n)]
    unlearned = torch.stack([torch.stack(run) for run in runs])
    walk = unlearned - unlearned.mean(0)
    fresh = 0.15 * torch.randn(unlearned.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # Who sees all models knows all differences between one and the next. The likelihood ratio looks along the gaps.
    gaps = unlearned.mean(0) - retrained
    line = torch.diff(gaps, dim=0, prepend=torch.zeros(1, 8, dtype=torch.float64))

    def seen(models):
        steps = torch.diff(models - retrained, dim=1, prepend=torch.zeros(n, 1, 8, dtype=torch.float64))
        return (steps * line).sum((1, 2)).numpy()

    assert excess(seen(unlearned), seen(retrained + fresh.cumsum(1)), epsilon) <= delta
    # The noise of a model is that of all steps so far.
    for k in range(3):
        assert float(walk[:, k].std()) == pytest.approx(0.15 * math.sqrt(k + 1), rel=0.1)
    # The attack is a good one: with a twentieth of the noise it wins.
    assert excess(seen(retrained + gaps + walk / 20), seen(retrained + fresh.cumsum(1) / 20), epsilon) > delta


def test_the_walk_ends_where_another_noise_is_asked_for():
    est = fitted(CertifiedNewton(sigma=0.1, noise="random_walk")).forget(X[:6])
    assert est.unlearning_state_.recording.walk is not None
    est.set_params(unlearner__noise="independent").forget(X[6:12])
    assert est.unlearning_state_.recording.walk is None
    est.set_params(unlearner__noise="random_walk").forget(X[12:18])
    report = est.unlearning_report_
    assert report.certificate.bound == report.trace[0]["gap"]
    assert est.certificate_.n_requests == 3
    est.set_params(unlearner__sigma=0.0).forget(X[18:20])
    assert est.unlearning_report_.certificate.epsilon is None
    assert est.unlearning_state_.recording.walk is None


def test_what_is_kept_of_the_noise_knows_no_row():
    other = X.copy()
    other[:6] = 5 + rng.normal(size=(6, 3))
    states = []
    for rows in (X, other):
        est = fitted(CertifiedNewton(sigma=0.1, noise="random_walk"), rows).forget(rows[:6]).forget(rows[6:8])
        states.append(est.unlearning_state_.recording)
    assert torch.equal(states[0].walk, states[1].walk)
    assert states[0].spread == states[1].spread == pytest.approx(0.1 * math.sqrt(2))


# -------------------------------------------------------------------------------------------------- certified removal


def test_two_models_with_one_random_term_tell_of_the_rows_without_noise():
    # Who knows the rows that stay takes their gradient at each model, and has the random term but for what was left.
    est = fitted(CertifiedRemoval(max_steps=1, epsilon=5.0), max_epochs=400)
    term, mass = est.unlearning_state_.recording.term, 60
    unlearned, retrained = [], []
    for rows in REQUESTS[:2]:
        est.forget(X[rows])
        risk = EmpiricalRisk(est.net_, X[rows.stop :], y[rows.stop :])
        optimum = solved(risk, term * mass / risk.mass)
        unlearned.append(-risk.mass * risk.gradient(flat_parameters(est.net_)))
        retrained.append(-risk.mass * risk.gradient(optimum))
    assert float((retrained[0] - retrained[1]).norm()) < 1e-9
    assert float((unlearned[0] - unlearned[1]).norm()) > 1e-4
    held = {each.statement: each.checked for each in est.certificate_.assumptions}
    assert held[
        "whoever looks has seen no other model with this random term, nor the one before the request"
    ] is None  # fmt: skip
    assert 'noise="random_walk" covers all models together' in str(est.certificate_)


def test_each_model_is_the_optimum_under_a_term_that_goes_on():
    unlearner = CertifiedRemoval(epsilon=5.0, max_steps=1, noise="random_walk")
    est = fitted(unlearner, max_epochs=400)
    for problem, rows in zip(problems_of(est), REQUESTS, strict=True):
        before = problem.recording.term * 60
        result = unlearner.unlearn(replace(problem, rng=np.random.default_rng(3)))
        fresh = standard_normal(before, np.random.default_rng(3))
        after, mass = result.recording, problem.retained.mass
        assert float((problem.retained.gradient(result.parameters) * mass + after.term * 60).norm()) < 1e-9
        # What is left of the old term is what the request may leave, and no more.
        left = float((after.term * 60 - before - fresh).norm())
        charge = after.changes[-1]
        assert 0 < left <= charge < 1
        assert len(after.changes) == rows.stop // 6
        assert result.certificate.bound == charge
        assert result.certificate.epsilon == pytest.approx(gaussian_epsilon(charge, 1.0, 1e-4))


def test_what_requests_leave_adds_up_in_squares_and_is_refused_beyond_epsilon():
    est = fitted(CertifiedRemoval(epsilon=1.0, sigma=0.4, max_steps=1, noise="random_walk"), max_epochs=400)
    charges = []
    while True:
        before = pickle.dumps((est.unlearning_state_.recording, est.training_set_))
        w = flat_parameters(est.net_)
        try:
            est.forget(X[2 * len(charges) : 2 * len(charges) + 2])
        except RetrainRequired as error:
            assert "epsilon=1.0 at delta=0.0001" in str(error)  # noqa: PT017  the loop ends here
            break
        charges.append(est.unlearning_report_.trace[-1]["charge"])
        epsilon = RandomWalk(charges).epsilon(0.4, 1e-4)
        assert est.certificate_.epsilon == pytest.approx(epsilon, rel=1e-6)
        assert epsilon <= 1.0
        share = math.hypot(*charges) / (0.4 / gaussian_sigma(1.0, 1.0, 1e-4))
        assert est.unlearning_report_.stop_reason.startswith(f"{share:.0%} of the budget is spent")
    assert len(charges) >= 2
    assert torch.equal(w, flat_parameters(est.net_))
    assert pickle.dumps((est.unlearning_state_.recording, est.training_set_)) == before
    # With more steps next to nothing is left.
    est.set_params(unlearner__max_steps=20).forget(X[2 * len(charges) : 2 * len(charges) + 2])
    assert est.certificate_.epsilon <= 1.0


def test_no_observer_of_all_models_beats_the_certificate_of_removal():
    delta, n = 0.1, 60
    unlearner = CertifiedRemoval(epsilon=4.0, delta=delta, sigma=0.5, max_steps=1, noise="random_walk")
    problems = problems_of(fitted(unlearner, max_epochs=400))[:2]
    start = problems[0].recording.term * 60

    def terms(seed):
        results = releases(unlearner, problems, seed)
        at = [
            -each.retained.mass * each.retained.gradient(result.parameters)
            for each, result in zip(problems, results, strict=True)
        ]
        charges = results[-1].recording.changes
        return torch.diff(torch.stack([start, *at]), dim=0), RandomWalk(charges).epsilon(0.5, delta)

    drawn = [terms(k) for k in range(n + 10)]
    steps, epsilon = torch.stack([each for each, _ in drawn]), max(each for _, each in drawn)
    assert epsilon <= 4.0
    fresh = 0.5 * torch.randn(n, 2, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # In whatever direction some of the runs lie, the others are looked at.
    line = steps[:10].mean(0)
    one, other = ((each * line).sum((1, 2)).numpy() for each in (steps[10:], fresh))
    assert excess(one, other, epsilon) <= delta
    assert float(steps.std(0).mean()) == pytest.approx(0.5, rel=0.1)


# --------------------------------------------------------------------------------------------------------------- both


@pytest.mark.parametrize("name", WALKS)
def test_a_sequence_goes_on_through_a_file(name, tmp_path):
    est = fitted(WALKS[name]()).forget(X[:6])
    path = tmp_path / "model.skops"
    sk_unlearn.save(est, path)
    others = [sk_unlearn.load(path, trusted=untrusted_types(path)), pickle.loads(pickle.dumps(est)), copy.deepcopy(est)]
    for each in (est, *others):
        each.forget(X[6:12]).forget(X[12:14])
    for each in others:
        assert torch.equal(flat_parameters(est.net_), flat_parameters(each.net_))
        assert each.certificate_ == est.certificate_
    assert est.certificate_.n_requests == 3


@pytest.mark.parametrize("name", WALKS)
def test_a_training_anew_begins_another_sequence(name):
    est = fitted(WALKS[name]()).forget(X[:6]).forget(X[6:8]).retrain()
    assert est.certificate_.kind == "exact"
    est.forget(X[8:10])
    assert est.certificate_.noise == "walk"
    assert est.certificate_.n_requests == 1


@pytest.mark.parametrize("name", WALKS)
def test_a_bound_of_change_is_no_distance(name):
    assert math.isnan(fitted(WALKS[name]()).forget(X[:6]).retrain_recommended_.distance_bound)


@pytest.mark.parametrize("unlearner", [CertifiedNewton(noise="constant"), CertifiedRemoval(noise="independent")])
def test_a_noise_that_is_not_known(unlearner):
    with pytest.raises(InvalidParameterError, match="'noise' parameter"):
        unlearner.recorder()


def test_a_request_that_left_little_is_no_reason_to_train_anew():
    unlearner = CertifiedRemoval(epsilon=2.0, max_steps=1, noise="random_walk")
    est = fitted(unlearner, max_epochs=400).forget(X[:3]).forget(X[3:6])
    assert est.certificate_.epsilon > 2 * est.unlearning_report_.certificate.epsilon > 0
    assert not est.retrain_recommended_


@pytest.mark.parametrize(("first", "then"), [("constant", "random_walk"), ("random_walk", "constant")])
def test_no_certificate_covers_models_under_two_kinds_of_noise(first, then):
    """Between two models under the same term what is left has no noise: no walk that starts later can hide it."""
    est = fitted(CertifiedRemoval(epsilon=5.0, noise=first)).forget(X[:6]).set_params(unlearner__noise=then)
    before = pickle.dumps(est)
    with pytest.raises(ValueError, match=f"noise='{then}', but earlier requests were answered with noise='{first}'"):
        est.forget(X[6:12])
    assert pickle.dumps(est) == before
    est.set_params(unlearner__noise=first).forget(X[6:12])
    assert len(est.unlearning_history_) == 2
    # Before any request the term is the same for both.
    assert fitted(CertifiedRemoval(epsilon=5.0, noise=first)).set_params(unlearner__noise=then).forget(X[:6])


@pytest.mark.parametrize("noise", ["constant", "random_walk"])
def test_a_refused_request_changes_nothing_and_the_sequence_goes_on_as_if_it_had_not_been(noise):
    est = fitted(CertifiedRemoval(epsilon=5.0, noise=noise)).forget(X[:6])
    other = copy.deepcopy(est)
    est.request_forget(X[6:12])
    est.set_params(unlearner__epsilon=1e-6)
    before = pickle.dumps(est)
    with pytest.raises(RetrainRequired):
        est.settle()
    assert pickle.dumps(est) == before
    est = pickle.loads(pickle.dumps(est.set_params(unlearner__epsilon=5.0))).settle()
    assert torch.equal(*(flat_parameters(each.net_) for each in (est, other.forget(X[6:12]))))
    assert est.certificate_.epsilon == other.certificate_.epsilon
