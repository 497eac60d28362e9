"""Weaken the parameters that matter for the erased rows, or blur those that no retained row holds fast."""

from __future__ import annotations

import time
from numbers import Real
from typing import Any

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.unlearners._heuristic import RowHeuristic
from sk_unlearn.unlearners._minibatch import batches, training_batch_size
from sk_unlearn.unlearners._watch import Watch, stored_part
from sk_unlearn.unlearners.base import UnlearningProblem, UnlearningResult
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._random import torch_generator

__all__ = ["SSD", "FisherForgetting", "dampening_factors"]

# Rows whose single gradients make up the diagonal Fisher matrix, and the bytes that those of one chunk may take.
_FISHER_ROWS = 4096
_CHUNK_BYTES = 2**27
_MAX_HALVINGS = 60


class SSD(RowHeuristic):
    r"""Selective synaptic dampening: shrink the parameters that matter more for the erased rows than for all rows.

    With the importance I of a parameter, the mean of the squared gradients of batches, over the erased rows E and over
    all trained rows D,

    .. math:: w_j \leftarrow \min(\lambda I_{D,j} / I_{E,j}, 1)\, w_j \quad\text{where}\quad I_{E,j} > \alpha I_{D,j}

    One step, no training.

    Parameters
    ----------
    alpha : float, default=5.0
        How many times more a parameter must matter for the erased rows to be selected. Smaller forgets more.

    dampening : float, default=1.0
        λ. Smaller shrinks the selected ones more.

    Notes
    -----
    Batches have the same size over both sets (the net's, or the number of erased rows where that is less): the
    gradient of a larger batch is smaller.

    The published settings [1]_ are ``SSD(alpha=10.0, dampening=1.0)``; the paper adjusts alpha to each data set.

    References
    ----------
    .. [1] Foster, Schoepf and Brintrup, "Fast machine unlearning without retraining through selective synaptic
       dampening", AAAI 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import SSD
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=SSD(alpha=2.0), random_state=0).fit(X, y)
    >>> est.forget(X[:50]).unlearning_report_.parameters_moved
    True
    """

    _parameter_constraints = {  # noqa: RUF012
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "dampening": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, alpha: float = 5.0, *, dampening: float = 1.0) -> None:
        self.alpha = alpha
        self.dampening = dampening

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        started, w = time.perf_counter(), problem.parameters
        size = min(training_batch_size(problem), problem.erased.n_rows)
        erased, n_erased = _sum_of_squared_gradients(problem.erased, w, size, problem)
        retained, n_retained = _sum_of_squared_gradients(stored_part(problem.retained), w, size, problem)
        of_all, of_erased = (erased + retained) / (n_erased + n_retained), erased / n_erased
        factor = dampening_factors(of_erased, of_all, self.alpha, self.dampening)
        n_selected = int((factor < 1).sum())
        if not n_selected:
            reason = f"no parameter matters {self.alpha:g} times more for the erased rows; lower alpha"
            return UnlearningResult(w.clone(), Status.COMPLETED, reason)
        watch = Watch(problem)
        return _one_step(problem, watch, factor * w, f"dampened {n_selected} of {w.numel()} parameters", started)


