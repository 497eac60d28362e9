"""Numbers among the true entries of a mask: as a list of all of them gives them, at a cost that stays small."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_unlearn.rows.ranks import counts_of, less_true, n_true_before, nth_true


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 6000), st.sampled_from([0.0, 0.01, 0.5, 0.99, 1.0]), st.integers(0, 9), st.integers(0, 99))
def test_as_a_list_of_all_true_entries(n, share, n_asked, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(n) < share
    true = np.flatnonzero(mask)
    at = rng.integers(n + 1, size=n_asked)
    assert n_true_before(mask, at).tolist() == np.searchsorted(true, at).tolist()
    if len(true):
        numbers = rng.integers(len(true), size=n_asked)
        assert nth_true(mask, numbers).tolist() == true[numbers].tolist()
        assert n_true_before(mask, true[numbers]).tolist() == numbers.tolist()
    for asked in (n_true_before(mask, []), nth_true(mask, [])):
        assert asked.dtype == np.int64
        assert asked.tolist() == []


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 3000), st.integers(0, 9), st.integers(0, 99))
def test_counts_are_kept_up_to_date(n, n_gone, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(n) < 0.7
    counts, true = counts_of(mask), np.flatnonzero(mask)
    gone = rng.permutation(true)[:n_gone]
    container, groups, values = less_true(counts, gone)
    container[groups] = values
    mask[gone] = False
    assert counts.tolist() == counts_of(mask).tolist()
    left = np.flatnonzero(mask)
    if len(left):
        numbers = rng.integers(len(left), size=3)
        assert nth_true(mask, numbers, counts).tolist() == left[numbers].tolist()
        assert n_true_before(mask, left[numbers], counts).tolist() == numbers.tolist()


@pytest.mark.parametrize("where", ["slice", "step"])
def test_a_mask_that_is_a_part_of_another(where):
    whole = np.random.default_rng(0).random(40_003) < 0.7
    mask = whole[3:] if where == "slice" else whole[::2]
    true = np.flatnonzero(mask)
    assert nth_true(mask, [0, 5000, len(true) - 1]).tolist() == true[[0, 5000, -1]].tolist()
    assert n_true_before(mask, true[[7, 9000]]).tolist() == [7, 9000]


def test_a_few_places_cost_no_list():
    mask = np.random.default_rng(0).random(1_000_000) < 0.9
    nth_true(mask, [5]), n_true_before(mask, [5])
    tracemalloc.start()
    number = n_true_before(mask, [999_000])
    at = nth_true(mask, number)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (number, at) == (np.count_nonzero(mask[:999_000]), 999_000 + np.argmax(mask[999_000:]))
    assert peak < 200_000  # the list takes 7 million bytes
