"""TrainingSet against a list of rows, byte searches for what was erased, and an interrupt at every step of a change."""

import copy
import pickle
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import sk_unlearn
from sk_unlearn.rows import RowMatch, RowRole, TrainingSet, _index, sample_mask
from sk_unlearn.rows import content as contents

DTYPES = [np.float32, np.float64, np.int64]


def rows_of(rng, n, shape, dtype):
    values = rng.integers(-(10**6), 10**6, size=(n, *shape))
    return values if dtype is np.int64 else (values / 7).astype(dtype)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def small(rng):
    return TrainingSet(
        rows_of(rng, 20, (5,), np.float32),
        np.arange(20) % 3,
        sample_weight=np.linspace(0.5, 1.5, 20),
        sample_id=np.array([f"person-{i // 2}" for i in range(20)]),
    )


# ------------------------------------------------------------------------------------------------------------------
# Construction and views


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
@pytest.mark.parametrize("y_shape", [(), (2,)])
def test_locate_and_drop_for_any_shape(rng, dtype, shape, y_shape):
    X, y = rows_of(rng, 30, shape, dtype), rows_of(rng, 30, y_shape, np.float32)
    rows = TrainingSet(X, y)
    positions = rows.locate(X[[7, 3]], y[[7, 3]])
    assert positions.tolist() == [3, 7]
    assert positions.dtype == np.int64
    rows.drop(positions)
    kept = np.delete(np.arange(30), [3, 7])
    np.testing.assert_array_equal(rows.X, X[kept])
    np.testing.assert_array_equal(rows.y, y[kept])
    assert rows.X.dtype == X.dtype
    assert (len(rows), rows.n_trained, rows.n_slots) == (28, 28, 30)
    assert not rows.raw_X[[3, 7]].any()
    assert not rows.raw_y[[3, 7]].any()
    assert np.flatnonzero(~rows.trained_mask).tolist() == [3, 7]
    with pytest.raises(ValueError, match="1 not among the stored rows"):
        rows.locate(X[[7]])


def test_the_given_arrays_are_never_touched(rng):
    X, y, weight = rows_of(rng, 10, (3,), np.float64), np.arange(10), np.arange(10.0)
    ids, role = np.arange(10), np.zeros(10, np.int8)
    given = (X, y, weight, ids, role)
    before = copy.deepcopy(given)
    rows = TrainingSet(X, y, sample_weight=weight, sample_id=ids, role=role)
    rows.replace([4], X_new=np.ones((1, 3)), y_new=[7])
    rows.set_role([5], RowRole.UNSEEN)
    rows.drop(np.arange(9))
    for now, then in zip(given, before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_copy_false_takes_the_arrays_over(rng):
    X = rows_of(rng, 10, (3,), np.float64)
    rows = TrainingSet(X, np.arange(10), copy=False)
    assert np.shares_memory(rows.raw_X, X)
    rows.drop([2])
    assert not X[2].any()


def test_copy_false_copies_what_it_may_not_write_to(rng):
    X = rows_of(rng, 10, (3,), np.float64)
    X.flags.writeable = False
    rows = TrainingSet(X, np.arange(10), copy=False)
    rows.drop([2])
    assert X[2].any()
    assert not rows.raw_X[2].any()


def test_a_compaction_keeps_the_journal_that_others_commit_through(small):
    journal = small.journal
    small.drop(np.arange(15))
    assert small.compact()
    assert small.journal is journal


def test_properties_are_read_only_and_no_copies_while_no_row_is_erased(small):
    names = ("X", "y", "sample_weight", "sample_id", "role")
    for name in names:
        assert np.shares_memory(getattr(small, name), getattr(small, name))
        with pytest.raises(ValueError, match="read-only"):
            getattr(small, name)[:] = getattr(small, name)[0]
    kept = {name: np.delete(getattr(small, name), 3, axis=0) for name in names}
    small.drop([3])
    for name in names:
        np.testing.assert_array_equal(getattr(small, name), kept[name])
        with pytest.raises(ValueError, match="read-only"):
            getattr(small, name)[:] = getattr(small, name)[0]


def test_weights_are_none_while_all_are_one(rng):
    X = rows_of(rng, 4, (2,), np.float32)
    rows = TrainingSet(X, np.arange(4), sample_weight=np.ones(4))
    assert rows.raw_weight is None
    rows.drop([1])
    rows.append(X[:1], [0], sample_weight=[2.0])
    assert rows.sample_weight.tolist() == [1, 1, 1, 2]
    assert rows.raw_weight.tolist() == [1, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("X", "y", "options", "message"),
    [
        (np.float32(1), np.arange(1), {}, "X must have rows"),
        (np.ones((3, 0)), np.arange(3), {}, r"at least one value, got shape \(3, 0\)"),
        (np.ones((3, 2)), np.arange(4), {}, r"y must have shape \(3,\)"),
        (np.ones((3, 2), object), np.arange(3), {}, "X must have a boolean"),
        (np.ones((3, 2), np.longdouble), np.arange(3), {}, "X must have a boolean"),
        (np.ones((3, 2)), np.array(["a", "b", "c"]), {}, "y must have a boolean"),
        (np.ones((3, 2)), np.arange(3), {"sample_weight": np.ones(2)}, r"sample_weight must have shape \(3,\)"),
        (np.ones((3, 2)), np.arange(3), {"sample_id": np.ones((3, 1))}, r"one-dimensional .* shape \(3, 1\)"),
        (np.ones((3, 2)), np.arange(3), {"sample_id": np.ones(2)}, r"sample_id must have shape \(3,\)"),
        (np.ones((3, 2)), np.arange(3), {"sample_id": np.array([{}, 1, 2], object)}, "sample_id must hold hashable"),
        (np.ones((3, 2)), np.arange(3), {"role": [0, 1, 3]}, "role must hold values of RowRole"),
        (np.ones((3, 2)), np.arange(3), {"role": [0, 1]}, r"role must have shape \(3,\)"),
    ],
)
def test_construction_refuses(X, y, options, message):
    with pytest.raises(ValueError, match=message):
        TrainingSet(X, y, **options)


def test_repr(small):
    assert repr(small) == "TrainingSet(20 rows of 5 float32, 20 trained)"


# ------------------------------------------------------------------------------------------------------------------
# Finding


def test_every_copy_is_found_and_labels_narrow(rng):
    X = rows_of(rng, 6, (3,), np.float32)[[0, 1, 0, 2, 0, 1]]
    rows = TrainingSet(X, np.array([0, 1, 1, 0, 0, 0]))
    assert rows.locate(X[[0]]).tolist() == [0, 2, 4]
    assert rows.locate(X[[0]], [0]).tolist() == [0, 4]
    assert rows.locate(X[[0, 1]], [1, 1]).tolist() == [1, 2]
    match = rows.match(X[[3, 0, 0, 0, 1]], [0, 1, 0, 0, 5])
    assert isinstance(match, RowMatch)
    assert match.positions.tolist() == [0, 2, 3, 4]
    assert match.query_index.tolist() == [2, 1, 0, 2]
    assert match.found.tolist() == [True, True, True, True, False]
    assert match.row_found.all()


def test_match_names_the_first_equal_query_row(rng):
    X = rows_of(rng, 3, (3,), np.float32)
    match = TrainingSet(X, np.arange(3)).match(np.concatenate([X + 1e6, X[[2, 1, 2, 1]]]))
    assert match.positions.tolist() == [1, 2]
    assert match.query_index.tolist() == [4, 3]
    assert match.found.tolist() == [False] * 3 + [True] * 4


def test_messages_tell_unknown_from_relabelled(rng):
    X = rows_of(rng, 20, (3,), np.float32)
    rows = TrainingSet(X, np.arange(20))
    query = np.concatenate([X[:2], X[:8] + 1e6])
    with pytest.raises(
        ValueError, match=r"X_del: 8 of 10 rows .* 8 not among .* \(indices 2, 3, 4, 5, 6, ...\)\. Every"
    ):
        rows.locate(query)
    with pytest.raises(
        ValueError, match=r"X_old: 2 of 3 .*1 not among .*\(index 2\); 1 stored, .* than in y_old \(index 1\)"
    ):
        rows.locate(query[:3], [0, 5, 2], name="X_old")


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.ones(3), None, r"X_del must have shape \(n_rows, 3\), as what was fitted, got \(3,\)"),
        (np.ones((2, 4)), None, r"X_del must have shape \(n_rows, 3\), .* got \(2, 4\)"),
        (np.ones((2, 3)), np.ones((2, 1)), r"y_del must have shape \(n_rows,\), .* got \(2, 1\)"),
        (np.ones((2, 3)), np.ones(3), "y_del must have 2 rows, as X_del has, got 3"),
        (np.ones((2, 3), complex), None, r"X_del must be real \(float32\), got complex128"),
        (np.full((2, 3), "1"), None, "X_del must have a boolean"),
        (np.full((2, 3), "a", object), None, "X_del must be convertible to float32"),
    ],
)
def test_locate_refuses(X, y, message):
    rows = TrainingSet(np.ones((4, 3), np.float32), np.arange(4.0))
    with pytest.raises(ValueError, match=message):
        rows.locate(X, y)


