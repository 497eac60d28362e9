# Part of: benchmarks.frontier and others (python -m benchmarks.frontier)
"""Seconds, memory, and the distance of a model that forgot from models that never knew."""

from __future__ import annotations

import copy
import ctypes
import gc
import time
from collections.abc import Mapping
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch import NeuralNet

from benchmarks._tasks import Task
from sk_unlearn.metrics import jensen_shannon, rms_distance
from sk_unlearn.risks.empirical import flat_parameters

PARTS = ("erased", "retained", "test")
N_ROWS = 5000


class Yardstick:
    """Distances to the models retrained for one request, one a seed, in units of their distance from each other.

    A model that was trained without a class gives it probability 0.

    Parameters
    ----------
    task : Task
    erased : int64 ndarray
    references : dict of int to estimator
        Retrained models by seed, or their `outputs`.
    """

    def __init__(self, task: Task, erased: NDArray[np.int64], references: Mapping[int, Any]) -> None:
        self.regression = task.regression
        self.classes = np.unique(task.y)
        retained = np.random.default_rng(1).permutation(np.setdiff1d(np.arange(len(task.X)), erased))[:N_ROWS]
        self.rows = {
            "erased": (task.X[erased[:N_ROWS]], task.y[erased[:N_ROWS]]),
            "retained": (task.X[retained], task.y[retained]),
            "test": (task.X_test[:N_ROWS], task.y_test[:N_ROWS]),
        }
        self.references = {
            seed: model if isinstance(model, dict) else self.outputs(model) for seed, model in references.items()
        }
        pairs = list(combinations(self.references.values(), 2))
        self.floor = {
            part: float(np.mean([self.between(a[part], b[part]) for a, b in pairs])) if pairs else float("nan")
            for part in PARTS
        }

    def outputs(self, model: Any) -> dict[str, NDArray[Any]]:
        predict = model.predict if self.regression else partial(self.probabilities, model)
        return {part: predict(X) for part, (X, _) in self.rows.items()}

    def probabilities(self, model: Any, X: NDArray[Any]) -> NDArray[Any]:
        known = model.predict_proba(X)
        laid_out = np.zeros((len(X), len(self.classes)), known.dtype)
        laid_out[:, np.searchsorted(self.classes, model.classes_)] = known
        return laid_out

    def log_likelihood(self, model: Any, X: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Return minus the loss of each row, which is bounded by the smallest number that a probability can be."""
        p = self.probabilities(model, X)[np.arange(len(y)), np.searchsorted(self.classes, y)]
        return np.log(np.maximum(p, np.finfo(p.dtype).tiny))

    def between(self, a: NDArray[Any], b: NDArray[Any]) -> float:
        return rms_distance(a, b) if self.regression else jensen_shannon(a, b)

    def measure(self, model: Any, seed: int) -> dict[str, float]:
        """Return four numbers for each part.

        ``js_`` is the divergence (root mean square for regression) from the model retrained from the same seed;
        ``same_`` that over the floor; ``ratio_`` as `sk_unlearn.metrics.distance_ratio`; ``score_`` the accuracy (for
        regression the root mean squared error).
        """
        own, measured = self.outputs(model), {}
        for part in PARTS:
            to = {s: self.between(own[part], outputs[part]) for s, outputs in self.references.items()}
            y, floor = self.rows[part][1], self.floor[part] or float("nan")
            measured[f"js_{part}"] = to[seed]
            measured[f"same_{part}"] = to[seed] / floor
            measured[f"ratio_{part}"] = float(np.mean(list(to.values()))) / floor
            measured[f"score_{part}"] = (
                rms_distance(own[part], y)
                if self.regression
                else float(np.mean(self.classes[own[part].argmax(1)] == y))
            )
        return measured


class Clock:
    """Seconds of the body of a ``with``, by the wall and of this process on all its cores."""

    def __enter__(self) -> Clock:
        self.wall, self.cpu = -time.perf_counter(), -time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.wall += time.perf_counter()
        self.cpu += time.process_time()

    def seconds(self) -> dict[str, float]:
        return {"wall": self.wall, "cpu": self.cpu}


class PeakMemory:
    """Resident memory that the body of a ``with`` took at its height beyond what was there before, in MiB.

    Nan where the system keeps no high-water mark that can be reset (all but Linux). Free memory that the allocator
    holds is given back first, or what is reused would not show.
    """

    def __enter__(self) -> PeakMemory:
        self.mebibytes = float("nan")
        try:
            gc.collect(1)  # the last models; a full collection takes longer than many a request
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            self._before = self._status("VmRSS")
        except (OSError, AttributeError):
            self._before = float("nan")
        return self

    def __exit__(self, *error: object) -> None:
        if np.isfinite(self._before):
            self.mebibytes = self._status("VmHWM") - self._before

    @staticmethod
    def _status(name: str) -> float:
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) / 1024


def forgetful(fitted: Any, task: Task, erased: NDArray[np.int64], unlearner: Any) -> tuple[Any, dict[str, Any]]:
    """Let a copy forget rows; return it and what that took (nothing at all for ``unlearner=None``)."""
    model = copy.deepcopy(fitted)
    if unlearner is None:
        return model, {"wall": 0.0, "cpu": 0.0, "memory": 0.0, "steps": 0, "moved": 0.0, "stopped": ""}
    model.set_params(unlearner=unlearner)
    rows = task.handed_in(erased)
    with PeakMemory() as memory, Clock() as clock:
        model.forget(**rows)
    report = model.unlearning_report_
    return model, {
        **clock.seconds(), "memory": memory.mebibytes, "steps": report.n_steps, "moved": report.step_norm,
        "stopped": report.stop_reason,
    }  # fmt: skip


def parameter_distance(a: NeuralNet, b: NeuralNet) -> float:
    return float((flat_parameters(a) - flat_parameters(b)).norm())
