"""Distance to retrained models against the time that forgetting took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from sk_unlearn.metrics import distance_ratio
from sk_unlearn.metrics.distances import Distance, as_finite, check_same_shape, last_step
from sk_unlearn.utils._axes import axes_or_new

__all__ = ["FrontierDisplay"]


class FrontierDisplay:
    """Distance against time of several methods, and the frontier of those that no other beats in both.

    Parameters
    ----------
    names : sequence of str
        Names of the methods.
    seconds, distances : array-like of shape (n_methods,)
        What each took, and how far from retrained models it ended. Both must be positive to appear on the logarithmic
        axes.
    floor : float, default=None
        Distance among retrained models; 1 where the distances are ratios.

    Attributes
    ----------
    on_frontier : ndarray of shape (n_methods,), dtype=bool
        True for the methods that no other beats in both.

    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of it.

    Examples
    --------
    >>> from sk_unlearn.inspection import FrontierDisplay
    >>> FrontierDisplay(["a", "b", "c"], [1.0, 2.0, 3.0], [3.0, 1.0, 2.0]).on_frontier.tolist()
    [True, True, False]
    """

    def __init__(
        self, names: Sequence[str], seconds: ArrayLike, distances: ArrayLike, *, floor: float | None = None
    ) -> None:
        self.names: list[str] = list(names)
        self.seconds: NDArray[np.float64] = as_finite("seconds", seconds)
        self.distances: NDArray[np.float64] = as_finite("distances", distances)
        check_same_shape("seconds", self.seconds, "distances", self.distances)
        if self.seconds.shape != (len(self.names),):
            raise ValueError(f"names must be as many as seconds, got {len(self.names)} and {self.seconds.shape}.")
        self.floor = floor
        no_worse = (self.seconds[:, None] >= self.seconds) & (self.distances[:, None] >= self.distances)
        better = (self.seconds[:, None] > self.seconds) | (self.distances[:, None] > self.distances)
        self.on_frontier: NDArray[np.bool_] = np.asarray(~(no_worse & better).any(axis=1))

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping[str, Any],
        references: Sequence[Any],
        X: Any,
        distance: Distance | None = None,
        *,
        ax: Any = None,
    ) -> FrontierDisplay:
        """Measure estimators that forgot the same rows, and draw them.

        Parameters
        ----------
        estimators : mapping of str to unlearnable estimators
            By the name of the method; the time is that of their last request.
        references : sequence of at least two estimators
            Models retrained without the rows, each from another seed.
        X : array-like of shape (n_rows, ...)
            Rows to predict on.
        distance : str, default=None
            See `sk_unlearn.metrics.distance_ratio`, which is what is drawn; None is "js", and "rms" for regressors.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        FrontierDisplay
            Drawn.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If an estimator has forgotten nothing.
        """
        for estimator in estimators.values():
            check_is_fitted(last_step(estimator), "unlearning_report_")
        return cls(
            list(estimators),
            [last_step(estimator).unlearning_report_.seconds for estimator in estimators.values()],
            [distance_ratio(estimator, references, X, distance) for estimator in estimators.values()],
            floor=1.0,
        ).plot(ax=ax)

    @classmethod
    def from_measurements(
        cls,
        measurements: Mapping[str, tuple[float, float]],
        *,
        floor: float | None = None,
        ax: Any = None,
    ) -> FrontierDisplay:
        """Draw seconds and distances that are known already.

        Parameters
        ----------
        measurements : mapping of str to tuple of (seconds, distance)
            By the name of the method.
        floor : float, default=None
            Distance among retrained models.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        FrontierDisplay
            Drawn.
        """
        seconds, distances = np.array(list(measurements.values()), dtype=np.float64).reshape(-1, 2).T
        return cls(list(measurements), seconds, distances, floor=floor).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> FrontierDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        FrontierDisplay
            This object.
        """
        ax = axes_or_new(ax, self)
        for name, x, y, best in zip(self.names, self.seconds, self.distances, self.on_frontier, strict=True):
            (mark,) = ax.plot(x, y, "o", markersize=8, markerfacecolor=None if best else "white")
            ax.annotate(name, (x, y), xytext=(7, 5), textcoords="offset points", color=mark.get_color())
        order = np.argsort(self.seconds[self.on_frontier])
        frontier = [values[self.on_frontier][order] for values in (self.seconds, self.distances)]
        ax.plot(*frontier, drawstyle="steps-post", color="black", linewidth=0.8, zorder=0)
        if self.floor is not None:
            ax.axhline(self.floor, color="black", linewidth=0.8, linestyle=":", label="among retrained models")
            ax.legend(fontsize="small")
        ax.set(xscale="log", yscale="log", xlabel="seconds", ylabel="distance to retrained models")
        ax.margins(0.25)
        self.ax_: Any = ax
        self.figure_: Any = ax.figure
        return self
