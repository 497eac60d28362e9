"""The one look that everything here has in a notebook: a title, boxes, facts, tables and lists; all text is escaped."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from sk_unlearn.utils._templates import render

__all__ = ["Box", "Folded", "Listed", "Pairs", "Paragraph", "Table", "card", "counted", "moment"]


@dataclass(frozen=True)
class Box:
    """Something to be seen first, in a colour that says how good it is."""

    head: str
    text: str = ""
    colour: Literal["plain", "good", "open", "bad"] = "plain"


@dataclass(frozen=True)
class Paragraph:
    """A sentence or two."""

    text: str
    small: bool = False
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Listed:
    """A list of sentences."""

    items: Sequence[object]
    caption: str = ""
    kind: ClassVar[str] = "listed"


@dataclass(frozen=True)
class Table:
    """A table of short cells; `numbers` says which columns hold numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    numbers: Collection[int] = ()
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Pairs:
    """Names and values, one pair a line."""

    pairs: Sequence[tuple[str, object]]
    kind: ClassVar[str] = "pairs"


@dataclass(frozen=True)
class Folded:
    """Parts that are hidden until the summary is clicked on."""

    summary: str
    parts: Sequence[Part]
    kind: ClassVar[str] = "folded"


Part = Paragraph | Listed | Table | Pairs | Folded


def card(
    title: str,
    told: str = "",
    *,
    boxes: Sequence[Box] = (),
    facts: Sequence[tuple[object, str]] = (),
    parts: Sequence[Part] = (),
) -> str:
    """Return a part of a page, with the style that it needs.

    Parameters
    ----------
    title : str
        What it is.
    told : str, default=""
        Of what, and when.
    boxes : sequence of Box
        Under the title.
    facts : sequence of (object, str)
        Figures, each with what it is of.
    parts : sequence of Paragraph, Listed, Table, Pairs or Folded
        What follows.

    Returns
    -------
    html : str
    """
    return render("sk_unlearn.utils", "card.html", title=title, told=told, boxes=boxes, facts=facts, parts=parts)


def counted(n: int, one: str, many: str = "") -> str:
    """Return how many there are of something, as "1 row" or "2,000 rows"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def moment(iso: str) -> str:
    """Return a moment of ISO 8601 in UTC to the second, as people write it."""
    return f"{iso[:19].replace('T', ' ')} UTC" if iso else ""
