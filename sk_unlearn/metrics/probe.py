"""What the features inside a net still tell of a class that was erased, beside those of retrained nets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import _num_samples, check_is_fitted

from sk_unlearn.estimators.drafts import as_stored
from sk_unlearn.metrics._arguments import check_int, check_references
from sk_unlearn.metrics.distances import last_step
from sk_unlearn.risks.empirical import EmpiricalRisk
from sk_unlearn.risks.output_layer import output_layer

__all__ = ["FeatureProbe", "feature_probe", "hidden_features"]


class FeatureProbe(NamedTuple):
    """What `feature_probe` returns."""

    recall: float
    """Share of the rows of the class that a probe on the features of the model recognises."""
    reference_recalls: tuple[float, ...]
    """The same for each retrained model."""

    @property
    def excess(self) -> float:
        """By how much the features of the model tell more than those of retrained ones on average."""
        return self.recall - float(np.mean(self.reference_recalls))


def hidden_features(estimator: Any, X: Any) -> NDArray[np.float64]:
    """Return what a fitted estimator's output layer is given for rows.

    Parameters
    ----------
    estimator : UnlearnableClassifier, UnlearnableRegressor, or Pipeline that ends in one
        Fitted.
    X : array-like of shape (n_rows, ...)
        Rows, as ``predict`` takes them.

    Returns
    -------
    ndarray of shape (n_rows, n_features)

    Raises
    ------
    ValueError
        If the net does not end in a linear layer, or rows are not as ``predict`` takes them.

    sklearn.exceptions.NotFittedError
        Before ``fit``.
    """
    model = last_step(estimator)
    check_is_fitted(model)
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        X = estimator[:-1].transform(X)
    rows = as_stored(model, X)
    # No loss is evaluated; targets only have to be as many.
    risk = EmpiricalRisk(model.net_, rows, np.zeros(len(rows), dtype=np.int64))
    layer, reason = output_layer(risk)
    if layer is None:
        raise ValueError(f"There are no features before an output layer: {reason}.")
    return layer.risk(risk).features.detach().cpu().double().numpy()


def feature_probe(
    estimator: Any,
    references: Sequence[Any],
    X: Any,
    y: ArrayLike,
    label: Any,
    *,
    n_shots: int = 1,
    n_draws: int = 50,
    random_state: int = 0,
) -> FeatureProbe:
    """Learn a class anew from a few rows and the features of a model, beside those of retrained models.

    A model can pass every comparison of outputs while the layers before the last still know an erased class: it was
    unlearned in the output layer alone. Then a linear classifier on its features [1]_ learns the class back from a
    single row. All models get a classifier of their own from the same rows, so that a retrained one, which never had an
    output for the class, starts alike.

    Parameters
    ----------
    estimator : UnlearnableClassifier, or Pipeline that ends in one
        The model that forgot.
    references : sequence of UnlearnableClassifier or Pipeline
        Models retrained without the erased rows.
    X : array-like of shape (n_rows, ...)
        Rows that no model was trained on, of all classes.
    y : array-like of shape (n_rows,)
        Their labels.
    label : object
        The class that was erased, or that the erased rows belong to.
    n_shots : int, default=1
        Rows of each class that the classifier learns from. With many, a class that is merely unlike the others is found
        in the features of retrained models as well.
    n_draws : int, default=50
        How often they are drawn; the recall on all other rows of the class is averaged.
    random_state : int, default=0
        Seeds the draws, which are the same for all models.

    Returns
    -------
    FeatureProbe
        Recalls in [0, 1]. That of a model whose features owe the class nothing lies among those of the references.

    Raises
    ------
    ValueError
        If there are no references, a class has no more rows than `n_shots`, `label` is none of them, there are fewer
        than two classes, or a net has no output layer.

    References
    ----------
    .. [1] Alain and Bengio, "Understanding intermediate layers using linear classifier probes", ICLR workshop 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sk_unlearn import UnlearnableClassifier
    >>> from sk_unlearn.metrics import feature_probe
    >>> from sk_unlearn.references import fit_many
    >>> X, y = load_digits(return_X_y=True)
    >>> train, seen = slice(0, 900), y[:900] != 3
    >>> original = UnlearnableClassifier(random_state=0).fit(X[train], y[train])
    >>> retrained = fit_many(UnlearnableClassifier(), X[train][seen], y[train][seen], seeds=[1, 2])
    >>> feature_probe(original, retrained, X[900:], y[900:], 3).excess > 0.3
    True
    """
    labels = np.asarray(y)
    classes, counts = np.unique(labels, return_counts=True)
    check_references(references, 1)
    if labels.shape != (_num_samples(X),):
        raise ValueError(f"y must have shape ({_num_samples(X)},), as X has rows, got {labels.shape}.")
    if len(classes) < 2 or label not in classes.tolist():
        raise ValueError("y must hold rows of at least two classes, and label must be one of them.")
    for name, value in (("n_shots", n_shots), ("n_draws", n_draws)):
        check_int(name, value)
    if counts.min() <= n_shots:
        raise ValueError(
            f"n_shots={n_shots} rows of each class are drawn, and one of the classes has {counts.min()}: hand in more "
            "rows of it, or leave it out."
        )
    rng = np.random.default_rng(random_state)
    draws = [
        np.concatenate([rng.choice(np.flatnonzero(labels == each), n_shots, replace=False) for each in classes])
        for _ in range(n_draws)
    ]
    own, *others = (_recall(hidden_features(model, X), labels, label, draws) for model in (estimator, *references))
    return FeatureProbe(own, tuple(others))


def _recall(
    features: NDArray[np.float64], labels: NDArray[Any], label: Any, draws: Sequence[NDArray[np.int64]]
) -> float:
    of_class = np.flatnonzero(labels == label)
    recalls = []
    for drawn in draws:
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        probe.fit(features[drawn], labels[drawn])
        left = features[np.setdiff1d(of_class, drawn)]
        recalls.append(np.mean(probe.predict(left) == label))
    return float(np.mean(recalls))
