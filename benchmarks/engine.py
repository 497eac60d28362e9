# Run: python -m benchmarks.engine
"""The same cubic step from a dense Hessian and from a Krylov space: difference and seconds.

Usage: ``python -m benchmarks.engine [--repeats 5] [--device cpu]``. Digits, MLP 64-32-10 (d = 2,410), one class erased,
``CuReNU(L=1.0, max_steps=1)``. Medians; dense and Krylov alternate in one process.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners import CuReNU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    X, y = load_digits(return_X_y=True)
    X = X / 16
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).double(),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        optimizer__weight_decay=1e-4,
        lr=3e-3,
        max_epochs=15,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    )
    fitted = UnlearnableClassifier(net, random_state=0, device=options.device).fit(X, y)
    w = flat_parameters(fitted.net_)

    def run(solver: str, n_products: int) -> tuple[float, torch.Tensor]:
        est = copy.deepcopy(fitted).set_params(
            unlearner=CuReNU(L=1.0, solver=solver, n_products=n_products, max_steps=1)
        )
        start = time.perf_counter()
        est.forget(X[y == 3])
        return time.perf_counter() - start, flat_parameters(est.net_) - w

    run("krylov", 10)  # warm up
    candidates = [("dense", 10), ("krylov", 10), ("krylov", 20), ("krylov", 30)]
    runs: dict[tuple[str, int], list[tuple[float, torch.Tensor]]] = {c: [] for c in candidates}
    for _ in range(options.repeats):
        for candidate in candidates:
            runs[candidate].append(run(*candidate))
    exact = runs["dense", 10][0][1]
    dense_seconds = statistics.median(seconds for seconds, _ in runs["dense", 10])
    print(f"{'solver':8s} {'products':>8s} {'seconds':>9s} {'dense / this':>13s} {'relative difference':>20s}")
    for (solver, n_products), results in runs.items():
        seconds = statistics.median(s for s, _ in results)
        difference = float((results[0][1] - exact).norm() / exact.norm())
        count = len(w) if solver == "dense" else n_products
        print(f"{solver:8s} {count:8d} {seconds:9.4f} {dense_seconds / seconds:13.1f} {difference:20.1e}")


if __name__ == "__main__":
    main()
