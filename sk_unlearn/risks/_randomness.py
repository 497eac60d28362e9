"""Random numbers that come out the same at every evaluation, so that differences of a risk are not lost in noise."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch

__all__ = ["FixedRandomness"]

# One seed for all risks: two of them over the same rows, and two points of one, see the same noise.
_SEED = 20_240_229
_STEPS = ("read", "infer", "loss")
# Chunks of different parts have different numbers as long as there are no more parts than this.
_PER_PART = 2**20

_Item = TypeVar("_Item")


class FixedRandomness:
    """Has the global generators of Python, NumPy and PyTorch give the same numbers whenever a chunk is evaluated.

    A generator that a module or a data set holds itself is beyond it.

    Parameters
    ----------
    device : torch.device
        Whose generator counts beside that of the processor.

    Notes
    -----
    What a step (reading rows, inferring, taking losses) draws from is seen at its first run. From then on only those
    generators are looked after: most steps need none, and NumPy's takes 300 microseconds to be set aside and put back.
    """

    def __init__(self, device: torch.device) -> None:
        self._all = [_python(), _numpy(), _torch(torch.default_generator), *_of_device(device)]
        self._drawn_from: dict[str, list[_Generator]] = {}

    def is_quiet(self, step: str) -> bool:
        """Whether a step was seen to draw nothing."""
        return self._drawn_from.get(step) == []

    @contextmanager
    def fixed(self, step: str, number: int) -> Iterator[None]:
        """Seed the generators by the step and the chunk's number, and set them back in the end to where they were."""
        generators = self._drawn_from.get(step, self._all)
        states = [generator.get() for generator in generators]
        try:
            for generator in generators:
                generator.seed((_SEED + _STEPS.index(step) + 1_000_003 * number) % 2**32)
            if step in self._drawn_from:
                yield
                return
            before = [generator.get() for generator in generators]
            yield
            pairs = zip(generators, before, strict=True)
            self._drawn_from[step] = [each for each, state in pairs if not _same(each.get(), state)]
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.put(state)

    def over(self, step: str, number: int, items: Iterable[_Item]) -> Iterator[_Item]:
        """Give what an iterable gives, each item made under numbers of its own."""
        iterator, end = iter(items), object()
        for k in count():
            with nullcontext() if self.is_quiet(step) else self.fixed(step, number + k * _PER_PART):
                item = next(iterator, end)
            if item is end:
                return
            yield cast(_Item, item)


class _Generator(NamedTuple):
    """How to take a generator's state, to put it back, and to seed it."""

    get: Callable[[], Any]
    put: Callable[[Any], Any]
    seed: Callable[[int], Any]


def _python() -> _Generator:
    return _Generator(random.getstate, random.setstate, random.seed)


def _numpy() -> _Generator:
    return _Generator(np.random.get_state, np.random.set_state, np.random.seed)


def _torch(generator: torch.Generator) -> _Generator:
    return _Generator(generator.get_state, generator.set_state, generator.manual_seed)


def _of_device(device: torch.device) -> list[_Generator]:
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        return [_torch(torch.cuda.default_generators[index])]
    if device.type == "mps":
        return [_Generator(torch.mps.get_rng_state, torch.mps.set_rng_state, torch.mps.manual_seed)]
    return []


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a[1], np.ndarray):  # NumPy's state: its name, the numbers, where in them it is, and more
        return a[2:] == b[2:] and np.array_equal(a[1], b[1])
    return bool(a == b)
