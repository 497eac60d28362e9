# Run: python -m benchmarks.frontier [--quick]
"""How close each way to forget comes to retraining, against its time: our default, its rivals, and what we claim.

Usage: ``python -m benchmarks.frontier [--quick] [--tasks a,b,c,d] [--seeds 3] [--data ../shared/data] [--out DIR]
[--only L-BFGS ...]``, on an idle machine (else with ``--clock cpu``).

Tasks: (a) augmented digits, MLP; (b) Fashion-MNIST, CNN, and Adult, MLP; (c) California housing, regression, MLP;
(d) digits in float64, an MLP and a CNN trained by L-BFGS on all rows to a gradient of 1e-8. Requests: one row, 1 % and
10 % at random, half and the whole of a class (Adult: an occupation; housing: the top decile of income); for (d) 1 %,
5 % and 20 %. The rows are the same for every seed; seeds differ in the initialisation. Task (d) adds one seed whose
training is cut short where the Hessian is indefinite.

Columns, medians over seeds: ``share``, seconds over retraining's; ``js_*`` from the model retrained from the same seed
(root mean square for regression); ``distance``, js_erased over the floor, which is the same between models retrained
from different seeds; ``ratio``, `sk_unlearn.metrics.distance_ratio` on the erased rows; ``score_*``, accuracy
(regression: root mean squared error); ``memory``, MiB of resident memory beyond the model's. For (d) ``distance`` is
||w - w_warm|| / ||w_0 - w_warm||, where w_warm is the optimum over the retained rows that L-BFGS reaches from w_0, and
js_* are from its predictions. ``distance_held`` takes for w_warm the optimum of the risk minus the linear term that
training left: it differs where training was cut short.

At the end: which claims hold. Longer runs of a rival that would take more than ``--max-share`` of retraining's time are
left out.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import _verdicts
from benchmarks._measure import Clock, Yardstick, forgetful, parameter_distance
from benchmarks._options import environment, parse, write
from benchmarks._pictures import draw_frontier, draw_sequences
from benchmarks._rivals import (
    CUT,
    NO_OP,
    OURS,
    ContinueLBFGS,
    Method,
    default_method,
    dense_hessian,
    longer,
    rivals,
    shorter,
)
from benchmarks._tasks import Task, tasks
from benchmarks.sequence import REQUEST, measure_sequence, print_sequences
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.unlearners import Retrain

COLUMNS = [
    "share", "distance", "ratio", "js_erased", "js_retained", "js_test", "score_erased", "score_retained", "score_test",
    "memory", "seconds", "steps", "moved",
]  # fmt: skip

Record = dict[str, Any]


class Run:
    """One pass over the methods for one fitted model and one request.

    Parameters
    ----------
    task : Task
    fitted : estimator
    erased : int64 ndarray
    retraining : float
        Seconds that retraining took.
    clock : {"wall", "cpu"}
    max_share : float
        Longer members of a family are left out when the shorter ones foretell more than this share of `retraining`.
    only : list of str, optional
        Families of rivals to run; by default all.
    """

    def __init__(
        self,
        task: Task,
        fitted: Any,
        erased: NDArray[np.int64],
        retraining: float,
        clock: str,
        max_share: float,
        only: list[str] | None = None,
    ) -> None:
        self.task, self.fitted, self.erased, self.only = task, fitted, erased, only
        self.retraining, self.clock, self.max_share = retraining, clock, max_share
        self.left_out: list[str] = []

    def __iter__(self) -> Iterator[tuple[Any, Record]]:
        """Yield the models that forgot, each with what it took."""
        ours: Any = None
        n_steps = 0
        rate: dict[str, float] = {}
        n_parameters = len(flat_parameters(self.fitted.net_))
        for method in [default_method(), *filter(self.is_wanted, rivals(self.task, n_parameters))]:
            if rate.get(method.family, 0.0) * method.units > self.max_share * self.retraining:
                self.left_out.append(method.name)
                continue
            done = self.run(method)
            if done is None:
                continue
            yield done
            if method.units != 1:
                rate[method.family] = done[1]["seconds"] / method.units
            if method.family == OURS:
                ours, n_steps = done, done[1]["steps"]
        for method in filter(self.is_wanted, [*shorter(), *longer(n_steps)]):
            # Cut off later than it stopped by itself it is itself: medians must be over the same seeds in every line.
            same = ours is not None and method.family == CUT and method.units >= n_steps
            done = self.renamed(ours, method) if same else self.run(method)
            if done is not None:
                yield done

    def is_wanted(self, method: Method) -> bool:
        return self.only is None or method.family in [NO_OP.family, *self.only]

    @staticmethod
    def renamed(done: tuple[Any, Record], method: Method) -> tuple[Any, Record]:
        return done[0], done[1] | {"method": method.name, "family": method.family}

    def run(self, method: Method) -> tuple[Any, Record] | None:
        try:
            model, cost = forgetful(self.fitted, self.task, self.erased, method.unlearner)
        except (FloatingPointError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
            self.left_out.append(f"{method.name} ({error})")
            return None
        cost["seconds"] = cost[self.clock]
        cost["share"] = cost["seconds"] / self.retraining
        return model, {"method": method.name, "family": method.family, **cost}


def measure(
    task: Task, seeds: int, clock: str, max_share: float, device: str | None, only: list[str] | None = None
) -> dict[str, Any]:
    """Measure every method on every request of a task with retrained models to compare with.

    Returns
    -------
    content : dict
        ``records``, a dict for each request, seed and method; ``left_out``; ``unmoved``, how far the parameters went
        when nothing was forgotten; ``sequences``, of `benchmarks.sequence.measure_sequence`.
    """
    fitted = {seed: task.estimator(seed, device).fit(task.X, task.y) for seed in range(seeds)}
    forgetful(fitted[0], task, task.requests["one row"], default_method().unlearner)  # warm up
    records: list[Record] = []
    left_out: list[str] = []
    sequences: list[Record] = []
    for request, erased in task.requests.items():
        again = {seed: forgetful(model, task, erased, Retrain()) for seed, model in fitted.items()}
        retraining = float(np.median([cost[clock] for _, cost in again.values()]))
        yardstick = Yardstick(task, erased, {seed: model for seed, (model, _) in again.items()})
        for seed, model in fitted.items():
            common = {"task": task.key, "request": request, "seed": seed, "full_batch": False}
            run = Run(task, model, erased, retraining, clock, max_share, only)
            retrained, cost = again[seed]
            cost |= {
                "method": "retrain",
                "family": "retrain",
                "seconds": cost[clock],
                "share": cost[clock] / retraining,
            }
            for forgot, record in [(retrained, cost), *run]:
                distances = yardstick.measure(forgot, seed)
                records.append(
                    common | record | distances
                    | {"distance": distances["same_erased"], "ratio": distances["ratio_erased"]}
                )  # fmt: skip
            left_out += [f"{task.key}, {request}: {name}" for name in run.left_out]
        if request == REQUEST:
            sequences = measure_sequence(task, fitted, yardstick)
    return {
        "records": records, "left_out": left_out, "sequences": sequences,
        "unmoved": {task.key: nothing_forgotten(task, fitted[0])},
    }  # fmt: skip


def nothing_forgotten(task: Task, fitted: Any) -> float:
    """Return how far the parameters go when a row is replaced by itself."""
    row = task.requests["one row"]
    model, _ = forgetful(fitted, task, row, None)
    model.correct(task.X[row], y_old=task.y[row], X_new=task.X[row])
    return parameter_distance(model.net_, fitted.net_)


def measure_full_batch(
    task: Task, seeds: int, clock: str, device: str | None, only: list[str] | None = None
) -> dict[str, Any]:
    """Measure every method by the distance of its parameters from the optimum over the retained rows.

    One more seed, the next, is fitted only to a gradient at which the Hessian has a negative eigenvalue; its records
    are those of a task of their own.

    Returns
    -------
    content : dict
        ``records`` and ``left_out`` as `measure`; ``fits``, what is known about each fitted point.
    """
    records: list[Record] = []
    left_out: list[str] = []
    fits: list[Record] = []
    for seed in range(seeds + 1):
        fitted, fit = _fit_full_batch(task, seed, device, indefinite=seed == seeds)
        key = f"{task.key}, indefinite" if seed == seeds else task.key
        fits.append({"task": key, **fit})
        print("  " + ", ".join(f"{name} {value:.3g}" for name, value in fit.items()), flush=True)
        for request, erased in task.requests.items():
            optima = {
                held: forgetful(fitted, task, erased, ContinueLBFGS(3000, task.tolerance or 0.0, held, 100))[0]
                for held in ((False, True) if seed == seeds else (False,))
            }
            optima.setdefault(True, optima[False])  # training left next to nothing to hold
            yardstick = Yardstick(task, erased, {seed: optima[False]})
            common = {"task": key, "request": request, "seed": seed, "full_batch": True}
            run = Run(task, fitted, erased, fit[clock], clock, float("inf"), only)
            for forgot, record in run:
                distances = {
                    name: parameter_distance(forgot.net_, optimum.net_) / parameter_distance(fitted.net_, optimum.net_)
                    for name, optimum in (("distance", optima[False]), ("distance_held", optima[True]))
                }
                records.append(common | record | yardstick.measure(forgot, seed) | {"ratio": float("nan")} | distances)
            left_out += [f"{key}: {name}" for name in run.left_out]
    return {"records": records, "left_out": left_out, "fits": fits}


def _fit_full_batch(task: Task, seed: int, device: str | None, *, indefinite: bool) -> tuple[Any, Record]:
    """Fit to the task's gradient tolerance, or only as far that the Hessian still has a negative eigenvalue."""
    for tolerance in (1e-5, 1e-4, 1e-3, 1e-2) if indefinite else (None,):
        model = task.estimator(seed, device)
        if tolerance is not None:
            model.set_params(estimator__optimizer__tolerance_grad=tolerance)
        with Clock() as clock:
            model.fit(task.X, task.y)
        rows = model.training_set_
        risk, w = EmpiricalRisk(model.net_, rows.X, rows.y), flat_parameters(model.net_)
        smallest = float(torch.linalg.eigvalsh(dense_hessian(risk, w))[0])
        if smallest < 0:
            break
    largest = float(risk.gradient(w).abs().max())
    return model, {"seed": seed, "largest_gradient": largest, "smallest_eigenvalue": smallest, **clock.seconds()}


