"""
Choosing a method: distance against time
========================================

``python examples/plot_frontier.py``

All threes are to be erased from a network that reads digits, and there are many methods to do it with. Two things
count: how close the model comes to one that was retrained without the threes, and how long it takes. The picture has
both, and no method is best in both.
"""

import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.inspection import FrontierDisplay
from sk_unlearn.metrics import distance_ratio
from sk_unlearn.references import fit_many
from sk_unlearn.unlearners import FineTune, LBFGSWarmStart, NegGradPlus, Retrain, SCRUB, SSD, StoCuReNU

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
three, other_test = y_train == 3, y_test != 3

fitted = UnlearnableClassifier(random_state=0).fit(X_train, y_train)
references = fit_many(UnlearnableClassifier(), X_train[~three], y_train[~three], seeds=[1, 2, 3])

# %%
# The contest
# -----------
# Each method gets a copy of the fitted model. The distance is a ratio: 1 is as far from the retrained models as these,
# which differ in their seed alone, are from each other. No method can do better in earnest.

METHODS = {
    "default": StoCuReNU(),
    "L-BFGS": LBFGSWarmStart(),
    "fine-tune 1": FineTune(n_epochs=1),
    "fine-tune 10": FineTune(n_epochs=10),
    "SCRUB": SCRUB(),
    "SSD": SSD(),
    "NegGrad+": NegGradPlus(),
    "retrain": Retrain(),
}
models = {}
for name, method in METHODS.items():
    models[name] = copy.deepcopy(fitted).set_params(unlearner=method).forget(X_train[three], y_train[three])

figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
ax.set_prop_cycle(color=["#0072B2"])
with plt.rc_context({"font.size": 13}):
    FrontierDisplay.from_estimators(models, references, X_test, ax=ax)
ax.axhline(distance_ratio(fitted, references, X_test), color="#7F7F7F")
