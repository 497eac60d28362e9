# Part of: python -m benchmarks.papers
"""What `benchmarks.papers` asks of a network: rows, labels, networks, requests, and what else is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from skorch import NeuralNet
from torch import nn

from benchmarks._tasks import Task, _net, convnet, fashion_rows, without_copies

Images = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]

PARTS = ("class", "sample", "canaries", "confusion", "rounds")
ROUNDS = 5
# Classes of Fashion-MNIST that no network mixes up by itself, a pair a seed; and of each the share that is swapped.
PAIRS, SWAPPED = ((1, 8), (3, 5), (0, 9)), 0.5
# Share of the rows that get a wrong label, among how many at most, and how the network learns them by heart.
CANARIES, CANARY_ROWS = 0.02, 6000
BY_HEART = {"times": 8, "batch_size": 32}  # and no weight decay
LEARNING_RATE, WEIGHT_DECAY = 2e-3, 5e-4


def small_cnn() -> nn.Sequential:
    """Return 730 parameters on 28 x 28, of which a full Hessian can be had; the last layer is 32 -> 10."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32, 10)),
    )


@dataclass(frozen=True)
class Net:
    """A network, how many epochs it is trained, and whether its full Hessian can be had."""

    build: Callable[[], nn.Module]
    epochs: int
    dense: bool


NETS = {"cnn": Net(convnet, 8, dense=False), "small": Net(small_cnn, 20, dense=True)}


@dataclass(frozen=True)
class Problem:
    """One request, in one piece or in several.

    Attributes
    ----------
    name : str
        As in tables.
    task : Task
        Its only request is the one that is asked.
    fit : str
        Problems of a seed with the same have the same rows and labels, and so the same fitted network.
    request : str
        Problems of a seed with the same have the same erased rows, and so the same retrained networks.
    rounds : int
        In how many pieces the rows go.
    pair : tuple of int or None
        Two classes whose labels were swapped for the erased rows.
    """

    name: str
    task: Task
    fit: str
    request: str
    rounds: int = 1
    pair: tuple[int, int] | None = None

    @property
    def erased(self) -> NDArray[np.int64]:
        return self.task.requests[self.request]

    @property
    def pieces(self) -> list[NDArray[np.int64]]:
        """The erased rows, round by round."""
        return np.array_split(np.random.default_rng(0).permutation(self.erased), self.rounds)

    def confused(self, probabilities: NDArray[Any]) -> float:
        """Return the share of test rows of the two classes, the first of all, that are taken for the other."""
        if self.pair is None:
            return float("nan")
        a, b = self.pair
        true, said = self.task.y_test[: len(probabilities)], probabilities.argmax(1)
        among = np.isin(true, self.pair)
        return float(np.mean(said[among] == np.where(true[among] == a, b, a)))


def images(data: Path, n: int, *, quick: bool) -> Images:
    """Return training and test images with their labels; few digits, laid out in the same way, to be quick."""
    if not quick:
        return fashion_rows(data, n, 10_000)
    X, y = load_digits(return_X_y=True)
    rows = without_copies(X)
    enlarged = np.kron(X[rows].reshape(-1, 1, 8, 8) / 16 - 0.5, np.ones((3, 3)))
    X = np.pad(enlarged, ((0, 0), (0, 0), (2, 2), (2, 2)), constant_values=-0.5).astype(np.float32)
    return X[:n], y[rows[:n]], X[n : 2 * n], y[rows[n : 2 * n]]


def problems(part: str, rows: Images, net: Net, seed: int) -> Iterator[Problem]:
    """Yield what one part asks of the network of one seed."""
    X, y, X_test, y_test = rows
    if part == "canaries":
        X, y = X[:CANARY_ROWS], y[:CANARY_ROWS]
    rng = np.random.default_rng(seed)
    tenth, gone = rng.permutation(len(y))[: len(y) // 10], np.flatnonzero(y == (3 + seed) % 10)

    def problem(name: str, fit: str, erased: NDArray[np.int64], labels: NDArray[np.int64], **more: Any) -> Problem:
        request = name.split(",")[0]
        task = Task(name, X, labels, X_test, y_test, trained(net, by_heart=part == "canaries"), {request: erased})
        return Problem(name, task, fit, request, **more)

    if part == "class":
        yield problem("class", "plain", gone, y)
    elif part == "sample":
        yield problem("sample", "plain", tenth, y)
    elif part == "rounds":
        yield problem(f"class, in {ROUNDS} rounds", "plain", gone, y, rounds=ROUNDS)
        yield problem(f"sample, in {ROUNDS} rounds", "plain", tenth, y, rounds=ROUNDS)
    elif part == "canaries":
        canaries = rng.permutation(len(y))[: round(CANARIES * len(y))]
        labels = y.copy()
        labels[canaries] = (labels[canaries] + rng.integers(1, 10, len(canaries))) % 10
        yield problem("canaries", "canaries", canaries, labels)
    else:
        pair = PAIRS[seed % len(PAIRS)]
        swapped = np.concatenate([_share(np.flatnonzero(y == c), SWAPPED, rng) for c in pair])
        labels = y.copy()
        labels[swapped] = sum(pair) - labels[swapped]
        yield problem("confusion", "confusion", swapped, labels, pair=pair)


def trained(net: Net, *, by_heart: bool) -> Callable[[], NeuralNet]:
    """Return what makes a net to be trained, in the usual way or until it knows wrong labels by heart."""
    if not by_heart:
        return _net(net.build, net.epochs, LEARNING_RATE, WEIGHT_DECAY)
    longer = _net(net.build, BY_HEART["times"] * net.epochs, LEARNING_RATE, 0.0)
    return lambda: longer().set_params(batch_size=BY_HEART["batch_size"])


def _share(rows: NDArray[np.int64], share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.permutation(rows)[: round(share * len(rows))]
