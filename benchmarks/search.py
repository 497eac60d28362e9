# Run: python -m benchmarks.search
"""What a search over unlearners costs beyond the unlearning itself, beside the trainings that nothing can save.

Usage: ``python -m benchmarks.search [--references 1 3] [--folds 3] [--batch-norm]``. Twelve candidates on digits, with
an unlearner that does nothing, so that all of the cost is the search's own: it fits once a fold, trains references for
two requests, one to select by and one to report on, copies, and measures. Beside it stand as many fits and retrainings
of a single reference as there are folds, and fits and trainings of the references of one request, timed before and
after.
Wall clock and processor time. The default network is trained together with others of its kind; one with BatchNorm
cannot be. Set OMP_NUM_THREADS for the number of threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.model_selection import ForgetSearchCV
from sk_unlearn.references.many import fit_many
from sk_unlearn.unlearners import Status, Unlearner, UnlearningProblem, UnlearningResult


class WithBatchNorm(nn.Sequential):
    """A network that has to be trained by itself."""

    def __init__(self, n_features_in: int, n_outputs: int) -> None:
        hidden = nn.Linear(n_features_in, 64), nn.BatchNorm1d(64), nn.SiLU(), nn.Linear(64, 32), nn.SiLU()
        super().__init__(*hidden, nn.Linear(32, n_outputs))


class Nothing(Unlearner):
    """Leave the parameters as they are."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        return UnlearningResult(problem.parameters, Status.COMPLETED, "nothing to do")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--batch-norm", action="store_true")
    options = parser.parse_args()
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    estimator = UnlearnableClassifier(WithBatchNorm if options.batch_norm else None, Nothing(), random_state=0)
    fit_many(estimator, X[:200], y[:200], seeds=[0, 1])  # warm up
    train = np.arange(len(y) - len(y) // options.folds)
    retained = train[len(train) // 10 :]
    print(f"{torch.get_num_threads()} threads, {options.folds} folds, 12 candidates")

    def train_all(n_references: int) -> NDArray[np.float64]:
        """Return the seconds of a fit, of one reference, and of all references of one request."""
        fit = spent(lambda: fit_many(estimator, X[train], y[train], seeds=[0]))
        single = spent(lambda: fit_many(estimator, X[retained], y[retained], seeds=[0]))
        several = spent(lambda: fit_many(estimator, X[retained], y[retained], seeds=range(n_references)))
        return np.array([fit, single, several])

    for n_references in options.references:
        search = ForgetSearchCV(
            estimator,
            {"unlearner__number": range(12)},
            cv=options.folds,
            n_references=n_references,
            refit=False,
            random_state=0,
        )
        trainings = [train_all(n_references)]
        total = spent(lambda search=search: search.fit(X, y))
        trainings.append(train_all(n_references))
        of_fits, of_single, of_several = options.folds * np.mean(trainings, axis=0)
        for clock, cost, fits, single, several in zip(
            ("wall clock", "processor"), total, of_fits, of_single, of_several, strict=True
        ):
            print(
                f"{n_references} references, {clock}: {cost:.1f} s\n"
                f"  {cost / (fits + single):.2f} x fits and single retrainings ({fits:.1f} + {single:.1f})\n"
                f"  {cost / (fits + several):.2f} x fits and all references of one request ({fits:.1f} + {several:.1f})"
            )


def spent(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of wall clock and processor that a call takes."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


if __name__ == "__main__":
    main()
