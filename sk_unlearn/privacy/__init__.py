"""Gaussian mechanisms, their composition over requests, and the certificates that rest on them."""

from sk_unlearn.privacy.certificates import Assumption, Certificate, compose_certificates
from sk_unlearn.privacy.mechanisms import (
    compose_gaussians,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_sigma,
    zcdp_epsilon,
    zcdp_rho,
)
from sk_unlearn.privacy.noisy_steps import NoisySteps
from sk_unlearn.privacy.random_walk import RandomWalk

__all__ = [
    "Assumption",
    "Certificate",
    "NoisySteps",
    "RandomWalk",
    "compose_certificates",
    "compose_gaussians",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_sigma",
    "zcdp_epsilon",
    "zcdp_rho",
]
