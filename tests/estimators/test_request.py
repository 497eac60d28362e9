"""A request is resolved once: which rows, which of them were trained on, what they were and what they become."""

import numpy as np
import pytest

from sk_unlearn.estimators._request import listed, resolve_correction, resolve_deletion, resolve_handed_in
from sk_unlearn.rows import RowRole, TrainingSet

X = np.arange(20.0).reshape(10, 2)
y = np.arange(10) % 2
ROLE = np.where(np.arange(10) < 7, RowRole.TRAINED, RowRole.VALIDATED)


@pytest.fixture
def rows():
    rows = TrainingSet(X, y, sample_weight=np.arange(1.0, 11), sample_id=np.arange(10) // 2, role=ROLE)
    rows.drop([0])
    return rows


def test_a_deletion(rows):
    request = resolve_deletion(rows, X[[8, 2, 5]], None, None)
    assert request.verb == "forget"
    assert request.positions.tolist() == [2, 5, 8]
    assert request.trained.tolist() == [True, True, False]
    # Among the six rows that had been trained on and are still there.
    assert request.erased_rows.tolist() == [1, 4]
    np.testing.assert_array_equal(request.erased.X, X[[2, 5]])
    assert request.erased.y.tolist() == [0, 1]
    assert request.erased.weight.tolist() == [3.0, 6.0]
    assert (request.n_erased, request.n_trained, request.replaces) == (3, 2, False)
    assert (request.new, request.added, request.foreign) == (None, None, None)
    assert np.flatnonzero(request.stay(rows.trained_mask)).tolist() == [1, 3, 4, 6]


def test_a_deletion_by_identifier_and_by_both(rows):
    assert resolve_deletion(rows, None, None, listed(4)).positions.tolist() == [8, 9]
    assert resolve_deletion(rows, None, None, [0, 1]).positions.tolist() == [1, 2, 3]
    assert resolve_deletion(rows, X[[2, 5]], None, [2]).positions.tolist() == [5]
    with pytest.raises(ValueError, match="both the content"):
        resolve_deletion(rows, X[[2]], None, [3])
    with pytest.raises(ValueError, match="sample_id is empty"):
        listed([])
    with pytest.raises(ValueError, match="covers all 9 rows"):
        resolve_deletion(rows, None, None, range(5))


def test_rows_that_are_handed_in_are_stored_or_foreign(rows):
    request = resolve_handed_in(rows, np.concatenate([X[[3, 9]], X[:1]]), np.array([1, 1, 0]))
    assert request.positions.tolist() == [3, 9]
    np.testing.assert_array_equal(request.foreign.X, X[:1])
    np.testing.assert_array_equal(request.erased.X, X[[3, 0]])
    assert request.erased.weight.tolist() == [4.0, 1.0]
    assert (request.n_erased, request.n_trained) == (3, 2)


def test_rows_that_are_handed_in_where_none_are_stored():
    request = resolve_handed_in(None, X[:2], y[:2])
    assert (request.n_erased, request.n_trained, request.erased_rows) == (2, 2, None)
    assert request.erased is request.foreign


def test_a_correction(rows):
    request = resolve_correction(rows, X[[8, 2]], None, X[[8, 2]] * 10, None)
    assert request.positions.tolist() == [2, 8]
    np.testing.assert_array_equal(request.new.X, X[[2, 8]] * 10)
    assert request.new.y.tolist() == [0, 0]
    np.testing.assert_array_equal(request.added.X, X[[2]] * 10)
    assert request.added.weight.tolist() == [3.0]
    np.testing.assert_array_equal(request.erased.X, X[[2]])
    after = request.rows_after(rows, np.array([1, 2, 8]))
    np.testing.assert_array_equal(after.X, [*X[[1]], *(X[[2, 8]] * 10)])
    assert np.array_equal(request.stay(rows.live_mask), rows.live_mask)
    with pytest.raises(ValueError, match="different new contents"):
        resolve_correction(rows, X[[2, 2]], None, None, np.array([0, 1]))


def test_a_correction_of_rows_that_were_not_trained_on_adds_nothing(rows):
    request = resolve_correction(rows, X[[8]], None, X[[8]] + 1, None)
    assert (request.added, request.n_trained) == (None, 0)
    assert request.n_erased == 1
