"""Texts that the pages are made of: the reference for its sidebar, and Markdown as reStructuredText."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def slug(title: str) -> str:
    """Return the anchor that docutils gives to a section."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def reference() -> list[dict[str, Any]]:
    """Return the sections of the reference, each with its title, its anchor, and its names and their pages."""
    sections: list[dict[str, Any]] = []
    module, in_list, has_pages = "", False, False
    lines = (HERE / "api.rst").read_text(encoding="utf-8").splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line and re.fullmatch("-+", below):
            sections.append({"title": line, "anchor": slug(line), "names": []})
        elif match := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = match[1]
        elif line and not line.startswith(" "):
            in_list, has_pages = line.startswith(".. autosummary::"), False
        elif in_list and line.strip().startswith(":toctree:"):
            has_pages = True
        elif in_list and has_pages and (match := re.match(r" +(\w+)$", line)):
            sections[-1]["names"].append((match[1], f"generated/{module}.{match[1]}"))
    return sections


def to_rst(text: str) -> str:
    """Return Markdown of the kind that CHANGELOG.md and CONTRIBUTING.md are written in, as reStructuredText.

    It knows headings, fenced code, lists, links to web pages, and code in a line. A link to a file becomes its text.
    """
    out = []
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
            out += [f".. code-block:: {line[3:] or 'text'}", ""] if fenced else [""]
        elif fenced:
            out.append(f"   {line}")
        elif match := re.match(r"(#+) (.+)", line):
            title = match[2].replace("[", "").replace("]", "")
            out += [title, "=-~^"[len(match[1]) - 1] * len(title)]
        else:
            out.append(line)
    pieces = re.split(r"(?m)(^\.\. code-block::.*\n\n(?:   .*\n)*)", "\n".join(out) + "\n")
    for k in range(0, len(pieces), 2):
        prose = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", pieces[k])
        prose = re.sub(r"\[([^\]]+)\]\((https?://[^)]+)\)", r"`\1 <\2>`__", prose)
        pieces[k] = re.sub(r"\[([^\]]+)\]\([^):]+\)", r"\1", prose)
    return "".join(pieces)
