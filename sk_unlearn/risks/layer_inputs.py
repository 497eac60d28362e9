"""What rows put into each linear map of a module, as sums from which rows can be subtracted exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from sk_unlearn.solvers.dead_directions import AxisKernel, DeadDirections, constant_columns, unused_directions
from sk_unlearn.utils._lazy import cached_property
from sk_unlearn.utils._numpy_state import NumpyStateMixin

__all__ = ["DeadInputs", "InputChange", "LayerInputs", "MapInputs", "Place", "Sums"]

# A float64 sum is off by at most this share of itself after one more addition.
_UNIT = 2.0**-53


class Place(NamedTuple):
    """Where the matrix of a linear map lies among the parameters.

    Attributes
    ----------
    parameter : int
        Number of the weight among the trainable parameters, in the order of ``named_parameters()``.

    axis : int
        The axis of the weight that is multiplied with the input.

    first, last : int
        Which entries of the weight's axis 0 belong to the map, where the input is along another.
    """

    parameter: int
    axis: int
    first: int
    last: int

    def matrix(self, parts: Sequence[Tensor], bias: int | None) -> Tensor:
        """Return the map as a float64 matrix, one column an input and one for the bias, from parts of a flat vector."""
        weight = self._of(parts[self.parameter]).movedim(self.axis, -1)
        rows = weight.reshape(-1, weight.shape[-1]).double()
        return rows if bias is None else torch.cat([rows, self._of(parts[bias]).reshape(-1, 1).double()], dim=1)

    def put(self, matrix: Tensor, parts: Sequence[Tensor], bias: int | None) -> None:
        """Write a matrix into parts of a flat vector, in place."""
        weight = self._of(parts[self.parameter]).movedim(self.axis, -1)
        weight.copy_(matrix[:, : weight.shape[-1]].reshape(weight.shape))
        if bias is not None:
            self._of(parts[bias]).copy_(matrix[:, -1])

    def _of(self, part: Tensor) -> Tensor:
        return part if self.axis == 0 else part[self.first : self.last]


@dataclass(frozen=True)
class Sums(NumpyStateMixin):
    """Sums over what rows put into one linear map: counts, or moments.

    Attributes
    ----------
    uses : int64 Tensor of shape (p,) or None
        Where the input depends on parameters, how often each of its entries was not zero; for an embedding, how often
        each row of its table was looked up.

    moments : float64 Tensor or None
        Where the input does not: of shape (p + 1, p + 1), the second moments of its entries and a one; or of a wide
        one, of shape (2, p + 1), these and their squares.

    rounding : float64 Tensor of shape (p + 1,) or None
        Bound of the rounding error in each sum of squares.
    """

    uses: Tensor | None
    moments: Tensor | None = None
    rounding: Tensor | None = None

    def plus(self, other: Sums, sign: int = 1) -> Sums:
        """Return the sums over these rows and others, or with a sign of -1 over these without others."""
        if self.moments is None or self.rounding is None or other.moments is None or other.rounding is None:
            assert self.uses is not None
            assert other.uses is not None
            return Sums(self.uses + sign * other.uses)
        moments = self.moments + sign * other.moments
        largest = torch.maximum(squares_of(self.moments), squares_of(moments))
        return Sums(None, moments, self.rounding + other.rounding + _UNIT * largest)

    def moved(self, rho: Tensor, delta: Tensor, inexact: Tensor) -> Sums:
        """Return the sums over ``(x - delta) / rho`` of inputs x whose moments are known.

        Parameters
        ----------
        rho, delta : float64 Tensor of shape (p,)

        inexact : float64 Tensor of shape (p,)
            By how much the sums of squares of rows that will be subtracted may be off.
        """
        assert self.moments is not None
        assert self.rounding is not None
        one = rho.new_ones(1)
        by, offset = torch.cat([1 / rho, one]), torch.cat([-delta / rho, 0 * one])
        if self.moments.shape[0] == self.moments.shape[1]:
            T = torch.diag(by)
            T[:, -1] += offset
            moments = T @ self.moments @ T.T
        else:
            sums, squares = self.moments
            moments = torch.stack(
                [by * sums + offset * sums[-1], by**2 * squares + offset * (2 * by * sums + offset * sums[-1])]
            )
        size = by**2 * squares_of(self.moments) + offset**2 * squares_of(self.moments)[-1]
        rounding = by**2 * self.rounding + 16 * _UNIT * size + torch.cat([inexact, 0 * one])
        return Sums(None, moments, rounding)

    def is_like(self, other: Sums) -> bool:
        """Whether both are of one kind, so that they can be added."""
        return (self.uses is None) == (other.uses is None)

    def cover(self, gone: Sums) -> bool:
        """Whether others can be a part of these."""
        if self.uses is not None and gone.uses is not None:
            return not bool((gone.uses > self.uses).any())
        assert self.moments is not None
        assert gone.moments is not None
        left = squares_of(self.moments) - squares_of(gone.moments)
        return bool((left >= -self._noise).all())

    def dead(self, gone: Sums, *, with_bias: bool) -> DeadDirections | None:
        """Return the directions that none but rows that leave used; None where there are none.

        Parameters
        ----------
        gone : Sums
            Over the rows that leave.

        with_bias : bool
            Whether the bias is multiplied by a one beside these inputs, and takes part in the directions.
        """
        if self.uses is not None and gone.uses is not None:
            return _columns((self.uses > 0) & (self.uses == gone.uses), with_bias=with_bias)
        assert self.moments is not None
        assert self.rounding is not None
        assert gone.moments is not None
        if self.moments.shape[0] == self.moments.shape[1]:
            end = None if with_bias else -1
            return unused_directions(
                self.moments[:end, :end], gone.moments[:end, :end], self.rounding[:end], affine=with_bias
            )
        if with_bias:
            return constant_columns(self.moments, gone.moments, self.rounding)
        before, left = (squares[:-1] for squares in (self.moments[1], self.moments[1] - gone.moments[1]))
        return _columns((before > 1e6 * self._noise[:-1]) & (left <= self._noise[:-1]), with_bias=False)

    def uses_beside(self, staying: Sums, *, with_bias: bool) -> tuple[Tensor, Tensor]:
        """Return how much these rows use each entry of the input, and how much the rows that stay do.

        An entry is used as often as it was counted; where moments are known, as much as it differs from its mean over
        the rows that stay, since a bias takes what is the same in all of these.

        Parameters
        ----------
        staying : Sums
            Of one kind with these, over the rows that stay.

        with_bias : bool
            Whether there is a bias; else an entry is used as much as it differs from zero.
        """
        if self.uses is not None and staying.uses is not None:
            return self.uses.double(), staying.uses.double()
        totals = staying._totals
        mean = totals / staying._n_rows.clamp_min(1) if with_bias else torch.zeros_like(totals)
        return self._spread_around(mean), staying._spread_around(mean)

    @property
    def _totals(self) -> Tensor:
        assert self.moments is not None
        is_whole = self.moments.shape[0] == self.moments.shape[1]
        return self.moments[:-1, -1] if is_whole else self.moments[0, :-1]

    @property
    def _n_rows(self) -> Tensor:
        assert self.moments is not None
        return self.moments[-1, -1]

    def _spread_around(self, centre: Tensor) -> Tensor:
        """Return the sum of squared differences from a centre, zero where it is one of rounding only."""
        assert self.moments is not None
        squares = squares_of(self.moments)[:-1]
        spread = squares - 2 * centre * self._totals + self._n_rows * centre**2
        return spread.where(spread > self._noise[:-1], torch.zeros_like(spread))

    @property
    def _noise(self) -> Tensor:
        assert self.rounding is not None
        return 16 * self.rounding


def squares_of(moments: Tensor) -> Tensor:
    """Return the sums of squares among moments of either shape."""
    return (moments.diagonal() if moments.shape[0] == moments.shape[1] else moments[1]).clamp_min(0)


def _columns(dead: Tensor, *, with_bias: bool) -> DeadDirections | None:
    """Return single columns as dead directions."""
    columns = torch.nonzero(dead).reshape(-1)
    if not len(columns):
        return None
    energy = torch.ones(len(dead) + with_bias, dtype=torch.float64)
    return DeadDirections(AxisKernel(columns[:0]), AxisKernel(columns), energy)


@dataclass(frozen=True)
class MapInputs:
    """What rows put into one linear map.

    Attributes
    ----------
    place : Place

    bias : int or None
        Number of the bias, where it belongs to this map alone.

    steady : bool
        Whether the input is the same whatever the parameters and running statistics are.

    sums : Sums
    """

    place: Place
    bias: int | None
    steady: bool
    sums: Sums


class DeadInputs(NamedTuple):
    """Directions of the input of one map that none but rows that leave used."""

    map: MapInputs
    directions: DeadDirections


@dataclass(frozen=True)
class LayerInputs:
    """What rows put into the linear maps of a module.

    Attributes
    ----------
    maps : tuple of MapInputs
        Of all weights that enter linear maps and nothing else.

    complete : bool
        Whether those are all; else only steady maps.
    """

    maps: tuple[MapInputs, ...]
    complete: bool = True

    def plus(self, other: LayerInputs, sign: int = 1) -> LayerInputs:
        """Return that of these rows and others, or with a sign of -1 of these without others."""
        known = {each.place: each.sums for each in other.maps}
        maps = []
        for each in self.maps:
            theirs = known.get(each.place)
            if theirs is None:
                maps.append(each)
            elif each.sums.is_like(theirs):
                maps.append(replace(each, sums=each.sums.plus(theirs, sign)))
        return replace(self, maps=tuple(maps))

    def minus(self, other: LayerInputs) -> LayerInputs:
        """Return that of these rows without others that are among them."""
        return self.plus(other, -1)

    @property
    def steady(self) -> LayerInputs:
        """What still holds when parameters or running statistics have moved."""
        return LayerInputs(tuple(each for each in self.maps if each.steady), complete=False)

    def moved(self, parameters: Sequence[int], rho: Tensor, delta: Tensor, inexact: Tensor) -> LayerInputs:
        """Return what is known once what enters the maps of some weights is ``(x - delta) / rho`` in place of x.

        Parameters
        ----------
        parameters : sequence of int
            Numbers of the weights.

        rho, delta, inexact
            As for :meth:`Sums.moved`.
        """
        moved = tuple(
            replace(each, sums=each.sums.moved(rho, delta, inexact))
            for each in self.maps
            if each.steady and each.place.parameter in parameters and each.sums.moments is not None
        )
        return LayerInputs(moved, complete=False)

    def reordered(self, orders: Mapping[int, Tensor]) -> LayerInputs:
        """Return it once the rows of tables that are looked up stand in another order.

        Parameters
        ----------
        orders : mapping from int to int64 Tensor
            For the number of a weight, which old row each new one was.
        """
        maps = []
        for each in self.maps:
            order, sums = orders.get(each.place.parameter), each.sums
            if order is not None and sums.uses is not None:
                sums = replace(sums, uses=sums.uses[order])
            maps.append(replace(each, sums=sums))
        return replace(self, maps=tuple(maps))

    def covers(self, gone: LayerInputs) -> bool:
        """Whether other rows can be among these."""
        return all(each.sums.cover(theirs) for each, theirs in self._pairs(gone) if each.steady)

    def dead(self, gone: LayerInputs) -> list[DeadInputs]:
        """Return the directions of each map that none but rows that leave used, for maps that have any."""
        found = []
        for each, theirs in self._pairs(gone):
            directions = each.sums.dead(theirs, with_bias=each.bias is not None)
            if directions is not None:
                found.append(DeadInputs(each, directions))
        return found

    def rule_out(self, gone: LayerInputs) -> bool:
        """Whether these rows alone show that others have no direction to themselves in maps that are not steady.

        Parameters
        ----------
        gone : LayerInputs
            Of other rows, none of which is among these.
        """
        known = {each.place: each.sums for each in self.maps}
        for each in gone.maps:
            mine = known.get(each.place)
            if each.steady:
                continue
            if mine is None or not mine.is_like(each.sums):
                return False
            if mine.plus(each.sums).dead(each.sums, with_bias=each.bias is not None) is not None:
                return False
        return True

    def _pairs(self, other: LayerInputs) -> list[tuple[MapInputs, Sums]]:
        """Return each map with the sums that others have of it."""
        known = {each.place: each.sums for each in other.maps}
        pairs = [(each, known[each.place]) for each in self.maps if each.place in known]
        return [(each, theirs) for each, theirs in pairs if each.sums.is_like(theirs)]


@dataclass(frozen=True)
class InputChange:
    """What a request changes of that.

    Attributes
    ----------
    known : LayerInputs or None
        Of all rows before the request, as far as it is known.

    gone, added : LayerInputs or None
        Of the rows that leave, and of those that come: with their new content, or because they had not been counted.

    take : callable or None
        Takes it over all rows before the request; None where they are not at hand.

    look : callable or None
        Takes it over some of the rows that stay.
    """

    known: LayerInputs | None
    gone: LayerInputs | None
    added: LayerInputs | None = None
    take: Callable[[], LayerInputs | None] | None = None
    look: Callable[[], LayerInputs | None] | None = None

    @cached_property
    def before(self) -> LayerInputs | None:
        """Of all rows that leave, stay or come; taken now where it is not known."""
        if (self.known is None or not self.known.complete) and self.take is not None:
            return self._with_added(self.take())
        return self._with_added(self.known)

    def _with_added(self, inputs: LayerInputs | None) -> LayerInputs | None:
        return inputs if inputs is None or self.added is None else inputs.plus(self.added)

    def dead(self) -> list[DeadInputs]:
        """Return the directions of each map that none but the rows that leave used."""
        if self.gone is None:
            return []
        before = self._with_added(self.known) if self._needs_no_pass(self.gone) else self.before
        return [] if before is None or not before.covers(self.gone) else before.dead(self.gone)

    def _needs_no_pass(self, gone: LayerInputs) -> bool:
        """Tell whether some rows that stay show that what is not known of the others makes no difference.

        Steady maps are known. In the others a direction is dead only if no row that stays uses it, and for most
        requests a few hundred rows use every direction that the rows that leave do.
        """
        if self.known is None or self.known.complete or self.look is None:
            return False
        known = {each.place for each in self.known.maps}
        if any(each.steady and each.place not in known for each in gone.maps):
            return False
        some = self.look()
        return some is not None and some.rule_out(gone)

    def after(self, *, features_moved: bool) -> LayerInputs | None:
        """Return what is known of the rows that stay, after the request.

        Parameters
        ----------
        features_moved : bool
            Whether what layers make of these rows has changed.
        """
        before = self.before if "before" in vars(self) else self._with_added(self.known)
        if before is None or self.gone is None or not before.covers(self.gone):
            return None
        after = before.minus(self.gone)
        return after.steady if features_moved else after
