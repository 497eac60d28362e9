"""
Many requests, one solve, and receipts
======================================

``python examples/plot_receipts.py``

Ten customers have written in the last five weeks, and each has a right to be erased within a month. Their requests go
into a queue inside the model, one ``settle`` carries out all that wait, and a receipt says so, for somebody who
believes neither the model nor us.
"""

import copy
from datetime import datetime, timedelta, timezone

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.exceptions import ReceiptError
from sk_unlearn.metrics import distance_ratio
from sk_unlearn.receipts import prove_erased, verify
from sk_unlearn.references import fit_many

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
customer = np.random.default_rng(0).permutation(len(y)) // 6  # six images each
before = UnlearnableClassifier(random_state=0).fit(X, y, sample_id=customer)
model = copy.deepcopy(before)

# %%
# The queue
# ---------
# Each request is entered with the moment it came. The model finds its rows, and counts the month.

now = datetime.now(timezone.utc)
DAYS_AGO = {11: 34, 29: 27, 5: 25, 83: 22, 47: 21, 62: 15, 8: 11, 90: 8, 71: 4, 34: 1}  # by customer
for who, days in DAYS_AGO.items():
    model.request_forget(sample_id=[who], received=now - timedelta(days=days))

# %%
# Today
# -----
# One solve for all ten. Each bar is the month that a request leaves, from the day it came to its deadline. One letter
# was in the post for too long: its request is late, and the receipt says so.

model.settle()


def days(moment):
    """Return how many days from now a moment is."""
    return (datetime.fromisoformat(moment) - now) / timedelta(days=1)


figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
ax.axvline(0, color="#1f77b4", linewidth=4, zorder=0)
for height, told in enumerate(model.unlearning_report_.requests):
    colour = "#d62728" if told["late"] else "#1f77b4"
    ax.plot([days(told["received"]), days(told["deadline"])], [height, height], color="#BBBBBB", linewidth=9, zorder=1)
    ax.plot(days(told["completed"]), height, "X" if told["late"] else "o", color=colour, markersize=13)
    if told["late"]:
        ax.text(3, height, "late", color=colour, size=15, va="center")
ax.set_title("each bar: from request to deadline", size=15)
ax.set_xlabel("days from today, when all are settled", size=14)
ax.set_yticks([])
ax.tick_params(labelsize=13)

# %%
# The next batch is a solve and a receipt of its own. Is the model what it would be without these customers? A distance
# ratio of 1 is as far from retrained models as they are from each other.

model.request_forget(sample_id=[55])
model.request_forget(sample_id=[14, 15])
model.settle()
gone = np.isin(customer, [*DAYS_AGO, 55, 14, 15])
retrained = fit_many(UnlearnableClassifier(), X[~gone], y[~gone], seeds=[1, 2, 3])
for name, est in {"before": before, "after": model}.items():
    print(f"{name}: distance ratio on the erased images {distance_ratio(est, retrained, X[gone]):.1f}")

# %%
# The chain
# ---------
# Receipts hold no row and no name, only keyed digests, and each holds the hash of the one before. Whoever edits or
# drops one is found out. Note the newest hash where others cannot write.

noted = model.receipts_.head
print(f"\n{verify(model.receipts_, head=noted)} receipts, nothing changed")
for receipt in model.receipts_:
    print(f"{receipt.n_erased} images of {len(receipt.ids)} customers, {receipt.n_retained} stay: {receipt.hash[:12]}…")

lines = list(model.receipts_.lines())
lines[1] = lines[1].replace(b'"late":true', b'"late":false')
try:
    verify(lines, head=noted)
except ReceiptError as error:
    print("somebody hides that one was late:", error)

# %%
# The proof
# ---------
# Years later customer 11 asks whether the model still knows her. Who holds the key and the images can tell.

hers, others = np.flatnonzero(customer == 11)[0], np.flatnonzero(~gone)[0]
for row in (hers, others):
    (found,) = prove_erased(model.receipts_, X[[row]], key=model.receipt_key_)
    print(f"\nimage {row}:", f"erased {found[0].completed}" if found else "no receipt: it is still there", end="")
plt.show()
