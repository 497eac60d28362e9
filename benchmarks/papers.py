# Run: python -m benchmarks.papers [--quick]
"""The cubic paper's table on Fashion-MNIST beside our figures, and two tests in which the truth is known.

Usage: ``python -m benchmarks.papers [--parts class sample canaries confusion rounds] [--net cnn|small] [--rows N]
[--epochs N] [--seeds 1] [--methods NAME ...] [--quick] [--data ../shared/data] [--out FOLDER]``, with
``OMP_NUM_THREADS=1``.

The paper is Bui, Lu, Sim, Ng and Low, "How to Cure Newton for Unlearning Neural Networks? An Empirical Study from the
Hessian Perspective", ICLR 2026; its Tug-of-War is printed in the column beside ours. Known of its settings are the
weight L = 5 of the cubic term, 128 and 64 rows a step for gradient and curvature, 5 inner and 10 outer steps, and the
perturbation (0.1; sources differ). Not known are its network, its training and which class it erases: here a CNN of
63,562 parameters (``--net cnn``) is trained by Adam in batches of 128 at an annealed rate of 0.002 for 8 epochs. What
needs the full Hessian (16 GB for that network) is exact with ``--net small``, a CNN of 730 parameters. With ``cnn``
30 products stand for it in the step of `CuReNU`, conjugate gradients in that of `DampedNewton`, which end where they
meet negative curvature, and the pseudo-inverse is left out. `DELETE` of the package ends where a step would harm
retained rows; the one without brakes makes all the passes of its paper.

Parts:

- ``class``: all rows of a class are erased; ``sample``: ten per cent of the rows at random.
- ``rounds``: the same rows in five requests, one after the other, measured at the end.
- ``canaries``: two per cent of 6,000 rows have a wrong label, and the network learns these by heart (eight times the
  epochs, batches of 32, no weight decay). They are erased. ``acc erased`` is the share still predicted with the wrong
  label, which should be what it is with retrained networks.
- ``confusion``: labels of two classes were swapped for half of their rows [1]_, and these are erased. ``confused`` is
  the share of test rows of the two classes that are taken for the other.

Columns: accuracy on erased (by the labels that were trained on), retained and test rows, 5,000 of each at most; ``JS``,
Jensen-Shannon divergence from three networks retrained from other seeds on the erased rows, and ``ratio``, the same
over that among them; ``ToW``, Tug-of-War, mean over the three, and the published one; ``time``, processor seconds over
those of one retraining. ``retrained`` are the three themselves, each beside the other two; ``Retrain`` is one more.

What is measured is printed and written at once, each part to a file of its own, so that parts can be run one at a time.

.. [1] Goel et al., "Towards Adversarial Evaluations for Inexact Machine Unlearning", 2022.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import _options, methods
from benchmarks._measure import PARTS as KINDS
from benchmarks._measure import forgetful, parameter_distance
from benchmarks._papers_tasks import NETS, PARTS, Images, Net, Problem, images, problems
from benchmarks._rivals import NO_OP, Method, PlainDELETE
from sk_unlearn.metrics import tug_of_war
from sk_unlearn.unlearners import DELETE, SCRUB, CuReNU, DampedNewton, Retrain, StoCuReNU

Record = dict[str, Any]

# Tug-of-War of the paper for a random sample and for a class.
PUBLISHED = {
    "PseudoInverseNewton": {"sample": 0.01, "class": 0.05},
    "DampedNewton": {"sample": 0.01, "class": 0.05},
    "SCRUB": {"sample": 0.94, "class": 0.97},
    "DELETE": {"sample": 0.85, "class": 0.99},
    "CuReNU": {"sample": 0.98, "class": 0.93},
    "StoCuReNU": {"sample": 0.98, "class": 0.99},
}
COLUMNS = {
    **{f"score_{kind}": f"acc {kind}" for kind in KINDS},
    "confused": "confused", "js": "JS", "ratio": "ratio", "tow": "ToW", "published": "published", "moved": "moved",
    "time": "time",
}  # fmt: skip


def compared(net: Net) -> list[Method]:
    """Return the methods for a network, the cheaper ones first."""
    as_published = {method.name.split(",")[0]: method for method in methods.published()}
    listed = [
        NO_OP,
        Method("Retrain", methods.REFERENCE, Retrain()),
        Method("StoCuReNU", methods.DEFAULTS, StoCuReNU()),
        Method("StoCuReNU(renew=False)", methods.DEFAULTS, StoCuReNU(renew=False)),
        Method("Retrain(share=0.2)", methods.DEFAULTS, Retrain(share=0.2)),
        as_published["StoCuReNU"],
        Method("DELETE, published", methods.PUBLISHED, DELETE(20, learning_rate=1e-4)),
        Method("DELETE, published, without brakes", methods.PUBLISHED, PlainDELETE(20, 1e-4)),
        Method("SCRUB, published", methods.PUBLISHED, SCRUB(10, n_max_epochs=3, learning_rate=5e-4)),
    ]
    listed.append(Method("SCRUB", methods.DEFAULTS, SCRUB()))
    if net.dense:
        listed += [as_published[name] for name in ("DampedNewton", "PseudoInverseNewton", "CuReNU")]
    else:
        damped = DampedNewton(1e-3, solver="cg", hold_residual=False)
        cubic = CuReNU(5.0, solver="krylov", n_products=30, max_steps=1, hold_residual=False)
        listed += [
            Method("DampedNewton, published, by products", methods.PUBLISHED, damped),
            Method("CuReNU, published, by products", methods.PUBLISHED, cubic),
        ]
    return [*listed, Method("CuReNU", methods.DEFAULTS, CuReNU())]


class Bench:
    """One network, fitted and retrained once for each seed and whatever is asked of it.

    Parameters
    ----------
    rows : tuple of ndarray
        Training images, labels, test images, labels.
    net : Net
    """

    def __init__(self, rows: Images, net: Net) -> None:
        self.rows, self.net = rows, net
        self._fitted: dict[tuple[int, str], Any] = {}
        self._rulers: dict[tuple[int, str], methods.Ruler] = {}

    def records(self, part: str, seed: int, chosen: Sequence[Method]) -> Iterator[Record]:
        """Yield a record for the retrained networks and one for each method."""
        for problem in problems(part, self.rows, self.net, seed):
            fitted, ruler = self.fitted(problem, seed), self.ruler(problem, seed)
            common = {"part": part, "request": problem.name, "seed": seed, "erased": len(problem.erased)}
            yield common | {"method": "retrained", "seconds": ruler.seconds} | retrained(problem, ruler)
            for method in chosen:
                try:
                    measured = asked(problem, method, fitted, ruler)
                except (FloatingPointError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
                    measured = {"ended": "failed", "stopped": str(error)}
                yield common | {"method": method.name} | measured

    def fitted(self, problem: Problem, seed: int) -> Any:
        key = (seed, problem.fit)
        if key not in self._fitted:
            self._fitted[key] = problem.task.estimator(seed).fit(problem.task.X, problem.task.y)
        return self._fitted[key]

    def ruler(self, problem: Problem, seed: int) -> methods.Ruler:
        key = (seed, problem.request)
        if key not in self._rulers:
            training = methods.Training(problem.task, StoCuReNU(), [])
            self._rulers[key] = methods.Ruler(training, problem.erased, problem.task.estimator(seed))
        return self._rulers[key]


def asked(problem: Problem, method: Method, fitted: Any, ruler: methods.Ruler) -> Record:
    """Have a copy forget the rows, round by round, and measure it at the end."""
    model, seconds, status = fitted, 0.0, ""
    for piece in problem.pieces:
        model, cost = forgetful(model, problem.task, piece, method.unlearner)
        seconds += cost["cpu"]
        status = "" if method.unlearner is None else str(model.unlearning_report_.status)
    return ruler.measure(model) | {
        "confused": problem.confused(ruler.yardstick.outputs(model)["test"]),
        "moved": parameter_distance(model.net_, fitted.net_),
        "time": seconds / ruler.seconds,
        "ended": status,
        "stopped": cost["stopped"],
        "published": PUBLISHED.get(method.name.split(",")[0], {}).get(problem.name, float("nan"))
        if method.family == methods.PUBLISHED
        else float("nan"),
    }


def retrained(problem: Problem, ruler: methods.Ruler) -> Record:
    """Return means over the retrained networks: accuracies, and each one's distance from the others."""
    scores = np.array(ruler.scores)
    apart = [tug_of_war(a, b) for a, b in combinations(scores, 2)]
    tests = [outputs["test"] for outputs in ruler.yardstick.references.values()]
    return {f"score_{kind}": score for kind, score in zip(KINDS, scores.mean(0), strict=True)} | {
        "confused": float(np.mean([problem.confused(test) for test in tests])),
        "js": ruler.yardstick.floor["erased"],
        "ratio": 1.0,
        "tow": float(np.mean(apart)),
        "time": 1.0,
        "ended": "",
    }


