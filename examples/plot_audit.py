"""
Auditing a deletion
===================

All images of a three have to go from a classifier of handwritten digits. Did it work? An audit compares the model with
ones retrained without them and says so in words that do not need a data scientist.

Run as a script, it prints the report, and saves it as a page and a picture::

    python examples/plot_audit.py --references 5 --output audit.png
"""

import argparse
import copy
import sys
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.inspection import ErasedLossDisplay, ForgetCurveDisplay, audit
from sk_unlearn.unlearners import FineTune

try:
    import matplotlib.pyplot as plt
except ImportError:
    sys.exit("This example draws a picture and needs matplotlib: pip install matplotlib")

parser = argparse.ArgumentParser(description="Audit the deletion of a class of handwritten digits.")
parser.add_argument("--references", type=int, default=3, help="models to retrain (default: 3)")
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
# Retraining takes most of the time: ``verbose`` shows how far it is, and Ctrl-C goes on with the models that are done.

report = audit(
    after,
    X_train[threes],
    y_train[threes],
    X_test,
    y_test,
    before=before,
    n_references=options.references,
    verbose=1,
)
print(report)

# %%
# In a notebook the report shows itself. ``to_html`` saves the same as one page that can be filed or printed, and
# ``to_json`` saves it for a machine to read.

page = options.output.with_suffix(".html")
report.to_html(page)
print(f"\nPage saved as {page}")
report  # noqa: B018  shown in the gallery

# %%
# A model that did not forget
# ---------------------------
# Training on for an epoch without the threes looks like forgetting, since the model now says "three" less often. The
# audit tells it from a retrained model. It retrains the same references again, because they follow from
# ``random_state``; references that are at hand may be passed instead.

tuned = copy.deepcopy(before).set_params(unlearner=FineTune(1)).forget(X_train[threes], y_train[threes])
verdict = audit(tuned, X_train[threes], y_train[threes], X_test, y_test, n_references=options.references)
print(f"\nFineTune for one epoch: {verdict.headline}")

# %%
# Two of the pictures
# -------------------
# Each part of the report is also a display of its own.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
ErasedLossDisplay.from_losses(report.losses, ax=axes[0])
ForgetCurveDisplay.from_estimator(after, ax=axes[1])
figure.savefig(options.output, dpi=150)
print(f"Picture saved as {options.output}")
