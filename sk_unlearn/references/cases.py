"""One deletion beside what retraining makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_regressor

from sk_unlearn.estimators.lookup import named, stored_features
from sk_unlearn.references.many import fit_many

__all__ = ["Case", "fit_references", "stored_targets"]


@dataclass(frozen=True)
class Case:
    """What is known about one deletion.

    Attributes
    ----------
    fitted : estimator
        Before the deletion.

    unlearned : estimator
        A copy of it that forgot.

    references : list of estimators
        Retrained without the erased rows.

    X_erased, y_erased : ndarray or DataFrame, ndarray
        The erased rows, as the estimator stores them, and their targets, as the user gave them.

    X, y : array-like, or None for y
        Other rows to compare on, as the estimator takes them.
    """

    fitted: Any
    unlearned: Any
    references: list[Any]
    X_erased: Any
    y_erased: Any
    X: Any
    y: Any

    @property
    def retained(self) -> tuple[Any, Any]:
        """Rows and targets that are left."""
        return named(self.unlearned, stored_features(self.unlearned)), stored_targets(self.unlearned)

    @property
    def by(self) -> Any:
        """The distance that suits the kind of model."""
        return "rms" if is_regressor(self.fitted) else "js"


def fit_references(
    blank: Any,
    seeds: Sequence[int],
    X: Any,
    y: NDArray[Any],
    sample_weight: NDArray[Any] | None,
    sample_id: NDArray[Any] | None,
    subsets: Sequence[NDArray[np.intp]] | None = None,
    n_jobs: int | None = None,
) -> list[Any]:
    """Train references; a function of the module, to be cached by its arguments."""
    return fit_many(blank, X, y, subsets, seeds=seeds, sample_weight=sample_weight, sample_id=sample_id, n_jobs=n_jobs)


def stored_targets(model: Any) -> NDArray[Any]:
    """Return the training targets as the user gave them: classifiers store labels encoded, regressors columns."""
    rows = model.training_set_
    y = np.asarray(rows.y)
    if hasattr(model, "classes_"):
        return np.asarray(model.classes_)[y.astype(np.intp)]
    one = named(model, stored_features(model)[:1])
    return y.ravel() if y.ndim == 2 and np.ndim(model.predict(one)) == 1 else y
