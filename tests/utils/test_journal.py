"""A journal makes all of its assignments or none, whatever strikes."""

import numpy as np
import pytest

from sk_unlearn.utils._journal import Journal, commit_together


class Striking(dict):
    """Raises the next `left` times something is assigned."""

    left = 0

    def __setitem__(self, key, value):
        if self.left:
            self.left -= 1
            raise KeyboardInterrupt
        super().__setitem__(key, value)


def test_makes_assignments_in_order():
    shelf, array = {}, np.zeros(3)
    Journal().commit([(shelf, "a", 1), (array, [0, 2], 7), (shelf, "a", 2)])
    assert shelf == {"a": 2}
    assert array.tolist() == [7, 0, 7]


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_is_raised_after_the_rest_and_a_second_one_leaves_it_to_the_next_call(times):
    first, second, journal = {}, Striking(), Journal()
    second.left = times
    with pytest.raises(KeyboardInterrupt):
        journal.commit([(first, "a", 1), (second, "b", 2), (first, "c", 3)])
    assert ("c" in first) == (times == 1)
    journal.settle()
    assert (first, second) == ({"a": 1, "c": 3}, {"b": 2})
    first.clear()
    journal.settle()  # nothing is left to be made
    assert first == {}


def test_what_was_never_written_down_never_happens():
    shelf, journal = {}, Journal()
    with pytest.raises(ZeroDivisionError):
        journal.commit([(shelf, "a", 1), (shelf, "b", 1 / 0)])
    journal.settle()
    assert shelf == {}


def test_several_journals_change_together_even_if_one_container_refuses_twice():
    one, other, shelf, refusing = Journal(), Journal(), {}, Striking()
    refusing.left = 2
    with pytest.raises(KeyboardInterrupt):
        commit_together([one, other], [(shelf, "a", 1), (refusing, "b", 2), (shelf, "c", 3)])
    other.settle()
    assert (shelf, refusing) == ({"a": 1, "c": 3}, {"b": 2})
    one.commit([(shelf, "a", 4)])
    other.settle()
    assert shelf["a"] == 4
