"""Build the distributions and look at them as a user gets them; takes less than a minute.

Run in an environment with the extra ``dev``. The wheel is installed, without its dependencies, into an environment
that sees those of this one but not the checkout, and the first example of the README runs there.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from sysconfig import get_path

ROOT = Path(__file__).parent.parent
# Told apart by what they are for: data of the package, and folders without which tests or pages could not be run.
DATA = {".html", ".css", ".typed"}
IN_SDIST = {"benchmarks", "docs", "examples", "tests", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "README.md"}


def run(*command: object, **options: object) -> str:
    """Run a command; on failure show what it wrote and end."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return str(done.stdout + done.stderr)


def tracked(folder: str) -> set[str]:
    """Return the files that git knows in a folder of the checkout."""
    return set(run("git", "-C", ROOT, "ls-files", folder).split())


def check(holds: bool, message: str) -> None:
    """End with a message unless something holds."""
    if not holds:
        sys.exit(message)


def check_contents(wheel: Path, sdist: Path) -> None:
    """Compare the files of the distributions with those of the checkout."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {name for name in tracked("sk_unlearn") if name.endswith(".py") or PurePosixPath(name).suffix in DATA}
    check(names == wanted, f"The wheel and sk_unlearn differ in {sorted(names ^ wanted)}.")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames() if "/" in name}
    left_out = {name for folder in IN_SDIST for name in tracked(folder)} - inside
    check(not left_out, f"The source distribution lacks {sorted(left_out)}.")
    extra = {name for name in inside if "__pycache__" in name or name.startswith(("docs/_build", "docs/auto_examples"))}
    check(not extra, f"The source distribution should not have {sorted(extra)[:5]}.")


def run_readme(wheel: Path, folder: Path) -> None:
    """Install the wheel and run the first example of the README, as a user without a checkout does."""
    environment = folder / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # Its .pth files, by which an editable install is found, are not read from there.
    (site / "dependencies.pth").write_text(get_path("purelib"))
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--force-reinstall", wheel)
    example = re.search(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    check(example is not None, "README.md has no example.")
    script = folder / "example.py"
    script.write_text(f"{example[1]}\nimport sk_unlearn\nprint(sk_unlearn.__file__)\n", encoding="utf-8")
    where = run(python, "-W", "error", "-I", script, cwd=folder).split()[-1]
    check(Path(where).is_relative_to(site), f"The example imported {where}, which is not what was installed.")


def main() -> None:
    """Build, check, install and run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT)
        warned = [line for line in log.splitlines() if "warning" in line.lower() and "byte-compiling" not in line]
        check(not warned, "\n".join(["The build warns:", *warned]))
        (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
        run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
        check_contents(wheel, sdist)
        run_readme(wheel, folder)
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes, {sdist.name}: {sdist.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
