"""Forget one row of few and of many: seconds and extra memory must not grow with the training set.

Usage: ``python -m benchmarks.one_row [--rows 10000 1000000] [--repeats 15]``. Synthetic table of 20 features and 5
classes, the built-in network with two epochs on CPU, one row a request. The first request builds, once, the index by
which rows are found; it is shown apart. Seconds: medians over the requests after it, and how much of each the
unlearner's steps took. Memory: by how much the peak resident set rose in a request, the most of all. Linux only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.estimators.default_net import default_net


def _resident(field: str) -> float:
    """Return a line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _measured(est: UnlearnableClassifier, row: np.ndarray) -> tuple[float, float]:
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident now
    before = _resident("VmRSS")
    start = time.perf_counter()
    est.forget(row)
    return time.perf_counter() - start, _resident("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    print(f"{'rows':>9s} {'first, ms':>10s} {'median, ms':>11s} {'of it engine':>13s} {'peak extra, MiB':>16s}")
    for n in options.rows:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(n, 20)).astype(np.float32)
        y = (X @ rng.normal(size=(20, 5))).argmax(1)
        net = default_net(X, y, None, classifier=True).set_params(max_epochs=2, batch_size=1024)
        est = UnlearnableClassifier(net, random_state=0).fit(X, y)
        first, *later = [_measured(est, X[k : k + 1]) for k in range(options.repeats + 1)]
        engine = [report.trace[-1]["seconds"] if report.trace else 0.0 for report in est.unlearning_history_[1:]]
        print(
            f"{n:9d} {1e3 * first[0]:10.1f} {1e3 * statistics.median(s for s, _ in later):11.1f} "
            f"{1e3 * statistics.median(engine):13.1f} {max(m for _, m in later):16.2f}"
        )


if __name__ == "__main__":
    main()
