"""Solutions of (H + damping I) x = b for a symmetric H: conjugate gradients, LiSSA, and dense decompositions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sk_unlearn.solvers.lanczos import Product, apply, check_count, checked_norm, norm_of
from sk_unlearn.utils._float64 import double

# How far above its bound the norm of a LiSSA iterate may be by rounding.
_ROUNDING = 1e-3


@dataclass(frozen=True, eq=False)
class LinearSolution:
    """An approximate solution of ``(H + damping I) x = b``.

    Attributes
    ----------
    solution : Tensor of shape (d,)
        x, in the dtype and on the device of b.
    residual : float
        ``||b - (H + damping I) x|| / ||b||``; 0 for b = 0.
    n_products : int
        Products with H that it took; 0 when the matrix was given.
    curvature_min, curvature_max : float
        The extremes of ``v'Hv / v'v`` met: eigenvalues of H from the dense solvers, its curvature along the directions
        used from the others, NaN when none was used.
    indefinite : bool
        Whether ``H + damping I`` was found not to be positive definite: x is then no minimiser of anything.
    converged : bool
        Whether the residual is as small as was asked for.
    """

    solution: Tensor
    residual: float
    n_products: int
    curvature_min: float
    curvature_max: float
    indefinite: bool
    converged: bool


def conjugate_gradient(
    product: Product,
    b: Tensor,
    *,
    damping: float,
    tol: float,
    max_products: int,
    preconditioner: Product | None = None,
) -> LinearSolution:
    """Solve ``(H + damping I) x = b`` by conjugate gradients (Hestenes and Stiefel 1952).

    It ends at a direction p of curvature that is not positive, ``p'(H + damping I)p <= 0``, and returns what was found
    before it, the minimiser over the directions so far; zero if it is the first direction. Memory is 4 vectors; the
    host reads from the device three times a product.

    Parameters
    ----------
    product : callable
        Maps a tensor of shape (d,) to ``H v``, of the same shape, dtype and device, and leaves its argument alone.
    b : Tensor of shape (d,)
        Float32 or float64, finite.
    damping : float
        At least 0.
    tol : float
        It ends when the residual is at most this share of ``||b||``.
    max_products : int
        The most products to spend.
    preconditioner : callable, optional
        Maps r to ``M r``, with M a positive definite approximation of ``(H + damping I)^-1``.

    Returns
    -------
    LinearSolution
        Its residual is the one that the iteration carries along.

    Raises
    ------
    ValueError
        If an argument is out of range, b is not a finite vector, or M is not positive definite.
    FloatingPointError
        If a product is not finite.
    """
    check_count("max_products", max_products, least=1)
    _check_non_negative("damping", damping)
    b = b.detach()
    b_norm = checked_norm("b", b)
    x, r = torch.zeros_like(b), b.clone()
    curvatures: list[float] = []
    residual, n_products, indefinite = float(b_norm > 0), 0, False
    eps = torch.finfo(b.dtype).eps
    direction, weight = torch.zeros_like(b), math.inf
    while residual > tol and n_products < max_products:
        z = r if preconditioner is None else apply(preconditioner, r)
        new_weight = float(r @ z)
        if not new_weight > 0:
            raise ValueError(f"preconditioner must be positive definite; along a residual r it gave r'Mr={new_weight}.")
        direction = z + (new_weight / weight) * direction
        weight = new_weight
        image = apply(product, direction)
        n_products += 1
        length, bent = torch.stack((direction @ direction, direction @ image)).tolist()
        curvature = bent / length
        if not math.isfinite(curvature):
            raise FloatingPointError(f"product {n_products} of the conjugate gradients is not finite.")
        curvatures.append(curvature)
        if curvature + damping <= eps * max(abs(c) + damping for c in curvatures):
            indefinite = True
            break
        step = weight / ((curvature + damping) * length)
        x += step * direction
        r -= step * (image + damping * direction)
        residual = norm_of(r) / b_norm
    return LinearSolution(
        x, residual, n_products, min(curvatures, default=math.nan), max(curvatures, default=math.nan), indefinite,
        converged=residual <= tol,
    )  # fmt: skip


def lissa(
    products: Iterable[Product], b: Tensor, *, damping: float, scale: float, depth: int, n_runs: int = 1
) -> LinearSolution:
    r"""Solve ``(H + damping I) x = b`` by the sampled Neumann series LiSSA (Agarwal, Bullins and Hazan 2017).

    With :math:`\varsigma` the scale and :math:`H_t` the product of a step,

    .. math:: v_0 = b, \qquad v_{t+1} = v_t + b - (H_t + \gamma I) v_t / \varsigma, \qquad x \approx v_T / \varsigma,

    averaged over independent runs. For one fixed H of which the smallest eigenvalue is :math:`\mu`, the error falls by
    at least :math:`1 - (\mu + \gamma)/\varsigma` a step. The host reads from the device twice a step.

    Parameters
    ----------
    products : iterable of callables
        One is used a step, ``depth * n_runs`` in all: fresh samples of H, or ``itertools.repeat(product)``.
    b : Tensor of shape (d,)
        Float32 or float64, finite.
    damping : float
        At least 0.
    scale : float
        At least the largest eigenvalue of any ``H_t + damping I``.
    depth : int
        Steps of a run.
    n_runs : int, default=1
        Runs to average over.

    Returns
    -------
    LinearSolution
        Its residual is that before the last step, by the products of that step; `converged` is whether this is
        below one, that is, whether anything was gained.

    Raises
    ------
    ValueError
        If an argument is out of range or there are too few products.
    FloatingPointError
        If it diverges: ``||v_t|| <= (t + 1) ||b||`` holds wherever ``0 <= H_t + damping I <= scale I`` and is broken.
    """
    check_count("depth", depth, least=1)
    check_count("n_runs", n_runs, least=1)
    _check_non_negative("damping", damping)
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"scale must be positive and finite, got {scale!r}.")
    b = b.detach()
    b_norm = checked_norm("b", b)
    if b_norm == 0:
        return LinearSolution(torch.zeros_like(b), 0.0, 0, math.nan, math.nan, False, True)
    source = iter(products)
    total, total_rest = torch.zeros_like(b), torch.zeros_like(b)
    curvatures: list[float] = []
    for _ in range(n_runs):
        v = b.clone()
        for t in range(depth):
            product = next(source, None)
            if product is None:
                raise ValueError(f"products must hold depth * n_runs = {depth * n_runs} products; it ended before.")
            image = apply(product, v)
            bent, length = torch.stack((v @ image, v @ v)).tolist()
            curvatures.append(bent / (length or 1.0))
            rest = b - (image + damping * v) / scale
            v = v + rest
            norm = norm_of(v)
            if not norm <= (t + 2) * b_norm * (1 + _ROUNDING):
                raise FloatingPointError(
                    f"LiSSA diverged at step {t + 1} of {depth}: the curvature is above scale={scale:.3g} or below "
                    f"-damping={-damping:.3g}; along the iterates it was between {min(curvatures):.3g} and "
                    f"{max(curvatures):.3g}. Choose a larger scale or a larger damping."
                )
        total += v
        total_rest += rest
    residual = norm_of(total_rest / n_runs) / b_norm
    lowest = min(curvatures)
    return LinearSolution(
        total / (n_runs * scale), residual, depth * n_runs, lowest, max(curvatures), lowest + damping <= 0, residual < 1
    )


def solve_damped(H: Tensor, b: Tensor, damping: float) -> LinearSolution:
    """Solve ``(H + damping I) x = b`` through the eigenvalues of H, which may be indefinite.

    Parameters
    ----------
    H : Tensor of shape (d, d)
        Symmetric; the decomposition is in float64.
    b : Tensor of shape (d,)
        Of H's device.
    damping : float
        At least 0.

    Returns
    -------
    LinearSolution

    Raises
    ------
    ValueError
        If the shapes do not fit, or ``H + damping I`` is singular to the rounding of float64.
    """
    _check_non_negative("damping", damping)
    values, vectors = _decompose(H, b)
    shifted = values + damping
    limit = len(values) * torch.finfo(shifted.dtype).eps * float(shifted.abs().max())
    if float(shifted.abs().min()) <= limit:
        raise ValueError(
            f"H + damping I must not be singular; with damping={damping!r} its eigenvalue nearest to zero is "
            f"{float(shifted[shifted.abs().argmin()]):.3g}. Choose another damping, or use solve_pseudo_inverse."
        )
    return _dense_solution(values, vectors, b, 1 / shifted, damping)


def solve_pseudo_inverse(H: Tensor, b: Tensor, rcond: float | None = None) -> LinearSolution:
    """Multiply b with the Moore-Penrose inverse of H: the shortest minimiser of ``||Hx - b||``.

    Parameters
    ----------
    H : Tensor of shape (d, d)
        Symmetric; the decomposition is in float64.
    b : Tensor of shape (d,)
        Of H's device.
    rcond : float, optional
        Eigenvalues of magnitude up to this share of the largest count as zero. Default: d times the machine epsilon
        of b.

    Returns
    -------
    LinearSolution
        Its `indefinite` tells whether an eigenvalue beyond the cut-off is negative. Its residual is what b has outside
        the range of H.

    Raises
    ------
    ValueError
        If the shapes do not fit or rcond is negative.
    """
    values, vectors = _decompose(H, b)
    rcond = len(values) * torch.finfo(b.dtype).eps if rcond is None else rcond
    _check_non_negative("rcond", rcond)
    kept = values.abs() > rcond * values.abs().max()
    inverse = torch.where(kept, 1 / torch.where(kept, values, 1.0), 0.0)
    return _dense_solution(values, vectors, b, inverse, 0.0)


def _decompose(H: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    checked_norm("b", b)
    if H.shape != (len(b), len(b)):
        raise ValueError(f"H must have shape {(len(b), len(b))} to go with b, got {tuple(H.shape)}.")
    values, vectors = torch.linalg.eigh((double(H) + double(H).T) / 2)
    return values, vectors


def _dense_solution(values: Tensor, vectors: Tensor, b: Tensor, inverse: Tensor, damping: float) -> LinearSolution:
    coefficients = vectors.T @ double(b)
    solved = inverse * coefficients
    # Where the inverse is cut to zero the damped value is not used, and the whole coefficient is left over.
    left = float((coefficients - (values + damping) * solved).norm()) / (float(coefficients.norm()) or 1.0)
    used = values[inverse != 0] + damping
    return LinearSolution(
        (vectors @ solved).to(b), left, 0, float(values[0]), float(values[-1]),
        indefinite=bool((used < 0).any()), converged=True,
    )  # fmt: skip


def _check_non_negative(name: str, value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}.")
