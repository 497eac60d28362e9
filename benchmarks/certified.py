# Run: python -m benchmarks.certified [--quick]
"""What noisy fine-tuning keeps of the fitted weights: beside the same run from the initial ones, and beside retraining.

Usage: ``python -m benchmarks.certified [--quick] [--seeds 4] [--epsilons 1,8,100] [--epochs 1,10] [--out FOLDER]``.

Scikit-learn's digits: 1,300 rows to train on, of which 65 are erased, and the built-in network. *Warm* is
``NoisyFineTune`` as it is, *cold* the same run with the same noise where the fitted weights were the initial ones: all
that the old weights were good for is the difference of the two. Beside them stand ``Retrain(share=0.1)`` and
``Retrain()``, whose certificates are exact, and the fitted network. Accuracies on retained and on unseen rows, and the
time as a share of that of ``Retrain()``, are means over the seeds with standard errors; δ is 1e-5. Each seed has a
split, an initialisation and noise of its own.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.utils import vector_to_parameters

from benchmarks._measure import Clock
from benchmarks._options import write
from sk_unlearn import MLPNetClassifier, UnlearnableClassifier
from sk_unlearn.unlearners import NoisyFineTune, Retrain, Unlearner

DELTA = 1e-5
Record = dict[str, Any]


def as_at_the_start(fitted: UnlearnableClassifier) -> UnlearnableClassifier:
    """Return a copy whose fitted weights are the initial ones."""
    cold = copy.deepcopy(fitted)
    with torch.no_grad():
        trainable = [p for p in cold.net_.module_.parameters() if p.requires_grad]
        vector_to_parameters(cold.unlearning_state_.start.parameters.to(trainable[0]), trainable)
    return cold


def measure(seed: int, epsilons: Sequence[float], epochs: Sequence[int], *, quick: bool = False) -> list[Record]:
    """Return a record for every method and start of one seed."""
    X, y = load_digits(return_X_y=True)
    n_train, n_erased = (200, 10) if quick else (1300, 65)
    X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=n_train, stratify=y, random_state=seed)
    gone, stay = slice(0, n_erased), slice(n_erased, None)
    net = MLPNetClassifier(max_epochs=10) if quick else None
    fitted = UnlearnableClassifier(net, random_state=seed).fit(X_train, y_train)
    starts = {"warm": fitted, "cold": as_at_the_start(fitted)}
    records: list[Record] = []

    def record(method: str, start: str, model: UnlearnableClassifier, cpu: float) -> None:
        accuracies = {"retained": model.score(X_train[stay], y_train[stay]), "unseen": model.score(X_test, y_test)}
        records.append({"seed": seed, "method": method, "start": start, **accuracies, "time": cpu})

    def run(method: str, unlearner: Unlearner, start: str) -> float:
        model = copy.deepcopy(starts[start]).set_params(unlearner=unlearner)
        with Clock() as clock:
            model.forget(X_train[gone], y_train[gone])
        record(method, start, model, clock.cpu)
        return clock.cpu

    record("nothing", "warm", fitted, 0.0)
    whole = run("Retrain()", Retrain(), "warm")
    run("Retrain(share=0.1)", Retrain(0.1), "warm")
    for n_epochs in epochs:
        for epsilon in epsilons:
            unlearner = NoisyFineTune(epsilon, DELTA, n_epochs=n_epochs, cold_control=False)
            for start in starts:
                run(f"NoisyFineTune({epsilon:g}, n_epochs={n_epochs})", unlearner, start)
    return [each | {"time": each["time"] / whole} for each in records]


def table(records: Sequence[Record]) -> pd.DataFrame:
    """Return means with standard errors as text, a line a method, warm beside cold, in the order of measurement."""
    frame = pd.DataFrame(records)
    groups = frame.groupby(["method", "start"], sort=False)[["retained", "unseen", "time"]]
    means, errors = groups.mean(), groups.sem()
    told = pd.DataFrame({c: [f"{m:.3f} ± {e:.3f}" for m, e in zip(means[c], errors[c], strict=True)] for c in means})
    told.index = means.index
    wide = told.unstack("start").reindex(frame["method"].drop_duplicates())
    columns = [(measure, start) for measure in ("retained", "unseen") for start in ("warm", "cold")]
    wide = wide[[*columns, ("time", "warm")]].fillna("")
    wide.columns = ["retained", "retained, cold", "unseen", "unseen, cold", "time"]
    return wide


def main(arguments: Sequence[str] | None = None) -> list[Record]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows, two seeds: to see that it runs")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epsilons", default="1,8,100", help="with commas between")
    parser.add_argument("--epochs", default="1,10", help="after the noisy steps, with commas between")
    parser.add_argument("--out", type=Path, help="folder for the records, as JSON")
    options = parser.parse_args(arguments)
    seeds = 2 if options.quick else options.seeds
    if seeds < 2:
        parser.error(f"--seeds must be at least 2, got {seeds}: standard errors need two.")
    epsilons = [float(each) for each in options.epsilons.split(",")]
    epochs = [int(each) for each in options.epochs.split(",")]
    records: list[Record] = []
    for seed in range(seeds):
        records += measure(seed, epsilons, epochs, quick=options.quick)
        print(f"seed {seed} done", flush=True)
    told = table(records)
    lines = [" | ".join(["method", *told.columns]), " | ".join(["---"] * (1 + len(told.columns)))]
    lines += [" | ".join([str(method), *row]) for method, row in zip(told.index, told.to_numpy(), strict=True)]
    print("\n" + "\n".join(f"| {line} |" for line in lines))
    write(options, "certified", {"records": records})
    return records


if __name__ == "__main__":
    main()
