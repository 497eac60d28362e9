"""What every risk answers to."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Linearised", "Risk"]


class Linearised(Protocol):
    """A risk around one point: value, gradient and curvature products."""

    value: float
    gradient: Tensor

    def hessian(self, v: Tensor) -> Tensor:
        """Multiply the Hessian with v, both of shape (d,)."""

    def ggn(self, v: Tensor) -> Tensor:
        """Multiply the generalised Gauss-Newton matrix with v."""

    def fisher(self, v: Tensor) -> Tensor:
        """Multiply the Fisher matrix with v."""


class Risk(Protocol):
    """A mean loss over rows plus the weight-decay penalty, as a function of the flat parameters.

    :class:`~sk_unlearn.risks.empirical.EmpiricalRisk` is one over stored rows;
    :class:`~sk_unlearn.risks.quadratic.CombinedRisk` one where rows are missing.
    """

    @property
    def n_rows(self) -> int:
        """Number of rows in the mean."""

    @property
    def mass(self) -> float:
        """Sum of the weights of those rows."""

    def sample(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw row numbers uniformly without replacement."""

    def value(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> float:
        """Evaluate at w over the given rows, all by default."""

    def gradient(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> Tensor:
        """Differentiate at w over the given rows, all by default."""

    def linearise(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> Linearised:
        """Differentiate at w and keep what further products need."""
