# Run: python -m benchmarks.one_row
"""Forget one row of few and of many: seconds and extra memory must not grow with the training set.

Usage: ``python -m benchmarks.one_row [--rows 10000 1000000] [--repeats 15]``. Synthetic table of 20 features and 5
classes, the built-in network with two epochs on CPU, one row a request. The first request builds, once, the index by
which rows are found; it is shown apart. Time: processor time of one thread, medians over the requests after it;
"without steps" with an unlearner that takes one gradient step, so that all else is seen. Memory: by how much the peak
resident set rose in a request, the median. Linux only.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.estimators.default_net import default_net
from sk_unlearn.unlearners import Status, Unlearner, UnlearningProblem, UnlearningResult


class GradientStep(Unlearner):
    """As little as an unlearner can do."""

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        w = problem.parameters - 0.01 * (problem.gradient - problem.residual)
        return UnlearningResult(w, Status.COMPLETED, "one step", gradient=problem.gradient, target=problem.residual)


def _resident(field: str) -> float:
    """Return a line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _measured(est: UnlearnableClassifier, row: np.ndarray) -> tuple[float, float]:
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident now
    before = _resident("VmRSS")
    start = time.process_time()
    est.forget(row)
    return time.process_time() - start, _resident("VmHWM") - before


def one_by_one(est: UnlearnableClassifier, X: np.ndarray, repeats: int) -> tuple[float, float, float]:
    """Forget the first rows of X one by one; return the seconds of the first, the median ones of the others, and MiB.

    Memory is what the median request took at its height beyond what was there before it.
    """
    first, *later = [_measured(est, X[k : k + 1]) for k in range(repeats + 1)]
    seconds, extra = (statistics.median(each) for each in zip(*later, strict=True))
    return first[0], seconds, extra


def fitted_table(n: int) -> tuple[UnlearnableClassifier, np.ndarray]:
    """Fit the built-in network for two epochs to a synthetic table of n rows; return it and the rows."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 20)).astype(np.float32)
    y = (X @ rng.normal(size=(20, 5))).argmax(1)
    net = default_net(X, y, None, classifier=True).set_params(max_epochs=2, batch_size=1024)
    return UnlearnableClassifier(net, random_state=0).fit(X, y), X


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'rows':>9s} {'unlearner':>14s} {'first, ms':>10s} {'median, ms':>11s} {'peak extra, MiB':>16s}")
    for n in options.rows:
        fitted, X = fitted_table(n)
        for name, unlearner in (("default", None), ("without steps", GradientStep())):
            est = copy.deepcopy(fitted).set_params(unlearner=unlearner)
            first, seconds, extra = one_by_one(est, X, options.repeats)
            print(f"{n:9d} {name:>14s} {1e3 * first:10.1f} {1e3 * seconds:11.1f} {extra:16.2f}")


if __name__ == "__main__":
    main()