def test_queries_are_compared_as_the_net_sees_them(rng):
    X = rng.standard_normal((10, 3))
    rows = TrainingSet(X.astype(np.float32), np.arange(10))
    assert rows.locate(X[4:5]).tolist() == [4]
    assert rows.locate(X[4:5].astype(object)).tolist() == [4]
    assert rows.locate(X.astype(">f4")[4:5], [4.0]).tolist() == [4]
    assert rows.match(X[4:5], [4.5]).found.tolist() == [False]
    assert rows.match(np.array([[1e300, 0, 0]])).found.tolist() == [False]


@pytest.mark.parametrize("kind", [np.int64, np.uint8, bool])
def test_integers_match_only_what_equals_them(kind):
    rows = TrainingSet(np.array([[0, 1], [1, 1]]).astype(kind), np.arange(2))
    query = np.array([[0.5, 1.0], [np.nan, 1.0], [0.0, 1.0], [257.0, 1.0]])
    match = rows.match(query, [0, 0, 0, 0])
    assert match.found.tolist() == [False, False, True, False]
    assert match.positions.tolist() == [0]
    assert match.query_index.tolist() == [2]


def test_an_inexact_query_row_is_not_the_first_match():
    match = TrainingSet(np.array([[1]]), np.arange(1)).match(np.array([[1.5], [1.0]]))
    assert match.query_index.tolist() == [1]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64, np.complex128])
def test_signs_of_zero_and_payloads_of_nan_are_no_content(dtype):
    rows = TrainingSet(np.array([[0.0, np.nan, 1], [-0.0, -np.nan, 1], [0, 0, 1]], dtype), np.arange(3))
    assert rows.locate(np.array([[-0.0, np.nan, 1]], dtype)).tolist() == [0, 1]
    rows.drop([1])
    assert rows.locate(np.array([[0.0, -np.nan, 1]], dtype)).tolist() == [0]


def test_tombstones_are_not_found_as_rows_of_zeros():
    rows = TrainingSet(np.array([[0.0, 0], [1, 1], [0, 0]]), np.arange(3))
    rows.locate([[0, 0]])
    rows.drop([1, 2])
    assert rows.locate([[0, 0]]).tolist() == [0]


def test_nothing_asked_nothing_found(small):
    assert small.locate(np.empty((0, 5))).tolist() == []
    assert small.locate(np.empty((0, 5)), []).tolist() == []
    small.drop([])
    assert len(small) == 20


def few_bits(words):
    return (words.sum(axis=1) & np.uint64(3)) << np.uint64(62)


