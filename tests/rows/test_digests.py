"""Keyed digests: equal content has equal digests whatever holds it, and other content has others."""

import datetime as dt
import itertools
import pickle
import time
import uuid
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sk_unlearn.rows import SparseRows
from sk_unlearn.rows.digests import DigestIndex, digest_ids, digest_rows, new_key

KEY = bytes(range(32))


def rows(X, dtype=None):
    return [digest.tobytes() for digest in digest_rows(KEY, X, dtype)]


def ids(values):
    return [digest.tobytes() for digest in digest_ids(KEY, values)]


def distinct(digests):
    return len(set(digests)) == len(digests)


# -------------------------------------------------------------------------------------------------------- identifiers


@pytest.mark.parametrize(
    "same",
    [
        [1, 1.0, True, np.int64(1), np.float32(1), Decimal(1), Fraction(1), 1 + 0j],
        [2**70, Decimal(2**70), Fraction(2**70)],
        [2**63 + 1, np.uint64(2**63 + 1)],
        [10**400, Fraction(10**400), Decimal(10**400)],
        [Fraction(2 * 10**400 + 1, 2), Decimal("1" + "0" * 400 + ".5")],
        [float("inf"), Decimal("inf"), np.longdouble("inf"), complex("inf")],
        ["a", np.str_("a")],
        [0.1, np.float64(0.1), Fraction(0.1)],
        [(1, "a"), (1.0, "a"), (True, np.str_("a"))],
        [frozenset({1, "b"}), frozenset({"b", 1.0})],
        [dt.datetime(2020, 1, 2), np.datetime64("2020-01-02T00:00:00"), pd.Timestamp("2020-01-02")],
        [
            dt.datetime(2020, 1, 2, 12, tzinfo=dt.timezone.utc),
            dt.datetime(2020, 1, 2, 13, tzinfo=dt.timezone(dt.timedelta(hours=1))),
            pd.Timestamp("2020-01-02T12:00", tz="UTC"),
        ],
        [dt.timedelta(hours=1), np.timedelta64(60, "m"), pd.Timedelta(minutes=60)],
        [np.datetime64("2020", "Y"), np.datetime64("2020-01", "M"), dt.datetime(2020, 1, 1)],
        [np.timedelta64(5000, "ps"), np.timedelta64(5, "ns"), pd.Timedelta(5, "ns")],
        [np.timedelta64(2, "Y"), np.timedelta64(24, "M")],
        [b"x", bytes([120])],
        [uuid.UUID(int=7), uuid.UUID("00000000-0000-0000-0000-000000000007")],
    ],
    ids=lambda same: type(same[0]).__name__,
)
def test_equal_identifiers_have_one_digest_alone_and_among_others(same):
    alone = {ids([one])[0] for one in same}
    assert len(alone) == 1
    assert set(ids(same)) == alone
    assert ids([*same, ("other",)])[:-1] == list(alone) * len(same)


def test_identifiers_that_differ_have_different_digests():
    different = [
        1, "1", b"1", 1.5, "1.0", (1,), ("1",), ((1,),), (1, 2), (12,), ("ab", "c"), ("a", "bc"), "abc", "",
        frozenset({1}), frozenset(), (), 2**53, 2**53 + 1, 2**63, 2**64, -1, -(2**63), 2**64 + 1, 0, 1j, float("inf"),
        Decimal("0.1"), 0.1, dt.date(2020, 1, 2), dt.datetime(2020, 1, 2),
        dt.datetime(2020, 1, 2, tzinfo=dt.timezone.utc), dt.time(0, 1), dt.timedelta(0, 60), 60, "a\0", "a",
        uuid.UUID(int=1), uuid.UUID(int=2), (None,), ("None",), np.datetime64("2020-01-02T00:00:00.000000001"),
        Fraction(10**400, 3), np.timedelta64(1, "ps"), np.timedelta64(1, "fs"), np.timedelta64(1, "M"),
    ]  # fmt: skip
    assert distinct(ids(different))
    assert ids(different) == [ids([one])[0] for one in different]


