"""What a fitted estimator remembers for later requests, beside the net and the rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sk_unlearn.estimators._features import StoredFeatures
from sk_unlearn.estimators._since import SinceTraining
from sk_unlearn.risks.layer_inputs import LayerInputs
from sk_unlearn.risks.quadratic import CurvatureSketch
from sk_unlearn.rows import SetDigest
from sk_unlearn.training.start import Schedule, TrainingStart
from sk_unlearn.utils._numpy_state import NumpyStateMixin

__all__ = ["Anchor", "FittedState"]


@dataclass(frozen=True)
class Anchor(NumpyStateMixin):
    """What a deletion needs to know about the rows that stay, in numbers that do not grow with them.

    Attributes
    ----------
    residual : Tensor of shape (d,), on the CPU
        The gradient of the risk that training left, held as the target of every request.

    gradient : Tensor of shape (d,), on the CPU
        The gradient of the risk over the present rows at the present parameters.

    is_estimated : bool
        Whether its changes since it was last taken over all rows were estimated on a few.

    norm_left : float
        The largest norm that the residual had before requests since training, which may let it fade.

    mass : float
        Sum of the weights of the present rows.

    n_rows : int
        Their number.

    sketch : CurvatureSketch or None
        The curvature, when the rows themselves are not kept.

    chance : float
        Their mean loss if each got the mean output, when the rows themselves are not kept; else nan.

    inputs : LayerInputs or None
        What they put into each linear map; None where that is not known.
    """

    residual: Tensor
    gradient: Tensor
    mass: float
    n_rows: int
    sketch: CurvatureSketch | None = None
    chance: float = float("nan")
    inputs: LayerInputs | None = None
    is_estimated: bool = False
    norm_left: float = 0.0


@dataclass(frozen=True)
class FittedState:
    """Everything that a later request needs to know of the fit and of the requests since; never changed, only replaced.

    Attributes
    ----------
    seed : int
        Of initial weights and batches; requests derive theirs from it.

    dtype : numpy.dtype
        In which the net takes its rows.

    row_shape : tuple of int
        Shape of one row as it is given.

    filled : int64 ndarray or None
        Which columns of the net's input its features fill, where others had features that have gone and are zero; None
        where there are no others.

    chosen_by_validation : bool
        Whether a callback chose parameters or a learning rate by looking at held-out rows.

    n_partial_fits : int
        Calls of ``partial_fit`` so far.

    anchor : Anchor or None
        What is known about the rows that stay; None until it is taken over the stored rows, at the next request.

    recording : object
        What the unlearner's recorder recorded while the present parameters were trained; None without one.

    features : StoredFeatures or None
        What the output layer is given for some of the stored rows, as the last request found it.

    set_aside_at : float
        As for :class:`~sk_unlearn.unlearners.UnlearningProblem`.

    notes : tuple of str
        What every report should say of the training.

    start : TrainingStart or None
        Where training started and the steps that it took; None where that is not known or was not to be kept.

    schedule : Schedule or None
        The steps of the last full training, for a shorter one to follow; None as for `start`, and where the model has
        learnt by ``partial_fit`` alone.

    side_state : tuple of str
        Names of the buffers and frozen parameters that training changed and that no request estimates afresh.

    spread_gone : float
        For the built-in network, the share of a column's spread, in thousandths, that rows have taken with them since
        shift and scale were last taken over the stored rows.

    since : SinceTraining
        What has happened since the net was last trained from the start.

    trainable : tuple of str
        Names of the parameters that training has moved; empty in estimators of earlier versions.

    retained_set : SetDigest or None
        Of the stored rows; None until the first request.

    served : str
        SHA-256 of the parameters that predictions are served with, where the net has moved since; else empty.

    slices : tuple
        States in between of a training in slices; empty for others.
    """

    seed: int
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    chosen_by_validation: bool = False
    n_partial_fits: int = 0
    anchor: Anchor | None = None
    recording: Any = None
    features: StoredFeatures | None = None
    set_aside_at: float = 0.0
    notes: tuple[str, ...] = ()
    start: TrainingStart | None = None
    schedule: Schedule | None = None
    side_state: tuple[str, ...] = ()
    spread_gone: float = 0.0
    filled: NDArray[np.int64] | None = None
    since: SinceTraining = field(default_factory=SinceTraining)
    trainable: tuple[str, ...] = ()
    retained_set: SetDigest | None = None
    served: str = ""
    slices: tuple[Any, ...] = ()

    def after_training(self, notes: tuple[str, ...], side_state: tuple[str, ...]) -> FittedState:
        """Return the state of a net that was trained further, with what is to be told of that too."""
        return replace(
            self,
            notes=tuple(dict.fromkeys([*self.notes, *notes])),
            side_state=tuple(dict.fromkeys([*self.side_state, *side_state])),
        )
