"""ROC curves of membership attacks."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from sk_unlearn.metrics.membership import Attack, AttackResult, evaluate_attack, membership_attack
from sk_unlearn.utils._axes import COLOURS, axes_or_new

__all__ = ["MembershipRocDisplay"]


class MembershipRocDisplay:
    """ROC curve of a membership attack.

    A curve says something only beside that of a retrained model: draw both with the same `ax`. A curve *below* the
    retrained model's gives the erased rows away too: they look less familiar than they do to a retrained model.

    Parameters
    ----------
    result : AttackResult
        What an attack achieved.
    name : str, default=None
        Name of the attacked model, for the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of it.

    line_ : matplotlib artist
        The curve.

    Examples
    --------
    >>> from sk_unlearn.inspection import MembershipRocDisplay
    >>> from sk_unlearn.metrics.membership import evaluate_attack
    >>> MembershipRocDisplay(evaluate_attack([0.9, 0.8], [0.1, 0.2])).result.auc
    1.0
    """

    def __init__(self, result: AttackResult, *, name: str | None = None) -> None:
        self.result = result
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X_members: Any,
        y_members: ArrayLike,
        X_nonmembers: Any,
        y_nonmembers: ArrayLike,
        *,
        attack: Attack = "loss",
        name: str | None = None,
        ax: Any = None,
    ) -> MembershipRocDisplay:
        """Attack a fitted model and draw the curve.

        Parameters
        ----------
        estimator : classifier or regressor
            The attacked model.
        X_members, y_members, X_nonmembers, y_nonmembers : array-like
            See `sk_unlearn.metrics.membership.membership_attack`.
        attack : {"loss", "confidence", "entropy"}, default="loss"
            See `sk_unlearn.metrics.membership.membership_attack`; for others draw with `from_scores`.
        name : str, default=None
            For the legend; None for the name of the class.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        MembershipRocDisplay
            Drawn.
        """
        result = membership_attack(estimator, X_members, y_members, X_nonmembers, y_nonmembers, attack=attack)
        return cls(result, name=type(estimator).__name__ if name is None else name).plot(ax=ax)

    @classmethod
    def from_scores(
        cls,
        member_scores: ArrayLike,
        nonmember_scores: ArrayLike,
        *,
        name: str | None = None,
        ax: Any = None,
    ) -> MembershipRocDisplay:
        """Draw the curve of scores.

        Parameters
        ----------
        member_scores, nonmember_scores : array-like of shape (n_members,) and (n_nonmembers,)
            Higher means member.
        name : str, default=None
            For the legend.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.

        Returns
        -------
        MembershipRocDisplay
            Drawn.
        """
        return cls(evaluate_attack(member_scores, nonmember_scores), name=name).plot(ax=ax)

    def plot(self, *, ax: Any = None, name: str | None = None, log: bool = False) -> MembershipRocDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        name : str, default=None
            For the legend; None for the one given at first. "before", "after" and "retrained" have colours of their
            own.
        log : bool, default=False
            Whether both axes are logarithmic, to see the low false positive rates.

        Returns
        -------
        MembershipRocDisplay
            This object.
        """
        ax = axes_or_new(ax, self)
        name = self.name if name is None else name
        first = not ax.lines
        low, high = self.result.auc_interval
        label = f"AUC {self.result.auc:.2f} [{low:.2f}, {high:.2f}]"
        self.line_: Any = ax.plot(
            self.result.fpr_curve,
            self.result.tpr_curve,
            drawstyle="steps-post",
            color=COLOURS.get(str(name)),
            label=label if name is None else f"{name}: {label}",
        )[0]
        if first:
            ax.axline((0.5, 0.5), (1, 1), color="black", linewidth=0.8, linestyle=":") if not log else None
            ax.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        if log:
            lowest = 0.5 / max(self.result.n_members, self.result.n_nonmembers)
            ax.set(xscale="log", yscale="log", xlim=(lowest, 1.05), ylim=(lowest, 1.05))
        ax.legend(fontsize="small", loc="lower right")
        self.ax_: Any = ax
        self.figure_: Any = ax.figure
        return self
