"""What measures that compare with retrained models ask of their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

__all__ = ["check_int", "check_references"]


def check_int(name: str, value: Any, least: int = 1) -> None:
    """Raise a ValueError if the argument `name` is no int of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an int of at least {least}, got {value!r}.")


def check_references(references: Any, least: int) -> None:
    """Raise a TypeError if the argument "references" is no list, a ValueError if it has fewer than `least` models."""
    if not isinstance(references, Sequence | np.ndarray):
        raise TypeError(f"references must be a list of retrained models, got {type(references).__name__}.")
    if len(references) < least:
        models = "model" if least == 1 else "models"
        raise ValueError(f"references must hold at least {least} retrained {models}, got {len(references)}.")
