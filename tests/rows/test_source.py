"""Rows found by a digest of what they were made of: where content in the net's numbers does not tell them apart."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sk_unlearn.rows import TrainingSet


def digests(numbers):
    """Return a digest a number, spread over all bits, as a keyed hash would."""
    seeds = [np.random.default_rng(int(number)) for number in numbers]
    return np.array([seed.integers(256, size=16, dtype=np.uint8) for seed in seeds]).reshape(-1, 16)


def of_numbers(numbers):
    n = len(numbers)
    return TrainingSet(np.zeros((n, 2)), np.arange(n) % 2, source=digests(numbers))


def test_equal_rows_are_told_apart_by_what_they_were_made_of():
    rows = of_numbers([1, 2, 1, 3])
    assert rows.match_source(digests([1])).positions.tolist() == [0, 2]
    assert rows.match_source(digests([3, 1]), np.array([1, 0])).positions.tolist() == [0, 2, 3]
    with pytest.raises(ValueError, match=r"X_del: 1 of 2 rows cannot be found: 1 not among .* \(index 1\)"):
        TrainingSet.all_found(rows.match_source(digests([3, 4])), "X_del")
    with pytest.raises(ValueError, match="1 stored, but with another label"):
        TrainingSet.all_found(rows.match_source(digests([2]), np.array([0])), "X_del")


def test_same_digest_with_two_labels_names_two_rows():
    rows = of_numbers([5, 5])
    match = rows.match_source(digests([5, 5]), np.array([1, 0]))
    assert match.positions.tolist() == [0, 1]
    assert match.query_index.tolist() == [1, 0]


@given(st.data())
def test_agrees_with_a_list_over_random_histories(data):
    number = st.integers(0, 5)
    model = data.draw(st.lists(number, min_size=1, max_size=6))
    rows = of_numbers(model)
    for _ in range(data.draw(st.integers(1, 6))):
        kind = data.draw(st.sampled_from(["drop", "append", "replace", "pickle", "compact"]))
        live = np.flatnonzero(rows.live_mask)
        if kind == "drop" and len(model) > 1:
            at = data.draw(st.integers(0, len(model) - 1))
            rows.drop(live[[at]])
            del model[at]
        elif kind == "append":
            new = data.draw(st.lists(number, min_size=1, max_size=3))
            rows.append(np.zeros((len(new), 2)), np.zeros(len(new), int), source=digests(new))
            model += new
        elif kind == "replace":
            at, new = data.draw(st.integers(0, len(model) - 1)), data.draw(number)
            rows.journal.commit(rows.plan(replace=(live[[at]], None, None, digests([new]))))
            model[at] = new
        elif kind == "pickle":
            rows = pickle.loads(pickle.dumps(rows))
        else:
            rows.compact(force=True)
        asked = data.draw(number)
        live = np.flatnonzero(rows.live_mask)
        found = rows.match_source(digests([asked])).positions
        assert np.searchsorted(live, found).tolist() == [i for i, each in enumerate(model) if each == asked]
        assert np.array_equal(rows.source, digests(model))


def test_nothing_is_left_of_a_digest():
    rows = of_numbers(range(40))
    gone = digests([7])[0].tobytes()
    rows.match_source(digests([7]))
    rows.drop([7])
    assert gone not in rows.raw_X.tobytes()
    assert gone not in pickle.dumps(rows)


def test_rows_with_and_without_do_not_mix():
    with pytest.raises(ValueError, match="call partial_fit of the pipeline"):
        of_numbers([1]).append(np.zeros((1, 2)), [0])
    with pytest.raises(ValueError, match="call partial_fit of the last step"):
        TrainingSet(np.zeros((1, 2)), np.zeros(1)).append(np.zeros((1, 2)), [0], source=digests([1]))
    with pytest.raises(ValueError, match=r"uint8 array of shape \(1, 16\)"):
        TrainingSet(np.zeros((1, 2)), np.zeros(1), source=np.zeros((1, 8)))
    with pytest.raises(ValueError, match="no digests"):
        TrainingSet(np.zeros((1, 2)), np.zeros(1)).match_source(digests([1]))
