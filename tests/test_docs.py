"""The documentation is complete, agrees with the signatures, and its code runs."""

import ast
import dataclasses
import enum
import importlib
import inspect
import re
import runpy
import sys
import types
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = [
    "sk_unlearn",
    "sk_unlearn.composites",
    "sk_unlearn.pipeline",
    "sk_unlearn.unlearners",
    "sk_unlearn.metrics",
    "sk_unlearn.metrics.membership",
    "sk_unlearn.privacy",
    "sk_unlearn.model_selection",
    "sk_unlearn.inspection",
    "sk_unlearn.references",
    "sk_unlearn.preprocessing",
    "sk_unlearn.receipts",
    "sk_unlearn.persistence",
    "sk_unlearn.commands",
]
PAGES = [
    "README.md",
    "docs/index.rst",
    "docs/getting_started.rst",
    "docs/which_method.rst",
    "docs/recipes.rst",
    "docs/outside.rst",
    "docs/pipelines.rst",
    "docs/ensembles.rst",
    "docs/shards.rst",
    "docs/growing.rst",
    "docs/saving.rst",
    "docs/command_line.rst",
    "docs/metrics.rst",
    "docs/tuning.rst",
    "docs/audit.rst",
    "docs/receipts.rst",
    "docs/notebook.rst",
]
WITHOUT_CODE = {"docs/methods/index.rst", "docs/guide/what_is_left.rst"}
PAGES += sorted(
    {page.relative_to(ROOT).as_posix() for folder in ("guide", "methods") for page in ROOT.glob(f"docs/{folder}/*.rst")}
    - WITHOUT_CODE
)


# ---------------------------------------------------------------------------------------------------------- reference


def listed_in_reference():
    """Full names in the autosummary lists of docs/api.rst."""
    names, module, in_list = set(), "", False
    for line in (ROOT / "docs" / "api.rst").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = match[1]
        elif line and not line.startswith(" "):
            in_list = line.startswith(".. autosummary::")
        elif in_list and (match := re.match(r" +(\w+)$", line)):
            names.add(f"{module}.{match[1]}")
    return names


@pytest.mark.parametrize("package", [*PACKAGES, "sk_unlearn.solvers"])
def test_every_public_name_is_in_the_reference(package):
    public = {f"{package}.{name}" for name in importlib.import_module(package).__all__ if not name.startswith("_")}
    assert public - listed_in_reference() == set()


def test_the_reference_lists_only_what_exists():
    for name in listed_in_reference():
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


# --------------------------------------------------------------------------------------------------------- docstrings


def section(doc, title):
    """Names in a section of a numpydoc docstring, or None where there is no such section."""
    match = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    if match is None:
        return None
    heads = re.findall(r"^\**(\w[\w, ]*?)(?: :.*)?$", match[1], re.MULTILINE)
    return [name for head in heads for name in head.split(", ")]


def own_methods(cls):
    fields = cls.__dataclass_fields__ if dataclasses.is_dataclass(cls) else {}
    for name in sorted(set(dir(cls)) - set(fields)):
        method = inspect.getattr_static(cls, name)
        function = getattr(method, "__func__", method)
        if not name.startswith("_") and inspect.isfunction(function) and function.__module__.startswith("sk_unlearn"):
            yield name, getattr(cls, name)


def public_objects():
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            obj = getattr(module, name)
            if not callable(obj):
                continue
            yield f"{package}.{name}", obj
            if inspect.isclass(obj):
                for method_name, method in own_methods(obj):
                    yield f"{package}.{name}.{method_name}", method


OBJECTS = dict(public_objects())


def expected_parameters(obj):
    if inspect.isclass(obj) and (obj.__init__ is object.__init__ or issubclass(obj, enum.Enum)):
        return []
    return [name for name in inspect.signature(obj).parameters if name != "self"]


@pytest.mark.parametrize("name", OBJECTS)
def test_docstring_matches_the_signature(name):
    obj = OBJECTS[name]
    doc = inspect.getdoc(obj)
    assert doc, f"{name} has no docstring"
    summary = doc.split("\n\n", maxsplit=1)[0]
    assert summary.endswith("."), f"{name}: the summary must be a sentence, got {summary!r}"
    if re.search(r"; see :meth:`", summary):
        return
    title = "Attributes" if dataclasses.is_dataclass(obj) else "Parameters"
    assert sorted(section(doc, title) or []) == sorted(expected_parameters(obj))


def test_the_docstring_check_can_fail():
    assert section(
        "Do.\n\nParameters\n----------\na, b : int\n    Two: of them.\nc\n\nReturns\n-------\nd : int", "Parameters"
    ) == [
        "a",
        "b",
        "c",
    ]
    assert section("Do.\n\nReturns\n-------\nd : int", "Parameters") is None


# --------------------------------------------------------------------------------------------------------------- code


