"""Drift: twenty requests one after another beside one request for all of them.

Usage: ``python -m benchmarks.sequence [--quick] [--tasks a,b,c] [--seeds 3] [--data ../shared/data] [--out DIR]``. The
rows of the request "10 %" are erased 0.5 % at a time; after each round the distance to the model retrained without
*all* of them, in units of the distance between such models. `benchmarks.frontier` does the same in its own run.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._measure import Clock, Yardstick, forgetful
from benchmarks._options import parse, write
from benchmarks._pictures import draw_sequences
from benchmarks._rivals import default_method
from benchmarks._tasks import Task, tasks
from benchmarks._verdicts import sequences
from sk_unlearn.unlearners import Retrain

REQUEST = "10 %"
ROUNDS = 20


def measure_sequence(
    task: Task, fitted: Mapping[int, Any], yardstick: Yardstick, rounds: int = ROUNDS
) -> list[dict[str, Any]]:
    """Forget the rows of the request "10 %" in rounds, and at every fifth round also all of them so far at once.

    Parameters
    ----------
    task : Task
    fitted : dict of int to estimator
        Models before any request, by seed; left as they are.
    yardstick : Yardstick
        Of the whole request.
    rounds : int

    Returns
    -------
    records : list of dict
        With ``way`` "sequence" or "one request", ``round`` (0 is before the first), seconds so far, and the distances
        of `Yardstick.measure`. ``apart`` is the distance between the two ways, on test rows over the floor.
    """
    pieces = np.array_split(task.requests[REQUEST], rounds)
    records: list[dict[str, Any]] = []
    for seed, start in fitted.items():
        model, seconds = copy.deepcopy(start).set_params(unlearner=default_method().unlearner), 0.0

        def note(way: str, number: int, model: Any, spent: float, seed: int = seed, **more: float) -> None:
            distances = yardstick.measure(model, seed)
            records.append(
                {"task": task.key, "seed": seed, "way": way, "round": number, "wall": spent, **distances, **more}
            )

        note("sequence", 0, model, 0.0)
        note("one request", 0, model, 0.0)
        for number, piece in enumerate(pieces, 1):
            with Clock() as clock:
                model.forget(task.X[piece], task.y[piece])
            seconds += clock.wall
            if number % 5 and number != rounds:
                note("sequence", number, model, seconds)
                continue
            at_once, cost = forgetful(start, task, np.concatenate(pieces[:number]), default_method().unlearner)
            apart = (
                yardstick.between(*(yardstick.outputs(m)["test"] for m in (model, at_once))) / yardstick.floor["test"]
            )
            note("sequence", number, model, seconds, apart=apart)
            note("one request", number, at_once, cost["wall"], apart=apart)
    return records


def print_sequences(records: Sequence[Mapping[str, Any]]) -> None:
    table = pd.DataFrame(records)
    shown = table[table["round"] % 5 == 0].groupby(["task", "way", "round"], sort=False)
    columns = ["same_erased", "same_retained", "same_test", "apart", "score_test", "wall"]
    print(shown[columns].median().to_string(float_format="{:.3g}".format))


def main() -> None:
    options = parse(__doc__, default_tasks="a,b,c", quick_tasks="a")
    records: list[dict[str, Any]] = []
    for task in tasks(options.tasks, options.data, quick=options.quick):
        if task.full_batch:
            continue
        fitted = {seed: task.estimator(seed, options.device).fit(task.X, task.y) for seed in range(options.seeds)}
        erased = task.requests[REQUEST]
        retrained = {seed: forgetful(model, task, erased, Retrain())[0] for seed, model in fitted.items()}
        records += measure_sequence(task, fitted, Yardstick(task, erased, retrained))
    print_sequences(records)
    for verdict in sequences(records):
        print(verdict)
    write(options, "sequence", {"sequences": records})
    if options.out and records:
        draw_sequences(records, options.out / "sequence.png")


if __name__ == "__main__":
    main()
