"""A training set that grows: the index, the first request, one row, and many rows at once.

Usage: ``python -m benchmarks.scale [--quick] [--rows 100000 1000000 10000000] [--erase 100000] [--repeats 9]
[--clock wall|cpu] [--out FOLDER]``. A synthetic float32 table of 20 features and 5 classes, and a network of 421
parameters that plain PyTorch has trained for one epoch; the estimator adopts it (``from_fitted``). Columns:

- ``adopt``: seconds until the estimator is fitted, which takes the gradient over all rows once.
- ``index``, ``ids``: seconds of the first look-up by content and by identifier, which builds the index.
- ``bytes``: what the index by content keeps, a row.
- ``first``: seconds of the first ``forget``, of one row: index, a digest of all rows, and the request itself.
- ``one row``: milliseconds of such a request later, the median; ``no steps``: with an unlearner of one gradient step,
  after the large request, so that all that is not solving is seen.
- ``many``: seconds of one request for so many rows, at most a tenth of them.

With ``--out`` a folder gets ``scale.json`` and a picture, ``scale.png``. One thread. Ten million rows take 4 GiB.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few thousand rows, to see that it runs")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--erase", type=int, default=100_000, help="rows of the large request")
    parser.add_argument("--repeats", type=int, default=9, help="requests of one row")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu where others use the machine too")
    parser.add_argument("--out", type=Path, help="folder for JSON and a picture")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rows, options.repeats = [1000, 4000], 3
    torch.set_num_threads(1)
    records = growth(options.rows, options.erase, options.repeats)
    print("\n".join(table(records, options.clock)))
    print("\n".join(verdicts(records, options.clock)))
    write(options, "scale", {"growth": records})
    if options.out is not None:
        draw_growth(records, options.out / "scale.png", options.clock)
    return records


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


if __name__ == "__main__":
    main()
