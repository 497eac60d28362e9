import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from sk_unlearn.rows import OutsideRows, SetDigest, SparseRows, TrainingSet, count_distinct, open_rows
from sk_unlearn.rows.forms import outside_rows, taken
from sk_unlearn.rows.mapped import mapped_file
from sk_unlearn.rows.outside import RowSource


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(40, 3))


@pytest.fixture
def mapped(table, tmp_path):
    """Return the rows as they are mapped from a file."""
    np.save(tmp_path / "rows.npy", table)
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


class InMemory(RowSource):
    """A source that counts the rows read from it."""

    name, shape, dtype = "memory", None, None

    def __init__(self, rows):
        self.rows, self.shape, self.dtype, self.n_read = rows, rows.shape, rows.dtype, 0

    def read(self, numbers):
        part = self.rows[numbers]
        self.n_read += len(part)
        return part


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_behaves_as_an_array_that_is_changed_alike(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    expected = rng.integers(-5, 5, size=(6, 2)).astype(np.float32)
    rows = OutsideRows(InMemory(expected.astype(np.float64)), dtype=np.float32)
    for _ in range(data.draw(st.integers(1, 8))):
        what = data.draw(st.sampled_from(["erase", "overwrite", "append", "append outside", "pick", "copy"]))
        at = np.flatnonzero(rng.random(len(rows)) < 0.4)
        new = rng.integers(-5, 5, size=(len(at), 2)).astype(np.float32)
        if what == "erase":
            expected = expected.copy()
            expected[at] = 0
            rows = rows.with_rows(at)
        elif what == "overwrite":
            expected = expected.copy()
            expected[at] = new
            rows = rows.with_rows(at, new)
        elif what.startswith("append"):
            expected = np.concatenate([expected, new])
            added = OutsideRows(InMemory(new)) if len(new) and what.endswith("outside") else new
            rows = rows.followed_by(added)
        elif what == "pick" and len(at):
            expected, rows = expected[at], rows[at]
        elif what == "copy":
            rows = rows.copy()
        assert rows.shape == expected.shape
        np.testing.assert_array_equal(rows.toarray(), expected)
        for i in range(-len(rows), len(rows)):
            np.testing.assert_array_equal(rows[i], expected[i])
        np.testing.assert_array_equal(rows[1::2].toarray(), expected[1::2])


def test_a_change_reaches_neither_copies_nor_picked_rows(table):
    rows = OutsideRows(InMemory(table))
    others = rows.copy(), rows[:], rows[np.arange(40)]
    container, key, value = rows.change(np.array([0, 5]), np.ones((2, 3)))
    container[key] = value
    assert (rows[0] == 1).all()
    for each in others:
        np.testing.assert_array_equal(each.toarray(), table)


def test_own_rows_that_are_erased_leave_nothing(table):
    secret = 0.123456789
    rows = OutsideRows(InMemory(table)).with_rows(np.array([3]), np.full((1, 3), secret))
    assert np.float64(secret).tobytes() in pickle.dumps(rows)
    rows = rows.followed_by(np.ones((2, 3))).with_rows(np.array([3]))
    assert np.float64(secret).tobytes() not in pickle.dumps(rows)
    np.testing.assert_array_equal(rows[[3, 40]].toarray(), [[0, 0, 0], [1, 1, 1]])


def test_picking_reads_nothing_and_reading_reads_what_was_picked(table):
    source = InMemory(table)
    rows = OutsideRows(source)
    some = rows[10:30][rows[10:30].toarray()[:, 0] > 100]
    source.n_read = 0
    picked = rows[np.array([7, 2, 2])]
    assert source.n_read == 0
    np.testing.assert_array_equal(picked.toarray(), table[[7, 2, 2]])
    assert source.n_read == 3
    assert len(some) == 0


def test_numbers_that_are_used_and_erased(table):
    rows = OutsideRows(InMemory(table[:10]), InMemory(table[10:]))
    rows = rows[:30].with_rows(np.array([1, 12])).with_rows(np.array([2]), np.zeros((1, 3)))
    assert [numbers.tolist() for numbers in rows.erased()] == [[1, 2], [2]]
    assert [numbers.tolist() for numbers in rows[[0, 1, 2, 13]].used()] == [[0], [3]]


def test_rows_that_stand_for_nothing_any_more(table):
    rows = OutsideRows(InMemory(table[:10]), InMemory(table[10:]))[[0, 3, 3, 15, 30]]
    assert [numbers.tolist() for numbers in rows.freed(np.array([0, 1, 3]))] == [[0], [5]]
    # As where a target alone is corrected.
    kept = rows.with_rows(np.array([0]), np.ones((1, 3)))
    same = kept.with_rows(np.array([0, 3]), kept[[0, 3]])
    np.testing.assert_array_equal(same.toarray(), kept.toarray())
    assert [numbers.tolist() for numbers in same.erased()] == [numbers.tolist() for numbers in kept.erased()]
    assert [len(numbers) for numbers in kept.freed(np.array([0, 3]), kept[[0, 3]])] == [0, 0]


def test_no_array_by_accident(table):
    with pytest.raises(TypeError, match=r"OutsideRows become dense by toarray\(\)"):
        np.asarray(OutsideRows(InMemory(table)))


# ------------------------------------------------------------------------------------------------------------ mapped


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "part", [np.s_[:], np.s_[5:], np.s_[5:30:3], np.s_[::-1], np.s_[:, 1:], np.s_[7:, ::2], np.s_[3:9, 2:]]
)
def test_every_view_of_a_map_is_found_again_in_its_file(table, tmp_path, order, part):
    np.save(tmp_path / "rows.npy", np.asarray(table, order=order))
    view = np.load(tmp_path / "rows.npy", mmap_mode="r")[part]
    rows = outside_rows(view)
    np.testing.assert_array_equal(rows.toarray(), table[part])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(rows)).toarray(), table[part])


