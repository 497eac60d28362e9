"""Training on, from a given point, at rates that fall to zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, LRScheduler
from torch import Tensor

from sk_unlearn.unlearners.base import UnlearningProblem

__all__ = ["trained_on"]


def trained_on(
    problem: UnlearningProblem,
    n_epochs: int,
    learning_rate: float | None,
    callbacks: Sequence[tuple[str, Callback]] = (),
    start: Tensor | None = None,
) -> NeuralNet:
    """Return a net that went on training on the retained rows, the rate annealed to zero along a cosine.

    Parameters
    ----------
    problem : UnlearningProblem
    n_epochs : int
    learning_rate : float or None
        To begin with; None for the net's.
    callbacks : sequence of (str, skorch.callbacks.Callback)
        Others that take part.
    start : Tensor of shape (d,) or None
        Parameters to go on from; None for the fitted ones.
    """
    batch_size = problem.net.get_params_for("iterator_train").get("batch_size", problem.net.batch_size)
    n_batches = 1 if batch_size == -1 else -(-problem.retained.n_rows // int(batch_size))
    anneal = LRScheduler(
        policy=torch.optim.lr_scheduler.CosineAnnealingLR, step_every="batch", T_max=n_batches * n_epochs
    )
    return problem.retrain(
        warm=True, epochs=n_epochs, callbacks=[("anneal", anneal), *callbacks], learning_rate=learning_rate, start=start
    ).net
