r"""Noise that goes on from one model to the next: the Gaussian mechanism that a whole sequence of them is.

Model :math:`k` is given out as :math:`a_k + N_k` with :math:`N_k = N_{k-1} + \xi_k`, :math:`N_0 = 0` and fresh
:math:`\xi_k \sim N(0, \sigma^2 I)`. Beside models :math:`b_k + N_k` all of them together tell no more than the
differences of one to the next do, and there the noise is fresh. So what counts is how much the gap :math:`a_k - b_k`
*changes*. The proof is in the user guide, "Certified unlearning".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

from sk_unlearn.privacy.mechanisms import compose_gaussians, gaussian_delta, gaussian_epsilon, gaussian_sigma

__all__ = ["RandomWalk"]


@dataclass(frozen=True)
class RandomWalk:
    r"""Models that are given out one after the other, under noise that goes on; and what it hides of all together.

    With steps of standard deviation :math:`\sigma` all models together are

    .. math:: \mu = \frac{1}{\sigma} \sqrt{\textstyle\sum_k d_k^2}

    indistinguishable from those of retraining under such noise, in the sense of Gaussian differential privacy, where
    the gap between the two changes by at most :math:`d_k` from model k - 1 to model k.

    Attributes
    ----------
    changes : tuple of float
        :math:`d_k`, one a model; the first is the first gap itself. Finite, at least 0.

    Raises
    ------
    ValueError
        Where there is no model, or a number is out of its range.

    Notes
    -----
    Where requests add to the gap, one :math:`d` each, it may be :math:`k d` after k of them. Independent noise for each
    of M models then needs the variance :math:`d^2 M (M+1) (2M+1) / (6 \mu^2)`, and the walk ends at
    :math:`M^2 d^2 / \mu^2`, about a third of M times less. Where nothing is known but that each gap is at most D, its
    changes may be 2D, and independent noise needs *less* than any other: see :attr:`saving`.

    References
    ----------
    .. [1] Dong, Roth and Su, "Gaussian differential privacy", JRSS B 84, 2022, corollary 3.3.

    Examples
    --------
    >>> from sk_unlearn.privacy import RandomWalk
    >>> walk = RandomWalk([1.0] * 12)
    >>> sigma = walk.sigma(epsilon=1.0, delta=1e-5)
    >>> round(sigma, 2), round(walk.epsilon(sigma, delta=1e-5), 6), round(walk.saving, 2)
    (12.92, 1.0, 4.51)
    """

    changes: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "changes", tuple(float(each) for each in self.changes))
        if not self.changes:
            raise ValueError("changes must have a number for each model; it is empty.")
        for k, each in enumerate(self.changes):
            if not (math.isfinite(each) and each >= 0):
                raise ValueError(f"changes[{k}] must be finite and at least 0, got {each}.")

    @property
    def distance(self) -> float:
        r"""The distance of two whole sequences in terms of fresh noise, :math:`\sqrt{\sum_k d_k^2}`."""
        return compose_gaussians(self.changes)

    @property
    def spread(self) -> float:
        r"""Standard deviation of the noise of the last model where each step's has 1, :math:`\sqrt{M}`."""
        return math.sqrt(len(self.changes))

    @property
    def saving(self) -> float:
        r"""Variance that independent noise needs for the same μ, over that of the walk's last model.

        For gaps of which only the changes are known, so that the k-th may be as large as :math:`d_1 + \dots + d_k`.
        Below 1 where independent noise needs less.
        """
        if self.distance == 0:
            return 1.0
        return (compose_gaussians(list(accumulate(self.changes))) / (self.spread * self.distance)) ** 2

    def mu(self, sigma: float) -> float:
        """Return the ratio μ of the Gaussian mechanism that the sequence is.

        Parameters
        ----------
        sigma : float
            Standard deviation of a step of the noise in each coordinate; above 0.
        """
        if not (math.isfinite(sigma) and sigma > 0):
            raise ValueError(f"sigma must be finite and above 0, got {sigma}.")
        return self.distance / sigma

    def delta(self, sigma: float, epsilon: float) -> float:
        """Return the smallest δ for an ε.

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
        """Return the standard deviation of a step that gives (ε, δ) for all models together: the smallest there is.

        Parameters
        ----------
        epsilon, delta : float
            Above 0; in (0, 1).
        """
        return gaussian_sigma(self.distance, epsilon, delta)
