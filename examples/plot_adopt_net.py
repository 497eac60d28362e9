"""
A net that was trained elsewhere
================================

``python examples/plot_adopt_net.py``

The model is already in use, trained by a plain PyTorch loop that has never heard of this package. ``from_fitted`` takes
it over, without training it, and it can forget. Here it forgets all images of a three; the picture shows what it takes
them for before and after, and what nets that never saw a three take them for.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.metrics import distance_ratio
from sk_unlearn.unlearners import Retrain

# %%
# Training, as it was done
# ------------------------

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
training = {"lr": 0.002, "weight_decay": 1e-4}


def make_module():
    return nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 10))


def train(X, y, seed):
    torch.manual_seed(seed)
    module = make_module()
    optimizer = torch.optim.Adam(module.parameters(), **training)
    X, y = torch.tensor(X), torch.tensor(y)
    for _ in range(20):
        for batch in torch.randperm(len(X)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(X[batch]), y[batch]).backward()
            optimizer.step()
    return module


module = train(X, y, seed=0)

# %%
# Adopting it
# -----------
# The net, and the rows it was trained on. A copy is taken of both.

est = UnlearnableClassifier.from_fitted(module, X, y, random_state=0)
before = est.predict_proba(X)
erased = y == 3
est.forget(X[erased])
after = est.predict_proba(X)

# %%
# The yardstick: the same loop, without the threes.

start = time.perf_counter()
retrained = [train(X[~erased], y[~erased], seed) for seed in range(4)]
seconds_retrain = (time.perf_counter() - start) / len(retrained)
retrained = [UnlearnableClassifier.from_fitted(net, X[~erased], y[~erased]) for net in retrained]
expected = np.mean([net.predict_proba(X) for net in retrained], axis=0)

# %%
# What is a three taken for?
# --------------------------

figure, ax = plt.subplots(figsize=(5.6, 4), layout="constrained")
for k, (name, colour, shares) in enumerate(
    [("before", "0.6", before), ("after", "C0", after), ("retrained", "C1", expected)]
):
    ax.bar(np.arange(10) + 0.28 * (k - 1), shares[erased].mean(axis=0), width=0.28, color=colour, label=name)
ax.set_xlabel("digit", fontsize=14)
ax.set_ylabel("probability, mean over all threes", fontsize=14)
ax.set_xticks(range(10))
ax.get_xticklabels()[3].set_color("C3")
ax.tick_params(labelsize=14)
ax.legend(fontsize=14)
plt.show()

# %%
# In numbers
# ----------
# A distance ratio of 1 says that a model is no farther from the retrained ones than these are from each other. A whole
# class is much to forget: for the digits 1, 3, 5 and 8, and 15 to 30 epochs, the ratio after ``forget`` was between 1.1
# and 6.4, from 7 to 16 before. When it must be nearer, the estimator has to train anew, and for that it has to know
# how. Tell it by a skorch net.

net = NeuralNetClassifier(
    make_module,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    optimizer__weight_decay=training["weight_decay"],
    lr=training["lr"],
    batch_size=64,
    max_epochs=20,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
).initialize()
net.module_.load_state_dict(module.state_dict())
anew = UnlearnableClassifier.from_fitted(net, X, y, unlearner=Retrain(), random_state=0)
anew.forget(X[erased])

adopted = UnlearnableClassifier.from_fitted(module, X, y)
for name, model in {"before": adopted, "after": est, "after Retrain()": anew}.items():
    print(f"{name}: distance ratio on the threes {distance_ratio(model, retrained, X[erased]):.1f}")
took, took_anew = est.unlearning_report_.seconds, anew.unlearning_report_.seconds
print(f"forget took {took:.2f} s, Retrain() {took_anew:.2f} s, the loop {seconds_retrain:.2f} s")
