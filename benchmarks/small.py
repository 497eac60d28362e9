# Run: python -m benchmarks.small
"""What forgetting costs small and half-trained networks: retained accuracy beside that of retraining, at its worst.

Usage: ``python -m benchmarks.small [--problems 300] [--first 0] [--methods default,no-op]``. Each problem is drawn: 60
to 600 rows of a table that ships with scikit-learn or of random clusters, a perceptron of one to three layers, its
optimiser and 3 to 40 epochs, and rows to erase: one, some, a tenth, a cluster, most of a class or all of it. Printed
are the worst problems by accuracy on retained rows, retrained less forgetful in points, and quantiles over all. Of two
retrained models, one of them from the same seed, the lower one counts: half-trained networks differ by many points, and
retraining is no better than that.
"""

from __future__ import annotations

import argparse
import copy
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_blobs, make_moons
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.unlearners import Retrain

TABLES = {"iris": load_iris, "wine": load_wine, "breast cancer": load_breast_cancer, "digits": load_digits}
OPTIMISERS = {
    "adam": (torch.optim.Adam, 1e-2, {}),
    "adam, decay": (torch.optim.Adam, 3e-3, {"optimizer__weight_decay": 1e-3}),
    "sgd, momentum": (torch.optim.SGD, 3e-2, {"optimizer__momentum": 0.9}),
    "adamw": (torch.optim.AdamW, 5e-3, {"optimizer__weight_decay": 1e-2}),
}


class Perceptron(nn.Module):
    """Layers of one width."""

    def __init__(self, n_features_in: int, n_outputs: int, width: int = 16, depth: int = 1, unit: str = "ReLU") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in in (n_features_in, *[width] * (depth - 1)):
            layers += [nn.Linear(n_in, width), getattr(nn, unit)()]
        self.body = nn.Sequential(*layers, nn.Linear(width, n_outputs))

    def forward(self, X: torch.Tensor) -> Any:
        return self.body(X)


def rows(rng: np.random.Generator) -> tuple[str, NDArray[np.float32], NDArray[np.int64]]:
    name = str(rng.choice([*TABLES, "blobs", "moons"]))
    n = int(rng.integers(60, 601))
    if name == "moons":
        X, y = make_moons(n, noise=float(rng.uniform(0.05, 0.4)), random_state=int(rng.integers(2**31)))
    elif name == "blobs":
        X, y = make_blobs(
            n, centers=int(rng.integers(2, 6)), n_features=int(rng.integers(2, 12)),
            cluster_std=float(rng.uniform(1, 6)), random_state=int(rng.integers(2**31)),
        )  # fmt: skip
    else:
        X, y = TABLES[name](return_X_y=True)
        pick = rng.permutation(len(X))[:n]
        X, y = X[pick], y[pick]
    X = StandardScaler().fit_transform(X).astype(np.float32)
    _, first = np.unique(X, axis=0, return_index=True)
    _, y = np.unique(y[first], return_inverse=True)
    return name, X[first], y.astype(np.int64)


def net(rng: np.random.Generator) -> tuple[str, NeuralNetClassifier]:
    key, epochs = str(rng.choice([*OPTIMISERS])), int(np.exp(rng.uniform(np.log(3), np.log(40))).round())
    optimizer, rate, settings = OPTIMISERS[key]
    schedule = LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=epochs)
    module = {"width": int(rng.choice([4, 8, 16, 32])), "depth": int(rng.integers(1, 4))}
    module["unit"] = str(rng.choice(["ReLU", "Tanh", "SiLU"]))
    built = NeuralNetClassifier(
        Perceptron, criterion=nn.CrossEntropyLoss, optimizer=optimizer, lr=rate, max_epochs=epochs,
        batch_size=int(rng.choice([8, 16, 32, 64])), iterator_train__shuffle=True, train_split=None, verbose=0,
        callbacks=[("schedule", schedule)] if rng.random() < 0.5 else [],
        **settings, **{f"module__{name}": value for name, value in module.items()},
    )  # fmt: skip
    return f"{key}, {epochs} epochs", built


def request(X: NDArray[Any], y: NDArray[Any], rng: np.random.Generator) -> tuple[str, NDArray[np.int64]]:
    name = str(rng.choice(["one row", "1 %", "10 %", "30 %", "cluster", "most of a class", "class"]))
    order, n = rng.permutation(len(X)), len(X)
    if name == "one row":
        return name, order[:1]
    if name.endswith("%"):
        return name, order[: max(1, n * int(name[:-2]) // 100)]
    if name == "cluster":
        return name, np.argsort(((X - X[order[0]]) ** 2).sum(1))[: n // 10]
    members = rng.permutation(np.flatnonzero(y == rng.integers(y.max() + 1)))
    return name, members if name == "class" else members[: int(0.8 * len(members))]


def problem(seed: int, methods: list[str]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    table, X, y = rows(rng)
    described, built = net(rng)
    asked, erased = request(X, y, rng)
    kept = np.setdiff1d(np.arange(len(y)), erased)
    est = UnlearnableClassifier(built, random_state=seed).fit(X, y)
    retrained = [copy.deepcopy(est).set_params(unlearner=Retrain()).forget(X[erased], y[erased])]
    retrained.append(UnlearnableClassifier(built, random_state=seed + 10_000).fit(X[kept], y[kept]))
    reached = 100 * float(min([model.score(X[kept], y[kept]) for model in retrained]))
    found = []
    for method in methods:
        model = copy.deepcopy(est)
        status = ""
        if method != "no-op":
            status = str(model.forget(X[erased], y[erased]).unlearning_report_.status)
        found.append(
            {
                "method": method, "seed": seed, "cost": reached - 100 * model.score(X[kept], y[kept]), "table": table,
                "rows": len(X), "net": described, "request": asked, "retrained": reached, "status": status,
            }
        )  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="seed of the first problem")
    parser.add_argument("--methods", default="default,no-op")
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for seed in range(options.first, options.first + options.problems):
        found += problem(seed, options.methods.split(","))
    table = pd.DataFrame(found)
    for method, part in table.groupby("method", sort=False):
        quantiles = part.cost.quantile([0.5, 0.9, 0.99, 1.0]).round(2).to_dict()
        print(f"{method}: points lost against retraining, quantiles {quantiles}; more than 2: {(part.cost > 2).sum()}")
        print(part.nlargest(12, "cost").drop(columns="method").to_string(index=False, float_format="{:.1f}".format))


if __name__ == "__main__":
    main()
