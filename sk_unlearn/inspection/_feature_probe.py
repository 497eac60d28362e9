"""What features still tell of a class, drawn beside retrained models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_unlearn.metrics import feature_probe
from sk_unlearn.metrics.distances import as_finite
from sk_unlearn.utils._axes import COLOURS, axes_or_new

__all__ = ["FeatureProbeDisplay"]


class FeatureProbeDisplay:
    """How many rows of an erased class a probe on the features of each model recognises.

    Where the features owe the class nothing, the point *after* lies in the band of the *retrained* models. To the right
    of it the layers before the last still know the class, whatever the model answers.

    Parameters
    ----------
    recalls : mapping of str to float or array-like of shape (n_models,)
        Recalls in [0, 1] by the name of what they are of; "before", "after" and "retrained" have colours of their own,
        and a band is drawn over the range of "retrained".

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of it.

    points_ : list of matplotlib artists
        One for each name.

    See Also
    --------
    sk_unlearn.metrics.feature_probe : Takes the recalls.

    Examples
    --------
    >>> from sk_unlearn.inspection import FeatureProbeDisplay
    >>> FeatureProbeDisplay({"after": 0.9, "retrained": [0.4, 0.5]}).recalls["after"].tolist()
    [0.9]
    """

    def __init__(self, recalls: Mapping[str, ArrayLike]) -> None:
        if not recalls:
            raise ValueError("recalls is empty: name at least one recall, such as {'after': 0.4}.")
        self.recalls: dict[str, NDArray[np.float64]] = {
            name: as_finite(f"recalls[{name!r}]", values).ravel() for name, values in recalls.items()
        }

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        references: Sequence[Any],
        X: Any,
        y: ArrayLike,
        label: Any,
        *,
        before: Any = None,
        n_shots: int = 1,
        n_draws: int = 50,
        random_state: int = 0,
        ax: Any = None,
    ) -> FeatureProbeDisplay:
        """Probe fitted models and draw what comes of it.

        Parameters
        ----------
        estimator : UnlearnableClassifier, or Pipeline that ends in one
            The model that forgot.
        references : sequence of UnlearnableClassifier or Pipeline
            Models retrained without the erased rows.
        X, y : array-like of shape (n_rows, ...) and (n_rows,)
            Rows that no model was trained on, of all classes.
        label : object
            The class that was erased.
        before : UnlearnableClassifier or Pipeline, default=None
            The model before the request.
        n_shots, n_draws, random_state
            See `feature_probe`.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        FeatureProbeDisplay
            Drawn.
        """
        first = [] if before is None else [before]
        options = {"n_shots": n_shots, "n_draws": n_draws, "random_state": random_state}
        found = feature_probe(estimator, [*first, *references], X, y, label, **options)
        recalls: dict[str, ArrayLike] = {} if before is None else {"before": found.reference_recalls[0]}
        recalls |= {"after": found.recall, "retrained": found.reference_recalls[len(first) :]}
        return cls(recalls).plot(ax=ax)

    @classmethod
    def from_recalls(cls, recalls: Mapping[str, ArrayLike], *, ax: Any = None) -> FeatureProbeDisplay:
        """Draw recalls that are known already.

        Parameters
        ----------
        recalls : mapping of str to float or array-like of shape (n_models,)
            See the class.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        FeatureProbeDisplay
            Drawn.

        Raises
        ------
        ValueError
            If a set is empty or not finite.
        """
        return cls(recalls).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> FeatureProbeDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        FeatureProbeDisplay
            This object.
        """
        ax = axes_or_new(ax, self)
        self.points_: list[Any] = []
        for height, (name, values) in enumerate(self.recalls.items()):
            if name == "retrained":
                ax.axvspan(values.min(), values.max(), color=COLOURS[name], alpha=0.2, linewidth=0)
            self.points_ += ax.plot(values, np.full(len(values), height), "o", color=COLOURS.get(name), label=name)
        n = len(self.recalls)
        ax.set(xlabel="rows of the class recognised from features", xlim=(-0.02, 1.02), ylim=(n - 0.5, -0.5))
        ax.set_yticks(range(n), list(self.recalls))
        self.ax_: Any = ax
        self.figure_: Any = ax.figure
        return self
