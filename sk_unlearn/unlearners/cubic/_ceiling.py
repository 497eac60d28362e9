"""How much erased rows may cost at the most: about what a row costs that is taken for one of another class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sk_unlearn.risks.output_layer import LayerRisk
from sk_unlearn.unlearners.cubic._policy import Policy

__all__ = ["Ceiling"]

# Halvings of a step that is too long: the loss is then met to within a thousandth of what the step changes it by.
_HALVINGS = 10


@dataclass(frozen=True)
class Ceiling:
    """The mean loss that steps in the output layer may leave erased rows with.

    Where no class of theirs is left, hardly anything bends the objective along the weights of that class, and a linear
    term drives them without end. A model that never saw the class has learnt of it only that no row is of it, as it has
    learnt of each row that it is of no other class.

    Attributes
    ----------
    risk : LayerRisk
        Over erased rows.

    most : float
        The mean loss not to pass.
    """

    risk: LayerRisk
    most: float

    @classmethod
    def of(cls, erased: LayerRisk, retained: LayerRisk, policy: Policy) -> Ceiling | None:
        """Return the ceiling of some erased rows, by some retained ones; None where the loss is not that of a class."""
        present = _own_losses(erased, erased.start)
        losses, classes = retained.class_losses(retained.start), retained.classes
        if present is None or losses is None or classes is None:
            return None
        wrong = torch.ones_like(losses, dtype=torch.bool).scatter_(1, classes[:, None], False)
        most = policy.ceiling * float(losses[wrong].mean())
        # What costs more already, such as a row with a wrong label, is not made to cost less.
        return cls(erased, max(most, float(present.mean())))

    def share(self, v: Tensor, step: Tensor) -> float:
        """Return how much of a step from v keeps below the ceiling: 1 for all of it."""
        if self._keeps(v + step):
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._keeps(v + middle * step) else (low, middle)
        return low

    def _keeps(self, v: Tensor) -> bool:
        losses = _own_losses(self.risk, v)
        assert losses is not None
        return float(losses.mean()) <= self.most


def _own_losses(risk: LayerRisk, v: Tensor) -> Tensor | None:
    """Return the loss of each row in its own class; None where there are no classes."""
    losses, classes = risk.class_losses(v), risk.classes
    if losses is None or classes is None:
        return None
    return losses.gather(1, classes[:, None])[:, 0]
