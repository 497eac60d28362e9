# Part of: benchmarks.frontier and others (python -m benchmarks.frontier)
"""The command line of the frontier benchmarks, and the file their records go to."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def parse(doc: str | None, default_tasks: str, quick_tasks: str, **more: dict[str, Any]) -> argparse.Namespace:
    """Read the command line; ``more`` are options of one benchmark, by name, as argparse takes them."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows and epochs, to see that it runs")
    parser.add_argument("--tasks", default="", help=f"by default {default_tasks}; with --quick {quick_tasks}")
    parser.add_argument("--seeds", type=int, default=3, help="initialisations, each with a retrained model: at least 2")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, help="folder for JSON and pictures")
    parser.add_argument("--device", help="where the networks live, such as cuda")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu where others use the machine too")
    parser.add_argument(
        "--max-share", type=float, default=0.5,
        help="leave out a longer run of a rival that would take more than this share of retraining's time",
    )  # fmt: skip
    parser.add_argument(
        "--only", nargs="*", metavar="FAMILY",
        help="rivals to run, such as L-BFGS 'warm start', beside the default and doing nothing; by default all",
    )  # fmt: skip
    for name, settings in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds must be at least 2, got {options.seeds}: the floor is the distance between them.")
    options.tasks = options.tasks or (quick_tasks if options.quick else default_tasks)
    return options


def environment() -> dict[str, Any]:
    """Return what a reader needs to know about the machine, and the command."""
    return {
        "command": " ".join([f"python -m benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "skorch", "scikit-learn", "numpy")},
    }


def write(options: argparse.Namespace, name: str, content: dict[str, Any]) -> None:
    if options.out is None:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"environment": environment(), **content}, indent=1, default=float)
    (options.out / f"{name}.json").write_text(text)
