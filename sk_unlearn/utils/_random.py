"""Seeds and generators for torch from numpy's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sk_unlearn.utils._turns import Turns

__all__ = [
    "GLOBAL_GENERATORS",
    "forked_torch",
    "numpy_seed",
    "seeded_generators",
    "seeded_torch",
    "standard_normal",
    "torch_generator",
    "untouched_generators",
]

# A process has one global generator of each kind: PyTorch's for a device, NumPy's, Python's. Whoever seeds one, draws
# and puts it back does so in turn, or two threads would draw from each other's numbers. What is called inside must not
# wait for a thread that waits for this turn.
GLOBAL_GENERATORS = Turns()


def numpy_seed(rng: np.random.Generator) -> int:
    """Draw a seed that torch takes."""
    return int(rng.integers(2**31 - 1))


def torch_generator(rng: np.random.Generator, device: torch.device) -> torch.Generator:
    """Derive a generator on the given device."""
    return torch.Generator(device=device).manual_seed(numpy_seed(rng))


@contextmanager
def forked_torch(devices: list[Any]) -> Iterator[None]:
    """Put torch's global generators back in the end; threads that are in such a context take turns.

    Parameters
    ----------
    devices : list
        CUDA devices whose generators count beside that of the processor.
    """
    with GLOBAL_GENERATORS.taken(), torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def seeded_torch(rng: np.random.Generator | int) -> Iterator[None]:
    """Seed torch's global generators inside the context and put them back as they were; threads take turns."""
    seed = rng if isinstance(rng, int) else numpy_seed(rng)
    with forked_torch(list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def untouched_generators() -> Iterator[None]:
    """Put the global generators of Python, NumPy and torch back as they were, whatever is drawn in the context."""
    with GLOBAL_GENERATORS.taken():
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  what code of users draws from
        try:
            with seeded_torch(0):
                yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def seeded_generators(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch inside the context and put them back as they were."""
    with untouched_generators():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  what code of users draws from
        torch.manual_seed(seed)
        yield


def standard_normal(like: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw a tensor like another from the standard normal distribution."""
    generator = torch_generator(rng, like.device)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
