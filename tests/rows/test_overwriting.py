"""Files that are opened to be overwritten: erased rows become zeros in them, in the same commit or not at all."""

import copy
import pickle

import numpy as np
import pytest

from sk_unlearn.rows import TrainingSet, open_rows


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(40, 3))


@pytest.fixture
def path(table, tmp_path):
    np.save(tmp_path / "rows.npy", table)
    return tmp_path / "rows.npy"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(120,), (40, 3), (10, 3, 2, 2)])
def test_erased_rows_become_zeros_and_others_stay(table, tmp_path, order, shape):
    values = np.asarray(table.reshape(shape), order=order)
    np.save(tmp_path / "rows.npy", values)
    rows = TrainingSet(open_rows(tmp_path / "rows.npy", overwrite=True), np.zeros(shape[0]))
    rows.drop([2, 3, 8])
    expected = values.copy()
    expected[[2, 3, 8]] = 0
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), expected)
    np.testing.assert_array_equal(rows.X.toarray(), np.delete(values, [2, 3, 8], axis=0))


def test_corrected_rows_become_zeros_unless_their_content_stays(path, table):
    rows = TrainingSet(open_rows(path, overwrite=True), np.zeros(40))
    rows.replace([4], np.ones((1, 3)))
    rows.replace([5], y_new=[1.0])
    rows.replace([6], rows.raw_X[[6]], [1.0])
    expected = table.copy()
    expected[4] = 0
    np.testing.assert_array_equal(np.load(path), expected)
    np.testing.assert_array_equal(rows.X[4], np.ones(3))
    np.testing.assert_array_equal(rows.X[6], table[6])


def test_a_row_of_the_file_goes_with_the_last_that_it_stands_for(path, table):
    rows = TrainingSet(open_rows(path, overwrite=True)[[0, 7, 7]], np.zeros(3))
    rows.drop([1])
    np.testing.assert_array_equal(np.load(path), table)
    rows.drop([2])
    assert not np.load(path)[7].any()


def test_loaded_ones_overwrite_and_deep_copies_only_read(path, table):
    rows = TrainingSet(open_rows(path, overwrite=True), np.zeros(40))
    copy.deepcopy(rows).drop([0])
    np.testing.assert_array_equal(np.load(path), table)
    pickle.loads(pickle.dumps(rows)).drop([1])
    assert not np.load(path)[1].any()


def test_nothing_changes_where_the_file_cannot_be_written_to(path, table):
    rows = TrainingSet(open_rows(path, overwrite=True), np.zeros(40))
    path.rename(path.with_suffix(".away"))
    with pytest.raises(FileNotFoundError, match="is not there"):
        rows.drop([3])
    path.with_suffix(".away").rename(path)
    assert len(rows) == 40
    np.testing.assert_array_equal(rows.locate(table[3:4]), [3])
    np.testing.assert_array_equal(np.load(path), table)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda table: table[::-1], "holds other rows than it did, of which none was overwritten"),
        (lambda table: np.tile(table.astype("f4"), (2, 1)), "has another header than it had"),
    ],
)
def test_another_file_in_its_place_is_not_overwritten(path, table, other, message):
    rows = TrainingSet(open_rows(path, overwrite=True), np.zeros(40))
    np.testing.assert_array_equal(rows.locate(table[3:4]), [3])
    np.save(path.with_suffix(".new.npy"), other(table))
    path.with_suffix(".new.npy").replace(path)
    content = path.read_bytes()
    with pytest.raises(OSError, match=message):
        rows.drop([3])
    assert path.read_bytes() == content
    assert len(rows) == 40


def test_a_file_that_was_written_anew_with_zeros_for_some_rows_is_the_same(path, table):
    rows = TrainingSet(open_rows(path, overwrite=True), np.zeros(40))
    np.testing.assert_array_equal(rows.locate(table[3:4]), [3])
    table[3] = 0
    np.save(path.with_suffix(".new.npy"), table)
    path.with_suffix(".new.npy").replace(path)
    rows.drop([3, 4])
    table[4] = 0
    np.testing.assert_array_equal(np.load(path), table)


@pytest.mark.parametrize("overwrite", [False, True])
def test_who_opened_a_file_first_decides_whether_it_is_overwritten(path, table, overwrite):
    both = [open_rows(path, overwrite=each) for each in (overwrite, not overwrite)]
    rows = TrainingSet(both[0][:20], np.zeros(20))
    rows.append(both[1][10:], np.zeros(30))
    rows.drop([15, 3])
    assert np.load(path)[15].any()
    np.testing.assert_array_equal(
        rows.X.toarray(), np.delete(np.concatenate([table[:20], table[10:]]), [15, 3], axis=0)
    )
    assert np.load(path)[3].any() != overwrite
