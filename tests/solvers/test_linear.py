"""Every solver against the dense inverse in float64."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_unlearn.solvers import conjugate_gradient, lissa, solve_damped, solve_pseudo_inverse


def symmetric(eigenvalues, generator):
    n = len(eigenvalues)
    vectors = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    return (vectors * eigenvalues) @ vectors.T


def problem(seed, d, low=0.1, high=3.0):
    generator = torch.Generator().manual_seed(seed)
    values = low + (high - low) * torch.rand(d, generator=generator, dtype=torch.float64)
    return symmetric(values, generator), torch.randn(d, generator=generator, dtype=torch.float64)


def product_of(H):
    return lambda v: H.to(v.dtype) @ v


def exact(H, b, damping):
    return torch.linalg.solve(H + damping * torch.eye(len(b), dtype=H.dtype), b)


def relative(x, y):
    return float((x - y).norm() / y.norm())


sizes = st.integers(1, 25)
seeds = st.integers(0, 2**32)


@settings(max_examples=30)
@given(seed=seeds, d=sizes, damping=st.sampled_from([0.0, 0.3, 5.0]), log_scale=st.floats(-6, 6))
def test_conjugate_gradient_is_the_inverse(seed, d, damping, log_scale):
    H, b = problem(seed, d)
    H, damping, b = H * 10**log_scale, damping * 10**log_scale, b * 10**-log_scale
    found = conjugate_gradient(product_of(H), b, damping=damping, tol=1e-12, max_products=10 * d)
    assert found.converged
    assert not found.indefinite
    assert found.n_products <= 4 * d
    x = exact(H, b, damping)
    assert relative(found.solution, x) < 1e-9
    true_residual = (b - H @ found.solution - damping * found.solution).norm() / b.norm()
    assert abs(float(true_residual) - found.residual) < 1e-11
    values = torch.linalg.eigvalsh(H)
    assert values[0] * (1 - 1e-9) <= found.curvature_min <= found.curvature_max <= values[-1] * (1 + 1e-9)


def test_tolerance_is_kept_and_products_are_counted():
    H, b = problem(0, 60, low=1e-3)
    few = conjugate_gradient(product_of(H), b, damping=0.0, tol=1e-10, max_products=5)
    assert (few.n_products, few.converged) == (5, False)
    rough = conjugate_gradient(product_of(H), b, damping=0.0, tol=1e-2, max_products=1000)
    fine = conjugate_gradient(product_of(H), b, damping=0.0, tol=1e-6, max_products=1000)
    assert rough.residual <= 1e-2
    assert fine.residual <= 1e-6
    assert rough.n_products < fine.n_products


def test_a_perfect_preconditioner_needs_one_product():
    H, b = problem(1, 30, low=1e-4)
    inverse = torch.linalg.inv(H + 0.1 * torch.eye(30, dtype=H.dtype))
    found = conjugate_gradient(
        product_of(H), b, damping=0.1, tol=1e-8, max_products=50, preconditioner=product_of(inverse)
    )
    assert found.n_products == 1
    assert relative(found.solution, exact(H, b, 0.1)) < 1e-7
    with pytest.raises(ValueError, match="preconditioner must be positive definite"):
        conjugate_gradient(product_of(H), b, damping=0.0, tol=0.1, max_products=5, preconditioner=lambda r: -r)


@settings(max_examples=25)
@given(seed=seeds, d=st.integers(2, 20))
def test_negative_curvature_is_found_and_what_was_found_before_it_is_kept(seed, d):
    generator = torch.Generator().manual_seed(seed)
    values = torch.linspace(0.5, 2, d, dtype=torch.float64)
    values[0] = -1.0
    H, b = symmetric(values, generator), torch.randn(d, generator=generator, dtype=torch.float64)
    found = conjugate_gradient(product_of(H), b, damping=0.1, tol=1e-10, max_products=10 * d)
    assert found.indefinite
    assert not found.converged
    assert -1.0 - 1e-9 <= found.curvature_min <= -0.1 + 1e-9

    def model(x):
        return float(0.5 * x @ (H @ x) + 0.05 * x @ x - b @ x)

    assert model(found.solution) <= 0
    assert not conjugate_gradient(product_of(H), b, damping=1.5, tol=1e-10, max_products=10 * d).indefinite


def test_float32_and_zero():
    H, b = problem(2, 20)
    found = conjugate_gradient(product_of(H), b.float(), damping=0.5, tol=1e-6, max_products=100)
    assert found.solution.dtype == torch.float32
    assert relative(found.solution.double(), exact(H, b, 0.5)) < 1e-5
    for zero in (
        conjugate_gradient(product_of(H), 0 * b, damping=0.5, tol=0.0, max_products=5),
        lissa(itertools.repeat(product_of(H)), 0 * b, damping=0.5, scale=4.0, depth=5),
        solve_damped(H, 0 * b, 0.5),
    ):
        assert torch.equal(zero.solution, 0 * b)
        assert zero.converged
        assert zero.residual == 0


@settings(max_examples=30)
@given(seed=seeds, d=sizes, damping=st.floats(0.0, 2.0), depth=st.integers(1, 200))
def test_lissa_falls_at_the_rate_it_promises(seed, d, damping, depth):
    H, b = problem(seed, d, low=0.5)
    found = lissa(itertools.repeat(product_of(H)), b, damping=damping, scale=3.0 + damping, depth=depth)
    x = exact(H, b, damping)
    rate = 1 - (0.5 + damping) / (3.0 + damping)
    start = (b / (3.0 + damping) - x).norm()
    assert (found.solution - x).norm() <= rate**depth * start + 1e-12 * x.norm()
    assert found.n_products == depth


def test_lissa_averages_runs_of_fresh_samples():
    H, b = problem(3, 15, low=0.5)
    generator = torch.Generator().manual_seed(0)

    def samples():
        while True:
            noise = 0.3 * torch.randn(15, 15, generator=generator, dtype=torch.float64) / 15**0.5
            yield product_of(H + (noise + noise.T) / 2)

    x = exact(H, b, 0.2)
    errors = {n: relative(lissa(samples(), b, damping=0.2, scale=6.0, depth=80, n_runs=n).solution, x) for n in (1, 64)}
    assert errors[64] < 0.4 * errors[1]
    assert errors[64] < 0.05


@pytest.mark.parametrize(("low", "scale"), [(-1.0, 4.0), (0.5, 1.0)])
def test_lissa_says_when_it_diverges(low, scale):
    H = symmetric(torch.linspace(low, 3.0, 10, dtype=torch.float64), torch.Generator().manual_seed(0))
    b = torch.ones(10, dtype=torch.float64)
    with pytest.raises(FloatingPointError, match="Choose a larger scale or a larger damping"):
        lissa(itertools.repeat(product_of(H)), b, damping=0.1, scale=scale, depth=200)


def test_lissa_refuses_too_few_products():
    H, b = problem(0, 4)
    with pytest.raises(ValueError, match=r"depth \* n_runs = 6"):
        lissa([product_of(H)] * 5, b, damping=0.0, scale=4.0, depth=3, n_runs=2)


@settings(max_examples=25)
@given(seed=seeds, d=sizes, damping=st.floats(0.01, 3.0))
def test_dense_solution_of_any_symmetric_matrix(seed, d, damping):
    generator = torch.Generator().manual_seed(seed)
    # No eigenvalue near -damping.
    values = torch.randn(d, generator=generator, dtype=torch.float64)
    values = torch.where(values < 0, values - damping - 0.1, values)
    H, b = symmetric(values, generator), torch.randn(d, generator=generator, dtype=torch.float64)
    found = solve_damped(H, b, damping)
    assert relative(found.solution, exact(H, b, damping)) < 1e-9
    assert found.indefinite == bool((values < 0).any())
    assert found.curvature_min == pytest.approx(float(values.min()), rel=1e-9)
    assert found.residual < 1e-10


@settings(max_examples=25)
@given(seed=seeds, d=st.integers(2, 20), rank=st.integers(1, 20))
def test_pseudo_inverse(seed, d, rank):
    rank = min(rank, d)
    generator = torch.Generator().manual_seed(seed)
    values = torch.zeros(d, dtype=torch.float64)
    values[:rank] = torch.linspace(-1, 2, rank, dtype=torch.float64) + 0.01
    H, b = symmetric(values, generator), torch.randn(d, generator=generator, dtype=torch.float64)
    inverse = torch.linalg.pinv(H, hermitian=True)
    found = solve_pseudo_inverse(H, b)
    torch.testing.assert_close(found.solution, inverse @ b, rtol=1e-8, atol=1e-8)
    assert found.residual == pytest.approx(float((b - H @ inverse @ b).norm() / b.norm()), abs=1e-9)
    assert found.indefinite


def test_cut_off_of_the_pseudo_inverse():
    H = torch.diag(torch.tensor([1.0, 1e-3, -1e-5], dtype=torch.float64))
    b = torch.ones(3, dtype=torch.float64)
    assert solve_pseudo_inverse(H, b, rcond=1e-2).solution.tolist() == [1.0, 0.0, 0.0]
    assert not solve_pseudo_inverse(H, b, rcond=1e-4).indefinite
    torch.testing.assert_close(solve_pseudo_inverse(H, b).solution, 1 / H.diagonal())


def test_bad_arguments_are_named():
    H, b = problem(0, 3)
    calls = {
        "max_products": lambda: conjugate_gradient(product_of(H), b, damping=0.0, tol=0.1, max_products=0),
        "damping": lambda: conjugate_gradient(product_of(H), b, damping=-1.0, tol=0.1, max_products=1),
        "scale": lambda: lissa([], b, damping=0.0, scale=0.0, depth=1),
        "depth": lambda: lissa([], b, damping=0.0, scale=1.0, depth=0),
        "rcond": lambda: solve_pseudo_inverse(H, b, rcond=-1.0),
        "H must": lambda: solve_damped(H[:2], b, 0.0),
        "singular": lambda: solve_damped(H - H, b, 0.0),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=name):
            call()
    with pytest.raises(FloatingPointError, match="not finite"):
        conjugate_gradient(lambda v: v * float("nan"), b, damping=0.0, tol=0.1, max_products=3)
