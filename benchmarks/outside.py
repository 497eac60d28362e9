"""Rows that stay in a file: under a limit on the address space, and beside rows in memory where both fit.

Usage: ``python -m benchmarks.outside [--rows 300000] [--columns 1000] [--net mlp]``. The limit (``RLIMIT_AS``) is
what the process takes before it opens the file, and a quarter of the file's size. Times are of the processor, without a
limit, on a tenth of the rows. Linux only.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn import MLPNetClassifier, UnlearnableClassifier
from sk_unlearn.rows import open_rows


class _Mlp(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features_in, 16), nn.Tanh(), nn.Linear(16, n_outputs))

    def forward(self, X):
        return self.body(X)


def _estimator(net):
    if net == "built-in":
        return UnlearnableClassifier(MLPNetClassifier(max_epochs=1), random_state=0)
    settings = {"max_epochs": 1, "batch_size": 256, "lr": 0.1, "train_split": None, "verbose": 0}
    return UnlearnableClassifier(NeuralNetClassifier(_Mlp, criterion=nn.CrossEntropyLoss, **settings), random_state=0)


def _write(path, n_rows, n_columns):
    """Write random rows a few at a time and return their targets."""
    rng, y = np.random.default_rng(0), np.empty(n_rows, dtype=np.int64)
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_rows, n_columns))
    for start in range(0, n_rows, 5000):
        block = rng.random((min(5000, n_rows - start), n_columns), dtype=np.float32)
        rows[start : start + 5000], y[start : start + 5000] = block, block[:, 0] > 0.5
    return y


def _steps(net, X, y, gone):
    """Return the seconds of the processor of fit, forget and predict."""
    est, seconds = _estimator(net), []
    for step in (lambda: est.fit(X, y), lambda: est.forget(gone), lambda: est.predict(X)):
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)
    return seconds


def _under_a_limit(net, path, size):
    """Fit, forget and predict in this process, in a quarter of the size of the file."""
    rng = np.random.default_rng(1)
    rows = open_rows(path)
    few = rng.random((300, rows.shape[1]), dtype=np.float32)
    _steps(net, few, few[:, 0] > 0.5, few[:2])  # so that everything that is imported on the way is there
    y, gone = np.load(path.with_suffix(".y.npy")), rows[:2].toarray()
    del rows
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + size // 4, used + size // 4))
    fit, forget, predict = _steps(net, open_rows(path), y, gone)
    print(f"{fit:.1f} s fit, {forget:.1f} s forget, {predict:.1f} s predict")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--columns", type=int, default=1000)
    parser.add_argument("--net", choices=["mlp", "built-in"], default="mlp")
    parser.add_argument("--limited", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = 4 * args.rows * args.columns
    if args.limited:
        _under_a_limit(args.net, args.limited, size)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path.with_suffix(".y.npy"), _write(path, args.rows, args.columns))
        arguments = ["--rows", str(args.rows), "--columns", str(args.columns), "--net", args.net, "--limited", path]
        done = subprocess.run([sys.executable, "-m", "benchmarks.outside", *arguments], text=True, capture_output=True)
        print(f"{size / 1e6:.0f} MB under {size / 4e6:.0f} MB: ", done.stdout.strip() or done.stderr.strip()[-200:])
        y = _write(path, args.rows // 10, args.columns)
        memory = np.load(path)
        _steps(args.net, memory[:300], y[:300], memory[:2])
        in_memory = np.array(_steps(args.net, memory, y, memory[:2]))
        mapped = np.array(_steps(args.net, np.load(path, mmap_mode="r"), y, memory[:2]))
        print("mapped / in memory, fit, forget, predict:", *np.round(mapped / in_memory, 2))


if __name__ == "__main__":
    main()
