"""Histograms of the losses of erased rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_unlearn.metrics import row_losses
from sk_unlearn.metrics.distances import as_finite
from sk_unlearn.utils._axes import COLOURS, axes_or_new

__all__ = ["ErasedLossDisplay"]

# Losses below this share of the largest are drawn in the first bin.
_SMALLEST = 1e-6


class ErasedLossDisplay:
    """Losses of the erased rows, before and after, beside retrained models' and those of rows never seen.

    Where forgetting succeeded, the histogram *after* lies on that of the *retrained* models. If it stays on the left,
    the rows are still remembered; if it reaches further to the right, they give themselves away by looking stranger
    than they do to a retrained model.

    Parameters
    ----------
    losses : mapping of str to array-like of shape (n_rows,)
        Losses by the name of what they are of; "before", "after", "retrained" and "unseen" have colours of their own.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of it.

    lines_ : list of matplotlib artists
        One for each histogram.

    Examples
    --------
    >>> from sk_unlearn.inspection import ErasedLossDisplay
    >>> sorted(ErasedLossDisplay({"retrained": [0.3, 0.3], "after": [0.2, 0.4]}).losses)
    ['after', 'retrained']
    """

    def __init__(self, losses: Mapping[str, ArrayLike]) -> None:
        if not losses:
            raise ValueError("losses is empty: name at least one set of losses, such as {'after': losses}.")
        self.losses: dict[str, NDArray[np.float64]] = {
            name: as_finite(f"losses[{name!r}]", values).ravel() for name, values in losses.items()
        }

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X_erased: Any,
        y_erased: ArrayLike,
        *,
        before: Any = None,
        retrained: Sequence[Any] = (),
        unseen: tuple[Any, ArrayLike] | None = None,
        ax: Any = None,
    ) -> ErasedLossDisplay:
        """Take the losses of fitted models and draw them.

        Parameters
        ----------
        estimator : classifier or regressor
            The model that forgot.
        X_erased, y_erased : array-like of shape (n_rows, ...) and (n_rows,)
            The erased rows.
        before : classifier or regressor, default=None
            The model before the request.
        retrained : sequence of classifiers or regressors, default=()
            Models retrained without the rows; their losses are drawn together.
        unseen : tuple of (X, y), default=None
            Rows that no model was trained on; their losses are those under `estimator`.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        ErasedLossDisplay
            Drawn.
        """
        losses = {} if before is None else {"before": row_losses(before, X_erased, y_erased)}
        losses["after"] = row_losses(estimator, X_erased, y_erased)
        if len(retrained):
            losses["retrained"] = np.concatenate([row_losses(model, X_erased, y_erased) for model in retrained])
        if unseen is not None:
            losses["unseen"] = row_losses(estimator, *unseen)
        return cls.from_losses(losses, ax=ax)

    @classmethod
    def from_losses(cls, losses: Mapping[str, ArrayLike], *, ax: Any = None) -> ErasedLossDisplay:
        """Draw losses that are known already.

        Parameters
        ----------
        losses : mapping of str to array-like of shape (n_rows,)
            See the class.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        ErasedLossDisplay
            Drawn.

        Raises
        ------
        ValueError
            If a set is empty or not finite.
        """
        return cls(losses).plot(ax=ax)

    def plot(self, *, ax: Any = None, n_bins: int = 25) -> ErasedLossDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        n_bins : int, default=25
            Number of bins, equally wide on a logarithmic axis.

        Returns
        -------
        ErasedLossDisplay
            This object.
        """
        ax = axes_or_new(ax, self)
        largest = max(float(values.max()) for values in self.losses.values()) or 1.0
        floor = largest * _SMALLEST
        smallest = max(floor, min(float(values.min()) for values in self.losses.values()))
        edges = np.geomspace(min(smallest, largest / 2), largest, n_bins + 1)
        self.lines_: list[Any] = []
        for name, values in self.losses.items():
            counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
            filled = name == "after"
            self.lines_.append(
                ax.stairs(
                    counts / len(values),
                    edges,
                    label=f"{name} ({len(values)})",
                    color=COLOURS.get(name),
                    fill=filled,
                    alpha=0.4 if filled else 1.0,
                    linewidth=1.6,
                    linestyle="--" if name == "unseen" else "-",
                )
            )
        ax.set(xscale="log", xlabel="loss of a row", ylabel="share of the rows")
        ax.legend(fontsize="small")
        self.ax_: Any = ax
        self.figure_: Any = ax.figure
        return self