@pytest.mark.parametrize("offset", [0, 8, 4096, 70_000])
def test_a_map_that_begins_within_its_file(table, tmp_path, offset):
    path = tmp_path / "raw"
    path.write_bytes(bytes(offset) + table.tobytes())
    rows = np.memmap(path, dtype=np.float64, mode="r", offset=offset, shape=table.shape)
    np.testing.assert_array_equal(outside_rows(rows[2:]).toarray(), table[2:])


def test_other_byte_orders_are_read_in_that_of_the_machine(table, tmp_path):
    np.save(tmp_path / "rows.npy", table.astype(">f4"))
    rows = outside_rows(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    assert rows.dtype == np.float32
    assert rows.dtype.isnative
    np.testing.assert_array_equal(rows.toarray(), table.astype(np.float32))


def test_what_is_in_memory_or_in_no_file_is_not_taken_for_a_map(table, tmp_path):
    np.save(tmp_path / "rows.npy", table)
    on_write = np.load(tmp_path / "rows.npy", mmap_mode="c")
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    for values in (table, on_write, mapped[[0, 3]], np.asarray(mapped), mapped[:0], mapped.astype(complex), [1], None):
        assert mapped_file(values) is None


def test_maps_of_joblib_do_not_outlive_their_call(table, tmp_path):
    folder = tmp_path / "joblib_memmapping_folder_1_2_3"
    folder.mkdir()
    np.save(folder / "rows.npy", table)
    assert mapped_file(np.load(folder / "rows.npy", mmap_mode="r")) is None


def test_what_is_read_is_the_callers_own(mapped, table, tmp_path):
    rows = outside_rows(np.load(tmp_path / "rows.npy", mmap_mode="r+"))
    rows[:5].toarray()[...] = 7.0
    rows[0][...] = 7.0
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), table)


