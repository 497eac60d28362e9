"""Sparse rows in a training set: the same answers as dense ones, and nothing left of what is erased."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sk_unlearn.rows import RowRole, SparseRows, TrainingSet, content, count_distinct
from sk_unlearn.rows.content import same_content
from sk_unlearn.rows.forms import joined, replaced

SECRET = 4242.4242
FORMATS = [sp.csr_matrix, sp.csc_array, sp.coo_matrix, sp.lil_matrix, sp.csr_array]
few_values = st.sampled_from([0.0, -0.0, 1.0, 2.0, 1.5, np.nan])
tables = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=few_values)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def values_of(rows):
    return rows.csr.data, rows.csr.indices, rows.csr.indptr


def table(rng, n=40, p=9, density=0.3):
    return np.where(rng.random((n, p)) < density, rng.normal(size=(n, p)), 0.0)


class TestSparseRows:
    @pytest.mark.parametrize("kind", FORMATS)
    def test_every_format_is_the_same_rows(self, rng, kind):
        X = table(rng)
        rows = SparseRows(kind(X))
        assert all(np.array_equal(*pair) for pair in zip(values_of(rows), values_of(SparseRows(X)), strict=True))
        assert np.array_equal(rows.toarray(), X)
        assert rows.shape == X.shape
        assert rows.size == X.size

    def test_order_duplicates_and_zeros_are_no_content(self):
        messy = sp.csr_matrix((np.array([2.0, 1.0, 0.0, -0.0, 3.0, 4.0]), np.array([2, 0, 1, 3, 1, 1]), [0, 4, 6]))
        before = [part.copy() for part in (messy.data, messy.indices, messy.indptr)]
        rows = SparseRows(messy)
        clean = SparseRows(np.array([[1.0, 0, 2, 0], [0, 7, 0, 0]]))
        assert all(np.array_equal(*pair) for pair in zip(values_of(rows), values_of(clean), strict=True))
        assert all(map(np.array_equal, before, (messy.data, messy.indices, messy.indptr)))  # the user's is left alone

    def test_a_flag_that_is_out_of_date_is_not_believed(self):
        given = sp.csr_matrix(np.array([[1.0, 0, 2]]))
        assert given.has_canonical_format
        given.indices[:] = given.indices[::-1].copy()
        assert SparseRows(given).toarray().tolist() == [[2.0, 0, 1]]

    def test_numbers_that_round_to_zero_are_left_out(self):
        rows = SparseRows(np.array([[1e-60, 1.0]]), np.float32)
        assert rows.csr.nnz == 1
        assert rows.dtype == np.float32

    def test_wide_indices_are_those_of_narrow_ones(self, rng):
        X = sp.csr_array(table(rng))
        wide = sp.csr_array((X.data, X.indices.astype(np.int64), X.indptr.astype(np.int64)), shape=X.shape)
        assert SparseRows(wide).csr.indices.dtype == SparseRows(X).csr.indices.dtype

    def test_one_number_gives_a_dense_row_and_all_else_stays_sparse(self, rng):
        X = table(rng)
        rows = SparseRows(X)
        assert np.array_equal(rows[3], X[3])
        assert np.array_equal(rows[-1], X[-1])
        for key in (slice(2, 9), np.array([5, 1, 1]), X[:, 0] > 0, slice(0, 0)):
            assert isinstance(rows[key], SparseRows)
            assert np.array_equal(rows[key].toarray(), X[key])
        with pytest.raises(IndexError):
            rows[len(X)]

    def test_numpy_does_not_make_them_dense_behind_ones_back(self, rng):
        with pytest.raises(TypeError, match="toarray"):
            np.asarray(SparseRows(table(rng)))

    def test_other_columns(self, rng):
        X = table(rng, p=3)
        wide = np.zeros((len(X), 7))
        wide[:, [4, 0, 6]] = X
        assert np.array_equal(SparseRows(X).at_columns(np.array([4, 0, 6]), 7).toarray(), wide)

    def test_joined_and_replaced(self, rng):
        X, Z = table(rng), table(rng, n=5)
        for other in (Z, SparseRows(Z)):
            assert np.array_equal(joined(SparseRows(X), other).toarray(), np.concatenate([X, Z]))
            assert np.array_equal(joined(X, other), np.concatenate([X, Z]))
            changed = X.copy()
            changed[[7, 3, 1, 0, 9]] = Z
            at = np.array([7, 3, 1, 0, 9])
            assert np.array_equal(replaced(X, at, other), changed)
            assert np.array_equal(replaced(SparseRows(X), at, other).toarray(), changed)

    @given(tables, tables)
    @settings(deadline=None, max_examples=60)
    def test_equality_is_that_of_dense_rows(self, X, Z):
        n, p = min(len(X), len(Z)), min(X.shape[1], Z.shape[1])
        X, Z = X[:n, :p], Z[:n, :p]
        assert count_distinct(SparseRows(X)) == count_distinct(X)
        assert same_content(SparseRows(X), SparseRows(Z)).tolist() == same_content(X, Z).tolist()


def test_rows_that_share_a_hash_are_told_apart_by_content(rng, monkeypatch):
    X = table(rng)[rng.integers(12, size=40)]
    expected = count_distinct(X)
    monkeypatch.setattr(content, "content_hash", lambda rows: np.full(len(rows), 7, np.uint64))
    assert count_distinct(SparseRows(X)) == expected
    assert count_distinct(SparseRows(X), np.arange(40) % 2) == count_distinct(X, np.arange(40) % 2)


def test_rows_tell_their_size_and_no_number():
    rows = SparseRows(np.array([[0, SECRET, 0]]))
    assert repr(rows) == "SparseRows(1 rows of 3 float64, 1 numbers not zero)"


@given(tables, st.data())
@settings(deadline=None, max_examples=25)
def test_histories_are_those_of_dense_rows(X, data):
    """Drop, replace and append, asked for in either kind: the same positions and the same rows, in both kinds."""
    y = np.arange(len(X)) % 2
    dense, sparse = TrainingSet(X, y), TrainingSet(sp.csr_matrix(X), y)
    for _ in range(4):
        act = data.draw(st.sampled_from(["drop", "replace", "append", "pickle", "compact"]))
        some = X[data.draw(st.lists(st.integers(0, len(X) - 1), min_size=1, max_size=3))]
        asked, of_class = dense.match(some).positions, dense.match(some, [0] * len(some)).positions
        assert sparse.match(sp.csc_array(some), [0] * len(some)).positions.tolist() == of_class.tolist()
        assert sparse.near_misses(some).tolist() == dense.near_misses(some).tolist()
        for rows in (dense, sparse):
            for query in (some, sp.coo_array(some), some.astype(np.float32)):
                assert rows.match(query).positions.tolist() == asked.tolist()
        if act == "drop" and len(asked) < len(dense):
            dense.drop(asked), sparse.drop(asked)
        elif act == "replace" and len(asked):
            new = np.repeat(some[:1], len(asked), axis=0)[:, ::-1]
            dense.replace(asked, new), sparse.replace(asked, sp.csc_matrix(new))
        elif act == "append":
            dense.append(some, [1] * len(some)), sparse.append(some, [1] * len(some), role=RowRole.TRAINED)
        elif act == "pickle":
            dense, sparse = (pickle.loads(pickle.dumps(rows)) for rows in (dense, sparse))
        else:
            dense.compact(force=True), sparse.compact(force=True)
        assert np.array_equal(sparse.X.toarray(), dense.X + 0.0, equal_nan=True)
        assert np.array_equal(sparse.y, dense.y)


def holds(thing, number):
    return np.float64(number).tobytes() in pickle.dumps(thing)


class TestErasure:
    @pytest.fixture
    def rows(self, rng):
        X = table(rng, n=30, p=50)
        X[7] = 0
        X[7, [11, 23, 37, 41, 43]] = SECRET
        return TrainingSet(sp.csr_matrix(X), np.zeros(30))

    @pytest.mark.parametrize("act", ["drop", "replace"])
    def test_neither_numbers_nor_where_they_stood_are_left(self, rows, act):
        held, n_before = rows.raw_X, rows.raw_X.csr.nnz
        assert holds(held.csr.data, SECRET)
        if act == "drop":
            rows.drop([7])
        else:
            rows.replace([7], sp.csr_matrix(([1.0], ([0], [2])), shape=(1, 50)))
        assert rows.raw_X is held  # whoever holds the rows holds what is left
        assert not np.isin(held.csr.data, SECRET).any()
        assert held.csr.nnz == n_before - 5 + (act == "replace")
        assert np.diff(held.csr.indptr)[7] == (act == "replace")
        for part in values_of(held):  # no larger array behind them, in which an erased row could be left
            assert part.base is None or part.base.nbytes == part.nbytes
        assert not holds(rows, SECRET)
        assert not holds(copy.deepcopy(rows), SECRET)

    def test_a_pickle_holds_live_rows_only(self, rows):
        other = TrainingSet(rows.X[np.arange(30) != 7], np.zeros(29))
        rows.drop([7])
        assert len(pickle.dumps(rows)) == len(pickle.dumps(other))
        assert len(pickle.loads(pickle.dumps(rows))) == 29

    def test_an_interrupted_change_is_made_whole_or_not_at_all(self, rows):
        plan = rows.plan(drop=[7])
        assert rows.match(rows.raw_X[7:8]).positions.tolist() == [7]  # nothing has happened yet
        rows.journal.commit(plan)
        assert len(rows) == 29

    def test_arrays_of_the_caller_are_never_changed(self, rng):
        X = sp.csr_matrix(table(rng))
        before = X.copy()
        rows = TrainingSet(X, np.zeros(40))
        rows.drop([0, 3])
        assert (before != X).nnz == 0


def test_a_wide_set_is_found_and_erased_without_being_made_dense(rng):
    """200 GB if it were dense."""
    n, p = 50_000, 500_000
    X = sp.random(n, p, density=1e-5, format="csr", random_state=rng)
    rows = TrainingSet(X, np.zeros(n))
    # Rows without a single number are equal to one another.
    some = np.flatnonzero(np.diff(X.indptr) > 1)[:100]
    assert rows.locate(X[some]).tolist() == some.tolist()
    rows.drop(some)
    assert not rows.match(X[some]).found.any()
    with pytest.raises(ValueError, match="1 of them miss a stored row by rounding alone"):
        rows.locate(X[[np.flatnonzero(np.diff(X.indptr) > 1)[200]]] * (1 + 1e-6))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (sp.csr_matrix(np.ones((2, 3))), "must have shape"),
        (sp.csr_matrix(np.ones((2, 4)) * 1j), "real"),
        (np.ones((2, 4), dtype="S3"), "dtype"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    rows = TrainingSet(sp.csr_matrix(np.eye(4)), np.zeros(4))
    with pytest.raises(ValueError, match=message):
        rows.locate(given)


def test_whole_numbers_are_found_among_whole_numbers_only():
    rows = TrainingSet(sp.csr_matrix(np.array([[1, 0, 2], [0, 3, 0]])), np.zeros(2))
    assert rows.match(sp.csr_matrix([[1.0, 0, 2], [0, 3.5, 0]])).found.tolist() == [True, False]