def code_blocks(text):
    """Python blocks of a Markdown or reStructuredText page, each with the number of lines before it."""
    fenced = r"^```python\n(?P<md>.*?)^```"
    directive = r"^\.\. code-block:: python\n\n(?P<rst>(?:(?: +[^\n]*)?\n)+)"
    for match in re.finditer(f"{fenced}|{directive}", text + "\n", re.MULTILINE | re.DOTALL):
        kind = "md" if match["md"] is not None else "rst"
        yield text[: match.start(kind)].count("\n"), inspect.cleandoc("\n" + match[kind])


@pytest.mark.parametrize("page", PAGES)
def test_code_on_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # As a module that can be found, or its classes could not be pickled.
    module = types.ModuleType("documentation_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = list(code_blocks(text))
    assert len(blocks) == len(re.findall("```python|code-block:: python", text)) > 0
    for n_lines_before, block in blocks:
        exec(compile("\n" * n_lines_before + block, page, "exec"), vars(module))


def test_other_pages_have_no_code_that_is_not_run():
    for page in [*ROOT.glob("docs/*.rst"), *(ROOT / page for page in WITHOUT_CODE)]:
        if page.relative_to(ROOT).as_posix() not in PAGES:
            assert not list(code_blocks(page.read_text(encoding="utf-8"))), page.name


def test_the_test_command_can_be_extracted():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^<!-- test command -->\n```shell\n.*pytest.*\n```$", text, re.MULTILINE)) == 1


# ------------------------------------------------------------------------------------------------------------ messages


def texts_of_the_package():
    """Every string constant in the sources; the constant parts of an f-string one by one, joined by a mark."""
    for path in sorted((ROOT / "sk_unlearn").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def messages_on_the_page():
    page = (ROOT / "docs" / "what_can_go_wrong.rst").read_text(encoding="utf-8")
    for message in re.findall(r":samp:`([^`]+)`", page):
        yield from (part.strip() for part in re.split(r"\{\w+\}", " ".join(message.split())) if len(part.strip()) > 4)


def test_messages_on_the_page_of_faults_are_those_of_the_package():
    texts = "\0".join(texts_of_the_package())
    messages = list(messages_on_the_page())
    assert len(messages) > 40
    # What scikit-learn says in our place.
    assert [m for m in messages if m not in texts] == [": Expected 2D array, got 1D array instead"]


# ------------------------------------------------------------------------------------------------------------ pictures


PICTURES = ROOT / "docs" / "pictures"
WITHOUT_A_RUN = ["stages", "decision_tree"]  # their pictures come out the same everywhere
OF_MATPLOTLIB = ["theory", "methods", "evidence"]


def script(name, monkeypatch):
    """The globals of a script in docs/pictures."""
    if name in OF_MATPLOTLIB:
        pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(PICTURES))
    return runpy.run_path(str(PICTURES / f"{name}.py"))


@pytest.mark.parametrize("name", WITHOUT_A_RUN)
def test_drawn_pictures_are_those_of_their_script(name, monkeypatch):
    for picture, drawn in script(name, monkeypatch)["pictures"]().items():
        assert (PICTURES / picture).read_text(encoding="utf-8") == drawn, picture


def test_every_picture_has_a_script_and_is_small(monkeypatch):
    drawn = {picture for name in WITHOUT_A_RUN for picture in script(name, monkeypatch)["pictures"]()}
    for name in OF_MATPLOTLIB:
        drawn |= {f"{picture}.svg" for picture in script(name, monkeypatch)["PICTURES"]}
    assert drawn == {path.name for path in PICTURES.glob("*.svg")}
    for name in drawn:
        picture = (PICTURES / name).read_text(encoding="utf-8")
        assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg", name
        assert len(picture) < 60_000, name


@pytest.mark.parametrize(
    ("name", "picture"), [("methods", "comparison"), ("methods", "certificate"), ("evidence", "growth")]
)
def test_pictures_of_tables_are_up_to_date(name, picture, tmp_path, monkeypatch):
    """Those that need no training have the words and the marks of the committed ones, at the same places."""
    script(name, monkeypatch)["PICTURES"][picture](tmp_path / f"{picture}.svg")

    def seen(path):
        root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
        marks = [mark for mark in root.iter() if mark.tag.endswith("}use")]
        words = [word.text for word in root.iter() if word.tag.endswith("}text")]
        return [(round(float(mark.get("x", 0))), round(float(mark.get("y", 0)))) for mark in marks], words

    new, old = (seen(folder / f"{picture}.svg") for folder in (tmp_path, PICTURES))
    assert new == old
    assert all(old)


def test_every_picture_is_on_a_page_and_described():
    described = set()
    for page in ROOT.glob("docs/**/*.rst"):
        text = page.read_text(encoding="utf-8")
        for target, options in re.findall(r"^\.\. (?:figure|image):: (\S+)\n((?: +\S.*\n)*)", text, re.MULTILINE):
            assert re.search(r":alt: \S", options), f"{page.name}: {target} has no alt text"
            described.add((page.parent / target).resolve())
    pictures = {path.resolve() for path in (ROOT / "docs" / "pictures").iterdir() if path.suffix in {".svg", ".png"}}
    assert described >= pictures