class FisherForgetting(RowHeuristic):
    r"""Add noise to the parameters, the more the less the retained rows hold them fast.

    .. math:: w \leftarrow w + \mathcal N\bigl(0, \alpha (F + \mu)^{-1}\bigr), \qquad
        F_j = \operatorname{mean}_{i \in R} (\nabla_j \ell_i)^2

    F is the diagonal of the empirical Fisher matrix of the retained rows.

    Parameters
    ----------
    alpha : "auto" or float, default="auto"
        Scale of the noise's variance. "auto" takes the largest, by factors of two, that leaves the loss on retained
        rows (at most 1,024) within a hundredth of what training has gained over a constant prediction.

    damping : float, default=0.1
        μ, as a multiple of the mean entry of F.

    Notes
    -----
    It moves at random, and no more towards a retrained model than elsewhere: what it does to the erased rows is that
    of any noise the retained rows can bear. Without damping, a parameter that no retained row feels, such as the
    weights of a dead unit or of a class that has gone, gets noise without bound.

    F is taken over 4,096 retained rows where there are more, each by its own gradient.

    The published settings [1]_ are ``FisherForgetting(alpha=1e-6, damping=0.0)``.

    References
    ----------
    .. [1] Golatkar, Achille and Soatto, "Eternal sunshine of the spotless net", CVPR 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.unlearners import FisherForgetting
    >>> X, y = load_iris(return_X_y=True)
    >>> est = UnlearnableClassifier(unlearner=FisherForgetting(), random_state=0).fit(X, y)
    >>> est.forget(X[:5]).unlearning_report_.parameters_moved
    True
    """

    _parameter_constraints = {  # noqa: RUF012
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "damping": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, alpha: float | str = "auto", *, damping: float = 0.1) -> None:
        self.alpha = alpha
        self.damping = damping

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem; see :meth:`sk_unlearn.unlearners.Unlearner.unlearn`."""
        self._validate_params()
        started, w = time.perf_counter(), problem.parameters
        fisher = _diagonal_fisher(stored_part(problem.retained), w, problem)
        held = fisher + self.damping * fisher.mean()
        noise = torch.randn(w.shape, dtype=w.dtype, device=w.device, generator=torch_generator(problem.rng, w.device))
        # Nothing holds a parameter of no Fisher information; without damping it is left where it is.
        noise = torch.where(held > 0, noise * held.clamp_min(torch.finfo(w.dtype).tiny).rsqrt(), 0.0)
        watch = Watch(problem)
        alpha = _bearable_scale(watch, w, noise) if self.alpha == "auto" else float(self.alpha)
        return _one_step(problem, watch, w + alpha**0.5 * noise, f"added noise of scale alpha = {alpha:.3g}", started)


def _bearable_scale(watch: Watch, w: Tensor, noise: Tensor) -> float:
    """Return the largest alpha, by factors of two from noise as long as the parameters, that the loss tolerates."""
    alpha = float(w.norm() / noise.norm().clamp_min(torch.finfo(w.dtype).tiny)) ** 2
    for _ in range(_MAX_HALVINGS):
        if not watch.harms(w + alpha**0.5 * noise):
            break
        alpha /= 2
    return alpha


def _one_step(problem: UnlearningProblem, watch: Watch, w: Tensor, reason: str, started: float) -> UnlearningResult:
    record: dict[str, Any] = {
        "step": 1,
        **watch.losses(w),
        "step_norm": float((w - problem.parameters).norm()),
        "seconds": time.perf_counter() - started,
    }
    problem.report_step(record)
    status, reason = watch.verdict(w, Status.COMPLETED, reason)
    return UnlearningResult(w, status, reason, trace=[record])


def dampening_factors(of_erased: Tensor, of_all: Tensor, alpha: float, dampening: float) -> Tensor:
    """Return min(dampening * of_all / of_erased, 1) where of_erased > alpha * of_all, and 1 elsewhere.

    Parameters
    ----------
    of_erased, of_all : Tensor of shape (d,)
        Importance of each parameter for the erased rows and for all rows, not negative.
    alpha, dampening : float
        As :class:`SSD` takes them.

    Returns
    -------
    factors : Tensor of shape (d,)
        In [0, 1], to multiply the parameters with.
    """
    ratio = (dampening * of_all / of_erased.clamp_min(torch.finfo(of_all.dtype).tiny)).clamp_max(1.0)
    return torch.where(of_erased > alpha * of_all, ratio, 1.0)


def _sum_of_squared_gradients(
    risk: EmpiricalRisk, w: Tensor, size: int, problem: UnlearningProblem
) -> tuple[Tensor, int]:
    """Return the squared loss gradients of the batches of one pass, summed, and the number of batches."""
    total, n_batches, penalty = torch.zeros_like(w), 0, risk.penalty_gradient(w)
    for rows in batches(risk, size, problem.rng):
        total += (risk.gradient(w, rows) - penalty).square()
        n_batches += 1
    return total, n_batches


def _diagonal_fisher(risk: EmpiricalRisk, w: Tensor, problem: UnlearningProblem) -> Tensor:
    rows = risk.sample(_FISHER_ROWS, problem.rng)
    size = max(1, min(risk.chunk_size, _CHUNK_BYTES // (w.numel() * w.element_size())))
    total = torch.zeros_like(w)
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        # Each row's part of their mean, as a gradient of its own: by its mass in units of the mean one.
        total += (len(chunk) * risk.row_gradients(w, chunk)).square().sum(0)
    return total / len(rows)
