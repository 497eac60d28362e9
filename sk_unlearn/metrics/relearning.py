"""How fast erased rows are learnt again, from a model that forgot and from retrained ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import _num_samples, check_is_fitted
from torch import nn

from sk_unlearn.estimators.drafts import as_stored, rows_for_net
from sk_unlearn.estimators.lookup import codes_of
from sk_unlearn.metrics._arguments import check_int, check_references
from sk_unlearn.metrics.distances import last_step
from sk_unlearn.metrics.forgetting import row_losses
from sk_unlearn.risks.empirical import EmpiricalRisk, flat_parameters
from sk_unlearn.risks.output_layer import output_layer
from sk_unlearn.rows.forms import taken
from sk_unlearn.rows.parts import for_net
from sk_unlearn.utils._random import numpy_seed, seeded_generators
from sk_unlearn.utils._twins import twin

__all__ = ["RelearningCurve", "relearning_curve"]


# Fresh weights are of this size, in that of torch.nn.Linear's own. With larger ones the draw decides who is ahead at
# first: on digits models differ from each other twice to three times as much.
_FRESH = 0.1


class RelearningCurve(NamedTuple):
    """What `relearning_curve` returns."""

    scores: NDArray[np.float64]
    """Of shape (n_steps + 1,): the score of the model before the first step and after each."""
    reference_scores: NDArray[np.float64]
    """Of shape (n_references, n_steps + 1): the same for each retrained model."""
    threshold: float
    """The score to which steps are counted."""
    is_loss: bool
    """Whether a score is a mean squared error, which falls; else it is a share of rows recognised, which rises."""

    @property
    def steps(self) -> float:
        """Steps after which the model has come to the threshold; infinite where it has not."""
        return self._steps_of(self.scores)

    @property
    def reference_steps(self) -> tuple[float, ...]:
        """The same for each retrained model."""
        return tuple(self._steps_of(each) for each in self.reference_scores)

    @property
    def mean(self) -> float:
        """Mean score of the model after each step: of two curves it is better for the one that learns faster."""
        return float(self.scores[1:].mean())

    @property
    def reference_means(self) -> tuple[float, ...]:
        """The same for each retrained model."""
        return tuple(float(each[1:].mean()) for each in self.reference_scores)

    def _steps_of(self, scores: NDArray[np.float64]) -> float:
        there = np.flatnonzero(scores <= self.threshold if self.is_loss else scores >= self.threshold)
        return float(there[0]) if len(there) else float("inf")


def relearning_curve(
    estimator: Any,
    references: Sequence[Any],
    X: Any,
    y: ArrayLike,
    *,
    X_test: Any = None,
    y_test: ArrayLike | None = None,
    fresh: ArrayLike | None = None,
    threshold: float | None = None,
    n_steps: int = 30,
    random_state: int = 0,
) -> RelearningCurve:
    """Train a model that forgot, and retrained ones, on erased rows, and see how fast each learns them.

    What a model merely hides comes back faster than what it never knew. Each model is copied and trained by the net's
    own optimiser, from its first learning rate and without a memory of earlier steps; all of them see the same rows
    in each step.

    Retrained models have no output for a class that is gone, or one that was never trained. So the outputs of such
    classes start afresh in every model, from the same small random weights, and what is compared is what the layers
    before the last still know.

    Parameters
    ----------
    estimator : UnlearnableClassifier, UnlearnableRegressor, or Pipeline that ends in one
        The model that forgot. It is left as it is.
    references : sequence of the same
        Models retrained without the erased rows. They are left as they are.
    X : array-like of shape (n_rows, ...)
        Rows to learn: the erased ones, or rows of an erased class that no model has seen. Where a whole class is to be
        learnt, hand in rows of other classes with them, so that it has to be told from these.
    y : array-like of shape (n_rows,) or (n_rows, n_targets)
        Their targets.
    X_test : array-like of shape (n_test, ...), default=None
        Rows to be scored on. None takes `X`.
    y_test : array-like of shape (n_test,) or (n_test, n_targets), default=None
        Their targets. With rows of one class alone the score is the recall of this class.
    fresh : array-like of labels, default=None
        Classes whose output starts afresh in all models. None takes the classes in `y` and `y_test` of which one of
        the models stores no row. One that a model does not know at all always starts afresh.
    threshold : float, default=None
        The score to which steps are counted. None: half the way that retrained models go from the first score to the
        last, on average.
    n_steps : int, default=30
        Steps of training, of one batch each.
    random_state : int, default=0
        Seeds the fresh weights and the order of the rows, which are the same for all models.

    Returns
    -------
    RelearningCurve
        Scores are shares of rows recognised, or for regressors mean squared errors.

    Raises
    ------
    ValueError
        If there are no references, or of another kind, or no rows; if `X_test` comes without `y_test`, `n_steps` is no
        int of at least 1, labels are text and classes numbers or the other way round, or a class has to start afresh in
        a net that does not end in a linear layer with one output a class, or whose criterion weighs classes.
    TypeError
        For a model that is no unlearnable estimator.
    sklearn.exceptions.NotFittedError
        Before ``fit``.

    See Also
    --------
    anamnesis_index : Steps of one model over those of another, whose labels must both know.

    Notes
    -----
    As all measures here, networks are evaluated without dropout and with fixed BatchNorm statistics, in training too.
    Gradients are those of the loss over a batch of as many rows as the net was trained with, and weight decay is the
    optimiser's.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.metrics import relearning_curve
    >>> from sk_unlearn.references import fit_many
    >>> X, y = load_digits(return_X_y=True)
    >>> train, stays = slice(0, 900), y[:900] != 3
    >>> original = UnlearnableClassifier(random_state=0).fit(X[train], y[train])
    >>> retrained = fit_many(UnlearnableClassifier(), X[train][stays], y[train][stays], seeds=[1, 2])
    >>> new = y[900:] == 3
    >>> found = relearning_curve(original, retrained, X[train], y[train], X_test=X[900:][new], y_test=y[900:][new])
    >>> found.mean > max(found.reference_means)
    True
    """
    check_references(references, 1)
    check_int("n_steps", n_steps)
    models = [_checked(model) for model in (estimator, *references)]
    if len({is_classifier(model) for model in models}) > 1:
        raise ValueError("references must be of the kind of estimator: classifiers, or regressors.")
    if (X_test is None) != (y_test is None):
        raise ValueError("X_test and y_test belong together: give both or neither.")
    labels, test_labels = np.asarray(y), np.asarray(y if y_test is None else y_test)
    for name, rows, targets in (("", X, labels), ("_test", X if X_test is None else X_test, test_labels)):
        if _num_samples(rows) == 0 or targets.shape[:1] != (_num_samples(rows),):
            raise ValueError(
                f"X{name} and y{name} must hold the same number of rows, at least one; got {_num_samples(rows)} and "
                f"{targets.shape[0] if targets.ndim else 'one number'}."
            )
    classes, gone = None, np.empty(0)
    if is_classifier(models[0]):
        classes, gone = _classes(models, np.union1d(labels, test_labels), fresh)
    size = _batch_size(models[0].net_, len(labels))
    rng = np.random.default_rng(random_state)
    passes = [rng.permutation(len(labels)) for _ in range(-(-n_steps * size // len(labels)))]
    batches = np.concatenate(passes)[: n_steps * size].reshape(n_steps, size)
    seed = numpy_seed(rng)
    curves = []
    for model in (estimator, *references):
        rows, test = _through(model, X), None if X_test is None else _through(model, X_test)
        with seeded_generators(seed):
            learner = _copied(last_step(model), classes, gone, rows, seed)
            curves.append(_curve(learner, rows, labels, rows if test is None else test, test_labels, batches))
    scores, others = curves[0], np.array(curves[1:])
    if threshold is None:
        threshold = float((others[:, 0].mean() + others[:, -1].mean()) / 2)
    return RelearningCurve(scores, others, float(threshold), classes is None)


def _checked(model: Any) -> Any:
    last = last_step(model)
    check_is_fitted(last)
    if not hasattr(last, "net_"):
        raise TypeError(f"A network is trained here, and {type(last).__name__} has none: give unlearnable estimators.")
    return last


def _through(model: Any, X: Any) -> Any:
    """Return rows as the last step of a model takes them."""
    return model[:-1].transform(X) if isinstance(model, Pipeline) and len(model) > 1 else X


def _classes(models: Sequence[Any], labels: NDArray[Any], fresh: ArrayLike | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return all classes that any model knows or is to learn, and those of them whose outputs start afresh."""
    known = [model.classes_ for model in models]
    # Joined with text, numbers would be text as well, and none of them known to any model.
    if len({each.dtype.kind in "US" for each in (*known, labels, np.asarray(fresh)) if each.dtype.kind != "O"}) > 1:
        raise ValueError("y, fresh and the classes of all models must be numbers, or all of them text.")
    union = known[0]
    for each in (*known[1:], labels):
        union = np.union1d(union, each)
    if fresh is None:
        asked = labels[[any(_stores_none(model, label) for model in models) for label in labels]]
    else:
        asked = np.unique(np.asarray(fresh))
    stays = ~np.isin(union, asked)
    for each in known:
        stays &= np.isin(union, each)
    return union, union[~stays]


