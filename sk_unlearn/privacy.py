r"""Gaussian mechanisms, their composition over requests, and the certificates that rest on them.

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
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from scipy.special import erfcx, ndtr

__all__ = [
    "Assumption",
    "Certificate",
    "compose_certificates",
    "compose_gaussians",
    "gaussian_delta",
    "gaussian_epsilon",
    "gaussian_sigma",
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


# ------------------------------------------------------------------------------------------------------- certificates


class Assumption(NamedTuple):
    """Something that a certificate rests on.

    Attributes
    ----------
    statement : str
        What must hold.

    checked : bool or None
        True where it was verified, False where it was found not to hold, None where nobody can know, or where it was
        estimated and not proven.

    detail : str
        How it was checked, or what is known.
    """

    statement: str
    checked: bool | None
    detail: str = ""


@dataclass(frozen=True)
class Certificate:
    """What is guaranteed after a request, and what that rests on.

    Attributes
    ----------
    method : str
        Where the guarantee comes from.

    bound : float
        Upper bound of the Euclidean distance between the parameters (before noise) and those of retraining; for
        noise in the objective, of the gradient that is left of the perturbed sum of losses.

    epsilon, delta : float or None
        The guarantee, None where nothing random hides the distance: then only the bound is claimed.

    sigma : float
        Standard deviation of the noise; 0 for none.

    noise : {"none", "output", "objective"}
        Whether noise was added to the parameters after each request, or to the objective in training.

    vacuous : bool
        Whether the bound says no more than what holds for any two models; an ε that follows from it is then true and
        useless unless the noise is as large as the models themselves.

    assumptions : list of Assumption
        What it rests on, and which of that was checked.

    n_requests : int
        Requests that it covers together.

    Examples
    --------
    >>> from sk_unlearn.privacy import Certificate
    >>> print(Certificate("by hand", bound=0.5, assumptions=[Assumption("the sun rises", True)]))
    by hand: within 0.5 of retraining; no noise, so no (epsilon, delta) claim
      [checked] the sun rises
    """

    method: str
    bound: float
    epsilon: float | None = None
    delta: float | None = None
    sigma: float = 0.0
    noise: Literal["none", "output", "objective"] = "none"
    vacuous: bool = False
    assumptions: list[Assumption] = field(default_factory=list)
    n_requests: int = 1

    @property
    def proven(self) -> bool:
        """Whether every assumption was checked and holds."""
        return all(assumption.checked for assumption in self.assumptions)

    def to_dict(self) -> dict[str, Any]:
        """Return the certificate as a plain dictionary that JSON can hold."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"assumptions": [assumption._asdict() for assumption in self.assumptions]}

    def __str__(self) -> str:
        if self.noise == "objective":
            head = f"gradient of the perturbed objective left: at most {self.bound:.4g}"
        else:
            head = f"within {self.bound:.4g} of retraining"
        if self.epsilon is None:
            head += "; no noise, so no (epsilon, delta) claim"
        else:
            over = f" over {self.n_requests} requests" if self.n_requests > 1 else ""
            head += f"; epsilon = {self.epsilon:.4g} at delta = {self.delta:.4g}{over}, noise sigma = {self.sigma:.4g}"
        lines = [f"{self.method}: {head}"]
        if self.vacuous:
            lines.append("  VACUOUS: the bound says no more than what holds for any two models")
        marks = {True: "checked", False: "FAILS", None: "not proven"}
        for statement, checked, detail in self.assumptions:
            lines.append(f"  [{marks[checked]}] {statement}" + (f" ({detail})" if detail else ""))
        return "\n".join(lines)


def compose_certificates(certificates: Sequence[Certificate]) -> Certificate:
    """Return what a sequence of certificates, one a request, guarantees to someone who saw every model in between.

    Noise that was added to the parameters after each request is composed exactly. Otherwise the last one stands by
    itself: a distance is that of the last model, and noise in the objective has one budget for all requests.

    Parameters
    ----------
    certificates : sequence of Certificate
        In the order of the requests, at least one.

    Returns
    -------
    certificate : Certificate
        The last one, with the ε of all that reach back from it without interruption by another kind.

    Examples
    --------
    >>> from sk_unlearn.privacy import Certificate, compose_certificates
    >>> one = Certificate("by hand", bound=1.0, epsilon=4.38, delta=1e-5, sigma=1.0, noise="output")
    >>> round(compose_certificates([one, one]).epsilon, 2)
    6.57
    """
    last = certificates[-1]
    if last.noise != "output" or last.delta is None:
        return last
    ratios: list[float] = []
    for certificate in reversed(certificates):
        if certificate.noise != "output":
            break
        ratios.append(certificate.bound / certificate.sigma)
    epsilon = gaussian_epsilon(compose_gaussians(ratios), 1.0, last.delta)
    return replace(last, epsilon=epsilon, n_requests=len(ratios))
