"""Minimisers of the cubic model ``m(s) = g.s + 1/2 s.H s + (L/6) ||s||^3``.

A point is a global minimiser if and only if ``(H + alpha I) s = -g`` with ``alpha = (L/2) ||s||`` and ``H + alpha I``
positive semi-definite (Nesterov and Polyak, *Cubic regularization of Newton method and its global performance*, 2006,
section 5; Cartis, Gould and Toint, *Adaptive cubic regularisation methods I*, 2011, theorem 3.1). So one scalar has to
be found, and ``alpha`` is the damping that a damped Newton step would need tuned by hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sk_unlearn.solvers.lanczos import (
    KrylovSpace,
    Product,
    apply,
    check_count,
    checked_norm,
    direction_of,
    extremes,
    lanczos,
    norm_of,
)

_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False)
class CubicStep:
    """A step on the cubic model, and what is known about it.

    Attributes
    ----------
    step : Tensor of shape (d,)
        ``s``, in the dtype and on the device of the gradient.
    damping : float
        ``alpha = (L/2) ||s||``, in the units of the curvature.
    decrease : float
        ``-m(s)``, what the model promises. Never negative for the solvers that minimise globally.
    norm : float
        ``||s||``.
    residual : float
        ``||(H + alpha I) s + g||``, how far the step is from a stationary point of the model.
    hard_case : bool
        Whether ``alpha`` is ``-lambda_min`` to rounding: then ``||s||`` and not ``g`` fixes the part of the step along
        the lowest eigenvector, and the sign of that part is arbitrary.
    n_products : int
        Products with ``H`` spent on the step, those of a given Krylov space included.
    """

    step: Tensor
    damping: float
    decrease: float
    norm: float
    residual: float
    hard_case: bool
    n_products: int

    def __post_init__(self) -> None:
        numbers = (self.damping, self.decrease, self.norm, self.residual)
        if not all(map(math.isfinite, (*numbers, *extremes(self.step)))):
            raise FloatingPointError(
                f"the cubic step is not finite in {self.step.dtype}: damping {self.damping:.3g}, "
                f"decrease {self.decrease:.3g}, norm {self.norm:.3g}, residual {self.residual:.3g}."
            )


def minimise_spectral(eigenvalues: Tensor, coefficients: Tensor, L: float) -> tuple[Tensor, float, bool]:
    """Minimise the cubic model globally in the eigenbasis of its Hessian.

    With ``c`` the coefficients of the gradient, find ``alpha >= max(0, -lambda_min)`` with
    ``||c / (lambda + alpha)|| = 2 alpha / L`` by a safeguarded Newton iteration. The unknown is the distance of
    ``alpha`` from the left end of that range, not ``alpha``: so the hard case and its neighbourhood lose no digits.

    Parameters
    ----------
    eigenvalues : Tensor of shape (n,)
        Taken as exact, in any order.
    coefficients : Tensor of shape (n,)
        The gradient in the same eigenbasis.
    L : float
        Positive weight of the cubic term.

    Returns
    -------
    step : Tensor of shape (n,), float64 on the CPU
        Coefficients of the minimiser in the eigenbasis.
    damping : float
        ``alpha``.
    hard_case : bool
        See :class:`CubicStep`.

    Raises
    ------
    ValueError
        If `L` is not positive, or the two vectors are empty, not finite, or of different lengths.
    FloatingPointError
        If the step overflows.
    """
    L = _check_L(L)
    if eigenvalues.ndim != 1 or eigenvalues.shape != coefficients.shape or eigenvalues.numel() == 0:
        raise ValueError(
            "eigenvalues and coefficients must be vectors of the same length, at least 1; got shapes "
            f"{tuple(eigenvalues.shape)} and {tuple(coefficients.shape)}."
        )
    curvature = _check_finite("eigenvalues", eigenvalues.detach().cpu().double())
    gradient = _check_finite("coefficients", coefficients.detach().cpu().double())

    # In these units L is 1 and no number is above 4: nothing overflows, and squares underflow only where negligible.
    # The unit of curvature is a power of two, so that changing to it does not round the eigenvalues.
    largest = max(float(curvature.abs().max()), math.sqrt(L) * math.sqrt(float(gradient.abs().max())))
    if largest == 0.0:
        return torch.zeros_like(gradient), 0.0, False
    unit = math.ldexp(0.5, math.frexp(largest)[1])
    curvature = curvature / unit
    gradient = (gradient / unit) * (L / unit)

    least_damping = max(0.0, -float(curvature.min()))
    shifted = curvature + least_damping
    excess = _excess_damping(shifted, gradient, least_damping)
    step = torch.where(gradient == 0, 0.0, -gradient / (shifted + excess))
    if excess == 0.0 and least_damping > 0.0:
        wanted, found = 2 * least_damping, norm_of(step)
        step[shifted.argmin()] = math.sqrt(max(0.0, (wanted - found) * (wanted + found)))
    hard_case = least_damping > 0.0 and excess <= _rounding(curvature, _EPS)

    step *= unit / L
    damping = (least_damping + excess) * unit
    if not (math.isfinite(damping) and bool(torch.isfinite(step).all())):
        raise FloatingPointError(f"the minimiser of the cubic model overflows: damping {damping:.3g}, L {L:.3g}.")
    return step, damping, hard_case


def _excess_damping(shifted: Tensor, gradient: Tensor, least: float) -> float:
    """Root ``t >= 0`` of ``||gradient / (shifted + t)|| = 2 (least + t)``; 0 where the left side is smaller already.

    `shifted` is not negative. The difference of reciprocals ``1/||s|| - 1/(2 alpha)`` is concave and increasing in
    ``t`` (Cartis, Gould and Toint 2011, section 6.1): Newton from the left of the root climbs without overshooting.
    """
    active = gradient != 0
    shifted, gradient = shifted[active], gradient[active].abs()
    if gradient.numel() == 0 or (float(shifted.min()) > 0.0 and norm_of(gradient / shifted) <= 2 * least):
        return 0.0

    # Each coefficient alone bounds the root from below, by a quadratic equation.
    discriminant = ((shifted - least) ** 2 + 2 * gradient).sqrt()
    t = max(0.0, float(((gradient - 2 * least * shifted) / (shifted + least + discriminant)).max()))
    norm = norm_of(gradient)
    low, high = 0.0, 1.01 * norm / (least + math.sqrt(least**2 + 2 * norm))
    largest = float(gradient.max())
    direction = gradient / largest
    for _ in range(500):
        damped = shifted + t
        step = direction / damped
        norm = float(torch.linalg.vector_norm(step))
        damping = least + t
        # Of the length at this damping to the length that goes with it.
        ratio = largest * norm / (2 * damping)
        if abs(ratio - 1) <= 4 * _EPS:
            return t
        if ratio > 1:
            low = t
        else:
            high = t
        shrinkage = float(step @ (step / damped)) / norm**2
        newton = t + (ratio - 1) / (shrinkage + ratio / damping)
        if newton == t or high - low <= 2 * _EPS * high:
            return t
        # Rounding alone can throw Newton out of the bracket. The root may be many orders below its upper bound, so the
        # middle is the geometric one where there is one.
        middle = math.sqrt(low) * math.sqrt(high) if low > 0.0 else high / 2
        t = newton if low < newton < high else middle
    raise FloatingPointError(f"the scalar equation of the cubic model did not converge: bracket [{low!r}, {high!r}].")


def solve_dense(H: Tensor, g: Tensor, L: float) -> CubicStep:
    """Minimise the cubic model globally by a full eigendecomposition: ``O(d^2)`` memory, ``O(d^3)`` time, in float64.

    Parameters
    ----------
    H : Tensor of shape (d, d)
        The symmetric Hessian. Asymmetry at the level of rounding is averaged away. Eigenvalues that are negative only
        by the rounding of its dtype are taken as zero, lest a small `L` send the step along noise.
    g : Tensor of shape (d,)
        The gradient.
    L : float
        Positive weight of the cubic term.

    Returns
    -------
    CubicStep
        With no products.

    Raises
    ------
    ValueError
        If the shapes do not fit, an entry is not finite, `L` is not positive or `H` is not symmetric.
    FloatingPointError
        If the step overflows.
    """
    L = _check_L(L)
    return DenseCubicModel(H, g).solve(L)


class DenseCubicModel:
    """The cubic model with its full Hessian, decomposed once: each further `L` costs ``O(d^2)``.

    Parameters
    ----------
    H, g : Tensor
        As :func:`solve_dense` takes them; it raises for the same reasons.
    """

    def __init__(self, H: Tensor, g: Tensor):
        if g.ndim != 1 or g.numel() == 0 or H.shape != (g.numel(), g.numel()):
            raise ValueError(
                f"H must be (d, d) and g (d,) with d at least 1; got {tuple(H.shape)} and {tuple(g.shape)}."
            )
        self.g = g
        self._gradient = _check_finite("g", _double(g))
        hessian = _check_finite("H", _double(H))
        asymmetry, scale = float((hessian - hessian.T).abs().max()), float(hessian.abs().max())
        if asymmetry > math.sqrt(torch.finfo(H.dtype).eps) * scale:
            raise ValueError(
                f"H must be symmetric; H and its transpose differ by {asymmetry:.3g}, its entries reach {scale:.3g}."
            )
        self._hessian = (hessian + hessian.T) / 2
        self._eigenvalues, self._vectors = _eigh(self._hessian, torch.finfo(H.dtype).eps)
        self._coefficients = self._vectors.T @ self._gradient

    @property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues in ascending order, and the gradient's coefficients along the eigenvectors, both (d,) float64."""
        return self._eigenvalues, self._coefficients

    def solve(self, L: float) -> CubicStep:
        """Minimise the model globally.

        Parameters
        ----------
        L : float
            Positive weight of the cubic term.

        Returns
        -------
        CubicStep
            With no products.

        Raises
        ------
        ValueError
            If `L` is not positive.
        FloatingPointError
            If the step overflows.
        """
        in_eigenbasis, damping, hard_case = minimise_spectral(self._eigenvalues, self._coefficients, L)
        step = self._vectors @ in_eigenbasis.to(self._vectors.device)
        return CubicStep(
            step=step.to(self.g),
            damping=damping,
            decrease=_decrease(self._coefficients.cpu(), in_eigenbasis, damping),
            norm=norm_of(in_eigenbasis),
            residual=norm_of(self._hessian @ step + damping * step + self._gradient),
            hard_case=hard_case,
            n_products=0,
        )


