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
from sk_unlearn.inspection import ErasedLossDisplay, audit
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

# %%
# The audit
# ---------
# The models to compare with are retrained from other seeds, all at once. ``audit`` would do so by itself; we keep them
# for a second audit below. How badly each model does on the threes is one of the things it measures: *after* must look
# like *retrained*, and nothing like *before*.

seeds = range(1, 1 + options.references)
references = fit_many(UnlearnableClassifier(), X_train[~threes], y_train[~threes], seeds=seeds)
request = X_train[threes], y_train[threes], X_test, y_test
report = audit(after, *request, before=before, references=references)

figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
ErasedLossDisplay.from_losses(report.losses, ax=ax)
figure.savefig(options.output, dpi=150)

# %%
# The report
# ----------
# In a notebook it shows itself. ``to_html`` saves it as one page that can be filed or printed, and ``to_json`` for a
# machine to read.

page = options.output.with_suffix(".html")
report.to_html(page)
print(report.headline)
print(f"Page saved as {page}")
report  # noqa: B018  shown in the gallery

# %%
# A model that did not forget
# ---------------------------
# Training on for an epoch without the threes looks like forgetting, since the model now says "three" less often. The
# audit tells it from a retrained model.

tuned = copy.deepcopy(before).set_params(unlearner=FineTune(1)).forget(X_train[threes], y_train[threes])
verdict = audit(tuned, *request, references=references)
print(f"FineTune for one epoch: {verdict.headline}")
plt.show()
