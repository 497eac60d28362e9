"""A keyed digest of a set of rows: of the rows alone, not of how they came to be the rows."""

import pickle
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_unlearn.rows import SetDigest, TrainingSet
from sk_unlearn.rows.digests import digest_each, new_key

KEY = bytes(range(32))


def training_set(n, *, weights=True, ids=True, seed=0):
    rng = np.random.default_rng(seed)
    return TrainingSet(
        rng.integers(3, size=(n, 2)).astype(np.float32),
        rng.integers(2, size=n),
        sample_weight=rng.integers(1, 3, size=n) if weights else None,
        sample_id=[f"u{i % 7}" for i in range(n)] if ids else None,
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 99), st.booleans(), st.booleans(), st.lists(st.sampled_from("dra"), min_size=1, max_size=6))
def test_taking_out_and_putting_in_equals_digesting_all_again(seed, weights, ids, steps):
    rng = np.random.default_rng(seed)
    rows = training_set(12, weights=weights, ids=ids, seed=seed)
    digest = SetDigest.of_rows(KEY, rows)
    for step in steps:
        live = np.flatnonzero(rows.live_mask)
        slots = np.sort(rng.choice(live, size=min(2, len(live) - 1), replace=False))
        if step == "d":
            digest = digest.minus(SetDigest.of_slots(KEY, rows, slots))
            rows.drop(slots)
        elif step == "r":
            digest = digest.minus(SetDigest.of_slots(KEY, rows, slots))
            rows.replace(slots, np.full((len(slots), 2), 9.0))
            digest = digest.plus(SetDigest.of_slots(KEY, rows, slots))
        else:
            new = rows.append(
                [[5.0, -0.0]], [1], sample_weight=[2.0] if weights else None, sample_id=["new"] if ids else None
            )
            digest = digest.plus(SetDigest.of_slots(KEY, rows, new))
        assert digest == SetDigest.of_rows(KEY, rows)
        rows.compact(force=True)
        again = pickle.loads(pickle.dumps(rows))
        assert digest == SetDigest.of_rows(KEY, rows) == SetDigest.of_rows(KEY, again)
        shuffled = rng.permutation(len(rows))
        reordered = TrainingSet(
            rows.X[shuffled],
            rows.y[shuffled],
            sample_weight=None if rows.sample_weight is None else rows.sample_weight[shuffled],
            sample_id=None if rows.sample_id is None else rows.sample_id[shuffled],
        )
        assert digest.hex(KEY) == SetDigest.of_rows(KEY, reordered).hex(KEY)


@pytest.mark.parametrize("column", ["X", "y", "sample_weight", "sample_id", "a copy"])
def test_any_change_of_the_rows_changes_the_digest(column):
    given_rows = {
        "X": np.eye(3),
        "y": np.arange(3),
        "sample_weight": np.array([1.0, 2, 3]),
        "sample_id": ["a", "b", "c"],
    }
    other = {name: np.array(values) for name, values in given_rows.items()}
    if column == "a copy":
        other = {name: values[[0, 1, 2, 2]] for name, values in other.items()}
    else:
        other[column][1] = other[column][2]
    digests = [SetDigest.of_rows(KEY, TrainingSet(**rows)).hex(KEY) for rows in (given_rows, other)]
    assert digests[0] != digests[1]


def test_weights_of_one_are_no_weights_and_the_key_counts():
    rows, weighted = training_set(5, weights=False), training_set(5, weights=False)
    weighted.append([[1, 1]], [0], sample_weight=[2.0], sample_id=["x"])
    weighted.drop([5])
    assert SetDigest.of_rows(KEY, rows) == SetDigest.of_rows(KEY, weighted)
    assert SetDigest.of_rows(KEY, rows).hex(KEY) != SetDigest.of_rows(new_key(), rows).hex(KEY)
    assert len(SetDigest.of_rows(KEY, rows).hex(KEY)) == 64


def test_rows_that_are_no_arrays_count_by_their_content():
    y = np.zeros(2)
    table = {"a": np.array([1.0, 2.0]), "b": np.array(["x", "y"])}
    digest = SetDigest.of_content(KEY, table, y)
    assert digest == SetDigest.of_content(KEY, {"b": ["x", "y"], "a": np.array([1, 2])}, y)
    assert digest != SetDigest.of_content(KEY, {"b": ["x", "x"], "a": np.array([1, 2])}, y)
    assert SetDigest.of_content(KEY, np.zeros((0, 2)), np.zeros(0)) == SetDigest(0, 0)


def test_many_pieces_are_digested_as_one_by_one():
    keyed = blake2b(key=KEY, digest_size=16)
    content, ends = bytes(range(256)) * 40, [*range(1, 10_001)]
    begins = [max(0, end - end % 70) for end in ends]
    alone = []
    for begin, end in zip(begins, ends, strict=True):
        one = keyed.copy()
        one.update(content[begin:end])
        alone.append(one.digest())
    assert digest_each(keyed, memoryview(content), begins, ends) == b"".join(alone)