class KrylovCubicModel:
    """The cubic model restricted to a Krylov space of its Hessian from its gradient.

    The small eigenproblem is solved once; each further `L` then costs no product. The model cannot see what the space
    does not contain: where the gradient has no part along a direction of negative curvature (the hard case), no Krylov
    space from it has one, and the minimiser found is not the global one.

    Parameters
    ----------
    space : KrylovSpace
        Built from the gradient, by :func:`~sk_unlearn.solvers.lanczos.lanczos`.
    """

    def __init__(self, space: KrylovSpace):
        self.space = space
        self._eigenvalues, self._vectors = _eigh(space.tridiagonal, torch.finfo(space.basis.dtype).eps)
        self._coefficients = space.start_norm * self._vectors[0]

    @property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Ritz values in ascending order, and the gradient's coefficients along the Ritz vectors, both (k,) float64."""
        return self._eigenvalues, self._coefficients

    def residual(self, L: float) -> float:
        """Return the residual of the minimiser in the full space, without a product.

        Parameters
        ----------
        L : float
            Positive weight of the cubic term.

        Returns
        -------
        residual : float
            ``||(H + alpha I) s + g||``.
        """
        return self._minimise(L)[2]

    def solve(self, L: float) -> CubicStep:
        """Minimise the model over the space.

        Parameters
        ----------
        L : float
            Positive weight of the cubic term.

        Returns
        -------
        CubicStep

        Raises
        ------
        ValueError
            If `L` is not positive.
        FloatingPointError
            If the step overflows.
        """
        in_eigenbasis, in_basis, residual, damping, hard_case = self._minimise(L)
        return CubicStep(
            step=self.space.basis.T @ in_basis.to(self.space.basis),
            damping=damping,
            decrease=_decrease(self._coefficients, in_eigenbasis, damping),
            norm=norm_of(in_eigenbasis),
            residual=residual,
            hard_case=hard_case,
            n_products=self.space.n_products,
        )

    def _minimise(self, L: float) -> tuple[Tensor, Tensor, float, float, bool]:
        in_eigenbasis, damping, hard_case = minimise_spectral(self._eigenvalues, self._coefficients, L)
        in_basis = self._vectors @ in_eigenbasis
        # The product with the last row alone leaves the space.
        residual = self.space.residual * abs(float(in_basis[-1]))
        return in_eigenbasis, in_basis, residual, damping, hard_case


