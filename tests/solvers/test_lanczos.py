import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_unlearn.solvers import KrylovSpace, extend, lanczos


def symmetric(eigenvalues, generator):
    n = len(eigenvalues)
    vectors = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    return (vectors * eigenvalues) @ vectors.T, vectors


def random_problem(seed, d):
    generator = torch.Generator().manual_seed(seed)
    H, _ = symmetric(torch.randn(d, generator=generator, dtype=torch.float64), generator)
    return H, torch.randn(d, generator=generator, dtype=torch.float64)


def assert_krylov(space, H, start, tolerance):
    """Everything the docstring promises, from the matrix itself."""
    V, T = space.basis.double(), space.tridiagonal
    k = V.shape[0]
    scale = torch.linalg.matrix_norm(H, 2)
    torch.testing.assert_close(V @ V.T, torch.eye(k, dtype=torch.float64), atol=tolerance, rtol=0)
    torch.testing.assert_close(V[0], start.double() / start.double().norm(), atol=tolerance, rtol=0)
    torch.testing.assert_close(V @ H @ V.T / scale, T / scale, atol=tolerance, rtol=0)
    assert torch.equal(T, torch.triu(torch.tril(T, 1), -1))
    outside = H @ V.T - V.T @ T
    if not space.exhausted:
        outside[:, -1] -= space.residual * space.next_direction.double()
    assert outside.norm() <= 10 * tolerance * scale


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), d=st.integers(1, 30), n_products=st.integers(1, 35), log_scale=st.floats(-8, 8))
def test_basis_is_orthonormal_and_projects(seed, d, n_products, log_scale):
    H, b = random_problem(seed, d)
    H, b = H * 10**log_scale, b * 10**-log_scale
    space = lanczos(lambda v: H @ v, b, n_products)
    assert space.n_products == space.basis.shape[0] == min(n_products, d)
    assert space.exhausted == (n_products >= d)
    assert space.start_norm == pytest.approx(float(b.norm()), rel=1e-14)
    assert space.tridiagonal.dtype == torch.float64
    assert_krylov(space, H, b, 1e-11)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), d=st.integers(2, 30), data=st.data())
def test_extending_is_the_same_as_building_at_once(seed, d, data):
    H, b = random_problem(seed, d)
    first, more = data.draw(st.integers(1, d)), data.draw(st.integers(1, d))
    part = lanczos(lambda v: H @ v, b, first)
    before = part.basis.clone()
    grown, whole = extend(part, lambda v: H @ v, more), lanczos(lambda v: H @ v, b, first + more)
    assert torch.equal(part.basis, before)
    torch.testing.assert_close(grown.basis, whole.basis, rtol=0, atol=1e-9)
    torch.testing.assert_close(grown.tridiagonal, whole.tridiagonal, rtol=0, atol=1e-9)
    assert grown.residual == pytest.approx(whole.residual, abs=1e-9)
    assert (grown.n_products, grown.exhausted) == (whole.n_products, whole.exhausted)


def test_orthonormal_where_the_plain_recurrence_is_not():
    # Well separated large eigenvalues converge early, after which the three-term recurrence alone repeats itself.
    generator = torch.Generator().manual_seed(0)
    H, _ = symmetric(torch.logspace(-12, 4, 120, dtype=torch.float64), generator)
    b = torch.randn(120, generator=generator, dtype=torch.float64)
    space = lanczos(lambda v: H @ v, b, 80)
    assert space.n_products > 40
    assert_krylov(space, H, b, 1e-12)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("degree", [1, 2, 5])
