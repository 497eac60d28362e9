"""A picture of one request, from its report alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sk_unlearn.utils._axes import COLOURS, new_axes

if TYPE_CHECKING:
    from sk_unlearn.estimators.report import UnlearningReport

__all__ = ["UnlearningReportDisplay"]

_UNKNOWN = (float("nan"), float("nan"))
# What is drawn over the steps: the first of these that was recorded.
_OF_STEPS = ("gradient_norm", "erased_loss", "train_loss")


class UnlearningReportDisplay:
    """What one request did: the losses of its rows before and after, and the steps in between.

    ``unlearning_report_.plot()`` draws it. It shows that a request did something, and whether its steps came to rest;
    that rows were forgotten it cannot show, for there is no retrained model in it.

    Parameters
    ----------
    trace : sequence of mappings
        Records of the steps, as ``unlearning_report_.trace`` holds them; reports of earlier requests have none.
    erased_loss : tuple of (float, float), default=(nan, nan)
        Mean loss of the erased rows, before and after.
    gradient_norm : tuple of (float, float), default=(nan, nan)
        Norm of the gradient that the request brought, before and after.
    title : str, default=""
        What stands above.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where the steps are drawn, or the losses if there are none.

    axes_ : list of matplotlib Axes
        All that were drawn on.

    figure_ : matplotlib Figure
        The figure of them.

    Examples
    --------
    >>> from sk_unlearn.inspection import UnlearningReportDisplay
    >>> UnlearningReportDisplay([], erased_loss=(0.1, 0.4)).erased_loss
    (0.1, 0.4)
    """

    def __init__(
        self,
        trace: Sequence[Mapping[str, Any]],
        *,
        erased_loss: tuple[float, float] = _UNKNOWN,
        gradient_norm: tuple[float, float] = _UNKNOWN,
        title: str = "",
    ) -> None:
        self.trace: list[Mapping[str, Any]] = list(trace)
        self.erased_loss = erased_loss
        self.gradient_norm = gradient_norm
        self.title = title
        self._of_steps = self._recorded()
        self._has_losses = not any(map(math.isnan, erased_loss))
        if self._of_steps is None and not self._has_losses:
            raise ValueError(
                "there is nothing to draw: no step is recorded and no loss known. So it is after retrain(), where no "
                "row had entered a gradient, and with many shards, each of which (in estimators_) has a report of its "
                "own."
            )

    def _recorded(self) -> str | None:
        """Return what is drawn over the steps; None where the losses before and after are all that there is."""
        for name in _OF_STEPS:
            n = sum(name in record for record in self.trace)
            if n > (name == "train_loss"):  # one epoch is no curve, and has no point before it
                return name
        return None

    @classmethod
    def from_report(cls, report: UnlearningReport, *, ax: Any = None) -> UnlearningReportDisplay:
        """Draw the request that a report is about.

        Parameters
        ----------
        report : UnlearningReport
            Of the request.
        ax : matplotlib Axes, default=None
            Where to draw the steps, or the losses where no step is recorded; None for a new figure with both.

        Returns
        -------
        UnlearningReportDisplay
            Drawn.
        """
        return cls(
            report.trace,
            erased_loss=(report.erased_loss_before, report.erased_loss_after),
            gradient_norm=(report.gradient_norm_before, report.gradient_norm_after),
            title=f"{report.request} by {report.method}: {str(report.status).replace('_', ' ')}",
        ).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> UnlearningReportDisplay:
        """Draw the last request of an estimator.

        Parameters
        ----------
        estimator : unlearnable estimator, or Pipeline that ends in one
            It must have forgotten something.
        ax : matplotlib Axes, default=None
            As for :meth:`from_report`.

        Returns
        -------
        UnlearningReportDisplay
            Drawn.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If nothing was forgotten yet.
        """
        check_is_fitted(estimator, "unlearning_report_")
        return cls.from_report(estimator.unlearning_report_, ax=ax)

    def plot(self, *, ax: Any = None) -> UnlearningReportDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw the steps, or the losses where no step is recorded; None for a new figure with both.

        Returns
        -------
        UnlearningReportDisplay
            This object.
        """
        both = ax is None and self._of_steps is not None and self._has_losses
        if both:
            self.axes_: list[Any] = list(new_axes(self, 2))
            self._draw_losses(self.axes_[0])
        else:
            self.axes_ = [new_axes(self) if ax is None else ax]
        self.ax_: Any = self.axes_[-1]
        self.figure_: Any = self.ax_.figure
        draw = {
            None: self._draw_losses, "gradient_norm": self._draw_gradient, "erased_loss": self._draw_losses_of_steps,
            "train_loss": self._draw_training,
        }  # fmt: skip
        draw[self._of_steps](self.ax_)
        if self._of_steps is not None:
            self.ax_.xaxis.get_major_locator().set_params(integer=True)
        if both:
            self.figure_.suptitle(self.title, fontsize="medium")
        else:
            self.ax_.set_title(self.title, fontsize="medium")
        return self

    def _draw_losses(self, ax: Any) -> None:
        heights = np.nan_to_num(self.erased_loss, nan=0.0, posinf=0.0)
        bars = ax.bar(["before", "after"], heights, color=[COLOURS["before"], COLOURS["after"]], width=0.6)
        ax.bar_label(bars, [f"{loss:.3g}" for loss in self.erased_loss], padding=2)
        ax.margins(y=0.15)
        ax.set(ylabel="mean loss of the erased rows")

    def _draw_gradient(self, ax: Any) -> None:
        """Draw the norm that each step met, and the one that is left."""
        norms = np.array([float(record.get("gradient_norm", np.nan)) for record in self.trace])
        in_layer = np.array([record.get("block") == "output layer" for record in self.trace])
        refused = np.array([not record.get("taken", True) for record in self.trace])
        number = np.arange(1, len(norms) + 1)
        # That of the output layer alone is of fewer parameters, and no point of the same line.
        x, y = np.append(number[~in_layer], len(norms) + 1), np.append(norms[~in_layer], self.gradient_norm[1])
        ax.plot(x, y, "o-", color=COLOURS["after"], label="of all parameters")
        if in_layer.any():
            line = {"color": COLOURS["after"], "markerfacecolor": "white"}
            ax.plot(number[in_layer], norms[in_layer], "o--", **line, label="of the output layer")
        if refused.any():
            ax.plot(number[refused], norms[refused], "kx", label="step not taken")
        if in_layer.any() or refused.any():
            ax.legend(fontsize="small")
        shown = np.append(norms, self.gradient_norm[1])
        ax.set(xlabel="step; the last point: what is left", ylabel="gradient norm")
        ax.set_yscale("log" if (shown[np.isfinite(shown)] > 0).all() else "linear")

    def _draw_losses_of_steps(self, ax: Any) -> None:
        for name, style in (("erased_loss", "o-"), ("retained_loss", "s--")):
            values = [float(record.get(name, np.nan)) for record in self.trace]
            if not np.isfinite(values).any():
                continue
            first = self.erased_loss[0] if name == "erased_loss" else np.nan
            colour = COLOURS["after"] if name == "erased_loss" else "black"
            label = name.replace("_loss", " rows")
            ax.plot(np.arange(len(values) + 1), [first, *values], style, color=colour, markersize=4, label=label)
        ax.legend(fontsize="small")
        ax.set(xlabel="step", ylabel="mean loss")

    def _draw_training(self, ax: Any) -> None:
        values = [float(record.get("train_loss", np.nan)) for record in self.trace]
        ax.plot(np.arange(1, len(values) + 1), values, "o-", color=COLOURS["after"], markersize=4)
        ax.set(xlabel="epoch", ylabel="training loss")
