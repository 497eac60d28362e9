# Run: python -m benchmarks.readme [--quick]
"""The table of the README: forgetting by default beside continuing to train and retraining, a line a request.

Usage: ``python -m benchmarks.readme [--seeds 3] [--references 5] [--only digits,heart]
[--quick]``, with ``OMP_NUM_THREADS=1``.

Nothing is downloaded: handwritten digits and diabetes patients that come with scikit-learn, and made-up ratings. The
built-in network, but for the ratings (embeddings) and the *user learnt by heart*: 40 rows of digits with wrong labels,
which a plain network, trained for long, predicts as it was told (the score of the erased rows before), and one that
was retrained never does.

Distances are those on the erased rows to models retrained from *other* seeds, over the distance of these from each
other: 1 is what a model retrained from yet another seed has. Jensen-Shannon divergence; root mean square for
regression. Times are processor seconds over those of one retraining in the same process. Medians over the
fitted models.

Continuing to train has the optimiser of the net, and is tuned by the answer: of three lengths, of up to a quarter of
the training, and three rates the pair is shown whose median distance is the least, which nobody could pick in practice.
*Short* is ``Retrain(share=0.25)``: trained anew from the start, in a quarter of the steps, which owes the rows nothing.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_diabetes, load_digits

from benchmarks._every_layer_methods import fine_tuning
from benchmarks._every_layer_models import Models
from benchmarks._every_layer_nets import OPTIMISERS, Recommender, classifier, ratings
from benchmarks._every_layer_tasks import LayerTask, built_in
from benchmarks._measure import forgetful
from benchmarks._options import environment
from benchmarks._rivals import NO_OP, Method, default_method
from benchmarks._tasks import mlp
from benchmarks.every_layer import Record, Request
from sk_unlearn.unlearners import Retrain

BUDGET = 0.25  # of the training, for what does not stop by itself
SHORT = Method(f"Retrain, {BUDGET:g}", "short retraining", Retrain(share=BUDGET))


def tenth(n: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(n)[: n // 10]


def digits(quick: bool) -> LayerTask:
    X, y = load_digits(return_X_y=True)
    X, y, test = X / 16, y.astype(np.int64), np.arange(len(X)) % 4 == 0
    X_train, y_train = X[~test][: 300 if quick else None], y[~test][: 300 if quick else None]
    requests = {"a class": np.flatnonzero(y_train == 3), "a random tenth": tenth(len(y_train))}
    return LayerTask("digits", X_train, y_train, X[test], y[test], built_in, requests)


def learnt_by_heart(quick: bool) -> LayerTask:
    """One user's rows have wrong labels, and the network has no weight decay that would keep it from learning them."""
    task = digits(quick)
    X, y = task.X.astype(np.float32), task.y.copy()
    user = np.random.default_rng(1).permutation(len(y))[: 10 if quick else 40]
    y[user] = (y[user] + 1 + np.random.default_rng(2).integers(9, size=len(user))) % 10
    net = classifier(partial(mlp, 64, 256, 10), 5 if quick else 150, lr=3e-3, batch_size=64)
    requests = {"a user learnt by heart": user}
    return LayerTask("digits, plain", X, y, task.X_test.astype(np.float32), task.y_test, net, requests)


def recommender(quick: bool) -> LayerTask:
    n_users, n_items, per_user, epochs = (60, 30, 25, 4) if quick else (600, 120, 50, 20)
    X, y = ratings(n_users, n_items, per_user)
    test = np.tile(np.arange(per_user) >= per_user * 4 // 5, n_users)
    build = partial(Recommender, n_users, n_items)
    requests = {f"{n_users // 20} users": np.flatnonzero(X[~test][:, 0] < n_users // 20)}
    net = classifier(build, epochs, **OPTIMISERS["Adam"])
    return LayerTask("ratings", X[~test], y[~test], X[test], y[test], net, requests)


def patients(quick: bool) -> LayerTask:
    X, y = load_diabetes(return_X_y=True)
    test = np.arange(len(X)) % 4 == 0
    requests = {"a random tenth": tenth(int((~test).sum()))}
    return LayerTask(
        "diabetes", X[~test], y[~test, None], X[test], y[test, None], built_in, requests, regression=True
    )  # fmt: skip


TASKS = {"digits": digits, "ratings": recommender, "heart": learnt_by_heart, "diabetes": patients}


def medians(records: Sequence[Record]) -> Record:
    table = pd.DataFrame(records)
    return {"method": records[0]["method"]} | {
        column: float(table[column].median())
        for column in ("ratio_erased", "ratio_test", "score_erased", "score_test", "share")
    }


def compare(task: LayerTask, seeds: int) -> Iterator[dict[str, Any]]:
    """Yield a line of the table for each request of a task."""
    models = Models(task, None)
    net = models.fitted(0).net_
    forgetful(models.fitted(0), task, next(iter(task.requests.values())), default_method().unlearner)  # warm up
    for name in task.requests:
        request = Request(models, name, seeds)
        continuing = [medians(list(request.forgetting(m))) for m in fine_tuning(net.max_epochs, net.lr, BUDGET, False)]
        found = {
            "nothing": medians(list(request.forgetting(NO_OP))),
            "continuing": min(continuing, key=lambda each: each["ratio_erased"]),
            "default": medians(list(request.forgetting(default_method()))),
            "short": medians(list(request.forgetting(SHORT))),
            "retraining": medians(list(request.retraining())),
        }
        line: dict[str, Any] = {"data": task.key, "erased": f"{name}, {len(request.erased)} of {len(task.X)} rows"}
        for method, each in found.items():
            line[f"{method}: distance"] = each["ratio_erased"]
            line[f"{method}: on test rows"] = each["ratio_test"]
            line[f"{method}: score of the erased"] = each["score_erased"]
            line[f"{method}: score of the test rows"] = each["score_test"]
            line[f"{method}: time"] = each["share"]
        yield line | {"continuing was": found["continuing"]["method"], "retraining, s": request.cpu}


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="fitted models that forget")
    parser.add_argument("--references", type=int, default=5, help="models retrained for each request")
    parser.add_argument("--quick", action="store_true", help="few rows and epochs, to see that it runs")
    parser.add_argument("--only", default=",".join(TASKS), help="tasks, with commas between")
    options = parser.parse_args(arguments)
    unknown = set(options.only.split(",")) - set(TASKS)
    if unknown:
        parser.error(f"--only takes names of {list(TASKS)} with commas between, got {options.only}")
    torch.set_num_threads(1)
    # A class nobody predicts any more, a rate too high for a net: the table says so in numbers.
    warnings.filterwarnings("ignore", category=UserWarning)
    lines = []
    for name in options.only.split(","):
        for line in compare(replace(TASKS[name](options.quick), references=options.references), options.seeds):
            print(line["data"], line["erased"], sep=": ", flush=True)
            lines.append(line)
    table = pd.DataFrame(lines)
    short = table.set_index(["data", "erased"])
    for what in ("distance", "on test rows", "score of the erased", "score of the test rows", "time"):
        columns = [c for c in short if c.endswith(f": {what}")]
        print(
            f"\n{what}",
            short[columns].rename(columns=lambda c: c.split(":")[0]).to_string(float_format="%.3g"),
            sep="\n",
        )
    print("\n" + short[["continuing was", "retraining, s"]].to_string(float_format="%.3g"))
    print(f"\n{environment()}")
    return table


if __name__ == "__main__":
    main()
