# Run: python -m benchmarks.shards [--quick]
"""Shards against one model: what a request costs, and what exactness costs in accuracy.

Usage: ``python -m benchmarks.shards [--rows 1300] [--seeds 3] [--quick] [--out DIR]``. The digits of scikit-learn, a
person for every two rows, a multi-layer perceptron with Adam. One model is asked to forget by its default unlearner and
by ``Retrain``; sharded ones train anew the shards that hold the rows. Four tables, means over the seeds; times are
processor time over that of training one model:

- *requests*, of one person, of ten, or of a hundred. *agree* is the share of test rows on which the model predicts what
  a fresh fit on the rows that are left predicts, which is 1 for whatever is exact; accuracy is on test rows afterwards;
- *a day* of so many requests of one person each: carried out one by one, or all together in the evening;
- *persons of 20 rows*: one person's request, where ``fit`` was told whose each row is and where it was not;
- *rows*: accuracy of shards before any request, by how many rows of a class each of them sees.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import nn, optim

from benchmarks._options import write
from sk_unlearn import ShardedClassifier, UnlearnableClassifier
from sk_unlearn.unlearners import Retrain

_N_TRAIN, _N_PERSONS = 1300, (1, 10, 100)


class Net(nn.Sequential):
    """64 inputs, 64 hidden units, 10 outputs."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def one_model(unlearner: Any, epochs: int, seed: int) -> UnlearnableClassifier:
    """Return a model of all rows."""
    net = NeuralNetClassifier(
        Net, criterion=nn.CrossEntropyLoss, optimizer=optim.Adam, optimizer__weight_decay=1e-4, lr=2e-3,
        max_epochs=epochs, batch_size=32, iterator_train__shuffle=True, train_split=None, verbose=0,
    )  # fmt: skip
    return UnlearnableClassifier(net, unlearner, random_state=seed)