def test_stops_at_an_invariant_subspace(degree, scale):
    # `degree` distinct eigenvalues: the Krylov space of any vector has that dimension.
    generator = torch.Generator().manual_seed(degree)
    H, _ = symmetric(scale * torch.linspace(-1, 2, degree, dtype=torch.float64).repeat(40 // degree), generator)
    b = torch.randn(len(H), generator=generator, dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        space = lanczos(lambda v: H.to(v) @ v, b.to(dtype), 30)
        assert space.exhausted
        assert space.n_products == degree
        assert space.residual == 0.0
        assert space.next_direction is None
        assert extend(space, lambda v: H.to(v) @ v, 3) is space
    assert_krylov(lanczos(lambda v: H @ v, b, 30), H, b, 1e-12)


def test_zero_operator_is_exhausted_at_once():
    space = lanczos(torch.zeros_like, torch.ones(4), 3)
    assert space.exhausted
    assert space.tridiagonal.tolist() == [[0.0]]


def test_float32_stays_float32_and_is_orthonormal_to_its_rounding():
    H, b = random_problem(1, 50)
    space = lanczos(lambda v: H.float() @ v, b.float(), 20)
    assert space.basis.dtype == space.next_direction.dtype == torch.float32
    assert_krylov(space, H, b, 5e-6)


@pytest.mark.parametrize("scale", [1e-36, 1e36])
def test_start_whose_square_leaves_the_range_of_its_dtype(scale):
    H, b = random_problem(2, 10)
    space = lanczos(lambda v: H.float() @ v, b.float() * scale, 5)
    assert space.start_norm == pytest.approx(scale * float(b.norm()), rel=1e-5)
    assert_krylov(space, H, b, 5e-6)


def test_stop_is_asked_after_each_product():
    H, b = random_problem(3, 20)
    seen = []

    def stop(space):
        assert isinstance(space, KrylovSpace)
        seen.append(space.n_products)
        return space.n_products == 4

    space = lanczos(lambda v: H @ v, b, 10, stop=stop)
    assert seen == [1, 2, 3, 4]
    assert space.n_products == 4
    assert_krylov(space, H, b, 1e-12)


def test_tol_ends_the_growth_at_a_weak_coupling():
    d = 12
    H = torch.diag(torch.ones(d - 1, dtype=torch.float64), 1)
    H[4, 5] = 1e-3
    H = H + H.T
    b = torch.eye(d, dtype=torch.float64)[0]
    assert lanczos(lambda v: H @ v, b, d, tol=1e-2).n_products == 5
    assert lanczos(lambda v: H @ v, b, d, tol=1e-4).n_products == d


def test_neither_start_nor_a_product_that_returns_its_argument_is_written_to():
    b = torch.tensor([3.0, 4.0], requires_grad=True)
    space = lanczos(lambda v: v, b, 2)
    assert b.tolist() == [3.0, 4.0]
    assert not space.basis.requires_grad
    torch.testing.assert_close(space.basis, torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(space.tridiagonal, torch.ones(1, 1, dtype=torch.float64))


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (torch.zeros(3), "zero"),
        (torch.tensor([1.0, torch.nan]), "finite"),
        (torch.tensor([1.0, torch.inf]), "finite"),
        (torch.ones(2, 2), "vector"),
        (torch.ones(0), "vector"),
        (torch.ones(2, dtype=torch.int64), "floating-point"),
    ],
)
def test_a_bad_start_is_named(start, message):
    with pytest.raises(ValueError, match=f"start must.*{message}"):
        lanczos(lambda v: v, start, 1)


@pytest.mark.parametrize("n_products", [0, -1, 2.5, None])
def test_a_bad_count_is_named(n_products):
    with pytest.raises(ValueError, match="n_products must be an integer"):
        lanczos(lambda v: v, torch.ones(3), n_products)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 3e38])
def test_a_product_that_is_not_finite(bad):
    def product(v):
        result = torch.arange(4.0) * v
        result[1] = bad
        return result

    with pytest.raises(FloatingPointError, match="product 1"):
        lanczos(product, torch.ones(4), 3)


@pytest.mark.parametrize("product", [lambda v: v[:2], lambda v: v.double(), lambda v: v[:, None]])
def test_a_product_unlike_its_argument(product):
    with pytest.raises(ValueError, match="product must return a tensor like its argument"):
        lanczos(product, torch.ones(4), 3)


@pytest.mark.gpu
def test_on_cuda():
    H, b = random_problem(4, 40)
    H_cuda = H.cuda()
    space = lanczos(lambda v: H_cuda @ v, b.cuda(), 15)
    assert space.basis.is_cuda
    assert not space.tridiagonal.is_cuda
    assert_krylov(extend(lanczos(lambda v: H @ v, b, 10), lambda v: H @ v, 5), H, b, 1e-12)
    torch.testing.assert_close(space.tridiagonal, lanczos(lambda v: H @ v, b, 15).tridiagonal, rtol=0, atol=1e-9)
