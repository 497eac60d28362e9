# Part of: benchmarks.every_layer, benchmarks.readme (python -m benchmarks.every_layer)
"""What is learnt and forgotten where the trace of the rows lies in any layer: the tasks of `benchmarks.every_layer`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes, load_digits

from benchmarks._every_layer_nets import (
    OPTIMISERS,
    Recommender,
    classifier,
    closed_doors,
    flipped_and_shifted,
    ratings,
    resnet,
)
from benchmarks._tasks import (
    Requests,
    Task,
    adult_rows,
    adult_task,
    fashion_rows,
    fashion_task,
    mlp,
    without_copies,
)

OCCUPATIONS = ("Exec-managerial", "Sales", "Prof-specialty")


@dataclass(frozen=True)
class Limit:
    """What is wanted of the default, in medians over seeds.

    Attributes
    ----------
    distance : float
        Largest distance on the erased rows.
    share : float
        Largest share of retraining's time; rivals are given as much.
    column : {"ratio", "same"}
        Whether the distance is that from the models retrained from other seeds, or from the one of the same seed.
    no_worse : bool
        The distance from the model retrained from the same seed must not be larger than after doing nothing.
    no_rival : bool
        No rival may be closer in the time that the default takes.
    """

    distance: float = math.inf
    share: float = 0.25
    column: str = "ratio"
    no_worse: bool = False
    no_rival: bool = False


NO_HARM = Limit(no_worse=True)


@dataclass(frozen=True)
class LayerTask(Task):
    """A task with what is wanted of it.

    Attributes
    ----------
    limits : dict of str to Limit
        By request.
    references : int
        Seeds from which is retrained; more than the seeds of the fitted models where the initial values of a group's
        weights decide how far retrained models are from each other.
    ids : ndarray or None
        Whose row each one is. Rows are then forgotten by these.
    probes : tuple of str
        What else is measured; see `benchmarks._every_layer_probes`.
    """

    limits: Mapping[str, Limit] = field(default_factory=dict)
    references: int = 5
    ids: NDArray[Any] | None = None
    probes: tuple[str, ...] = ()

    def handed_in(self, erased: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        if self.ids is None:
            return super().handed_in(erased)
        return {"sample_id": np.unique(self.ids[erased])}

    def fit(self, seed: int) -> Any:
        given = {} if self.ids is None else {"sample_id": self.ids}
        return self.estimator(seed).fit(self.X, self.y, **given)


Tasks = Iterator[LayerTask]


def built_in() -> None:
    """Stand for the network that is built where none is given."""


def few(n: int, share: float = 0.01) -> Requests:
    """Return a row, and a share of the rows, at random."""
    order = np.random.default_rng(0).permutation(n)
    return {"one row": order[:1], f"{100 * share:g} %": order[: max(1, round(share * n))]}


def classes(y: NDArray[np.int64], *which: int) -> Requests:
    return {f"class {c}": np.flatnonzero(y == c) for c in which}


def recommenders(data: Path, quick: bool) -> Tasks:
    """Yield thirty of 600 users, of whom the model knows a row of an embedding each; ten of 60 with `quick`."""
    n_users, n_items, per_user, n_erased, epochs = (60, 30, 25, 10, 4) if quick else (600, 120, 50, 30, 20)
    X, y = ratings(n_users, n_items, per_user)
    test = np.tile(np.arange(per_user) >= per_user * 4 // 5, n_users)
    erased = np.flatnonzero(X[~test][:, 0] < n_erased)
    small, wide = 0.1, 1.0  # deviation of the initial embeddings
    variants = [(name, cosine, small) for name in OPTIMISERS for cosine in (False, True)]
    variants += [("Adam", False, wide), ("SGD", True, wide)]
    for name, cosine, deviation in variants[: 1 if quick else None]:
        build = partial(Recommender, n_users, n_items, deviation)
        yield LayerTask(
            f"recommender, {name}{', cosine' if cosine else ''}{', wide' if deviation == wide else ''}",
            *(X[~test], y[~test], X[test], y[test]),
            *(classifier(build, epochs, cosine=cosine, **OPTIMISERS[name]), {f"{n_erased} users": erased}),
            limits={f"{n_erased} users": Limit(1.3, 0.02)}, references=3 if quick else 8, probes=("users",),
        )  # fmt: skip


def adult(data: Path, quick: bool) -> Tasks:
    """Yield occupations, of which the first layer knows a column each, whole and half; and what must do no harm."""
    n, epochs = (3000, 2) if quick else (None, 10)
    X, y, occupation = adult_rows(data, n)
    n_train = len(X) * 4 // 5
    requests, limits = few(n_train), dict.fromkeys(few(n_train), NO_HARM)
    for name in OCCUPATIONS:
        group = np.flatnonzero(occupation[:n_train] == name)
        requests[name] = group
        requests[f"half of {name}"] = np.random.default_rng(0).permutation(group)[: len(group) // 2]
        limits[name] = Limit(1.0, 0.03, "same")
        limits[f"half of {name}"] = Limit(share=0.03, no_worse=True)
    net = adult_task(data, n, epochs).net
    yield LayerTask(
        "adult", X[:n_train], y[:n_train], X[n_train:], y[n_train:], net, requests, limits=limits,
        references=3 if quick else 8,
    )  # fmt: skip


def _chapters(codes: pd.Series) -> pd.Series:
    """Return the hundred of a numeric diagnosis, or its letter."""
    number = pd.to_numeric(codes, errors="coerce")
    return (number // 100).astype("Int64").astype(str).where(number.notna(), codes.str[:1])


def hospital_rows(data: Path, n_patients: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return the stays of some patients of Diabetes-130, whether they came back, and whose stay it is."""
    table = pd.read_csv(data / "diabetes130" / "diabetic_data.csv.gz", dtype=str)
    patients = np.random.default_rng(0).permutation(table.patient_nbr.unique())[:n_patients]
    table = table[table.patient_nbr.isin(patients)].sample(frac=1, random_state=0)
    y = (table.readmitted != "NO").to_numpy(np.int64)
    whose = table.patient_nbr.to_numpy(np.int64)
    table = table.drop(columns=["encounter_id", "patient_nbr", "readmitted", "weight", "payer_code"])
    for name in ("diag_1", "diag_2", "diag_3"):
        table[name] = _chapters(table[name])
    counts = [c for c in table if c.startswith(("num", "time_in"))]
    common = table.drop(columns=counts).apply(lambda column: column.where(column.map(column.value_counts()) >= 20, "-"))
    X = np.hstack([table[counts].to_numpy(np.float32), pd.get_dummies(common).to_numpy(np.float32)])
    return X, y, whose