def line(record: Record) -> str:
    """Return one record in words, for who watches."""
    numbers = {title: record.get(name, float("nan")) for name, title in COLUMNS.items()}
    told = "  ".join(f"{title} {number:.3g}" for title, number in numbers.items() if np.isfinite(number))
    return f"{record['request']}, seed {record['seed']}: {record['method']}  {told}  {record['ended']}"


def table(records: Sequence[Record]) -> str:
    """Return the means over seeds, a line a method, without columns that have nothing to say here."""
    by = pd.DataFrame(records).reindex(columns=["method", "ended", *COLUMNS]).groupby("method", sort=False)
    means = by[list(COLUMNS)].mean().dropna(axis=1, how="all")
    shown = means.map(lambda number: f"{number:.3f}" if np.isfinite(number) else "").rename(columns=COLUMNS)
    return methods.markdown(shown.assign(ended=by.ended.agg(methods.counted)))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--net", default="cnn", choices=list(NETS))
    parser.add_argument("--rows", type=int, default=60_000, help="training rows")
    parser.add_argument("--epochs", type=int, help="of the training; canaries take eight times as many")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--methods", nargs="*", default=(), help="names as in the table; by default all")
    parser.add_argument("--quick", action="store_true", help="few digits and epochs, to see that it runs")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, help="folder for the records, a JSON file a part")
    options = parser.parse_args(arguments)
    known = [method.name for method in compared(NETS[options.net])]
    if not set(options.methods) <= set(known):
        parser.error(f"--methods takes names of {known}, got {options.methods}")
    if not options.quick and not (options.data / "fashion_mnist").is_dir():
        parser.error(f"there is no folder fashion_mnist in --data {options.data}")
    return options


def main(arguments: Sequence[str] | None = None) -> list[Record]:
    options = parse(arguments)
    # What retraining warns of; and full steps say of themselves that they went wrong.
    warnings.filterwarnings("ignore", category=UserWarning)
    net = NETS[options.net]
    net = replace(net, epochs=options.epochs or (1 if options.quick else net.epochs))
    chosen = [method for method in compared(net) if not options.methods or method.name in options.methods]
    bench = Bench(images(options.data, 200 if options.quick else options.rows, quick=options.quick), net)
    everything: list[Record] = []
    print(f"{len(bench.rows[1])} rows, {net.epochs} epochs, {torch.get_num_threads()} threads", flush=True)
    for part in options.parts:
        records: list[Record] = []
        for seed in range(options.seeds):
            for record in bench.records(part, seed, chosen):
                records.append(record)
                print(line(record), flush=True)
                content = {"rows": len(bench.rows[1]), "epochs": net.epochs, "records": records}
                _options.write(options, f"papers_{options.net}_{part}", content)
        for request in dict.fromkeys(record["request"] for record in records):
            print(f"\n### {request}\n\n{table([r for r in records if r['request'] == request])}\n", flush=True)
        everything += records
    return everything


if __name__ == "__main__":
    main()
