"""A risk put together from parts: rows added and taken away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.quadratic import Expansion, QuadraticRisk

__all__ = ["CombinedRisk"]


class CombinedRisk:
    r"""A mean over rows, written as :math:`(M_0 F_0 + \sum_k \pm M_k F_k) / M` of risks over parts of them.

    Parameters
    ----------
    base : EmpiricalRisk or QuadraticRisk
        The large part, F₀. Row numbers given to the methods are its own.

    added, removed : sequence of EmpiricalRisk
        Small parts that count in addition, or not any more. They are always evaluated whole.
    """

    def __init__(
        self,
        base: EmpiricalRisk | QuadraticRisk,
        *,
        added: Sequence[EmpiricalRisk] = (),
        removed: Sequence[EmpiricalRisk] = (),
    ) -> None:
        self.base = base
        masses = [base.mass, *(part.mass for part in added), *(-part.mass for part in removed)]
        self.mass: float = float(sum(masses))
        if not self.mass > 0:
            raise ValueError(
                "The rows to be forgotten weigh as much as all the rows the estimator was trained on. Hand in every "
                "row once; to forget all of them, discard the estimator."
            )
        self._shares = [mass / self.mass for mass in masses]
        self._parts = [*added, *removed]
        self.n_rows: int = base.n_rows

    @property
    def stored(self) -> EmpiricalRisk | None:
        """The base where its rows are stored, else None."""
        return self.base.stored

    @property
    def parts(self) -> list[tuple[float, EmpiricalRisk | QuadraticRisk]]:
        """The base and what is added and removed, each with its share of the mass: negative for rows taken away."""
        return list(zip(self._shares, [self.base, *self._parts], strict=True))

    @property
    def added(self) -> list[EmpiricalRisk] | None:
        """The parts beside the base; None where one of them is taken away."""
        return None if any(share < 0 for share in self._shares) else self._parts

    @property
    def holds_locally(self) -> bool:
        """Whether the base is a model around one point."""
        return self.base.holds_locally

    def sample(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw row numbers of the base uniformly without replacement."""
        return self.base.sample(size, rng)

    def value(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> float:
        """Evaluate at w."""
        values = [self.base.value(w, rows), *(part.value(w) for part in self._parts)]
        return float(sum(share * value for share, value in zip(self._shares, values, strict=True)))

    def gradient(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> Tensor:
        """Differentiate at w."""
        total = self._shares[0] * self.base.gradient(w, rows)
        for share, part in zip(self._shares[1:], self._parts, strict=True):
            total += share * part.gradient(w)
        return total

    def value_and_gradient(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> tuple[float, Tensor]:
        """Evaluate and differentiate at w, at the cost of the gradient."""
        value, gradient = self.base.value_and_gradient(w, rows)
        value, gradient = self._shares[0] * value, self._shares[0] * gradient
        for share, part in zip(self._shares[1:], self._parts, strict=True):
            part_value, part_gradient = part.value_and_gradient(w)
            value += share * part_value
            gradient += share * part_gradient
        return value, gradient

    def graph_bytes(self, n_rows: int) -> int:
        """Return the bytes that a linearisation over so many rows of the base takes, vectors like w left out."""
        return self.base.graph_bytes(n_rows) + sum(part.graph_bytes(part.n_rows) for part in self._parts)

    def linearise(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> Expansion:
        """Expand around w."""
        expansions = [self.base.linearise(w, rows), *(part.linearise(w) for part in self._parts)]
        parts = list(zip(self._shares, expansions, strict=True))
        gradient = torch.stack([share * part.gradient for share, part in parts]).sum(0)
        return Expansion(float(sum(share * part.value for share, part in parts)), gradient, parts)
