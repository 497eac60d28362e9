# Part of: python -m benchmarks.stages
"""Nets and requests on which the rule of ``benchmarks.stages`` was not made: other optimisers, layers and sizes."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import LRScheduler
from torch import nn

from benchmarks._tasks import Fresh, Requests, Task, _augmented, mlp, without_copies

Rows = NDArray[np.int64]
SGD, ADAM, ADAMW, RMSPROP = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop


class Attention(nn.Module):
    """The rows of an 8 x 8 image as eight tokens: one block of attention, LayerNorm, a mean over the tokens."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed, self.place = nn.Linear(8, width), nn.Parameter(0.1 * torch.randn(8, width))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.body = mlp(width, 2 * width, width)
        self.out = nn.Linear(width, 10)

    def forward(self, X: torch.Tensor) -> Any:
        h = self.embed(X.view(-1, 8, 8)) + self.place
        h = self.first(h + self.attention(h, h, h, need_weights=False)[0])
        return self.out(self.second(h + self.body(h)).mean(1))


class Table(nn.Module):
    """An MLP; numbers of columns and outputs are filled in from the data."""

    def __init__(self, n_features_in: int, n_outputs: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.body = mlp(n_features_in, *hidden, n_outputs)

    def forward(self, X: torch.Tensor) -> Any:
        return self.body(X)


class Recommender(nn.Module):
    """Whether a user likes an item, from an embedding of each."""

    def __init__(self, n_users: int, n_items: int, width: int = 8) -> None:
        super().__init__()
        self.n_users = n_users
        self.users, self.items = nn.Embedding(n_users, width), nn.Embedding(n_items, width)
        self.body = mlp(2 * width, 32, 2)

    def forward(self, X: torch.Tensor) -> Any:
        return self.body(torch.cat([self.users(X[:, 0]), self.items(X[:, 1])], 1))


def batch_norm_net() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16, 10)),
    )


def convnet() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, 2), nn.ReLU(), nn.Conv2d(6, 12, 3, 2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(300, 32), nn.ReLU(), nn.Linear(32, 10)),
    )


def _net(
    build: Callable[[], nn.Module] | tuple[int, ...], epochs: int, lr: float, batch_size: int, optimizer: type, *,
    regression: bool = False, cosine: bool = False, **options: Any,
) -> Callable[[], NeuralNet]:  # fmt: skip
    kind, criterion = (NeuralNetRegressor, nn.MSELoss) if regression else (NeuralNetClassifier, nn.CrossEntropyLoss)
    schedule = LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=epochs)
    module = (Table, {"module__hidden": build}) if isinstance(build, tuple) else (Fresh, {"module__build": build})
    return lambda: kind(
        module[0], **module[1], criterion=criterion, optimizer=optimizer, lr=lr, max_epochs=epochs,
        batch_size=batch_size, iterator_train__shuffle=True, train_split=None, verbose=0,
        callbacks=[("schedule", schedule)] if cosine else [],
        **{f"optimizer__{name}": value for name, value in options.items()},
    )  # fmt: skip


