# Run: python -m benchmarks.ceiling
"""How far the loss of an erased class goes: with the ceiling on steps in the output layer, without it, and retrained.

Usage: ``python -m benchmarks.ceiling [--only "adam,sgd"] [--classes 0,3,5,9] [--data ../shared/data]``. A perceptron of
784, 128 and 64 units learns 3,000 rows of Fashion-MNIST in 20 epochs at a constant rate, whose gradient at the end is
not small. *wrong* is the mean loss of retained rows in classes not their own.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

from benchmarks._tasks import Fresh, fashion_task, mlp
from sk_unlearn import UnlearnableClassifier
from sk_unlearn.unlearners import Retrain, StoCuReNU
from sk_unlearn.unlearners.cubic import Policy

OPTIMISERS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": torch.optim.Adam, "lr": 1e-3},
    "sgd": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "lr": 0.05},
}


def wrong_class_loss(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    losses = -np.log(np.maximum(model.predict_proba(X).astype(np.float64), 1e-300))
    wrong = np.ones(losses.shape, dtype=bool)
    wrong[np.arange(len(y)), y] = False
    return float(losses[wrong].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="adam,sgd")
    parser.add_argument("--classes", default="0,3,5,9")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    options = parser.parse_args()
    task = fashion_task(options.data, 3000)
    X, y = task.X.reshape(len(task.X), -1), task.y
    unlearners = {
        "free": StoCuReNU(renew=False, policy=replace(Policy(), ceiling=float("inf"))),
        "ceiling": StoCuReNU(renew=False),
        "retrained": Retrain(),
    }
    print("optimiser  class  wrong   before     free  ceiling  retrained")
    for name in options.only.split(","):
        net = NeuralNetClassifier(
            Fresh, module__build=partial(mlp, 784, 128, 64, 10), criterion=nn.CrossEntropyLoss, max_epochs=20,
            batch_size=64, iterator_train__shuffle=True, train_split=None, verbose=0, **OPTIMISERS[name],
        )  # fmt: skip
        fitted = UnlearnableClassifier(net, random_state=0).fit(X, y)
        for erased in map(int, options.classes.split(",")):
            gone = y == erased
            reports = {
                key: copy.deepcopy(fitted).set_params(unlearner=each).forget(X[gone], y[gone]).unlearning_report_
                for key, each in unlearners.items()
            }
            numbers = [wrong_class_loss(fitted, X[~gone], y[~gone]), reports["free"].erased_loss_before]
            numbers += [report.erased_loss_after for report in reports.values()]
            print(f"{name:9}  {erased:5d} " + " ".join(f"{number:8.3g}" for number in numbers), flush=True)


if __name__ == "__main__":
    main()
