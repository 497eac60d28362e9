# Run: python -m benchmarks.compressed [--quick]
"""Retraining in a share of the steps: how near it comes to a full training, and at what price.

Usage: ``python -m benchmarks.compressed [--shares 0.2,0.3,0.5] [--seeds 3] [--references 5] [--only "digits;adult"]
[--quick] [--data ../shared/data] [--out DIR]``. Every variant is a data set, an optimiser and a schedule. From each a
class or a group is erased, and a tenth of the rows at random, by ``Retrain(share=...)``. The ratio is the mean distance
to models retrained in full, from other seeds, over the mean distance of these from each other; *fine* is a ratio of at
most 1.3 on erased and on test rows, medians over the seeds. A full training itself spans about 0.85 to 1.2.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import LRScheduler
from torch import nn

from benchmarks._measure import Yardstick
from benchmarks._options import write
from benchmarks._tasks import Task, adult_task, convnet, fashion_task, housing_task, mlp
from sk_unlearn.unlearners import Retrain

FINE = 1.3
# Seeds of the references begin here.
_OTHERS = 100


class Built(nn.Module):
    """A module that is built when the net is initialised, so that the seed of ``fit`` draws its parameters."""

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.body = build()

    def forward(self, X: torch.Tensor) -> Any:
        return self.body(X)


def net(
    build: Callable[[], nn.Module], optimizer: str, schedule: str, epochs: int, lr: float, batch_size: int, kind: Any
) -> NeuralNet:
    """Return a net whose rate is constant, or falls along a cosine from epoch to epoch."""
    cosine = [("schedule", LRScheduler("CosineAnnealingLR", T_max=epochs))] if schedule == "cosine" else []
    settings = {"optimizer__momentum": 0.9} if optimizer == "SGD" else {}
    return kind(
        Built, module__build=build, criterion=nn.MSELoss if kind is NeuralNetRegressor else nn.CrossEntropyLoss,
        optimizer=getattr(torch.optim, optimizer), optimizer__weight_decay=1e-4, lr=lr, max_epochs=epochs,
        batch_size=batch_size, iterator_train__shuffle=True, train_split=None, verbose=0, callbacks=cosine, **settings,
    )  # fmt: skip


def digits(n: int = 1300) -> Task:
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = (X[order] / 16).astype(np.float32), y[order].astype(np.int64)
    requests = {"class 3": np.flatnonzero(y[:n] == 3)}
    return Task("digits", X[:n], y[:n], X[1300:], y[1300:], None, requests)  # type: ignore[arg-type]


def flat(task: Task) -> Task:
    """Return a task with images as rows of a table."""
    return replace(task, X=task.X.reshape(len(task.X), -1), X_test=task.X_test.reshape(len(task.X_test), -1))


# Name of the data, optimiser, schedule: epochs, rate, batch size.
VARIANTS: dict[tuple[str, str, str], tuple[int, float, int]] = {
    ("digits", "Adam", "constant"): (60, 2e-3, 64),
    ("digits", "Adam", "cosine"): (60, 3e-3, 64),
    ("digits", "SGD", "cosine"): (60, 3e-2, 64),
    ("fashion MLP", "Adam", "constant"): (25, 1e-3, 64),
    ("fashion MLP", "Adam", "cosine"): (25, 1e-3, 64),
    ("fashion MLP", "SGD", "constant"): (25, 2e-2, 64),
    ("adult", "Adam", "cosine"): (12, 1e-3, 128),
    ("adult", "SGD", "constant"): (15, 1e-2, 128),
    ("housing", "Adam", "cosine"): (25, 2e-3, 128),
    ("housing", "SGD", "cosine"): (25, 1e-2, 128),
    ("fashion CNN", "Adam", "cosine"): (8, 2e-3, 128),
}


def rows_of(name: str, data: Path, *, quick: bool) -> tuple[Task, Callable[[], nn.Module]]:
    """Return the rows and requests of a data set, and what builds the network."""
    if name == "digits":
        return digits(400 if quick else 1300), partial(mlp, 64, 64, 32, 10)
    if name == "adult":
        task = adult_task(data, 800 if quick else 7500)
        return task, partial(mlp, task.X.shape[1], 64, 32, 2)
    if name == "housing":
        task = housing_task(data, 600 if quick else 6300)
        return task, partial(mlp, task.X.shape[1], 48, 24, 1)
    n = 400 if quick else 2500 if name == "fashion MLP" else 8000
    task = fashion_task(data, n, n_test=1000)
    return (flat(task), partial(mlp, 784, 64, 10)) if name == "fashion MLP" else (task, convnet)


def variants(data: Path, only: Sequence[str], *, quick: bool) -> Iterator[tuple[str, Task]]:
    """Give a name and a task with a class or a group to erase, and a tenth of the rows."""
    for (name, optimizer, schedule), (epochs, lr, batch_size) in VARIANTS.items():
        label = f"{name}, {optimizer}, {schedule}"
        if only and not any(label.startswith(part) for part in only):
            continue
        folder = {"adult": "adult", "fashion MLP": "fashion_mnist", "fashion CNN": "fashion_mnist"}.get(name)
        if folder and not (data / folder).is_dir():
            print(f"{folder}: not in {data}, left out")
            continue
        task, build = rows_of(name, data, quick=quick)
        kind = NeuralNetRegressor if task.regression else NeuralNetClassifier
        made = partial(net, build, optimizer, schedule, 3 if quick else epochs, lr, batch_size, kind)
        group = [request for request in task.requests if request.startswith(("class", "whole", "top"))][-1]
        tenth = np.random.default_rng(1).permutation(len(task.X))[: len(task.X) // 10]
        yield label, replace(task, net=made, requests={group: task.requests[group], "10 %": tenth})


def retrained_in_full(task: Task, seed: int, erased: NDArray[np.int64]) -> tuple[Any, float]:
    """Return a model retrained from a seed, with the outputs of all classes, and the seconds that took."""
    ids = np.arange(len(task.X))
    est = task.estimator(seed).set_params(estimator__max_epochs=1).fit(task.X, task.y, sample_id=ids)
    est.set_params(estimator__max_epochs=task.net().max_epochs, unlearner=Retrain())
    start = time.process_time()
    return est.forget(sample_id=ids[erased]), time.process_time() - start


def measure(label: str, task: Task, shares: Sequence[float], seeds: int, references: int) -> list[dict[str, Any]]:
    """Return one record for each request, share and seed."""
    ids = np.arange(len(task.X))
    fitted = {seed: task.estimator(seed).fit(task.X, task.y, sample_id=ids) for seed in range(seeds)}
    records = []
    for request, erased in task.requests.items():
        full = {seed: retrained_in_full(task, seed, erased) for seed in range(_OTHERS, _OTHERS + references)}
        yardstick = Yardstick(task, erased, {seed: model for seed, (model, _) in full.items()})
        seconds = float(np.median([cost for _, cost in full.values()]))
        for share in shares:
            for seed, model in fitted.items():
                est = copy.deepcopy(model).set_params(unlearner=Retrain(share))
                start = time.process_time()
                report = est.forget(sample_id=ids[erased]).unlearning_report_
                cost = (time.process_time() - start) / seconds
                records.append(
                    {"variant": label, "request": request, "share": share, "seed": seed, "cpu": cost,
                     "steps": report.extra.get("share_of_training", 1.0), **ratios(yardstick, est)}
                )  # fmt: skip
    return records


def ratios(yardstick: Yardstick, model: Any) -> dict[str, float]:
    """Return the mean distance of a model to the references, in units of their distance from each other."""
    outputs = yardstick.outputs(model)
    return {
        part: float(np.mean([yardstick.between(outputs[part], each[part]) for each in yardstick.references.values()]))
        / yardstick.floor[part]
        for part in ("erased", "test")
    }


def summary(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return medians over the seeds, and whether they are fine."""
    keys = ["variant", "request", "share"]
    table = pd.DataFrame(records).groupby(keys, sort=False)[["erased", "test", "steps", "cpu"]].median().reset_index()
    return table.assign(fine=table[["erased", "test"]].max(axis=1) <= FINE)


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many requests of each kind are fine, and how bad the worst is."""
    kind = np.where(table["request"] == "10 %", "random", "class or group")
    worse = table[["erased", "test"]].max(axis=1)
    groups = table.assign(kind=kind, worse=worse).groupby(["share", "kind"])
    return groups.agg(fine=("fine", "sum"), of=("fine", "size"), median=("worse", "median"), worst=("worse", "max"))


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", default="0.2,0.3,0.5")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--references", type=int, default=5, help="models retrained in full: at least 2")
    parser.add_argument("--only", default="", help='beginnings of names of variants, such as "digits;adult, Adam"')
    parser.add_argument("--quick", action="store_true", help="few rows and epochs, to see that it runs")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, help="folder for JSON")
    options = parser.parse_args(arguments)
    if options.references < 2:
        parser.error(f"--references must be at least 2, got {options.references}: the floor is their distance.")
    shares = [float(share) for share in options.shares.split(",")]
    seeds, references = (1, 2) if options.quick else (options.seeds, options.references)
    records: list[dict[str, Any]] = []
    for label, task in variants(options.data, [p for p in options.only.split(";") if p], quick=options.quick):
        found = measure(label, task, shares, seeds, references)
        records += found
        print(summary(found).to_string(index=False, float_format="{:.2f}".format), flush=True)
    if records:
        print(counts(summary(records)).to_string(float_format="{:.2f}".format))
    write(options, "compressed", {"compressed": records})
    return records


if __name__ == "__main__":
    main()
