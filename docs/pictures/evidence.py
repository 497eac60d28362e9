"""Draw the computed pictures of the pages on evidence and scale: ``python docs/pictures/evidence.py [name ...]``."""

from __future__ import annotations

import copy
import re
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from _style import AFTER, BEFORE, ERASED, HERE, INK, RETRAINED, canvas, digits, draw, small
from matplotlib.patches import FancyBboxPatch
from sklearn.datasets import load_digits, load_iris

from sk_unlearn import ShardedClassifier, UnlearnableClassifier
from sk_unlearn.inspection import audit
from sk_unlearn.metrics import feature_probe, retrain_distance
from sk_unlearn.model_selection import ForgetSearchCV
from sk_unlearn.references import fit_many
from sk_unlearn.unlearners import FineTune, GaussNewton


@cache
def threes() -> tuple[np.ndarray, Any, Any, list[Any]]:
    """Return which rows are threes, a network before and after they are erased, and retrained ones."""
    X, y = digits()
    before = small().fit(X, y)
    after = copy.deepcopy(before).forget(X[y == 3])
    return y == 3, before, after, fit_many(small(), X[y != 3], y[y != 3], seeds=range(1, 7))


def distance(path: Path) -> None:
    """Draw distances to retrained models, beside those among these."""
    X, _ = digits()
    gone, before, after, references = threes()
    rows = {
        "before": (BEFORE, [retrain_distance(before, r, X[gone]) for r in references]),
        "after": (AFTER, [retrain_distance(after, r, X[gone]) for r in references]),
        "retrained": (RETRAINED, [retrain_distance(a, b, X[gone]) for a, b in combinations(references, 2)]),
    }
    floor = np.mean(rows["retrained"][1])
    with canvas(path, height=2.2) as ax:
        for k, (colour, values) in enumerate(rows.values()):
            ax.plot(values, np.full(len(values), k), "o", color=colour, alpha=0.5)
            ax.plot(np.mean(values), k, "|", color=INK, markersize=18, markeredgewidth=2)
            ax.text(
                max(values) + 0.03, k, f"mean {np.mean(values):.3f} = {np.mean(values) / floor:.1f} floors", va="center"
            )
        ax.set_yticks(range(3), ["before to\nretrained", "after to\nretrained", "retrained to\neach other"])
        ax.set(xlabel="distance of predictions on the erased rows (JS, nats)", ylim=(2.5, -0.5))
        ax.set_xlim(0, 1.6 * max(rows["before"][1]))


def inside(path: Path) -> None:
    """Draw what features still tell of a class, before and after two ways to erase it, beside retrained networks."""
    D, digit = load_digits(return_X_y=True)
    seen, rest = slice(0, 900), slice(900, None)
    gone = digit[seen] == 3
    knows = UnlearnableClassifier(random_state=0).fit(D[seen], digit[seen])
    never = fit_many(UnlearnableClassifier(), D[seen][~gone], digit[seen][~gone], seeds=[1, 2, 3, 4])
    steps = copy.deepcopy(knows).set_params(unlearner=GaussNewton()).forget(D[seen][gone])
    anew = copy.deepcopy(knows).forget(D[seen][gone])
    probes = {
        name: feature_probe(est, never, D[rest], digit[rest], 3)
        for name, est in (("before", knows), ("GaussNewton", steps), ("default", anew))
    }
    print("inside", probes)
    others = probes["before"].reference_recalls
    with canvas(path, height=2.2) as ax:
        ax.axvspan(min(others), max(others), color=RETRAINED, alpha=0.4, label="retrained networks")
        ax.barh(list(probes), [p.recall for p in probes.values()], color=[BEFORE, "#9ecae1", AFTER], height=0.6)
        ax.invert_yaxis()
        ax.set(xlabel="new threes recognised from one example", xlim=(0, 1))
        ax.legend(loc="lower right")


def verdict(path: Path) -> None:
    """Draw what an audit finds on three measures: before, after, and where a retrained model is expected."""
    X, y = load_digits(return_X_y=True)
    X, y, X_test, y_test = X[:600], y[:600], X[600:1200], y[600:1200]
    gone = np.random.default_rng(0).permutation(600)[:60]
    before = UnlearnableClassifier(random_state=0).fit(X, y)
    after = copy.deepcopy(before).forget(X[gone])
    report = audit(after, X[gone], y[gone], X_test, y_test, before=before)
    print("verdict", report.headline)
    table = report.to_frame().set_index(["measure", "rows", "model"])
    wanted = {
        "distance,\nerased rows": ("JS distance (nats)", "erased"),
        "distance,\nrows never seen": ("JS distance (nats)", "test"),
        "attack on\nerased rows": ("attack AUC", "erased"),
    }
    with canvas(path, 1, 1, 1, height=2.2) as axes:
        for ax, (title, key) in zip(axes, wanted.items(), strict=True):
            expected = table.loc[(*key, "retrained")]
            ax.axhspan(expected["low"], expected["high"], color=RETRAINED, alpha=0.35, label="one more\nretrained")
            ax.plot(0.3, table.loc[(*key, "before")]["value"], "D", color=BEFORE, markersize=9, label="before")
            ax.plot(0.7, table.loc[(*key, "after")]["value"], "o", color=AFTER, markersize=10, label="after")
            ax.set(title=title, xlim=(0, 1), xticks=[])
            ax.margins(y=0.25)
        handles, labels = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(handles, labels, loc="outside right upper", fontsize=10)


