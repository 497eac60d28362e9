# Part of: python -m benchmarks.scale
"""What a fitted estimator and its requests cost as the training set grows, on one table after the other."""

from __future__ import annotations

import gc
import statistics
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks._measure import Clock, PeakMemory
from benchmarks.one_row import GradientStep
from sk_unlearn import UnlearnableClassifier
from sk_unlearn.rows import TrainingSet

N_FEATURES, N_CLASSES = 20, 5
# What is wanted of ten million rows.
MOST_INDEX_S, MOST_INDEX_BYTES, MOST_ONE_ROW_S = 5.0, 24.0, 0.05


def growth(sizes: Sequence[int], n_erased: int, repeats: int) -> list[dict[str, Any]]:
    """Measure tables of several sizes, the smallest first; see `grown`."""
    return [grown(n, min(n_erased, n // 10), repeats) for n in sorted(sizes)]


def grown(n: int, n_erased: int, repeats: int) -> dict[str, Any]:
    """Measure one table of n rows: seconds by the wall (``_s``) and of the processor (``_cpu_s``), and bytes.

    Parameters
    ----------
    n : int
    n_erased : int
        Rows of the one large request.
    repeats : int
        Requests of one row, of which the median is told.
    """
    X, y, net = trained_elsewhere(n)
    found: dict[str, Any] = {"rows": n, "erased_at_once": n_erased}
    found |= _index(X, y)
    with Clock() as clock:
        est = UnlearnableClassifier.from_fitted(net, X, y, random_state=0)
    found |= _seconds("adopt", clock)
    asked = np.random.default_rng(1).permutation(n)
    singles, many = asked[: 2 * repeats + 2], asked[2 * repeats + 2 :][:n_erased]
    found |= _seconds("first", _forgetting(est, X[singles[:1]]))
    with PeakMemory() as memory:
        found |= _median("one_row", [_forgetting(est, X[[k]]) for k in singles[1 : repeats + 1]])
    found["one_row_extra_mib"] = memory.mebibytes
    found |= _seconds("many", _forgetting(est, X[many]))
    est.set_params(unlearner=GradientStep())
    found |= _median("no_steps", [_forgetting(est, X[[k]]) for k in singles[repeats + 1 : -1]])
    found["held"] = len(est.training_set_)
    del est
    gc.collect()
    return found


def trained_elsewhere(n: int, batch_size: int = 8192) -> tuple[np.ndarray, np.ndarray, nn.Module]:
    """Return a synthetic table of n rows, and a small network after one epoch of plain PyTorch on it."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, N_FEATURES), dtype=np.float32)
    y = (X @ rng.standard_normal((N_FEATURES, N_CLASSES), dtype=np.float32)).argmax(1)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(N_FEATURES, 16), nn.Tanh(), nn.Linear(16, N_CLASSES))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for start in range(0, n, batch_size):
        some = slice(start, start + batch_size)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(torch.from_numpy(X[some])), torch.from_numpy(y[some])).backward()
        optimizer.step()
    return X, y, net


def _index(X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Measure the first look-up, by content and by identifier, in untouched rows; and what their columns take."""
    ids = np.arange(len(X))
    rows = TrainingSet(X, y, sample_weight=np.linspace(0.5, 1.5, len(X)), sample_id=ids, copy=False)
    found: dict[str, Any] = {"bytes_a_row": _columns(rows)}
    look_ups = {"index": lambda: rows.locate(X[:1]), "id_index": lambda: rows.locate_ids(ids[:1])}
    for name, look_up in look_ups.items():
        with Clock() as clock:
            assert look_up().tolist() == [0]
        found |= _seconds(name, clock)
    rows = TrainingSet(X, y, sample_id=ids, copy=False)
    for name, look_up in look_ups.items():
        tracemalloc.start()
        look_up()
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        found |= {f"{name}_bytes_a_row": held / len(X), f"{name}_peak_bytes_a_row": peak / len(X)}
    return found


def _columns(rows: TrainingSet) -> dict[str, float]:
    """Return what each column beside the rows themselves takes, in bytes a row."""
    columns = {
        "targets": rows.raw_y, "weights, unless all are one": rows.raw_weight, "identifiers, if any": rows.raw_id,
        "roles": rows.raw_role, "which are live": rows.live_mask, "which were trained on": rows.trained_mask,
    }  # fmt: skip
    return {name: column.nbytes / len(rows) for name, column in columns.items() if column is not None}


def _forgetting(est: UnlearnableClassifier, X: np.ndarray) -> Clock:
    with Clock() as clock:
        est.forget(X)
    return clock


def _seconds(name: str, clock: Clock) -> dict[str, float]:
    return {f"{name}_s": clock.wall, f"{name}_cpu_s": clock.cpu}


def _median(name: str, clocks: list[Clock]) -> dict[str, float]:
    return {
        f"{name}_s": statistics.median(clock.wall for clock in clocks),
        f"{name}_cpu_s": statistics.median(clock.cpu for clock in clocks),
    }
