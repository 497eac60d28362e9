"""Directions that no row uses any more, found from second moments, and what of a matrix lies in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["AxisKernel", "DeadDirections", "Kernel", "SpanKernel", "constant_columns", "unused_directions"]

# Rounding errors that add up are bounded by the sums at each addition; this is the room between a bound and an error.
_ROOM = 16.0
# Where rounding may hide more than this share of a direction's energy, nobody can tell whether rows still use it.
_TELLABLE = 1e-6
# A direction with less than this share of its columns' energy is one that no row uses, to rounding.
_NOTHING = 1e-11
# Of a floor for the diagonal of second moments, whose inverse root is a metric.
_FLOOR = 1e-6


class Kernel(Protocol):
    """A linear space of directions v."""

    def part(self, rows: Tensor, q: Tensor) -> Tensor:
        r"""Return what of each row lies in the space, projected orthogonally in the metric of q.

        Parameters
        ----------
        rows : float64 Tensor of shape (k, p)

        q : float64 Tensor of shape (p,)
            Ones for the plain metric. In general the rows are multiplied by :math:`q^{-1} \Pi q`, with Π the
            orthogonal projector onto :math:`q^{-1}` times the space.
        """


@dataclass(frozen=True)
class AxisKernel:
    """The span of the directions e_j - c_j e_last, one for each of some columns j.

    Attributes
    ----------
    columns : int64 Tensor of shape (k,)

    offsets : float64 Tensor of shape (k,) or None
        Each c_j; None where all are zero.
    """

    columns: Tensor
    offsets: Tensor | None = None

    def part(self, rows: Tensor, q: Tensor) -> Tensor:
        """Return what of each row lies in the span."""
        found = torch.zeros_like(rows)
        if self.offsets is None:
            found[:, self.columns] = rows[:, self.columns]
            return found
        q_columns, q_last = q[self.columns], q[-1]
        # The span of e_j - d_j e_last has the Gram matrix I + dd'.
        d = self.offsets * q_columns / q_last
        scaled = rows / q
        products = scaled[:, self.columns] - torch.outer(scaled[:, -1], d)
        coefficients = products - torch.outer(products @ d, d) / (1 + d @ d)
        found[:, self.columns] = coefficients * q_columns
        found[:, -1] = -(coefficients @ d) * q_last
        return found


@dataclass(frozen=True)
class SpanKernel:
    """The span of linearly independent columns.

    Attributes
    ----------
    basis : float64 Tensor of shape (p, k)
    """

    basis: Tensor

    def part(self, rows: Tensor, q: Tensor) -> Tensor:
        """Return what of each row lies in the span."""
        orthonormal = torch.linalg.qr(_unit_columns(self.basis / q[:, None])).Q
        return (rows / q) @ orthonormal @ orthonormal.T * q


class DeadDirections(NamedTuple):
    """Directions that some row used and no row uses any more.

    Attributes
    ----------
    before, after : Kernel
        All directions that no row used before, and that no row uses now.

    energy : float64 Tensor of shape (p,)
        Sum of squares in each column before.
    """

    before: Kernel
    after: Kernel
    energy: Tensor

    def part(self, rows: Tensor, *, adaptive: bool = False) -> Tensor:
        r"""Return what of each row lies in the dead directions.

        Parameters
        ----------
        rows : float64 Tensor of shape (k, p)

        adaptive : bool
            Project in the metric :math:`P = \operatorname{diag}(S)^{-1/2}` in which an optimiser moves that divides
            each gradient by its usual size; else in the plain one.
        """
        q = _root_of_metric(self.energy) if adaptive else torch.ones_like(self.energy)
        return self.after.part(rows, q) - self.before.part(rows, q)


def _root_of_metric(energy: Tensor) -> Tensor:
    return energy.clamp_min(max(_FLOOR * float(energy.max()), torch.finfo(energy.dtype).tiny)).pow(-0.25)


def _unit_columns(columns: Tensor) -> Tensor:
    return columns / columns.norm(dim=0).clamp_min(torch.finfo(columns.dtype).tiny)


def constant_columns(sums: Tensor, gone: Tensor, rounding: Tensor) -> DeadDirections | None:
    """Find the columns that vary over some rows and are constant over those that stay.

    Parameters
    ----------
    sums, gone : float64 Tensor of shape (2, p + 1)
        Over all rows, and over those that leave: of each column and of a one, and of their squares.

    rounding : float64 Tensor of shape (p + 1,)
        Bound of the rounding error in each sum of squares.

    Returns
    -------
    found : DeadDirections or None
        The directions e_j - c_j e_last, of columns that are now c_j everywhere; None where there are none.
    """
    noise = 2 * _ROOM * rounding[:-1]
    after = sums - gone
    n_after = float(after[0, -1])
    if n_after < 0.5:
        return None
    mean = after[0, :-1] / n_after
    left = after[1, :-1] - n_after * mean.square()
    energy = sums[1, :-1] - 2 * mean * sums[0, :-1] + sums[0, -1] * mean.square()
    was_constant = energy <= noise
    is_constant = left.abs() <= noise
    dead = is_constant & ~was_constant & (noise <= _TELLABLE * energy)
    if not bool(dead.any()):
        return None
    before, now = (torch.nonzero(mask).reshape(-1) for mask in (was_constant, was_constant | dead))
    return DeadDirections(AxisKernel(before, mean[before]), AxisKernel(now, mean[now]), sums[1].clamp_min(0))


def unused_directions(S: Tensor, gone: Tensor, rounding: Tensor, *, affine: bool) -> DeadDirections | None:
    r"""Find the directions v with :math:`v^\top S v > 0` and :math:`v^\top (S - G) v = 0`, to rounding.

    Parameters
    ----------
    S, gone : float64 Tensor of shape (p, p)
        Sums of the second moments of all rows, and G of those that leave.

    rounding : float64 Tensor of shape (p,)
        Bound of the rounding error in each entry of the diagonal of S.

    affine : bool
        Whether the last column is a one. The others are then centred first, which keeps their digits.

    Returns
    -------
    found : DeadDirections or None
        None where there are no such directions.

    Notes
    -----
    In such a direction the rows that leave have all of the energy: G has the eigenvalue 1 relative to S. The trace of
    G relative to S, one triangular factor away, is below that for a few rows of many, and then that is all that is
    computed.
    """
    frame = _Frame.of(S, rounding, affine=affine)
    if frame is None:
        return None
    all_rows, leaving = frame.moments(S), frame.moments(gone)
    ridge = 1e-9 * torch.eye(len(all_rows), dtype=S.dtype)
    factor, failed = torch.linalg.cholesky_ex(all_rows + ridge)
    if not int(failed) and float(torch.cholesky_solve(leaving, factor).diagonal().sum()) < 0.5:
        return None
    values, vectors = torch.linalg.eigh(all_rows)
    used = values > _NOTHING * len(values)
    whitening = vectors[:, used] / values[used].sqrt()
    shares, rotation = torch.linalg.eigh(whitening.T @ leaving @ whitening)
    candidates = frame.directions(whitening @ rotation[:, shares > 0.5])
    left = 1 - shares[shares > 0.5]
    noise = _ROOM * (candidates.abs() * rounding.sqrt()[:, None]).sum(0).square()
    dead = (left.abs() <= noise.clamp_min(_NOTHING)) & (noise <= _TELLABLE)
    if not bool(dead.any()):
        return None
    before = torch.cat([frame.constants, frame.directions(vectors[:, ~used])], dim=1)
    after = torch.cat([before, candidates[:, dead]], dim=1)
    energy = S.diagonal().clamp_min(0)
    return DeadDirections(SpanKernel(_unit_columns(before)), SpanKernel(_unit_columns(after)), energy)


@dataclass(frozen=True)
class _Frame:
    """Coordinates in which each column that varies has mean zero, where that is possible, and energy one.

    Attributes
    ----------
    mean : float64 Tensor of shape (p,)
        Of each column; zero for the last one, and for all where there is no one to centre by.

    scale : float64 Tensor of shape (k,)
        Root of the energy of each column that varies.

    varies : bool Tensor of shape (p,)
    """

    mean: Tensor
    scale: Tensor
    varies: Tensor

    @classmethod
    def of(cls, S: Tensor, rounding: Tensor, *, affine: bool) -> _Frame | None:
        """Return the frame of some second moments, or None where there is nothing to see in them."""
        mean = torch.zeros(len(S), dtype=S.dtype)
        if affine and float(S[-1, -1]) > 0:
            mean[:-1] = S[-1, :-1] / S[-1, -1]
        energy = S.diagonal() - S[-1, -1] * mean.square()
        varies = energy > 2 * _ROOM * rounding
        return cls(mean, energy[varies].sqrt(), varies) if bool(varies.any()) else None

    def moments(self, S: Tensor) -> Tensor:
        """Return second moments in these coordinates."""
        cross = torch.outer(self.mean, S[-1])
        centred = S - cross - cross.T + S[-1, -1] * torch.outer(self.mean, self.mean)
        return centred[self.varies][:, self.varies] / torch.outer(self.scale, self.scale)

    def directions(self, v: Tensor) -> Tensor:
        """Return directions that are given in these coordinates, as columns, in those of the input."""
        found = torch.zeros(len(self.mean), v.shape[1], dtype=v.dtype)
        found[self.varies] = v / self.scale[:, None]
        found[-1] -= self.mean @ found
        return found

    @property
    def constants(self) -> Tensor:
        """A direction for each column that does not vary, in which no row does."""
        found = torch.eye(len(self.mean), dtype=self.mean.dtype)
        found[-1] -= self.mean @ found
        return found[:, ~self.varies]
