"""What every unlearning algorithm is given and what it hands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.protocol import Risk
from sk_unlearn.training.recorder import TrainingRecorder

__all__ = ["Unlearner", "UnlearningProblem", "UnlearningResult"]


@dataclass(frozen=True)
class UnlearningProblem:
    """One deletion (or rectification), as an algorithm sees it.

    Attributes
    ----------
    parameters : Tensor of shape (d,)
        The fitted parameters w₀ that know the erased rows.

    retained : Risk
        The empirical risk F over the rows that count *after* the change. A rectified row is among them with its new
        content.

    erased : EmpiricalRisk
        The risk over the rows that leave, with their old content.

    gradient : Tensor of shape (d,)
        ∇F(w₀). It comes from the changed rows alone, so that it costs nothing that grows with the training set.

    residual : Tensor of shape (d,)
        The gradient r that training left at its end, ∇F_D(w₀) over all rows D: a fitted network is not stationary.

    rng : numpy.random.Generator
        The source of all randomness.

    net : skorch.NeuralNet
        The fitted net, to read settings from; not to be changed.

    retrain : callable
        Trains a fresh net on the rows that count after the change, as ``fit`` did, and returns it. With ``warm=True``
        and a number of ``epochs`` it continues from w₀ instead, or from the flat parameters ``start``. Works on copies.

    report_step : callable
        Takes one record a step, for progress display.

    recording : object
        What the unlearner's :class:`TrainingRecorder` recorded when the present parameters were trained, as of the last
        request. None where there is no such recording: ``fit`` ran with an unlearner that records nothing, or
        ``partial_fit`` or another unlearner came since.

    erased_rows : ndarray of int64 or None
        Numbers of the rows that leave (or, for a rectification, change) among the stored rows that had entered a
        gradient before the request, ascending; a recording with one entry a trained row is in that order. None where
        rows are not stored.
    """

    parameters: Tensor
    retained: Risk
    erased: EmpiricalRisk
    gradient: Tensor
    residual: Tensor
    rng: np.random.Generator
    net: NeuralNet
    retrain: Callable[..., NeuralNet]
    report_step: Callable[[Mapping[str, Any]], None] = field(default=lambda record: None)
    recording: Any = None
    erased_rows: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class UnlearningResult:
    """What an algorithm hands back; the estimator decides whether to commit it.

    Attributes
    ----------
    parameters : Tensor of shape (d,)
        The parameters after the change.

    trace : list of dict
        One record a step.

    converged : bool
        Whether the algorithm met its own criterion.

    stop_reason : str
        Why it ended, in words.

    diagnostics : dict
        What is known about the step before and after: gradient norms, curvature, memory, solver.

    gradient : Tensor of shape (d,) or None
        An estimate of ∇F at the new parameters, when the algorithm has one.

    holds_residual : bool
        True when the new point solves ∇F(w) = r for the residual r of training, or for ``residual``: that then stays
        the target of later requests. Otherwise later requests start from the gradient at the new point.

    residual : Tensor of shape (d,) or None
        The target that was solved for, where it is not r itself.

    net : skorch.NeuralNet or None
        A net trained anew, from which buffers and frozen parameters are taken too.

    recording : object
        The recording as it is after the change, without anything of the erased rows. None drops it, but for a net
        trained anew, which brings a new one.
    """

    parameters: Tensor
    trace: list[dict[str, Any]]
    converged: bool
    stop_reason: str
    diagnostics: dict[str, Any] = field(default_factory=dict)
    gradient: Tensor | None = None
    holds_residual: bool = False
    residual: Tensor | None = None
    net: NeuralNet | None = None
    recording: Any = None


class Unlearner(BaseEstimator):
    """Base class of all unlearning algorithms.

    A subclass stores its settings in ``__init__`` (so that it clones and nests like any scikit-learn estimator),
    declares them in ``_parameter_constraints`` and implements :meth:`unlearn`.
    """

    _parameter_constraints: dict[str, Any] = {}  # noqa: RUF012  scikit-learn's convention
    #: Whether the algorithm reads retained rows, and so needs ``keep_training_set=True``.
    needs_rows = False
    #: Whether it finds the optimum over the retained rows when the risk is a quadratic that was trained to its optimum.
    #: :mod:`sk_unlearn.utils.estimator_checks` holds whoever claims it to it.
    exact_on_quadratics = False
    #: Whether its recorder changes the parameters that training arrives at, so that retraining must have it too.
    changes_training = False
    #: Whether it goes for the model that retraining would give. False where it only makes the model wrong on the erased
    #: rows, or blurs it: how a sequence of requests compares with retraining is then no measure of it.
    aims_at_retrained = True
    #: Whether it compares class probabilities, and so is for classifiers whose criterion takes logits or probabilities.
    needs_logits = False
    #: Whether it is for modules that are one linear layer only.
    #: :mod:`sk_unlearn.utils.estimator_checks` then checks it on such a module.
    requires_linear_module = False

    def recorder(self) -> TrainingRecorder | None:
        """Return a new recorder for one training, or None when nothing of it needs to be watched."""
        return None

    def unlearn(self, problem: UnlearningProblem) -> UnlearningResult:
        """Solve one problem.

        Parameters
        ----------
        problem : UnlearningProblem
            What is to be undone. Nothing in it may be changed.

        Returns
        -------
        result : UnlearningResult
            The new parameters and how they came about.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement unlearn(problem).")
