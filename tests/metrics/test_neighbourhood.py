import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neighbors import KNeighborsClassifier

from sk_unlearn.metrics import residual_knowledge


class SaysOtherwise(ClassifierMixin, BaseEstimator):
    """Knows rows by heart, and answers otherwise for exactly these."""

    def __init__(self, model, rows):
        self.model, self.rows, self.classes_ = model, rows, model.classes_

    def predict(self, X):
        is_known = (np.asarray(X)[:, None] == self.rows[None]).all(axis=2).any(axis=1)
        return np.where(is_known, 1 - self.model.predict(X), self.model.predict(X))


rng = np.random.default_rng(0)
X = rng.normal(size=(80, 3))
y = rng.integers(0, 2, 80)  # so that they can only be known by heart
ERASED = slice(0, 20)
fitted = KNeighborsClassifier(1).fit(X, y)
retrained = [KNeighborsClassifier(k).fit(X[20:], y[20:]) for k in (1, 3)]


def test_knowledge_comes_back_with_a_little_noise():
    told = SaysOtherwise(fitted, X[ERASED])
    assert (told.predict(X[ERASED]) != y[ERASED]).all()
    assert residual_knowledge(told, retrained, X[ERASED], y[ERASED], radius=0.01) > 1.3
    assert residual_knowledge(retrained[0], retrained[:1], X[ERASED], y[ERASED]) == 1


def test_by_hand():
    once = residual_knowledge(fitted, retrained, X[ERASED], y[ERASED], radius=1e-9, n_neighbours=1)
    hits = [np.count_nonzero(model.predict(X[ERASED]) == y[ERASED]) for model in (fitted, *retrained)]
    assert once == hits[0] / np.mean(hits[1:])


def test_nobody_knows():
    never = np.full(20, 7)
    assert np.isnan(residual_knowledge(fitted, retrained, X[ERASED], never))
    only = KNeighborsClassifier(1).fit(X[ERASED], never)
    assert residual_knowledge(only, retrained, X[ERASED], never) == np.inf


def test_data_frames_keep_names_and_types():
    table = pd.DataFrame(X.astype(np.float32), columns=list("abc"))
    models = [KNeighborsClassifier(1).fit(table[20:], y[20:]), KNeighborsClassifier(1).fit(table, y)]
    assert residual_knowledge(models[1], models[:1], table[ERASED], y[ERASED]) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": []}, "references must hold at least one retrained model"),
        ({"y": y[:3]}, "X and y must hold the same number of rows, at least one; got 20 and 3"),
        ({"X": np.full((20, 3), np.inf)}, "X must be finite"),
        ({"X": np.full((20, 3), "secret")}, "X must hold numbers, in one dense array or table.$"),
        ({"X": X[:1], "y": y[:1]}, "X must hold at least two different rows, by which radius is measured"),
        ({"radius": 0.0}, "radius must be positive, got 0.0"),
        ({"n_neighbours": 0}, "n_neighbours must be positive, got 0"),
    ],
)
def test_arguments(change, message):
    given = {"estimator": fitted, "references": retrained, "X": X[ERASED], "y": y[ERASED]} | change
    with pytest.raises(ValueError, match=message):
        residual_knowledge(**given)
