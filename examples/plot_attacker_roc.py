"""
What an attacker sees
=====================

``python examples/plot_attacker_roc.py``

A hundred people ask to be erased. Their labels are wrong, and a network learns such rows by heart. An attacker has the
model, and guesses who was in its training set: whoever it fits suspiciously well. Can the attacker still tell these
hundred from people whom the model has never met?
"""

import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn import MLPNetClassifier, UnlearnableClassifier
from sk_unlearn.inspection import MembershipRocDisplay
from sk_unlearn.unlearners import Retrain

rng = np.random.default_rng(0)
X, y = load_digits(return_X_y=True)
X = X.astype("float32") / 16
wrong = rng.random(len(y)) < 0.2
y[wrong] = (y[wrong] + rng.integers(1, 10, wrong.sum())) % 10
X_train, X_test, y_train, y_test, wrong, wrong_test = train_test_split(X, y, wrong, test_size=0.4, random_state=0)

asked = np.flatnonzero(wrong)[:100]
erased = X_train[asked], y_train[asked]
kept = np.delete(X_train, asked, axis=0), np.delete(y_train, asked)
strangers = X_test[wrong_test], y_test[wrong_test]

# %%
# The attack
# ----------
# The attacker calls a row a member when the model's loss on it is low. Each curve shows, for every threshold, the share
# of the erased people found against the share of strangers accused. *Before*, many are found. The measure for *after*
# is not the diagonal but the *retrained* model: it never met the hundred, so what is found there is found by chance.


def attack(models):
    """Draw what the attacker gets from each model."""
    _, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
    for name, model in models.items():
        drawn = MembershipRocDisplay.from_estimator(model, *erased, *strangers, name=name, ax=ax)
        drawn.line_.set(linewidth=3, linestyle=":" if "Retrain" in name else "-")
    ax.set_xlabel("share of strangers accused", size=14)
    ax.set_ylabel("share of the erased found", size=14)
    ax.legend(loc="lower right", fontsize=11)


net = MLPNetClassifier(max_epochs=60)
before = UnlearnableClassifier(net, random_state=0).fit(X_train, y_train)
after = copy.deepcopy(before).forget(*erased)
retrained = UnlearnableClassifier(net, random_state=1).fit(*kept)
attack({"before": before, "after": after, "retrained": retrained})

# %%
# A network that learns everything by heart
# -----------------------------------------
# The built-in network holds its weights small (weight decay), so that a single row leaves little. This wide one hardly
# does. It gives more away before, and the default, which goes from the fitted weights, leaves some of that. Where the
# attacker must find nothing, train anew: ``Retrain(share=0.3)`` does so in a third of the steps.


def wide():
    return nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 10))


net = NeuralNetClassifier(
    wide,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    optimizer__weight_decay=1e-4,
    lr=0.01,
    max_epochs=60,
    batch_size=64,
    train_split=None,
    verbose=0,
)
before = UnlearnableClassifier(net, random_state=0).fit(X_train, y_train)
after = copy.deepcopy(before).forget(*erased)
trained_anew = copy.deepcopy(before).set_params(unlearner=Retrain(share=0.3)).forget(*erased)
retrained = UnlearnableClassifier(net, random_state=1).fit(*kept)
attack({"before": before, "after": after, "retrained": retrained, "Retrain(share=0.3)": trained_anew})
for name, model in {"default": after, "Retrain(share=0.3)": trained_anew}.items():
    report = model.unlearning_report_
    print(f"{name}: {report.status}, {report.seconds:.2f} s, accuracy on unseen rows {model.score(X_test, y_test):.2f}")
print(f"retrained: accuracy on unseen rows {retrained.score(X_test, y_test):.2f} (a fifth of the labels is wrong)")
plt.show()
