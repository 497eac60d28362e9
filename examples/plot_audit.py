"""
Auditing a deletion
===================

``python examples/plot_audit.py``  (``--references``: models to retrain; ``--output``: where to save page and picture)

All images of a three have to go from a classifier of handwritten digits. Did it work? An audit compares the model with
ones retrained without them and says so in words that do not need a data scientist.
"""

import argparse
import copy
import sys
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.inspection import audit
from sk_unlearn.references import fit_many
from sk_unlearn.unlearners import FineTune

try:
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit("This example draws a picture and needs matplotlib: pip install matplotlib")

parser = argparse.ArgumentParser(description="Audit the deletion of a class of handwritten digits.")
parser.add_argument("--references", type=int, default=8, help="models to retrain (default: 8)")
picture = Path(globals().get("__file__", "plot_audit.py")).with_suffix(".png")
parser.add_argument("--output", type=Path, default=picture, help="where to save the picture (default: next to this)")
options, _ = parser.parse_known_args()  # a notebook has arguments of its own

# %%
# The request
# -----------
# A copy of the model from before the request shows what doing nothing would have given. The test rows have not been
# used so far.

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
threes = y_train == 3

before = UnlearnableClassifier(random_state=0).fit(X_train, y_train)
after = copy.deepcopy(before).forget(X_train[threes], y_train[threes])

tuned = copy.deepcopy(before).set_params(unlearner=FineTune(1)).forget(X_train[threes], y_train[threes])

# %%
# The audit
# ---------
# Models are retrained without the threes, from other seeds. None of them has seen one, and yet they differ. The band is
# how far one more of them would be from the others: there a model cannot be told from a retrained one. Training on for
# an epoch without the threes looks like forgetting, since the model now says "three" less often. It ends far off.
#
# ``audit`` would retrain by itself; we do it here, so that both models are judged by the same ones.

seeds = range(1, 1 + options.references)
references = fit_many(UnlearnableClassifier(), X_train[~threes], y_train[~threes], seeds=seeds)
request = X_train[threes], y_train[threes], X_test, y_test
report = audit(after, *request, before=before, references=references)
not_yet = audit(tuned, *request, references=references)


def distance(report, model):
    """Return the distance on the erased rows, and its bounds, that an audit found."""
    frame = report.to_frame().set_index(["measure", "rows", "model"])
    return frame.loc[("JS distance (nats)", "erased", model), ["value", "low", "high"]].astype(float)


figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
ax.axvspan(*distance(report, "retrained")[["low", "high"]], color="#ff7f0e", alpha=0.5, label="retrained")
drawn = {
    "before": (report, "before", "#7f7f7f"),
    "an epoch more": (not_yet, "after", "#1f77b4"),
    "forget": (report, "after", "#1f77b4"),
}
for name, (of, model, colour) in drawn.items():
    ax.plot(distance(of, model)["value"], name, "o", markersize=20, color=colour)
ax.set_xscale("log")
ax.margins(0.2)
ax.invert_yaxis()
ax.tick_params(labelsize=15)
ax.set_xlabel("distance from retrained models", size=15)
ax.legend(fontsize=15, loc="lower right")
figure.savefig(options.output, dpi=150)

# %%
# The report
# ----------
# In a notebook it shows itself. ``to_html`` saves it as one page that can be filed or printed, and ``to_json`` for a
# machine to read.

page = options.output.with_suffix(".html")
report.to_html(page)
print(f"An epoch more: {not_yet.headline}")
print(f"forget: {report.headline}")
print(f"Page saved as {page}")
report  # noqa: B018  shown in the gallery