def test_a_file_that_is_gone_or_shorter_is_named(mapped, tmp_path):
    rows = pickle.loads(pickle.dumps(outside_rows(mapped)))
    content = (tmp_path / "rows.npy").read_bytes()
    (tmp_path / "rows.npy").write_bytes(content[:-8])
    with pytest.raises(OSError, match=r"rows\.npy.* is shorter than it was"):
        rows.toarray()
    (tmp_path / "rows.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"rows\.npy.* is not there"):
        rows.toarray()


@pytest.mark.parametrize("opened", ["by path", "map"])
def test_a_file_that_is_cut_after_it_was_mapped_is_an_error(tmp_path, opened):
    path = tmp_path / "rows.npy"
    np.save(path, np.ones((2000, 3)))
    rows = open_rows(path) if opened == "by path" else outside_rows(np.load(path, mmap_mode="r"))
    assert rows[1999].all()
    with open(path, "r+b") as file:
        file.truncate(5000)
    for look in (rows.toarray, lambda: rows[1999], lambda: rows[[1999, 3]].toarray()):
        with pytest.raises(OSError, match="is shorter than it was"):
            look()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(40, 3), (120,), (10, 3, 2, 2)])
def test_a_path_is_opened_as_a_map_is(table, tmp_path, order, shape):
    values = np.asarray(table.reshape(shape), order=order)
    np.save(tmp_path / "rows.npy", values)
    rows = open_rows(str(tmp_path / "rows.npy"))
    assert rows.shape == shape
    np.testing.assert_array_equal(rows.toarray(), values)
    np.testing.assert_array_equal(rows[[5, 2]].toarray(), values[[5, 2]])


def test_a_file_of_anything_else_is_refused(tmp_path):
    for values in (np.array(["a"]), np.float64(1.0), np.zeros((0, 3)), np.array([1j])):
        np.save(tmp_path / "rows.npy", values)
        with pytest.raises(ValueError, match="the file must hold an array of real numbers with at least one row"):
            open_rows(tmp_path / "rows.npy")
    (tmp_path / "rows.csv").write_text("1.0,2.0\n")
    with pytest.raises(ValueError, match=r"is neither a \.npy file nor a Parquet file"):
        open_rows(tmp_path / "rows.csv")
    with pytest.raises(TypeError, match="got ndarray: rows in memory go to fit as they are"):
        open_rows(np.ones((2, 2)))


