"""Predictions of a pipeline that come from one state of it, while a request moves it to another."""

from __future__ import annotations

from typing import Any

from sk_unlearn.pipeline._steps import passed_over

__all__ = ["Attributes", "pinned_steps"]


class Attributes:
    """All attributes of an object as one entry, so that a journal can exchange them at once."""

    def __init__(self, of: object) -> None:
        self._of = of

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self._of, name, value)


def pinned_steps(steps: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return steps that go on as they are now, whatever the given ones forget meanwhile."""
    return [(name, _pinned(step)) for name, step in passed_over(steps)]


def _pinned(step: Any) -> Any:
    if isinstance(step, str) or step is None:
        return step
    if hasattr(step, "_pinned"):
        return step._pinned()
    other = object.__new__(type(step))
    # Not copy.copy, which asks the object what to copy.
    vars(other).update(vars(step))
    return other
