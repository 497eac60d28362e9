"""Random numbers that come out the same at every evaluation, so that differences of a risk are not lost in noise."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import Any, NamedTuple, TypeVar, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from skorch import NeuralNet

from sk_unlearn.utils._random import GLOBAL_GENERATORS
from sk_unlearn.utils._twins import source_of

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
    generators are looked after: most steps need none, and NumPy's takes 300 microseconds to set aside and put back.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._all = [_python(), _numpy(), _torch(torch.default_generator), *_of_device(device)]
        self._drawn_from: dict[str, list[_Generator]] = {}

    @classmethod
    def of(cls, net: NeuralNet, device: torch.device) -> FixedRandomness:
        """Return the one that all risks of a net and its twins share, so that each step is watched only once."""
        source = source_of(net)
        known = _OF_NETS.get(source)
        if known is None or known.device != device:
            known = _OF_NETS[source] = cls(device)
        return known

    def is_quiet(self, step: str) -> bool:
        """Whether a step was seen to draw nothing."""
        return self._drawn_from.get(step) == []

    @property
    def draws(self) -> bool:
        """Whether any step was seen to draw something."""
        return any(self._drawn_from.values())

    @contextmanager
    def fixed(self, step: str, number: int) -> Iterator[None]:
        """Seed the generators by the step and the chunk's number, and set them back in the end to where they were.

        Threads take turns, with those that train too.
        """
        generators = self._drawn_from.get(step, self._all)
        seed = (_SEED + _STEPS.index(step) + 1_000_003 * number) % 2**32
        with GLOBAL_GENERATORS.taken(), _put_back(generators):
            for generator in generators:
                generator.seed(seed)
            yield
            if step not in self._drawn_from:
                self._drawn_from[step] = [generator for generator in generators if _has_moved(generator, seed)]

    def over(self, step: str, number: int, items: Iterable[_Item]) -> Iterator[_Item]:
        """Give what an iterable gives, each item made under numbers of its own."""
        iterator, end = iter(items), object()
        for k in count():
            with nullcontext() if self.is_quiet(step) else self.fixed(step, number + k * _PER_PART):
                item = next(iterator, end)
            if item is end:
                return
            yield cast(_Item, item)


_OF_NETS: WeakKeyDictionary[NeuralNet, FixedRandomness] = WeakKeyDictionary()


class _Generator(NamedTuple):
    """How to take a generator's state, to put it back, to seed it, and to draw a number."""

    take: Callable[[], Any]
    put: Callable[[Any], Any]
    seed: Callable[[int], Any]
    draw: Callable[[], float]


@contextmanager
def _put_back(generators: list[_Generator]) -> Iterator[None]:
    """Set generators back in the end to where they were; once more, should a signal strike there."""
    left = [(generator, generator.take()) for generator in generators]
    try:
        try:
            yield
        finally:
            _put(left)
    finally:
        _put(left)


def _put(left: list[tuple[_Generator, Any]]) -> None:
    while left:
        generator, state = left[-1]
        generator.put(state)
        left.pop()


def _has_moved(generator: _Generator, seed: int) -> bool:
    """Whether anything was drawn since the generator was seeded; it is not there any more afterwards."""
    following = generator.draw()
    generator.seed(seed)
    return following != generator.draw()


def _python() -> _Generator:
    return _Generator(random.getstate, random.setstate, random.seed, random.random)


def _numpy() -> _Generator:
    # Not by putting another bit generator in its place: NumPy would lose the normal number that it keeps for next time.
    return _Generator(np.random.get_state, np.random.set_state, np.random.seed, np.random.random_sample)


def _torch(generator: torch.Generator) -> _Generator:
    def draw() -> float:
        return float(torch.rand((), device=generator.device, generator=generator))

    return _Generator(generator.get_state, generator.set_state, generator.manual_seed, draw)


def _of_device(device: torch.device) -> list[_Generator]:
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        return [_torch(torch.cuda.default_generators[index])]
    if device.type == "mps":
        mps = torch.mps
        return [
            _Generator(
                mps.get_rng_state, mps.set_rng_state, mps.manual_seed, lambda: float(torch.rand((), device="mps"))
            )
        ]
    return []
