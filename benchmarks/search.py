"""What a search over unlearners costs beyond the unlearning itself, beside the trainings that nothing can save.

Usage: ``python -m benchmarks.search [--references 1 3] [--folds 3] [--batch-norm]``. Twelve candidates on digits. The
search fits once a fold and trains references for two requests, one to select by and one to report on. It is compared
with as many fits and single retrainings as there are folds, and with as many fits and trainings of all references of
one request, timed before and after. The default network is trained together with others of its kind; one with
BatchNorm (``--batch-norm``) cannot be. Set OMP_NUM_THREADS for the number of threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.model_selection import ForgetSearchCV
from sk_unlearn.shadow import fit_many
from sk_unlearn.unlearners import FineTune, StoCuReNU


class WithBatchNorm(nn.Sequential):
    """A network that has to be trained by itself."""

    def __init__(self, n_features_in: int, n_outputs: int) -> None:
        super().__init__(
            nn.Linear(n_features_in, 64), nn.BatchNorm1d(64), nn.SiLU(), nn.Linear(64, 32), nn.SiLU(),
            nn.Linear(32, n_outputs),
        )  # fmt: skip


GRID = [
    {"unlearner": [StoCuReNU()], "unlearner__L": ["auto", 0.1, 1.0, 10.0, 100.0, 1000.0]},
    {"unlearner": [FineTune(n, learning_rate=lr) for n in (1, 3, 10) for lr in (None, 1e-3)]},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--batch-norm", action="store_true")
    options = parser.parse_args()
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    estimator = UnlearnableClassifier(WithBatchNorm if options.batch_norm else None, random_state=0)
    fit_many(estimator, X[:200], y[:200], seeds=[0, 1])  # warm up
    kept = np.arange(len(y) - len(y) // options.folds)
    print(f"{torch.get_num_threads()} threads, {options.folds} folds, 12 candidates, seconds")
    for n_references in options.references:
        retained, seeds = kept[len(kept) // 10 :], list(range(n_references))
        search = ForgetSearchCV(
            estimator, GRID, cv=options.folds, n_references=n_references, refit=False, random_state=0
        )

        def reference_times(retained: np.ndarray = retained, seeds: list[int] = seeds) -> list[float]:
            return [
                seconds(lambda: fit_many(estimator, X[kept], y[kept], seeds=[0])),
                seconds(lambda: fit_many(estimator, X[retained], y[retained], seeds=[0])),
                seconds(lambda: fit_many(estimator, X[retained], y[retained], seeds=seeds)),
            ]

        before = reference_times()
        total = seconds(lambda search=search: search.fit(X, y))
        fit, single, several = options.folds * np.mean([before, reference_times()], axis=0)
        unlearning = search.times_["candidates"] + search.times_["report"]
        spent = total - unlearning
        print(
            f"{n_references} references: search {total:.1f}, of which unlearning and measuring {unlearning:.1f}, the "
            f"rest {spent:.1f}\n"
            f"  {spent / (fit + single):.2f} x fits and single retrainings ({fit:.1f} + {single:.1f})\n"
            f"  {spent / (fit + several):.2f} x fits and all references of one request ({fit:.1f} + {several:.1f})"
        )


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