def _stores_none(model: Any, label: Any) -> bool:
    """Whether a model keeps its rows, and none of this class is among them."""
    rows = getattr(model, "training_set_", None)
    return rows is not None and not np.isin(codes_of(model.classes_, [label]), np.unique(rows.y)).any()


def _batch_size(net: Any, n_rows: int) -> int:
    size = int(net.get_params_for("iterator_train").get("batch_size", net.batch_size))
    return n_rows if size == -1 else min(size, n_rows)


def _copied(model: Any, classes: NDArray[Any] | None, gone: NDArray[Any], X: Any, seed: int) -> Any:
    """Return an estimator with a net of its own, in which the outputs of some classes are fresh."""
    other = object.__new__(type(model))
    vars(other).update(vars(model))
    net = other.net_ = twin(model.net_, share_tensors=False)
    if classes is not None and len(gone):
        if getattr(net.criterion_, "weight", None) is not None:
            raise ValueError("The criterion of the net weighs classes, and a class that starts afresh has no weight.")
        first = as_stored(other, taken(X, np.arange(1)))
        _renew(net, first, model.classes_, classes, gone, np.random.default_rng(seed))
        other.classes_ = classes
        if _n_outputs(net, first) != len(classes):
            raise ValueError("No class can start afresh in a module that takes no other number of outputs.")
    net.initialize_optimizer()  # with the rates of the first step, and no memory
    return other


