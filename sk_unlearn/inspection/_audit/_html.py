"""An audit report as a page that stands by itself: no script, no network, fit to be printed."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from sk_unlearn.inspection._audit._compliance import NOT_LEGAL_ADVICE, clauses
from sk_unlearn.inspection._audit._pictures import pictures
from sk_unlearn.inspection._audit._scales import Figure, Scale, in_words, scale
from sk_unlearn.inspection._audit._wording import GROUPS, OTHER_MEASURES, ROWS, VERDICTS, main_measures
from sk_unlearn.utils._templates import render

__all__ = ["fragment", "page"]


def page(report: Any) -> str:
    """Return a complete document."""
    return render(__package__, "page.html", **_context(report), folded=False)


def fragment(report: Any) -> str:
    """Return the report as a part of a page, such as a notebook, with all that follows the verdict folded away."""
    return render(__package__, "fragment.html", **_context(report), folded=True)


class _Line(NamedTuple):
    """A measure on one set of rows: figures of each kind of model as printed, and the picture of them."""

    rows: str
    cells: list[tuple[str, str]]
    scale: Scale | None


class _Measure(NamedTuple):
    name: str
    told: str
    lines: list[_Line]


def _context(report: Any) -> dict[str, Any]:
    """Return what the templates show beside the report's own attributes."""
    table = report.to_frame()
    models = [name for name in ("before", "after", "retrained") if (table["model"] == name).any()]
    figures = _figures(table)
    scales = {key: drawn for key, of_models in figures.items() if (drawn := scale(of_models)) is not None}
    # Two models have one distance, which is no range.
    ranges = [key for key in scales if figures[key]["retrained"].high > figures[key]["retrained"].low]
    return {
        "report": report,
        "shown": VERDICTS[report.verdict],
        "reasons": [reason for reason in report.reasons if reason not in report.calibration.in_words],
        "models": models,
        "main": [(words, scales[key]) for key, words in main_measures(ranges).items()],
        "groups": _grouped(figures, models, scales),
        "pictures": pictures(report),
        "clauses": clauses(report),
        "not_legal_advice": NOT_LEGAL_ADVICE,
        "durations": _durations(report),
        "duration": _duration,
    }


def _durations(report: Any) -> list[tuple[str, str]]:
    """Return the seconds that are known, in words."""
    found = [(report.seconds["forgetting"], "to forget")]
    if report.seeds["references"]:
        found.append((report.seconds["retraining one model"], "to retrain one model"))
    return [(_duration(seconds), told) for seconds, told in found if not pd.isna(seconds)]


def _duration(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _figures(table: pd.DataFrame) -> dict[tuple[str, str], dict[str, Figure]]:
    """Return the figures of each kind of model, by measure and set of rows in the order of the table."""
    found: dict[tuple[str, str], dict[str, Figure]] = {}
    columns = (table[name] for name in ("measure", "rows", "model", "value", "low", "high"))
    for measure, rows, model, *numbers in zip(*columns, strict=True):
        found.setdefault((str(measure), str(rows)), {})[str(model)] = Figure(*map(float, numbers))
    return found


def _grouped(
    figures: dict[tuple[str, str], dict[str, Figure]], models: list[str], scales: dict[tuple[str, str], Scale]
) -> list[tuple[str, list[_Measure]]]:
    """Return the measures by the question that they answer; those of which nothing is known here come last."""
    measures: dict[str, list[_Line]] = {}
    for (name, rows), of_models in figures.items():
        cells = [_printed(of_models[model]) if model in of_models else ("-", "") for model in models]
        measures.setdefault(name, []).append(_Line(ROWS.get(rows, rows), cells, scales.get((name, rows))))
    named = {name: told for group in GROUPS.values() for name, told in group.items()}
    groups = {question: [name for name in group if name in measures] for question, group in GROUPS.items()}
    groups[OTHER_MEASURES] = [name for name in measures if name not in named]
    return [
        (question, [_Measure(name, named.get(name, ""), measures[name]) for name in names])
        for question, names in groups.items()
        if names
    ]


def _printed(figure: Figure) -> tuple[str, str]:
    interval = "" if pd.isna(figure.low) else f"{in_words(figure.low)} to {in_words(figure.high)}"
    return in_words(figure.value), interval