@pytest.mark.parametrize("weak_hash", [few_bits, lambda words: np.full(len(words), 1 << 63, np.uint64)])
def test_collisions_are_never_matches(rng, monkeypatch, weak_hash):
    for module in (contents, _index):
        monkeypatch.setattr(module, "row_hash", weak_hash)
    X = rows_of(rng, 60, (3,), np.float32)[rng.integers(60, size=100)]
    y = rng.integers(3, size=100)
    rows = TrainingSet(X, y, sample_id=np.arange(100) % 40)
    query, label = np.concatenate([X[::3], X[:5], X[:5] + 1e6]), np.concatenate([y[::3], y[:5] + 1, y[:5]])
    same = (query[:, None] == X[None]).all(-1)
    exactly = same & (label[:, None] == y[None])
    for match, equal in ((rows.match(query), same), (rows.match(query, label), exactly)):
        assert match.found.tolist() == equal.any(1).tolist()
        assert match.positions.tolist() == np.flatnonzero(equal.any(0)).tolist()
        assert match.query_index.tolist() == equal.argmax(0)[equal.any(0)].tolist()
    assert rows.locate_ids([3, 5]).tolist() == [3, 5, 43, 45, 83, 85]
    gone = rows.locate(X[:4])
    rows.drop(gone)
    assert not rows.match(X[:4]).found.any()
    assert rows.match(X[gone[-1] + 1 :]).found.tolist() == [
        not same_row for same_row in (X[gone[-1] + 1 :, None] == X[None, :4]).all(-1).any(1)
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("values", [np.arange(-8.0, 8), [-1.0, 1.0], [0.0, 1.0]])
def test_the_hash_separates_rows_that_differ_in_few_bits(dtype, values):
    """Small whole numbers and signs: almost all bits are zero, and sums of words repeat."""
    n_columns = 4 if len(values) > 2 else 16
    grid = np.stack(np.meshgrid(*[values] * n_columns), axis=-1).reshape(-1, n_columns).astype(dtype)
    hashes = contents.row_hash(contents.as_words(grid))
    assert len(np.unique(hashes)) == len(grid) == 2**16
    # Rows in the bucket of a row, itself included: 2 when 2^16 are thrown into 2^16.
    load = np.unique(hashes >> np.uint64(48), return_counts=True)[1]
    assert (load**2).sum() / 2**16 < 3


def test_many_copies_are_not_quadratic(rng):
    """100,000 copies asked for 100,000 times; all pairs would be 10^10, and their mask alone 10 GB."""
    n = 100_000
    rows = TrainingSet(np.ones((n, 2), np.float32), np.arange(n) % 1000, sample_id=np.zeros(n, int))
    tracemalloc.start()
    assert len(rows.locate(np.ones((n, 2)))) == n
    assert len(rows.locate(np.ones((n, 2)), np.arange(n) % 1000)) == n
    assert len(rows.locate_ids(np.zeros(n, int))) == n
    rows.drop(np.arange(n - 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1000 * n
    assert rows.locate(np.ones((1, 2))).tolist() == [n - 1]


# ------------------------------------------------------------------------------------------------------------------
# Ids


@pytest.mark.parametrize(
    "ids",
    [
        np.array([5, -1, 5, 7]),
        np.array(["e", "anne", "e", "g"]),
        np.array([b"e", b"anne", b"e", b"g"]),
        np.array(["e", 1, "e", b"e"], object),
        np.array([2.5, 1.0, 2.5, 4.0]),
    ],
)
def test_ids_are_found_whatever_their_type(ids):
    rows = TrainingSet(np.arange(4.0), np.arange(4), sample_id=ids)
    assert rows.locate_ids(ids[[0, 1, 0]]).tolist() == [0, 1, 2]
    assert rows.locate_ids(ids[[0]].tolist()).tolist() == [0, 2]
    assert rows.locate_ids(ids[[3]].astype(object)).tolist() == [3]
    rows.drop([0])
    assert rows.locate_ids(ids[[0]]).tolist() == [2]
    assert rows.sample_id.tolist() == ids.tolist()[1:]


@pytest.mark.parametrize("ids", [np.zeros(3, int), np.full(3, ""), np.zeros(3, object)])
def test_tombstones_are_not_found_as_ids_of_zero(ids):
    rows = TrainingSet(np.arange(3.0), np.arange(3), sample_id=ids)
    rows.locate_ids(ids)
    rows.drop([1])
    assert rows.locate_ids(ids).tolist() == [0, 2]


def test_tuples_can_be_ids():
    ids = np.empty(2, object)
    ids[:] = [("a", 1), ("a", 2)]
    assert TrainingSet(np.arange(2.0), np.arange(2), sample_id=ids).locate_ids([("a", 2)]).tolist() == [1]


def test_unknown_ids_are_counted(small):
    with pytest.raises(ValueError, match=r"sample_id: 2 of 3 ids are not stored \(indices 0, 2\)$"):
        small.locate_ids(["person-99", "person-1", "person", "person-99"])
    small.drop(small.locate_ids(["person-1"]))
    with pytest.raises(ValueError, match=r"1 of 1 ids are not stored \(index 0\)$"):
        small.locate_ids(["person-1"])


@pytest.mark.parametrize("ids", ["person-1", np.array([["person-1"]]), np.array("person-1"), 5])
def test_ids_must_be_one_dimensional(small, ids):
    with pytest.raises(ValueError, match="sample_id must be a one-dimensional array"):
        small.locate_ids(ids)


def test_ids_not_given_at_fit():
    with pytest.raises(ValueError, match="none was given at fit"):
        TrainingSet(np.arange(3.0), np.arange(3)).locate_ids([1])


# ------------------------------------------------------------------------------------------------------------------
# Changing


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([0, 20], r"positions must lie in 0\.\.19, got 20"),
        ([-1], r"must lie in 0\.\.19, got -1"),
        ([3, 4, 3], "unique, got 1 repeated"),
        ([3, 2], "erased already are 2"),
        ([3.0], "one-dimensional integer array, got float64"),
        (np.ones(20, bool), "one-dimensional integer array, got bool"),
        ([[3]], r"of shape \(1, 1\)"),
    ],
)
def test_positions_are_checked_before_anything_is_written(small, positions, message):
    small.drop([2])
    before = pickle.dumps(small)
    changes = [
        small.drop,
        small.replace,
        small.trained_mask_without,
        lambda positions: small.set_role(positions, RowRole.UNSEEN),
    ]
    for change in changes:
        with pytest.raises(ValueError, match=message):
            change(positions)
    assert pickle.dumps(small) == before


def test_positions_stay_valid_until_compact(rng):
    X = rows_of(rng, 10, (3,), np.float32)
    rows = TrainingSet(X, np.arange(10))
    held = rows.locate(X[[8]])
    rows.drop(np.arange(4))
    added = rows.append(X[:2] + 1e6, [10, 11])
    assert added.tolist() == [10, 11]
    pickle.dumps(rows)
    copy.deepcopy(rows)
    np.testing.assert_array_equal(rows.raw_X[held], X[[8]])
    assert not rows.compact()
    rows.drop([4, 5])
    assert not rows.compact()  # half of the slots, not more
    rows.drop([6])
    assert rows.locate(X[[8]]).tolist() == held.tolist()
    assert rows.compact()
    assert not rows.compact(force=True)
    assert rows.n_slots == len(rows) == 5
    np.testing.assert_array_equal(rows.X, np.concatenate([X[7:], X[:2] + 1e6]))
    assert rows.locate(X[[8]]).tolist() == [1]


def test_everything_can_be_dropped_and_rows_added_again(small):
    X = small.X
    small.drop(np.arange(20))
    assert (len(small), small.n_trained) == (0, 0)
    restored = pickle.loads(pickle.dumps(small))
    assert restored.compact() is False
    assert not restored.match(X).found.any()
    restored.append(X[:1], [2], sample_id=["new"])
    assert restored.locate(X[:1]).tolist() == [0]
    assert small.sample(3, np.random.default_rng(0)).tolist() == []


def test_replace_moves_rows_in_the_index(rng):
    X = rows_of(rng, 10, (3,), np.float32)
    rows = TrainingSet(X, np.arange(10))
    rows.locate(X)
    held = []
    for step in range(40):  # past the point where the index starts anew, twice
        rows.replace([4, 2], X_new=X[[4, 2]] + 1e6 * (step + 1))
        assert not rows.match(X[[4, 2]] + 1e6 * step).found.any()
        assert rows.locate(X[[4]] + 1e6 * (step + 1)).tolist() == [4]
        assert rows.locate(X[[5]]).tolist() == [5]
        held.append(len(every_byte(rows)))
    assert max(held[20:]) <= max(held[:20])  # it does not grow without end
    rows.replace([4], y_new=[77])
    assert rows.locate(rows.X[[4]], [77]).tolist() == [4]
    assert len(rows) == 10


def test_replace_refuses_and_changes_nothing(small):
    before = pickle.dumps(small)
    with pytest.raises(ValueError, match=r"X_new must have shape \(n_rows, 5\)"):
        small.replace([1], X_new=np.ones((1, 4)), y_new=[1])
    with pytest.raises(ValueError, match="y_new must hold values of dtype int64; other ones in rows index 0"):
        small.replace([1], X_new=np.ones((1, 5)), y_new=[0.5])
    with pytest.raises(ValueError, match="X_new must have 1 rows"):
        small.replace([1], X_new=np.ones((2, 5)))
    assert pickle.dumps(small) == before


def test_append_refuses_and_changes_nothing(small):
    before = pickle.dumps(small)
    with pytest.raises(ValueError, match=r"X must have shape \(n_rows, 5\)"):
        small.append(np.ones((1, 4)), [1], sample_id=["a"])
    with pytest.raises(ValueError, match="y must have 1 rows, as X has, got 2"):
        small.append(np.ones((1, 5)), [1, 2], sample_id=["a"])
    with pytest.raises(ValueError, match="sample_id was not given here but given at fit"):
        small.append(np.ones((1, 5)), [1])
    with pytest.raises(ValueError, match="sample_weight must have shape"):
        small.append(np.ones((1, 5)), [1], sample_id=["a"], sample_weight=[1, 2])
    assert pickle.dumps(small) == before
    with pytest.raises(ValueError, match="sample_id was given here but not given at fit"):
        TrainingSet(np.ones((1, 2)), [0]).append(np.ones((1, 2)), [0], sample_id=["a"])


@pytest.mark.parametrize(
    ("old", "new"), [(["a"], ["longer"]), ([1], ["1"]), ([2**60 + 1], [0.5]), ([b"a"], ["a"]), ([1], [("a", 1)])]
)
def test_appended_ids_keep_what_they_are(old, new):
    rows = TrainingSet(np.arange(1.0), np.arange(1), sample_id=np.array(old))
    rows.locate_ids(old)
    rows.append([1.0], [1], sample_id=new)
    assert rows.locate_ids(old).tolist() == [0]
    assert rows.locate_ids(new).tolist() == [1]
    assert rows.sample_id.tolist() == old + new


def test_roles(rng):
    rows = TrainingSet(rows_of(rng, 6, (2,), np.float32), np.arange(6), role=[0, 1, 2, 0, 1, 2])
    assert rows.n_trained == 2
    rows.set_role([1, 0], [RowRole.TRAINED, RowRole.UNSEEN])
    assert rows.role.tolist() == [2, 0, 2, 0, 1, 2]
    assert rows.trained_mask.tolist() == [False, True, False, True, False, False]
    rows.drop([3])
    assert rows.n_trained == 1
    assert rows.live_mask.tolist() == [True, True, True, False, True, True]
    rows.set_role(None, RowRole.TRAINED)
    assert rows.n_trained == 5
    assert rows.trained_mask.tolist() == [True, True, True, False, True, True]
    rows.set_role(None, [0, 1, 1, 1, 0])
    assert rows.role.tolist() == [0, 1, 1, 1, 0]
    assert rows.trained_mask_without([0]).tolist() == [False] * 5 + [True]
    assert rows.n_trained == 2
    rows.append(rows.X[:1], [0], role=RowRole.VALIDATED)
    assert (rows.n_trained, len(rows)) == (2, 6)
    with pytest.raises(ValueError, match="role must hold values of RowRole"):
        rows.set_role([0], 7)


# ------------------------------------------------------------------------------------------------------------------
# Sampling


@pytest.mark.parametrize("n", [120, 12])  # thrown back, listed
def test_samples_are_uniform_ordered_pairs(n):
    """Chi-squared over all ordered pairs of the trained slots, a third of all."""
    rng = np.random.default_rng(1)
    rows = TrainingSet(np.arange(float(n)), np.arange(n), role=np.where(np.arange(n) % 3 == 0, 0, 2))
    trained = np.flatnonzero(rows.trained_mask)
    assert (rows.n_trained < 32) == (n == 12)
    n_draws = 40_000
    size = 1 if n == 120 else 2
    counts = np.zeros((n, n))
    for _ in range(n_draws):
        drawn = rows.sample(size, rng)
        counts[drawn[0], drawn[-1]] += 1
    cells = counts[np.ix_(trained, trained)]
    assert cells.sum() == n_draws
    used = np.eye(len(trained), dtype=bool) if size == 1 else ~np.eye(len(trained), dtype=bool)
    assert not cells[~used].any()
    expected = n_draws / used.sum()
    freedom = used.sum() - 1
    assert ((cells[used] - expected) ** 2 / expected).sum() < freedom + 5 * np.sqrt(2 * freedom)


def test_thrown_back_samples_are_unbiased_without_replacement():
    """Each of 640 true slots is in a sample of 20 with probability 1/32; low slots must not be favoured."""
    rng = np.random.default_rng(2)
    mask = np.arange(1000) % 25 < 16
    counts = np.zeros(1000)
    n_draws = 4000
    for _ in range(n_draws):
        drawn = sample_mask(mask, 640, 20, rng)
        assert len(np.unique(drawn)) == 20
        counts[drawn] += 1
    assert not counts[~mask].any()
    expected = n_draws / 32
    # The counts of a sample are negatively correlated: variance p(1-p) each, and the sum is fixed.
    chi2 = ((counts[mask] - expected) ** 2 / (expected * (1 - 1 / 32))).sum()
    assert abs(chi2 - 640) < 5 * np.sqrt(2 * 640)
    halves = counts[mask].reshape(2, 320).sum(1)
    assert abs(halves[0] - halves[1]) < 5 * np.sqrt(20 * n_draws)


def test_samples_of_all_of_live_rows_and_of_none(small):
    rng = np.random.default_rng(0)
    small.set_role(np.arange(10), RowRole.VALIDATED)
    small.drop([0, 15])
    assert small.sample(100, rng).tolist() == [10, 11, 12, 13, 14, 16, 17, 18, 19]
    assert len(small.sample(100, rng, among="live")) == 18
    assert small.sample(0, rng).tolist() == []
    assert small.sample(4, rng).dtype == np.int64
    with pytest.raises(ValueError, match="size must be 0 or more, got -1"):
        small.sample(-1, rng)
    with pytest.raises(ValueError, match='among must be "trained" or "live", got \'dead\''):
        small.sample(1, rng, among="dead")


def test_samples_repeat_with_the_seed(small):
    first, second = (small.sample(5, np.random.default_rng(3)).tolist() for _ in range(2))
    assert first == second


def test_a_sample_ends_even_where_the_count_is_wrong():
    mask = np.zeros(1000, bool)
    mask[:5] = True
    with pytest.raises(ValueError, match="larger sample than population"):
        sample_mask(mask, 900, 10, np.random.default_rng(0))


# ------------------------------------------------------------------------------------------------------------------
# Privacy


def every_byte(rows):
    """All bytes of all arrays the object holds, index included."""
    found, todo = [], [rows]
    while todo:
        item = todo.pop()
        if isinstance(item, np.ndarray):
            found.append(repr(item.tolist()).encode() if item.dtype == object else item.tobytes())
        elif isinstance(item, (tuple, list)):
            todo.extend(item)
        elif isinstance(item, dict):
            todo.extend(item.values())
        elif hasattr(item, "__dict__"):
            todo.extend(vars(item).values())
    return b"|".join(found)


def traces(X, y, weight, ids):
    values = [
        *X.astype(np.float32).ravel(),
        *X.astype(np.float64).ravel(),
        *X.ravel(),
        *y.ravel(),
        *weight,
        *contents.row_hash(contents.as_words(X)),
        *_index.id_hash(ids.tolist(), len(ids)),
    ]
    found = [value.tobytes() for value in values]
    for one in ids:
        found += [str(one).encode(), str(one).encode("utf-32-le")]
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["str", "object", "int"])
@pytest.mark.parametrize("how", ["drop", "replace and drop", "append and drop", "drop and compact"])
def test_no_byte_of_an_erased_row_survives(rng, dtype, kind, how):
    n, gone = 50, np.array([3, 10, 11, 49])
    X = rng.integers(2**40, 2**50, size=(n, 4)) if dtype is np.int64 else rng.standard_normal((n, 4)).astype(dtype)
    y, weight = rng.standard_normal(n), rng.uniform(1, 2, n)
    ids = np.arange(n) + 10**15 + rng.integers(10**9) * n
    if kind != "int":
        ids = np.array([f"name{i:020d}" for i in ids], dtype=object if kind == "object" else None)
    rows = TrainingSet(X, y, sample_weight=weight, sample_id=ids)
    rows.locate(X[:1])
    rows.locate_ids(ids[:1])
    secrets = traces(X[gone], y[gone], weight[gone], ids[gone])

    def survivors(where):
        return [secret for secret in secrets if secret in where]

    assert survivors(every_byte(rows))  # the search can find
    assert survivors(pickle.dumps(rows))
    if how == "append and drop":
        rows.append(X[:2], y[:2], sample_weight=weight[:2], sample_id=ids[:2])
    if how == "replace and drop":
        rows.replace(gone[:2], X_new=np.ones((2, 4)), y_new=[1, 2])
    rows.drop(gone[:1])
    rows.drop(gone[1:])
    if how == "drop and compact":
        rows.compact(force=True)
    assert survivors(every_byte(rows)) == []
    for protocol in (2, 4, 5):
        assert survivors(pickle.dumps(rows, protocol=protocol)) == []
    assert survivors(every_byte(copy.deepcopy(rows))) == []
    assert rows.match(X).found.sum() == n - 4


