"""The axes that a display draws on; matplotlib is imported only when something is drawn."""

from __future__ import annotations

from typing import Any

__all__ = ["COLOURS", "axes_or_new", "new_axes"]

# A kind of model has the same colour in every picture, those of the documentation included, and colour-blind readers
# can tell these apart. Red is left for the erased rows.
COLOURS = {"before": "#7f7f7f", "after": "#1f77b4", "retrained": "#ff7f0e", "unseen": "#009E73"}


def axes_or_new(ax: Any, display: object) -> Any:
    """Return the axes given, or those of a new figure.

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    return new_axes(display) if ax is None else ax


def new_axes(display: object, n: int = 1) -> Any:
    """Return the axes of a new figure: one, or an array of several beside each other.

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{type(display).__name__}.plot draws with matplotlib, which is not installed; "
            "get it by: pip install 'sk-unlearn[plot]'"
        ) from error
    if n == 1:
        return plt.subplots()[1]
    return plt.subplots(1, n, figsize=(4.2 * n, 3.4), layout="constrained")[1]
