"""Identifiers: kept as they are given, told apart as Python does, found again, and gone once they are dropped."""

import datetime
import enum
import io
import pickle
import uuid
from decimal import Decimal

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sk_unlearn.rows import TrainingSet

NOON = datetime.datetime(2024, 2, 29, 12, 0, 0, 250000)


def rows_with(ids):
    n = len(ids)
    return TrainingSet(np.arange(float(n)), np.arange(n), sample_id=ids)


plain = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, 2**64, -(2**63)]),
    st.booleans(),
    st.sampled_from([0.0, -0.0, 1.0, 0.5, float(2**53), float("inf")]),
    st.sampled_from(["1", "1\0", "", "\0", "a", "True", "0.5", "\ud800"]),
    st.sampled_from([b"", b"\0", b"1", b"1\0"]),
    st.sampled_from([NOON, NOON.date(), NOON - NOON, Decimal("0.5"), Decimal("0.1"), uuid.UUID(int=3)]),
    st.sampled_from([NOON.replace(tzinfo=datetime.timezone.utc), frozenset({1}), frozenset()]),
)
hashable = st.one_of(plain, st.tuples(plain), st.tuples(plain, plain))
lists_of_one_type = st.one_of(*(st.lists(kind, min_size=1, max_size=8) for kind in (st.integers(), st.text())))


@given(ids=st.one_of(st.lists(hashable, min_size=1, max_size=8), lists_of_one_type), data=st.data())
def test_an_identifier_names_exactly_the_rows_with_an_equal_one(ids, data):
    rows = rows_with(ids)
    assert rows.sample_id.tolist() == ids
    assert [type(one) for one in rows.sample_id.tolist()] == [type(one) for one in ids]
    one = data.draw(st.one_of(st.sampled_from(ids), hashable))
    equal = [i for i, other in enumerate(ids) if other == one]
    if not equal:
        with pytest.raises(ValueError, match="1 of 1 ids are not stored"):
            rows.locate_ids([one])
        return
    assert rows.locate_ids([one]).tolist() == equal
    rows.drop(equal)
    assert rows.sample_id.tolist() == [other for other in ids if other != one]
    with pytest.raises(ValueError, match="1 of 1 ids are not stored"):
        rows.locate_ids([one])


@given(old=st.lists(hashable, min_size=1, max_size=4), new=st.lists(hashable, min_size=1, max_size=4))
def test_appended_ones_are_told_from_the_old_ones(old, new):
    rows = rows_with(old)
    rows.append(np.arange(float(len(new))), np.arange(len(new)), sample_id=new)
    assert rows.sample_id.tolist() == old + new
    assert rows.locate_ids(new[:1]).tolist() == [i for i, one in enumerate(old + new) if one == new[0]]


def test_big_integers_beside_a_float_stay_apart():
    big = 2**53
    assert rows_with([big, big + 1, 0.5]).locate_ids([big + 1]).tolist() == [1]


def test_numbers_are_not_their_texts():
    rows = rows_with([1, "1", 2])
    assert rows.locate_ids([1]).tolist() == [0]
    assert rows.locate_ids(["1"]).tolist() == [1]
    assert rows.locate_ids(np.array([1.0])).tolist() == [0]


@pytest.mark.parametrize(
    ("ids", "asked"),
    [
        (pd.Series(["a", "b", "c"]), "b"),
        (pd.Series(["a", "b", "c"], dtype="string"), "b"),
        (pd.Series(["a", "b", "c"], dtype="category"), "b"),
        (pd.Series([1, 2, 3], dtype="Int64", index=[7, 8, 9]), 2),
        (pd.Series([1.5, 2.5, 3.5], dtype="float32"), 2.5),
        (pd.Index([1, 2, 3]), np.int8(2)),
        (pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)]), ("a", 2)),
        (pd.DataFrame({"clinic": ["a", "a", "b"], "patient": [1, 2, 1]}).itertuples(index=False, name=None), ("a", 2)),
        (np.array([("a", 1), ("a", 2), ("b", 1)], dtype=[("clinic", "U1"), ("patient", "i4")]), ("a", 2)),
        (np.array([1, 2, 3], dtype=np.uint64) + np.uint64(2**63), 2**63 + 2),
        (np.array([True, False, True])[:2], False),
        (np.array([b"a", b"b"]), b"b"),
        (("a", "b", 3), "b"),
        ([np.int64(1), np.float32(0.5), np.str_("x")], 0.5),
        ([(np.int64(1), "a"), (2, "b")], (2, "b")),
    ],
)  # fmt: skip
def test_containers(ids, asked):
    ids = list(ids) if not hasattr(ids, "__len__") else ids
    assert rows_with(ids).locate_ids([asked]).tolist() == [1]


