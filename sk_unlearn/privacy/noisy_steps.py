r"""What noisy steps hide of where they began: the Gaussian mechanism that a whole run of them is.

A run goes :math:`x_{t+1} = \rho x_t - \gamma g_t + N(0, \sigma^2 I)` for :math:`T` steps, with
:math:`\rho = 1 - \gamma\lambda`, gradients of norm at most :math:`C_1`, and :math:`x_0` in a ball of radius
:math:`C_0`. Wherever two such runs began and whatever gradients they took, their last points are
:math:`\mu`-indistinguishable. The proof is in the user guide, "Noisy fine-tuning".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sk_unlearn.privacy.mechanisms import gaussian_delta, gaussian_epsilon, gaussian_sigma

__all__ = ["NoisySteps"]


@dataclass(frozen=True)
class NoisySteps:
    r"""A run of steps, each clipped, shrunk and followed by noise; and what their noise hides.

    With noise of standard deviation :math:`\sigma` after each step the last point is

    .. math::
       \mu = \frac{2 C_0 \rho^T + 2 \gamma C_1 \sum_{k<T} \rho^k}{\sigma \sqrt{\sum_{k<T} \rho^{2k}}},
       \qquad \rho = 1 - \gamma\lambda,

    indistinguishable from that of any other such run, in the sense of Gaussian differential privacy. Only the last
    point is: those on the way must not be looked at.

    Attributes
    ----------
    radius : float
        :math:`C_0` of the ball that the run begins in; at least 0.
    clip : float
        :math:`C_1`, the largest norm of a gradient; at least 0.
    learning_rate : float
        :math:`\gamma`; above 0.
    n_steps : int
        :math:`T`; at least 1.
    weight_decay : float, default=0.0
        :math:`\lambda`, with which the distance from the centre of the ball shrinks; at least 0, and at most
        1 / ``learning_rate``.

    Raises
    ------
    ValueError
        For a number out of its range.

    Notes
    -----
    With one step this is the Gaussian mechanism of sensitivity :math:`2 C_0 \rho + 2 \gamma C_1`, and without gradients
    it is that of sensitivity :math:`2 C_0 \rho^T` and noise :math:`\sigma \sqrt{\sum_{k<T} \rho^{2k}}`. No account
    can be smaller that knows nothing of the gradients but their norm: two runs that are driven apart reach it.

    References
    ----------
    .. [1] Koloskova, Allouah, Jha, Guerraoui and Koyejo, "Certified unlearning for neural networks", ICML 2025 (the
       algorithm; their account goes by Rényi divergences).
    .. [2] Bok, Su and Altschuler, "Shifted interpolation for differential privacy", ICML 2024 (the technique).

    Examples
    --------
    >>> from sk_unlearn.privacy import NoisySteps
    >>> steps = NoisySteps(radius=1.0, clip=1.0, learning_rate=0.1, n_steps=10)
    >>> sigma = steps.sigma(epsilon=8.0, delta=1e-5)
    >>> round(sigma, 3), round(steps.epsilon(sigma, delta=1e-5), 6)
    (0.759, 8.0)
    """

    radius: float
    clip: float
    learning_rate: float
    n_steps: int
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("radius", "clip", "weight_decay"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be finite and at least 0, got {value}.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be finite and above 0, got {self.learning_rate}.")
        if not self.n_steps >= 1:
            raise ValueError(f"n_steps must be at least 1, got {self.n_steps}.")
        if not self._shrinks <= 1:
            raise ValueError(
                f"learning_rate * weight_decay must be at most 1, got {self._shrinks:.6g}: a step would go past the "
                "centre. Use a smaller weight_decay."
            )

    @property
    def _shrinks(self) -> float:
        return self.learning_rate * self.weight_decay

    @property
    def distance(self) -> float:
        r"""The largest distance of two runs without noise, :math:`2 C_0 \rho^T + 2 \gamma C_1 \sum_{k<T} \rho^k`."""
        return 2 * self.radius * self.start_left + 2 * self.clip * self.reach

    @property
    def reach(self) -> float:
        r"""How far gradients of norm 1 lead, :math:`\gamma \sum_{k<T} \rho^k`."""
        return self.learning_rate * _geometric_sum(self._shrinks, self.n_steps)

    @property
    def start_left(self) -> float:
        r"""What is left of the distance from the centre after all steps, :math:`\rho^T`."""
        return _power(self._shrinks, self.n_steps)

    @property
    def spread(self) -> float:
        r"""Standard deviation of all noise together where each step's has 1, :math:`\sqrt{\sum_{k<T} \rho^{2k}}`."""
        # 1 - rho^2 = x (2 - x) for rho = 1 - x: no digits are lost where x is small.
        x = self._shrinks
        return math.sqrt(_geometric_sum(x * (2 - x), self.n_steps))

    def mu(self, sigma: float) -> float:
        """Return the ratio μ of the Gaussian mechanism that the run is.

        Parameters
        ----------
        sigma : float
            Standard deviation of the noise of one step in each coordinate; above 0.
        """
        if not (math.isfinite(sigma) and sigma > 0):
            raise ValueError(f"sigma must be finite and above 0, got {sigma}.")
        return self.distance / (sigma * self.spread)

    def delta(self, sigma: float, epsilon: float) -> float:
        r"""Return the smallest δ for an ε: :math:`\Phi(\mu/2 - \epsilon/\mu) - e^\epsilon \Phi(-\mu/2 - \epsilon/\mu)`.

        Parameters
        ----------
        sigma, epsilon : float
            As in :meth:`mu`; at least 0.
        """
        return gaussian_delta(self.mu(sigma), 1.0, epsilon)

    def epsilon(self, sigma: float, delta: float) -> float:
        """Return the smallest ε for a δ.

        Parameters
        ----------
        sigma, delta : float
            As in :meth:`mu`; in (0, 1).
        """
        return gaussian_epsilon(self.mu(sigma), 1.0, delta)

    def sigma(self, epsilon: float, delta: float) -> float:
        """Return the standard deviation of the noise of one step that gives (ε, δ): the smallest there is.

        Parameters
        ----------
        epsilon, delta : float
            Above 0; in (0, 1).
        """
        return gaussian_sigma(self.distance / self.spread, epsilon, delta)


def _power(x: float, n: int) -> float:
    """Return (1 - x)^n for x in [0, 1], also where x is so small that 1 - x is 1."""
    return 0.0 if x == 1 else math.exp(n * math.log1p(-x))


def _geometric_sum(x: float, n: int) -> float:
    """Return the sum of (1 - x)^k over k < n, for x in [0, 1]."""
    if x == 0:
        return float(n)
    return 1.0 if x == 1 else -math.expm1(n * math.log1p(-x)) / x