def folds(path: Path) -> None:
    """Draw what a search does with each row."""
    X, y = load_iris(return_X_y=True)
    search = ForgetSearchCV(
        UnlearnableClassifier(random_state=0), {"unlearner": [FineTune(1)]}, request=0.1, cv=3, n_references=2,
        random_state=0,
    ).fit(X, y)  # fmt: skip
    colours = {"train": "#d0d0d0", "select": "#9ecae1", "report": "#08519c", "unused": "white"}
    with canvas(path, height=2.1) as ax:
        for k, (train, select, report) in enumerate(search.splits_):
            kind = np.full(len(X), "unused")
            for name, rows in (("train", train), ("select", select), ("report", report)):
                kind[np.asarray(rows)] = name
            starts = np.flatnonzero(np.r_[True, kind[1:] != kind[:-1]])
            for start, end in zip(starts, np.r_[starts[1:], len(kind)], strict=True):
                ax.barh(k, end - start, 0.8, left=start, color=colours[kind[start]])
        for name, label in (("train", "trained on"), ("select", "to select by"), ("report", "to report on")):
            ax.barh(0, 0, color=colours[name], label=label)
        ax.set_yticks(range(len(search.splits_)), [f"fold {k + 1}" for k in range(len(search.splits_))])
        ax.set(xlabel="row", xlim=(0, len(X)))
        ax.invert_yaxis()
        ax.figure.legend(loc="outside upper center", ncols=3)


def shards(path: Path) -> None:
    """Draw which shard each person is in, and which of them a request trains anew."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(40), 5)
    # The first column says whose row it is, to find it again.
    X, y = np.column_stack([person, rng.normal(size=(200, 2))]), rng.integers(0, 2, 200)
    est = ShardedClassifier(n_shards=4, random_state=0).fit(X, y, sample_id=person)
    homes = [np.unique(shard.training_set_.raw_X[:, 0]).astype(int) for shard in est.estimators_]
    asked = 7
    est.forget(sample_id=[asked])
    print("shards", homes, est.unlearning_report_.extra)
    with canvas(path, height=2.3) as ax:
        for k, home in enumerate(homes):
            anew = asked in home
            colours = [ERASED if p == asked else AFTER if anew else "#cfcfcf" for p in home]
            ax.scatter(range(len(home)), np.full(len(home), k), c=colours, s=170, marker="s")
            ax.text(len(home) + 0.1, k, "trained anew" if anew else "untouched", va="center", fontsize=10)
        ax.set_yticks(range(4), [f"shard {k + 1}" for k in range(4)])
        ax.set(xticks=[], xlabel="persons", ylim=(3.6, -0.6), xlim=(-0.6, max(map(len, homes)) + 3))
        ax.spines["bottom"].set_visible(False)


def chain(path: Path) -> None:
    """Draw three receipts, each with the hash of the one before."""
    X, y = load_iris(return_X_y=True)
    est = UnlearnableClassifier(random_state=0).fit(X, y)
    for k in range(3):
        est.forget(X[4 * k : 4 * k + k + 1])
    with canvas(path, height=1.75) as ax:
        for k, receipt in enumerate(est.receipts_):
            x = 1.15 * k
            ax.add_patch(
                FancyBboxPatch((x, 0), 0.95, 1, boxstyle="round,pad=0.02", facecolor="#eaf2fa", edgecolor=AFTER)
            )
            rows = "1 row" if receipt.n_erased == 1 else f"{receipt.n_erased} rows"
            lines = (f"{k + 1}: {rows} erased", "when, how, what it cost", "weights before, after")
            for i, line in enumerate(lines):
                ax.text(x + 0.04, 0.82 - 0.2 * i, line, fontsize=9)
            before = "the beginning" if k == 0 else f"receipt {k}"
            ax.text(x + 0.04, 0.14, f"hash of {before}", fontsize=9, color=INK)
            if k:
                ax.annotate("", (x - 0.18, 0.4), (x + 0.02, 0.18), arrowprops={"arrowstyle": "->", "color": AFTER})
        ax.set(xlim=(-0.05, 3.4), ylim=(-0.05, 1.05))
        ax.set_axis_off()


def growth(path: Path) -> None:
    """Draw what a request takes of a growing number of rows, as measured by benchmarks.scale."""
    text = (HERE.parent.parent / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (\d+,000,?\d*) \| (.+) \|$", text.split("| rows | index, s |")[1], re.MULTILINE)[:3]
    rows = [int(n.replace(",", "")) for n, _ in lines]
    cells = [[cell.strip() for cell in rest.split("|")] for _, rest in lines]
    once = [float(c[4]) for c in cells]
    later = [float(c[5]) / 1000 for c in cells]
    with canvas(path, height=2.6) as ax:
        ax.loglog(rows, once, color=BEFORE, marker="o", label="the first request: index and digests of all rows")
        ax.loglog(rows, later, color=AFTER, marker="o", label="a later request of one row")
        ax.set(xlabel="rows", ylabel="seconds", ylim=(0.01, 100))
        ax.legend(loc="upper left")


PICTURES = {name.__name__: name for name in (distance, inside, verdict, folds, shards, chain, growth)}

if __name__ == "__main__":
    draw(PICTURES)
