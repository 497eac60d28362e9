"""The axes that a display draws on; matplotlib is imported only when something is drawn."""

from __future__ import annotations

from typing import Any

__all__ = ["COLOURS", "axes_or_new"]

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
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{type(display).__name__}.plot draws with matplotlib, which is not installed; "
            "get it by: pip install 'sk-unlearn[plot]'"
        ) from error
    return plt.subplots()[1]
