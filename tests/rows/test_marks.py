"""Marks on rows follow these through every change, and hold nothing of what is in them."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sk_unlearn.rows import TrainingSet

CHANGES = ["mark", "drop", "append", "replace", "pickle", "compact", "unmark", "settle", "move"]


def rows(n):
    return TrainingSet(np.arange(float(n))[:, None], np.zeros(n))


def marked(stored):
    """What is in the marked rows, by label."""
    return {mark.label: sorted(stored.raw_X[mark.positions, 0].tolist()) for mark in stored.marks}


@given(st.data())
def test_marks_follow_the_rows(data):
    stored, expected, n_made = rows(8), {}, 8
    for step in range(data.draw(st.integers(1, 15))):
        live = stored.X[:, 0].tolist()
        some = data.draw(st.lists(st.sampled_from(live), max_size=4, unique=True)) if live else []
        slots = stored.locate(np.array(some)[:, None]) if some else np.empty(0, np.int64)
        what = data.draw(st.sampled_from(CHANGES))
        if what == "mark":
            stored.mark(str(step), "now", slots)
            expected[str(step)] = set(some)
        elif what == "drop":
            stored.drop(slots)
            expected = {label: held - set(some) for label, held in expected.items()}
        elif what == "append":
            stored.append(np.array([[float(n_made)]]), np.zeros(1))
            n_made += 1
        elif what == "replace":
            new = {old: n_made + i for i, old in enumerate(sorted(some))}
            stored.replace(slots, np.array([[new[old]] for old in stored.raw_X[slots, 0]], float).reshape(-1, 1))
            expected = {label: {new.get(old, old) for old in held} for label, held in expected.items()}
            n_made += len(some)
        elif what == "pickle":
            stored = pickle.loads(pickle.dumps(stored))
        elif what == "move":  # other features for all rows, on a copy that is swapped in
            moved = stored.with_features(stored.raw_X + 0)
            stored.journal.commit(stored.plan_as(moved))
        elif what == "compact":
            stored.compact(force=True)
        elif what == "unmark" and expected:
            stored.unmark(next(iter(expected)))
            del expected[next(iter(expected))]
        elif what == "settle" and expected:
            label = next(iter(expected))
            (mark,) = [mark for mark in stored.marks if mark.label == label]
            stored.journal.commit(stored.plan(drop=mark.positions, unmark=[label]))
            gone = expected.pop(label)
            expected = {other: held - gone for other, held in expected.items()}
        assert marked(stored) == {label: sorted(held) for label, held in expected.items()}


def test_a_label_is_there_once():
    stored = rows(3)
    stored.mark("a", "now", [0])
    with pytest.raises(ValueError, match="label is taken"):
        stored.mark("a", "now", [1])
    with pytest.raises(KeyError):
        stored.unmark("b")
    with pytest.raises(ValueError, match="positions must lie in"):
        stored.mark("b", "now", [7])
    assert [mark.label for mark in stored.marks] == ["a"]
