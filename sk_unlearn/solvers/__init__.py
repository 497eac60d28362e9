"""Pure linear algebra: vectors and products in, vectors out. No modules, no data, no scikit-learn."""

from sk_unlearn.solvers.cubic import (
    CubicStep,
    DenseCubicModel,
    KrylovCubicModel,
    cauchy_point,
    minimise_spectral,
    solve_dense,
    solve_gradient_descent,
    solve_krylov,
)
from sk_unlearn.solvers.lanczos import KrylovSpace, extend, lanczos
from sk_unlearn.solvers.linear import LinearSolution, conjugate_gradient, lissa, solve_damped, solve_pseudo_inverse

__all__ = [
    "CubicStep",
    "DenseCubicModel",
    "KrylovCubicModel",
    "KrylovSpace",
    "LinearSolution",
    "cauchy_point",
    "conjugate_gradient",
    "extend",
    "lanczos",
    "lissa",
    "minimise_spectral",
    "solve_damped",
    "solve_dense",
    "solve_gradient_descent",
    "solve_krylov",
    "solve_pseudo_inverse",
]
