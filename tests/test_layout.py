"""What is private to a folder stays there. Which folder may import which is lint-imports' to check."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def imported(source, package):
    """Yield line and full name of everything that code in this package imports, with its modules spelt out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            n_up = max(node.level - 1, 0)
            start = package.split(".")[: -n_up or None] if node.level else []
            module = ".".join([*start, *filter(None, [node.module])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def is_out_of_reach(name, package):
    """Whether a part of the name is private to a folder that the package is not in.

    The helpers in ``sk_unlearn.utils`` are private to the whole of sk_unlearn.
    """
    parts = name.split(".")
    for n, part in enumerate(parts):
        if not part.startswith("_") or part.startswith("__"):
            continue
        owner = parts[:n]
        if owner == ["sk_unlearn", "utils"]:
            continue
        if (ROOT / Path(*owner)).with_suffix(".py").exists():
            owner.pop()  # a name in a module belongs to the folder of the module
        if package.split(".")[: len(owner)] != owner:
            return True
    return False


def test_no_private_name_is_imported_across_folders():
    found = []
    for file in sorted((ROOT / "sk_unlearn").rglob("*.py")):
        package = ".".join(file.relative_to(ROOT).parts[:-1])
        for line, name in imported(file.read_text(encoding="utf-8"), package):
            if name.startswith("sk_unlearn.") and is_out_of_reach(name, package):
                found.append(f"{file.relative_to(ROOT)}:{line} imports {name}")
    assert not found, "\n".join(["Private to another folder:", *found])


@pytest.mark.parametrize(
    ("source", "package", "out_of_reach"),
    [
        ("from sk_unlearn.metrics.distances import _finite", "sk_unlearn.inspection", True),
        ("from sk_unlearn.metrics.distances import _finite", "sk_unlearn.metrics", False),
        ("from sk_unlearn.references._fit_many import fit_many", "sk_unlearn.metrics", True),
        ("from sk_unlearn.unlearners._watch import Watch", "sk_unlearn.unlearners.cubic", False),
        ("from sk_unlearn.unlearners.cubic.curenu import _Memory", "sk_unlearn.unlearners", True),
        ("from .cubic.curenu import _Memory", "sk_unlearn.unlearners", True),
        ("from ..estimators import _nets", "sk_unlearn.risks", True),
        ("import sk_unlearn.estimators._nets", "sk_unlearn.risks", True),
        ("from sk_unlearn.utils._cache import cached", "sk_unlearn.metrics", False),
        ("from sk_unlearn.utils._cache import _call", "sk_unlearn.metrics", True),
        ("from sk_unlearn._version import __version__", "sk_unlearn.inspection.audit", False),
    ],
)
def test_the_check_of_private_names_can_fail(source, package, out_of_reach):
    ((_, name),) = imported(source, package)
    assert is_out_of_reach(name, package) == out_of_reach


def test_optional_packages_are_imported_where_they_are_used():
    """Importing sk_unlearn must not import them."""
    found = []
    for file in sorted((ROOT / "sk_unlearn").rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = [each.name for each in getattr(node, "names", [])] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            optional = {"skops", "polars", "imblearn", "matplotlib"} & {name.split(".")[0] for name in names}
            found += [f"{file.relative_to(ROOT)}:{node.lineno} imports {name}" for name in optional]
    assert not found, "\n".join(["At the top of a file:", *found])
