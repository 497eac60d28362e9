# Run: python -m benchmarks.clusters
"""References on the workers of joblib's backends against one process: ``python -m benchmarks.clusters``.

Eight models, trained one by one, on two workers of each backend that is installed. The clusters are started, and every
worker has imported everything, before the time runs. The models are compared bit by bit.
"""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from joblib import parallel_config
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.references import fit_many

N_MODELS, N_WORKERS = 8, 2


class Normed(nn.Module):
    """BatchNorm keeps nets from being trained in one stack, which would leave little to divide."""

    def __init__(self, n_features_in: int, n_outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features_in, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, n_outputs))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.body(X)


@contextmanager
def dask() -> Iterator[None]:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=N_WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
    )
    with cluster, Client(cluster), parallel_config("dask"):
        yield


@contextmanager
def ray() -> Iterator[None]:
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # or Ray writes one into the user's folder
    import ray
    from ray.util.joblib import register_ray

    ray.init(num_cpus=N_WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    register_ray()
    try:
        with parallel_config("ray", n_jobs=N_WORKERS):
            yield
    finally:
        ray.shutdown()


BACKENDS: dict[str, Any] = {
    "one process": nullcontext,
    "loky": lambda: parallel_config("loky", n_jobs=N_WORKERS),
    "dask": dask,
    "ray": ray,
}


def measured(n_rows: int, n_epochs: int) -> list[tuple[str, float, bool]]:
    """Return for each backend the seconds, and whether the models are those of one process."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 20)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    settings = {"criterion": nn.CrossEntropyLoss, "train_split": None, "verbose": 0, "max_epochs": n_epochs}
    estimator = UnlearnableClassifier(NeuralNetClassifier(Normed, batch_size=64, **settings))
    found, expected = [], None
    for name, backend in BACKENDS.items():
        try:
            with backend():
                fit_many(estimator, X[:200], y[:200], seeds=range(N_WORKERS))
                started = time.perf_counter()
                models = fit_many(estimator, X, y, seeds=range(N_MODELS))
                seconds = time.perf_counter() - started
        except ModuleNotFoundError:
            print(f"{name}: not installed")
            continue
        bits = [value.numpy().tobytes() for model in models for value in model.net_.module_.state_dict().values()]
        expected = bits if expected is None else expected
        found.append((name, seconds, bits == expected))
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args(arguments)
    results = measured(given.rows, given.epochs)
    print(f"{N_MODELS} models on {given.rows} rows, {N_WORKERS} workers")
    for name, seconds, is_same in results:
        same = "same bits" if is_same else "OTHER NUMBERS"
        print(f"  {name:12} {seconds:7.2f} s   {seconds / results[0][1]:5.2f} of one process   {same}")


if __name__ == "__main__":
    main()