def solve_krylov(product: Product, g: Tensor, L: float, n_products: int, tol: float | None = None) -> CubicStep:
    """Minimise the cubic model over a Krylov space built from the gradient.

    Parameters
    ----------
    product : callable
        Maps a tensor of shape (d,) to ``H v``, of the same shape, dtype and device.
    g : Tensor of shape (d,)
        The gradient. If it is zero so is the step, even where ``H`` has negative curvature, and no product is spent:
        see :class:`KrylovCubicModel` for what a Krylov space cannot see.
    L : float
        Positive weight of the cubic term.
    n_products : int
        The most products to spend, at least 1.
    tol : float, optional
        Stop growing the space when ``||(H + alpha I) s + g|| <= tol * ||g||``. Default: spend all products.

    Returns
    -------
    CubicStep

    Raises
    ------
    ValueError
        If `L` is not positive, `n_products` is below 1, or `g` is not a finite vector.
    FloatingPointError
        If a product or the step is not finite.
    """
    L = _check_L(L)
    n_products = check_count("n_products", n_products, least=1)
    if checked_norm("g", g) == 0.0:
        return CubicStep(torch.zeros_like(g), 0.0, 0.0, 0.0, 0.0, hard_case=False, n_products=0)

    def close_enough(space: KrylovSpace) -> bool:
        return tol is not None and KrylovCubicModel(space).residual(L) <= tol * space.start_norm

    return KrylovCubicModel(lanczos(product, g, n_products, stop=None if tol is None else close_enough)).solve(L)


