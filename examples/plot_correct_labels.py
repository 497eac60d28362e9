"""
Wrong labels are put right
==========================

``python examples/plot_correct_labels.py``

Not every request is to erase. Somebody finds that hundreds of rows were labelled wrongly, all in one corner of the
data. ``correct`` puts the right labels in their place and takes what the wrong ones taught out of the model. The model
afterwards is compared with one that was trained on right labels from the start.
"""

import copy
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.metrics import retrain_distance
from sk_unlearn.references import fit_many

# %%
# The rows
# --------
# Two classes. Of those of the second class on the right, four in five are given to the first.

X, y = make_moons(2500, noise=0.2, random_state=0)
X_test, y_test = make_moons(2000, noise=0.2, random_state=1)
wrong = (X[:, 0] > 1.2) & (y == 1) & (np.random.default_rng(0).random(len(y)) < 0.8)
y_given = np.where(wrong, 0, y)
fitted = UnlearnableClassifier(random_state=0).fit(X, y_given)

# %%
# The request
# -----------
# The rows that were wrong, and the labels that are right.

model = copy.deepcopy(fitted)
start = time.perf_counter()
model.correct(X[wrong], y_new=y[wrong])
seconds = time.perf_counter() - start

# %%
# The yardstick: models trained on right labels.

start = time.perf_counter()
retrained = [UnlearnableClassifier(random_state=0).fit(X, y)]
seconds_retrain = time.perf_counter() - start
retrained += fit_many(UnlearnableClassifier(), X, y, seeds=[1, 2])

# %%
# Before and after
# ----------------
# The colour is what the models predict, the dots are the wrong labels, and the numbers are accuracies on test rows.

east, north = np.meshgrid(np.linspace(-1.6, 2.6, 120), np.linspace(-1.2, 1.7, 120))
places = np.column_stack([east.ravel(), north.ravel()])
figure, axes = plt.subplots(1, 3, figsize=(6.4, 4.2), layout="constrained", sharey=True)
models = {"before": fitted, "after": model, "retrained": retrained[0]}
for ax, (name, drawn) in zip(axes, models.items(), strict=True):
    share = drawn.predict_proba(places)[:, 1].reshape(east.shape)
    ax.contourf(east, north, share, levels=np.linspace(0, 1, 11), cmap="PRGn", alpha=0.6)
    ax.contour(east, north, share, levels=[0.5], colors="black", linewidths=2)
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"{name}: {drawn.score(X_test, y_test):.0%}", fontsize=14)
axes[0].scatter(*X[wrong].T, s=6, color="C3")
plt.show()

# %%
# In numbers
# ----------
# The distance is the Jensen-Shannon divergence between predicted probabilities, in nats, to the retrained models on
# test rows. These are nearly the same as each other, so their own distance is a very strict bar. See how much of the
# first distance is left.

for name, drawn in models.items():
    others = [other for other in retrained if other is not drawn]
    distance = np.mean([retrain_distance(drawn, other, X_test) for other in others])
    print(f"{name}: accuracy {drawn.score(X_test, y_test):.3f}, distance {distance:.6f}")
print(f"{wrong.sum()} of {len(y)} labels were wrong")
print(f"correct took {seconds:.2f} s, training again {seconds_retrain:.2f} s")
