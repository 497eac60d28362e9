"""Gaussian mechanisms against published values and each other; certificates."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.stats import norm

from sk_unlearn.privacy import (
    Assumption,
    Certificate,
    compose_certificates,
    compose_gaussians,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_sigma,
    zcdp_epsilon,
    zcdp_rho,
)

epsilons = st.floats(1e-3, 50)
deltas = st.floats(1e-12, 0.5)


@pytest.mark.parametrize(
    ("epsilon", "delta", "sigma"),
    [  # get_sigma_gaussian of Google's dp-accounting 0.6, sensitivity 1
        (1, 1e-5, 3.7306316348159374),
        (0.5, 1e-5, 7.0318266755825),
        (0.1, 1e-6, 36.304690426195194),
        (2, 1e-5, 1.993812445643537),
        (8, 1e-6, 0.6529353843582156),
        (20, 1e-3, 0.24672179738448768),
        (1, 0.1, 1.0858777651918556),
    ],
)
def test_published_analytic_sigma(epsilon, delta, sigma):
    assert gaussian_sigma(1.0, epsilon, delta) == pytest.approx(sigma, rel=1e-6)
    assert gaussian_sigma(3.0, epsilon, delta) == pytest.approx(3 * sigma, rel=1e-6)


@pytest.mark.parametrize(
    ("sigma", "epsilon"), [(0.5, 9.997256146), (1, 4.377178096), (2, 1.993091404), (10, 0.3406693647)]
)
def test_published_analytic_epsilon(sigma, epsilon):
    assert gaussian_epsilon(1.0, sigma, 1e-5) == pytest.approx(epsilon, rel=1e-8)


def test_published_classic_sigma():
    # Dwork and Roth: c^2 > 2 ln(1.25 / delta); at delta = 1e-5 the constant that every text prints.
    assert gaussian_sigma(1.0, 1.0, 1e-5, mechanism="classic") == pytest.approx(4.84480, abs=1e-5)
    assert gaussian_sigma(2.0, 0.5, 1e-5, mechanism="classic") == pytest.approx(4 * 4.84480, abs=1e-4)


def test_delta_by_its_definition():
    # The supremum over events of P(A) - e^eps Q(A) is reached where the likelihood ratio passes e^eps.
    mu, epsilon = 1.3, 0.7
    grid = np.linspace(-12, 12, 400_001)
    excess = norm.pdf(grid, loc=mu) - math.exp(epsilon) * norm.pdf(grid)
    assert gaussian_delta(mu, 1.0, epsilon) == pytest.approx(trapezoid(np.maximum(excess, 0), grid), rel=1e-6)


@given(epsilons, deltas, st.floats(1e-3, 1e3))
def test_sigma_and_epsilon_are_inverse(epsilon, delta, sensitivity):
    sigma = gaussian_sigma(sensitivity, epsilon, delta)
    assert gaussian_delta(sensitivity, sigma, epsilon) == pytest.approx(delta, rel=1e-6)
    assert gaussian_epsilon(sensitivity, sigma, delta) == pytest.approx(epsilon, rel=1e-5)


@given(st.floats(0.01, 1), st.floats(1e-12, 0.3))
def test_classic_is_valid_and_wasteful_where_it_is_proven(epsilon, delta):
    classic = gaussian_sigma(1.0, epsilon, delta, mechanism="classic")
    assert gaussian_delta(1.0, classic, epsilon) <= delta
    assert gaussian_sigma(1.0, epsilon, delta) <= classic


@given(st.floats(0.01, 300), deltas)
def test_zero_concentrated_conversion_is_an_upper_bound(mu, delta):
    assert gaussian_epsilon(mu, 1.0, delta) <= zcdp_epsilon(zcdp_rho(mu, 1.0), delta) + 1e-9


@given(st.floats(0.0, 60), st.floats(0.0, 60), st.floats(0.05, 20))
def test_delta_falls_with_epsilon(one, other, mu):
    low, high = sorted((one, other))
    of_high, of_low = (gaussian_delta(mu, 1.0, epsilon) for epsilon in (high, low))
    assert 0 <= of_high <= 1
    assert 0 <= of_low <= 1
    assert of_high <= of_low + 1e-15  # where the two are neighbours, the last digit is rounding


def test_useless_noise_gives_its_huge_epsilon():
    # Distance 40 behind sigma 0.01: mu = 4000, epsilon about mu^2 / 2.
    assert gaussian_epsilon(40.0, 0.01, 1e-5) == pytest.approx(8e6, rel=0.01)


def test_extremes():
    assert gaussian_epsilon(1.0, 0.0, 1e-5) == math.inf
    assert gaussian_epsilon(0.0, 0.0, 1e-5) == 0.0
    assert gaussian_delta(1.0, 0.0, 1.0) == 1.0
    assert gaussian_delta(0.0, 0.0, 1.0) == 0.0
    assert gaussian_epsilon(1.0, 1e9, 1e-5) == 0.0
    assert gaussian_sigma(0.0, 1.0, 1e-5) == 0.0


def test_composition_by_its_definition():
    # Two releases of a two-dimensional Gaussian are one of four dimensions, at the distance of Pythagoras.
    assert compose_gaussians([1.0, 2.0, 2.0]) == pytest.approx(3.0)
    assert compose_gaussians([0.5]) == 0.5
    rhos = [zcdp_rho(1.0, 2.0), zcdp_rho(3.0, 1.0)]
    assert sum(rhos) == pytest.approx(compose_gaussians([0.5, 3.0]) ** 2 / 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_sigma(1.0, 2.0, 1e-5, mechanism="classic"), 'epsilon <= 1 only, got 2.0; use .*"analytic"'),
        (lambda: gaussian_sigma(1.0, 2.0, 1e-5, mechanism="best"), 'must be "analytic" or "classic", got \'best\''),
        (lambda: gaussian_sigma(1.0, 0.0, 1e-5), "epsilon must be above 0"),
        (lambda: gaussian_sigma(-1.0, 1.0, 1e-5), "sensitivity must be finite and at least 0, got -1.0"),
        (lambda: gaussian_sigma(1.0, 1.0, 1.0), "delta must lie between 0 and 1, both excluded, got 1.0"),
        (lambda: gaussian_epsilon(1.0, math.nan, 1e-5), "sigma must be finite"),
        (lambda: gaussian_delta(1.0, 1.0, -1.0), "epsilon must be finite and at least 0"),
        (lambda: zcdp_rho(1.0, 0.0), "sigma must be finite and above 0"),
        (lambda: zcdp_epsilon(-1.0, 0.1), "rho must be"),
        (lambda: compose_gaussians([1.0, math.inf]), r"ratios\[1\] must be finite"),
    ],
)
def test_errors_name_argument_and_cure(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def noisy(bound, sigma, **fields):
    return Certificate("m", bound, gaussian_epsilon(bound, sigma, 1e-5), 1e-5, sigma, "output", **fields)


def test_composed_certificates():
    whole = compose_certificates([noisy(1.0, 2.0), noisy(3.0, 2.0)])
    assert whole.epsilon == pytest.approx(gaussian_epsilon(math.sqrt(10.0), 2.0, 1e-5))
    assert (whole.bound, whole.n_requests) == (3.0, 2)
    assert compose_certificates([noisy(1.0, 2.0)]) == noisy(1.0, 2.0)
    # A distance says nothing about earlier models, and a request of another kind ends the sequence.
    distance = Certificate("d", 0.1)
    assert compose_certificates([noisy(1.0, 2.0), distance]) is distance
    assert compose_certificates([noisy(1.0, 2.0), distance, noisy(3.0, 2.0)]).n_requests == 1


def test_a_certificate_reads_and_serialises():
    assumptions = [Assumption("a", True), Assumption("b", None, "guessed"), Assumption("c", False)]
    certificate = noisy(1.0, 2.0, vacuous=True, assumptions=assumptions)
    text = str(certificate)
    for part in ("[checked] a", "[not proven] b (guessed)", "[FAILS] c", "VACUOUS", "sigma = 2"):
        assert part in text
    assert not certificate.proven
    assert noisy(1.0, 2.0, assumptions=assumptions[:1]).proven
    assert json.loads(json.dumps(certificate.to_dict()))["assumptions"][1]["detail"] == "guessed"
    assert "gradient of the perturbed objective" in str(Certificate("r", 0.1, 1.0, 1e-5, 1.0, "objective"))


def test_an_exact_certificate_says_where_it_does_not_hold():
    holds, fails, open_ = (Assumption("the rates were fixed", checked) for checked in (True, False, None))
    for assumption in (holds, fails, open_):
        certificate = Certificate("retraining", bound=0.0, assumptions=[assumption], kind="exact")
        assert ("but for what fails below" in str(certificate)) is (assumption is fails)