def cauchy_point(product: Product, g: Tensor, L: float) -> Tensor:
    """Minimiser of the cubic model along ``-g``, at the cost of one product (none if `g` is zero).

    It is ``-R g / ||g||`` with ``R = -k/L + sqrt((k/L)^2 + 2 ||g||/L)`` and ``k = g.Hg / ||g||^2`` (Carmon and Duchi,
    *Gradient descent finds the cubic-regularized nonconvex Newton step*, 2019; with their ``rho = L/2``).

    Parameters
    ----------
    product : callable
        Maps a tensor of shape (d,) to ``H v``, of the same shape, dtype and device.
    g : Tensor of shape (d,)
        The gradient.
    L : float
        Positive weight of the cubic term.

    Returns
    -------
    Tensor of shape (d,)
        In the dtype and on the device of `g`.

    Raises
    ------
    ValueError
        If `L` is not positive or `g` is not a finite vector.
    FloatingPointError
        If the product or the point is not finite.
    """
    return _cauchy(product, g.detach(), _check_L(L))[0]


def solve_gradient_descent(
    product: Product,
    g: Tensor,
    L: float,
    *,
    n_steps: int,
    learning_rate: float,
    sigma: float = 0.0,
    generator: torch.Generator | None = None,
    start: Literal["cauchy", "zero"] = "cauchy",
) -> CubicStep:
    """Descend the cubic model by gradient steps with products only; the inner solver of stochastic CuReNU.

    ``s <- s - learning_rate * (g + sigma * z + H s + (L/2) ||s|| s)``, `n_steps` times, with ``z`` uniform on the unit
    sphere and drawn once: it gives the hard case the part of the gradient that it lacks (Tripuraneni et al.,
    *Stochastic cubic regularization for fast nonconvex optimization*, 2018, algorithm 2; Carmon and Duchi 2019). The
    decrease and the residual reported are those of the true `g`. At most four vectors are held besides `g`.

    Parameters
    ----------
    product : callable
        Maps a tensor of shape (d,) to ``H v``, of the same shape, dtype and device.
    g : Tensor of shape (d,)
        The gradient.
    L : float
        Positive weight of the cubic term.
    n_steps : int
        Gradient steps, at least 0; each costs one product, and the Cauchy point one more.
    learning_rate : float
        Positive step size, in the units of an inverse curvature; below ``1 / (||H|| + L R)`` the descent is monotone,
        with ``R`` a bound on ``||s||``.
    sigma : float, default=0.0
        Norm of the perturbation, in the units of the gradient.
    generator : torch.Generator, optional
        Source of the perturbation, on any device. Default: torch's global state.
    start : {"cauchy", "zero"}, default="cauchy"
        Where to start: at the Cauchy point of the true `g`, or at the origin.

    Returns
    -------
    CubicStep
        `hard_case` is always False: gradient descent does not know. The decrease is negative if the descent failed.

    Raises
    ------
    ValueError
        If an argument is outside its range or `g` is not a finite vector.
    FloatingPointError
        If the descent diverges, or a product is not finite.
    """
    L = _check_L(L)
    n_steps = check_count("n_steps", n_steps, least=0)
    if not 0.0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be a positive finite number, got {learning_rate!r}.")
    if not 0.0 <= sigma < math.inf:
        raise ValueError(f"sigma must be a finite number, not negative; got {sigma!r}.")
    g = g.detach()
    if start == "cauchy":
        s, curved, n_products = _cauchy(product, g, L)
    elif start == "zero":
        checked_norm("g", g)
        s, curved, n_products = torch.zeros_like(g), torch.zeros_like(g), 0
    else:
        raise ValueError(f"start must be 'cauchy' or 'zero', got {start!r}.")

    perturbed = _perturbed(g, sigma, generator) if sigma > 0.0 else g
    for _ in range(n_steps):
        direction = perturbed + curved
        direction.addcmul_(s, torch.linalg.vector_norm(s), value=L / 2)
        # Out of place: the product may have handed back the very tensor it was given.
        s = direction.mul_(-learning_rate).add_(s)
        curved = apply(product, s)
        n_products += 1
    return _report(g, s, curved, L, n_products)


