"""How much of what is public has types, as pyright counts it; fails below 95 per cent. Needs ``pip install pyright``.

Pyright reads no source of a package that does not say it is typed, so that every class with a base in scikit-learn or
skorch counts as unknown, and whatever takes one. Here it is given their sources with the mark that is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

FLOOR = 0.95


def main() -> int:
    """Run pyright, print what has no type, and return the exit status."""
    root = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory() as folder:
        for name in ("sklearn", "skorch"):
            source, copy = Path(str(find_spec(name).origin)).parent, Path(folder) / name
            for file in source.rglob("*.py"):
                if "tests" not in file.parts:
                    (copy / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, copy / file.relative_to(source))
            (copy / "py.typed").touch()
        command = [sys.executable, "-m", "pyright", "--verifytypes", "sk_unlearn", "--ignoreexternal", "--outputjson"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), folder])}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if not done.stdout.startswith("{"):
        sys.exit(f"pyright did not answer: {done.stderr or done.stdout}")
    report = json.loads(done.stdout)["typeCompleteness"]
    for symbol in report["symbols"]:
        if symbol["isExported"] and not symbol["isTypeKnown"]:
            print(symbol["name"], *(d["message"].replace("\n", " ") for d in symbol["diagnostics"]), sep="\n    ")
    print(
        f"{report['completenessScore']:.1%} of {sum(report['exportedSymbolCounts'].values())} public names have types"
    )
    return int(report["completenessScore"] < FLOOR)


if __name__ == "__main__":
    sys.exit(main())
