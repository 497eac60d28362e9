# Run: python -m benchmarks.scale [--quick]
"""What grows: rows in a file, rows by the million, processes, parameters, shards; part by part.

Usage: ``python -m benchmarks.scale [--parts growth,outside,processes,memory,shards] [--quick] [--rows 100000 1000000
10000000] [--erase 100000] [--repeats 9] [--clock wall|cpu] [--out FOLDER]``. Each part can be had alone; all but the
first are benchmarks of their own, which run in a process of their own with the settings that are printed.

- ``growth``: the table below.
- ``outside``: fit, forget and predict under a limit on the address space, and beside rows in memory.
- ``processes``: several processes beside one.
- ``memory``: peak memory of requests to a large network beside that of its training.
- ``shards``: requests to shards beside requests to one model.

Growth is measured on a synthetic float32 table of 20 features and 5 classes, and a network of 421 parameters that plain
PyTorch has trained for one epoch; the estimator adopts it (``from_fitted``). Columns:

- ``adopt``: seconds until the estimator is fitted, which takes the gradient over all rows once.
- ``index``, ``ids``: seconds of the first look-up by content and by identifier, which builds the index.
- ``bytes``: what the index by content keeps, a row.
- ``first``: seconds of the first ``forget``, of one row: index, a digest of all rows, and the request itself.
- ``one row``: milliseconds of such a request later, the median; ``no steps``: with an unlearner of one gradient step,
  after the large request, so that all that is not solving is seen.
- ``many``: seconds of one request for so many rows, at most a tenth of them.

A second table says what a row takes beyond itself. With ``--out`` a folder gets ``scale.json`` and a picture,
``growth.png``. One thread. Ten million rows take 4 GiB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks._growth import MOST_INDEX_BYTES, MOST_INDEX_S, MOST_ONE_ROW_S, growth
from benchmarks._options import write
from benchmarks._pictures import draw_growth

# What a column is called, which number it shows, in which unit, and how.
_COLUMNS = (
    ("adopt, s", "adopt", 1, ".2f"), ("index, s", "index", 1, ".2f"), ("ids, s", "id_index", 1, ".2f"),
    ("first, s", "first", 1, ".2f"), ("one row, ms", "one_row", 1e3, ".1f"), ("no steps, ms", "no_steps", 1e3, ".1f"),
    ("many, s", "many", 1, ".2f"),
)  # fmt: skip


# What another benchmark is asked for, in full and with --quick.
_OTHERS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "outside": ((), ("--rows", "200000")),
    "processes": ((), ("--rows", "512", "--width", "64", "--repeats", "1", "--rounds", "1")),
    "memory": (("--stages",), ("--width", "1000", "--products", "3")),
    "shards": ((), ("--quick",)),
}  # fmt: skip


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="growth," + ",".join(_OTHERS), help="names with commas between them")
    parser.add_argument("--quick", action="store_true", help="a few thousand rows, to see that it runs")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--erase", type=int, default=100_000, help="rows of the large request")
    parser.add_argument("--repeats", type=int, default=9, help="requests of one row")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu where others use the machine too")
    parser.add_argument("--out", type=Path, help="folder for JSON and a picture")
    options = parser.parse_args(arguments)
    parts = options.parts.split(",")
    unknown = sorted({*parts} - {"growth", *_OTHERS})
    if unknown:
        parser.error(f"--parts takes growth, {', '.join(_OTHERS)}; got {', '.join(unknown)}.")
    if options.quick:
        options.rows, options.repeats = [1000, 4000], 3
    records = _grown(options) if "growth" in parts else []
    failed = [part for part in parts if part in _OTHERS and not _run(part, _OTHERS[part][options.quick])]
    if failed:
        sys.exit(f"Without a result: {', '.join(failed)}.")
    return records


def _grown(options: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    print("== growth", flush=True)
    records = growth(options.rows, options.erase, options.repeats)
    print("\n".join([*table(records, options.clock), *verdicts(records, options.clock), "", *bytes_a_row(records[-1])]))
    write(options, "scale", {"growth": records})
    if options.out is not None:
        draw_growth(records, options.out / "growth.png", options.clock)
    return records


def _run(part: str, arguments: Sequence[str]) -> bool:
    """Run another benchmark, which prints what it finds; return whether it came to its end."""
    name = f"benchmarks.{part}"
    print("==", part, *arguments, flush=True)
    if find_spec(name) is None:
        print(f"{name} is not there.")
        return False
    return subprocess.run([sys.executable, "-m", name, *arguments], check=False).returncode == 0


def _name(quantity: str, clock: str) -> str:
    return f"{quantity}_s" if clock == "wall" else f"{quantity}_cpu_s"


def table(records: Sequence[dict[str, Any]], clock: str) -> list[str]:
    """Return the lines of a table: a line for each size, and last how much the largest is of the smallest."""
    heads = ["rows", "bytes", "erased", *(head for head, *_ in _COLUMNS)]
    lines = [" ".join(f"{head:>12s}" for head in heads)]
    for found in records:
        counts = [f"{found['rows']:,d}", f"{found['index_bytes_a_row']:.1f}", f"{found['erased_at_once']:,d}"]
        times = [f"{unit * found[_name(what, clock)]:{form}}" for _, what, unit, form in _COLUMNS]
        lines.append(" ".join(f"{cell:>12s}" for cell in (*counts, *times)))
    if len(records) > 1:
        first, last = records[0], records[-1]
        names = ["rows", "index_bytes_a_row", "erased_at_once", *(_name(what, clock) for _, what, *_ in _COLUMNS)]
        lines.append(" ".join(f"{f'x {last[name] / first[name]:.3g}':>12s}" for name in names))
    return lines


def verdicts(records: Sequence[dict[str, Any]], clock: str) -> list[str]:
    """Return what is wanted of ten million rows, and what the largest table has."""
    found = records[-1]
    wanted = (
        ("index built", found[_name("index", clock)], MOST_INDEX_S, "s"),
        ("index", found["index_bytes_a_row"], MOST_INDEX_BYTES, "bytes a row"),
        ("one row", found[_name("one_row", clock)], MOST_ONE_ROW_S, "s"),
    )
    return [f"{what}: {value:.3g} {unit}, wanted at most {most:g}" for what, value, most, unit in wanted]


def bytes_a_row(found: dict[str, Any]) -> list[str]:
    """Return the lines of a table of what is held of each row beyond the row itself, which takes 80 bytes."""
    held = {**found["bytes_a_row"], "index by content": found["index_bytes_a_row"]}
    held["index by identifier, once it was looked for"] = found["id_index_bytes_a_row"]
    lines = [f"{'bytes a row beyond the row itself':48s} {found['rows']:12,d} rows"]
    lines += [f"{name:48s} {value:12.2f}" for name, value in held.items()]
    return [*lines, f"{'all of it':48s} {sum(held.values()):12.2f}"]


if __name__ == "__main__":
    main()