def test_the_index_does_not_tell_where_an_erased_row_was(rng):
    """Whoever holds the object and a guess of an erased row must not be able to confirm it by a gap in the index."""
    X = rng.standard_normal((64, 3))
    ids = [f"customer {i}" for i in range(64)]
    rows = TrainingSet(X, np.arange(64), sample_id=ids)
    rows.locate(X[:1])
    rows.locate_ids(ids[:1])
    rows.drop([5, 40])
    rows.replace([7], X_new=X[[7]] + 1)

    left = np.delete(np.arange(64), [5, 40])
    others = TrainingSet(X[left], left, sample_id=[ids[i] for i in left])
    others.locate(X[:1])
    others.locate_ids(ids[:1])
    others.replace([6], X_new=X[[7]] + 1)
    # Slots of the second are renumbered; all else is the same, as if the rows had never been there.
    for name in ("_row_segments", "_id_segments"):
        for one, other in zip(getattr(rows, name), getattr(others, name), strict=True):
            for block, same in zip(one._blocks, other._blocks, strict=True):
                assert np.array_equal(block.start, same.start)
                assert np.array_equal(block.slots, left[same.slots])


def test_a_drop_and_a_replacement_are_not_planned_together(small):
    with pytest.raises(ValueError, match="drop and replace"):
        small.plan(drop=[0], replace=([1], small.raw_X[[1]] + 1, None))


