"""How a model changes over many requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from sk_unlearn.metrics.distances import as_finite, last_step
from sk_unlearn.utils._axes import axes_or_new

__all__ = ["SequenceDriftDisplay"]


class SequenceDriftDisplay:
    """A quantity after each of a sequence of requests, against the number of rows erased so far.

    Parameters
    ----------
    n_erased : array-like of shape (n_requests,)
        Rows erased so far, after each request.
    values : mapping of str to array-like of shape (n_requests,)
        What to draw, by name.
    floor : float, default=None
        Distance among retrained models, drawn as a line to compare with.
    ylabel : str, default="distance to retrained models"
        What the values are.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of it.

    Examples
    --------
    >>> from sk_unlearn.inspection import SequenceDriftDisplay
    >>> SequenceDriftDisplay([5, 10], {"default": [0.1, 0.2]}).n_erased.tolist()
    [5.0, 10.0]
    """

    def __init__(
        self,
        n_erased: ArrayLike,
        values: Mapping[str, ArrayLike],
        *,
        floor: float | None = None,
        ylabel: str = "distance to retrained models",
    ) -> None:
        self.n_erased: NDArray[np.float64] = as_finite("n_erased", n_erased)
        self.values: dict[str, NDArray[np.float64]] = {
            name: np.asarray(of, dtype=np.float64) for name, of in values.items()
        }
        for name, of in self.values.items():
            if of.shape != self.n_erased.shape:
                raise ValueError(
                    f"values[{name!r}] must have shape {self.n_erased.shape}, one value a request, got {of.shape}."
                )
        self.floor = floor
        self.ylabel = ylabel

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> SequenceDriftDisplay:
        """Draw how far the parameters went, from the reports of all requests since ``fit``.

        It needs no retrained model, and so it cannot say whether they went to the right place.

        Parameters
        ----------
        estimator : unlearnable estimator, or Pipeline that ends in one
            It must have forgotten something.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        SequenceDriftDisplay
            Drawn.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If nothing was forgotten yet.
        """
        model = last_step(estimator)
        check_is_fitted(model, "unlearning_report_")
        history = model.unlearning_history_
        values: dict[str, ArrayLike] = {
            "sum of the steps": np.cumsum([report.step_norm for report in history]),
            "gradient left": [report.gradient_norm_after for report in history],
        }
        return cls(np.cumsum([report.n_erased for report in history]), values, ylabel="norm").plot(ax=ax)

    @classmethod
    def from_distances(
        cls,
        distances: Mapping[str, ArrayLike],
        n_erased: ArrayLike,
        *,
        floor: float | None = None,
        ax: Any = None,
    ) -> SequenceDriftDisplay:
        """Draw distances that were measured after each request.

        Parameters
        ----------
        distances : mapping of str to array-like of shape (n_requests,)
            Distances to retrained models by the name of the method.
        n_erased : array-like of shape (n_requests,)
            Rows erased so far, after each request.
        floor : float, default=None
            Distance among retrained models.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        SequenceDriftDisplay
            Drawn.
        """
        return cls(n_erased, distances, floor=floor).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> SequenceDriftDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        SequenceDriftDisplay
            This object.
        """
        ax = axes_or_new(ax, self)
        for name, of in self.values.items():
            ax.plot(self.n_erased, of, "o-", markersize=4, label=name)
        if self.floor is not None:
            ax.axhline(self.floor, color="black", linewidth=0.8, linestyle=":", label="among retrained models")
        shown = np.concatenate([np.empty(0), *self.values.values()])
        positive = shown[np.isfinite(shown)] > 0
        ax.set(xlabel="rows erased so far", ylabel=self.ylabel, yscale="log" if positive.any() else "linear")
        ax.legend(fontsize="small")
        self.ax_: Any = ax
        self.figure_: Any = ax.figure
        return self