def _n_outputs(net: Any, first: Any) -> int:
    """Return how many probabilities a net gives for a row; 0 where it fails."""
    try:
        proba = net.predict_proba(for_net(first))
    except RuntimeError:
        return 0
    return int(proba.shape[1]) if np.ndim(proba) == 2 and len(proba) == 1 else 0


def _renew(
    net: Any, first: Any, known: NDArray[Any], classes: NDArray[Any], gone: NDArray[Any], rng: np.random.Generator
) -> None:
    """Give the output layer one row a class: its own, or a fresh one for a class that starts afresh."""
    layer, reason = output_layer(EmpiricalRisk(net, first, np.zeros(1, dtype=np.int64)))
    if layer is None:
        raise ValueError(f"A class cannot start afresh without an output layer: {reason}.")
    head = [*net.module_.modules()][layer.position]
    if head.out_features < len(known):
        raise ValueError("A class cannot start afresh in a net with one output for two classes.")
    stays = ~np.isin(classes, gone)
    old = torch.as_tensor(np.searchsorted(known, classes[stays]))
    bound = _FRESH * head.in_features**-0.5
    for name, shape in (("weight", (len(classes), head.in_features)), ("bias", (len(classes),))):
        present = getattr(head, name)
        drawn = rng.uniform(-bound, bound, size=shape)
        if present is not None:
            value = torch.as_tensor(drawn, dtype=present.dtype).to(present.device)
            value[torch.as_tensor(stays)] = present.detach()[old]
            setattr(head, name, nn.Parameter(value, requires_grad=present.requires_grad))
    head.out_features = len(classes)


def _curve(
    learner: Any, X: Any, y: NDArray[Any], X_test: Any, y_test: NDArray[Any], batches: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Train a copy, one step a batch, and return its score before and after each."""
    net = learner.net_
    risk = EmpiricalRisk(net, *rows_for_net(learner, X, y))
    optimisers = [getattr(net, f"{name}_") for name in net._optimizers]
    parameters = [p for p in net.module_.parameters() if p.requires_grad]

    def loss_of(batch: NDArray[np.int64]) -> float:
        w = flat_parameters(net)
        value, gradient = risk.value_and_gradient(w, batch)
        # The penalty is the optimiser's affair.
        slopes = (gradient - risk.penalty_gradient(w)).split([p.numel() for p in parameters])
        for parameter, slope in zip(parameters, slopes, strict=True):
            parameter.grad = slope.view_as(parameter)
        return risk.without_penalty(w, value)

    scores = [_score(learner, X_test, y_test)]
    for batch in batches:
        for optimiser in optimisers:
            optimiser.step(lambda batch=batch: loss_of(batch))
        scores.append(_score(learner, X_test, y_test))
    return np.array(scores)


def _score(learner: Any, X: Any, y: NDArray[Any]) -> float:
    return float(np.mean(learner.predict(X) == y) if is_classifier(learner) else row_losses(learner, X, y).mean())