def test_replaced_content_is_gone(rng):
    X = rng.standard_normal((10, 4))
    rows = TrainingSet(X, np.arange(10.0))
    rows.locate(X)
    rows.replace([3], X_new=np.ones((1, 4)))
    for where in (every_byte(rows), pickle.dumps(rows)):
        assert not any(value.tobytes() in where for value in X[3])


# ------------------------------------------------------------------------------------------------------------------
# Pickles and copies


@pytest.mark.parametrize("duplicate", [lambda r: pickle.loads(pickle.dumps(r)), copy.deepcopy, copy.copy])
def test_round_trip(small, duplicate):
    small.set_role([5], RowRole.VALIDATED)
    small.drop([1, 2])
    other = duplicate(small)
    for name in ("X", "y", "sample_weight", "sample_id", "role"):
        np.testing.assert_array_equal(getattr(other, name), getattr(small, name))
    assert (len(other), other.n_trained, other.n_slots) == (18, 17, 18)
    other.drop(np.arange(18))
    assert len(small) == 18
    assert small.X.any(axis=1).all()
    assert small.n_slots == 20


def test_a_pickle_with_read_only_buffers_can_still_forget(small):
    buffers = []
    data = pickle.dumps(small, protocol=5, buffer_callback=buffers.append)
    other = pickle.loads(data, buffers=[bytes(buffer.raw()) for buffer in buffers])
    other.drop([0])
    assert not other.raw_X[0].any()


