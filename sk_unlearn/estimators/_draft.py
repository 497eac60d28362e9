"""A request that was carried out aside: what makes its outcome true, to be made alone or together with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sk_unlearn.estimators.report import UnlearningReport
from sk_unlearn.rows import TrainingSet
from sk_unlearn.rows.outside import RowSource
from sk_unlearn.utils._journal import Assignment, Journal, commit_together

__all__ = ["Draft", "commit_drafts"]


@dataclass(frozen=True)
class Draft:
    """What makes one object forget, worked out aside and not made yet.

    It holds good as long as no other request is carried out: whoever drafts keeps the object's turn until the commit.

    Attributes
    ----------
    journal : Journal
        Through which the object is changed.

    assignments : list of (container, key, value)
        What is to be made, all of it or nothing.

    report : UnlearningReport or None
        What the request did; None for an object that has no net.

    rows : TrainingSet or None
        From which rows go; after the commit their slots are closed up, and files that were overwritten flushed.

    files : sequence of RowSource
        Others that are to be flushed.
    """

    journal: Journal
    assignments: list[Assignment]
    report: UnlearningReport | None = None
    rows: TrainingSet | None = None
    files: Sequence[RowSource] = ()


def commit_drafts(drafts: Sequence[Draft]) -> None:
    """Make what several drafts hold: all of it or, whatever strikes, nothing.

    Parameters
    ----------
    drafts : sequence of Draft
        Of different objects.
    """
    journals = list({id(draft.journal): draft.journal for draft in drafts}.values())
    commit_together(journals, [each for draft in drafts for each in draft.assignments])
    for draft in drafts:
        if draft.rows is not None:
            draft.rows.compact()
    # Last, for a disk may fail, and nothing can be taken back any more.
    for draft in drafts:
        for file in draft.files:
            file.flush()
        if draft.rows is not None:
            draft.rows.flush()
