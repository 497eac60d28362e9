"""What every risk answers to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from sk_unlearn.risks.empirical import EmpiricalRisk

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

    :class:`~sk_unlearn.risks.empirical.EmpiricalRisk` is one over stored rows,
    :class:`~sk_unlearn.risks.quadratic.QuadraticRisk` stands for rows that are not kept, and
    :class:`~sk_unlearn.risks.combined.CombinedRisk` adds rows to either, or takes some away.
    """

    @property
    def stored(self) -> EmpiricalRisk | None:
        """The risk over the stored rows that it rests on; None where rows are not kept."""

    @property
    def parts(self) -> Sequence[tuple[float, Risk]]:
        """The risks it is put together from, each with its share of the mass: negative for rows taken away.

        The first is the large one, to which row numbers refer. A risk that is no combination gives itself, share 1.
        """

    @property
    def holds_locally(self) -> bool:
        """Whether it is a model of a risk around one point, so that its values far from there say nothing."""

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

    def value_and_gradient(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> tuple[float, Tensor]:
        """Evaluate and differentiate at w, for less than both calls cost."""

    def graph_bytes(self, n_rows: int) -> int:
        """Return the bytes that a linearisation over so many rows takes at the most, vectors like w left out."""

    def linearise(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> Linearised:
        """Differentiate at w and keep what further products need."""