# ------------------------------------------------------------------------------------------------------------------
def test_rows_that_were_planned_and_never_came_are_nowhere(rng):
    """Room for further rows is made beforehand; what a call that failed had planned must not lie in it."""
    X = rng.standard_normal((40, 3))
    rows = TrainingSet(X[:20], np.arange(20))
    rows.append(X[20:21], [0])
    rows.plan_append(X[21:22], [0])
    assert not any(value.tobytes() in every_byte(rows) for value in X[21])
    rows.append(X[22:23], [0])
    rows.drop(rows.locate(X[20:23:2]))
    assert not any(value.tobytes() in every_byte(rows) for value in X[20:23].ravel())
    np.testing.assert_array_equal(rows.X, X[:20])


# Interrupts


PACKAGE = Path(sk_unlearn.__file__).parent
TRACED = {str(path) for path in (PACKAGE / "rows").iterdir()} | {str(PACKAGE / "utils" / "_journal.py")}
WRITES = {"commit", "__setstate__"}


def run_until(step, change):
    """Run `change`, raising KeyboardInterrupt at its step-th moment; whether it came to that.

    Until the change begins to be written, which is when `Journal.commit` or (in `compact`) `__setstate__` is called,
    a moment is a line: nothing is at stake yet. From there on it is a bytecode.
    """
    executed, writing = 0, False

    def trace(frame, event, _):
        nonlocal executed, writing
        if event == "call":
            if frame.f_code.co_filename not in TRACED:
                return None
            if frame.f_code.co_name in WRITES:
                writing, caller = True, frame.f_back
                while caller.f_trace is not None:  # those that wait for it go on by bytecodes too
                    caller.f_trace_opcodes, caller = True, caller.f_back
            frame.f_trace_opcodes = writing
        elif event == ("opcode" if writing else "line"):
            executed += 1
            if executed == step:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        change()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def content(rows):
    columns = [rows.X, rows.y, rows.sample_weight, rows.sample_id, rows.role]
    return [column.tolist() for column in columns] + [len(rows), rows.n_trained]


CHANGES = {
    "drop": lambda rows, X: rows.drop([4, 1]),
    "replace": lambda rows, X: rows.replace([4, 1], X_new=X[[4, 1]] + 1e6, y_new=[7, 8]),
    "set_role": lambda rows, X: rows.set_role([4, 1], RowRole.UNSEEN),
    "append": lambda rows, X: rows.append(X[:2] + 1e6, [1, 2], sample_id=["x", "y"]),
    "compact": lambda rows, X: rows.compact(force=True),
    "locate": lambda rows, X: rows.locate(X[[0]]),
}


@pytest.mark.parametrize(("name", "indexed"), [*((name, True) for name in CHANGES), ("drop", False), ("locate", False)])
def test_an_interrupt_anywhere_leaves_all_or_nothing(rng, name, indexed):
    X = rows_of(rng, 8, (3,), np.float32)
    change = CHANGES[name]

    def fresh():
        rows = TrainingSet(X, np.arange(8), sample_id=np.array(list("abcdefgh")), sample_weight=np.arange(8.0))
        if name == "append":  # the next goes into the room that the first has made
            rows.append(X[:1] + 1e7, [9], sample_id=["w"])
        rows.drop([7])
        if indexed:
            rows.locate(X[[0]])
            rows.locate_ids(["a"])
        return rows

    before, done = content(fresh()), fresh()
    change(done, X)
    after = content(done)
    step, interrupted, outcomes = 0, True, []
    while interrupted:
        step += 1
        rows = fresh()
        interrupted = run_until(step, lambda rows=rows: change(rows, X))
        now = content(rows)
        assert now in (before, after)
        outcomes.append(now == after)
        assert (rows.live_mask == rows.raw_X.any(axis=1)).all()
        assert (rows.trained_mask[rows.live_mask] == (rows.role == RowRole.TRAINED)).all()
        assert not rows.trained_mask[~rows.live_mask].any()
        match = rows.match(np.concatenate([rows.X, X[[4, 1]]]))
        assert match.found[:-2].all()
        assert len(match.positions) == len(rows)
        if name in ("drop", "replace"):
            assert match.found[-1] == (now == before)
        assert len(rows.locate_ids(rows.sample_id)) == len(rows)
    assert step > 10
    assert outcomes == sorted(outcomes)  # nothing up to some step, all from there on


