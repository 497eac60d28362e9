"""The site is whole: its gallery, its links, and what its pages need beyond Sphinx."""

import importlib
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from sk_unlearn import __version__

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
INVENTORIES = sorted((DOCS / "inventories").glob("*.txt"))


def script(name):
    return runpy.run_path(str(DOCS / name))


# ------------------------------------------------------------------------------------------------------------- gallery


def test_every_example_has_its_place_in_the_gallery():
    order = script("gallery.py")["ORDER"]
    assert [path.stem for path in EXAMPLES if path.stem not in order] == []
    assert len(set(order)) == len(order)


def test_an_example_without_a_place_comes_last():
    gallery = script("gallery.py")
    by_order = gallery["ByOrder"]("examples")
    files = ["unknown.py", "dask_cluster.py", "plot_forget_digits.py"]
    assert sorted(files, key=by_order) == ["plot_forget_digits.py", "dask_cluster.py", "unknown.py"]


# --------------------------------------------------------------------------------------------------- first page, hero


def test_the_picture_of_the_first_page_shows_what_it_says():
    picture = script("pictures/before_after.py")
    rows = picture["draw_rows"](0)
    before, after, retrained = picture["fit_three"](rows, 0)
    differs = picture["share_that_differs"]
    assert rows.erased.sum() == 16  # as the page says
    assert differs(before, retrained) > 2 * differs(after, retrained)
    assert differs(after, retrained) < 0.05


def test_pictures_that_are_sent_with_every_visit_are_small():
    assert (DOCS / "pictures" / "before_after.png").stat().st_size < 150_000
    assert (DOCS / "_static" / "logo.svg").stat().st_size < 2_000


def test_the_switcher_offers_this_version():
    versions = json.loads((DOCS / "_static" / "switcher.json").read_text(encoding="utf-8"))
    assert __version__ in {each["version"] for each in versions}
    assert all(each["url"].endswith("/") for each in versions)


# ----------------------------------------------------------------------------------------------- links to other sites


def names_in(inventory):
    lines = inventory.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Sphinx inventory version 1"
    return [line.split()[0] for line in lines[3:]]


def find(name):
    """Import what a dotted name stands for: a module, or something in one."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"nothing is called {name}")


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.stem)
def test_what_the_inventories_list_exists(inventory):
    pytest.importorskip({"python": "sys"}.get(inventory.stem, inventory.stem))
    names = names_in(inventory)
    assert names
    for name in names:
        find(name)


def test_what_the_pages_name_of_other_projects_can_be_linked():
    listed = {name for inventory in INVENTORIES for name in names_in(inventory)}
    roots = "|".join(inventory.stem for inventory in INVENTORIES)
    missing = {}
    for folder in (DOCS, ROOT / "sk_unlearn", ROOT / "examples"):
        for path in sorted([*folder.rglob("*.rst"), *folder.rglob("*.py")]):
            if {"generated", "auto_examples", "_build"} & set(path.relative_to(folder).parts):
                continue
            text = path.read_text(encoding="utf-8")
            for name in re.findall(rf":(?:class|func|meth|exc|obj):`~?((?:{roots})\.[\w.]+)`", text):
                if name not in listed:
                    missing[name] = path.name
    assert not missing, "add a line to the right file of docs/inventories"


# ---------------------------------------------------------------------------------------------------- links on the site


def check_links(folder):
    command = [sys.executable, str(DOCS / "check_links.py"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_broken_links_are_found(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "page.html").write_text('<h1 id="top">Page</h1><a href="../index.html#here">up</a>')
    (tmp_path / "index.html").write_text('<p id="here"><a href="deep/page.html#top">a</a><a href="https://x.org">b</a>')
    assert check_links(tmp_path).returncode == 0
    (tmp_path / "index.html").write_text(
        '<a href="#no">a</a><img srcset="no.png 2x"><a href="deep/page.html#gone">b</a>'
    )
    result = check_links(tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "deep/page.html: ../index.html#here has no such anchor",
        "index.html: #no has no such anchor",
        "index.html: deep/page.html#gone has no such anchor",
        "index.html: no.png is no file",
    ]


def test_a_folder_without_pages_is_an_error(tmp_path):
    assert check_links(tmp_path).returncode == 2


# ------------------------------------------------------------------------------------------------- beyond plain Sphinx


def test_markdown_becomes_restructured_text():
    markdown = """# Title

Some `code`, a [site](https://x.org/a_b) and a [file](docs/x.rst).

## [Unreleased]: 1.0

- item

```shell
run `this`  # [not](a link)
```

End.
"""
    assert (
        script("site_texts.py")["to_rst"](markdown)
        == """Title
=====

Some ``code``, a `site <https://x.org/a_b>`__ and a file.

Unreleased: 1.0
---------------

- item

.. code-block:: shell

   run `this`  # [not](a link)


End.
"""
    )


def test_the_sidebar_of_the_reference_lists_what_has_a_page():
    sections = script("site_texts.py")["reference"]()
    names = {page for section in sections for _, page in section["names"]}
    assert {"generated/sk_unlearn.UnlearnableClassifier", "generated/sk_unlearn.metrics.membership.ulira"} <= names
    assert [section["title"] for section in sections if not section["names"]] == []