UNDER_A_LIMIT = """
import resource, sys
import numpy as np
from sk_unlearn.rows import TrainingSet, open_rows

path, size = sys.argv[1:]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(size) // 4, used + int(size) // 4))
try:
    np.load(path, mmap_mode="r")
    sys.exit("mapped")
except OSError:
    pass
rows = TrainingSet(open_rows(path, overwrite=True), np.zeros(1000))
asked = rows.raw_X[[3, 990, 41]].toarray()
assert (asked[:, 0] == [3, 990, 41]).all()
assert (rows.raw_X[1:3].toarray()[:, 0] == [1, 2]).all()
rows.drop([*rows.locate(asked), 42])
assert len(rows) == 996
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space as Linux does")
def test_a_file_beyond_the_address_space_is_read_and_overwritten_row_by_row(tmp_path):
    path = tmp_path / "rows.npy"
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(1000, 64_000))
    rows[:, 0] = np.arange(1000)
    rows.flush()
    size = rows.nbytes
    del rows
    done = subprocess.run(
        [sys.executable, "-c", UNDER_A_LIMIT, path, str(size)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first = np.load(path, mmap_mode="r")[:, 0]
    np.testing.assert_array_equal(np.flatnonzero(first == 0), [0, 3, 41, 42, 990])


# ------------------------------------------------------------------------------------------------------ training set


@pytest.fixture
def both(mapped, table):
    """Return the same training set with its rows in memory and in a file."""
    y = np.arange(40) % 2
    return TrainingSet(table, y), TrainingSet(outside_rows(mapped), y)


def test_found_erased_corrected_and_appended_as_in_memory(both, table):
    new = np.random.default_rng(1).normal(size=(4, 3))
    for rows in both:
        np.testing.assert_array_equal(rows.locate(table[[4, 30]]), [4, 30])
        rows.drop([4, 30])
        rows.replace([5], new[:1])
        rows.append(new[1:], np.zeros(3, dtype=int))
        np.testing.assert_array_equal(rows.locate(new), [5, 40, 41, 42])
        with pytest.raises(ValueError, match="1 not among the stored rows"):
            rows.locate(table[4:5])
        with pytest.raises(ValueError, match="1 of them miss a stored row by rounding alone"):
            rows.locate(table[6:7] * (1 + 1e-8))
        rows.drop([40])
        rows.compact(force=True)
    plain, outside = both
    np.testing.assert_array_equal(outside.X.toarray(), plain.X)
    assert [numbers.tolist() for _, numbers in outside.outside()] == [[4, 5, 30]]
    assert plain.outside() == []
    loaded = pickle.loads(pickle.dumps(outside))
    np.testing.assert_array_equal(loaded.X.toarray(), plain.X)
    np.testing.assert_array_equal(loaded.locate(new[2:]), plain.locate(new[2:]))
    key = bytes(32)
    assert SetDigest.of_rows(key, outside) == SetDigest.of_rows(key, plain)


def test_the_users_file_is_not_written_to(both, tmp_path):
    before = (tmp_path / "rows.npy").read_bytes()
    _, rows = both
    rows.replace([0], np.ones((1, 3)))
    rows.drop([0, 1])
    copy.deepcopy(rows).drop([2])
    assert (tmp_path / "rows.npy").read_bytes() == before


def test_rows_in_other_data_types_are_counted_as_the_net_sees_them(tmp_path):
    values = np.random.default_rng(0).integers(2**24, 2**24 + 3, size=(500, 2))
    np.save(tmp_path / "rows.npy", values)
    rows = outside_rows(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    assert count_distinct(rows) == count_distinct(values)
    assert count_distinct(rows.astype(np.float32)) == count_distinct(values.astype(np.float32))
    np.testing.assert_array_equal(taken(rows, np.array([3, 1])).toarray(), values[[3, 1]])


def test_outside_and_sparse_rows_find_each_other(both, table):
    _, rows = both
    np.testing.assert_array_equal(rows.locate(SparseRows(table[3:5])), [3, 4])
    sparse = TrainingSet(SparseRows(table), np.zeros(40))
    np.testing.assert_array_equal(sparse.locate(rows.X[3:5]), [3, 4])


# ----------------------------------------------------------------------------------------------------------- data sets


class Items(Dataset):
    def __init__(self, make):
        self.make, self.n_read = make, 0

    def __len__(self):
        return 40

    def __getitem__(self, i):
        self.n_read += 1
        return self.make(i)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(np.zeros(3), 0)])


FORMS = {
    "tensors": lambda table: TensorDataset(torch.tensor(table), torch.arange(40)),
    "subset": lambda table: Subset(TensorDataset(torch.tensor(table), torch.arange(40)), range(40)),
    "two": lambda table: ConcatDataset(
        [TensorDataset(torch.tensor(part), torch.arange(20)) for part in (table[:20], table[20:])]
    ),
    "alone": lambda table: Items(lambda i: table[i]),
}


@pytest.mark.parametrize("form", FORMS)
def test_items_are_rows(table, form):
    rows = open_rows(FORMS[form](table))
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows.toarray(), table)
    np.testing.assert_array_equal(rows[[30, 2]].toarray(), table[[30, 2]])
    np.testing.assert_array_equal(rows[7], table[7])


def test_only_the_items_that_are_looked_at_are_made(table):
    items = Items(lambda i: (table[i], 0))
    rows = open_rows(items)
    items.n_read = 0
    picked = rows[5:30][[1, 2]]
    assert items.n_read == 0
    picked.toarray()
    assert items.n_read == 2


def test_items_of_numbers_are_rows_of_one_number():
    np.testing.assert_array_equal(open_rows(Items(float)).toarray(), np.arange(40.0))


def test_data_sets_that_cannot_be_rows_are_refused(table):
    drawn = np.random.default_rng(0)
    with pytest.raises(ValueError, match="others when they are read again"):
        open_rows(Items(lambda i: (drawn.normal(size=3), 0)))
    with pytest.raises(ValueError, match="others are read into memory where the data set itself is given to fit"):
        open_rows(Items(lambda i: ({"a": table[i]}, 0)))
    with pytest.raises(ValueError, match="the data set is empty"):
        open_rows(TensorDataset(torch.zeros(0, 2)))
    with pytest.raises(ValueError, match="data set Items differ in shape"):
        open_rows(Items(lambda i: (np.zeros(3 + i // 20), 0))).toarray()
    with pytest.raises(TypeError, match="has no length"):
        open_rows(Stream())