class Interrupting(np.ndarray):
    """Raises KeyboardInterrupt the next `left` times it is written to."""

    left = 0

    def __setitem__(self, where, value):
        if Interrupting.left:
            Interrupting.left -= 1
            raise KeyboardInterrupt
        super().__setitem__(where, value)


@pytest.mark.parametrize("column", ["_X", "_y", "_live", "_trained", "_role", "_id", "_weight"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_drop_interrupted_twice_is_finished_by_the_next_call(small, column, times):
    first = small.X[:1]
    small.locate(first)
    # A private attribute, since no public one hands out the array itself that a drop writes to.
    setattr(small, column, getattr(small, column).view(Interrupting))
    Interrupting.left = times
    with pytest.raises(KeyboardInterrupt):
        small.drop([0])
    assert len(small) == 19
    assert not small.raw_X[0].any()
    assert not small.match(first).found.any()
    with pytest.raises(ValueError, match="erased already are 0"):
        small.drop([0])


# ------------------------------------------------------------------------------------------------------------------
# Scale


@pytest.fixture(scope="module")
def large():
    X = np.random.default_rng(0).standard_normal((200_000, 8)).astype(np.float32)
    rows = TrainingSet(X, np.arange(200_000) % 10, sample_id=np.arange(200_000) // 2)
    rows.locate(X[:1])
    rows.locate_ids([0])
    return rows, X


BLOCK = 400_000  # which a row that goes makes a copy of, with all that is on the way; the index takes 2 million bytes


@pytest.mark.parametrize(
    ("act", "most"),
    [
        (lambda rows, X, i: rows.locate(X[[i]], [i % 10]), 0),
        (lambda rows, X, i: rows.locate_ids([i // 2]), 0),
        (lambda rows, X, i: rows.drop(rows.locate(X[[i]])), BLOCK),
        (lambda rows, X, i: rows.replace([i], X_new=X[[i]] + 1e3), BLOCK),
        (lambda rows, X, i: rows.set_role([i], RowRole.UNSEEN), 0),
        (lambda rows, X, i: rows.sample(100, np.random.default_rng(i)), 0),
        (lambda rows, X, i: rows.slots_of(rows.numbers_of([i])), 0),
        (lambda rows, X, i: rows.append(X[[i]] + 1e3, [i % 10], sample_id=[i]), 0),
    ],
)
def test_one_row_costs_at_most_a_copy_of_its_block(large, monkeypatch, act, most):
    """A mask of the rows alone would be 200 kB; scans of a whole mask are forbidden outright."""
    rows, X = large

    def forbidden(array):
        assert len(array) < 1000
        return np.nonzero(array)[0]

    live = np.nonzero(rows.live_mask)[0]
    act(rows, X, live[-1])  # caches, lazy imports
    monkeypatch.setattr(np, "flatnonzero", forbidden)
    tracemalloc.start()
    act(rows, X, live[1000])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000 + most


def test_rows_in_many_blocks_are_found_until_they_go(rng):
    """Against NumPy's own comparison: more rows than one block of the index has buckets, each content twice."""
    n = 50_000
    content = rng.integers(n // 2, size=n)
    rows = TrainingSet(np.column_stack([content, -content]), np.zeros(n), sample_id=content * 2**40 - 2**62)
    gone = rng.random(n // 2) < 0.3
    asked = np.flatnonzero(gone)
    asked = asked[np.isin(asked, content)]
    stored = np.isin(content, asked)
    assert rows.locate(np.column_stack([asked, -asked])).tolist() == np.flatnonzero(stored).tolist()
    assert rows.locate_ids(asked * 2**40 - 2**62).tolist() == np.flatnonzero(stored).tolist()
    rows.drop(np.flatnonzero(stored))
    every = np.arange(n // 2)
    match = rows.match(np.column_stack([every, -every]))
    assert match.positions.tolist() == np.flatnonzero(~stored).tolist()
    assert match.found.tolist() == np.isin(every, content[~stored]).tolist()
    by_id = rows.match_ids([*(every * 2**40 - 2**62).tolist(), "another"])
    assert by_id.positions.tolist() == np.flatnonzero(~stored).tolist()
    assert by_id.known.tolist() == [*match.found.tolist(), False]


SPECIAL_INTEGERS = [-1, -2, -(2**63), 2**61 - 1, 1 - 2**61]


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.sampled_from(SPECIAL_INTEGERS), min_size=1))
def test_integers_are_hashed_as_python_does(ids):
    assert _index.id_hash(np.array(ids), len(ids)).tolist() == _index.id_hash(iter(ids), len(ids)).tolist()


# ------------------------------------------------------------------------------------------------------------------
# Against a list of rows

rows_strategy = st.lists(st.tuples(st.sampled_from([0.0, -0.0, 1.0, 2.5]), st.sampled_from([0.0, 1.0])), max_size=6)
labels = st.integers(0, 2)
people = st.integers(0, 4)


class TrainingSetMachine(RuleBasedStateMachine):
    """Any sequence of calls; the model is a dict from slot to (row, label, weight, person, role)."""

    def arrays(self, content, data):
        n = len(content)
        X = np.array(content, dtype=np.float64).reshape(n, 2)
        y = np.array(data.draw(st.lists(labels, min_size=n, max_size=n)), dtype=int)
        weight = np.array(data.draw(st.lists(st.sampled_from([1.0, 2.0]), min_size=n, max_size=n)))
        person = np.array(data.draw(st.lists(people, min_size=n, max_size=n)), dtype=int)
        role = np.array(data.draw(st.lists(st.sampled_from(list(RowRole)), min_size=n, max_size=n)), dtype=int)
        return X, y, weight, person, role

    def remember(self, positions, X, y, weight, person, role):
        columns = (X.tolist(), y.tolist(), weight.tolist(), person.tolist(), role.tolist())
        for slot, row, *rest in zip(positions, *columns, strict=True):
            self.model[int(slot)] = [tuple(row), *rest]

    def some_slots(self, data):
        slots = sorted(self.model)
        return data.draw(st.lists(st.sampled_from(slots), unique=True)) if slots else []

    @initialize(content=rows_strategy, data=st.data(), dtype=st.sampled_from([np.float32, np.float64]))
    def start(self, content, data, dtype):
        X, y, weight, person, role = self.arrays(content, data)
        self.model = {}
        self.rows = TrainingSet(X.astype(dtype), y, sample_weight=weight, sample_id=person, role=role)
        self.remember(range(len(X)), X, y, weight, person, role)

    @rule(content=rows_strategy, data=st.data())
    def append(self, content, data):
        X, y, weight, person, role = self.arrays(content, data)
        n_slots = self.rows.n_slots
        positions = self.rows.append(X, y, sample_weight=weight, sample_id=person, role=role)
        assert positions.tolist() == list(range(n_slots, n_slots + len(X)))
        self.remember(positions, X, y, weight, person, role)

    @rule(data=st.data())
    def drop(self, data):
        slots = self.some_slots(data)
        self.rows.drop(slots)
        for slot in slots:
            del self.model[slot]

    @rule(content=rows_strategy, data=st.data())
    def locate_and_drop(self, content, data):
        query = np.array(content).reshape(len(content), 2)
        found = self.rows.match(query).found
        slots = self.rows.locate(query[found])
        assert slots.tolist() == [s for s in sorted(self.model) if self.model[s][0] in content]
        self.rows.drop(slots)
        for slot in slots.tolist():
            del self.model[slot]

    @rule(content=rows_strategy, data=st.data())
    def match(self, content, data):
        label = data.draw(st.lists(labels, min_size=len(content), max_size=len(content)))
        query = np.array(content).reshape(len(content), 2)
        for named, key in ((None, lambda row: row[0]), (label, lambda row: (row[0], row[1]))):
            asked = content if named is None else list(zip(content, named, strict=True))
            match = self.rows.match(query, named)
            expected = [(s, asked.index(key(r))) for s, r in sorted(self.model.items()) if key(r) in asked]
            assert list(zip(match.positions.tolist(), match.query_index.tolist(), strict=True)) == expected
            stored = [key(row) for row in self.model.values()]
            assert match.found.tolist() == [one in stored for one in asked]
            assert match.row_found.tolist() == [one in [r[0] for r in self.model.values()] for one in content]

    @rule(person=people)
    def locate_ids(self, person):
        expected = [s for s, row in sorted(self.model.items()) if row[3] == person]
        if expected:
            assert self.rows.locate_ids([person]).tolist() == expected
        else:
            with pytest.raises(ValueError, match="1 of 1 ids are not stored"):
                self.rows.locate_ids([person])

    @rule(data=st.data(), new_rows=st.booleans(), new_labels=st.booleans())
    def replace(self, data, new_rows, new_labels):
        slots = self.some_slots(data)
        n = len(slots)
        content = data.draw(st.lists(st.tuples(st.sampled_from([0.0, 2.5]), st.just(1.0)), min_size=n, max_size=n))
        label = data.draw(st.lists(labels, min_size=n, max_size=n))
        X_new = np.array(content).reshape(n, 2)
        self.rows.replace(slots, X_new=X_new if new_rows else None, y_new=np.array(label, int) if new_labels else None)
        for slot, row, one in zip(slots, content, label, strict=True):
            self.model[slot][0] = row if new_rows else self.model[slot][0]
            self.model[slot][1] = one if new_labels else self.model[slot][1]

    @rule(data=st.data(), role=st.sampled_from(list(RowRole)))
    def set_role(self, data, role):
        slots = self.some_slots(data)
        self.rows.set_role(slots, role)
        for slot in slots:
            self.model[slot][4] = int(role)

    @precondition(lambda self: self.model)
    @rule(force=st.booleans())
    def compact(self, force):
        n_slots = self.rows.n_slots
        dead = n_slots - len(self.model)
        assert self.rows.compact(force=force) == (2 * dead > n_slots or (force and dead > 0))
        if self.rows.n_slots < n_slots:
            self.model = dict(enumerate(row for _, row in sorted(self.model.items())))

    @rule()
    def pickle_and_load(self):
        self.rows = pickle.loads(pickle.dumps(self.rows))
        self.model = dict(enumerate(row for _, row in sorted(self.model.items())))

    @rule(size=st.integers(0, 5), seed=st.integers(0, 9))
    def sample(self, size, seed):
        drawn = self.rows.sample(size, np.random.default_rng(seed)).tolist()
        trained = [slot for slot, row in self.model.items() if row[4] == RowRole.TRAINED]
        assert len(drawn) == len(set(drawn)) == min(size, len(trained))
        assert set(drawn) <= set(trained)

    @invariant()
    def same_rows(self):
        live = [self.model[slot] for slot in sorted(self.model)]
        assert len(self.rows) == len(live)
        weight = self.rows.sample_weight
        columns = [
            list(map(tuple, self.rows.X.tolist())),
            self.rows.y.tolist(),
            [1.0] * len(live) if weight is None else weight.tolist(),
            self.rows.sample_id.tolist(),
            self.rows.role.tolist(),
        ]
        assert [list(row) for row in zip(*columns, strict=True)] == live
        trained = [slot for slot in sorted(self.model) if self.model[slot][4] == RowRole.TRAINED]
        assert np.flatnonzero(self.rows.trained_mask).tolist() == trained
        assert self.rows.n_trained == len(trained)
        assert self.rows.n_read == sum(role != RowRole.VALIDATED for *_, role in live)  # no weight is zero
        assert self.rows.weight_sum == sum(row[2] for row in live)
        slots = np.array(sorted(self.model), dtype=int)
        assert self.rows.numbers_of(slots).tolist() == list(range(len(slots)))
        assert self.rows.slots_of(range(len(slots))).tolist() == slots.tolist()
        assert self.rows.numbers_of(trained, among="trained").tolist() == list(range(len(trained)))
        tombstones = np.setdiff1d(np.arange(self.rows.n_slots), list(self.model))
        assert not self.rows.raw_X[tombstones].any()
        assert not self.rows.raw_y[tombstones].any()


TestAgainstAList = TrainingSetMachine.TestCase
TestAgainstAList.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