def test_identifiers_are_checked_as_everywhere():
    with pytest.raises(ValueError, match="sample_id is missing"):
        digest_ids(KEY, [1, None])
    with pytest.raises(ValueError, match="one-dimensional"):
        digest_ids(KEY, "abc")


def test_another_key_makes_other_digests_and_an_identifier_is_no_row():
    assert not (digest_ids(KEY, ["a", 1]) == digest_ids(new_key(), ["a", 1])).all(axis=1).any()
    assert not set(ids(["a"])) & set(rows(["a"]))
    assert len(new_key()) == 32
    assert new_key() != new_key()


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.binary(max_size=4),
    st.decimals(allow_nan=False, places=3, min_value=-9, max_value=9), st.fractions(max_denominator=8),
    st.dates(), st.times(), st.timedeltas(), st.datetimes(), st.datetimes(timezones=st.just(dt.timezone.utc)),
    st.complex_numbers(max_magnitude=4),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.recursive(scalars, lambda s: st.lists(s, max_size=2).map(tuple), max_leaves=4), max_size=6))
def test_digests_of_cells_are_those_of_python_equality(values):
    values = [one for one in values if type(one) is not dt.date]  # which in a table are their midnight
    digests = rows(pd.DataFrame({"a": pd.Series(values, dtype=object)}))
    for (i, one), (j, other) in itertools.combinations(enumerate(values), 2):
        missing = [value is None or (value != value and not isinstance(value, tuple)) for value in (one, other)]
        if "nan" not in repr(one) + repr(other):  # of two NaN inside tuples Python looks at the identity
            assert (digests[i] == digests[j]) == (all(missing) or (not any(missing) and one == other)), (one, other)


# --------------------------------------------------------------------------------------------------------------- rows


def test_missing_values_are_one_and_no_text():
    missing = [None, np.nan, pd.NA, pd.NaT, Decimal("NaN"), complex("nan"), np.longdouble("nan"), np.timedelta64("NaT")]
    table = pd.DataFrame({"a": pd.Series([*missing, "", "nan", "None", 0], dtype=object)})
    digests = rows(table)
    assert len(set(digests[: len(missing)])) == 1
    assert distinct(digests[len(missing) - 1 :])


def test_columns_come_in_any_order_and_their_names_count():
    assert rows(pd.DataFrame({"a": [1], "b": [2]})) == rows(pd.DataFrame({"b": [2], "a": [1]}))
    assert distinct(
        [
            *rows(pd.DataFrame({"a": [1], "b": [2]})),
            *rows(pd.DataFrame({"a": [2], "b": [1]})),
            *rows(pd.DataFrame({"a": [1], "c": [2]})),
            *rows(pd.DataFrame({"a": [1], "b": [2], "c": [None]})),
            *rows(pd.DataFrame({"a": [1]})),
            *rows(np.array([[1, 2]])),
            *rows(np.array([[1], [2]])),
            *rows(np.array([[[1, 2]]])),
        ]
    )


def test_texts_do_not_run_into_each_other():
    assert distinct(rows(pd.DataFrame({"a": ["ab", "a", "abc", ""], "b": ["c", "bc", "", "abc"]})))
    assert distinct(rows([["ab", "c"], ["a", "bc"]]))


MIXED = {
    "number": [1.5, None, -0.0],
    "whole": [1, 2**53 + 1, 3],
    "text": ["x", None, "z"],
    "flag": [True, False, True],
    "day": [dt.date(2020, 1, 1), dt.date(1969, 1, 1), None],
    "moment": [dt.datetime(2020, 1, 1, 12, 30, 1, 5), None, dt.datetime(1, 1, 1)],
    "instant": [dt.datetime(2020, 7, 1, tzinfo=dt.timezone.utc), None, dt.datetime(1960, 1, 1, tzinfo=dt.timezone.utc)],
    "lasting": [dt.timedelta(days=1), dt.timedelta(microseconds=-1), None],
    "clock": [dt.time(1, 2, 3), None, dt.time(0)],
    "amount": [Decimal("1.10"), None, Decimal("2")],
    "kinds": ["u", "v", None],
    "list": [[1, 2], [], None],
}


