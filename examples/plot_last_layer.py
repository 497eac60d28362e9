"""
Why a fix of the last layer is not forgetting
=============================================

``python examples/plot_last_layer.py``

A network tells five digits apart by two numbers an image, its *features*, so that what it has learnt inside can be
drawn. Then all threes are erased: once from the output layer alone, once from the whole network. Neither model ever
says "three" again. The picture shows what they still know.
"""

import copy

import matplotlib.pyplot as plt
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.inspection import FeatureProbeDisplay
from sk_unlearn.metrics import feature_probe, hidden_features
from sk_unlearn.references import fit_many


class TwoFeatures(nn.Module):
    """A network that makes two numbers of an image before its output layer."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
        self.output = nn.Linear(2, 5)

    def forward(self, X):
        return self.output(self.body(X))


net = NeuralNetClassifier(
    TwoFeatures,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    optimizer__weight_decay=0.01,
    lr=0.01,
    max_epochs=60,
    batch_size=64,
    train_split=None,
    verbose=0,
)
X, y = load_digits(n_class=5, return_X_y=True)
X = X.astype("float32") / 16
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)
three = y_train == 3
erased, kept = (X_train[three], y_train[three]), (X_train[~three], y_train[~three])

# %%
# The models
# ----------
# Whoever is in a hurry freezes the body, and the output layer alone forgets. By default all layers do. Three models are
# retrained without the threes.

before = UnlearnableClassifier(net, random_state=0).fit(X_train, y_train)
whole = copy.deepcopy(before).forget(*erased)

frozen = copy.deepcopy(before.net_)
frozen.module_.body.requires_grad_(False)
last = UnlearnableClassifier.from_fitted(frozen, X_train, y_train, random_state=0).forget(*erased)

retrained = fit_many(UnlearnableClassifier(net), *kept, seeds=[1, 2, 3])

# %%
# Inside
# ------
# Each point is an image of the training set, at its two features; the erased threes are red. Where only the last layer
# has forgotten, they sit where they sat before, in a group of their own. To the model that was never shown a three they
# are nothing of their own: they are strewn over the digits that they look like.

models = {"before": before, "last layer forgot": last, "all layers forgot": whole, "retrained": retrained[0]}
figure, axes = plt.subplots(2, 2, figsize=(6, 4.2), layout="constrained")
for ax, (name, model) in zip(axes.flat, models.items(), strict=True):
    ax.scatter(*hidden_features(model, kept[0]).T, s=12, color="#BBBBBB")
    ax.scatter(*hidden_features(model, erased[0]).T, s=12, color="#d62728")
    for digit in (0, 1, 2, 4):
        middle = hidden_features(model, kept[0][kept[1] == digit]).mean(axis=0)
        ax.text(*middle, digit, size=16, ha="center", va="center")
    ax.set_title(name, size=15)
    ax.set(xticks=[], yticks=[])

# %%
# In numbers
# ----------
# Outputs are fooled: none of the models says "three", not once. But train a linear classifier on the features, with one
# labelled image of each digit, and count the unseen threes it finds. With the last layer's fix it finds nearly all of
# them, as before the request.

found = feature_probe(before, [last, whole, *retrained], X_test, y_test, 3)
recalls = [found.recall, *found.reference_recalls]

is_three = y_test == 3
table = {
    name: {
        "says three": (model.predict(X_test[is_three]) == 3).mean(),
        "accuracy on others": model.score(X_test[~is_three], y_test[~is_three]),
        "probe finds threes": recall,
    }
    for (name, model), recall in zip(models.items(), recalls, strict=False)
}
print(pd.DataFrame(table).T.to_string(float_format="{:.2f}".format))
print("\nAll layers:", whole.unlearning_report_.notes[0])

# %%
# The band is what the three retrained models give away: a digit that nobody was shown still looks unlike the others. A
# model that has forgotten lies there.

_, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
ax.set_prop_cycle(color=["#1f77b4"])
FeatureProbeDisplay.from_recalls(dict(zip(models, [*recalls[:3], recalls[3:]], strict=True)), ax=ax)
plt.show()
