import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_unlearn.solvers import (
    KrylovCubicModel,
    cauchy_point,
    extend,
    lanczos,
    minimise_spectral,
    solve_dense,
    solve_gradient_descent,
    solve_krylov,
)

KINDS = ["definite", "singular", "indefinite", "hard", "near hard", "zero gradient, semi-definite", "zero gradient"]


def spectral_problem(kind, seed, n, log_h, log_g):
    """Eigenvalues and gradient coefficients of one of the cases in which such solvers go wrong."""
    generator = torch.Generator().manual_seed(seed)
    eigenvalues = torch.randn(n, generator=generator, dtype=torch.float64)
    gradient = torch.randn(n, generator=generator, dtype=torch.float64)
    if kind in ("definite", "singular", "zero gradient, semi-definite"):
        eigenvalues = eigenvalues.abs()
    if kind in ("singular", "zero gradient, semi-definite"):
        eigenvalues[: (n + 1) // 2] = 0.0
    if "hard" in kind:
        eigenvalues[0] = -1.2 * eigenvalues.abs().max()
        gradient[0] = 0.0 if kind == "hard" else gradient[0] * 10 ** -(5 + seed % 16)
    if "zero gradient" in kind:
        gradient.zero_()
    return eigenvalues * 10**log_h, gradient * 10**log_g


@st.composite
def spectral_problems(draw, kinds=KINDS, log_h=(-4.0, 4.0), log_g=(-12.0, 8.0), log_L=(-10.0, 10.0)):
    kind, seed, n = draw(st.sampled_from(kinds)), draw(st.integers(0, 2**32)), draw(st.integers(1, 30))
    eigenvalues, gradient = spectral_problem(kind, seed, n, draw(st.floats(*log_h)), draw(st.floats(*log_g)))
    return kind, seed, eigenvalues, gradient, 10 ** draw(st.floats(*log_L))


def rotated(seed, eigenvalues, gradient):
    generator = torch.Generator().manual_seed(seed + 1)
    Q = torch.linalg.qr(torch.randn(len(gradient), len(gradient), generator=generator, dtype=torch.float64)).Q
    H = (Q * eigenvalues) @ Q.T
    return (H + H.T) / 2, Q @ gradient


def model(H, g, L, s):
    return float(g @ s + s @ H @ s / 2 + L / 6 * s.norm() ** 3)


def magnitude(H, g, L, s):
    """What the terms of the model can reach: the yardstick for rounding in its value."""
    return float(g.norm() * s.norm() + torch.linalg.matrix_norm(H, 2) * s.norm() ** 2 / 2 + L / 6 * s.norm() ** 3)


def assert_global_minimiser(H, g, L, result, seed=0):
    s, alpha = result.step, result.damping
    size = torch.linalg.matrix_norm(H, 2)
    assert (H @ s + alpha * s + g).norm() <= 1e-12 * (g.norm() + size * s.norm())
    assert result.residual <= 1e-12 * (g.norm() + size * s.norm())
    assert alpha == pytest.approx(L / 2 * float(s.norm()), rel=1e-12, abs=0)
    assert result.norm == pytest.approx(float(s.norm()), rel=1e-12, abs=0)
    assert torch.linalg.eigvalsh(H + alpha * torch.eye(len(g), dtype=torch.float64))[0] >= -1e-13 * size
    value = model(H, g, L, s)
    assert result.decrease == pytest.approx(-value, rel=1e-12, abs=1e-12 * magnitude(H, g, L, s))
    assert result.decrease >= 0

    generator = torch.Generator().manual_seed(seed)
    natural = max(float(s.norm()), float((size + (L * g.norm()).sqrt()) / L) * 1e-3)
    for scale in (1e-3, 0.1, 1.0, 3.0):
        direction = torch.randn(len(g), generator=generator, dtype=torch.float64)
        direction *= scale * natural / direction.norm()
        for other in (direction, s + direction, -s + direction):
            assert value <= model(H, g, L, other) + 1e-13 * (magnitude(H, g, L, other) + magnitude(H, g, L, s))


@settings(deadline=None, max_examples=300)
@given(problem=spectral_problems())
def test_dense_finds_the_global_minimiser(problem):
    kind, seed, eigenvalues, gradient, L = problem
    H, g = rotated(seed, eigenvalues, gradient)
    result = solve_dense(H, g, L)
    assert result.n_products == 0
    assert_global_minimiser(H, g, L, result, seed)
    if kind == "zero gradient, semi-definite":
        assert (result.damping, result.decrease, result.norm, result.hard_case) == (0.0, 0.0, 0.0, False)
        assert not result.step.any()
    if kind in ("definite", "singular"):
        assert not result.hard_case


@settings(deadline=None, max_examples=500)
@given(problem=spectral_problems(log_h=(-8, 8)), data=st.data())
def test_spectral_solution_is_accurate_to_rounding(problem, data):
    _, _, eigenvalues, gradient, L = problem
    least = max(0.0, -float(eigenvalues.min()))
    shifted = eigenvalues + least
    rest = float((gradient[shifted > 0] / shifted[shifted > 0]).norm())
    if least > 0 and rest > 0 and data.draw(st.booleans()):
        # On the edge between the hard case and the ordinary one.
        L = 2 * least / rest * data.draw(st.sampled_from([1.0, 1 + 1e-15, 1 - 1e-15, 1 + 1e-8, 1 - 1e-8, 0.99, 1.01]))
    s, alpha, hard_case = minimise_spectral(eigenvalues, gradient, L)
    size = float(eigenvalues.abs().max())
    assert s.dtype == torch.float64
    assert alpha == pytest.approx(L / 2 * float(s.norm()), rel=1e-14, abs=0)
    assert alpha >= least
    assert ((eigenvalues + alpha) * s + gradient).norm() <= 2e-15 * (gradient.norm() + size * s.norm())
    assert (gradient * s <= 0).all()
    if hard_case:
        assert 0 < least <= alpha <= least + 1e-14 * size
    else:
        assert least == 0 or alpha > least


@pytest.mark.parametrize("h", [-1e4, -1.0, -1e-9, 0.0, 1e-9, 1.0, 1e4])
@pytest.mark.parametrize("g", [-1e8, -1.0, 1e-12, 1e-150, 0.0])
@pytest.mark.parametrize("L", [1e-10, 1.0, 1e10])
def test_one_dimension_in_closed_form(h, g, L):
    root = math.hypot(h, math.sqrt(2 * L * abs(g)))
    radius = 2 * abs(g) / (h + root) if h > 0 else (root - h) / L
    result = solve_dense(torch.tensor([[h]], dtype=torch.float64), torch.tensor([g], dtype=torch.float64), L)
    assert abs(float(result.step)) == pytest.approx(radius, rel=1e-13, abs=0)
    assert result.hard_case == (h < 0 and 2 * L * abs(g) < 1e-15 * h**2)
    if g != 0:
        assert float(result.step) * g < 0


def test_zero_gradient_steps_along_the_lowest_eigenvector():
    H, g = rotated(3, torch.tensor([2.0, -0.5, 1.0], dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    result = solve_dense(H, g, 4.0)
    assert result.hard_case
    assert result.damping == pytest.approx(0.5, rel=1e-14)
    assert result.norm == pytest.approx(0.25, rel=1e-14)
    assert result.decrease == pytest.approx(2 / 3 * 0.5**3 / 4.0**2, rel=1e-13)
    torch.testing.assert_close(H @ result.step, -0.5 * result.step, rtol=1e-12, atol=1e-14)


def test_hard_case_by_hand_and_its_neighbourhood():
    # lambda = (-1, 1), c = (0, 1), L = 1: alpha = 1, s = (tau, -1/2) with ||s|| = 2.
    eigenvalues = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    s, alpha, hard_case = minimise_spectral(eigenvalues, torch.tensor([0.0, 1.0]), 1.0)
    assert (alpha, hard_case) == (1.0, True)
    assert s.abs().tolist() == pytest.approx([math.sqrt(3.75), 0.5], rel=1e-15)
    for near in (1e-14, 1e-30, 1e-200, -1e-14, -1e-300):
        s, alpha, _ = minimise_spectral(eigenvalues, torch.tensor([near, 1.0], dtype=torch.float64), 1.0)
        assert s.tolist() == pytest.approx([math.copysign(math.sqrt(3.75), -near), -0.5], rel=2e-14)
    # The same problem with L so large that c alone makes the step long enough is not hard.
    _, alpha, hard_case = minimise_spectral(eigenvalues, torch.tensor([0.0, 1.0]), 10.0)
    assert not hard_case
    assert alpha == pytest.approx((-1 + math.sqrt(21)) / 2, rel=1e-14)  # 1 / (1 + alpha) = 2 alpha / 10


@pytest.mark.parametrize("scale", [1e-200, 1e-100, 1e-20, 1e20, 1e100])
def test_extreme_gradients_neither_overflow_nor_vanish(scale):
    eigenvalues = torch.tensor([0.5, 2.0], dtype=torch.float64)
    gradient = torch.tensor([3.0, -4.0], dtype=torch.float64) * scale
    s, alpha, _ = minimise_spectral(eigenvalues, gradient, 1e-3)
    torch.testing.assert_close((eigenvalues + alpha) * s, -gradient, rtol=1e-13, atol=0)
    assert alpha == pytest.approx(0.5e-3 * math.hypot(*s.tolist()), rel=1e-13, abs=0)


@settings(deadline=None, max_examples=60)
@given(problem=spectral_problems(kinds=["indefinite", "hard"]), power=st.integers(-30, 30))
def test_scaling_the_model_scales_the_step(problem, power):
    # m times a factor has the same minimiser.
    _, _, eigenvalues, gradient, L = problem
    s, alpha, hard_case = minimise_spectral(eigenvalues, gradient, L)
    factor = 2.0**power
    scaled, scaled_alpha, scaled_hard = minimise_spectral(factor * eigenvalues, factor * gradient, factor * L)
    torch.testing.assert_close(scaled, s, rtol=1e-12, atol=1e-14 * float(s.norm()))
    assert scaled_alpha == pytest.approx(factor * alpha, rel=1e-12)
    assert scaled_hard == hard_case


def test_curvature_negative_by_rounding_alone_is_not_followed():
    # A Gram matrix of rank 3: its computed eigenvalues are negative only by rounding, and L is small.
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 40, generator=generator, dtype=torch.float64)
    H = rows.T @ rows
    assert torch.linalg.eigvalsh(H)[0] < 0
    for dtype in (torch.float64, torch.float32):
        result = solve_dense(H.to(dtype), torch.zeros(40, dtype=dtype), 1e-12)
        assert (result.norm, result.damping) == (0.0, 0.0)


def test_asymmetry_by_rounding_is_averaged_away():
    H, g = rotated(4, torch.tensor([2.0, -0.5, 1.0], dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    noise = 1e-9 * torch.triu(torch.ones_like(H), 1)
    torch.testing.assert_close(
        solve_dense(H + noise - noise.T, g, 1.0).step, solve_dense(H, g, 1.0).step, rtol=1e-13, atol=0
    )


@settings(deadline=None, max_examples=100)
@given(problem=spectral_problems(["definite", "singular", "indefinite"], (-2, 2), (-2, 2), (-2, 2)))
def test_a_full_krylov_space_gives_the_dense_step(problem):
    _, seed, eigenvalues, gradient, L = problem
    H, g = rotated(seed, eigenvalues, gradient)
    dense, krylov = solve_dense(H, g, L), solve_krylov(lambda v: H @ v, g, L, len(g))
    assert krylov.damping == pytest.approx(dense.damping, rel=1e-8)
    assert krylov.decrease == pytest.approx(dense.decrease, rel=1e-8)
    assert krylov.norm == pytest.approx(float(krylov.step.norm()), rel=1e-10)
    assert krylov.n_products <= len(g)
    size = float(eigenvalues.abs().max())
    assert (H @ krylov.step + krylov.damping * krylov.step + g).norm() <= 1e-10 * (g.norm() + size * krylov.norm)


@settings(deadline=None, max_examples=60)
@given(
    problem=spectral_problems(["definite", "singular", "indefinite"], (-2, 2), (-3, 3), (-2, 2)),
    n_products=st.integers(1, 12),
)
def test_krylov_residual_and_decrease_are_those_of_the_full_model(problem, n_products):
    _, seed, eigenvalues, gradient, L = problem
    H, g = rotated(seed, eigenvalues, gradient)
    result = solve_krylov(lambda v: H @ v, g, L, n_products)
    s = result.step
    rounding = 1e-11 * float(g.norm() + eigenvalues.abs().max() * s.norm())
    assert result.residual == pytest.approx(float((H @ s + result.damping * s + g).norm()), abs=rounding)
    assert result.decrease == pytest.approx(-model(H, g, L, s), rel=1e-10)
    assert 0 <= result.decrease <= solve_dense(H, g, L).decrease * (1 + 1e-10)


class Counted:
    """A product that counts how often it is asked."""

    def __init__(self, H):
        self.H, self.calls = H, 0

    def __call__(self, v):
        self.calls += 1
        return self.H.to(v) @ v


def network_like(d=300, seed=0):
    """A bulk near zero and a few outliers of both signs, as Hessians of networks have."""
    generator = torch.Generator().manual_seed(seed)
    eigenvalues = 0.05 * torch.randn(d, generator=generator, dtype=torch.float64)
    eigenvalues[:6] = torch.tensor([30.0, 12.0, 5.0, 2.0, -0.8, -0.4])
    return rotated(seed, eigenvalues, torch.randn(d, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("tol", [1e-1, 1e-4, 1e-8])
def test_krylov_stops_at_the_tolerance_and_no_later(tol):
    H, g = network_like()
    product = Counted(H)
    result = solve_krylov(product, g, 1.0, 300, tol=tol)
    assert result.n_products == product.calls < 100
    assert float((H @ result.step + result.damping * result.step + g).norm()) <= tol * float(g.norm()) * 1.0001
    assert solve_krylov(product, g, 1.0, result.n_products - 1).residual > tol * float(g.norm())
    dense = solve_dense(H, g, 1.0)
    assert float((result.step - dense.step).norm()) <= 10 * tol * dense.norm
    assert solve_krylov(product, g, 1.0, 2, tol=tol).n_products == 2


def test_another_L_on_the_same_space_costs_no_product():  # noqa: N802  L is the letter of the formula
    H, g = network_like()
    product = Counted(H)
    space = lanczos(product, g, 8)
    krylov = KrylovCubicModel(space)
    for L in (1e-2, 1.0, 1e2):
        here, alone = krylov.solve(L), solve_krylov(lambda v: H @ v, g, L, 8)
        torch.testing.assert_close(here.step, alone.step, rtol=1e-10, atol=1e-12)
        assert krylov.residual(L) == here.residual
        assert here.n_products == 8
    assert product.calls == 8
    before, after = krylov.residual(1e-2), KrylovCubicModel(extend(space, product, 4)).residual(1e-2)
    assert after < 0.1 * before
    assert product.calls == 12


def test_no_krylov_space_from_the_gradient_sees_the_hard_case():
    H, g = torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64)), torch.tensor([0.0, 1.0], dtype=torch.float64)
    blind = solve_krylov(lambda v: H @ v, g, 1.0, 2)
    assert blind.n_products == 1
    assert blind.step[0] == 0
    assert not blind.hard_case
    assert solve_dense(H, g, 1.0).decrease > 2 * blind.decrease


def test_a_zero_gradient_costs_no_product():
    product = Counted(-torch.eye(3))
    for result in (
        solve_krylov(product, torch.zeros(3), 1.0, 5),
        solve_gradient_descent(product, torch.zeros(3), 1.0, n_steps=0, learning_rate=0.1),
    ):
        assert (result.norm, result.damping, result.decrease, result.n_products) == (0.0, 0.0, 0.0, 0)
        assert result.step.tolist() == [0.0, 0.0, 0.0]
    assert cauchy_point(product, torch.zeros(3), 1.0).tolist() == [0.0, 0.0, 0.0]
    assert product.calls == 0


@settings(deadline=None, max_examples=100)
@given(problem=spectral_problems(["definite", "singular", "indefinite", "near hard"]))
def test_cauchy_point_minimises_along_the_gradient(problem):
    _, seed, eigenvalues, gradient, L = problem
    H, g = rotated(seed, eigenvalues, gradient)
    product = Counted(H)
    point = cauchy_point(product, g, L)
    assert product.calls == 1
    radius = float(point.norm())
    torch.testing.assert_close(point, -radius * g / g.norm(), rtol=1e-12, atol=1e-14 * radius)
    # The derivative along -g vanishes, up to the rounding of its largest term, and the model is no lower nearby or far.
    slope = float(g.norm())
    curvature = float(g @ H @ g) / slope**2
    terms = (-slope, radius * curvature, L / 2 * radius**2)
    assert abs(sum(terms)) <= 1e-11 * max(map(abs, terms))
    if curvature > 0:
        assert abs(sum(terms)) <= 1e-11 * slope  # all terms are of this size, so cancellation in the root would show

    def along(r):
        return -slope * r + curvature / 2 * r**2 + L / 6 * r**3

    for factor in (0.0, 0.5, 0.99, 1.01, 2.0, 10.0):
        assert along(radius) <= along(factor * radius) + 1e-12 * slope * radius


@pytest.mark.parametrize("start", ["cauchy", "zero"])
@pytest.mark.parametrize("n_steps", [0, 1, 7])
def test_gradient_descent_is_the_recursion_of_the_paper(start, n_steps):
    generator = torch.Generator().manual_seed(1)
    H, g = rotated(5, torch.tensor([2.0, 0.3, -0.7, 1.0], dtype=torch.float64), torch.ones(4, dtype=torch.float64))
    L, rate, sigma = 3.0, 0.05, 0.1
    noise = torch.randn(4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = sigma * noise / noise.norm()
    kappa = g @ H @ g / g.norm() ** 2
    s = -(-kappa / L + ((kappa / L) ** 2 + 2 * g.norm() / L).sqrt()) * g / g.norm() if start == "cauchy" else 0 * g
    for _ in range(n_steps):
        s = s - rate * (g + noise + H @ s + L / 2 * s.norm() * s)

    product = Counted(H)
    result = solve_gradient_descent(
        product, g, L, n_steps=n_steps, learning_rate=rate, sigma=sigma, generator=generator, start=start
    )
    torch.testing.assert_close(result.step, s, rtol=1e-12, atol=1e-14)
    assert result.n_products == product.calls == n_steps + (start == "cauchy")
    assert result.norm == pytest.approx(float(s.norm()))
    assert result.damping == pytest.approx(L / 2 * float(s.norm()))
    # Of the true gradient, not of the perturbed one.
    assert result.decrease == pytest.approx(-model(H, g, L, s), rel=1e-12, abs=1e-14)
    assert result.residual == pytest.approx(float((H @ s + L / 2 * s.norm() * s + g).norm()), rel=1e-12)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 10), log_L=st.floats(-1, 1))
def test_gradient_descent_converges_to_the_dense_minimiser(seed, n, log_L):
    generator = torch.Generator().manual_seed(seed)
    eigenvalues = 0.5 + 1.5 * torch.rand(n, generator=generator, dtype=torch.float64)
    H, g = rotated(seed, eigenvalues, torch.randn(n, generator=generator, dtype=torch.float64))
    L = 10**log_L
    dense = solve_dense(H, g, L)
    rate = 0.5 / (2 + L * float(cauchy_point(lambda v: H @ v, g, L).norm()) + L * dense.norm)
    result = solve_gradient_descent(lambda v: H @ v, g, L, n_steps=600, learning_rate=rate)
    torch.testing.assert_close(result.step, dense.step, rtol=0, atol=1e-6 * dense.norm)
    assert result.residual <= 1e-5 * float(g.norm())


def test_the_perturbation_leaves_the_saddle_of_the_hard_case():
    H, g = torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64)), torch.tensor([0.0, 1.0], dtype=torch.float64)
    settings_ = {"n_steps": 400, "learning_rate": 0.1}
    stuck = solve_gradient_descent(lambda v: H @ v, g, 1.0, **settings_)
    assert stuck.step[0] == 0
    generator = torch.Generator().manual_seed(0)
    free = solve_gradient_descent(lambda v: H @ v, g, 1.0, sigma=1e-3, generator=generator, **settings_)
    dense = solve_dense(H, g, 1.0)
    assert dense.hard_case
    torch.testing.assert_close(free.step.abs(), dense.step.abs(), rtol=2e-3, atol=0)
    assert free.decrease == pytest.approx(dense.decrease, rel=1e-5)


def test_the_perturbation_comes_from_the_generator():
    def perturbed(seed):
        generator = torch.Generator().manual_seed(seed)
        g = torch.ones(3)
        return solve_gradient_descent(
            lambda v: v, g, 1.0, n_steps=1, learning_rate=0.1, sigma=1.0, generator=generator
        ).step

    assert torch.equal(perturbed(0), perturbed(0))
    assert not torch.equal(perturbed(0), perturbed(1))


def test_gradient_descent_with_a_product_that_returns_its_argument():
    g = torch.tensor([3.0, 4.0], dtype=torch.float64)
    result = solve_gradient_descent(lambda v: v, g, 1.0, n_steps=300, learning_rate=0.1)
    torch.testing.assert_close(result.step, solve_dense(torch.eye(2, dtype=torch.float64), g, 1.0).step)
    assert g.tolist() == [3.0, 4.0]


def test_float32_in_float32_out():
    H, g = network_like(60)
    exact = solve_dense(H, g, 1.0)
    H32, g32 = H.float(), g.float().requires_grad_()
    steps = [
        solve_dense(H32, g32, 1.0).step,
        solve_krylov(lambda v: H32 @ v, g32, 1.0, 60).step,
        solve_gradient_descent(lambda v: H32 @ v, g32, 1.0, n_steps=3000, learning_rate=0.02).step,
        cauchy_point(lambda v: H32 @ v, g32, 1.0),
    ]
    for step in steps:
        assert step.dtype == torch.float32
        assert not step.requires_grad
    for step in steps[:3]:
        torch.testing.assert_close(step.double(), exact.step, rtol=0, atol=1e-3 * exact.norm)


def test_a_result_cannot_be_changed():
    result = solve_dense(torch.eye(2), torch.ones(2), 1.0)
    with pytest.raises(FrozenInstanceError):
        result.damping = 0.0


EYE, ONES, UNEQUAL = torch.eye(2), torch.ones(2), torch.tensor([1.0, 3.0])
DESCENT = {"n_steps": 1, "learning_rate": 0.1}


@pytest.mark.parametrize("L", [0, 0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize(
    "solve",
    [
        lambda L: minimise_spectral(ONES, ONES, L),
        lambda L: solve_dense(EYE, ONES, L),
        lambda L: solve_krylov(lambda v: v, ONES, L, 2),
        lambda L: KrylovCubicModel(lanczos(lambda v: v, ONES, 2)).solve(L),
        lambda L: cauchy_point(lambda v: v, ONES, L),
        lambda L: solve_gradient_descent(lambda v: v, ONES, L, **DESCENT),
    ],
)
def test_L_must_be_positive(solve, L):  # noqa: N802  L is the letter of the formula
    with pytest.raises(ValueError, match="L must be a positive finite number"):
        solve(L)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: minimise_spectral(ONES, torch.ones(3), 1.0), "same length"),
        (lambda: minimise_spectral(torch.ones(0), torch.ones(0), 1.0), "at least 1"),
        (lambda: minimise_spectral(ONES * torch.nan, ONES, 1.0), "eigenvalues must be finite"),
        (lambda: minimise_spectral(ONES, ONES * torch.inf, 1.0), "coefficients must be finite"),
        (lambda: solve_dense(torch.eye(3), ONES, 1.0), r"got \(3, 3\) and \(2,\)"),
        (lambda: solve_dense(torch.tensor([[1.0, 2.0], [1.0, 1.0]]), ONES, 1.0), "H must be symmetric"),
        (lambda: solve_dense(EYE * torch.nan, ONES, 1.0), "H must be finite"),
        (lambda: solve_dense(EYE, ONES * torch.nan, 1.0), "g must be finite"),
        (lambda: solve_krylov(lambda v: v, ONES * torch.nan, 1.0, 1), "g must be finite"),
        (lambda: solve_krylov(lambda v: v, EYE, 1.0, 1), "g must be a floating-point vector"),
        (lambda: solve_krylov(lambda v: v, ONES, 1.0, 0), "n_products must be an integer of at least 1, got 0"),
        (lambda: cauchy_point(lambda v: v, ONES * torch.nan, 1.0), "g must be finite"),
        (lambda: cauchy_point(lambda v: v[:1], ONES, 1.0), "product must return"),
        (
            lambda: solve_gradient_descent(lambda v: v, ONES, 1.0, n_steps=-1, learning_rate=0.1),
            "n_steps must be an integer",
        ),
        (
            lambda: solve_gradient_descent(lambda v: v, ONES, 1.0, n_steps=1, learning_rate=0.0),
            "learning_rate must be",
        ),
        (lambda: solve_gradient_descent(lambda v: v, ONES, 1.0, sigma=-1.0, **DESCENT), "sigma must be"),
        (lambda: solve_gradient_descent(lambda v: v, ONES, 1.0, start="newton", **DESCENT), "start must be"),
    ],
)
def test_a_bad_argument_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: minimise_spectral(-1e300 * ONES.double(), ONES, 1e-300),
        lambda: solve_dense(EYE * -1e30, ONES, 1e-30),  # finite in float64, not in the float32 of g
        lambda: solve_krylov(lambda v: v * torch.nan, ONES, 1.0, 2),
        lambda: solve_krylov(lambda v: v * -1e30, ONES, 1e-30, 2),
        lambda: cauchy_point(lambda v: v * torch.nan, ONES, 1.0),
        lambda: cauchy_point(lambda v: v * -1e30, ONES, 1e-30),
        lambda: solve_gradient_descent(lambda v: v * torch.nan, ONES, 1.0, **DESCENT),
        lambda: solve_gradient_descent(lambda v: v * UNEQUAL, ONES, 1.0, n_steps=50, learning_rate=1e3),
    ],
)
def test_what_is_not_finite_is_raised(call):
    with pytest.raises(FloatingPointError):
        call()


@pytest.mark.gpu
def test_on_cuda():
    H, g = network_like(80)
    H_cuda, g_cuda = H.cuda(), g.cuda()
    exact = solve_dense(H, g, 1.0).step
    generator = torch.Generator().manual_seed(0)
    for result in (
        solve_dense(H_cuda, g_cuda, 1.0),
        solve_krylov(lambda v: H_cuda @ v, g_cuda, 1.0, 80),
        solve_gradient_descent(
            lambda v: H_cuda @ v, g_cuda, 1.0, n_steps=3000, learning_rate=0.02, sigma=1e-6, generator=generator
        ),
    ):
        assert result.step.is_cuda
        torch.testing.assert_close(result.step.cpu(), exact, rtol=0, atol=1e-4 * float(exact.norm()))