NANO = pd.Timestamp(NOON) + pd.Timedelta(1, "ns")


@pytest.mark.parametrize(
    "same",
    [
        [NOON, pd.Timestamp(NOON), np.datetime64(NOON), np.datetime64(NOON, "ns"), np.datetime64(NOON, "ms")],
        [pd.Timestamp("2024-02-29"), np.datetime64("2024-02-29"), datetime.datetime(2024, 2, 29)],
        [NANO, NANO.to_numpy(), np.datetime64("2024-02-29T12:00:00.250000001")],
        [pd.Timestamp(NOON, tz="UTC"), NOON.replace(tzinfo=datetime.timezone.utc), pd.Timestamp(NOON, tz="UTC")],
        [pd.Timedelta(3, "s"), np.timedelta64(3, "s"), datetime.timedelta(seconds=3), np.timedelta64(3 * 10**9, "ns")],
    ],
    ids=["moment", "midnight", "nanosecond", "aware", "span"],
)
def test_moments_of_numpy_pandas_and_python_are_found_by_each_other(same):
    for stored in same:
        rows = rows_with([0, stored])
        for asked in same:
            assert rows.locate_ids([asked]).tolist() == [1]
            assert rows.locate_ids(np.array([asked], dtype=object)).tolist() == [1]


@pytest.mark.parametrize("dtype", ["datetime64[D]", "datetime64[s]", "datetime64[ns]"])
def test_columns_of_days(dtype):
    days = np.array(["2024-01-01", "2024-01-02"], dtype=dtype)
    for ids in (days, pd.Series(days), pd.DatetimeIndex(days)):
        rows = rows_with(ids)
        for asked in (days[1:], pd.Series(days[1:]), [pd.Timestamp(days[1])]):
            assert rows.locate_ids(asked).tolist() == [1]


@pytest.mark.parametrize(
    "missing", [None, float("nan"), np.nan, np.float32("nan"), np.datetime64("NaT"), pd.NaT, pd.NA, Decimal("NaN")]
)
def test_a_missing_one_is_refused(missing):
    message = r"sample_id is missing \(None, NaN, NaT or NA\) for 1 of 3 \(index 1\)"
    with pytest.raises(ValueError, match=message):
        rows_with([5, missing, "a"])
    rows = rows_with([5, 6, "a"])
    with pytest.raises(ValueError, match=message):
        rows.locate_ids([5, missing, "a"])
    with pytest.raises(ValueError, match=message):
        rows.append([1.0, 2.0, 3.0], [1, 2, 3], sample_id=[5, missing, "a"])
    with pytest.raises(ValueError, match="sample_id is missing"):
        rows_with([("a", 1), ("a", float("nan"))])


@pytest.mark.parametrize(
    "ids",
    [
        np.ma.array([1, 2], mask=[False, True]),
        pd.Series([1.0, np.nan]),
        pd.Series(["a", None]),
        pd.Series(["a", None], dtype="category"),
        pd.Series([1, None], dtype="Int64"),
        pd.Series(pd.to_datetime(["2024-01-01", None])),
        np.array([1.0, np.nan]),
    ],
    ids=["masked", "float", "str", "category", "Int64", "datetime", "array"],
)
def test_a_gap_in_a_column_is_refused(ids):
    with pytest.raises(ValueError, match=r"sample_id is missing .* for 1 of 2 \(index 1\)"):
        rows_with(ids)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("ab", "list of identifiers, got str"),
        (7, "list of identifiers, got int"),
        (np.array(7), r"got an array of shape \(\)"),
        (pd.DataFrame({"a": [1, 2], "b": [3, 4]}), r"got an array of shape \(2, 2\).*tuples in a list"),
        ([["secret"], {}], r"hashable identifiers, got dict, list \(indices 0, 1\).*tuples in a list"),
        ([1, 2, 3], r"sample_id must have shape \(2,\)"),
    ],
)
def test_what_is_no_column_of_identifiers_is_refused(ids, message):
    with pytest.raises(ValueError, match=message) as caught:
        TrainingSet(np.arange(2.0), np.arange(2), sample_id=ids)
    assert "secret" not in str(caught.value)


