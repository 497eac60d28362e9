"""
A user leaves a recommender
===========================

``python examples/plot_recommender.py``

A recommender learns a vector for each user and each film. One user asks to be erased. No other row ever touches her
vector, so training on without her would leave it as it is. ``forget`` puts it where a model that never saw her has it.
"""

import copy
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from skorch import NeuralNetRegressor
from torch import nn

from sk_unlearn import UnlearnableRegressor
from sk_unlearn.metrics import distance_ratio
from sk_unlearn.references import fit_many

# %%
# The ratings
# -----------
# 150 users rate 25 of 80 films each. What they like follows from two hidden traits.

N_USERS, N_FILMS, RATED = 150, 80, 25
rng = np.random.default_rng(0)
tastes, traits = rng.normal(size=(N_USERS, 2)), rng.normal(size=(N_FILMS, 2))
user = np.repeat(np.arange(N_USERS), RATED)
film = np.concatenate([rng.choice(N_FILMS, RATED, replace=False) for _ in range(N_USERS)])
stars = 3 + 0.7 * (tastes[user] * traits[film]).sum(axis=1) + rng.normal(0, 0.3, len(user))
stars = stars.clip(1, 5).astype(np.float32)

# %%
# The model has a vector of two numbers and a level for each user and each film. Rows carry the number of their user.


class Recommender(nn.Module):
    """Stars are a level each for user and film, and how well their vectors match."""

    def __init__(self):
        super().__init__()
        self.user, self.film = nn.Embedding(N_USERS, 2), nn.Embedding(N_FILMS, 2)
        self.user_level, self.film_level = nn.Embedding(N_USERS, 1), nn.Embedding(N_FILMS, 1)

    def forward(self, user, film):
        match = (self.user(user) * self.film(film)).sum(dim=-1, keepdim=True)
        return 3 + match + self.user_level(user) + self.film_level(film)


net = NeuralNetRegressor(
    Recommender,
    optimizer=torch.optim.Adam,
    optimizer__weight_decay=1e-4,
    lr=0.02,
    batch_size=64,
    max_epochs=20,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)
fitted = UnlearnableRegressor(net, random_state=0).fit({"user": user, "film": film}, stars, sample_id=user)

# %%
# The request
# -----------
# We let the user go whose taste is the most marked.


def user_vectors(model):
    return model.net_.module_.user.weight.detach().numpy()


leaver = int(np.linalg.norm(user_vectors(fitted), axis=1).argmax())
model = copy.deepcopy(fitted)
start = time.perf_counter()
model.forget(sample_id=[leaver])
seconds = time.perf_counter() - start

# %%
# The yardstick: models that never saw her, trained from several seeds.

hers = user == leaver
others = {"user": user[~hers], "film": film[~hers]}
start = time.perf_counter()
retrained = [UnlearnableRegressor(net, random_state=0).fit(others, stars[~hers])]
seconds_retrain = time.perf_counter() - start
retrained += fit_many(UnlearnableRegressor(net), others, stars[~hers], seeds=[1, 2, 3])

# %%
# Before and after
# ----------------
# The vectors of all users. A user whom the model does not know sits at the origin: weight decay takes her there.

BEFORE, AFTER, RETRAINED = "0.45", "C0", "C1"
was, is_now, as_retrained = (user_vectors(m)[leaver] for m in (fitted, model, retrained[0]))
every_film = {"user": np.full(N_FILMS, leaver), "film": np.arange(N_FILMS)}
expected = [m.predict(every_film) for m in (fitted, model, retrained[0])]

figure, ax = plt.subplots(figsize=(5.6, 4), layout="constrained")
ax.scatter(*user_vectors(fitted).T, color="0.8", label="others")
ax.annotate("", is_now, was, arrowprops={"arrowstyle": "->", "linewidth": 3, "shrinkA": 9, "shrinkB": 16})
ax.scatter(*was, s=300, color=BEFORE, marker="X", label="before", zorder=3)
ax.scatter(*is_now, s=180, color=AFTER, label="after", zorder=3)
ax.scatter(*as_retrained, s=560, facecolor="none", edgecolor=RETRAINED, linewidth=4, label="retrained")
ax.set(xticks=[], yticks=[])
ax.legend(loc="upper left", fontsize=12, labelspacing=0.9)
plt.show()

# %%
# What the model expects her to give to each of the films. What remains is how much everybody likes them.

figure, ax = plt.subplots(figsize=(5.6, 4), layout="constrained")
ax.axline((3, 3), slope=1, color=RETRAINED, linewidth=3, label="retrained")
ax.scatter(expected[2], expected[0], s=50, color=BEFORE, marker="X", label="before")
ax.scatter(expected[2], expected[1], s=50, color=AFTER, label="after")
ax.set(xlabel="stars expected by the retrained model", ylabel="stars expected by the model")
ax.legend()
plt.show()

# %%
# In numbers
# ----------
# A distance ratio of 1 says that a model is no farther from the retrained ones than these are from each other. The
# other users and the films hardly move: her 25 ratings of 3,750 had little to say about them.

her_ratings = {"user": user[hers], "film": film[hers]}
print("her vector before, after, retrained:", *(vector.round(3) for vector in (was, is_now, as_retrained)))
for name, rows in {"her ratings": her_ratings, "all others": others}.items():
    ratios = [distance_ratio(m, retrained, rows) for m in (fitted, model)]
    print(f"distance ratio on {name}: {ratios[0]:.2f} before, {ratios[1]:.2f} after")
print(f"forget took {seconds:.2f} s, training again {seconds_retrain:.2f} s")
print(model.unlearning_report_.notes[0])
