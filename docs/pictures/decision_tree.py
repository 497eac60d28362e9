"""Draw the questions that lead to a method: ``python docs/pictures/decision_tree.py`` writes which_method.svg.

The picture is narrow, so that it can be read on a telephone: questions stand under each other, and answers beside them.
It is plain SVG and comes out the same everywhere, letter for letter; the letters of the answers are those of the
sections of ``docs/which_method.rst``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent

WIDTH, LEFT, QUESTION, GAP, ANSWER = 380, 6, 170, 38, 160
TOP, HEIGHT, STEP, LINE = 8, 58, 78, 16
INK, BLUE, PALE = "#222222", "#0060a8", "#e8f1f9"


@dataclass(frozen=True)
class Question:
    """A question, and where one of its two answers leads.

    Attributes
    ----------
    words : tuple of str
        The question, line by line.

    leads : str
        The answer, "yes" or "no", that leads to the leaf; the other one leads to the next question.

    letter : str
        Of the section that the leaf stands for.

    leaf : tuple of str
        What to call, line by line.
    """

    words: tuple[str, ...]
    leads: str
    letter: str
    leaf: tuple[str, ...]


QUESTIONS = (
    Question(("Are the training", "rows kept?"), "no", "G", ("partial_forget:", "part of the way")),
    Question(("Must nothing of them", "be left, for certain?"), "yes", "D", ("Retrain, or shards",)),
    Question(("Is (ε, δ) asked for", "by name?"), "yes", "E", ("CertifiedRemoval,", "NoisyFineTune")),
    Question(("Does training take", "seconds only?"), "yes", "D", ("Retrain: it is", "cheap enough")),
    Question(("Is it one linear layer,", "convex loss?"), "yes", "F", ("GaussNewton,", "with a bound")),
    Question(("Does a class or a", "whole group go?"), "yes", "B", ("the default,", "then audit")),
    Question(("Is it a convolutional", "network?"), "yes", "C", ("default beside", "FineTune; measure")),
)
LAST = ("A", ("Rows, a person, a random tenth:", "the default"))


def text(x: float, y: float, words: str, *, anchor: str = "middle", weight: str = "normal", fill: str = INK) -> str:
    """Return a line of text."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="14" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{fill}">{escape(words)}</text>'
    )


def lines(x: float, middle: float, words: tuple[str, ...]) -> list[str]:
    """Return lines of text around a height."""
    first = middle + 5 - (len(words) - 1) * LINE / 2
    return [text(x, first + k * LINE, line) for k, line in enumerate(words)]


def box(x: float, y: float, width: float, fill: str, stroke: str, radius: int) -> str:
    """Return a rectangle."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{HEIGHT}" rx="{radius}" fill="{fill}" '
        f'stroke="{stroke}" stroke-width="1.5"/>'
    )


def leaf(x: float, y: float, width: float, letter: str, words: tuple[str, ...]) -> list[str]:
    """Return an answer with its letter."""
    return [
        box(x, y, width, PALE, BLUE, 6),
        text(x + 8, y + HEIGHT / 2 + 5, letter, anchor="start", weight="bold", fill=BLUE),
        *lines(x + (width + 14) / 2, y + HEIGHT / 2, words),
    ]


def arrow(path: str) -> str:
    """Return a line that ends in an arrow."""
    return f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.5" marker-end="url(#tip)"/>'


def pictures() -> dict[str, str]:
    """Return the picture, by the name of its file."""
    height = TOP + len(QUESTIONS) * STEP + HEIGHT + TOP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" font-family="Helvetica, Arial, \'DejaVu Sans\', sans-serif">',
        "<title>Which method when</title>",
        '<defs><marker id="tip" markerWidth="9" markerHeight="9" refX="7" refY="4" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="white"/>',
    ]
    middle, right = LEFT + QUESTION / 2, LEFT + QUESTION + GAP
    for k, question in enumerate(QUESTIONS):
        y = TOP + k * STEP
        centre = y + HEIGHT / 2
        parts += [
            box(LEFT, y, QUESTION, "white", INK, 14),
            *lines(middle, centre, question.words),
            arrow(f"M{LEFT + QUESTION} {centre:g} H{right - 1}"),
            text(LEFT + QUESTION + GAP / 2 - 3, centre - 7, question.leads),
            *leaf(right, y, ANSWER, question.letter, question.leaf),
            arrow(f"M{middle:g} {y + HEIGHT} V{y + STEP - 1}"),
            text(middle + 8, y + (HEIGHT + STEP) / 2 + 4, "no" if question.leads == "yes" else "yes", anchor="start"),
        ]
    parts += [*leaf(LEFT, TOP + len(QUESTIONS) * STEP, QUESTION + GAP + ANSWER, *LAST), "</svg>"]
    return {"which_method.svg": "\n".join(parts) + "\n"}


if __name__ == "__main__":
    for name, drawn in pictures().items():
        (HERE / name).write_text(drawn, encoding="utf-8")
