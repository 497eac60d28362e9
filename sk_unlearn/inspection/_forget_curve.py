"""What the steps of one request did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sk_unlearn.inspection._axes import COLOURS, axes_or_new
from sk_unlearn.metrics.distances import last_step

__all__ = ["ForgetCurveDisplay"]


class ForgetCurveDisplay:
    """Gradient norm before each step of a request, and the damping of the step.

    Steps in the output layer alone have hollow marks and a line of their own: their gradient is that of fewer
    parameters, and must not be compared with that of all. Steps that were tried and not taken are crossed out.

    Parameters
    ----------
    trace : sequence of mappings
        Records of the steps, as ``unlearning_report_.trace`` holds them.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where the gradient norm is drawn.

    damping_ax_ : matplotlib Axes or None
        Where the damping is drawn; None if no step was damped.

    figure_ : matplotlib Figure
        The figure of both.

    Examples
    --------
    >>> from sk_unlearn.inspection import ForgetCurveDisplay
    >>> len(ForgetCurveDisplay([{"gradient_norm": 1.0, "damping": 0.1}, {"gradient_norm": 0.5, "damping": 0.1}]).trace)
    2
    """

    def __init__(self, trace: Sequence[Mapping[str, Any]]) -> None:
        self.trace: list[Mapping[str, Any]] = [record for record in trace if "gradient_norm" in record]
        if not self.trace:
            raise ValueError(
                f"trace has {len(trace)} records and none of them a 'gradient_norm'; only unlearners that follow the "
                "gradient of the objective, such as StoCuReNU, write one."
            )

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> ForgetCurveDisplay:
        """Draw the last request of an estimator.

        Parameters
        ----------
        estimator : unlearnable estimator, or Pipeline that ends in one
            It must have forgotten something.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        ForgetCurveDisplay
            Drawn.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If nothing was forgotten yet.
        ValueError
            If its unlearner records no gradient norm.
        """
        model = last_step(estimator)
        check_is_fitted(model, "unlearning_report_")
        return cls.from_report(model.unlearning_report_, ax=ax)

    @classmethod
    def from_report(cls, report: Any, *, ax: Any = None) -> ForgetCurveDisplay:
        """Draw the request that a report is about.

        Parameters
        ----------
        report : UnlearningReport
            Of the request.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        ForgetCurveDisplay
            Drawn.
        """
        return cls(report.trace).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> ForgetCurveDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        ForgetCurveDisplay
            This object.
        """
        ax = axes_or_new(ax, self)
        number = np.arange(1, len(self.trace) + 1)
        in_layer = np.array([record.get("block") == "output layer" for record in self.trace])
        norms = np.array([float(record["gradient_norm"]) for record in self.trace])
        blue, grey = COLOURS["after"], COLOURS["before"]
        for mask, label, face in (
            (in_layer, "in the output layer", "white"),
            (~in_layer, "gradient norm", blue),
        ):
            if mask.any():
                ax.plot(number[mask], norms[mask], "o-", color=blue, markerfacecolor=face, label=label)
        refused = np.array([not record.get("taken", True) for record in self.trace])
        if refused.any():
            ax.plot(number[refused], norms[refused], "kx", label="not taken")
        ax.set(xlabel="step", ylabel="gradient norm before the step", yscale="log")
        ax.xaxis.get_major_locator().set_params(integer=True)
        damping = np.array([float(record.get("damping", np.nan)) for record in self.trace])
        self.damping_ax_: Any = None
        handles = ax.get_legend_handles_labels()
        if (damping > 0).any():
            self.damping_ax_ = ax.twinx()
            shown = np.where(damping > 0, damping, np.nan)
            for mask in (in_layer, ~in_layer):
                self.damping_ax_.plot(number[mask], shown[mask], "s:", color=grey, markersize=4, label="_")
            self.damping_ax_.lines[-1 if (~in_layer).any() else 0].set_label("damping")
            self.damping_ax_.set(ylabel="damping", yscale="log")
            more = self.damping_ax_.get_legend_handles_labels()
            handles = tuple(a + b for a, b in zip(handles, more, strict=True))
        # Placed above the axes, since curves may run anywhere inside them.
        (self.damping_ax_ or ax).legend(
            *handles, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False
        )
        self.ax_: Any = ax
        self.figure_: Any = ax.figure
        return self
