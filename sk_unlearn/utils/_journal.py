"""Several assignments that happen all or not at all, whatever strikes between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["Assignment", "Journal"]

# (container, key, value): container[key] = value. The containers are dicts, lists and numpy arrays.
Assignment = tuple[Any, Any, Any]


class Journal:
    """Assignments that are written down before the first of them is made.

    All values are computed beforehand, so that making an assignment again changes nothing. An exception that arrives
    from outside (Ctrl-C, a signal handler, a lack of memory) before they are written down leaves everything as it was;
    one that arrives later is raised once they are all made. Should a second one hit that, :meth:`settle` finishes the
    work: whoever reads the containers calls it first.

    Examples
    --------
    >>> from sk_unlearn.utils._journal import Journal
    >>> shelf = {"a": 1}
    >>> Journal().commit([(shelf, "a", 2), (shelf, "b", 3)])
    >>> shelf
    {'a': 2, 'b': 3}
    """

    def __init__(self) -> None:
        self._pending: Sequence[Assignment] | None = None

    @property
    def is_settled(self) -> bool:
        """Whether no assignment is left to be made."""
        return self._pending is None

    def commit(self, assignments: Sequence[Assignment]) -> None:
        """Make the assignments.

        Parameters
        ----------
        assignments : sequence of (container, key, value)
        """
        try:
            self._pending = assignments
            self.settle()
        finally:
            self.settle()  # nothing to do, unless an interrupt cut the first one short

    def settle(self) -> None:
        """Make, or finish making, the assignments that are written down, if there are any."""
        assignments = self._pending
        if assignments is None:
            return
        for container, key, value in assignments:
            container[key] = value
        self._pending = None
