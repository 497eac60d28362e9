"""
Many small requests
===================

``python examples/plot_sequential_requests.py``  (``--requests``: how many; ``--output``: where to save the picture)

Requests do not come all at once. Customers, one after the other, ask to be forgotten, and after each the model must be
close to one that was retrained without all of them so far. Do the small errors add up?
"""

import argparse
import copy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.inspection import SequenceDriftDisplay
from sk_unlearn.metrics import retrain_distance
from sk_unlearn.references import fit_many
from sk_unlearn.unlearners import FineTune

try:
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit("This example draws a picture and needs matplotlib: pip install matplotlib")

parser = argparse.ArgumentParser(description="Forget handwritten digits in many small requests.")
parser.add_argument("--requests", type=int, default=8, help="number of requests (default: 8)")
picture = Path(globals().get("__file__", "plot_sequential_requests.py")).with_suffix(".png")
parser.add_argument("--output", type=Path, default=picture, help="where to save the picture (default: next to this)")
options, _ = parser.parse_known_args()  # a notebook has arguments of its own

ROWS_A_REQUEST = 4
N_LOOKS = 3  # how often the models are held against retrained ones, which is what takes the time
N_RETRAINED = 3

# %%
# The requests
# ------------
# Rows carry the number of their customer, and are forgotten by it.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.6, stratify=y, random_state=0)
customer = np.random.default_rng(0).permutation(len(y_train)) // ROWS_A_REQUEST

fitted = UnlearnableClassifier(random_state=0).fit(X_train, y_train, sample_id=customer)
models = {
    "forget": copy.deepcopy(fitted),
    "an epoch more": copy.deepcopy(fitted).set_params(unlearner=FineTune(1)),
    "nothing done": fitted,
}

# %%
# After some of the requests, models are retrained without everyone who has asked so far. All are compared on the rows
# that were erased: the retrained ones with each other, which is the yardstick.

looks = np.unique(np.linspace(1, options.requests, N_LOOKS).round().astype(int))
table = []
for number in range(1, options.requests + 1):
    for name, model in models.items():
        if name != "nothing done":
            model.forget(sample_id=[number])
    if number not in looks:
        continue
    erased = (customer >= 1) & (customer <= number)
    retrained = fit_many(UnlearnableClassifier(), X_train[~erased], y_train[~erased], seeds=range(N_RETRAINED))
    row = {"requests": number, "rows erased": int(erased.sum())}
    for name, model in models.items():
        row[name] = np.mean([retrain_distance(model, other, X_train[erased]) for other in retrained])
    pairs = [(a, b) for a in retrained for b in retrained if a is not b]
    row["retrained"] = np.mean([retrain_distance(a, b, X_train[erased]) for a, b in pairs])
    row["accuracy of forget"] = models["forget"].score(X_test, y_test)
    table.append(row)

# %%
# The drift
# ---------
# Distances from the retrained models, which are orange: how far these are from each other.

table = pd.DataFrame(table).set_index("requests")
drawn = {name: table[name] for name in (*models, "retrained")}
figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
ax.set_prop_cycle(color=["#1f77b4", "#56B4E9", "#7f7f7f", "#ff7f0e"])
SequenceDriftDisplay.from_distances(drawn, table["rows erased"], ax=ax)
plt.setp(ax.lines, linewidth=4, markersize=13)
ax.set_xlabel("rows erased so far", size=14)
ax.set_ylabel("distance from retrained", size=14)
ax.legend(fontsize=13)
figure.savefig(options.output, dpi=150)

print("Mean JS distance (nats) to retrained models on the rows erased so far\n")
print(table.to_string(float_format="{:.5f}".format))
print(f"\nPicture saved as {options.output}")

# %%
# What the estimator itself has recorded, without any retrained model: how far its parameters have gone, and the
# gradient that each request left. A later request takes no longer than the first.

SequenceDriftDisplay.from_estimator(models["forget"])
seconds = [report.seconds for report in models["forget"].unlearning_history_]
print("Seconds of each request:", ", ".join(f"{took:.2f}" for took in seconds))
print(f"Seconds of training: {sum(fitted.net_.history[:, 'dur']):.2f}")
plt.show()