def ways(epochs: int, seed: int, shards: Sequence[tuple[int, int]]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the name of each way to forget, and what builds its estimator."""
    yield "one model, default", lambda: one_model(None, epochs, seed)
    yield "one model, Retrain", lambda: one_model(Retrain(), epochs, seed)
    for n_shards, n_slices in shards:
        name = f"{n_shards} shards" + (f" of {n_slices} slices" if n_slices > 1 else "")
        template = one_model(None, epochs, seed)

        def build(template: Any = template, n: int = n_shards, m: int = n_slices) -> ShardedClassifier:
            return ShardedClassifier(template, n, m, random_state=seed)

        yield name, build


def measured(
    build: Callable[[], Any], X: NDArray[Any], y: NDArray[Any], person: NDArray[Any], test: Any, n_persons: int
) -> dict[str, float]:
    """Fit, forget the first persons, and compare with a fresh fit on the rows that are left."""
    start = time.process_time()
    est = build().fit(X, y, sample_id=person)
    fit = time.process_time() - start
    start = time.process_time()
    est.forget(sample_id=np.arange(n_persons))
    request = time.process_time() - start
    stay = person >= n_persons
    fresh = clone(est).fit(X[stay], y[stay], sample_id=person[stay])
    predicted = est.predict(test[0])
    touched = est.unlearning_report_.extra.get("n_shards_touched", 1)
    return {
        "fit": fit,
        "request": request,
        "touched": touched,
        "accuracy": float(np.mean(predicted == test[1])),
        "agree": float(np.mean(predicted == fresh.predict(test[0]))),
    }


def one_person(
    build: Callable[[], Any], X: NDArray[Any], y: NDArray[Any], n_rows: int, *, named: bool
) -> dict[str, float]:
    """Forget the first person of so many rows, whose rows ``fit`` was told of or was not."""
    est = build().fit(X, y, sample_id=np.arange(len(X)) // n_rows if named else None)
    start = time.process_time()
    if named:
        est.forget(sample_id=[0])
    else:
        est.forget(X[:n_rows], y[:n_rows])
    return {
        "request": time.process_time() - start,
        "touched": est.unlearning_report_.extra.get("n_shards_touched", 1),
    }


def summary(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return means over the seeds, times over those of training one model."""
    table = pd.DataFrame(records)
    one = unit_of(records)
    table["fit"] /= table["seed"].map(one)
    table["request"] /= table["seed"].map(one)
    columns = ["fit", "request", "touched", "accuracy", "agree"]
    return table.groupby(["persons", "way"], sort=False)[columns].mean()


def unit_of(records: Sequence[dict[str, Any]]) -> dict[int, float]:
    """Return the seconds of training one model, by seed."""
    table = pd.DataFrame(records)
    units: dict[int, float] = table[table["way"] == "one model, Retrain"].groupby("seed")["fit"].mean().to_dict()
    return units


def days(requests: pd.DataFrame) -> pd.DataFrame:
    """Return what a day of requests costs, out of the costs of single ones.

    Parameters
    ----------
    requests : DataFrame
        Of :func:`summary`.
    """
    cost = requests["request"].unstack("persons", sort=False)
    columns = {}
    for n in cost.columns:
        columns[n, "one by one"] = n * cost[1]
        columns[n, "together"] = cost[n]
    return pd.DataFrame(columns, index=cost.index).rename_axis(columns=["requests a day", ""])


def main(argv: Sequence[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=_N_TRAIN)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few rows and epochs, to see that it runs")
    parser.add_argument("--out", type=Path, help="folder for JSON")
    options = parser.parse_args(argv)
    n, epochs, seeds = (200, 3, 1) if options.quick else (options.rows, 40, options.seeds)
    shards = [(4, 1), (2, 2)] if options.quick else [(5, 1), (10, 1), (20, 1), (5, 5)]
    asked = _N_PERSONS[:2] if options.quick else _N_PERSONS
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = (X[order] / 16).astype(np.float32), y[order]
    test, person = (X[_N_TRAIN:], y[_N_TRAIN:]), np.arange(n) // 2
    one_model(None, 1, 0).fit(X[:n], y[:n]).forget(X[:1])  # what is loaded at the first use is in no figure
    requests, spread, rows = [], [], []
    for seed in range(seeds):
        for n_persons in asked:
            for name, build in ways(epochs, seed, shards):
                here = {"persons": n_persons, "way": name, "seed": seed}
                requests.append(here | measured(build, X[:n], y[:n], person, test, n_persons))
        for named in (True, False):
            for name, build in ways(epochs, seed, shards):
                here = {"way": name, "named": named, "seed": seed}
                spread.append(here | one_person(build, X[:n], y[:n], 20, named=named))
        for n_rows in (n // 8, n // 4, n // 2, n):
            for n_shards in (1, 2) if options.quick else (1, 5, 10, 20):
                est = ShardedClassifier(one_model(None, epochs, seed), n_shards, random_state=seed)
                accuracy = est.fit(X[:n_rows], y[:n_rows]).score(*test)
                rows.append({"rows": n_rows, "shards": n_shards, "seed": seed, "accuracy": accuracy})
    table = summary(requests)
    print("Requests\n\n", table.round(3).to_string(), "\n\nA day\n\n", days(table).round(2).to_string())
    people, unit = pd.DataFrame(spread), unit_of(requests)
    people["request"] /= people["seed"].map(unit)
    columns = ["request", "touched"]
    print("\nPersons of 20 rows\n\n", people.groupby(["named", "way"], sort=False)[columns].mean().round(3).to_string())
    accuracies = pd.DataFrame(rows).pivot_table("accuracy", "rows", "shards")
    print("\nAccuracy by rows and shards\n\n", accuracies.round(3).to_string())
    records = {"requests": requests, "spread": spread, "rows": rows}
    write(options, "shards", records)
    return records


if __name__ == "__main__":
    main()