def print_table(records: list[Record]) -> None:
    table = _verdicts.medians(records)
    columns = COLUMNS + (["distance_held"] if "distance_held" in table else [])
    for (task, request), part in table.groupby(["task", "request"], sort=False):
        print(f"\n{task}, {request}")
        print(part.set_index("method")[columns].to_string(float_format="{:.3g}".format))


def judge(content: dict[str, Any]) -> list[_verdicts.Verdict]:
    """Return a verdict for every claim that was measured."""
    records = content["records"]
    return [
        *_verdicts.distance_for_time(records),
        *_verdicts.frontier(records),
        *_verdicts.full_batch(records),
        *_verdicts.no_harm(records),
        *_verdicts.nothing_forgotten(content["unmoved"]),
        *_verdicts.stops_by_itself(records),
        *_verdicts.sequences(content["sequences"]),
    ]


def main() -> None:
    options = parse(__doc__, default_tasks="a,b,c,d", quick_tasks="a,d")
    # A class nobody predicts any more, a gradient that overflowed: the records say so in numbers.
    warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
    content: dict[str, Any] = {"records": [], "left_out": [], "sequences": [], "unmoved": {}, "fits": []}
    for task in tasks(options.tasks, options.data, quick=options.quick):
        print(f"\n== {task.key}: {len(task.X)} rows of shape {task.X.shape[1:]}", flush=True)
        with Clock() as clock:
            if task.full_batch:
                measured = measure_full_batch(task, options.seeds, options.clock, options.device, options.only)
            else:
                measured = measure(task, options.seeds, options.clock, options.max_share, options.device, options.only)
        print_table(measured["records"])
        for name, part in measured.items():
            content[name] = content[name] | part if isinstance(part, dict) else content[name] + part
        print(f"\n{task.key} took {clock.wall:.0f} s, {clock.cpu:.0f} s of them computing", flush=True)
        write(options, "frontier", content)  # after each task, so that what was measured is kept
    if content["sequences"]:
        print("\nTwenty requests and one, distances over the floor, to the model retrained without all rows")
        print_sequences(content["sequences"])
    if content["left_out"]:
        counts = Counter(content["left_out"])
        print("\nLeft out", *(f"{name} ({count} seeds)" for name, count in counts.items()), sep="\n  ")
    verdicts = judge(content)
    print("\nVerdicts", *verdicts, sep="\n  ")
    print(f"\n{environment()}")
    write(options, "frontier", content | {"verdicts": [vars(v) for v in verdicts]})
    if options.out:
        draw_frontier(content["records"], options.out / "frontier.png")
        if content["sequences"]:
            draw_sequences(content["sequences"], options.out / "sequence.png")


if __name__ == "__main__":
    main()
