"""A risk with a linear term: what a deletion minimises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sk_unlearn.risks.protocol import Linearised, Risk
from sk_unlearn.utils._lazy import cached_property

__all__ = ["TiltedLinearisation", "TiltedRisk"]


class TiltedRisk:
    r"""A risk less a linear term, :math:`\Phi(w) = F(w) - r^\top w`.

    Training leaves a gradient r that is not zero. Descending F from where training ended would also descend what r
    says, which is more training and not unlearning. At a minimum of Φ the gradient of F is r again.

    Parameters
    ----------
    risk : Risk
        F, over the rows that count after the change.

    tilt : Tensor of shape (d,)
        r.

    start : Tensor of shape (d,), or callable
        Parameters at which the gradient of F is known without visiting rows; a callable is asked for them each time, so
        that they need not be held here.

    risk_gradient : Tensor of shape (d,), or callable
        The gradient of F there.

    share : float, default=1.0
        What the linear term is multiplied by.

    Attributes
    ----------
    tilt : Tensor of shape (d,)
        The linear term, as it counts: multiplied anew each time, so that it is not kept beside r.

    gradient_at_start : Tensor of shape (d,)
        The gradient of Φ at ``start``.
    """

    def __init__(
        self,
        risk: Risk,
        tilt: Tensor,
        *,
        start: Tensor | Callable[[], Tensor],
        risk_gradient: Tensor | Callable[[], Tensor],
        share: float = 1.0,
    ) -> None:
        self.risk: Risk = risk
        self._whole_tilt, self._share = tilt, share
        self._start, self._risk_gradient = start, risk_gradient

    @property
    def start(self) -> Tensor:
        """Parameters at which the gradient of F is known."""
        return self._start if isinstance(self._start, Tensor) else self._start()

    @property
    def risk_gradient(self) -> Tensor:
        """The gradient of F there."""
        return self._risk_gradient if isinstance(self._risk_gradient, Tensor) else self._risk_gradient()

    @property
    def tilt(self) -> Tensor:
        """The linear term r."""
        return self._whole_tilt if self._share == 1 else self._whole_tilt * self._share

    @property
    def gradient_at_start(self) -> Tensor:
        """The gradient of Φ at ``start``, subtracted anew each time: a vector as long as the parameters is not kept."""
        return self.risk_gradient - self.tilt

    @cached_property
    def gradient_norm_at_start(self) -> float:
        """The norm of the gradient of Φ at ``start``."""
        return float(self.gradient_at_start.norm())

    def with_tilt(self, tilt: Tensor) -> TiltedRisk:
        """Return the same risk with another linear term."""
        return TiltedRisk(self.risk, tilt, start=self._start, risk_gradient=self._risk_gradient)

    def with_share_of_tilt(self, share: float) -> TiltedRisk:
        """Return the same risk with a share of the linear term."""
        return TiltedRisk(
            self.risk, self._whole_tilt, start=self._start, risk_gradient=self._risk_gradient, share=self._share * share
        )

    @cached_property
    def is_stationary_at_start(self) -> bool:
        """Whether the gradient of Φ at ``start`` is no more than rounding leaves of a difference of gradients."""
        tilt = self.tilt
        rounding = torch.finfo(tilt.dtype).eps * float(tilt.norm())
        return self.gradient_norm_at_start <= rounding

    @property
    def n_rows(self) -> int:
        """Number of rows in the mean."""
        return self.risk.n_rows

    @property
    def mass(self) -> float:
        """Sum of the weights of those rows."""
        return self.risk.mass

    def sample(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw row numbers uniformly without replacement."""
        return self.risk.sample(size, rng)

    def value(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> float:
        """Evaluate Φ at w, of shape (d,), over the given rows, all by default."""
        return self.risk.value(w, rows) - float(self.tilt @ w)

    def gradient(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> Tensor:
        """Return the gradient of Φ at w, of shape (d,)."""
        return self.risk.gradient(w, rows) - self.tilt

    def linearise(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> TiltedLinearisation:
        """Differentiate at w and keep what further products need."""
        return TiltedLinearisation(self.risk.linearise(w, rows), self, w)


@dataclass(frozen=True)
class TiltedLinearisation:
    """A tilted risk around one point. A linear term has no curvature: products are those of the risk itself.

    Attributes
    ----------
    of_risk : Linearised
        The risk without its linear term.
    """

    of_risk: Linearised
    tilted: TiltedRisk
    w: Tensor

    @property
    def value(self) -> float:
        """The value of Φ."""
        return self.of_risk.value - float(self.tilted.tilt @ self.w)

    @property
    def gradient(self) -> Tensor:
        """The gradient of Φ."""
        return self.of_risk.gradient - self.tilted.tilt

    def hessian(self, v: Tensor) -> Tensor:
        """Multiply the Hessian with v, both of shape (d,)."""
        return self.of_risk.hessian(v)

    def ggn(self, v: Tensor) -> Tensor:
        """Multiply the generalised Gauss-Newton matrix with v."""
        return self.of_risk.ggn(v)

    def fisher(self, v: Tensor) -> Tensor:
        """Multiply the Fisher matrix with v."""
        return self.of_risk.fisher(v)
