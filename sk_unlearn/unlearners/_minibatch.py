"""A loop over batches, which the first-order algorithms share, and an eye on the loss of retained and erased rows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.protocol import Risk
from sk_unlearn.unlearners._ending import notes_on_standing_still
from sk_unlearn.unlearners.base import UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status

__all__ = ["AT_CHANCE", "TOO_DEAR", "MinibatchLoop", "Watch", "batches", "stored_part", "training_batch_size"]

Rows = NDArray[np.int64]

# Retained rows on which the loss is watched: enough for its mean, few enough to cost less than a pass.
_WATCHED_ROWS = 1024
# A rise of the retained loss by this share of what training has gained over a constant prediction is a marked one.
_MARKED_RISE = 0.1
# An algorithm that can stop in time stops before this share.
_TOLERATED_RISE = 0.01

# Why a method that pushes the erased rows' loss up to chance ends.
AT_CHANCE = "the erased rows' loss reached chance"
TOO_DEAR = "a further step would have raised the loss on retained rows markedly"


def stored_part(risk: Risk) -> EmpiricalRisk:
    """Return the risk over the stored rows that stay, without what a rectification adds or a foreign row takes away."""
    stored = getattr(risk, "stored", None)
    if stored is None:
        raise TypeError(f"problem.retained must be a risk over stored rows, got {type(risk).__name__}.")
    return stored


def training_batch_size(problem: UnlearningProblem) -> int:
    """Return the size of the net's training batches."""
    net = problem.net
    size = int(net.get_params_for("iterator_train").get("batch_size", net.batch_size))
    return max(1, problem.retained.n_rows) if size == -1 else size


def batches(risk: EmpiricalRisk, size: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Cut all rows of a risk, in random order, into batches of at most the given size and as even as possible."""
    rows = rng.permutation(risk.sample(risk.n_rows, rng))
    yield from np.array_split(rows, -(-len(rows) // size)) if len(rows) else ()


class Watch:
    """The loss of erased and of retained rows along the way.

    The scale is what training has gained: the loss on retained rows if each got the mean output, which knows nothing
    of the row, less their loss at the fitted parameters.

    Parameters
    ----------
    problem : UnlearningProblem
        Whose retained rows are stored.
    """

    def __init__(self, problem: UnlearningProblem) -> None:
        self._retained, self._erased, self._fitted = problem.retained, problem.erased, problem.parameters
        self._stored = stored_part(problem.retained)
        self._rows = self._stored.sample(_WATCHED_ROWS, problem.rng)

    @cached_property
    def _before(self) -> float:
        return self.retained_loss(self._fitted)

    @cached_property
    def _mean_output(self) -> Tensor:
        return self._stored.outputs(self._fitted, self._rows).mean(0)

    @cached_property
    def _fitted_loss(self) -> float:
        return self._stored.without_penalty(self._fitted, self._stored.value(self._fitted, self._rows))

    @cached_property
    def _constant_loss(self) -> float:
        return self._stored.value_at_output(self._mean_output, self._rows)

    @property
    def _gained(self) -> float:
        return self._constant_loss - self._fitted_loss

    @property
    def share_left(self) -> float:
        """Loss on the watched rows at the fitted parameters, over that if each got the mean output."""
        return self._fitted_loss / self._constant_loss if self._constant_loss > 0 else float("inf")

    @cached_property
    def chance(self) -> float:
        """The loss of the erased rows if each got the mean output."""
        return self._erased.value_at_output(self._mean_output)

    def retained_loss(self, w: Tensor) -> float:
        """Return the risk on the watched rows."""
        return self._retained.value(w, self._rows)

    def erased_loss(self, w: Tensor) -> float:
        """Return the mean loss of the erased rows, without penalty."""
        return self._erased.without_penalty(w, self._erased.value(w))

    def losses(self, w: Tensor) -> dict[str, Any]:
        """Return both losses, as a trace names them."""
        return {"erased_loss": self.erased_loss(w), "retained_loss": self.retained_loss(w)}

    def harms(self, w: Tensor, share: float = _TOLERATED_RISE) -> bool:
        """Tell whether the retained loss has risen by more than a share of what training has gained."""
        return not self.retained_loss(w) - self._before <= share * max(self._gained, 0.0)

    def verdict(self, w: Tensor, status: Status, reason: str) -> tuple[Status, str]:
        """Return status and stop_reason as given, or ``HARMED_RETAINED`` if the retained loss has risen markedly."""
        if not self.harms(w, _MARKED_RISE):
            return status, reason
        change = f"{self._before:.3g} to {self.retained_loss(w):.3g}"
        return Status.HARMED_RETAINED, f"{reason}; but the loss on retained rows rose markedly, from {change}"


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
    """

    def __init__(self, problem: UnlearningProblem, learning_rate: float) -> None:
        self.problem = problem
        self.watch = Watch(problem)
        self.trace: list[dict[str, Any]] = []
        self._parameter = nn.Parameter(problem.parameters.clone())
        self._optimiser = torch.optim.Adam([self._parameter], lr=learning_rate)
        self._size = training_batch_size(problem)
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

    def paired_batches(self) -> Iterator[tuple[Rows, Rows]]:
        """One pass over the retained rows, each batch with one of erased rows; these start over when they end."""
        erased: Iterator[Rows] = iter(())
        for retained in self.retained_batches():
            batch = next(erased, None)
            if batch is None:
                erased = self.erased_batches()
                batch = next(erased)
            yield retained, batch

    def step(self, gradient: Tensor) -> None:
        """Take one step against the gradient."""
        self._parameter.grad = gradient
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

    def result(self, status: Status, reason: str) -> UnlearningResult:
        """Return the present parameters; ``HARMED_RETAINED`` where the retained loss has risen markedly."""
        status, reason = self.watch.verdict(self.w, status, reason)
        notes = notes_on_standing_still(self.problem, self.w)
        return UnlearningResult(self.w.clone(), status, reason, trace=self.trace, notes=notes)
