"""
One person's images leave a convolutional network
=================================================

``python examples/plot_image_cnn.py``

A convolutional network reads handwritten digits. One writer asks that her images be erased. Most of them are read as
well as before, for others write alike. Some were known from her hand alone, and they are what has to be forgotten.
"""

import copy
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import nn

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.metrics import distance_ratio
from sk_unlearn.unlearners import Retrain, StoCuReNU

# %%
# The network
# -----------
# Thirteen people wrote the 1,797 digits. The data do not say who wrote which, but as far as one can see they come
# person by person. So the first thirteenth stands for the first writer.

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32).reshape(-1, 1, 8, 8)
hers = np.arange(len(X)) < len(X) // 13


class ConvNet(nn.Sequential):
    """Two convolutions and a linear layer."""

    def __init__(self, n_outputs):
        super().__init__(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(128, n_outputs)),
        )


net = NeuralNetClassifier(
    ConvNet,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=0.005,
    max_epochs=20,
    batch_size=64,
    iterator_train__shuffle=True,
    callbacks=[LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=20)],
    train_split=None,
    verbose=0,
)
fitted = UnlearnableClassifier(net, random_state=0).fit(X, y)

# %%
# The request
# -----------
# The network has nearly all images right: it knows its rows by heart, and what it knows of a person is in all layers.
# For such a request ``Retrain`` with a share trains it anew, here in three tenths of the steps, so that nothing of her
# is left in any layer. The default, ``StoCuReNU``, steps from the fitted network instead; on so few rows that takes as
# long as training again.

forgot = {}
for unlearner in (Retrain(share=0.3), StoCuReNU()):
    forgot[str(unlearner)] = copy.deepcopy(fitted).set_params(unlearner=unlearner).forget(X[hers])
model = next(iter(forgot.values()))

# %%
# The yardstick: networks that never saw her images.

start = time.perf_counter()
retrained = [UnlearnableClassifier(net, random_state=seed).fit(X[~hers], y[~hers]) for seed in range(3)]
seconds_retrain = (time.perf_counter() - start) / len(retrained)

# %%
# Before and after
# ----------------
# How probable the right digit is to each model: for the three of her images that lose the most without her, and for the
# first one, which stands for most others.


def of_the_right_digit(model):
    return model.predict_proba(X[hers])[np.arange(hers.sum()), y[hers]]


colours = {"before": "0.6", "after": "C0", "retrained": "C1"}
shares = {
    "before": of_the_right_digit(fitted),
    "after": of_the_right_digit(model),
    "retrained": np.mean([of_the_right_digit(other) for other in retrained], axis=0),
}
missed = np.argsort(shares["retrained"] - shares["before"])[:3]
figure, axes = plt.subplots(2, 4, figsize=(6.4, 4.4), layout="constrained")
for (above, below), row in zip(axes.T, [*missed, 0], strict=True):
    above.imshow(X[row, 0], cmap="gray_r")
    above.set(xticks=[], yticks=[])
    above.set_title(y[row], fontsize=15)
    plt.setp(above.spines.values(), color="C3", linewidth=3)
    below.bar(list(shares), [share[row] for share in shares.values()], color=list(colours.values()))
    below.set(ylim=(0, 1), xticks=[], yticks=[])
axes[1, 0].set(yticks=[0, 1])
axes[1, 0].set_ylabel("probability", fontsize=13)
bars = axes[1, 0].patches
figure.legend(bars, list(shares), loc="outside lower center", ncols=3, fontsize=14)
plt.show()

# %%
# In numbers
# ----------
# All her images. A distance ratio of 1 says that a model is no farther from the retrained ones than these are from each
# other.

for name, other in {"before": fitted, **forgot, "retrained": retrained[0]}.items():
    ratio = distance_ratio(other, [r for r in retrained if r is not other], X[hers])
    print(f"{name}: {other.score(X[hers], y[hers]):.3f} right, distance ratio {ratio:.2f}")
for name, other in forgot.items():
    print(f"{name} took {other.unlearning_report_.seconds:.2f} s", end=", ")
print(f"training again {seconds_retrain:.2f} s")