def as_objects():
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in MIXED.items()})


def as_pandas():
    table = as_objects()
    table["number"] = table["number"].astype(float)
    table["whole"] = table["whole"].astype("int64")
    table["text"] = table["text"].astype("string")
    table["flag"] = table["flag"].astype(bool)
    table["day"] = pd.to_datetime(table["day"])
    table["moment"] = pd.Series(np.array(MIXED["moment"], dtype="M8[us]"))
    table["instant"] = pd.Series(np.array(["2020-07-01", "NaT", "1960-01-01"], dtype="M8[s]")).dt.tz_localize("UTC")
    table["instant"] = table["instant"].dt.tz_convert("Asia/Tokyo")
    table["lasting"] = pd.to_timedelta(table["lasting"])
    table["kinds"] = table["kinds"].astype("category").cat.add_categories("unused")
    return table


def as_nullable():
    table = as_pandas()
    table["number"] = table["number"].astype("Float64")
    table["whole"] = table["whole"].astype("UInt64")
    table["flag"] = table["flag"].astype("boolean")
    table["text"] = pd.Series(MIXED["text"])
    return table[table.columns[::-1]]


def as_polars():
    table = pl.DataFrame({**MIXED, "kinds": pl.Series(MIXED["kinds"], dtype=pl.Categorical)}, strict=False)
    return table.with_columns(pl.col("instant").dt.convert_time_zone("Europe/Berlin"))


def as_mapping():
    table = as_pandas()
    return {name: table[name] for name in table}


@pytest.mark.parametrize("other", [as_pandas, as_nullable, as_polars, as_mapping])
def test_what_holds_a_table_does_not_matter(other):
    expected = rows(as_objects())
    assert distinct(expected)
    assert rows(other()) == expected
    assert rows(other()[1:] if other is not as_mapping else other())[-2:] == expected[1:]
    for name in MIXED:
        assert rows(other()[[name]] if other is not as_mapping else {name: other()[name]}) == rows(as_objects()[[name]])


def test_a_column_of_integers_that_became_floats_or_categories_is_the_same():
    whole = pd.DataFrame({"a": [1, 2]})
    assert rows(whole) == rows(pd.DataFrame({"a": [1.0, 2.0, np.nan]}))[:2]
    assert rows(whole) == rows(whole.astype("category"))
    assert rows(whole) == rows(whole.astype(pd.SparseDtype("int64", 0)))
    assert rows(whole) == rows(whole.astype("int8").to_records(index=False))
    assert rows(pd.DataFrame({"a": [1, None]}, dtype="Int64")) == rows(pl.DataFrame({"a": [1, None]}))


def test_times_in_units_without_a_length_in_nanoseconds_and_beyond_their_range():
    years = pd.DataFrame({"a": np.array(["1500", "2020", "NaT"], dtype="M8[us]")})
    assert rows({"a": np.array(["1500", "2020", "NaT"], dtype="M8[Y]")}) == rows(years)
    zoned = pd.DataFrame({"a": years["a"].dt.tz_localize("UTC")})
    assert rows(zoned) == rows(zoned.astype(object))
    assert distinct([*rows(zoned), *rows(years)[:2]])


@pytest.mark.parametrize("kinds", [["u", None, "v"], [1.5, None, 2.5]], ids=["texts", "numbers"])
def test_categories_with_gaps(kinds):
    kinds = pd.Series(kinds, dtype="category")
    assert rows(kinds.to_frame("a")) == rows(kinds.astype(object).to_frame("a"))


def test_arrays_in_cells_are_the_lists_of_their_values():
    values = [[[1.0, 2.0], [3.0, 4.0]], 5.0, []]
    arrays = [np.array(values[0]), torch.tensor(5.0), np.array([])]
    assert rows(pd.DataFrame({"a": pd.Series(arrays, dtype=object)})) == rows({"a": values})


