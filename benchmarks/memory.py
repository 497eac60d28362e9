"""Peak memory of one step on a net of ten million parameters, and of whole requests beside what was forecast.

Usage: ``python -m benchmarks.memory [--width 3150] [--products 10]`` for the step, in vectors as long as the
parameters; ``python -m benchmarks.memory --requests`` for whole requests, beside ``extra["memory_forecast"]`` of their
report. Every measurement is a process of its own: the rise of the peak resident set over what is resident before, with
net and rows at hand (and w and the gradient, for the step). "Beyond one chunk" is less what a linearisation and one
Hessian product take by themselves. Memory that is freed goes back to the system at once there
(``MALLOC_MMAP_THRESHOLD_``). Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.solvers import KrylovCubicModel, lanczos, solve_gradient_descent
from sk_unlearn.unlearners import CuReNU


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def _rise(step: Callable[[], object]) -> int:
    """Return by how much the peak of the resident set rises in a step, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident now
    before = _resident("VmRSS")
    kept = step()
    rise = _resident("VmHWM") - before
    del kept
    return rise


def measure(what: str, width: int, n_products: int) -> None:
    """Print, for one kind of step, d, the rise of the step and that of one chunk, in vectors of length d."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    net = NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, verbose=0).initialize()
    rng = np.random.default_rng(0)
    risk = EmpiricalRisk(net, rng.normal(size=(64, 64)).astype(np.float32), rng.integers(0, 10, 64))
    w = risk.parameters()
    risk.chunk_size  # noqa: B018  chosen before anything is measured
    gradient = risk.gradient(w)

    def chunk() -> object:
        local = risk.linearise(w)
        return local, local.hessian(gradient)

    def krylov() -> object:
        local = risk.linearise(w)
        return KrylovCubicModel(lanczos(local.hessian, gradient, n_products)).solve(1.0)

    def gradient_descent() -> object:
        local = risk.linearise(w)
        return solve_gradient_descent(local.hessian, gradient, 1.0, n_steps=n_products, learning_rate=1e-3)

    steps = {"chunk": chunk, "krylov": krylov, "gradient_descent": gradient_descent}
    chunk()  # libraries allocate workspaces once
    vector = w.numel() * w.element_size()
    print(w.numel(), _rise(steps[what]) / vector)


# Solver, width of the two hidden layers, rows: parameters that outweigh the rows' graphs, and the other way round.
_REQUESTS = (
    ("krylov", 1700, 200),
    ("gradient_descent", 1700, 200),
    ("krylov", 500, 3000),
    ("gradient_descent", 500, 3000),
    ("dense", 20, 200),
)


def measure_request(solver: str, width: int, n_rows: int, n_products: int) -> None:
    """Print, for one request, the number of parameters, the rise of the peak, and what was forecast, in bytes."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    module = nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 10))
    net = NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, train_split=None, max_epochs=1, batch_size=256, lr=0.05, verbose=0
    )
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n_rows, 64)).astype(np.float32), rng.integers(0, 10, n_rows)
    est = UnlearnableClassifier(net, CuReNU(solver=solver, n_products=n_products), random_state=0).fit(X, y)
    est.forget(X[:20])  # libraries allocate workspaces once
    rise = _rise(lambda: est.forget(X[20:40]))
    report = est.unlearning_report_
    d = sum(p.numel() for p in est.net_.module_.parameters())
    print(d, rise, report.extra["memory_forecast"][report.solver])


def _measured(environment: dict[str, str], *arguments: str) -> list[str]:
    """Return what a process of its own prints."""
    command = [sys.executable, "-m", "benchmarks.memory", *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()


def _compare_requests(environment: dict[str, str], n_products: int) -> None:
    print("| solver | parameters | rows | measured, MB | forecast, MB | forecast / measured |")
    print("|---|---|---|---|---|---|")
    for solver, width, n_rows in _REQUESTS:
        arguments = ["--request", solver, str(width), str(n_rows), "--products", str(n_products)]
        d, rise, forecast = map(int, _measured(environment, *arguments))
        row = (solver, f"{d:,}", f"{n_rows:,}", f"{rise / 1e6:.0f}", f"{forecast / 1e6:.0f}", f"{forecast / rise:.2f}")
        print("|", " | ".join(row), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=3150)
    parser.add_argument("--products", type=int, default=10)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--requests", action="store_true", help="whole requests, beside their forecast")
    parser.add_argument("--request", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.width, options.products)
        return
    if options.request:
        solver, width, n_rows = options.request
        measure_request(solver, int(width), int(n_rows), options.products)
        return
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    if options.requests:
        _compare_requests(environment, options.products)
        return
    rises = {}
    for what in ("chunk", "krylov", "gradient_descent"):
        arguments = ["--measure", what, "--width", str(options.width), "--products", str(options.products)]
        d, rises[what] = _measured(environment, *arguments)
    print(f"d = {int(d):,}; in vectors of length d")
    print(f"{'step':18s} {'peak':>6s} {'beyond one chunk':>17s} {'goal':>5s}")
    goals = {"chunk": "", "krylov": str(options.products + 6), "gradient_descent": "4"}  # what a step is to keep to
    for what, rise in rises.items():
        beyond = "" if what == "chunk" else f"{float(rise) - float(rises['chunk']):.2f}"
        print(f"{what:18s} {float(rise):6.2f} {beyond:>17s} {goals[what]:>5s}")


if __name__ == "__main__":
    main()
