"""Training in a ball, and the noise that a sequence of certified steps leaves there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn.training.recorder import TrainingRecorder
from sk_unlearn.utils._numpy_state import NumpyStateMixin

__all__ = ["InBall", "Projection", "projected"]


@dataclass(frozen=True)
class InBall(NumpyStateMixin):
    """That training stayed in a ball, and what later requests need to know.

    Attributes
    ----------
    radius : float
        Of the ball.

    residual : float or None
        How far from stationary training ended; known from the first request on.

    walk : Tensor of shape (d,) or None
        The noise that is in the parameters, where it goes on with the next request. It knows nothing of any row.

    spread : float
        Its standard deviation in each entry.

    gap : float
        Bound of the distance between the parameters without it and those of retraining.
    """

    radius: float
    residual: float | None = None
    walk: Tensor | None = None
    spread: float = 0.0
    gap: float = 0.0

    def without_walk(self) -> InBall:
        """Return the same with the noise taken for a part of the parameters."""
        return replace(self, walk=None, spread=0.0, gap=0.0)


class Projection(TrainingRecorder):
    """Project the parameters to a ball after each step of the optimiser."""

    def __init__(self, radius: float) -> None:
        self.radius = radius

    def begin(self, net: NeuralNet, n_rows: int, mass: float, rng: np.random.Generator) -> None:
        self._project(net)

    def on_batch_end(self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        if training:
            self._project(net)

    def recording(self, net: NeuralNet) -> InBall:
        # Once more: Ctrl-C may have come between a step and its projection.
        self._project(net)
        return InBall(self.radius)

    @torch.no_grad()
    def _project(self, net: NeuralNet) -> None:
        parameters = [p for p in net.module_.parameters() if p.requires_grad]
        norm = math.sqrt(sum(float(p.square().sum()) for p in parameters))
        if norm > self.radius:
            for p in parameters:
                p.mul_(self.radius / norm)


def projected(w: Tensor, radius: float) -> Tensor:
    """Return w, or where it is outside of the ball the nearest point inside."""
    norm = float(w.norm())
    return w if norm <= radius else w * (radius / norm)