def test_large_integers_are_told_apart_in_every_container():
    large = [2**53, 2**53 + 1, 2**62 + 1, 2**63 - 1]
    expected = rows(pd.DataFrame({"a": large}))
    assert distinct(expected)
    assert rows(pd.DataFrame({"a": pd.Series([*large, 2**64 - 1, -(2**63)], dtype=object)}))[:4] == expected
    assert rows(pd.DataFrame({"a": np.array([*large, 2**64 - 1], dtype=np.uint64)}))[:4] == expected
    assert rows(pd.DataFrame({"a": [*large, None]}, dtype="Int64"))[:4] == expected
    assert rows(pl.DataFrame({"a": [*large, None]}))[:4] == expected


def test_arrays_lists_and_sparse_rows_are_the_same():
    values = np.array([[0, 1, 0], [0, 0, 0], [2, 0, 3]])
    expected = rows(values)
    assert distinct(expected)
    for other in [
        values.astype(np.float32), values.astype(object), values.tolist(), list(values), values.tolist()[::-1][::-1],
        sparse.csr_matrix(values), sparse.csc_array(values), sparse.coo_array(values), torch.tensor(values),
        SparseRows(values),
    ]:  # fmt: skip
        assert rows(other) == expected
    unsummed = sparse.coo_array(([1, 1, 1, 3, 0], ([0, 2, 2, 2, 1], [1, 0, 0, 2, 1])), shape=(3, 3))
    assert rows(unsummed) == expected
    assert rows(sparse.csr_array(values[:0])) == []
    assert rows({"a": values, "b": sparse.csr_array(values)}) == rows({"b": values, "a": values.astype(float)})
    assert rows((values, values[:, 0])) == rows((sparse.csr_array(values), values[:, 0]))


def test_lists_of_texts_and_ragged_lists_do_not_depend_on_the_other_rows():
    assert (
        rows(["a", "bc"]) == rows(np.array(["a", "bc"])) == rows(pd.Series(["a", "bc"])) == rows(pl.Series(["a", "bc"]))
    )
    assert rows([[1, 2], [3]])[0] == rows([[1, 2], [3, 4]])[0] == rows(np.array([[1, 2]]))[0]
    assert rows([[1, "a"], [2.5, None]]) == rows(np.array([[1, "a"], [2.5, None]], dtype=object))
    assert rows([["a", "b"], ["c", "d"]]) == rows(np.array([["a", "b"], ["c", "d"]]))
    assert rows([[2**53 + 1, 0.5]]) == rows(np.array([[2**53 + 1, 0.5]], dtype=object))
    assert rows([[1, [2]], [3, [4, 5]]]) == [*rows([[1, [2]]]), *rows([[3, [4, 5]]])]
    assert rows(np.array(["a", "bc"], dtype=object)) == rows(["a", "bc"])
    columns = {"a": [[1], [1, 2], 3], "b": [2**53 + 1, 0.5, "1"], "c": [[1, 2.5], [3, None], ["x", 4]]}
    frame = pd.DataFrame({name: pd.Series(columns[name], dtype=object) for name in "ab"})
    assert rows({name: columns[name] for name in "ba"}) == rows(frame)
    assert rows({"c": columns["c"]}) == rows({"c": np.array(columns["c"], dtype=object)})
    assert distinct(rows([{"a": 1}, {"a": 2}, {}, ["a", 1], "a"]))


def test_the_sign_of_zero_and_the_payload_of_nan_are_no_content():
    payload = np.array([0x7FF8000000000001, 0x7FF0000000000000 | 5], dtype=np.uint64).view(np.float64)
    assert len(set(rows(np.append(payload, np.nan)[:, None]))) == 1
    assert rows(np.array([[-0.0]])) == rows(np.array([[0]])) == rows(np.array([[False]]))


def test_rows_are_digested_as_the_net_takes_them():
    X = np.array([[0.1, 2.0]])
    assert rows(X) != rows(X.astype(np.float32))
    assert rows(X, "float32") == rows(X.astype(np.float32)) == rows(pd.DataFrame(X), np.float32)
    assert rows({"a": X, "n": X[:, 1]}, {"a": "float32", "n": "int64"}) == rows({"a": X.astype("f4"), "n": [2]})
    assert rows(sparse.csr_array(X), "float32") == rows(SparseRows(X), "float32") == rows(X.astype(np.float32))
    with pytest.raises(ValueError, match="cannot be cast to float32") as caught:
        digest_rows(KEY, pd.DataFrame({"a": ["secret"]}), "float32")
    assert "secret" not in str(caught.value)


