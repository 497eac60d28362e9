# Run: python -m benchmarks.outside
"""Rows that stay outside memory: under a limit on the address space, and beside rows in memory where both fit.

Usage: ``python -m benchmarks.outside [--rows 300000] [--columns 1000] [--net mlp] [--kinds npy parquet dataset]``. The
limit (``RLIMIT_AS``) is a quarter of the size of all rows, beyond what the process takes before it opens the file. That
includes what pyarrow sets aside when it has read a few rows: a gigabyte of address space, most of it unused. Times are
of the processor, without a limit, on a tenth of the rows, the best of three. A data set reads a row of the file for
every item under the limit, and is of tensors in memory where times are compared. Linux only; Parquet needs ``pyarrow``.
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
import torch
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from sk_unlearn import MLPNetClassifier, UnlearnableClassifier
from sk_unlearn.rows import open_rows

KINDS = ("npy", "parquet", "dataset")
_BLOCK_ROWS = 5000
_REPEATS = 3


class _Mlp(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features_in, 16), nn.Tanh(), nn.Linear(16, n_outputs))

    def forward(self, X):
        return self.body(X)


class _RowsOfFile(Dataset):
    """Reads each item from a file of numbers."""

    def __init__(self, path, n_rows, n_columns):
        self.path, self.shape = path, (n_rows, n_columns)
        self.place = path.stat().st_size - 4 * n_rows * n_columns

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, i):
        n = self.shape[1]
        return torch.from_numpy(np.fromfile(self.path, np.float32, n, offset=self.place + 4 * n * i))


def _estimator(net):
    if net == "built-in":
        return UnlearnableClassifier(MLPNetClassifier(max_epochs=1), random_state=0)
    settings = {"max_epochs": 1, "batch_size": 256, "lr": 0.1, "train_split": None, "verbose": 0}
    return UnlearnableClassifier(NeuralNetClassifier(_Mlp, criterion=nn.CrossEntropyLoss, **settings), random_state=0)


def _write(folder, kinds, n_rows, n_columns):
    """Write the same random rows in files of NumPy's and Parquet's, a few at a time, and their targets."""
    rng, y = np.random.default_rng(0), np.empty(n_rows, dtype=np.int64)
    rows = np.lib.format.open_memmap(folder / "rows.npy", mode="w+", dtype=np.float32, shape=(n_rows, n_columns))
    writer = None
    for start in range(0, n_rows, _BLOCK_ROWS):
        block = rng.random((min(_BLOCK_ROWS, n_rows - start), n_columns), dtype=np.float32)
        rows[start : start + _BLOCK_ROWS], y[start : start + _BLOCK_ROWS] = block, block[:, 0] > 0.5
        if "parquet" in kinds:
            import pyarrow as pa
            from pyarrow import parquet

            table = pa.table({f"x{k}": column for k, column in enumerate(np.ascontiguousarray(block.T))})
            writer = parquet.ParquetWriter(folder / "rows.parquet", table.schema) if writer is None else writer
            writer.write_table(table)
    if writer is not None:
        writer.close()
    np.save(folder / "y.npy", y)
    return y


def _opened(kind, folder, n_rows, n_columns):
    if kind == "dataset":
        return open_rows(_RowsOfFile(folder / "rows.npy", n_rows, n_columns))
    return open_rows(folder / f"rows.{kind}")


def _steps(net, X, y, gone):
    """Return the seconds of the processor of fit, forget and predict."""
    est, seconds = _estimator(net), []
    X = X() if callable(X) else X
    for step in (lambda: est.fit(X, y), lambda: est.forget(gone), lambda: est.predict(X[len(gone) :])):
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)
    return seconds


def _few_in_parquet(few):
    """Read some rows from a small Parquet file, so that pyarrow has what it keeps."""
    import pyarrow as pa
    from pyarrow import parquet

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "few.parquet"
        parquet.write_table(pa.table({f"x{k}": column for k, column in enumerate(np.ascontiguousarray(few.T))}), path)
        open_rows(path)


def _under_a_limit(net, kind, folder, n_rows, n_columns):
    """Fit, forget and predict in this process, in a quarter of what the rows would take."""
    rng = np.random.default_rng(1)
    few = rng.random((300, n_columns), dtype=np.float32)
    _steps(net, few, few[:, 0] > 0.5, few[:2])  # so that everything that is imported on the way is there
    y, gone = np.load(folder / "y.npy"), _opened("npy", folder, n_rows, n_columns)[:2].toarray()
    if kind == "parquet":
        _few_in_parquet(few)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + 4 * n_rows * n_columns // 4
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    start = time.process_time()
    rows = _opened(kind, folder, n_rows, n_columns)
    opening = time.process_time() - start
    fit, forget, predict = _steps(net, rows, y, gone)
    print(f"{opening:.1f} s open, {fit:.1f} s fit, {forget:.1f} s forget, {predict:.1f} s predict")


def _compare(args, folder):
    """Print how long each kind takes beside rows in memory, on a tenth of the rows."""
    n_rows = args.rows // 10
    y = _write(folder, args.kinds, n_rows, args.columns)
    memory = np.load(folder / "rows.npy")
    tensors = TensorDataset(torch.from_numpy(memory.copy()), torch.from_numpy(y))
    forms = {
        "in memory": memory,
        "npy": lambda: open_rows(folder / "rows.npy"),
        "parquet": lambda: open_rows(folder / "rows.parquet"),
        "dataset": lambda: open_rows(tensors),
    }
    asked = {name: forms[name] for name in ("in memory", *args.kinds)}
    _steps(args.net, memory[:300], y[:300], memory[:2])
    # In turns, so that what else runs on the machine strikes all of them alike.
    runs = [{name: _steps(args.net, rows, y, memory[:2]) for name, rows in asked.items()} for _ in range(_REPEATS)]
    best = {name: np.min([run[name] for run in runs], axis=0) for name in asked}
    for kind in args.kinds:
        ratios = best[kind] / best["in memory"]
        print(f"{kind:8} / in memory: fit {ratios[0]:.2f}, forget {ratios[1]:.2f}, predict {ratios[2]:.2f},", end=" ")
        print(f"all {best[kind].sum() / best['in memory'].sum():.2f}")
    if "parquet" in args.kinds:
        start = time.process_time()
        open_rows(folder / "rows.parquet")
        print(f"parquet is decoded once, in {time.process_time() - start:.2f} s of the processor, for {n_rows} rows")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--columns", type=int, default=1000)
    parser.add_argument("--net", choices=["mlp", "built-in"], default="mlp")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--limited", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = 4 * args.rows * args.columns
    if args.limited:
        _under_a_limit(args.net, args.kinds[0], args.limited, args.rows, args.columns)
        return
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, args.kinds, args.rows, args.columns)
        for kind in args.kinds:
            arguments = ["--rows", str(args.rows), "--columns", str(args.columns), "--net", args.net, "--kinds", kind]
            command = [sys.executable, "-m", "benchmarks.outside", *arguments, "--limited", name]
            done = subprocess.run(command, text=True, capture_output=True)
            failed += [kind] * (done.returncode != 0)
            said = done.stderr.strip()[-200:] if done.returncode else done.stdout.strip()
            print(f"{kind:8} {size / 1e6:.0f} MB under {size / 4e6:.0f} MB: {said}")
        _compare(args, folder)
    if failed:
        sys.exit(f"Under the limit these failed: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
