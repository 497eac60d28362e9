from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sk_unlearn.preprocessing.exact_sums import UNIT, as_float, column_dots, column_sums, gram, two_products

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=True)
TABLES = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=NUMBERS)


def exact(values):
    return sum((Fraction(float(value)) for value in values), Fraction()) * (1 << UNIT)


@given(TABLES)
def test_sums_are_exact(X):
    assert column_sums(X) == [exact(column) for column in X.T]


@given(TABLES)
def test_products_are_exact(X):
    expected = [
        [sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(x, y, strict=True)) for y in X.T] for x in X.T
    ]
    expected = [[value * (1 << UNIT) for value in row] for row in expected]
    assert gram(X) == expected
    assert column_dots(X, X) == [expected[j][j] for j in range(X.shape[1])]


@given(TABLES, st.data())
def test_stored_entries_add_up_by_column(X, data):
    columns = np.tile(np.arange(X.shape[1]), len(X))
    assert column_sums(X.ravel(), columns, X.shape[1]) == column_sums(X)
    assert column_dots(X.ravel(), X.ravel(), columns, X.shape[1]) == column_dots(X, X)


@given(TABLES, st.data())
def test_what_is_taken_away_leaves_nothing(X, data):
    gone = data.draw(arrays(bool, len(X)))
    for total in (column_sums, lambda X: column_dots(X, X)):
        left = [a - b for a, b in zip(total(X), total(X[gone]), strict=True)]
        assert left == total(X[~gone])


def test_many_rows_add_up_across_blocks():
    X = np.full((300_000, 1), 1e16 + 2)
    X[::2] = -1e16
    assert as_float(column_sums(X)[0]) == 2 * 150_000
    assert as_float(gram(X[:20_000])[0][0]) == float(10_000 * (int(1e16 + 2) ** 2 + 10**32))


@given(*2 * [arrays(np.float64, 5, elements=st.floats(-1e100, 1e100).filter(lambda x: x == 0 or abs(x) > 1e-100))])
def test_rounding_errors_of_products_are_exact(a, b):
    product, error = two_products(a, b)
    for p, e, x, y in zip(product, error, a, b, strict=True):
        assert Fraction(float(p)) + Fraction(float(e)) == Fraction(float(x)) * Fraction(float(y))
