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

__all__ = [
    "CubicStep",
    "DenseCubicModel",
    "KrylovCubicModel",
    "KrylovSpace",
    "cauchy_point",
    "extend",
    "lanczos",
    "minimise_spectral",
    "solve_dense",
    "solve_gradient_descent",
    "solve_krylov",
]
