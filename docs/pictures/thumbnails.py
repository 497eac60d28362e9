"""Draw the thumbnails of examples that draw nothing: ``python docs/pictures/thumbnails.py`` writes docs/_static/*.svg.

They are plain SVG, come out the same everywhere, letter for letter, and can be read at 400 by 280 pixels and at half of
that.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

STATIC = Path(__file__).parent.parent / "_static"
INK, GREY, BLUE, RED, PALE = "#222222", "#7f7f7f", "#1f77b4", "#d62728", "#f3f3f3"


def box(x: float, y: float, width: float, height: float, *words: str, fill: str = PALE, ink: str = INK) -> str:
    """Return a box with lines of text in its middle."""
    first = y + height / 2 + 8 - (len(words) - 1) * 14
    return "\n".join(
        [
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="10" fill="{fill}" stroke="{INK}" '
            f'stroke-width="2"/>',
            *(
                f'<text x="{x + width / 2:g}" y="{first + 28 * k:g}" font-size="24" text-anchor="middle" '
                f'fill="{ink}">{escape(line)}</text>'
                for k, line in enumerate(words)
            ),
        ]
    )


def arrow(x0: float, y0: float, x1: float, y1: float) -> str:
    """Return an arrow."""
    return f'<path d="M{x0:g} {y0:g}L{x1:g} {y1:g}" stroke="{INK}" stroke-width="4" marker-end="url(#tip)"/>'


def rows(x: float, y: float, *erased: int) -> str:
    """Return five rows of a table, some of them red."""
    return "\n".join(
        f'<rect x="{x:g}" y="{y + 16 * k:g}" width="84" height="11" fill="{RED if k in erased else "#bbbbbb"}"/>'
        for k in range(5)
    )


def drawn(*parts: str) -> str:
    """Return a picture of its parts."""
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" width="400" height="280" viewBox="0 0 400 280" '
            'font-family="sans-serif">',
            '<defs><marker id="tip" markerWidth="4" markerHeight="4" refX="2.2" refY="2" orient="auto">'
            f'<path d="M0 0L4 2L0 4z" fill="{INK}"/></marker></defs>',
            '<rect width="400" height="280" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )


def pictures() -> dict[str, str]:
    """Return the thumbnails by the names of their files."""
    white = {"ink": "white"}
    service = drawn(
        box(20, 20, 150, 80, "“erase", "me”", fill=RED, **white),
        arrow(172, 60, 228, 60),
        box(235, 20, 145, 80, "queue", "on disk"),
        arrow(307, 102, 307, 168),
        box(235, 180, 145, 80, "model", "forgets", fill=BLUE, **white),
        arrow(233, 220, 177, 220),
        box(20, 180, 150, 80, "receipt"),
    )
    erased: tuple[tuple[int, ...], ...] = ((), (1,), (3,))
    processes = drawn(
        *(rows(28 + 130 * k, 20, *erased[k]) for k in range(3)),
        *(arrow(70 + 130 * k, 106, 70 + 130 * k, 138) for k in range(3)),
        *(box(15 + 130 * k, 148, 110, 44, f"rank {k}") for k in range(3)),
        box(15, 222, 370, 46, "one model, on all of them", fill=BLUE, **white),
        *(f'<path d="M{70 + 130 * k} 192V222" stroke="{INK}" stroke-width="4"/>' for k in range(3)),
    )
    dask = drawn(
        box(90, 20, 220, 64, "fit_many(…)", fill=BLUE, **white),
        arrow(160, 86, 72, 146),
        arrow(200, 86, 200, 146),
        arrow(240, 86, 328, 146),
        *(box(12 + 130 * k, 158, 116, 100, "worker", "trains") for k in range(3)),
    )
    return {"deletion_service.svg": service, "several_processes.svg": processes, "dask_cluster.svg": dask}


if __name__ == "__main__":
    for name, picture in pictures().items():
        (STATIC / name).write_text(picture, encoding="utf-8")
