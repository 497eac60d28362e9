"""How fast erased rows are learnt again, drawn beside retrained models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_unlearn.metrics import RelearningCurve, relearning_curve
from sk_unlearn.metrics.distances import as_finite
from sk_unlearn.utils._axes import COLOURS, axes_or_new

__all__ = ["RelearningDisplay"]


class RelearningDisplay:
    """Scores on erased rows while they are learnt again, by the step.

    Where nothing is left of the rows, the line *after* runs in the band of the *retrained* models. Where it leaves that
    early, for better scores, the rows were hidden rather than forgotten.

    Parameters
    ----------
    curve : RelearningCurve
        What `relearning_curve` returned.
    before : array-like of shape (n_steps + 1,), default=None
        Scores of the model before the request.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of it.

    lines_ : list of matplotlib artists
        Before, if given; after; and the mean over retrained models.

    band_ : matplotlib artist
        From the smallest score of a retrained model to the largest.

    See Also
    --------
    sk_unlearn.metrics.relearning_curve : Takes the scores.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_unlearn.inspection import RelearningDisplay
    >>> from sk_unlearn.metrics import RelearningCurve
    >>> curve = RelearningCurve(np.array([0.0, 0.8]), np.array([[0.0, 0.3]]), threshold=0.5, is_loss=False)
    >>> RelearningDisplay(curve).curve.steps
    1.0
    """

    def __init__(self, curve: RelearningCurve, *, before: ArrayLike | None = None) -> None:
        self.curve = curve
        self.before: NDArray[np.float64] | None = None if before is None else as_finite("before", before)
        if self.before is not None and self.before.shape != curve.scores.shape:
            raise ValueError(
                f"before must have shape {curve.scores.shape}, as the scores of the curve, got {self.before.shape}."
            )

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        references: Sequence[Any],
        X: Any,
        y: ArrayLike,
        *,
        before: Any = None,
        X_test: Any = None,
        y_test: ArrayLike | None = None,
        fresh: ArrayLike | None = None,
        threshold: float | None = None,
        n_steps: int = 30,
        random_state: int = 0,
        ax: Any = None,
    ) -> RelearningDisplay:
        """Train copies of fitted models and draw their scores.

        Parameters
        ----------
        estimator : UnlearnableClassifier, UnlearnableRegressor, or Pipeline that ends in one
            The model that forgot.
        references : sequence of the same
            Models retrained without the erased rows.
        X, y : array-like of shape (n_rows, ...) and (n_rows,) or (n_rows, n_targets)
            Rows to learn.
        before : of the same kind, default=None
            The model before the request.
        X_test, y_test, fresh, threshold, n_steps, random_state
            See `relearning_curve`.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        RelearningDisplay
            Drawn.
        """

        def curve_of(model: Any, threshold: float | None) -> RelearningCurve:
            return relearning_curve(
                model, references, X, y, X_test=X_test, y_test=y_test, fresh=fresh, threshold=threshold,
                n_steps=n_steps, random_state=random_state,
            )  # fmt: skip

        curve = curve_of(estimator, threshold)
        return cls(curve, before=None if before is None else curve_of(before, curve.threshold).scores).plot(ax=ax)

    @classmethod
    def from_curve(
        cls, curve: RelearningCurve, *, before: ArrayLike | None = None, ax: Any = None
    ) -> RelearningDisplay:
        """Draw scores that are known already.

        Parameters
        ----------
        curve : RelearningCurve
            What `relearning_curve` returned.
        before : array-like of shape (n_steps + 1,), default=None
            Scores of the model before the request.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        RelearningDisplay
            Drawn.

        Raises
        ------
        ValueError
            If `before` has not as many scores as the curve, or some are not finite.
        """
        return cls(curve, before=before).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> RelearningDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        RelearningDisplay
            This object.
        """
        ax = axes_or_new(ax, self)
        others = self.curve.reference_scores
        steps = np.arange(others.shape[1])
        drawn = {} if self.before is None else {"before": self.before}
        drawn |= {"after": self.curve.scores, "retrained": others.mean(axis=0)}
        self.lines_: list[Any] = [ax.plot(steps, of, label=name, color=COLOURS[name])[0] for name, of in drawn.items()]
        band = others.min(axis=0), others.max(axis=0)
        self.band_: Any = ax.fill_between(steps, *band, color=COLOURS["retrained"], alpha=0.2, linewidth=0)
        ax.axhline(self.curve.threshold, color="black", linewidth=0.8, linestyle=":")
        ax.set(xlabel="steps of training", ylabel="squared error" if self.curve.is_loss else "rows recognised")
        if self.curve.is_loss:
            ax.set_yscale("log")
        ax.legend(fontsize="small")
        self.ax_: Any = ax
        self.figure_: Any = ax.figure
        return self