def test_batches_do_not_matter():
    rng = np.random.default_rng(3)
    X = pd.DataFrame({"a": rng.normal(size=270_000), "b": rng.choice(["x", "y"], 270_000)})
    digests = digest_rows(KEY, X)
    at = rng.integers(len(X), size=200)
    np.testing.assert_array_equal(digests[at], digest_rows(KEY, X.iloc[at]))


def test_rows_are_told_by_their_place_and_not_by_their_index():
    table = as_pandas()
    expected = rows(table)
    for index in ([2.0, 0.0, 1.0], [5, 5, 5], ["x", "y", "z"]):
        assert rows(table.set_axis(index)) == expected
        assert rows(table.set_axis(index)["text"]) == rows(table["text"])
    masked = np.ma.array([[1.0, 7.0]], mask=[[False, True]])
    assert rows(masked) == rows([[1, None]])


def test_what_has_no_content_is_refused_by_type():
    with pytest.raises(TypeError, match="type generator cannot be digested"):
        digest_rows(KEY, pd.DataFrame({"a": [(i for i in [1])]}))
    with pytest.raises(ValueError, match="not of one length"):
        digest_rows(KEY, {"a": [1, 2], "b": [1]})
    with pytest.raises(ValueError, match="a single value was given, of type ndarray"):
        digest_rows(KEY, np.array(5))


# -------------------------------------------------------------------------------------------------------------- index


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 9), max_size=30), st.lists(st.integers(0, 12), max_size=8), st.sets(st.integers(0, 35)))
def test_the_index_finds_all_copies_and_only_them(stored, asked, gone):
    def check(index, content):
        match = index.find(digest_ids(KEY, asked))
        assert match.positions.tolist() == sorted(at for at, value in content.items() if value in asked)
        assert [asked[i] for i in match.query_index] == [content[at] for at in match.positions.tolist()]
        assert match.found.tolist() == [value in content.values() for value in asked]
        assert index.positions.tolist() == sorted(content)
        np.testing.assert_array_equal(index.digests, digest_ids(KEY, [content[at] for at in sorted(content)]))

    index, content = DigestIndex(digest_ids(KEY, stored)), dict(enumerate(stored))
    check(index, content)
    index = index.append(digest_ids(KEY, [3, 3, 10]))
    content |= {len(stored) + i: value for i, value in enumerate([3, 3, 10])}
    check(index, content)
    rest = {at: value for at, value in content.items() if at not in gone}
    check(index.without(sorted(gone)), rest)
    check(index.without(sorted(gone), renumber=True), dict(enumerate(rest[at] for at in sorted(rest))))
    check(index, content)


def test_nothing_of_an_erased_digest_is_left():
    digests = digest_ids(KEY, range(100))
    kept = pickle.dumps(DigestIndex(digests).without([40]))
    assert digests[40].tobytes()[:8] not in kept
    assert digests[40].tobytes()[8:] not in kept
    assert digests[41].tobytes()[:8] in kept


def test_an_index_takes_digests_only_and_shows_none():
    assert repr(DigestIndex(digest_ids(KEY, range(3)))) == "DigestIndex(3 rows)"
    with pytest.raises(ValueError, match=r"uint8 array of shape \(n, 16\)"):
        DigestIndex(np.zeros((3, 16)))
    with pytest.raises(ValueError, match="positions must have 3 entries"):
        DigestIndex(np.zeros((3, 16), dtype=np.uint8), [1, 2])


def test_looking_up_a_thousand_rows_takes_no_time():
    rng = np.random.default_rng(0)
    index = DigestIndex(rng.integers(256, size=(300_000, 16), dtype=np.uint8))
    table = as_objects().loc[np.zeros(1000, dtype=int)]
    started = time.process_time()
    assert not index.find(digest_rows(KEY, table)).found.any()
    assert time.process_time() - started < 1
