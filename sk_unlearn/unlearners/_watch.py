"""An eye on the loss of retained and of erased rows while an algorithm runs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.protocol import Risk
from sk_unlearn.unlearners.base import UnlearningProblem
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._lazy import cached_property

__all__ = ["AT_CHANCE", "TOO_DEAR", "Watch", "stored_part"]

# Retained rows on which the loss is watched: enough for its mean, few enough to cost less than a pass.
_WATCHED_ROWS = 1024
# A rise of the retained loss by this share of what training has gained over a constant prediction is a marked one.
_MARKED_RISE = 0.1
# An algorithm that can stop in time stops before this share.
_TOLERATED_RISE = 0.01

# Why a method that pushes the erased rows' loss up to chance ends.
AT_CHANCE = "the erased rows' loss reached chance"
TOO_DEAR = "a further step would have raised the loss on retained rows markedly"


def stored_part(risk: Risk) -> EmpiricalRisk:
    """Return the risk over the stored rows that stay, without what a rectification adds or a foreign row takes away."""
    stored = getattr(risk, "stored", None)
    if stored is None:
        raise TypeError(f"problem.retained must be a risk over stored rows, got {type(risk).__name__}.")
    return stored


class Watch:
    """The loss of erased and of retained rows along the way.

    The scale is what training has gained: the loss on retained rows if each got the mean output, which knows nothing
    of the row, less their loss at the fitted parameters.

    Parameters
    ----------
    problem : UnlearningProblem
        Whose retained rows are stored.

    after : Risk or None
        That of the net that comes out over the same retained rows, where it has buffers of its own.
    """

    def __init__(self, problem: UnlearningProblem, after: Risk | None = None) -> None:
        self._after = problem.retained if after is None else after
        self._retained, self._erased, self._fitted = problem.retained, problem.erased, problem.parameters
        self._stored = stored_part(problem.retained)
        self._rows = self._stored.sample(_WATCHED_ROWS, problem.rng)

    @cached_property
    def _before(self) -> float:
        return self._retained.value(self._fitted, self._rows)

    @cached_property
    def _mean_output(self) -> Tensor:
        return self._stored.outputs(self._fitted, self._rows).mean(0)

    @cached_property
    def _fitted_loss(self) -> float:
        return self._stored.without_penalty(self._fitted, self._stored.value(self._fitted, self._rows))

    @cached_property
    def _constant_loss(self) -> float:
        return self._stored.value_at_output(self._mean_output, self._rows)

    @property
    def _gained(self) -> float:
        return self._constant_loss - self._fitted_loss

    @property
    def share_left(self) -> float:
        """Loss on the watched rows at the fitted parameters, over that if each got the mean output."""
        return self._fitted_loss / self._constant_loss if self._constant_loss > 0 else float("inf")

    @cached_property
    def chance(self) -> float:
        """The loss of the erased rows if each got the mean output."""
        return self._erased.value_at_output(self._mean_output)

    def retained_loss(self, w: Tensor) -> float:
        """Return the risk on the watched rows."""
        return self._after.value(w, self._rows)

    def erased_loss(self, w: Tensor) -> float:
        """Return the mean loss of the erased rows, without penalty."""
        return self._erased.without_penalty(w, self._erased.value(w))

    def losses(self, w: Tensor) -> dict[str, Any]:
        """Return both losses, as a trace names them."""
        return {"erased_loss": self.erased_loss(w), "retained_loss": self.retained_loss(w)}

    def harms(self, w: Tensor, share: float = _TOLERATED_RISE) -> bool:
        """Tell whether the retained loss has risen by more than a share of what training has gained."""
        return not self.retained_loss(w) - self._before <= share * max(self._gained, 0.0)

    def verdict(self, w: Tensor, status: Status, reason: str) -> tuple[Status, str]:
        """Return status and stop_reason as given, or ``HARMED_RETAINED`` if the retained loss has risen markedly."""
        if not self.harms(w, _MARKED_RISE):
            return status, reason
        change = f"{self._before:.3g} to {self.retained_loss(w):.3g}"
        return Status.HARMED_RETAINED, f"{reason}; but the loss on retained rows rose markedly, from {change}"
