"""
What the cubic term does
========================

``python examples/plot_cubic_term.py``

Newton's method goes to where the gradient is zero, and in a network that is often a saddle. The cubic term keeps the
default from it. Here is the smallest network that has a saddle, ``y = b · a · x``: two weights, so that all of its
landscape fits into a picture.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from sk_unlearn.solvers import DenseCubicModel, solve_damped
from sk_unlearn.solvers.adaptive import AdaptiveWeight

rng = np.random.default_rng(0)
x = torch.tensor(rng.normal(size=300))
erased = torch.arange(300) < 200
y = torch.where(erased, -1.5, 1.0) * x + torch.tensor(rng.normal(scale=0.1, size=300))


def objective(w, rows=~erased):
    """Return half the mean squared error, and a little weight decay, at the weights (a, b)."""
    return ((w[1] * w[0] * x[rows] - y[rows]) ** 2).mean() / 2 + 0.01 * (w @ w)


gradient = torch.func.grad(objective)
hessian = torch.func.jacrev(gradient)


def trained(rows):
    """Train from always the same start, by gradient descent until it stands still."""
    w = torch.tensor([0.9, -0.8], dtype=torch.float64)
    for _ in range(2000):
        w = w - 0.05 * gradient(w, rows)
    return w


# %%
# The request
# -----------
# In two thirds of the rows y falls when x rises, and these have to go. In the others it rises. So the weights that were
# fitted to all rows are far from those retrained without: a saddle lies between them.

fitted, retrained = trained(torch.ones(300, dtype=torch.bool)), trained(~erased)

# %%
# Three ways to go
# ----------------
# All start at the fitted weights and look at nothing but gradient and Hessian over the rows that stay. These are the
# solvers that the package uses for networks, too.


def path(step, n_steps=40):
    """Return the weights after each step."""
    points = [fitted]
    for _ in range(n_steps):
        w = points[-1]
        points.append(w + step(w, gradient(w), hessian(w)))
    return torch.stack(points)


def newton(w, g, H, damping=0.0):
    return -solve_damped(H, g, damping).solution


def damped(w, g, H):
    return newton(w, g, H, damping=3.0)


weight = AdaptiveWeight(L=1.0, shrink=0.5)


def cubic(w, g, H):
    tried = weight.step(DenseCubicModel(H, g), lambda s: float(objective(w) - objective(w + s)), resolution=1e-12)
    return tried.step if tried.taken else torch.zeros_like(w)


paths = {"damped": path(damped), "Newton": path(newton), "cubic": path(cubic)}

# %%
# The gradient at the fitted weights points at the saddle, but for a hair. Newton's method ends there: along a direction
# in which the objective curves down it goes up. The cubic step looks for the lowest point of a model that its cubic
# term bounds from below, sees that this lies along that direction, and is at the retrained weights in a few steps.
# Damping keeps away from the saddle as well, if there is enough of it, but then all steps are short.

COLOURS = {"Newton": "#CC79A7", "damped": "#009E73", "cubic": "#1f77b4"}
a, b = torch.meshgrid(torch.linspace(-0.5, 1.8, 80), torch.linspace(-1.1, 1.4, 80), indexing="xy")
height = torch.vmap(objective)(torch.stack([a.ravel(), b.ravel()], dim=1).double()).reshape(a.shape)

figure, ax = plt.subplots(figsize=(6, 4.2), layout="constrained")
ax.contour(a, b, height, levels=np.geomspace(0.03, 4, 14), colors="#CCCCCC", linewidths=1)
for name, points in paths.items():
    ax.plot(*points.T, "o-", color=COLOURS[name], linewidth=2.5, markersize=6, label=name)
ax.plot(*fitted, "s", color="#7f7f7f", markersize=13)
ax.plot(*retrained, "*", color="#ff7f0e", markersize=22)
ax.plot(0, 0, "X", color="black", markersize=12)
for text, at, to in (("fitted", fitted, (12, -5)), ("retrained", retrained, (-40, 18)), ("saddle", (0, 0), (-65, -5))):
    ax.annotate(text, tuple(map(float, at)), xytext=to, textcoords="offset points", size=14)
ax.legend(fontsize=13, loc="lower left")
ax.set(xlabel="weight a", ylabel="weight b")

# %%
# The same in numbers: how far each is from the retrained weights, after so many steps.

print("step      " + "".join(f"{k:>8}" for k in (0, 1, 2, 4, 8, 16, 32)))
for name, points in paths.items():
    print(f"{name:10}" + "".join(f"{float((points[k] - retrained).norm()):8.3f}" for k in (0, 1, 2, 4, 8, 16, 32)))
plt.show()
