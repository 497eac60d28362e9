# Part of: benchmarks.frontier and others (python -m benchmarks.frontier)
"""What is learnt and what is to be forgotten: data, networks, estimators and requests of the frontier benchmark."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes, load_digits
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback
from torch import nn

from sk_unlearn import UnlearnableClassifier, UnlearnableRegressor

Requests = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Task:
    """Rows, a network to train on them, and the requests to forget some.

    Attributes
    ----------
    key : str
        Short name, as in tables.
    X, y, X_test, y_test : ndarray
        No row of X stands there twice, since forgetting by content forgets all copies.
    net : callable
        ``net()`` returns an uninitialised skorch net, or None for the built-in network.
    requests : dict of str to int64 ndarray
        Rows to erase; fixed, so that seeds differ in the initialisation alone.
    regression : bool
    tolerance : float or None
        Largest entry of the gradient at which training, over all rows at once, ends: the retained optimum is then a
        point to measure distances from. None for training in batches.
    """

    key: str
    X: NDArray[Any]
    y: NDArray[Any]
    X_test: NDArray[Any]
    y_test: NDArray[Any]
    net: Callable[[], NeuralNet | None]
    requests: Requests
    regression: bool = False
    tolerance: float | None = None

    @property
    def full_batch(self) -> bool:
        return self.tolerance is not None

    def estimator(self, seed: int, device: str | None = None) -> Any:
        kind = UnlearnableRegressor if self.regression else UnlearnableClassifier
        return kind(self.net(), random_state=seed, device=device)

    def handed_in(self, erased: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the arguments of ``forget`` by which rows are named."""
        return {"X_del": self.X[erased], "y_del": self.y[erased]}


class Anneal(Callback):
    """Take the rate to zero along a cosine, batch by batch, whatever the number of rows; end there if told to.

    Parameters
    ----------
    epochs : float, default=None
        Length of the run in passes over the rows, a fraction allowed. None takes the net's ``max_epochs``.
    """

    def __init__(self, epochs: float | None = None) -> None:
        self.epochs = epochs

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        batch_size = int(net.get_params_for("iterator_train").get("batch_size", net.batch_size))
        epochs = net.max_epochs if self.epochs is None else self.epochs
        self.n_steps_, self.step_ = max(1, math.ceil(epochs * math.ceil(len(X) / batch_size))), 0

    def on_batch_begin(self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        if training:
            for group in net.optimizer_.param_groups:
                group["lr"] = net.lr * (1 + math.cos(math.pi * self.step_ / self.n_steps_)) / 2

    def on_batch_end(self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        if training:
            self.step_ += 1
            if self.epochs is not None and self.step_ >= self.n_steps_:
                raise KeyboardInterrupt  # how skorch's own callbacks end a training


class PenalisedLBFGS(torch.optim.LBFGS):
    """L-BFGS with coupled weight decay: it minimises ``loss + weight_decay / 2 * ||w||^2``.

    The decay stands in the parameter groups, where `sk_unlearn.risks.empirical.EmpiricalRisk` looks for it.
    """

    def __init__(self, params: Any, *, weight_decay: float = 0.0, **options: Any) -> None:
        super().__init__(params, **options)
        for group in self.param_groups:
            group["weight_decay"] = weight_decay

    def step(self, closure: Callable[[], torch.Tensor]) -> torch.Tensor:  # type: ignore[override]
        def penalised() -> torch.Tensor:
            with torch.enable_grad():
                loss = closure().detach()
            with torch.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        loss = loss + group["weight_decay"] / 2 * p.square().sum()
                        p.grad.add_(p, alpha=group["weight_decay"])
            return loss

        return super().step(penalised)


def mlp(*widths: int, unit: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), unit()]
    return nn.Sequential(*layers[:-1])


def exact_mlp(*widths: int) -> nn.Sequential:
    return mlp(*widths, unit=nn.Tanh).double()


def convnet(k: int = 8) -> nn.Sequential:
    """63,562 parameters on 28 x 28, the last layer 32 -> 10."""
    return nn.Sequential(
        *(nn.Conv2d(1, k, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(k, 2 * k, 3), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(2 * k * 121, 32), nn.ReLU(), nn.Linear(32, 10)),
    )


def small_convnet() -> nn.Sequential:
    """810 parameters in float64 on 8 x 8, given as 64 columns."""
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(72, 10)),
    ).double()