def diabetes(data: Path, quick: bool) -> Tasks:
    """Yield patients of a hospital table, each with all stays; the built-in network learns it by heart."""
    X, y, whose = hospital_rows(data, 400 if quick else 4500)
    people = np.random.default_rng(1).permutation(np.unique(whose))
    test = np.isin(whose, people[: len(people) // 5])
    people, ids = people[len(people) // 5 :], whose[~test]
    chosen = {"20 patients": people[:20], "5 % of patients": people[: len(people) // 20]}
    requests = {name: np.flatnonzero(np.isin(ids, them)) for name, them in chosen.items()}
    yield LayerTask(
        "diabetes", X[~test], y[~test], X[test], y[test], built_in, requests,
        limits=dict.fromkeys(requests, Limit(1.25)), ids=ids, references=3 if quick else 5,
    )  # fmt: skip


def digits(data: Path, quick: bool) -> Tasks:
    """Yield classes, and writers, whose 120 rows or so stand in a row; the built-in network."""
    X, y = load_digits(return_X_y=True)
    X, test = X / 16, np.arange(len(X)) % 4 == 0
    X_train, y_train = X[~test], y[~test].astype(np.int64)
    if quick:
        X_train, y_train = X_train[:300], y_train[:300]
    length, starts = (30, (90,)) if quick else (120, (0, 300, 600, 900))
    requests = classes(y_train, *((3,) if quick else (0, 3, 5, 8)))
    requests |= {f"writer at {start}": np.arange(start, start + length) for start in starts}
    drawn = few(len(X_train))
    yield LayerTask(
        "digits", X_train, y_train, X[test], y[test].astype(np.int64), built_in, requests | drawn,
        limits=dict.fromkeys(requests, Limit(1.2)) | dict.fromkeys(drawn, NO_HARM), references=3 if quick else 5,
        probes=("features", "relearning"),
    )  # fmt: skip


def fashion_mlps(data: Path, quick: bool) -> Tasks:
    """Yield three classes of 3,000 images; an MLP, with and without a schedule."""
    n, epochs = (600, 4) if quick else (3000, 30)
    X, y, X_test, y_test = fashion_rows(data, n, n)
    requests = classes(y, 0, 3, 8)
    for cosine in (False, True):
        yield LayerTask(
            f"fashion MLP, {'cosine' if cosine else 'constant'}",
            *(X.reshape(len(X), -1), y, X_test.reshape(len(X_test), -1), y_test),
            *(classifier(partial(mlp, 784, 128, 64, 10), epochs, cosine=cosine, batch_size=64), requests),
            limits=dict.fromkeys(requests, Limit(1.5, no_rival=True)), references=3 if quick else 4,
            probes=("features", "relearning"),
        )  # fmt: skip


def doors(data: Path, quick: bool) -> Tasks:
    """Yield nets whose logits no plain linear layer gives; a class and a random twentieth of digits.

    A quarter of the rows is what the nets with maps of low rank were pretrained on, to tell digits in pairs.
    """
    X, y = load_digits(return_X_y=True)
    X, y, quarter = (X / 16).astype(np.float32), y.astype(np.int64), np.arange(len(X)) % 4
    before, test = quarter == 1, quarter == 0
    X_train, y_train = X[quarter > 1], y[quarter > 1]
    if quick:
        X_train, y_train = X_train[:200], y_train[:200]
    requests = classes(y_train, 3) | {"5 %": few(len(y_train), 0.05)["5 %"]}
    nets = closed_doors(X[before].tobytes(), (y[before] // 2).tobytes())
    for name, build in list(nets.items())[: 2 if quick else None]:
        net = classifier(build, 3 if quick else 60, lr=3e-3, batch_size=64)
        yield LayerTask(
            f"door, {name}", X_train, y_train, X[test], y[test], net, requests,
            limits=dict.fromkeys(requests, Limit(no_rival=True)), references=3 if quick else 5,
        )  # fmt: skip


def fashion_cnn(data: Path, quick: bool) -> Tasks:
    """Yield a class of 20,000 images; and what must do no harm."""
    task = fashion_task(data, *((800, 2, 800) if quick else ()))
    requests = classes(task.y, 3) | {name: task.requests[name] for name in ("one row", "10 %")}
    yield LayerTask(
        "fashion CNN", task.X, task.y, task.X_test, task.y_test, task.net, requests,
        limits={"class 3": Limit(0.75, 0.06, "same"), "one row": NO_HARM, "10 %": NO_HARM}, references=3,
        probes=("features", "relearning"),
    )  # fmt: skip


def cifar(data: Path, quick: bool) -> Tasks:
    """Yield a class and a random twentieth of 4,000 images; a residual net with BatchNorm, on augmented rows."""
    n, epochs = (300, 1) if quick else (4000, 10)
    file = np.load(data / "cifar10" / "cifar10_20k.npz")

    def images(name: str, n: int) -> NDArray[np.float32]:
        return np.ascontiguousarray(file[name][:n].transpose(0, 3, 1, 2)).astype(np.float32) / 255 - 0.5

    X, y, n_test = images("X_train", n), file["y_train"][:n].astype(np.int64), min(n, 2000)
    rows = without_copies(X)
    X, y = X[rows], y[rows]
    requests = classes(y, 3) | few(len(y), 0.05)
    net = classifier(
        resnet, epochs, cosine=True, optimizer=torch.optim.SGD, optimizer__momentum=0.9, optimizer__weight_decay=5e-4,
        lr=0.05, batch_size=64, iterator_train__collate_fn=flipped_and_shifted,
    )  # fmt: skip
    yield LayerTask(
        "cifar", X, y, images("X_test", n_test), file["y_test"][:n_test].astype(np.int64), net, requests,
        limits={"class 3": Limit(1.0, 0.15, "same"), "one row": NO_HARM, "5 %": Limit(1.0, 0.15, "same")}, references=3,
    )  # fmt: skip


def _regression(key: str, X: NDArray[Any], y: NDArray[Any], group: NDArray[np.bool_], name: str, limit: Limit) -> Task:
    """Return a task for the built-in network: every fifth row is for testing, a group of the others to be erased."""
    X, y = X.astype(np.float32), ((y - y.mean()) / y.std()).astype(np.float32)
    order = np.random.default_rng(0).permutation(without_copies(X))
    X, y, group = X[order], y[order], group[order]
    n = len(X) * 4 // 5
    requests = {name: np.flatnonzero(group[:n])} | few(n)
    return LayerTask(
        key, X[:n], y[:n], X[n:], y[n:], built_in, requests, regression=True,
        limits=dict.fromkeys(requests, NO_HARM) | {name: limit},
    )  # fmt: skip


def housing(data: Path, quick: bool) -> Tasks:
    """Yield the districts of California's far north, or those of scikit-learn's diabetes who are very heavy."""
    if quick or not (data / "california_housing").is_dir():
        X, y = load_diabetes(return_X_y=True)
        yield _regression("housing", X, y, X[:, 2] > np.quantile(X[:, 2], 0.9), "region", Limit(1.4))
        return
    table = pd.read_csv(data / "california_housing" / "housing.csv.gz").dropna()
    y, north = table.pop("median_house_value").to_numpy(), (table.latitude > 40).to_numpy()
    yield _regression("housing", pd.get_dummies(table).to_numpy(np.float64), y, north, "region", Limit(1.4))


def bike(data: Path, quick: bool) -> Tasks:
    """Yield a fortnight in the first summer, of two years hour by hour."""
    table = pd.read_csv(data / "bike_sharing" / "hour.csv.gz")
    day = (pd.to_datetime(table.dteday) - pd.Timestamp("2011-01-01")).dt.days
    y, fortnight = table.cnt.to_numpy(np.float64), ((day >= 190) & (day < 204)).to_numpy()
    numbers = table[["temp", "atemp", "hum", "windspeed", "holiday", "workingday"]].assign(day=day)
    names = pd.get_dummies(table[["hr", "weekday", "weathersit"]].astype(str))
    X = np.hstack([numbers.to_numpy(np.float64), names.to_numpy(np.float64)])
    rows = slice(None, None, 8 if quick else 1)
    yield _regression("bike", X[rows], y[rows], fortnight[rows], "fortnight", Limit(1.2))


@dataclass(frozen=True)
class Group:
    """Tasks of a kind, and the folder of data that they need, if any."""

    tasks: Callable[[Path, bool], Tasks]
    folder: str | None = None


GROUPS = {
    "recommender": Group(recommenders),
    "adult": Group(adult, "adult"),
    "digits": Group(digits),
    "doors": Group(doors),
    "housing": Group(housing),
    "bike": Group(bike, "bike_sharing"),
    "diabetes": Group(diabetes, "diabetes130"),
    "fashion-mlp": Group(fashion_mlps, "fashion_mnist"),
    "fashion-cnn": Group(fashion_cnn, "fashion_mnist"),
    "cifar": Group(cifar, "cifar10"),
}
QUICK = ("recommender", "digits", "doors", "housing")


def layer_tasks(names: list[str], data: Path, quick: bool = False) -> Tasks:
    """Yield the tasks of the groups asked for; those whose files are absent are left out with a line."""
    for name in names:
        group = GROUPS[name]
        if group.folder is not None and not (data / group.folder).is_dir():
            print(f"{name}: {group.folder} is not in {data}, left out")
            continue
        yield from group.tasks(data, quick)
