"""The steps of Adam where the data have no gradient, for a few thousand numbers at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from sk_unlearn.training.start import GroupSteps

__all__ = ["adam_without_data", "is_plain_adam"]

# Of more different sizes than these, so many are followed, and the others lie between them.
_MOST_SIZES = 2**14


def is_plain_adam(group: GroupSteps) -> bool:
    """Whether a group's steps are those of :func:`adam_without_data`."""
    return not (group.fixed.get("amsgrad") or group.fixed.get("maximize") or group.fixed.get("decoupled_weight_decay"))


def adam_without_data(group: GroupSteps, n_steps: int, w: Tensor) -> Tensor:
    r"""Return where Adam with coupled weight decay leads numbers that no row moves.

    Where w ends depends on its size alone, and its sign stays with it: the gradient is :math:`\lambda w`. So only the
    sizes that there are have to be followed, or where there are many, a grid of them.

    Parameters
    ----------
    group : GroupSteps
        For which :func:`is_plain_adam` holds.
    n_steps : int
    w : Tensor of shape (m,)

    Returns
    -------
    ends : Tensor of shape (m,)
    """
    sizes, number = np.unique(w.abs().double().numpy(), return_inverse=True)
    if len(sizes) <= _MOST_SIZES:
        ends = _followed(group, n_steps, sizes)[number]
    else:
        grid = np.linspace(0.0, sizes[-1], _MOST_SIZES)
        ends = np.interp(sizes, grid, _followed(group, n_steps, grid))[number]
    return (torch.from_numpy(ends) * w.double().sign()).to(w)


def _followed(group: GroupSteps, n_steps: int, start: NDArray[np.float64]) -> NDArray[np.float64]:
    rates, decays, eps = (group.values(name, n_steps).astype(np.float64) for name in ("lr", "weight_decay", "eps"))
    betas = group.values("betas", n_steps).astype(np.float64)
    w, mean, square = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for step in range(n_steps):
        first, second = betas[step]
        gradient = decays[step] * w
        mean += (1 - first) * (gradient - mean)
        square *= second
        square += (1 - second) * gradient * gradient
        size = np.sqrt(square)
        size /= np.sqrt(1 - second ** (step + 1))
        size += eps[step]
        mean_step = mean / size
        mean_step *= rates[step] / (1 - first ** (step + 1))
        w -= mean_step
    return w