def test_a_query_of_another_type_says_so():
    with pytest.raises(ValueError, match=r"ids of type str were asked for, and those stored are of type int$"):
        rows_with([1, 2]).locate_ids(["1", "2"])
    with pytest.raises(ValueError, match=r"\(index 0\)$"):
        rows_with([1, 2]).locate_ids([3])
    with pytest.raises(ValueError, match=r"a tuple goes into a list: sample_id=\[\(\.\.\., \.\.\.\)\]"):
        rows_with([("a", 1), ("a", 2)]).locate_ids(("a", 1))


@pytest.mark.parametrize(("ids", "kind"), [([1, 2], "i"), (["a", "b"], "U"), ([0.5, 1.5], "f"), (["a\0", "b"], "O")])
def test_plain_ones_are_held_in_a_block(ids, kind):
    assert rows_with(ids).sample_id.dtype.kind == kind
    assert rows_with(["x" * 10**6, *ids]).sample_id.nbytes < 100


@pytest.mark.parametrize("ids", [[1, 2, 3], ["a", "b\0", "b"], [("a", 1), NOON, "x"], [NANO, 5, b"5"]])
def test_pickles(ids):
    rows = rows_with(ids)
    file = io.BytesIO()
    joblib.dump(rows, file)
    file.seek(0)
    for other in (pickle.loads(pickle.dumps(rows)), joblib.load(file)):
        assert [other.locate_ids([one]).tolist() for one in ids] == [[0], [1], [2]]


def test_memory_mapped(tmp_path):
    for ids in ([1, 2, 3], ["a", 1, ("b", 2)]):
        joblib.dump(rows_with(ids), tmp_path / "rows.joblib")
        rows = joblib.load(tmp_path / "rows.joblib", mmap_mode="r")
        rows.drop(rows.locate_ids(ids[1:2]))
        assert rows.sample_id.tolist() == [ids[0], ids[2]]


def test_a_dropped_object_is_nowhere_left():
    rows = rows_with([("secret-7", 1), ("secret-8", 1), 5])
    rows.drop(rows.locate_ids([("secret-8", 1)]))
    assert b"secret-8" not in pickle.dumps(rows)
    assert b"secret-8" not in repr(vars(rows)).encode()
    assert b"secret-7" in pickle.dumps(rows)


@pytest.mark.parametrize("unordered", [{"a", "b"}, frozenset("ab"), {"a": 1, "b": 2}.keys(), {"a": 1, "b": 2}])
def test_ones_in_no_order_of_rows_are_refused(unordered):
    with pytest.raises(ValueError, match=r"must be in the order of the rows in X.*give a list or an array"):
        TrainingSet(np.arange(2.0), np.arange(2), sample_id=unordered)
    rows = rows_with(["a", "b", "c"])
    with pytest.raises(ValueError, match="must be in the order of the rows"):
        rows.append(np.arange(2.0), np.arange(2), sample_id=unordered)
    assert rows.locate_ids(unordered).tolist() == [0, 1]


@pytest.mark.parametrize("wrap", [torch.tensor, np.array, np.int64])
def test_a_number_in_a_tensor_or_array_is_that_number(wrap):
    rows = pickle.loads(pickle.dumps(rows_with([wrap(7), wrap(8), wrap(9)])))
    assert rows.sample_id.tolist() == [7, 8, 9]
    assert rows.locate_ids([wrap(8), 9]).tolist() == [1, 2]


def test_spans_without_a_length_are_told_by_their_months():
    assert rows_with([np.timedelta64(1, "Y"), np.timedelta64(24, "M")]).locate_ids(
        [np.timedelta64(2, "Y")]
    ).tolist() == [1]


class ByIdentity:
    pass


class Uncopyable:
    def __deepcopy__(self, memo):
        raise RuntimeError("there is only one")


class UnequalHash:
    def __eq__(self, other):
        return isinstance(other, UnequalHash)

    __hash__ = object.__hash__


class Ward(enum.Enum):
    NORTH = 1
    SOUTH = 2


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: (1, one), lambda one: frozenset([one])])
def test_ones_that_nobody_could_name_after_loading_are_refused(wrap):
    for one in (ByIdentity(), UnequalHash(), Uncopyable(), torch.tensor([1])):
        with pytest.raises(ValueError, match=r"equal their copies, got .*give numbers, strings or tuples"):
            rows_with([1, wrap(one)])
    rows = pickle.loads(pickle.dumps(rows_with([wrap(Ward.NORTH), wrap(Ward.SOUTH)])))
    assert rows.locate_ids([wrap(Ward.SOUTH)]).tolist() == [1]
