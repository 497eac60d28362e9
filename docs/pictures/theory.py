"""Draw the computed pictures in docs/theory.rst: ``python docs/pictures/theory.py [name ...]``."""

from __future__ import annotations

import copy
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _style import AFTER, BEFORE, ERASED, INK, RETRAINED, canvas, digits, draw, hessian, problem_of, small, threes
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback

from sk_unlearn import UnlearnableClassifier
from sk_unlearn.metrics import jensen_shannon
from sk_unlearn.references import fit_many
from sk_unlearn.solvers.adaptive import AdaptiveWeight, first_weight
from sk_unlearn.solvers.cubic import DenseCubicModel, KrylovCubicModel, solve_gradient_descent, solve_krylov
from sk_unlearn.solvers.lanczos import lanczos
from sk_unlearn.solvers.linear import solve_damped, solve_pseudo_inverse
from sk_unlearn.unlearners import CertifiedNewton, CuReNU, LBFGSWarmStart, StoCuReNU, VacuousBoundWarning

# ------------------------------------------------------------------------------------- a model of two parameters


class Path2D(Callback):
    """Notes the two parameters after each epoch."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.points = [weights(net)]

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.points.append(weights(net))


def weights(net: Any) -> np.ndarray:
    """Return the parameters of a net as a vector."""
    return torch.cat([p.detach().reshape(-1) for p in net.module_.parameters()]).double().numpy().copy()


class Tilted(torch.nn.Module):
    """Two logits from two weights."""

    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(2, 1, bias=False)
        torch.nn.init.constant_(self.line.weight, 0.0)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        z = self.line(X)
        return torch.cat([torch.zeros_like(z), z], dim=1)


def target(path: Path) -> None:
    """Draw continue training, undo a deletion, retrain: where two parameters go."""
    rng = np.random.default_rng(3)
    y = np.repeat([0, 1], 60)
    X = (rng.normal(size=(120, 2)) * [1.0, 0.35] + np.where(y[:, None] == 1, 0.55, -0.55)).astype(np.float32)
    gone = (y == 1) & (X[:, 1] > 0.75)
    net = NeuralNetClassifier(
        Tilted, criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.SGD, lr=1.5, max_epochs=12, batch_size=-1,
        optimizer__weight_decay=0.02, callbacks=[("path", Path2D())], train_split=None, verbose=0,
    )  # fmt: skip

    def fitted(unlearner: Any = None, rows: Any = slice(None)) -> UnlearnableClassifier:
        return UnlearnableClassifier(net, unlearner, random_state=0).fit(X[rows], y[rows])

    before, again = fitted(CuReNU()), fitted(rows=~gone)
    way = [np.array(dict(est.net_.callbacks_)["path"].points) for est in (before, again)]
    after = copy.deepcopy(before).forget(X[gone])
    risk = problem_of(before, X[gone]).retained
    end = fitted(LBFGSWarmStart(200, tol=1e-4)).forget(X[gone])
    places = {name: weights(est.net_) for name, est in (("after", after), ("end", end))}

    corner = np.maximum(places["end"], way[0][-1]) * 1.25
    across, up = np.linspace(-0.1, corner[0], 45), np.linspace(-0.2, corner[1], 45)
    values = [[risk.value(torch.tensor([a, b], dtype=torch.float32)) for a in across] for b in up]
    low = np.min(values)
    with canvas(path, height=3.4) as ax:
        ax.contour(across, up, values, low + np.geomspace(0.0003, 0.3, 9), colors="#d0d0d0", linewidths=1)
        ax.plot(*way[0].T, color=BEFORE, marker=".", markersize=3, linewidth=1)
        ax.plot(*way[1].T, color=RETRAINED, marker=".", markersize=3, linewidth=1)
        ax.annotate("", places["end"], way[0][-1], arrowprops={"arrowstyle": "->", "color": INK, "linestyle": "--"})
        ax.annotate("", places["after"], way[0][-1], arrowprops={"arrowstyle": "->", "color": AFTER, "linewidth": 2})
        for point, colour, marker, label in (
            (way[0][-1], BEFORE, "o", "before: trained on all rows"),
            (way[1][-1], RETRAINED, "s", "retrained without the erased rows"),
            (places["after"], AFTER, "D", "after: the deletion is undone"),
            (places["end"], INK, "x", "trained on to the end"),
        ):
            ax.plot(*point, marker, color=colour, markersize=8, label=label, markeredgewidth=2)
        ax.set(xlabel="first weight", ylabel="second weight", xlim=(across[0], across[-1]), ylim=(up[0], up[-1]))
        ax.legend(loc="upper left")


# ----------------------------------------------------------------------------------------- one step, several ways


@cache
def spectral() -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Return eigenvalues, coefficients of the gradient, and the gradient itself."""
    g = threes().objective.gradient_at_start.double()
    model = DenseCubicModel(hessian(), g)
    values, coefficients = model.spectrum
    return values.numpy(), coefficients.numpy(), g


