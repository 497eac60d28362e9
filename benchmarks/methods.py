# Run: python -m benchmarks.methods [--quick]
"""Every method, as published and at its defaults, on a whole class and on ten per cent of the rows at random.

Usage: ``python -m benchmarks.methods [--seeds 5] [--quick] [--data ../shared/data] [--only digits,fashion]
[--methods NAME ...] [--out DIR]``, on one thread.

Data: digits (1,347 training rows, 64 columns) and 4,000 images of Fashion-MNIST pooled to 7 x 7 (3,000 training rows),
left out where the files are absent. Network: the built-in one with 16 hidden units (1,210 and 970 parameters), so that
published methods with a full Hessian can be measured. Every seed has a split, a class, an initialisation, and
three retrained models of its own.

Columns, means over seeds with their standard errors: ``acc``, accuracy; ``JS``, Jensen-Shannon divergence from the
retrained models on the erased rows, and ``ratio``, the same over that among them; ``ToW``, Tug-of-War, mean over the
retrained models; ``AUC``, of the attack that calls an erased row a member when its loss is low, against test rows of
the same classes, and what it makes of the retrained models; ``moved``, norm of the change of the parameters; ``time``,
processor seconds over retraining's; ``MiB``, memory at the height; ``ended``, the statuses in the reports, each with
the number of seeds. ``Retrain`` is one more retrained model: what is as good as it cannot be told from retraining.

Three methods watch or alter training. ``RewindToDelete`` watches the one that the others share. ``CertifiedNewton``
has a fit and retrained models of its own, all in its ball. ``HessianFreeRecording`` has a net of its own, trained by
plain SGD, and is measured on digits alone: recording takes a Hessian-vector product a row and batch.
``CertifiedRemoval`` needs one linear layer and is left out.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from skorch import NeuralNet

from benchmarks._measure import PARTS, Clock, Yardstick, forgetful, parameter_distance
from benchmarks._options import write
from benchmarks._rivals import NO_OP, Method
from benchmarks._tasks import Task, without_copies
from benchmarks._verdicts import Verdict
from benchmarks.default import fashion_mnist
from sk_unlearn.estimators.default_net import default_net
from sk_unlearn.references import changes_training
from sk_unlearn.unlearners import (
    AMUN,
    DELETE,
    RURK,
    SCRUB,
    SSD,
    CertificateRefused,
    CertifiedNewton,
    CuReNU,
    DampedNewton,
    FineTune,
    FisherForgetting,
    GaussNewton,
    GradientAscent,
    HessianFreeRecording,
    L1Sparse,
    LBFGSWarmStart,
    MinMaxNaturalGradient,
    NaturalGradient,
    NegGradPlus,
    NoisyFineTune,
    PseudoInverseNewton,
    RandomLabels,
    Retrain,
    RewindToDelete,
    SalUn,
    StoCuReNU,
)
from sk_unlearn.unlearners.base import Unlearner

Record = dict[str, Any]

N_RETRAINED = 3
DEFAULT = "StoCuReNU"
PUBLISHED, DEFAULTS, REFERENCE = "published", "defaults", "reference"
NEWTON = ("PseudoInverseNewton, published", "DampedNewton, published")
CUBIC = ("CuReNU, published", "StoCuReNU, published", "CuReNU", "StoCuReNU")
COLLAPSE, FAITHFUL = 0.5, 0.97
COLUMNS = {
    **{f"score_{part}": f"acc {part}" for part in PARTS},
    "js": "JS", "ratio": "ratio", "tow": "ToW", "auc": "AUC", "auc_retrained": "retrained's", "moved": "moved",
    "time": "time", "memory": "MiB",
}  # fmt: skip


@dataclass(frozen=True)
class Training:
    """A way to train, and the methods measured by models trained that way.

    Attributes
    ----------
    task : Task
    unlearner : Unlearner
        What the model is fitted with; retraining has it too if it changes training.
    methods : list of Method
    """

    task: Task
    unlearner: Unlearner
    methods: list[Method]


def published() -> list[Method]:
    """Return methods with the settings of their papers, where these are not the defaults."""
    settings: dict[str, Unlearner] = {
        "PseudoInverseNewton": PseudoInverseNewton(hold_residual=False),
        "DampedNewton": DampedNewton(1e-3, solver="dense", hold_residual=False),
        "CuReNU": CuReNU(L=5.0, solver="dense", max_steps=1, hold_residual=False),
        "StoCuReNU": StoCuReNU(
            L=5.0, solver="gradient_descent", n_gradient_rows=128, n_curvature_rows=64, n_products=5, max_steps=10,
            sigma=0.1, hold_residual=False, variance_reduction=False,
        ),
        "L1Sparse": L1Sparse(5e-4, n_epochs=10, learning_rate=0.01),
        "AMUN": AMUN(0.16, n_steps=50, n_epochs=10, learning_rate=0.01),
        "RURK": RURK(0.03, neighbour_weight=0.00045, scatter=0.12, n_epochs=2, learning_rate=0.01),
    }  # fmt: skip
    return [Method(f"{name}, published", PUBLISHED, unlearner) for name, unlearner in settings.items()]


def at_defaults() -> list[Method]:
    """Return the methods that need no training of their own, at their defaults."""
    unlearners: list[Unlearner] = [
        StoCuReNU(), CuReNU(), PseudoInverseNewton(), DampedNewton(), GaussNewton(), NaturalGradient(),
        MinMaxNaturalGradient(), FineTune(), RewindToDelete(), LBFGSWarmStart(), NegGradPlus(), SCRUB(), DELETE(),
        SSD(), GradientAscent(), RandomLabels(), FisherForgetting(), SalUn(), L1Sparse(), AMUN(), RURK(),
        NoisyFineTune(),
    ]  # fmt: skip
    return [_at_default(unlearner) for unlearner in unlearners]


def _at_default(unlearner: Unlearner) -> Method:
    return Method(type(unlearner).__name__, DEFAULTS, unlearner)


def trainings(task: Task, *, recording: bool) -> Iterator[Training]:
    """Yield the trainings of one seed.

    Parameters
    ----------
    task : Task
    recording : bool
        Whether to record the influence of every row, too.
    """
    shared = [NO_OP, Method("Retrain", REFERENCE, Retrain()), *published()]
    # The recorder of RewindToDelete keeps a copy of the parameters and leaves training alone.
    yield Training(task, RewindToDelete(), [*shared, *at_defaults()])
    yield Training(task, CertifiedNewton(), [_at_default(CertifiedNewton())])
    if recording:
        yield Training(with_sgd(task), HessianFreeRecording(), [_at_default(HessianFreeRecording())])


def with_sgd(task: Task) -> Task:
    """Return the task with a net that plain SGD trains, in few steps since every one is recorded."""

    def net() -> NeuralNet:
        return task.net().set_params(
            optimizer=torch.optim.SGD, lr=0.5, max_epochs=5, batch_size=128, callbacks=[],
        )  # fmt: skip

    return replace(task, net=net)


def split(
    key: str, X: NDArray[Any], y: NDArray[np.int64], seed: int, hidden: int = 16, epochs: int | None = None
) -> Task:
    """Return the task of one seed: its rows, its network, its class and its tenth of the rows."""
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=seed)
    order = np.random.default_rng(seed).permutation(len(y_train))
    requests = {"class": np.flatnonzero(y_train == (3 + seed) % 10), "random 10 %": order[: len(order) // 10]}

    def net() -> NeuralNet:
        built = default_net(X_train, y_train, None, classifier=True)
        changes = {} if epochs is None else {"max_epochs": epochs, "callbacks": []}
        return built.set_params(module__width=hidden, module__depth=1, **changes)

    return Task(key, X_train, y_train, X_test, y_test, net, requests)


def load(key: str, data: Path, n: int | None = None) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the rows and labels of ``"digits"`` or ``"fashion"``, the first n of them."""
    if key == "digits":
        X, y = load_digits(return_X_y=True)
        return X[:n], y[:n]
    images, y = fashion_mnist(data, n or 4000)
    X = images.reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(-1, 49)
    rows = without_copies(X)
    return X[rows], y[rows]


