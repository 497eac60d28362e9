"""The plain kernel of scaled_dot_product_attention, for as long as anybody needs second derivatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakSet

import torch

from sk_unlearn.utils._turns import Turns

__all__ = ["plain_attention"]

# How to ask and to say whether a kernel may be used. The last is the plain one.
_KERNELS = (
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
)
_PLAIN = (False, False, False, True)


class _Evaluation:
    """One that is under way."""


class _Switches:
    """The switches are those of the process: the first evaluation sets them, and the last one sets them back."""

    def __init__(self) -> None:
        self.turns = Turns()
        # Weakly: one that was cut off while it left, by two signals, does not keep the switches from the others.
        self.evaluations: WeakSet[_Evaluation] = WeakSet()
        self.before: list[bool] | None = None

    def enter(self, evaluation: _Evaluation) -> None:
        with self.turns.taken():
            if self.before is None:
                self.before = [enabled() for enabled, _ in _KERNELS]
            self.evaluations.add(evaluation)
            _set(_PLAIN)

    def leave(self, evaluation: _Evaluation) -> None:
        """May be called again, and where ``enter`` was cut short."""
        with self.turns.taken():
            self.evaluations.discard(evaluation)
            if self.before is not None and not self.evaluations:
                _set(self.before)
                self.before = None


def _set(enabled: Sequence[bool]) -> None:
    # As torch.nn.attention.sdpa_kernel does, which takes longer than a product with a small net's parameters.
    for (_, enable), on in zip(_KERNELS, enabled, strict=True):
        enable(on)


_SWITCHES = _Switches()


@contextmanager
def plain_attention() -> Iterator[None]:
    """Have attention computed without its fused kernels, which have no second derivative.

    Threads may be inside at the same time. Other attention of the process is computed plainly meanwhile, too.
    """
    mine = _Evaluation()
    # Twice, so that a signal which strikes while the switches are set back finds them set back all the same.
    try:
        try:
            _SWITCHES.enter(mine)
            yield
        finally:
            _SWITCHES.leave(mine)
    finally:
        _SWITCHES.leave(mine)
