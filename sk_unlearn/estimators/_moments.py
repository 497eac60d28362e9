"""Mean and variance of what a layer is given, a channel each: over rows, and as rows come and go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sk_unlearn.utils._float64 import double

__all__ = ["Moments", "followed"]


class Moments(NamedTuple):
    """How many values of each channel there are, their mean, and their variance (the unbiased one, as PyTorch keeps).

    Attributes
    ----------
    n : float
        Rows times positions.

    mean, var : Tensor of shape (n_channels,), float64
    """

    n: float
    mean: Tensor
    var: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """Return those of a tensor whose second axis are the channels."""
        values = double(values.detach().transpose(0, 1).flatten(1))
        n = values.shape[1]
        return cls(n, values.mean(1), values.var(1) if n > 1 else torch.zeros_like(values[:, 0]))

    @classmethod
    def pooled(cls, parts: Sequence[Moments]) -> Moments:
        """Return those of all values of several parts."""
        n = sum(part.n for part in parts)
        mean = sum((part.n / n * part.mean for part in parts), torch.zeros_like(parts[0].mean))
        squares = sum((part.squares_about(mean) for part in parts), torch.zeros_like(mean))
        return cls(n, mean, squares / max(n - 1, 1))

    def squares_about(self, point: Tensor) -> Tensor:
        """Return the sum of the squared distances of all values from a point."""
        return (self.n - 1) * self.var + self.n * (self.mean - point).square()

    def without(self, gone: Moments, n: float) -> tuple[Moments, bool]:
        """Return the moments of the n values that are left when some have gone, in closed form.

        Where more than half of a channel's squares goes, or all values do, it stays as it is: what is left is then a
        small difference of large numbers. The second value returned is false if there is such a channel.
        """
        if n <= 1:
            return self, False
        present = (n + gone.n - 1) * self.var
        left = present - gone.squares_about(self.mean)
        known = left >= 0.5 * present
        shift = gone.n / n * (self.mean - gone.mean)
        var = (left - n * shift.square()).clamp_min(0) / (n - 1)
        after = Moments(n, torch.where(known, self.mean + shift, self.mean), torch.where(known, var, self.var))
        return after, bool(known.all())


def followed(present: Moments, before: Moments, after: Moments, eps: float) -> Moments:
    """Return the moments after a change that was seen on other values.

    Both terms of the difference are estimates over the same values, so that what these are by chance cancels. Where a
    variance more than halves or doubles, the difference would be one of large numbers or of values that the present
    moments do not know; there the moments after the change stand themselves.

    Parameters
    ----------
    present : Moments
        Before the change.

    before, after : Moments
        Of the values that were looked at.

    eps : float
        What a layer adds to variances; below it they make no difference.
    """
    ratio = (after.var + eps) / (before.var + eps)
    # What is not finite is taken over, and found later.
    gradual = (ratio >= 0.5) & (ratio <= 2)
    var = (present.var + (after.var - before.var)).clamp_min(0)
    # The present variance may be less than that of these values.
    var = torch.maximum(var, 0.5 * ratio.clamp_max(1) * present.var)
    mean = present.mean + (after.mean - before.mean)
    return Moments(present.n, torch.where(gradual, mean, after.mean), torch.where(gradual, var, after.var))