def _perturbed(g: Tensor, sigma: float, generator: torch.Generator | None) -> Tensor:
    # A generator draws on its own device only.
    device = g.device if generator is None else generator.device
    noise = torch.randn(g.shape, generator=generator, device=device, dtype=g.dtype).to(g.device)
    return noise.mul_(sigma / torch.linalg.vector_norm(noise)).add_(g)


def _report(g: Tensor, s: Tensor, curved: Tensor, L: float, n_products: int) -> CubicStep:
    norm = norm_of(s)
    damping = L / 2 * norm
    linear, quadratic = float(g @ s), float(s @ curved)
    return CubicStep(
        step=s,
        damping=damping,
        decrease=-(linear + quadratic / 2 + damping * norm**2 / 3),
        norm=norm,
        residual=norm_of(g + curved + damping * s),
        hard_case=False,
        n_products=n_products,
    )


def _cauchy(product: Product, g: Tensor, L: float) -> tuple[Tensor, Tensor, int]:
    """Cauchy point, its product with the Hessian (which comes free), and the products spent."""
    norm = checked_norm("g", g)
    if norm == 0.0:
        return torch.zeros_like(g), torch.zeros_like(g), 0
    direction = direction_of(g)
    curved = apply(product, direction)
    curvature = float(direction @ curved)
    root = math.hypot(curvature, math.sqrt(2 * L) * math.sqrt(norm))
    # Of the two forms of the same root the one without cancellation.
    radius = 2 * norm / (curvature + root) if curvature > 0.0 else (root - curvature) / L
    point = direction * -radius
    if not bool(torch.isfinite(point).all()):
        raise FloatingPointError(
            f"the Cauchy point is not finite in {g.dtype}: norm {radius:.3g}, curvature along g {curvature:.3g}."
        )
    return point, curved * -radius, 1


def _decrease(gradient: Tensor, step: Tensor, damping: float) -> float:
    # At a minimiser -m(s) = 1/2 s.(H + alpha I)s + (alpha/6) ||s||^2, in which no two terms cancel.
    return -float(gradient @ step) / 2 + damping * float(step @ step) / 6


def _eigh(matrix: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Eigendecomposition in which eigenvalues negative by no more than rounding are zero."""
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    rounding = (eigenvalues < 0) & (eigenvalues >= -_rounding(eigenvalues, eps))
    return eigenvalues.masked_fill(rounding, 0.0), vectors


def _rounding(eigenvalues: Tensor, eps: float) -> float:
    """Error to expect in eigenvalues of a matrix whose entries carry the rounding `eps`."""
    return 4 * math.sqrt(eigenvalues.numel()) * eps * float(eigenvalues.abs().max())


def _double(tensor: Tensor) -> Tensor:
    # Apple's GPU has no float64.
    device = "cpu" if tensor.device.type == "mps" else tensor.device
    return tensor.detach().to(device).double()


def _check_finite(name: str, tensor: Tensor) -> Tensor:
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} must be finite, got NaN or infinite entries.")
    return tensor


def _check_L(L: float) -> float:  # noqa: N802
    value = float(L)
    if not 0.0 < value < math.inf:
        raise ValueError(f"L must be a positive finite number, got {L!r}.")
    return value