def _net(
    build: Callable[[], nn.Module], epochs: int, lr: float, weight_decay: float, regression: bool = False
) -> Callable[[], NeuralNet]:
    kind, criterion = (NeuralNetRegressor, nn.MSELoss) if regression else (NeuralNetClassifier, nn.CrossEntropyLoss)
    settings = {
        "criterion": criterion, "optimizer": torch.optim.Adam, "optimizer__weight_decay": weight_decay, "lr": lr,
        "max_epochs": epochs, "batch_size": 128, "iterator_train__shuffle": True, "train_split": None, "verbose": 0,
        "callbacks": [("anneal", Anneal())],
    }  # fmt: skip
    return lambda: kind(Fresh, module__build=build, **settings)


class Fresh(nn.Module):
    """A module that is built when the net is initialised, so that the seed of ``fit`` draws its parameters."""

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.body = build()

    def forward(self, X: torch.Tensor) -> Any:
        return self.body(X)


def _drawn(n: int, rng: np.random.Generator) -> Requests:
    order = rng.permutation(n)
    return {"one row": order[:1], "1 %": order[: max(1, n // 100)], "10 %": order[: n // 10]}


def _requests(n: int, group: NDArray[np.int64], name: str = "class") -> Requests:
    rng = np.random.default_rng(0)
    return _drawn(n, rng) | {f"half a {name}": rng.permutation(group)[: len(group) // 2], f"whole {name}": group}


def without_copies(X: NDArray[Any]) -> NDArray[np.int64]:
    """Return the numbers of the rows, ascending, of which none has another's content."""
    return np.sort(np.unique(X.reshape(len(X), -1), axis=0, return_index=True)[1])


def _augmented(
    images: NDArray[Any], labels: NDArray[Any], n: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Shift 8 x 8 images by up to a pixel, add noise, and give two per cent of them a label at random."""
    pick = rng.integers(len(images), size=n)
    shift = rng.integers(-1, 2, size=(2, n, 1, 1))
    at = np.arange(8)
    moved = images[pick][np.arange(n)[:, None, None], (at[:, None] - shift[0]) % 8, (at[None] - shift[1]) % 8]
    y = labels[pick].astype(np.int64)
    flipped = rng.random(n) < 0.02
    y[flipped] = rng.integers(10, size=flipped.sum())
    return (moved + rng.normal(0, 0.25, moved.shape)).reshape(n, 64).astype(np.float32), y


def digits_task(n: int = 50_000, epochs: int = 10, n_test: int = 5000) -> Task:
    """Task (a): digits, augmented; MLP 64-64-64-10, 8,970 parameters."""
    rng = np.random.default_rng(0)
    images, labels = load_digits(return_X_y=True)
    images, train = images.reshape(-1, 8, 8) / 16, np.arange(len(images)) % 4 != 0
    X, y = _augmented(images[train], labels[train], n, rng)
    X_test, y_test = _augmented(images[~train], labels[~train], n_test, rng)
    net = _net(partial(mlp, 64, 64, 64, 10), epochs, 3e-3, 1e-4)
    return Task("digits", X, y, X_test, y_test, net, _requests(n, np.flatnonzero(y == 3)))


def fashion_rows(
    data: Path, n: int, n_test: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Return training and test images of Fashion-MNIST, (n, 1, 28, 28) in [-0.5, 0.5], with their labels."""

    def content(name: str, header: int) -> NDArray[np.uint8]:
        with gzip.open(data / "fashion_mnist" / name) as file:
            return np.frombuffer(file.read(), np.uint8)[header:]

    def images(name: str) -> NDArray[np.uint8]:
        return content(name, 16).reshape(-1, 1, 28, 28)

    pixels = images("train-images-idx3-ubyte.gz")
    rows = np.random.default_rng(1).permutation(len(pixels))[:n]
    rows = rows[without_copies(pixels[rows])]
    X = pixels[rows].astype(np.float32) / 255 - 0.5
    y = content("train-labels-idx1-ubyte.gz", 8).astype(np.int64)[rows]
    X_test = images("t10k-images-idx3-ubyte.gz")[:n_test].astype(np.float32) / 255 - 0.5
    return X, y, X_test, content("t10k-labels-idx1-ubyte.gz", 8)[:n_test].astype(np.int64)


def fashion_task(data: Path, n: int = 20_000, epochs: int = 8, n_test: int = 5000) -> Task:
    """Task (b): Fashion-MNIST; ConvNet of 63,562 parameters."""
    X, y, X_test, y_test = fashion_rows(data, n, n_test)
    net = _net(convnet, epochs, 2e-3, 5e-4)
    return Task("fashion", X, y, X_test, y_test, net, _requests(len(X), np.flatnonzero(y == 3)))


def adult_rows(data: Path, n: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[Any]]:
    """Return the rows of Adult, shuffled and with one-hot columns standardised; whether income is high; occupations."""
    table = pd.read_csv(data / "adult" / "adult.data.gz", header=None, skipinitialspace=True)
    table = table.drop_duplicates().sample(frac=1, random_state=0).iloc[:n].reset_index(drop=True)
    occupation, y = table[6].to_numpy(), (table[14].to_numpy() == ">50K").astype(np.int64)
    features = table.drop(columns=[2, 3, 14])  # the survey's weight of the row; education, which column 4 numbers
    X = pd.get_dummies(features).to_numpy(np.float32)
    rows = without_copies(X)
    X, y, occupation = X[rows], y[rows], occupation[rows]
    return (X - X.mean(0)) / np.maximum(X.std(0), 1e-3), y, occupation


def adult_task(data: Path, n: int | None = None, epochs: int = 10) -> Task:
    """Task (b): Adult income; MLP with 64 and 32 hidden units.

    One of two classes erased would leave nothing to classify, so the group is an occupation.
    """
    X, y, occupation = adult_rows(data, n)
    n_train = len(X) * 4 // 5
    group = np.flatnonzero(occupation[:n_train] == "Exec-managerial")
    net = _net(partial(mlp, X.shape[1], 64, 32, 2), epochs, 1e-3, 1e-4)
    requests = _requests(n_train, group, "group")
    return Task("adult", X[:n_train], y[:n_train], X[n_train:], y[n_train:], net, requests)


def housing_task(data: Path, n: int | None = None, epochs: int = 20) -> Task:
    """Task (c): California housing, or scikit-learn's diabetes where its file is absent; MLP with 48 and 24 units."""
    if (data / "california_housing").is_dir():
        table = pd.read_csv(data / "california_housing" / "housing.csv.gz").dropna()
        table = table.sample(frac=1, random_state=0).iloc[:n]
        y = table.pop("median_house_value").to_numpy()
        X, by = pd.get_dummies(table).to_numpy(np.float64), table.columns.get_loc("median_income")
    else:
        X, y = load_diabetes(return_X_y=True)
        by = 2  # body mass index
    X = ((X - X.mean(0)) / np.maximum(X.std(0), 1e-3)).astype(np.float32)
    rows = np.random.default_rng(0).permutation(without_copies(X))
    X, y = X[rows], ((y - y.mean()) / y.std()).astype(np.float32)[rows]
    n_train = len(X) * 4 // 5
    top = np.flatnonzero(X[:n_train, by] > np.quantile(X[:n_train, by], 0.9))
    requests = _drawn(n_train, np.random.default_rng(0)) | {"top decile": top}
    net = _net(partial(mlp, X.shape[1], 48, 24, 1), epochs, 2e-3, 1e-4, regression=True)
    return Task("housing", X[:n_train], y[:n_train], X[n_train:], y[n_train:], net, requests, regression=True)


def full_batch_task(
    model: str, n: int | None = None, tolerance: float = 1e-8, max_iter: int = 8000, width: int = 32
) -> Task:
    """Task (d): digits in float64, trained by L-BFGS on all rows at once to a stated gradient.

    Parameters
    ----------
    model : {"mlp", "cnn"}
        MLP 64-32-10 with tanh (2,410 parameters), or a CNN of 810.
    n : int, default=None
        Training rows; None for three quarters of the 1,797.
    tolerance : float
        Training stops when no entry of the gradient is larger.
    max_iter : int
        Where it stops at the latest.
    width : int
        Hidden units of the MLP.
    """
    X, y = load_digits(return_X_y=True)
    X, test = X / 16, np.arange(len(X)) % 4 == 0
    X_train, y_train = X[~test][:n], y[~test][:n]
    builders = {"mlp": partial(exact_mlp, 64, width, 10), "cnn": small_convnet}

    def net() -> NeuralNet:
        return NeuralNetClassifier(
            Fresh, module__build=builders[model], criterion=nn.CrossEntropyLoss, optimizer=PenalisedLBFGS, lr=1.0,
            optimizer__weight_decay=1e-3, optimizer__max_iter=max_iter, optimizer__max_eval=2 * max_iter,
            optimizer__tolerance_grad=tolerance, optimizer__tolerance_change=0.0, optimizer__history_size=50,
            optimizer__line_search_fn="strong_wolfe", batch_size=-1, max_epochs=1, train_split=None, verbose=0,
        )  # fmt: skip

    order = np.random.default_rng(0).permutation(len(X_train))
    requests = {f"{share} %": order[: len(order) * share // 100] for share in (1, 5, 20)}
    return Task(f"full batch {model}", X_train, y_train, X[test], y[test], net, requests, tolerance=tolerance)


def noisy_task(
    n: int, n_features: int, n_classes: int, noise: float, *, near: bool = False, n_test: int = 2000
) -> Task:
    """Rows whose targets no network can tell, by the built-in network, which is then far from fitting them.

    Parameters
    ----------
    n, n_features : int
        Shape of X, whose entries are normal.
    n_classes : int
        Each row is of the class whose linear score, with Gumbel noise, is the largest; 0 for regression, on a linear
        score with normal noise.
    noise : float
        Of that size; scores have a deviation of about the square root of `n_features`.
    near : bool
        Whether the rows to erase are those with the largest first feature, and not drawn at random.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n + n_test, n_features)).astype(np.float32)
    scores = X @ rng.normal(size=(n_features, max(1, n_classes)))
    y: NDArray[Any] = (scores[:, 0] + noise * rng.normal(size=len(X))).astype(np.float32)
    if n_classes:
        y = (scores + noise * rng.gumbel(size=scores.shape)).argmax(1)
    erased = (np.argsort(-X[:n, 0]) if near else rng.permutation(n))[: n // 20]
    key = f"{n} noisy rows, " + (f"{n_classes} classes" if n_classes else "regression") + near * ", near each other"
    return Task(
        key, X[:n], y[:n], X[n:], y[n:], built_in, {"10 %": rng.permutation(erased)}, regression=not n_classes
    )  # fmt: skip


def noisy_tasks(*, quick: bool = False) -> Iterator[Task]:
    """Yield the tasks (n), for `benchmarks.sequence` alone: what they erase is a twentieth of the rows."""
    if quick:
        yield noisy_task(200, 5, 3, 1.0, n_test=100)
        return
    yield noisy_task(2000, 20, 5, 2.0)
    yield noisy_task(600, 10, 3, 1.5)
    yield noisy_task(1000, 15, 3, 2.0, near=True)
    yield noisy_task(1600, 30, 2, 3.0)
    yield noisy_task(1500, 15, 0, 4.0)


def built_in() -> None:
    """Stand for the network that is built where none is given."""


def tasks(letters: str, data: Path, *, quick: bool = False) -> Iterator[Task]:
    """Yield the tasks asked for, leaving out with a line those whose files are absent.

    Parameters
    ----------
    letters : str
        Such as ``"a,b,c,d"``; n for noisy rows.
    data : Path
        Folder of the data sets.
    quick : bool, default=False
        Far fewer rows and epochs: figures that only show that everything runs.
    """
    for letter in letters.split(","):
        if letter == "a":
            yield digits_task(2500, 4, 500) if quick else digits_task()
        elif letter == "b":
            for folder, build, small in (("fashion_mnist", fashion_task, (1000, 3)), ("adult", adult_task, (3000, 3))):
                if (data / folder).is_dir():
                    yield build(data, *small) if quick else build(data)
                else:
                    print(f"{folder}: not in {data}, left out")
        elif letter == "c":
            yield housing_task(data, 2000, 5) if quick else housing_task(data)
        elif letter == "d":
            for model in ("mlp",) if quick else ("mlp", "cnn"):
                yield full_batch_task(model, 150, 1e-6, 1000, 4) if quick else full_batch_task(model)
        elif letter == "n":
            yield from noisy_tasks(quick=quick)
        else:
            raise ValueError(f"--tasks takes letters of a, b, c, d, n with commas between, got {letter!r}.")
