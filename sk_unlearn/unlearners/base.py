"""What every unlearning algorithm is given and what it hands back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from skorch import NeuralNet
from torch import Tensor

from sk_unlearn.privacy import Certificate
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.layer_inputs import InputChange
from sk_unlearn.risks.output_layer import KeptFeatures
from sk_unlearn.risks.protocol import Risk
from sk_unlearn.risks.tilted import TiltedRisk
from sk_unlearn.training.ledger import Trained
from sk_unlearn.training.recorder import TrainingRecorder
from sk_unlearn.training.start import TrainingStart
from sk_unlearn.unlearners.status import Status
from sk_unlearn.utils._lazy import cached_property
from sk_unlearn.utils._versioned import VersionedMixin

__all__ = ["Released", "Unlearner", "UnlearnerTags", "UnlearningProblem", "UnlearningResult"]


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
        A copy of the fitted net that shares its parameters, to read settings from; not to be changed.

    retrain : callable
        Trains a fresh net on the rows that count after the change, as ``fit`` did, and returns a
        :class:`~sk_unlearn.training.Trained`, to be handed back in the result. With ``share`` below 1 it takes that
        share of the steps, see :class:`Retrain`, and with ``teacher`` its targets are what the fitted net predicts with
        these flat parameters (a ValueError where the loss takes no predictions). Rates that are raised for fewer steps
        and do not hold are lowered in further attempts; ``at_once=True`` raises a ValueError instead. With
        ``warm=True`` and a number of ``epochs`` it continues from w₀ instead, or from the flat parameters ``start``.
        With ``start`` and without ``warm`` it goes on from there in a net that is built anew, whose buffers and frozen
        parameters have seen no row; with ``epochs=0`` only the statistics of its BatchNorm layers are taken over the
        rows. Works on copies.

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

    start : TrainingStart or None
        Where training started and the steps that it took; None where that is not known.

    layer_inputs : InputChange or None
        What the rows put into each linear map of the module, before and after the change; None where that is not known.

    features : KeptFeatures or None
        What the output layer is given for some retained rows at the fitted parameters, where that is known.

    why_not_shorter : str
        Why ``retrain`` takes no ``share`` below 1; empty where it does.

    n_steps : int
        How many steps the training that would be shortened had; 0 where that is not known.

    n_to_train : int
        How many rows a training anew would read, those included that the first one skipped; 0 where that is not known.

    set_aside_at : float
        About the norm of what there was to be undone when a net that was trained anew was last set aside; 0 where none
        was, since the present one was trained.

    is_estimated : bool
        Whether ``gradient`` has errors of earlier requests in it, which estimated their part on a few rows.

    norm_left : float
        The largest norm that ``residual`` had in requests before, since training; 0 without one. They may let it fade.

    is_built_in : bool
        Whether the net is the package's own, of which nobody can change how it ends.
    """

    parameters: Tensor
    retained: Risk
    erased: EmpiricalRisk
    gradient: Tensor
    residual: Tensor
    rng: np.random.Generator
    net: NeuralNet
    retrain: Callable[..., Trained]
    report_step: Callable[[Mapping[str, Any]], None] = field(default=lambda record: None)
    recording: Any = None
    erased_rows: NDArray[np.int64] | None = None
    start: TrainingStart | None = None
    layer_inputs: InputChange | None = None
    features: KeptFeatures | None = None
    why_not_shorter: str = ""
    n_steps: int = 0
    n_to_train: int = 0
    set_aside_at: float = 0.0
    is_estimated: bool = False
    norm_left: float = 0.0
    is_built_in: bool = False

    def known_from(self, **sources: Callable[[], Tensor]) -> None:
        """Say how some of the vectors are had anew, for :meth:`let_go`.

        Parameters
        ----------
        **sources : callable
            Under the names of the attributes; each returns the same vector to the bit.
        """
        vars(self)["_sources"] = sources

    def let_go(self, *names: str) -> None:
        """Hold vectors no longer that can be had anew; they then are, each time they are asked for.

        Vectors as long as the parameters are most of what a request on a large net takes, and the fitted point is next
        to never asked for once a method has left it. What :func:`dataclasses.replace` makes of a problem holds its own.

        Parameters
        ----------
        *names : str
            Of the attributes; one that cannot be had anew is held as before.
        """
        for name in vars(self).get("_sources", {}).keys() & set(names):
            vars(self).pop(name, None)

    def __getattr__(self, name: str) -> Tensor:
        source = vars(self).get("_sources", {}).get(name)
        if source is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return source()

    def with_exact_gradient(self) -> UnlearningProblem:
        """Return the problem with its gradient taken over all retained rows, where it is an estimate."""
        if not self.is_estimated:
            return self
        return replace(self, gradient=self.retained.gradient(self.parameters), is_estimated=False)

    @cached_property
    def objective(self) -> TiltedRisk:
        """Φ(w) = F(w) - rᵀw: its minimum undoes the deletion and nothing else."""
        return TiltedRisk(
            self.retained, self.residual, start=lambda: self.parameters, risk_gradient=lambda: self.gradient
        )

    @cached_property
    def untilted(self) -> TiltedRisk:
        """F itself, with a linear term of zero: its minimum also finishes the training, as published methods do."""
        return self.objective.with_tilt(self.residual.new_zeros(len(self.residual)))


@dataclass(frozen=True)
class Released:
    """A problem after weights that no retained row uses went back to what they were without data.

    Attributes
    ----------
    parameters : Tensor of shape (d,)
        Those from which the method went on.

    residual : Tensor of shape (d,)
        The residual there: what the gradient of the retained risk is to come to for the deletion to be undone.
    """

    parameters: Tensor
    residual: Tensor


