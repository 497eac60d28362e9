"""How much faster shadow models train together than one after the other, and whether they are the same models.

Usage: ``python -m benchmarks.shadow [--models 64] [--alone 8] [--dtype float32]``. The default network on random halves
of digits. Of the models, ``--alone`` are fitted once more by themselves, before and after, and their mean time is taken
for all: wall clock and processor time. Set OMP_NUM_THREADS for the number of threads.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from scipy.stats import ks_2samp
from sklearn.base import clone
from sklearn.datasets import load_digits

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.references.many import fit_many


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--alone", type=int, default=8)
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    X, y = load_digits(return_X_y=True)
    X = X.astype(options.dtype)
    rng = np.random.default_rng(0)
    halves = [np.sort(rng.permutation(len(y))[: len(y) // 2]) for _ in range(options.models)]
    estimator = UnlearnableClassifier()

    def alone(numbers: range) -> list[UnlearnableClassifier]:
        return [clone(estimator).set_params(random_state=k).fit(X[halves[k]], y[halves[k]]) for k in numbers]

    fit_many(estimator, X[:100], y[:100], seeds=[0, 1])  # warm up
    clocks = (time.perf_counter, time.process_time)
    marks = [[clock() for clock in clocks]]
    first = alone(range(options.alone // 2))
    marks.append([clock() for clock in clocks])
    together = fit_many(estimator, X, y, halves, seeds=range(options.models))
    marks.append([clock() for clock in clocks])
    separate = first + alone(range(options.alone // 2, options.alone))
    marks.append([clock() for clock in clocks])
    spent = np.diff(np.array(marks), axis=0)
    each = (spent[0] + spent[2]) / options.alone
    print(f"{torch.get_num_threads()} threads, {options.dtype}, {options.models} models")
    for name, one, all_of_them in zip(("wall clock", "processor"), each, spent[1], strict=True):
        print(
            f"{name}: {one:.2f} s alone, {all_of_them:.1f} s together, factor {one * options.models / all_of_them:.1f}"
        )
    gap = max(np.abs(a.predict_proba(X) - b.predict_proba(X)).max() for a, b in zip(together, separate, strict=False))
    accuracies = [[model.score(X, y) for model in models] for models in (together, separate)]
    print(f"largest difference of a probability: {gap:.1e}")
    print(f"p-value of equal accuracies: {ks_2samp(*accuracies).pvalue:.2f}")


if __name__ == "__main__":
    main()
