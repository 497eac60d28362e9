"""The displays of an audit as SVG to be put into a page, each with the same in words for who cannot see it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import numpy as np

from sk_unlearn.inspection._erased_loss import ErasedLossDisplay
from sk_unlearn.inspection._forget_curve import ForgetCurveDisplay
from sk_unlearn.inspection._membership_roc import MembershipRocDisplay

__all__ = ["pictures"]


def pictures(report: Any) -> dict[str, str | None] | None:
    """Return the pictures as SVG, "steps" only if the request recorded any; None without matplotlib."""

    def attacks(ax: Any) -> None:
        for name, result in report.attacks.items():
            MembershipRocDisplay(result, name=name).plot(ax=ax)

    medians = {name: float(np.median(values)) for name, values in report.losses.items()}
    aucs = {name: result.auc for name, result in report.attacks.items()}
    has_steps = report.request is not None and any("gradient_norm" in record for record in report.request.trace)

    def steps(ax: Any) -> None:
        ForgetCurveDisplay.from_report(report.request, ax=ax)

    try:
        return {
            "losses": _svg(
                lambda ax: ErasedLossDisplay(report.losses).plot(ax=ax),
                f"Histogram of losses; medians: {_listed(medians)}",
            ),
            "attacks": _svg(attacks, f"Curves of the attack; areas under them: {_listed(aucs)}"),
            "steps": _svg(steps, "The gradient's norm over the steps of the request") if has_steps else None,
        }
    except ImportError:
        return None


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())


def _svg(draw: Callable[[Any], Any], told: str) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Not by pyplot, which would open a window; the user's settings are replaced only while the picture is drawn.
    with mpl.rc_context({**mpl.rcParamsDefault, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(5.2, 3.6), layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        # Without any of these there is no block of metadata, whose vocabularies have addresses on the web.
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    return _for_a_page(text[text.index("<svg") :], told)


def _for_a_page(svg: str, told: str) -> str:
    """Name the picture, and take out names of its parts that nothing refers to: all pictures of a page use them."""
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(told)}"', 1)
