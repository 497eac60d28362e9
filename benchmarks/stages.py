# Run: python -m benchmarks.stages [--quick]
"""Compare the stages of the default, request by request: steps from the fitted point, or the whole network anew.

Usage: ``python -m benchmarks.stages [--cells KEY ...] [--seeds 2] [--references 4] [--cache DIR]
[--no-auto] [--quick] [--data ../shared/data] [--out DIR]``, on one thread (``OMP_NUM_THREADS=1``).

A cell is a request to one net. The nets are others than those the rule was first made on (the table in ``RESULTS.md``
says which those were): SGD with momentum, AdamW, RMSprop, constant rates, small batches, BatchNorm, attention,
embeddings, five epochs, the built-in network. In each cell these are compared:

``nothing``, ``steps`` (``renew=False``), ``labels`` and ``teacher`` (trained anew in a fifth of the steps towards
either), one epoch of ``FineTune``, ``L-BFGS``, and what ``auto`` came to.

*Score*: the mean distance to retrained models over their distance from each other, on erased and on test rows
(divergence of Jensen and Shannon; root mean square for regression), each not below 1, and of the two the geometric
mean; over seeds the geometric mean again. *Cost*: processor time over that of a retraining. *Regret*: the score over
that of the best of the others. Rivals that cost more than a quarter do not count; stages of the default do up to 0.4,
since of a training that takes a second or two the time that every request takes is a good part. A *hit* has a regret
of at most 1.1; a *harm* is more than 1.1 times as far as doing nothing.

Signals stand beside: |residual| / |brought| (``ratio``), the output layer's share of the tangent kernel (``kernel``),
the steps that a fifth has, training loss over that of a constant (``fit``), test loss over training loss (``gap``,
which a rule cannot see), and the gradient that steps leave (``left``).

``--cache`` keeps all but ``auto``; empty it after a change to anything else.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Memory
from numpy.typing import NDArray
from sklearn.base import clone

from benchmarks._measure import Clock
from benchmarks._options import write
from benchmarks._stage_tasks import builders
from benchmarks._tasks import Task
from sk_unlearn.metrics import jensen_shannon, rms_distance
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.output_layer import output_layer
from sk_unlearn.risks.tangent_kernel import tangent_kernel_trace
from sk_unlearn.unlearners import FineTune, LBFGSWarmStart, StoCuReNU
from sk_unlearn.unlearners.cubic import Policy

PARTS = ("erased", "test")
AFFORDABLE, OWN, HIT = 0.25, 0.4, 1.1
RIVALS = ("FineTune", "L-BFGS")
N_ROWS = 1500

# Every threshold of the rule out of the way, so that what a stage comes to is measured wherever it can be had.
_LABELS = replace(Policy(), outweighing=math.inf)
_TEACHER = replace(Policy(), outweighing=-1.0)
STAGES: dict[str, Any] = {
    "nothing": None,
    "steps": StoCuReNU(renew=False),
    "labels": StoCuReNU(renew=True, policy=_LABELS),
    "teacher": StoCuReNU(renew=True, policy=_TEACHER),
    "FineTune": FineTune(1),
    "L-BFGS": LBFGSWarmStart(),
}


class Grid:
    """Fitted, retrained and changed models of all cells, each made once."""

    def __init__(self, data: Path, cache: Path | None, *, quick: bool, auto: bool = True) -> None:
        self.data, self.quick, self.auto = data, quick, auto
        memory = Memory(cache, verbose=0)
        self.fitted = memory.cache(_fitted)
        self.reference = memory.cache(_reference)
        self.stage = memory.cache(_stage)
        self.signals = memory.cache(_signals)

    def cell(self, key: str, request: str, seeds: int, references: int) -> list[dict[str, Any]]:
        """Return one record for each stage and seed."""
        where = (self.data, key, request, self.quick)
        retrained = [self.reference(*where, 100 + k) for k in range(references)]
        cost = float(np.mean([seconds for _, seconds in retrained]))
        yardstick = _Yardstick([outputs for outputs, _ in retrained])
        records = []
        for seed in range(seeds):
            fitted = self.fitted(self.data, key, self.quick, seed)
            signals = self.signals(*where, seed, _Kept(fitted))
            done = {name: self.stage(*where, seed, name, _Kept(fitted)) for name in STAGES}
            if self.auto:
                done["auto"] = _stage(*where, seed, "auto", _Kept(fitted))
            before = done["nothing"][0]
            for name, (outputs, seconds, told) in done.items():
                records.append(
                    {"cell": key, "request": request, "seed": seed, "stage": name, **signals, "cost": seconds / cost}
                    | yardstick.measure(outputs)
                    | {f"moved {part}": _between(outputs[part], before[part]) for part in outputs}
                    | told
                )
        return records


class _Kept:
    """Hands a fitted estimator to a cached function, whose other arguments say all of it."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __reduce__(self) -> tuple[Any, ...]:
        return _Kept, (None,)


