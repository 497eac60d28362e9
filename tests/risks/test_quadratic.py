"""Risks put together from parts, against an empirical risk over the rows themselves, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sk_unlearn.risks.combined import CombinedRisk
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.quadratic import CurvatureSketch, QuadraticRisk

fast = settings(max_examples=20, deadline=None)


def problem(seed, n=40, weighted=False, decay=0.03):
    """A risk of a small net in float64, and a point that is not where its net stands."""
    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, 4, dtype=torch.float64), nn.Tanh(), nn.Linear(4, 3, dtype=torch.float64))
    net = NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, optimizer__weight_decay=decay, verbose=0
    ).initialize()
    X, y = generator.normal(size=(n, 3)), generator.integers(3, size=n)
    weight = generator.uniform(0.2, 3, size=n) if weighted else None
    risk = EmpiricalRisk(net, X, y, weight)
    return risk, risk.parameters() + 0.1 * torch.randn(risk.n_parameters, dtype=torch.float64), generator


def part(risk, rows):
    weight = None if risk.sample_weight is None else risk.sample_weight[rows]
    return EmpiricalRisk(risk.net, risk.X[rows], risk.y[rows], weight)


def ggn_matrix(risk, w):
    local = risk.linearise(w)
    return torch.stack([local.ggn(e) for e in torch.eye(len(w), dtype=w.dtype)])


def matrix(sketch):
    d = sketch.vectors.shape[1]
    return torch.stack([sketch.product(e) for e in torch.eye(d, dtype=sketch.vectors.dtype)])


def vector(w, generator):
    return torch.from_numpy(generator.normal(size=len(w)))


# -------------------------------------------------------------------------------------------------------------- sketch


@fast
@given(st.integers(0, 10**6))
def test_sketch_of_full_rank_is_the_matrix(seed):
    risk, w, generator = problem(seed)
    sketch = CurvatureSketch.fit(risk, w, rank=10**6, rng=generator)
    H = ggn_matrix(risk, w)
    assert sketch.vectors.shape == H.shape
    assert torch.linalg.norm(matrix(sketch) - H) < 1e-7 * torch.linalg.norm(H)


@fast
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_sketch_is_positive_symmetric_and_below_in_its_directions(seed, rank):
    risk, w, generator = problem(seed)
    sketch = CurvatureSketch.fit(risk, w, rank, generator)
    S = matrix(sketch)
    assert torch.linalg.norm(S - S.T) < 1e-12 * torch.linalg.norm(S)
    assert torch.linalg.eigvalsh(S)[0] >= -1e-12 * torch.linalg.norm(S)
    np.testing.assert_allclose(sketch.vectors @ sketch.vectors.T, np.eye(rank), atol=1e-10)
    # Nyström never overshoots: H minus its low-rank part is positive.
    low_rank = sketch.vectors.T @ torch.diag(sketch.values) @ sketch.vectors
    H = ggn_matrix(risk, w)
    assert torch.linalg.eigvalsh(H - low_rank)[0] >= -1e-8 * torch.linalg.norm(H)
    assert sketch.rest >= 0


def test_rest_is_the_mean_curvature_outside_on_average():
    risk, w, _ = problem(3)
    H = ggn_matrix(risk, w)
    d, rank = len(w), 6
    traces = []
    for seed in range(300):
        sketch = CurvatureSketch.fit(risk, w, rank, np.random.default_rng(seed))
        traces.append(float(sketch.values.sum()) + (d - rank) * sketch.rest)
    assert np.mean(traces) == pytest.approx(float(H.trace()), rel=0.05)


def test_low_rank_and_rest():
    vectors = torch.linalg.qr(torch.randn(7, 2, dtype=torch.float64)).Q.T
    sketch = CurvatureSketch(vectors, torch.tensor([5.0, 2.0], dtype=torch.float64), 0.5)
    v = torch.randn(7, dtype=torch.float64)
    inside = vectors.T @ (vectors @ v)
    wanted = vectors.T @ (sketch.values * (vectors @ v)) + 0.5 * (v - inside)
    torch.testing.assert_close(sketch.product(v), wanted)
    torch.testing.assert_close(sketch.to(torch.device("cpu")).product(v), wanted)


def test_large_curvature_is_found_by_a_small_rank():
    # Two directions hold nearly all: a sketch of rank 8 must see them.
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    X = generator.normal(size=(60, 30)) * 0.01
    X[:, :2] *= 1000
    net = NeuralNetClassifier(nn.Linear(30, 2, dtype=torch.float64), criterion=nn.CrossEntropyLoss, verbose=0)
    risk = EmpiricalRisk(net.initialize(), X, generator.integers(2, size=60))
    w = torch.zeros(62, dtype=torch.float64)
    H = ggn_matrix(risk, w)
    top = torch.linalg.eigvalsh(H)[-2:].flip(0)
    sketch = CurvatureSketch.fit(risk, w, 8, generator)
    np.testing.assert_allclose(np.sort(sketch.values)[::-1][:2], top, rtol=1e-2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_quadratic_risk_is_recognised(dtype):
    generator = np.random.default_rng(0)
    X, y = generator.normal(size=(50, 3)).astype(dtype), generator.normal(size=(50, 1)).astype(dtype)
    kind = torch.float32 if dtype is np.float32 else torch.float64
    for module, expected in (
        (nn.Linear(3, 1), True),
        (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), False),
    ):
        net = NeuralNetRegressor(module.to(kind), optimizer__weight_decay=0.1, verbose=0).initialize()
        risk = EmpiricalRisk(net, X, y)
        sketch = CurvatureSketch.fit(risk, risk.parameters(), 4, generator)
        assert sketch.quadratic is expected
        assert sketch.updated(risk.mass, risk.parameters(), removed=[part(risk, np.arange(5))]).quadratic is expected


def test_sketch_is_seeded():
    risk, w, _ = problem(1)
    one, two = (CurvatureSketch.fit(risk, w, 5, np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(one.vectors, two.vectors)
    assert not torch.equal(one.vectors, CurvatureSketch.fit(risk, w, 5, np.random.default_rng(5)).vectors)


def test_sketch_of_no_curvature_at_all():
    net = NeuralNetClassifier(nn.Linear(3, 2, bias=False), criterion=nn.CrossEntropyLoss, verbose=0).initialize()
    risk = EmpiricalRisk(net, np.zeros((5, 3), np.float32), np.zeros(5, np.int64))
    sketch = CurvatureSketch.fit(risk, torch.zeros(6), 4, np.random.default_rng(0))
    assert torch.equal(sketch.product(torch.ones(6)), torch.zeros(6))


def test_curvature_that_is_not_finite_is_refused():
    net = NeuralNetRegressor(nn.Linear(3, 1), verbose=0).initialize()
    risk = EmpiricalRisk(net, np.full((5, 3), 1e30, np.float32), np.zeros((5, 1), np.float32))
    with pytest.raises(FloatingPointError, match="curvature"):
        CurvatureSketch.fit(risk, torch.randn(4), 4, np.random.default_rng(0))


# --------------------------------------------------------------------------------------- sketch after rows have changed


@fast
@given(st.integers(0, 10**6), st.booleans())
def test_updated_sketch_of_full_rank_is_exact(seed, weighted):
    risk, w, generator = problem(seed, weighted=weighted)
    rest, gone, come = part(risk, np.arange(5, 35)), part(risk, np.arange(5)), part(risk, np.arange(35, 40))
    before = part(risk, np.arange(35))
    sketch = CurvatureSketch.fit(before, w, 10**6, generator)
    H = ggn_matrix(rest, w)
    updated = sketch.updated(before.mass, w, removed=[gone])
    assert torch.linalg.norm(matrix(updated) - H) < 1e-7 * torch.linalg.norm(H)
    H = ggn_matrix(part(risk, np.arange(5, 40)), w)
    updated = sketch.updated(before.mass, w, removed=[gone], added=[come])
    assert torch.linalg.norm(matrix(updated) - H) < 1e-7 * torch.linalg.norm(H)


@fast
@given(st.integers(0, 10**6), st.integers(1, 25))
def test_updated_sketch_stays_positive(seed, rank):
    risk, w, generator = problem(seed)
    sketch = CurvatureSketch.fit(risk, w, rank, generator)
    updated = sketch.updated(risk.mass, w, removed=[part(risk, np.arange(30))])
    S = matrix(updated)
    assert torch.linalg.eigvalsh(S)[0] >= -1e-10 * (1 + torch.linalg.norm(S))
    assert len(updated.vectors) <= rank  # directions that nearly only these rows had are left out
    np.testing.assert_allclose(updated.vectors @ updated.vectors.T, np.eye(len(updated.vectors)), atol=1e-10)


# ----------------------------------------------------------------------------------------------------------- quadratic


@fast
@given(st.integers(0, 10**6))
def test_quadratic_risk_is_consistent(seed):
    generator = np.random.default_rng(seed)
    d = 6
    vectors = torch.from_numpy(np.linalg.qr(generator.normal(size=(d, 3)))[0].T.copy())
    sketch = CurvatureSketch(vectors, torch.from_numpy(generator.uniform(0, 4, 3)), float(generator.uniform()))
    center, gradient = (torch.from_numpy(generator.normal(size=d)) for _ in range(2))
    risk = QuadraticRisk(center, gradient, sketch, mass=9.0)
    assert risk.value(center) == 0.0
    torch.testing.assert_close(risk.gradient(center), gradient)
    w, v = (torch.from_numpy(generator.normal(size=d)) for _ in range(2))
    local = risk.linearise(w)
    torch.testing.assert_close(local.gradient, risk.gradient(w))
    assert local.value == pytest.approx(risk.value(w))
    # A quadratic: the expansion to second order is the function.
    step = risk.value(w + v) - risk.value(w)
    assert step == pytest.approx(float(local.gradient @ v + 0.5 * v @ local.hessian(v)), rel=1e-9, abs=1e-9)
    torch.testing.assert_close(risk.gradient(w + v) - risk.gradient(w), local.hessian(v))
    assert risk.n_rows == 0
    assert len(risk.sample(5, generator)) == 0


# ------------------------------------------------------------------------------------------------------------ combined


@fast
@given(st.integers(0, 10**6), st.booleans())
def test_combined_risk_is_the_risk_over_union_and_difference(seed, weighted):
    risk, w, generator = problem(seed, weighted=weighted)
    v = vector(w, generator)
    base, added, removed = np.arange(30), np.arange(30, 40), np.arange(6)
    whole = np.arange(6, 40)
    combined = CombinedRisk(part(risk, base), added=[part(risk, added)], removed=[part(risk, removed)])
    wanted = part(risk, whole)
    assert combined.mass == pytest.approx(wanted.mass)
    assert combined.n_rows == 30
    assert combined.value(w) == pytest.approx(wanted.value(w), rel=1e-10)
    torch.testing.assert_close(combined.gradient(w), wanted.gradient(w), rtol=1e-9, atol=1e-12)
    local, reference = combined.linearise(w), wanted.linearise(w)
    assert local.value == pytest.approx(wanted.value(w), rel=1e-10)
    torch.testing.assert_close(local.gradient, wanted.gradient(w), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(local.hessian(v), reference.hessian(v), rtol=1e-9, atol=1e-12)


def test_combined_with_nothing_is_the_base():
    risk, w, generator = problem(0)
    combined = CombinedRisk(risk)
    assert combined.value(w) == risk.value(w)
    assert torch.equal(combined.gradient(w), risk.gradient(w))
    v = vector(w, generator)
    torch.testing.assert_close(combined.linearise(w).hessian(v), risk.linearise(w).hessian(v))


def test_sampled_rows_are_those_of_the_base():
    risk, w, generator = problem(0)
    combined = CombinedRisk(part(risk, np.arange(30)), removed=[part(risk, np.arange(6))])
    rows = combined.sample(8, generator)
    assert len(set(rows.tolist())) == 8
    assert max(rows) < 30
    # Rows stand for the whole base: its mass, not theirs, goes with them.
    sampled = part(risk, rows)
    wanted = (30 * sampled.value(w) - 6 * part(risk, np.arange(6)).value(w)) / 24
    assert combined.value(w, rows) == pytest.approx(wanted)
    wanted = (30 * sampled.gradient(w) - 6 * part(risk, np.arange(6)).gradient(w)) / 24
    torch.testing.assert_close(combined.gradient(w, rows), wanted)
    torch.testing.assert_close(combined.linearise(w, rows).gradient, wanted)


def test_average_over_samples_is_the_gradient():
    risk, w, generator = problem(0)
    combined = CombinedRisk(part(risk, np.arange(30)), removed=[part(risk, np.arange(6))])
    mean = torch.stack([combined.gradient(w, combined.sample(10, generator)) for _ in range(600)]).mean(0)
    assert torch.linalg.norm(mean - combined.gradient(w)) < 0.1 * torch.linalg.norm(combined.gradient(w))


@fast
@given(st.integers(0, 10**6))
def test_quadratic_base_at_its_centre(seed):
    # At the point where the sketch was taken, what is left is known exactly but for the Hessian's indefinite part.
    risk, w, generator = problem(seed)
    sketch = CurvatureSketch.fit(risk, w, 10**6, generator)
    removed = part(risk, np.arange(5))
    combined = CombinedRisk(QuadraticRisk(w, risk.gradient(w), sketch, risk.mass), removed=[removed])
    wanted = part(risk, np.arange(5, 40))
    torch.testing.assert_close(combined.gradient(w), wanted.gradient(w), rtol=1e-9, atol=1e-11)
    assert combined.mass == 35
    v = vector(w, generator)
    product = (40 * sketch.product(v) - 5 * removed.linearise(w).hessian(v)) / 35
    torch.testing.assert_close(combined.linearise(w).hessian(v), product)


@pytest.mark.parametrize("n_removed", [40, 50])
def test_nothing_left_is_refused(n_removed):
    risk, _, _ = problem(0)
    rows = np.arange(n_removed) % 40
    with pytest.raises(ValueError, match="weigh as much as all the rows"):
        CombinedRisk(risk, removed=[part(risk, rows)])


# ---------------------------------------------------------------------------------------------- what kind of risk it is


def quadratic(w, *, exact):
    d = len(w)
    return QuadraticRisk(w, torch.ones_like(w), CurvatureSketch(torch.eye(d, dtype=w.dtype)[:2], w[:2], 0.5, exact), 40)


def test_stored_rows_parts_and_reach():
    risk, w, _ = problem(0)
    few = part(risk, np.arange(10))
    both = CombinedRisk(risk, added=[few], removed=[few])
    local, exact = quadratic(w, exact=False), quadratic(w, exact=True)
    without_rows = CombinedRisk(local, removed=[few])
    assert risk.stored is both.stored is risk
    assert local.stored is exact.stored is without_rows.stored is None
    for single in (risk, local, exact):
        assert single.parts == [(1.0, single)]
    assert both.parts == [(1.0, risk), (0.25, few), (-0.25, few)]
    assert [each.holds_locally for each in (risk, both, local, exact, without_rows)] == [
        False,
        False,
        True,
        False,
        True,
    ]


def test_value_and_gradient_are_those_of_either_call():
    risk, w, _ = problem(0)
    few, more, rows = part(risk, np.arange(10)), part(risk, np.arange(20)), np.arange(0, 40, 3)
    with_rows, without = CombinedRisk(risk, added=[few], removed=[more]), quadratic(w, exact=False)
    for each in (risk, with_rows, without, CombinedRisk(without, removed=[few])):
        for selected in (None, rows):
            value, gradient = each.value_and_gradient(w + 0.1, selected)
            assert value == pytest.approx(each.value(w + 0.1, selected), rel=1e-13)
            torch.testing.assert_close(gradient, each.gradient(w + 0.1, selected), rtol=1e-13, atol=1e-15)


# ------------------------------------------------------------------------------------------------ what a sketch tells


def linear_risk(X, decay):
    net = NeuralNetRegressor(
        nn.Linear(X.shape[1], 1, bias=False, dtype=torch.float64), optimizer__weight_decay=decay, verbose=0
    ).initialize()
    return EmpiricalRisk(net, X, X[:, :1])


def energy(sketch, vectors):
    """The share of each vector that lies in the span of the sketch."""
    inside = vectors @ sketch.vectors.T
    return (inside.square().sum(1) / vectors.square().sum(1)).numpy()


@pytest.mark.parametrize("decay", [0.0, 1e-2])
@pytest.mark.parametrize("n", [20, 30, 60])
@pytest.mark.parametrize("n_gone", [1, 3])
def test_the_span_does_not_tell_of_rows_that_went(n, decay, n_gone):
    """A sketch of rank 32 of fewer rows holds each of them exactly, and must not after they have gone."""
    generator = np.random.default_rng(n)
    X = generator.normal(size=(n, 100))
    w, gone = torch.zeros(100, dtype=torch.float64), torch.from_numpy(X[:n_gone])
    before = CurvatureSketch.fit(linear_risk(X, decay), w, 32, generator)
    after = before.updated(n, w, removed=[linear_risk(X[:n_gone], decay)])
    anew = CurvatureSketch.fit(linear_risk(X[n_gone:], decay), w, 32, generator)
    assert (energy(before, gone) > 0.999).all() == (n < 32)
    assert energy(after, gone).mean() < energy(anew, gone).mean() + 0.1
    H = ggn_matrix(linear_risk(X[n_gone:], decay), w)
    assert torch.linalg.norm(matrix(after) - H) < 1.1 * torch.linalg.norm(matrix(anew) - H) + 0.05 * torch.linalg.norm(
        H
    )


def test_the_span_learns_of_rows_that_come():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(40, 100))
    w = torch.zeros(100, dtype=torch.float64)
    sketch = CurvatureSketch.fit(linear_risk(X[:20], 0.0), w, 32, generator)
    new = torch.from_numpy(X[20:22])
    grown = sketch.updated(20, w, added=[linear_risk(X[20:22], 0.0)])
    assert (energy(sketch, new) < 0.6).all()
    np.testing.assert_allclose(energy(grown, new), 1, rtol=1e-6)
    H = ggn_matrix(linear_risk(X[:22], 0.0), w)
    assert torch.linalg.norm(matrix(grown) - H) < 1e-6 * torch.linalg.norm(H)


@fast
@given(st.integers(0, 10**6), st.integers(1, 20))
def test_a_sketch_of_all_directions_follows_exactly(seed, n_gone):
    risk, w, generator = problem(seed)
    sketch = CurvatureSketch.fit(risk, w, rank=10**6, rng=generator)
    after = sketch.updated(risk.mass, w, removed=[part(risk, np.arange(n_gone))])
    H = ggn_matrix(part(risk, np.arange(n_gone, risk.n_rows)), w)
    assert torch.linalg.norm(matrix(after) - H) < 1e-6 * torch.linalg.norm(H)