def newton(path: Path) -> None:
    """Draw curvatures of a network, and how far each kind of step goes along them."""
    values, _, g = spectral()
    H = hessian()
    vectors = torch.linalg.eigh(H)[1]
    with_L = DenseCubicModel(H, g).solve(first_weight((torch.tensor(values), torch.tensor(spectral()[1])), 0.01))
    steps = {
        "pseudo-inverse": (solve_pseudo_inverse(H, g).solution, INK),
        "damped by 0.001": (solve_damped(H, g, 0.001).solution, "#b5b5b5"),
        "cubic": (with_L.step, AFTER),
    }
    flat = 0.01 * values.max()
    groups = {"negative": values < 0, "nearly flat": (values >= 0) & (values < flat), "curved": values >= flat}
    with canvas(path, 1, 1.3) as (left, right):
        left.axhline(0, color=INK, linewidth=0.8)
        left.axhspan(0, flat, color="#e8e8e8")
        left.plot(np.arange(len(values)), values, color=BEFORE)
        left.set_yscale("symlog", linthresh=1e-3)
        left.set(title="Curvatures, sorted", xlabel=f"direction, of {len(values)}", yticks=[-0.01, 0, 0.01, 1])
        left.set_yticklabels(["-0.01", "0", "0.01", "1"])
        for k, (name, (step, colour)) in enumerate(steps.items()):
            parts = (vectors.T @ step.double()).numpy()
            lengths = [np.linalg.norm(parts[group]) for group in groups.values()]
            right.bar(np.arange(3) + 0.27 * (k - 1), lengths, 0.25, color=colour, label=name)
        right.axhline(float(threes().parameters.norm()), color=INK, linestyle=":", linewidth=1)
        right.text(2.4, float(threes().parameters.norm()) * 1.2, "all weights", ha="right", fontsize=10)
        right.set_xticks(range(3), [f"{name}\n({group.sum()})" for name, group in groups.items()])
        right.set_yscale("log")
        right.set(title="Length of the step along them", ylim=(0.03, 500))
        right.legend(loc="upper right", fontsize=9, ncols=1)


def cubic_term(path: Path) -> None:
    """Draw the objective along a direction in which it curves downwards, and both models of it."""
    problem, H = threes(), hessian()
    _, _, g = spectral()
    objective, w = problem.objective, problem.parameters
    v = torch.linalg.eigh(H)[1][:, 0]
    v = -v if float(v @ g) > 0 else v
    slope, curvature = float(v @ g), float(v @ H @ v)
    t = np.linspace(-0.5, 2.2, 120)
    true = np.array([objective.value(w + float(x) * v.float()) for x in t]) - objective.value(w)
    quadratic = slope * t + curvature * t**2 / 2
    # The smallest weight under which the model is above the objective all along this line.
    L = max(0.0, float(np.max((true - quadratic)[t != 0] / np.abs(t[t != 0]) ** 3 * 6)))
    cubic = quadratic + L / 6 * np.abs(t) ** 3
    with canvas(path) as ax:
        ax.plot(t, true, color=BEFORE, linewidth=4, label="the objective")
        ax.plot(t, quadratic, color=INK, linestyle="--", label="quadratic model: falls without end")
        ax.plot(t, cubic, color=AFTER, label=f"with the cubic term, L = {L:.2g}")
        low = int(np.argmin(cubic))
        ax.plot(t[low], cubic[low], "D", color=AFTER)
        ax.annotate(
            "the step", (t[low], cubic[low]), xytext=(0, 12), textcoords="offset points", ha="center", color=AFTER
        )
        ax.plot(0, 0, "o", color=BEFORE)
        ax.set(xlabel="distance along the direction of lowest curvature", ylabel="change of the objective")
        ax.set_ylim(1.05 * quadratic.min(), -1.2 * quadratic.min())
        ax.legend(loc="upper left")


