# Run: python -m benchmarks.lifecycle [--quick]
"""Deletion in production: latency and memory over many requests, look-up, a pipeline, and kills.

Usage: ``python -m benchmarks.lifecycle [--quick] [--only requests lookup pipeline kills] [--rows 100000]
[--requests 1000] [--lookup-rows 1000000] [--kills 200] [--references 3] [--out FILE.json]``. Parts:

- ``requests``: so many requests of one to ten rows, one after the other, to the built-in network on a synthetic table
  of 20 features and 5 classes. Latency of each; resident memory and the size of the object; whether the chain of
  receipts holds; and how far the model is at the end from models that were retrained without all of the rows, in units
  of the distance between such models, beside the model as it was before any request.
- ``lookup``: 1,000 raw rows among all rows of a mixed pandas table, through a pipeline.
- ``pipeline``: ``pipe.forget`` of one person, in a pipeline over a mixed pandas table whose steps all give up rows
  exactly; with the default, and with an unlearner of one gradient step, which shows all that is not solving.
- ``kills``: SIGKILL at random moments of ``save``, of ``request`` and ``settle`` on the command line, and of
  ``examples/deletion_service.py``. "torn" or "lost" would be a fault.

Seconds are by the wall and of the processor, of one thread; where others use the machine the latter are nearer to what
a quiet one takes. The load is printed with the numbers. "trained_in_a_fifth" counts requests in which the default also
trained the network anew in a share of the steps.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline as plain_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

import sk_unlearn
from benchmarks._kills import kills_while_saving
from benchmarks._lifecycle_kills import kills_of_the_command_line, kills_of_the_service
from benchmarks._measure import Clock
from benchmarks.one_row import GradientStep
from sk_unlearn import UnlearnableClassifier
from sk_unlearn.metrics import distance_ratio
from sk_unlearn.pipeline import Pipeline, make_pipeline
from sk_unlearn.receipts import verify
from sk_unlearn.unlearners import FineTune


def _resident() -> float:
    """Return the resident set in MiB; nan where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _size(est: Any) -> float:
    return len(pickle.dumps(est)) / 2**20


def _latencies(clocks: list[Clock]) -> dict[str, float]:
    found = {}
    for what in ("wall", "cpu"):
        seconds = [clock.seconds()[what] for clock in clocks]
        found |= {
            f"median_{what}_s": float(np.median(seconds)), f"p99_{what}_s": float(np.quantile(seconds, 0.99)),
            f"max_{what}_s": max(seconds), f"first_{what}_s": seconds[0],
        }  # fmt: skip
    return found


# ------------------------------------------------------------------------------------------------------ many requests


