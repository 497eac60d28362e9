"""Draw the computed pictures of the pages on methods: ``python docs/pictures/methods.py [name ...]``."""

from __future__ import annotations

import copy
import csv
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from _style import AFTER, BEFORE, HERE, INK, RETRAINED, canvas, digits, draw, small
from sklearn.datasets import load_iris
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch.nn.functional import cross_entropy

from sk_unlearn import MLPNetClassifier, UnlearnableClassifier
from sk_unlearn.metrics import distance_ratio
from sk_unlearn.privacy import NoisySteps, gaussian_sigma
from sk_unlearn.references import fit_many
from sk_unlearn.unlearners import (
    CuReNU,
    DampedNewton,
    FineTune,
    GaussNewton,
    GradientAscent,
    HessianFreeRecording,
    MinMaxNaturalGradient,
    NaturalGradient,
    NegGradPlus,
    Retrain,
    StoCuReNU,
)


def table(title: str) -> list[dict[str, str]]:
    """Return a table of docs/methods/comparison.rst by the title of its section."""
    text = (HERE.parent / "methods" / "comparison.rst").read_text(encoding="utf-8")
    lines = text.split(f"\n{title}\n-", 1)[1].split(".. csv-table::", 1)[1].split("\n\n", 2)
    header = next(csv.reader([lines[0].split(":header: ")[1].split("\n")[0]], skipinitialspace=True))
    rows = csv.reader((line.strip() for line in lines[1].splitlines()), skipinitialspace=True)
    return [dict(zip(header, row, strict=True)) for row in rows]


def mean(cell: str) -> float:
    """Return the mean of a cell that may have a standard error."""
    return float(cell.split(" ± ")[0])


def comparison(path: Path) -> None:
    """Draw distance to retrained models against time, as the page has them."""
    named = {
        "StoCuReNU": (AFTER, "D"), "CuReNU": (AFTER, "s"), "LBFGSWarmStart": (INK, "^"), "GaussNewton": (INK, "v"),
        "FineTune": (INK, "x"), "RewindToDelete": (INK, "P"), "Retrain": (RETRAINED, "o"),
    }  # fmt: skip
    with canvas(path, 1, 1, height=4.2) as axes:
        for ax, title in zip(axes, ("One class", "Ten per cent at random"), strict=True):
            for row in table(title):
                name, x, y = row["method"], mean(row["time"]), mean(row["ratio"])
                if name == "no-op":
                    ax.axhline(y, color=BEFORE, linestyle="--", linewidth=1)
                    ax.text(0.0125, y * 1.06, "do nothing", color=BEFORE, fontsize=9)
                elif name in named:
                    colour, marker = named[name]
                    ax.plot(x, y, marker, color=colour, label=name, markersize=7, markeredgewidth=2)
                else:
                    ax.plot(x, y, ".", color="#bbbbbb", label="the others" if ax is axes[0] and "," in name else None)
            ax.set(
                title=title, xlabel="time, retraining = 1", xscale="log", yscale="log", ylim=(0.6, 90), xlim=(0.012, 2)
            )
        axes[0].set_ylabel("distance ratio\n(retraining: about 1)")
        handles = {label: handle for handle, label in zip(*axes[0].get_legend_handles_labels(), strict=True)}
        axes[0].figure.legend(handles.values(), handles, loc="outside lower center", ncols=3)


def cubic(path: Path) -> None:
    """Draw the gradient that is left after each step of one request."""
    X, y = digits()
    est = UnlearnableClassifier(unlearner=CuReNU(), random_state=0).fit(X, y).forget(X[y == 3])
    report = est.unlearning_report_
    records = [record for record in report.trace if "gradient_norm" in record]
    norms = np.array([record["gradient_norm"] for record in records])
    steps = np.arange(1, len(records) + 1)
    layer = np.array([record.get("block") == "output layer" for record in records])
    taken = np.array([record["taken"] for record in records])
    print("cubic", report.status, norms, layer, taken)
    with canvas(path, height=2.7) as ax:
        ax.plot(steps, norms, color="#cccccc", zorder=0)
        for chosen, colour, marker, label in (
            (layer, INK, "s", "output layer"),
            (~layer & taken, AFTER, "o", "whole network"),
            (~layer & ~taken, BEFORE, "x", "tried and not taken"),
        ):
            ax.plot(steps[chosen], norms[chosen], marker, color=colour, label=label, markersize=8, markeredgewidth=2)
        ax.set(xlabel="step", ylabel="norm of the gradient", yscale="log", xticks=steps)
        ax.legend()


