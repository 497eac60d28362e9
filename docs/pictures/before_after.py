"""Draw a model before it forgets, after, and trained again without the rows: ``python docs/pictures/before_after.py``.

Two moons, and a few rows in the middle of one of them that carry the label of the other. They bend what the model
predicts around them; then they have to go. The script prints, for five seeds, where in the picture the predicted class
differs from that of a retrained model. For the first seed it writes ``before_after.png`` beside itself, and the same
under a title as ``docs/_static/social.png``, which others show with links to the site. The ground is white, whether the
page around it is light or dark.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from sklearn.base import clone
from sklearn.datasets import make_moons

from sk_unlearn import UnlearnableClassifier

HERE = Path(__file__).parent

N_ROWS, N_ERASED = 300, 16
LEFT, RIGHT, BOTTOM, TOP = -1.5, 2.5, -1.15, 1.55

# The same colours in all pictures: before, after forgetting, retrained, and the rows that go.
GREY, BLUE, ORANGE, RED = "#6b6b6b", "#1f77b4", "#e6820e", "#c1272d"
INK = "#222222"


@dataclass(frozen=True)
class Rows:
    """Training rows, and which of them are erased."""

    X: np.ndarray
    y: np.ndarray
    erased: np.ndarray


def draw_rows(seed: int) -> Rows:
    """Return two moons, and rows in the lower one that have the label of the upper one."""
    X, y = make_moons(N_ROWS, noise=0.15, random_state=seed)
    wrong = np.random.default_rng(seed).normal((1.2, -0.75), 0.12, (N_ERASED, 2))
    return Rows(
        X=np.vstack([X, wrong]),
        y=np.r_[y, np.zeros(N_ERASED, dtype=int)],
        erased=np.arange(N_ROWS + N_ERASED) >= N_ROWS,
    )


def fit_three(rows: Rows, seed: int) -> list[UnlearnableClassifier]:
    """Return the model before, after :meth:`forget`, and retrained from the same seed without the rows."""
    X, y, erased = rows.X, rows.y, rows.erased
    before = UnlearnableClassifier(random_state=seed).fit(X, y)
    after = copy.deepcopy(before).forget(X[erased], y[erased])
    return [before, after, clone(before).fit(X[~erased], y[~erased])]


def square() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the axes of a grid over the picture, and its points."""
    across, up = np.linspace(LEFT, RIGHT, 200), np.linspace(BOTTOM, TOP, 135)
    return across, up, np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)


def share_that_differs(model: UnlearnableClassifier, reference: UnlearnableClassifier) -> float:
    """Return in which share of the picture two models predict different classes."""
    points = square()[2]
    return float(np.mean(model.predict(points) != reference.predict(points)))


def draw_panel(ax, model: UnlearnableClassifier, rows: Rows, title: str, colour: str, gone: bool) -> None:
    """Draw the probability that a model gives to the label of the erased rows."""
    across, up, points = square()
    probability = model.predict_proba(points)[:, 0].reshape(len(up), len(across))
    pale = 0.55 * np.array(to_rgb(colour)) + 0.45
    tint = LinearSegmentedColormap.from_list("tint", ["white", pale])
    ax.contourf(across, up, probability, levels=np.linspace(0, 1, 9), cmap=tint, antialiased=False)
    ax.contour(across, up, probability, levels=[0.5], colors=colour, linewidths=4)
    for label, fill in enumerate([INK, "white"]):
        X = rows.X[~rows.erased & (rows.y == label)]
        ax.scatter(*X.T, s=26, facecolor=fill, edgecolor=INK, linewidth=0.9)
    X = rows.X[rows.erased]
    if gone:
        ax.scatter(*X.T, s=40, facecolor="none", edgecolor=RED, linewidth=1.4)
    else:
        ax.scatter(*X.T, s=80, color=RED, marker="X", edgecolor="white", linewidth=0.6)
    ax.set(xlim=(LEFT, RIGHT), ylim=(BOTTOM, TOP), xticks=[], yticks=[], aspect="equal")
    ax.set_title(title, color=colour, fontsize=31, fontweight="bold", pad=12)
    for side in ax.spines.values():
        side.set(color=colour, linewidth=3)


def draw(rows: Rows, models: list[UnlearnableClassifier], title: str = ""):
    """Return the figure: 1200 pixels wide, and with a title as high as social networks show it."""
    before, after, retrained = models
    height = 630 if title else 400
    figure, axes = plt.subplots(1, 3, figsize=(15, height / 80), dpi=80, facecolor="white", layout="constrained")
    figure.suptitle(title, fontsize=54, color=INK)
    # Large letters: on a telephone the picture is a third as wide.
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    draw_panel(axes[0], before, rows, "before", GREY, gone=False)
    draw_panel(axes[1], after, rows, "after forget", BLUE, gone=True)
    draw_panel(axes[2], retrained, rows, "retrained without", ORANGE, gone=True)
    texts = [
        f"{100 * share_that_differs(before, retrained):.0f} % differs",
        f"{100 * share_that_differs(after, retrained):.0f} % differs",
        "the model to match",
    ]
    for ax, text in zip(axes, texts, strict=True):
        ax.set_xlabel(text, fontsize=29, color=INK, labelpad=10)
    return figure


def write(figure, path: Path) -> None:
    """Write a figure without the name of what drew it."""
    figure.savefig(path, metadata={"Software": None}, pil_kwargs={"optimize": True})
    plt.close(figure)


def main() -> None:
    """Print how far the models differ, and write the picture."""
    parser = argparse.ArgumentParser(description="Draw a model before and after it forgets, and retrained.")
    parser.add_argument("--seeds", type=int, default=5, help="seeds to print figures for (default: 5)")
    parser.add_argument("--output", type=Path, default=HERE.parent, help="the folder of the pages (default: docs)")
    options = parser.parse_args()
    print("Share of the picture where the predicted class is not that of the retrained model\n")
    print("seed  before  after  retrained from another seed")
    for seed in range(options.seeds):
        rows = draw_rows(seed)
        before, after, retrained = models = fit_three(rows, seed)
        X, y = rows.X[~rows.erased], rows.y[~rows.erased]
        again = clone(before).set_params(random_state=seed + 1000).fit(X, y)
        shares = [share_that_differs(model, retrained) for model in (before, after, again)]
        print(f"{seed:4d}  {shares[0]:6.1%}  {shares[1]:5.1%}  {shares[2]:.1%}")
        if seed == 0:
            write(draw(rows, models), options.output / "pictures" / "before_after.png")
            write(draw(rows, models, "sk-unlearn\nfit, then forget"), options.output / "_static" / "social.png")


if __name__ == "__main__":
    main()
