# Run: python -m benchmarks.handed_in
"""What `partial_forget` makes of calls that are tried again, of copies and of rows that were never trained on.

Usage: ``python -m benchmarks.handed_in``. Iris, the built-in network: the accuracy on all rows before and after every
call, and what the last call said. The file imports nothing of its folder, so that it runs with an older version of the
package, too.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import pandas as pd
from sklearn.datasets import load_iris

from sk_unlearn import UnlearnableClassifier

Call = tuple[np.ndarray, np.ndarray]


def calls(X: np.ndarray, y: np.ndarray) -> list[tuple[str, bool, list[Call]]]:
    """Return what is handed in, whether rows are stored, and the calls."""
    rng = np.random.default_rng(0)
    ten, forty, versicolor = rng.permutation(150)[:10], rng.permutation(150)[:40], np.flatnonzero(y == 1)
    copies = np.tile(ten, 10)
    garbage = rng.normal(X.mean(0), 3 * X.std(0), (10, 4)), rng.integers(0, 3, 10)
    return [
        ("10 rows, five times", False, [(X[ten], y[ten])] * 5),
        ("10 copies of 10 rows", False, [(X[copies], y[copies])]),
        ("10 rows times 10,000, twice", False, [(1e4 * X[ten], y[ten])] * 2),
        ("10 random rows, twice", False, [garbage] * 2),
        ("40 rows, twice", True, [(X[forty], y[forty])] * 2),
        ("a class, twice", True, [(X[versicolor], y[versicolor])] * 2),
        ("10 random rows, twice", True, [garbage] * 2),
    ]


def measure() -> list[dict[str, str]]:
    X, y = load_iris(return_X_y=True)
    measured = []
    for name, keeps, requests in calls(X, y):
        est = UnlearnableClassifier(keep_training_set=keeps, random_state=0).fit(X, y)
        scores = [est.score(X, y)]
        for rows, classes in requests:
            try:
                said = str(est.partial_forget(rows, classes).unlearning_report_.status)
            except ValueError:
                said = "refused"
            scores.append(est.score(X, y))
        accuracies = " → ".join(f"{score:.2f}" for score in scores)
        measured.append({"handed in": name, "rows stored": str(keeps), "accuracy": accuracies, "last call": said})
    return measured


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(arguments)
    warnings.filterwarnings("ignore", category=UserWarning)
    print(pd.DataFrame(measure()).to_string(index=False))


if __name__ == "__main__":
    main()