def krylov(path: Path) -> None:
    """Draw how soon the model is solved in a Krylov space, and by gradient descent."""
    _, _, g = spectral()
    H, L = hessian(), first_weight(DenseCubicModel(hessian(), g).spectrum, 0.01)
    best = DenseCubicModel(H, g).solve(L).decrease
    counts = np.arange(1, 31)
    missing = [1 - solve_krylov(lambda v: H @ v, g, L, int(k)).decrease / best for k in counts]
    with canvas(path, height=2.7) as ax:
        ax.semilogy(counts, np.maximum(missing, 1e-12), color=AFTER, marker=".")
        ax.axvline(10, color=INK, linestyle=":", linewidth=1)
        ax.text(10.3, 0.3, "a step of the default", fontsize=10)
        ax.set(xlabel=f"products with the Hessian, which has {len(g)} rows")
        ax.set_ylabel("share of the decrease\nthat is missed")
        ax.set_ylim(1e-6, 1.5)


def gradient_descent(path: Path) -> None:
    """Draw the same model by gradient descent at three rates."""
    values, _, g = spectral()
    H, L = hessian(), first_weight(DenseCubicModel(hessian(), g).spectrum, 0.01)
    best = DenseCubicModel(H, g).solve(L).decrease
    counts = np.unique(np.geomspace(1, 100, 18).astype(int))
    with canvas(path, height=2.7) as ax:
        for share, shade in ((0.05, "#c7c7c7"), (0.3, "#9a9a9a"), (1.0, INK)):
            rate = share / values.max()
            missing = [
                1 - solve_gradient_descent(lambda v: H @ v, g, L, n_steps=int(k), learning_rate=rate).decrease / best
                for k in counts
            ]
            ax.loglog(counts + 1, missing, color=shade, label=f"descent, rate {rate:.2g}")
        krylov_missing = [1 - solve_krylov(lambda v: H @ v, g, L, int(k)).decrease / best for k in counts]
        ax.loglog(counts, np.maximum(krylov_missing, 1e-12), color=AFTER, label="Krylov space")
        ax.set(xlabel="products of the Hessian with a vector", ylim=(1e-4, 1.5))
        ax.set_ylabel("share of the decrease\nthat is missed")
        ax.legend(loc="lower left")


# -------------------------------------------------------------------------------------------- several steps


def steps_of(problem: Any, n_steps: int, *, L: float | None = None, n_products: int = 10) -> dict[str, list[Any]]:
    """Minimise the objective by cubic steps in the whole network, and note where each of them ends."""
    objective, w = problem.objective, problem.parameters
    control = AdaptiveWeight(L, shrink=1 / 3)
    told: dict[str, list[Any]] = {"points": [w], "L": [], "gradient": []}
    for _ in range(n_steps):
        line = objective.linearise(w)
        told["gradient"].append(float(line.gradient.norm()))
        model = KrylovCubicModel(lanczos(line.hessian, line.gradient, n_products))
        if control.L is None:
            control.L = first_weight(model.spectrum, 0.01)
        here = objective.value(w)
        tried = control.step(model, lambda s, w=w, here=here: here - objective.value(w + s))
        told["L"].append(tried.record["L"])
        if not tried.taken:
            break
        w = w + tried.step
        told["points"].append(w)
    told["gradient"].append(float(objective.linearise(w).gradient.norm()))
    return told


def weight(path: Path) -> None:
    """Draw the weight of the cubic term over the steps, from three first values."""
    problem = threes()
    own = steps_of(problem, 8)
    with canvas(path, height=2.7) as ax:
        for factor, colour, label in ((1e3, BEFORE, "1,000 times"), (1e-3, "#bcbcbc", "a thousandth")):
            other = steps_of(problem, 8, L=own["L"][0] * factor)["L"]
            first = [own["L"][0] * factor, *other]
            ax.semilogy(range(len(first)), first, color=colour, marker=".", label=f"started at {label}")
        ax.semilogy(range(1, len(own["L"]) + 1), own["L"], color=AFTER, marker="o", label="as the package starts")
        ax.set(xlabel="step (0: where L was before the first)", ylabel="L of the step")
        ax.legend()


