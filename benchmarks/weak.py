# Run: python -m benchmarks.weak [--quick]
"""How often an erasure that says `converged` leaves the model far better at the erased rows than retraining would.

Usage: ``python -m benchmarks.weak [--seeds 1] [--quick] [--only "iris;moons"] [--nets "built-in"] [--out weak.json]``.
Clusters and classes of small data sets are erased from small nets, one at a time, by the methods that may say
`converged` (`CertifiedRemoval` may, too, but is for linear layers, where its bound holds). Weak is an erasure after
which the model gets the erased rows right more than 30 points more often than three retrained models do on average.
The file imports nothing of its folder, so that it runs with an older version of the package, too.
"""

from __future__ import annotations

import argparse
import copy
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_blobs, make_moons
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.references import fit_many
from sk_unlearn.unlearners import CuReNU, LBFGSWarmStart, StoCuReNU

FAR = 0.3
N_RETRAINED, N_CLUSTERS = 3, 6
UNLEARNERS: dict[str, Callable[[], Any]] = {
    "StoCuReNU": StoCuReNU, "CuReNU": CuReNU, "LBFGSWarmStart": LBFGSWarmStart,
}  # fmt: skip
Rows = tuple[np.ndarray, np.ndarray]


# ------------------------------------------------------------------------------------------------------------ data sets


def table(load: Callable[..., Rows], n: int, seed: int) -> Rows:
    X, y = load(return_X_y=True)
    rows = np.random.default_rng(seed).permutation(len(y))[:n]
    return X[rows], y[rows]


def islands(n: int, seed: int) -> Rows:
    """Clusters in the plane whose classes are drawn: what a cluster is says nothing of its neighbours."""
    X, cluster = make_blobs(n, centers=20, cluster_std=0.4, random_state=seed)
    return X, np.random.default_rng(seed).integers(0, 3, 20)[cluster]


def relabelled(X: np.ndarray, y: np.ndarray, seed: int) -> Rows:
    """Give three of twelve clusters another class."""
    wrong = np.isin(clusters(X, 12, seed), np.random.default_rng(seed).choice(12, 3, replace=False))
    return X, np.where(wrong, (y + 1) % (y.max() + 1), y)


DATA: dict[str, Callable[[int], Rows]] = {
    "iris": lambda seed: table(load_iris, 150, seed),
    "digits": lambda seed: table(load_digits, 400, seed),
    "islands": lambda seed: islands(240, seed),
    "wine, relabelled": lambda seed: relabelled(*table(load_wine, 178, seed), seed),
    "breast cancer": lambda seed: table(load_breast_cancer, 300, seed),
    "moons": lambda seed: make_moons(300, noise=0.15, random_state=seed),
    "iris, relabelled": lambda seed: relabelled(*table(load_iris, 150, seed), seed),
}


def clusters(X: np.ndarray, n: int, seed: int) -> np.ndarray:
    return KMeans(n, n_init=3, random_state=seed).fit_predict((X - X.mean(0)) / (X.std(0) + 1e-12))


