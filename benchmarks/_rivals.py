# Part of: benchmarks.frontier and others (python -m benchmarks.frontier)
"""What our default is compared with, as unlearners, and the list of methods that a task is measured with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks._tasks import Anneal, Task
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.unlearners import (
    CuReNU,
    Status,
    StoCuReNU,
    Unlearner,
    UnlearnerTags,
    UnlearningProblem,
    UnlearningResult,
)
from sk_unlearn.unlearners.distillation import divergence_from_others

# Rows times parameters up to which a full Hessian is taken: some seconds.
DENSE_LIMIT = 1e7
DENSE_PARAMETERS = 3000


class WarmStart(Unlearner):
    """Continue training on the retained rows with the net's optimiser, for any number of epochs, fractions included.

    The rate starts at that of training and goes to zero along a cosine.
    """

    def __init__(self, epochs: float = 1.0) -> None:
        self.epochs = epochs

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = True
        return tags

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        callbacks = [("anneal", Anneal(self.epochs))]
        net = problem.retrain(warm=True, epochs=math.ceil(self.epochs), callbacks=callbacks).net
        return UnlearningResult(flat_parameters(net), Status.COMPLETED, f"trained for {self.epochs:g} epochs")


class ContinueLBFGS(Unlearner):
    """Minimise the retained risk on from the fitted parameters by L-BFGS over all rows at once.

    Parameters
    ----------
    iterations : int
    tolerance : float
        Stop when no entry of the gradient is larger.
    hold_residual : bool
        Minimise the risk minus the linear term that training left, instead of the risk.
    history_size : int
        Pairs remembered.
    """

    def __init__(
        self, iterations: int = 10, tolerance: float = 0.0, hold_residual: bool = False, history_size: int = 20
    ) -> None:
        self.iterations = iterations
        self.tolerance = tolerance
        self.hold_residual = hold_residual
        self.history_size = history_size

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = True
        return tags

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        w = problem.parameters.clone().requires_grad_()
        objective = problem.objective if self.hold_residual else problem.untilted
        optimiser = torch.optim.LBFGS(
            [w], max_iter=self.iterations, tolerance_grad=self.tolerance, tolerance_change=0.0,
            history_size=self.history_size,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure() -> Tensor:
            value, gradient = problem.retained.value_and_gradient(w.detach())
            w.grad = gradient - objective.tilt
            return torch.as_tensor(value, dtype=torch.float64) - (objective.tilt @ w.detach()).double()

        optimiser.step(closure)
        return UnlearningResult(w.detach(), Status.COMPLETED, f"{self.iterations} iterations of L-BFGS")


class DenseNewton(Unlearner):
    """One Newton step with the full Hessian H of the retained risk: w - (H + damping I)^-1 g, pseudo-inverse for 0."""

    def __init__(self, damping: float = 0.0) -> None:
        self.damping = damping

    def __unlearner_tags__(self) -> UnlearnerTags:
        tags = super().__unlearner_tags__()
        tags.needs_rows = True
        return tags

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        H = dense_hessian(problem.retained, problem.parameters)
        if self.damping:
            step = torch.linalg.solve(H + self.damping * torch.eye(len(H), dtype=H.dtype), problem.gradient)
        else:
            step = torch.linalg.pinv(H, hermitian=True) @ problem.gradient
        return UnlearningResult(problem.parameters - step, Status.COMPLETED, "one step")


class PlainDELETE(Unlearner):
    """DELETE as published: every pass is made, whatever becomes of the retained rows. For nets that return logits."""

    def __init__(self, n_epochs: int = 20, learning_rate: float = 1e-4, batch_size: int = 128) -> None:
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        w, erased = problem.parameters.clone().requires_grad_(), problem.erased
        optimiser = torch.optim.Adam([w], lr=self.learning_rate)
        stored = erased.sample(erased.n_rows, problem.rng)
        for _ in range(self.n_epochs):
            order = problem.rng.permutation(stored)
            for rows in np.array_split(order, math.ceil(len(order) / self.batch_size)):
                teacher = erased.outputs(problem.parameters, rows)

                def loss(output: Tensor, y: Any, at: slice, teacher: Tensor = teacher) -> Tensor:
                    return divergence_from_others(teacher[at], output, y)

                w.grad = erased.other_loss(w.detach(), loss, rows)[1]
                optimiser.step()
        return UnlearningResult(w.detach(), Status.COMPLETED, f"{self.n_epochs} passes over the erased rows")


def dense_hessian(risk: Any, w: Tensor) -> Tensor:
    """Return the Hessian of a risk at w, of shape (d, d), a column a product."""
    local = risk.linearise(w)
    H = torch.stack([local.hessian(e) for e in torch.eye(len(w), dtype=w.dtype, device=w.device)])
    return (H + H.T) / 2


@dataclass(frozen=True)
class Method:
    """One way to forget.

    Attributes
    ----------
    name : str
    family : str
        Methods that differ only in how long they run; "ours" is the default and nothing else.
    unlearner : Unlearner or None
        None does nothing.
    units : float
        How long it runs, in a unit of the family's own: tells which members would cost too much to be run.
    """

    name: str
    family: str
    unlearner: Unlearner | None
    units: float = 1.0


OURS = "ours"
CUT, FORCED = f"{OURS}, cut", f"{OURS}, forced"
NO_OP = Method("no-op", "no-op", None)


def default_method(**changes: Any) -> Method:
    """Return what ``UnlearnableClassifier()`` uses, or a variant of it."""
    return Method(OURS, OURS, StoCuReNU(**changes))


def shorter() -> Iterator[Method]:
    """Yield the default cut off after some steps."""
    if "max_steps" in StoCuReNU().get_params():
        for k in (1, 2, 3, 5, 8, 12):
            yield Method(f"{OURS}, {k} steps", CUT, StoCuReNU(max_steps=k), k)


def longer(n_steps: int) -> Iterator[Method]:
    """Yield the default forced on to twice the ``n_steps`` it took."""
    settings = StoCuReNU().get_params()
    if "max_steps" in settings:
        no_stop: dict[str, Any] = {"tol": 0} if "tol" in settings else {}
        yield Method(FORCED, FORCED, StoCuReNU(max_steps=2 * max(n_steps, 1), **no_stop))


def rivals(task: Task, n_parameters: int) -> Iterator[Method]:
    """Yield the rivals that make sense for the task, the cheaper ones of each family first."""
    yield NO_OP
    if not task.full_batch:  # whose training is L-BFGS
        for epochs in (0.25, 0.5, 1.0, 2.0, 5.0):
            yield Method(f"warm start, {epochs:g} epochs", "warm start", WarmStart(epochs), epochs)
    for iterations in (5, 10, 20, 50, 100, 200, 500, 1000)[: 8 if task.full_batch else 4]:
        yield Method(f"L-BFGS, {iterations}", "L-BFGS", ContinueLBFGS(iterations), iterations)
    published = StoCuReNU(
        L=5.0, solver="gradient_descent", n_gradient_rows=128, n_curvature_rows=64, n_products=5, max_steps=10,
        sigma=0.1, hold_residual=False, variance_reduction=False, learning_rate=3e-3 if task.full_batch else None,
    )  # fmt: skip
    yield Method("StoCuReNU, published", "StoCuReNU, published", published)
    if n_parameters > DENSE_PARAMETERS or n_parameters * len(task.X) > DENSE_LIMIT:
        return
    dense = CuReNU(L=5.0, solver="dense", max_steps=1, hold_residual=False)
    yield Method("CuReNU dense, published", "CuReNU dense, published", dense)
    yield Method("CuReNU dense, 3 steps", "CuReNU dense, adaptive", CuReNU(solver="dense", max_steps=3))
    yield Method("Newton, pseudo-inverse", "Newton, pseudo-inverse", DenseNewton())
    yield Method("Newton, damping 1e-3", "Newton, damped", DenseNewton(1e-3))