def many_requests(n_rows: int, n_requests: int, n_references: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows + 2000, 20)).astype(np.float32)
    y = (X @ rng.normal(size=(20, 5)) + 2 * rng.gumbel(size=(len(X), 5))).argmax(axis=1)
    X, y, X_test = X[:n_rows], y[:n_rows], X[n_rows:]
    est = UnlearnableClassifier(random_state=seed).fit(X, y)
    before = copy.deepcopy(est)
    pieces = np.split(rng.permutation(n_rows), np.cumsum(rng.integers(1, 11, size=n_requests)))[:-1]
    clocks, resident, renewed = [], [], 0
    sizes = {"object_before_mib": _size(est)}
    for number, piece in enumerate(pieces):
        with Clock() as clock:
            est.forget(X[piece])
        clocks.append(clock)
        renewed += est.unlearning_report_.extra.get("share_of_training", 0.0) > 0
        if number % max(1, n_requests // 10) == 0:
            gc.collect()
            resident.append(_resident())
    gone = np.concatenate(pieces)
    X_stay, y_stay = np.delete(X, gone, axis=0), np.delete(y, gone)
    references = [clone(est).set_params(random_state=seed + 1 + i).fit(X_stay, y_stay) for i in range(n_references)]
    ratios = {
        f"ratio_{what}_{who}": distance_ratio(model, references, rows)
        for what, rows in (("erased", X[gone]), ("test", X_test))
        for who, model in (("after", est), ("before", before))
    }
    return {
        "rows": n_rows, "requests": n_requests, "erased": len(gone), **_latencies(clocks),
        "trained_in_a_fifth": int(renewed),
        "resident_early_mib": resident[1], "resident_late_mib": resident[-1], **sizes, "object_after_mib": _size(est),
        "receipts_kib": len(pickle.dumps(est.receipts_)) / 1024, "verified": verify(est.receipts_), **ratios,
        "retrain_recommended": est.retrain_recommended_.reason,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------- tables and pipelines


def mixed_table(n_rows: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table of numbers with gaps, texts and counts, and a target that depends on them."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "income": rng.lognormal(10, 1, n_rows),
            "age": rng.integers(18, 95, n_rows),
            "visits": np.where(rng.random(n_rows) < 0.1, np.nan, rng.poisson(3, n_rows)),
            "town": rng.choice([f"town {i}" for i in range(40)], n_rows),
            "plan": rng.choice(["basic", "plus", "pro"], n_rows),
        }
    )
    score = np.log(table.income) - 10 + (table.age - 50) / 30 + (table.plan == "pro") + rng.logistic(size=n_rows)
    return table, (score > 0).to_numpy().astype(int)


def _pipeline(last: Any, *, keep_raw: bool = True) -> Pipeline:
    columns = make_column_transformer(
        (StandardScaler(), ["income"]),
        (MinMaxScaler(), ["age"]),
        (plain_pipeline(SimpleImputer(), StandardScaler()), ["visits"]),
        (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["town", "plan"]),
    )
    return make_pipeline(columns, last, keep_raw=keep_raw)


def look_up(n_rows: int, n_asked: int = 1000, repeats: int = 5) -> dict[str, Any]:
    table, y = mixed_table(n_rows)
    net = NeuralNetClassifier(
        nn.Linear, module__in_features=46, module__out_features=2, criterion=nn.CrossEntropyLoss, max_epochs=1,
        batch_size=10_000, verbose=0, train_split=None,
    )  # fmt: skip
    pipe = _pipeline(UnlearnableClassifier(net, FineTune(1), random_state=0), keep_raw=False).fit(table, y)
    rng, clocks = np.random.default_rng(1), []
    for _ in range(repeats):
        rows = table.iloc[rng.choice(n_rows, n_asked, replace=False)]
        with Clock() as clock:
            (known,) = sk_unlearn.which_parts_know(pipe, rows).values()
        clocks.append(clock)
        assert known == n_asked
    return {"rows": n_rows, "asked": n_asked, **_latencies(clocks)}


def one_person(n_rows: int, n_persons: int = 20) -> list[dict[str, Any]]:
    table, y = mixed_table(n_rows)
    fitted, records = _pipeline(UnlearnableClassifier(random_state=0)).fit(table, y), []
    for name, unlearner in (("default", None), ("one gradient step", GradientStep())):
        pipe, clocks, net = copy.deepcopy(fitted), [], []
        pipe[-1].set_params(unlearner=unlearner)
        for i in range(n_persons):
            with Clock() as clock:
                pipe.forget(table.iloc[i : i + 1], y[i : i + 1])
            clocks.append(clock)
            net.append(pipe.unlearning_report_.seconds)
            assert not any("still contain" in note for note in pipe.unlearning_report_.notes)
        scaler = pipe[0].named_transformers_["standardscaler"]
        assert np.allclose(scaler.mean_, table.income[n_persons:].mean(), rtol=1e-10)
        records.append(
            {"unlearner": name, "rows": n_rows, **_latencies(clocks), "net_median_wall_s": float(np.median(net))}
        )
    return records


# --------------------------------------------------------------------------------------------------------------- kills


def kills(n_kills: int) -> dict[str, dict[str, int]]:
    what: dict[str, Callable[[int], Any]] = {
        "save": kills_while_saving,
        "request, settle": kills_of_the_command_line,
        "service": kills_of_the_service,
    }
    return {name: dict(sorted(measure(n_kills).items())) for name, measure in what.items()}


# ---------------------------------------------------------------------------------------------------------------- main


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small version of everything, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=("requests", "lookup", "pipeline", "kills"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--lookup-rows", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=200, help="of each kind")
    parser.add_argument("--references", type=int, default=3, help="retrained models: at least 2")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.quick:
        options.rows, options.requests, options.lookup_rows, options.kills, options.references = 150, 8, 2000, 4, 2
    torch.set_num_threads(1)
    parts: dict[str, Callable[[], Any]] = {
        "kills": lambda: kills(options.kills),  # first, for it forks: the fewer threads and memory there are the better
        "requests": lambda: many_requests(options.rows, options.requests, options.references),
        "lookup": lambda: look_up(options.lookup_rows),
        "pipeline": lambda: one_person(options.rows, 3 if options.quick else 20),
    }
    found: dict[str, Any] = {}
    for name, measure in parts.items():
        if options.only is None or name in options.only:
            found[name] = measure()
            load = " ".join(f"{each:.1f}" for each in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
            print(f"\n{name} (load {load})")
            _print(found[name])
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1))
    return found


def _print(found: Any) -> None:
    for record in found if isinstance(found, list) else [found]:
        for name, value in record.items():
            print(f"  {name:22s} {value:.4g}" if isinstance(value, float) else f"  {name:22s} {value}")


if __name__ == "__main__":
    main()
