"""Noisy fine-tuning: its noise hides where it began, nothing else of the fitted net is carried over, and it says so."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import beta
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.privacy import NoisySteps, gaussian_delta, gaussian_epsilon
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import FineTune, NoisyFineTune, Retrain, Status, Unlearner
from tests._problems import classifier, mlp, regressor

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
y = (X[:, 0] + rng.normal(size=60) > 0).astype(int)
# So large that next to no noise is left, and the steps themselves are seen.
SEEN = 1e14


class Deep(nn.Module):
    """Hidden layer, BatchNorm, dropout, and a parameter that is frozen."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm1d(3), nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.2), nn.Linear(5, 2)
        )
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, X):
        return self.scale * self.body(X)


def small():
    return mlp(3, 2, 4).double()


class Small(nn.Sequential):
    def __init__(self):
        super().__init__(*small())


def fitted(unlearner, module=Small, build=classifier, **settings):
    defaults = {"max_epochs": 30, "batch_size": -1, "lr": 0.5}
    rows = X if module is Small else X.astype(np.float32)
    return build(unlearner, module, **(defaults | settings)).fit(rows, y if build is classifier else y.astype(float))


def initial(est):
    return est.unlearning_state_.start.parameters


def problem_of(est, n=5):
    """The problem that forgetting the first rows poses."""
    seen, twin = [], copy.deepcopy(est)

    class Catches(Unlearner):
        def unlearn(self, problem):
            seen.append(problem)
            raise LookupError

    twin.set_params(unlearner=Catches())
    with pytest.raises(LookupError):
        twin.forget(X[:n])
    return seen[0]


# ---------------------------------------------------------------------------------------------------------- the steps


@pytest.mark.parametrize(("n_steps", "decay"), [(1, 0.0), (1, 2.0), (3, 0.5)])
def test_the_steps_are_the_formula(n_steps, decay):
    settings = {"radius": 0.3, "clip": 0.05, "learning_rate": 0.1, "weight_decay": decay, "n_steps": n_steps}
    est = fitted(NoisyFineTune(SEEN, **settings, n_epochs=0))
    centre, w = initial(est), flat_parameters(est.net_)
    assert float((w - centre).norm()) > 0.3
    x = (w - centre) * 0.3 / (w - centre).norm()
    risk = EmpiricalRisk(est.net_, X[5:], y[5:])
    for _ in range(n_steps):
        gradient = risk.gradient(centre + x)
        gradient = gradient * min(1.0, 0.05 / float(gradient.norm()))
        x = (1 - 0.1 * decay) * x - 0.1 * gradient
    est.forget(X[:5])
    torch.testing.assert_close(flat_parameters(est.net_), centre + x, rtol=0, atol=1e-5)


def test_one_step_has_the_noise_of_the_gaussian_mechanism():
    # In one step all there is to hide is a distance: the spread of many runs is that of the mechanism of that size.
    est = fitted(NoisyFineTune(2.0, 1e-3, radius=1.0, clip=0.5, n_steps=1, n_epochs=0, cold_control=False))
    problem = problem_of(est)
    ends = [est.unlearner.unlearn(replace(problem, rng=np.random.default_rng(k))) for k in range(60)]
    w = torch.stack([end.parameters for end in ends])
    sigma = NoisySteps(1.0, 0.5, 0.1, 1).sigma(2.0, 1e-3)
    # 60 x 26 numbers: the standard error of their spread is about 2 %.
    assert float(w.std(0).square().mean().sqrt()) == pytest.approx(sigma, rel=0.08)
    assert ends[0].certificate.sigma == pytest.approx(sigma)
    assert ends[0].certificate.bound == pytest.approx(2.1)


def test_corrected_rows_count_as_they_are_now():
    est = fitted(NoisyFineTune(SEEN, radius=0.0, clip=1.0, n_steps=1, n_epochs=0))
    centre, y_new = initial(est), 1 - y[:9]
    gradient = EmpiricalRisk(est.net_, X, np.concatenate([y_new, y[9:]])).gradient(centre)
    est.correct(X[:9], y_new=y_new)
    torch.testing.assert_close(flat_parameters(est.net_), centre - 0.1 * gradient, rtol=0, atol=1e-5)