def measure(task: Task, seed: int, *, recording: bool, only: Sequence[str] = ()) -> tuple[list[Record], list[str]]:
    """Measure every method, or those named in `only`, on every request of one seed.

    Returns
    -------
    records : list of dict
        One a request and method.
    lines : list of str
        What a reader should know besides: refusals, and how much longer a training took that is recorded.
    """
    records: list[Record] = []
    lines: list[str] = []
    for training in trainings(task, recording=recording):
        methods = [method for method in training.methods if not only or method.name in only]
        if not methods:
            continue
        estimator = training.task.estimator(seed).set_params(unlearner=training.unlearner)
        with Clock() as fitting:
            fitted = clone(estimator).fit(training.task.X, training.task.y)
        for request, erased in training.task.requests.items():
            ruler = Ruler(training, erased, estimator)
            if training.task is not task and request == "class":
                lines.append(
                    f"{training.methods[0].name}: training with its recorder took {fitting.cpu / ruler.seconds:.3g} "
                    "times as long as training again without the class"
                )
            for method in methods:
                try:
                    model, cost = forgetful(fitted, training.task, erased, method.unlearner)
                except (CertificateRefused, FloatingPointError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
                    lines.append(f"{method.name}, {request}: {error}")
                    continue
                records.append(
                    {"data": task.key, "request": request, "seed": seed, "method": method.name, "family": method.family}
                    | ruler.measure(model)
                    | {
                        "moved": parameter_distance(model.net_, fitted.net_),
                        "time": cost["cpu"] / ruler.seconds,
                        "memory": cost["memory"],
                        "ended": "" if method.unlearner is None else str(model.unlearning_report_.status),
                        "stopped": cost["stopped"],
                    }
                )
    return records, lines


class Ruler:
    """Measures a model by models retrained for one request from other seeds.

    Parameters
    ----------
    training : Training
    erased : int64 ndarray
    estimator : estimator
        Not fitted; what was fitted to all rows.

    Attributes
    ----------
    seconds : float
        Of the processor, that one retraining took.
    """

    def __init__(self, training: Training, erased: NDArray[np.int64], estimator: Any) -> None:
        task = training.task
        kept = np.setdiff1d(np.arange(len(task.X)), erased)
        again = estimator.set_params(unlearner=training.unlearner if changes_training(training.unlearner) else None)
        seeds = [estimator.random_state + 1000 * k for k in range(1, N_RETRAINED + 1)]
        with Clock() as clock:
            retrained = {s: clone(again).set_params(random_state=s).fit(task.X[kept], task.y[kept]) for s in seeds}
        self.seconds = clock.cpu / N_RETRAINED
        self.yardstick = Yardstick(task, erased, retrained)
        unseen = np.isin(task.y_test, task.y[erased])
        self.members = (task.X[erased], task.y[erased])
        self.others = (task.X_test[unseen], task.y_test[unseen])
        self.scores = [self._scores(model, s) for s, model in retrained.items()]
        self.auc = float(np.mean([self.attack(model) for model in retrained.values()]))

    def _scores(self, model: Any, seed: int) -> NDArray[np.float64]:
        measured = self.yardstick.measure(model, seed)
        return np.array([measured[f"score_{part}"] for part in PARTS])

    def attack(self, model: Any) -> float:
        """Return the area under the curve of telling erased from unseen rows by their loss; 0.5 is chance."""
        at = self.yardstick.log_likelihood(model, *self.members), self.yardstick.log_likelihood(model, *self.others)
        return float(roc_auc_score(np.repeat([1, 0], [len(at[0]), len(at[1])]), np.concatenate(at)))

    def measure(self, model: Any) -> dict[str, float]:
        measured = self.yardstick.measure(model, next(iter(self.yardstick.references)))
        own = np.array([measured[f"score_{part}"] for part in PARTS])
        return {f"score_{part}": score for part, score in zip(PARTS, own, strict=True)} | {
            "js": measured["ratio_erased"] * self.yardstick.floor["erased"],
            "ratio": measured["ratio_erased"],
            "tow": float(np.mean([np.prod(1 - np.abs(own - score)) for score in self.scores])),
            "auc": self.attack(model),
            "auc_retrained": self.auc,
        }


def table(records: Sequence[Record]) -> pd.DataFrame:
    """Return the means with their standard errors as text, a line a method, in the order of measurement."""
    by = pd.DataFrame(records).groupby("method", sort=False)
    means, errors = by[list(COLUMNS)].mean(), by[list(COLUMNS)].sem()
    text = pd.DataFrame(
        {
            title: [_with_error(m, e) for m, e in zip(means[name], errors[name], strict=True)]
            for name, title in COLUMNS.items()
        },
        index=means.index,
    )
    text["ended"] = by.ended.agg(counted)
    return text


def counted(endings: pd.Series) -> str:
    """Name every status that occurs, the most frequent first, with how often it does."""
    return ", ".join(f"{status} {n}" for status, n in endings.value_counts().items() if status)


def _with_error(mean: float, error: float) -> str:
    if not math.isfinite(mean):
        return ""
    digits = 3 if abs(mean) < 10 else 1
    return f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if error >= 0.5 * 10**-digits else "")


