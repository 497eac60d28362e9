# Run: python -m benchmarks.sequence [--quick]
"""Drift: requests one after another beside one request for all of them.

Usage: ``python -m benchmarks.sequence [--quick] [--tasks a,b,c,n] [--seeds 3] [--rounds 20] [--rows N] [--share 0.1]
[--batch-norm] [--verbs forget,partial_fit,correct] [--data ../shared/data] [--out DIR]``. The rows of the request
"10 %" (with ``--rows``, a ``--share`` of these) are erased in as many rounds; after each round the distance to the
model trained without *all* of them, in units of the distance between such models. With several ``--verbs`` they take
turns: some of these rows are erased, some are learnt late by ``partial_fit``, and of some a wrong label is corrected;
the model to compare with is trained on what all that comes to. Tasks n are noisy rows of the built-in network, which
must not end farther away than doing nothing leaves it.
`benchmarks.frontier` does the first in its own run.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from benchmarks._measure import Clock, Yardstick
from benchmarks._options import parse, write
from benchmarks._pictures import draw_sequences
from benchmarks._rivals import default_method
from benchmarks._tasks import Task, tasks
from benchmarks._verdicts import harmless, sequences

REQUEST = "10 %"
ROUNDS = 20


Request = tuple[str, NDArray[np.int64]]


def requests(task: Task, rounds: int, verbs: Sequence[str] = ("forget",)) -> list[Request]:
    """Return a verb and the rows that it is about, for each round."""
    pieces = np.array_split(task.requests[REQUEST], rounds)
    return [(verbs[number % len(verbs)], piece) for number, piece in enumerate(pieces)]


def at_once(asked: Sequence[Request]) -> list[Request]:
    """Return the same requests with those of each verb taken together."""
    verbs = dict.fromkeys(verb for verb, _ in asked)
    return [(verb, np.concatenate([rows for name, rows in asked if name == verb])) for verb in verbs]


def rows_around(task: Task, asked: Sequence[Request]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return rows and targets to fit on, and those that all requests come to."""
    about = {"forget": [], "partial_fit": [], "correct": []} | dict(at_once(asked))
    first = np.setdiff1d(np.arange(len(task.X)), about["partial_fit"])
    last = np.append(np.setdiff1d(first, about["forget"]), np.asarray(about["partial_fit"], dtype=np.int64))
    y = task.y.copy()
    y[about["correct"]] = wrong(task, about["correct"])
    return [(task.X[first], y[first]), (task.X[last], task.y[last])]


def wrong(task: Task, rows: Any) -> NDArray[Any]:
    return (task.y.max() + task.y.min() - task.y[rows]).astype(task.y.dtype)


def ask(model: Any, task: Task, verb: str, rows: NDArray[np.int64]) -> None:
    X, y = task.X[rows], task.y[rows]
    if verb == "correct":
        model.correct(X, y_old=wrong(task, rows), y_new=y)
    else:
        getattr(model, verb)(X, y)