class _Yardstick:
    def __init__(self, references: list[dict[str, NDArray[Any]]]) -> None:
        self.references = references
        self.floor = {
            part: float(np.mean([_between(a[part], b[part]) for a, b in combinations(references, 2)])) for part in PARTS
        }

    def measure(self, outputs: dict[str, NDArray[Any]]) -> dict[str, float]:
        far = {part: np.mean([_between(outputs[part], each[part]) for each in self.references]) for part in PARTS}
        ratio = {part: float(far[part] / max(self.floor[part], 1e-12)) for part in PARTS}
        return {**ratio, "score": math.sqrt(math.prod(max(1.0, ratio[part]) for part in PARTS))}


def _between(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(jensen_shannon(a, b) if a.ndim > 1 else rms_distance(a, b))


@cache
def _task(data: Path, key: str, quick: bool) -> Task:
    return builders(data, quick=quick)[key]()


def _kept(task: Task, erased: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.setdiff1d(np.arange(len(task.X)), erased)


def _outputs(model: Any, task: Task, erased: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return predictions for regression, else probabilities of all classes: 0 where the model knows one no longer."""
    rows = {"erased": task.X[erased[:N_ROWS]], "retained": task.X[_kept(task, erased)[:N_ROWS]], "test": task.X_test}
    if task.regression:
        return {part: model.predict(X) for part, X in rows.items()}
    outputs, classes = {}, np.unique(task.y)
    for part, X in rows.items():
        known = model.predict_proba(X)
        outputs[part] = np.zeros((len(X), len(classes)), known.dtype)
        outputs[part][:, np.searchsorted(classes, model.classes_)] = known
    return outputs


def _fitted(data: Path, key: str, quick: bool, seed: int) -> Any:
    task = _task(data, key, quick)
    return task.estimator(seed).fit(task.X, task.y)


def _reference(data: Path, key: str, request: str, quick: bool, seed: int) -> tuple[dict[str, NDArray[Any]], float]:
    """Return what a retrained model predicts, and what it took."""
    task = _task(data, key, quick)
    erased = task.requests[request]
    kept = _kept(task, erased)
    model = task.estimator(seed)
    with Clock() as clock:
        model.fit(task.X[kept], task.y[kept])
    return _outputs(model, task, erased), clock.cpu


def _stage(
    data: Path, key: str, request: str, quick: bool, seed: int, name: str, fitted: _Kept
) -> tuple[dict[str, NDArray[Any]], float, dict[str, Any]]:
    """Return what the model that forgot predicts, what that took, and what its report says of the way."""
    task = _task(data, key, quick)
    erased, unlearner = task.requests[request], None if name == "auto" else STAGES[name]
    model = copy.deepcopy(fitted.model)
    kept = _kept(task, erased)
    if name == "nothing":
        told = {"loss erased": _loss(model, task, task.X[erased], task.y[erased]),
                "loss retained": _loss(model, task, task.X[kept], task.y[kept])}  # fmt: skip
        return _outputs(model, task, erased), 0.0, told
    model.set_params(unlearner=None if unlearner is None else clone(unlearner))
    with Clock() as clock:
        model.forget(task.X[erased], task.y[erased])
    report = model.unlearning_report_
    told = {"status": str(report.status), "renewal": report.extra.get("renewal", ""),
            "why": report.extra.get("renewal_reason", ""),
            "left": report.gradient_norm_after / max(report.gradient_norm_before, 1e-30),
            "loss erased": report.erased_loss_after,
            "loss retained": _loss(model, task, task.X[kept], task.y[kept])}  # fmt: skip
    return _outputs(model, task, erased), clock.cpu, told


def _signals(data: Path, key: str, request: str, quick: bool, seed: int, fitted: _Kept) -> dict[str, Any]:
    """Return what a rule could look at before a request, and the gap to unseen rows, which it could not."""
    task, model = _task(data, key, quick), fitted.model
    erased = task.requests[request]
    loss = {
        "train": _loss(model, task, task.X, task.y),
        "test": _loss(model, task, task.X_test, task.y_test),
        "erased": _loss(model, task, task.X[erased], task.y[erased]),
    }
    share = np.bincount(task.y) / len(task.y) if not task.regression else np.ones(1)
    constant = float(np.var(task.y)) if task.regression else float(-(share * np.log(np.maximum(share, 1e-12))).sum())
    rows = model.training_set_
    problem = EmpiricalRisk(model.net_, rows.raw_X[erased], rows.raw_y[erased])
    w, rng = problem.parameters(), np.random.default_rng(0)
    trace = tangent_kernel_trace(problem, w, problem.sample(min(64, len(erased)), rng), rng)
    layer, n = output_layer(problem)[0], len(task.X)
    residual = model.unlearning_state_.anchor.residual
    brought = len(erased) / (n - len(erased)) * (residual - problem.gradient(w))
    schedule, epochs = model.unlearning_state_.schedule, model.net_.max_epochs
    steps = 0 if schedule is None else max(phase.n_steps for phase in schedule.phases)
    return {
        "ratio": float(residual.norm() / brought.norm()), "kernel": 0.0 if layer is None else
        float(layer.extract(trace).sum() / trace.sum()), "steps of a fifth": 0.2 * steps, "epochs": epochs,
        "fit": loss["train"] / constant, "gap": loss["test"] / max(loss["train"], 1e-12),
        "erased loss": loss["erased"] / max(loss["train"], 1e-12), "erased share": len(erased) / n,
        "vanishes": request == "group",
        "reads all": n - len(erased) <= (1024 if epochs < 20 else 2048),
    }  # fmt: skip


def _loss(model: Any, task: Task, X: NDArray[Any], y: NDArray[Any]) -> float:
    X, y = X[:N_ROWS], y[:N_ROWS]
    if task.regression:
        return float(np.mean((model.predict(X) - y) ** 2))
    p = model.predict_proba(X)[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    return float(-np.log(np.maximum(p, 1e-12)).mean())


def table(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one line a cell: the score of each stage, the best affordable one, and the regret of ``auto``."""
    frame = pd.DataFrame(records).assign(log=lambda f: np.log(f["score"]))
    lines = []
    for (key, request), cell in frame.groupby(["cell", "request"], sort=False):
        by = cell.groupby("stage", sort=False)
        score, cost = np.exp(by["log"].mean()), by["cost"].mean()
        limit = pd.Series({name: AFFORDABLE if name in RIVALS else OWN for name in score.index})
        rivals = score[(cost <= limit) & (score.index != "auto")]
        auto = cell[cell["stage"] == "auto"]
        signals = {
            name: float(cell[name].median())
            for name in ("ratio", "kernel", "steps of a fifth", "fit", "gap", "erased share")
        }
        lines.append(
            {"cell": key, "request": request, **score.round(2), "best": rivals.idxmin(),
             "cost": cost["auto"], "chose": "/".join(auto["renewal"].replace("", "-")),
             "regret": score["auto"] / rivals.min(), "harm": score["auto"] / score["nothing"],
             "left": float(cell.loc[cell["stage"] == "steps", "left"].median()), **signals,
             "reads all": bool(cell["reads all"].all())}
        )  # fmt: skip
    return pd.DataFrame(lines)


def summary(lines: pd.DataFrame) -> str:
    hits, harms = (lines["regret"] <= HIT).sum(), (lines["harm"] > HIT).sum()
    return (
        f"{len(lines)} cells: {hits} hits ({hits / len(lines):.0%}), {harms} harms, worst regret "
        f"{lines['regret'].max():.2f}"
    )


def main(arguments: list[str] | None = None, progress: Callable[[str], None] = print) -> pd.DataFrame:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="*", metavar="KEY", help="nets, such as digits-sgd; by default all")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--references", type=int, default=4, help="retrained models a cell, at least 2")
    parser.add_argument("--cache", type=Path, help="folder in which joblib keeps what was measured")
    parser.add_argument("--no-auto", action="store_true", help="fill the cache only")
    parser.add_argument("--quick", action="store_true", help="few rows and epochs, to see that it runs")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, help="folder for JSON")
    options = parser.parse_args(arguments)
    if options.references < 2:
        parser.error(f"--references must be at least 2, got {options.references}: their spread is the unit.")
    torch.set_num_threads(1)
    known = builders(options.data, quick=options.quick)
    unknown = set(options.cells or ()) - set(known)
    if unknown:
        parser.error(f"--cells takes {', '.join(known)} where their data are there, got {', '.join(sorted(unknown))}.")
    grid, records = Grid(options.data, options.cache, quick=options.quick, auto=not options.no_auto), []
    for key in options.cells or known:
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for request in known[key]().requests:
                records += grid.cell(key, request, options.seeds, options.references)
        write(options, "stages", {"records": records})
        if options.no_auto:
            continue
        lines = table([each for each in records if each["cell"] == key])
        progress(f"{key}, {time.perf_counter() - start:.0f} s\n{lines.to_string(index=False, float_format='%.2f')}")
    if options.no_auto:
        return pd.DataFrame(records)
    lines = table(records)
    progress(summary(lines))
    return lines


if __name__ == "__main__":
    main()
