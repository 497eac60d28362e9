# Run: python -m benchmarks.audit [--quick]
"""What an audit costs, what training many models at once saves, and how often its verdict is right.

Usage: ``python -m benchmarks.audit [--parts cost shadows calibration] [--references 8] [--models 64] [--alone 8]
[--audits 100] [--cases CASE ...] [--quick] [--out FOLDER]``. On digits a
tenth of the training rows, and then a class, is erased from the default network, and the deletion audited beside
references that are retrained for it. What the references cost is the time of training them in the same way by
themselves, before the audit and after; an audit may take 1.5 times as long. The time of one ``fit_many`` of all of them
stands beside it. The same audit beside references that are handed in shows what it costs where many requests share a
set. Then as many shadow networks as an attack needs, trained together and one after the other: eight times as fast is
wanted. Times are of the wall clock and of the processor. Set OMP_NUM_THREADS for the number of threads.

Then models of which it is known whether they forgot are audited, as many as ``--audits``: retrained ones, of which 95
in 100 should pass, and models that forgot nothing, of which 95 in 100 should fail.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from benchmarks import _calibration, _options
from benchmarks.shadow import CLOCKS, lines, together_and_alone
from sk_unlearn import UnlearnableClassifier, references
from sk_unlearn.inspection import audit
from sk_unlearn.references.retrained import Rows, train_references

Seconds = dict[str, float]
PARTS = ("cost", "shadows", "calibration")
REQUESTS = ("10 %", "class 3")


def timed(work: Callable[[], Any]) -> tuple[Any, Seconds]:
    started = {name: clock() for name, clock in CLOCKS.items()}
    result = work()
    return result, {name: clock() - started[name] for name, clock in CLOCKS.items()}


def cost(request: str, n_references: int, n_rows: int) -> dict[str, Any]:
    """Return the seconds of one audit, of its references alone, and of audits beside references that are there."""
    X, y = load_digits(return_X_y=True)
    train, test = slice(0, n_rows), slice(n_rows, 2 * n_rows)
    gone = y[train] == 3 if request == "class 3" else np.arange(n_rows) < n_rows // 10
    erased, kept = (X[train][gone], y[train][gone]), (X[train][~gone], y[train][~gone])
    before = UnlearnableClassifier(random_state=0).fit(X[train], y[train])
    after = copy.deepcopy(before).forget(*erased)

    def judged(**given: Any) -> Any:
        return audit(after, *erased, X[test], y[test], before=before, n_references=n_references, **given)

    def retrained() -> Any:
        return train_references(after, Rows(*kept), seeds)

    references.fit_many(UnlearnableClassifier(), X[:50], y[:50], seeds=[0, 1])  # warm up
    seeds = list(range(n_references))
    (models, *_), first = timed(retrained)
    report, whole = timed(judged)
    _, second = timed(retrained)
    _, at_once = timed(lambda: references.fit_many(UnlearnableClassifier(), *kept, seeds=seeds))
    _, handed_in = timed(lambda: judged(references=models))
    with tempfile.TemporaryDirectory() as folder:
        references.save(models, folder, X_del=erased[0], y_del=erased[1], key=after.receipt_key_)
        _, saved = timed(lambda: judged(references=folder))
    return {
        "request": request, "verdict": report.verdict, "audit": whole, "handed in": handed_in, "folder": saved,
        "at once": at_once, "references": {name: (first[name] + second[name]) / 2 for name in CLOCKS},
    }  # fmt: skip


def told(found: dict[str, Any]) -> str:
    def each(clock: str) -> str:
        one = {name: found[name][clock] for name in ("references", "at once", "audit", "handed in", "folder")}
        return (
            f"{clock}: references {one['references']:.1f} s, in one stack {one['at once']:.1f} s; "
            f"audit {one['audit']:.1f} s ({one['audit'] / one['references']:.2f} times), beside references that are "
            f"handed in {one['handed in']:.1f} s, from a folder {one['folder']:.1f} s"
        )

    return "\n  ".join([f"{found['request']} ({found['verdict']})", *map(each, CLOCKS)])


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=8)
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--alone", type=int, default=8)
    parser.add_argument("--audits", type=int, default=100)
    parser.add_argument("--cases", nargs="*", choices=_calibration.CASES, default=list(_calibration.CASES))
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="few rows and models, to see that it runs")
    parser.add_argument("--out", type=Path, help="folder for a JSON file")
    options = parser.parse_args(arguments)
    n_rows, n_half = 898, None
    if options.quick:
        options.references, options.models, options.alone, n_rows, n_half = 3, 4, 2, 100, 100
        options.audits, options.cases = 2, ["blobs, a class"]
    print(f"{torch.get_num_threads()} threads, {options.references} references", flush=True)
    found: dict[str, Any] = {}
    for request in REQUESTS[-1 if options.quick else 0 :] if "cost" in options.parts else ():
        found.setdefault("costs", []).append(cost(request, options.references, n_rows))
        print(told(found["costs"][-1]), flush=True)
    if "shadows" in options.parts:
        found["shadows"] = together_and_alone(options.models, options.alone, n_rows=n_half)
        print("\n  ".join([f"{options.models} shadow networks", *lines(found["shadows"], options.models)]), flush=True)
    for case in options.cases if "calibration" in options.parts else ():
        found.setdefault("calibration", []).append(_calibration.judged(case, options.audits, options.references))
        print(_calibration.told(found["calibration"][-1]), flush=True)
    _options.write(options, "audit", found)
    return found


if __name__ == "__main__":
    main()
