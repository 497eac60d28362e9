# Run: python -m benchmarks.processes
"""Two processes that share rows beside one that has them all, where curvature products rule.

Usage: ``python -m benchmarks.processes [--rows 4096] [--width 512] [--repeats 5] [--rounds 3]``. Each round starts one
process, and two by ``torchrun`` with gloo, one thread each, on the same rows: a pass of training, and requests of two
cubic steps of ten products each over all rows. Medians of wall clock over all requests; and since other work on the
machine enters that, the load, and the processor time of the busier process, which it does not enter.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.distributed import data_parallel, gather, is_active
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners import CuReNU

_COLUMNS, _CLASSES = 784, 10


class _Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(_COLUMNS, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, _CLASSES)
        )

    def forward(self, X):
        return self.body(X)


def _timed(action):
    """Return wall clock and the processor time of the busiest process."""
    wall, busy = time.perf_counter(), time.process_time()
    action()
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    return wall, max(gather(busy)) if is_active() else busy


def _work(args):
    """Fit and forget in this process, alone or with the others; process 0 prints what it took."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(args.rows, _COLUMNS)).astype(np.float32)
    y = rng.integers(0, _CLASSES, args.rows)
    settings = {"lr": 0.05, "max_epochs": 1, "batch_size": 512, "train_split": None, "verbose": 0}
    net = NeuralNetClassifier(_Mlp, module__width=args.width, criterion=nn.CrossEntropyLoss, **settings)
    unlearner = CuReNU(50.0, n_products=10, max_steps=2)
    with data_parallel() if "WORLD_SIZE" in os.environ else nullcontext((0, 1)) as (rank, size):
        mine = np.array_split(np.arange(args.rows), size)[rank]
        est = UnlearnableClassifier(net, unlearner, random_state=0)
        est.fit(X[mine][:32], y[mine][:32], sample_id=mine[:32])  # what is imported on the way
        told = {"fit": [_timed(lambda: est.fit(X[mine], y[mine], sample_id=mine))], "forget": []}
        for k in range(args.repeats + 1):
            took = _timed(lambda k=k: est.forget(sample_id=np.arange(4 * k, 4 * k + 4)))
            told["forget"] += [took] if k else []  # the first one takes digests of all rows, once
        told["norm"] = float(flat_parameters(est.net_).norm())
    if rank == 0:
        print(json.dumps(told), flush=True)


def _run(args, n_processes):
    given = ["--rows", str(args.rows), "--width", str(args.width), "--repeats", str(args.repeats), "--work"]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n_processes)]
    command = [sys.executable, *(start if n_processes > 1 else []), "-m", "benchmarks.processes", *given]
    done = subprocess.run(command, text=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        _work(args)
        return
    seen, loads = {1: [], 2: []}, []
    for _ in range(args.rounds):
        for n in seen:
            loads.append(os.getloadavg()[0])
            seen[n].append(_run(args, n))
    print(f"{args.rows} rows, load of the machine {min(loads):.1f} to {max(loads):.1f} on {os.cpu_count()} cores")
    for verb in ("fit", "forget"):
        wall, busy = (
            [statistics.median(took[k] for run in seen[n] for took in run[verb]) for n in seen] for k in (0, 1)
        )
        print(
            f"{verb:7} wall {wall[0]:6.2f} s in one, {wall[1]:6.2f} s in two: {wall[0] / wall[1]:.2f} x; "
            f"processor {busy[0]:6.2f} s in one, {busy[1]:6.2f} s in the busier of two: {busy[0] / busy[1]:.2f} x"
        )
    apart = abs(seen[1][0]["norm"] - seen[2][0]["norm"]) / seen[1][0]["norm"]
    print(f"norms of the parameters differ by {apart:.1e}")


if __name__ == "__main__":
    main()