def without_threes() -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Return digits, which of them are threes, and small networks that never saw one."""
    X, y = digits()
    return X, y == 3, fit_many(small(), X[y != 3], y[y != 3], seeds=range(1, 6))


def damping(path: Path) -> None:
    """Draw distance to retrained models after one step, against its damping."""
    X, gone, others = without_threes()
    fitted = small().fit(*digits())
    values = np.geomspace(1e-4, 1, 9)
    with canvas(path, height=2.9) as ax:
        for kind, colour, marker in ((DampedNewton, INK, "o"), (GaussNewton, AFTER, "s")):
            found = [
                distance_ratio(
                    copy.deepcopy(fitted).set_params(unlearner=kind(float(v))).forget(X[gone]), others, X[gone]
                )
                for v in values
            ]
            print(kind.__name__, found)
            ax.loglog(values, found, color=colour, marker=marker, label=kind.__name__)
        ax.axhline(distance_ratio(fitted, others, X[gone]), color=BEFORE, linestyle="--", label="do nothing")
        ax.axhline(1, color=RETRAINED, linestyle="--", label="retrained")
        ax.set(xlabel="damping", ylabel="distance ratio", ylim=(0.8, 3.6))
        ax.set_yticks([1, 2, 3], ["1", "2", "3"])
        ax.minorticks_off()
        ax.legend(loc="center right")


def fisher(path: Path) -> None:
    """Draw how close each treatment of the Fisher matrix comes, and at what cost."""
    X, gone, others = without_threes()
    fitted = small().fit(*digits())
    away, products = {"do nothing": distance_ratio(fitted, others, X[gone])}, {"do nothing": 0}
    for name, unlearner in (
        ('"diagonal"', NaturalGradient(fisher="diagonal")),
        ('"kronecker"', NaturalGradient(fisher="kronecker")),
        ('"matrix_free"', NaturalGradient(fisher="matrix_free")),
        ("min-max", MinMaxNaturalGradient()),
    ):
        est = copy.deepcopy(fitted).set_params(unlearner=unlearner).forget(X[gone])
        away[name] = distance_ratio(est, others, X[gone])
        products[name] = est.unlearning_report_.n_products
    print("fisher", away, products)
    with canvas(path, 1.3, 1, height=2.4) as (one, two):
        one.barh(list(away), list(away.values()), color=[BEFORE, *4 * [AFTER]])
        one.axvline(1, color=RETRAINED, linestyle="--")
        one.set(title="Distance ratio")
        two.barh(list(away), list(products.values()), color=INK)
        two.set(title="Products spent", yticks=[])
        for ax in (one, two):
            ax.invert_yaxis()


def certificate(path: Path) -> None:
    """Draw what noise does: two models a bound apart, at two strengths of the guarantee."""
    with canvas(path, 1, 1, height=2.5) as axes:
        for ax, epsilon in zip(axes, (8.0, 1.0), strict=True):
            sigma = gaussian_sigma(1.0, epsilon, 1e-4)
            x = np.linspace(-3.2 * sigma, 1 + 3.2 * sigma, 200)
            for centre, colour, label in ((0.0, RETRAINED, "retrained"), (1.0, AFTER, "unlearned")):
                density = np.exp(-(((x - centre) / sigma) ** 2) / 2)
                ax.fill_between(x, density, color=colour, alpha=0.35, label=label, linewidth=0)
                ax.axvline(centre, color=colour)
            ax.set(title=f"ε = {epsilon:g}: noise of {sigma:.1f} bounds", xlabel="in units of the bound", yticks=[])
        axes[1].legend(loc="upper right", fontsize=9)


def noisy_steps(path: Path) -> None:
    """Draw two runs that begin at opposite ends of the ball, with the noise that they need."""
    rng = np.random.default_rng(0)
    n_steps, rate = 20, 0.1
    with canvas(path, 1, 1, height=2.8) as axes:
        for ax, epsilon in zip(axes, (100.0, 8.0), strict=True):
            run = NoisySteps(radius=1.0, clip=1.0, learning_rate=rate, n_steps=n_steps, weight_decay=0.5)
            sigma = run.sigma(epsilon, 1e-5)
            for end, colour in ((1.0, AFTER), (-1.0, RETRAINED)):
                x = np.full(14, end)
                way = [x]
                for _ in range(n_steps):
                    # The worst case: gradients that drive the two runs apart all the time.
                    x = (1 - rate * 0.5) * x + rate * np.sign(end) + sigma * rng.normal(size=x.shape)
                    way.append(x)
                ax.plot(np.array(way), color=colour, linewidth=0.6, alpha=0.6)
            ax.set(title=f"ε = {epsilon:g}", xlabel="step")
        axes[0].set_ylabel("one coordinate of\nthe weights")


def recipes(path: Path) -> None:
    """Draw the loss of erased rows after some methods, for a class and for a random tenth."""
    X, y = digits()
    requests = {"all threes": np.flatnonzero(y == 3), "a random tenth": np.random.default_rng(0).permutation(600)[:60]}
    fitted = UnlearnableClassifier(random_state=0).fit(X, y)
    methods = {
        "FineTune": FineTune(), "NegGradPlus": NegGradPlus(), "GradientAscent": GradientAscent(),
        "StoCuReNU (default)": StoCuReNU(),
    }  # fmt: skip

    def loss(est: Any, rows: np.ndarray) -> float:
        p = est.predict_proba(X[rows])
        columns = {c: k for k, c in enumerate(est.classes_)}
        # A class that a retrained network has no output for has a probability of zero.
        right = np.array([p[k, columns[c]] if c in columns else 0.0 for k, c in enumerate(y[rows])])
        return float(np.mean(-np.log(np.maximum(right, 1e-7))))

    found: dict[str, list[float]] = {"before": [loss(fitted, rows) for rows in requests.values()]}
    for name, method in methods.items():
        found[name] = [
            loss(copy.deepcopy(fitted).set_params(unlearner=method).forget(X[rows]), rows) for rows in requests.values()
        ]
    found["retrained"] = []
    for rows in requests.values():
        # By the unlearner, so that the output of an erased class stays.
        est = copy.deepcopy(fitted).set_params(unlearner=Retrain()).forget(X[rows])
        found["retrained"].append(loss(est, rows))
    print("recipes", found)
    colours = {"before": BEFORE, "StoCuReNU (default)": AFTER, "retrained": RETRAINED}
    with canvas(path, 1, 1, height=2.7) as axes:
        for k, (ax, title) in enumerate(zip(axes, requests, strict=True)):
            ax.barh(list(found), [v[k] for v in found.values()], color=[colours.get(n, "#c0c0c0") for n in found])
            ax.axvline(found["retrained"][k], color=RETRAINED, linestyle=":")
            ax.set(title=title, xscale="log", xlabel="mean loss, erased rows")
            ticks = ((0.1, 1, 10), (0.03, 0.05, 0.1))[k]
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.minorticks_off()
            ax.invert_yaxis()
        axes[1].set_yticks([])


class Rates(Callback):
    """Notes the learning rate of every step of the last training."""

    seen: ClassVar[list[float]] = []

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.seen.clear()

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        if training:
            self.seen.append(net.optimizer_.param_groups[0]["lr"])


def schedule(path: Path) -> None:
    """Draw the learning rates of a full training and of shorter ones."""
    X, y = digits()
    net = MLPNetClassifier(callbacks=[("rates", Rates())])
    est = UnlearnableClassifier(net, random_state=0).fit(X, y)
    full = list(Rates.seen)
    with canvas(path, height=2.8) as ax:
        ax.plot(full, color=RETRAINED, label=f"full training: {len(full)} steps")
        for share, colour in ((0.5, "#6baed6"), (0.2, AFTER)):
            copy.deepcopy(est).set_params(unlearner=Retrain(share=share)).forget(X[:20])
            seen = list(Rates.seen)
            ax.plot(seen, color=colour, label=f"share {share:g}: {len(seen)} steps")
        ax.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
        ax.legend()


class Zero(torch.nn.Linear):
    """Begins at zero."""

    def reset_parameters(self) -> None:
        torch.nn.init.zeros_(self.weight)
        torch.nn.init.zeros_(self.bias)


def recorded(path: Path) -> None:
    """Draw how far a sum of recorded vectors comes, against the number of erased rows."""
    X, y = load_iris(return_X_y=True)
    X, n_epochs, rate = X.astype("float32"), 40, 0.1
    net = NeuralNetClassifier(
        Zero, module__in_features=4, module__out_features=3, criterion=torch.nn.CrossEntropyLoss, lr=rate,
        batch_size=-1, max_epochs=n_epochs, train_split=None, verbose=0,
    )  # fmt: skip
    fitted = UnlearnableClassifier(net, HessianFreeRecording(), random_state=0).fit(X, y)
    order = np.random.default_rng(0).permutation(len(X))

    def vector(module: torch.nn.Module) -> np.ndarray:
        return torch.cat([p.detach().reshape(-1) for p in module.parameters()]).numpy()

    def without(rows: np.ndarray) -> np.ndarray:
        # The run that the recording stands for: the same batches and divisors, without the terms of these rows.
        module, stay = Zero(4, 3), np.setdiff1d(np.arange(len(X)), rows)
        sgd = torch.optim.SGD(module.parameters(), lr=rate)
        for _ in range(n_epochs):
            sgd.zero_grad()
            output = module(torch.tensor(X[stay]))
            (cross_entropy(output, torch.tensor(y[stay]), reduction="sum") / len(X)).backward()
            sgd.step()
        return vector(module)

    w0 = vector(fitted.net_.module_)
    counts = [1, 2, 4, 8, 16, 32, 64]
    moved, missed = [], []
    for count in counts:
        truth = without(order[:count])
        after = vector(copy.deepcopy(fitted).forget(X[order[:count]]).net_.module_)
        moved.append(np.linalg.norm(w0 - truth))
        missed.append(np.linalg.norm(after - truth))
    print("recorded", np.linalg.norm(w0 - without(np.array([], dtype=int))), moved, missed)
    with canvas(path, height=2.7) as ax:
        ax.loglog(counts, moved, color=BEFORE, marker="o", label="before")
        ax.loglog(counts, missed, color=AFTER, marker="o", label="after: recorded vectors added")
        ax.set(xlabel="rows erased, of 150", ylabel="distance to the run\nwithout these rows")
        ax.set_xticks(counts, [str(count) for count in counts])
        ax.minorticks_off()
        ax.legend()


PICTURES = {
    name.__name__: name
    for name in (comparison, cubic, damping, fisher, certificate, noisy_steps, recipes, schedule, recorded)
}

if __name__ == "__main__":
    draw(PICTURES)
