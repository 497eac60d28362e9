"""Draw what each stage of the default moves: ``python docs/pictures/stages.py`` writes the pictures beside itself.

They are plain SVG, so that they come out the same everywhere, letter for letter, and need no other package. The ground
is white, whether the page around it is light or dark, and what moved differs from the rest in lightness as in colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent

WIDTH, LEFT, BOX, GAP, HEIGHT, LINE = 640, 176, 36, 8, 28, 46
INK, BLUE, GREY = "#222222", "#0060a8", "#d4d4d4"

# Who used the weights of the first layer in training: a user's row of an embedding, the column of a category.
ERASED_ALONE, BOTH, RETAINED_ALONE = slice(0, 2), slice(2, 6), slice(6, 10)
BRACKETS = {"erased rows only": ERASED_ALONE, "both": BOTH, "retained rows only": RETAINED_ALONE}

# How a weight is drawn: what fills it, and what is hatched over that.
MOVED, MOVED_IN_PART = (BLUE, None), (BLUE, "white")
LEFT_WITH_TRACES, LEFT_ALONE = (GREY, INK), (GREY, None)
KEY = {
    "moved": MOVED,
    "moved, may keep traces": MOVED_IN_PART,
    "not moved, may keep traces": LEFT_WITH_TRACES,
    "not moved": LEFT_ALONE,
}

Look = tuple[str, "str | None"]


@dataclass(frozen=True)
class Stage:
    """What is drawn of a stage.

    Attributes
    ----------
    title : str

    erased_alone, both, retained_alone : tuple
        How weights of the first layer are drawn, by the rows that used them.

    hidden, output : tuple
        The same of the other layers.

    moves, cannot : str
        The two lines under the picture.
    """

    title: str
    erased_alone: Look
    both: Look
    retained_alone: Look
    hidden: Look
    output: Look
    moves: str
    cannot: str


STAGES = {
    "release": Stage(
        "Release",
        MOVED, LEFT_WITH_TRACES, LEFT_ALONE, LEFT_WITH_TRACES, LEFT_WITH_TRACES,
        "moves weights that only erased rows used back to where training without data leads",
        "cannot touch what erased rows shared with others",
    ),
    "output_layer": Stage(
        "Steps in the output layer",
        LEFT_ALONE, LEFT_WITH_TRACES, LEFT_ALONE, LEFT_WITH_TRACES, MOVED,
        "moves the output layer until the predictions for the erased rows come to rest",
        "cannot reach the layers before it, whose features still know the rows",
    ),
    "whole_network": Stage(
        "Steps in the whole network",
        LEFT_ALONE, MOVED_IN_PART, MOVED, MOVED_IN_PART, MOVED,
        "moves all layers a few steps, from the fitted point",
        "cannot go far: a network that learnt rows by heart still knows most of them",
    ),
    "anew": Stage(
        "Training anew in a share of the steps",
        MOVED, MOVED, MOVED, MOVED, MOVED,
        "moves everything: a fresh network from the initial weights, in a fifth of the steps",
        "cannot learn as much as a full training; a teacher may pass traces on",
    ),
}  # fmt: skip


def text(x: float, y: float, words: str, *, size: int = 13, anchor: str = "start", weight: str = "normal") -> str:
    """Return a line of text."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{INK}">{escape(words)}</text>'
    )


def box(x: float, y: float, look: Look, *, width: float = BOX, height: float = HEIGHT) -> list[str]:
    """Return a weight, with stripes over its filling where it is hatched."""
    fill, stripes = look
    shape = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3"'
    drawn = [f'{shape} fill="{fill}"/>']
    if stripes:
        drawn.append(f'{shape} fill="url(#{"on-blue" if fill == BLUE else "on-grey"})"/>')
    return [*drawn, f'{shape} fill="none" stroke="{INK}"/>']


def hatching(name: str, colour: str) -> str:
    """Return a pattern of slanted lines."""
    return (
        f'<pattern id="{name}" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<line x1="1" y1="0" x2="1" y2="7" stroke="{colour}" stroke-width="2"/></pattern>'
    )


def layer(name: str, y: float, looks: list[Look]) -> list[str]:
    """Return a row of weights in the middle of the picture, with its name before it."""
    drawn = [text(16, y + 19, name)]
    x = LEFT + (10 - len(looks)) / 2 * (BOX + GAP)
    for k, look in enumerate(looks):
        drawn += box(x + k * (BOX + GAP), y, look)
    return drawn


def brackets(y: float) -> list[str]:
    """Return lines over the first layer that tell which rows used which of its weights."""
    drawn = [text(16, y - 8, "used by")]
    for name, part in BRACKETS.items():
        start, end = LEFT + part.start * (BOX + GAP), LEFT + part.stop * (BOX + GAP) - GAP
        drawn.append(f'<path d="M{start} {y + 6} V{y} H{end} V{y + 6}" fill="none" stroke="{INK}"/>')
        drawn.append(text((start + end) / 2, y - 8, name, size=12, anchor="middle"))
    return drawn


def key(y: float) -> list[str]:
    """Return what each way to draw a weight means."""
    drawn, x = [], 16
    for (name, look), width in zip(KEY.items(), (92, 190, 215, 100), strict=True):
        drawn += [*box(x, y, look, width=20, height=16), text(x + 27, y + 13, name, size=12)]
        x += width
    return drawn


def picture(stage: Stage) -> str:
    """Return the picture of a stage."""
    first = [*2 * [stage.erased_alone], *4 * [stage.both], *4 * [stage.retained_alone]]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 352" width="{WIDTH}" height="352" role="img" '
        "font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">",
        f"<title>{escape(stage.title)}</title>",
        f"<desc>{escape(stage.moves[:1].upper() + stage.moves[1:])}; {escape(stage.cannot)}.</desc>",
        f"<defs>{hatching('on-blue', 'white')}{hatching('on-grey', INK)}</defs>",
        f'<rect width="{WIDTH}" height="352" rx="6" fill="white"/>',
        text(16, 28, stage.title, size=16, weight="bold"),
        *brackets(68),
        *layer("first layer", 80, first),
        *layer("hidden layer", 80 + LINE, 8 * [stage.hidden]),
        *layer("hidden layer", 80 + 2 * LINE, 6 * [stage.hidden]),
        *layer("output layer", 80 + 3 * LINE, 3 * [stage.output]),
        *key(266),
        text(16, 312, stage.moves, size=14),
        text(16, 336, stage.cannot, size=14),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def pictures() -> dict[str, str]:
    """Return all pictures, by the names of their files."""
    return {f"{name}.svg": picture(stage) for name, stage in STAGES.items()}


if __name__ == "__main__":
    for name, drawn in pictures().items():
        (HERE / name).write_text(drawn, encoding="utf-8")
