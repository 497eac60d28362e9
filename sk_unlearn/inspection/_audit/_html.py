"""An audit report as a page that stands by itself: no script, no network, fit to be printed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import pandas as pd

from sk_unlearn.inspection._audit._compliance import NOT_LEGAL_ADVICE, clauses
from sk_unlearn.inspection._erased_loss import ErasedLossDisplay
from sk_unlearn.inspection._forget_curve import ForgetCurveDisplay
from sk_unlearn.inspection._membership_roc import MembershipRocDisplay

__all__ = ["fragment", "page"]

_SIGNS = {
    "closer": ("good", "✓"),
    "within": ("good", "✓"),
    "undecided": ("open", "?"),
    "not_yet": ("bad", "✗"),
    "over_forgotten": ("bad", "✗"),
}

_STYLE = """
.sku-audit { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 60rem; margin: auto;
  padding: 1rem; }
.sku-audit h1 { font-size: 1.5rem; margin: 0 0 .75rem; }
.sku-audit h2 { font-size: 1.1rem; margin: 1.75rem 0 .5rem; border-bottom: 1px solid #ccc; break-after: avoid; }
.sku-audit .verdict { border-left: .5rem solid; padding: .75rem 1rem; font-size: 1.2rem; font-weight: 600; }
.sku-audit .good { border-color: #1b7f4b; background: #e9f6ef; }
.sku-audit .open { border-color: #b58900; background: #fdf6e0; }
.sku-audit .bad { border-color: #b3261e; background: #fbeceb; }
.sku-audit .facts { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 1rem 0; }
.sku-audit .facts div { min-width: 7rem; }
.sku-audit .facts b { display: block; font-size: 1.25rem; }
.sku-audit table { border-collapse: collapse; width: 100%; font-size: .9rem; background: #fff; }
.sku-audit th, .sku-audit td { text-align: left; vertical-align: top; padding: .3rem .6rem;
  border-bottom: 1px solid #ddd; white-space: normal; }
.sku-audit .measures td { white-space: nowrap; padding: .2rem .6rem; }
.sku-audit td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.sku-audit th.number { text-align: right; }
.sku-audit .range { color: #666; font-size: .85em; }
.sku-audit tr { break-inside: avoid; }
.sku-audit .pictures { display: flex; flex-wrap: wrap; gap: 1rem; }
.sku-audit figure { margin: 0; flex: 0 1 calc(50% - .5rem); min-width: 20rem; break-inside: avoid; }
.sku-audit figure svg { width: 100%; height: auto; }
.sku-audit figcaption, .sku-audit .small { font-size: .85rem; color: #555; }
.sku-audit pre { white-space: pre-wrap; font-size: .85rem; background: #f6f6f6; padding: .5rem; }
@media print {
  .sku-audit { max-width: none; padding: 0; font-size: 10pt; }
  .sku-audit .verdict { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .sku-audit figure { min-width: 0; }
  .sku-audit table { font-size: 8.5pt; }
}
@page { margin: 18mm 16mm; }
"""


def page(report: Any) -> str:
    """Return a complete document."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Audit of a deletion, {escape(report.created)}</title></head><body>{fragment(report)}</body></html>\n"
    )


def fragment(report: Any) -> str:
    """Return the report as a part of a page, such as a notebook."""
    sections = [
        _head(report),
        _section("Measures", _measures(report)),
        _section("Pictures", _pictures(report)),
        _section("Guarantee", _guarantee(report)),
        _section("What was assumed", _listed(report.assumptions)),
        _section("What this is evidence for", _compliance(report)),
        _section("The request, as the estimator recorded it", _request(report)),
        _section("Provenance", _provenance(report)),
    ]
    return f'<div class="sku-audit"><style>{_STYLE}</style>{"".join(sections)}</div>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _head(report: Any) -> str:
    colour, sign = _SIGNS[report.verdict]
    facts = [
        (report.n_erased, "rows erased"),
        ("not kept" if report.n_still_stored is None else report.n_still_stored, "of them still stored"),
        (report.n_retained, "rows retained"),
        (_seconds(report.seconds["forgetting"]), "to forget"),
        (_seconds(report.seconds["retraining one model"]), "to retrain one model"),
    ]
    boxes = "".join(f"<div><b>{escape(str(value))}</b>{escape(name)}</div>" for value, name in facts)
    incomplete = "" if report.complete else _INCOMPLETE
    return (
        f'<h1>Audit of a deletion</h1><p class="small">{escape(report.created)}</p>{incomplete}'
        f'<div class="verdict {colour}">{sign} {escape(report.headline)}</div>'
        f'{_listed(report.reasons)}<div class="facts">{boxes}</div>'
    )


_INCOMPLETE = '<p class="verdict open">Incomplete: interrupted before all references were retrained.</p>'


def _seconds(value: float) -> str:
    return "unknown" if value != value else f"{value:.2g} s" if value < 10 else f"{value:.0f} s"


def _listed(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], n_text: int) -> str:
    """Return a table of cells that are HTML already; those after the first `n_text` hold numbers."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag}{'' if i < n_text else ' class=number'}>{cell}</{tag}>" for i, cell in enumerate(row))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"


def _measures(report: Any) -> str:
    table = report.to_frame()
    models = [name for name in ("before", "after", "retrained") if (table["model"] == name).any()]
    rows = []
    for (measure, on), part in table.groupby(["measure", "rows"], sort=False):
        by_model = part.set_index("model")
        cells = [_number(by_model.loc[name]) if name in by_model.index else "-" for name in models]
        rows.append([escape(measure), escape(on), *cells])
    note = (
        "In brackets 95 % intervals; for retrained models the range over them (for distances and the attack's AUC, "
        "where another one is expected). Distances of retrained models are those among themselves: the yardstick."
    )
    table_html = _table(["measure", "rows", *models], rows, 2)
    return f'<div class="measures">{table_html}</div>' + f'<p class="small">{note}</p>'


def _number(row: pd.Series) -> str:
    text = f"{row['value']:.4g}"
    if pd.notna(row["low"]):
        text += f' <span class="range">[{row["low"]:.3g}, {row["high"]:.3g}]</span>'
    return text


def _pictures(report: Any) -> str:
    def rocs(ax: Any) -> None:
        for name, result in report.attacks.items():
            MembershipRocDisplay(result, name=name).plot(ax=ax)

    drawn: list[tuple[Callable[[Any], Any], str]] = [
        (
            lambda ax: ErasedLossDisplay(report.losses).plot(ax=ax),
            "Losses of the erased rows. Where forgetting succeeded, “after” lies on “retrained”. “Unseen” are the rows "
            "that the attack compares with.",
        ),
        (
            rocs,
            "A membership attack by losses on the erased rows. Where forgetting succeeded, “after” runs with "
            "“retrained” (one of the references), wherever that is.",
        ),
    ]
    if report.request is not None and any("gradient_norm" in record for record in report.request.trace):
        drawn.append(
            (
                lambda ax: ForgetCurveDisplay.from_report(report.request, ax=ax),
                "The steps of the request. Hollow: steps in the output layer alone.",
            )
        )
    try:
        figures = "".join(
            f"<figure>{_svg(draw)}<figcaption>{escape(text)}</figcaption></figure>" for draw, text in drawn
        )
    except ImportError:
        return "<p>There are no pictures: matplotlib is not installed.</p>"
    return f'<div class="pictures">{figures}</div>'


def _svg(draw: Callable[[Any], Any]) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Without pyplot: no window, and nothing of the user's state is touched but for the time of drawing.
    with mpl.rc_context({**mpl.rcParamsDefault, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(5.2, 3.6), layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _guarantee(report: Any) -> str:
    if report.certificate is None:
        return f"<p>None beyond what was measured. {escape(report.no_certificate)}</p>"
    return f"<pre>{escape(str(report.certificate))}</pre>"


def _compliance(report: Any) -> str:
    rows = [[escape(cell) for cell in clause] for clause in clauses(report)]
    table = _table(["duty", "asks that", "evidence here", "not covered"], rows, 4)
    return f'{table}<p class="small">{escape(NOT_LEGAL_ADVICE)}</p>'


def _request(report: Any) -> str:
    if report.request is None:
        return "<p>The estimator has no record of a request.</p>"
    return f"<p>{report.n_requests} since fit; the last one:</p><pre>{escape(str(report.request))}</pre>"


def _provenance(report: Any) -> str:
    seeds = f"random_state {report.seeds['random_state']}"
    if report.seeds["references"]:
        seeds += f"; references {', '.join(map(str, report.seeds['references']))}"
    rows = [
        ("model", report.model),
        ("seeds", seeds),
        ("versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
        ("time of the audit", _seconds(report.seconds["audit"])),
    ]
    return _table(["", ""], [[escape(name), escape(value)] for name, value in rows], 2)
