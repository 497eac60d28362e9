# Run: python -m benchmarks.memory
"""Peak memory of one step on a net of ten million parameters, and of whole requests beside what was forecast.

Usage: ``python -m benchmarks.memory [--width 3150] [--products 10]`` for the step, in vectors as long as the
parameters; ``python -m benchmarks.memory --requests`` for whole requests, beside ``extra["memory_forecast"]`` of their
report; ``python -m benchmarks.memory --stages`` for the peak of a default request on a net of 13 million parameters
beside that of its ``fit``, a stage of the engine each, net and all that is kept counted in. Every measurement is a
process of its own: the rise of the peak resident set over what is resident before, with net and rows at hand (and w and
the gradient, for the step). "Beyond one chunk" is less what a linearisation and one Hessian product take by themselves.
Memory that is freed goes back to the system at once there (``MALLOC_MMAP_THRESHOLD_``). Linux only.
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


# Rows, epochs and batch size with which a default request comes to the stage, and how many rows it takes out.
_STAGES = {
    "training anew": (256, 2, 64, 20),
    "output layer": (2200, 1, 256, 20),
    "whole network": (64, 20, 8, 20),
}


def measure_stage(stage: str, optimizer: str, width: int) -> None:
    """Print d, and the bytes of the peaks of fit and of one request over what was there before there was a net."""
    n_rows, n_epochs, batch_size, n_erased = _STAGES[stage]
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n_rows, 16)).astype(np.float32), rng.integers(0, 10, n_rows)

    def estimator(n_hidden: int) -> UnlearnableClassifier:
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Linear(16, n_hidden), nn.Tanh(), nn.Linear(n_hidden, n_hidden), nn.Tanh(), nn.Linear(n_hidden, 10)
        )
        net = NeuralNetClassifier(
            module, criterion=nn.CrossEntropyLoss, optimizer=getattr(torch.optim, optimizer), train_split=None,
            max_epochs=n_epochs, batch_size=batch_size, lr=1e-3, verbose=0,
        )  # fmt: skip
        return UnlearnableClassifier(net, random_state=0)

    estimator(8).fit(X, y).forget(X[:n_erased])  # libraries allocate workspaces once
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    est = estimator(width).fit(X, y)
    of_fit = _resident("VmHWM") - before
    Path("/proc/self/clear_refs").write_text("5")
    est.forget(X[:n_erased])
    of_request = _resident("VmHWM") - before
    blocks = {record.get("block", "whole network") for record in est.unlearning_report_.trace}
    came_to = "training anew" if est.unlearning_report_.extra["renewal"] != "no" else "output layer"
    came_to = "whole network" if "whole network" in blocks else came_to
    assert came_to == stage, f"the request came to {came_to}"
    print(sum(p.numel() for p in est.net_.module_.parameters()), of_fit, of_request)


def _compare_stages(environment: dict[str, str], width: int) -> None:
    print("| stage | optimizer | fit, MB | request, MB | in vectors | request / fit |")
    print("|---|---|---|---|---|---|")
    for stage in _STAGES:
        for optimizer in ("Adam", "SGD"):
            d, fit, request = map(int, _measured(environment, "--stage", stage, optimizer, "--width", str(width)))
            vectors = f"{fit / d / 4:.1f}, {request / d / 4:.1f}"
            row = (stage, optimizer, f"{fit / 1e6:.0f}", f"{request / 1e6:.0f}", vectors, f"{request / fit:.2f}")
            print("|", " | ".join(row), "|", flush=True)


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
    parser.add_argument("--stages", action="store_true", help="peaks of requests, beside that of training")
    parser.add_argument("--stage", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        measure_stage(*options.stage, options.width)
        return
    if options.measure:
        measure(options.measure, options.width, options.products)
        return
    if options.request:
        solver, width, n_rows = options.request
        measure_request(solver, int(width), int(n_rows), options.products)
        return
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    if options.stages:
        _compare_stages(environment, 3590 if options.width == parser.get_default("width") else options.width)
        return
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
