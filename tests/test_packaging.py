"""What is said of a release agrees: versions, citation, and what the wheel needs. ``.ci/wheel.py`` builds it."""

import ast
import configparser
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from sk_unlearn import __version__

ROOT = Path(__file__).parent.parent


def settings():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def names(requirements):
    """Return the names of packages in a list of requirements, of extras of this package what they stand for."""
    return {re.split(r"[^\w.-]", line)[0].lower() for line in requirements.split("\n") if line.strip()}


def test_versions_agree():
    newest = re.search(r"^## \[(?:Unreleased\]: )?([\d.]+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == __version__
    assert re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE) == [__version__]


def test_the_citation_names_what_it_must():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    metadata = settings()["metadata"]
    assert citation["license"] == metadata["license"]
    assert citation["authors"] == [{"name": metadata["author"]}]
    for each in [citation, *citation["references"]]:
        assert each["title"]
        assert each["authors"]
        assert each.get("message") or each["type"]
    assert citation["message"]


def test_papers_of_the_citation_are_those_of_the_docstrings():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "sk_unlearn" / "unlearners").rglob("*.py"))
    squeezed = re.sub(r"\W", "", sources).lower().replace("optimization", "optimisation")
    for paper in citation["references"]:
        title = re.sub(r"\W", "", paper["title"].partition(". Part I")[0]).lower()
        assert title.replace("optimization", "optimisation") in squeezed, paper["title"]


def test_what_the_package_imports_is_required():
    """At the top of a module: what the requirements, or the packages they cannot be installed without, bring."""
    required = names(settings()["options"]["install_requires"])
    through = {"joblib": "scikit-learn", "typing-extensions": "torch"}
    distributions = packages_distributions()
    found = {}
    for file in (ROOT / "sk_unlearn").rglob("*.py"):
        for node in ast.parse(file.read_text("utf-8")).body:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {module.split(".")[0]: file.name for module in modules}
    for module in set(found) - set(sys.stdlib_module_names) - {"sk_unlearn"}:
        candidates = {name.lower().replace("_", "-") for name in distributions[module]}
        candidates |= {through[name] for name in candidates if name in through}
        assert candidates & required, f"{module}, which {found[module]} imports"


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text("utf-8")
    headings = {
        re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)", text, re.MULTILINE)
    }
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) > 30
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("https://"):
            assert (ROOT / target).is_file(), target
