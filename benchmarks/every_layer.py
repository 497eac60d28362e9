# Run: python -m benchmarks.every_layer [--quick]
"""Does the default forget in every layer? Ratios and times beside doing nothing, tuned rivals and shorter retraining.

Usage: ``python -m benchmarks.every_layer [--only recommender,adult] [--methods no-op,ours] [--seeds 3] [--quick]
[--cache FOLDER] [--out FOLDER] [--data ../shared/data]``, with ``OMP_NUM_THREADS=1``.

Tasks: users of a recommender, whose trace is a row of an embedding; occupations in Adult, a column each; patients of
a hospital table; classes and writers of digits, classes of Fashion-MNIST (MLP and CNN) and CIFAR (BatchNorm, augmented
rows); a region of California and a fortnight of bike hire; nets whose logits no plain linear layer gives. One row and
a random part of the rows are there to see that nothing is harmed. ``latency`` is one row of 10⁴, 10⁵, 10⁶ and of 20,000
images.

Columns, medians over seeds: ``share``, processor seconds over those of a retraining in the same process; ``ratio_*``,
distance (Jensen-Shannon divergence; root mean square for regression) from the models retrained from *other* seeds over
the distance of these from each other; ``same_*``, distance from the model retrained from the same seed in that unit;
and of `benchmarks._every_layer_probes`: ``row``, ``row_left`` and ``known`` of users, ``probe`` and ``relearning`` of
erased classes. ``retrain`` is the model retrained from the same seed itself, which shows what ratio chance makes.

Fine-tuning is tuned by the answer: the best of several lengths and rates, which nobody could pick in practice.

With ``--out`` the records are merged into what is there already, so that tasks can be measured one at a time; with
``--cache`` retrained models, which take the most time, are kept.
"""

from __future__ import annotations

import argparse
import copy
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks._every_layer_methods import FAMILIES
from benchmarks._every_layer_models import Models
from benchmarks._every_layer_probes import PROBES
from benchmarks._every_layer_tasks import GROUPS, QUICK, LayerTask, Limit, layer_tasks
from benchmarks._every_layer_verdicts import judge, summary
from benchmarks._measure import Yardstick, forgetful
from benchmarks._options import environment, write
from benchmarks._pictures import draw_every_layer
from benchmarks._rivals import Method, default_method
from benchmarks.one_row import fitted_table, one_by_one

Record = dict[str, Any]
LATENCY = "latency"
SIZES = (10_000, 100_000, 1_000_000)


class Request:
    """One request of a task: the models to compare with, and what is measured of a model that forgot.

    Parameters
    ----------
    models : Models
    name : str
        Of the request.
    seeds : int
        Of the models that forget; the references are at least as many.
    """

    def __init__(self, models: Models, name: str, seeds: int) -> None:
        self.models, self.task, self.name, self.seeds = models, models.task, name, seeds
        self.erased = self.task.requests[name]
        self.retrained, self.cpu, self.timed = models.retrained(name, max(seeds, self.task.references))
        outputs = {seed: each["outputs"] for seed, each in self.retrained.items()}
        self.yardstick = Yardstick(self.task, self.erased, outputs)

    def measure(self, model: Any, seed: int) -> Record:
        """Return distances and what the probes find; the ratio leaves out the reference of the model's own seed."""
        measured: Record = self.yardstick.measure(model, seed)
        n = len(self.retrained)
        for part in ("erased", "retained", "test"):
            measured[f"ratio_{part}"] = (n * measured[f"ratio_{part}"] - measured[f"same_{part}"]) / (n - 1)
        for name in self.task.probes:
            retrained = self.models.model(self.retrained[seed]["state"], seed)
            measured |= PROBES[name](self.task, self.erased, model, retrained, self.models.fitted(seed))
        return measured

    def retraining(self) -> Iterator[Record]:
        """Yield a record of each retrained model, measured as one that forgot."""
        for seed in range(self.seeds):
            record = {"method": "retrain", "family": "retrain", "cpu": self.cpu, "share": 1.0, "seed": seed}
            yield record | self.measure(self.models.model(self.retrained[seed]["state"], seed), seed)

    def forgetting(self, method: Method) -> Iterator[Record]:
        """Yield a record of each seed."""
        for seed in range(self.seeds):
            model, cost = forgetful(self.models.fitted(seed), self.task, self.erased, method.unlearner)
            record = {"method": method.name, "family": method.family, "seed": seed, **cost}
            yield record | {"share": cost["cpu"] / self.cpu} | self.measure(model, seed)


def measure(models: Models, seeds: int, families: Sequence[str], quick: bool) -> tuple[list[Record], list[str]]:
    """Measure the methods on every request of a task, a line for each as it comes.

    Returns
    -------
    records : list of dict
    failed : list of str
        Methods that raised, with what they said.
    """
    task, records, failed = models.task, [], []
    net = models.fitted(0).net_
    first = next(iter(task.requests.values()))
    forgetful(models.fitted(0), task, first, default_method().unlearner)  # warm up
    for name in task.requests:
        request, limit = Request(models, name, seeds), task.limits[name]
        common = {"task": task.key, "request": name, "timed": request.timed, "full_batch": False}
        print(f"{task.key}, {name}: {len(request.erased)} rows, retraining {request.cpu:.3g} s", flush=True)
        methods = [m for f in families for m in FAMILIES[f](net.max_epochs, net.lr, limit.share, quick)]
        for method in [None, *methods]:
            try:
                done = list(request.retraining() if method is None else request.forgetting(method))
            except Exception as error:  # a rival that cannot do a task must not end the measurement of the others
                failed.append(f"{task.key}, {name}, {method.name if method else 'retrain'}: {error!r}")
                print(f"  failed: {failed[-1]}", flush=True)
                continue
            print(f"  {line(done)}", flush=True)
            records += [common | record for record in done]
    return records, failed


