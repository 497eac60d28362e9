"""Check that links in the pages that were built lead somewhere: ``python docs/check_links.py docs/_build``.

Sphinx resolves the references that it knows. It does not look at links that are written as addresses, at anchors of
pages that others make (the gallery, notebooks, downloads), or at what the theme puts into the frame of a page. Links to
other sites are left alone: they change without us, and need a network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Page(HTMLParser):
    """What a page can be linked at, and what it links to.

    Attributes
    ----------
    anchors, links : set of str
    """

    anchors: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note anchors and links of a tag."""
        values = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}
        self.links |= {value for name in ("href", "src") if (value := values.get(name))}
        pictures = (values.get("srcset") or "").split(",")
        self.links |= {picture.split()[0] for picture in pictures if picture.strip()}


def read(folder: Path) -> dict[Path, Page]:
    """Return the pages in a folder by their paths."""
    pages = {}
    for path in sorted(folder.rglob("*.html")):
        if "_static" in path.relative_to(folder).parts:
            continue  # templates of the theme
        pages[path.resolve()] = page = Page()
        page.feed(path.read_text(encoding="utf-8"))
    return pages


def broken(folder: Path) -> Iterator[str]:
    """Yield a line for each link that leads nowhere."""
    folder = folder.resolve()
    pages = read(folder)
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            if not target.is_file():
                yield f"{path.relative_to(folder)}: {link} is no file"
            elif anchor and target in pages and anchor not in pages[target].anchors:
                yield f"{path.relative_to(folder)}: {link} has no such anchor"


def main() -> None:
    """Print what is broken, and fail if something is."""
    parser = argparse.ArgumentParser(description="Check the links within a site that was built.")
    parser.add_argument("folder", type=Path, help="where sphinx-build wrote the pages")
    options = parser.parse_args()
    if not (options.folder / "index.html").is_file():
        parser.error(f"there is no index.html in {options.folder}")
    lines = list(broken(options.folder))
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
