# Run: python -m benchmarks.built_in [--quick]
"""The built-in network on rows it was not trained on, beside a linear model and an MLP that stops early.

Usage: ``python -m benchmarks.built_in [--only "digits;hospital"] [--seeds 3] [--rows 20000] [--quick] [--out a.json]``.
One row a table: test score of the built-in network as it was (64 and 32 units, weight decay 1e-4 or 1e-2, rate 3e-3,
batches of up to 512) and as it is, of logistic or ridge regression, of scikit-learn's MLP with ``early_stopping``, by
how many points the network is ahead of the better of these two, its training score and the seconds it took. Points are
hundredths of accuracy or of R^2; medians over the splits, a quarter of the rows held out in each. The rivals' rows are
standardised, and so are targets.

The settings were chosen on the tables in `CHOSEN_ON`; the others were not looked at before and only check them. Tables
whose files are absent are left out with a line.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine, make_friedman1
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_unlearn import MLPNetClassifier, MLPNetRegressor, UnlearnableClassifier, UnlearnableRegressor

Rows = tuple[NDArray[Any], NDArray[Any]]

CHOSEN_ON = frozenset(
    (
        "breast cancer", "wine", "digits", "iris", "adult", "bank", "hospital", "spam", "diabetes", "bike", "bike day",
        "wine quality", "red wine",
    )
)  # fmt: skip


def _adult(data: Path) -> Rows:
    table = pd.read_csv(data / "adult" / "adult.data.gz", header=None, skipinitialspace=True)
    y = (table.pop(14) == ">50K").to_numpy(int)
    return pd.get_dummies(table.drop(columns=[2, 3])).to_numpy(float), y  # the survey's weight; column 4 as text


def _bank(data: Path) -> Rows:
    table = pd.read_csv(data / "bank_marketing" / "bank-full.csv.gz", sep=";")
    y = (table.pop("y") == "yes").to_numpy(int)
    return pd.get_dummies(table).to_numpy(float), y


def _campaign(data: Path) -> Rows:
    """Read the bank's other table: fewer rows, and what the economy was like."""
    table = pd.read_csv(data / "bank_marketing" / "bank-additional-full.csv.gz", sep=";")
    y = (table.pop("y") == "yes").to_numpy(int)
    return pd.get_dummies(table.drop(columns="duration")).to_numpy(float), y  # known only when the call is over


def _hospital(data: Path, *, soon: bool = False) -> Rows:
    """Read Diabetes-130: is a patient readmitted, or within 30 days? Diagnoses by two signs; categories of 20 rows."""
    table = pd.read_csv(data / "diabetes130" / "diabetic_data.csv.gz", low_memory=False)
    readmitted = table.pop("readmitted")
    y = ((readmitted == "<30") if soon else (readmitted != "NO")).to_numpy(int)
    table = table.drop(columns=["encounter_id", "patient_nbr", "weight"])
    codes = ["admission_type_id", "discharge_disposition_id", "admission_source_id"]
    table[codes] = table[codes].astype(str)
    for name in ("diag_1", "diag_2", "diag_3"):
        table[name] = table[name].str[:2]
    X = pd.get_dummies(table).to_numpy(float)
    return X[:, (X != 0).sum(0) >= 20], y


def _spam(data: Path) -> Rows:
    table = pd.read_csv(data / "spambase" / "spambase.data.gz", header=None).to_numpy(float)
    return table[:, :-1], table[:, -1].astype(int)


def _fashion(data: Path) -> Rows:
    """Read the first 6,000 images of Fashion-MNIST, a column a pixel."""
    with gzip.open(data / "fashion_mnist" / "train-images-idx3-ubyte.gz") as file:
        X = np.frombuffer(file.read(16 + 6000 * 784), np.uint8, offset=16).reshape(6000, 784)
    with gzip.open(data / "fashion_mnist" / "train-labels-idx1-ubyte.gz") as file:
        y = np.frombuffer(file.read(8 + 6000), np.uint8, offset=8)
    return X.astype(float), y.astype(int)


def _housing(data: Path) -> Rows:
    table = pd.read_csv(data / "california_housing" / "housing.csv.gz").dropna()
    y = table.pop("median_house_value").to_numpy(float)
    return pd.get_dummies(table).to_numpy(float), y


def _bike(data: Path, every: str) -> Rows:
    table = pd.read_csv(data / "bike_sharing" / f"{every}.csv.gz")
    y = table.pop("cnt").to_numpy(float)
    return table.drop(columns=["instant", "dteday", "casual", "registered"]).to_numpy(float), y


def _wine_quality(data: Path, *colours: str) -> Rows:
    tables = [
        pd.read_csv(data / "wine_quality" / f"winequality-{colour}.csv.gz", sep=";").assign(red=colour == "red")
        for colour in colours
    ]
    table = pd.concat(tables)
    y = table.pop("quality").to_numpy(float)
    return table.to_numpy(float), y


