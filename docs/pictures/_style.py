"""How the computed pictures look, and what several of them share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

from sk_unlearn import MLPNetClassifier, UnlearnableClassifier
from sk_unlearn.unlearners import Unlearner, UnlearningProblem, UnlearningResult

HERE = Path(__file__).parent

# The same thing has the same colour in all pictures and examples.
BEFORE, AFTER, RETRAINED, ERASED, INK = "#7f7f7f", "#1f77b4", "#ff7f0e", "#d62728", "#222222"

STYLE = {
    # Text stays text: it can be read aloud and searched, and files are small.
    "svg.fonttype": "none",
    "svg.hashsalt": "sk-unlearn",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 2,
    # White whatever the page's theme: colours are chosen for it.
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
}


@contextmanager
def canvas(path: Path, *columns: float, width: float = 5.8, height: float = 3.0) -> Iterator[Any]:
    """Give axes side by side, of these relative widths, and write them to a file in the end."""
    with mpl.rc_context({**mpl.rcParamsDefault, "backend": mpl.get_backend(), **STYLE}):
        figure, axes = plt.subplots(1, len(columns) or 1, figsize=(width, height), width_ratios=columns or (1,))
        yield axes
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        plt.close(figure)
    # Matplotlib leaves blanks at the ends of lines.
    text = "\n".join(line.rstrip() for line in path.read_text(encoding="utf-8").splitlines())
    path.write_text(text + "\n", encoding="utf-8")


def draw(pictures: Mapping[str, Callable[[Path], None]]) -> None:
    """Draw the pictures that the command line names, or all."""
    parser = argparse.ArgumentParser(description="Draw pictures of the documentation beside the script.")
    parser.add_argument("names", nargs="*", help=f"which (default: all): {', '.join(pictures)}")
    parser.add_argument("--folder", type=Path, default=HERE, help="where to (default: next to the script)")
    options = parser.parse_args()
    for name in options.names or pictures:
        pictures[name](options.folder / f"{name}.svg")
        print(name)


class _SeenError(Exception):
    """Carries a problem out of a request, which ends there and leaves the estimator as it was."""


class _Look(Unlearner):
    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        raise _SeenError(problem)


def problem_of(est: Any, *args: Any, **kwargs: Any) -> UnlearningProblem:
    """Return what an unlearner would be given for a request."""
    unlearner = est.unlearner
    try:
        est.set_params(unlearner=_Look()).forget(*args, **kwargs)
    except _SeenError as seen:
        return seen.args[0]
    finally:
        est.set_params(unlearner=unlearner)
    raise AssertionError("no row of the request had been trained on")


@cache
def digits(n: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Return some handwritten digits, and which of them they are."""
    X, y = load_digits(return_X_y=True)
    return X[:n], y[:n]


def small(seed: int = 0, **settings: Any) -> UnlearnableClassifier:
    """Return an estimator with a network so small that its whole Hessian fits."""
    return UnlearnableClassifier(MLPNetClassifier(module__width=8), random_state=seed, **settings)


@cache
def threes() -> UnlearningProblem:
    """Return the problem of a small network that has learnt digits and is to forget all threes."""
    X, y = digits()
    return problem_of(small().fit(X, y), X[y == 3])


@cache
def hessian() -> torch.Tensor:
    """Return the whole Hessian of that problem's objective at the fitted point."""
    problem = threes()
    d = len(problem.parameters)
    rows = problem.retained.linearise(problem.parameters).hessian_rows(torch.eye(d))
    return (rows + rows.T).double() / 2
