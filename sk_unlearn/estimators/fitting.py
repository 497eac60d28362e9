"""From rows to a fitted estimator: the net, its training, and what a deletion will need to know of it."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from skorch import NeuralNet
from skorch.callbacks import Callback

from sk_unlearn import distributed
from sk_unlearn.estimators._batch_norm import not_renewed
from sk_unlearn.estimators._cached_training import TrainingTask, cached_training, recorder_rng
from sk_unlearn.estimators._check import check_net, check_steady
from sk_unlearn.estimators._features import StoredFeatures
from sk_unlearn.estimators._handed_in import chance_loss
from sk_unlearn.estimators._inputs import cast_targets, cast_values, feature_dtype, warn_of_merged_rows
from sk_unlearn.estimators._nets import build_net, warn_of_methods_not_called
from sk_unlearn.estimators._problem import stored_risk
from sk_unlearn.estimators._receipts import begin_receipts, key_of
from sk_unlearn.estimators._request import Content
from sk_unlearn.estimators._slices import trained_in_slices
from sk_unlearn.estimators._spread import net_as_first, rows_of_all, same_net
from sk_unlearn.estimators._state import Anchor, FittedState
from sk_unlearn.estimators._trainable import trainable_names
from sk_unlearn.risks.empirical import flat_parameters
from sk_unlearn.risks.quadratic import CurvatureSketch
from sk_unlearn.rows import OutsideRows, RowRole, TrainingSet
from sk_unlearn.rows.storage import in_blocks
from sk_unlearn.training.ledger import Trained, train_rows, uses_validation_rows
from sk_unlearn.training.recorder import TrainingRecorder
from sk_unlearn.utils._journal import Journal
from sk_unlearn.utils._random import seeded_torch

if TYPE_CHECKING:
    from sk_unlearn.estimators.base import BaseUnlearnable

__all__ = [
    "FitTask",
    "begin_fit",
    "blank_net",
    "checked_net",
    "draft_of",
    "draw_seed",
    "end_fit",
    "first_anchor",
    "grown_anchor",
    "is_learnt",
    "new_net",
    "take_over",
    "train_net",
]

_SKETCH_RANK = 32
# What a fit learns; all of it is replaced by the next.
_LEARNT = frozenset(
    (
        "_journal", "_receipt_key", "classes_", "feature_names_in_", "n_features_in_", "net_", "receipts_",
        "target_shape_", "training_set_", "unlearning_history_", "unlearning_report_", "unlearning_state_",
    )
)  # fmt: skip


class FitTask(NamedTuple):
    """Validated rows, encoded targets, weights or None, and the seed of a training."""

    X: Any
    y: NDArray[Any]
    weight: NDArray[np.float64] | None
    seed: int


def draft_of(estimator: BaseUnlearnable) -> BaseUnlearnable:
    """Return an unfitted estimator with the same settings.

    ``fit`` works on it and takes it over at its end, so that a fit that fails leaves the fitted estimator as it was.
    """
    draft: BaseUnlearnable = object.__new__(type(estimator))
    draft.__dict__.update({name: value for name, value in estimator.__dict__.items() if not is_learnt(name)})
    return draft


def take_over(estimator: BaseUnlearnable, draft: BaseUnlearnable) -> BaseUnlearnable:
    """Give the estimator all that its draft has learnt in place of what it had learnt itself, at once."""
    # What somebody else put there meanwhile, such as scikit-learn for its callbacks.
    others = {
        name: value for name, value in estimator.__dict__.items() if not is_learnt(name) and name not in draft.__dict__
    }
    estimator.__dict__ = draft.__dict__ | others
    return estimator


def is_learnt(name: str) -> bool:
    """Tell whether an attribute of this name is one that a fit learns."""
    # By name, and not every name that ends with an underscore: a subclass may set attributes of its own before fit.
    return name in _LEARNT


def begin_fit(
    draft: BaseUnlearnable,
    X: Any,
    y: Any,
    sample_weight: ArrayLike | None,
    sample_id: Any = None,
    classes: ArrayLike | None = None,
) -> tuple[FitTask, Any]:
    """Validate the rows, learn the kind of target and draw the seed of the training.

    With `classes` a classifier learns these labels, of which y may lack some.

    Returns
    -------
    task : FitTask
    sample_id : object
        The identifiers, of all processes where several fit together.
    """
    warn_of_methods_not_called(draft.estimator)
    X, y, weight, ids = rows_of_all(draft, X, y, sample_weight, sample_id, reset=True)
    y = draft._learn_targets(y, classes)
    return FitTask(X, y, weight, draw_seed(draft)), ids


def draw_seed(estimator: BaseUnlearnable) -> int:
    """Draw the seed of a training, from which those of all later requests follow."""
    seed = int(check_random_state(estimator.random_state).randint(2**31 - 1))
    return distributed.from_first(seed) if distributed.is_active() else seed


def blank_net(estimator: BaseUnlearnable, X: Any, y: NDArray[Any], weight: NDArray[np.float64] | None) -> NeuralNet:
    """Build a net that knows the shapes of the data."""
    net = build_net(
        estimator.estimator, X, y, weight, classifier=estimator._classifier, n_outputs=estimator._n_outputs,
        device=estimator.device,
    )  # fmt: skip
    if not isinstance(estimator.estimator, NeuralNet):
        net.set_params(verbose=int(estimator.verbose or 0))
    return net


def new_net(
    estimator: BaseUnlearnable, X: Any, y: NDArray[Any], weight: NDArray[np.float64] | None
) -> tuple[NeuralNet, Any, NDArray[Any]]:
    """Build and initialise a net, in torch's present random state; and return rows and targets as it takes them."""
    net = blank_net(estimator, X, y, weight).initialize()
    return net, *_cast(estimator, net, X, y)


