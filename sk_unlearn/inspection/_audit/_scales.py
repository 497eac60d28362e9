"""One measure as a picture: where a model stands beside the range of retrained ones, as laboratories print results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

__all__ = ["Figure", "Scale", "in_words", "scale"]

# The drawing's units. The range of retrained models takes the middle third, whatever the numbers are, so that the
# ranges of all measures stand below each other.
_WIDTH, _HEIGHT = 240.0, 26.0
_LEFT, _RIGHT, _EDGE = 80.0, 160.0, 8.0
_LANES = {"after": 7.0, "before": 19.0}


class Figure(NamedTuple):
    """A value and its interval, NaN where there is none."""

    value: float
    low: float
    high: float


class Scale(NamedTuple):
    """The picture as SVG, numbers alone that need no escape, and where the model that forgot stands in words."""

    svg: str
    told: str


def scale(figures: Mapping[str, Figure]) -> Scale | None:
    """Return the picture of one measure; None where there is no range of retrained models to draw.

    Parameters
    ----------
    figures : mapping of str to Figure
        By kind of model: "before", "after", "retrained". A value far outside is an arrow at the edge.
    """
    retrained, after = figures.get("retrained"), figures.get("after")
    if retrained is None or after is None or not all(map(math.isfinite, (after.value, *retrained))):
        return None
    drawn = {name: figures[name].value for name in _LANES if name in figures and math.isfinite(figures[name].value)}
    place = _Place(retrained, list(drawn.values()))
    left, right = place(retrained.low), place(retrained.high)
    parts = [
        f'<rect class="range" x="{left - 1:.1f}" y="1" width="{right - left + 2:.1f}" height="{_HEIGHT - 2:g}"/>',
        f'<path class="middle" d="M{place(retrained.value):.1f} 1V{_HEIGHT - 1:g}"/>',
        f'<path class="axis" d="M0 {_HEIGHT / 2:g}H{_WIDTH:g}"/>',
    ]
    parts += [_mark(name, value, place) for name, value in drawn.items()]
    told = _beside(after.value, retrained)
    label = f"after: {in_words(after.value)}, {told} of retrained models, "
    label += f"{in_words(retrained.low)} to {in_words(retrained.high)}"
    if "before" in drawn:
        label += f"; before: {in_words(drawn['before'])}, {_beside(drawn['before'], retrained)}"
    svg = f'<svg class="scale" role="img" aria-label="{label}" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}">'
    return Scale(svg + "".join(parts) + "</svg>", told)


def in_words(value: float) -> str:
    """Return a number in three digits; without an exponent, which not everybody reads, as far as it is short."""
    if 1e-6 <= abs(value) < 1e6:
        return np.format_float_positional(value, precision=3, fractional=False, trim="-")
    return f"{value:.3g}"


class _Place:
    """From values to places along the axis."""

    def __init__(self, retrained: Figure, values: list[float]) -> None:
        self._low, self._high = retrained.low, retrained.high
        self._apart = retrained.high - retrained.low
        # All retrained models may agree, as at an accuracy of 1: then the farthest value sets the unit.
        self._farthest = max(abs(value - retrained.low) for value in values) or 1.0

    def unbounded(self, value: float) -> float:
        if self._apart > 0:
            return _LEFT + (_RIGHT - _LEFT) * (value - self._low) / self._apart
        return _WIDTH / 2 + (_WIDTH / 2 - 2 * _EDGE) * (value - self._low) / self._farthest

    def __call__(self, value: float) -> float:
        return min(max(self.unbounded(value), _EDGE), _WIDTH - _EDGE)


def _mark(name: str, value: float, place: _Place) -> str:
    """Draw a model: a dot after, a lozenge before, an arrow at the edge for both where they stand beyond it."""
    y, x = _LANES[name], place(value)
    if x != place.unbounded(value):
        tip = 7 if x > _WIDTH / 2 else -7
        return f'<path class="{name}" d="M{x - tip:.1f} {y - 5:g}L{x + tip:.1f} {y:g}L{x - tip:.1f} {y + 5:g}Z"/>'
    if name == "after":
        return f'<circle class="after" cx="{x:.1f}" cy="{y:g}" r="5"/>'
    return f'<path class="before" d="M{x - 5:.1f} {y:g}L{x:.1f} {y - 5:g}L{x + 5:.1f} {y:g}L{x:.1f} {y + 5:g}Z"/>'


def _beside(value: float, retrained: Figure) -> str:
    rounding = 1e-9 * max(abs(retrained.low), abs(retrained.high))
    if value > retrained.high + rounding:
        return "above the range"
    return "below the range" if value < retrained.low - rounding else "within the range"