def requests(X: np.ndarray, y: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    cluster = clusters(X, N_CLUSTERS, seed)
    found = {f"cluster {c}": np.flatnonzero(cluster == c) for c in range(N_CLUSTERS)}
    return found | {f"class {c}": np.flatnonzero(y == c) for c in range(min(int(y.max()) + 1, 3))}


# ----------------------------------------------------------------------------------------------------------------- nets


def layers(n_in: int, hidden: tuple[int, ...], unit: type[nn.Module], n_out: int) -> nn.Sequential:
    body: list[nn.Module] = []
    for width in hidden:
        body += [nn.Linear(n_in, width), unit()]
        n_in = width
    return nn.Sequential(*body, nn.Linear(n_in, n_out))


class Net(nn.Module):
    """A perceptron of any depth; an estimator fills in how many columns and outputs there are."""

    def __init__(self, n_features_in: int, n_outputs: int, hidden: tuple[int, ...], unit: type[nn.Module]) -> None:
        super().__init__()
        self.body = layers(n_features_in, hidden, unit, n_outputs)

    def forward(self, X: torch.Tensor) -> Any:
        return self.body(X)


def trained(
    hidden: tuple[int, ...], unit: type[nn.Module], epochs: int, lr: float, batch: int, decay: float, *,
    optimizer: Any = torch.optim.Adam, anneal: bool = False,
) -> Callable[[int, int], Any]:  # fmt: skip
    settings: dict[str, Any] = {"optimizer__weight_decay": decay, "iterator_train__shuffle": batch > 0}
    if optimizer is torch.optim.SGD:
        settings["optimizer__momentum"] = 0.9
    if anneal:
        schedule = LRScheduler(policy=torch.optim.lr_scheduler.CosineAnnealingLR, T_max=epochs)
        settings["callbacks"] = [("schedule", schedule)]
    return lambda n_in, n_out: NeuralNetClassifier(
        Net, module__hidden=hidden, module__unit=unit, criterion=nn.CrossEntropyLoss, optimizer=optimizer, lr=lr,
        max_epochs=epochs, batch_size=batch, train_split=None, verbose=0, **settings,
    )  # fmt: skip


NETS: dict[str, Callable[[int, int], Any]] = {
    "built-in": lambda n_in, n_out: None,
    "module, Tanh 16": lambda n_in, n_out: layers(n_in, (16,), nn.Tanh, n_out),
    "Adam, ReLU 8, 20 epochs": trained((8,), nn.ReLU, 20, 1e-2, 32, 0.0),
    "Adam, ReLU 32-32, 300 full": trained((32, 32), nn.ReLU, 300, 1e-2, -1, 0.0),
    "Adam, Tanh 64, 100 epochs": trained((64,), nn.Tanh, 100, 1e-2, 32, 1e-4),
    "SGD, ReLU 16, 300 full": trained((16,), nn.ReLU, 300, 1e-1, -1, 1e-2, optimizer=torch.optim.SGD),
    "SGD, Tanh 16-16, 60 epochs": trained((16, 16), nn.Tanh, 60, 5e-2, 32, 1e-4, optimizer=torch.optim.SGD),
    "annealed, Tanh 16, 300 full": trained((16,), nn.Tanh, 300, 3e-2, -1, 1e-2, anneal=True),
    "annealed, ReLU 64, 300 full": trained((64,), nn.ReLU, 300, 1e-2, -1, 1e-4, anneal=True),
    "annealed, Tanh 16, 1000 full": trained((16,), nn.Tanh, 1000, 3e-2, -1, 1e-3, anneal=True),
    "annealed, Tanh 8, 1000 full": trained((8,), nn.Tanh, 1000, 3e-2, -1, 3e-3, anneal=True),
}


# -------------------------------------------------------------------------------------------------------------- measure


def measure(data: str, seed: int, nets: list[str]) -> Iterator[dict[str, Any]]:
    X, y = DATA[data](seed)
    X = ((X - X.mean(0)) / (X.std(0) + 1e-12)).astype(np.float32)
    y = y.astype(np.int64)
    erased = {name: rows for name, rows in requests(X, y, seed).items() if 0 < len(rows) < 0.8 * len(y)}
    erased = {name: rows for name, rows in erased.items() if len(np.unique(np.delete(y, rows))) > 1}
    for net in nets:
        torch.manual_seed(seed)  # a module comes with its weights
        estimator = UnlearnableClassifier(NETS[net](X.shape[1], int(y.max()) + 1), random_state=seed)
        fitted = copy.deepcopy(estimator).fit(X, y)
        seeds = [seed + 1000 * (k + 1) for _ in erased for k in range(N_RETRAINED)]
        kept = [np.setdiff1d(np.arange(len(y)), rows) for rows in erased.values() for _ in range(N_RETRAINED)]
        retrained = fit_many(estimator, X, y, kept, seeds=seeds)
        for number, (request, rows) in enumerate(erased.items()):
            models = retrained[N_RETRAINED * number : N_RETRAINED * (number + 1)]
            case = {
                "data": data, "seed": seed, "net": net, "request": request, "rows": len(rows),
                "fit": fitted.score(X, y), "before": fitted.score(X[rows], y[rows]),
                "retrained": float(np.mean([model.score(X[rows], y[rows]) for model in models])),
            }  # fmt: skip
            for method, unlearner in UNLEARNERS.items():
                model = copy.deepcopy(fitted).set_params(unlearner=unlearner()).forget(X[rows], y[rows])
                report = model.unlearning_report_
                yield case | {
                    "method": method, "after": model.score(X[rows], y[rows]), "status": str(report.status),
                    "converged": report.converged, "reason": report.stop_reason,
                    "brought": report.gradient_norm_before, "left": report.residual_norm,
                }  # fmt: skip


def counts(records: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(records)
    frame["weak"] = frame.after > frame.retrained + FAR
    frame["both"] = frame.weak & frame.converged
    by = frame.groupby("method", sort=False)
    columns = {"cases": ("weak", "size"), "converged": ("converged", "sum"), "weak": ("weak", "sum")}
    return by.agg(**columns, converged_and_weak=("both", "sum"))


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one data set and one net, to see that it runs")
    parser.add_argument("--only", default="", help="data sets, separated by semicolons")
    parser.add_argument("--nets", default="", help="nets, separated by semicolons")
    parser.add_argument("--out", type=Path, help="a JSON file for the records")
    options = parser.parse_args(arguments)
    data = options.only.split(";") if options.only else ["iris"] if options.quick else list(DATA)
    nets = options.nets.split(";") if options.nets else ["Adam, ReLU 8, 20 epochs"] if options.quick else list(NETS)
    warnings.filterwarnings("ignore", category=UserWarning)
    records = [r for name in data for seed in range(options.seeds) for r in measure(name, seed, nets)]
    print(counts(records).to_string())
    if options.out is not None:
        options.out.write_text(json.dumps(records, indent=1, default=float))
    return records


if __name__ == "__main__":
    main()
