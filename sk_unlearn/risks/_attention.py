"""The plain kernel of scaled_dot_product_attention, for as long as anybody needs second derivatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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


class _Switches:
    """The switches are those of the process: the first evaluation sets them, and the last one sets them back."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.evaluations: set[int] = set()
        self.before: list[bool] | None = None

    def enter(self, evaluation: int) -> None:
        with self.turns.taken():
            if self.before is None:
                self.before = [enabled() for enabled, _ in _KERNELS]
            self.evaluations.add(evaluation)
            _set(_PLAIN)

    def leave(self, evaluation: int) -> None:
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
    mine = object()
    # Twice, so that a signal which strikes while the switches are set back finds them set back all the same.
    try:
        try:
            _SWITCHES.enter(id(mine))
            yield
        finally:
            _SWITCHES.leave(id(mine))
    finally:
        _SWITCHES.leave(id(mine))