def measure_sequence(
    task: Task,
    fitted: Mapping[int, Any],
    yardstick: Yardstick,
    rounds: int = ROUNDS,
    asked: Sequence[Request] | None = None,
) -> list[dict[str, Any]]:
    """Make requests in rounds, and after every fourth part of them also one of all of them so far.

    Parameters
    ----------
    task : Task
    fitted : dict of int to estimator
        Models before any request, by seed; left as they are.
    yardstick : Yardstick
        Of the whole request.
    rounds : int
    asked : sequence of (str, ndarray), default=None
        A verb and rows for each round. None forgets the rows of the request "10 %".

    Returns
    -------
    records : list of dict
        With ``way`` "sequence" or "one request", ``round`` (0 is before the first), seconds so far, and the distances
        of `Yardstick.measure`. ``apart`` is the distance between the two ways, on test rows over the floor.
    """
    asked = requests(task, rounds) if asked is None else asked
    every = max(1, len(asked) // 4)
    records: list[dict[str, Any]] = []
    for seed, start in fitted.items():
        start = copy.deepcopy(start).set_params(unlearner=default_method().unlearner)
        model, seconds = copy.deepcopy(start), 0.0

        def note(way: str, number: int, model: Any, spent: float, seed: int = seed, **more: float) -> None:
            distances = yardstick.measure(model, seed)
            records.append(
                {"task": task.key, "seed": seed, "way": way, "round": number, "wall": spent, **distances, **more}
            )

        note("sequence", 0, model, 0.0)
        note("one request", 0, model, 0.0)
        for number, (verb, rows) in enumerate(asked, 1):
            with Clock() as clock:
                ask(model, task, verb, rows)
            seconds += clock.wall
            if number % every and number != len(asked):
                continue
            together = copy.deepcopy(start)
            with Clock() as clock:
                for request in at_once(asked[:number]):
                    ask(together, task, *request)
            outputs = [yardstick.outputs(way)["test"] for way in (model, together)]
            apart = yardstick.between(*outputs) / yardstick.floor["test"]
            note("sequence", number, model, seconds, apart=apart)
            note("one request", number, together, clock.wall, apart=apart)
    return records


def print_sequences(records: Sequence[Mapping[str, Any]]) -> None:
    shown = pd.DataFrame(records).groupby(["task", "way", "round"], sort=False)
    columns = ["same_erased", "ratio_erased", "same_retained", "same_test", "ratio_test", "apart", "score_test", "wall"]
    print(shown[columns].median().to_string(float_format="{:.3g}".format))


def batch_norm_mlp(n_inputs: int, n_outputs: int, width: int = 64) -> nn.Sequential:
    layers = [nn.Flatten(), nn.Linear(n_inputs, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(
        *layers, nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, n_outputs)
    )


def adapted(task: Task, n_rows: int | None, *, batch_norm: bool, share: float = 0.1) -> Task:
    """Return the task with its first rows alone, a share of which is asked about, or with a net that has BatchNorm."""
    if n_rows is not None:
        request = np.random.default_rng(0).permutation(len(task.X[:n_rows]))[: round(share * n_rows)]
        task = replace(task, X=task.X[:n_rows], y=task.y[:n_rows], requests={REQUEST: request})
    if batch_norm and task.net() is not None:
        n_outputs, old = 1 if task.regression else len(np.unique(task.y)), task.net
        build = partial(batch_norm_mlp, task.X[0].size, n_outputs)
        task = replace(task, key=f"{task.key}, BatchNorm", net=lambda: old().set_params(module__build=build))
    return task


def main() -> None:
    options = parse(
        __doc__, default_tasks="a,b,c,n", quick_tasks="a,n",
        rounds={"type": int, "default": ROUNDS, "help": "requests, one after another"},
        rows={"type": int, "help": "rows to keep of each task; some of them are asked about"},
        share={"type": float, "default": 0.1, "help": "which share of these, where --rows is given"},
        batch_norm={"action": "store_true", "help": "a perceptron with BatchNorm in place of the task's net"},
        verbs={"default": "forget", "help": "what is asked for in turns: forget,partial_fit,correct"},
    )  # fmt: skip
    records: list[dict[str, Any]] = []
    for drawn in tasks(options.tasks, options.data, quick=options.quick):
        if drawn.full_batch:
            continue
        task = adapted(drawn, options.rows, batch_norm=options.batch_norm, share=options.share)
        asked = requests(task, options.rounds, options.verbs.split(","))
        fitted, trained = (
            {seed: task.estimator(seed, options.device).fit(*rows) for seed in range(options.seeds)}
            for rows in rows_around(task, asked)
        )
        yardstick = Yardstick(task, task.requests[REQUEST], trained)
        records += measure_sequence(task, fitted, yardstick, asked=asked)
    print_sequences(records)
    for verdict in sequences(records) + harmless(records):
        print(verdict)
    write(options, "sequence", {"sequences": records})
    if options.out and records:
        draw_sequences(records, options.out / "sequence.png")


if __name__ == "__main__":
    main()
