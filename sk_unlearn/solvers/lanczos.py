"""Orthonormal bases of Krylov spaces of a symmetric operator known only by its products with vectors."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class KrylovSpace:
    """Krylov space ``span{b, Hb, ..., H^(k-1) b}`` of a symmetric operator ``H`` and a starting vector ``b``.

    With ``V`` the rows of `basis`, ``T`` the `tridiagonal` and ``q`` the `next_direction`,
    ``H V^T = V^T T + residual * q e_k^T``.

    Attributes
    ----------
    basis : Tensor of shape (k, d)
        Orthonormal rows, in the dtype and on the device of the starting vector; the first is ``b / ||b||``.
    tridiagonal : Tensor of shape (k, k), float64 on the CPU
        ``V H V^T``.
    start_norm : float
        ``||b||``.
    residual : float
        The coupling of the last row to the direction outside the space; 0 when `exhausted`.
    next_direction : Tensor of shape (d,) or None
        The unit vector by which the space would grow; None when `exhausted`.
    """

    basis: Tensor
    tridiagonal: Tensor
    start_norm: float
    residual: float
    next_direction: Tensor | None

    @property
    def exhausted(self) -> bool:
        """Whether the space is invariant under the operator: no further product can enlarge it."""
        return self.next_direction is None

    @property
    def n_products(self) -> int:
        """Products spent on the space: one for each row of the basis."""
        return self.basis.shape[0]


def lanczos(
    product: Product,
    start: Tensor,
    n_products: int,
    *,
    tol: float | None = None,
    stop: Callable[[KrylovSpace], bool] | None = None,
) -> KrylovSpace:
    """Build the Krylov space of a symmetric operator by Lanczos with full reorthogonalisation.

    Every new row is orthogonalised twice against all earlier ones, so that the basis stays orthonormal to the rounding
    of its dtype whatever the spectrum (Parlett, *The Symmetric Eigenvalue Problem*, chapter 13). Memory is `n_products`
    vectors; two numbers a product are read back from the device.

    Parameters
    ----------
    product : callable
        Maps a tensor of shape (d,) to ``H v``, of the same shape, dtype and device, and leaves its argument alone.
    start : Tensor of shape (d,)
        The starting vector ``b``; float32 or float64, finite and not zero.
    n_products : int
        The most products to spend, at least 1. Fewer are spent when the space is exhausted; never more than d are.
    tol : float, optional
        The space counts as exhausted when what a product adds is at most `tol` times the largest product of a unit
        vector seen. Default: 32 times the machine epsilon of `start`, the level of rounding.
    stop : callable, optional
        Called with the space after each product; returning True ends the growth.

    Returns
    -------
    KrylovSpace

    Raises
    ------
    ValueError
        If `start` is zero, not finite or not a vector, if `n_products` is below 1, or if `product` returns something
        unlike its argument.
    FloatingPointError
        If a product is not finite.
    """
    start = start.detach()
    norm = checked_norm("start", start)
    if norm == 0.0:
        raise ValueError("start must not be zero: the Krylov space of the zero vector is empty.")
    # Neither is kept here while products are taken: its direction is in the basis as soon as there is one.
    begun = [_empty(start, norm)]
    del start
    return extend(begun.pop(), product, n_products, tol=tol, stop=stop)


def _empty(start: Tensor, norm: float) -> KrylovSpace:
    return KrylovSpace(
        basis=start.new_empty((0, start.numel())),
        tridiagonal=torch.zeros((0, 0), dtype=torch.float64),
        start_norm=norm,
        residual=0.0,
        next_direction=direction_of(start),
    )


def extend(
    space: KrylovSpace,
    product: Product,
    n_products: int,
    *,
    tol: float | None = None,
    stop: Callable[[KrylovSpace], bool] | None = None,
) -> KrylovSpace:
    """Grow a Krylov space by further products; an exhausted space comes back as it is.

    Parameters
    ----------
    space : KrylovSpace
        The space to grow. It is not changed; its basis is copied.
    product : callable
        The same operator the space was built with.
    n_products : int
        The most products to spend now, at least 1.
    tol, stop
        As for :func:`lanczos`.

    Returns
    -------
    KrylovSpace
        The same as one call of :func:`lanczos` with all the products would have given.

    Raises
    ------
    ValueError, FloatingPointError
        As :func:`lanczos`.
    """
    n_products = check_count("n_products", n_products, least=1)
    if space.next_direction is None:
        return space
    old, d = space.basis.shape
    if tol is None:
        tol = 32 * torch.finfo(space.basis.dtype).eps
    buffer = space.basis.new_empty((min(old + n_products, d), d))
    buffer[:old] = space.basis
    diagonal = space.tridiagonal.diagonal().tolist()
    # couplings[j] joins row j - 1 to row j; the first row has nothing before it.
    couplings = [0.0, *space.tridiagonal.diagonal(1).tolist(), space.residual] if old else [0.0]
    sides = zip(diagonal, couplings, couplings[1:], strict=False)
    largest = max((math.hypot(*column) for column in sides), default=0.0)

    grown = space
    del space
    for j in range(old, buffer.shape[0]):
        assert grown.next_direction is not None
        buffer[j] = grown.next_direction
        start_norm, rows = grown.start_norm, buffer[: j + 1]
        # A product is the moment when most memory is held: no direction is then there twice.
        del grown
        following, on_diagonal, coupling = _orthogonalise(apply(product, buffer[j]), rows)
        if not (math.isfinite(on_diagonal) and math.isfinite(coupling)):
            raise FloatingPointError(f"product {j + 1} of the Krylov space is not finite, or its norm overflows.")
        largest = max(largest, math.hypot(couplings[-1], on_diagonal, coupling))
        exhausted = coupling <= tol * largest or j + 1 == d
        diagonal.append(on_diagonal)
        couplings.append(0.0 if exhausted else coupling)
        grown = KrylovSpace(
            basis=rows,
            tridiagonal=_tridiagonal(diagonal, couplings[1:-1]),
            start_norm=start_norm,
            residual=couplings[-1],
            next_direction=None if exhausted else following.div_(coupling),
        )
        del following
        if exhausted or (stop is not None and stop(grown)):
            break
    return grown


def _orthogonalise(vector: Tensor, rows: Tensor) -> tuple[Tensor, float, float]:
    """Part of `vector` outside the rows, its part along the last row, and the norm of what is outside."""
    inside = rows @ vector
    rest = torch.addmv(vector, rows.T, inside, alpha=-1)
    rest.addmv_(rows.T, rows @ rest, alpha=-1)
    along, norm = torch.stack((inside[-1], torch.linalg.vector_norm(rest))).tolist()
    return rest, along, norm


def _tridiagonal(diagonal: list[float], beside: list[float]) -> Tensor:
    inner = torch.tensor(beside, dtype=torch.float64)
    return torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(inner, 1) + torch.diag(inner, -1)


def apply(product: Product, vector: Tensor) -> Tensor:
    """Product with a vector, detached and checked to be like the vector."""
    result = product(vector).detach()
    if result.shape != vector.shape or result.dtype != vector.dtype or result.device != vector.device:
        raise ValueError(
            f"product must return a tensor like its argument, shape {tuple(vector.shape)}, {vector.dtype} on "
            f"{vector.device}; got shape {tuple(result.shape)}, {result.dtype} on {result.device}."
        )
    return result


def extremes(vector: Tensor) -> tuple[float, float]:
    """Smallest and largest entry, NaN if one is: what tells whether all are finite, without another vector."""
    least, most = torch.stack(torch.aminmax(vector)).tolist()
    return least, most


def norm_of(vector: Tensor) -> float:
    """Euclidean norm that neither underflows nor overflows before the norm itself does; NaN or inf if an entry is."""
    least, most = torch.aminmax(vector)
    top = torch.maximum(-least, most)
    # Both numbers in one reading: the host waits for the device once.
    largest, scaled = torch.stack((top, torch.linalg.vector_norm(vector / top))).tolist()
    return float(largest if largest == 0.0 or not math.isfinite(largest) else largest * scaled)


def checked_norm(name: str, vector: Tensor) -> float:
    """Norm of a vector, or a ValueError that names it if it is none or not finite."""
    if vector.ndim != 1 or vector.numel() == 0 or not vector.dtype.is_floating_point:
        raise ValueError(f"{name} must be a floating-point vector, got shape {tuple(vector.shape)} of {vector.dtype}.")
    norm = norm_of(vector.detach())
    if not math.isfinite(norm):
        raise ValueError(f"{name} must be finite, got a vector with NaN, infinite or overflowing entries.")
    return norm


def direction_of(vector: Tensor) -> Tensor:
    """Vector of length one along a vector that is not zero, however small."""
    # In two divisions, since the squares may underflow where the entries do not.
    scaled = vector / vector.abs().max()
    return scaled.div_(torch.linalg.vector_norm(scaled))


def check_count(name: str, value: int, *, least: int) -> int:
    """`value` as an int, or a ValueError that names it."""
    try:
        count = operator.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
    return count