def stopping(path: Path) -> None:
    """Draw distance to retrained models, and gradient, when the objective is minimised to the end."""
    X, y = load_iris(return_X_y=True)
    gone = np.flatnonzero(y == 1)[:40]
    stay = np.setdiff1d(np.arange(len(X)), gone)
    est = small().fit(X, y)
    references = fit_many(small(), X[stay], y[stay], seeds=range(1, 6))
    yardstick = [model.predict_proba(X) for model in references]
    problem = problem_of(est, X[gone])
    told = steps_of(problem, 25)
    risks = (problem.retained, problem.erased)

    def distance(w: torch.Tensor) -> float:
        p = np.vstack([torch.softmax(risk.outputs(w).double(), 1).numpy() for risk in risks])
        order = np.concatenate([stay, np.sort(gone)])
        return float(np.mean([jensen_shannon(p, q[order]) for q in yardstick]))

    away = np.array([distance(w) for w in told["points"]])
    norms = np.array(told["gradient"])
    least = np.minimum.accumulate(norms)
    stop = next((k for k in range(1, len(norms)) if norms[k] > 2 * least[k - 1]), None)
    print("stopping", away / away[0], norms / norms[0], stop)
    with canvas(path, 1, 1) as (left, right):
        left.plot(away / away[0], color=AFTER, marker=".")
        left.axhline(1, color=BEFORE, linestyle="--")
        left.text(len(away) - 1, 1.08, "did nothing", color=BEFORE, ha="right", va="bottom", fontsize=10)
        left.set(title="Distance to retrained models", xlabel="step", ylim=(0, 1.2))
        right.semilogy(norms / norms[0], color=INK, marker=".")
        right.set(title="Gradient that is left", xlabel="step")
        for ax in (left, right):
            if stop is not None:
                ax.axvline(stop - 1, color=INK, linestyle=":", linewidth=1)
        if stop is not None:
            right.text(stop - 0.5, norms.min() / norms[0], "stops here", fontsize=10)


def sampling(path: Path) -> None:
    """Draw the error of a gradient on a sample: as it is, and as the change from the fitted point."""
    X, y = digits(1500)
    est = small().fit(X, y)
    gone = np.flatnonzero(y == 3)
    problem = problem_of(est, X[gone])
    step = steps_of(problem, 1)["points"][-1] - problem.parameters
    risk, w0 = problem.retained, problem.parameters
    rng = np.random.default_rng(0)
    shares = [0.01, 0.03, 0.1, 0.3, 1, 3]
    exact0 = risk.gradient(w0)
    plain, reduced = [], []
    for share in shares:
        w = w0 + share * step
        exact = risk.gradient(w)
        errors: tuple[list[float], list[float]] = ([], [])
        for _ in range(8):
            rows = risk.sample(128, rng)
            here, there = risk.gradient(w, rows), risk.gradient(w0, rows)
            errors[0].append(float((here - exact).norm()))
            errors[1].append(float((here - there + exact0 - exact).norm()))
        plain.append(np.mean(errors[0]))
        reduced.append(np.mean(errors[1]))
    wanted = problem.objective.gradient_norm_at_start
    with canvas(path, height=2.9) as ax:
        ax.loglog(shares, plain, color=BEFORE, marker="o", label="plain sample")
        ax.loglog(shares, reduced, color=AFTER, marker="o", label="change from the fitted point")
        ax.axhline(wanted, color=ERASED, linestyle="--", label="gradient that the deletion left")
        ax.set(xlabel="distance gone, in lengths of the first step", ylabel="error of the gradient")
        ax.legend(loc="lower right")


# ----------------------------------------------------------------------------------------------- stages, constants


LAYERS = ("first layer", "hidden layer", "output layer")


def movement(path: Path) -> None:
    """Draw by how much each stage moves each layer."""
    X, y = digits()
    gone = X[y == 3]
    fitted = UnlearnableClassifier(random_state=0).fit(X, y)

    def matrices(est: Any) -> list[np.ndarray]:
        module = est.net_.module_
        first, *others = [p.detach().numpy().copy() for p in module.parameters() if p.ndim == 2]
        return [first / module.input_scale.numpy(), *others]  # as they act on pixels, whatever the constants

    start = matrices(fitted)

    def moved(unlearner: Any) -> list[float]:
        est = copy.deepcopy(fitted).set_params(unlearner=unlearner).forget(gone)
        return [float(np.linalg.norm(b - a) / np.linalg.norm(a)) for a, b in zip(start, matrices(est), strict=True)]

    rows = {
        "output layer": moved(StoCuReNU(renew=False, max_steps=3)),  # as many as that layer takes
        "whole network": moved(CuReNU()),
        "trained anew": moved(StoCuReNU(renew=True)),
    }
    print("movement", rows)
    with canvas(path, height=2.6) as ax:
        table = np.array(list(rows.values()))
        for k, (layer, shade) in enumerate(zip(LAYERS, ("#9ecae1", "#4a98c9", "#08519c"), strict=True)):
            ax.barh(np.arange(3) + 0.27 * (k - 1), table[:, k], 0.25, color=shade, label=layer)
        ax.set_yticks(range(3), [f"{name}" for name in rows])
        ax.invert_yaxis()
        ax.set(xlabel="change of the weights, in lengths of the fitted ones")
        ax.legend(loc="upper right")


