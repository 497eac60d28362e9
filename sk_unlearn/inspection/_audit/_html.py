"""An audit report as a page that stands by itself: no script, no network, fit to be printed."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pandas as pd

from sk_unlearn.inspection._audit._compliance import NOT_LEGAL_ADVICE, clauses
from sk_unlearn.inspection._erased_loss import ErasedLossDisplay
from sk_unlearn.inspection._forget_curve import ForgetCurveDisplay
from sk_unlearn.inspection._membership_roc import MembershipRocDisplay
from sk_unlearn.utils._templates import render

__all__ = ["fragment", "page"]

_SIGNS = {
    "closer": ("good", "✓"),
    "within": ("good", "✓"),
    "undecided": ("open", "?"),
    "outputs_only": ("bad", "✗"),
    "not_yet": ("bad", "✗"),
    "over_forgotten": ("bad", "✗"),
}


def page(report: Any) -> str:
    """Return a complete document."""
    return render(__package__, "page.html", **_context(report))


def fragment(report: Any) -> str:
    """Return the report as a part of a page, such as a notebook."""
    return render(__package__, "fragment.html", **_context(report))


def _context(report: Any) -> dict[str, Any]:
    """Return what the templates show beside the report's own attributes."""
    colour, sign = _SIGNS[report.verdict]
    table = report.to_frame()
    models = [name for name in ("before", "after", "retrained") if (table["model"] == name).any()]
    return {
        "report": report,
        "colour": colour,
        "sign": sign,
        "models": models,
        "measures": _measures(table, models),
        "pictures": _pictures(report),
        "clauses": clauses(report),
        "not_legal_advice": NOT_LEGAL_ADVICE,
        "duration": _duration,
    }


def _duration(seconds: float) -> str:
    return "unknown" if seconds != seconds else f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _measures(table: pd.DataFrame, models: list[str]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return for each measure and set of rows the value and the interval of each kind of model."""
    lines = []
    for (measure, rows), part in table.groupby(["measure", "rows"], sort=False):
        columns = (part[name] for name in ("model", "value", "low", "high"))
        figures = {model: _figure(*numbers) for model, *numbers in zip(*columns, strict=True)}
        lines.append((str(measure), str(rows), [figures.get(model, ("-", "")) for model in models]))
    return lines


def _figure(value: float, low: float, high: float) -> tuple[str, str]:
    return f"{value:.4g}", "" if pd.isna(low) else f"[{low:.3g}, {high:.3g}]"


def _pictures(report: Any) -> dict[str, str | None] | None:
    """Return the pictures as SVG, "steps" only if the request recorded any; None without matplotlib."""

    def attacks(ax: Any) -> None:
        for name, result in report.attacks.items():
            MembershipRocDisplay(result, name=name).plot(ax=ax)

    has_steps = report.request is not None and any("gradient_norm" in record for record in report.request.trace)
    try:
        return {
            "losses": _svg(lambda ax: ErasedLossDisplay(report.losses).plot(ax=ax)),
            "attacks": _svg(attacks),
            "steps": _svg(lambda ax: ForgetCurveDisplay.from_report(report.request, ax=ax)) if has_steps else None,
        }
    except ImportError:
        return None


def _svg(draw: Callable[[Any], Any]) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Not by pyplot, which would open a window; the user's settings are replaced only while the picture is drawn.
    with mpl.rc_context({**mpl.rcParamsDefault, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(5.2, 3.6), layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
