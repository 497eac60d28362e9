"""Noise that goes on over a sequence: the ratio is that of the joint Gaussians, and what it saves is what is said."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sk_unlearn.privacy import Certificate, RandomWalk, compose_certificates, gaussian_epsilon, gaussian_sigma

lengths = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12)


def covariance(n):
    """Of N_1, ..., N_n in one coordinate, where each step has variance 1."""
    return np.minimum.outer(np.arange(1, n + 1), np.arange(1, n + 1)).astype(float)


def ratio(gaps, sigma_matrix):
    """The ratio at which two Gaussians with these means and covariances can be told apart."""
    return math.sqrt(sum(g @ np.linalg.solve(sigma_matrix, g) for g in gaps.T))


@given(lengths, st.integers(0, 2**31), st.floats(0.1, 10))
def test_mu_bounds_the_joint_gaussians_and_is_reached(changes, seed, sigma):
    # Any gaps in three dimensions whose changes are so long.
    steps = np.random.default_rng(seed).normal(size=(len(changes), 3))
    steps *= (np.array(changes) / np.linalg.norm(steps, axis=1))[:, None]
    joint = ratio(np.cumsum(steps, axis=0), sigma**2 * covariance(len(changes)))
    assert joint == pytest.approx(RandomWalk(changes).mu(sigma), rel=1e-6)


@given(lengths, st.floats(0.05, 20), st.floats(1e-12, 0.3))
def test_sigma_gives_what_was_asked_for(changes, epsilon, delta):
    walk = RandomWalk(changes)
    sigma = walk.sigma(epsilon, delta)
    assert walk.epsilon(sigma, delta) == pytest.approx(epsilon, rel=1e-5)
    assert walk.delta(sigma, epsilon) == pytest.approx(delta, rel=1e-6)


@given(st.floats(1e-3, 1e3), st.floats(0.05, 20), st.floats(1e-12, 0.3))
def test_one_model_is_the_gaussian_mechanism(gap, epsilon, delta):
    walk = RandomWalk([gap])
    assert walk.sigma(epsilon, delta) == pytest.approx(gaussian_sigma(gap, epsilon, delta))
    assert walk.spread == walk.saving == 1.0


@given(lengths, st.floats(0.1, 3.0))
def test_independent_noise_needs_so_much_more_where_gaps_add_up(changes, mu):
    largest = np.cumsum(changes)
    independent = (largest**2).sum() / mu**2
    assert ratio(largest[:, None], independent * np.eye(len(changes))) == pytest.approx(mu)
    walk = RandomWalk(changes)
    last = (walk.spread * walk.distance / mu) ** 2
    assert ratio(largest[:, None], last / len(changes) * covariance(len(changes))) == pytest.approx(mu)
    assert walk.saving == pytest.approx(independent / last, rel=1e-9)


@given(st.integers(1, 200), st.floats(0.01, 100))
def test_equal_steps_save_a_third_of_their_number(n, d):
    assert RandomWalk([d] * n).saving == pytest.approx((n + 1) * (2 * n + 1) / (6 * n))


@given(st.integers(2, 5), st.integers(0, 2**31))
def test_no_correlation_beats_independent_noise_where_gaps_do_not_add_up(n, seed):
    # Each gap at most 1 and nothing else known. The worst signs for any covariance of the same trace are no better.
    root = np.random.default_rng(seed).normal(size=(n, n))
    other = root @ root.T
    assume(np.linalg.cond(other) < 1e6)
    other *= n / np.trace(other)
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * n)).reshape(n, -1).T
    assert max(ratio(s[:, None], other) for s in signs) >= ratio(np.ones((n, 1)), np.eye(n)) * (1 - 1e-9)
    # The walk has to hide changes of 2.
    assert RandomWalk([1.0] + [2.0] * (n - 1)).distance >= math.sqrt(n)


def test_no_gap_at_all():
    walk = RandomWalk([0.0, 0.0])
    assert walk.mu(1.0) == 0.0
    assert walk.saving == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([], "changes must have a number for each model"),
        ([1.0, -1.0], r"changes\[1\] must be finite"),
        ([math.inf], "at least 0, got inf"),
    ],
)
def test_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RandomWalk(changes)
    with pytest.raises(ValueError, match=r"sigma must be finite and above 0, got 0\.0"):
        RandomWalk([1.0]).mu(0.0)


def test_certificates_of_fresh_noise_compose_whether_it_goes_on_or_not():
    def of(noise, bound):
        return Certificate("by hand", bound, gaussian_epsilon(bound, 2.0, 1e-5), 1e-5, 2.0, noise)

    together = compose_certificates([of("output", 1.0), of("walk", 2.0), of("walk", 2.0)])
    assert together.epsilon == pytest.approx(gaussian_epsilon(3.0, 2.0, 1e-5))
    assert (together.n_requests, together.noise) == (3, "walk")
    assert "the gap to retraining changed by at most 2; epsilon = " in str(together)
    # Noise of training alone is not fresh, and what came before it is not covered.
    assert compose_certificates([of("objective", 1.0), of("walk", 2.0)]).n_requests == 1
    assert compose_certificates([of("walk", 2.0), of("objective", 1.0)]).n_requests == 1
