"""What runs of noisy steps hide: closed cases, monotone, tight, and the shifts that the proof rests on."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sk_unlearn.privacy import NoisySteps, gaussian_delta, gaussian_sigma

epsilons, deltas = st.floats(0.01, 30), st.floats(1e-30, 0.3)


@st.composite
def runs(draw, max_steps=200):
    rate = draw(st.floats(1e-3, 2.0))
    return NoisySteps(
        radius=draw(st.floats(0.0, 10.0)),
        clip=draw(st.floats(0.01, 10.0)),
        learning_rate=rate,
        n_steps=draw(st.integers(1, max_steps)),
        weight_decay=draw(st.sampled_from([0.0, 1e-14, 1e-4, 0.1, 0.5, 1.0])) / rate,
    )


def rho(run):
    return 1 - run.learning_rate * run.weight_decay


@given(runs(), st.floats(0.01, 100))
def test_mu_is_the_formula(run, sigma):
    powers = rho(run) ** np.arange(run.n_steps)
    above = 2 * run.radius * rho(run) ** run.n_steps + 2 * run.learning_rate * run.clip * powers.sum()
    assert run.mu(sigma) == pytest.approx(above / (sigma * math.sqrt((powers**2).sum())), rel=1e-9)


@given(runs(), epsilons, deltas)
def test_sigma_gives_what_was_asked_for(run, epsilon, delta):
    sigma = run.sigma(epsilon, delta)
    assert run.delta(sigma, epsilon) == pytest.approx(delta, rel=1e-6)
    assert run.epsilon(sigma, delta) == pytest.approx(epsilon, rel=1e-5)


@given(runs(max_steps=1), epsilons, deltas)
def test_one_step_is_the_analytic_gaussian_mechanism(run, epsilon, delta):
    sensitivity = 2 * run.radius * rho(run) + 2 * run.learning_rate * run.clip
    assert run.sigma(epsilon, delta) == pytest.approx(gaussian_sigma(sensitivity, epsilon, delta), rel=1e-12)


@given(st.floats(0.01, 10), st.integers(1, 500), epsilons, deltas)
def test_without_gradients_and_decay_it_is_the_analytic_gaussian_mechanism(radius, n_steps, epsilon, delta):
    # The point stays where it is and gets the noise of all steps at once.
    run = NoisySteps(radius, 0.0, 0.1, n_steps)
    assert run.sigma(epsilon, delta) * math.sqrt(n_steps) == pytest.approx(gaussian_sigma(2 * radius, epsilon, delta))


@given(runs(), epsilons, deltas, st.floats(1.01, 3.0))
def test_sigma_is_monotone(run, epsilon, delta, factor):
    sigma = run.sigma(epsilon, delta)
    assert run.sigma(factor * epsilon, delta) < sigma
    assert run.sigma(epsilon, min(0.9, factor * delta)) < sigma
    assert replace(run, clip=factor * run.clip).sigma(epsilon, delta) > sigma
    assert replace(run, radius=run.radius + factor).sigma(epsilon, delta) >= sigma
    # More steps hide the start better and gradients worse; the noise at the end is never less.
    one_more = replace(run, n_steps=run.n_steps + 1)
    if run.radius == 0:
        assert one_more.sigma(epsilon, delta) >= sigma * (1 - 1e-9)
    assert replace(one_more, clip=0.0).sigma(epsilon, delta) <= replace(run, clip=0.0).sigma(epsilon, delta)


def shifts(run):
    """The shifts of the proof, and the gap that they leave after each step."""
    r = rho(run)
    powers = r ** np.arange(run.n_steps)
    each = run.distance / (powers**2).sum() * powers[::-1]
    gaps = [2 * run.radius]
    for shift in each:
        gaps.append(r * gaps[-1] + 2 * run.learning_rate * run.clip - shift)
    return each, np.array(gaps)


@given(runs(max_steps=60))
def test_the_shifts_of_the_proof_can_be_made(run):
    each, gaps = shifts(run)
    scale = 1e-9 * (1 + gaps.max())
    assert (gaps >= -scale).all()
    assert abs(gaps[-1]) <= scale
    assert math.sqrt((each**2).sum()) == pytest.approx(run.mu(1.0), rel=1e-9)


@given(runs(max_steps=30), st.integers(0, 2**31))
def test_no_other_shifts_cost_less(run, seed):
    each, _ = shifts(run)
    weights = rho(run) ** np.arange(run.n_steps)[::-1]
    other = np.random.default_rng(seed).exponential(size=run.n_steps)
    other *= (weights @ each) / (weights @ other)
    assert (other**2).sum() >= (each**2).sum() * (1 - 1e-9)


@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_runs_that_are_driven_apart_reach_the_bound(decay):
    # One starts at one end of the ball and is pushed outwards, the other the other way: what is seen at the end are two
    # Gaussians at exactly the ratio mu, so that no smaller account would be true.
    run = NoisySteps(1.0, 0.5, 0.3, 7, decay)
    ends = [run.radius, -run.radius]
    for _ in range(run.n_steps):
        ends = [rho(run) * x + sign * run.learning_rate * run.clip for x, sign in zip(ends, (1, -1), strict=True)]
    apart, spread = ends[0] - ends[1], math.sqrt(sum(rho(run) ** (2 * k) for k in range(run.n_steps)))
    assert run.mu(2.0) == pytest.approx(apart / (2.0 * spread))
    assert run.delta(2.0, 1.0) == pytest.approx(gaussian_delta(apart, 2.0 * spread, 1.0))


def test_a_decay_that_forgets_all_at_once():
    run = NoisySteps(5.0, 1.0, 0.5, 4, weight_decay=2.0)
    assert (run.start_left, run.spread, run.distance) == (0.0, 1.0, 1.0)


def test_tiny_deltas_are_told_apart():
    run = NoisySteps(1.0, 1.0, 0.1, 10)
    sigmas = [run.sigma(1.0, delta) for delta in (1e-10, 1e-100, 1e-250)]
    assert sigmas[0] < sigmas[1] < sigmas[2]
    assert run.delta(sigmas[2], 1.0) == pytest.approx(1e-250, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": -1.0}, "radius must be finite and at least 0, got -1.0"),
        ({"clip": math.inf}, "clip must be finite and at least 0, got inf"),
        ({"learning_rate": 0.0}, "learning_rate must be finite and above 0, got 0.0"),
        ({"n_steps": 0}, "n_steps must be at least 1, got 0"),
        ({"weight_decay": 11.0}, r"learning_rate \* weight_decay must be at most 1, got 1.1"),
    ],
)
def test_numbers_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        NoisySteps(**({"radius": 1.0, "clip": 1.0, "learning_rate": 0.1, "n_steps": 3} | change))
    with pytest.raises(ValueError, match=r"sigma must be finite and above 0, got 0\.0"):
        NoisySteps(1.0, 1.0, 0.1, 3).mu(0.0)
