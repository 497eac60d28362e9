"""Copies that share nothing with what they are of."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

__all__ = ["WholeCopyMixin"]


class WholeCopyMixin:
    """Have ``copy.copy`` copy as ``copy.deepcopy`` does.

    A shallow copy would share the fitted net and the stored rows: a request to it would change what the original
    predicts, without a word of it in the original's receipts.
    """

    def __copy__(self) -> Any:
        return deepcopy(self)
