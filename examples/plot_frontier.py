"""
Choosing a method: distance against time
========================================

``python examples/plot_frontier.py``

All threes are to be erased from a network that reads digits. There are many methods to do it, and two things count: how
close the model comes to one that was retrained without the threes, and how long that takes. The picture has both.
"""

import copy

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.inspection import FrontierDisplay
from sk_unlearn.metrics import distance_ratio
from sk_unlearn.references import fit_many
from sk_unlearn.unlearners import SCRUB, SSD, FineTune, LBFGSWarmStart, Retrain, StoCuReNU

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
three, others = y_train == 3, y_test != 3

fitted = UnlearnableClassifier(random_state=0).fit(X_train, y_train)
references = fit_many(UnlearnableClassifier(), X_train[~three], y_train[~three], seeds=[1, 2, 3])

# %%
# The methods
# -----------
# Each gets a copy of the fitted model, with default settings but for the epochs of ``FineTune``. The distance on unseen
# images is a ratio: 1 is as far from the retrained models as these, which differ in their seed alone, are from each
# other. Closer than that means nothing.

METHODS = {
    "default": StoCuReNU(),
    "L-BFGS": LBFGSWarmStart(),
    "fine-tune 1": FineTune(n_epochs=1),
    "fine-tune 10": FineTune(n_epochs=10),
    "SCRUB": SCRUB(),
    "SSD": SSD(),
    "retrain": Retrain(),
}
models = {
    name: copy.deepcopy(fitted).set_params(unlearner=method).forget(X_train[three], y_train[three])
    for name, method in METHODS.items()
}

# %%
# The frontier
# ------------
# Good is low and left. The line joins the methods that no other beats in both; the others are hollow. One more epoch
# without the threes is quick and hardly better than nothing, which is the grey line.

with plt.rc_context({"font.size": 13}):
    figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
    ax.axhline(distance_ratio(fitted, references, X_test), color="#7f7f7f", linewidth=3, label="before")
    ax.set_prop_cycle(color=["#1f77b4"])
    FrontierDisplay.from_estimators(models, references, X_test, ax=ax)
    for label in ax.texts:
        if label.get_text() in ("L-BFGS", "SSD"):
            label.set(position=(-7, 7), horizontalalignment="right")

# %%
# ``Retrain`` is the only one that owes the threes nothing by its construction; the others are close by measure. On a
# network as small as this one L-BFGS is as close as the default, and quicker. That depends on the network and on the
# request: :class:`~sk_unlearn.model_selection.ForgetSearchCV` looks for the best on yours (:doc:`plot_grid_search`).

print(
    pd.DataFrame(
        {
            "seconds": {name: model.unlearning_report_.seconds for name, model in models.items()},
            "distance ratio": {name: distance_ratio(model, references, X_test) for name, model in models.items()},
            "accuracy on other digits": {
                name: model.score(X_test[others], y_test[others]) for name, model in models.items()
            },
        }
    ).to_string(float_format="{:.2f}".format)
)
plt.show()
