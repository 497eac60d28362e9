"""What is private to a folder stays there, and scripts say how they are run.

Which folder may import which is lint-imports' to check.
"""

import ast
import re
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


# -------------------------------------------------------------------------------------------------------- how to run it


def how_to_run(path, source):
    """Return what is wrong with how a script says that it is run, or None.

    A benchmark says so in its first line; a private one names public ones that use it. An example says so in its
    docstring, where the gallery shows it.
    """
    if path.parent.name == "examples":
        docstring = ast.get_docstring(ast.parse(source)) or ""
        command = rf"(^ *|`)(python|torchrun .*) examples/{path.name}\b"
        return None if re.search(command, docstring, re.MULTILINE) else "no `python examples/...` in the docstring"
    first = source.split("\n", maxsplit=1)[0]
    if not path.name.startswith("_"):
        expected = f"# Run: python -m benchmarks.{path.stem}"
        if first not in (expected, f"{expected} [--quick]"):
            return f"the first line is not {expected!r}"
        return "there is no --quick" if "[--quick]" in first and not offers_quick(path) else None
    users = set(re.findall(r"benchmarks\.(\w+)", first)) if first.startswith("# Part of: ") else set()
    if not users or any(user.startswith("_") for user in users):
        return "the first line is not '# Part of: ' and public benchmarks"
    strangers = sorted(user for user in users if path.stem not in used_by(user))
    return f"{strangers} do not use it" if strangers else None


def used_by(name):
    """Return the benchmarks that one imports, directly or not."""
    found, to_read = set(), [name]
    while to_read:
        path = ROOT / "benchmarks" / f"{to_read.pop()}.py"
        if path.exists():
            names = {full.split(".")[1] for _, full in imported(path.read_text(encoding="utf-8"), "benchmarks")
                     if full.startswith("benchmarks.")}  # fmt: skip
            to_read += names - found
            found |= names
    return found


def offers_quick(path):
    files = [path, *(path.with_name(f"{name}.py") for name in used_by(path.stem) if name.startswith("_"))]
    return any('"--quick"' in file.read_text(encoding="utf-8") for file in files if file.exists())


def test_examples_and_benchmarks_say_how_they_are_run():
    files = [path for folder in ("benchmarks", "examples") for path in sorted((ROOT / folder).glob("*.py"))]
    said = {path: how_to_run(path, path.read_text(encoding="utf-8")) for path in files if path.name != "__init__.py"}
    assert len(said) > 50
    wrong = [f"{path.relative_to(ROOT)}: {what}" for path, what in said.items() if what]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "source", "is_right"),
    [
        ("benchmarks/frontier.py", "# Run: python -m benchmarks.frontier [--quick]\n", True),
        ("benchmarks/frontier.py", "# Run: python -m benchmarks.default\n", False),
        ("benchmarks/default.py", "# Run: python -m benchmarks.default [--quick]\n", False),
        ("benchmarks/frontier.py", '"""Usage: python -m benchmarks.frontier."""\n', False),
        ("benchmarks/_tasks.py", "# Part of: benchmarks.frontier and others (python -m benchmarks.frontier)\n", True),
        ("benchmarks/_kills.py", "# Part of: python -m benchmarks.frontier\n", False),
        ("benchmarks/_kills.py", "# Part of: python -m benchmarks._lifecycle_kills\n", False),
        ("examples/plot_a.py", '"""\nTitle\n=====\n\n::\n\n    python examples/plot_a.py --seeds 5\n"""\n', True),
        ("examples/plot_a.py", '"""Run it: ``python examples/plot_a.py``."""\n', True),
        ("examples/plot_a.py", '"""\nTitle\n=====\n\n::\n\n    python examples/plot_b.py\n"""\n', False),
        ("examples/plot_a.py", "import numpy\n", False),
    ],
)
def test_the_check_of_how_to_run_can_fail(path, source, is_right):
    assert (how_to_run(ROOT / path, source) is None) == is_right
