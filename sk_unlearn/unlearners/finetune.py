"""Continue training on what is left."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import torch
from sklearn.utils._param_validation import Interval
from skorch.callbacks import LRScheduler

from sk_unlearn.objective import flat_parameters
from sk_unlearn.unlearners.base import Unlearner, UnlearningProblem, UnlearningResult

__all__ = ["FineTune"]


class FineTune(Unlearner):
    """Continue training on the retained rows from the fitted parameters: the warm start everybody tries first.

    It uses the net's own optimiser (with fresh state), batch size and loss. Nothing in it undoes the erased rows;
    they fade as training goes on.

    Parameters
    ----------
    n_epochs : int, default=1
        Passes over the retained rows.

    learning_rate : float, default=None
        First learning rate, annealed to zero along a cosine over the run. None takes the net's.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import FineTune
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=FineTune(n_epochs=2), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.n_steps
    2
    """

    needs_rows = True
    _parameter_constraints = {  # noqa: RUF012
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [None, Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, n_epochs: int = 1, *, learning_rate: float | None = None) -> None:
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        batch_size = problem.net.get_params_for("iterator_train").get("batch_size", problem.net.batch_size)
        n_rows = problem.retained.n_rows
        n_batches = 1 if batch_size == -1 else -(-n_rows // int(batch_size))
        anneal = LRScheduler(
            policy=torch.optim.lr_scheduler.CosineAnnealingLR, step_every="batch", T_max=n_batches * self.n_epochs
        )
        net = problem.retrain(
            warm=True, epochs=self.n_epochs, callbacks=[("anneal", anneal)], learning_rate=self.learning_rate
        )
        trace: list[dict[str, Any]] = []
        for step, epoch in enumerate(net.history[-self.n_epochs :], 1):
            trace.append({"step": step, "train_loss": epoch["train_loss"], "seconds": epoch["dur"]})
            problem.report_step(trace[-1])
        # Without the net: its BatchNorm statistics started from those of the erased rows and are better estimated anew.
        return UnlearningResult(flat_parameters(net), trace, True, f"trained for {self.n_epochs} more epochs")
