"""What every unlearning algorithm is given and what it hands back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor

from sk_unlearn.objective import EmpiricalRisk

__all__ = ["Linearised", "Risk", "TrainingRecorder", "Unlearner", "UnlearningProblem", "UnlearningResult"]


class Linearised(Protocol):
    """A risk around one point: value, gradient and curvature products."""

    value: float
    gradient: Tensor

    def hessian(self, v: Tensor) -> Tensor:
        """Multiply the Hessian with v, both of shape (d,)."""

    def ggn(self, v: Tensor) -> Tensor:
        """Multiply the generalised Gauss-Newton matrix with v."""

    def fisher(self, v: Tensor) -> Tensor:
        """Multiply the Fisher matrix with v."""


class Risk(Protocol):
    """A mean loss over rows plus the weight-decay penalty, as a function of the flat parameters.

    :class:`~sk_unlearn.objective.EmpiricalRisk` is one over stored rows;
    :class:`~sk_unlearn.surrogate.CombinedRisk` one where rows are missing.
    """

    @property
    def n_rows(self) -> int:
        """Number of rows in the mean."""

    @property
    def mass(self) -> float:
        """Sum of the weights of those rows."""

    def sample(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw row numbers uniformly without replacement."""

    def value(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> float:
        """Evaluate at w over the given rows, all by default."""

    def gradient(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> Tensor:
        """Differentiate at w over the given rows, all by default."""

    def linearise(self, w: Tensor, rows: NDArray[np.int64] | None = None) -> Linearised:
        """Differentiate at w and keep what further products need."""


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


class TrainingRecorder(Callback):
    """Base class of what an unlearner watches, or does, while the net trains.

    It is a skorch callback: the estimator installs it for ``fit`` (and wherever a net is trained afresh), behind all
    other callbacks, and takes it away afterwards. A subclass implements some of skorch's hooks, such as
    ``on_grad_computed`` or ``on_batch_end``, and :meth:`recording`.

    Attributes
    ----------
    rows : ndarray of int64 or None
        Numbers, among the rows given to training, of those in the present training batch; None while validating.

    trained : ndarray of int64 or None
        Once training has ended, the numbers of the rows that have entered a gradient, ascending. A recording with one
        entry a row must hold these, in this order.
    """

    rows: NDArray[np.int64] | None = None
    trained: NDArray[np.int64] | None = None

    def begin(self, net: NeuralNet, n_rows: int, mass: float, rng: np.random.Generator) -> None:
        """Get ready; called once, before training.

        Parameters
        ----------
        net : skorch.NeuralNet
            Initialised, not trained.

        n_rows : int
            Number of rows given to training. The net may hold some of them out.

        mass : float
            Sum of their weights.

        rng : numpy.random.Generator
            The source of all randomness.
        """

    def recording(self, net: NeuralNet) -> Any:
        """Return what is to be kept; called once, after training.

        Parameters
        ----------
        net : skorch.NeuralNet
            Trained.

        Returns
        -------
        recording : object
            Picklable; handed to the unlearner as ``problem.recording``.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement recording(net).")


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


def numpy_seed(rng: np.random.Generator) -> int:
    """Draw a seed that torch takes."""
    return int(rng.integers(2**31 - 1))


def torch_generator(rng: np.random.Generator, device: torch.device) -> torch.Generator:
    """Derive a generator on the given device."""
    return torch.Generator(device=device).manual_seed(numpy_seed(rng))


@contextmanager
def seeded_torch(rng: np.random.Generator | int) -> Iterator[None]:
    """Seed torch's global generators inside the context and put them back as they were."""
    seed = rng if isinstance(rng, int) else numpy_seed(rng)
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