def markdown(text: pd.DataFrame) -> str:
    lines = [["method", *text.columns], ["---"] * (1 + text.shape[1])]
    lines += [[str(method), *row] for method, row in zip(text.index, text.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def judge(records: Sequence[Record]) -> list[Verdict]:
    """Say whether the papers' story shows: who collapses, who keeps up, and where the default stands."""
    verdicts = []
    frame = pd.DataFrame(records)
    for (data, request), part in frame.groupby(["data", "request"], sort=False):
        scores = part.pivot(index="seed", columns="method", values="tow")
        at = f"{data}, {request}"
        for name in NEWTON:
            verdicts += _bounded(scores, name, f"{name} collapses, {at}", above=False)
        for name in CUBIC:
            verdicts += _bounded(scores, name, f"{name} keeps up, {at}", above=True)
        verdicts.append(default_is_best(scores.drop(columns=["Retrain"], errors="ignore"), at))
    return verdicts


def _bounded(scores: pd.DataFrame, name: str, claim: str, *, above: bool) -> list[Verdict]:
    if name not in scores:
        return []
    mean, error = map(float, scores[name].agg(["mean", "sem"]).to_numpy())
    met = mean >= FAITHFUL if above else mean <= COLLAPSE
    wanted = f"at least {FAITHFUL}" if above else f"at most {COLLAPSE}"
    detail = f"Tug-of-War {_with_error(mean, error)} (wanted {wanted})"
    return [Verdict(claim, bool(met), detail)]


def default_is_best(scores: pd.DataFrame, at: str) -> Verdict:
    """Judge the default beside every other method, seed by seed; two standard errors of the difference make a lead.

    Parameters
    ----------
    scores : DataFrame
        Tug-of-War, a line a seed and a column a method.
    at : str
        Where.
    """
    lead = scores.drop(columns=[DEFAULT]).sub(scores[DEFAULT], axis=0)
    gaps, errors = lead.mean().to_numpy(), lead.sem().to_numpy()
    leads = sorted(zip(map(float, gaps), map(float, errors), map(str, lead.columns), strict=True), reverse=True)
    ahead = [f"{name} ({gap:+.4f} ± {error:.4f})" for gap, error, name in leads if gap > max(2 * error, 1e-9)]
    gap, error, best = leads[0]
    detail = f"best of the others is {best}, {gap:+.4f} ± {error:.4f} from the default"
    detail += f"; ahead by more than two standard errors: {', '.join(ahead)}" if ahead else ""
    return Verdict(f"default has the best Tug-of-War or ties it, {at}", not ahead, detail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few rows, two seeds: to see that it runs")
    parser.add_argument("--only", default="digits,fashion", help="data sets, with commas between")
    parser.add_argument("--methods", nargs="*", default=(), help="names as in the table; by default all")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, help="folder for the records, as JSON")
    options = parser.parse_args()
    seeds = 2 if options.quick else options.seeds
    if seeds < 2:
        parser.error(f"--seeds must be at least 2, got {seeds}: standard errors need two.")
    warnings.simplefilter("ignore")  # those of CertifiedNewton: its bound is vacuous for a network
    records: list[Record] = []
    for key in options.only.split(","):
        if key == "fashion" and not (options.data / "fashion_mnist").is_dir():
            print(f"fashion: not in {options.data}, left out")
            continue
        X, y = load(key, options.data, 300 if options.quick else None)
        lines: list[str] = []
        for seed in range(seeds):
            task = split(key, X, y, seed, *((6, 20) if options.quick else ()))
            measured, more = measure(task, seed, recording=key == "digits", only=options.methods)
            records += measured
            lines += [f"seed {seed}: {line}" for line in more]
            print(f"{key}: seed {seed} done", flush=True)
        for request in task.requests:
            print(f"\n### {key}, {request}, {seeds} seeds\n")
            print(markdown(table([r for r in records if (r["data"], r["request"]) == (key, request)])), flush=True)
        print("\n" + "\n".join(lines))
    print("CertifiedRemoval: needs a module that is one linear layer, left out\n")
    if not options.methods:  # what should show is about all of them
        print("\n".join(map(str, judge(records))))
    write(options, "methods", {"records": records})


if __name__ == "__main__":
    main()
