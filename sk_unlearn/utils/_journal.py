"""Several assignments that happen all or not at all, whatever strikes between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import starmap
from operator import setitem
from typing import Any

from sk_unlearn.utils._turns import Turns

__all__ = ["Assignment", "Journal", "commit_together"]

# (container, key, value): container[key] = value. The containers are dicts, lists and numpy arrays.
Assignment = tuple[Any, Any, Any]


class Journal:
    """Assignments that are made in one go.

    All values are computed beforehand, so that making an assignment again changes nothing. The loop over them runs
    inside a single call into C: signal handlers run between the instructions of Python, so that an exception from
    outside (Ctrl-C, a timer) comes before all of them or after all of them, however many signals there are. Only a
    container can still refuse in the middle, for want of memory. The list is kept meanwhile, what is left is made
    before that error is raised, and should it come a second time, :meth:`settle` finishes the work: whoever reads the
    containers calls it first.

    Examples
    --------
    >>> from sk_unlearn.utils._journal import Journal
    >>> shelf = {"a": 1}
    >>> Journal().commit([(shelf, "a", 2), (shelf, "b", 3)])
    >>> shelf
    {'a': 2, 'b': 3}
    """

    def __init__(self) -> None:
        # What is to be made, and at its end that nothing is pending any more.
        self._pending: Sequence[Assignment] | None = None
        # A thread that only reads must not finish an old list while a later one is made.
        self._turns = Turns()

    def commit(self, assignments: Sequence[Assignment]) -> None:
        """Make the assignments.

        Parameters
        ----------
        assignments : sequence of (container, key, value)
        """
        commit_together([self], assignments)

    def settle(self) -> None:
        """Make, or finish making, the assignments that are written down, if there are any."""
        if self._pending is None:
            return
        with self._turns.taken():
            if self._pending is not None:
                deque(starmap(setitem, self._pending), maxlen=0)

    def __reduce__(self) -> tuple[type[Journal], tuple[()]]:
        # A copy has nothing to do with the containers of this one.
        return type(self), ()


def commit_together(journals: Sequence[Journal], assignments: Sequence[Assignment]) -> None:
    """Make assignments to the containers of several journals in one go: all happen, or none does.

    Parameters
    ----------
    journals : sequence of Journal
        Each once. Whichever of them is asked to settle finishes the work for all.

    assignments : sequence of (container, key, value)
    """
    done: list[Assignment] = [(vars(journal), "_pending", None) for journal in journals]
    pending = [*assignments, *done]
    at_once = [*((vars(journal), "_pending", pending) for journal in journals), *pending]
    with ExitStack() as stack:
        # In one order, so that two threads with the same journals do not wait for each other.
        for journal in sorted(journals, key=id):
            stack.enter_context(journal._turns.taken())
        try:
            deque(starmap(setitem, at_once), maxlen=0)
        finally:
            for journal in journals:
                journal.settle()  # nothing to do, unless a container refused in the middle
