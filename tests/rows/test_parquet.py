"""Columns of a Parquet file as rows, and the scratch file in which they are decoded."""

import builtins
import copy
import gc
import os
import pickle
import sys
import tempfile

import numpy as np
import pytest

from sk_unlearn.rows import TrainingSet, open_rows

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(40, 3))


@pytest.fixture
def path(table, tmp_path):
    """Return the path of a file of the rows, in groups of seven."""
    columns = {name: table[:, k] for k, name in enumerate("abc")}
    parquet.write_table(pa.table(columns), tmp_path / "rows.parquet", row_group_size=7)
    return tmp_path / "rows.parquet"


def scratch_content():
    """Return what files without a name hold that this process has open."""
    content = b""
    for number in os.listdir("/proc/self/fd"):
        try:
            if "(deleted)" in os.readlink(f"/proc/self/fd/{number}"):
                size = os.fstat(int(number)).st_size
                content += os.pread(int(number), size, 0)
        except OSError:
            pass
    return content


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for open files as Linux shows them")


def test_columns_become_features_in_the_order_that_is_asked_for(path, table):
    rows = open_rows(path)
    assert rows.shape == (40, 3)
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows.toarray(), table)
    some = open_rows(str(path), columns=["c", "a"])
    np.testing.assert_array_equal(some[[30, 2, 2]].toarray(), table[[30, 2, 2]][:, [2, 0]])
    np.testing.assert_array_equal(some[7], table[7, [2, 0]])


@pytest.mark.parametrize(
    ("kinds", "common"),
    [
        (["float32", "float32"], "float32"),
        (["int8", "int32"], "int32"),
        (["int64", "float32"], "float64"),
        (["bool", "uint8"], "uint8"),
    ],
)
def test_columns_of_several_kinds_come_to_the_type_that_holds_all(tmp_path, kinds, common):
    columns = [np.array([0, 1, 1, 0]).astype(kind) for kind in kinds]
    parquet.write_table(pa.table(dict(zip("ab", columns, strict=True))), tmp_path / "rows")
    rows = open_rows(tmp_path / "rows")
    assert rows.dtype == common
    np.testing.assert_array_equal(rows.toarray(), np.column_stack(columns))


def refused(tmp_path, message, columns=None, **values):
    parquet.write_table(pa.table(values), tmp_path / "refused.parquet")
    with pytest.raises(ValueError, match=message):
        open_rows(tmp_path / "refused.parquet", columns=columns)


def test_what_is_no_row_of_numbers_is_refused_by_the_name_of_its_column(tmp_path):
    good = [1.0, 2.0]
    refused(tmp_path, r"column 'b' .* holds string, and rows are numbers: leave it out", a=good, b=["x", "y"])
    refused(tmp_path, "column 'b' .* holds dictionary", a=good, b=pa.array(["x", "y"]).dictionary_encode())
    refused(tmp_path, "column 'b' .* has missing values, which no net takes: fill them in", a=good, b=[1, None])
    refused(tmp_path, "column 'b' .* has whole numbers that float64", a=good, b=[1, 2**53 + 1])
    refused(tmp_path, "has no rows", a=pa.array([], pa.float64()))
    refused(tmp_path, "column 'z' is not in the Parquet file", columns=["z"], a=good)
    refused(tmp_path, r"columns must be a list of names, got the text 'a': write columns=\['a'\]", columns="a", a=good)
    refused(tmp_path, "columns must name at least one column of the Parquet file, and each once", columns=[], a=good)
    twice = pa.table([good, good], names=["a", "a"])
    parquet.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(ValueError, match="column 'a' is twice in the Parquet file"):
        open_rows(tmp_path / "twice.parquet")


def test_what_is_for_other_files_is_refused(path, table, tmp_path):
    np.save(tmp_path / "rows.npy", table)
    with pytest.raises(ValueError, match="columns names columns of a Parquet file"):
        open_rows(tmp_path / "rows.npy", columns=["a"])
    with pytest.raises(ValueError, match="overwrite=True needs a file in which a row can be overwritten"):
        open_rows(path, overwrite=True)


def test_without_pyarrow_it_is_said_how_to_get_it(path, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install sk-unlearn\[arrow\]"):
        open_rows(path)


@linux
def test_an_erased_row_is_zeros_in_the_scratch_file_which_goes_with_the_last_object(path, table):
    before = os.listdir(tempfile.gettempdir())
    rows = TrainingSet(open_rows(path), np.zeros(40))
    assert table[11].tobytes() in scratch_content()
    rows.drop(rows.locate(table[[11, 30]]))
    assert table[11].tobytes() not in scratch_content()
    assert table[12].tobytes() in scratch_content()
    # Nor is it written again where the file is decoded anew.
    loaded = pickle.loads(pickle.dumps(rows))
    del rows
    gc.collect()
    np.testing.assert_array_equal(loaded.X.toarray(), np.delete(table, [11, 30], axis=0))
    assert table[11].tobytes() not in scratch_content()
    assert set(os.listdir(tempfile.gettempdir())) <= set(before)
    [(name, numbers)] = loaded.outside()
    assert name == str(path)
    np.testing.assert_array_equal(numbers, [11, 30])
    del loaded
    gc.collect()
    assert table[12].tobytes() not in scratch_content()


def test_whoever_still_holds_an_erased_row_reads_it_from_the_users_file(path, table):
    source = open_rows(path)
    rows = TrainingSet(source, np.zeros(40))
    other = copy.deepcopy(rows)
    rows.drop([3, 17, 18])
    for each in (source, other.X):
        np.testing.assert_array_equal(each.toarray(), table)
        np.testing.assert_array_equal(each[[18, 2, 3, 18]].toarray(), table[[18, 2, 3, 18]])
    # What is tried on a copy leaves the scratch file as it is.
    other.drop([5])
    path.unlink()
    np.testing.assert_array_equal(rows.X.toarray(), np.delete(table, [3, 17, 18], axis=0))
    with pytest.raises(FileNotFoundError, match="is not there: put it back, or fit anew"):
        source.toarray()


def test_another_file_in_its_place_is_refused(path, table):
    rows = pickle.loads(pickle.dumps(open_rows(path)))
    parquet.write_table(pa.table({name: table[1:, k] for k, name in enumerate("abc")}), path)
    with pytest.raises(ValueError, match="has other rows or columns than when the estimator was fitted on it"):
        rows.toarray()


def test_no_room_for_the_scratch_file(path, monkeypatch):
    class Full:
        def write(self, content):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **kwargs: Full())
    with pytest.raises(OSError, match="name a folder with room by the environment variable TMPDIR"):
        open_rows(path)