@dataclass(frozen=True)
class UnlearningResult:
    """What an algorithm hands back; the estimator decides whether to commit it.

    Attributes
    ----------
    parameters : Tensor of shape (d,)
        The parameters after the change.

    status : Status
        How the algorithm ended.

    stop_reason : str
        The same in numbers: one sentence without a full stop, such as "gradient fell to 0.008 of its first norm".

    trace : list of dict
        One record a step.

    gradient : Tensor of shape (d,) or None
        An estimate of ∇F at the new parameters, when the algorithm has one.

    target : Tensor of shape (d,) or None
        What ∇F is meant to be at the new parameters, such as the residual r of training. Later requests hold it. None:
        later requests start from the gradient as it is there.

    is_estimated : bool
        Whether ``gradient`` was estimated on some rows, so that its error stays in the gradients of later requests.

    released : Released or None
        Where the method began, if it first took back what does not depend on the retained rows at all.

    features_moved : bool
        Whether what hidden layers make of the retained rows may have changed. False where nothing but the output layer
        moved, and weights that no retained row uses.

    features : KeptFeatures or None
        What the output layer is given for some retained rows, for the next request; of use only where the features have
        not moved.

    trained : Trained or None
        What ``problem.retrain`` returned, where that is the new model: buffers, frozen parameters and the role of each
        row are taken from it.

    recording : object
        The recording as it is after the change, without anything of the erased rows. None drops it, but for a net
        trained anew, which brings a new one.

    set_aside_at : float or None
        What ``problem.set_aside_at`` is to be for later requests; None leaves it as it was, unless the net was trained
        anew.

    n_products : int
        Curvature products spent.

    curvature_min, curvature_max : float
        Estimates of the extreme eigenvalues of the curvature at the fitted point; nan where not known.

    predicted_decrease, actual_decrease : float
        Of the objective, summed over the steps taken: by the model of it and as measured; nan where not known.

    solver : str
        Which solver was used.

    certificate : Certificate or None
        What is guaranteed by this request alone.

    notes : list of str
        What a reader of the report should know.

    extra : dict
        Whatever else the algorithm has to tell; plain numbers and strings. A name that the report has already is
        refused.

    Raises
    ------
    ValueError
        For a name in ``extra`` that is one of these attributes.
    """

    parameters: Tensor
    status: Status
    stop_reason: str = ""
    trace: list[dict[str, Any]] = field(default_factory=list)
    gradient: Tensor | None = None
    target: Tensor | None = None
    is_estimated: bool = False
    released: Released | None = None
    features_moved: bool = True
    features: KeptFeatures | None = None
    trained: Trained | None = None
    recording: Any = None
    set_aside_at: float | None = None
    n_products: int = 0
    curvature_min: float = float("nan")
    curvature_max: float = float("nan")
    predicted_decrease: float = float("nan")
    actual_decrease: float = float("nan")
    solver: str = ""
    certificate: Certificate | None = None
    notes: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        taken = {each.name for each in fields(self)} & set(self.extra)
        if taken:
            raise ValueError(f"extra must have names of its own; the result itself has {sorted(taken)}.")


@dataclass
class UnlearnerTags:
    """What an unlearning algorithm needs and claims; see :meth:`Unlearner.__unlearner_tags__`.

    Attributes
    ----------
    needs_rows : bool, default=False
        It reads retained rows, and so needs ``keep_training_set=True``.

    exact_on_quadratics : bool, default=False
        It finds the optimum over the retained rows when the risk is a quadratic that was trained to its optimum.
        :mod:`sk_unlearn.utils.estimator_checks` holds whoever claims it to it.

    changes_training : bool, default=False
        Its recorder changes the parameters that training arrives at, so that retraining must have it too.

    aims_at_retrained : bool, default=True
        It goes for the model that retraining would give. False where it only makes the model wrong on the erased rows,
        or blurs it: how a sequence of requests compares with retraining is then no measure of it.

    needs_logits : bool, default=False
        It compares class probabilities, and so is for classifiers whose criterion takes logits or probabilities.

    takes_estimates : bool, default=False
        It asks for the exact gradient itself where an estimate that has come over many requests will not do; see
        :meth:`UnlearningProblem.with_exact_gradient`. Other algorithms are always given the exact one.

    requires_linear_module : bool, default=False
        It is for modules that are one linear layer only. :mod:`sk_unlearn.utils.estimator_checks` then checks it on
        such a module.

    extra : tuple of str, default=()
        Names of what its results have in ``extra``. Checked against the report's own names before a request runs.
    """

    needs_rows: bool = False
    exact_on_quadratics: bool = False
    changes_training: bool = False
    aims_at_retrained: bool = True
    needs_logits: bool = False
    takes_estimates: bool = False
    requires_linear_module: bool = False
    extra: tuple[str, ...] = ()


class Unlearner(VersionedMixin, BaseEstimator):
    """Base class of all unlearning algorithms.

    A subclass stores its settings in ``__init__`` (so that it clones and nests like any scikit-learn estimator),
    declares them in ``_parameter_constraints`` and implements :meth:`unlearn`.
    """

    _parameter_constraints: dict[str, Any] = {}  # noqa: RUF012  scikit-learn's convention

    def __unlearner_tags__(self) -> UnlearnerTags:
        """Return what the algorithm needs and claims; a subclass changes the object that ``super()`` returns."""
        return UnlearnerTags()

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
