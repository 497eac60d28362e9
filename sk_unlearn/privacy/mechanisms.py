r"""Gaussian mechanisms and their composition over requests.

Everything here is a Gaussian mechanism: numbers within a distance :math:`\Delta` of each other to which noise
:math:`N(0, \sigma^2 I)` is added, so that one ratio :math:`\mu = \Delta / \sigma` says all there is to say. A
composition of such mechanisms is again one, exactly, with :math:`\mu = \sqrt{\sum_k \mu_k^2}`. So no numerical
accountant is needed, and none is a dependency: what dp-accounting, Opacus or autodp would bound numerically for it, the
closed form of Balle and Wang gives exactly (the tests hold it against values of the first). An accountant would earn
its place with subsampled noise in training, which nothing here has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from scipy.special import erfcx, ndtr

__all__ = [
    "compose_gaussians",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_sigma",
    "objective_budget",
    "zcdp_epsilon",
    "zcdp_rho",
]

# Ratios mu between which every solution lies that float64 can tell from 0 or 1.
_LOG_MU = (-60.0, 60.0)


# ------------------------------------------------------------------------------------------------ Gaussian mechanisms


def gaussian_delta(sensitivity: float, sigma: float, epsilon: float) -> float:
    r"""Return the smallest δ for which Gaussian noise gives (ε, δ): exact, for every ε.

    .. math:: \delta = \Phi(\mu/2 - \epsilon/\mu) - e^\epsilon \Phi(-\mu/2 - \epsilon/\mu), \quad \mu = \Delta/\sigma

    Parameters
    ----------
    sensitivity : float
        Largest Euclidean distance Δ between what the noise has to hide; finite, at least 0.
    sigma : float
        Standard deviation σ of the noise in each coordinate; at least 0.
    epsilon : float
        At least 0.

    Returns
    -------
    delta : float
        In [0, 1]; 1 where there is no noise.

    References
    ----------
    .. [1] Balle and Wang, "Improving the Gaussian mechanism for differential privacy", ICML 2018, theorem 8.

    Examples
    --------
    >>> from sk_unlearn.privacy import gaussian_delta
    >>> round(gaussian_delta(1.0, 1.0, epsilon=1.0), 4)
    0.1269
    """
    _check("sensitivity", sensitivity)
    _check("sigma", sigma)
    _check("epsilon", epsilon)
    if sensitivity == 0:
        return 0.0
    return 1.0 if sigma == 0 else _delta(sensitivity / sigma, epsilon)


def gaussian_epsilon(sensitivity: float, sigma: float, delta: float) -> float:
    """Return the smallest ε for which Gaussian noise gives (ε, δ), by the analytic Gaussian mechanism.

    Parameters
    ----------
    sensitivity, sigma : float
        As in :func:`gaussian_delta`.
    delta : float
        In (0, 1).

    Returns
    -------
    epsilon : float
        Infinite where there is no noise.

    Examples
    --------
    >>> from sk_unlearn.privacy import gaussian_epsilon
    >>> round(gaussian_epsilon(1.0, 1.0, delta=1e-5), 3)
    4.377
    """
    _check("sensitivity", sensitivity)
    _check("sigma", sigma)
    _check_delta(delta)
    if sensitivity == 0:
        return 0.0
    if sigma == 0:
        return math.inf
    mu = sensitivity / sigma
    if _delta(mu, 0.0) <= delta:
        return 0.0
    # The conversion from zero-concentrated privacy is an upper bound.
    return _root(lambda epsilon: _log(_delta(mu, epsilon)) - math.log(delta), 0.0, zcdp_epsilon(mu**2 / 2, delta))


def gaussian_sigma(
    sensitivity: float, epsilon: float, delta: float, *, mechanism: Literal["analytic", "classic"] = "analytic"
) -> float:
    r"""Return the standard deviation of Gaussian noise that gives (ε, δ).

    Parameters
    ----------
    sensitivity : float
        As in :func:`gaussian_delta`.
    epsilon : float
        Above 0.
    delta : float
        In (0, 1).
    mechanism : {"analytic", "classic"}, default="analytic"
        "analytic" gives the smallest σ there is, for every ε. "classic" gives
        :math:`\sigma = \Delta \sqrt{2 \ln(1.25/\delta)} / \epsilon`, which papers print and which is proven for ε ≤ 1
        only.

    Returns
    -------
    sigma : float

    Raises
    ------
    ValueError
        For the classic mechanism beyond ε = 1, and for arguments out of range.

    References
    ----------
    .. [1] Balle and Wang, "Improving the Gaussian mechanism for differential privacy", ICML 2018, algorithm 1.
    .. [2] Dwork and Roth, "The algorithmic foundations of differential privacy", 2014, theorem 3.22 (classic).

    Examples
    --------
    >>> from sk_unlearn.privacy import gaussian_sigma
    >>> round(gaussian_sigma(1.0, epsilon=1.0, delta=1e-5), 4)
    3.7306
    """
    _check("sensitivity", sensitivity)
    _check("epsilon", epsilon)
    _check_delta(delta)
    if epsilon == 0:
        raise ValueError("epsilon must be above 0, got 0: no finite noise hides everything.")
    if mechanism == "classic":
        if epsilon > 1:
            raise ValueError(
                f'mechanism="classic" is proven for epsilon <= 1 only, got {epsilon}; use mechanism="analytic".'
            )
        return sensitivity * math.sqrt(2 * math.log(1.25 / delta)) / epsilon
    if mechanism != "analytic":
        raise ValueError(f'mechanism must be "analytic" or "classic", got {mechanism!r}.')
    log_mu = _root(lambda log_mu: _log(_delta(math.exp(log_mu), epsilon)) - math.log(delta), *_LOG_MU)
    return sensitivity / math.exp(log_mu)


def _delta(mu: float, epsilon: float) -> float:
    # With x = eps/mu - mu/2 and y = eps/mu + mu/2, e^eps phi(y) = phi(x): the exponential never shows up, and the
    # difference of tails becomes one of Mills ratios.
    if mu == 0:
        return 0.0
    x, y = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    if x < 0:
        return float(ndtr(-x) - density * _mills(y))
    return density * max(0.0, _mills(x) - _mills(y))


def _mills(z: float) -> float:
    """Return (1 - Phi(z)) / phi(z)."""
    return math.sqrt(math.pi / 2) * float(erfcx(z / math.sqrt(2)))


def _log(p: float) -> float:
    return math.log(p) if p > 1e-300 else -700.0


def _root(function: Any, low: float, high: float) -> float:
    from scipy.optimize import brentq

    return float(brentq(function, low, high, xtol=1e-14, rtol=1e-13, maxiter=500))


# -------------------------------------------------------------------------------------------------------- composition


def compose_gaussians(ratios: Sequence[float]) -> float:
    r"""Return the ratio :math:`\mu = \sqrt{\sum_k \mu_k^2}` of the one Gaussian mechanism that a sequence of them is.

    Parameters
    ----------
    ratios : sequence of float
        :math:`\mu_k = \Delta_k / \sigma_k` of each. They may depend on what the earlier ones gave only in that each is
        at most the number given.

    Returns
    -------
    mu : float
        To be used as ``gaussian_epsilon(mu, 1.0, delta)``.

    References
    ----------
    .. [1] Dong, Roth and Su, "Gaussian differential privacy", JRSS B 84, 2022, corollary 3.3.

    Examples
    --------
    >>> from sk_unlearn.privacy import compose_gaussians
    >>> compose_gaussians([3.0, 4.0])
    5.0
    """
    for k, ratio in enumerate(ratios):
        _check(f"ratios[{k}]", ratio)
    return math.hypot(*ratios)


def zcdp_rho(sensitivity: float, sigma: float) -> float:
    r"""Return :math:`\rho = \mu^2/2`, by which Gaussian noise is ρ-zero-concentrated; it adds up over requests.

    The Rényi divergence of every order α is :math:`\alpha \rho`, so that this is the whole Rényi account as well.

    Parameters
    ----------
    sensitivity, sigma : float
        As in :func:`gaussian_delta`; sigma above 0.

    Returns
    -------
    rho : float

    References
    ----------
    .. [1] Bun and Steinke, "Concentrated differential privacy", TCC 2016, proposition 1.6.

    Examples
    --------
    >>> from sk_unlearn.privacy import zcdp_epsilon, zcdp_rho
    >>> round(zcdp_epsilon(zcdp_rho(1.0, 10.0), delta=1e-5), 4)
    0.4849
    """
    _check("sensitivity", sensitivity)
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma must be finite and above 0, got {sigma}.")
    return 0.5 * (sensitivity / sigma) ** 2


def zcdp_epsilon(rho: float, delta: float) -> float:
    r"""Return :math:`\epsilon = \rho + 2\sqrt{\rho \ln(1/\delta)}`, which ρ-zero-concentrated privacy implies.

    For Gaussian noise alone :func:`gaussian_epsilon` gives less; this is for comparison with accounts kept in ρ.

    Parameters
    ----------
    rho : float
        At least 0.
    delta : float
        In (0, 1).

    Returns
    -------
    epsilon : float

    References
    ----------
    .. [1] Bun and Steinke, "Concentrated differential privacy", TCC 2016, proposition 1.3.

    Examples
    --------
    >>> from sk_unlearn.privacy import zcdp_epsilon
    >>> zcdp_epsilon(0.0, delta=1e-5)
    0.0
    """
    _check("rho", rho)
    _check_delta(delta)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def _check(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be finite and at least 0, got {value}.")


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, both excluded, got {delta}.")


# --------------------------------------------------------------------------------------------- noise in the objective


def objective_budget(sigma: float, epsilon: float, delta: float) -> float:
    r"""Return how large a gradient noise in the objective hides: :math:`\sigma \epsilon / \sqrt{2 \ln(1.5/\delta)}`.

    Parameters
    ----------
    sigma : float
        Standard deviation of an entry of the linear term that was added to the sum of losses.
    epsilon, delta : float
        The guarantee.

    References
    ----------
    .. [1] Guo, Goldstein, Hannun and van der Maaten, "Certified data removal from machine learning models", ICML 2020,
       theorem 3.
    """
    return sigma * epsilon / math.sqrt(2 * math.log(1.5 / delta))
