"""What the pages need beyond Sphinx: the directive ``markdown``, and numbers in tables that stay on one line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from site_texts import to_rst
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class Markdown(SphinxDirective):
    """Show a Markdown file of the repository as a page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the sections of the file."""
        _, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(path)
        return self.parse_text_to_nodes(to_rst(Path(path).read_text(encoding="utf-8")), allow_section_headings=True)


class WholeNumbers(SphinxTransform):
    """Keep a number and its error on one line in the cells of tables."""

    default_priority = 800

    def apply(self, **kwargs: Any) -> None:
        """Put spaces that do not break around the sign."""
        for entry in self.document.findall(nodes.entry):
            for text in list(entry.findall(nodes.Text)):
                if " ± " in text:
                    text.parent.replace(text, nodes.Text(text.replace(" ± ", "\u00a0±\u00a0")))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register them."""
    app.add_directive("markdown", Markdown)
    app.add_transform(WholeNumbers)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