def _requests(X: NDArray[Any], group: Rows, wanted: str) -> Requests:
    """Return the requests asked for: one row, shares at random, neighbours of a row, a group and half of it."""
    rng, n = np.random.default_rng(3), len(X)
    order, flat = rng.permutation(n), X.reshape(n, -1).astype(np.float64)
    near = np.argsort(((flat - flat[order[0]]) ** 2).sum(1), kind="stable")[: max(10, n // 50)]
    every = {
        "one row": order[:1], "1 %": order[: max(2, n // 100)], "10 %": order[: n // 10], "20 %": order[: n // 5],
        "cluster": near, "half group": rng.permutation(group)[: len(group) // 2], "group": group,
    }  # fmt: skip
    return {request: every[request] for request in wanted.split(", ")}


def _split(
    key: str, X: NDArray[Any], y: NDArray[Any], net: Callable[[], Any], group: NDArray[np.bool_], wanted: str, n: int,
    *, regression: bool = False,
) -> Task:  # fmt: skip
    """Shuffle, scale columns and values, and split into n training rows and up to 1,500 test rows."""
    if X.ndim == 2 and X.dtype != np.int64:
        X = ((X - X.mean(0)) / np.maximum(X.std(0), 1e-3)).astype(np.float32)
    if regression:
        y = ((y - y.mean()) / y.std()).astype(np.float32)
    rows = np.random.default_rng(0).permutation(without_copies(X))
    n = min(n, len(rows) * 4 // 5)
    train, test = rows[:n], rows[n:][:1500]
    requests = _requests(X[train], np.flatnonzero(group[train]), wanted)
    return Task(key, X[train], y[train], X[test], y[test], net, requests, regression=regression)


def _frame(data: Path, file: str, **options: Any) -> pd.DataFrame:
    return pd.read_csv(data / file, **options).sample(frac=1, random_state=0).reset_index(drop=True)


def _small_digits(key: str, net: Callable[[], Any], wanted: str, n: int) -> Task:
    X, y = load_digits(return_X_y=True)
    return _split(key, X / 16, y.astype(np.int64), net, y == 5, wanted, n)


def _many_digits(key: str, net: Callable[[], Any], wanted: str, n: int) -> Task:
    images, labels = load_digits(return_X_y=True)
    X, y = _augmented(images.reshape(-1, 8, 8) / 16, labels, n + 1500, np.random.default_rng(0))
    return _split(key, X, y, net, y == 5, wanted, n)


def _wine(data: Path, key: str, net: Callable[..., Any], wanted: str, n: int, *, regression: bool) -> Task:
    table = _frame(data, "wine_quality/winequality-white.csv.gz", sep=";")
    quality = table.pop("quality").to_numpy()
    X, y = table.to_numpy(np.float32), quality if regression else np.clip(quality - 5, 0, 2)
    sweet = X[:, 3] > np.quantile(X[:, 3], 0.9)
    group = sweet if regression else y == 2
    return _split(key, X, y, net, group, wanted, n, regression=regression)


def _spam(data: Path, key: str, net: Callable[[], Any], wanted: str, n: int) -> Task:
    table = _frame(data, "spambase/spambase.data.gz", header=None)
    y, X = table.pop(57).to_numpy(np.int64), table.to_numpy(np.float32)
    return _split(key, np.log1p(X), y, net, X[:, 24] > 0, wanted, n)  # letters to one George


def _bank(data: Path, key: str, net: Callable[[], Any], wanted: str, n: int) -> Task:
    table = _frame(data, "bank_marketing/bank-full.csv.gz", sep=";").iloc[: n + 2000]
    y, group = (table.pop("y") == "yes").to_numpy(np.int64), (table["job"] == "technician").to_numpy()
    return _split(key, pd.get_dummies(table).to_numpy(np.float32), y, net, group, wanted, n)


def _adult(data: Path, key: str, net: Callable[[], Any], wanted: str, n: int) -> Task:
    table = _frame(data, "adult/adult.data.gz", header=None, skipinitialspace=True).iloc[: n + 2000]
    y, group = (table[14] == ">50K").to_numpy(np.int64), (table[6] == "Sales").to_numpy()
    X = pd.get_dummies(table.drop(columns=[2, 3, 14])).to_numpy(np.float32)
    return _split(key, X, y, net, group, wanted, n)


def _bike(data: Path, key: str, net: Callable[[], Any], wanted: str, n: int) -> Task:
    table = pd.read_csv(data / "bike_sharing/hour.csv.gz").iloc[13_100 - n // 2 : 13_100 + n // 2 + 1500]
    fortnight = table["dteday"].between("2012-07-01", "2012-07-14").to_numpy()
    y = np.sqrt(table["cnt"].to_numpy(np.float32))
    columns = ["hr", "mnth", "weekday", "weathersit"]
    table = table.drop(columns=["instant", "dteday", "casual", "registered", "cnt"])
    X = pd.get_dummies(table, columns=columns).to_numpy(np.float32)
    return _split(key, X, y, net, fortnight, wanted, n, regression=True)


def _housing(data: Path, key: str, net: Callable[[], Any], wanted: str, n: int) -> Task:
    table = _frame(data, "california_housing/housing.csv.gz").dropna().iloc[: n + 2000]
    y = np.log(table.pop("median_house_value").to_numpy(np.float32))
    north = (table["latitude"] > 38.5).to_numpy()
    return _split(key, pd.get_dummies(table).to_numpy(np.float32), y, net, north, wanted, n, regression=True)


def _hospital(data: Path, key: str, net: Callable[[], Any], wanted: str, n: int) -> Task:
    table = _frame(data, "diabetes130/diabetic_data.csv.gz", low_memory=False).iloc[: n + 2000]
    y, group = (table["readmitted"] != "NO").to_numpy(np.int64), (table["age"] == "[50-60)").to_numpy()
    columns = ["race", "gender", "age", "insulin", "change", "diabetesMed", "A1Cresult", "metformin"]
    numbers = table.select_dtypes("number").drop(columns=["encounter_id", "patient_nbr"])
    X = pd.concat([numbers, pd.get_dummies(table[columns])], axis=1).to_numpy(np.float32)
    return _split(key, X, y, net, group, wanted, n)


def _cancer(key: str, net: Callable[[], Any], wanted: str, n: int) -> Task:
    X, y = load_breast_cancer(return_X_y=True)
    return _split(key, X, y, net, X[:, 0] > np.quantile(X[:, 0], 0.85), wanted, n)


def _fashion(data: Path, key: str, net: Callable[[], Any], wanted: str, n: int, *, flat: bool) -> Task:
    def content(name: str, header: int) -> NDArray[np.uint8]:
        with gzip.open(data / "fashion_mnist" / name) as file:
            return np.frombuffer(file.read(), np.uint8)[header:]

    X = content("train-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)[20_000:][: n + 1500].astype(np.float32) / 255
    y = content("train-labels-idx1-ubyte.gz", 8).astype(np.int64)[20_000:][: n + 1500]
    return _split(key, X.reshape(len(X), -1) if flat else X, y, net, y == 6, wanted, n)


def _ratings(key: str, wanted: str, n: int, epochs: int) -> Task:
    rng, n_users, n_items = np.random.default_rng(0), 200, 80
    cells = rng.permutation(n_users * n_items)[: n + 1500]
    X = np.stack([cells // n_items, cells % n_items], 1).astype(np.int64)
    taste, kind = rng.normal(size=(n_users, 3)), rng.normal(size=(n_items, 3))
    score = (taste[X[:, 0]] * kind[X[:, 1]]).sum(1) + 0.7 * rng.normal(size=len(X))
    net = _net(partial(Recommender, n_users, n_items), epochs, 5e-3, 64, ADAM, weight_decay=1e-5)
    return _split(key, X, (score > 0).astype(np.int64), net, X[:, 0] < 8, wanted, n)


def builders(data: Path, *, quick: bool = False) -> dict[str, Callable[[], Task]]:
    """Return how to build each task, by its key; with ``quick`` all have few rows and epochs.

    Parameters
    ----------
    data : Path
        Folder of the data sets.
    quick : bool, default=False

    Returns
    -------
    builders : dict of str to callable
        Without those whose files are absent.
    """

    def rows(n: int) -> int:
        return min(n, 300) if quick else n

    def epochs(k: int) -> int:
        return min(k, 3) if quick else k

    def built_in() -> None:
        return None

    momentum = {"momentum": 0.9, "weight_decay": 1e-4}
    every: dict[str, Callable[[], Task]] = {
        "digits-sgd": lambda: _small_digits(
            "digits-sgd", _net(partial(mlp, 64, 48, 10), epochs(40), 0.05, 32, SGD, **momentum),
            "1 %, 10 %, cluster, group", rows(1347)),
        "digits-bn5": lambda: _many_digits(
            "digits-bn5", _net(batch_norm_net, epochs(5), 3e-3, 32, ADAM), "20 %, half group, group", rows(3300)),
        "digits-bn40": lambda: _small_digits(
            "digits-bn40", _net(batch_norm_net, epochs(40), 0.02, 64, SGD, cosine=True, **momentum),
            "one row, 10 %, group", rows(1347)),
        "attention": lambda: _many_digits(
            "attention", _net(Attention, epochs(15), 2e-3, 64, ADAMW), "1 %, 10 %, half group, group", rows(3000)),
        "wine-class": lambda: _wine(
            data, "wine-class", _net((64, 32), epochs(20), 2e-3, 64, ADAMW),
            "10 %, cluster, half group, group", rows(3900), regression=False),
        "wine-reg": lambda: _wine(
            data, "wine-reg", _net((48,), epochs(12), 0.01, 32, SGD, regression=True, **momentum),
            "one row, 10 %, group", rows(3900), regression=True),
        "spam-adamw": lambda: _spam(
            data, "spam-adamw", _net((32,), epochs(10), 1e-3, 32, ADAMW), "1 %, 10 %, group", rows(3600)),
        "spam-long": lambda: _spam(
            data, "spam-long", _net((64, 32), epochs(30), 0.05, 64, SGD, cosine=True, **momentum),
            "10 %, cluster, half group", rows(3000)),
        "bank-sgd": lambda: _bank(
            data, "bank-sgd", _net((48, 24), epochs(12), 0.02, 64, SGD, **momentum),
            "10 %, cluster, group", rows(6000)),
        "adult-long": lambda: _adult(
            data, "adult-long", _net((96, 48), epochs(25), 1e-3, 128, ADAMW),
            "one row, 1 %, 10 %, group", rows(5000)),
        "adult-5": lambda: _adult(
            data, "adult-5", _net((64, 32), epochs(5), 2e-3, 64, ADAM), "10 %, half group, group", rows(7000)),
        "bike-rms": lambda: _bike(
            data, "bike-rms", _net((64, 32), epochs(25), 1e-3, 128, RMSPROP, regression=True, cosine=True),
            "1 %, 10 %, group", rows(5000)),
        "housing-sgd": lambda: _housing(
            data, "housing-sgd", _net((48, 24), epochs(20), 0.02, 64, SGD, regression=True, **momentum),
            "10 %, cluster, group", rows(4500)),
        "fashion-mlp": lambda: _fashion(
            data, "fashion-mlp", _net(partial(mlp, 784, 64, 10), epochs(14), 0.03, 64, SGD, **momentum),
            "1 %, 10 %, half group, group", rows(3500), flat=True),
        "fashion-cnn": lambda: _fashion(
            data, "fashion-cnn", _net(convnet, epochs(10), 2e-3, 64, ADAMW, cosine=True),
            "one row, 10 %, group", rows(4000), flat=False),
        "ratings": lambda: _ratings("ratings", "1 %, 10 %, half group, group", rows(6000), epochs(10)),
        "built-in cancer": lambda: _cancer("built-in cancer", built_in, "one row, 10 %, group", rows(455)),
        "built-in digits": lambda: _small_digits("built-in digits", built_in, "10 %, half group, group", rows(1347)),
        "built-in hospital": lambda: _hospital(
            data, "built-in hospital", built_in, "1 %, 10 %, group", rows(4000)),
        # Measured once after the rule stood, to see what it is worth where nobody had looked; see RESULTS.md.
        "bank-adam": lambda: _bank(
            data, "bank-adam", _net((96, 48), epochs(30), 1e-3, 128, ADAM), "1 %, 10 %, half group, group", rows(5000)),
        "spam-rms": lambda: _spam(
            data, "spam-rms", _net((48,), epochs(15), 1e-3, 32, RMSPROP), "10 %, cluster, group", rows(2600)),
        "fashion-adam": lambda: _fashion(
            data, "fashion-adam", _net(partial(mlp, 784, 64, 10), epochs(10), 1e-3, 64, ADAM, cosine=True),
            "1 %, 10 %, half group, group", rows(5000), flat=True),
        "housing-adam": lambda: _housing(
            data, "housing-adam", _net((64, 32), epochs(20), 2e-3, 64, ADAM, regression=True, cosine=True),
            "1 %, 10 %, cluster, group", rows(6000)),
        "hospital-adam": lambda: _hospital(
            data, "hospital-adam", _net((96, 48), epochs(25), 1e-3, 64, ADAM), "1 %, 10 %, half group, group",
            rows(3500)),
        "digits-many": lambda: _many_digits(
            "digits-many", _net(partial(mlp, 64, 64, 32, 10), epochs(15), 2e-3, 64, ADAMW, cosine=True),
            "1 %, 10 %, half group, group", rows(5000)),
        "wine-adam": lambda: _wine(
            data, "wine-adam", _net((96, 48), epochs(60), 1e-3, 64, ADAM), "1 %, 10 %, cluster, half group, group",
            rows(3900), regression=False),
    }  # fmt: skip
    folders = {
        "wine": "wine_quality", "spam": "spambase", "bank": "bank_marketing", "adult": "adult", "bike": "bike_sharing",
        "housing": "california_housing", "fashion": "fashion_mnist", "built-in hospital": "diabetes130",
        "hospital": "diabetes130",
    }  # fmt: skip
    absent = tuple(key for key, folder in folders.items() if not (data / folder).is_dir())
    return {key: build for key, build in every.items() if not key.startswith(absent or ("none",))}
