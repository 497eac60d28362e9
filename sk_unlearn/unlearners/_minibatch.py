"""A loop over batches, which the first-order algorithms share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import LRScheduler
from torch import Tensor, nn

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.unlearners._watch import Watch, stored_part
from sk_unlearn.unlearners.base import UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status

__all__ = ["MinibatchLoop", "annealed", "batches", "training_batch_size"]

Rows = NDArray[np.int64]


def training_batch_size(problem: UnlearningProblem) -> int:
    """Return the size of the net's training batches."""
    net = problem.net
    size = int(net.get_params_for("iterator_train").get("batch_size", net.batch_size))
    return max(1, problem.retained.n_rows) if size == -1 else size


def annealed(problem: UnlearningProblem, n_epochs: int) -> tuple[str, LRScheduler]:
    """Return a callback that anneals the rate to zero along a cosine while a net trains on the retained rows."""
    n_batches = -(-problem.retained.n_rows // training_batch_size(problem))
    policy = torch.optim.lr_scheduler.CosineAnnealingLR
    return "anneal", LRScheduler(policy=policy, step_every="batch", T_max=n_batches * n_epochs)


def batches(risk: EmpiricalRisk, size: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Cut all rows of a risk, in random order, into batches of at most the given size and as even as possible."""
    rows = rng.permutation(risk.sample(risk.n_rows, rng))
    yield from np.array_split(rows, -(-len(rows) // size)) if len(rows) else ()


class MinibatchLoop:
    """Adam on a copy of the flat parameters, with a trace.

    Adam, because its steps are as long as the learning rate says whatever the scale of a loss: one default then suits
    nets and losses of many kinds.

    Parameters
    ----------
    problem : UnlearningProblem
        What is to be undone.

    learning_rate : float
        Of Adam.

    moving : bool Tensor of shape (d,), optional
        Which parameters move; the others stay bit for bit. None for all.
    """

    def __init__(self, problem: UnlearningProblem, learning_rate: float, moving: Tensor | None = None) -> None:
        self.problem = problem
        self.watch: Watch = Watch(problem)
        self.trace: list[dict[str, Any]] = []
        self._parameter = nn.Parameter(problem.parameters.clone())
        self._optimiser = torch.optim.Adam([self._parameter], lr=learning_rate)
        self._size = training_batch_size(problem)
        self._moving = moving
        self._started = time.perf_counter()

    @property
    def w(self) -> Tensor:
        """The present parameters, not to be changed."""
        return self._parameter.detach()

    def erased_batches(self) -> Iterator[Rows]:
        """One pass over the erased rows."""
        return batches(self.problem.erased, self._size, self.problem.rng)

    def retained_batches(self) -> Iterator[Rows]:
        """One pass over the stored rows that stay."""
        return batches(stored_part(self.problem.retained), self._size, self.problem.rng)

    def paired_batches(self, other: EmpiricalRisk | None = None) -> Iterator[tuple[Rows, Rows]]:
        """One pass over the retained rows, each batch with one of other rows; these start over when they end.

        The other rows are the erased ones unless a risk over others is given.
        """
        other = self.problem.erased if other is None else other
        following: Iterator[Rows] = iter(())
        for retained in self.retained_batches():
            batch = next(following, None)
            if batch is None:
                following = batches(other, self._size, self.problem.rng)
                batch = next(following)
            yield retained, batch

    def mixed_pass(self, other: EmpiricalRisk) -> None:
        """Train for one pass on the retained rows, and on other rows that count as much as the erased ones did."""
        retained, erased_mass = self.problem.retained, self.problem.erased.mass
        share = erased_mass / (erased_mass + retained.mass)
        for retained_rows, rows in self.paired_batches(other):
            gradient = (1 - share) * retained.gradient(self.w, retained_rows)
            self.step(gradient + share * other.gradient(self.w, rows))
        self.record()

    def step(self, gradient: Tensor) -> None:
        """Take one step against the gradient."""
        self._parameter.grad = gradient if self._moving is None else gradient * self._moving
        self._optimiser.step()

    def try_step(self, gradient: Tensor) -> bool:
        """Take one step and record it, or stay where it would harm the retained rows; tell which."""
        before = self.w.clone()
        self.step(gradient)
        if self.watch.harms(self.w):
            with torch.no_grad():
                self._parameter.copy_(before)
            return False
        self.record()
        return True

    def record(self) -> None:
        """Append the present losses to the trace, as one more pass or step, and report them."""
        self.trace.append(
            {
                "step": len(self.trace) + 1,
                **self.watch.losses(self.w),
                "step_norm": float((self.w - self.problem.parameters).norm()),
                "seconds": time.perf_counter() - self._started,
            }
        )
        self.problem.report_step(self.trace[-1])

    def result(self, status: Status, reason: str, **more: Any) -> UnlearningResult:
        """Return the present parameters, with what else the result has to tell.

        The status is ``HARMED_RETAINED`` where the retained loss has risen markedly.
        """
        status, reason = self.watch.verdict(self.w, status, reason)
        return UnlearningResult(self.w.clone(), status, reason, trace=self.trace, **more)