def line(records: Sequence[Record]) -> str:
    """Return the medians of one method."""
    columns = ["share", "ratio_erased", "same_erased", "ratio_test", "same_test", "score_erased", "score_test"]
    columns += [c for c in ("row", "row_left", "known", "probe", "relearning") if c in records[0]]
    medians = pd.DataFrame(records)[columns].median()
    return f"{records[0]['method']:36s} " + "  ".join(f"{c} {value:.3g}" for c, value in medians.items())


def measure_latency(models: Models | None, quick: bool, repeats: int = 9) -> list[Record]:
    """Measure the seconds of one row, of tables of several sizes and of the images of a task."""
    measured = []
    for n in SIZES[: 1 if quick else None]:
        measured.append((f"table of {n:,} rows", *fitted_table(n)))
    if models is not None:
        measured.append((models.task.key, copy.deepcopy(models.fitted(0)), models.task.X))
    records = []
    for name, est, X in measured:
        first, seconds, extra = one_by_one(est, X, repeats)
        print(f"{name}: first {1e3 * first:.1f} ms, then {1e3 * seconds:.1f} ms, {extra:.1f} MiB", flush=True)
        records.append({"task": LATENCY, "request": name, "first": first, "cpu": seconds, "memory": extra})
    return records


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"tasks, of {','.join([*GROUPS, LATENCY])}; with --quick {','.join(QUICK)}")
    parser.add_argument("--methods", default=",".join(FAMILIES), help="families of methods, with commas between")
    parser.add_argument("--seeds", type=int, default=3, help="fitted models that forget, at least 2")
    parser.add_argument("--quick", action="store_true", help="few rows and epochs, to see that it runs")
    parser.add_argument("--cache", type=Path, help="folder in which fitted and retrained models are kept")
    parser.add_argument(
        "--retime", type=float, default=20.0,
        help="train once more, for its time, where the models retrained come from the cache, unless it takes longer",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for JSON and picture")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    options = parser.parse_args(arguments)
    options.only = (options.only or ",".join(QUICK if options.quick else [*GROUPS, LATENCY])).split(",")
    options.methods = options.methods.split(",")
    for name, given, known in (
        ("--only", options.only, [*GROUPS, LATENCY]),
        ("--methods", options.methods, list(FAMILIES)),
    ):
        if not set(given) <= set(known):
            parser.error(f"{name} takes names of {known} with commas between, got {given}")
    if options.seeds < 2:
        parser.error(f"--seeds must be at least 2, got {options.seeds}: the floor is the distance between them.")
    return options


def merged(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of an earlier run with what was measured now in place of the same of then."""
    if not path.exists():
        return content
    before = json.loads(path.read_text())
    key = ("task", "request", "method", "seed")
    now = {tuple(record.get(k) for k in key) for record in content["records"]}
    kept = [record for record in before["records"] if tuple(record.get(k) for k in key) not in now]
    return {
        "records": kept + content["records"],
        "limits": before["limits"] | content["limits"],
        "failed": [each for each in before["failed"] if each not in content["failed"]] + content["failed"],
    }


def save(options: argparse.Namespace, content: dict[str, Any]) -> dict[str, Any]:
    """Write everything measured so far, with what an earlier run left, and return it."""
    if options.out is None:
        return content
    content = merged(options.out / "every_layer.json", content)
    write(options, "every_layer", content)
    return content


def run(task: LayerTask, options: argparse.Namespace, content: dict[str, Any]) -> Models:
    """Measure one task and add what was found to `content`."""
    print(f"\n== {task.key}: {len(task.X)} rows of shape {task.X.shape[1:]}", flush=True)
    models = Models(task, options.cache, options.retime)
    records, failed = measure(models, options.seeds, options.methods, options.quick)
    content["records"] += records
    content["failed"] += failed
    content["limits"][task.key] = {name: vars(limit) for name, limit in task.limits.items()}
    return models


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    torch.set_num_threads(1)
    # A class nobody predicts any more, weights that a rival drove to infinity: the records say so in numbers.
    warnings.filterwarnings("ignore", category=UserWarning)
    content: dict[str, Any] = {"records": [], "limits": {}, "failed": []}
    images: Models | None = None
    for task in layer_tasks([name for name in options.only if name != LATENCY], options.data, options.quick):
        models = run(task, options, content)
        save(options, content)  # after each task, so that what was measured is kept
        images = models if task.key == "fashion CNN" else images
    if LATENCY in options.only:
        content["records"] += measure_latency(images, options.quick)
    content = save(options, content)
    limits = {task: {name: Limit(**limit) for name, limit in of.items()} for task, of in content["limits"].items()}
    print("\n" + summary(content["records"], limits).to_string(float_format="{:.3g}".format))
    verdicts = judge(content["records"], limits)
    print("\nVerdicts", *verdicts, sep="\n  ")
    print(*(["\nFailed", *content["failed"]] if content["failed"] else []), sep="\n  ")
    print(f"\n{environment()}")
    if options.out:
        draw_every_layer(content["records"], options.out / "every_layer.png")
    return content


if __name__ == "__main__":
    main()
