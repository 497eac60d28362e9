"""What somebody has asked for and when: the legal side of a request, beside the rows that it is about."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, NamedTuple

from sk_unlearn.receipts.receipt import deadline_of

__all__ = ["Order", "as_moment", "now"]


class Order(NamedTuple):
    """A request as it came in.

    Attributes
    ----------
    request_id : str
        By which it is known.

    received : datetime
        When it came, in UTC.
    """

    request_id: str
    received: datetime

    @property
    def deadline(self) -> datetime:
        """One month after it came (GDPR Art. 12(3)); the last day of that month where it has no such day."""
        return deadline_of(self.received)

    def told(self, completed: datetime) -> dict[str, Any]:
        """Return what a report says of it: plain strings, and whether it was late."""
        return {
            "request_id": self.request_id,
            "received": self.received.isoformat(),
            "completed": completed.isoformat(),
            "deadline": self.deadline.isoformat(),
            "late": completed > self.deadline,
        }


def now() -> datetime:
    """Return the present moment, in UTC."""
    return datetime.now(timezone.utc)


def as_moment(received: Any) -> datetime:
    """Return a moment that a user gives, in UTC.

    Parameters
    ----------
    received : datetime with a time zone, or None
        None is the present moment.

    Raises
    ------
    TypeError
        If it is something else.

    ValueError
        If it has no time zone.
    """
    if received is None:
        return now()
    if not isinstance(received, datetime):
        raise TypeError(f"received must be a datetime, got {type(received).__name__}; read texts by fromisoformat.")
    if received.utcoffset() is None:
        raise ValueError(
            "received has no time zone, so that its deadline is not known; pass datetime.now(timezone.utc)."
        )
    moment = received.astimezone(timezone.utc)
    # Not a subclass, such as that of pandas.
    return datetime.combine(moment.date(), moment.time(), timezone.utc)
