"""The record of a request as a notebook shows it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._cards import Box, Folded, Listed, Pairs, Paragraph, Part, Table, card, counted, moment

if TYPE_CHECKING:
    from sk_unlearn.estimators.report import UnlearningReport

__all__ = ["seconds_of", "shown_report"]

# No status says that enough was forgotten, so that none of them is shown as a success.
_COLOURS: dict[Status, Literal["plain", "bad"]] = {
    Status.CONVERGED: "plain",
    Status.COMPLETED: "plain",
    Status.NOTHING_TO_UNDO: "plain",
    Status.UNMOVED: "bad",
    Status.MODEL_BROKE_DOWN: "bad",
    Status.HARMED_RETAINED: "bad",
}


def shown_report(report: UnlearningReport, pairs: list[tuple[str, str]]) -> str:
    """Return a report as HTML.

    Parameters
    ----------
    report : UnlearningReport

    pairs : list of (str, str)
        All that it holds, to be folded away.
    """
    late = sum(request["late"] for request in report.requests)
    facts: list[tuple[object, str]] = [
        (f"{report.n_erased:,}", "rows corrected" if report.request == "correct" else "rows erased"),
        (f"{report.n_trained_erased:,}", "of them trained on"),
        (f"{report.n_retained:,}", "rows stay"),
        (seconds_of(report), "in all"),
    ]
    if report.requests:
        facts.append((len(report.requests), "pending requests settled" + (f", {late} of them late" if late else "")))
    parts: list[Part] = []
    before_after = [
        (name, before, after)
        for name, before, after in (
            ("mean loss of the erased rows", report.erased_loss_before, report.erased_loss_after),
            ("gradient that the request brought", report.gradient_norm_before, report.gradient_norm_after),
        )
        if not (math.isnan(before) and math.isnan(after))
    ]
    if before_after:
        rows = [[name, *(_number(value) for value in values)] for name, *values in before_after]
        parts.append(Table(["", "before", "after"], rows, numbers={1, 2}))
    if report.parameters_moved:
        by = f" in {counted(report.n_steps, 'step')}" if report.n_steps else ""
        text = f"The parameters moved by {report.step_norm:.3g}{by}. Whether that is enough, only an audit can tell."
        parts.append(Paragraph(text, small=True))
    if report.certificate is not None:
        parts.append(Paragraph(f"Certificate: {report.certificate.headline}"))
    if report.notes:
        parts.append(Listed(report.notes, caption="Notes"))
    parts.append(Folded("All that is reported", [Pairs(pairs)]))
    status = Box(str(report.status).replace("_", " "), _ended(report), _COLOURS.get(report.status, "open"))
    told = " ".join(filter(None, [f"{report.request} by {report.method},", moment(report.completed)])).rstrip(",")
    return card("Unlearning report", told, boxes=[status], facts=facts, parts=parts)


def seconds_of(report: UnlearningReport) -> str:
    """Return how long a request took, in words."""
    return f"{report.seconds:.2g} s" if report.seconds < 10 else f"{report.seconds:,.0f} s"


def _ended(report: UnlearningReport) -> str:
    """Return what a status means, and why it is this one."""
    reason = report.stop_reason
    if report.is_brief:
        return f"{report.status.sentence} Reason and notes are in receipts_."
    return f"{report.status.sentence} {reason[:1].upper()}{reason[1:]}{'' if reason.endswith('.') else '.'}"


def _number(value: float) -> str:
    return "not known" if math.isnan(value) else f"{value:.3g}"
