# Run: python -m benchmarks.shadow
"""How much faster shadow models train together than one after the other, and whether they are the same models.

Usage: ``python -m benchmarks.shadow [--models 64] [--alone 8] [--dtype float32]``. The default network on random halves
of digits. Of the models, ``--alone`` are fitted once more by themselves, before and after, and their mean time is taken
for all: wall clock and processor time. Set OMP_NUM_THREADS for the number of threads.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch
from scipy.stats import ks_2samp
from sklearn.base import clone
from sklearn.datasets import load_digits

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.references.many import fit_many

CLOCKS = {"wall clock": time.perf_counter, "processor": time.process_time}


def together_and_alone(
    n_models: int, n_alone: int, dtype: str = "float32", n_rows: int | None = None
) -> dict[str, Any]:
    """Return seconds of one model alone and of all of them together, by clock, and how the models differ."""
    X, y = (array[:n_rows] for array in load_digits(return_X_y=True))
    X = X.astype(dtype)
    rng = np.random.default_rng(0)
    halves = [np.sort(rng.permutation(len(y))[: len(y) // 2]) for _ in range(n_models)]
    estimator = UnlearnableClassifier()

    def alone(numbers: range) -> list[UnlearnableClassifier]:
        return [clone(estimator).set_params(random_state=k).fit(X[halves[k]], y[halves[k]]) for k in numbers]

    def now() -> list[float]:
        return [clock() for clock in CLOCKS.values()]

    fit_many(estimator, X[:100], y[:100], seeds=[0, 1])  # warm up
    marks = [now()]
    first = alone(range(n_alone // 2))
    marks.append(now())
    together = fit_many(estimator, X, y, halves, seeds=range(n_models))
    marks.append(now())
    separate = first + alone(range(n_alone // 2, n_alone))
    marks.append(now())
    spent = np.diff(np.array(marks), axis=0)
    gap = max(np.abs(a.predict_proba(X) - b.predict_proba(X)).max() for a, b in zip(together, separate, strict=False))
    accuracies = [[model.score(X, y) for model in models] for models in (together, separate)]
    return {
        "alone": dict(zip(CLOCKS, ((spent[0] + spent[2]) / n_alone).tolist(), strict=True)),
        "together": dict(zip(CLOCKS, spent[1].tolist(), strict=True)),
        "gap": float(gap),
        "p": float(ks_2samp(*accuracies).pvalue),
    }


def lines(found: dict[str, Any], n_models: int) -> list[str]:
    """Return what was found in words."""
    told = []
    for name in CLOCKS:
        one, all_of_them = found["alone"][name], found["together"][name]
        factor = one * n_models / all_of_them
        told.append(f"{name}: {one:.2f} s alone, {all_of_them:.1f} s together, factor {factor:.1f}")
    told.append(f"largest difference of a probability: {found['gap']:.1e}")
    return [*told, f"p-value of equal accuracies: {found['p']:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--alone", type=int, default=8)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, {options.dtype}, {options.models} models")
    print("\n".join(lines(together_and_alone(options.models, options.alone, options.dtype), options.models)))


if __name__ == "__main__":
    main()
