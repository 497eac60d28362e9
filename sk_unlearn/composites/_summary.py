"""What became of a request to a whole composite."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sk_unlearn.estimators.report import UnlearningReport

__all__ = ["ForgetSummary", "OtherPart", "PartSummary"]


@dataclass(frozen=True)
class PartSummary:
    """A part that can forget.

    Attributes
    ----------
    path : str
        Where it is, such as ``estimators_[1]``; "model" for the whole.

    kind : str
        Its class.

    n_known : int
        How many of the rows, or identifiers, asked for it knew.

    n_rounded : int
        How many of these differed from the stored row by rounding alone, after steps before had transformed them.

    report : UnlearningReport or None
        What it did; None where it knew none and was left.
    """

    path: str
    kind: str
    n_known: int
    n_rounded: int = 0
    report: UnlearningReport | None = None


@dataclass(frozen=True)
class OtherPart:
    """A part that may have learnt the rows and cannot forget.

    Attributes
    ----------
    path, kind : str
        As for parts that can.

    outcome : {"refitted", "still contains the rows"}
        What became of it.

    reason : str
        Why it cannot forget, where that is not plain from its class.
    """

    path: str
    kind: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True, repr=False)
class ForgetSummary:
    """What :func:`sk_unlearn.forget` did, part by part; ``summary["estimators_[1]"]`` is one of the parts.

    It holds counts and names of parts, no content of any row.

    Attributes
    ----------
    n_asked : int
        Rows, or identifiers, that were asked for.

    parts : list of PartSummary
        All parts that can forget: those that knew rows, with the report of each, and those that were left.

    others : list of OtherPart
        Parts that may have learnt the rows and cannot forget, and what became of them.

    left : list of str
        What composites keep beside their parts that the rows had a share in, such as scores of a search.

    notes : list of str
        What the reader should know.
    """

    n_asked: int
    parts: list[PartSummary]
    others: list[OtherPart] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, path: str) -> PartSummary | OtherPart:
        everyone: dict[str, PartSummary | OtherPart] = {part.path: part for part in self.parts}
        return (everyone | {other.path: other for other in self.others})[path]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as a plain dictionary, reports included."""
        told = asdict(self)
        for part, record in zip(self.parts, told["parts"], strict=True):
            record["report"] = None if part.report is None else part.report.to_dict()
        return told

    def __repr__(self) -> str:
        knew = sum(part.n_known > 0 for part in self.parts)
        lines = [f"ForgetSummary: {self.n_asked} asked for, known to {knew} of {len(self.parts)} parts that can forget"]
        for part in self.parts:
            what = "left as it was" if part.report is None else f"{part.report.n_erased} erased, {part.report.status}"
            lines.append(f"  {part.path}: {part.kind}, knew {part.n_known}, {what}")
        lines += [
            f"  {other.path}: {other.kind}, {other.outcome}" + (f" ({other.reason})" if other.reason else "")
            for other in self.others
        ]
        lines += [f"  left       {each}" for each in self.left]
        return "\n".join(lines + [f"  note       {note}" for note in self.notes])