def constants(path: Path) -> None:
    """Draw the spread of each pixel with a class and without it."""
    X, y = digits()
    gone = y == 4
    before = UnlearnableClassifier(random_state=0).fit(X, y)
    again = UnlearnableClassifier(random_state=0).fit(X[~gone], y[~gone])
    after = copy.deepcopy(before).forget(X[gone])
    scales = [est.net_.module_.input_scale.numpy() for est in (before, again, after)]
    print("constants", np.abs(scales[2] - scales[1]).max(), (scales[0] / scales[1]).max())
    with canvas(path, height=3.0) as ax:
        order = np.argsort(scales[0] / scales[1])
        ax.plot(
            scales[0][order] / scales[1][order], color=BEFORE, marker="o", markersize=5, linestyle="", label="before"
        )
        ax.plot(scales[2][order] / scales[1][order], color=AFTER, label="after the request")
        ax.set(xlabel="pixel, sorted", ylabel="constant, in units of that of\nthe retrained network")
        ax.set_yscale("log")
        ax.legend()


# --------------------------------------------------------------------------------------------------- guarantees


@cache
def convex() -> tuple[np.ndarray, np.ndarray, Any]:
    """Return a table, and a logistic regression with weight decay that is trained to its optimum."""
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X).astype(np.float32)
    net = NeuralNetClassifier(
        torch.nn.Linear, module__in_features=30, module__out_features=2, criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD, optimizer__weight_decay=0.01, optimizer__momentum=0.9, lr=0.3, max_epochs=400,
        batch_size=-1, train_split=None, verbose=0,
    )  # fmt: skip
    return X, y, net


def optimum(path: Path) -> None:
    """Draw distance to the retrained optimum after each step."""
    X, y, net = convex()
    before = UnlearnableClassifier(net, CuReNU(), random_state=0).fit(X, y)
    again = UnlearnableClassifier(net, random_state=0).fit(X[60:], y[60:])
    goal = torch.tensor(weights(again.net_))
    problem = problem_of(before, X[:60])
    wide = AdaptiveWeight(None, shrink=0.1)
    w, away = problem.parameters, []
    for _ in range(5):
        away.append(float((w.double() - goal).norm()))
        line = problem.objective.linearise(w)
        model = KrylovCubicModel(lanczos(line.hessian, line.gradient, 60))
        if wide.L is None:
            wide.L = first_weight(model.spectrum, 1e-4)
        here = problem.objective.value(w)
        w = w + wide.step(model, lambda s, w=w, here=here: here - problem.objective.value(w + s)).step
    print("optimum", away)
    with canvas(path, height=2.7) as ax:
        ax.semilogy(away, color=AFTER, marker="o")
        ax.plot(0, away[0], "o", color=BEFORE)
        ax.annotate("before", (0, away[0]), xytext=(8, -4), textcoords="offset points", color=BEFORE)
        ax.set(xlabel="step", ylabel="distance to the\nretrained weights", xticks=range(5))


def promises(path: Path) -> None:
    """Draw what is measured beside what is proven, for a linear layer and for a network."""
    X, y, net = convex()
    D, digit = digits()
    table = []
    for est, rows, targets, n in (
        (UnlearnableClassifier(net, CuReNU(), random_state=0), X, y, 60),
        (UnlearnableClassifier(unlearner=CertifiedNewton(), random_state=0), D, digit, 20),
    ):
        again = weights(clone(est).fit(rows[n:], targets[n:]).net_)
        est.fit(rows, targets)
        before = np.linalg.norm(weights(est.net_) - again)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VacuousBoundWarning)
            est.forget(rows[:n])
        after = np.linalg.norm(weights(est.net_) - again)
        table.append((before, after, est.certificate_.bound))
    print("promises", table)
    with canvas(path, height=2.8) as ax:
        for k, (label, colour) in enumerate((("before", BEFORE), ("after", AFTER), ("proven: at most", INK))):
            places = np.arange(2) + 0.27 * (k - 1)
            heights = [row[k] for row in table]
            ax.bar(places, heights, 0.25, bottom=0, color=colour, label=label)
            for x, height in zip(places, heights, strict=True):
                ax.text(x, height * 1.3, f"{height:.2g}", ha="center", fontsize=10)
        ax.set_xticks([0, 1], ["a linear layer", "a network"])
        ax.set_yscale("log")
        ax.set(ylim=(1e-6, 3e3), ylabel="distance to the\nretrained weights")
        ax.legend(loc="upper left", ncols=3)


PICTURES = {
    name.__name__: name
    for name in (
        target, newton, cubic_term, krylov, weight, sampling, stopping, movement, constants, optimum,
        gradient_descent, promises,
    )
}  # fmt: skip

if __name__ == "__main__":
    draw(PICTURES)