def checked_net(
    estimator: BaseUnlearnable, X: Any, y: NDArray[Any], weight: NDArray[np.float64] | None
) -> tuple[NeuralNet, Any, NDArray[Any]]:
    """Return what :func:`new_net` does, or raise where the net would train but could not forget or predict."""
    net, X_net, y_net = new_net(estimator, X, y, weight)
    check_net(net, X_net, y_net, weight, classifier=estimator._classifier, target_shape=y.shape[1:])
    return net, X_net, y_net


def _cast(estimator: BaseUnlearnable, net: NeuralNet, X: Any, y: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
    X_net = cast_values(X, feature_dtype(net, X))
    warn_of_merged_rows(X, X_net)
    return X_net, cast_targets(net, X_net, y, classifier=estimator._classifier)


def train_net(
    estimator: BaseUnlearnable,
    draft: BaseUnlearnable,
    task: FitTask,
    recorder: TrainingRecorder | None,
    ids: NDArray[Any] | None = None,
) -> tuple[Trained, Any, NDArray[Any]]:
    """Train a new net, or find it in the cache; and return rows and targets as it takes them.

    Parameters
    ----------
    estimator : BaseUnlearnable
        Its scikit-learn callbacks are told of every epoch.

    draft : BaseUnlearnable
        The one that is being fitted.

    task : FitTask

    recorder : TrainingRecorder or None

    ids : ndarray or None
        Identifiers of the rows as they are stored, where the training is one in slices.
    """
    X, y, weight, seed = task
    if draft._slicing is not None:
        with seeded_torch(seed):
            _, X_net, y_net = checked_net(draft, X, y, weight)
        trained = trained_in_slices(
            draft._slicing, Content(X_net, y_net, weight), ids, (), key=key_of(draft), seed=seed,
            blank=lambda rows: blank_net(draft, *rows),
        )  # fmt: skip
        return trained, X_net, y_net
    # Callbacks of scikit-learn wait for a training, so nothing is taken from the cache then.
    if draft.memory is None or getattr(estimator, "_skl_callbacks", None):
        with seeded_torch(seed):
            net, X_net, y_net = checked_net(draft, X, y, weight)
            trained = _train_with_callbacks(
                estimator, net, X_net, y_net, weight, recorder=recorder, rng=recorder_rng(seed)
            )
        return trained, X_net, y_net
    blank = blank_net(draft, X, y, weight)
    verbose, blank.verbose = blank.verbose, 0
    cached = TrainingTask(blank, X, y, weight, seed, draft._classifier, recorder, _hash_outside(X))
    trained = cached_training(draft.memory, cached, verbose=verbose)
    return trained, *_cast(draft, trained.net, X, y)


def _hash_outside(X: Any) -> str:
    """Return a hash of rows that stay outside, as they are now; empty for others."""
    if not isinstance(X, OutsideRows):
        return ""
    digest = blake2b()
    for _, block in in_blocks(X):
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def _train_with_callbacks(
    estimator: BaseUnlearnable,
    net: NeuralNet,
    X: Any,
    y: NDArray[Any],
    weight: NDArray[np.float64] | None,
    **options: Any,
) -> Trained:
    """Train, telling scikit-learn's callbacks about every epoch."""
    if not getattr(estimator, "_skl_callbacks", None):
        return train_rows(net, X, y, weight, **options)
    metadata = None if weight is None else {"sample_weight": weight}
    context = estimator._init_callback_context(max_subtasks=net.max_epochs)
    context.call_on_fit_task_begin(estimator=estimator, X=X, y=y, metadata=metadata)
    net.callbacks_.append(("scikit_learn", _EpochMessenger(estimator, context)))
    try:
        trained = train_rows(net, X, y, weight, **options)
    finally:
        del net.callbacks_[-1]
    context.call_on_fit_task_end(estimator=estimator, X=X, y=y, metadata=metadata)
    return trained


class _EpochMessenger(Callback):
    """Tell scikit-learn's callbacks about every epoch of skorch's loop."""

    def __init__(self, estimator: BaseUnlearnable, context: Any) -> None:
        self.estimator = estimator
        self.context = context

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        self.epoch = self.context.subcontext(task_name="epoch").call_on_fit_task_begin(estimator=self.estimator)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        if self.epoch.call_on_fit_task_end(estimator=self.estimator):
            raise KeyboardInterrupt  # how skorch's own callbacks end a training


def end_fit(
    draft: BaseUnlearnable,
    trained: Trained,
    rows: TrainingSet,
    seed: int,
    *,
    n_partial_fits: int = 0,
) -> BaseUnlearnable:
    """Take over a trained net and what a deletion needs of the rows it was trained on.

    Parameters
    ----------
    draft : BaseUnlearnable
        The one that is being fitted.

    trained : Trained
        What came of the training; the roles of the rows are in `rows` already.

    rows : TrainingSet
        With the role of each row.

    seed : int
        Of the training, from which those of all later requests follow.

    n_partial_fits : int
        1 where this was the first call of ``partial_fit``.
    """
    net = trained.net
    net_as_first(net)
    held_out = bool((rows.role == RowRole.VALIDATED).any())
    risk = stored_risk(net, rows)
    draft.unlearning_state_ = FittedState(
        seed=seed,
        dtype=rows.raw_X.dtype,
        row_shape=rows.raw_X.shape[1:],
        chosen_by_validation=held_out and uses_validation_rows(net),
        n_partial_fits=n_partial_fits,
        anchor=first_anchor(net, rows, seed, keeps_rows=draft.keep_training_set),
        recording=trained.recording,
        notes=(*trained.notes, *check_steady(risk)),
        start=trained.start if draft.keep_initial else None,
        schedule=trained.start.schedule if trained.start and draft.keep_initial and not n_partial_fits else None,
        side_state=not_renewed(net, trained.side_state),
        trainable=trainable_names(net),
        slices=trained.slices,
        features=StoredFeatures.taken(risk, np.random.default_rng(seed)) if draft.keep_training_set else None,
    )
    draft.net_ = net
    if draft.keep_training_set:
        draft.training_set_ = rows
    draft._journal = rows.journal if draft.keep_training_set else Journal()
    draft.unlearning_history_ = []
    begin_receipts(draft, net)
    same_net(net)
    return draft


def first_anchor(net: NeuralNet, rows: TrainingSet, seed: int, *, keeps_rows: bool) -> Anchor:
    """Take the gradient that training left, layers' inputs and, where rows will not be kept, a sketch of curvature."""
    w, risk = flat_parameters(net), stored_risk(net, rows)
    _, gradient, inputs = risk.value_gradient_and_inputs(w)
    residual, sketch, chance = gradient.cpu(), None, float("nan")
    if not keeps_rows:
        sketch = CurvatureSketch.fit(risk, w, _SKETCH_RANK, np.random.default_rng(seed)).to(torch.device("cpu"))
        chance = chance_loss(risk, w)
    # Nothing changes an anchor's tensors in place, so that one does for both.
    return Anchor(residual, residual, risk.mass, risk.n_rows, sketch, chance, inputs)


def grown_anchor(net: NeuralNet, old: Anchor, new: TrainingSet) -> Anchor:
    """Return the anchor after training on rows that are not kept, beside rows that were not kept."""
    risk, w = stored_risk(net, new), flat_parameters(net)
    mass = old.mass + risk.mass
    _, gradient, added = risk.value_gradient_and_inputs(w)
    gradient = gradient.cpu()
    inputs = None if old.inputs is None or added is None else old.inputs.steady.plus(added)
    residual = (old.mass * old.gradient + risk.mass * gradient) / mass
    assert old.sketch is not None
    sketch = old.sketch.updated(old.mass, w, added=[risk]).to(torch.device("cpu"))
    return Anchor(residual, residual, mass, old.n_rows + risk.n_rows, sketch, old.chance, inputs)
