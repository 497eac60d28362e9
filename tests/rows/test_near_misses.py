"""Rows that miss by rounding alone: counted in the error, at a cost that does not grow with all pairs."""

import tracemalloc

import numpy as np
import pytest

from sk_unlearn.rows import TrainingSet


def text_of(X):
    return np.array([[float(f"{value:.6g}") for value in row] for row in X])


@pytest.fixture
def X():  # noqa: N802  the name that rows have everywhere
    return np.random.default_rng(0).normal(size=(500, 4)) * [1, 10, 1e4, 1e-3] + [0, 100, 0, 0]


@pytest.mark.parametrize("through", [text_of, lambda X: X.astype(np.float32), lambda X: X.astype(np.float32).tolist()])
def test_rows_that_were_rounded_are_counted(X, through):
    rows = TrainingSet(X, np.arange(500))
    query = np.concatenate([through(X[:3]), X[3:5], X[5:8] + 1])
    message = (
        r"X_del: 6 of 8 rows cannot be found: 6 not among the stored rows.* "
        r"3 of them miss a stored row by rounding alone \(indices 0, 1, 2\).*as they were given to fit, or .*sample_id"
    )
    with pytest.raises(ValueError, match=message):
        rows.locate(query)
    rows.drop([0, 1, 2])
    with pytest.raises(ValueError, match=r"and not erased since\.$"):
        rows.locate(query)


def test_rows_that_were_standardised_after_rounding_are_counted(X):
    """Near zero the error is not relative to the value, but to what the column holds."""
    scaled = (X - X.mean(0)) / X.std(0)
    query = (X.astype(np.float32) - X.mean(0)) / X.std(0)
    with pytest.raises(ValueError, match="500 of them miss a stored row by rounding alone"):
        TrainingSet(scaled, np.arange(500)).locate(query)


def test_rows_that_differ_in_a_small_column_are_not_near(X):
    rows = TrainingSet(X, np.arange(500))
    query = X[:1].copy()
    query[0, 3] *= 1.1
    with pytest.raises(ValueError, match=r"and not erased since\.$"):
        rows.locate(query)


def test_a_target_that_was_rounded_is_counted(X):
    y = X @ [1.0, 2.0, 3.0, 4.0]
    rows = TrainingSet(X, y)
    message = "2 stored, but with another label than in y_del .* {} of them miss a stored row by rounding alone"
    with pytest.raises(ValueError, match=message.format(2)):
        rows.locate(X[:2], y[:2].astype(np.float32))
    with pytest.raises(ValueError, match=message.format(1)):
        rows.locate(X[:2], [np.float32(y[0]), y[1] + 1])
    with pytest.raises(ValueError, match="1 of them miss"):
        rows.locate(X[:2].astype(np.float32), [y[0], y[1] + 1])


def test_whole_numbers_beside_fractions_must_be_equal(X):
    rows = TrainingSet(X, np.arange(500) + 10**6)
    assert rows.near_misses(X[:2].astype(np.float32), [10**6, 10**6 + 2]).tolist() == [True, False]
    rows = TrainingSet(np.arange(500) + 10**6, X[:, 0])
    assert rows.near_misses([10**6, 10**6 + 2], X[:2, 0].astype(np.float32)).tolist() == [True, False]


@pytest.mark.parametrize("dtype", [np.int64, bool])
def test_whole_numbers_are_never_near(dtype):
    with pytest.raises(ValueError, match=r"and not erased since\.$"):
        TrainingSet(np.ones((3, 2), dtype), np.arange(3)).locate(np.full((1, 2), 1 + 1e-9))


def test_odd_numbers_break_nothing():
    stored = np.array([[0.0, np.nan], [0.0, np.inf], [0.0, 1.0], [0.0, 1e300]])
    with pytest.raises(ValueError, match="1 of them miss"):
        TrainingSet(stored, np.arange(4)).locate([[0.0, 1 + 1e-9], [np.nan, 1.0], [-np.inf, np.inf]])


def test_the_cost_does_not_grow_with_all_pairs():
    """20,000 by 20,000 rows: all pairs would be 3 GB for a mask alone."""
    X = np.random.default_rng(1).normal(size=(20_000, 8))
    rows = TrainingSet(X, np.arange(20_000))
    tracemalloc.start()
    with pytest.raises(ValueError, match="At least 1000 of them miss"):
        rows.locate(X.astype(np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * X.nbytes


def test_a_row_that_overflows_is_no_infinite_one():
    rows = TrainingSet(np.array([[np.inf, 1.0], [2.0, 1.0]], np.float32), np.arange(2))
    assert rows.match(np.array([[1e300, 1.0], [np.inf, 1.0]])).found.tolist() == [False, True]
    with pytest.raises(ValueError, match="X_new must hold values of dtype float32; other ones in rows index 0"):
        rows.replace([1], X_new=np.array([[1e300, 1.0]]))
