# Part of: python -m benchmarks.lifecycle
"""Processes that are killed while they save, or settle and save: what is left of the file.

``python -m benchmarks._kills 200`` prints the counts.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

import sk_unlearn
from sk_unlearn import UnlearnableClassifier
from sk_unlearn.receipts import to_json_lines, verify
from sk_unlearn.unlearners import FineTune


def two_states(n_rows: int = 20_000) -> tuple[list[UnlearnableClassifier], np.ndarray]:
    """Return an estimator before and after a request, and the rows."""
    X = np.random.default_rng(0).normal(size=(n_rows, 10)).astype(np.float32)
    net = NeuralNetClassifier(
        nn.Linear,
        module__in_features=10,
        module__out_features=2,
        criterion=nn.CrossEntropyLoss,
        max_epochs=1,
        verbose=0,
        train_split=None,
    )
    est = UnlearnableClassifier(net, FineTune(1), random_state=0).fit(X, (X[:, 0] > 0).astype(int))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "before.skops"
        sk_unlearn.save(est, path)
        return [sk_unlearn.load(path), est.forget(X[:5])], X


def kills_while_saving(n_kills: int, seed: int = 0) -> Counter[str]:
    """Kill a process that saves one state over the other, again and again, and load what is there.

    Parameters
    ----------
    n_kills : int
        How often.

    seed : int, default=0
        Of the moments.

    Returns
    -------
    counts : Counter
        How often the file was whole and "old" or "new" (the state that had been there before the process, or the other
        one), "torn" (anything else), and how often a part of a file was "left behind" beside it.
    """
    torch.set_num_threads(1)
    states, X = two_states()
    outputs = [est.predict_proba(X[:50]) for est in states]
    moments, counts, present = random.Random(seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.skops"
        start = time.perf_counter()
        sk_unlearn.save(states[present], path)
        longest = 3 * (time.perf_counter() - start)
        for _ in range(n_kills):
            child = os.fork()
            if child == 0:
                _save_for_ever(states, present, path)
            time.sleep(moments.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            counts["left behind"] += len(os.listdir(folder)) > 1
            try:
                loaded = sk_unlearn.load(path)
                found = [n for n in (0, 1) if _is(loaded, states[n], outputs[n], X)]
            except Exception:
                found = []
            counts["torn" if not found else "old" if found[0] == present else "new"] += 1
            present = found[0] if found else present
    return counts


def kills_while_settling(n_kills: int, seed: int = 0) -> Counter[str]:
    """Kill a process that settles what is pending, saves and appends to the log, and load what is there with the log.

    Each time another row is asked for, and after the kill whoever comes next settles what is pending still.

    Parameters
    ----------
    n_kills : int
        How often.

    seed : int, default=0
        Of the moments.

    Returns
    -------
    counts : Counter
        How often the file was "old" (the request is pending) or "new" (its row is gone and its receipt there), and
        "torn" (anything else, or a log that does not go with the file).
    """
    torch.set_num_threads(1)
    (est, _), X = two_states(2_000)
    moments, counts, longest = random.Random(seed), Counter[str](), 0.0
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder) / "model.skops", Path(folder) / "receipts.jsonl"
        for n in range(n_kills):
            erased = len(est.training_set_)
            est.request_forget(X[10 + n : 11 + n])
            sk_unlearn.save(est, path)
            to_json_lines(est.receipts_, log)
            if not n:
                longest = _seconds_to_settle(path)
            child = os.fork()
            if child == 0:
                _settle_and_leave(est, path, log)
            time.sleep(moments.uniform(0, 2 * longest))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            try:
                est = _loaded(path, log)
                counts[_which(est, erased)] += 1
            except Exception:
                counts["torn"] += 1
            est.settle()
    return counts


def _seconds_to_settle(path: Path) -> float:
    """Return how long it takes to settle and to save; nothing is changed."""
    est, start = sk_unlearn.load(path), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        sk_unlearn.save(est.settle(), Path(folder) / "model.skops")
    return time.perf_counter() - start


def _settle_and_leave(est: UnlearnableClassifier, path: Path, log: Path) -> None:
    try:
        sk_unlearn.save(est.settle(), path)
        to_json_lines(est.receipts_, log)
        time.sleep(60)
    finally:  # whatever happens, the child must not go on as if it were its parent
        os._exit(1)


def _loaded(path: Path, log: Path) -> UnlearnableClassifier:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The file is newer than the log")
        est: UnlearnableClassifier = sk_unlearn.load(path, log=log)
    to_json_lines(est.receipts_, log)
    verify(log, head=est.receipts_.head)
    return est


def _which(est: UnlearnableClassifier, n_before: int) -> str:
    n_rows, n_pending, verb = len(est.training_set_), len(est.pending_), est.receipts_[-1].verb if est.receipts_ else ""
    n_receipts = sum(receipt.n_erased for receipt in est.receipts_)
    if est.training_set_.X.shape[0] != n_rows or n_receipts + n_rows != 2_000:
        return "torn"
    if (n_rows, n_pending) == (n_before, 1):
        return "old"
    return "new" if (n_rows, n_pending, verb) == (n_before - 1, 0, "settle") else "torn"


def _save_for_ever(states: list[UnlearnableClassifier], present: int, path: Path) -> None:
    try:
        while True:
            present = 1 - present
            sk_unlearn.save(states[present], path)
    finally:  # whatever happens, the child must not go on as if it were its parent
        os._exit(1)


def _is(loaded: UnlearnableClassifier, est: UnlearnableClassifier, outputs: np.ndarray, X: np.ndarray) -> bool:
    same_rows = np.array_equal(loaded.training_set_.X, est.training_set_.X)
    return same_rows and np.array_equal(loaded.predict_proba(X[:50]), outputs)


if __name__ == "__main__":
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(f"{n} kills while saving:", dict(sorted(kills_while_saving(n).items())))
    print(f"{n} kills while settling:", dict(sorted(kills_while_settling(n).items())))