def test_every_request_goes_back_to_the_first_weights():
    est = fitted(NoisyFineTune(SEEN, radius=0.01, clip=1e-6, n_epochs=3))
    centre = initial(est).clone()
    for k in range(3):
        est.forget(X[k : k + 1])
    assert float((flat_parameters(est.net_) - centre).norm()) > 0.1
    est.set_params(unlearner=NoisyFineTune(SEEN, radius=0.01, clip=1e-6, n_epochs=0)).forget(X[3:4])
    assert float((flat_parameters(est.net_) - centre).norm()) == pytest.approx(0.01, rel=1e-2)


# ------------------------------------------------------------------------------------------------------ what it hides


def upper(k, n, level):
    """Clopper and Pearson."""
    return 1.0 if k == n else float(beta.ppf(1 - level, k + 1, n - k))


def lower(k, n, level):
    return 0.0 if k == 0 else float(beta.ppf(level, k, n - k + 1))


def excess(one, other, epsilon, thresholds):
    """The largest P(one > t) - e^eps P(other > t) that is certain but for one test in ten thousand."""
    n, level = len(one), 1e-4 / (4 * len(thresholds))
    return max(
        lower(int((one > t).sum()), n, level) - math.exp(epsilon) * upper(int((other > t).sum()), n, level)
        for t in thresholds
    )


@pytest.mark.parametrize("n_steps", [1, 6])
def test_no_attack_on_simulated_runs_beats_the_certificate(n_steps):
    # The worst gradients that there are: wherever a point is, it is driven to its own side. Whoever watches the end on
    # that axis sees all there is to see.
    epsilon, delta = 1.0, 0.05
    steps = NoisySteps(1.0, 0.4, 0.5, n_steps, weight_decay=0.2)
    sigma, r = steps.sigma(epsilon, delta), np.random.default_rng(n_steps)

    def ends(x0, n=100_000):
        x = np.full(n, x0)
        for _ in range(n_steps):
            x = (1 - 0.5 * 0.2) * x + 0.5 * 0.4 * np.where(x < 0, -1, 1) + sigma * r.normal(size=n)
        return x

    one, other = ends(1.0), ends(-1.0)
    thresholds = np.linspace(-4, 4, 41) * sigma
    for a, b in ((one, other), (-other, -one), (other, one)):
        assert excess(a, b, epsilon, thresholds) <= delta
    if n_steps == 1:  # the attack is a good one: against an account of half the size it would win
        assert excess(one, other, epsilon, thresholds) > gaussian_delta(0.6 * steps.mu(sigma), 1.0, epsilon)


def test_no_attack_on_the_unlearner_beats_the_certificate():
    epsilon, delta, n = 0.5, 0.2, 150
    unlearner = NoisyFineTune(
        epsilon, delta, radius=1.0, clip=1.0, learning_rate=0.05, n_steps=2, n_epochs=0, cold_control=False
    )
    est = fitted(unlearner, max_epochs=3)
    problem = problem_of(est)
    centre, direction = initial(est), torch.nn.functional.normalize(torch.ones(26, dtype=torch.float64), dim=0)

    def seen(side, seed):
        # As far as erased rows can have carried the weights, one way or the other.
        posed = replace(problem, parameters=centre + side * 7.0 * direction)
        ends = [unlearner.unlearn(replace(posed, rng=np.random.default_rng([seed, k]))) for k in range(n)]
        return np.array([float((end.parameters - centre) @ direction) for end in ends])

    one, other = seen(1.0, 1), seen(-1.0, 2)
    thresholds = np.quantile(np.concatenate([one, other]), np.linspace(0.05, 0.95, 19))
    assert excess(one, other, epsilon, thresholds) <= delta
    assert excess(-other, -one, epsilon, thresholds) <= delta
    # It does see which is which, and by what the formula says of the share of the distance that is the start's.
    spread = NoisySteps(1.0, 1.0, 0.05, 2).sigma(epsilon, delta) * math.sqrt(2)
    assert (one.mean() - other.mean()) / spread == pytest.approx(2 / spread, abs=0.35)
    assert one.std() == pytest.approx(spread, rel=0.15)


# ----------------------------------------------------------------------------- what is not carried over from before it


