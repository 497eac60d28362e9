"""What each model of an audit is shown: rows as they came, after the steps that the model was trained behind."""

from __future__ import annotations

from typing import Any

import joblib
import numpy as np
from sklearn.pipeline import Pipeline

from sk_unlearn.metrics.distances import last_step
from sk_unlearn.rows.forms import rows_kept

__all__ = ["Recalling", "Shown", "whole"]


def whole(model: Any, steps: Any) -> Any:
    """Return a model that takes rows as they came.

    Parameters
    ----------
    model : estimator or Pipeline
        A Pipeline has steps of its own: those of a request may have moved since, or those of the fit been others.
    steps : transformer or None
        What the audited model's own net is behind. Models that are no Pipelines are taken to be behind it, too.
    """
    return model if steps is None or isinstance(model, Pipeline) else Pipeline([("steps", steps), ("last", model)])


class Shown:
    """Rows as the last step of each model takes them, worked out once for all models behind the same steps.

    Parameters
    ----------
    steps : transformer or None
        What the audited model's own net is behind.
    """

    def __init__(self, steps: Any) -> None:
        self._steps = steps
        # Each with the rows it was made of: if these were freed, others could be given the same id.
        self._known: dict[tuple[tuple[int, ...], int], tuple[Any, Any]] = {}
        self._as_they_are: list[Any] = []

    def keep(self, X: Any, made: Any) -> None:
        """Take it that the audited model's steps make `made` of `X`."""
        self._known[(id(self._steps),), id(X)] = X, made

    def keep_as_it_is(self, made: Any) -> None:
        """Show rows of which only what the audited steps made is known to every model as they are."""
        self._as_they_are.append(made)

    def to(self, model: Any, X: Any) -> Any:
        """Return what the last step of a model is given for some rows."""
        if not isinstance(model, Pipeline) or len(model) == 1 or any(X is each for each in self._as_they_are):
            return X
        key = tuple(id(step) for _, step in model.steps[:-1]), id(X)
        if key not in self._known:
            self._known[key] = X, model[:-1].transform(X)
        return self._known[key][1]

    def differs(self, model: Any, X: Any) -> bool:
        """Tell whether a model's own steps make something else of rows than the audited steps do."""
        if not isinstance(model, Pipeline) or len(model) == 1 or model.steps[0][1] is self._steps:
            return False
        own, audited = self.to(model, X), X if self._steps is None else self._known[(id(self._steps),), id(X)][1]
        own = rows_kept(own)
        if isinstance(own, np.ndarray) and own.dtype.kind == "f" and own.shape == np.shape(audited):
            return not np.allclose(own, audited, equal_nan=True)  # but for rounding, as after a fit in another order
        return bool(joblib.hash(own) != joblib.hash(audited))


class Recalling:
    """A fitted model that remembers its predictions: however often it is compared, it predicts once on each set."""

    def __init__(self, model: Any, shown: Shown) -> None:
        self._model = model
        self._shown = shown
        self._known: dict[tuple[str, int], tuple[Any, Any]] = {}

    def __sklearn_tags__(self) -> Any:  # by which scikit-learn tells classifiers from regressors
        return self._model.__sklearn_tags__()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        attribute = getattr(last_step(self._model), name)
        if name not in ("predict", "predict_proba"):
            return attribute

        def recalled(X: Any) -> Any:
            # The rows are kept with the answer: if they were freed, others could be given the same id.
            if (name, id(X)) not in self._known:
                self._known[name, id(X)] = X, attribute(self._shown.to(self._model, X))
            return self._known[name, id(X)][1]

        return recalled