# The rows of each table, and whether it is a regression.
TABLES: dict[str, tuple[Callable[[Path], Rows], bool]] = {
    "breast cancer": (lambda _: load_breast_cancer(return_X_y=True), False),
    "wine": (lambda _: load_wine(return_X_y=True), False),
    "digits": (lambda _: load_digits(return_X_y=True), False),
    "iris": (lambda _: load_iris(return_X_y=True), False),
    "adult": (_adult, False),
    "bank": (_bank, False),
    "hospital": (_hospital, False),
    "spam": (_spam, False),
    "campaign": (_campaign, False),
    "hospital, soon": (lambda data: _hospital(data, soon=True), False),
    "fashion": (_fashion, False),
    "diabetes": (lambda _: load_diabetes(return_X_y=True), True),
    "housing": (_housing, True),
    "bike": (lambda data: _bike(data, "hour"), True),
    "bike day": (lambda data: _bike(data, "day"), True),
    "wine quality": (lambda data: _wine_quality(data, "red", "white"), True),
    "red wine": (lambda data: _wine_quality(data, "red"), True),
    "friedman": (lambda _: make_friedman1(1500, 10, noise=2.0, random_state=0), True),
}
EARLIER: dict[bool, dict[str, Any]] = {
    False: {"lr": 3e-3, "weight_decay": 1e-4},
    True: {"lr": 3e-3, "weight_decay": 1e-2},
}


def estimators(n_rows: int, seed: int, *, regression: bool) -> Iterator[tuple[str, Any]]:
    """Yield name and estimator of everything that is compared; all take rows as they are."""
    kind, net = (UnlearnableRegressor, MLPNetRegressor) if regression else (UnlearnableClassifier, MLPNetClassifier)
    batch_size = int(np.clip(2 ** np.round(np.log2(n_rows / 20)), 64, 512))
    max_epochs = int(np.clip(round(200 * np.sqrt(500 / n_rows)), 10, 200))
    before = net(batch_size=batch_size, max_epochs=max_epochs, **EARLIER[regression])
    yield "before", kind(before, random_state=seed)
    yield "now", kind(random_state=seed)
    rivals = [
        RidgeCV(np.logspace(-2, 4, 13)) if regression else LogisticRegression(max_iter=1000),
        (MLPRegressor if regression else MLPClassifier)(early_stopping=True, max_iter=500, random_state=seed),
    ]
    for name, rival in zip(("linear", "mlp"), rivals, strict=True):
        whole = make_pipeline(StandardScaler(), rival)
        yield name, TransformedTargetRegressor(whole, transformer=StandardScaler()) if regression else whole


def measure(name: str, rows: Rows, seed: int, *, regression: bool, n_max: int) -> dict[str, Any]:
    """Fit everything on one split of a table."""
    X, y = rows
    kept = np.random.default_rng(0).permutation(len(y))[:n_max]
    X, y = X[kept].astype(np.float32), y[kept]
    X, X_test, y, y_test = train_test_split(X, y, random_state=seed, stratify=None if regression else y)
    record: dict[str, Any] = {"table": name, "rows": len(y), "columns": X.shape[1], "seed": seed}
    for key, estimator in estimators(len(y), seed, regression=regression):
        started = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(X, y)
        record |= {f"{key}_seconds": time.process_time() - started, key: 100 * estimator.score(X_test, y_test)}
        record[f"{key}_train"] = 100 * estimator.score(X, y)
    return record


def summary(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one row a table: medians over its splits."""
    numbers = pd.DataFrame(records)
    numbers["ahead"] = numbers["now"] - numbers[["linear", "mlp"]].max(axis=1)
    numbers["ahead_before"] = numbers["before"] - numbers[["linear", "mlp"]].max(axis=1)
    columns = ["rows", "columns", "before", "now", "linear", "mlp", "ahead_before", "ahead"]
    columns += ["before_train", "now_train", "before_seconds", "now_seconds", "mlp_seconds"]
    table = numbers.groupby("table", sort=False)[columns].median()
    table.insert(0, "chosen on", [name in CHOSEN_ON for name in table.index])
    return table


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TABLE;TABLE", help=f"of {'; '.join(TABLES)}")
    parser.add_argument("--seeds", type=int, default=3, help="splits of each table")
    parser.add_argument("--rows", type=int, default=20_000, help="of a table at most")
    parser.add_argument("--quick", action="store_true", help="iris and diabetes, 120 rows of each: it runs")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, help="file for all numbers, in JSON")
    options = parser.parse_args(arguments)
    if options.quick:
        options.only, options.rows, options.seeds = options.only or "iris;diabetes", 120, 2
    wanted = options.only.split(";") if options.only else list(TABLES)
    unknown = sorted(set(wanted) - set(TABLES))
    if unknown:
        parser.error(f"--only names {unknown}; there are {list(TABLES)}")
    torch.set_num_threads(1)
    records = []
    for name in wanted:
        load, regression = TABLES[name]
        try:
            rows = load(options.data)
        except FileNotFoundError:
            print(f"{name}: not in {options.data}, left out")
            continue
        own = [measure(name, rows, seed, regression=regression, n_max=options.rows) for seed in range(options.seeds)]
        records += own
        print(summary(own).round(2).to_string(), flush=True)
    if records:
        table = summary(records)
        print("\n", table.round(1).to_string(), sep="")
        for chosen, part in table.groupby("chosen on"):
            kind = "chosen on" if chosen else "checked on"
            print(f"{kind}: ahead by {part['ahead'].median():+.2f} in the median, {part['ahead'].min():+.2f} at worst")
    if options.out is not None:
        options.out.write_text(json.dumps(records, indent=1, default=float))
    return records


if __name__ == "__main__":
    main()
