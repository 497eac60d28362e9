# Run: python -m benchmarks.default
"""How close the default comes to retraining, beside doing nothing and continuing to train, on several data sets.

Usage: ``python -m benchmarks.default [--seeds 3] [--only digits,iris] [--data ../shared/data]``. Requests: one per cent
of the rows, ten per cent at random, whole classes. Distance ratio on the erased rows (means and medians over seeds and
classes), seconds as a share of retraining's. Fashion-MNIST (4,000 rows, a CNN with BatchNorm and dropout) is left out
where its files are absent.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.metrics import distance_ratio
from sk_unlearn.unlearners import FineTune

N_RETRAINED = 3
TABLES = {
    "digits": (load_digits, [0, 3, 5, 8]),
    "wine": (load_wine, [0, 1]),
    "breast cancer": (load_breast_cancer, []),
    "iris": (load_iris, []),
}


class ConvNet(nn.Module):
    """Two convolutions with BatchNorm, two linear layers with dropout between them: 14,000 parameters on 28 × 28."""

    def __init__(self, n_features_in: int, n_outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(n_features_in, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, n_outputs)),
        )

    def forward(self, X: torch.Tensor) -> Any:
        return self.body(X)


def fashion_mnist(folder: Path, n: int) -> tuple[np.ndarray, np.ndarray]:
    def content(name: str, header: int) -> np.ndarray:
        with gzip.open(folder / "fashion_mnist" / name) as file:
            return np.frombuffer(file.read(), np.uint8)[header:]

    images = content("train-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)[:n]
    return images.astype(np.float32) / 255, content("train-labels-idx1-ubyte.gz", 8)[:n].astype(np.int64)


def requests(y: np.ndarray, classes: list[int], seed: int) -> dict[str, list[np.ndarray]]:
    order = np.random.default_rng(seed).permutation(len(y))
    drawn = {"1 %": [order[: max(1, len(y) // 100)]], "10 %": [order[: len(y) // 10]]}
    return drawn | ({"class": [np.flatnonzero(y == c) for c in classes]} if classes else {})


def compare(name: str, estimator: Any, X: np.ndarray, y: np.ndarray, classes: list[int]) -> list[dict[str, Any]]:
    seed, fitted = estimator.random_state, estimator.fit(X, y)
    measured = []
    for request, selections in requests(y, classes, seed).items():
        for erased in selections:
            kept = np.setdiff1d(np.arange(len(y)), erased)
            start = time.perf_counter()
            retrained = [
                clone(estimator).set_params(random_state=seed + 1000 * k).fit(X[kept], y[kept])
                for k in range(N_RETRAINED)
            ]
            retraining = (time.perf_counter() - start) / N_RETRAINED
            for method, unlearner in {
                "no-op": None,
                "default": None,
                "1 epoch": FineTune(1),
                "20": FineTune(20),
            }.items():
                model = copy.deepcopy(fitted).set_params(unlearner=unlearner)
                start = time.perf_counter()
                if method != "no-op":
                    model.forget(X[erased], y[erased])
                seconds = time.perf_counter() - start if method != "no-op" else 0.0
                measured.append(
                    {
                        "data": name,
                        "request": request,
                        "method": method,
                        "ratio": distance_ratio(model, retrained, X[erased]),
                        "time": seconds / retraining,
                        "accuracy": model.score(X[erased], y[erased]),
                    }
                )
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [*TABLES, "fashion mnist"]
    measured = []
    for name, (load, classes) in TABLES.items():
        if name not in wanted:
            continue
        X, y = load(return_X_y=True)
        for seed in range(options.seeds):
            X_train, _, y_train, _ = train_test_split(X, y, stratify=y, random_state=seed)
            measured += compare(name, UnlearnableClassifier(random_state=seed), X_train, y_train, classes)
    if "fashion mnist" in wanted and (options.data / "fashion_mnist").is_dir():
        X, y = fashion_mnist(options.data, 4000)
        net = NeuralNetClassifier(
            ConvNet, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=2e-3, max_epochs=8, batch_size=64,
            iterator_train__shuffle=True, train_split=None, verbose=0,
        )  # fmt: skip
        for seed in range(options.seeds):
            measured += compare("fashion mnist", UnlearnableClassifier(net, random_state=seed), X, y, [3])
    by = pd.DataFrame(measured).groupby(["data", "request", "method"], sort=False)
    table = by.agg(
        ratio=("ratio", "mean"), median=("ratio", "median"), time=("time", "median"), accuracy=("accuracy", "mean"),
        cases=("ratio", "size"),
    )  # fmt: skip
    print(table.to_string(float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
