"""
Forgetting handwritten digits
=============================

``python examples/plot_forget_digits.py``  (more splits: ``--seeds 5``; another place for the picture: ``--output``)

A classifier has learnt handwritten digits. Now all images of a three have to go. We let it forget them, and ask how
close it comes to the model that we would have got by training again without them, and how long either takes.
"""

import argparse
import copy
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.metrics import distance_ratio
from sk_unlearn.references import fit_many

try:
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit("This example draws a picture and needs matplotlib: pip install matplotlib")

parser = argparse.ArgumentParser(description="Forget handwritten digits and compare with training again.")
parser.add_argument("--seeds", type=int, default=3, help="splits to average over (default: 3)")
picture = Path(globals().get("__file__", "plot_forget_digits.py")).with_suffix(".png")
parser.add_argument("--output", type=Path, default=picture, help="where to save the picture (default: next to this)")
options, _ = parser.parse_known_args()  # a notebook has arguments of its own
if options.seeds < 1:
    parser.error(f"--seeds must be at least 1, got {options.seeds}")


X, y = load_digits(return_X_y=True)


@cache
def fitted(seed):
    """Return one split of the digits, and the model that learnt its training rows."""
    split = train_test_split(X, y, test_size=0.3, stratify=y, random_state=seed)
    return split, UnlearnableClassifier(random_state=seed).fit(split[0], split[2])


# %%
# What it says of a three
# -----------------------
# One call forgets the rows; the model from before stays as a copy. A third one is trained again without them. It has
# never seen a three, and takes each for something else. The one that forgot should do the same.

(X_train, X_test, y_train, y_test), before = fitted(seed=0)
three = y_train == 3

after = copy.deepcopy(before).forget(X_train[three], y_train[three])
start = time.perf_counter()
retrained = UnlearnableClassifier(random_state=0).fit(X_train[~three], y_train[~three])
seconds = {"forget": after.unlearning_report_.seconds, "retrain": time.perf_counter() - start}

models = {"before": (before, "#7f7f7f"), "after": (after, "#1f77b4"), "retrained": (retrained, "#ff7f0e")}
images = X_train[three][:4]
figure, axes = plt.subplots(1, 4, figsize=(6, 4.2))
figure.subplots_adjust(left=0.27, right=0.98, top=0.97, bottom=0.6, wspace=0.08)
for k, ax in enumerate(axes):
    ax.imshow(images[k].reshape(8, 8), cmap="gray_r")
    ax.set(xticks=[], yticks=[])
for line, (name, (model, colour)) in enumerate(models.items()):
    height = 0.46 - 0.17 * line
    figure.text(0.02, height, name, color=colour, size=20, va="center")
    for ax, says in zip(axes, model.predict(images), strict=True):
        middle = (ax.get_position().x0 + ax.get_position().x1) / 2
        figure.text(middle, height, says, color=colour, size=32, weight="bold", ha="center", va="center")
figure.savefig(options.output, dpi=150)
print("Seconds:", ", ".join(f"{name} {took:.2f}" for name, took in seconds.items()))
print(f"Picture saved as {options.output}")

# %%
# Measured
# --------
# There is no *one* retrained model: two that differ in their seed alone do not predict quite the same, and differences
# smaller than theirs mean nothing. So several are trained, and the distance of a model from them is divided by their
# distance from each other. This **distance ratio** is 1 for a model that is as close as retraining can tell.
#
# The second request is a tenth of the rows, drawn at random. Each model is judged on the rows that were erased, on
# those that were kept, and on a test set.


def compare(request, seed):
    """Return what is measured of one request on one split."""
    (X_train, X_test, y_train, y_test), before = fitted(seed)
    drawn = np.random.default_rng(seed).permutation(len(y_train)) < len(y_train) // 10
    erased = y_train == 3 if request == "all threes" else drawn
    kept = X_train[~erased], y_train[~erased]

    after = copy.deepcopy(before).forget(X_train[erased], y_train[erased])
    retrained = fit_many(UnlearnableClassifier(), *kept, seeds=[seed, 1000, 1001])

    rows = {"erased": (X_train[erased], y_train[erased]), "kept": kept, "test": (X_test, y_test)}
    return [
        {
            "request": request,
            "rows": name,
            ("distance ratio", "before"): distance_ratio(before, retrained, part[0]),
            ("distance ratio", "after"): distance_ratio(after, retrained, part[0]),
            ("accuracy", "before"): before.score(*part),
            ("accuracy", "after"): after.score(*part),
            ("accuracy", "retrained"): np.mean([model.score(*part) for model in retrained]),
        }
        for name, part in rows.items()
    ]


requests = ["all threes", "random 10 %"]
measured = [row for request in requests for seed in range(options.seeds) for row in compare(request, seed)]
results = pd.DataFrame(measured).groupby(["request", "rows"], sort=False).mean()
results.columns = pd.MultiIndex.from_tuples(results.columns)
print(f"\nMeans over {options.seeds} splits\n")
print(results.to_string(float_format="{:.2f}".format))

# %%
# The accuracy on the erased rows shows what forgetting is *not*: a low accuracy there is no aim in itself. A retrained
# model still recognises most digits that were drawn at random, because it has seen others like them, and none of a
# class that it was never shown.
#
# How far the models are from the retrained ones, before and after:

figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained", sharey=True)
for ax, request in zip(axes, requests, strict=True):
    for name in ("before", "after"):
        ratios = results.loc[request, ("distance ratio", name)]
        ax.plot(ratios.index, ratios, "o", markersize=12, color=models[name][1], label=name)
    ax.axhline(1, color=models["retrained"][1], linewidth=3, label="retrained")
    ax.margins(x=0.2, y=0.1)
    ax.set(title=f"erased: {request}", yscale="log")
axes[0].set_ylabel("distance ratio")
axes[1].legend()
plt.show()
