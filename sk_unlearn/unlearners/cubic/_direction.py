"""The direction of a step: the cubic model around a point, by the solver asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sk_unlearn.solvers import (
    CubicStep,
    DenseCubicModel,
    KrylovCubicModel,
    KrylovSpace,
    lanczos,
    solve_gradient_descent,
)
from sk_unlearn.unlearners.cubic._policy import Policy
from sk_unlearn.utils._random import torch_generator

__all__ = ["Dense", "Direction", "GradientDescent", "Krylov", "SolvableModel"]

Product = Callable[[Tensor], Tensor]


class SolvableModel(Protocol):
    """The cubic model around one point, which can be minimised for one L after the other.

    Attributes
    ----------
    n_products : int
        Hessian-vector products spent so far.
    """

    n_products: int

    @property
    def spectrum(self) -> tuple[Tensor, Tensor] | None:
        """Eigenvalues of the Hessian as far as they are known, and the gradient's coefficients along their vectors."""

    def solve(self, L: float) -> CubicStep:
        """Minimise the model."""


class HasGradient(Protocol):
    """What knows the gradient at a point, and may make it anew each time that it is asked."""

    @property
    def gradient(self) -> Tensor:
        """The gradient, of shape (d,)."""


class Direction(Protocol):
    """A solver: makes the cubic model around a point."""

    def model(self, product: Product, at: HasGradient, L: float | None) -> SolvableModel:
        """Return the model.

        Parameters
        ----------
        product : callable
            Multiplies the Hessian with a vector.

        at : HasGradient
            The point; not the gradient itself, so that none is held while products are taken.

        L : float or None
            The weight that will be tried first, if it is known.
        """


class _Decomposed:
    """A model whose Hessian is decomposed: trying another L costs no product."""

    def __init__(self, model: DenseCubicModel | KrylovCubicModel, n_products: int) -> None:
        self.solve, self.n_products = model.solve, n_products
        self.spectrum = model.spectrum


@dataclass(frozen=True)
class Dense:
    """The exact minimiser, from the full Hessian: d products and O(d²) memory."""

    def model(self, product: Product, at: HasGradient, L: float | None) -> SolvableModel:
        """Build the Hessian column by column and decompose it."""
        gradient = at.gradient
        H, unit = gradient.new_empty(len(gradient), len(gradient)), torch.zeros_like(gradient)
        for i in range(len(gradient)):
            unit[i] = 1
            H[i] = product(unit)
            unit[i] = 0
        return _Decomposed(DenseCubicModel((H + H.T) / 2, gradient), len(gradient))


@dataclass(frozen=True)
class Krylov:
    """The minimiser in a Krylov space.

    Attributes
    ----------
    n_products : int
        Most dimensions of the space.

    inexact : float or None
        Stop growing the space when the residual of the model is this share of the gradient; None: never.

    check_every : int
        How often the residual is looked at, in products: each look solves a small eigenproblem.

    first_products : int or None
        Dimensions where no L is known yet, which few products are enough to choose; None for `n_products`.
    """

    n_products: int
    inexact: float | None = None
    check_every: int = 1
    first_products: int | None = None

    def model(self, product: Product, at: HasGradient, L: float | None) -> SolvableModel:
        """Grow the space, and decompose the Hessian in it."""
        most = self.n_products
        if L is None and self.first_products is not None:
            most = min(most, self.first_products)

        def is_solved(space: KrylovSpace) -> bool:
            if self.inexact is None or L is None or space.n_products % self.check_every:
                return False
            return KrylovCubicModel(space).residual(L) <= self.inexact * space.start_norm

        space = lanczos(product, at.gradient, most, stop=is_solved)
        # The space does not grow any more.
        return _Decomposed(KrylovCubicModel(replace(space, next_direction=None)), space.n_products)


@dataclass(frozen=True)
class GradientDescent:
    """Gradient descent on the model from the Cauchy point, as published: the least memory, and products for each L.

    Attributes
    ----------
    n_steps : int

    learning_rate : float

    sigma : float
        Size of the perturbation that leaves a saddle point.

    rng : numpy.random.Generator
        Draws the perturbation.
    """

    n_steps: int
    learning_rate: float
    sigma: float
    rng: np.random.Generator

    def model(self, product: Product, at: HasGradient, L: float | None) -> SolvableModel:
        """Return the model; nothing is computed yet."""
        return _Descended(self, product, at.gradient)


class _Descended:
    """A model that is minimised anew for each L."""

    spectrum = None

    def __init__(self, settings: GradientDescent, product: Product, gradient: Tensor) -> None:
        self._settings, self._product, self._gradient = settings, product, gradient
        self._generator = torch_generator(settings.rng, gradient.device)
        self.n_products = 0

    def solve(self, L: float) -> CubicStep:
        step = solve_gradient_descent(
            self._product, self._gradient, L, n_steps=self._settings.n_steps,
            learning_rate=self._settings.learning_rate, sigma=self._settings.sigma, generator=self._generator,
        )  # fmt: skip
        self.n_products += step.n_products
        return step


def krylov(policy: Policy, n_products: int, *, at_optimum: bool) -> Krylov:
    """Return the Krylov solver for steps in the whole network.

    Parameters
    ----------
    policy : Policy

    n_products : int

    at_optimum : bool
        Whether training ended at an optimum: then a space that may be large grows only as far as the step needs.
    """
    if not at_optimum:
        return Krylov(n_products)
    return Krylov(n_products, policy.wide_inexact, policy.wide_check_every, policy.narrow_products)
