"""Whether training arrived at finite numbers: in the parameters, and in what layers keep beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sk_unlearn.utils._strided import strided_parts

__all__ = ["TrainingDivergedError", "buffers_not_finite", "check_trained", "diverged"]


class TrainingDivergedError(ValueError):
    """Training arrived at numbers that are not finite.

    Attributes
    ----------
    n_steps : int
        Batches after which that was seen, where they were counted.
    """

    def __init__(self, message: str, n_steps: int = 0) -> None:
        super().__init__(message)
        self.n_steps = n_steps


def buffers_not_finite(module: nn.Module) -> Counter[str]:
    """Return how many entries of each buffer are infinite or not a number, by name.

    A mask of minus infinities, as attention has it, is one of these from the beginning.
    """
    return _not_finite(module.named_buffers())


def _not_finite(named: Iterable[tuple[str, Tensor]]) -> Counter[str]:
    return Counter({name: int((~torch.isfinite(strided_parts(t)[-1])).sum()) for name, t in named if not is_lazy(t)})


def diverged(module: nn.Module, before: Counter[str]) -> str:
    """Name what is not finite: parameters, and buffers with more such entries than before.

    Parameters
    ----------
    module : torch.nn.Module

    before : Counter
        What :func:`buffers_not_finite` said before.

    Returns
    -------
    names : str
        The first few of them; empty where all is well.
    """
    names = sorted(_not_finite([*module.named_parameters(), *module.named_buffers()]) - before)
    return ", ".join(names[:3]) + ", …" * (len(names) > 3)


def check_trained(module: nn.Module, before: Counter[str], n_steps: int = 0) -> None:
    """Raise a TrainingDivergedError if training diverged.

    Parameters
    ----------
    module, before
        As for :func:`diverged`.

    n_steps : int
        Batches that it was trained on, where they were counted.
    """
    names = diverged(module, before)
    if names:
        raise TrainingDivergedError(
            f"Training diverged: {names} not finite. Lower the learning rate or scale X and y.", n_steps
        )
