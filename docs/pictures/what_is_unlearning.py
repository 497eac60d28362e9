"""Draw what forgetting does to a small model: ``python docs/pictures/what_is_unlearning.py`` writes a PNG beside it.

Two classes in the plane, and 60 rows with the label of the one in the middle of the other. The model is fitted with
them and forgets them; a second one is trained without them. The figures on the page come from what this prints.
"""

import copy
import time
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.datasets import make_moons

from sk_unlearn import UnlearnableClassifier

matplotlib.use("Agg")
import matplotlib.pyplot as plt

GREY, BLUE, ORANGE, RED = "#6b6b6b", "#1f77b4", "#d95f02", "#b2182b"
N_ERASED = 60


def rows():
    """Return features and labels; the first ``N_ERASED`` rows are those that will have to go."""
    X, y = make_moons(600, noise=0.15, random_state=0)
    strangers = np.random.default_rng(0).normal([-0.2, 0.95], 0.13, size=(N_ERASED, 2))
    return np.concatenate([strangers, X]), np.concatenate([np.ones(N_ERASED, dtype=int), y])


def main():
    """Fit, forget, retrain, print how the three differ, and draw them."""
    X, y = rows()
    start = time.process_time()
    before = UnlearnableClassifier(random_state=0).fit(X, y)
    fitted = time.process_time()
    after = copy.deepcopy(before).forget(X[:N_ERASED])
    forgotten = time.process_time()
    retrained, another = (UnlearnableClassifier(random_state=k).fit(X[N_ERASED:], y[N_ERASED:]) for k in (1, 2))

    first, second = np.meshgrid(np.linspace(-1.6, 2.6, 300), np.linspace(-1.2, 1.7, 300))
    square = np.column_stack([first.ravel(), second.ravel()])
    print(f"forgetting took {(forgotten - fitted) / (fitted - start):.2f} of the time of training")
    for name, model in {"before": before, "after": after, "retrained": retrained, "another": another}.items():
        as_labelled = np.mean(model.predict(X[:N_ERASED]) == 1)
        others = model.score(X[N_ERASED:], y[N_ERASED:])
        differs = np.mean(model.predict(square) != retrained.predict(square))
        print(f"{name}: {as_labelled:.2f} of the erased rows are given their label, {others:.3f} of the others;")
        print(f"    differs from the retrained model on {differs:.3f} of the square")

    figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharex=True, sharey=True, layout="constrained")
    panels = [("fitted", before, GREY), ("after forget", after, BLUE), ("trained without", retrained, ORANGE)]
    for panel, (title, model, colour) in zip(axes, panels, strict=True):
        chance = model.predict_proba(square)[:, 1].reshape(first.shape)
        panel.contourf(first, second, chance, [0.5, 1.0], colors=[colour], alpha=0.22)
        panel.contour(first, second, chance, [0.5], colors=[colour], linewidths=3)
        for label, mark in ((0, "o"), (1, "^")):
            there = y[N_ERASED:] == label
            panel.scatter(*X[N_ERASED:][there].T, s=9, marker=mark, color="#9a9a9a", linewidths=0)
        if model is before:
            panel.scatter(*X[:N_ERASED].T, s=26, marker="^", color=RED, linewidths=0)
        panel.set_title(title, fontsize=19, color=colour, fontweight="bold")
        panel.set_xticks([])
        panel.set_yticks([])
    figure.savefig(Path(__file__).with_name("what_is_unlearning.png"), dpi=110)


if __name__ == "__main__":
    main()
