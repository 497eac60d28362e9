"""Directions that no row uses any more."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_unlearn.solvers.dead_directions import AxisKernel, SpanKernel, constant_columns, unused_directions

UNIT = 2.0**-53


def with_ones(X):
    return torch.cat([torch.as_tensor(X, dtype=torch.float64), torch.ones(len(X), 1, dtype=torch.float64)], dim=1)


def second_moments(X):
    return X.T @ X


def found_in(X, gone, *, affine=True):
    """Look for directions that are dead without the last rows of X, of which there are `gone`."""
    S = second_moments(X)
    rounding = UNIT * len(X) ** 0.5 * S.diagonal()
    return unused_directions(S, second_moments(X[len(X) - gone :]), rounding, affine=affine)


def null_space(X):
    _, singular, directions = torch.linalg.svd(X)
    rank = int((singular > 1e-9 * singular[0]).sum())
    return directions[rank:].T


def projector(basis):
    return basis @ torch.linalg.pinv(basis)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    p=st.integers(2, 9),
    n_dead=st.integers(0, 3),
    n_unused=st.integers(0, 2),
    gone=st.integers(1, 12),
    affine=st.booleans(),
)
def test_what_is_dead_is_the_kernel_of_the_retained_less_that_of_all(seed, p, n_dead, n_unused, gone, affine):
    rng = np.random.default_rng(seed)
    n_dead, n_unused = min(n_dead, p - 1), min(n_unused, p - 1)
    X = torch.from_numpy(rng.normal(size=(60, p)))
    mix = torch.from_numpy(np.linalg.qr(rng.normal(size=(p, p)))[0])
    X[:-gone, :n_dead] = 0
    if n_unused:
        X[:, -n_unused:] = 0
    X = X @ mix + (1.7 if affine else 0.0)
    X = with_ones(X) if affine else X
    found = found_in(X, gone, affine=affine)
    # The plain projector onto what no retained row uses, less that onto what no row at all uses.
    wanted = projector(null_space(X[:-gone])) - projector(null_space(X))
    if found is None:
        assert float(wanted.norm()) < 1e-6
        return
    rows = torch.from_numpy(rng.normal(size=(4, X.shape[1])))
    torch.testing.assert_close(found.part(rows), rows @ wanted, rtol=1e-6, atol=1e-6)
    # In any metric the retained rows see no difference.
    for adaptive in (False, True):
        seen = X[:-gone] @ found.part(rows, adaptive=adaptive).T
        assert float(seen.abs().max()) < 1e-6


def one_hot(n, standardised):
    X = np.zeros((n, 4))
    X[np.arange(n), np.arange(n) % 3] = 1
    X[-50:] = [0, 0, 0, 1]
    return (X - X.mean(0)) / X.std(0) if standardised else X


@pytest.mark.parametrize("standardised", [False, True])
def test_one_retained_row_of_many_keeps_a_direction_alive(standardised):
    n = 1_000_000
    X = with_ones(one_hot(n, standardised))
    assert found_in(X, 50) is not None
    assert found_in(X, 49) is None


@pytest.mark.parametrize("gone", [50, 49])
def test_a_wide_input_is_looked_at_by_column(gone):
    X = with_ones(one_hot(10_000, standardised=True))

    def sums(rows):
        return torch.stack([rows.sum(0), rows.square().sum(0)])

    found = constant_columns(sums(X), sums(X[-gone:]), UNIT * 100 * sums(X)[1])
    if gone < 50:
        assert found is None
        return
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 5)))
    direction = torch.zeros(5, dtype=torch.float64)
    direction[3], direction[4] = 1, -X[0, 3]
    torch.testing.assert_close(found.part(rows), rows @ torch.outer(direction, direction) / direction.square().sum())


def test_rounding_does_not_keep_a_dead_direction_alive_through_many_subtractions():
    rng = np.random.default_rng(0)
    X = torch.from_numpy(rng.normal(size=(3000, 6)).astype(np.float32)).double() * torch.logspace(-3, 3, 6).double()
    X[:, 0] = 0
    X[-300:, 0] = 7
    X = with_ones(X)
    S = second_moments(X)
    rounding = UNIT * len(X) ** 0.5 * S.diagonal()
    for k in range(300):
        x = X[2700 + k : 2701 + k]
        found = unused_directions(S, x.T @ x, rounding, affine=True)
        assert (found is not None) == (k == 299)
        S = S - x.T @ x
        rounding = rounding + UNIT * S.diagonal()
    # What is left of the column is rounding, which no row brings back to life.
    x = X[:1]
    assert unused_directions(S, x.T @ x, rounding, affine=True) is None


def test_a_column_far_from_zero_is_judged_by_its_spread():
    rng = np.random.default_rng(0)
    X = np.column_stack([500.0 + np.zeros(2000), rng.normal(size=2000)])
    X[-5:, 0] = 510
    X = with_ones(X)
    assert found_in(X, 5) is not None
    X[0, 0] = 501
    assert found_in(X, 5) is None


def test_an_outlier_does_not_hide_the_rows_beside_it():
    X = np.random.default_rng(0).normal(size=(30, 3))
    X[-1] = [1e4, 0, 0]
    assert found_in(with_ones(X), 1) is None


def test_kernels_of_both_kinds_agree():
    rng = np.random.default_rng(0)
    offsets, columns = torch.from_numpy(rng.normal(size=2)), torch.tensor([0, 3])
    basis = torch.zeros(5, 2, dtype=torch.float64)
    basis[columns, [0, 1]], basis[-1] = 1.0, -offsets
    rows, q = torch.from_numpy(rng.normal(size=(4, 5))), torch.from_numpy(rng.uniform(0.5, 2, size=5))
    torch.testing.assert_close(AxisKernel(columns, offsets).part(rows, q), SpanKernel(basis).part(rows, q))
