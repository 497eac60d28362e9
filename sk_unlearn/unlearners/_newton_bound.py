"""What the bound of a damped Newton step in a ball is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sk_unlearn.risks.protocol import Linearised
from sk_unlearn.solvers.lanczos import lanczos
from sk_unlearn.utils._random import standard_normal

__all__ = ["LANCZOS_PRODUCTS", "BoundConstants", "Spectrum"]

LANCZOS_PRODUCTS = 30


@dataclass(frozen=True)
class BoundConstants:
    """What the bound on the distance from the retrained optimum is made of.

    Attributes
    ----------
    radius : float
        C, of the ball.
    convexity : float
        λ, which is added to the curvature.
    curvature_min : float
        Smallest eigenvalue of the Hessian.
    hessian_lipschitz : float
        M, the Lipschitz constant of the Hessian.
    residual : float
        G, the norm of the gradient that training leaves.
    solver_residual : float
        Norm of what the linear solver left.
    """

    radius: float
    convexity: float
    curvature_min: float
    hessian_lipschitz: float
    residual: float
    solver_residual: float

    @property
    def bound(self) -> float:
        """The bound; see :class:`CertifiedNewton`."""
        C, lam = self.radius, self.convexity
        above = 2 * C * (self.hessian_lipschitz * C + lam) + self.residual + self.solver_residual
        return above / (lam + self.curvature_min)


@dataclass(frozen=True)
class Spectrum:
    """Extreme Ritz values of a Hessian, and the vector of the largest."""

    low: float
    high: float
    top: Tensor

    @classmethod
    def of(cls, local: Linearised, gradient: Tensor, rng: np.random.Generator) -> Spectrum:
        start = standard_normal(gradient, rng)
        space = lanczos(local.hessian, start, n_products=min(LANCZOS_PRODUCTS, gradient.numel()))
        values, vectors = torch.linalg.eigh(space.tridiagonal)
        top = space.basis.T @ vectors[:, -1].to(space.basis)
        return cls(float(values[0]), float(values[-1]), top)