@pytest.mark.parametrize("n_epochs", [0, 2])
def test_buffers_frozen_parameters_and_optimisers_start_anew(n_epochs):
    unlearner = NoisyFineTune(n_epochs=n_epochs, n_steps=2, cold_control=False)
    clean = fitted(unlearner, Deep, optimizer=torch.optim.Adam, lr=0.01, batch_size=16)
    marked = copy.deepcopy(clean)
    # What erased rows may have left, anywhere but in the weights.
    module = marked.net_.module_
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.add_(1000) if "num" in name else buffer.mul_(50).add_(3)
        module.scale.fill_(7.0)
    for state in marked.net_.optimizer_.state.values():
        state["exp_avg"].fill_(1e6)
    for est in (clean, marked):
        est.forget(X[:5].astype(np.float32))
    assert not marked.net_.optimizer_.state
    states = [est.net_.module_.state_dict() for est in (clean, marked)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    assert float(states[0]["scale"]) == 1.0


def test_statistics_are_those_of_the_retained_rows():
    rows = X.astype(np.float32)
    rows[:5] += 100
    est = classifier(NoisyFineTune(n_epochs=0), Deep, max_epochs=3, batch_size=16).fit(rows, y)
    assert float(est.net_.module_.body[0].running_mean.min()) > 4
    est.forget(rows[:5])
    mean, var = est.net_.module_.body[0].running_mean, est.net_.module_.body[0].running_var
    # All retained rows fit into one batch.
    torch.testing.assert_close(mean, torch.from_numpy(rows[5:].mean(0)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(var, torch.from_numpy(rows[5:].var(0, ddof=1)), rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_bits_whether_or_not_there_is_a_control():
    ends = []
    for control in (True, True, False):
        est = fitted(NoisyFineTune(n_epochs=2, cold_control=control), Deep, batch_size=16)
        ends.append(flat_parameters(est.forget(X[:5].astype(np.float32)).net_))
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


def test_nothing_of_the_points_on_the_way_is_told():
    report = fitted(NoisyFineTune(n_steps=7, n_epochs=2)).forget(X[:5]).unlearning_report_
    assert [record["step"] for record in report.trace] == [1, 2]
    assert set(report.trace[0]) == {"step", "train_loss", "seconds"}


# -------------------------------------------------------------------------------------------------------- what it says


def test_the_certificate():
    est = fitted(NoisyFineTune(3.0, 1e-6)).forget(X[:5])
    certificate = est.certificate_
    assert (certificate.epsilon, certificate.delta, certificate.noise) == (3.0, 1e-6, "steps")
    mu = est.unlearning_report_.extra["mu"]
    assert certificate.bound / certificate.sigma == pytest.approx(mu)
    assert gaussian_delta(mu, 1.0, 3.0) == pytest.approx(1e-6, rel=1e-6)
    checked = {each.statement: each.checked for each in certificate.assumptions}
    assert checked["the run began within radius of the initial weights"] is True
    assert checked["the initial weights come from the seed"] is True
    assert checked["the seed knows nothing of the rows"] is True
    assert checked["the settings were chosen without the erased rows"] is None
    assert not certificate.proven
    assert "of the same steps after retraining, before noise; epsilon = 3 at delta = 1e-06" in str(certificate)


def test_one_run_hides_all_requests_and_several_models_tell_more():
    est = fitted(FineTune(), max_epochs=5).forget(X[:2])
    est.set_params(unlearner=NoisyFineTune(2.0, 1e-5, n_epochs=1, cold_control=False))
    for k in range(2, 5):
        est.forget(X[k : k + 1])
    certificate, mu = est.certificate_, est.unlearning_report_.extra["mu"]
    assert (certificate.epsilon, certificate.n_requests) == (2.0, 4)
    assert certificate.sequence_epsilon == pytest.approx(gaussian_epsilon(math.sqrt(3) * mu, 1.0, 1e-5))
    assert "over 4 requests" in str(certificate)
    assert f"epsilon = {certificate.sequence_epsilon:.4g} for the models of all such requests together" in str(
        certificate
    )


def test_weights_that_were_handed_in_are_not_vouched_for():
    torch.manual_seed(0)
    est = classifier(NoisyFineTune(n_epochs=1), small(), max_epochs=3).fit(X, y).forget(X[:5])
    assert {each.statement: each.checked for each in est.certificate_.assumptions}[
        "the initial weights come from the seed"
    ] is None


def test_the_control_is_quoted():
    report = fitted(NoisyFineTune(n_epochs=3)).forget(X[:5]).unlearning_report_
    assert 0 < report.extra["cold_retained_loss"] < math.inf
    assert 0 <= report.extra["cold_retained_accuracy"] <= 1
    assert any(f"alone: {report.extra['cold_retained_loss']:.3g})" in note for note in report.notes)
    without = fitted(NoisyFineTune(n_epochs=3, cold_control=False)).forget(X[:5]).unlearning_report_
    assert set(without.extra) == {"mu", "retained_loss", "retained_accuracy"}
    assert any("It costs as much as the request." in note for note in without.notes)
    numbers = regressor(NoisyFineTune(n_epochs=1), mlp(3, 1, 4).double(), max_epochs=3).fit(X, X[:, :1])
    assert math.isnan(numbers.forget(X[:5]).unlearning_report_.extra["retained_accuracy"])


def test_the_cold_run_is_the_measure():
    # At an epsilon that protects anybody the fitted weights are of no use, and the training afterwards is of all.
    from sklearn.datasets import load_iris

    rows, targets = load_iris(return_X_y=True)
    est = UnlearnableClassifier(unlearner=NoisyFineTune(1.0, n_epochs=30), random_state=0).fit(rows, targets)
    extra = est.forget(rows[:5]).unlearning_report_.extra
    assert extra["retained_accuracy"] > 0.9
    assert abs(extra["retained_accuracy"] - extra["cold_retained_accuracy"]) < 0.05


def test_a_run_that_ruins_the_model_says_so():
    est = fitted(NoisyFineTune(0.1, radius=50.0, n_epochs=0, cold_control=False)).forget(X[:5])
    assert est.unlearning_report_.status is Status.HARMED_RETAINED


def test_lazy_layers_are_made():
    class Lazy(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(2))

        def forward(self, X):
            return self.body(X)

    est = fitted(NoisyFineTune(n_epochs=1), Lazy, max_epochs=3).forget(X[:5].astype(np.float32))
    assert est.certificate_.epsilon == 8.0


def test_other_unlearners_go_on_afterwards():
    est = fitted(NoisyFineTune(n_epochs=1, cold_control=False)).forget(X[:5])
    est.set_params(unlearner=Retrain(share=0.5)).forget(X[5:8])
    assert est.certificate_.kind == "exact"
    est.set_params(unlearner=None).forget(X[8:10])
    assert len(est.training_set_) == 50


# --------------------------------------------------------------------------------------------------- what is refused


def test_without_initial_weights():
    est = UnlearnableClassifier(unlearner=NoisyFineTune(), random_state=0, keep_initial=False).fit(X, y)
    with pytest.raises(ValueError, match=r"they are not known: fit with keep_initial=True .*, or use Retrain\(\)"):
        est.forget(X[:5])
    assert len(est.training_set_) == 60


def test_adopted_nets_tell_their_initial_weights_or_are_refused():
    torch.manual_seed(1)
    net = fitted(None, max_epochs=3).net_
    adopted = UnlearnableClassifier.from_fitted(net, X, y, unlearner=NoisyFineTune(n_epochs=1), random_state=0)
    with pytest.raises(ValueError, match="give initial_parameters to from_fitted"):
        adopted.forget(X[:5])
    adopted = UnlearnableClassifier.from_fitted(
        net, X, y, unlearner=NoisyFineTune(n_epochs=1), random_state=0, initial_parameters=small()
    )
    certificate = adopted.forget(X[:5]).certificate_
    assert {each.statement: each.checked for each in certificate.assumptions}[
        "the initial weights come from the seed"
    ] is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.5, "weight_decay": 2.0}, "must be below 1, got 1: nothing of the fitted weights"),
        ({"radius": 0.0}, 'radius=0 of NoisyFineTune leaves clip="auto" nothing'),
    ],
)
def test_settings_that_come_to_nothing(settings, message):
    est = fitted(NoisyFineTune(**settings), max_epochs=1)
    before = flat_parameters(est.net_)
    with pytest.raises(ValueError, match=message):
        est.forget(X[:5])
    assert torch.equal(flat_parameters(est.net_), before)


def test_initial_weights_of_zero_say_nothing_of_a_radius():
    class Zero(nn.Linear):
        def __init__(self):
            super().__init__(3, 2)
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)

    est = fitted(NoisyFineTune(), Zero, max_epochs=2)
    with pytest.raises(ValueError, match="all of them are zero; give a number"):
        est.forget(X[:5].astype(np.float32))
